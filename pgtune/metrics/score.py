"""What a metric is, and how its value gets a confidence interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Metric", "Score", "bootstrap_interval", "mean_of", "ratio_of", "wilson_interval"]

FloatArray: TypeAlias = NDArray[np.float64]
References: TypeAlias = Sequence[Sequence[str]]

RESAMPLES = 1000
# Resampling weights are drawn for this many numbers at a time: 1,000 resamples of 100,000 examples would be 800 MB.
_CHUNK = 4_000_000


@dataclass(frozen=True)
class Score:
    """The value of one metric over ``n`` examples.

    ``low`` and ``high`` bound it at the level ``confidence`` (0 to 1): Wilson's interval where every example scores 0
    or 1, otherwise the percentile bootstrap over examples. ``per_example`` holds one number an example, or None where
    the metric exists for the whole set only (BLEU). All values are on the scale 0 to 1, except CIDEr (0 to 10) and the
    error rates (0 is best, more than 1 is possible where the prediction is longer than the reference).
    """

    value: float
    low: float
    high: float
    n: int
    confidence: float
    per_example: tuple[float, ...] | None
    higher_is_better: bool


@dataclass(frozen=True)
class Metric:
    """A metric as sums over examples, so that one code path serves means, pooled ratios and corpus metrics.

    ``statistics(predictions, references)`` gives an array ``(n, k)``, one row an example; ``combine`` maps sums of
    rows, an array ``(..., k)``, to values ``(...)``. Both must accept any text, the empty one included.
    ``decomposes``: ``combine`` of a single row is that example's score. ``unit_interval``: and it lies in 0 to 1.
    ``min_references``: how many accepted answers each example must have.
    """

    statistics: Callable[[Sequence[str], References], FloatArray]
    combine: Callable[[FloatArray], FloatArray]
    decomposes: bool = True
    unit_interval: bool = True
    higher_is_better: bool = True
    min_references: int = 1

    def score(
        self, predictions: Sequence[str], references: References, *, confidence: float = 0.95, seed: int = 0
    ) -> Score:
        """The metric over examples that were checked already (see ``pgtune.metrics.compute``)."""
        rows = self.statistics(predictions, references)
        value = float(self.combine(rows.sum(axis=0)))
        each = self.combine(rows) if self.decomposes else None
        if each is not None and self.unit_interval and bool(np.isin(each, (0.0, 1.0)).all()):
            low, high = wilson_interval(round(float(each.sum())), len(each), confidence)
        else:
            low, high = bootstrap_interval(rows, self.combine, confidence, seed)
        return Score(
            value=value,
            low=min(low, value),
            high=max(high, value),
            n=len(predictions),
            confidence=confidence,
            per_example=None if each is None else tuple(each.tolist()),
            higher_is_better=self.higher_is_better,
        )

    def is_right(self, score: float) -> bool | None:
        """Whether an example of that score counts as right: one half or more, no error at all for an error rate.

        None for a metric whose scores know no such line (CIDEr).
        """
        if not self.higher_is_better:
            return score == 0
        return score >= 0.5 if self.unit_interval else None


def _ratio(sums: FloatArray) -> FloatArray:
    # A reference without any symbol has length 0: the edit distance itself is then the error rate.
    quotient: FloatArray = sums[..., 0] / np.maximum(sums[..., 1], 1.0)
    return quotient


def mean_of(score: Callable[[str, Sequence[str]], float], *, min_references: int = 1) -> Metric:
    """A metric that is the mean of ``score(prediction, references)``, a number from 0 to 1 for each example."""

    def statistics(predictions: Sequence[str], references: References) -> FloatArray:
        pairs = zip(predictions, references, strict=True)
        return np.array([(score(prediction, accepted), 1.0) for prediction, accepted in pairs], dtype=np.float64)

    return Metric(statistics, _ratio, min_references=min_references)


def ratio_of(counts: Callable[[str, Sequence[str]], tuple[float, float]]) -> Metric:
    """An error rate pooled over the set: the sum of errors over the sum of lengths, ``counts`` giving both."""

    def statistics(predictions: Sequence[str], references: References) -> FloatArray:
        pairs = zip(predictions, references, strict=True)
        return np.array([counts(prediction, accepted) for prediction, accepted in pairs], dtype=np.float64)

    return Metric(statistics, _ratio, unit_interval=False, higher_is_better=False)


def wilson_interval(right: int, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of ``right`` out of ``n`` > 0: honest for few examples and near 0 and 1."""
    z = -NormalDist().inv_cdf((1 - confidence) / 2)
    rate = right / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # Exactly 0 and 1 where nothing or everything is right; the formula leaves rounding errors there.
    return (0.0 if right == 0 else centre - half), (1.0 if right == n else centre + half)


def bootstrap_interval(
    rows: FloatArray, combine: Callable[[FloatArray], FloatArray], confidence: float, seed: int
) -> tuple[float, float]:
    """The percentile bootstrap over examples: ``RESAMPLES`` draws of ``len(rows)`` rows with replacement.

    The same ``seed`` gives the same interval. Where all examples score alike the interval has no width: the bootstrap
    knows nothing beyond what it was given.
    """
    n = len(rows)
    generator = np.random.default_rng(seed)
    values: list[FloatArray] = []
    done = 0
    while done < RESAMPLES:
        count = min(RESAMPLES - done, max(1, _CHUNK // n))
        weights = np.stack([np.bincount(generator.integers(0, n, size=n), minlength=n) for _ in range(count)]).astype(
            np.float64
        )
        values.append(combine(weights @ rows))
        done += count
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(values), (tail, 1 - tail))
    return float(low), float(high)
