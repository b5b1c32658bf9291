"""What data adapters for folders of files share: names of splits, folders by name, text of any common encoding."""

from __future__ import annotations

import codecs
import difflib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pgtune.errors import AdapterError, DataError

__all__ = [
    "PICTURES",
    "SPLITS",
    "base_of",
    "check_encoding",
    "chosen",
    "decoded",
    "encoding_of",
    "entries",
    "folder_named",
    "hint",
    "inside",
    "not_encoded",
    "picture_named",
    "pictures_below",
    "present",
    "read_json",
    "read_text",
    "relative",
    "split_folders",
    "split_named",
]

PICTURES = frozenset((".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"))
"""Endings, in lower case, of files that count as pictures."""

SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev", "validate"),
    "test": ("test", "testing"),
}
"""The splits' names in recipes, and how published data sets call them."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

Found = TypeVar("Found")


def present(source: Path) -> None:
    """Refuse a source that is not there. Raises DataError."""
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")


def split_named(name: str) -> str | None:
    """The recipe's name of a split that a data set calls ``name`` (in any case), or None."""
    return next((split for split, names in SPLITS.items() if name.lower() in names), None)


def split_folders(folder: Path) -> dict[str, Path]:
    """The sub-folders that are named after a split: recipe's name -> folder, in the order of `SPLITS`.

    Raises DataError where two of them are the same split.
    """
    found: dict[str, Path] = {}
    for path in entries(folder):
        split = split_named(path.name)
        if split is None or not path.is_dir():
            continue
        if split in found:
            raise DataError(f"{folder}: {found[split].name} and {path.name} are both the split {split!r}")
        found[split] = path
    return {split: found[split] for split in SPLITS if split in found}


def chosen(source: Path, have: Mapping[str, Found], split: str | None) -> list[tuple[str, Found]]:
    """The split asked for as ``[(name, value)]``, or all of them for None. Raises DataError where it is not there.

    {"all": value}, of a source that says nothing about splits, stands for every split.
    """
    if split is None or list(have) == ["all"]:
        return list(have.items())
    name = split if split in have else split_named(split) or split
    if name not in have:
        raise DataError(f"{source}: no split {split!r}; it has {', '.join(have) or 'none'}{hint(split, have)}")
    return [(name, have[name])]


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted by name, hidden files (also macOS's ``._x`` and ``__MACOSX``) left out.

    Raises DataError where there is no such folder.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read as a folder: {error.strerror}") from None
    return [folder / name for name in names if not name.startswith((".", "__MACOSX"))]


def pictures_below(folder: Path) -> Iterator[Path]:
    """Every picture file in a folder and below it, folder by folder in the order of their names."""
    folders = []
    for path in entries(folder):
        if path.suffix.lower() in PICTURES:
            yield path
        elif path.is_dir() and not (path.is_symlink() and folder.resolve().is_relative_to(path.resolve())):
            folders.append(path)  # a link to a folder above leads round in a circle
    for inner in folders:
        yield from pictures_below(inner)


def folder_named(folder: Path, *names: str) -> Path | None:
    """The first of ``names`` that is a sub-folder of ``folder``, in any case of letters; None: there is none."""
    if not folder.is_dir():
        return None
    here = {path.name.lower(): path for path in entries(folder) if path.is_dir()}
    return next((here[name.lower()] for name in names if name.lower() in here), None)


def picture_named(stem: str, folders: Iterable[Path]) -> Path | None:
    """The picture ``stem`` with any of the endings, in the first of the folders that has one."""
    for folder in folders:
        for ending in (".jpg", ".png", ".jpeg", *sorted(PICTURES - {".jpg", ".png", ".jpeg"})):
            for spelt in (ending, ending.upper()):
                path = folder / f"{stem}{spelt}"
                if path.is_file():
                    return path
    return None


def base_of(source: Path) -> Path:
    """The folder at which a source's relative image paths start."""
    return source if source.is_dir() else source.parent


def relative(path: Path, source: Path) -> str:
    """A path as it is written from the source's folder; absolute where it lies elsewhere."""
    base = os.path.abspath(base_of(source))
    absolute = os.path.abspath(path)
    return os.path.relpath(absolute, base) if absolute.startswith(os.path.join(base, "")) else absolute


def inside(folder: Path, name: str) -> Path:
    """The file that a data set calls ``name`` in ``folder``. Raises DataError for a name that leads out of it."""
    path = Path(os.path.normpath(folder / name.replace("\\", "/")))
    if not path.is_relative_to(os.path.normpath(folder)):
        raise DataError(f"the file name {name!r} leads out of {folder}")
    return path


def check_encoding(encoding: str | None) -> None:
    """Refuse an encoding that Python does not know. Raises AdapterError."""
    if encoding is not None:
        try:
            codecs.lookup(encoding)
            "".encode(encoding)  # base64 and the like are no encodings of text
        except (LookupError, TypeError):
            raise AdapterError(f"encoding = {encoding!r}: expected a name such as utf-8, cp1252 or utf-16") from None


def encoding_of(start: bytes) -> str:
    """The encoding that a byte order mark at the beginning tells, else UTF-8."""
    return next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")


def decoded(content: bytes, name: str, encoding: str | None = None) -> str:
    """Text of a file: in ``encoding``, or (None) as its byte order mark says, else UTF-8.

    Raises DataError with the line of the first byte that does not fit, and what to do.
    """
    spelt = encoding or encoding_of(content[:4])
    try:
        return content.decode(spelt)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(not_encoded(name, line, content[error.start], spelt, encoding)) from None


def not_encoded(name: str, line: int, byte: int, spelt: str, encoding: str | None) -> str:
    """The message for a byte that is not of the encoding."""
    advice = (
        "choose another encoding"
        if encoding
        else "save the file as UTF-8, or set encoding (cp1252: what spreadsheets on Windows write in western Europe)"
    )
    return f"{name}, line {line}: byte 0x{byte:02x} is not {spelt}; {advice}"


def read_text(path: Path, encoding: str | None = None) -> str:
    """A text file, whole. Raises DataError: not there, or not of that encoding."""
    return decoded(_bytes(path), str(path), encoding)


def read_json(path: Path, hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """A JSON file, whole; ``hook`` is json's ``object_hook``. Raises DataError."""
    try:
        return json.loads(decoded(_bytes(path), str(path)), object_hook=hook)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise DataError(f"{path}: is not readable: too many brackets inside one another") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        near = hint(path.name, (entry.name for entry in entries(path.parent))) if path.parent.is_dir() else ""
        raise DataError(f"{path}: cannot be read: {error.strerror}{near}") from None


def hint(name: str, names: Iterable[str]) -> str:
    """``; did you mean ...?`` with the nearest of the names, or nothing."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
