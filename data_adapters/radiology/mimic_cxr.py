"""MIMIC-CXR: chest X-rays and free-text reports in the form of PaliGemma 2; see `reports` about its strings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pgtune.data_adapters.layout import present
from pgtune.data_adapters.radiology.dicom_pixels import DicomPicture
from pgtune.data_adapters.radiology.files import check_choice, check_count, csv_rows, find
from pgtune.data_adapters.radiology.reports import SECTIONS, Study, check_sections, report_example
from pgtune.data_adapters.radiology.sections import DEIDENTIFIED, compose, sections_of, without_marks
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, ImageSource, Row, Skip, shown
from pgtune.images import open_image

__all__ = ["MimicCxrAdapter", "PictureFile"]

_UNDERSCORES = re.compile(r"_{3,}")


@dataclass(frozen=True, repr=False)
class PictureFile:
    """A picture in a file whose path holds numbers of patients: as a callable, its path is written nowhere.

    Raises DataError, without the path, as `open_image` does.
    """

    path: str

    def __call__(self) -> Image.Image:
        try:
            return open_image(self.path)
        except DataError as error:
            raise DataError(str(error).replace(self.path, "its file")) from None


@dataclass(frozen=True)
class MimicCxrAdapter:
    """MIMIC-CXR (credentialed, PhysioNet): chest X-rays and free-text reports.

    The source is the folder of MIMIC-CXR-JPG: ``mimic-cxr-2.0.0-split.csv`` and ``mimic-cxr-2.0.0-metadata.csv`` (as
    they are or as ``.csv.gz``) and ``files/p10/p10000032/s50414267/<dicom_id>.jpg``, or ``.dcm`` from MIMIC-CXR.
    Reports are ``files/p10/p10000032/s50414267.txt``.

    Prefix and suffix: see `reports`; the indication is the section of that name, else the history; where there is
    neither, the prefix is ``INDICATION:``. Reports are cut into sections as by `report_sections`. Not done here:
    PaliGemma 2 had mentions of earlier pictures removed by a language model. Groups: ``patient`` and ``study``.
    Pictures are named nowhere, their paths hold the patients' numbers.

    ``reports``, ``images``: folders that hold ``files/``, relative to the source, where they are not the source itself;
    for reports ``mimic-cxr-reports`` in the source is found, too.
    ``views``: take pictures of these ViewPosition, in this order; null: all, without a look at the metadata.
    ``pictures``: ``each`` is an example, or those of a ``study`` are the images of one.
    ``max_pictures``: so many of a study, the first ones; null: all.
    ``sections``: those that make the suffix, of findings and impression; skipped is a report that has none of them.
    ``last_paragraph``: for a report with neither section, take its last paragraph as findings instead.
    ``deidentified``: words were replaced by ___: ``keep`` them, or leave out the ``word`` or the ``sentence``.
    ``missing``: a picture or report that is not there is an ``error``, or the row is passed over (``skip``).
    """

    reports: str | None = None
    images: str | None = None
    views: Sequence[str] | None = ("PA", "AP")
    pictures: str = "each"
    max_pictures: int | None = None
    sections: Sequence[str] = SECTIONS
    last_paragraph: bool = False
    deidentified: str = "keep"
    missing: str = "error"

    def __post_init__(self) -> None:
        check_choice("pictures", self.pictures, ("study", "each"))
        check_choice("deidentified", self.deidentified, DEIDENTIFIED)
        check_choice("missing", self.missing, ("error", "skip"))
        check_sections(self.sections)
        if self.max_pictures is not None:
            check_count("max_pictures", self.max_pictures)
        if self.views is not None and (isinstance(self.views, str) or not self.views):
            raise AdapterError(f"views must be a list such as [PA, AP], or null, got {shown(self.views)}")

    def splits(self, source: Path) -> list[str]:
        """The three published splits."""
        _table(source, "split")
        return ["train", "validation", "test"]

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """The pictures or studies of a split (None: all), in the order of the split's table."""
        present(source)
        if split not in (None, "train", "validation", "test"):
            raise DataError(f"{source}: MIMIC-CXR has the splits train, validation and test, there is no {split!r}")
        views = None if self.views is None else _views(_table(source, "metadata"), self.views)
        table = _table(source, "split")
        image_folder = source / (self.images or ".") / "files"
        report_folder = self._report_folder(source)
        study: list[tuple[int, str]] = []
        current, finished = ("", ""), set[str]()
        for number, row in csv_rows(table, ("dicom_id", "study_id", "subject_id", "split")):
            place = f"{table.name}, row {number}"
            if isinstance(row, DataError):
                yield Row(row, place)
                continue
            if split is not None and row["split"] != {"validation": "validate"}.get(split, split):
                continue
            key = (row["subject_id"], row["study_id"])
            if key != current:
                yield from self._study(current, study, image_folder, report_folder, table.name)
                finished.add(current[1])
                if key[1] in finished:
                    raise DataError(f"{place}: the rows of its study do not stand together; sort the table by study_id")
                current, study = key, []
            if views is not None and row["dicom_id"] not in views:
                yield Row(Skip("its view is another or not known"), place)
            else:
                study.append((number, row["dicom_id"]))
                if views is not None:  # in the order of the wanted views
                    study.sort(key=lambda picture: views[picture[1]])
        yield from self._study(current, study, image_folder, report_folder, table.name)

    def __call__(self, row: Study) -> Example | Skip:
        """The Example of a picture or study. Raises DataError, without the place: a report that cannot be read."""
        try:
            text = Path(row.path).read_text(encoding="utf-8")
        except FileNotFoundError:
            if self.missing == "skip":
                return Skip("its report is not there")
            raise DataError("its report is not there; is reports the folder that holds files/?") from None
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"its report cannot be read ({type(error).__name__})") from None
        if not all(os.path.isfile(_path(picture)) for picture in row.pictures):
            if self.missing == "skip":
                return Skip("its picture is not there")
            raise DataError("its picture is not there; is images the folder that holds files/?")
        found = sections_of(text)
        if self.last_paragraph and "last_paragraph" in found:
            found["findings"] = found["last_paragraph"]
        cleaned = {name: without_marks(text, _UNDERSCORES, self.deidentified) for name, text in found.items()}
        indication = cleaned.get("indication") or cleaned.get("history") or ""
        prefix = f"INDICATION: {indication}".rstrip()
        there = any(found.get(name, "").strip() for name in self.sections)
        made: Example | Skip = report_example(row, prefix, compose(cleaned, self.sections), there)
        return made

    def _report_folder(self, source: Path) -> Path:
        if self.reports is not None:
            return source / self.reports / "files"
        return find(source, ("mimic-cxr-reports/files",)) or source / "files"

    def _study(
        self, key: tuple[str, str], pictures: list[tuple[int, str]], images: Path, reports: Path, table: str
    ) -> Iterator[Row]:
        patient, study = key
        below = f"p{patient[:2]}/p{patient}/s{study}"
        groups = {"patient": patient, "study": study}
        sources = [(number, _mimic_picture(images / below / name)) for number, name in pictures[: self.max_pictures]]
        report = str(reports / f"{below}.txt")
        if self.pictures == "each":
            for number, picture in sources:
                yield Row(Study((picture,), groups, path=report), f"{table}, row {number}")
        elif sources:
            together = tuple(picture for _, picture in sources)
            yield Row(Study(together, groups, path=report), f"{table}, row {min(pictures)[0]}")


def _mimic_picture(stem: Path) -> PictureFile | DicomPicture:
    jpg, dicom = f"{stem}.jpg", f"{stem}.dcm"
    return DicomPicture(dicom, "its file") if not os.path.isfile(jpg) and os.path.isfile(dicom) else PictureFile(jpg)


def _path(picture: ImageSource) -> str:
    assert isinstance(picture, PictureFile | DicomPicture), "made by _mimic_picture"
    return picture.path


def _table(source: Path, name: str) -> Path:
    found = sorted(path for ending in ("csv", "csv.gz") for path in source.glob(f"mimic-cxr-*-{name}.{ending}"))
    if not found:
        raise DataError(f"{source}: there is no mimic-cxr-2.0.0-{name}.csv or .csv.gz in it")
    return found[0]


def _views(table: Path, wanted: Sequence[str]) -> dict[str, int]:
    """The pictures of the wanted views, with the view's place among them."""
    places = {view: place for place, view in enumerate(wanted)}
    found = {}
    for number, row in csv_rows(table, ("dicom_id", "ViewPosition")):
        if isinstance(row, DataError):
            raise DataError(f"{table.name}, row {number}: {row}")
        if row["ViewPosition"] in places:
            found[row["dicom_id"]] = places[row["ViewPosition"]]
    if not found:
        raise DataError(f"{table.name}: no picture has the ViewPosition {' or '.join(wanted)}")
    return found
