"""Captions and reports against several references: CIDEr, BLEU, ROUGE-L.

They follow the COCO caption evaluation (pycocoevalcap 1.2) that big_vision calls, to the rounding error: the same
tokens (``pgtune.metrics.ptb``) and the same formulas, their small constants included. The references of all examples
are tokenised together, and so are all predictions. For languages without spaces between words its tokens are the text
between punctuation, as there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from rapidfuzz.distance import LCSseq

from pgtune.metrics.ptb import tokenize
from pgtune.metrics.score import Cases, FloatArray, ratio, sums

__all__ = ["BLEU", "CIDER", "ROUGE_L", "rouge_l"]

NGram: TypeAlias = tuple[str, ...]

_N = 4
_CIDER_SIGMA = 6.0
_ROUGE_BETA = 1.2
# BLEU's guards against division by nothing. They make BLEU-4 of a text without a matching 4-gram about 1e-4, not 0.
_TINY, _SMALL = 1e-15, 1e-9


def _tokenized(cases: Cases) -> tuple[list[str], list[list[str]]]:
    """The tokens of the predictions and of the references, joined by blanks."""
    flat = iter(tokenize([reference for accepted in cases.references for reference in accepted]))
    references = [[next(flat) for _ in accepted] for accepted in cases.references]
    return tokenize(cases.predictions), references


def _ngrams(tokens: Sequence[str]) -> list[Counter[NGram]]:
    """How often each run of 1, 2, 3 and 4 tokens occurs."""
    return [Counter(zip(*(tokens[start:] for start in range(size)), strict=False)) for size in range(1, _N + 1)]


def _bleu_statistics(cases: Cases) -> FloatArray:
    """(n, 10): for each example the n-grams that match (4), the n-grams there are (4), its length, the reference's."""
    predictions, references = _tokenized(cases)
    rows = np.zeros((len(cases), 2 * _N + 2))
    for row, prediction, accepted in zip(rows, predictions, references, strict=True):
        tokens = prediction.split()
        candidates = [reference.split() for reference in accepted]
        grams = [_ngrams(candidate) for candidate in candidates]
        for size, predicted in enumerate(_ngrams(tokens)):
            row[size] = sum(
                min(count, max(candidate[size][gram] for candidate in grams)) for gram, count in predicted.items()
            )
            row[_N + size] = max(0, len(tokens) - size)
        row[-2] = len(tokens)
        row[-1] = min((abs(len(candidate) - len(tokens)), len(candidate)) for candidate in candidates)[1]
    return rows


def _bleu(size: int, totals: FloatArray) -> FloatArray:
    """BLEU over n-grams up to ``size``."""
    precisions = (totals[..., :size] + _TINY) / (totals[..., _N : _N + size] + _SMALL)
    lengths = (totals[..., -2] + _TINY) / (totals[..., -1] + _SMALL)
    with np.errstate(over="ignore"):  # no token at all: the penalty is exp(-inf)
        brevity = np.exp(np.minimum(0.0, 1.0 - 1.0 / lengths))
    value: FloatArray = precisions.prod(axis=-1) ** (1.0 / size) * brevity
    return value


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """ROUGE-L of texts whose tokens are joined by blanks: F with beta 1.2.

    From the best precision and the best recall over references, which may be two different ones. A text without a token
    counts as one that has a single empty one, so that two such texts agree.
    """
    predicted = prediction.split(" ")
    accepted = [reference.split(" ") for reference in references]
    common = [LCSseq.similarity(predicted, true) for true in accepted]
    precision = max(common) / len(predicted)
    recall = max(shared / len(true) for shared, true in zip(common, accepted, strict=True))
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + _ROUGE_BETA**2) * precision * recall / (recall + _ROUGE_BETA**2 * precision)


def _rouge_statistics(cases: Cases) -> FloatArray:
    pairs = zip(*_tokenized(cases), strict=True)
    return np.array([(rouge_l(prediction, accepted), 1.0) for prediction, accepted in pairs], dtype=np.float64)


def _cider_statistics(cases: Cases) -> FloatArray:
    """(n, 2): CIDEr-D of each example, and 1.

    Weights are term counts times log(n / number of examples whose references hold the n-gram), so the scores depend on
    the whole set, and are all 0 for a set of one example or of equal references. The bootstrap keeps the weights of the
    full set.
    """
    predictions, references = _tokenized(cases)
    reference_grams = [[_ngrams(tokens.split()) for tokens in accepted] for accepted in references]
    seen_in: Counter[NGram] = Counter()
    for each in reference_grams:
        seen_in.update({gram for grams in each for counts in grams for gram in counts})
    log_n = math.log(len(cases))
    rarity = {gram: log_n - math.log(count) for gram, count in seen_in.items()}

    def weigh(grams: list[Counter[NGram]]) -> tuple[list[dict[NGram, float]], list[float], int]:
        vectors = [{gram: count * rarity.get(gram, log_n) for gram, count in counts.items()} for counts in grams]
        norms = [math.sqrt(sum(weight * weight for weight in vector.values())) for vector in vectors]
        return vectors, norms, grams[1].total()  # the length that CIDEr-D compares is the number of bigrams

    scores = []
    for prediction, accepted in zip(predictions, reference_grams, strict=True):
        vectors, norms, length = weigh(_ngrams(prediction.split()))
        total = 0.0
        for true_vectors, true_norms, true_length in map(weigh, accepted):
            cosines = 0.0
            for vector, norm, true, true_norm in zip(vectors, norms, true_vectors, true_norms, strict=True):
                if norm and true_norm:
                    # No n-gram of the prediction counts for more than it does in the reference.
                    shared = sum(
                        min(weight, true[gram]) * true[gram] for gram, weight in vector.items() if gram in true
                    )
                    cosines += shared / (norm * true_norm)
            total += math.exp(-((length - true_length) ** 2) / (2 * _CIDER_SIGMA**2)) * cosines / _N
        scores.append((10.0 * total / len(accepted), 1.0))
    return np.array(scores, dtype=np.float64)


BLEU = sums(
    _bleu_statistics,
    lambda totals: _bleu(_N, totals),
    also={
        "bleu_1": lambda totals: _bleu(1, totals),
        "bleu_2": lambda totals: _bleu(2, totals),
        "bleu_3": lambda totals: _bleu(3, totals),
    },
    decomposes=False,
)
ROUGE_L = sums(_rouge_statistics, ratio)
CIDER = sums(_cider_statistics, ratio, unit_interval=False, percent=False)
