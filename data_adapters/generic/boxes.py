"""Boxes around objects: what the data adapters for COCO, VOC and YOLO share.

A row is a `Picture` with its objects, boxes in pixels of the size that the annotation speaks of. The suffix is
``<loc..>x4 label ; <loc..>x4 label``, y first (`pgtune.locations`), the prefix ``detect a ; b``.

A picture whose EXIF data say that it is to be turned is turned when it is opened (`pgtune.images.open_image`), and its
boxes have to be where the objects are then. An annotation's own width and height tell which of the two it speaks of:
the pixels as stored, or the upright picture. Where both look the same (a square, a half turn, no size) the upright one
is meant: annotation tools show pictures upright. ``orientation`` overrides this.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Row, Skip
from pgtune.images import FORMATS, check_image
from pgtune.locations import SEPARATOR, Box, box_from_pixels, encode_detections

__all__ = ["Boxed", "Detect", "Picture", "picture_size", "turned"]

_ORIENTATION = 274
_ORDERS = ("top_left", "random", "file")
_ORIENTATIONS = ("auto", "stored", "upright")
_ALIKE = 0.02
"""Width to height may differ by so much between annotation and picture, for pictures that were made smaller."""


@dataclass(frozen=True)
class Boxed:
    """One object: its label, and its corners in pixels of the annotation's picture (x right, y down, from 0)."""

    label: str
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True)
class Picture:
    """A picture with its objects.

    ``image``: its path for the Example; ``path``: where it lies; ``size``: width and height that the boxes refer to,
    None where they are fractions (YOLO). ``only``: the one class that is asked for; None: all in ``classes``.
    """

    image: str
    path: Path
    size: tuple[float, float] | None
    objects: tuple[Boxed, ...]
    classes: tuple[str, ...] = ()
    only: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Detect:
    """How objects become a prefix and a suffix; the arguments that COCO, VOC and YOLO share.

    ``prefix``: ``{classes}`` in it stands for the classes, separated by `` ; ``. ``classes``: those that are asked for,
    in this order; null: all that the data set names, in its order. ``labels``: other words for some classes.
    ``per_class``: one example for each class and picture, asked for alone. ``order`` of the objects: top_left (by the
    upper edge, then the left one), random (as PaliGemma 2's detection, by ``seed``, the same in each epoch) or file.
    ``background``: the suffix of a picture without objects; left empty, such a picture is passed over.
    ``orientation``: auto, stored or upright: see `pgtune.data_adapters.generic.boxes`.
    """

    prefix: str = "detect {classes}"
    classes: Sequence[str] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    per_class: bool = False
    order: str = "top_left"
    seed: int | None = None
    background: str = ""
    orientation: str = "auto"

    def __post_init__(self) -> None:
        for name, value, known in (("order", self.order, _ORDERS), ("orientation", self.orientation, _ORIENTATIONS)):
            if value not in known:
                raise AdapterError(f"{name} = {value!r}: expected one of {', '.join(known)}")
        if self.seed is not None and self.order != "random":
            raise AdapterError(f"seed = {self.seed!r} has no effect: it is for order: random")
        if isinstance(self.classes, str) or self.classes == []:
            raise AdapterError(f"classes = {self.classes!r}: expected a list of classes")
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise AdapterError(f"classes = {list(self.classes)!r}: each once")
        if self.per_class and "{classes}" not in self.prefix:
            raise AdapterError(f"per_class: the prefix {self.prefix!r} must hold {{classes}}, else nobody knows which")
        for name, label in dict(self.labels).items():
            if not isinstance(label, str) or not label:
                raise AdapterError(f"labels.{name} = {label!r}: expected a text")

    def name(self, label: str) -> str:
        """The word for a class."""
        return self.labels.get(label, label)

    def asked(self, known: Sequence[str], where: str) -> tuple[str, ...]:
        """The classes that are asked for. Raises DataError for one in ``classes`` or ``labels`` that is not known."""
        for argument, names in (("classes", self.classes or ()), ("labels", self.labels)):
            unknown = next((name for name in names if name not in known), None)
            if unknown is not None:
                raise DataError(f"{argument}: {where} has no class {unknown!r}; it has {', '.join(known)}")
        return tuple(known) if self.classes is None else tuple(self.classes)

    def picture_rows(self, picture: Picture, place: str) -> Iterator[Row]:
        """The picture's row, or (``per_class``) one for each class that it has, or for each with ``background``."""
        objects = tuple(each for each in picture.objects if each.label in picture.classes)
        picture = replace(picture, objects=objects)
        if not self.per_class:
            yield Row(picture, place)
            return
        present = {each.label for each in objects}
        for label in picture.classes:
            if label in present or self.background:
                mine = tuple(each for each in objects if each.label == label)
                yield Row(replace(picture, objects=mine, only=label), f"{place}, {label}")
        if not present and not self.background:
            yield Row(Skip("a picture without objects"), place)

    def __call__(self, picture: Picture) -> Example | Skip:
        """The picture's Example. Raises DataError: a picture that cannot be read or is not the annotated one."""
        if not picture.objects and not self.background:
            return Skip("a picture without objects")
        width, height, turn = self._frame(picture)
        found = []
        for each in picture.objects:
            box = turned(box_from_pixels(each.x0, each.y0, each.x1, each.y1, width, height), turn)
            if box.ymin >= box.ymax or box.xmin >= box.xmax:
                raise DataError(f"the box {each} lies outside of the picture, {width:g} x {height:g}")
            found.append((box, self.name(each.label)))
        found = self._ordered(found, picture)
        try:
            suffix = encode_detections(found) or self.background
        except ValueError as error:
            raise DataError(f"{error}; give it another word with labels") from None
        asked = picture.classes if picture.only is None else (picture.only,)
        prefix = self.prefix.replace("{classes}", SEPARATOR.join(map(self.name, asked)))
        return Example(picture.image, prefix, suffix, metadata=picture.metadata)

    def _ordered(self, found: list[tuple[Box, str]], picture: Picture) -> list[tuple[Box, str]]:
        if self.order == "top_left":
            return sorted(found)
        if self.order == "random":
            key = f"{self.seed or 0} {picture.path.name} {picture.only}"
            random.Random(hashlib.sha256(key.encode()).digest()).shuffle(found)
        return found

    def _frame(self, picture: Picture) -> tuple[float, float, int]:
        """Width and height of what the boxes refer to, and the EXIF turn that they still need (1: none)."""
        if picture.size is None:  # opening many pictures takes a while: only where their turn matters
            return 1, 1, picture_size(picture.path)[2] if self.orientation == "stored" else 1
        width, height, turn = picture_size(picture.path)
        across = (height, width) if turn > 4 else (width, height)
        stored, upright = _alike(picture.size, (width, height)), _alike(picture.size, across)
        if not (stored or upright):
            raise DataError(
                f"{picture.image}: the picture is {width} x {height}, its annotation says "
                f"{picture.size[0]:g} x {picture.size[1]:g}: the boxes would not fit"
            )
        as_stored = self.orientation == "stored"
        if self.orientation == "auto":
            # some versions of labelImg write the stored size beside boxes on the upright picture: some lie outside
            outside = any(each.x1 > picture.size[0] + 1 or each.y1 > picture.size[1] + 1 for each in picture.objects)
            as_stored = stored and not upright and not outside
        fits = stored if as_stored else upright
        return (*(picture.size if fits else picture.size[::-1]), turn if as_stored else 1)


def picture_size(path: Path) -> tuple[int, int, int]:
    """Width and height of a picture as stored, and its EXIF orientation, 1 to 8. Raises DataError."""
    try:
        with open(path, "rb") as file, Image.open(file, formats=FORMATS) as image:
            orientation = image.getexif().get(_ORIENTATION, 1)
            return (*image.size, orientation if orientation in range(1, 9) else 1)
    except Exception:  # whatever a decoder raises on bytes that are not what they claim to be
        check_image(path)  # raises DataError, which says what is wrong
        raise


def turned(box: Box, orientation: int) -> Box:
    """A box in fractions of a picture as stored -> in fractions of the upright picture (EXIF orientation 1 to 8)."""
    top, left, bottom, right = box
    if orientation in (2, 3, 7, 8):  # mirrored from left to right before a transposition
        left, right = 1 - right, 1 - left
    if orientation in (3, 4, 6, 7):  # from top to bottom
        top, bottom = 1 - bottom, 1 - top
    return Box(left, top, right, bottom) if orientation > 4 else Box(top, left, bottom, right)


def _alike(one: tuple[float, float], other: tuple[float, float]) -> bool:
    across = (one[0] * other[1], one[1] * other[0])
    return abs(across[0] - across[1]) <= _ALIKE * max(across)
