"""Music in kern, engraved for the page: where the extra ``sheet-music`` is installed."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from pgtune.errors import DataError
from pgtune.reporting.pictures import Thumbnail, from_png

__all__ = ["Engraved", "can_engrave", "engrave", "is_kern"]

STAFF_HEIGHT = 28
"""In pixels."""

_NEEDED = ("verovio", "resvg_py")


@dataclass(frozen=True)
class Engraved:
    """What became of a kern text: a picture, or None, and what is to be said about it."""

    picture: Thumbnail | None
    note: str


def is_kern(text: str) -> bool:
    """Whether a text is meant as kern."""
    return text.lstrip().startswith("**kern")


def can_engrave() -> bool:
    """Whether what it takes is installed."""
    return all(importlib.util.find_spec(name) is not None for name in _NEEDED)


def engrave(kern: str) -> Engraved:
    """The text as a picture, mended first where it has to be; where even that is no music, why."""
    from pgtune.data_adapters.sheet_music.engraving import engrave_svg, rasterize
    from pgtune.data_adapters.sheet_music.kern import normal_form
    from pgtune.data_adapters.sheet_music.kern_check import mend_kern

    verdict = mend_kern(kern)
    if verdict.state == "invalid":
        return Engraved(None, f"no valid kern: {verdict.reasons[0]}")
    try:
        png = rasterize(engrave_svg(normal_form(verdict.text), staff_height=STAFF_HEIGHT))
    except DataError as error:
        return Engraved(None, str(error))
    mended = f"mended first: {'; '.join(verdict.reasons)}" if verdict.state == "mended" else ""
    odd = f"do not fill their meter: {', '.join(verdict.irregular)}" if verdict.irregular else ""
    return Engraved(from_png(png), ". ".join(filter(None, (mended, odd))))
