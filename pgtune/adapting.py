"""Any source to a JSON Lines file that the ``jsonl`` data adapter reads back."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtune.data import ALL_SPLITS, Examples, check_share, open_source
from pgtune.errors import AdapterError, DataError, PgtuneError
from pgtune.example import DataAdapter, Example, ImageSource, load_adapter, shown
from pgtune.hub.credentialed import MARK, origin_of
from pgtune.images import open_image
from pgtune.progress import Progress
from pgtune.reading import Made, Raw, RowReader
from pgtune.recipe import Source
from pgtune.sources import find_files, shown_path, source_path, split_names, splits_of
from pgtune.workers import Workers

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
    max_bad_share: float = 0.0,
    processes: int = 1,
) -> dict[str, Any]:
    """Write the examples of ``source`` to ``out`` as rows ``{"image", "prefix", "suffix", "references", ...}``.

    Where an example has them, ``metadata``, ``part``, ``question_type`` and ``groups`` stand in its row too; a number
    stands for each group, in the order in which they appear: its own name, which may be a patient's, is not written.
    Rows of a credentialed data set carry a mark in their metadata (`pgtune.hub.credentialed`).

    ``split="all"`` takes every split that the source has, one after the other, ``train+test`` those two; ``limit``
    counts over all of them. Bad rows up to ``max_bad_share`` of a split are left out. ``processes`` share the work of
    the data adapter and of saving pictures; what is written is the same for any number.
    Pictures that lie in files are referred to where they lie: relative to ``out``'s folder inside it, else absolute.
    Others are saved as PNG in a folder beside ``out``, named after it (``F.jsonl`` -> ``F_images``). Everything is
    checked and written aside first: after an error nothing is there that was not there before.

    Returns ``{"rows": int, "skipped": int, "bad": int, "out": str, "splits": {name: rows}, "left_out": {name: ...}}``;
    the last lists skipped and bad rows with their reasons (`pgtune.left_out.LeftOut.document`), for splits that have
    any. Raises AdapterError and DataError as `pgtune.data.open_source` does, and DataError where ``out`` cannot be
    written.
    """
    target = Path(os.path.abspath(out))
    if limit is not None and limit < 1:
        raise DataError(f"limit = {limit}: expected 1 or more examples")
    if processes < 1:
        raise DataError(f"processes = {processes}: expected 1 or more")
    if not 0 <= max_bad_share < 1:
        raise DataError(f"max_bad_share = {max_bad_share}: expected 0 up to but not including 1")
    if not os.fspath(source):
        raise DataError("the source is empty: expected a file or folder")
    adapter = load_adapter(adapter_name, dict(adapter_args or {}), key="adapter")
    names = _splits(adapter, source) if split == ALL_SPLITS else split_names(split)
    _check_target(target, adapter, source, names)
    parts: dict[str, Examples] = {}
    written: dict[str, int] = {}
    left = limit
    with Workers(processes, adapter_name, adapter_args or {}) as workers:
        for name in names:
            if left == 0:
                break
            parts[name] = open_source(
                Source(source=os.fspath(source), split=name),
                adapter,
                root=root,
                limit=left,
                verify="files",  # what callables make is looked at when it is saved
                max_bad_share=max_bad_share,
                row_map=_counted(workers, name),
            )
            left = None if left is None else left - len(parts[name])
        try:
            # Beside the result, so that the last step is a rename; above it where its folder is not there yet.
            beside = next(folder for folder in target.parents if folder.exists())
            with tempfile.TemporaryDirectory(prefix=f".{target.stem}.", dir=beside) as aside:
                origin = origin_of(adapter)
                written = _write(parts, target, Path(aside), workers, max_bad_share, origin, complete=left is None)
        except OSError as error:
            raise DataError(f"{shown_path(target)}: cannot be written: {error.strerror or error}") from error
    left_out = {name: part.left_out for name, part in parts.items()}
    return {
        "rows": sum(written.values()),
        "skipped": sum(one.skipped.count for one in left_out.values()),
        "bad": sum(one.bad.count for one in left_out.values()),
        "out": os.fspath(out),
        "splits": written,
        "left_out": {name: one.document() for name, one in left_out.items() if one},
    }


def _counted(workers: Workers, name: str) -> Any:
    """Reading rows with a bar; how many there are is known at the end."""

    def row_map(reader: RowReader, rows: Iterable[Raw]) -> Iterator[tuple[Raw, Made]]:
        with Progress(None, f"read {name}") as progress:
            for raw, made in workers.read(reader, rows):
                yield raw, made
                progress.advance()

    return row_map


def _splits(adapter: DataAdapter, source: str | os.PathLike[str]) -> list[str]:
    """The splits of a source, as the data adapter lists them or as its files show; "all" where it has no such thing."""
    own = getattr(adapter, "splits", None)
    if own is not None:
        does = f"{os.fspath(source)}: listing the splits, data adapter {type(adapter).__name__}"
        try:
            path = source_path(source)
            # A source that is not on disk is passed as it was written: hub:owner/name.
            listed = list(own(path if path.exists() else Path(source)))
        except PgtuneError:
            raise
        except (Exception, SystemExit) as error:  # someone else's code: whatever it raises is reported by name
            raise AdapterError(f"{does} raised {type(error).__name__}: {error}") from error
        if not listed:  # it has none: then there is only the whole
            return [ALL_SPLITS]
        if not all(isinstance(name, str) and name for name in listed):
            raise AdapterError(f"{does} must give names, got {shown(listed)}")
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
    own = hasattr(adapter, "rows")
    read = [source_path(source)] if own else [file for name in names for file in find_files(source, name)]
    if target.exists() and any(path.exists() and path.samefile(target) for path in read):
        raise DataError(f"{shown_path(target)}: would overwrite what is read; choose another name")


def _write(
    parts: dict[str, Examples],
    target: Path,
    aside: Path,
    workers: Workers,
    max_bad_share: float,
    origin: str | None,
    *,
    complete: bool,
) -> dict[str, int]:
    pictures = target.with_name(f"{target.stem}_images")
    numbers: dict[str, dict[str, int]] = {}
    written = dict.fromkeys(parts, 0)
    with (
        open(aside / "rows.jsonl", "w", encoding="utf-8", newline="\n") as file,
        Progress(sum(map(len, parts.values())), "write") as progress,
    ):
        for name, part in parts.items():
            writer = RowWriter(str(target.parent), pictures.name, str(aside), origin)
            items = ((index, part[index]) for index in range(len(part)))
            for (index, _), row in workers.apply(writer, items):
                progress.advance()
                if isinstance(row, DataError):
                    if max_bad_share == 0:
                        raise DataError(f"{part.where(index)}: {row}") from row
                    part.add_bad(index, str(row))
                    continue
                if "groups" in row:
                    row["groups"] = {
                        key: numbers.setdefault(key, {}).setdefault(value, len(numbers[key]) + 1)
                        for key, value in row["groups"].items()
                    }
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
                written[name] += 1
            check_share(part.left_out, written[name], max_bad_share, complete=complete)
    target.parent.mkdir(parents=True, exist_ok=True)
    saved = sorted(path.name for path in aside.iterdir() if path.name != "rows.jsonl")
    if saved:
        pictures.mkdir(exist_ok=True)
    for name in saved:
        os.replace(aside / name, pictures / name)
    os.replace(aside / "rows.jsonl", target)
    return written


@dataclass(frozen=True)
class RowWriter:
    """An example to its row, its pictures saved aside where they lie in no file."""

    folder: str
    pictures: str
    aside: str
    origin: str | None
    """The credentialed data adapter that the rows come from."""

    def __call__(self, item: tuple[int, Example]) -> dict[str, Any] | DataError:
        """The row, or what is wrong with a picture. Raises OSError where it cannot be saved."""
        _, example = item
        try:
            images = [self._reference(image) for image in example.images]
        except DataError as error:
            return error
        row: dict[str, Any] = {
            "image": images[0] if len(images) == 1 else images,
            "prefix": example.prefix,
            "suffix": example.suffix,
            "references": list(example.references),
        }
        metadata = dict(example.metadata) | ({MARK: self.origin} if self.origin else {})
        if metadata:
            row["metadata"] = metadata
        if example.part:
            row["part"] = example.part
        if example.question_type:
            row["question_type"] = example.question_type
        if example.groups:
            row["groups"] = dict(example.groups)
        return row

    def _reference(self, image: ImageSource) -> str:
        if isinstance(image, str):
            path = Path(os.path.abspath(image))
            folder = Path(self.folder)
            return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
        picture = open_image(image)
        # Named by its content: the same picture is saved once, and a second call never replaces another's file.
        name = hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()[:20] + ".png"
        if not (Path(self.aside) / name).exists():
            # Another process may be saving the same one: whole files only, and the last to come is as good.
            mine = Path(self.aside) / f"{name}.{os.getpid()}"
            picture.save(mine, format="PNG")
            os.replace(mine, Path(self.aside) / name)
        return f"{self.pictures}/{name}"
