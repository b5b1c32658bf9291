"""Confidence intervals: Wilson's for shares, the bootstrap for everything else."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["RESAMPLES", "FloatArray", "bootstrap_interval", "wilson_interval"]

FloatArray: TypeAlias = NDArray[np.float64]

RESAMPLES = 1000
# Resampling weights are drawn for this many numbers at a time: 1,000 resamples of 100,000 examples would be 800 MB.
_CHUNK = 4_000_000


def wilson_interval(right: int, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of ``right`` out of ``n`` > 0: honest for few examples and near 0 and 1."""
    z = -NormalDist().inv_cdf((1 - confidence) / 2)
    rate = right / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # Exactly 0 and 1 where nothing or everything is right; the formula leaves rounding errors there.
    return (0.0 if right == 0 else centre - half), (1.0 if right == n else centre + half)


def bootstrap_interval(
    resample: Callable[[FloatArray], FloatArray],
    clusters: int,
    confidence: float,
    seed: int,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """The percentile bootstrap: ``resamples`` draws of as many clusters as there are, with replacement.

    ``resample`` maps how often each was drawn to the value, see `Measured`. The same ``seed`` gives the same interval.
    Where all clusters score alike the interval has no width: the bootstrap knows nothing beyond what it was given.
    """
    generator = np.random.default_rng(seed)
    values: list[FloatArray] = []
    done = 0
    while done < resamples:
        draws = min(resamples - done, max(1, _CHUNK // clusters))
        weights = np.stack([
            np.bincount(generator.integers(0, clusters, size=clusters), minlength=clusters) for _ in range(draws)
        ]).astype(np.float64)  # fmt: skip
        values.append(resample(weights))
        done += draws
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(values), (tail, 1 - tail))
    return float(low), float(high)
