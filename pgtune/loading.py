"""A finished run, loaded to be used: `load(run).predict(image, prefix)`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pgtune.collate import Collator
from pgtune.errors import ModelError, RecipeError
from pgtune.example import Example, ImageSource
from pgtune.generation import Answer, Prompt, generate
from pgtune.hub.fetching import locate_run
from pgtune.methods import load_trained, put_weights
from pgtune.model import Loaded, choose_mixed_precision, explained, load_base, load_config
from pgtune.processor import check_tokenizer, load_processor
from pgtune.quantization import stored_quantization
from pgtune.recipe import Recipe
from pgtune.run_files import read_mapping
from pgtune.run_folder import RunFolder
from pgtune.settings import ModelSettings

__all__ = ["FineTuned", "base_of", "device_for_use", "load", "load_run", "locate_run", "start_from"]


def device_for_use() -> torch.device:
    """The first GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def base_of(folder: RunFolder, recipe: Recipe) -> ModelSettings:
    """What the run's adapter is put on; where it has all weights itself, those, as they are stored."""
    if not folder.whole:
        return recipe.model
    changes: dict[str, str | None] = {"base": str(folder.model), "revision": None}
    if folder.portable:
        stored = load_config(str(folder.model), quantized=True)
        changes["dtype"] = str(stored.dtype).removeprefix("torch.")
        changes["quantization"] = stored_quantization(folder.model)
    return recipe.model.model_copy(update=changes)


def load_run(
    folder: RunFolder, recipe: Recipe, *, settings: ModelSettings | None = None, device: torch.device | None = None
) -> Loaded:
    """The run's model with its own processor, frozen.

    Args:
        settings: of the base, instead of `base_of`.
        device: the first GPU or the CPU where it is not given.

    Raises:
        ModelError, HubError: files missing or damaged, or the base cannot be reached.
    """
    full = folder.whole
    if not full:
        _check_as_trained(folder, recipe)
    settings = settings or base_of(folder, recipe)
    device = device or device_for_use()
    if settings.attention == "flex_attention" and device.type == "cpu":  # trained on a GPU; all backends give the same
        settings = settings.model_copy(update={"attention": "auto"})
    loaded = load_base(settings, full=full, device=device, quantized=full and folder.portable)
    if not full:
        loaded = load_trained(loaded, folder.adapter)
    if not folder.processor.is_dir():
        raise ModelError(f"{folder.processor} is missing: tokenizer and image processor of the run")
    with explained(str(folder.processor)):
        loaded.processor = load_processor(str(folder.processor))
        # Its pictures are of the model's size, however large a size the file names.
        check_tokenizer(str(folder.processor), loaded.processor, loaded.paligemma.config)
    loaded.trained_parts = () if folder.portable and full else tuple(recipe.model.trainable or ())
    loaded.mixed_precision = choose_mixed_precision(recipe.train.mixed_precision, loaded)
    return loaded


def _check_as_trained(folder: RunFolder, recipe: Recipe) -> None:
    """That the adapter computes what the recipe says: what lies in its configuration changes it as its weights do.

    Raises:
        ModelError: it computes something else.
    """
    file, lora = folder.adapter / "adapter_config.json", recipe.lora
    if lora is None:
        raise ModelError(f"{file}: is an adapter, and the run's recipe has no lora")
    found = read_mapping(file)
    wanted: dict[str, tuple[Any, str]] = {
        "peft_type": ("LORA", "which is all that pgtune trains"),
        "r": (lora.rank, "lora.rank in the run's recipe"),
        "lora_alpha": (lora.alpha, "lora.alpha in the run's recipe"),
        "use_rslora": (lora.use_rslora, "lora.use_rslora in the run's recipe"),
        "use_dora": (lora.use_dora, "lora.use_dora in the run's recipe"),
        # None of these is ever set by pgtune. The first changes the base, the others single layers.
        "init_lora_weights": (True, "as pgtune writes it"),
        "rank_pattern": ({}, "as pgtune writes it"),
        "alpha_pattern": ({}, "as pgtune writes it"),
        "fan_in_fan_out": (False, "as pgtune writes it"),
    }
    for key, (value, why) in wanted.items():
        if key not in found or found[key] != value or isinstance(found[key], bool) != isinstance(value, bool):
            given = repr(found[key])[:200] if key in found else "missing"
            raise ModelError(f"{file}: {key} is {given}; expected {value!r}, {why}")


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


def start_from(loaded: Loaded, recipe: Recipe) -> None:
    """Put the weights of `model.adapter` into a freshly prepared model.

    Raises:
        RecipeError: it was trained otherwise than the recipe says.
        RunError, HubError, ModelError: there is none, or it does not fit.
    """
    assert recipe.model.adapter is not None, "there is something to start from"
    folder = locate_run(recipe.model.adapter)
    theirs = folder.recipe()
    folder.check_trained()
    if folder.whole:
        raise RecipeError(f"model.adapter: {recipe.model.adapter} holds all weights of a model; name it as model.base")
    different = [f"{key} {other}, not {ours}" for key, ours, other in _of_adapter(recipe, theirs) if ours != other]
    if different:
        what = ", ".join(different)
        raise RecipeError(f"model.adapter: {recipe.model.adapter} was trained with other settings: {what}")
    _check_as_trained(folder, theirs)
    put_weights(loaded, folder.adapter)


def _of_adapter(recipe: Recipe, other: Recipe) -> list[tuple[str, Any, Any]]:
    """What must be the same for the adapter of one recipe to go on in another: key, value here, value there."""
    keys = ("rank", "alpha", "targets", "use_dora", "use_rslora")
    pairs: list[tuple[str, Any, Any]] = [("model.base", recipe.model.base, other.model.base)]
    pairs += [(f"lora.{key}", getattr(recipe.lora, key), getattr(other.lora, key, None)) for key in keys]
    ours, theirs = (sorted(one.model.trainable or ()) for one in (recipe, other))
    return [*pairs, ("model.trainable", ours, theirs)]


def load(run: Path | str) -> FineTuned:
    """Load a finished run: its folder, or its id on the Hub.

    Raises:
        RunError: not a run folder, or its training never finished.
        ModelError, HubError: files missing or damaged, or the base cannot be reached.
    """
    folder = locate_run(run)
    recipe = folder.recipe()
    folder.check_trained()
    loaded = load_run(folder, recipe)
    return FineTuned(loaded, Collator(loaded.processor), recipe.eval.max_new_tokens, recipe.eval.num_beams)
