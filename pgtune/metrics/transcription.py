"""Error rates of transcriptions: characters, words, symbols and lines. Lower is better.

Each rate is the edit distance summed over the set, divided by the length of the references summed over the set (the
mean distance normalised by the mean length), as the field's evaluators of sheet music compute it: PaliGemma 2's Table 5
and the Sheet Music Transformer it is compared with. With several references the nearest one counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from pgtune.metrics.edit import edit_distance
from pgtune.metrics.score import Metric, ratio_of

__all__ = ["CER", "LER", "SER", "WER", "characters", "lines", "symbols", "words"]

_SYMBOL = re.compile(r"[^ \t\n]+|[\t\n]")


def characters(text: str) -> Sequence[str]:
    """Every character of the text, white space included."""
    return text


def words(text: str) -> Sequence[str]:
    """What stands between white space."""
    return text.split()


def symbols(text: str) -> Sequence[str]:
    """The symbols of **kern: what stands between spaces; a tab and a line break are symbols of their own."""
    return _SYMBOL.findall(text)


def lines(text: str) -> Sequence[str]:
    """The lines, compared whole. An empty text has none."""
    return text.split("\n") if text else []


def _error_rate(split: Callable[[str], Sequence[str]]) -> Metric:
    def counts(prediction: str, references: Sequence[str]) -> tuple[float, float]:
        predicted = split(prediction)
        pairs = [(edit_distance(true, predicted), len(true)) for true in map(split, references)]
        distance, length = min(pairs, key=lambda pair: pair[0] / max(pair[1], 1))
        return float(distance), float(length)

    return ratio_of(counts)


CER = _error_rate(characters)
WER = _error_rate(words)
SER = _error_rate(symbols)
LER = _error_rate(lines)
