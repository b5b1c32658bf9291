"""Metrics: pure functions from predictions and references to a value with a confidence interval.

One file a family: ``exact``, ``vqa``, ``documents``, ``radiology``, ``tables``, ``transcription``, ``overlap``,
``captions``, ``detection``, ``omr``. A metric is found by its name in ``pgtune.names.METRICS``. Nothing here knows of
images, tokens or models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pgtune.errors import DataError, RecipeError
from pgtune.metrics.file import read_predictions
from pgtune.metrics.find import load_metric
from pgtune.metrics.score import Cases, Metric, Score

__all__ = [
    "Metric",
    "Score",
    "compute",
    "load_metric",
    "score_file",
    "trivial_answer",
]


def compute(
    name: str,
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    parts: Sequence[str] | None = None,
    question_types: Sequence[str] | None = None,
    clusters: Sequence[Hashable] | None = None,
    scores: Sequence[Sequence[float] | None] | None = None,
    sizes: Sequence[tuple[int, int] | None] | None = None,
    boxes: Sequence[Sequence[Mapping[str, Any]] | None] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    where: Callable[[int], str] = lambda index: f"example {index + 1}",
) -> Score:
    """The metric ``name`` over examples: ``references[i]`` are the accepted answers, one or more, of example i.

    Args:
        parts, question_types: of each example, "" for none. The score holds those of each part and type, and some
            metrics are the mean of theirs.
        clusters: what says which examples belong together (the same picture, the same patient); the confidence
            intervals take it into account. Left out, each example stands for itself.
        scores: for ``map``: the confidences of each example's predicted boxes, None where there are none.
        sizes: for ``map``: width and height of each example's picture in pixels.
        boxes: for ``map``: what was read from each prediction before, with keys ``box`` ([ymin, xmin, ymax, xmax] in
            fractions), ``label`` and ``score``; it goes before the text and ``scores``. None: read it from the text.
        confidence: the level of the intervals, between 0 and 1.
        seed: drives the bootstrap only.
        where: names an example in a message.

    Raises:
        RecipeError: an unknown name, or a package that the metric needs is not installed.
        DataError: no example, lists of different lengths, or an example whose references are none, too few for the
            metric, or one text instead of a list of texts, or that lacks the part or question type the metric needs.
    """
    metric = load_metric(name)
    if not 0 < confidence < 1:
        raise RecipeError(f"confidence: {confidence} is not between 0 and 1")
    n = len(predictions)
    if n != len(references):
        raise DataError(f"{name}: {n} predictions, but references for {len(references)} examples")
    if not n:
        raise DataError(f"{name}: there is no example to score")
    for index, accepted in enumerate(references):
        if isinstance(accepted, str):
            raise DataError(f"{where(index)}: references must be a list of texts, found the text {accepted[:40]!r}")
        if len(accepted) < metric.min_references:
            needed = "a reference" if metric.min_references == 1 else f"{metric.min_references} references"
            raise DataError(f"{where(index)}: {name} needs at least {needed}, found {len(accepted)}")
    cases = Cases(
        predictions=predictions,
        references=references,
        parts=[""] * n if parts is None else parts,
        types=[""] * n if question_types is None else question_types,
        clusters=range(n) if clusters is None else clusters,
        scores=[None] * n if scores is None else scores,
        sizes=[None] * n if sizes is None else sizes,
        boxes=[None] * n if boxes is None else boxes,
        where=where,
    )
    for key in ("parts", "types", "clusters", "scores", "sizes", "boxes"):
        if len(getattr(cases, key)) != n:
            raise DataError(f"{name}: {n} predictions, but {key} for {len(getattr(cases, key))} examples")
    _check_labels(name, metric, cases)
    score = metric.score(cases, confidence=confidence, seed=seed)
    for found, labels in ((score.parts, cases.parts), (score.types, cases.types)):
        if any(labels):
            for label, chosen in cases.grouped(labels).items():
                found[label or "(none)"] = metric.score(cases.select(chosen), confidence=confidence, seed=seed)
    return score


def _check_labels(name: str, metric: Metric, cases: Cases) -> None:
    for key, averages, labels in (("part", "parts", cases.parts), ("question_type", "types", cases.types)):
        # A metric that is the mean over parts does without, but not for some examples only.
        if metric.needs == key or (metric.averages == averages and any(labels)):
            for index, label in enumerate(labels):
                if not label:
                    raise DataError(f"{cases.where(index)}: {name} needs the {key} of each example, found none")


def score_file(metrics: Sequence[str], path: str | Path, *, confidence: float = 0.95, seed: int = 0) -> dict[str, Any]:
    """The metrics over a JSON Lines file of {"prediction": ..., "references": [...]} rows.

    Rows may also have ``part``, ``question_type``, ``cluster`` (a number or text that examples which belong together
    share), and for ``map`` ``score`` (one number for each predicted box) or ``boxes`` (as `pgtune.predict` writes them)
    and ``size`` ([width, height] of the picture in pixels).

    Returns:
        n, confidence, and scores: name -> value, low, high, n, clusters, average, and also, parts and types where there
        are any.

    Raises:
        RecipeError: an unknown metric.
        DataError: whatever is wrong in the file, naming file and row.
    """
    for name in metrics:
        load_metric(name)
    read = read_predictions(path)
    scores = {
        name: compute(
            name,
            read.predictions,
            read.references,
            parts=read.parts,
            question_types=read.question_types,
            clusters=read.clusters,
            scores=read.scores,
            sizes=read.sizes,
            boxes=read.boxes,
            confidence=confidence,
            seed=seed,
            where=lambda index: f"{Path(path).name}, row {read.rows[index]}",
        )
        for name in metrics
    }
    documents = {name: score.document() for name, score in scores.items()}
    return {"n": len(read.rows), "confidence": confidence, "scores": documents}


def trivial_answer(references: Sequence[Sequence[str]]) -> str:
    """The answer to give without looking: the most frequent first reference, of equally frequent ones the first seen.

    Raises DataError where there is no example.
    """
    if not references:
        raise DataError("there is no example to take the most frequent answer from")
    return Counter(accepted[0] for accepted in references).most_common(1)[0][0]
