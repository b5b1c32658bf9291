"""From a source to checked Examples: which files, which rows in them, and what the data adapter makes of each row."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pgtune.errors import AdapterError, DataError, PgtuneError
from pgtune.example import DataAdapter, Example, Row, Skip, shown
from pgtune.groups import digest, picture_identity
from pgtune.images import open_image
from pgtune.recipe import Source
from pgtune.sources import ALL_SPLITS, find_files, read_rows, shown_path, source_path, split_names

__all__ = [
    "REFUSED_TOKENS",
    "Made",
    "Part",
    "Raw",
    "RowReader",
    "Taken",
    "check_text",
    "located",
    "parts_of",
    "raw_rows",
    "taken",
]

REFUSED_TOKENS = ("<image>", "<bos>", "<eos>", "<pad>")
"""Special tokens that text may not hold: the tokenizer would take them for the real ones, wherever they stand."""

_LOCATION_LIKE = re.compile(r"<\s*(loc|seg)\s*([-+]?[\d.]+)\s*>", re.IGNORECASE)
_LOCATION = re.compile(r"<loc(0[0-9]{3}|10[01][0-9]|102[0-3])>|<seg(0[0-9]{2}|1[01][0-9]|12[0-7])>")
_ADDRESS = re.compile(r"[a-z][a-z0-9+]+://", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """A file of rows, or what a data adapter's own ``rows`` gives for one split."""

    name: str
    """What messages call it."""
    folder: str
    """Where relative paths of pictures start."""
    rows: Iterable[tuple[int, Any]]
    """Numbered rows."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A row as it is read, and where: in the part of that number."""

    part: int
    number: int
    place: str
    """Where a data adapter's own ``rows`` says that it stands; "": nothing said."""
    value: Any


@dataclass(frozen=True, slots=True)
class Taken:
    """A row that gave an Example: as it is kept (its row, then itself, pickled), and its pictures."""

    record: bytes
    pictures: tuple[tuple[int, bool], ...]
    """Of each picture a number that stands for it, 64 bits, and whether it lies in a file."""

    def example(self) -> Example:
        """The example itself."""
        return kept(self.record)[2]


Made = Taken | Skip | PgtuneError
"""What a row gives: an Example, a reason to pass it over, or what is wrong: a DataError with the row, another
PgtuneError with the data adapter."""


def parts_of(source: Source, adapter: DataAdapter) -> list[Part]:
    """What is read for a source, in order: a part for each split that it names."""
    own = getattr(adapter, "rows", None)
    if own is None:
        files = find_files(source.source, source.split)
        return [Part(shown_path(file), str(file.parent), read_rows(file)) for file in files]
    path = source_path(source.source)
    folder = str(path if path.is_dir() else path.parent)
    names = split_names(source.split)
    return [
        Part(
            source.source if len(names) == 1 else f"{source.source} ({name})",
            folder,
            _own_rows(own, path, source.source, name, adapter),
        )
        for name in names
    ]


def raw_rows(parts: list[Part]) -> Iterator[Raw]:
    """The rows of all parts, one after the other."""
    for place, part in enumerate(parts):
        for number, value in part.rows:
            if isinstance(value, Row):
                yield Raw(place, number, value.place, value.value)
            else:
                yield Raw(place, number, "", value)


def _own_rows(rows: Any, path: Path, source: str, split: str, adapter: DataAdapter) -> Iterator[tuple[int, Any]]:
    # A source that is not on disk is passed as it was written: a data adapter may understand it otherwise.
    given = path if path.exists() else Path(source)
    try:
        yield from enumerate(rows(given, None if split == ALL_SPLITS else split), start=1)
    except PgtuneError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{source}: no such file: {error.filename} (split {split!r})") from error
    except (Exception, SystemExit) as error:  # someone else's code: whatever it raises is reported by name
        raise AdapterError(
            f"{source}: reading the rows of split {split!r}, data adapter {_name(adapter)} raised "
            f"{type(error).__name__}: {error}"
        ) from error


class RowReader:
    """A row to a checked, pickled Example; ``parts`` are the name and the folder of each part.

    ``folders`` beside a part's own are those in which relative paths of pictures may end.
    """

    def __init__(self, adapter: DataAdapter, parts: list[tuple[str, str]], folders: list[str]) -> None:
        self.adapter = adapter
        self.parts = parts
        self.folders = folders

    def __call__(self, raw: Raw) -> Made:
        """What the row gives; nothing is raised for what is wrong with it."""
        name, folder = self.parts[raw.part]
        place = raw.place or f"{name}, row {raw.number}"
        try:
            result = _made(raw.value, self.adapter, place)
            if not isinstance(result, Example):
                return result
            example = _checked(result, [folder, *self.folders])
        except PgtuneError as error:
            return error
        try:
            return taken(example, raw.number, raw.place)
        except Exception as error:  # someone else's objects: whatever pickling them raises
            return _unpicklable(example, self.adapter, place, error)


def taken(example: Example, row: int, place: str = "") -> Taken:
    """An example as it is kept. Raises what its pictures raise where they cannot be pickled."""
    pictures = tuple((digest(picture_identity(image)), isinstance(image, str)) for image in example.images)
    return Taken(pickle.dumps((row, place)) + pickle.dumps(example, protocol=5), pictures)


def kept(record: bytes) -> tuple[int, str, Example]:
    """Row, place and example of a record: two pickles, one after the other."""
    file = io.BytesIO(record)
    row, place = pickle.load(file)
    return row, place, pickle.load(file)


def _unpicklable(example: Example, adapter: DataAdapter, place: str, error: Exception) -> AdapterError:
    refused = AdapterError(
        f"{place}: data adapter {_name(adapter)} gave an image that cannot be pickled ({type(error).__name__}: "
        f"{error}); a callable that makes one must be a function of a module, a functools.partial of one, or an "
        "instance of a class of a module"
    )
    refused.__cause__ = error
    return refused


def _made(row: Any, adapter: DataAdapter, place: str) -> Example | Skip:
    if isinstance(row, DataError):
        raise row
    if isinstance(row, Skip):
        return row
    try:
        result: Any = adapter(row)
    except DataError:
        raise
    except (Exception, SystemExit) as error:  # someone else's code: whatever it raises is reported by name
        has = (
            f" (the row has {', '.join(map(str, row))})"
            if isinstance(error, KeyError) and isinstance(row, dict)
            else ""
        )
        raise AdapterError(
            f"{place}: data adapter {_name(adapter)} raised {type(error).__name__}: {error}{has}"
        ) from error
    if result is None:
        return Skip("")
    if not isinstance(result, Example | Skip):
        raise AdapterError(
            f"{place}: data adapter {_name(adapter)} must give an Example, or Skip(reason) or None to skip the row; "
            f"got {shown(result)}"
        )
    return result


def check_text(field: str, text: str) -> None:
    """Refuse text that would not reach the model as it is written. Raises DataError, without the row.

    Refused: the special tokens of the layout, what looks like a location or segmentation token and is none (the
    tokenizer would quietly read it as letters), and lone surrogates. ``<loc0000>`` to ``<loc1023>`` and ``<seg000>`` to
    ``<seg127>`` are one token each.
    """
    if "<" in text:
        _check_tokens(field, text)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{field} holds half of a character (lone surrogate U+{ord(text[error.start]):04X} at {error.start})"
        ) from None


def _check_tokens(field: str, text: str) -> None:
    for token in REFUSED_TOKENS:
        if token in text:
            raise DataError(
                f"{field} holds {token}, a special token that would break the layout of the sequence; "
                "pgtune sets it where it belongs, so take it out of the text"
            )
    for match in _LOCATION_LIKE.finditer(text):
        if not _LOCATION.fullmatch(match[0]):
            known = "<loc0000> to <loc1023>" if match[1].lower() == "loc" else "<seg000> to <seg127>"
            raise DataError(f"{field} holds {match[0]}, which is not a token and would be read as letters: {known}")


def _checked(example: Example, folders: list[str]) -> Example:
    if not example.suffix:
        raise DataError("suffix is empty: there is nothing to learn (an empty prefix is allowed)")
    check_text("prefix", example.prefix)
    check_text("suffix", example.suffix)
    for field in ("part", "question_type"):
        if getattr(example, field):
            check_text(field, getattr(example, field))
    try:
        json.dumps([example.references, example.metadata], allow_nan=False, ensure_ascii=False).encode("utf-8")
    except (TypeError, ValueError) as error:  # a ValueError too: half of a character
        raise DataError(f"references and metadata must hold JSON values only: {error}") from None
    return Example(
        [_image(image, folders) for image in example.images],
        example.prefix,
        example.suffix,
        example.references,
        example.metadata,
        example.part,
        example.question_type,
        example.groups,
    )


def _image(image: Any, folders: list[str]) -> str | Image.Image | Callable[[], Image.Image]:
    if isinstance(image, str):
        return located(image, folders)
    if isinstance(image, Image.Image):
        # In its final form right away: it is kept on disk, and a file behind it would have to stay open.
        return open_image(image)
    made: Callable[[], Image.Image] = image
    return made


def located(image: str, folders: list[str]) -> str:
    """A picture's path made absolute, from the first folder on; raises DataError where it leaves all of them."""
    if _ADDRESS.match(image):
        raise DataError(f"image {image!r} is an address, expected a file's path: pictures are not downloaded")
    if "\0" in image or image.encode("utf-8", "ignore").decode() != image:
        raise DataError(f"image {image!r} is not a path: it holds a zero byte or half of a character")
    if os.path.isabs(image):
        return image
    path = os.path.normpath(os.path.join(folders[0], image))
    if not any(path.startswith(os.path.join(folder, "")) for folder in folders):
        where = shown_path(folders[0]) if len(folders) == 1 else " and ".join(shown_path(folder) for folder in folders)
        raise DataError(
            f"image {image!r} is outside of {where}; move it there, write an absolute path, or set data.root to a "
            "folder that holds it"
        )
    return path


def _name(adapter: DataAdapter) -> str:
    return str(getattr(adapter, "__name__", type(adapter).__name__))
