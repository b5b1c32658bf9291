"""The table that says what is to be learnt of DICOM files: where it lies, and by which column rows and files belong."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pgtune.data_adapters.generic.csv_files import read_csv
from pgtune.data_adapters.layout import split_named
from pgtune.data_adapters.radiology.dicom_headers import Header
from pgtune.data_adapters.radiology.files import did_you_mean
from pgtune.errors import DataError

__all__ = ["LEVELS", "Paths", "Table", "index", "open_table", "tables_of"]

LEVELS: dict[str, tuple[str, ...]] = {
    "path": ("path", "file", "filename", "filepath", "image", "imagepath", "imagefile", "dicom", "dicompath"),
    "sop": ("sop", "sopuid", "sopinstanceuid", "sopinstance"),
    "series": ("series", "seriesuid", "seriesinstanceuid", "seriesid"),
    "study": ("study", "studyuid", "studyinstanceuid", "studyid"),
    "accession": ("accession", "accessionnumber", "accessionid"),
    "patient": ("patient", "patientid"),
}  # fmt: skip
"""By what a row names its files, the closest first, and what columns with it are called (small letters, no signs)."""


@dataclass(frozen=True)
class Table:
    """A CSV file, the column that names files, and what it names them by (a key of `LEVELS`)."""

    path: Path
    header: tuple[str, ...]
    column: str
    level: str

    def rows(self) -> Iterator[tuple[str, dict[str, str] | DataError]]:
        """The place of each row, and its cells by column, ends stripped."""
        lines = read_csv(self.path)
        next(lines)
        for line, cells in lines:
            place = f"{self.path.name}, line {line}"
            if isinstance(cells, DataError):
                yield place, cells
            else:
                yield place, {name: cell.strip() for name, cell in zip(self.header, cells, strict=True)}


def tables_of(source: Path, labels: str | None) -> dict[str, Path]:
    """The CSV files of a source by split, or {"all": file}; ``labels`` is the file relative to the source's folder.

    Raises DataError: none there, or several that are not called after splits.
    """
    if source.is_file() and source.suffix.lower() in (".csv", ".tsv"):
        return {"all": source}
    if labels is not None:
        if not (source / labels).is_file():
            raise DataError(f"labels = {labels!r}: there is no such file in {source}")
        return {"all": source / labels}
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; expected DICOM files and a CSV file that says what is to be learnt")
    files = sorted(path for path in source.iterdir() if path.suffix.lower() in (".csv", ".tsv"))
    named = {split: path for path in files if (split := split_named(path.stem))}
    if named and len(named) == len(files):
        return {split: named[split] for split in ("train", "validation", "test") if split in named}
    if len(files) != 1:
        has = f"it has {', '.join(path.name for path in files)}; labels names the one" if files else "it has none"
        raise DataError(f"{source}: expected one CSV file (or train.csv, test.csv and the like) in this folder, {has}")
    return {"all": files[0]}


def open_table(path: Path, key: str | None, level: str | None, needed: Sequence[str]) -> Table:
    """The table with its key column found. Raises DataError: a column that is not there, no key column."""
    header_line: list[str] | DataError = next(read_csv(path, wanted=needed))[1]
    if isinstance(header_line, DataError):
        raise DataError(f"{path.name}: {header_line}")
    header = tuple(name.strip() for name in header_line)
    if twice := next((name for name in header if header.count(name) > 1), None):
        raise DataError(f"{path.name}: the column {twice!r} is there twice")
    for name in [*([key] if key is not None else []), *needed]:
        if name not in header:
            has = ", ".join(header)
            raise DataError(f"{path.name}: there is no column {name!r}{did_you_mean(name, header)} (it has {has})")
    for candidate, names in LEVELS.items():
        for name in header if key is None else [key]:
            if re.sub(r"[^a-z]", "", name.lower()) in names:
                return Table(path, header, name, level or candidate)
    if key is None or level is None:
        named = (
            f"key = {key!r}: it is not told what it holds" if key else f"no column of {', '.join(header)} names files"
        )
        kinds = ", ".join(LEVELS)
        raise DataError(f"{path.name}: {named}; give key, the column, and level, what is in it: {kinds}")
    return Table(path, header, key, level)


class Paths:
    """Files by what a table calls them: the path in the folder, with or without ending, or the name alone."""

    def __init__(self, folder: Path, files: Sequence[str]) -> None:
        self.folder = folder
        self.files = files
        self._by_name: dict[str, list[int]] | None = None
        self._by_path = {path: number for number, path in enumerate(files)}

    def find(self, called: str) -> list[int]:
        """The numbers of the files meant: one, or all of a folder; none. Raises DataError: outside, or not clear."""
        path = os.path.normpath(called.replace("\\", "/"))
        if os.path.isabs(path):
            path = os.path.relpath(path, self.folder)
        if path.startswith(".."):
            raise DataError("names a file outside of the source's folder")
        if path in self._by_path:
            return [self._by_path[path]]
        if os.path.isdir(self.folder / path):
            inside = "" if path == "." else os.path.join(path, "")
            return [number for number, file in enumerate(self.files) if file.startswith(inside)]
        if os.sep in path:
            return [self._by_path[path + ".dcm"]] if path + ".dcm" in self._by_path else []
        if self._by_name is None:
            self._by_name = {}
            for number, file in enumerate(self.files):
                name = os.path.basename(file)
                for known in {name, os.path.splitext(name)[0]}:
                    self._by_name.setdefault(known, []).append(number)
        found = self._by_name.get(path, [])
        if len(found) > 1:
            raise DataError(f"names {len(found)} files in different folders; write the path in the source's folder")
        return found


def index(headers: Mapping[int, Header], level: str) -> dict[str, list[int]]:
    """The numbers of files by what rows name them by."""
    found: dict[str, list[int]] = {}
    for number, header in headers.items():
        if key := str(getattr(header, level)):
            found.setdefault(key, []).append(number)
    return found
