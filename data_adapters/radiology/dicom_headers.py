"""Headers of DICOM files: what kind of file it is, what it belongs to, and where its slice lies.

Identifiers read here stay in memory: they group and join, and are written nowhere.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtune.data_adapters.extras import require
from pgtune.errors import DataError
from pgtune.example import Skip
from pgtune.images import quiet

__all__ = ["Header", "files_below", "frame_group", "frames_of", "header_of", "numbers_of", "read_header"]

_ENDINGS = {".dcm", ".dicom", ".dic", ".ima", ""}
MAX_FRAMES = 1_000_000
_DIRECTORY = "1.2.840.10008.1.3.10"
# They hold pixels, but no picture of the patient: masks, doses, and maps in floating point.
_NOT_PICTURES = {"SEG": "a mask", "RTDOSE": "a dose"}
_LISTED = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "AccessionNumber", "PatientID",
    "Modality", "Rows", "Columns", "NumberOfFrames", "InstanceNumber", "ImagePositionPatient",
    "ImageOrientationPatient", "BurnedInAnnotation", "ImageType",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a file before its pixels are read. Texts are "" and numbers None where the file has none.

    ``position``: ImagePositionPatient and ImageOrientationPatient, 9 numbers in mm.
    """

    path: str
    """Relative to the source."""
    sop: str
    series: str
    study: str
    accession: str
    patient: str
    frames: int
    instance: float | None
    position: tuple[float, ...] | None
    burned_in: bool
    localizer: bool


def files_below(source: Path) -> Iterator[str]:
    """The files that may be DICOM, by their ending or without one, as paths relative to the source; "" is itself."""
    if not source.is_dir():
        yield ""
        return
    for folder, folders, files in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and _may_be_dicom(name):
                yield os.path.relpath(os.path.join(folder, name), source)


def _may_be_dicom(name: str) -> bool:
    ending = os.path.splitext(name)[1].lower()
    # Names of instances are often their UIDs, whose last number is no ending.
    return ending in _ENDINGS or ending[1:].isdigit()


def header_of(source: Path, path: str) -> Header | Skip | DataError:
    """The header of a file (``path`` relative to the source), or why it gives no picture; messages do not name it."""
    full = source / path if path else source
    if full.name.upper() == "DICOMDIR":
        return Skip("DICOMDIR: a list of files")
    with quiet():
        try:
            data = read_header(full, _LISTED)
            if data.get("SOPClassUID") is None and data.file_meta.get("MediaStorageSOPClassUID") == _DIRECTORY:
                return Skip("DICOMDIR: a list of files")
            modality = _code(data.get("Modality"))
            if modality in _NOT_PICTURES:
                return Skip(f"{modality}: {_NOT_PICTURES[modality]}, not a picture")
            if not data.get("Rows") or not data.get("Columns"):
                kind = data.get("SOPClassUID") or data.file_meta.get("MediaStorageSOPClassUID")
                if kind is None or "Image" in require("pydicom.uid", "radiology").UID(str(kind)).name:
                    raise DataError("has no Rows and Columns; its header is damaged or cut off")
                return Skip(f"{modality or 'no modality'}: not a picture")
            return Header(
                path=path,
                sop=_text(data, "SOPInstanceUID"),
                series=_text(data, "SeriesInstanceUID"),
                study=_text(data, "StudyInstanceUID"),
                accession=_text(data, "AccessionNumber"),
                patient=_text(data, "PatientID"),
                frames=frames_of(data),
                instance=next(iter(numbers_of(data, "InstanceNumber")), None),
                position=_position(data),
                burned_in=_text(data, "BurnedInAnnotation").upper() == "YES",
                localizer="LOCALIZER" in str(data.get("ImageType") or "").upper(),
            )
        except DataError as error:
            if not full.suffix and str(error).startswith("is not a DICOM file"):
                return Skip("not a DICOM file")
            return error
        except Exception as error:  # a damaged header may raise anything; its text may quote values of the header
            return DataError(f"its header is damaged ({type(error).__name__})")


def read_header(path: str | os.PathLike[str], only: tuple[str, ...] | None = None) -> Any:
    """The data set of a file without its pixels; a file without a preamble is read where it has the tags of DICOM.

    ``only``: these elements and no other. Raises DataError, without the path: cannot be opened, not DICOM, cut off.
    """
    pydicom = require("pydicom", "radiology")
    # Its messages quote values, which may be the patient's. Warnings are the caller's: see `pgtune.images.quiet`.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    # What is listed ends with group 0028: the long tables of frames and the pixels behind it are not even parsed.
    options: dict[str, Any] = {"stop_when": _at_pixels}
    if only is not None:
        options = {"stop_when": _behind_what_is_listed, "specific_tags": [pydicom.tag.Tag(name) for name in only]}
    try:
        with open(path, "rb") as file:
            try:
                return pydicom.filereader.read_partial(file, **options)
            except pydicom.errors.InvalidDicomError:
                file.seek(0)
                data = pydicom.filereader.read_partial(file, force=True, **options)
    except OSError as error:
        raise DataError(f"cannot be opened: {error.strerror or 'its beginning is cut off'}") from None
    except EOFError:
        raise DataError("is cut off in its header") from None
    if data.get("SOPClassUID") is None and data.get("Rows") is None:
        raise DataError("is not a DICOM file: it has no preamble and none of the tags")
    return data


def _behind_what_is_listed(tag: int, vr: str | None, length: int) -> bool:
    return tag > 0x0028FFFF


def _at_pixels(tag: int, vr: str | None, length: int) -> bool:
    return tag in (0x7FE00008, 0x7FE00009, 0x7FE00010)


def frames_of(data: Any) -> int:
    """NumberOfFrames, 1 where there is none. Raises DataError, without the path."""
    value = data.get("NumberOfFrames")
    try:
        frames = 1 if value in (None, "") else int(value)
    except (TypeError, ValueError):
        raise DataError("its NumberOfFrames is not a number") from None
    if not 1 <= frames <= MAX_FRAMES:
        raise DataError(f"its NumberOfFrames is {frames:,}, expected 1 to {MAX_FRAMES:,}")
    return frames


def numbers_of(data: Any, keyword: str) -> list[float]:
    """The numbers under a keyword, one or several, those left out that are none or not finite."""
    value = data.get(keyword)
    values = [] if value is None else [value] if isinstance(value, str) or not hasattr(value, "__iter__") else value
    found = []
    for one in values:
        try:
            number = float(one)
        except (TypeError, ValueError):
            continue
        if math.isfinite(number):
            found.append(number)
    return found


def frame_group(data: Any, frame: int, sequence: str) -> Any:
    """The item of a functional group of a multi-frame file: of this frame, else that of all; else the file itself."""
    for groups, place in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = data.get(groups)
        if items and place < len(items) and items[place].get(sequence):
            return items[place][sequence][0]
    return data


def _text(data: Any, keyword: str) -> str:
    value = data.get(keyword)
    return "" if value is None else str(value).strip(" \0")


def _code(value: object) -> str:
    """A modality as far as it is one: another text may be anything."""
    text = str(value or "").strip()
    return text if re.fullmatch(r"[A-Z0-9_]{1,16}", text) else ""


def _position(data: Any) -> tuple[float, ...] | None:
    where, along = numbers_of(data, "ImagePositionPatient"), numbers_of(data, "ImageOrientationPatient")
    return (*where, *along) if len(where) == 3 and len(along) == 6 else None
