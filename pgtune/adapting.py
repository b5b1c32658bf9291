"""Any source to a JSON Lines file that the ``jsonl`` data adapter reads back."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pgtune.data import ALL_SPLITS, Examples, open_source
from pgtune.errors import AdapterError, DataError, PgtuneError
from pgtune.example import DataAdapter, ImageSource, load_adapter, shown
from pgtune.images import open_image
from pgtune.recipe import Source
from pgtune.sources import find_file, shown_path, source_path, splits_of

__all__ = ["adapt"]


def adapt(
    adapter_name: str,
    source: str | os.PathLike[str],
    *,
    split: str = ALL_SPLITS,
    limit: int | None = None,
    out: str | os.PathLike[str],
    adapter_args: Mapping[str, Any] | None = None,
    root: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Write the examples of ``source`` to ``out`` as rows ``{"image", "prefix", "suffix", "references", "metadata"}``.

    ``split="all"`` takes every split that the source has, one after the other; ``limit`` counts over all of them.
    Pictures that lie in files are referred to where they lie: relative to ``out``'s folder inside it, else absolute.
    Others are saved as PNG in a folder beside ``out``, named after it (``F.jsonl`` -> ``F_images``). Everything is
    checked and written aside first: after an error nothing is there that was not there before.

    Returns ``{"rows": int, "skipped": int, "out": str, "splits": {name: rows}}``. Raises AdapterError and DataError as
    `pgtune.data.open_source` does, and DataError where ``out`` cannot be written.
    """
    target = Path(os.path.abspath(out))
    if limit is not None and limit < 1:
        raise DataError(f"limit = {limit}: expected 1 or more examples")
    if not os.fspath(source):
        raise DataError("the source is empty: expected a file or folder")
    adapter = load_adapter(adapter_name, dict(adapter_args or {}), key="adapter")
    names = _splits(adapter, source) if split == ALL_SPLITS else [split]
    _check_target(target, adapter, source, names)
    parts: dict[str, Examples] = {}
    left = limit
    for name in names:
        if left == 0:
            break
        parts[name] = open_source(Source(source=os.fspath(source), split=name), adapter, root=root, limit=left)
        left = None if left is None else left - len(parts[name])
    try:
        # Beside the result, so that the last step is a rename; above it where its folder is not there yet.
        beside = next(folder for folder in target.parents if folder.exists())
        with tempfile.TemporaryDirectory(prefix=f".{target.stem}.", dir=beside) as aside:
            _write(list(parts.values()), target, Path(aside))
    except OSError as error:
        raise DataError(f"{shown_path(target)}: cannot be written: {error.strerror or error}") from error
    return {
        "rows": sum(len(part) for part in parts.values()),
        "skipped": sum(part.skipped for part in parts.values()),
        "out": os.fspath(out),
        "splits": {name: len(part) for name, part in parts.items()},
    }


def _splits(adapter: DataAdapter, source: str | os.PathLike[str]) -> list[str]:
    """The splits of a source, as the data adapter lists them or as its files show; "all" where it has no such thing."""
    own = getattr(adapter, "splits", None)
    if own is not None:
        does = f"{os.fspath(source)}: listing the splits, data adapter {type(adapter).__name__}"
        try:
            listed = list(own(source_path(source)))
        except PgtuneError:
            raise
        except (Exception, SystemExit) as error:  # someone else's code: whatever it raises is reported by name
            raise AdapterError(f"{does} raised {type(error).__name__}: {error}") from error
        if not listed or not all(isinstance(name, str) and name for name in listed):
            raise AdapterError(f"{does} must give names, one or more, got {shown(listed)}")
        return listed
    if hasattr(adapter, "rows") or not source_path(source).is_dir():
        return [ALL_SPLITS]
    names = splits_of(source)
    if not names:
        raise DataError(f"{os.fspath(source)}: no splits in this folder; expected train.jsonl, test.jsonl or the like")
    return names


def _check_target(target: Path, adapter: DataAdapter, source: str | os.PathLike[str], names: list[str]) -> None:
    if target.suffix != ".jsonl":
        raise DataError(f"{shown_path(target)}: the file to write must end in .jsonl")
    if target.is_dir():
        raise DataError(f"{shown_path(target)}: is a folder, expected the name of the file to write")
    read = [source_path(source)] if hasattr(adapter, "rows") else [find_file(source, name) for name in names]
    if target.exists() and any(path.exists() and path.samefile(target) for path in read):
        raise DataError(f"{shown_path(target)}: would overwrite what is read; choose another name")


def _write(parts: list[Examples], target: Path, aside: Path) -> None:
    pictures = target.with_name(f"{target.stem}_images")
    saved: dict[str, Path] = {}
    with open(aside / "rows.jsonl", "w", encoding="utf-8", newline="\n") as file:
        for part in parts:
            for index, example in enumerate(part):
                try:
                    images = [_reference(image, target.parent, pictures, aside, saved) for image in example.images]
                except DataError as error:
                    raise DataError(f"{part.where(index)}: {error}") from error
                row: dict[str, Any] = {
                    "image": images[0] if len(images) == 1 else images,
                    "prefix": example.prefix,
                    "suffix": example.suffix,
                    "references": list(example.references),
                }
                if example.metadata:
                    row["metadata"] = dict(example.metadata)
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    target.parent.mkdir(parents=True, exist_ok=True)
    if saved:
        pictures.mkdir(exist_ok=True)
    for name, path in saved.items():
        os.replace(path, pictures / name)
    os.replace(aside / "rows.jsonl", target)


def _reference(image: ImageSource, folder: Path, pictures: Path, aside: Path, saved: dict[str, Path]) -> str:
    if isinstance(image, str):
        path = Path(os.path.abspath(image))
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
    picture = open_image(image)
    # Named by its content: the same picture is saved once, and a second call never replaces another's file.
    name = hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()[:20] + ".png"
    if name not in saved:
        saved[name] = aside / name
        picture.save(saved[name])
    return f"{pictures.name}/{name}"
