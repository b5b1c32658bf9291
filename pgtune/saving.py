"""What a training leaves behind: plain PEFT files, or a plain transformers folder, complete or absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pgtune.model import Loaded
from pgtune.processor import save_processor
from pgtune.recipe import Recipe
from pgtune.run_folder import RunFolder
from pgtune.sharding import whole
from pgtune.writing import write_folder


def _gathered(loaded: Loaded, *, main: bool) -> dict[str, Tensor] | None:
    """Of sharded weights what is to be saved, whole and on the CPU, for the process that writes; one at a time."""
    if loaded.root is None:
        return None
    adapter = hasattr(loaded.model, "peft_config")
    held = dict(loaded.trainable()) if adapter else loaded.model.state_dict(keep_vars=True)
    found: dict[int, Tensor] = {}  # tied ones stay one
    for tensor in held.values():
        if id(tensor) not in found:
            full = whole(tensor.detach())
            found[id(tensor)] = full.cpu() if main else torch.empty(0)
    return {name: found[id(tensor)] for name, tensor in held.items()}


def save_trained(loaded: Loaded, folder: RunFolder, recipe: Recipe, *, main: bool = True) -> None:
    """Write `adapter/` (LoRA) or `model/` (full).

    Args:
        main: whether this process is the one that writes. All have to call this: shares are gathered.
    """
    model: Any = loaded.model
    state = _gathered(loaded, main=main)
    if not main:
        return
    if recipe.lora is None:

        def whole(aside: Path) -> None:  # with the processor, so that it is a base that a recipe can name
            model.save_pretrained(str(aside), state_dict=state)
            save_processor(loaded.processor, aside)

        write_folder(folder.model, whole)
        return

    def fill(aside: Path) -> None:
        model.save_pretrained(str(aside), state_dict=state)
        (aside / "README.md").unlink(missing_ok=True)  # PEFT's template, with blanks to fill in
        file = aside / "adapter_config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        # By the name the recipe gave, never by the path it was found at on this machine.
        config["base_model_name_or_path"] = recipe.model.base
        config["revision"] = recipe.model.revision
        file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    write_folder(folder.adapter, fill)
