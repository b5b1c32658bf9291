"""What the colours of a compressed DICOM picture are in, where its header is wrong about it.

pydicom itself looks at JFIF markers and at components that are called R, G and B. Two more cases leave no doubt: JPEG
2000 that undoes a colour transform of its own gives RGB (ISO/IEC 15444-1, annex G), and JPEG that stores one colour
finer than another holds YCbCr, whatever it is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pgtune.data_adapters.extras import require
from pgtune.data_adapters.radiology.dicom_headers import frames_of

__all__ = ["told_colours"]

_JPEG_2000 = b"\xff\x4f\xff\x51"
_COD, _SOT, _SOS = 0xFF52, 0xFF90, 0xFFDA
_SOF = (0xFFC0, 0xFFC1, 0xFFC2, 0xFFC3)


def told_colours(data: Any, path: str, frame: int) -> dict[str, str]:
    """The PhotometricInterpretation that pydicom must be told, as an argument of its decoder; {}: the header's own.

    ``data`` is the header of the file at ``path``. The file is only read where its header may be wrong.
    """
    uid, encaps = require("pydicom.uid", "radiology"), require("pydicom.encaps", "radiology")
    syntax = data.file_meta.get("TransferSyntaxUID")
    said = str(data.get("PhotometricInterpretation") or "").strip()
    newer = syntax in uid.JPEG2000TransferSyntaxes and said.startswith("YBR_FULL")
    older = syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit) and said == "RGB"
    if data.get("SamplesPerPixel") != 3 or not (newer or older):
        return {}
    content = require("pydicom", "radiology").dcmread(path, force=True).PixelData
    picture = encaps.get_frame(content, frame, number_of_frames=frames_of(data))
    if newer and _transformed(picture):
        return {"photometric_interpretation": "RGB"}
    if older and _subsampled(picture):
        return {"photometric_interpretation": "YBR_FULL_422"}
    return {}


def _transformed(picture: bytes) -> bool:
    """Whether a JPEG 2000 codestream says that a colour transform has to be undone."""
    start = picture.find(_JPEG_2000)
    segments = _segments(picture, start + 2) if start >= 0 else ()
    coding = next((part for marker, part in segments if marker == _COD), b"")
    return len(coding) > 4 and coding[4] == 1


def _subsampled(picture: bytes) -> bool:
    """Whether a JPEG's components differ in how finely they are stored."""
    frame = next((part for marker, part in _segments(picture, 2) if marker in _SOF), b"")
    return len({frame[place] for place in range(7, len(frame), 3)}) > 1


def _segments(picture: bytes, place: int) -> Iterator[tuple[int, bytes]]:
    """The marker segments from a place to where the coded data begins: marker and content."""
    while place + 4 <= len(picture):
        marker = int.from_bytes(picture[place : place + 2], "big")
        length = int.from_bytes(picture[place + 2 : place + 4], "big")
        if marker in (_SOS, _SOT) or marker < 0xFF00 or length < 2:
            return
        yield marker, picture[place + 4 : place + 2 + length]
        place += 2 + length
