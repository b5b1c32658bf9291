"""Comma, semicolon and tab separated files as spreadsheets and scripts write them, read line by line."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

from pgtune.data_adapters.layout import encoding_of, not_encoded
from pgtune.errors import AdapterError, DataError

__all__ = ["DELIMITERS", "check_delimiter", "delimiter_of", "read_csv"]

DELIMITERS = (",", ";", "\t", "|")
"""What is tried where no delimiter is given, the first being taken where several fit alike."""

MAX_CELL = 64 * 2**20
"""Characters of a cell, above which a quote is taken for one that is never closed."""

_SAMPLE = 20


def check_delimiter(delimiter: str | None) -> None:
    """Refuse a delimiter that is not one character. Raises AdapterError."""
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n'):
        raise AdapterError(f"delimiter = {delimiter!r}: expected one character such as ',' or ';' or '\\t'")


def read_csv(
    path: Path, *, encoding: str | None = None, delimiter: str | None = None, wanted: Collection[str] = ()
) -> Iterator[tuple[int, list[str] | DataError]]:
    """The rows of a file, the header first, each with the line it begins at, as an editor counts lines.

    Quoted fields may hold delimiters and line breaks; blank lines are passed over, and so is a first line ``sep=;`` as
    Excel reads it. ``encoding``: None takes the byte order mark's, else UTF-8. ``delimiter``: None takes the one that
    gives the columns in ``wanted`` and rows as long as the header. A row that has not as many fields as the header
    comes as a DataError. Raises DataError where the file cannot be read on: not there, empty, another encoding, a
    quote that is never closed.
    """
    spelt = encoding or encoding_of(_start(path))
    csv.field_size_limit(max(MAX_CELL, csv.field_size_limit()))  # of the whole process; as it comes: 131,072
    with open(path, encoding=spelt, newline="") as file:
        try:
            before = 0
            first = file.readline()
            if first.startswith("sep=") and len(first.rstrip("\r\n")) == 5:
                delimiter, before = delimiter or first[4], 1
            else:
                file.seek(0)
            if delimiter is None:
                delimiter = delimiter_of(file, wanted, tabs=path.suffix.lower() == ".tsv")
                file.seek(0)
            yield from _rows(file, path, delimiter, before)
        except UnicodeError as error:
            raise DataError(_where_not(path, spelt, encoding, error)) from None


def delimiter_of(file: TextIO, wanted: Collection[str], *, tabs: bool = False) -> str:
    """The delimiter that fits the first lines best."""
    sample = list(islice(file, _SAMPLE))

    def fit(delimiter: str) -> tuple[int, float, int]:
        records = [record for record in csv.reader(sample, delimiter=delimiter) if record]
        if not records:
            return (0, 0.0, 0)
        header = records[0]
        same = sum(len(record) == len(header) for record in records) / len(records) if len(header) > 1 else 0.0
        return (len(set(wanted) & set(header)), same, len(header))

    order = ("\t", *(each for each in DELIMITERS if each != "\t")) if tabs else DELIMITERS
    return max(order, key=fit)  # the first of those that fit alike


def _rows(file: TextIO, path: Path, delimiter: str, before: int) -> Iterator[tuple[int, list[str] | DataError]]:
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    width = 0
    while True:
        line = before + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise DataError(f"{path}, line {line}: a quote opens here and is never closed") from None
            if "field limit" in str(error):
                raise DataError(
                    f"{path}, line {line}: a cell has more than {MAX_CELL:,} characters; is a quote not closed?"
                ) from None
            yield line, DataError(f"is not readable: {error} (a quote inside a quoted field is written twice)")
            continue
        if not any(cells):  # a blank line, or one of delimiters alone, as spreadsheets leave them
            continue
        if not width:
            width = len(cells)
        elif len(cells) != width:
            spelt = {"\t": "tab", ",": "comma", ";": "semicolon"}.get(delimiter, repr(delimiter))
            yield line, DataError(
                f"has {len(cells)} fields, the header has {width}; is a {spelt} in a text that is not in quotes?"
            )
            continue
        yield line, cells
    if not width:
        raise DataError(f"{path}: holds no header and no rows")


def _start(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if start.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise DataError(f"{path}: is a spreadsheet or an archive, not text; export the sheet as CSV (UTF-8)")
    if start.startswith(b"PAR1"):
        raise DataError(f"{path}: is a parquet file, not text; the data adapter hf reads it")
    return start


def _where_not(path: Path, spelt: str, encoding: str | None, error: UnicodeError) -> str:
    """The message with the line: the decoder reads ahead and knows only its own buffer."""
    if isinstance(error, UnicodeDecodeError):
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    line.decode(spelt)
                except UnicodeDecodeError as found:
                    return str(not_encoded(str(path), number, line[found.start], spelt, encoding))
    return f"{path}: is not {spelt}: {error}"


