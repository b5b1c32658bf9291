"""The sections of a recipe: strict, frozen schemas in which the docstring under a field is that field's help."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pgtune.names import HUB_ID, METRICS, nearest
from pgtune.settings_common import PARTS, Count, Part, Positive, Probability, Settings, Share, Text
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


class AugmentSettings(Settings):
    """Pictures changed at random while training, never in evaluation; all off by default.

    What is drawn is a function of (seed, epoch, example). Boxes of location tokens in prefix and suffix move along. An
    example whose text names a side or place in English (left, above, north, corner ...) is changed in colour only. What
    only the meaning of the text ties to the picture, such as a count, writing or music, is yours to know.
    """

    horizontal_flip: Probability = 0.0
    """Probability of mirroring left and right. Not for writing, music or anything else that has a direction."""

    vertical_flip: Probability = 0.0
    """Probability of mirroring top and bottom: for pictures taken from above."""

    rotate90: Probability = 0.0
    """Probability of a quarter, half or three-quarter turn, each as likely: for pictures taken from above."""

    crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Smallest share of a picture's area that is kept; each time a share between this and 1 is drawn, and its place.
    The shape stays the picture's. 1: no crop."""

    zoom_out: Annotated[float, Field(ge=1, le=8)] = 1.0
    """Largest factor by which a picture is made smaller, on a ground of its mean colour; each time a factor between 1
    and this is drawn, and its place. 1: never."""

    min_visibility: Annotated[float, Field(ge=0, le=1)] = 0.3
    """A box of which a crop shows less than this share of its area is dropped from the suffix; a larger part is
    clipped. Where none is left, the example keeps its picture as it is."""

    brightness: Share = 0.0
    """Strength of a random factor on the brightness: between 1 - this and 1 + this."""

    contrast: Share = 0.0
    """Strength of a random factor on the contrast, likewise."""

    saturation: Share = 0.0
    """Strength of a random factor on the saturation, likewise."""

    @property
    def geometric(self) -> bool:
        """Whether anything that moves boxes is on."""
        return bool(self.horizontal_flip or self.vertical_flip or self.rotate90) or self.crop < 1 or self.zoom_out > 1

    @property
    def active(self) -> bool:
        """Whether anything is on."""
        return self.geometric or bool(self.brightness or self.contrast or self.saturation)


class Source(Settings):
    """Where rows come from: a file or folder, and the name of the split in it."""

    source: Text
    """A file or folder, relative to the working directory; ``pgtune:`` in front means data shipped in the package."""

    split: Text
    """The split to take from the source, several joined by a plus (train+validation), or all; left out, it is the key's
    own name (train, validation, test)."""


def _own_split(value: object, info: ValidationInfo) -> object:
    """``train: rows.jsonl`` means ``train: {source: rows.jsonl, split: train}``."""
    if isinstance(value, str):
        value = {"source": value}
    if isinstance(value, dict) and "split" not in value:
        value = {**value, "split": info.field_name}
    return value


class SourceInput(Settings):
    """A source as a recipe may spell it: the split may be left out."""

    source: Text
    """A file or folder, relative to the working directory; ``pgtune:`` in front means data shipped in the package."""

    split: Text | None = None
    """The split to take from the source, several joined by a plus (train+validation), or all; left out, it is the key's
    own name (train, validation, test); of ``train`` it is all where ``data.split_by`` is set and no other source is."""


SourceOrText = Annotated[Source, BeforeValidator(_own_split, json_schema_input_type=Text | SourceInput)]


class DataSettings(Settings):
    """The examples: who reads them, and from where."""

    adapter: Text = "jsonl"
    """The data adapter: a built-in name (``pgtune adapters`` lists them), the name of a plug-in, or
    ``module:attribute`` of your own, looked for in the working directory too."""

    train: SourceOrText
    """What is learnt from: a path, or {source: PATH, split: NAME}. With ``split_by`` all of the material, from which
    validation and test are cut."""

    validation: SourceOrText | None = None
    """What early stopping and the choice of the best checkpoint look at."""

    test: SourceOrText | None = None
    """What the run is scored on before and after training; never looked at in between."""

    split_by: Text | None = None
    """Cut validation and test from ``train`` so that no group falls on two sides: patient, work, scene, source or
    another key of the examples' groups or metadata, or image (the same picture). Drawn by ``seed``, the same in any
    order of the rows, and written down in the run folder."""

    validation_share: Share = 0.0
    """Share of the examples of ``train`` that is cut from it for validation, as near as the groups allow."""

    test_share: Share = 0.0
    """Share of the examples of ``train`` that is cut from it for the test, as near as the groups allow."""

    root: Text | None = None
    """Images may lie anywhere below this folder too; null: only below the data file's own folder, where relative paths
    start in either case."""

    adapter_args: dict[str, JsonValue] = Field(default_factory=dict)
    """Keyword arguments of the data adapter."""

    cycle_references: bool = False
    """Learn each of an example's references in turn instead of its suffix: another one each epoch, in an order of its
    own, none twice before all were learnt (the papers' ``choice_no_replacement``). Scoring takes all of them anyhow."""

    max_text_tokens: Annotated[int, Field(ge=4)] | None = None
    """Longest text in tokens, from <bos> to <eos>, image tokens not counted; null: as long as the model can read."""

    too_long: Literal["error", "truncate", "skip"] = "error"
    """What happens to an example with more than ``max_text_tokens``: refuse it, cut its suffix or prefix (never the
    newline or <eos>), or leave it out."""

    max_bad_share: Share = 0.0
    """Bad rows (broken, or with an image that does not open) up to this share of the rows are left out and reported;
    more of them end the run before it begins. Of images those count that ``verify_images`` looks at."""

    verify_images: Literal["auto", "full", "header", "none"] = "auto"
    """How images are checked before training: ``full`` decodes each, also those made on demand; ``header`` reads the
    header of each file; ``none`` does not look. ``auto`` decodes up to 2,000 files, reads the headers of up to 5,000,
    and of 5,000 drawn by lot where there are more (of all with ``max_bad_share``); of images made on demand it makes up
    to 500, else 100 drawn by lot. A bad image that is met only in training ends it, named by its row."""

    @model_validator(mode="before")
    @classmethod
    def _all_of_the_material(cls, value: Any) -> Any:
        """With ``split_by``, ``train`` is all that there is, unless it says otherwise or another split is given."""
        if not isinstance(value, dict) or value.get("split_by") is None:
            return value
        if value.get("validation") is not None or value.get("test") is not None:
            return value
        train = value.get("train")
        if isinstance(train, str):
            train = {"source": train}
        if isinstance(train, dict) and train.get("split") is None:
            train = {**train, "split": "all"}
        return {**value, "train": train} if "train" in value else value

    @property
    def splits(self) -> tuple[str, ...]:
        """Which of train, validation and test there are, given or cut."""
        shares = {"validation": self.validation_share, "test": self.test_share}
        names = ("train", "validation", "test")
        return tuple(name for name in names if getattr(self, name) is not None or shares.get(name))


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
