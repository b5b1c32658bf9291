"""Answers read off documents and charts, where a near miss counts: ANLS and relaxed accuracy.

Sources: big_vision's PaliGemma evaluators ``vqa`` (``anls_metric``) and ``chartqa``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pgtune.metrics.edit import edit_distance
from pgtune.metrics.score import mean_of

__all__ = ["ANLS", "RELAXED_ACCURACY", "anls", "relaxed_accuracy"]

_ANLS_THRESHOLD = 0.5
_TOLERANCE = 0.05


def anls(prediction: str, references: Sequence[str]) -> float:
    """Average normalised Levenshtein similarity, the best over references: DocVQA, InfoVQA, ST-VQA.

    1 - d / max(length of both) where that quotient is strictly below 0.5, else 0. Both texts are lower-cased, as all
    three transfers do (``to_lower``); nothing is stripped. An empty reference is matched by an empty prediction only.
    """
    return max(_similarity(prediction.lower(), reference.lower()) for reference in references)


def _similarity(prediction: str, reference: str) -> float:
    if not reference:
        return float(not prediction)
    distance = edit_distance(reference, prediction) / max(len(reference), len(prediction))
    return 1.0 - distance if distance < _ANLS_THRESHOLD else 0.0


def relaxed_accuracy(prediction: str, references: Sequence[str]) -> float:
    """ChartQA's relaxed accuracy, 1 or 0: within 5 % of a reference that is a number other than 0, else the same text.

    Both texts are lower-cased; "12%" is 0.12, so "12" does not match it; thousands separators and currency signs are
    not removed. A reference of 0 and any text need the same text. "nan" and "inf" are text.
    """
    return float(any(_relaxed_match(prediction.lower(), reference.lower()) for reference in references))


def _relaxed_match(prediction: str, reference: str) -> bool:
    predicted, true = _number(prediction), _number(reference)
    if predicted is not None and true:
        return abs(predicted - true) / abs(true) <= _TOLERANCE
    return prediction == reference


def _number(text: str) -> float | None:
    try:
        number = float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


ANLS = mean_of(anls)
RELAXED_ACCURACY = mean_of(relaxed_accuracy)
