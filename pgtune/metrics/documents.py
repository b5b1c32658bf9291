"""Answers read off documents and charts, where a near miss counts: ANLS and ChartQA's relaxed accuracy.

Sources: big_vision's PaliGemma evaluators ``vqa`` (``anls_metric``) and ``chartqa``.
"""

from __future__ import annotations

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from pgtune.metrics.score import mean_of, ratio

__all__ = ["ANLS", "CHARTQA_RELAXED", "anls", "chartqa_relaxed"]

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
    distance = Levenshtein.distance(reference, prediction) / max(len(reference), len(prediction))
    return 1.0 - distance if distance < _ANLS_THRESHOLD else 0.0


def chartqa_relaxed(prediction: str, references: Sequence[str]) -> float:
    """ChartQA's relaxed accuracy, 1 or 0: within 5 % of a reference that is a number other than 0, else the same text.

    Both texts are lower-cased. A number is what Python's ``float`` reads, "1e3", " 5 " and "٣" included, and a text
    that ends in "%" is the number before it divided by 100, so that "5%" is "0.05" and "12" does not match "12%".
    Thousands separators and currency signs are not removed: "1,234" is text. Where the reference is 0, or one of the
    two is no number, both must be the same text ("0.0" is not "0"). "nan" and "inf" are numbers, within 5 % of nothing.

    With parts (human, augmented) the value is the plain mean of the parts' values, as both papers print ChartQA by part
    and the README of big_vision the mean; without, that of all examples.
    """
    return float(any(_relaxed_match(prediction.lower(), reference.lower()) for reference in references))


def _relaxed_match(prediction: str, reference: str) -> bool:
    predicted, true = _number(prediction), _number(reference)
    if predicted is not None and true:
        return abs(predicted - true) / abs(true) <= _TOLERANCE
    return prediction == reference


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None


ANLS = mean_of(anls)
CHARTQA_RELAXED = mean_of(chartqa_relaxed, average="parts", also={"overall": ratio})
