"""What the JSON files of a run folder hold, as far as something is made of it; other keys are passed on as they are."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, model_validator

Text = InstanceOf[str]
"""Any text. Pydantic's own form of it refuses half of a character, which a file's name may hold."""
Count = Annotated[int, Field(ge=0, le=2**53)]
Number = Annotated[float, Field(ge=-1e100, le=1e100, allow_inf_nan=False)]
"""Far beyond float32, and small enough that sums and differences stay finite."""
Seconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Some = Annotated[int, Field(ge=1, le=2**53)]


class Form(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class Score(Form):
    value: Number
    low: Number
    high: Number
    n: Count
    clusters: Count
    average: Text
    also: dict[Text, Number] = {}
    parts: dict[Text, Score] = {}
    types: dict[Text, Score] = {}


Scores: TypeAlias = dict[Text, Score]


class LeftOutRow(Form):
    reason: Text
    file: Text
    row: int | Text
    place: Text | None = None


class Tally(Form):
    count: Count
    reasons: dict[Text, Count]
    rows: list[LeftOutRow]


class LeftOut(Form):
    source: Text
    skipped: Tally
    bad: Tally


class PublicLeftOut(Form):
    """As it is pushed: counts only."""

    skipped: Count
    bad: Count


class Metrics(Form):
    before: dict[Text, Number]
    after: dict[Text, Number]
    trivial: dict[Text, Number]
    n: Count
    steps: Count
    split: Text | None
    trivial_answer: Text = ""
    confidence: Annotated[float, Field(gt=0, lt=1)] | None = None
    left_out: dict[Text, LeftOut] | dict[Text, PublicLeftOut] = {}
    scores: dict[Literal["before", "after", "trivial"], Scores] = {}

    @model_validator(mode="after")
    def _complete(self) -> Metrics:
        if self.scores and self.confidence is None:
            raise ValueError("scores come with confidence")
        return self


class OtherScores(Form):
    n: Count
    source: Text
    warnings: list[Text] = []
    scores: Scores
    trivial_scores: Scores


class Status(Form):
    state: Text
    effective_batch: Some | None = None
    examples: Count | None = None
    epochs: Number | None = None
    seconds: Seconds | None = None


class Step(Form):
    step: Some
    loss: Number
    learning_rate: Number
    grad_norm: Number
    epoch: Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
    seconds: Seconds


class Look(BaseModel):
    """A look at the validation split: the loss, and a number for each metric."""

    model_config = ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[str, Number] = Field(init=False)
    step: Some
    loss: Number


class Box(Form):
    box: Annotated[list[Number], Field(min_length=4, max_length=4)]
    label: Text
    score: Number


class Prediction(Form):
    image: Text | list[Text | None] | None
    prefix: Text
    prediction: Text
    references: Annotated[list[Text], Field(min_length=1)]
    metadata: dict[Text, Any]
    where: Text
    mean_log_probability: Number
    scores: dict[Text, Number]
    before: Text | None = None
    part: Text | None = None
    question_type: Text | None = None
    boxes: list[Box] | None = None
    malformed: Count = 0
    repeated: Count = 0
    cut_off: bool = False


class Before(Form):
    scores: Scores
    rows: list[Prediction]


class Memory(Form):
    device: Literal["gpu", "cpu"]
    devices: Annotated[int, Field(ge=1, le=1_000_000)]
    bfloat16: bool
    peak_bytes: Some
    gradient_checkpointing: bool | Annotated[int, Field(ge=2, le=10_000)] = False


class Sizes(Form):
    examples: Count
    groups: Count


class SplitRecord(Form):
    split_by: Text
    seed: int
    splits: dict[Text, Sizes]


class Finding(Form):
    kind: Text
    splits: Annotated[list[Text], Field(min_length=1)]
    message: Text
    count: Count
    of: Some
    places: list[Text] = []
