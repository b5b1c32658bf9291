"""Tables read off charts: Relative Mapping Similarity (RMS) of DePlot.

Source: "DePlot: One-shot visual language reasoning by plot-to-table translation" (Liu et al. 2023, section 3.2) and its
code, ``table_datapoints_precision_recall`` in ``deplot/metrics.py`` of google-research/google-research, whose rules are
kept here: a linearised table is lower-cased and cut into lines (``<0x0A>`` ends one too) and, at `` | ``, into cells,
which are stripped; a first line ``title | ...`` is the title; the next holds the column heads. Each cell below the
heads and right of the first column is a mapping from "row head column head" to the cell; of equal keys the last one
counts; the title is one more.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from pgtune.metrics.packages import require
from pgtune.metrics.score import Cases, FloatArray, ratio, sums

__all__ = ["RMS", "rms"]

_NEW_LINE = "<0x0a>"  # how DePlot's tokenizer writes the end of a row, in lower case

_TEXT_THRESHOLD = 0.5
_NUMBER_THRESHOLD = 0.1


def rms(prediction: str, references: Sequence[str]) -> tuple[float, float, float]:
    """(precision, recall, F1) of a linearised table, each 0 to 1: the best F1 over references.

    Two texts are as alike as 1 - edit distance / longer length, 0 where that quotient is above 0.5. Keys are paired so
    that the sum of the keys' likenesses is the highest. A pair scores the likeness of its keys times that of its
    values: for a number ("5%" is 0.05) and a reference that is one other than 0, 1 minus the relative error, 0 from 10
    % on; else 1 for the same text and the likeness of the texts otherwise. Precision divides the sum by the number of
    predicted mappings, recall by that of true ones. The prediction is also read with rows and columns exchanged, and
    the better reading counts. Two tables without a mapping agree; one without has either no precision or no recall.
    """
    readings = [_mappings(prediction, transposed=transposed) for transposed in (True, False)]
    found = [
        _compare(list(_mappings(reference).items()), list(reading.items()))
        for reading in readings
        for reference in references
    ]
    return max(found, key=lambda each: each[2])


def _mappings(text: str, *, transposed: bool = False) -> dict[str, str]:
    lines = text.lower().replace(_NEW_LINE, "\n").splitlines()
    found: dict[str, str] = {}
    if lines and lines[0].startswith("title |"):
        found["title"] = lines.pop(0).removeprefix("title |").strip()
    rows = [[cell.strip() for cell in line.split(" | ")] for line in lines]
    if transposed:
        rows = [list(column) for column in itertools.zip_longest(*rows, fillvalue="")]
    if len(rows) > 1 and len(rows[0]) > 1:
        for head, *cells in rows[1:]:
            found |= {f"{head} {name}": cell for name, cell in zip(rows[0][1:], cells, strict=False)}
    return found


def _compare(true: list[tuple[str, str]], predicted: list[tuple[str, str]]) -> tuple[float, float, float]:
    if not true and not predicted:
        return 1.0, 1.0, 1.0
    if not true or not predicted:
        return float(not predicted), float(not true), 0.0
    alike = np.array([[_likeness(key, other) for other, _ in predicted] for key, _ in true])
    # scipy's own choice among equally good pairings is part of the published number.
    pairs = zip(*require("scipy.optimize", "rms", "charts").linear_sum_assignment(1 - alike), strict=True)
    total = sum(
        float(alike[row, column]) * _value_likeness(true[row][1], predicted[column][1]) for row, column in pairs
    )
    if total == 0:
        return 0.0, 0.0, 0.0
    precision, recall = total / len(predicted), total / len(true)
    return precision, recall, 2 * precision * recall / (precision + recall)


def _likeness(one: str, other: str) -> float:
    longer = max(len(one), len(other))
    # Two empty texts, at which the source divides by 0, are the same.
    distance = Levenshtein.distance(one, other) / longer if longer else 0.0
    return 1.0 - distance if distance <= _TEXT_THRESHOLD else 0.0


def _value_likeness(true: str, predicted: str) -> float:
    true_number, number = _number(true), _number(predicted)
    if number is not None and true_number:
        error = abs((true_number - number) / true_number)
        return 1.0 - error if error < _NUMBER_THRESHOLD else 0.0
    return 1.0 if true == predicted else _likeness(true, predicted)


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None


def _statistics(cases: Cases) -> FloatArray:
    pairs = zip(cases.predictions, cases.references, strict=True)
    scores = [rms(prediction, accepted) for prediction, accepted in pairs]
    return np.array([(f1, 1.0, precision, recall) for precision, recall, f1 in scores], dtype=np.float64)


RMS = sums(
    _statistics,
    ratio,
    also={"precision": lambda totals: ratio(totals, 2), "recall": lambda totals: ratio(totals, 3)},
)
