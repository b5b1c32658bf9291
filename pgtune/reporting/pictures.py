"""Pictures small enough to be carried inside the page, and boxes drawn over them."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pgtune.errors import PgtuneError
from pgtune.images import open_image
from pgtune.locations import decode_detections
from pgtune.reporting.markup import Safe, tag

__all__ = ["Thumbnail", "boxes_of", "figure", "find_picture", "from_png", "thumbnail"]

PIXELS = 90_000
"""The most that is kept of a picture: 300 x 300, or 900 x 100."""

WIDE = 2.4
"""Width by height from which on a picture takes the whole line, as a system of music does."""

_SHOWN = (340, 260)  # the room for a picture in its card
_MOST_SIDE = 1600
_LETTER = 8  # pixels, about
_MOST_LABELLED = 12  # boxes; more labels would only hide the picture


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a data URI, and the size at which it is shown."""

    uri: str
    width: int
    height: int

    @property
    def wide(self) -> bool:
        """Whether it takes a line of its own."""
        return self.width / self.height >= WIDE


@dataclass(frozen=True)
class DrawnBox:
    """A box in fractions of the picture, and what stands at it."""

    box: Sequence[float]
    label: str
    score: float | None = None


def find_picture(path: str, run: Path) -> Path:
    """Where a row's picture lies: where it says, or if the run folder was moved, in its folder of pictures."""
    here = run / "images" / Path(path).name
    return here if not os.path.exists(path) and Path(path).parent.name == "images" and here.is_file() else Path(path)


def thumbnail(path: Path) -> Thumbnail | str:
    """The picture behind a path, made small; where it cannot be opened, why."""
    try:
        image = open_image(str(path))
    except PgtuneError as error:
        return str(error)
    shrink = min(1.0, math.sqrt(PIXELS / (image.width * image.height)), _MOST_SIDE / max(image.size))
    if shrink < 1:
        size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    return _shown(image, _smallest(image))


def from_png(png: bytes) -> Thumbnail:
    """A picture of black on white, such as music, in sixteen greys."""
    with Image.open(io.BytesIO(png)) as image:
        grey = image.convert("L").quantize(16)
    return _shown(grey, _encoded(grey, "PNG", optimize=True), wide=True)


def _shown(image: Image.Image, uri: str, wide: bool = False) -> Thumbnail:
    width, height = image.size
    if wide or width / height >= WIDE:
        return Thumbnail(uri, width, height)
    fit = min(_SHOWN[0] / width, _SHOWN[1] / height, 3.0)
    return Thumbnail(uri, max(1, round(width * fit)), max(1, round(height * fit)))


def _smallest(image: Image.Image) -> str:
    """As JPEG, or as PNG where that is smaller: drawings are."""
    return min(_encoded(image, "JPEG", quality=82), _encoded(image, "PNG", optimize=True), key=len)


def _encoded(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def boxes_of(row: Mapping[str, Any]) -> tuple[list[DrawnBox], list[DrawnBox]]:
    """The boxes of the truth and of the answer; of a row without any, two empty lists."""
    truth = [DrawnBox(found.box, found.label) for found in decode_detections(row["references"][0]).found]
    if row.get("boxes") is not None:
        said = [DrawnBox(found["box"], found["label"], found["score"]) for found in row["boxes"]]
    else:
        said = [DrawnBox(found.box, found.label) for found in decode_detections(row["prediction"]).found]
    return truth, said


def figure(picture: Thumbnail, alt: str, truth: Sequence[DrawnBox] = (), said: Sequence[DrawnBox] = ()) -> Safe:
    """The picture with its boxes over it; one that is much wider than high can be moved sideways on a phone."""
    image = tag("img", src=picture.uri, alt=alt, width=picture.width, height=picture.height, decoding="async")
    drawn = _overlay(picture, truth, said) if truth or said else None
    frame = tag("div", image, drawn, class_="frame")
    if picture.wide:
        return tag("div", frame, class_="picture sideways", tabindex="0", role="group", aria_label=alt)
    return tag("div", frame, class_="picture")


def _overlay(picture: Thumbnail, truth: Sequence[DrawnBox], said: Sequence[DrawnBox]) -> Safe:
    marks = []
    for kind, boxes in (("truth", truth), ("said", said)):
        labelled = len(truth) + len(said) <= _MOST_LABELLED
        marks += [_drawn(picture, kind, box, labelled) for box in boxes]
    label = f"boxes: {len(truth)} in the truth, {len(said)} in the answer"
    return tag("svg", marks, viewBox=f"0 0 {picture.width} {picture.height}", class_="boxes", role="img",
               aria_label=label)  # fmt: skip


def _drawn(picture: Thumbnail, kind: str, drawn: DrawnBox, labelled: bool) -> Safe:
    top, left, bottom, right = (
        round(edge * side, 1)
        for edge, side in zip(drawn.box, (picture.height, picture.width) * 2, strict=True)
    )  # fmt: skip
    score = "" if drawn.score is None else f" {drawn.score:.2f}"
    said = f"{'truth' if kind == 'truth' else 'answer'}: {drawn.label or 'no label'}{score}"
    edges = {"x": left, "y": top, "width": max(1.0, right - left), "height": max(1.0, bottom - top)}
    # The truth's label stands at the top of its box, the answer's at the bottom: they often lie on each other.
    at = top + 13 if kind == "truth" else bottom - 5
    place: dict[str, float | str] = {"x": left + 4, "y": min(max(at, 13), picture.height - 4)}
    if left + _LETTER * len(drawn.label + score) > picture.width:
        place |= {"x": max(right, left + 4) - 4, "text_anchor": "end"}
    text = tag("text", drawn.label + score, **place) if labelled and drawn.label else None
    return tag("g", tag("title", said), tag("rect", **edges), text, class_=kind)
