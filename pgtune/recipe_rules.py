"""Settings that contradict each other, and settings that could not take effect: refused, never ignored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgtune.errors import DataError
from pgtune.names import CREDENTIALED
from pgtune.recipe_reading import Problem, shown
from pgtune.settings_common import PARTS
from pgtune.sources import ALL_SPLITS, split_names

if TYPE_CHECKING:
    from pgtune.recipe import Recipe, Source

__all__ = ["contradictions", "warnings"]


def contradictions(recipe: Recipe) -> list[Problem]:
    """Every pair of settings that cannot both hold; empty for a recipe that makes sense."""
    found = []
    for path, message, *others in (
        *_method(recipe),
        *_selection(recipe),
        *_data(recipe),
        *_optimizer(recipe),
        *_rest(recipe),
        *_hub(recipe),
    ):
        given: Any = recipe
        for part in path.split("."):
            given = getattr(given, part)
        found.append(Problem(path, f"{shown(given)} {message}", given, keys=(path, *others)))
    return found


Clash = tuple[str, ...]  # the key to name, the message after its value, the other keys involved


def _method(recipe: Recipe) -> Iterator[Clash]:
    model, lora = recipe.model, recipe.lora
    trained = ("vision_tower", "projector", "language_model") if model.trainable is None else model.trainable
    if lora is None:
        if model.quantization != "none":
            yield "model.quantization", "needs the section lora: quantised weights cannot be trained in full", "lora"
        if model.dtype in ("bfloat16", "float16"):
            yield (
                "model.dtype",
                "cannot be trained in full: small steps are lost; full fine-tuning keeps float32 weights, "
                "set train.mixed_precision to bf16 for speed",
                "lora",
            )
        if not trained:
            yield "model.trainable", "leaves nothing to train without the section lora", "lora"
    else:
        targets = (lora.targets,) if isinstance(lora.targets, str) else lora.targets
        full = () if model.trainable is None else trained
        for part in sorted(set(targets) & set(full)):
            yield "lora.targets", f"adapts {part}, which model.trainable trains in full", "model.trainable"
        if model.quantization != "none" and "language_model" in full:
            yield (
                "model.trainable",
                f"trains language_model in full, which model.quantization {model.quantization} freezes",
                "model.quantization",
            )
        elif "language_model" in full:
            yield (
                "model.trainable",
                "trains language_model in full beside LoRA, which would untie its output head from the embedding; "
                "adapt it with lora.targets, or leave out the section lora",
                "lora",
            )
    if model.dtype == "float16" and recipe.train.mixed_precision == "bf16":
        yield "train.mixed_precision", "does not go with model.dtype float16", "model.dtype"
    if model.sliding_window:
        yield "model.sliding_window", "is not offered: the mask of training has no window, as the papers' code has none"
    if not model.antialias and model.resample != "bilinear":
        yield "model.antialias", f"needs model.resample bilinear (it is {model.resample})", "model.resample"
    if model.base == "tiny" and model.revision is not None:
        yield "model.revision", "has no meaning for the shipped base tiny; it is for Hub ids", "model.base"


def _selection(recipe: Recipe) -> Iterator[Clash]:
    train, data = recipe.train, recipe.data
    if "validation" not in data.splits:
        for name in ("eval_steps", "best_metric", "patience"):
            if getattr(train, name) is not None:
                yield f"train.{name}", "needs data.validation", "data.validation", "data.validation_share"
    if train.eval_steps is None:
        for name in ("best_metric", "patience"):
            if getattr(train, name) is not None:
                yield f"train.{name}", "needs train.eval_steps: when to look at data.validation", "train.eval_steps"
    if train.patience is not None and train.best_metric is None:
        yield "train.patience", "needs train.best_metric: what should get better", "train.best_metric"
    if train.best_metric not in (None, "loss", *recipe.eval.metrics):
        known = ", ".join(("loss", *recipe.eval.metrics))
        yield "train.best_metric", f"is neither loss nor one of eval.metrics; known here: {known}", "eval.metrics"
    if train.save_steps is None and train.keep_checkpoints != 1:
        yield "train.keep_checkpoints", "has no effect: train.save_steps is null", "train.save_steps"


def _data(recipe: Recipe) -> Iterator[Clash]:
    data = recipe.data
    shares = [name for name in ("validation", "test") if getattr(data, f"{name}_share") > 0]
    if data.split_by is None:
        for name in shares:
            yield f"data.{name}_share", "needs data.split_by: by what the examples are told apart", "data.split_by"
    elif not shares:
        why = "has no effect: data.validation_share and data.test_share are 0"
        yield "data.split_by", why, "data.validation_share", "data.test_share"
    for name in shares:
        if getattr(data, name) is not None:
            yield f"data.{name}_share", f"and data.{name} are both given: cut it or name it", f"data.{name}"
    if data.validation_share + data.test_share >= 1:
        others = ("data.validation_share",)
        yield "data.test_share", f"and validation_share {data.validation_share} leave nothing to train on", *others
    for name in ("train", "validation", "test"):
        source = getattr(data, name)
        if source is not None:
            try:
                split_names(source.split)
            except DataError as error:
                yield f"data.{name}.split", f"is no split: {str(error).partition(': ')[2]}"


def _optimizer(recipe: Recipe) -> Iterator[Clash]:
    train, lora = recipe.train, recipe.lora
    default = PARTS if lora is None else ()
    full = default if recipe.model.trainable is None else recipe.model.trainable
    if train.weight_decay > 0 and not {"vision_tower", "projector"} & set(full):
        yield (
            "train.weight_decay",
            "has no effect: it is for the kernels of vision_tower and projector, and neither is trained in full",
            "model.trainable",
        )
    targets = () if lora is None else (lora.targets,) if isinstance(lora.targets, str) else lora.targets
    if set(targets) <= set(PARTS):  # what a regular expression adapts is known with the model
        for part in PARTS:
            if getattr(train.learning_rates, part) is not None and part not in {*full, *targets}:
                others = ("model.trainable", "lora.targets") if lora else ("model.trainable",)
                yield f"train.learning_rates.{part}", f"has no effect: nothing of {part} is trained", *others
    if train.optimizer == "adamw_8bit" and train.strategy == "fsdp":
        yield "train.optimizer", "does not go with fsdp: bitsandbytes has no sharded optimiser", "train.strategy"


def _rest(recipe: Recipe) -> Iterator[Clash]:
    data, tracking, augment = recipe.data, recipe.tracking, recipe.augment
    if augment.min_visibility != type(augment)().min_visibility and augment.crop == 1:
        yield "augment.min_visibility", "has no effect: augment.crop is 1, so that no box is cut", "augment.crop"
    if data.max_text_tokens is None and data.too_long != "error":
        yield "data.too_long", "has no effect: data.max_text_tokens is null", "data.max_text_tokens"
    if tracking.to != "wandb":
        for name in ("project", "mode"):
            if getattr(tracking, name) not in (None, "online"):
                yield f"tracking.{name}", f"has no effect with tracking {tracking.to}", "tracking.to"
    if tracking.to == "none":
        for name in ("name", "log_examples"):
            if getattr(tracking, name):
                yield f"tracking.{name}", "has no effect with tracking none", "tracking.to"


def _hub(recipe: Recipe) -> Iterator[Clash]:
    hub = recipe.hub
    if hub.push_to is None:
        for name in ("private", "with_examples", "tag"):
            if getattr(hub, name):
                yield f"hub.{name}", "has no effect: hub.push_to is null", "hub.push_to"
    elif hub.with_examples and recipe.data.adapter in CREDENTIALED:
        yield "hub.with_examples", f"is refused: {CREDENTIALED[recipe.data.adapter]}", "data.adapter"
    if recipe.model.adapter is not None and recipe.lora is None:
        yield "model.adapter", "needs the section lora, as the adapter was trained with", "lora"


def warnings(recipe: Recipe) -> list[str]:
    """What may be meant but should be known: the same data under two keys."""
    sources = {key: source for key in ("train", "validation", "test") if (source := getattr(recipe.data, key))}
    keys = list(sources)
    return [
        f"data.{first} and data.{second} are the same data ({sources[first].source}): the score will say nothing about "
        "unseen examples"
        for i, first in enumerate(keys)
        for second in keys[i + 1 :]
        if _same(sources[first], sources[second])
    ]


def _same(one: Source, other: Source) -> bool:
    path, other_path = Path(one.source).resolve(), Path(other.source).resolve()
    a_file = path.is_file() or path.suffix in (".jsonl", ".json")
    splits, other_splits = set(split_names(one.split)), set(split_names(other.split))
    shared = bool(splits & other_splits) or ALL_SPLITS in splits | other_splits
    return path == other_path and (shared or a_file)
