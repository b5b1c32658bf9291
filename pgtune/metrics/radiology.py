"""Questions about radiographs: VQA-RAD, SLAKE, PathVQA.

The papers score closed questions (yes or no, this or that) by accuracy and open ones by accuracy (MEVF and the
classifiers after it) or by the recall of the answer's words (LLaVA-Med); PaliGemma has no such transfer. Here a text is
normalised as LLaVA-Med does, which is the clean-up of VQAv2 applied to every text (``normalise_vqav2``: lower case,
punctuation and the articles out, number words to digits).

Source: ``llava/eval/run_eval.py`` and ``eval_metrics`` of microsoft/LLaVA-Med at its first release. It differs in one
point on purpose: it calls a closed answer right where it holds the reference anywhere and the words yes or no, which is
made for chatty answers ("no" is in "normal") and fails every closed question that is not yes or no.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from pgtune.errors import DataError
from pgtune.metrics.score import Cases, FloatArray, ratio, sums
from pgtune.metrics.vqa import normalise_vqav2

__all__ = ["MEDVQA", "medvqa", "open_overlap"]

OPEN, CLOSED = "open", "closed"


def medvqa(prediction: str, references: Sequence[str]) -> float:
    """1 where the prediction is one of the references after normalisation: open and closed questions alike.

    The value over a set is the share of all questions answered right, the "overall" of the papers; each part's is its
    accuracy. Of the open questions ``open_recall`` and ``open_f1`` are reported beside, see `open_overlap`. Each
    example needs the part "open" or "closed".
    """
    return float(normalise_vqav2(prediction) in map(normalise_vqav2, references))


def open_overlap(prediction: str, reference: str) -> tuple[float, float]:
    """(recall, F1) of the words of an open answer after normalisation, as LLaVA-Med counts them.

    A word that both have counts as often as the prediction has it; a word that only one has as often as that one has
    it. Both are 0 where one of the texts is empty.
    """
    predicted = Counter(normalise_vqav2(prediction).split())
    true = Counter(normalise_vqav2(reference).split())
    shared = sum(count for word, count in predicted.items() if word in true)
    if not shared:
        return 0.0, 0.0
    precision = shared / predicted.total()
    recall = shared / (shared + sum(count for word, count in true.items() if word not in predicted))
    return recall, 2 * precision * recall / (precision + recall)


def _statistics(cases: Cases) -> FloatArray:
    """(n, 5): right, 1, recall and F1 of an open question (the best over references), whether it is open."""
    rows = []
    for place, (prediction, accepted, part) in enumerate(
        zip(cases.predictions, cases.references, cases.parts, strict=True)
    ):
        if part not in (OPEN, CLOSED):
            raise DataError(f"{cases.where(place)}: medvqa needs the part {OPEN!r} or {CLOSED!r}, found {part!r}")
        overlaps = [open_overlap(prediction, reference) for reference in accepted] if part == OPEN else [(0.0, 0.0)]
        recall, f1 = (max(column) for column in zip(*overlaps, strict=True))
        rows.append((medvqa(prediction, accepted), 1.0, recall, f1, float(part == OPEN)))
    return np.array(rows, dtype=np.float64)


def _of_open(column: int, totals: FloatArray) -> FloatArray:
    return ratio(totals, column, 4) if totals[4] else np.float64("nan")  # type: ignore[return-value]


MEDVQA = sums(
    _statistics,
    ratio,
    also={"open_recall": lambda totals: _of_open(2, totals), "open_f1": lambda totals: _of_open(3, totals)},
    needs="part",
)
