"""What the readers of radiology data sets share: plain or gzipped tables, fields of records, messages."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from pgtune.errors import AdapterError, DataError
from pgtune.example import shown

__all__ = ["check_choice", "check_count", "csv_rows", "did_you_mean", "find", "text_of"]


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """``; did you mean 'x'?``, or nothing where no candidate is like the name."""
    close = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def check_choice(name: str, value: object, choices: Sequence[str | None]) -> None:
    """Refuse an argument that is none of the choices (None is shown as null). Raises AdapterError."""
    if value not in choices:
        words = ["null" if choice is None else choice for choice in choices]
        hint = did_you_mean(value, words) if isinstance(value, str) else ""
        raise AdapterError(f"{name} = {value!r}: expected {', '.join(words[:-1])} or {words[-1]}{hint}")


def check_count(name: str, value: object) -> None:
    """Refuse an argument that is no whole number from 1. Raises AdapterError."""
    if type(value) is not int or value < 1:
        raise AdapterError(f"{name} = {value!r}: expected a whole number from 1")


def find(folder: Path, names: Iterable[str]) -> Path | None:
    """The first of these files or folders (paths relative to ``folder``) that is there."""
    return next((folder / name for name in names if (folder / name).exists()), None)


def text_of(row: Any, key: str) -> str:
    """A text or a whole number under a key, as text with its ends stripped; "" for null and where there is none.

    Raises DataError: the row is not an object, or something else is under the key.
    """
    if not isinstance(row, dict):
        raise DataError(f"is {shown(row)}, expected an object with {key!r}")
    value = row.get(key)
    if value is None:
        if key not in row:
            raise DataError(f"the key {key!r} is missing{did_you_mean(key, row)} (the row has {', '.join(row)})")
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{key} must be a text or a number, got {shown(value)}")
    return str(value).strip()


def csv_rows(path: Path, needed: Iterable[str]) -> Iterator[tuple[int, dict[str, str] | DataError]]:
    """The rows of a comma-separated file with a header, and their numbers from 1; ``.gz`` is unpacked as it is read.

    A row with more or fewer fields than the header is yielded as a DataError; empty lines are passed over. Raises
    DataError, which names the file: it cannot be read, is cut off, or lacks one of the columns ``needed``.
    """
    try:
        with _opened(path) as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            for name in needed:
                if name not in header:
                    has = ", ".join(header) or "no header"
                    raise DataError(f"{path.name}: has no column {name!r}{did_you_mean(name, header)} (it has {has})")
            for number, fields in enumerate((fields for fields in reader if fields), start=1):
                if len(fields) == len(header):
                    yield number, dict(zip(header, fields, strict=True))
                else:
                    yield number, DataError(f"has {len(fields)} fields, expected {len(header)} as in the header")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: is not UTF-8 text (byte {error.start})") from None
    except (csv.Error, EOFError, zlib.error) as error:
        raise DataError(f"{path.name}: is damaged or cut off: {error}") from None
    except OSError as error:  # gzip raises one, too, for a file that is not gzipped
        raise DataError(f"{path.name}: cannot be read: {error.strerror or error}") from None


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return open(path, encoding="utf-8-sig", newline="")
