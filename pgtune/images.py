"""Opening any image safely, as 8-bit RGB.

What comes out is always a loaded RGB image with its file closed. The rules:

- EXIF orientation is applied; colour profiles are not.
- What is transparent is laid on white (RGBA, LA, palettes, colour keys).
- Grey, 1-bit, palette, CMYK and YCbCr pictures are converted.
- 16-bit grey is mapped from the full range, 0..65535 to 0..255, 12-bit grey from 0..4095; where a TIFF says that 0 is
  white, it is. 32-bit integers are taken as 16-bit where they fit and refused where they do not; floating point is
  mapped from 0..1 and refused outside it: such data (CT, radar, elevation) has to be windowed or normalised first, and
  only you know how. So has a GeoTIFF of more than 8 bits, whose values rarely fill their range: the data adapter
  ``geotiff`` stretches them; ``dicom`` reads DICOM.
- Animations and files of several pages are refused, except the pictures that phones store beside the main one (MPO)
  and the overviews and masks in a TIFF.
- More than ``MAX_PIXELS`` pixels, truncated or broken files, and other formats than ``FORMATS`` are refused.
"""

from __future__ import annotations

import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from pgtune.errors import DataError, PgtuneError
from pgtune.example import ImageSource

__all__ = ["FORMATS", "MAX_PIXELS", "check_image", "open_image", "quiet"]

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats that are read. Not, for instance, EPS: opening one runs Ghostscript on it."""

MAX_PIXELS = 89_478_485
"""Width times height above which an image is refused without being decoded (Pillow's own limit: 256 MiB of RGB)."""

_ODD_TIFF = (
    "a damaged TIFF, or one with a kind of pixels that is not read; save it as 8-bit grey or RGB first "
    "(bands of a scene: data.adapter: geotiff)"
)
_NOT_PICTURES = {
    b"%PDF": "a PDF; render its pages to PNG first",
    b"%!PS": "PostScript; render it to PNG first",
    b"<svg": "an SVG drawing; render it to PNG first",
    b"<?xml": "XML (perhaps an SVG drawing); render it to PNG first",
    b"<!DOC": "a web page; was the download refused?",
    b"<html": "a web page; was the download refused?",
    b"version https://git-lfs": "a Git LFS pointer; run 'git lfs pull' to get the picture",
    b"PK\x03\x04": "a ZIP archive; unpack it first",
    b"II*\0": _ODD_TIFF,
    b"MM\0*": _ODD_TIFF,
}
_TIFF_SUBFILE_TYPE, _TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_GEO_KEYS = 254, 258, 262, 34735
_MIN_IS_WHITE = 0
_REDUCED_OR_MASK = 0b101


def open_image(source: ImageSource) -> Image.Image:
    """The picture behind a path, a PIL image or a callable that makes one: mode RGB, loaded, upright.

    A PIL image that is passed in is left as it is. Raises DataError, without the row (the caller knows it).
    """
    if isinstance(source, str | os.PathLike):
        with quiet(), _opened(source) as image:
            return _decoded(image, os.fspath(source))
    if isinstance(source, Image.Image):
        with quiet():
            return _decoded(source, "the image")
    name = getattr(source, "__qualname__", type(source).__qualname__)
    try:
        made: Any = source()
    except PgtuneError:
        raise
    except (Exception, SystemExit) as error:  # someone else's code: whatever it raises is reported by name
        raise DataError(f"the image: {name} raised {type(error).__name__}: {error}") from error
    if not isinstance(made, Image.Image):
        raise DataError(f"the image: {name} must give a PIL image, got {type(made).__name__}")
    with quiet():
        return _decoded(made, f"the image made by {name}")


def check_image(path: str | os.PathLike[str]) -> None:
    """Look at a file's header only: there, a picture of a known format, one page, not too large. Raises DataError."""
    with quiet(), _opened(path) as image:
        _check_shape(image, os.fspath(path))


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    name = os.fspath(path)
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        folder = os.path.dirname(name)
        lacking = f" (there is no folder {folder})" if folder and not os.path.isdir(folder) else ""
        raise DataError(f"{name}: no such file{lacking}") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte or a lone surrogate in the name
        raise DataError(f"{name!r}: not a file that can be opened: {error}") from None
    if stat.S_ISDIR(status.st_mode):
        raise DataError(f"{name}: is a folder, expected an image file")
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{name}: is not a regular file")
    if status.st_size == 0:
        raise DataError(f"{name}: is empty (0 bytes)")
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below, whatever happens
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}") from None
    with file:
        image = _identified(file, name)
        with image:
            yield image


def _identified(file: IO[bytes], name: str) -> Image.Image:
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        file.seek(0)
        start = file.read(132)
        kind = next((words for mark, words in _NOT_PICTURES.items() if start.lstrip().startswith(mark)), None)
        if start[128:] == b"DICM":
            kind = "DICOM, which data.adapter: dicom reads"
        if start[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
            kind = "HEIC; convert it to JPEG or PNG first"
        found = f"this is {kind}" if kind else "not an image, or its beginning is damaged"
        raise DataError(f"{name}: {found}. Read are {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise DataError(f"{name}: more than {2 * MAX_PIXELS:,} pixels; tile or shrink it first") from None
    except Exception as error:  # a decoder may raise anything on bytes that are not what they claim to be
        raise DataError(f"{name}: cannot be read as an image: {error}") from error


def _check_shape(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise DataError(f"{name}: has no pixels ({width} x {height})")
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name}: {width} x {height} is {width * height:,} pixels, at most {MAX_PIXELS:,} are read; "
            "tile or shrink it first"
        )
    if image.mode == "LAB":
        raise DataError(f"{name}: has LAB colours, which are not read; save it as RGB first")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = max(image.tag_v2.get(_TIFF_BITS, (1,)))
        if bits > 8 and _TIFF_GEO_KEYS in image.tag_v2:
            raise DataError(
                f"{name}: a GeoTIFF of {bits} bits; data.adapter: geotiff reads it and stretches its values, or save "
                "it as 8 bit first"
            )
    try:
        pages = _pages(image)
    except Exception as error:  # as above: counting the pages reads on in the file
        raise DataError(f"{name}: is damaged or truncated: {error}") from error
    if pages > 1:
        kind = "pages" if image.format == "TIFF" else "frames"
        raise DataError(f"{name}: has {pages} {kind}, expected one picture; save the one you mean as a file of its own")


def _pages(image: Image.Image) -> int:
    if image.format == "MPO":
        return 1  # a phone's photo: the further pictures are previews, depth or gain maps
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _tiff_pages(image)
    frames: int = getattr(image, "n_frames", 1)
    return frames


def _tiff_pages(image: TiffImagePlugin.TiffImageFile) -> int:
    """Pages of a TIFF, its overviews and masks aside.

    Pillow's own count sets up each page to be decoded and fails at kinds of pixels it does not know, as masks have.
    """
    if image.fp is None:  # already loaded, which Pillow does not close where there are further pages
        return 1
    image.fp.seek(0)
    header = image.fp.read(8)
    if 43 in header[2:4]:  # BigTIFF
        header += image.fp.read(8)
    directory = TiffImagePlugin.ImageFileDirectory_v2(header)
    seen: set[int] = set()
    pages = 0
    while directory.next and directory.next not in seen:
        seen.add(directory.next)
        image.fp.seek(directory.next)
        directory.load(image.fp)
        kind = directory.get(_TIFF_SUBFILE_TYPE, 0)
        pages += not (isinstance(kind, int) and kind & _REDUCED_OR_MASK)
    return pages


def _decoded(image: Image.Image, name: str) -> Image.Image:
    _check_shape(image, name)
    try:
        image.load()
        if image.mode.startswith("I;16") or image.mode in ("I", "F"):
            image = _from_wide(image, name)
        return _rgb(ImageOps.exif_transpose(image))
    except PgtuneError:
        raise
    except Exception as error:  # a decoder may raise anything on bytes that are not what they claim to be
        raise DataError(f"{name}: is damaged or truncated: {error}") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("La", "LA"):
        image = image.convert("LA").convert("RGBA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _from_wide(image: Image.Image, name: str) -> Image.Image:
    """16-bit, 32-bit and floating-point grey as 8-bit grey, by the rules at the top of this file."""
    import numpy as np  # only such pictures need it

    values = np.asarray(image)
    low, high = values.min().item(), values.max().item()
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    # Pillow unpacks 12 bits into 16 and leaves their values as they are, as it does those of which 0 is white.
    top = 1 if image.mode == "F" else 4095 if tags.get(_TIFF_BITS) == (12,) else 65535
    if not (low >= 0 and high <= top):  # also true for a picture with a NaN
        kind = "floating-point" if image.mode == "F" else "32-bit"
        raise DataError(
            f"{name}: {kind} values from {low:g} to {high:g}, expected 0 to {top}; "
            "choose a window or normalise it, and save it as 8 bit first"
        )
    eight = np.round(values * (255 / top)).astype(np.uint8)
    if tags.get(_TIFF_PHOTOMETRIC) == _MIN_IS_WHITE:
        eight = 255 - eight
    grey = Image.fromarray(eight)
    key = image.info.get("transparency")
    if isinstance(key, int):  # a PNG's 16-bit value that stands for nothing
        grey = Image.merge("LA", (grey, Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))))
    grey.getexif().update(image.getexif())
    return grey


class _Quiet:
    """How many threads are inside, and the warning filters to put back when the last one leaves."""

    lock = threading.Lock()
    inside = 0
    before: warnings.catch_warnings[None]


@contextmanager
def quiet() -> Iterator[None]:
    """Pillow warns about odd EXIF and large pictures: what matters of that is an error here, the rest is noise.

    ``warnings.catch_warnings`` alone is not safe where several threads overlap; counting them is.
    """
    with _Quiet.lock:
        if _Quiet.inside == 0:
            _Quiet.before = warnings.catch_warnings()
            _Quiet.before.__enter__()
            warnings.simplefilter("ignore")
        _Quiet.inside += 1
    try:
        yield
    finally:
        with _Quiet.lock:
            _Quiet.inside -= 1
            if _Quiet.inside == 0:
                _Quiet.before.__exit__(None, None, None)
