"""What a training leaves behind: plain PEFT files, or a plain transformers folder, complete or absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pgtune.model import Loaded
from pgtune.processor import save_processor
from pgtune.recipe import Recipe
from pgtune.run_folder import RunFolder, write_folder


def save_trained(loaded: Loaded, folder: RunFolder, recipe: Recipe) -> None:
    """Write `adapter/` (LoRA) or `model/` (full)."""
    model: Any = loaded.model
    if recipe.lora is None:

        def whole(aside: Path) -> None:  # with the processor, so that it is a base that a recipe can name
            model.save_pretrained(str(aside))
            save_processor(loaded.processor, aside)

        write_folder(folder.model, whole)
        return

    def fill(aside: Path) -> None:
        model.save_pretrained(str(aside))
        (aside / "README.md").unlink(missing_ok=True)  # PEFT's template, with blanks to fill in
        file = aside / "adapter_config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        # By the name the recipe gave, never by the path it was found at on this machine.
        config["base_model_name_or_path"] = recipe.model.base
        config["revision"] = recipe.model.revision
        file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    write_folder(folder.adapter, fill)
