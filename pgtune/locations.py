"""Boxes to ``<loc>`` text and back: pure functions.

PaliGemma writes a box as four location tokens, y first: ``<loc ymin><loc xmin><loc ymax><loc xmax>``, each one of 1024
bins over the height or width of the picture. A coordinate is encoded as ``round(coordinate * 1023)`` with halves to
even, and decoded as ``bin / 1023``, as in the reference implementation. Several objects are written
``<loc...>x4 label ; <loc...>x4 label``.

A ``Box`` here is always ``(ymin, xmin, ymax, xmax)`` in fractions of the picture, 0 to 1, origin top left.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

__all__ = [
    "BINS",
    "SEPARATOR",
    "Box",
    "Detection",
    "Detections",
    "box_from_pixels",
    "box_to_pixels",
    "decode_box",
    "decode_detections",
    "encode_box",
    "encode_detections",
]

BINS = 1024
SEPARATOR = " ; "

_LOCATION = re.compile(r"<loc([0-9]{4})>")
_DETECTION = re.compile(r"((?:<loc[0-9]{4}>){4})\s*((?:<seg[0-9]{3}>){16})?\s*([^<>;]*)")


class Box(NamedTuple):
    """A box in fractions of the picture: 0 is the top or left edge, 1 the bottom or right one."""

    ymin: float
    xmin: float
    ymax: float
    xmax: float


class Detection(NamedTuple):
    """One object: its box and its label (may be empty)."""

    box: Box
    label: str


class Detections(NamedTuple):
    """What a text holds: the well-formed objects in their order, and how many pieces were not one."""

    found: tuple[Detection, ...]
    malformed: int


def encode_box(box: tuple[float, float, float, float]) -> str:
    """Four location tokens for ``(ymin, xmin, ymax, xmax)`` in fractions; what lies outside 0 to 1 is clipped.

    Raises ValueError for a coordinate that is not finite, and where a minimum is above its maximum.
    """
    if not all(math.isfinite(value) for value in box):
        raise ValueError(f"a box must have four finite coordinates, got {box!r}")
    ymin, xmin, ymax, xmax = box
    if ymin > ymax or xmin > xmax:
        raise ValueError(f"a box is (ymin, xmin, ymax, xmax) with each minimum at most its maximum, got {box!r}")
    return "".join(f"<loc{_bin(value):04d}>" for value in box)


def decode_box(text: str) -> Box | None:
    """The box that ``text`` is, or None: exactly four location tokens, each in range and no minimum above its maximum.

    White space around the text is not looked at.
    """
    text = text.strip()
    if not re.fullmatch(r"(?:<loc[0-9]{4}>){4}", text):
        return None
    bins = [int(digits) for digits in _LOCATION.findall(text)]
    if max(bins) >= BINS or bins[0] > bins[2] or bins[1] > bins[3]:
        return None
    return Box(*(value / (BINS - 1) for value in bins))


def encode_detections(detections: Iterable[tuple[tuple[float, float, float, float], str]]) -> str:
    """``(box, label)`` pairs as one text, in the order given: ``<loc..>x4 label ; <loc..>x4 label``.

    Raises ValueError for a label that could not be read back: one with ``;``, ``<`` or ``>``, or with white space at an
    end.
    """
    parts = []
    for box, label in detections:
        if re.search(r"[<>;]", label) or label != label.strip():
            raise ValueError(f"a label may not hold '<', '>' or ';' nor begin or end with white space, got {label!r}")
        parts.append(f"{encode_box(box)} {label}" if label else encode_box(box))
    return SEPARATOR.join(parts)


def decode_detections(text: str) -> Detections:
    """Read what a model wrote. Pieces between semicolons that are not a box with a label are counted, never guessed.

    Sixteen ``<seg>`` tokens after a box are passed over. A text without any location token ("nothing") is the answer
    that there is no object: it holds nothing, and nothing malformed.
    """
    if "<loc" not in text:
        return Detections((), 0)
    found: list[Detection] = []
    malformed = 0
    for piece in text.split(";"):
        piece = piece.strip()
        match = _DETECTION.fullmatch(piece)
        box = decode_box(match[1]) if match else None
        if match and box is not None:
            found.append(Detection(box, match[3].strip()))
        else:
            malformed += 1
    return Detections(tuple(found), malformed)


def box_from_pixels(x0: float, y0: float, x1: float, y1: float, width: float, height: float) -> Box:
    """A box given by two corners in pixels, as fractions of a picture of ``width`` x ``height``, clipped to it.

    The corners may come in any order. Raises ValueError for a picture without area.
    """
    if not (width > 0 and height > 0):
        raise ValueError(f"width and height must be above 0, got {width} x {height}")
    left, right = sorted((x0, x1))
    top, bottom = sorted((y0, y1))
    return Box(_clip(top / height), _clip(left / width), _clip(bottom / height), _clip(right / width))


def box_to_pixels(box: tuple[float, float, float, float], width: float, height: float) -> tuple[float, ...]:
    """The corners ``(x0, y0, x1, y1)`` in pixels of a box in fractions; not rounded."""
    ymin, xmin, ymax, xmax = box
    return (xmin * width, ymin * height, xmax * width, ymax * height)


def _clip(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _bin(value: float) -> int:
    # Python's round() takes halves to even, as the reference does.
    return round(_clip(value) * (BINS - 1))
