"""Which scored rows the page shows, and in which order: the worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pgtune.detection import iou
from pgtune.locations import decode_detections
from pgtune.metrics import load_metric

__all__ = ["BOX_F1", "Case", "Judge", "box_f1", "choose", "ranked"]

BOX_F1 = "box F1"
_OVERLAP = 0.5


@dataclass(frozen=True)
class Case:
    """A scored row, its number in the file from 1, and how it is judged."""

    number: int
    row: Mapping[str, Any]
    score: float | None
    right: bool | None
    """None where the metric knows no line between right and wrong."""


@dataclass(frozen=True)
class Judge:
    """What the examples are ranked by: what it is called, and when an answer is right in words, "" for never."""

    name: str
    right: str


def ranked(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> tuple[list[Case], Judge | None]:
    """All rows, worst first, and what says so: the first metric if it scores single rows; for boxes their F1, since
    mAP does not; else another metric of the run; None if there is nothing.

    Of rows with one score the surest of the wrong come first, and the surest of the right last. Without a score the
    least sure come first.
    """
    scored = [name for name in metrics if rows and all(name in row["scores"] for row in rows)]
    name = scored[0] if scored else None
    if rows and all(row.get("boxes") is not None for row in rows) and metrics[0] not in scored:
        scores = [box_f1(row) for row in rows]
        cases = [
            Case(number, row, score, score == 1)
            for number, (row, score) in enumerate(zip(rows, scores, strict=True), 1)
        ]  # fmt: skip
        return sorted(cases, key=lambda case: _place(case, 1)), Judge(BOX_F1, "every box found, and none besides")
    if name is None:
        cases = [Case(number, row, None, None) for number, row in enumerate(rows, 1)]
        return sorted(cases, key=lambda case: (case.row["mean_log_probability"], case.number)), None
    metric = load_metric(name)
    cases = []
    for number, row in enumerate(rows, 1):
        score = row["scores"][name]
        cases.append(Case(number, row, score, metric.is_right(score)))
    better = metric.higher_is_better
    line = "a score of one half or more" if better else "an answer without any error"
    judge = Judge(name, "" if cases[0].right is None else line)
    return sorted(cases, key=lambda case: _place(case, 1 if better else -1)), judge


def _place(case: Case, sign: int) -> tuple[float, float, int]:
    assert case.score is not None
    sure = float(case.row["mean_log_probability"])
    return sign * case.score, sure if case.right else -sure, case.number


def box_f1(row: Mapping[str, Any]) -> float:
    """F1 of a row's boxes: one is found where an answered one of the same label overlaps it by half or more.

    Each counts once, the best pairs first. 1 where there is no box in the truth and none in the answer.
    """
    truth = decode_detections(row["references"][0]).found
    said = row["boxes"]
    pairs = sorted(
        (-iou(one.box, other["box"]), i, j)
        for i, one in enumerate(truth)
        for j, other in enumerate(said)
        if one.label == other["label"]
    )
    found: set[int] = set()
    used: set[int] = set()
    for negative, i, j in pairs:
        if -negative >= _OVERLAP and i not in found and j not in used:
            found.add(i)
            used.add(j)
    return 2 * len(found) / (len(truth) + len(said)) if truth or said else 1.0


def choose(cases: Sequence[Case], limit: int) -> tuple[list[Case], int]:
    """At most ``limit`` of the ranked cases, in their order, and how many of them are simply the worst.

    Three quarters are the worst; the rest is taken from the others at even distances, so that right answers can be
    looked at too.
    """
    if len(cases) <= limit:
        return list(cases), len(cases)
    sample = limit // 4
    worst = limit - sample
    others = cases[worst:]
    return [*cases[:worst], *(others[(2 * place + 1) * len(others) // (2 * sample)] for place in range(sample))], worst
