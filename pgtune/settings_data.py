"""The sections of a recipe about examples: where they come from, which split is which, how pictures are changed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, ValidationInfo, model_validator

from pgtune.settings_common import Probability, Settings, Share, Text

__all__ = ["AugmentSettings", "DataSettings", "Source"]


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
