"""State on disk to go on from: complete or absent, safetensors only, no random state.

Data order, dropout and learning rate are functions of (seed, step), so weights, Adam's moments and the step are the
whole state, and a resumed run continues to the last bit.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pgtune.errors import RunError
from pgtune.run_folder import write_folder, write_json

WEIGHTS, OPTIMIZER, STATE = "trained.safetensors", "optimizer.safetensors", "state.json"


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # clone: tied or viewed tensors may not share memory in a safetensors file
    return {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}


def save(
    folder: Path, step: int, trained: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer | None, **more: Any
) -> None:
    """Write `folder` with the trained weights, Adam's moments (where given) and the number of steps done."""

    def fill(aside: Path) -> None:
        save_file(_on_cpu(dict(trained)), aside / WEIGHTS)
        if optimizer is not None:
            moments = {
                f"{name}/{key}": value
                for name, parameter in trained.items()
                for key, value in optimizer.state[parameter].items()
            }
            save_file(_on_cpu(moments), aside / OPTIMIZER)
        write_json(aside / STATE, {"step": step, **more})

    folder.parent.mkdir(parents=True, exist_ok=True)
    write_folder(folder, fill)


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


def load(folder: Path, trained: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    """Read a checkpoint into the parameters and the optimiser; the state that was stored beside them.

    Raises:
        RunError: it is damaged, or belongs to other parameters.
    """
    try:
        weights = load_file(folder / WEIGHTS)
        moments = load_file(folder / OPTIMIZER) if optimizer is not None else {}
        state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
        state["step"] = int(state["step"])
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(
            f"{folder}: the checkpoint cannot be read ({error}); remove it to go on from the one before"
        ) from error
    if weights.keys() != trained.keys():
        odd = sorted(weights.keys() ^ trained.keys())[0]
        raise RunError(f"{folder}: the checkpoint holds other parameters than this recipe trains, such as {odd}")
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(weights[name])
    if optimizer is not None:
        for name, parameter in trained.items():
            optimizer.state[parameter] = {
                key: moments[f"{name}/{key}"].to("cpu" if key == "step" else parameter.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
            }
    return state
