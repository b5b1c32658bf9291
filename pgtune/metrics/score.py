"""What a metric is, what it is given, and how its value gets a confidence interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pgtune.metrics.intervals import RESAMPLES, FloatArray, bootstrap_interval, wilson_interval

__all__ = [
    "Cases",
    "FloatArray",
    "IntArray",
    "Measured",
    "Metric",
    "Score",
    "mean_of",
    "ratio",
    "sums",
]

IntArray: TypeAlias = NDArray[np.intp]
References: TypeAlias = Sequence[Sequence[str]]
Average: TypeAlias = Literal["examples", "parts", "types"]


@dataclass(frozen=True)
class Score:
    """The value of one metric over ``n`` examples.

    ``low`` and ``high`` bound it at the level ``confidence`` (0 to 1). They take into account that examples of one
    cluster (a picture, a patient) are alike: the percentile bootstrap draws whole clusters. Where each example is a
    cluster of its own and scores 0 or 1 they are Wilson's interval, and where all examples score 0, or all 1, Wilson's
    for ``clusters`` examples, since the bootstrap would give no width. Otherwise, with one cluster nothing is known,
    and both are the value.

    ``per_example`` holds one number an example, or None where the metric exists for the whole set only (BLEU, mAP).
    ``average`` says what the value is the mean of: "examples", or "parts" or "types" where it is the plain mean of
    theirs. ``also`` holds further values of the same metric (BLEU-1, recall), by name; one that is not defined here is
    left out. ``parts`` and ``types`` hold the scores of each part and question type, where the examples have them.

    All values are on the scale 0 to 1, except CIDEr (0 to 10) and the error rates (0 is best, more than 1 is possible
    where the prediction is longer than the reference).
    """

    value: float
    low: float
    high: float
    n: int
    confidence: float
    per_example: tuple[float, ...] | None
    higher_is_better: bool
    clusters: int = 0
    average: Average = "examples"
    also: dict[str, float] = field(default_factory=dict)
    parts: dict[str, Score] = field(default_factory=dict)
    types: dict[str, Score] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The score as JSON values, without the single examples: what metrics.json and ``--json`` hold."""
        found: dict[str, Any] = {"value": self.value, "low": self.low, "high": self.high, "n": self.n}
        found |= {"clusters": self.clusters, "average": self.average}
        found |= {"also": dict(self.also)} if self.also else {}
        for name, scores in (("parts", self.parts), ("types", self.types)):
            found |= {name: {key: score.document() for key, score in scores.items()}} if scores else {}
        return found

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Score:
        """What ``dataclasses.asdict`` gave, after a way through JSON."""
        values = dict(content)
        values["per_example"] = None if content["per_example"] is None else tuple(content["per_example"])
        for name in ("parts", "types"):
            values[name] = {key: cls.from_json(score) for key, score in content[name].items()}
        return cls(**values)


@dataclass(frozen=True)
class Cases:
    """Examples to score, all lists of one length: ``references[i]`` are the accepted answers of example i.

    ``parts`` and ``types``: the part and the question type of each, "" for none. ``clusters``: what says which examples
    belong together. For boxes, or None: ``scores``: for each predicted box of an example a number. ``sizes``: width and
    height of its picture in pixels. ``boxes``: what was read from its prediction before.
    """

    predictions: Sequence[str]
    references: References
    parts: Sequence[str]
    types: Sequence[str]
    clusters: Sequence[Hashable]
    scores: Sequence[Sequence[float] | None]
    sizes: Sequence[tuple[int, int] | None]
    boxes: Sequence[Sequence[Mapping[str, Any]] | None]
    where: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.predictions)

    def select(self, chosen: Sequence[int]) -> Cases:
        """The examples at these places."""
        lists = ("predictions", "references", "parts", "types", "clusters", "scores", "sizes", "boxes")
        return replace(
            self,
            **{name: [getattr(self, name)[place] for place in chosen] for name in lists},
            where=lambda place: self.where(chosen[place]),
        )

    def grouped(self, labels: Sequence[str]) -> dict[str, list[int]]:
        """Label -> the places of its examples, in the order of first appearance."""
        found: dict[str, list[int]] = {}
        for place, label in enumerate(labels):
            found.setdefault(label, []).append(place)
        return found


@dataclass(frozen=True)
class Measured:
    """What a metric finds: the value, further values, each example's, and the value of a resampled set.

    ``resample`` maps how often each cluster was drawn, an array ``(resamples, clusters)``, to values ``(resamples,)``.
    """

    value: float
    also: dict[str, float]
    per_example: FloatArray | None
    resample: Callable[[FloatArray], FloatArray]
    average: Average = "examples"
    resamples: int = RESAMPLES


@dataclass(frozen=True)
class Metric:
    """How examples are measured, and what the numbers are.

    ``measure(cases, cluster, count)``: ``cluster`` numbers the cluster of each example, below ``count``. It must accept
    any text, the empty one included. ``unit_interval``: the scores of single examples lie in 0 to 1. ``percent``:
    values are shown times 100. ``min_references``: how many accepted answers each example must have. ``needs``: what
    each example must have besides: "part" or "question_type". ``averages``: over what the value is a plain mean where
    the examples have it. ``counts``: the further values that are plain numbers.
    """

    measure: Callable[[Cases, IntArray, int], Measured]
    unit_interval: bool = True
    higher_is_better: bool = True
    percent: bool = True
    min_references: int = 1
    needs: Literal["", "part", "question_type"] = ""
    averages: Average = "examples"
    counts: frozenset[str] = frozenset()

    def score(self, cases: Cases, *, confidence: float = 0.95, seed: int = 0) -> Score:
        """The metric over examples that were checked already (see ``pgtune.metrics.compute``)."""
        numbers: dict[Hashable, int] = {}
        cluster = np.array([numbers.setdefault(each, len(numbers)) for each in cases.clusters], dtype=np.intp)
        found = self.measure(cases, cluster, len(numbers))
        each = found.per_example
        binary = each is not None and self.unit_interval and bool(np.isin(each, (0.0, 1.0)).all())
        if each is not None and binary and bool((each == each[0]).all()):
            low, high = wilson_interval(len(numbers) if each[0] else 0, len(numbers), confidence)
        elif each is not None and binary and len(numbers) == len(cases) and found.average == "examples":
            low, high = wilson_interval(round(float(each.sum())), len(each), confidence)
        else:
            low, high = bootstrap_interval(found.resample, len(numbers), confidence, seed, found.resamples)
        return Score(
            value=found.value,
            low=min(low, found.value),
            high=max(high, found.value),
            n=len(cases),
            confidence=confidence,
            per_example=None if each is None else tuple(each.tolist()),
            higher_is_better=self.higher_is_better,
            clusters=len(numbers),
            average=found.average,
            also=found.also,
        )

    def is_right(self, score: float) -> bool | None:
        """Whether an example of that score counts as right: one half or more, no error at all for an error rate.

        None for a metric whose scores know no such line (CIDEr).
        """
        if not self.higher_is_better:
            return score == 0
        return score >= 0.5 if self.unit_interval else None

    def shown(self, value: float, also: str = "") -> str:
        """A value, or the further one called ``also``, for a person: ``63.3 %``; ``1.234`` for one that is no share."""
        if also in self.counts:
            return f"{value:.0f}"
        return f"{100 * value:.1f} %" if self.percent else f"{value:.3f}"


Combine: TypeAlias = Callable[[FloatArray], FloatArray]
"""Sums over examples ``(..., k)`` -> values ``(...)``; NaN where it is not defined."""


def sums(
    statistics: Callable[[Cases], FloatArray],
    combine: Combine,
    *,
    also: Mapping[str, Combine] | None = None,
    decomposes: bool = True,
    average: Average = "examples",
    **kind: Any,
) -> Metric:
    """A metric as sums over examples, so that one code path serves means, pooled ratios and corpus metrics.

    ``statistics`` gives an array ``(n, k)``, one row an example; ``combine`` maps sums of rows to the value.
    ``decomposes``: ``combine`` of a single row is that example's score. ``average``: over what the plain mean is taken;
    "parts" and "types" need examples that have them and count each alike; where they have none it is that of examples.
    """
    further = dict(also or {})

    def measure(cases: Cases, cluster: IntArray, count: int) -> Measured:
        rows = statistics(cases)
        labels = {"parts": cases.parts, "types": cases.types, "examples": [""] * len(cases)}[average]
        names = list(dict.fromkeys(labels))
        group = np.array([names.index(label) for label in labels], dtype=np.intp)
        by_cluster = np.zeros((count, len(names), rows.shape[1] + 1))
        np.add.at(by_cluster, (cluster, group), np.column_stack([rows, np.ones(len(rows))]))

        def of_groups(totals: FloatArray) -> FloatArray:
            # A group that a resample left empty takes no part in its mean.
            there = totals[..., -1] > 0
            values = np.where(there, combine(totals[..., :-1]), 0.0)
            mean: FloatArray = values.sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)
            return mean

        flat = by_cluster.reshape(count, -1)
        totals = by_cluster.sum(axis=0)
        whole = totals.sum(axis=0)[:-1]
        found = {name: float(value) for name, one in further.items() if not math.isnan(value := float(one(whole)))}
        return Measured(
            value=float(of_groups(totals)),
            also=found,
            per_example=combine(rows) if decomposes else None,
            resample=lambda weights: of_groups((weights @ flat).reshape(-1, *totals.shape)),
            average=average if names != [""] else "examples",
        )

    return Metric(measure, averages=average, **kind)


def ratio(sums: FloatArray, above: int = 0, below: int = 1) -> FloatArray:
    """The quotient of two columns; where there is nothing to divide by, the first itself."""
    # A reference without any symbol has length 0: the edit distance itself is then the error rate.
    quotient: FloatArray = sums[..., above] / np.maximum(sums[..., below], 1.0)
    return quotient


def mean_of(score: Callable[[str, Sequence[str]], float], **kind: Any) -> Metric:
    """A metric that is the mean of ``score(prediction, references)``, a number from 0 to 1 for each example."""

    def statistics(cases: Cases) -> FloatArray:
        pairs = zip(cases.predictions, cases.references, strict=True)
        return np.array([(score(prediction, accepted), 1.0) for prediction, accepted in pairs], dtype=np.float64)

    return sums(statistics, ratio, **kind)
