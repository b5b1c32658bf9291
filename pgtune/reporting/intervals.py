"""Scores as tables in which each value stands with its interval, drawn and in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pgtune.metrics import load_metric
from pgtune.metrics.score import Metric
from pgtune.reporting.curves import ticks
from pgtune.reporting.markup import Safe, tag
from pgtune.reporting.record import Scores

__all__ = ["score_table"]

Document = Mapping[str, Any]

_HIGH = 30  # units of a track, 10 for each mark


def score_table(name: str, scores: Mapping[str, Scores]) -> Safe:
    """One metric: a row for the whole, then for each part, question type and further value.

    Args:
        scores: before, after, trivial or other names -> metric name -> its document.
    """
    metric = load_metric(name)
    columns = {label: found[name] for label, found in scores.items() if name in found}
    last = columns.get("after") or next(iter(columns.values()))
    top = _top(metric, list(columns.values()))
    rows = [_row(metric, "all", columns, top, strong=True)]
    for group, word in (("parts", "part"), ("types", "question type")):
        for key in last.get(group, {}):
            inner = {label: found[group][key] for label, found in columns.items() if key in found.get(group, {})}
            rows.append(_row(metric, key, inner, top, columns=list(columns), word=word))
    for key in last.get("also", {}):
        rows.append(_further(metric, key, columns))
    over = "" if last["average"] == "examples" else f", mean over {last['average']}"
    better = "higher is better" if metric.higher_is_better else "lower is better"
    ends = [tag("span", _axis(metric, 0.0)), tag("span", _axis(metric, top))]
    head = tag(
        "tr",
        tag("th", tag("span", "of", class_="off"), scope="col", role="columnheader"),
        tag("th", "n", scope="col", role="columnheader", class_="n"),
        [tag("th", tag("i", class_=label), label, scope="col", role="columnheader") for label in columns],
        tag("th", tag("span", ends, class_="axis"), scope="col", role="columnheader", class_="track"),
        role="row",
    )
    caption = tag("caption", tag("b", name), f" {better}{over}")
    body = [tag("thead", head, role="rowgroup"), tag("tbody", rows, role="rowgroup")]
    return tag("table", caption, body, class_="scores", role="table")


def _row(
    metric: Metric,
    label: str,
    found: Mapping[str, Document],
    top: float,
    *,
    columns: Sequence[str] = (),
    word: str = "",
    strong: bool = False,
) -> Safe:
    counts = sorted({document["n"] for document in found.values()})
    kind = tag("small", word) if word else None
    return tag(
        "tr",
        tag("th", tag("span", label), kind, scope="row", role="rowheader"),
        tag("td", " / ".join(f"{count:,}" for count in counts), role="cell", class_="n", data_label="n"),
        [_value(metric, name, found.get(name)) for name in (columns or found)],
        tag("td", _track(metric, found, top), role="cell", class_="track"),
        role="row",
        class_="whole" if strong else None,
    )


def _value(metric: Metric, column: str, document: Document | None) -> Safe:
    if document is None:
        return tag("td", "\u2013", role="cell", data_label=column)
    bounds = _bounds(document)
    inside = None
    if bounds:
        low, high = (metric.shown(bound).removesuffix(" %") for bound in bounds)
        inside = tag("small", f"{low} to {high}")
    return tag("td", tag("span", metric.shown(document["value"])), inside, role="cell", data_label=column)


def _further(metric: Metric, key: str, columns: Mapping[str, Document]) -> Safe:
    cells = []
    for label, document in columns.items():
        value = document.get("also", {}).get(key)
        cells.append(tag("td", "\u2013" if value is None else metric.shown(value, key), role="cell", data_label=label))
    blank = [tag("td", role="cell", class_="n"), tag("td", role="cell", class_="track")]
    name = tag("th", tag("span", key), scope="row", role="rowheader")
    return tag("tr", name, blank[0], cells, blank[1], role="row", class_="also")


def _bounds(document: Document) -> tuple[float, float] | None:
    if document["clusters"] == 1 < document["n"]:  # all of one picture or patient: nothing is known of others
        return None
    return document["low"], document["high"]


def _track(metric: Metric, found: Mapping[str, Document], top: float) -> Safe:
    """The values on a line from zero to ``top``, each in its own third of the height."""
    marks = []
    for place, (name, document) in enumerate(found.items()):
        height = _HIGH * (2 * place + 1) / (2 * len(found))
        at = 100 * document["value"] / top
        said = f"{name} {metric.shown(document['value'])}"
        whisker = None
        if bounds := _bounds(document):
            low, high = bounds
            said += f", {metric.shown(low)} to {metric.shown(high)}"
            whisker = tag("path", d=f"M{100 * low / top:.3f} {height:g}H{100 * high / top:.3f}", class_="whisker")
        # A line without length and with round ends is a dot that keeps its form when the drawing is stretched.
        dot = tag("path", d=f"M{at:.3f} {height:g}h0", class_="value")
        marks.append(tag("g", tag("title", said), whisker, dot, class_=name))
    quarters = [tag("path", d=f"M{x} 0V{_HIGH}", class_="grid") for x in (0, 25, 50, 75, 100)]
    return tag("svg", quarters, marks, viewBox=f"0 0 100 {_HIGH}", preserveAspectRatio="none", aria_hidden="true")


def _top(metric: Metric, documents: Sequence[Document]) -> float:
    """The end of the scale: 1 for a share, more for an error rate above it; a round number for what is no share."""
    values = [bound for document in documents for bound in (document["value"], document["high"])]
    values += [
        value for document in documents for group in ("parts", "types") for inner in document.get(group, {}).values()
        for value in (inner["value"], inner["high"])
    ]  # fmt: skip
    if metric.percent and max(values) <= 1:
        return 1.0
    return ticks(0.0, max(values))[-1] if max(values) > 0 else 1.0


def _axis(metric: Metric, value: float) -> str:
    return f"{100 * value:g} %" if metric.percent else f"{value:g}"
