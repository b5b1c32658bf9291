"""What a run folder tells, read once: the recipe, the logs, the scores, the scored rows. Finished or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pgtune.hub.foreign import PushedRun
from pgtune.overlaps import Finding
from pgtune.recipe import Recipe
from pgtune.run_files import (
    read_before,
    read_findings,
    read_log,
    read_memory,
    read_metrics,
    read_other_scores,
    read_predictions,
    read_split_record,
    read_validation,
    undamaged,
)
from pgtune.run_folder import RunFolder

__all__ = ["Record", "read_record"]

Scores = Mapping[str, Mapping[str, Any]]
"""Metric name -> what `pgtune.metrics.Score.document` says of it."""


Found = TypeVar("Found")


@dataclass(frozen=True)
class Record:
    """A run, as far as it came."""

    path: Path
    name: str
    """Of its folder, or its id on the Hub."""
    recipe: Recipe
    recipe_text: str
    versions: Mapping[str, str]
    state: str
    """running, also of a run that was stopped, or finished."""
    identity: str
    log: Sequence[Mapping[str, Any]]
    validation: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Any]
    """metrics.json; empty where the run did not come so far."""
    scores: Mapping[str, Scores]
    """before, after and trivial, those that there are."""
    rows: Sequence[Mapping[str, Any]]
    """The scored rows: the trained model's, or where there are none yet the base's."""
    trained: bool
    """Whether the answers in `rows` are the trained model's."""
    overlaps: Sequence[Finding]
    split: Mapping[str, Any] | None
    memory: dict[str, Any]
    """memory.json: what the training took; empty where it is not known."""
    published: bool
    """Whether this is a model that was pushed or merged, and no run folder of a training."""
    evaluations: Mapping[str, Mapping[str, Any]]
    """By the name of its folder, what `pgtune evaluate` wrote."""

    @property
    def finished(self) -> bool:
        return self.state == "finished"

    @property
    def confidence(self) -> float:
        """The level of the intervals."""
        return float(self.metrics.get("confidence") or self.recipe.eval.confidence)


def read_record(folder: RunFolder) -> Record:
    """All that there is to report.

    Raises:
        RunError: this is no run folder, or a file in it is damaged.
    """
    recipe = folder.recipe()
    with undamaged(folder.recipe_file):
        text = folder.recipe_file.read_text(encoding="utf-8")
        versions = _versions(text)
    state = "finished" if folder.portable else folder.status()["state"]
    # Of a model from elsewhere only scores are shown: a row of its could name any picture of this machine.
    own = not folder.portable
    metrics: dict[str, Any] = _if_there(read_metrics, folder.metrics, {})
    rows = read_predictions(folder.predictions) if own else []
    scores, trained = _present(metrics.get("scores", {})), True
    before = folder.path / "before.json"
    if own and not metrics and before.is_file():  # the run has not come to its end: what is known of the base
        content = read_before(before)
        rows, scores, trained = content["rows"], {"before": content["scores"]}, False
    written = sorted(folder.path.glob("evaluations/*/metrics.json"))
    return Record(
        path=folder.path,
        name=folder.name if isinstance(folder, PushedRun) else folder.path.resolve().name,
        recipe=recipe,
        recipe_text=text,
        versions=versions,
        state=state,
        identity=folder.identity(),
        log=read_log(folder.log) if own else [],
        validation=read_validation(folder.validation_log) if own else [],
        metrics=metrics,
        scores=scores,
        rows=rows,
        trained=trained,
        overlaps=_if_there(read_findings, folder.overlaps_file, []),
        split=_if_there(read_split_record, folder.splits_file, None),
        memory=_if_there(read_memory, folder.path / "memory.json", {}) if own else {},
        published=folder.portable,
        evaluations={path.parent.name: read_other_scores(path) for path in written},
    )


def _versions(text: str) -> dict[str, str]:
    content = yaml.safe_load(text)
    return {str(name): str(version) for name, version in content.get("versions", {}).items()}


def _present(scores: Mapping[str, Scores]) -> dict[str, Scores]:
    return {name: scores[name] for name in ("before", "after", "trivial") if scores.get(name)}


def _if_there(read: Callable[[Path], Found], path: Path, default: Found) -> Found:
    return read(path) if os.path.lexists(path) else default
