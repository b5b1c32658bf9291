"""How a scene's values become colours: bands, stretch, palette, and what is without data.

The rules, for a scene (one raster file):

- Bands: those asked for; else red, green and blue by the file's colour interpretation or the bands' names; else a
  palette's colours; else the first three, or the first one. An alpha band is a mask and never a colour.
- 8-bit values stay as they are. Others are stretched band by band, linearly from one percentile of the whole scene's
  values to another (2 and 98, as desktop GIS do) or between two given values. Percentiles are taken over at most
  ``SAMPLE`` x ``SAMPLE`` evenly spread pixels, from the file's overviews where it has them, without nodata.
- A pixel is without data where the file's mask, alpha or nodata value says so in every band shown, where a band is not
  finite (or beyond 1e38, as the lowest number of a floating point type is), or where every band has the value
  ``nodata``. Such pixels get the colour ``fill`` and take no part in the stretch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtune.errors import AdapterError, DataError
from pgtune.example import shown

__all__ = ["SAMPLE", "Look", "choose_bands"]

SAMPLE = 1024
"""Longest side of the reduced scene that percentiles and the search for empty tiles are based on."""


@dataclass(frozen=True)
class Look:
    """How the values of one scene become colours.

    ``bands``: one or three, counted from 1. ``ranges``: for each the values that become 0 and 255; None: 8-bit values
    as they are. ``palette``: the band's values are looked up in the file's colour table. ``inverted``: 0 is white.
    """

    bands: tuple[int, ...]
    ranges: tuple[tuple[float, float], ...] | None
    palette: bool = False
    inverted: bool = False
    nodata: float | None = None
    fill: tuple[int, int, int] = (0, 0, 0)
    note: str = ""
    """How the bands were chosen where that is a guess; "": by the user or by the file."""

    @staticmethod
    def check(bands: Any, stretch: Any, percentiles: Any) -> None:
        """Refuse arguments of a data adapter that make no sense. Raises AdapterError."""
        numbers = isinstance(bands, list) and all(type(band) is int and band > 0 for band in bands)
        if bands is not None and not (numbers and len(bands) in (1, 3)):
            raise AdapterError(f"bands must be one or three numbers of bands, counted from 1, got {shown(bands)}")
        if stretch not in ("auto", "percentile", "none") and not _pair(stretch):
            each = isinstance(stretch, list) and len(stretch) in (1, 3) and all(_pair(pair) for pair in stretch)
            if not each:
                raise AdapterError(
                    "stretch must be auto, percentile, none, [lowest, highest] or such a pair for each band, got "
                    + shown(stretch)
                )
        ends = list(percentiles) if isinstance(percentiles, list | tuple) else []
        if not _pair(ends) or ends[0] < 0 or ends[1] > 100:
            raise AdapterError(f"percentiles must be two numbers from 0 to 100, got {shown(percentiles)}")


def choose_bands(raster: Any, path: str | Path, bands: list[int] | None) -> tuple[tuple[int, ...], bool, str]:
    """The bands to show, whether they are indices of a palette, and how they were guessed, if they were."""
    colours = [colour.name for colour in raster.colorinterp]
    if bands is not None:
        beyond = [band for band in bands if band > raster.count]
        if beyond:
            raise DataError(f"{path}: has {raster.count} bands, and no band {beyond[0]}")
        return tuple(bands), len(bands) == 1 and colours[bands[0] - 1] == "palette", ""
    if colours[0] == "palette":
        return (1,), True, ""
    named = [(text or "").strip().lower() for text in raster.descriptions]
    for names in (colours, named):
        if all(colour in names for colour in ("red", "green", "blue")):
            return tuple(names.index(colour) + 1 for colour in ("red", "green", "blue")), False, ""
    if colours[0] == "cyan":
        raise DataError(f"{path}: holds inks ({', '.join(colours)}); save it as RGB, or name bands to look at them")
    data = [band for band, colour in enumerate(colours, start=1) if colour != "alpha"]
    if not data:
        raise DataError(f"{path}: has an alpha band only, there is nothing to show")
    chosen = tuple(data[:3] if len(data) >= 3 else data[:1])
    guessed = len(data) not in (1, 3)
    which = ", ".join(map(str, chosen))
    return chosen, False, f"{which} of {len(data)}, for the file names no red, green and blue" if guessed else ""


def _pair(value: Any) -> bool:
    numbers = isinstance(value, list) and len(value) == 2 and all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value
    )
    return numbers and value[0] < value[1]
