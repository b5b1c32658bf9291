"""Chest X-rays and their reports: the Indiana University collection (Open-i). MIMIC-CXR is in `mimic_cxr`.

The form of both is the one of PaliGemma 2 (arXiv 2412.03555, section 4.8 and appendix B.7): what the picture was taken
for is the prefix, findings and impression are the suffix. The exact strings are not printed there. Ours:
``INDICATION: ...`` and ``FINDINGS: ... IMPRESSION: ...``, in one line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pgtune.data_adapters.json_lists import read_lists
from pgtune.data_adapters.layout import present
from pgtune.data_adapters.radiology.files import check_choice, check_count, did_you_mean, find, text_of
from pgtune.data_adapters.radiology.sections import DEIDENTIFIED, compose, without_marks
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, ImageSource, Row, Skip, shown

__all__ = ["IuXrayAdapter", "Study", "check_sections", "report_example"]

SECTIONS = ("findings", "impression")
_XXXX = re.compile(r"X{3,}")


@dataclass(frozen=True)
class Study:
    """The sections of a report (or the path of its text), its pictures, and what it shares with others."""

    pictures: tuple[ImageSource, ...]
    groups: Mapping[str, str]
    sections: Mapping[str, str] = field(default_factory=dict)
    path: str = ""


@dataclass(frozen=True)
class IuXrayAdapter:
    """Indiana University chest X-rays, in one of the two published forms.

    - Open-i: ``ecgen-radiology/*.xml`` (3,955 reports) beside ``NLMCXR_png/*.png`` (7,470 pictures). It has no splits:
      give ``annotation``, or divide it with ``data.split_by: study`` and the split "all".
    - R2Gen: ``annotation.json`` and ``images/``: 2,069 train, 296 validation and 590 test studies with findings, two
      pictures each. The name of a list in it does not count (one copy calls its test list "    "), each report has its
      split. There is no indication, the suffix is the report alone, and the prefix ``caption en`` is ours.

    Prefix and suffix: see the heading of this module. Skipped are reports without findings and impression, and reports
    without a picture. The group ``study`` is the report's number.

    ``pictures``: ``study``: those of a report are the images of one example; ``each``: each is an example.
    ``max_pictures``: so many of a study, the first ones.
    ``sections``: those that make the suffix, of findings and impression; for Open-i only.
    ``deidentified``: words were replaced by XXXX: ``keep`` them, or leave out the ``word`` or the ``sentence``.
    ``annotation``: R2Gen's file (a path, relative to the source), which gives Open-i's reports its splits.
    ``prefix``: the prompt for R2Gen's form.
    """

    pictures: str = "study"
    max_pictures: int = 2
    sections: Sequence[str] = SECTIONS
    deidentified: str = "keep"
    annotation: str | None = None
    prefix: str = "caption en"

    def __post_init__(self) -> None:
        check_choice("pictures", self.pictures, ("study", "each"))
        check_choice("deidentified", self.deidentified, DEIDENTIFIED)
        check_sections(self.sections)
        check_count("max_pictures", self.max_pictures)

    def splits(self, source: Path) -> list[str]:
        """The splits of the annotation; "all" where there is none."""
        _, annotation = self._files(source)
        if annotation is None:
            return ["all"]
        known = {split for _, split in _annotated(annotation)}
        return [name for name in ("train", "validation", "test") if name in known]

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """The studies of a split (None: all)."""
        present(source)
        reports, annotation = self._files(source)
        if split is not None and annotation is None:
            raise DataError(
                f"{source}: these reports have no splits, so there is no {split!r}: give R2Gen's annotation.json as "
                'annotation, or take the split "all" and divide it with data.split_by: study'
            )
        if split is not None and split not in (known := self.splits(source)):
            raise DataError(f"{source}: no split {split!r}{did_you_mean(split, known)} (it has {', '.join(known)})")
        if reports is None:
            assert annotation is not None, "_files finds one of them"
            yield from self._r2gen(annotation, split)
        else:
            yield from self._open_i(reports, annotation, split)

    def __call__(self, row: Study) -> Example | Skip:
        """The Example of a study, or of one of its pictures."""
        if not row.pictures:
            return Skip("the report has no picture")
        cleaned = {name: without_marks(text, _XXXX, self.deidentified) for name, text in row.sections.items()}
        if "report" in cleaned:
            prefix, suffix = self.prefix, cleaned["report"]
        else:
            prefix, suffix = f"INDICATION: {cleaned['indication']}".rstrip(), compose(cleaned, self.sections)
        return report_example(row, prefix, suffix, any(row.sections.get(name) for name in ("report", *self.sections)))

    def _files(self, source: Path) -> tuple[Path | None, Path | None]:
        """The folder with Open-i's reports, and R2Gen's annotation."""
        if source.is_file():
            return None, source
        given = source / self.annotation if self.annotation is not None else None
        if given is not None and not given.is_file():
            raise DataError(f"annotation = {self.annotation!r}: there is no file {given}")
        reports = find(source, ("ecgen-radiology", "NLMCXR_reports/ecgen-radiology"))
        if reports is None and next(source.glob("*.xml"), None) is not None:
            reports = source
        annotation = given or (find(source, ("annotation.json",)) if reports is None else None)
        if reports is None and annotation is None:
            raise DataError(f"{source}: expected ecgen-radiology/*.xml (Open-i) or annotation.json (R2Gen) in it")
        return reports, annotation

    def _open_i(self, reports: Path, annotation: Path | None, split: str | None) -> Iterator[Row]:
        # R2Gen's CXR2384_IM-0942 is Open-i's CXR2384.
        splits = (
            {} if annotation is None else {_id(row).partition("_")[0]: name for row, name in _annotated(annotation)}
        )
        above = (reports.parent, reports.parent.parent, reports)
        folder = next((found for place in above if (found := find(place, ("NLMCXR_png", "images")))), reports.parent)
        names = [name for name in os.listdir(reports) if name.endswith(".xml")]
        for name in sorted(names, key=lambda name: (len(name), name)):
            try:
                number, sections, pictures = _read_open_i(reports / name)
            except DataError as error:
                yield Row(error, name)
                continue
            if split is not None and splits.get(number) != split:
                continue
            paths = [str(folder / f"{picture}.png") for picture in pictures]
            yield from self._studies(paths, {"study": number}, sections, name)

    def _r2gen(self, annotation: Path, split: str | None) -> Iterator[Row]:
        folder = find(annotation.parent, ("images",)) or annotation.parent
        for number, (row, name) in enumerate(_annotated(annotation), start=1):
            if split not in (None, name):
                continue
            place = f"{annotation.name}, report {number}"
            try:
                study, report, pictures = _id(row), text_of(row, "report"), row.get("image_path")
                if not isinstance(pictures, list) or not all(isinstance(path, str) and path for path in pictures):
                    raise DataError(f"image_path must be a list of paths, got {shown(pictures)}")
            except DataError as error:
                yield Row(error, place)
                continue
            paths = [str(folder / path) for path in pictures]
            yield from self._studies(paths, {"study": study}, {"report": report}, place)

    def _studies(self, paths: list[str], groups: dict[str, str], sections: dict[str, str], place: str) -> Iterator[Row]:
        paths = paths[: self.max_pictures]
        if self.pictures == "study" or not paths:
            yield Row(Study(tuple(paths), groups, sections), place)
            return
        for number, path in enumerate(paths, start=1):
            yield Row(Study((path,), groups, sections), f"{place}, picture {number}")


def report_example(row: Study, prefix: str, suffix: str, there: bool) -> Example | Skip:
    """The Example, or why there is none; ``there``: the report had something to say before it was cleaned."""
    if not suffix:
        return Skip("nothing is left of its report without what is de-identified" if there else "its report is empty")
    return Example(row.pictures, prefix, suffix, groups=row.groups)


def _annotated(path: Path) -> Iterator[tuple[Any, str]]:
    """The reports of R2Gen's annotation and the split of each, as recipes call it."""
    for name, _, row in read_lists(path):
        split = row.get("split", name) if isinstance(row, dict) else name
        yield row, "validation" if split in ("val", "valid", "validate") else str(split)


def _id(row: Any) -> str:
    study: str = text_of(row, "id")
    if not study:
        raise DataError("id is empty")
    return study


def _read_open_i(path: Path) -> tuple[str, dict[str, str], list[str]]:
    """The number of a report (``CXR1``), its sections and the names of its pictures, of an XML file of Open-i."""
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError, ValueError) as error:
        raise DataError(f"is not XML, or cut off: {error}") from None
    number = root.find("uId")
    if number is None or not number.get("id"):
        raise DataError("has no uId with an id; expected a report of Open-i")
    texts = {str(part.get("Label")).lower(): "".join(part.itertext()) for part in root.iter("AbstractText")}
    sections = {name: " ".join(texts.get(name, "").split()) for name in ("indication", *SECTIONS)}
    pictures = [picture.get("id", "") for picture in root.iter("parentImage")]
    if bad := [name for name in pictures if not re.fullmatch(r"[\w-]+", name)]:
        raise DataError(f"the picture {bad[0]!r} is not a file's name")
    return str(number.get("id")), sections, pictures


def check_sections(sections: object) -> None:
    """Refuse what is no list of findings and impression. Raises AdapterError."""
    if isinstance(sections, str) or not isinstance(sections, Sequence) or not sections:
        raise AdapterError(f"sections must be a list of findings and impression, got {shown(sections)}")
    for name in sections:
        check_choice("sections", name, SECTIONS)
