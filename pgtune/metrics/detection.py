"""Objects found in pictures: COCO's mean average precision over ``<loc>`` text.

The protocol is that of pycocotools 2.0 (``COCOeval`` with "bbox"): the mean, over the labels that occur in the
references and over intersection-over-union thresholds of 0.50 to 0.95, of the precision at 101 recalls, at most 100
boxes a picture and label. A prediction is text of the form that models write, `pgtune.locations.decode_detections`.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pgtune.errors import DataError
from pgtune.locations import Box, Detection, box_to_pixels, decode_detections
from pgtune.metrics.packages import require
from pgtune.metrics.score import Cases, FloatArray, IntArray, Measured, Metric

__all__ = ["MAP"]

# A virtual picture where no size is known. The overlap of two boxes does not depend on it.
_SIDE = 1024
# Fewer than for sums: each costs a pass over all boxes.
_RESAMPLES = 300
_MOST_BOXES = 100
_NOTHING = ("", "nothing", "none", "no objects")
"""References that say that there is no object; any other text without a box is no reference for this metric."""


def _measure(cases: Cases, cluster: IntArray, count: int) -> Measured:
    """COCO's mAP, 0 to 1; each example is a picture.

    ``scores`` of an example are its predicted boxes' confidences in the order of the text; without them all boxes of it
    count alike (1.0) and stand in the order of the text. Labels are compared letter by letter. Further values: ``ap50``
    and ``ap75`` at one threshold, ``malformed`` (pieces of the predictions that are no box; they are left out) and
    ``unknown`` (boxes whose label is in no reference; COCO leaves them out); where the sizes of all pictures are known,
    ``ap_small``, ``ap_medium`` and ``ap_large`` (boxes below 32 x 32, below 96 x 96, and larger, in pixels). A set
    without any object in its references has 1 where nothing is predicted, else 0.

    The bootstrap draws pictures (or clusters of them), with the boxes' matches as they are.
    """
    true = [_true_boxes(cases, place) for place in range(len(cases))]
    predicted, malformed = [], 0
    for place, text in enumerate(cases.predictions):
        found = decode_detections(text)
        malformed += found.malformed
        given = cases.boxes[place]
        if given is None:
            predicted.append((found.found, _scores(cases, place, len(found.found))))
        else:
            objects = tuple(Detection(Box(*one["box"]), one["label"]) for one in given)
            predicted.append((objects, [float(one["score"]) for one in given]))
    labels = sorted({label for objects in true for _, label in objects})
    known = set(labels)
    unknown = sum(label not in known for objects, _ in predicted for _, label in objects)
    also = {"malformed": float(malformed), "unknown": float(unknown)}
    if not labels:
        empty = float(not any(objects for objects, _ in predicted))
        return Measured(empty, also, None, lambda weights: np.full(len(weights), empty))
    sizes = [size or (_SIDE, _SIDE) for size in cases.sizes]
    evaluation = _evaluate(true, predicted, sizes, labels)
    precision = evaluation.eval["precision"]  # thresholds, recalls, labels, areas, numbers of boxes
    value = _mean(precision[:, :, :, 0, -1])
    also |= {"ap50": _mean(precision[0, :, :, 0, -1]), "ap75": _mean(precision[5, :, :, 0, -1])}
    if all(size is not None for size in cases.sizes):
        for place, name in enumerate(("ap_small", "ap_medium", "ap_large"), start=1):
            if (precision[:, :, :, place, -1] > -1).any():
                also[name] = _mean(precision[:, :, :, place, -1])
    matches = _Matches(evaluation, len(cases), len(labels))
    return Measured(value, also, None, lambda weights: matches.values(weights[:, cluster]), resamples=_RESAMPLES)


def _mean(precision: FloatArray) -> float:
    """Over all that is defined; COCO marks the rest with -1."""
    return float(precision[precision > -1].mean())


def _true_boxes(cases: Cases, place: int) -> tuple[Detection, ...]:
    accepted = cases.references[place]
    if len(accepted) != 1:
        raise DataError(f"{cases.where(place)}: map compares with one reference, found {len(accepted)}")
    found = decode_detections(accepted[0])
    if found.malformed or (not found.found and accepted[0].strip().lower() not in _NOTHING):
        raise DataError(f"{cases.where(place)}: the reference is not '<loc....> x 4 label ; ...': {accepted[0][:60]!r}")
    return found.found


def _scores(cases: Cases, place: int, count: int) -> Sequence[float]:
    given = cases.scores[place]
    if given is None:
        return [1.0] * count
    if len(given) != count:
        raise DataError(f"{cases.where(place)}: {len(given)} scores for {count} predicted boxes")
    if not all(math.isfinite(score) for score in given):
        raise DataError(f"{cases.where(place)}: a score is not finite: {list(given)[:8]}")
    return given


def _evaluate(
    true: Sequence[Sequence[Detection]],
    predicted: Sequence[tuple[Sequence[Detection], Sequence[float]]],
    sizes: Sequence[tuple[int, int]],
    labels: Sequence[str],
) -> Any:
    """pycocotools' evaluation, accumulated."""
    coco_module = require("pycocotools.coco", "map", "detection")
    eval_module = require("pycocotools.cocoeval", "map", "detection")
    category = {label: number for number, label in enumerate(labels, start=1)}

    def entry(box: Sequence[float], size: tuple[int, int]) -> dict[str, Any]:
        ymin, xmin, ymax, xmax = box
        x0, y0, x1, y1 = box_to_pixels((ymin, xmin, ymax, xmax), *size)
        return {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}

    objects: list[dict[str, Any]] = []
    for picture, (found, size) in enumerate(zip(true, sizes, strict=True), start=1):
        for box, label in found:
            more = {"id": len(objects) + 1, "image_id": picture, "category_id": category[label], "iscrowd": 0}
            objects.append(entry(box, size) | more)
    boxes: list[dict[str, Any]] = []
    for picture, ((found, scores), size) in enumerate(zip(predicted, sizes, strict=True), start=1):
        for (box, label), score in zip(found, scores, strict=True):
            if label in category:
                more = {"id": len(boxes) + 1, "image_id": picture, "category_id": category[label], "iscrowd": 0}
                boxes.append(entry(box, size) | more | {"score": score})
    pictures = [{"id": number} for number in range(1, len(true) + 1)]
    categories = [{"id": number, "name": label} for label, number in category.items()]
    both = []
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
        for annotations in (objects, boxes):
            both.append(coco_module.COCO())
            both[-1].dataset = {"images": pictures, "categories": categories, "annotations": annotations}
            both[-1].createIndex()
        evaluation = eval_module.COCOeval(*both, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


class _Matches:
    """pycocotools' matches of every label, to average again with other numbers of each picture."""

    def __init__(self, evaluation: Any, pictures: int, labels: int) -> None:
        self.recalls = evaluation.params.recThrs
        self.labels: list[tuple[FloatArray, IntArray, FloatArray]] = []
        areas = len(evaluation.params.areaRng)
        for label in range(labels):
            first = label * areas * pictures
            found = evaluation.evalImgs[first : first + pictures]  # those of the area "all"
            true = np.array([len(one["gtIds"]) if one else 0 for one in found], dtype=np.float64)
            scores = np.concatenate([one["dtScores"][:_MOST_BOXES] if one else [] for one in found])
            order = np.argsort(-scores, kind="mergesort")
            right = [one["dtMatches"][:, :_MOST_BOXES] > 0 for one in found if one]
            owner = [np.full(min(len(one["dtScores"]), _MOST_BOXES), place) for place, one in enumerate(found) if one]
            self.labels.append((
                np.concatenate(right, axis=1)[:, order].astype(np.float64),
                np.concatenate(owner)[order].astype(np.intp),
                true,
            ))  # fmt: skip

    def values(self, weights: FloatArray) -> FloatArray:
        """mAP for each row of ``weights`` (resamples, pictures); a label that a resample lost is left out of it."""
        total, there = np.zeros(len(weights)), np.zeros(len(weights))
        for right, owner, true in self.labels:
            for place, row in enumerate(weights):
                objects = float(row @ true)
                if objects:
                    total[place] += self._average_precision(right, row[owner], objects)
                    there[place] += 1
        mean: FloatArray = total / np.maximum(there, 1)
        return mean

    def _average_precision(self, right: FloatArray, weight: FloatArray, objects: float) -> float:
        """Of one label, the mean over thresholds; ``right`` is (thresholds, boxes), the highest score first."""
        if not len(weight):
            return 0.0
        hits = np.cumsum(right * weight, axis=1)
        precision = hits / (np.cumsum(weight) + np.spacing(1))
        # At each recall the best precision that is reached there or later.
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        total = 0.0
        for reached, best in zip(hits / objects, precision, strict=True):
            place = np.searchsorted(reached, self.recalls, side="left")
            total += float(best[place[place < len(best)]].sum())
        return total / len(self.recalls) / len(right)


MAP = Metric(_measure, counts=frozenset({"malformed", "unknown"}))
