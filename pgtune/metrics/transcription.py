"""Error rates of transcriptions: characters, words, symbols and lines. Lower is better.

Each rate is the edit distance summed over the set, divided by the length of the references summed over the set, as the
Sheet Music Transformer's evaluation does (``compute_poliphony_metrics`` in ``eval_functions.py`` of antoniorv6/SMT).
PaliGemma 2, which compares itself with it in its Table 5, says "the mean edit distance normalized by the reference
length" and prints no code; the mean of each example's rate, the other reading, is reported beside as ``mean``. With
several references the nearest one counts. Nothing is normalised: kern in another notation is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from pgtune.metrics.score import Cases, FloatArray, Metric, ratio, sums

__all__ = ["CER", "LER", "SER", "WER", "characters", "lines", "symbols", "words"]

_SYMBOL = re.compile(r"[^ \t\n]+|[\t\n]")


def characters(text: str) -> Sequence[str]:
    """Every character of the text, white space included."""
    return text


def words(text: str) -> Sequence[str]:
    """What stands between white space."""
    return text.split()


def symbols(text: str) -> Sequence[str]:
    """The symbols of **kern: what stands between blanks; a tab and a line break are symbols of their own.

    So does the Sheet Music Transformer, which puts blanks around both and splits at each blank; where blanks stand in a
    row, or beside a tab or line break, it counts empty symbols between them, which are none here.
    """
    return _SYMBOL.findall(text)


def lines(text: str) -> Sequence[str]:
    """The lines, compared whole. An empty text has none (the Sheet Music Transformer counts an empty one)."""
    return text.split("\n") if text else []


def _error_rate(split: Callable[[str], Sequence[str]]) -> Metric:
    def statistics(cases: Cases) -> FloatArray:
        rows = []
        for prediction, accepted in zip(cases.predictions, cases.references, strict=True):
            predicted = split(prediction)
            pairs = [(Levenshtein.distance(true, predicted), len(true)) for true in map(split, accepted)]
            distance, length = min(pairs, key=lambda pair: pair[0] / max(pair[1], 1))
            rows.append((distance, length, distance / max(length, 1), 1.0))
        return np.array(rows, dtype=np.float64)

    mean = {"mean": lambda totals: ratio(totals, 2, 3)}
    return sums(statistics, ratio, also=mean, unit_interval=False, higher_is_better=False)


CER = _error_rate(characters)
WER = _error_rate(words)
SER = _error_rate(symbols)
LER = _error_rate(lines)
