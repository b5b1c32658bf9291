"""Scores for a person: the one place that knows which values are shares and which are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pgtune.metrics.find import load_metric
from pgtune.metrics.score import Metric, Score

__all__ = ["HEADS", "columns", "rows", "shown", "summary"]

HEADS = ("metric", "value", "low", "high", "n")
"""Of the rows that `rows` gives."""


def shown(name: str, value: float) -> str:
    """A metric's value: ``63.3 %``, or ``1.234`` for CIDEr, which is no share."""
    return load_metric(name).shown(value)


def summary(scores: Mapping[str, Score]) -> str:
    """``exact_match 63.3 % (55.1 to 70.9, n 150)`` for each metric; without a known interval ``(n 150)``."""
    parts = []
    for name, score in scores.items():
        value, low, high, n = _cells(load_metric(name), score.document())
        inside = f"{low.removesuffix(' %')} to {high.removesuffix(' %')}, n {n}" if low else f"n {n}"
        parts.append(f"{name} {value} ({inside})")
    return ", ".join(parts)


def rows(documents: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """A table of scores in the form of `Score.document`: each value, and indented its further values, parts, types."""
    return [[label, *cells] for name, document in documents.items() for label, cells in _lines(name, document).items()]


def columns(several: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[list[str]]:
    """As `rows`, of several scorings of the same metrics side by side, each ``63.3 % (55.1 to 70.9)``.

    The last scoring says which lines there are; a line that another one lacks is empty there.
    """
    table = []
    for name in several[-1]:
        found = [_lines(name, documents[name]) if name in documents else {} for documents in several]
        table += [[label, *(_cell(lines.get(label)) for lines in found)] for label in found[-1]]
    return table


def _cell(cells: list[str] | None) -> str:
    if cells is None:
        return ""
    value, low, high, _ = cells
    return f"{value} ({low.removesuffix(' %')} to {high.removesuffix(' %')})" if low else value


def _lines(name: str, document: Mapping[str, Any]) -> dict[str, list[str]]:
    """Label -> value, low, high, n."""
    metric = load_metric(name)
    better = "" if metric.higher_is_better else ", lower is better"
    over = "" if document["average"] == "examples" else f", mean over {document['average']}"
    found = {f"{name}{over}{better}": _cells(metric, document)}
    found |= {f"  {key}": [metric.shown(value, key), "", "", ""] for key, value in document.get("also", {}).items()}
    for group, word in (("parts", "part"), ("types", "type")):
        found |= {f"  {word} {key}": _cells(metric, inner) for key, inner in document.get(group, {}).items()}
    return found


def _cells(metric: Metric, document: Mapping[str, Any]) -> list[str]:
    bounds = [metric.shown(document[bound]) for bound in ("low", "high")]
    if document["clusters"] == 1 < document["n"]:  # all of one picture or patient: nothing is known of others
        bounds = ["", ""]
    return [metric.shown(document["value"]), *bounds, str(document["n"])]
