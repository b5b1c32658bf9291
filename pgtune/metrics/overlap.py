"""Free answers compared as bags of words: token F1 and token recall.

Source: the normalisation and F1 of the SQuAD evaluation, which VQA-RAD, SLAKE and PathVQA report for open questions.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from pgtune.metrics.score import mean_of

__all__ = ["TOKEN_F1", "TOKEN_RECALL", "token_f1", "token_recall"]

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def token_f1(prediction: str, references: Sequence[str]) -> float:
    """F1 of the words shared with a reference, the best over references.

    Both texts are lower-cased, ASCII punctuation is deleted, then the words a, an, the; words count as often as they
    occur. Where nothing is left of either text, 1 if nothing is left of both, else 0.
    """
    predicted = _tokens(prediction)
    return max(_f1(predicted, _tokens(reference)) for reference in references)


def token_recall(prediction: str, references: Sequence[str]) -> float:
    """The share of a reference's words that the prediction has, the best over references; tokens as ``token_f1``."""
    predicted = _tokens(prediction)
    return max(_recall(predicted, _tokens(reference)) for reference in references)


def _tokens(text: str) -> Counter[str]:
    return Counter(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def _f1(predicted: Counter[str], true: Counter[str]) -> float:
    if not predicted or not true:
        return float(predicted == true)
    return 2 * (predicted & true).total() / (predicted.total() + true.total())


def _recall(predicted: Counter[str], true: Counter[str]) -> float:
    return (predicted & true).total() / true.total() if true else float(not predicted)


TOKEN_F1 = mean_of(token_f1)
TOKEN_RECALL = mean_of(token_recall)
