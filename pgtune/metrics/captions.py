"""Captions and reports against several references: CIDEr, BLEU-4, ROUGE-L.

They follow the COCO caption evaluation (pycocoevalcap) that big_vision calls. Its tokenizer is a Java program;
``caption_tokens`` follows its rules for English in Python (lower case, clitics split off, punctuation dropped). The two
were compared on 627 captions, questions and reports and split all alike; what differs are rare forms (web
addresses, "gonna", abbreviations other than "Dr." and "e.g."). Given the same tokens the values are pycocoevalcap's.
Languages without spaces between words need text that was split before.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from pgtune.metrics.edit import common_subsequence
from pgtune.metrics.score import FloatArray, Metric, References, mean_of

__all__ = ["BLEU4", "CIDER", "ROUGE_L", "caption_tokens", "rouge_l"]

NGram: TypeAlias = tuple[str, ...]

_N = 4
_CIDER_SIGMA = 6.0
_ROUGE_BETA = 1.2

_NOT = re.compile(r"n['’]t\b")
_CLITIC = re.compile(r"['’](s|re|ve|ll|d|m)\b")
_CANNOT = re.compile(r"\bcannot\b")
_TOKEN = re.compile(
    r"""
      n't | '(?:s|re|ve|ll|d|m)\b               # clitics, split off above
    | <[^<>\s]+>                                # tags and location tokens
    | (?:[^\W\d_]\.){2,} | (?:dr|mrs?|ms|vs)\. # u.s.  dr.
    | (?:(?<!\S)[-+])?\d+(?:[.,:/]\d+)+ | \.\d+ # 3.5  -1,000  10:30  1/2  .5
    | (?<!\S)[-+]\d+\b | [#@][^\W\d]\w*        # -3  #tag
    | \w+(?:['’/-]\w+)*                        # words, with hyphens, slashes and apostrophes inside
    | [!?]{2,}                                 # kept, unlike a single one
    | \.{3} | -- | [^\w\s]                     # other signs
    """,
    re.VERBOSE,
)
_DROPPED = frozenset("'\"`‘’“”.?!,:;-–—…") | {"...", "--"}
# The Java tokenizer's names for brackets; meant to be dropped too, but its list is upper case and the text is not.
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}


def caption_tokens(text: str) -> list[str]:
    """The lower-case words and signs of a caption, without quotes, dashes, commas and single sentence marks."""
    text = _CANNOT.sub("can not", text.lower())
    text = _CLITIC.sub(r" '\1", _NOT.sub(" n't", text))
    return [_BRACKETS.get(token, token) for token in _TOKEN.findall(text) if token not in _DROPPED]


def _ngrams(tokens: Sequence[str]) -> list[Counter[NGram]]:
    """How often each run of 1, 2, 3 and 4 tokens occurs."""
    return [
        Counter(tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1))
        for size in range(1, _N + 1)
    ]


def _bleu_statistics(predictions: Sequence[str], references: References) -> FloatArray:
    """(n, 10): for each example the n-grams that match (4), the n-grams there are (4), its length, the reference's."""
    rows = np.zeros((len(predictions), 2 * _N + 2))
    for row, prediction, accepted in zip(rows, predictions, references, strict=True):
        tokens = caption_tokens(prediction)
        candidates = [caption_tokens(reference) for reference in accepted]
        grams = [_ngrams(candidate) for candidate in candidates]
        for size, predicted in enumerate(_ngrams(tokens)):
            allowed: Counter[NGram] = Counter()
            for candidate_grams in grams:
                allowed |= candidate_grams[size]
            row[size] = (predicted & allowed).total()
            row[_N + size] = predicted.total()
        row[-2] = len(tokens)
        row[-1] = min((abs(len(candidate) - len(tokens)), len(candidate)) for candidate in candidates)[1]
    return rows


def _bleu(sums: FloatArray) -> FloatArray:
    matches, total = sums[..., :_N], sums[..., _N : 2 * _N]
    # Without any match of some length BLEU is 0; the clamps only keep the logarithm quiet there.
    defined = (matches > 0).all(axis=-1)
    precision = np.exp(np.log(np.maximum(matches, 1e-300) / np.maximum(total, 1.0)).mean(axis=-1))
    brevity = np.exp(np.minimum(0.0, 1.0 - sums[..., -1] / np.maximum(sums[..., -2], 1.0)))
    value: FloatArray = np.where(defined, precision * brevity, 0.0)
    return value


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """ROUGE-L, F with beta 1.2, from the best precision and the best recall over references (as pycocoevalcap)."""
    predicted = caption_tokens(prediction)
    accepted = [caption_tokens(reference) for reference in references]
    common = [common_subsequence(predicted, true) for true in accepted]
    precision = max(common) / max(len(predicted), 1)
    recall = max(shared / max(len(true), 1) for shared, true in zip(common, accepted, strict=True))
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + _ROUGE_BETA**2) * precision * recall / (recall + _ROUGE_BETA**2 * precision)


def _cider_statistics(predictions: Sequence[str], references: References) -> FloatArray:
    """(n, 2): CIDEr-D of each example, and 1.

    Weights are term counts times log(n / number of examples whose references hold the n-gram), so the scores depend on
    the whole set, and are all 0 for a set of one example or of equal references. The bootstrap keeps the weights of the
    full set.
    """
    reference_tokens = [[caption_tokens(reference) for reference in accepted] for accepted in references]
    reference_grams = [[_ngrams(tokens) for tokens in accepted] for accepted in reference_tokens]
    seen_in: Counter[NGram] = Counter()
    for each in reference_grams:
        seen_in.update({gram for grams in each for counts in grams for gram in counts})
    log_n = math.log(len(predictions))

    def weigh(grams: list[Counter[NGram]]) -> list[dict[NGram, float]]:
        return [
            {gram: count * (log_n - math.log(max(1, seen_in[gram]))) for gram, count in counts.items()}
            for counts in grams
        ]

    scores = []
    for prediction, accepted, accepted_grams in zip(predictions, reference_tokens, reference_grams, strict=True):
        tokens = caption_tokens(prediction)
        predicted = weigh(_ngrams(tokens))
        total = 0.0
        for true_tokens, true_grams in zip(accepted, accepted_grams, strict=True):
            penalty = math.exp(-((len(tokens) - len(true_tokens)) ** 2) / (2 * _CIDER_SIGMA**2))
            total += penalty * sum(map(_clipped_cosine, predicted, weigh(true_grams))) / _N
        scores.append((10.0 * total / len(accepted), 1.0))
    return np.array(scores, dtype=np.float64)


def _clipped_cosine(predicted: dict[NGram, float], true: dict[NGram, float]) -> float:
    """Cosine of two sparse vectors where no n-gram of the prediction counts for more than it does in the reference."""
    norms = math.hypot(*predicted.values()) * math.hypot(*true.values())
    if norms == 0:
        return 0.0
    return sum(min(weight, true[gram]) * true[gram] for gram, weight in predicted.items() if gram in true) / norms


def _mean(sums: FloatArray) -> FloatArray:
    mean: FloatArray = sums[..., 0] / sums[..., 1]
    return mean


BLEU4 = Metric(_bleu_statistics, _bleu, decomposes=False)
ROUGE_L = mean_of(rouge_l)
CIDER = Metric(_cider_statistics, _mean, unit_interval=False)
