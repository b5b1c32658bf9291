"""State on disk to go on from: complete or absent, safetensors only, no random state.

Data order, dropout and learning rate are functions of (seed, step), so weights, Adam's moments and the step are the
whole state, and a resumed run continues to the last bit. Files hold whole tensors, whatever the number of processes and
however they shared them: what two have written, one goes on from. Tensors are gathered, written and read one at a time,
in files of two gigabytes: no process ever holds all of a large state beside its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pgtune.errors import RunError
from pgtune.sharding import place, whole
from pgtune.writing import write_folder, write_json

WEIGHTS, OPTIMIZER, STATE = "trained.safetensors", "optimizer.safetensors", "state.json"
BEST = "best"
ADAMW = ("step", "exp_avg", "exp_avg_sq")
LIMIT = 2 << 30
"""Bytes of a file; where there is more to write, several are written, as trained-00001.safetensors."""


def _parts(tensors: dict[str, Tensor]) -> list[list[str]]:
    """The names of what each file holds; as many as fit."""
    parts: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        size += (bytes_here := tensor.numel() * tensor.element_size())
        if parts[-1] and size > LIMIT:
            parts.append([])
            size = bytes_here
        parts[-1].append(name)
    return parts


def _write(file: Path, tensors: dict[str, Tensor]) -> None:
    parts = _parts(tensors)
    for number, names in enumerate(parts, start=1):
        target = file if len(parts) == 1 else file.with_stem(f"{file.stem}-{number:05d}")
        # clone: tied or viewed tensors may not share memory in a safetensors file
        save_file({name: whole(tensors[name].detach()).cpu().contiguous().clone() for name in names}, target)


def save(
    folder: Path,
    step: int,
    trained: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer | None,
    run: str = "",
    *,
    main: bool = True,
    **more: Any,
) -> None:
    """Write `folder` with the trained weights, Adam's moments (where given) and the number of steps done.

    Args:
        run: the run's identity: a checkpoint of another is not gone on with.
        main: whether this process is the one that writes. All have to call this: shares are gathered.
    """
    groups: dict[str, dict[str, Tensor]] = {WEIGHTS: dict(trained)}
    if optimizer is not None:
        groups[OPTIMIZER] = {
            f"{name}/{key}": torch.as_tensor(value)  # bitsandbytes counts its steps outside of tensors
            for name, parameter in trained.items()
            for key, value in optimizer.state[parameter].items()
        }

    def fill(aside: Path) -> None:
        for name, tensors in groups.items():
            _write(aside / name, tensors)
        write_json(aside / STATE, {"step": step, "run": run, **more})

    if main:
        write_folder(folder, fill)
        return
    for tensors in groups.values():
        for tensor in tensors.values():
            whole(tensor.detach())


def step_folder(checkpoints: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps lies."""
    return checkpoints / f"step-{step:06d}"


def steps_on_disk(checkpoints: Path) -> list[int]:
    """Steps with a complete checkpoint, ascending. A folder is renamed into place only when it is complete."""
    if not checkpoints.is_dir():
        return []
    names = (re.fullmatch(r"step-(\d+)", entry.name) for entry in os.scandir(checkpoints))
    return sorted(int(name[1]) for name in names if name and (checkpoints / name[0] / STATE).is_file())


def prune(checkpoints: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, and what a crash has left of others."""
    kept = {step_folder(checkpoints, step) for step in steps_on_disk(checkpoints)[-keep:]}
    for entry in set(checkpoints.glob("*step-*")) - kept:
        shutil.rmtree(entry)


def check(folder: Path, run: str) -> int:
    """That a checkpoint is there, whole, and of this run; its step. Its weights are not read.

    Raises:
        RunError: it is not.
    """
    try:
        state = _state(folder, run)
        _read(folder, WEIGHTS)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise _unreadable(folder, error) from error
    return int(state["step"])


def _state(folder: Path, run: str) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
    state["step"] = int(state["step"])
    named = re.fullmatch(r"step-(\d+)", folder.name)
    if state["run"] != run or (named and int(named[1]) != state["step"]):
        raise RunError(f"{folder}: this is a checkpoint of another run, or of another step; {_remedy(folder)}")
    return state


def _unreadable(folder: Path, error: Exception) -> RunError:
    return RunError(f"{folder}: the checkpoint cannot be read ({error}); {_remedy(folder)}")


def _remedy(folder: Path) -> str:
    if folder.name == BEST:  # nothing else has the weights that were best
        return "without it the run would end with another step than its best; put it back, or start anew (--overwrite)"
    return "remove it to go on from the one before"


def load(
    folder: Path, trained: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer | None, run: str = ""
) -> dict[str, Any]:
    """Read a checkpoint into the parameters and the optimiser; the state that was stored beside them.

    Args:
        run: the run's identity, as it was saved with.

    Raises:
        RunError: it is damaged, or belongs to other parameters, or to another run.
    """
    try:
        state = _state(folder, run)
        weights = _read(folder, WEIGHTS)
        moments = _read(folder, OPTIMIZER) if optimizer is not None else {}
        if weights.keys() != trained.keys():
            odd = sorted(weights.keys() ^ trained.keys())[0]
            raise RunError(f"{folder}: the checkpoint holds other parameters than this recipe trains, such as {odd}")
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(place(_same_shape(name, weights[name](), parameter), parameter))
        if optimizer is not None:
            own: dict[str, list[str]] = {}
            for entry in moments:
                own.setdefault(entry.rpartition("/")[0], []).append(entry.rpartition("/")[2])
            for name, parameter in trained.items():
                keys = ADAMW if isinstance(optimizer, torch.optim.AdamW) else own.get(name, [])
                optimizer.state[parameter] = {key: _moment(key, moments[f"{name}/{key}"](), parameter) for key in keys}
                for key in ("exp_avg", "exp_avg_sq") if keys is ADAMW else ():
                    _same_shape(f"{name}/{key}", optimizer.state[parameter][key], parameter)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise _unreadable(folder, error) from error
    return state


def _same_shape(name: str, stored: Tensor, parameter: nn.Parameter) -> Tensor:
    if stored.shape != parameter.shape:
        raise ValueError(f"{name} is {list(stored.shape)}, and {list(parameter.shape)} is trained")
    return stored


def _moment(key: str, stored: Tensor, parameter: nn.Parameter) -> Tensor | int:
    """An entry of an optimiser's state: torch counts its steps in float32, bitsandbytes in Python."""
    if key != "step":
        return place(stored, parameter)
    return stored.to(parameter.device) if stored.is_floating_point() else int(stored)


def _read(folder: Path, name: str) -> dict[str, Callable[[], Tensor]]:
    """What reads each tensor of a file, or of the several that it was written in."""

    def reader(file: Any, key: str) -> Callable[[], Tensor]:
        return lambda: file.get_tensor(key).clone()  # not the file itself, mapped into memory

    single = folder / name
    files = [single] if single.is_file() else sorted(folder.glob(f"{single.stem}-*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{single} is missing")
    opened: list[Any] = [safe_open(file, framework="pt") for file in files]
    return {key: reader(file, key) for file in opened for key in file.keys()}  # noqa: SIM118 - no mapping
