"""Pictures changed at random while training, with the boxes in the text moved along. Pillow only.

What is drawn is a function of (seed, epoch, example), so that a resumed run sees the same. The rules for text:

- Boxes, four location tokens each with y first, are moved with the picture and clipped to it. In a list of objects
  (`<loc...>x4 label ; ...`) one of which too little is left is dropped. Where that happens to all of them, or to a box
  that stands in a sentence or in the prefix, the example keeps its picture as it is this time.
- Location tokens in other numbers or orders, and segmentation tokens, cannot be moved: such a row is refused as soon
  as something geometric is on.
- Text that names a side or place (left, above, north, corner ...) would become wrong: such an example is changed in
  its colours only. The words looked for are English.
- Everything else that the text says of the picture, such as a count, a line of writing or music, is not understood.

The papers' transfers resize and do nothing else; PaliGemma's Appendix C finds that label smoothing and dropout serve
as well as cropping and zooming do (RefCOCO). It is for small data.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageStat

from pgtune.errors import DataError
from pgtune.example import Example
from pgtune.images import open_image
from pgtune.locations import Box, decode_box, decode_detections, encode_box
from pgtune.settings import AugmentSettings

__all__ = ["Plan", "augmented", "check_movable", "draw_plan", "names_a_place"]

_SALT = 0xA06  # apart from the other random numbers of a run
_RUN = re.compile(r"(?:<loc[0-9]{4}>)+")
_FOUR = re.compile(r"(?:<loc[0-9]{4}>){4}")
_PLACES = re.compile(
    r"\b(?:left|right|left-?hand|right-?hand|left-?most|right-?most|top|bottom|top-?most|bottom-?most|upper|lower|"
    r"upper-?most|lower-?most|above|below|beneath|under|underneath|up|down|upwards?|downwards?|upside|"
    r"(?:north|south)(?:-?(?:east|west))?(?:ern)?|(?:east|west)(?:ern)?|clockwise|counter-?clockwise|anti-?clockwise|"
    r"horizontal|horizontally|vertical|vertically|rows?|columns?|corners?|cent(?:er|re)|middle)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Plan:
    """What is done to one example in one epoch. Positions are shares of the room there is, 0 to 1."""

    turns: int = 0
    """Quarter turns, counter-clockwise."""
    mirror: bool = False
    upend: bool = False
    crop: float = 1.0
    """Share of the area that is kept."""
    crop_at: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0
    """Factor by which it is made smaller."""
    zoom_at: tuple[float, float] = (0.0, 0.0)
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0

    @property
    def still(self) -> Plan:
        """The same without what moves anything."""
        return Plan(brightness=self.brightness, contrast=self.contrast, saturation=self.saturation)

    @property
    def moves(self) -> bool:
        """Whether anything is moved."""
        return self != self.still


class _Frame(NamedTuple):
    """A plan in whole pixels of one picture: the window kept of the turned picture, and where it then stands."""

    turned: tuple[int, int]
    window: tuple[int, int, int, int]
    shrunk: tuple[int, int]
    offset: tuple[int, int]


def draw_plan(settings: AugmentSettings, seed: int, index: int, epoch: int) -> Plan:
    """The plan of one example in one epoch. Switching one setting on leaves the draws of the others as they were."""
    draws = np.random.default_rng([_SALT, seed, index, epoch]).random(13).tolist()
    turn, mirror, upend, turns, crop, crop_x, crop_y, zoom, zoom_x, zoom_y, *colours = draws

    def factor(strength: float, value: float) -> float:
        return 1 + strength * (2 * value - 1)

    return Plan(
        turns=1 + int(3 * turns) if turn < settings.rotate90 else 0,
        mirror=mirror < settings.horizontal_flip,
        upend=upend < settings.vertical_flip,
        crop=settings.crop + (1 - settings.crop) * crop,
        crop_at=(crop_x, crop_y) if settings.crop < 1 else (0.0, 0.0),
        zoom=1 + (settings.zoom_out - 1) * zoom,
        zoom_at=(zoom_x, zoom_y) if settings.zoom_out > 1 else (0.0, 0.0),
        brightness=factor(settings.brightness, colours[0]),
        contrast=factor(settings.contrast, colours[1]),
        saturation=factor(settings.saturation, colours[2]),
    )


def check_movable(example: Example, settings: AugmentSettings) -> None:
    """Refuse text whose tokens could not be moved along. Raises DataError, without the row."""
    if not settings.geometric:
        return
    for name, text in (("prefix", example.prefix), ("suffix", example.suffix)):
        if "<seg" in text:
            raise DataError(f"{name} holds segmentation tokens, which no augmentation but colour can move along")
        for run in _RUN.findall(text):
            if len(run) % 36 or any(decode_box(four) is None for four in _FOUR.findall(run)):
                raise DataError(
                    f"{name} holds {run}, which is no box (<loc ymin><loc xmin><loc ymax><loc xmax>) that an "
                    "augmentation could move along; only colour may be changed here"
                )


def names_a_place(example: Example) -> bool:
    """Whether the text names a side or a place, so that the picture may not be moved under it."""
    return bool(_PLACES.search(example.prefix) or _PLACES.search(example.suffix))


def augmented(example: Example, settings: AugmentSettings, *, seed: int, index: int, epoch: int) -> Example:
    """The example as it is seen in that epoch: pictures opened and changed, boxes in the text moved along.

    Several pictures are all changed alike. Raises DataError for a picture that cannot be opened.
    """
    plan = draw_plan(settings, seed, index, epoch)
    if plan.moves and names_a_place(example):
        plan = plan.still
    if plan == Plan():
        return example
    pictures = [open_image(image) for image in example.images]
    frame = _frame(pictures[0].size, plan)

    def move(box: Box) -> tuple[Box, float]:
        return _moved(box, plan, frame)

    prefix = _moved_text(example.prefix, move, settings.min_visibility, may_drop=False)
    suffix = _moved_text(example.suffix, move, settings.min_visibility, may_drop=True)
    if prefix is None or suffix is None:
        return example
    changed = [change_picture(picture, plan) for picture in pictures]
    return Example(
        changed,
        prefix,
        suffix,
        metadata=example.metadata,
        part=example.part,
        question_type=example.question_type,
        groups=example.groups,
    )


def change_picture(picture: Image.Image, plan: Plan) -> Image.Image:
    """An RGB picture as the plan says: turned, mirrored, cropped, made smaller, then its colours."""
    frame = _frame(picture.size, plan)
    turns = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)[plan.turns]
    if turns is not None:
        picture = picture.transpose(turns)
    if plan.mirror:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if plan.upend:
        picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    picture = picture.crop(frame.window)
    if frame.shrunk != picture.size:
        red, green, blue = (round(value) for value in ImageStat.Stat(picture).mean)
        ground = Image.new("RGB", picture.size, (red, green, blue))
        ground.paste(picture.resize(frame.shrunk, Image.Resampling.BICUBIC), frame.offset)
        picture = ground
    for enhancer, factor in (
        (ImageEnhance.Brightness, plan.brightness),
        (ImageEnhance.Contrast, plan.contrast),
        (ImageEnhance.Color, plan.saturation),
    ):
        if factor != 1:
            picture = enhancer(picture).enhance(factor)
    return picture


def _frame(size: tuple[int, int], plan: Plan) -> _Frame:
    width, height = size if plan.turns % 2 == 0 else (size[1], size[0])
    kept = [max(1, round(length * plan.crop**0.5)) for length in (width, height)]
    left, top = (
        round((length - keep) * at) for length, keep, at in zip((width, height), kept, plan.crop_at, strict=True)
    )
    shrunk = [max(1, round(keep / plan.zoom)) for keep in kept]
    x, y = (round((keep - small) * at) for keep, small, at in zip(kept, shrunk, plan.zoom_at, strict=True))
    window = (left, top, left + kept[0], top + kept[1])
    return _Frame((width, height), window, (shrunk[0], shrunk[1]), (x, y))


def _moved(box: Box, plan: Plan, frame: _Frame) -> tuple[Box, float]:
    """The box in the changed picture, clipped to it, and the share of its area that is left, 0 to 1."""
    for _ in range(plan.turns):  # a quarter turn counter-clockwise: the right edge becomes the top
        box = Box(1 - box.xmax, box.ymin, 1 - box.xmin, box.ymax)
    if plan.mirror:
        box = Box(box.ymin, 1 - box.xmax, box.ymax, 1 - box.xmin)
    if plan.upend:
        box = Box(1 - box.ymax, box.xmin, 1 - box.ymin, box.xmax)
    left, top, right, bottom = frame.window
    y = _along(box.ymin, box.ymax, frame.turned[1], (top, bottom), frame.shrunk[1], frame.offset[1])
    x = _along(box.xmin, box.xmax, frame.turned[0], (left, right), frame.shrunk[0], frame.offset[0])
    return Box(y[0], x[0], y[1], x[1]), y[2] * x[2]


def _along(
    low: float, high: float, length: int, window: tuple[int, int], shrunk: int, offset: int
) -> tuple[float, float, float]:
    """One axis: the two edges in the changed picture, and the share between them that is left."""
    start, end = window
    inside = [min(max(edge * length, start), end) for edge in (low, high)]
    # A line has no length to lose: it is there or not.
    whole = (high - low) * length
    share = (inside[1] - inside[0]) / whole if whole > 0 else float(start <= low * length <= end)
    edges = [(offset + (edge - start) * shrunk / (end - start)) / (end - start) for edge in inside]
    return edges[0], edges[1], share


def _moved_text(text: str, move: Callable[[Box], tuple[Box, float]], least: float, *, may_drop: bool) -> str | None:
    """The text with its boxes moved; None where one that has to stay has left the picture, or all have."""
    if "<loc" not in text:
        return text
    pieces = text.split(";") if may_drop and not decode_detections(text).malformed else [text]
    kept = [moved for piece in pieces if (moved := _moved_piece(piece, move, least)) is not None]
    if not kept:
        return None
    return ";".join(kept) if len(kept) == len(pieces) else ";".join(kept).strip()


def _moved_piece(piece: str, move: Callable[[Box], tuple[Box, float]], least: float) -> str | None:
    lost = False

    def replace(match: re.Match[str]) -> str:
        nonlocal lost
        box = decode_box(match[0])
        assert box is not None, "checked before training"
        moved, share = move(box)
        lost = lost or share <= 0 or share < least
        return encode_box(moved)

    text = _FOUR.sub(replace, piece)
    return None if lost else text
