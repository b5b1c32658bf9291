"""Tables of a chart: read from CSV files, written as one text, their numbers, and questions about them."""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pgtune.data_adapters.generic.csv_files import read_csv
from pgtune.errors import DataError

__all__ = ["QUESTIONS", "Question", "Table", "linearised", "numbers_of", "plottable", "questions_about", "read_table"]

QUESTIONS = ("value", "highest", "lowest", "count", "compare")
"""The kinds of questions that are made."""

_WITH_POINT = re.compile(r"[-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+|(?=\.\d))(?:\.\d+)?(?:[eE][-+]?\d+)? ?%?")
_WITH_COMMA = re.compile(r"[-+\u2212]?(?:\d{1,3}(?:[. \u00a0\u202f]\d{3})+|\d+|(?=,\d))(?:,\d+)? ?%?")
_EITHER = re.compile(r"[-+\u2212]?\d{1,3},\d{3} ?%?")
_MISSING = ("", "nan", "na", "n/a", "-", "null", "none")


@dataclass(frozen=True)
class Table:
    """A table as text: the names of its columns, and its rows, each as long as the header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str | None = None

    def column(self, place: int) -> list[str]:
        """The cells of a column, from the top."""
        return [row[place] for row in self.rows]

    def only(self, places: Sequence[int]) -> Table:
        """The table with these columns alone."""
        return Table(
            tuple(self.header[place] for place in places),
            tuple(tuple(row[place] for place in places) for row in self.rows),
            self.title,
        )


def read_table(
    path: Path, *, title: str | None = None, encoding: str | None = None, delimiter: str | None = None
) -> Table:
    """A CSV or TSV file as a table; each stretch of white space in a cell is one space.

    Raises DataError: not readable, rows of different lengths, no rows, ``" | "`` in a cell (it stands between cells).
    """
    lines: list[tuple[str, ...]] = []
    for number, cells in read_csv(path, encoding=encoding, delimiter=delimiter):
        if isinstance(cells, DataError):
            raise DataError(f"{path}, line {number}: {cells}")
        row = tuple(" ".join(cell.split()) for cell in cells)
        bad = next((cell for cell in row if " | " in f" {cell} "), None)
        if bad is not None:
            raise DataError(f"{path}, line {number}: the cell {bad!r} holds a bar, which separates cells")
        lines.append(row)
    if len(lines) < 2:
        raise DataError(f"{path}: has a header and no rows")
    return Table(lines[0], tuple(lines[1:]), title)


def linearised(table: Table) -> str:
    """One text: ``TITLE | title`` where there is a title, the header, the rows; cells between `` | ``.

    The form of DePlot (arXiv 2212.10505, google-research/deplot: its metric reads ``title |``, lines, `` | ``). What
    that model's decoder prints as ``<0x0A>`` is its byte token for a line feed; here a line ends with a line feed
    itself, one token of PaliGemma's vocabulary: written out, ``<0x0A>`` would be six tokens of letters and digits.
    """
    title = [] if table.title is None else [f"TITLE | {table.title}"]
    return "\n".join([*title, *(" | ".join(row) for row in (table.header, *table.rows))])


def numbers_of(cells: Sequence[str], decimal: str | None = None, name: str = "") -> list[float] | None:
    """The numbers in a column, NaN for an empty cell; None where it is not one of numbers.

    ``decimal``: "." (with commas between thousands) or ",". None: ".", but a column that reads as numbers only with a
    decimal comma, or that may be read either way (1,234), is refused. Raises DataError.
    """
    filled = [cell for cell in cells if cell.lower() not in _MISSING]
    if not filled:
        return None
    if decimal is None:
        point = all(_WITH_POINT.fullmatch(cell) for cell in filled)
        comma = not point and all(_WITH_COMMA.fullmatch(cell) for cell in filled)
        either = [cell for cell in filled if "," in cell]
        unsure = point and either and all(_EITHER.fullmatch(cell) for cell in either)
        unsure = unsure and not any("." in cell for cell in filled)
        if comma or unsure:
            kind = "has numbers with a decimal comma" if comma else "may have a decimal comma or commas for thousands"
            sample = next(cell for cell in filled if "," in cell or comma)
            raise DataError(f"the column {name!r} {kind} ({sample!r}): set decimal to ',' or '.'")
    pattern = _WITH_COMMA if decimal == "," else _WITH_POINT
    if not all(pattern.fullmatch(cell) for cell in filled):
        return None
    return [_number(cell, decimal) if cell.lower() not in _MISSING else math.nan for cell in cells]


def _number(cell: str, decimal: str | None) -> float:
    text = cell.rstrip("% ").replace("\u2212", "-")
    if decimal == ",":
        return float(re.sub("[. \u00a0\u202f]", "", text).replace(",", "."))
    return float(text.replace(",", ""))


def plottable(table: Table, columns: Sequence[str] | None, decimal: str | None) -> tuple[Table, list[list[float]]]:
    """The part of a table that a chart shows, and the numbers of its columns behind the first.

    The first column (or the first of ``columns``) has the labels; of the others, without ``columns``, those of numbers.
    Raises DataError: a column that is not there or not of numbers.
    """
    names = list(table.header)
    unknown = next((name for name in columns or () if name not in names), None)
    if unknown is not None:
        raise DataError(f"there is no column {unknown!r}; the columns are {', '.join(map(repr, names))}")
    places = [names.index(name) for name in columns] if columns is not None else list(range(len(names)))
    shown, series = [places[0]], []
    for place in places[1:]:
        numbers = numbers_of(table.column(place), decimal, names[place])
        if numbers is None and columns is not None:
            raise DataError(f"the column {names[place]!r} is not one of numbers")
        if numbers is not None:
            shown.append(place)
            series.append(numbers)
    return table.only(shown), series


@dataclass(frozen=True)
class Question:
    """A question about a table, its answer, and which of `QUESTIONS` it is."""

    kind: str
    text: str
    answer: str


def questions_about(
    table: Table, series: Sequence[Sequence[float]], kinds: Sequence[str], count: int, seed: str
) -> list[Question]:
    """Up to ``count`` questions, the kinds in turn, drawn by ``seed``; the first column holds the labels.

    A question is only made where it has one answer: no label that stands there twice, no tie. The words are ours.
    """
    rng = random.Random(hashlib.sha256(seed.encode()).digest())
    piles = []
    for kind in kinds:
        pile = list(_made(kind, table, series))
        rng.shuffle(pile)
        piles.append(pile)
    made: list[Question] = []
    while len(made) < count and any(piles):
        for pile in piles:
            if pile and len(made) < count:
                made.append(pile.pop())
    return made


def _made(kind: str, table: Table, series: Sequence[Sequence[float]]) -> Iterator[Question]:
    labels = table.column(0)
    once = [place for place, label in enumerate(labels) if label and labels.count(label) == 1]
    item = table.header[0] or "item"
    if kind == "count":
        if len(once) == len(labels):
            yield Question(kind, f"How many different {item} are shown?", str(len(labels)))
        return
    for column, numbers in enumerate(series, start=1):
        name = table.header[column] or "value"
        known = [place for place in once if not math.isnan(numbers[place])]
        if kind == "value":
            for place in known:
                yield Question(kind, f"What is the {name} of {labels[place]}?", table.rows[place][column])
        elif kind == "compare":
            for place, other in pairwise(known):
                if numbers[place] != numbers[other]:
                    text = f"Is the {name} of {labels[place]} higher than that of {labels[other]}?"
                    yield Question(kind, text, "Yes" if numbers[place] > numbers[other] else "No")
        elif len(known) == len(labels) > 1:
            best = (max if kind == "highest" else min)(numbers)
            if list(numbers).count(best) == 1:
                yield Question(kind, f"Which {item} has the {kind} {name}?", labels[list(numbers).index(best)])
