"""Own DICOM files with a table of what is to be learnt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgtune.data_adapters.generic.columns import fields_of, filled
from pgtune.data_adapters.layout import split_named
from pgtune.data_adapters.radiology.dicom_headers import Header, files_below, header_of
from pgtune.data_adapters.radiology.dicom_pixels import DicomPicture
from pgtune.data_adapters.radiology.dicom_series import Choice, series_of
from pgtune.data_adapters.radiology.dicom_table import LEVELS, Paths, Table, index, open_table, tables_of
from pgtune.data_adapters.radiology.dicom_windows import Window, check_window
from pgtune.data_adapters.radiology.files import did_you_mean
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Row, Skip, shown

__all__ = ["DicomAdapter"]


@dataclass(frozen=True, repr=False)
class _Labelled:
    cells: Mapping[str, str]
    pictures: tuple[DicomPicture, ...]
    groups: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class DicomAdapter:
    """DICOM files below a folder, and a CSV file that says what is to be learnt of them.

    The source is the folder. The table is the only CSV file in it, or ``train.csv``, ``test.csv`` and the like, or
    ``labels``. A row names a file (path in the folder, name, or name without ending; of a folder, all files in it), or
    by UID, accession number or patient a file, series, study or all of a patient: found by the column's name (``path``,
    ``SOPInstanceUID``, ``SeriesInstanceUID``, ``StudyInstanceUID``, ``AccessionNumber``, ``PatientID``, the first of
    these that is there), or said by ``key`` and ``level``. Several rows may name the same file. Rows without files,
    files without rows, and files that hold no picture (reports, plans, masks, doses, DICOMDIR) are skipped and counted.

    Nothing of a file but the pixels leaves the memory. Places are lines of the table; messages call a file by its
    number, in the order of the files' paths, since a path may hold names and messages are kept with a run. Words in the
    picture itself are not removed: see ``burned_in``. What stands in the columns that are used is written as it is.
    Groups: ``patient``, ``study`` and ``series``.

    ``prefix``, ``suffix``: texts with columns in braces; a row in which one of these columns is empty is skipped.
    ``part``, ``question_type``, ``split_column``: columns. ``metadata``: columns that are carried into predictions.
    ``patient``: the column of the patient, where PatientID was taken out of the files.
    ``labels``: the table, a path in the source. ``key``, ``level``: the column that names files, and by what: path,
    sop, series, study, accession or patient.
    ``window``: how grey values become brightness: auto, file, file:2, file:NAME, minmax, [centre, width] or, of CT,
    abdomen, bone, brain, lung, mediastinum, soft_tissue.
    ``frame``: of a file with several: middle, first, all, or a number from 0. Slices of a series are in the order of
    their places in space; ``every_nth`` and ``slices`` (all, middle, or a number of them, evenly spaced) say which are
    taken; localizers among them are not. ``together``: those of a series are the images of one example, and not an
    example each.
    ``square_pixels``: stretch pictures whose pixels are not square, as viewers do.
    ``burned_in``: keep or skip files whose header says that words are burnt into the picture.
    ``file_names``: messages and predictions name files by their path in the source, and not by number.
    """

    prefix: str = "answer en {question}"
    suffix: str = "{answer}"
    part: str | None = None
    question_type: str | None = None
    metadata: Sequence[str] = ()
    patient: str | None = None
    labels: str | None = None
    key: str | None = None
    level: str | None = None
    split_column: str | None = None
    window: Any = "auto"
    frame: str | int = "middle"
    every_nth: int = 1
    slices: str | int = "all"
    together: bool = False
    square_pixels: bool = True
    burned_in: str = "keep"
    file_names: bool = False
    _window: Window = field(init=False, repr=False)
    _choice: Choice = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_window", check_window(self.window))
        object.__setattr__(self, "_choice", Choice(self.frame, self.every_nth, self.slices))
        for name in ("prefix", "suffix"):
            text = getattr(self, name)
            if not isinstance(text, str):
                raise AdapterError(f"{name} must be a text, got {shown(text)}")
            fields_of(text, name)
        if isinstance(self.metadata, str):
            raise AdapterError(f"metadata must be a list of columns, got {self.metadata!r}")
        if self.level is not None and self.level not in LEVELS:
            hint = did_you_mean(self.level, LEVELS)
            raise AdapterError(f"level = {self.level!r}: expected {', '.join(LEVELS)}{hint}")
        if self.level is not None and self.key is None:
            raise AdapterError(f"level = {self.level!r} has no effect without key, the column")
        if self.burned_in not in ("keep", "skip"):
            raise AdapterError(f"burned_in = {self.burned_in!r}: expected keep or skip")
        if self.together and self.slices == "all":
            raise AdapterError("together = true: say how many by slices, such as 4; a series may have hundreds")

    def splits(self, source: Path) -> list[str]:
        """The splits by the tables' names or ``split_column``; "all" where nothing tells of splits."""
        tables = tables_of(source, self.labels)
        if list(tables) != ["all"] or self.split_column is None:
            return list(tables)
        rows = self._table(tables["all"]).rows()
        found = dict.fromkeys(self._split_of(cells) for _, cells in rows if not isinstance(cells, DataError))
        return [name for name in found if name]

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """A row for each picture (or ``together``) of each row of the table, then the files that no row names."""
        tables = tables_of(source, self.labels)
        if split is not None and list(tables) == ["all"] and self.split_column is None:
            raise DataError(
                f"{tables['all'].name} says nothing about splits, so there is no {split!r}: name its column by "
                'split_column, or take the split "all" and divide it with data.split_by: patient'
            )
        if split is not None and split not in (known := self.splits(source)):
            raise DataError(f"{source}: no split {split!r}{did_you_mean(split, known)} (it has {', '.join(known)})")
        folder = source if source.is_dir() else source.parent
        files = _Files(folder, self)
        named: set[int] = set()
        for name, path in tables.items():
            table = self._table(path)
            for place, cells in table.rows():
                own = name if self.split_column is None or isinstance(cells, DataError) else self._split_of(cells)
                wanted = split is None or own in (split, "all")
                yield from (
                    self._row(table, place, cells, files, named) if wanted else _named(table, cells, files, named)
                )
        if split in (None, "train"):
            yield from files.left(named)

    def __call__(self, row: _Labelled) -> Example | Skip:
        """The Example of a row of the table and its picture or pictures."""
        for column in dict.fromkeys([*fields_of(self.prefix, "prefix"), *fields_of(self.suffix, "suffix")]):
            if not row.cells[column]:
                return Skip(f"the column {column!r} is empty")
        return Example(
            images=row.pictures,
            prefix=filled(self.prefix, row.cells),
            suffix=filled(self.suffix, row.cells),
            part=row.cells[self.part] if self.part else "",
            question_type=row.cells[self.question_type] if self.question_type else "",
            metadata={column: row.cells[column] for column in self.metadata},
            groups=row.groups,
        )

    def inputs(self, source: Path, prefix: str | None) -> Iterator[Example]:
        """Pictures without a table: of one file, or of all below a folder. Files that hold none are passed over.

        The picture of a damaged file comes last and cannot be opened. Raises DataError: no prefix is given and the
        recipe's own has columns.
        """
        if prefix is None and fields_of(self.prefix, "prefix"):
            raise DataError(f"the prefix {self.prefix!r} is filled from a table; give --prefix for files without one")
        prompt = self.prefix if prefix is None else prefix
        files = _Files(source, self)
        opened = {number: files.header(number) for number in range(len(files.paths))}
        numbers = {header: number for number, header in opened.items() if isinstance(header, Header)}

        def example(pictures: Sequence[tuple[int, int]], several_frames: bool) -> Example:
            number, frame = pictures[0]
            told: dict[str, Any] = {"file": files.name(number) if self.file_names else number + 1}
            return Example(
                images=[files.picture(number, frame) for number, frame in pictures],
                prefix=prompt,
                suffix="",
                metadata={**told, "frame": frame} if several_frames else told,
            )

        one_each = self.slices == "all" and self.every_nth == 1
        for series in [[header] for header in numbers] if one_each else series_of(numbers):
            taken = [(numbers[header], frame) for header, frame in self._choice(series)]
            for pictures in [taken] if self.together else [[picture] for picture in taken]:
                yield example(pictures, any(header.frames > 1 for header in series))
        for number in (number for number, header in opened.items() if isinstance(header, DataError)):
            yield example([(number, 0)], False)

    def _table(self, path: Path) -> Table:
        texts = [*fields_of(self.prefix, "prefix"), *fields_of(self.suffix, "suffix"), *self.metadata]
        optional = (self.part, self.question_type, self.patient, self.split_column)
        return open_table(path, self.key, self.level, [*texts, *(column for column in optional if column)])

    def _split_of(self, cells: Mapping[str, str]) -> str:
        value = cells[str(self.split_column)]
        return split_named(value) or value

    def _row(
        self, table: Table, place: str, cells: dict[str, str] | DataError, files: _Files, named: set[int]
    ) -> Iterator[Row]:
        if isinstance(cells, DataError):
            yield Row(cells, place)
            return
        try:
            numbers = files.find(table, cells[table.column])
            named.update(numbers)
            found = [files.named(number) for number in numbers]
            headers = {file: number for file, number in zip(found, numbers, strict=True) if isinstance(file, Header)}
            if not headers:
                refused = [file for file in found if not isinstance(file, Header)]
                yield Row(refused[0] if refused else Skip("no file belongs to this row"), place)
                return
            for error in [file for file in found if isinstance(file, DataError)]:
                yield Row(error, place)
            slices = [header for header in headers if not header.localizer] or list(headers)
            for _ in range(len(headers) - len(slices)):
                yield Row(Skip("a localizer among other pictures"), place)
            for series in series_of(slices):
                taken = self._choice(series)
                for pictures in [taken] if self.together else [[picture] for picture in taken]:
                    images = tuple(files.picture(headers[header], frame) for header, frame in pictures)
                    yield Row(_Labelled(cells, images, self._groups(cells, pictures[0][0])), place)
        except DataError as error:
            yield Row(error, place)

    def _groups(self, cells: Mapping[str, str], header: Header) -> dict[str, str]:
        patient = cells[self.patient] if self.patient else header.patient
        groups = {"patient": patient, "study": header.study, "series": header.series}
        return {name: value for name, value in groups.items() if value}


def _named(table: Table, cells: dict[str, str] | DataError, files: _Files, named: set[int]) -> Iterator[Row]:
    """Of a row of another split only which files are its own."""
    if not isinstance(cells, DataError):
        with suppress(DataError):  # reported where the row's own split is read
            named.update(files.find(table, cells[table.column]))
    return iter(())


class _Files:
    """The files below a folder, their headers read when they are asked for and kept."""

    def __init__(self, folder: Path, adapter: DicomAdapter) -> None:
        self.folder = folder
        self.adapter = adapter
        self.paths = sorted(files_below(folder))
        self._headers: dict[int, Header | Skip | DataError] = {}
        self._by_path: Paths | None = None
        self._by_key: dict[str, dict[str, list[int]]] = {}

    def header(self, number: int) -> Header | Skip | DataError:
        if number not in self._headers:
            header = header_of(self.folder, self.paths[number])
            if isinstance(header, Header) and header.burned_in and self.adapter.burned_in == "skip":
                header = Skip("words are burnt into the picture")
            self._headers[number] = header
        return self._headers[number]

    def named(self, number: int) -> Header | Skip | DataError:
        """As `header`, and an error says which file it is about."""
        header = self.header(number)
        return DataError(f"{self.name(number)}: {header}") if isinstance(header, DataError) else header

    def find(self, table: Table, called: str) -> list[int]:
        """The numbers of the files that a row names."""
        if not called:
            return []
        if table.level == "path":
            if self._by_path is None:
                self._by_path = Paths(self.folder, self.paths)
            found: list[int] = self._by_path.find(called)
            return found
        if table.level not in self._by_key:
            headers = {number: self.header(number) for number in range(len(self.paths))}
            known = {number: header for number, header in headers.items() if isinstance(header, Header)}
            self._by_key[table.level] = index(known, table.level)
        return self._by_key[table.level].get(called, [])

    def left(self, named: set[int]) -> Iterator[Row]:
        """The files that no row names; those that were opened say what they are."""
        for number in range(len(self.paths)):
            if number not in named:
                known = self._headers.get(number)
                reason = Skip("no row of the table is about this file")
                yield Row(reason if known is None or isinstance(known, Header) else known, self.name(number))

    def name(self, number: int) -> str:
        """What a file is called in messages and predictions: these are written down, and a path may hold names."""
        return (self.paths[number] or self.folder.name) if self.adapter.file_names else f"file {number + 1}"

    def picture(self, number: int, frame: int) -> DicomPicture:
        path = self.paths[number]
        full = str(self.folder / path if path else self.folder)
        return DicomPicture(full, self.name(number), frame, self.adapter._window, self.adapter.square_pixels)
