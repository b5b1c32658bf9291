"""Predicted boxes of tiles back on the map: merged where tiles overlap, written as GeoJSON.

Merging looks at boxes of one label in different tiles of one scene, in the scene's pixels. A box is *cut* where it
reaches an edge of its tile that is not an edge of the scene.

- Two boxes are the same object where their intersection over union is ``SAME`` or more, or where one of them is cut and
  ``INSIDE`` of it lies in the other.
- Two boxes cut at facing edges are two parts of one object where they touch or overlap and share ``ALONG`` of their
  extent along that edge.

What belongs together becomes one object: the whole boxes' best (by score) where there are whole ones, else the box
around all parts. Its score is the best of them. These rules are ours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtune.data_adapters.extras import require
from pgtune.errors import DataError
from pgtune.locations import BINS, decode_detections

__all__ = ["NOTHING", "Found", "boxes_of", "merged", "write_geojson"]

NOTHING = "nothing"
"""The suffix of a tile without objects, where such tiles are learnt."""

SAME = 0.5
INSIDE = 0.7
ALONG = 0.5

Bounds = tuple[float, float, float, float]
"""Left, top, right, bottom in a scene's pixels."""


@dataclass(frozen=True)
class Found:
    """A box in a scene's pixels; ``cut``: at the left, top, right, bottom edge of its tile, the number ``tile``."""

    box: Bounds
    label: str
    score: float | None
    tile: int
    cut: tuple[bool, bool, bool, bool] = (False, False, False, False)


def boxes_of(row: dict[str, Any], tile: int) -> tuple[list[Found], int]:
    """The boxes of a predicted row, and how many pieces of its text are none.

    From ``boxes`` (``[{"box": [ymin, xmin, ymax, xmax], "label", "score"}]``), else from the text. Parts beyond the
    scene, where a tile is filled up, are cut away.
    """
    boxes, malformed = row.get("boxes"), row.get("malformed", 0)
    if boxes is None:
        read = decode_detections(row["prediction"])
        boxes, malformed = [{"box": list(box), "label": label} for box, label in read.found], read.malformed
    if row["prediction"].strip() == NOTHING:
        malformed = 0
    left, top, width, height = row["metadata"]["cover"]
    wide, high = row["metadata"]["scene_size"]
    # A box at an edge may come back as the neighbouring bin.
    near = (1.5 * width / (BINS - 1), 1.5 * height / (BINS - 1))
    found = []
    for entry in boxes:
        ymin, xmin, ymax, xmax = entry["box"]
        box = (left + xmin * width, top + ymin * height, left + xmax * width, top + ymax * height)
        box = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(wide)), min(box[3], float(high)))
        if box[0] > box[2] or box[1] > box[3]:
            continue  # wholly in what a tile was filled up with
        cut = (
            left > 0 and box[0] - left <= near[0],
            top > 0 and box[1] - top <= near[1],
            left + width < wide and left + width - box[2] <= near[0],
            top + height < high and top + height - box[3] <= near[1],
        )
        found.append(Found(box, entry["label"], entry.get("score"), tile, cut))
    return found, malformed


def merged(found: Sequence[Found]) -> list[Found]:
    """The objects of one scene, each once, from top to bottom."""
    shapely = require("shapely", "remote-sensing")
    groups = list(range(len(found)))

    def root(number: int) -> int:
        while groups[number] != number:
            number = groups[number]
        return number

    tree = shapely.STRtree([shapely.box(*_grown(item.box)) for item in found])
    for number, item in enumerate(found):
        for other in sorted(int(i) for i in tree.query(shapely.box(*_grown(item.box)))):
            if other > number and _one(item, found[other]):
                first, second = sorted((root(number), root(other)))
                groups[second] = first
    members: dict[int, list[Found]] = {}
    for number, item in enumerate(found):
        members.setdefault(root(number), []).append(item)
    objects = [_joined(group) for group in members.values()]
    return sorted(objects, key=lambda item: (item.box[1], item.box[0], item.label))


def write_geojson(rows: Sequence[dict[str, Any]], path: Path, *, crs: str, whole_tiles: bool) -> dict[str, Any]:
    """Write predicted rows of the adapter geotiff as a GeoJSON file of polygons.

    ``crs`` ``wgs84``: longitude and latitude as RFC 7946 asks, rings counter-clockwise; ``native``: the scenes' own
    coordinates, named in the member ``crs`` of the older GeoJSON, which GDAL and QGIS read. ``whole_tiles``: each
    tile's footprint with its answer, not boxes. Returns what was written and what was not: objects, boxes before
    merging, malformed pieces, rows with an error. Raises DataError: rows of another kind, scenes without or of several
    systems.
    """
    scenes: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    errors = 0
    for number, row in enumerate(rows):
        if not {"scene", "scene_size", "transform", "crs", "cover"} <= (row.get("metadata") or {}).keys():
            raise DataError(f"{path}: row {number + 1} of the predictions is no tile of a scene: it has no place")
        if row.get("prediction") is None:
            errors += 1
        else:
            scenes.setdefault(row["metadata"]["scene"], []).append((number, row))
    systems = {row["metadata"]["crs"] for tiles in scenes.values() for _, row in tiles}
    if crs == "wgs84" and None in systems:
        raise DataError(
            f"{path}: the scene has no coordinate reference system, so that there is no longitude and latitude; set "
            "data.adapter_args.export_crs: native to write its own coordinates"
        )
    if crs == "native" and len(systems) > 1:
        raise DataError(f"{path}: the scenes are in {len(systems)} coordinate reference systems; set export_crs: wgs84")
    features: list[dict[str, Any]] = []
    count = malformed = 0
    for scene, tiles in scenes.items():
        if whole_tiles:
            objects = [Found(_cover(row), row["prediction"], _certainty(row), number) for number, row in tiles]
            count += len(objects)
        else:
            found = []
            for number, row in tiles:
                boxes, bad = boxes_of(row, number)
                found += boxes
                malformed += bad
            count += len(found)
            objects = merged(found)
        place = tiles[0][1]["metadata"]
        rings = _rings([item.box for item in objects], place["transform"], place["crs"] if crs == "wgs84" else None)
        for item, ring in zip(objects, rings, strict=True):
            properties = {"label": item.label, "score": item.score, "scene": scene}
            features.append(
                {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": [ring]}}
            )
    document: dict[str, Any] = {"type": "FeatureCollection"}
    if crs == "native" and systems and (name := systems.pop()) is not None:
        document["crs"] = {"type": "name", "properties": {"name": _urn(name)}}
    document["features"] = features
    path.write_text(json.dumps(document, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    return {"objects": len(features), "boxes": count, "malformed": malformed, "errors": errors}


def _one(first: Found, second: Found) -> bool:
    """Whether two boxes are the same object, or two parts of one: the rules at the top of this file."""
    if first.tile == second.tile or first.label != second.label:
        return False
    a, b = first.box, second.box
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = _area(a), _area(b)
    if shared > 0:
        if shared >= SAME * (areas[0] + areas[1] - shared):
            return True
        if any(any(item.cut) and shared >= INSIDE * area for item, area in ((first, areas[0]), (second, areas[1]))):
            return True
    near = 0.5 + 0.004 * max(a[2] - a[0], b[2] - b[0], a[3] - a[1], b[3] - b[1])
    for left, right in ((first, second), (second, first)):
        if left.cut[2] and right.cut[0] and width >= -near and _along(left.box[1::2], right.box[1::2]):
            return True
        if left.cut[3] and right.cut[1] and height >= -near and _along(left.box[0::2], right.box[0::2]):
            return True
    return False


def _along(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    """Whether two extents along an edge share enough of what they cover together."""
    shared = min(first[1], second[1]) - max(first[0], second[0])
    return shared > 0 and shared >= ALONG * (max(first[1], second[1]) - min(first[0], second[0]))


def _joined(group: list[Found]) -> Found:
    whole = [item for item in group if not any(item.cut)]
    scores = [item.score for item in group if item.score is not None]
    score = max(scores) if scores else None
    if whole:
        best = max(whole, key=lambda item: (item.score or 0.0, _area(item.box)))
        return Found(best.box, best.label, score, best.tile)
    edges = list(zip(*(item.box for item in group), strict=True))
    box = (min(edges[0]), min(edges[1]), max(edges[2]), max(edges[3]))
    return Found(box, group[0].label, score, group[0].tile)


def _grown(box: Bounds) -> Bounds:
    near = 0.5 + 0.004 * max(box[2] - box[0], box[3] - box[1])
    return (box[0] - near, box[1] - near, box[2] + near, box[3] + near)


def _area(box: Bounds) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _cover(row: dict[str, Any]) -> Bounds:
    left, top, width, height = row["metadata"]["cover"]
    wide, high = row["metadata"]["scene_size"]
    return (float(left), float(top), float(min(left + width, wide)), float(min(top + height, high)))


def _certainty(row: dict[str, Any]) -> float | None:
    """Of an answer, the geometric mean of its tokens' probabilities."""
    mean = row.get("mean_log_probability")
    return None if mean is None else math.exp(mean)


def _rings(boxes: Sequence[Bounds], transform: Sequence[float], crs: str | None) -> list[list[list[float]]]:
    """The boxes' closed rings, counter-clockwise: in the scene's coordinates, or from ``crs`` to WGS 84."""
    a, b, c, d, e, f = transform
    corners = [[(x0, y0), (x0, y1), (x1, y1), (x1, y0)] for x0, y0, x1, y1 in boxes]
    points = [(a * x + b * y + c, d * x + e * y + f) for ring in corners for x, y in ring]
    digits = 6
    if crs is not None and points:
        pyproj = require("pyproj", "remote-sensing")
        system = pyproj.CRS.from_user_input(crs)
        moved = pyproj.Transformer.from_crs(system, "EPSG:4326", always_xy=True)
        xs, ys = moved.transform([x for x, _ in points], [y for _, y in points])
        points = list(zip(xs, ys, strict=True))
        digits = 9  # a tenth of a millimetre
        if not all(math.isfinite(x) and math.isfinite(y) for x, y in points):
            raise DataError(f"a box lies where {crs} has no longitude and latitude")
    rings = []
    for start in range(0, len(points), 4):
        ring = [[round(x, digits), round(y, digits)] for x, y in points[start : start + 4]]
        # Twice the area, from the first corner: map coordinates are large and boxes small.
        (x0, y0), (x1, y1), (x2, y2), _ = ring
        if (x1 - x0) * (y2 - y0) < (x2 - x0) * (y1 - y0):
            ring.reverse()
        rings.append([*ring, ring[0]])
    return rings


def _urn(crs: str) -> str:
    authority, _, code = crs.partition(":")
    return f"urn:ogc:def:crs:{authority}::{code}" if code.isdigit() else crs
