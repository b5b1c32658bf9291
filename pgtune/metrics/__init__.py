"""Metrics: pure functions from predictions and references to a value with a confidence interval.

One file a family: ``exact``, ``vqa``, ``documents``, ``transcription``, ``overlap``, ``captions``. A metric is found by
its name in ``pgtune.names.METRICS``. Nothing here knows of images, tokens or models.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

from pgtune.errors import DataError, RecipeError
from pgtune.metrics.file import read_predictions
from pgtune.metrics.score import Metric, Score
from pgtune.names import METRICS, unknown_name

__all__ = ["FileScore", "Metric", "Score", "compute", "load_metric", "score_file", "trivial_answer"]


class FileScore(TypedDict):
    """What ``score_file`` reports; ``low`` and ``high`` bound ``value`` at the level ``confidence``."""

    metric: str
    value: float
    low: float
    high: float
    n: int
    confidence: float
    higher_is_better: bool


def load_metric(name: str) -> Metric:
    """The metric of that name; RecipeError with the nearest name where there is none."""
    if name not in METRICS:
        raise RecipeError(unknown_name("metric", name, METRICS))
    module, attribute = METRICS[name].split(":")
    metric = getattr(importlib.import_module(module), attribute)
    assert isinstance(metric, Metric), METRICS[name]
    return metric


def compute(
    name: str,
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    confidence: float = 0.95,
    seed: int = 0,
    where: Callable[[int], str] = lambda index: f"example {index + 1}",
) -> Score:
    """The metric ``name`` over examples: ``references[i]`` are the accepted answers, one or more, of example i.

    ``confidence`` lies between 0 and 1; ``seed`` drives the bootstrap only; ``where`` names an example in a message.
    Raises RecipeError for an unknown name, DataError for no example, lengths that differ, or an example whose
    references are none, too few for the metric, or one text instead of a list of texts.
    """
    metric = load_metric(name)
    if not 0 < confidence < 1:
        raise RecipeError(f"confidence: {confidence} is not between 0 and 1")
    if len(predictions) != len(references):
        raise DataError(f"{name}: {len(predictions)} predictions, but references for {len(references)} examples")
    if not predictions:
        raise DataError(f"{name}: there is no example to score")
    for index, accepted in enumerate(references):
        if isinstance(accepted, str):
            raise DataError(f"{where(index)}: references must be a list of texts, found the text {accepted[:40]!r}")
        if len(accepted) < metric.min_references:
            needed = "a reference" if metric.min_references == 1 else f"{metric.min_references} references"
            raise DataError(f"{where(index)}: {name} needs at least {needed}, found {len(accepted)}")
    return metric.score(predictions, references, confidence=confidence, seed=seed)


def score_file(metric: str, path: str | Path, *, confidence: float = 0.95, seed: int = 0) -> FileScore:
    """The metric over a JSON Lines file of {"prediction": ..., "references": [...]} rows.

    Raises RecipeError for an unknown metric, and DataError, naming file and row, for whatever is wrong in the file.
    """
    load_metric(metric)
    read = read_predictions(path)
    score = compute(
        metric,
        read.predictions,
        read.references,
        confidence=confidence,
        seed=seed,
        where=lambda index: f"{Path(path).name}, row {read.rows[index]}",
    )
    return FileScore(
        metric=metric,
        value=score.value,
        low=score.low,
        high=score.high,
        n=score.n,
        confidence=score.confidence,
        higher_is_better=score.higher_is_better,
    )


def trivial_answer(references: Sequence[Sequence[str]]) -> str:
    """The answer to give without looking: the most frequent first reference, of equally frequent ones the first seen.

    Raises DataError where there is no example.
    """
    if not references:
        raise DataError("there is no example to take the most frequent answer from")
    return Counter(accepted[0] for accepted in references).most_common(1)[0][0]
