"""Sources to rows: finding a split's file, and reading JSON Lines strictly.

A source is a JSON Lines file, a ``.json`` file that holds a list of objects, or a folder with one such file a split:
``SPLIT.jsonl``, ``SPLIT.json``, ``_annotations.SPLIT.jsonl`` or ``dataset/_annotations.SPLIT.jsonl``. The split
``validation`` is also found as ``valid`` or ``val``. ``pgtune:`` in front means data shipped in the package. Several
splits are joined by a plus, ``train+validation``; ``all`` stands for every split.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from pgtune.errors import DataError
from pgtune.names import nearest

__all__ = [
    "ALL_SPLITS",
    "find_files",
    "read_rows",
    "shown_path",
    "source_path",
    "split_names",
    "splits_of",
]

ALL_SPLITS = "all"
"""The split name that stands for every split; a data adapter's ``rows`` is given None for it."""

SHIPPED = "pgtune:"
_SPLIT_FILE = re.compile(r"(?:_annotations\.)?(.+)\.jsonl?")
_VALIDATION = ("validation", "valid", "val")


def source_path(source: str | os.PathLike[str]) -> Path:
    """Where a source lies: an absolute path. ``pgtune:NAME`` is the file NAME in the shipped recipes' data folder."""
    text = os.fspath(source)
    if text.startswith(SHIPPED):
        spec = find_spec("pgtune.recipes")
        assert spec is not None, "pgtune.recipes is part of the package"
        assert spec.submodule_search_locations is not None, "pgtune.recipes is a package"
        shipped = Path(spec.submodule_search_locations[0], "data")
        path = Path(os.path.normpath(shipped / text.removeprefix(SHIPPED)))
        if not path.is_relative_to(shipped):
            raise DataError(f"{text}: leaves the data shipped with pgtune; write a plain path for a file of your own")
        return path
    return Path(os.path.abspath(text))


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path for a message: relative to the working directory where it lies in it."""
    absolute = os.path.abspath(path)
    relative = (
        os.path.relpath(absolute) if os.path.splitdrive(absolute)[0] == os.path.splitdrive(os.getcwd())[0] else ""
    )
    return absolute if not relative or relative.startswith(os.pardir) else relative


def split_names(split: str) -> list[str]:
    """``train+validation`` -> [train, validation].

    Raises DataError: an empty name, one that stands twice, or "all" among others.
    """
    names = split.split("+")
    for name in names:
        if not name.strip() or name != name.strip():
            raise DataError(f"split {split!r}: expected names joined by +, such as train+validation")
        if names.count(name) > 1:
            raise DataError(f"split {split!r}: {name} is named twice")
    if len(names) > 1 and ALL_SPLITS in names:
        raise DataError(f"split {split!r}: {ALL_SPLITS} is every split already; name it alone")
    return names


def find_files(source: str | os.PathLike[str], split: str) -> list[Path]:
    """The files of ``split`` (``train+validation``: of each, in that order; ``all``: of every split) in ``source``.

    A source that is a file is taken as it is, whatever the split. Raises DataError: nothing there, a folder without
    that split (with the splits it has), or with two files for it.
    """
    names = split_names(split)
    if names == [ALL_SPLITS] and source_path(source).is_dir():
        names = splits_of(source)
        if not names:
            raise DataError(
                f"{os.fspath(source)}: no splits in this folder; expected train.jsonl, test.jsonl or the like"
            )
    files = [_find_file(source, name) for name in names]
    if not source_path(source).is_dir():
        return files[:1]
    for name, file in zip(names, files, strict=True):
        if files.count(file) > 1:
            raise DataError(f"{os.fspath(source)}: split {split!r} names {shown_path(file)} twice ({name!r} is it too)")
    return files


def _find_file(source: str | os.PathLike[str], split: str) -> Path:
    """The file of ``split`` in ``source``; a source that is a file is taken as it is, whatever the split.

    Raises DataError: nothing there, a folder without that split (with the splits it has), or with two files for it.
    """
    path = source_path(source)
    if not path.exists():
        folder = path.parent
        close = nearest(path.name, os.listdir(folder)) if folder.is_dir() else None
        why = f"; did you mean {close!r}?" if close else "" if folder.is_dir() else f"; there is no folder {folder}"
        raise DataError(f"{os.fspath(source)}: no such file or folder{why}")
    if not path.is_dir():
        return path
    files = _split_files(path)
    names = [split] if split in files or split not in _VALIDATION else [name for name in _VALIDATION if name in files]
    found = [file for name in names for file in files.get(name, [])]
    if not found:
        close = nearest(split, files)
        has = f"it has {', '.join(sorted(files))}" if files else f"expected {split}.jsonl in it"
        raise DataError(
            f"{os.fspath(source)}: no split {split!r} in this folder; {has}"
            + (f"; did you mean {close!r}?" if close else "")
        )
    if len(found) > 1:
        several = " and ".join(str(file.relative_to(path)) for file in found)
        raise DataError(f"{os.fspath(source)}: {several} are both the split {split!r}; name the file instead")
    return found[0]


def splits_of(source: str | os.PathLike[str]) -> list[str]:
    """The splits that a folder has, the usual ones first; a file has none of its own: []."""
    path = source_path(source)
    order = ("train", *_VALIDATION, "test")
    return sorted(_split_files(path), key=lambda name: (order.index(name) if name in order else len(order), name))


def _split_files(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for place in (folder, folder / "dataset"):
        if place.is_dir():
            for file in sorted(place.iterdir()):
                match = _SPLIT_FILE.fullmatch(file.name)
                # In dataset/ only the annotations are split files: other files there may be anything.
                if match and file.is_file() and (place == folder or file.name.startswith("_annotations.")):
                    files.setdefault(match[1], []).append(file)
    return files


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | DataError]]:
    """Each row of a file with its number: the line in JSON Lines, the position in a ``.json`` list; both from 1.

    Strict JSON in UTF-8; blank lines are passed over. A row that cannot be read is yielded as a DataError without its
    place, so that the caller may go on and report several. Raises DataError where the whole file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            if path.suffix == ".json":
                yield from _list_rows(path, file.read())
                return
            number = 0
            for number, line in enumerate(file, start=1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")  # a byte order mark
                if line.strip():
                    yield number, _row(line)
            if number == 0:
                raise DataError(f"{shown_path(path)}: the file is empty (0 bytes)")
    except OSError as error:
        raise DataError(f"{shown_path(path)}: cannot be read: {error.strerror}") from None


def _list_rows(path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any] | DataError]]:
    try:
        rows = _parse(content.removeprefix(b"\xef\xbb\xbf"))
    except DataError as problem:
        raise DataError(f"{shown_path(path)}: {problem}") from None
    if not isinstance(rows, list):
        raise DataError(
            f"{shown_path(path)}: holds {_kind(rows)}, expected a list of objects; "
            "a file with one object a line is called .jsonl"
        )
    for number, row in enumerate(rows, start=1):
        yield number, row if isinstance(row, dict) else DataError(f"is {_kind(row)}, expected a JSON object {{...}}")


def _row(line: bytes) -> dict[str, Any] | DataError:
    try:
        row = _parse(line)
    except DataError as problem:
        return problem
    return row if isinstance(row, dict) else DataError(f"is {_kind(row)}, expected a JSON object {{...}}")


def _parse(content: bytes) -> Any:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        wide = content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in content[:4]
        kind = "it looks like UTF-16" if wide else f"byte 0x{content[error.start]:02x} at column {error.start + 1}"
        raise DataError(f"is not UTF-8 text ({kind}); save the file as UTF-8") from None
    try:
        return json.loads(
            text.strip("\r\n"), object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite
        )
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text.strip() else ""
        raise DataError(f"is not JSON: {error.msg} at {line}column {error.colno}") from None
    except RecursionError:
        raise DataError("is not readable: too many brackets inside one another") from None
    except ValueError as error:  # an integer of more digits than Python reads
        raise DataError(f"is not readable: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise DataError(f"has the key {key!r} twice")
        result[key] = value
    return result


def _no_constant(name: str) -> NoReturn:
    raise DataError(f"holds {name}, which is not JSON; write null, a number or a text")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise DataError(f"holds the number {digits}, which is too large")
    return value


def _kind(value: object) -> str:
    if value is None:
        return "null"
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return names[type(value)]
