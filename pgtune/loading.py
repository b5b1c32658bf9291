"""A finished run, loaded to be used: `load(run).predict(image, prefix)`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pgtune.collate import Collator
from pgtune.errors import ModelError
from pgtune.example import Example, ImageSource
from pgtune.generation import Answer, Prompt, generate
from pgtune.methods import load_trained
from pgtune.model import Loaded, choose_mixed_precision, explained, load_base
from pgtune.processor import load_processor
from pgtune.recipe import Recipe
from pgtune.run_folder import RunFolder


def device_for_use() -> torch.device:
    """The first GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_run(folder: RunFolder, recipe: Recipe) -> Loaded:
    """The run's model with its own processor, frozen, on the first GPU or the CPU.

    Raises:
        ModelError, HubError: files missing or damaged, or the base cannot be reached.
    """
    full = recipe.lora is None
    settings = recipe.model
    if full:
        settings = settings.model_copy(update={"base": str(folder.model), "revision": None})
    device = device_for_use()
    if settings.attention == "flex_attention" and device.type == "cpu":  # trained on a GPU; all backends give the same
        settings = settings.model_copy(update={"attention": "auto"})
    loaded = load_base(settings, full=full, device=device)
    if not full:
        loaded = load_trained(loaded, folder.adapter)
    if not folder.processor.is_dir():
        raise ModelError(f"{folder.processor} is missing: tokenizer and image processor of the run")
    with explained(str(folder.processor)):
        loaded.processor = load_processor(str(folder.processor))
    loaded.trained_parts = tuple(recipe.model.trainable or ())
    loaded.mixed_precision = choose_mixed_precision(recipe.train.mixed_precision, loaded)
    return loaded


@dataclass(repr=False)
class FineTuned:
    """A trained model that answers."""

    loaded: Loaded
    collator: Collator
    max_new_tokens: int
    num_beams: int = 1

    def __repr__(self) -> str:
        return f"FineTuned({self.loaded.base}, {self.loaded.dtype}, attention {self.loaded.attention})"

    def predict(
        self, images: ImageSource | Sequence[ImageSource], prefix: str, max_new_tokens: int | None = None
    ) -> Answer:
        """The answer to one prompt about one or several pictures.

        Raises:
            DataError: a picture cannot be opened, or the prefix is refused.
        """
        asked = Example(images, prefix, suffix="")  # which checks what it is given
        (found,) = generate(
            self.loaded,
            self.collator,
            [Prompt(asked.images, asked.prefix)],
            max_new_tokens=max_new_tokens or self.max_new_tokens,
            batch_size=1,
            num_beams=self.num_beams,
        )
        return found[1]


def load(run: Path | str) -> FineTuned:
    """Load a finished run folder.

    Raises:
        RunError: not a run folder, or its training never finished.
        ModelError, HubError: files missing or damaged, or the base cannot be reached.
    """
    folder = RunFolder(run)
    recipe = folder.recipe()
    folder.check_trained()
    loaded = load_run(folder, recipe)
    return FineTuned(loaded, Collator(loaded.processor), recipe.eval.max_new_tokens, recipe.eval.num_beams)
