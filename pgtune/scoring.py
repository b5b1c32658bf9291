"""Scores of decoded examples: which belong together, what the trivial answer scores, and the way to disk and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pgtune import metrics
from pgtune.data import Examples
from pgtune.groups import IMAGE, group_of
from pgtune.settings import EvalSettings
from pgtune.writing import write_json

__all__ = [
    "Evaluation",
    "Labels",
    "documents",
    "labels_of",
    "read_evaluation",
    "trivial",
    "write_evaluation",
]


@dataclass(frozen=True)
class Evaluation:
    """Scores and rows of one pass over a split."""

    scores: dict[str, metrics.Score]
    rows: list[dict[str, Any]]

    @property
    def values(self) -> dict[str, float]:
        """Metric name -> value."""
        return {name: score.value for name, score in self.scores.items()}

    @property
    def intervals(self) -> dict[str, list[float]]:
        """Metric name -> [low, high]."""
        return {name: [score.low, score.high] for name, score in self.scores.items()}

    @property
    def documents(self) -> dict[str, dict[str, Any]]:
        """Metric name -> all there is to say of it, parts and question types included, as JSON values."""
        return documents(self.scores)


def documents(scores: Mapping[str, metrics.Score]) -> dict[str, dict[str, Any]]:
    """Scores as JSON values."""
    return {name: score.document() for name, score in scores.items()}


class Labels(NamedTuple):
    """Of each example what scores are told apart by: part, question type, and the number of its cluster.

    Examples of one patient are a cluster, or where the data adapter names none, those of one picture. Clusters are
    numbered in the order of their first appearance, so that nothing of a patient is written.
    """

    parts: list[str]
    question_types: list[str]
    clusters: list[int]


def labels_of(examples: Examples, indices: Iterable[int]) -> Labels:
    """The labels of the examples at these places."""
    found, numbers = Labels([], [], []), dict[tuple[str, str], int]()
    for index in indices:
        example = examples[index]
        key = "patient" if "patient" in example.groups else IMAGE
        found.parts.append(example.part)
        found.question_types.append(example.question_type)
        found.clusters.append(numbers.setdefault((key, group_of(example, key)), len(numbers)))
    return found


def trivial(examples: Examples, settings: EvalSettings) -> tuple[str, dict[str, metrics.Score]]:
    """The most frequent answer, and what answering nothing else would score."""
    count = min(len(examples), settings.limit or len(examples))
    references = [examples[index].references for index in range(count)]
    answer = metrics.trivial_answer(references)
    labels = labels_of(examples, range(count))
    return answer, {
        name: metrics.compute(
            name,
            [answer] * count,
            references,
            **labels._asdict(),
            confidence=settings.confidence,
            where=examples.where,
        )
        for name in settings.metrics
    }


def write_evaluation(file: Path, evaluation: Evaluation) -> None:
    """Keep an evaluation for a resumed run."""
    scores = {name: dataclasses.asdict(score) for name, score in evaluation.scores.items()}
    write_json(file, {"scores": scores, "rows": evaluation.rows})


def read_evaluation(file: Path) -> Evaluation:
    """What `write_evaluation` wrote."""
    content = json.loads(file.read_text(encoding="utf-8"))
    scores = {name: metrics.Score.from_json(score) for name, score in content["scores"].items()}
    return Evaluation(scores, content["rows"])
