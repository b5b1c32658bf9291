"""Rows to Examples: every row is checked before anything large is loaded, and a bad one is named by file and number."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

from PIL import Image

from pgtune.errors import AdapterError, DataError, PgtuneError
from pgtune.example import DataAdapter, Example, ImageSource, shown
from pgtune.images import check_image, open_image
from pgtune.recipe import Source
from pgtune.sources import find_file, read_rows, shown_path, source_path

__all__ = ["ALL_SPLITS", "REFUSED_TOKENS", "Examples", "check_text", "open_source"]

REFUSED_TOKENS = ("<image>", "<bos>", "<eos>", "<pad>")
"""Special tokens that text may not hold: the tokenizer would take them for the real ones, wherever they stand."""

FULL_VERIFICATION = 2000
"""Up to so many examples, ``verify="auto"`` decodes every picture; beyond, it reads the headers."""

ALL_SPLITS = "all"
"""The split name that stands for every split; a data adapter's ``rows`` is given None for it."""

_SHOWN = 5
_LOCATION_LIKE = re.compile(r"<\s*(loc|seg)\s*([-+]?[\d.]+)\s*>", re.IGNORECASE)
_LOCATION = re.compile(r"<loc(0[0-9]{3}|10[01][0-9]|102[0-3])>|<seg(0[0-9]{2}|1[01][0-9]|12[0-7])>")


class Examples(Sequence[Example]):
    """The examples of one source, in its order; each knows the row it came from.

    ``name`` is the file (or source) for messages, ``skipped`` how many rows the data adapter passed over.
    """

    def __init__(self, name: str, examples: Sequence[Example], rows: Sequence[int], skipped: int = 0) -> None:
        assert len(examples) == len(rows), "each example has its row"
        self.name = name
        self.skipped = skipped
        self._examples = tuple(examples)
        self._rows = tuple(rows)

    def __len__(self) -> int:
        return len(self._examples)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> Examples: ...

    def __getitem__(self, index: int | slice) -> Example | Examples:
        if isinstance(index, slice):
            return Examples(self.name, self._examples[index], self._rows[index], self.skipped)
        return self._examples[index]

    def where(self, index: int) -> str:
        """The place of an example, for messages and editors: ``train.jsonl:12``."""
        return f"{self.name}:{self._rows[index]}"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over texts, references and pictures (of a file its name and size): has the data changed?"""
        digest = hashlib.sha256()
        for example in self._examples:
            pictures = [_identity(image) for image in example.images]
            fields = [example.prefix, example.suffix, list(example.references), pictures]
            digest.update(json.dumps(fields).encode() + b"\n")
        return digest.hexdigest()


def open_source(
    source: Source,
    adapter: DataAdapter,
    *,
    root: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    verify: Literal["auto", "full", "header", "none"] = "auto",
) -> Examples:
    """Read and check a source: every row through the data adapter, every text and every picture.

    A relative image path starts at the folder of the data file (of the source, for a data adapter that has ``rows``)
    and becomes absolute. One that leaves that folder is refused, unless it ends below ``root``; this looks at the
    path's own ``..``, symbolic links are followed. ``limit`` stops after so many examples. ``verify``: ``full``
    decodes every picture file, ``header`` opens it, ``none`` does not look, ``auto`` is ``full`` for up to 2,000
    examples and ``header`` for more.

    Raises DataError with the first five bad rows and the number of the others, and AdapterError where the data adapter
    fails or gives something that is not an Example.
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit = {limit}: expected 1 or more examples")
    rows, name, base = _rows(source, adapter)
    folders = [str(base)]
    if root is not None:
        if not os.path.isdir(root):
            raise DataError(f"data.root = {os.fspath(root)!r}: no such folder")
        folders.append(os.path.abspath(root))
    examples: list[Example] = []
    numbers: list[int] = []
    bad: list[tuple[int, str]] = []
    skipped = 0
    for number, row in rows:
        if limit is not None and len(examples) >= limit:
            break
        try:
            example = _example(row, adapter, f"{name}, row {number}")
            if example is None:
                skipped += 1
                continue
            examples.append(_checked(example, folders))
            numbers.append(number)
        except DataError as error:
            bad.append((number, str(error)))
    if not bad:
        bad = _bad_pictures(examples, numbers, verify)
    if bad:
        raise DataError(_report(name, bad))
    if not examples:
        path = source_path(source.source)
        why = f"the data adapter skipped all {skipped} rows" if skipped else "no rows in it"
        raise DataError(f"{name}: {why}" + ("" if path.exists() else "; there is no such file or folder"))
    return Examples(name, examples, numbers, skipped)


def check_text(field: str, text: str) -> None:
    """Refuse text that would not reach the model as it is written. Raises DataError, without the row.

    Refused: the special tokens of the layout, what looks like a location or segmentation token and is none (the
    tokenizer would quietly read it as letters), and lone surrogates. ``<loc0000>`` to ``<loc1023>`` and ``<seg000>`` to
    ``<seg127>`` are one token each.
    """
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
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{field} holds half of a character (lone surrogate U+{ord(text[error.start]):04X} at {error.start})"
        ) from None


def _rows(source: Source, adapter: DataAdapter) -> tuple[Iterable[tuple[int, Any]], str, Path]:
    """Numbered rows, the name for messages, and the folder in which relative image paths start."""
    own = getattr(adapter, "rows", None)
    if own is None:
        file = find_file(source.source, source.split)
        return read_rows(file), shown_path(file), file.parent
    path = source_path(source.source)
    return _own_rows(own, path, source, adapter), source.source, path if path.is_dir() else path.parent


def _own_rows(rows: Any, path: Path, source: Source, adapter: DataAdapter) -> Iterator[tuple[int, Any]]:
    # A source that is not on disk is passed as it was written: a data adapter may understand it otherwise.
    given = path if path.exists() else Path(source.source)
    try:
        yield from enumerate(rows(given, None if source.split == ALL_SPLITS else source.split), start=1)
    except PgtuneError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{source.source}: no such file: {error.filename} (split {source.split!r})") from error
    except (Exception, SystemExit) as error:  # someone else's code: whatever it raises is reported by name
        raise AdapterError(
            f"{source.source}: reading the rows of split {source.split!r}, data adapter {_name(adapter)} raised "
            f"{type(error).__name__}: {error}"
        ) from error


def _example(row: Any, adapter: DataAdapter, place: str) -> Example | None:
    if isinstance(row, DataError):
        raise row
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
    if result is not None and not isinstance(result, Example):
        raise AdapterError(
            f"{place}: data adapter {_name(adapter)} must give an Example, or None to skip the row; got {shown(result)}"
        )
    return result


def _checked(example: Example, folders: list[str]) -> Example:
    if not example.suffix:
        raise DataError("suffix is empty: there is nothing to learn (an empty prefix is allowed)")
    check_text("prefix", example.prefix)
    check_text("suffix", example.suffix)
    try:
        json.dumps([example.references, example.metadata], allow_nan=False, ensure_ascii=False).encode("utf-8")
    except (TypeError, ValueError) as error:  # a ValueError too: half of a character
        raise DataError(f"references and metadata must hold JSON values only: {error}") from None
    images = [_located(image, folders) if isinstance(image, str) else image for image in example.images]
    return Example(images, example.prefix, example.suffix, example.references, example.metadata)


def _located(image: str, folders: list[str]) -> str:
    if re.match(r"[a-z][a-z0-9+]+://", image, re.IGNORECASE):
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


def _bad_pictures(examples: list[Example], numbers: list[int], verify: str) -> list[tuple[int, str]]:
    if verify == "none":
        return []
    full = verify == "full" or (verify == "auto" and len(examples) <= FULL_VERIFICATION)
    paths = list(dict.fromkeys(image for example in examples for image in example.images if isinstance(image, str)))

    def problem(path: str) -> str | None:
        try:
            if full:
                open_image(path)
            else:
                check_image(path)
        except DataError as error:
            return str(error)
        return None

    # Pillow decodes without holding Python's lock.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        problems = dict(zip(paths, pool.map(problem, paths), strict=True))
    bad = []
    for number, example in zip(numbers, examples, strict=True):
        found = [problems[image] for image in example.images if isinstance(image, str) and problems[image]]
        if found:
            bad.append((number, f"image {found[0]}"))
    return bad


def _report(name: str, bad: list[tuple[int, str]]) -> str:
    lines = [f"{name}, row {number}: {message}" for number, message in bad[:_SHOWN]]
    if len(bad) > 1:
        lines.insert(0, f"{name}: {len(bad)} bad rows")
    if len(bad) > _SHOWN:
        lines.append(f"... and {len(bad) - _SHOWN} more")
    return "\n  ".join(lines)


def _identity(image: ImageSource) -> list[Any]:
    if isinstance(image, str):
        return [os.path.basename(image), os.path.getsize(image) if os.path.isfile(image) else None]
    if isinstance(image, Image.Image):
        return [image.mode, list(image.size), hashlib.sha256(image.tobytes()).hexdigest()]
    # A callable is known by how it prints, without the addresses in it.
    return [re.sub(r" at 0x[0-9a-fA-F]+", "", repr(image))]


def _name(adapter: DataAdapter) -> str:
    return str(getattr(adapter, "__name__", type(adapter).__name__))
