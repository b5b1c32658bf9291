"""What `pgtune predict` is asked: pictures on the command line, folders, patterns, JSON Lines, or what a data adapter
makes of its own kind of material."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtune.errors import AdapterError, DataError, PgtuneError, RecipeError
from pgtune.example import Example, ImageSource, shown
from pgtune.progress import say
from pgtune.reading import located
from pgtune.sources import read_rows as read_source_rows

__all__ = ["Asked", "from_images", "from_input"]

IMAGE_SUFFIXES = frozenset({".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Endings of the files that are taken from a folder."""

MAYBE_SCENES = frozenset({".tif", ".tiff", ".jp2"})
"""Endings of pictures that may be a data adapter's own material: a GeoTIFF is no photograph."""


@dataclass(frozen=True)
class Asked:
    """One prompt: the keys that its row in the output has beside the answer, and its pictures."""

    row: dict[str, Any]
    """``image`` and ``prefix``, and ``references``, ``metadata`` and ``where`` as far as there are any."""
    images: tuple[ImageSource, ...]


def from_images(images: Sequence[str], prefix: str | None) -> list[Asked]:
    """One prompt about the pictures of the command line."""
    if prefix is None:
        raise RecipeError("predict: --image needs --prefix (it may be empty: --prefix '')")
    return [Asked({"image": list(images) if len(images) > 1 else images[0], "prefix": prefix}, tuple(images))]


def from_input(given: str, prefix: str | None, load_adapter: Callable[[], Any], root: str | None) -> list[Asked]:
    """The prompts that an ``--input`` holds.

    JSON Lines, plain pictures, folders and patterns of them are read here. Everything else goes to the data adapter's
    ``inputs``, where it has them: files of other kinds, folders without a plain picture, and TIFF and JPEG 2000, which
    may be scenes. ``load_adapter`` is called where that matters.

    Raises:
        RecipeError, DataError: nothing there, or no prefix.
        AdapterError: the data adapter fails.
    """
    if not given:
        raise RecipeError("predict: --input is empty; expected a folder, a pattern or a JSONL file")
    path = Path(given)
    if path.is_file() and path.suffix in {".jsonl", ".json"}:
        return _from_jsonl(path, prefix, root)
    if path.is_dir():
        files = sorted(str(file) for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    elif path.is_file():
        files = [given]
    else:
        files = sorted(glob.glob(given, recursive=True))
        if not files:
            raise DataError(f"{given}: no such file or folder, and as a pattern it matches nothing")
    plain = [file for file in files if Path(file).suffix.lower() in IMAGE_SUFFIXES - MAYBE_SCENES]
    if path.exists() and not plain:
        adapter = load_adapter()
        if hasattr(adapter, "inputs"):
            return _from_adapter(path, given, prefix, adapter, root)
    if not files:
        raise DataError(f"{path}: no pictures in this folder (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
    if prefix is None:
        raise RecipeError("predict: pictures without text need --prefix (it may be empty: --prefix '')")
    return [Asked({"image": file, "prefix": prefix}, (file,)) for file in files]


def _from_jsonl(path: Path, prefix: str | None, root: str | None) -> list[Asked]:
    asked = []
    own_prefixes = 0
    folders = [os.path.abspath(path.parent), *([os.path.abspath(root)] if root is not None else [])]
    for number, row in read_source_rows(path):
        where = f"{path}, row {number}"
        if isinstance(row, DataError):
            raise DataError(f"{where}: {row}")
        image, own = row.get("image"), row.get("prefix", prefix)
        names: list[Any] = image if isinstance(image, list) else [image]
        if not names or not all(isinstance(name, str) and name for name in names):
            raise DataError(f"{where}: image must be a path or a list of paths, got {image!r}")
        own_prefixes += prefix is not None and own != prefix
        if not isinstance(own, str):
            raise DataError(f"{where}: no prefix in the row and no --prefix given")
        try:
            lying = [_below(path.parent, name, folders) for name in names]
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        truth: dict[str, Any] = {name: row[name] for name in ("references", "metadata") if name in row}
        if "references" not in truth and isinstance(row.get("suffix"), str):
            truth["references"] = [row["suffix"]]
        field = lying if isinstance(image, list) else lying[0]
        asked.append(Asked({"image": field, "prefix": own, **truth}, tuple(lying)))
    if not asked:
        raise DataError(f"{path}: no rows")
    if own_prefixes:
        say(f"warning: {own_prefixes} of {len(asked)} rows in {path} have their own prefix; --prefix is for the rest")
    return asked


def _below(folder: Path, name: str, folders: list[str]) -> str:
    """A row's path seen from here; one that climbs out of the folder is refused, as in training."""
    return located(name, folders) if ".." in Path(name).parts else str(folder / name)


def _from_adapter(path: Path, given: str, prefix: str | None, adapter: Any, root: str | None) -> list[Asked]:
    asked = []
    start = path if path.is_dir() else path.parent
    folders = [os.path.abspath(start), *([os.path.abspath(root)] if root is not None else [])]
    for number, example in enumerate(_examples(path, given, prefix, adapter), start=1):
        made = f"{given}#{number}"  # the same each time, so that an interrupted prediction goes on
        several = len(example.images) > 1
        images = tuple(located(image, folders) if isinstance(image, str) else image for image in example.images)
        names = [
            image if isinstance(image, str) else f"{made}.{index}" if several else made
            for index, image in enumerate(images, start=1)
        ]
        row: dict[str, Any] = {"image": names if several else names[0], "prefix": example.prefix}
        if example.suffix:
            row["references"] = list(example.references)
        if example.metadata:
            row["metadata"] = dict(example.metadata)
        asked.append(Asked({**row, "where": made}, images))
    if not asked:
        raise DataError(f"{given}: the data adapter {type(adapter).__name__} found nothing in it to predict on")
    return asked


def _examples(path: Path, given: str, prefix: str | None, adapter: Any) -> Iterator[Example]:
    name = type(adapter).__name__
    try:
        for example in adapter.inputs(path, prefix):
            if not isinstance(example, Example):
                raise AdapterError(f"{given}: inputs of data adapter {name} must give Examples, got {shown(example)}")
            json.dumps(example.metadata, allow_nan=False)
            yield example
    except PgtuneError:
        raise
    except (Exception, SystemExit) as error:  # someone else's code: whatever it raises is reported by name
        raise AdapterError(
            f"{given}: reading inputs, data adapter {name} raised {type(error).__name__}: {error}"
        ) from error
