"""Engraving kern with verovio and resvg: pictures for training, and of what was read.

verovio ends the whole process on some kern whose voices do not last equally long; what is engraved here must have
passed `kern_check.check_times`. Its messages go to the terminal from C++ and are switched off.
"""

from __future__ import annotations

import io
import re
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from PIL import Image

from pgtune.data_adapters.extras import require
from pgtune.errors import DataError

__all__ = ["EXTRA", "FONTS", "MAX_SIDE", "EngravedKern", "engrave_svg", "rasterize"]

EXTRA = "sheet-music"
FONTS = ("Bravura", "Gootville", "Leipzig", "Leland", "Petaluma")
"""The music fonts that verovio carries."""

MAX_SIDE = 20_000
"""Width or height in pixels above which an engraving is refused."""

_STAFF_UNITS = 72
"""Height of a staff in pixels at verovio's scale 100: 8 units of 9."""

_LOCK = threading.Lock()  # a toolkit is not to be used by two threads, and pictures are decoded in several


@lru_cache(maxsize=1)
def _toolkit() -> Any:
    verovio = require("verovio", EXTRA)
    verovio.enableLog(verovio.LOG_OFF)
    return verovio.toolkit()


def engrave_svg(kern: str, font: str = "Leipzig", staff_height: int = 36, page_width: int | None = None) -> str:
    """The kern as an SVG drawing, on one line, or on lines of ``page_width`` pixels at most.

    ``staff_height``: of one staff, in pixels. Raises DataError where verovio does not read it, where it draws another
    number of measures than the kern has, and where it would not fit on one page.
    """
    scale = round(100 * staff_height / _STAFF_UNITS)
    wide = 60_000 if page_width is None else max(100, round(page_width * 100 / scale))
    options = {
        "inputFrom": "humdrum",
        "breaks": "none" if page_width is None else "auto",
        "adjustPageHeight": True,
        "adjustPageWidth": page_width is None,
        "pageHeight": 60_000,
        "pageWidth": wide,
        "pageMarginTop": 30,
        "pageMarginBottom": 30,
        "pageMarginLeft": 60,
        "pageMarginRight": 30,
        "header": "none",
        "footer": "none",
        "font": font,
        "scale": scale,
        "xmlIdSeed": 1,  # the same drawing to the byte each time
    }
    beamed = re.search(r"^[^*=!]*\d[^\t\n]*L", kern, re.MULTILINE) is not None
    text = _resting_alone(kern) + ("\n" if beamed else "\n!!!filter: autobeam\n")
    with _LOCK:
        toolkit = _toolkit()
        toolkit.resetOptions()
        toolkit.setOptions(options)
        if not toolkit.loadData(text):
            raise DataError("verovio does not read this kern")
        pages = toolkit.getPageCount()
        if pages != 1:
            raise DataError(f"the engraving has {pages} pages, expected 1; use fewer measures or a wider page")
        svg = str(toolkit.renderToSVG(1))
    drawn, wanted = svg.count('class="measure"'), _measures(kern)
    if drawn != wanted:
        raise DataError(f"the picture has {drawn} measures, the kern {wanted}")
    # Ties that leave the system are drawn red, as a warning to editors.
    return svg.replace('"red"', '"black"')


def _resting_alone(kern: str) -> str:
    """The kern with a line of null tokens in front of a measure's rests where the measure before rests too.

    Else verovio draws them all as one rest of several measures, and the picture has fewer than the kern.
    """
    rows: list[str] = []
    before = rests = False  # whether all notes of the measure before, and of this one so far, are rests
    first = True
    for row in kern.split("\n"):
        if row.startswith("=") and not first:
            before, first = rests, True
        elif row and not row.startswith(("*", "!", "=")):
            tokens = row.split("\t")
            silent = all("r" in token or token == "." for token in tokens)
            if first and silent and before:
                rows.append("\t".join("." for _ in tokens))
            rests = silent and (first or rests)
            first = False
        rows.append(row)
    return "\n".join(rows)


def _measures(kern: str) -> int:
    """How many measures a cut has: bar lines, and what follows the last of them."""
    count, open_notes, seen = 0, False, False
    for row in kern.split("\n"):
        if row.startswith("="):
            count += seen  # a bar line in front of the first note begins a repeat, and ends nothing
            open_notes = False
        elif row and not row.startswith(("*", "!")):
            open_notes = seen = True
    return count + open_notes


def rasterize(svg: str) -> bytes:
    """The SVG as PNG, on white, without the machine's fonts. Raises DataError above MAX_SIDE pixels."""
    found = re.search(r'<svg width="([\d.]+)px" height="([\d.]+)px"', svg)
    assert found, svg[:200]
    if max(float(found[1]), float(found[2])) > MAX_SIDE:
        size = f"{found[1]} x {found[2]}"
        raise DataError(f"the engraving has {size} pixels, at most {MAX_SIDE} a side; use fewer measures")
    resvg = require("resvg_py", EXTRA)
    return bytes(resvg.svg_to_bytes(svg_string=svg, background="white", skip_system_fonts=True))


@dataclass(frozen=True)
class EngravedKern:
    """A picture that is engraved when it is asked for. ``place`` is where it comes from, for messages."""

    kern: str
    font: str = "Leipzig"
    staff_height: int = 36
    page_width: int | None = None
    place: str = ""

    def __call__(self) -> Image.Image:
        """The picture, RGB. Raises DataError, with the place."""
        try:
            png = rasterize(engrave_svg(self.kern, self.font, self.staff_height, self.page_width))
        except DataError as error:
            raise DataError(f"{self.place}: {error}" if self.place else str(error)) from None
        with Image.open(io.BytesIO(png)) as picture:
            return picture.convert("RGB")
