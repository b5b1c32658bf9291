"""Cutting large pictures into tiles, and the objects in them: windows, clipped boxes, what is left of an object."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pgtune.data_adapters.extras import require
from pgtune.data_adapters.remote_sensing.geotiff_look import Look
from pgtune.data_adapters.remote_sensing.geotiff_raster import Tile, coarse_mask, valid_pixels
from pgtune.errors import AdapterError, DataError
from pgtune.example import Row, Skip, shown
from pgtune.images import MAX_PIXELS
from pgtune.locations import Box

__all__ = ["BLOCK", "Grid", "Objects", "Placed", "check_tiling"]

BLOCK = 4
"""Tiles on a side of the squares that a single scene may be split by."""


@dataclass(frozen=True)
class Placed:
    """A tile and where it lies.

    ``cover``: column, row, width and height of the ground it stands for, in the raster's pixels; it may reach beyond
    the raster, where the tile is filled up. ``place``: for messages. ``block``: which square of ``BLOCK`` x ``BLOCK``
    neighbouring tiles it is in.
    """

    tile: Tile
    cover: tuple[int, int, int, int]
    place: str
    block: str


def check_tiling(size: Any, overlap: Any, scale: Any, min_visible: Any) -> None:
    """Refuse arguments of a data adapter that give no tiles. Raises AdapterError."""
    if size is not None and (type(size) is not int or size < 1):
        raise AdapterError(f"size must be a tile's width and height in pixels, or null for none, got {shown(size)}")
    if type(overlap) is not int or overlap < 0:
        raise AdapterError(f"overlap must be a number of pixels, 0 or more, got {shown(overlap)}")
    if size is not None and overlap >= size:
        raise AdapterError(f"overlap = {overlap}: must be less than the tile's size, {size}")
    if size is None and overlap:
        raise AdapterError(f"overlap = {overlap} has no effect without a size")
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale <= 1024:
        raise AdapterError(f"scale must be the raster's pixels for each of the tile's, above 0, got {shown(scale)}")
    if isinstance(min_visible, bool) or not isinstance(min_visible, int | float) or not 0 < min_visible <= 1:
        raise AdapterError(f"min_visible must be a share above 0 and at most 1, got {shown(min_visible)}")


@dataclass(frozen=True)
class Grid:
    """Square tiles of ``size`` pixels, each ``scale`` of the raster's pixels, neighbours sharing ``overlap`` pixels.

    The last tile of a row or column is moved back to end with the raster; where the raster is smaller than a tile, the
    tile is filled up to the right and below. ``size`` None: the whole raster as one tile of its own shape.
    """

    size: int | None
    overlap: int
    scale: float

    def tiles(self, raster: Any, path: str, look: Look) -> Iterator[tuple[Placed, bool]]:
        """Every tile, row by row, and whether it has data. Raises DataError: one tile of too many pixels."""
        mask = coarse_mask(raster, path, look)
        if self.size is None:
            shape = (max(1, round(raster.width / self.scale)), max(1, round(raster.height / self.scale)))
            if shape[0] * shape[1] > MAX_PIXELS:
                raise DataError(
                    f"{path}: {shape[0]} x {shape[1]} are more than {MAX_PIXELS:,} pixels for one picture; set "
                    "data.adapter_args.size to cut it into tiles"
                )
            window = (0, 0, raster.width, raster.height)
            placed = Placed(Tile(path, window, shape, shape, look), window, "all of it", "0, 0")
            yield placed, mask is None or bool(mask.any())
            return
        side = max(1, round(self.size * self.scale))
        step = max(1, round((self.size - self.overlap) * self.scale))
        for row, top in enumerate(_starts(raster.height, side, step)):
            for column, left in enumerate(_starts(raster.width, side, step)):
                window = (left, top, min(side, raster.width), min(side, raster.height))
                content = _content(window[2], side, self.size), _content(window[3], side, self.size)
                tile = Tile(path, window, (self.size, self.size), content, look)
                block = f"{row // BLOCK}, {column // BLOCK}"
                placed = Placed(tile, (left, top, side, side), f"tile {row}, {column}", block)
                yield placed, mask is None or _has_data(raster, path, look, window, mask)


def _starts(length: int, side: int, step: int) -> list[int]:
    if length <= side:
        return [0]
    return [*range(0, length - side, step), length - side]


def _content(length: int, side: int, size: int) -> int:
    return max(1, round(length * size / side))


def _has_data(raster: Any, path: str, look: Look, window: tuple[int, int, int, int], mask: Any) -> bool:
    """Whether any pixel of a window has data: mostly seen in the reduced mask, else looked up."""
    high, wide = mask.shape
    left, top, width, height = window
    # Only what stands for pixels of this window and of no other.
    rows = slice(math.ceil(top * high / raster.height), (top + height) * high // raster.height)
    columns = slice(math.ceil(left * wide / raster.width), (left + width) * wide // raster.width)
    return bool(mask[rows, columns].any()) or bool(valid_pixels(raster, path, look, window).any())


class Objects:
    """Labelled shapes in a raster's pixels (x to the right, y down), looked up by tile.

    ``places``: where each stands, for messages.
    """

    def __init__(self, shapes: Sequence[Any], labels: Sequence[str], places: Sequence[str]) -> None:
        assert len(shapes) == len(labels) == len(places), "each shape has its label and place"
        import numpy as np

        shapely = require("shapely", "remote-sensing")
        self.shapes = np.asarray(shapes, dtype=object)
        self.labels = labels
        self.places = places
        self.tree = shapely.STRtree(self.shapes)
        self.areas = shapely.area(self.shapes)
        self.lengths = shapely.length(self.shapes)
        self.seen: set[int] = set()

    def visible(self, placed: Placed, min_visible: float) -> list[tuple[Box, str]]:
        """The objects of which a tile shows ``min_visible`` or more: box in fractions of the tile, and label.

        The box is that of the visible part, at least a pixel wide and high; the share is one of the area (of the
        length, for a line). From top to bottom, then left to right.
        """
        shapely = require("shapely", "remote-sensing")
        left, top, width, height = placed.tile.window
        edges = (left, top, left + width, top + height)
        numbers = self.tree.query(shapely.box(*edges))
        if not len(numbers):
            return []
        parts = _clipped(self.shapes[numbers], edges)
        found = []
        measured = zip(numbers, parts, shapely.area(parts), shapely.length(parts), shapely.bounds(parts), strict=True)
        for number, part, area, length, bounds in measured:
            seen, all_of_it = (area, self.areas[number]) if self.areas[number] else (length, self.lengths[number])
            if part.is_empty or seen < min_visible * all_of_it * (1 - 1e-9):
                continue
            self.seen.add(int(number))
            found.append((_box(bounds.tolist(), edges, placed.cover), self.labels[number]))
        return sorted(found, key=lambda item: (item[0].ymin, item[0].xmin, item[1]))

    def unseen(self, raster: Any) -> Iterator[Row]:
        """A row with a Skip for each object in the raster that was not `visible` in any tile so far."""
        shapely = require("shapely", "remote-sensing")
        inside = self.tree.query(shapely.box(0, 0, raster.width, raster.height), predicate="intersects")
        for number in sorted({int(i) for i in inside} - self.seen):
            yield Row(Skip("object that no tile shows enough of"), self.places[number])

    def shares(self, placed: Placed) -> dict[str, float]:
        """Of each label, the share of the tile's window that its shapes cover together."""
        shapely = require("shapely", "remote-sensing")
        left, top, width, height = placed.tile.window
        edges = (left, top, left + width, top + height)
        parts: dict[str, list[Any]] = {}
        numbers = sorted(int(i) for i in self.tree.query(shapely.box(*edges)))
        for number, part in zip(numbers, _clipped(self.shapes[numbers], edges), strict=True):
            if part.area > 0:
                parts.setdefault(self.labels[number], []).append(part)
        return {label: shapely.union_all(shapes).area / (width * height) for label, shapes in parts.items()}


def _clipped(shapes: Any, edges: tuple[float, float, float, float]) -> Any:
    """What of each shape lies in a rectangle, of its own dimension: no line where an area only touches an edge.

    Not by GEOS's own clipping: where corners lie on the rectangle's edge or next to it, that may miss the shape.
    """
    import numpy as np

    shapely = require("shapely", "remote-sensing")
    rectangle = shapely.box(*edges)
    shapely.prepare(rectangle)
    parts = shapes.copy()
    across = ~shapely.covers(rectangle, shapes)
    parts[across] = shapely.intersection(shapes[across], rectangle)
    for place in np.flatnonzero(across):
        pieces = shapely.get_parts(parts[place])
        own = pieces[shapely.get_dimensions(pieces) == shapely.get_dimensions(shapes[place])]
        if len(own) < len(pieces):
            parts[place] = shapely.union_all(own)
    return parts


def _box(
    bounds: Sequence[float], edges: tuple[float, float, float, float], cover: tuple[int, int, int, int]
) -> Box:
    x0, x1 = _widened(bounds[0], bounds[2], edges[0], edges[2])
    y0, y1 = _widened(bounds[1], bounds[3], edges[1], edges[3])
    left, top, width, height = cover
    return Box((y0 - top) / height, (x0 - left) / width, (y1 - top) / height, (x1 - left) / width)


def _widened(low: float, high: float, first: float, last: float) -> tuple[float, float]:
    """At least one pixel, within the window."""
    if high - low >= 1 or last - first < 1:
        return low, high
    middle = min(max((low + high) / 2, first + 0.5), last - 0.5)
    return middle - 0.5, middle + 0.5
