"""Charts drawn from tables with matplotlib: without a window system, the same on every machine."""

from __future__ import annotations

import hashlib
import math
import textwrap
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from pgtune.data_adapters.charts.tables import Table, plottable, read_table
from pgtune.data_adapters.extras import require

__all__ = ["KINDS", "Chart", "kind_for", "not_drawable", "without_glyph"]

KINDS = ("bar", "hbar", "line", "scatter", "pie")
"""What can be drawn."""

_WRITTEN = 24
"""Values are written beside up to so many points: more would run into one another."""
_TICKS = 30
"""Each label of a line has its tick where so many of the smallest step would fit on the axis."""
_FONT = "DejaVu Sans"
"""The font that matplotlib brings along."""
_STYLE_LOCK = threading.Lock()


@dataclass(frozen=True)
class Chart:
    """A chart of a table in a file, drawn when it is called.

    ``content``: a hash of the file, so that a chart of a changed table is another one. ``kind``: one of `KINDS`.
    ``columns``: those that are shown, the labels' first. ``size``: width and height in pixels. ``values``: write the
    numbers beside the bars, points and slices, as they stand in the table.
    """

    path: str
    content: str
    kind: str
    columns: tuple[str, ...]
    title: str | None = None
    size: tuple[int, int] = (448, 448)
    font_size: float = 10.0
    values: bool = True
    encoding: str | None = None
    delimiter: str | None = None
    decimal: str | None = None

    def __call__(self) -> Image.Image:
        table = read_table(Path(self.path), title=self.title, encoding=self.encoding, delimiter=self.delimiter)
        table, series = plottable(table, self.columns, self.decimal)
        return _drawn(self, table, series)


def kind_for(table: Table, series: Sequence[Sequence[float]], seed: str) -> str:
    """A kind of chart that suits a table; where several do, drawn by ``seed``.

    A line for five or more labels that are numbers in rising order, such as years; a pie for up to six numbers above 0
    that are one column; bars for everything.
    """
    labels = _ordered(table.column(0))
    if labels is not None and len(labels) >= 5:
        return "line"
    suited = ["bar", "hbar"]
    if len(series) == 1 and len(series[0]) <= 6 and all(number > 0 for number in series[0]):
        suited.append("pie")
    return suited[hashlib.sha256(seed.encode()).digest()[0] % len(suited)]


def not_drawable(kind: str, table: Table, series: Sequence[Sequence[float]]) -> str | None:
    """Why a table cannot be drawn so, or None."""
    if not series:
        return "a table without a column of numbers"
    if kind == "pie" and (len(series) > 1 or not all(number > 0 for number in series[0])):
        return "not one column of numbers above 0, as a pie needs"
    if kind == "scatter" and _positions(table.column(0)) is None:
        return "labels that are not numbers, as a scatter plot needs"
    return None


def without_glyph(texts: Sequence[str]) -> str | None:
    """The first character that matplotlib's own font cannot draw, or None."""
    glyphs = _glyphs()
    return next((letter for text in texts for letter in text if ord(letter) not in glyphs and letter != "\n"), None)


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    manager = require("matplotlib.font_manager", "charts")
    font = require("matplotlib.ft2font", "charts").FT2Font(manager.findfont(_FONT, fallback_to_default=False))
    return frozenset(font.get_charmap())


def _drawn(chart: Chart, table: Table, series: list[list[float]]) -> Image.Image:
    style = require("matplotlib.style", "charts")
    figures = require("matplotlib.figure", "charts")
    canvases = require("matplotlib.backends.backend_agg", "charts")
    # The style is matplotlib's global state; a user's own matplotlibrc is left out.
    with _STYLE_LOCK, style.context(["default", {"font.family": _FONT, "font.size": chart.font_size}]):
        width, height = chart.size
        figure = figures.Figure(figsize=(width / 100, height / 100), dpi=100, layout="constrained")
        canvas = canvases.FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        if chart.title:
            axes.set_title(_plain(textwrap.fill(chart.title, 40)), fontsize=chart.font_size * 1.2)
        if chart.kind == "pie":
            _pie(axes, chart, table, series[0])
        elif chart.kind in ("bar", "hbar"):
            _bars(axes, chart, table, series)
        else:
            _points(axes, chart, table, series)
        if len(series) > 1:
            # below the axes: inside, it would hide what it explains
            longest = max(len(name) for name in table.header[1:])
            across = max(1, min(len(series), int(width / (chart.font_size * (longest * 0.8 + 4)))))
            figure.legend(loc="outside lower center", ncols=across, fontsize=chart.font_size * 0.9)
        canvas.draw()
        return Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba())).convert("RGB")


def _bars(axes: Any, chart: Chart, table: Table, series: list[list[float]]) -> None:
    labels = table.column(0)
    thick = 0.8 / len(series)
    draw = axes.bar if chart.kind == "bar" else axes.barh
    for number, values in enumerate(series):
        places = [place + (number - (len(series) - 1) / 2) * thick for place in range(len(labels))]
        bars = draw(places, values, thick, label=_plain(table.header[number + 1]))
        if chart.values and len(labels) * len(series) <= _WRITTEN:
            cells = [_plain(cell) if not math.isnan(value) else "" for cell, value in
                     zip(table.column(number + 1), values, strict=True)]
            axes.bar_label(bars, cells, padding=2, fontsize=chart.font_size * 0.8)
    if chart.kind == "bar":
        _label_ticks(axes, chart, labels)
    else:
        axes.set_yticks(range(len(labels)), [_plain(textwrap.fill(label, 18)) for label in labels])
        axes.invert_yaxis()  # the first row on top, as in the table
    _name_axes(axes, table, across=chart.kind == "bar", one=len(series) == 1)
    axes.margins(x=0.02 if chart.kind == "bar" else 0.12, y=0.12 if chart.kind == "bar" else 0.02)


def _points(axes: Any, chart: Chart, table: Table, series: list[list[float]]) -> None:
    labels = table.column(0)
    spots = _positions(labels) if chart.kind == "scatter" else _ordered(labels)
    places = spots if spots is not None else [float(place) for place in range(len(labels))]
    for number, values in enumerate(series):
        name = _plain(table.header[number + 1])
        if chart.kind == "scatter":
            axes.scatter(places, values, label=name)
        else:
            axes.plot(places, values, marker="o", markersize=4, label=name)
            if chart.values and len(labels) * len(series) <= _WRITTEN:
                for place, value, cell in zip(places, values, table.column(number + 1), strict=True):
                    if not math.isnan(value):
                        axes.annotate(_plain(cell), (place, value), (0, 4), textcoords="offset points", ha="center",
                                      fontsize=chart.font_size * 0.8)
    gaps = [after - before for before, after in pairwise(places)]
    if chart.kind == "line" and min(gaps, default=1) * _TICKS >= places[-1] - places[0]:
        _label_ticks(axes, chart, labels, places)
    _name_axes(axes, table, across=True, one=len(series) == 1)
    axes.margins(0.08, 0.12)


def _pie(axes: Any, chart: Chart, table: Table, values: list[float]) -> None:
    cells = table.column(1)
    labels = [f"{label}\n{cell}" if chart.values else label for label, cell in zip(table.column(0), cells, strict=True)]
    axes.pie(values, labels=[_plain(label) for label in labels], startangle=90, counterclock=False)
    axes.set_xlabel(_plain(" | ".join(table.header)))  # both names, as the table has them


def _label_ticks(axes: Any, chart: Chart, labels: list[str], places: Sequence[float] | None = None) -> None:
    longest = max(len(label) for label in labels)
    steep = len(labels) * (longest + 2) * chart.font_size * 0.6 > chart.size[0] * 0.8
    texts = [_plain(textwrap.fill(label, 24)) for label in labels]
    axes.set_xticks(range(len(labels)) if places is None else places, texts)
    if steep:
        # lines of upright labels stand side by side: smaller where they would run into the next label's
        lines = max(text.count("\n") + 1 for text in texts)
        room = chart.size[0] * 0.8 / len(labels) / lines / (chart.font_size * 100 / 72 * 1.2)
        axes.tick_params(axis="x", labelrotation=90, labelsize=chart.font_size * min(1.0, max(room, 0.4)))


def _name_axes(axes: Any, table: Table, *, across: bool, one: bool) -> None:
    labels, values = _plain(table.header[0]), _plain(table.header[1]) if one else ""
    axes.set_xlabel(textwrap.fill(labels if across else values, 40))
    axes.set_ylabel(textwrap.fill(values if across else labels, 40))


def _plain(text: str) -> str:
    """Text that matplotlib does not read as mathematics."""
    return text.replace("$", r"\$")


def _positions(labels: Sequence[str]) -> list[float] | None:
    """Labels as numbers, where all of them are plain ones."""
    try:
        numbers = [float(label) for label in labels]
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _ordered(labels: Sequence[str]) -> list[float] | None:
    """Labels as numbers, where they rise from row to row."""
    numbers = _positions(labels)
    return numbers if numbers and all(a < b for a, b in pairwise(numbers)) else None
