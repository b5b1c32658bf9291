"""The sections of a recipe: strict, frozen schemas in which the docstring under a field is that field's help."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
)
from pydantic_core import PydanticCustomError

from pgtune.names import HUB_ID, METRICS, nearest
from pgtune.settings_common import PARTS, Count, Part, Positive, Settings, Share, Text
from pgtune.settings_data import AugmentSettings, DataSettings, Source
from pgtune.settings_train import LearningRates, TrainSettings

__all__ = [
    "AugmentSettings",
    "DataSettings",
    "EvalSettings",
    "HubSettings",
    "LearningRates",
    "LoraSettings",
    "ModelSettings",
    "Part",
    "Settings",
    "Source",
    "Text",
    "TrackingSettings",
    "TrainSettings",
]


def _no_repeats(values: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise PydanticCustomError("recipe_repeated_value", "each entry once ({twice} is repeated)", {"twice": twice[0]})
    return values


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise PydanticCustomError("metric", "a metric")  # reported with the names in the JSON schema
    return name


# A YAML list arrives as a list; strict mode would refuse it for a tuple, its entries stay strict.
Parts = Annotated[tuple[Part, ...], Field(strict=False), AfterValidator(_no_repeats)]
Metric = Annotated[str, AfterValidator(_known_metric), Field(json_schema_extra={"enum": sorted(METRICS)})]
Metrics = Annotated[tuple[Metric, ...], Field(strict=False, min_length=1), AfterValidator(_no_repeats)]


def _lora_targets(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if isinstance(value, tuple):
        if not value:
            raise PydanticCustomError("recipe_targets", "at least one part (leave the section out to train in full)")
        return value
    if value in PARTS:
        return value
    if re.fullmatch(r"[A-Za-z_]+", value) and (close := nearest(value, PARTS)):
        raise PydanticCustomError("recipe_targets", "one of {parts}", {"parts": ", ".join(PARTS), "close": close})
    try:
        re.compile(value)
    except re.error as error:
        reason = {"reason": str(error)}
        raise PydanticCustomError("recipe_targets", "a part, or a regular expression ({reason})", reason) from None
    return value


class ModelSettings(Settings):
    """The base model and which of its parts are trained in full."""

    base: Text = "tiny"
    """The base model: ``tiny`` (shipped, for trying things out on a CPU), a folder with a PaliGemma 1 or 2 checkpoint,
    or a Hub id such as ``google/paligemma2-3b-pt-224``. The resolution is the checkpoint's; there is no key for it."""

    revision: Text | None = None
    """Branch, tag or commit of a Hub id; null: its main branch."""

    adapter: Text | None = None
    """Go on from this trained adapter: a run folder, or the Hub id of a pushed run. The section ``lora`` and
    ``trainable`` must be what it was trained with. null: LoRA starts from nothing."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the base's weights. ``auto``: on a CPU the checkpoint's own; on a GPU bfloat16 for LoRA and float32 for
    full fine-tuning, which needs float32 master weights (``train.mixed_precision`` makes that fast)."""

    quantization: Literal["none", "int8", "nf4"] = "none"
    """Store the frozen base in 8 or 4 bits through bitsandbytes; needs the section ``lora`` (QLoRA)."""

    attention: Literal["auto", "eager", "sdpa", "flex_attention"] = "auto"
    """Attention backend. The prefix-LM mask is our own and the same in all; ``auto`` takes the fastest that the model
    allows (PaliGemma 2 caps its attention scores, which sdpa cannot)."""

    trainable: Parts | None = None
    """Parts trained in full: any of vision_tower, projector, language_model. null: all three without ``lora``, none
    beside it."""

    final_logit_softcapping: bool = False
    """Gemma 2's cap on the output logits. The papers switch it off for transfer."""

    sliding_window: bool = False
    """Gemma 2's 4,096 token window in every other layer. The papers' code has none, and neither has pgtune: this key
    states it, and true is refused."""

    resample: Literal["bicubic", "bilinear"] = "bicubic"
    """How images are resized to the checkpoint's square; saved with the processor. bilinear is the papers'."""

    image_fit: Literal["stretch", "pad"] = "stretch"
    """How an image that is no square becomes one: stretched, as in nearly all of the papers' tasks, or padded with
    white first, as PaliGemma 2 does for tables, molecules and music; saved with the processor. The image stands in the
    middle (ours: the paper does not say where). With ``pad`` text may hold no location tokens."""

    antialias: bool = True
    """Whether pixels are averaged where an image is made smaller. false: bilinear between the four nearest pixels, the
    default of ``tf.image.resize`` and what about half of the papers' tasks use; needs ``resample: bilinear``, and is
    computed by pgtune, as Pillow's filters always average. Saved with the processor."""

    llm_dropout: Share = 0.0
    """Dropout on both residual branches of each block of the language model in training, as the papers mean it: 0 up
    to but not including 1. (``lora.dropout`` is another: on the input of LoRA's update.)"""


class LoraSettings(Settings):
    """Low-rank adaptation. Leave the section out for full fine-tuning."""

    rank: Count = 16
    """Rank of the update; each adapted matrix gains rank x (inputs + outputs) weights."""

    alpha: Positive = 32.0
    """The update is scaled by alpha / rank (rsLoRA: alpha / square root of rank)."""

    dropout: Share = 0.0
    """Dropout on the input of the update, 0 up to but not including 1."""

    targets: Annotated[
        Annotated[str, Field(min_length=1)] | Parts,
        AfterValidator(_lora_targets),
    ] = "language_model"
    """What is adapted: ``language_model``, ``vision_tower``, ``projector``, a list of these (their linear layers), or
    a regular expression that matches whole module names."""

    use_dora: bool = False
    """DoRA: learn each adapted matrix's magnitude apart from its direction."""

    use_rslora: bool = False
    """rsLoRA: scale by alpha / square root of rank, so that high ranks learn as fast as low ones."""


class EvalSettings(Settings):
    """How a run is scored."""

    metrics: Metrics = ("exact_match",)
    """Names of metrics, the first being the headline (``pgtune score --help`` lists them)."""

    max_new_tokens: Count = 32
    """Longest answer in tokens."""

    batch_size: Count | None = None
    """Examples generated at once; null: four times ``train.batch_size``."""

    limit: Count | None = None
    """Score only the first so many examples; null: all."""

    num_beams: Count = 1
    """1: greedy, as in nearly all of the papers' tasks; more: beam search without length normalisation."""

    before: bool = True
    """Score the base model before training too, so that the gain is known."""

    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Confidence level of the interval around each metric."""


class HubSettings(Settings):
    """What is pushed to the Hub when the training has ended. Nothing, unless ``push_to`` names a repo."""

    push_to: Annotated[str, Field(pattern=rf"^{HUB_ID.pattern}$")] | None = None
    """The repo, ``org/name``; made where it is not there. ``pgtune push`` does the same by hand."""

    private: bool = False
    """Make the repo a private one; refused where it is there and public."""

    with_examples: bool = False
    """Show some rows of the data too: prompts, answers and pictures. Without this none of them is pushed."""

    tag: Text | None = None
    """A tag for the commit."""


class TrackingSettings(Settings):
    """Where the numbers of a run are sent beside its own log."""

    to: Literal["none", "wandb", "tensorboard"] = "none"
    """The tracker."""

    project: Text | None = None
    """Project at Weights & Biases; null: pgtune."""

    name: Text | None = None
    """Name of the run; null: the name of the run folder."""

    mode: Literal["online", "offline"] = "online"
    """Weights & Biases: send while training, or keep in the run folder for ``wandb sync``."""

    log_examples: bool = False
    """Send images and text of some predictions too. Nothing of the data leaves the machine without this."""
