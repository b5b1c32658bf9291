"""Charts with the table behind them: published ones, and tables of one's own that are drawn or lie beside a picture."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtune.data_adapters.charts.plots import KINDS, Chart, kind_for, not_drawable, without_glyph
from pgtune.data_adapters.charts.tables import QUESTIONS, Table, linearised, plottable, questions_about, read_table
from pgtune.data_adapters.generic.csv_files import check_delimiter
from pgtune.data_adapters.layout import (
    check_encoding,
    chosen,
    entries,
    folder_named,
    picture_named,
    read_text,
    relative,
    split_folders,
)
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Row, Skip

__all__ = ["ChartToTableAdapter", "TablesAdapter"]

TO_TABLE = "Generate underlying data table of the figure below:"
"""DePlot's prompt. PaliGemma's papers have no such task: the choice is ours."""

_LONGEST_LABEL = 60


@dataclass(frozen=True, kw_only=True)
class ChartToTableAdapter:
    """A chart's picture to its table, linearised as DePlot does: lines, cells between `` | ``.

    The source holds the folders train, val and test, or is one split: ``tables/NAME.csv`` with ``png/NAME.png``
    (ChartQA), ``data/NAME.csv`` with ``imgs/NAME.png`` and ``titles/NAME.txt`` (Chart-to-text), or NAME.csv beside
    NAME.png. ``prefix``: DePlot's prompt. ``title``: known (default: a first line ``TITLE | ...`` where there is a
    title), always (an empty one too, as in DePlot's evaluation) or never. ``encoding``, ``delimiter``: of the tables;
    null finds out.
    """

    prefix: str = TO_TABLE
    title: str = "known"
    encoding: str | None = None
    delimiter: str | None = None

    def __post_init__(self) -> None:
        check_encoding(self.encoding)
        check_delimiter(self.delimiter)
        _check_one_of("title", self.title, ("known", "always", "never"))

    def splits(self, source: Path) -> list[str]:
        """The splits, as recipes call them; ["all"] for a folder that is one."""
        return list(_roots(source))

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """Each table's path, with its picture's. Raises DataError."""
        yield from _with_pictures(source, split)

    def __call__(self, row: Mapping[str, Any]) -> Example:
        """The table's Example. Raises DataError."""
        titles = row["table"].parent.parent / "titles" / f"{row['table'].stem}.txt"
        title = "" if self.title == "always" else None
        if self.title != "never" and titles.is_file():
            title = " ".join(read_text(titles, self.encoding).split()) or title
        table = read_table(row["table"], title=title, encoding=self.encoding, delimiter=self.delimiter)
        return Example(row["image"], self.prefix, linearised(table), groups={"table": row["name"]})


@dataclass(frozen=True, kw_only=True)
class TablesAdapter:
    """Tables of your own, as CSV or TSV files in a folder: drawn as charts, or with a picture of the same name.

    ``picture``: drawn, or beside (the picture lies beside its table, or the two in ``images/`` and ``tables/``).
    ``task``: table (the suffix is the table, as chart_to_table writes it) or questions, made from templates of ours.
    ``prefix``: null is DePlot's prompt for tables, ``answer en {question}`` for questions. ``columns``: those that are
    shown, the labels' first; null: the first, and all columns of numbers. ``decimal``: "." or ","; null finds out, and
    refuses what may be read either way. ``title``: true (default) draws and asks for the file's name, false has none.
    ``questions``: of value, highest, lowest, count, compare; ``per_table``: how many of a table, drawn by ``seed``.
    ``kind``: auto, bar, hbar, line, scatter or pie. ``size``: width and height in pixels. ``font_size``: in points at
    100 dots an inch. ``values``: write the numbers into the chart, where they are no more than 24. ``max_rows``,
    ``max_columns``: a larger table (its columns of numbers) is passed over. ``encoding``, ``delimiter``: null finds
    out. Sub-folders train, validation and test are the splits; without them every split is the whole folder, to be cut
    with data.split_by: table.
    """

    picture: str = "drawn"
    task: str = "table"
    prefix: str | None = None
    columns: Sequence[str] | None = None
    decimal: str | None = None
    title: bool = True
    questions: Sequence[str] | None = None
    per_table: int | None = None
    seed: int = 0
    kind: str = "auto"
    size: Sequence[int] = (448, 448)
    font_size: float = 10.0
    values: bool = True
    max_rows: int = 20
    max_columns: int = 5
    encoding: str | None = None
    delimiter: str | None = None

    def __post_init__(self) -> None:
        check_encoding(self.encoding)
        check_delimiter(self.delimiter)
        _check_one_of("picture", self.picture, ("drawn", "beside"))
        _check_one_of("task", self.task, ("table", "questions"))
        _check_one_of("kind", self.kind, ("auto", *KINDS))
        _check_one_of("decimal", self.decimal, (None, ".", ","))
        if self.columns is not None and len(set(self.columns)) < 2:
            raise AdapterError(f"columns = {self.columns!r}: expected the labels' column and one or more of numbers")
        for name in self.questions or ():
            _check_one_of("questions", name, QUESTIONS)
        if self.task == "table" and (self.questions is not None or self.per_table is not None):
            raise AdapterError("questions and per_table have no effect with task: table")
        if self.task == "questions" and self.prefix is not None and "{question}" not in self.prefix:
            raise AdapterError(f"prefix = {self.prefix!r}: must hold {{question}}")
        if self.picture == "beside" and self.kind != "auto":
            raise AdapterError(f"kind = {self.kind!r} has no effect with picture: beside")
        if len(self.size) != 2 or min(self.size) < 50 or max(self.size) > 4000:
            raise AdapterError(f"size = {list(self.size)}: expected width and height, 50 to 4000 pixels")

    def splits(self, source: Path) -> list[str]:
        """The splits, as recipes call them; ["all"] for a folder that is one."""
        return list(_roots(source))

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """Each table, or each question about one. Raises DataError."""
        rows = _with_pictures(source, split) if self.picture == "beside" else _alone(source, split)
        for row in rows:
            if not isinstance(row.value, dict):
                yield row
                continue
            try:
                prepared = self._prepared(row.value)
            except DataError as error:
                yield Row(error, row.place)
                continue
            if isinstance(prepared, Skip) or self.task == "table":
                yield Row(prepared, row.place)
                continue
            kinds = self.questions or QUESTIONS
            seed = f"{self.seed} {row.value['name']}"
            made = questions_about(prepared["shown"], prepared["series"], kinds, self.per_table or len(kinds), seed)
            if not made:
                yield Row(Skip("a table about which no question has one answer"), row.place)
            for number, question in enumerate(made, start=1):
                yield Row({**prepared, "question": question}, f"{row.place}, question {number}")

    def __call__(self, row: Mapping[str, Any]) -> Example:
        """The Example of a table or of a question."""
        groups = {"table": row["name"]}
        if "question" not in row:
            return Example(row["image"], self.prefix or TO_TABLE, linearised(row["shown"]), groups=groups)
        question = row["question"]
        prefix = (self.prefix or "answer en {question}").replace("{question}", question.text)
        return Example(row["image"], prefix, question.answer, question_type=question.kind, groups=groups)

    def _prepared(self, row: dict[str, Any]) -> dict[str, Any] | Skip:
        """The row with what a chart of it shows, and with its picture."""
        path = row["table"]
        title = path.stem.replace("_", " ") if self.title and self.picture == "drawn" else None
        whole = read_table(path, title=title, encoding=self.encoding, delimiter=self.delimiter)
        if self.picture == "beside" and self.task == "table" and self.columns is None:
            return {**row, "shown": whole}
        table, series = plottable(whole, self.columns, self.decimal)
        if self.picture == "beside":
            return {**row, "shown": table, "series": series}
        return self._drawn(row, table, series)

    def _drawn(self, row: dict[str, Any], table: Table, series: list[list[float]]) -> dict[str, Any] | Skip:
        path = row["table"]
        if len(table.rows) > self.max_rows or len(series) > self.max_columns:
            return Skip(f"more than {self.max_rows} rows or {self.max_columns} columns of numbers")
        kind = kind_for(table, series, f"{self.seed} {row['name']}") if self.kind == "auto" and series else self.kind
        reason = not_drawable(kind, table, series)
        if reason is not None:
            return Skip(reason)
        texts = [*table.header, *(cell for cells in table.rows for cell in cells), table.title or ""]
        if max(map(len, texts)) > _LONGEST_LABEL:
            return Skip(f"a name of more than {_LONGEST_LABEL} letters")
        letter = without_glyph(texts)
        if letter is not None:
            raise DataError(f"the font has no {letter!r} (U+{ord(letter):04X}); lay a picture beside the table instead")
        width, height = self.size
        content = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        chart = Chart(
            str(path), content, kind, table.header, table.title, (width, height), self.font_size, self.values,
            self.encoding, self.delimiter, self.decimal,
        )  # fmt: skip
        return {**row, "image": chart, "shown": table, "series": series}


def _check_one_of(name: str, value: object, known: Sequence[object]) -> None:
    if value not in known:
        raise AdapterError(f"{name} = {value!r}: expected one of {', '.join(map(str, known))}")


def _roots(source: Path) -> dict[str, Path]:
    """The folder of each split."""
    if not source.is_dir():
        what = "is a file" if source.exists() else "no such folder"
        raise DataError(f"{source}: {what}, expected a folder of tables")
    inner = folder_named(source, "ChartQA Dataset")
    return split_folders(source if inner is None else inner) or {"all": source}


def _tables(source: Path, split: str | None) -> Iterator[tuple[Path, Path]]:
    """Each table's path, with the folder of its split. Raises DataError where there is none."""
    for _, root in chosen(source, _roots(source), split):
        folder = folder_named(root, "tables", "data") or root
        files = [path for path in entries(folder) if path.suffix.lower() in (".csv", ".tsv")]
        if not files:
            raise DataError(f"{folder}: holds no tables (.csv, .tsv)")
        for path in files:
            yield path, root


def _alone(source: Path, split: str | None) -> Iterator[Row]:
    for path, _ in _tables(source, split):
        name = relative(path, source)
        yield Row({"table": path, "name": name}, name)


def _with_pictures(source: Path, split: str | None) -> Iterator[Row]:
    for path, root in _tables(source, split):
        name = relative(path, source)
        pictures = folder_named(root, "png", "images", "imgs")
        picture = picture_named(path.stem, [path.parent, *([pictures] if pictures is not None else [])])
        if picture is None:
            where = path.parent if pictures is None else pictures
            yield Row(DataError(f"there is no picture {path.stem}.png (or .jpg) in {where}"), name)
        else:
            yield Row({"table": path, "name": name, "image": relative(picture, source)}, name)
