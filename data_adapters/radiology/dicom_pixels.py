"""A frame of a DICOM file to an 8-bit picture, the way a viewer shows it.

Grey values go through Modality LUT and window (`dicom_windows`); colour (RGB, YBR, PALETTE COLOR) becomes RGB and has
no window. Overlays, shutters, ICC profiles and presentation states are not applied. Pixel padding is black and takes no
part in statistics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pgtune.data_adapters.extras import require
from pgtune.data_adapters.radiology.dicom_colours import told_colours
from pgtune.data_adapters.radiology.dicom_headers import frame_group, frames_of, numbers_of, read_header
from pgtune.data_adapters.radiology.dicom_windows import Window, grey
from pgtune.errors import DataError, PgtuneError
from pgtune.images import MAX_PIXELS, quiet

__all__ = ["DicomPicture"]

# Decoders that may be missing; the other encodings are read by pydicom and Pillow.
_NEEDED = {
    "JPEG Lossless": "python-gdcm",
    "JPEG Extended": "python-gdcm",
    "JPEG-LS": "pyjpegls",
    "JPEG 2000": "pylibjpeg-openjpeg",
    "High-Throughput JPEG 2000": "pylibjpeg-openjpeg",
}
# The decoders give RGB for all of them.
_COLOURS = {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"}


@dataclass(frozen=True, repr=False)
class DicomPicture:
    """One frame of a DICOM file, decoded when it is called.

    ``path``: the file. ``name``: what messages call it; "": its path. ``frame``: from 0. ``window``: see
    `dicom_windows.Window`. ``square_pixels``: stretch a picture whose pixels are not square.
    """

    path: str
    name: str = ""
    frame: int = 0
    window: Window = "auto"
    square_pixels: bool = True

    def __call__(self) -> Image.Image:
        """The picture, mode L or RGB. Raises DataError, which names the file: not DICOM, cut off, cannot be decoded."""
        try:
            with quiet():  # pydicom's warnings quote values of the header, which may be the patient's
                return _picture(self)
        except DataError as error:
            raise DataError(f"{self.name or self.path}: {error}") from None
        except PgtuneError:
            raise
        except Exception as error:  # a damaged file may raise anything, and its text may quote the header
            raise DataError(f"{self.name or self.path}: is damaged or cut off ({type(error).__name__})") from None


def _picture(wanted: DicomPicture) -> Image.Image:
    data = read_header(wanted.path)
    rows, columns, frames = data.get("Rows") or 0, data.get("Columns") or 0, frames_of(data)
    if not rows or not columns:
        raise DataError("holds no picture")
    if rows * columns > MAX_PIXELS:
        raise DataError(f"{columns} x {rows} is {rows * columns:,} pixels, at most {MAX_PIXELS:,} are read")
    if not 0 <= wanted.frame < frames:
        raise DataError(f"there is no frame {wanted.frame}, it has {frames} (counted from 0)")
    stored = _decoded(data, wanted)
    colours = str(data.get("PhotometricInterpretation") or "MONOCHROME2").strip()
    if stored.ndim == 3:
        if stored.shape[2] != 3 or colours not in _COLOURS:
            raise DataError(
                f"has {stored.shape[2]} values a pixel, and its PhotometricInterpretation is {colours[:16]!r}"
            )
        picture = Image.fromarray(_eight_bits(stored, int(data.get("BitsStored") or 8)))
    elif colours == "PALETTE COLOR":
        picture = Image.fromarray(_through_palette(stored, data))
    elif colours in ("MONOCHROME1", "MONOCHROME2"):
        picture = Image.fromarray(grey(stored, data, wanted.frame, wanted.window))
    else:
        raise DataError(f"has one value a pixel, and its PhotometricInterpretation is {colours[:16]!r}")
    return _square(picture, data, wanted.frame) if wanted.square_pixels else picture


def _decoded(data: Any, wanted: DicomPicture) -> Any:
    """Stored values, rows x columns or rows x columns x 3 (then RGB), of one frame; other frames are not decoded."""
    pydicom, pixels = require("pydicom", "radiology"), require("pydicom.pixels", "radiology")
    syntax = data.file_meta.get("TransferSyntaxUID")
    source: Any = wanted.path
    # pydicom reads one frame of many from the path; from there it does not unpack, and is strict about some headers.
    if syntax is None or syntax == pydicom.uid.DeflatedExplicitVRLittleEndian or frames_of(data) == 1:
        source = pydicom.dcmread(wanted.path, force=True)
    if syntax is None:  # without its header a file says how it is encoded by being readable so
        implicit, little = source.original_encoding
        explicit = "ExplicitVRLittleEndian" if little else "ExplicitVRBigEndian"
        syntax = getattr(pydicom.uid, "ImplicitVRLittleEndian" if implicit else explicit)
        source.file_meta.TransferSyntaxUID = syntax
    try:
        decoder = pixels.get_decoder(syntax)
    except NotImplementedError:
        raise DataError(f"is encoded as {syntax.name}, which is not read") from None
    if not decoder.is_available:
        needed = next(
            (package for kind, package in _NEEDED.items() if syntax.name.startswith(kind)), "a decoder for it"
        )
        raise DataError(f"is encoded as {syntax.name}, for which {needed} must be installed")
    try:
        if syntax == pydicom.uid.JPEGExtended12Bit and int(data.get("BitsStored") or 8) > 8:
            return _by_gdcm(wanted.path, data)[wanted.frame]
        if _by_its_high_bit(data, syntax):
            return _lowered(pixels.pixel_array(source, index=wanted.frame, correct_unused_bits=False), data)
        return pixels.pixel_array(source, index=wanted.frame, **told_colours(data, wanted.path, wanted.frame))
    except PgtuneError:
        raise
    except Exception as error:  # a decoder may raise anything on bytes that are not what they claim to be
        lines = [line.strip() for line in str(error).splitlines()]
        why = "; ".join(lines[1:] or lines) or type(error).__name__
        raise DataError(f"its pixels cannot be decoded ({syntax.name}): {why[:300]}") from None


def _by_its_high_bit(data: Any, syntax: Any) -> bool:
    """Whether grey values may lie above the lowest bits; those that are encoded otherwise have no place for bits."""
    above = int(data.get("HighBit") or 0) >= int(data.get("BitsStored") or 16)
    return above and int(data.get("SamplesPerPixel") or 1) == 1 and not syntax.is_encapsulated


def _lowered(values: Any, data: Any) -> Any:
    """Values whose highest bit is HighBit, moved to the lowest bits, where they do lie up there.

    Some files have a wrong HighBit: in these, bits are set below those that it tells of.
    """
    allocated, stored, high = 8 * values.dtype.itemsize, int(data.BitsStored), int(data.HighBit)
    bits = values.astype(f"u{values.dtype.itemsize}")
    up_there = not (bits & (2 ** (high + 1 - stored) - 1)).any()
    bits <<= allocated - 1 - high if up_there else allocated - stored
    return bits.view(f"{values.dtype.kind}{values.dtype.itemsize}") >> (allocated - stored)


def _by_gdcm(path: str, data: Any) -> Any:
    """Stored values of 12-bit JPEG, frames x rows x columns: pydicom gives these to a GPL-licensed decoder alone."""
    gdcm = require("gdcm", "radiology")
    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    reader = gdcm.ImageReader()
    reader.SetFileName(path)
    if not reader.Read():
        raise DataError("not readable by gdcm")
    values = np.frombuffer(reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape"), "<u2")
    if data.get("PixelRepresentation"):
        values = values.view(np.int16)
    return values.reshape(-1, data.Rows, data.Columns)


def _eight_bits(values: Any, bits: int) -> Any:
    return (values >> max(0, bits - 8)).astype("uint8")


def _through_palette(stored: Any, data: Any) -> Any:
    """RGB of palette indices."""
    pixels = require("pydicom.pixels", "radiology")
    if not data.original_encoding[1]:  # of a big-endian file, pydicom reads segmented palettes right and others swapped
        for colour in ("Red", "Green", "Blue"):
            name = f"{colour}PaletteColorLookupTable"
            table = data.get(f"{name}Data")
            if isinstance(table, bytes) and data[f"{name}Data"].VR == "OW":
                setattr(data, f"{name}Data", np.frombuffer(table, ">u2").astype("<u2").tobytes())
    colours = pixels.apply_color_lut(stored, data)
    # Some files say 16 bits of tables that are filled with 8-bit colours.
    return _eight_bits(colours, 8 * colours.dtype.itemsize if colours.max() > 255 else 8)


def _square(picture: Image.Image, data: Any, frame: int) -> Image.Image:
    """The picture with pixels as high as they are wide, the longer way stretched."""
    measures = frame_group(data, frame, "PixelMeasuresSequence")
    spacing = [numbers_of(measures, name) for name in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio")]
    pair = next((pair for pair in spacing if len(pair) == 2 and min(pair) > 0), [1.0, 1.0])
    ratio = pair[0] / pair[1]  # height of a pixel by its width
    if abs(ratio - 1) < 0.01:
        return picture
    width, height = picture.size
    size = (width, round(height * ratio)) if ratio > 1 else (round(width / ratio), height)
    if size[0] * size[1] > MAX_PIXELS:
        raise DataError(f"with square pixels it is {size[0]} x {size[1]}, at most {MAX_PIXELS:,} pixels are read")
    return picture.resize(size, Image.Resampling.BILINEAR)
