"""Windows of a raster as pictures: any number and type of bands, stretched to 8 bits, nodata painted over.

How is told by `geotiff_look`.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pgtune.data_adapters.extras import require
from pgtune.data_adapters.remote_sensing import geotiff_look
from pgtune.data_adapters.remote_sensing.geotiff_look import Look, choose_bands
from pgtune.errors import DataError

__all__ = ["Tile", "coarse_mask", "open_raster", "scene_look", "valid_pixels", "whole"]

_BEYOND = 1e38  # no measurement is so far from 0: it is infinite, or a type's lowest number, which GIS write as nodata
_OPAQUE = 128  # an 8-bit alpha of so much is seen as data: JPEG leaves noise in it


@dataclass(frozen=True)
class Tile:
    """A window of a raster; calling it reads it as an RGB picture.

    ``window``: column, row, width and height in the raster's pixels, inside of it. ``picture``: width and height of
    the picture; ``content``: those of the window's part in it, at the top left; the rest is ``look.fill``.
    """

    path: str
    window: tuple[int, int, int, int]
    picture: tuple[int, int]
    content: tuple[int, int]
    look: Look

    def __call__(self) -> Image.Image:
        """The picture. Raises DataError where the file cannot be read."""
        with _kept(self.path) as raster:
            pixels = _pixels(raster, self.path, self.look, self.window, self.content)
        if self.picture == self.content:
            return Image.fromarray(pixels)
        canvas = Image.new("RGB", self.picture, self.look.fill)
        canvas.paste(Image.fromarray(pixels))
        return canvas


@contextmanager
def open_raster(path: str | Path) -> Iterator[Any]:
    """The raster behind a path, as rasterio has it. Raises DataError: not there, no raster, complex numbers."""
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such file")
    with _readable(path):
        raster = _opened(path)
    with raster:
        if raster.count == 0 or len(raster.subdatasets) > 1:
            what = f"{len(raster.subdatasets)} pictures" if raster.subdatasets else "no bands"
            raise DataError(f"{path}: has {what}, expected one raster; save the one you mean as a file of its own")
        if any(kind.startswith("complex") for kind in raster.dtypes):
            raise DataError(f"{path}: holds complex numbers ({raster.dtypes[0]}); write their amplitude first")
        yield raster


def _opened(path: str | Path) -> Any:
    # By what is in the file: GDAL's other formats include texts that point at addresses in a network.
    with open(path, "rb") as file:
        start = file.read(12)
    driver = next((name for mark, name in _DRIVERS.items() if start.startswith(mark)), None)
    if Path(path).suffix.lower() == ".vrt":
        driver = "VRT"
    if driver is None:
        known = ", ".join(sorted(set(_DRIVERS.values())))
        raise DataError(f"{path}: cannot be read as a raster: its first bytes are of none of {known}")
    return require("rasterio", "remote-sensing").open(os.path.abspath(path), driver=driver)


@contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    """Rasterio's failures as a DataError; no warning of files that are not placed, or have both alpha and nodata."""
    rasterio = require("rasterio", "remote-sensing")
    errors = require("rasterio.errors", "remote-sensing")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.NotGeoreferencedWarning)
        warnings.simplefilter("ignore", errors.NodataShadowWarning)
        try:
            with rasterio.Env():
                yield
        except (errors.RasterioError, rasterio._err.CPLE_BaseError) as error:
            why = str(error.__cause__ or error)
            raise DataError(f"{path}: cannot be read as a raster, or is damaged: {why}") from None


_DRIVERS = {
    b"II": "GTiff",
    b"MM": "GTiff",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"\x00\x00\x00\x0cjP": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
    b"BM": "BMP",
}
"""First bytes of the files that are read, and GDAL's name for their format."""


class _Last(threading.local):
    """The raster that this thread read last, left open: a large PNG is decoded from its top at each opening."""

    key: tuple[Any, ...] = ()
    raster: Any = None


_LAST = _Last()


@contextmanager
def _kept(path: str) -> Iterator[Any]:
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such file")
    status = os.stat(path)
    # A forked process must not share the file's position with its parent.
    key = (os.getpid(), path, status.st_mtime_ns, status.st_size)
    if _LAST.key != key:
        if _LAST.raster is not None and _LAST.key[0] == os.getpid():
            _LAST.raster.close()
        _LAST.key, _LAST.raster = (), None
        with open_raster(path):
            pass  # the checks, and closed again
        with _readable(path):
            _LAST.raster = _opened(path)
        _LAST.key = key
    yield _LAST.raster


def scene_look(
    raster: Any,
    path: str | Path,
    bands: list[int] | None = None,
    stretch: Any = "auto",
    percentiles: tuple[float, float] = (2.0, 98.0),
    nodata: float | None = None,
    fill: tuple[int, int, int] = (0, 0, 0),
) -> Look:
    """How a scene is shown, by the rules at the top of this file.

    Raises DataError: a band that the file does not have, ``stretch: none`` for values that are not 8-bit.
    """
    chosen, palette, note = choose_bands(raster, path, bands)
    inverted = raster.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
    kinds = {raster.dtypes[band - 1] for band in chosen}
    if palette or stretch == "none" or (stretch == "auto" and kinds == {"uint8"}):
        if kinds != {"uint8"} and not palette:
            raise DataError(f"{path}: holds {', '.join(sorted(kinds))}, which stretch: none cannot show as 8 bits")
        bits = int(raster.tags(chosen[0], ns="IMAGE_STRUCTURE").get("NBITS", 8))
        few = None if palette or bits >= 8 else ((0.0, 2.0**bits - 1),) * len(chosen)
        return Look(chosen, few, palette, inverted, nodata, fill, note)
    if isinstance(stretch, list):
        pairs = stretch if isinstance(stretch[0], list) else [stretch] * len(chosen)
        if len(pairs) != len(chosen):
            raise DataError(f"{path}: stretch has {len(pairs)} pairs, expected one for each of {len(chosen)} bands")
        ranges = tuple((float(low), float(high)) for low, high in pairs)
        return Look(chosen, ranges, palette, inverted, nodata, fill, note)
    look = Look(chosen, None, palette, inverted, nodata, fill, note)
    return Look(chosen, _percentiles(raster, path, look, percentiles), palette, inverted, nodata, fill, note)


def whole(raster: Any, path: str | Path, look: Look) -> Tile:
    """The whole raster as one picture."""
    size = (raster.width, raster.height)
    return Tile(str(path), (0, 0, *size), size, size, look)


def coarse_mask(raster: Any, path: str | Path, look: Look) -> Any:
    """Which pixels of the reduced scene have data: an array of bool, up to ``SAMPLE`` on a side; None: all."""
    if _has_no_holes(raster, look):
        return None
    _, valid = _values(raster, path, look, (0, 0, raster.width, raster.height), _reduced(raster), average=False)
    return valid.any(axis=0)


def _has_no_holes(raster: Any, look: Look) -> bool:
    """Whether a scene can have no pixel without data, so that none has to be read to know."""
    if look.nodata is not None or any(colour.name == "alpha" for colour in raster.colorinterp):
        return False
    return all(
        any(flag.name == "all_valid" for flag in raster.mask_flag_enums[band - 1])
        and not raster.dtypes[band - 1].startswith("float")
        for band in look.bands
    )


def valid_pixels(raster: Any, path: str | Path, look: Look, window: tuple[int, int, int, int]) -> Any:
    """Which pixels of a window have data, at the raster's own resolution: an array of bool."""
    return _values(raster, path, look, window, window[2:], average=False)[1].any(axis=0)


def _reduced(raster: Any) -> tuple[int, int]:
    factor = max(1.0, max(raster.width, raster.height) / geotiff_look.SAMPLE)
    return max(1, round(raster.width / factor)), max(1, round(raster.height / factor))


def _values(
    raster: Any, path: str | Path, look: Look, window: tuple[int, int, int, int], size: tuple[int, int], average: bool
) -> tuple[Any, Any]:
    """Values and their validity, both (band, row, column), of a window read at ``size`` (width, height)."""
    import numpy as np

    enums = require("rasterio.enums", "remote-sensing")
    windows = require("rasterio.windows", "remote-sensing")
    area = windows.Window(*window)
    shape = (len(look.bands), size[1], size[0])
    # Indices of a palette have no mean, and neither has a value that only the user knows to be no data.
    smaller = average and not look.palette and look.nodata is None and size != tuple(window[2:])
    with _readable(path):
        resampling = enums.Resampling.average if smaller else enums.Resampling.nearest
        values = raster.read(list(look.bands), window=area, out_shape=shape, resampling=resampling)
        valid = np.ones(shape, dtype=bool)
        for place, band in enumerate(look.bands):
            flags = raster.mask_flag_enums[band - 1]
            if enums.MaskFlags.all_valid not in flags and enums.MaskFlags.alpha not in flags:
                valid[place] = raster.read_masks(band, window=area, out_shape=shape[1:]) > 0
        for band, colour in enumerate(raster.colorinterp, start=1):
            # A nodata value hides the alpha band from GDAL's own mask, so it is looked at for itself.
            if colour.name == "alpha" and band not in look.bands:
                alpha = raster.read(band, window=area, out_shape=shape[1:])
                valid &= (alpha >= _OPAQUE) if raster.dtypes[band - 1] == "uint8" else (alpha > 0)
    if values.dtype.kind == "f":
        finite = np.abs(values) < _BEYOND  # false for NaN, too
        valid &= finite.all(axis=0)
        values = np.where(finite, values, 0)
    if look.nodata is not None:
        valid &= ~(values == look.nodata).all(axis=0)
    return values, valid


def _percentiles(
    raster: Any, path: str | Path, look: Look, percentiles: tuple[float, float]
) -> tuple[tuple[float, float], ...]:
    import numpy as np

    values, valid = _values(raster, path, look, (0, 0, raster.width, raster.height), _reduced(raster), average=False)
    ranges = []
    for band, there in zip(values, valid, strict=True):
        seen = band[there].astype("float64")
        if not seen.size:
            ranges.append((0.0, 1.0))  # nothing to be seen: every tile is empty
            continue
        low, high = (float(value) for value in np.percentile(seen, list(percentiles)))
        if low == high:  # nearly all the same, as a few bright targets on nothing
            low, high = float(seen.min()), float(seen.max())
        ranges.append((low, high))
    return tuple(ranges)


def _pixels(
    raster: Any, path: str, look: Look, window: tuple[int, int, int, int], size: tuple[int, int]
) -> Any:
    """A window as (row, column, 3) of uint8, nodata painted."""
    import numpy as np

    values, valid = _values(raster, path, look, window, size, average=True)
    seen = valid.any(axis=0)
    if look.palette:
        table = np.zeros((int(values.max()) + 1, 4), dtype="uint8")
        for index, colour in raster.colormap(look.bands[0]).items():
            if index < len(table):
                table[index] = colour
        found = table[values[0]]
        pixels, seen = found[..., :3], seen & (found[..., 3] > 0)
    else:
        if look.ranges is not None:
            spans = [_stretched(band.astype("float64"), *ends) for band, ends in zip(values, look.ranges, strict=True)]
            values = np.stack(spans)
        if look.inverted:
            values = 255 - values
        pixels = np.moveaxis(values if len(values) == 3 else np.repeat(values, 3, axis=0), 0, -1)
    return np.where(seen[..., None], pixels, np.array(look.fill, dtype="uint8")).astype("uint8")


def _stretched(band: Any, low: float, high: float) -> Any:
    """Values from ``low`` to ``high`` as 0 to 255, those beyond clipped; one value all over is mid-grey."""
    import numpy as np

    if not high > low:
        return np.full(band.shape, 128, dtype="uint8")
    return np.round(np.clip((band - low) / (high - low), 0, 1) * 255).astype("uint8")
