"""Several processes on one piece of work: how they found each other, which one this is, and what ends them all.

A process is called by its rank, from 0. The first one alone writes and speaks (`progress.first_process`). What fails on
one must end all: a rank that is left behind waits for the others until a time-out.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.utils import broadcast_object_list, gather_object

from pgtune.errors import PgtuneError, RecipeError, TrainingError
from pgtune.progress import say

__all__ = [
    "PeerLost",
    "Ranks",
    "agree",
    "check_launch",
    "everywhere",
    "from_all",
    "from_first",
    "gathered",
    "join",
    "launched",
    "leave",
    "on_cpu",
    "open_accelerator",
    "peers_explained",
    "together",
    "wait_for_all",
]

SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where torchrun, and where MPI, say how many processes were started."""

_OTHERS = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
}


@dataclass(frozen=True)
class Ranks:
    """This process among those that work together: its number, how many there are, its own device."""

    rank: int
    count: int
    device: torch.device


class PeerLost(TrainingError):
    """Another process has ended, which is how this one came to fail."""


def launched() -> int:
    """How many processes were started together; 1 where nothing says so.

    Raises:
        RecipeError: what the environment says is no number.
    """
    for name in SIZES:
        if name in os.environ:
            said = os.environ[name]
            if not said.isdecimal() or int(said) < 1:
                raise RecipeError(f"{name}={said!r} in the environment: expected a number of processes; unset it")
            return int(said)
    return 1


def check_launch(environment: Mapping[str, str]) -> None:
    """That what `accelerate launch` was told is what will run.

    Raises:
        RecipeError: it was told another strategy than pgtune's own, or started fewer processes than it was told; or
            processes are said to be there and not how to find them.
    """
    for name, what in _OTHERS.items():
        if environment.get(name, "false").lower() == "true":
            raise everywhere(RecipeError(
                f"{name}=true: the configuration of accelerate asks for {what}, which is not what would run: how "
                "several processes share the work stands in the recipe (train.strategy). Take a configuration "
                "without it, `accelerate launch --multi_gpu`, or `pgtune train R --processes N`"
            ))  # fmt: skip
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in environment]
    if environment.get("WORLD_SIZE", "1") != "1" and missing:
        raise RecipeError(
            f"WORLD_SIZE={environment['WORLD_SIZE']} in the environment says that several processes were started, and "
            f"{missing[0]} is not set; unset WORLD_SIZE to work alone, or start them with --processes N or torchrun"
        )
    by_accelerate = "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_PORT" in environment
    if by_accelerate and not any(name in environment for name in SIZES):
        raise RecipeError(
            "accelerate launch was told of several processes and started one, as it does on a CPU; start them with "
            "`pgtune train R --processes N` or torchrun"
        )


def on_cpu() -> bool:
    """Whether several processes were started where there is no accelerator for them.

    Accelerate joins them only where a CPU is asked for outright; otherwise each would train alone.
    """
    device = torch.accelerator.current_accelerator(check_available=True)
    return launched() > 1 and (device is None or device.type == "mps")


def join() -> Ranks | None:
    """This process among the others that were started with it, after they have found each other; None if it is alone.

    Raises:
        RecipeError: see `check_launch`.
        TrainingError: they were started, and did not come together.
    """
    check_launch(os.environ)
    count = launched()
    if count == 1:
        return None
    with _signals_end_it():
        state = PartialState(cpu=on_cpu() or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes"))
    if state.num_processes != count:
        raise TrainingError(f"{count} processes were started and {state.num_processes} came together")
    return Ranks(state.process_index, state.num_processes, state.device)


@contextmanager
def _signals_end_it() -> Iterator[None]:
    """Around waiting in torch's C++, where no handler of Python's would run."""
    in_main = threading.current_thread() is threading.main_thread()
    heard = [one for one in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(one) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, signal.SIG_DFL) for number in heard} if in_main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def open_accelerator() -> Accelerator:
    """Accelerate with everything stated outright, so that what `accelerate config` left behind changes nothing.

    Raises:
        As `join`.
    """
    joined = join()
    accelerator = Accelerator(
        cpu=joined is not None and joined.device.type == "cpu",
        mixed_precision="no",
        gradient_accumulation_steps=1,
        dynamo_backend="no",
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)],
    )
    gpus = torch.cuda.device_count()
    if joined is None and gpus > 1 and accelerator.device.type == "cuda":
        say(f"note       {gpus} GPUs are here and one is used; --processes {gpus} uses them all")
    return accelerator


def several() -> bool:
    """Whether this process has joined others."""
    return torch.distributed.is_available() and torch.distributed.is_initialized() and launched() > 1


def everywhere(error: Exception) -> Exception:
    """An error that every rank raises at the same place: the first one says it."""
    error.on_all_ranks = True  # type: ignore[attr-defined]  # an OSError has it only here
    return error


def agree(error: Exception | None = None) -> None:
    """All ranks come here. What failed on one ends all, with its message, which is said once.

    Raises:
        PgtuneError, OSError: of the lowest rank that had one. TrainingError: another rank had an error of ours.
    """
    if not several():
        if error is not None:
            raise error
        return
    failed = torch.tensor(float(error is not None), device=PartialState().device)
    torch.distributed.all_reduce(failed)  # nearly always all is well, and then this is all there is to send
    if not failed:
        return
    told = error if isinstance(error, (PgtuneError, OSError)) else None
    found: list[Exception | None] = gather_object([told])
    if error is not None and told is None:
        raise error  # a fault of pgtune's own, with its traceback
    shared = next((one for one in found if one is not None), None)
    if shared is not None:
        raise everywhere(shared)
    raise PeerLost("another process has failed; its own message says why")


@contextmanager
def together() -> Iterator[None]:
    """Around what each rank does for itself: what fails on one ends all (`agree`). No rank may wait for another in it.

    Raises:
        As `agree`.
    """
    try:
        yield
    except Exception as error:
        agree(error)
        raise
    agree()


@contextmanager
def peers_explained() -> Iterator[None]:
    """Around what ranks do together: says in words that another one is gone.

    Raises:
        PeerLost: a TrainingError.
    """
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        lost = isinstance(error, torch.distributed.DistError) or "gloo" in said.lower() or "NCCL" in said
        if not (several() and lost):
            raise
        raise PeerLost("another process of this work has ended; its own message says why") from error


def from_first(value: Any) -> Any:
    """What the first rank has, on all of them."""
    if not several():
        return value
    held = [value]
    broadcast_object_list(held, from_process=0)
    return held[0]


def from_all(value: Any) -> list[Any]:
    """What each rank has, by rank, on all of them."""
    return list(gather_object([value])) if several() else [value]


def gathered(rows: list[Any]) -> list[Any]:
    """The rows of all ranks, one rank's after the other's, on all of them."""
    return [row for of_one in from_all(rows) for row in of_one]


def wait_for_all() -> None:
    """Until every rank has come here."""
    if several():
        PartialState().wait_for_everyone()


def leave() -> None:
    """At the end of the work."""
    if several():
        torch.distributed.destroy_process_group()
