"""`--processes N`: the same command line in N processes of this machine, with one terminal and one end.

Torch's elastic library starts and ends them, as for torchrun. The first process has the terminal. What the others say
is kept aside: of all that fails only the first cause is shown, once, and it decides the exit code.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std, start_processes

from pgtune.errors import RecipeError
from pgtune.launcher import ERROR_FILE, LAUNCHER
from pgtune.ranks import launched

__all__ = ["End", "first_cause", "launch"]

GRACE_SECONDS = 10.0
"""How long the others may take to notice that one has ended: they write down why they end, or end a checkpoint."""
KILL_SECONDS = 10
MOST_ON_CPU = 8
"""Processes that may share the cores, where there are fewer of them."""
SIGNALS = {signal.SIGTERM: signal.SIGTERM, signal.SIGINT: signal.SIGINT} | (
    {signal.SIGHUP: signal.SIGTERM} if hasattr(signal, "SIGHUP") else {}
)
"""What is passed on, and as what."""


class End(NamedTuple):
    """How one process ended."""

    rank: int
    code: int
    """Below 0: by the signal of that number."""
    when: float
    """When it was noticed."""
    record: dict[str, Any] | None
    """What it wrote down (`cli.report_error`): message, exit_code, when, lost."""


def launch(processes: int, words: Sequence[str], *, debug: bool = False) -> int:
    """Run `pgtune WORDS` in so many processes; the exit code.

    Args:
        debug: let all of them speak.

    Raises:
        RecipeError: they would not have a GPU each, or are far more than the cores; or this is one of several already.
    """
    if launched() > 1:
        raise RecipeError("--processes: several processes were started already, by torchrun, accelerate launch or MPI")
    gpus = torch.cuda.device_count() if not _asked_for_cpu() else 0
    if gpus and processes > gpus:
        raise RecipeError(
            f"--processes {processes}: this machine has {gpus} GPU{'s' if gpus > 1 else ''}, and each process needs "
            "one of its own"
        )
    cores = os.cpu_count() or 1
    if not gpus and processes > max(MOST_ON_CPU, cores):
        raise RecipeError(
            f"--processes {processes}: this machine has no GPU and {cores} cores; each process holds a model of its "
            "own, so that so many would only wait for each other and for memory"
        )
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    # On a free port, and it stays this process's: torch does not export the name for type checkers.
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory(prefix="pgtune-") as folder:
        logs = DefaultLogsSpecs(
            log_dir=folder, redirects={rank: Std.NONE if rank == 0 or debug else Std.ALL for rank in range(processes)}
        )
        # -P: a file in the working directory must not stand in for a library.
        arguments = dict.fromkeys(range(processes), ("-P", "-m", "pgtune", *words))
        records = {rank: Path(folder, f"{rank}.json") for rank in range(processes)}
        environments = {rank: _environment(rank, processes, store.port, records[rank]) for rank in range(processes)}
        with _handlers_kept() as before:
            context: Any = start_processes("pgtune", sys.executable, arguments, environments, logs)
            children = [context.subprocess_handlers[rank].proc for rank in range(processes)]
            received = _pass_on(children, before)
            ends = _wait(children, records, context)
        for handler in context.subprocess_handlers.values():  # torch leaves their files open
            for file in filter(None, (handler._stdout, handler._stderr)):
                file.close()
        cause = first_cause(ends)
        if cause is None:
            return 0
        said = Path(context.stderrs[cause.rank]) if context.stderrs[cause.rank] else None
        return _report(cause, processes, said, interrupted=signal.SIGINT in received)


def _asked_for_cpu() -> bool:
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")


def _environment(rank: int, count: int, port: int, record: Path) -> dict[str, str]:
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // count))
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # this process holds the store, as torchrun does
        "TORCHELASTIC_RESTART_COUNT": "0",
        "OMP_NUM_THREADS": threads,
        ERROR_FILE: str(record),
        LAUNCHER: str(os.getpid()),
    }


@contextmanager
def _handlers_kept() -> Iterator[dict[signal.Signals, Any]]:
    """Around starting processes, for which torch sets handlers of its own and leaves them: those before it."""
    quits = [signal.SIGQUIT] if hasattr(signal, "SIGQUIT") else []
    before = {number: signal.getsignal(number) for number in (*SIGNALS, *quits)}
    try:
        yield before
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def _pass_on(children: Sequence[Any], before: Mapping[signal.Signals, Any]) -> set[int]:
    """From now on signals go to the processes, which have a session of their own, and end this one only through them.

    Args:
        before: the handlers that stood; what was ignored stays ignored, as under nohup.

    Returns:
        Those that have come; it grows.
    """
    received: set[int] = set()

    def pass_on(number: int, frame: Any) -> None:
        received.add(number)
        for child in children:
            child.send_signal(SIGNALS[signal.Signals(number)])

    for number in SIGNALS:
        ignored = before[number] in (signal.SIG_IGN, None)
        signal.signal(number, signal.SIG_IGN if ignored else pass_on)
    return received


def _wait(children: Sequence[Any], records: dict[int, Path], context: Any) -> list[End]:
    """Until all have ended; where one fails, the others have a while to do so by themselves."""
    ends: dict[int, End] = {}
    failed: float | None = None
    closed = False
    while len(ends) < len(children):
        now = time.monotonic()
        for rank, child in enumerate(children):
            if rank not in ends and (code := child.poll()) is not None:
                record = json.loads(records[rank].read_text(encoding="utf-8")) if records[rank].is_file() else None
                # One that had to be ended is no cause.
                ends[rank] = End(rank, code, float("inf") if closed else now, record)
                if code and failed is None:
                    failed = now
        if failed is not None and not closed and now - failed > GRACE_SECONDS:
            closed = True
            context.close(timeout=KILL_SECONDS)
        time.sleep(0.05)
    return list(ends.values())


def first_cause(ends: Sequence[End]) -> End | None:
    """The end that brought about the others: one without an error of another process behind it, the earliest."""

    def order(end: End) -> tuple[bool, float]:
        lost = end.record is not None and end.record["lost"]
        return lost, end.record["when"] if end.record is not None else end.when

    return min((end for end in ends if end.code), key=order, default=None)


def _report(cause: End, count: int, said: Path | None, *, interrupted: bool) -> int:
    if cause.record is not None:
        print(f"error: {cause.record['message']}", file=sys.stderr)
        return int(cause.record["exit_code"])
    if interrupted and cause.code in (130, -signal.SIGINT):
        print("interrupted", file=sys.stderr)
        return 130
    if cause.code < 0:
        name = signal.Signals(-cause.code).name
        memory = "; the system may have run out of memory" if name == "SIGKILL" else ""
        print(f"error: process {cause.rank} of {count} was ended by {name}{memory}", file=sys.stderr)
        return 1
    if said is not None:  # a fault of pgtune's own: its traceback
        print(said.read_text(encoding="utf-8", errors="replace").rstrip("\n"), file=sys.stderr)
    print(f"error: process {cause.rank} of {count} left with exit code {cause.code}", file=sys.stderr)
    return cause.code
