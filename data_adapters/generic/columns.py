"""Tables whose columns are named by arguments: CSV files, and the data sets that the library ``datasets`` reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtune.data_adapters.generic.csv_files import check_delimiter, read_csv
from pgtune.data_adapters.layout import base_of, check_encoding, chosen, entries, hint, split_named
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, ImageSource, Row, shown

__all__ = ["Columns", "CsvAdapter"]

_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns make an Example; what `CsvAdapter` and `HfAdapter` share.

    ``image``, ``prefix``, ``suffix``: the column's name (default: the argument's own name); ``image`` may be a list of
    columns, for several pictures a row. In place of a column, ``image_template``, ``prefix_template`` and
    ``suffix_template`` are texts with columns in braces, ``"answer en {question}"``, or none: ``"caption en"``; a brace
    itself is written twice. ``references``: the column of all accepted answers, a list or, in a text, separated by
    ``separator``. ``part``, ``question_type``: columns. ``groups``: columns of what rows share, ``[patient]`` or
    ``{patient: PatientID}``; an empty cell gives none. ``metadata``: columns that are carried into predictions.
    """

    image: str | Sequence[str] | None = None
    image_template: str | None = None
    prefix: str | None = None
    prefix_template: str | None = None
    suffix: str | None = None
    suffix_template: str | None = None
    references: str | None = None
    separator: str | None = None
    part: str | None = None
    question_type: str | None = None
    groups: Mapping[str, str] | Sequence[str] = ()
    metadata: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("image", "prefix", "suffix"):
            column, template = getattr(self, name), getattr(self, f"{name}_template")
            if column is not None and template is not None:
                raise AdapterError(f"{name} = {column!r} and {name}_template = {template!r}: give one of the two")
            if template is not None and not isinstance(template, str):
                raise AdapterError(f"{name}_template must be a text, got {shown(template)}")
            if template is not None:
                fields_of(template, f"{name}_template")
        if self.separator is not None and self.references is None:
            raise AdapterError(f"separator = {self.separator!r} has no effect without references")
        if self.separator == "":
            raise AdapterError("separator must not be empty")
        if isinstance(self.groups, str) or isinstance(self.metadata, str):
            raise AdapterError("groups and metadata are lists of columns, such as [patient]")
        for column in self.needed():
            if not isinstance(column, str) or not column:
                raise AdapterError(f"a column's name must be a text, got {shown(column)}")

    def _image_columns(self) -> list[str]:
        if self.image_template is not None:
            return fields_of(self.image_template, "image_template")
        return [self.image or "image"] if isinstance(self.image, str | None) else list(self.image)

    def _text_columns(self, name: str) -> list[str]:
        template = getattr(self, f"{name}_template")
        return [getattr(self, name) or name] if template is None else fields_of(template, f"{name}_template")

    def _groups(self) -> dict[str, str]:
        return dict(self.groups) if isinstance(self.groups, Mapping) else {name: name for name in self.groups}

    def texts_needed(self) -> list[str]:
        """The names of the columns of text that are used."""
        optional = [column for column in (self.references, self.part, self.question_type) if column is not None]
        columns = [*self._text_columns("prefix"), *self._text_columns("suffix"), *optional]
        if self.image_template is not None:
            columns += self._image_columns()
        return list(dict.fromkeys([*columns, *self._groups().values(), *self.metadata]))

    def needed(self) -> list[str]:
        """The names of all columns that are used."""
        return list(dict.fromkeys([*self._image_columns(), *self.texts_needed()]))

    def check(self, columns: Sequence[str], where: str) -> None:
        """Refuse a table without one of the columns. Raises DataError, which names the nearest of those it has."""
        missing = [column for column in self.needed() if column not in columns]
        if missing:
            has = ", ".join(map(repr, columns))
            problems = "; ".join(f"there is no column {column!r}{hint(column, columns)}" for column in missing)
            raise DataError(f"{where}: {problems}. The columns are {has}")

    def __call__(self, row: Mapping[str, Any]) -> Example:
        """The row's Example. Raises DataError, without the row's place."""
        self.check(list(row), "the row")
        answers: list[str] = []
        if self.suffix_template is None and isinstance(row[self.suffix or "suffix"], list | tuple):
            answers = _texts(self.suffix or "suffix", row[self.suffix or "suffix"])
            if not answers:
                raise DataError(f"{self.suffix or 'suffix'} is an empty list, expected one answer or more")
        references = answers if self.references is None else self._references(row[self.references])
        return Example(
            images=self._images(row),
            prefix=self._text("prefix", row),
            suffix=answers[0] if answers else self._text("suffix", row),
            references=references,
            metadata={column: row[column] for column in self.metadata},
            part=_text(self.part, row[self.part]) if self.part else "",
            question_type=_text(self.question_type, row[self.question_type]) if self.question_type else "",
            groups={
                key: _text(column, row[column])
                for key, column in self._groups().items()
                if row[column] is not None and row[column] != ""
            },
        )

    def _text(self, name: str, row: Mapping[str, Any]) -> str:
        template = getattr(self, f"{name}_template")
        if template is None:
            column = getattr(self, name) or name
            return _text(column, row[column])
        return filled(template, {column: _text(column, row[column]) for column in self._text_columns(name)})

    def _images(self, row: Mapping[str, Any]) -> list[ImageSource]:
        if self.image_template is not None:
            columns = self._image_columns()
            return [filled(self.image_template, {column: _text(column, row[column]) for column in columns})]
        images: list[ImageSource] = []
        for column in self._image_columns():
            value = row[column]
            several = value if isinstance(value, list | tuple) else [value]
            if not several or any(each is None or each == "" for each in several):
                raise DataError(f"{column} is empty, expected a picture")
            images += several
        return images

    def _references(self, value: Any) -> list[str]:
        column = str(self.references)
        if isinstance(value, str) and self.separator is not None:
            return [part.strip() for part in value.split(self.separator) if part.strip()]
        if isinstance(value, list | tuple):
            return _texts(column, value)
        raise DataError(f"{column} must be a list of answers, got {shown(value)}; separator: splits a text into them")


@dataclass(frozen=True, kw_only=True)
class CsvAdapter(Columns):
    """A table as CSV, TSV or exported from Excel, one example a row; images relative to the table's folder.

    The source is a file, or a folder with one a split (``train.csv``, ``val.tsv``). Rows are named by the line that an
    editor shows. Text is passed on unchanged. ``image``, ``prefix``, ``suffix``, ``image_template``,
    ``prefix_template``, ``suffix_template``, ``references``, ``separator``, ``part``, ``question_type``, ``groups``
    and ``metadata`` name columns (see `Columns`). ``split_column``: the column that says the row's split, for one file
    that holds them all. ``encoding``: null takes UTF-8, or what a byte order mark says. ``delimiter``: null finds out
    whether it is a comma, semicolon, tab or bar.
    """

    split_column: str | None = None
    encoding: str | None = None
    delimiter: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_encoding(self.encoding)
        check_delimiter(self.delimiter)
        if self.references is not None and self.separator is None:
            raise AdapterError(f"references = {self.references!r} needs separator: what stands between two answers")

    def splits(self, source: Path) -> list[str]:
        """The splits of a source: its files' names, or the values of ``split_column``; ["all"] for a plain file."""
        if self.split_column is None:
            return list(self._files(source)) if source.is_dir() else ["all"]
        found = (self._split_of(row.value) for row in self.rows(source, None) if isinstance(row.value, dict))
        return sorted(dict.fromkeys(found))

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """Each row as a mapping from column to text, read as it is asked for. Raises DataError."""
        if source.is_dir():
            files = [path for _, path in chosen(source, self._files(source), split)]
            by_column = None if self._files(source) != {"all": files[0]} else self.split_column
        else:
            files, by_column = [source], self.split_column
        taken = 0
        for path in files:
            for row in self._rows_of(path):
                if by_column is None or split is None or not isinstance(row.value, dict):
                    yield row
                elif self._split_of(row.value) in (split, split_named(split)):
                    taken += 1
                    yield row
        if by_column is not None and split is not None and not taken:
            has = ", ".join(self.splits(source))
            raise DataError(f"{source}: no row whose {by_column!r} is {split!r}; it has {has}")

    def _split_of(self, row: Mapping[str, str]) -> str:
        value = row[str(self.split_column)].strip()
        return split_named(value) or value

    def _rows_of(self, path: Path) -> Iterator[Row]:
        wanted = [*self.needed(), *([self.split_column] if self.split_column else [])]
        header: list[str] = []
        for line, cells in read_csv(path, encoding=self.encoding, delimiter=self.delimiter, wanted=wanted):
            place = f"{path.name}, line {line}"
            if isinstance(cells, DataError):
                yield Row(cells, place)
            elif header:
                yield Row(dict(zip(header, cells, strict=True)), place)
            else:
                header = cells
                twice = next((name for name in wanted if header.count(name) > 1), None)
                if twice is not None:
                    raise DataError(f"{path}, line {line}: the column {twice!r} is there twice")
                self.check(header, f"{path}, line {line}")
                if self.split_column is not None and self.split_column not in header:
                    raise DataError(
                        f"{path}, line {line}: there is no split_column {self.split_column!r}"
                        f"{hint(self.split_column, header)}"
                    )

    def _files(self, folder: Path) -> dict[str, Path]:
        """The tables in a folder by split; one table of any other name is {"all": it}."""
        tables = [path for path in entries(folder) if path.suffix.lower() in (".csv", ".tsv", ".txt")]
        found: dict[str, Path] = {}
        for path in tables:
            split = split_named(path.stem)
            if split is not None and split in found:
                raise DataError(f"{folder}: {found[split].name} and {path.name} are both the split {split!r}")
            if split is not None:
                found[split] = path
        tables = [path for path in tables if path.suffix.lower() != ".txt"]
        if not found and len(tables) == 1:
            return {"all": tables[0]}
        if not found:
            names = ", ".join(path.name for path in tables) or "no table"
            raise DataError(f"{base_of(folder)}: expected train.csv, test.csv or the like; it holds {names}")
        return found


def fields_of(template: str, name: str) -> list[str]:
    """The columns in a template's braces, in order. Raises AdapterError for a brace alone."""
    columns = []
    for match in _FIELD.finditer(template):
        if match[1]:
            columns.append(match[1])
        elif match[0] not in ("{{", "}}"):
            raise AdapterError(f"{name} = {template!r}: expected columns in braces, {{column}}; a brace itself is {{{{")
    return list(dict.fromkeys(columns))


def filled(template: str, values: Mapping[str, str]) -> str:
    """A template with each ``{column}`` replaced."""
    return _FIELD.sub(lambda match: values[match[1]] if match[1] else match[0][0], template)


def _text(column: str, value: Any) -> str:
    """A cell as text; whole numbers are written in digits. What has no one way to be written is refused."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"{column} must be a text or a whole number, got {shown(value)}")


def _texts(column: str, values: Sequence[Any]) -> list[str]:
    return [_text(column, value) for value in values]
