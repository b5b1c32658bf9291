"""What a run folder tells, read once: the recipe, the logs, the scores, the scored rows. Finished or not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pgtune.overlaps import Finding
from pgtune.recipe import Recipe
from pgtune.run_folder import RunFolder, undamaged
from pgtune.writing import read_rows

__all__ = ["Record", "read_record"]

Scores = Mapping[str, Mapping[str, Any]]
"""Metric name -> what `pgtune.metrics.Score.document` says of it."""


@dataclass(frozen=True)
class Record:
    """A run, as far as it came."""

    path: Path
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
        return float(self.metrics.get("confidence", self.recipe.eval.confidence))


def read_record(folder: RunFolder) -> Record:
    """All that there is to report.

    Raises:
        RunError: this is no run folder, or a file in it is damaged.
    """
    recipe = folder.recipe()
    with undamaged(folder.recipe_file):
        text = folder.recipe_file.read_text(encoding="utf-8")
        versions = _versions(text)
    with undamaged(folder.status_file):
        state = "finished" if folder.portable else folder.status()["state"]
        identity = folder.identity()
    metrics = _json(folder.metrics, {})
    rows, scores, trained = _rows(folder.predictions), _present(metrics.get("scores", {})), True
    before = folder.path / "before.json"
    if not metrics and before.is_file():  # the run has not come to its end: what is known of the base
        content = _json(before, {})
        with undamaged(before):
            rows, trained = content["rows"], False
            scores = {"before": content["scores"]}
    with undamaged(folder.overlaps_file):
        overlaps = [Finding(**one) for one in _json(folder.overlaps_file, [])]
    written = sorted(folder.path.glob("evaluations/*/metrics.json"))
    return Record(
        path=folder.path,
        recipe=recipe,
        recipe_text=text,
        versions=versions,
        state=state,
        identity=identity,
        log=_rows(folder.log),
        validation=_rows(folder.validation_log),
        metrics=metrics,
        scores=scores,
        rows=rows,
        trained=trained,
        overlaps=overlaps,
        split=_json(folder.splits_file, None),
        memory=_json(folder.path / "memory.json", {}),
        published=folder.portable,
        evaluations={path.parent.name: _json(path, {}) for path in written},
    )


def _versions(text: str) -> dict[str, str]:
    content = yaml.safe_load(text)
    return {str(name): str(version) for name, version in content.get("versions", {}).items()}


def _present(scores: Mapping[str, Scores]) -> dict[str, Scores]:
    return {name: scores[name] for name in ("before", "after", "trivial") if scores.get(name)}


def _json(path: Path, default: Any) -> Any:
    if not path.is_file():
        return default
    with undamaged(path):
        return json.loads(path.read_text(encoding="utf-8"))


def _rows(path: Path) -> list[dict[str, Any]]:
    with undamaged(path):
        return read_rows(path)
