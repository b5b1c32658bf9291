"""Vector labels of a raster: read from GeoJSON, GeoPackage or Shapefile, brought into the raster's pixels."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pgtune.data_adapters.extras import require
from pgtune.data_adapters.remote_sensing.geotiff_raster import open_raster
from pgtune.data_adapters.remote_sensing.tiling import Objects
from pgtune.errors import DataError
from pgtune.example import Row, Skip

__all__ = ["VECTORS", "VectorLabels", "beside", "to_pixels"]

VECTORS = (".geojson", ".gpkg", ".shp", ".fgb")
"""The endings of files that are looked for as labels."""

_CHUNK = 50_000


@dataclass(frozen=True)
class VectorLabels:
    """A vector file. ``column`` holds a feature's class; without one, every feature is a ``label``.

    ``layer``: which one, where the file has several. ``crs``: what its coordinates are in where the file does not say.
    ``buffer``: half the width in the raster's pixels that a point or line is given.
    """

    path: Path
    column: str = ""
    label: str = ""
    layer: str = ""
    crs: str = ""
    buffer: float = 0.0

    def survey(self, classes: list[str] | None) -> tuple[list[str], list[Row]]:
        """The classes in the file, sorted, and a row with a Skip for each feature that cannot be an object.

        Looked at in pieces. Raises DataError: no such file, layer or column, a file that cannot be read.
        """
        labels: set[str] = set()
        skipped = []
        start = 0
        while True:
            fids, shapes, names = self._read(skip_features=start, max_features=_CHUNK)
            for fid, name, problem in zip(fids, names, self._problems(shapes, names, classes), strict=True):
                if problem:
                    skipped.append(Row(Skip(problem), f"{self.path.name}, feature {fid}"))
                else:
                    labels.add(name)
            if len(fids) < _CHUNK:
                return sorted(labels), skipped
            start += len(fids)

    def objects(self, raster: Any, path: str, classes: list[str] | None) -> Objects:
        """The features that reach into a raster, in its pixels. Those that `survey` skips are left out.

        Raises DataError: the raster or the labels are not placed on the ground, and the other is.
        """
        shapely = require("shapely", "remote-sensing")
        moved = self._transformer(raster, path)
        fids, shapes, names = self._read(bbox=self._bounds(raster, moved))
        kept = [i for i, problem in enumerate(self._problems(shapes, names, classes)) if not problem]
        places = [f"{self.path.name}, feature {fids[i]}" for i in kept]
        shapes, names = shapes[kept], [names[i] for i in kept]
        if moved is not None:
            shapes = shapely.transform(_finer(shapes), moved.transform, interleaved=False)
        shapes = to_pixels(shapes, raster.transform)
        if self.buffer:
            flat = shapely.get_dimensions(shapes) < 2
            shapes[flat] = shapely.buffer(shapes[flat], self.buffer)
        # What the raster's system has no coordinates for becomes infinite.
        placed = [i for i, size in enumerate(abs(shapely.bounds(shapes)).max(axis=1)) if size < 1e12]
        bent = [i for i in placed if not shapely.is_valid(shapes[i])]  # by the other coordinate system
        shapes[bent] = shapely.make_valid(shapes[bent])
        return Objects(shapes[placed], [names[i] for i in placed], [places[i] for i in placed])

    def elsewhere(self, scene: Path) -> str:
        """What to say where no feature lies in any scene; ``scene`` is one of them."""
        pyogrio = require("pyogrio", "remote-sensing")
        info = self._info()
        with _readable(self.path):
            own = pyogrio.read_info(self.path, layer=info["layer"], force_total_bounds=True)["total_bounds"]
        with open_raster(scene) as raster:
            wanted = self._bounds(raster, self._transformer(raster, str(scene)))
        system = self.crs or info["crs"] or "no coordinate reference system"
        there = f", {scene.name} is at {_extent(wanted)}" if wanted else ""
        return (
            f"none of its features lies in a scene: in {system} they are at {_extent(own)}{there}; are x and y "
            "swapped, or are they in another system, which data.adapter_args.label_crs names?"
        )

    def _problems(self, shapes: Any, names: list[str], classes: list[str] | None) -> list[str]:
        """Of each feature, why it cannot be an object; "": it can."""
        shapely = require("shapely", "remote-sensing")
        looked_at = zip(shapes, names, shapely.is_valid(shapes), shapely.get_dimensions(shapes), strict=True)
        return [self._problem(shape, name, valid, dimensions, classes) for shape, name, valid, dimensions in looked_at]

    def _problem(self, shape: Any, name: str, valid: bool, dimensions: int, classes: list[str] | None) -> str:
        if shape is None:
            return "no geometry"
        if dimensions < 0 or shape.is_empty:
            return "empty geometry"
        if not valid:
            reason = require("shapely", "remote-sensing").is_valid_reason(shape)
            return f"invalid geometry: {reason.partition('[')[0].strip().lower()}"
        if dimensions == 0 and not self.buffer:
            return "a point, which has no size: set data.adapter_args.buffer"
        if not name:
            return f"nothing in the column {self.column!r}"
        if classes is not None and name not in classes:
            return f"class {name!r} is not among data.adapter_args.classes"
        return ""

    def _info(self) -> dict[str, Any]:
        """The layer's number of features and coordinate system, when layer and column are there. Raises DataError."""
        if not self.path.is_file():
            raise DataError(f"{self.path}: no such file")
        status = self.path.stat()
        info: dict[str, Any] = _info(self.path, self.layer, self.column, status.st_mtime_ns, status.st_size)
        return info

    def _read(self, **which: Any) -> tuple[Any, Any, list[str]]:
        """Feature numbers, shapes (None where there is none) and classes ("" where there is none)."""
        raw = require("pyogrio.raw", "remote-sensing")
        shapely = require("shapely", "remote-sensing")
        import numpy as np

        info = self._info()
        if info["features"] == 0:  # a scene without objects; such a GeoJSON has no columns either
            return [], np.empty(0, dtype=object), []
        columns = [self.column] if self.column else []
        with _readable(self.path):
            _, fids, wkb, fields = raw.read(
                self.path, layer=info["layer"], columns=columns, force_2d=True, return_fids=True, **which
            )
        if wkb is None:
            raise DataError(f"{self.path}: has no geometries")
        shapes = np.asarray(shapely.from_wkb(wkb, on_invalid="ignore"), dtype=object)
        names = [_text(value) for value in fields[0]] if self.column else [self.label] * len(fids)
        if info["encoding"] == "ISO-8859-1" and not self.path.with_suffix(".cpg").is_file():
            names = [_of_windows(name) for name in names]
        return fids, shapes, names

    def _transformer(self, raster: Any, path: str) -> Any:
        """From the labels' coordinates to the raster's (a pyproj Transformer), or None where they are the same."""
        pyproj = require("pyproj", "remote-sensing")
        given = self.crs or self._info()["crs"]
        if not raster.crs and raster.gcps[0]:
            raise DataError(f"{path}: is placed by ground control points only; warp it first, as gdalwarp does")
        if not given and not raster.crs:
            return None
        if not raster.crs:
            raise DataError(f"{path}: has no coordinate reference system, its labels {self.path.name} are in {given}")
        if not given:
            raise DataError(
                f"{self.path}: has no coordinate reference system; data.adapter_args.label_crs names it, as EPSG:4326"
            )
        try:
            source = pyproj.CRS.from_user_input(given)
        except pyproj.exceptions.CRSError as error:
            raise DataError(f"{self.path}: {given!r} is no coordinate reference system: {error}") from None
        target = pyproj.CRS.from_wkt(raster.crs.to_wkt())
        if source.equals(target, ignore_axis_order=True):
            return None
        return pyproj.Transformer.from_crs(source, target, always_xy=True)

    def _bounds(self, raster: Any, moved: Any) -> tuple[float, float, float, float] | None:
        """The raster's extent in the labels' coordinates, with some room, or None where it has no bounds there."""
        import numpy as np

        steps = np.linspace(0, 1, 21)
        edge = np.concatenate([steps, np.ones(21), steps[::-1], np.zeros(21)])
        other = np.concatenate([np.zeros(21), steps, np.ones(21), steps[::-1]])
        room = self.buffer + 1
        columns = -room + edge * (raster.width + 2 * room)
        rows = -room + other * (raster.height + 2 * room)
        xs, ys = _affine(raster.transform, columns, rows)
        if moved is not None:
            xs, ys = moved.transform(xs, ys, direction="INVERSE")
        if not (np.isfinite(xs).all() and np.isfinite(ys).all()):
            return None
        low, high = (float(xs.min()), float(ys.min())), (float(xs.max()), float(ys.max()))
        margin = 0.01 * max(high[0] - low[0], high[1] - low[1])
        return (low[0] - margin, low[1] - margin, high[0] + margin, high[1] + margin)


@lru_cache(maxsize=32)
def _info(path: Path, layer: str, column: str, changed: int, size: int) -> dict[str, Any]:
    """Kept, since a GeoJSON is read as a whole for it; ``changed`` and ``size`` tell whether it is the same file."""
    pyogrio = require("pyogrio", "remote-sensing")
    with _readable(path):
        # A table without a geometry is no layer of labels: QGIS keeps its styles in one.
        layers = [str(name) for name, geometry in pyogrio.list_layers(path) if geometry is not None]
    if layer and layer not in layers:
        raise DataError(f"{path}: no layer {layer!r}{_close(layer, layers)} ({_there(layers)})")
    if not layers or (len(layers) > 1 and not layer):
        raise DataError(f"{path}: {_there(layers)}; data.adapter_args.layer names the one with the labels")
    with _readable(path):
        info: dict[str, Any] = pyogrio.read_info(path, layer=layer or layers[0])
    info["layer"] = layer or layers[0]
    columns = [str(name) for name in info["fields"]]
    if column and column not in columns and info["features"] != 0:
        raise DataError(f"{path}: no column {column!r}{_close(column, columns)} ({_there(columns)})")
    return info


def beside(scene: Path, top: Path) -> Path:
    """The vector file that belongs to a scene. Raises DataError: none, or several."""
    for ending in VECTORS:
        if (path := scene.with_suffix(ending)).is_file():
            return path
    for folder in dict.fromkeys((scene.parent, top)):
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in VECTORS)
        if len(found) > 1:
            several = ", ".join(path.name for path in found[:5])
            raise DataError(f"{folder}: {several}: data.adapter_args.labels names the file with the labels")
        if found:
            return found[0]
    raise DataError(f"{top}: no labels (looked for {', '.join(VECTORS)}); data.adapter_args.labels names their file")


def to_pixels(shapes: Any, transform: Any) -> Any:
    """Shapes in a raster's coordinates, in its pixels: the inverse of its affine transform, rotation and all."""
    inverse = ~transform
    shapely = require("shapely", "remote-sensing")
    return shapely.transform(shapes, lambda x, y: _affine(inverse, x, y), interleaved=False)


def _affine(transform: Any, x: Any, y: Any) -> tuple[Any, Any]:
    a, b, c, d, e, f = tuple(transform)[:6]
    return a * x + b * y + c, d * x + e * y + f


def _finer(shapes: Any) -> Any:
    """With points along long edges, which are straight in one coordinate system and curved in another."""
    import numpy as np

    shapely = require("shapely", "remote-sensing")
    if not len(shapes):
        return shapes
    x0, y0, x1, y1 = shapely.bounds(shapes).T
    side = np.maximum(x1 - x0, y1 - y0)
    return shapely.segmentize(shapes, np.where(side > 0, side / 8, 1.0))


def _extent(bounds: Sequence[float]) -> str:
    x0, y0, x1, y1 = bounds
    return f"x {x0:.8g} to {x1:.8g}, y {y0:.8g} to {y1:.8g}"


def _text(value: Any) -> str:
    """A class as text: 3.0, which a whole number becomes where others are missing, is 3; nothing is ""."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _of_windows(text: str) -> str:
    """A text of a Shapefile that does not tell its encoding: UTF-8 where it is that, else what Windows calls Latin 1.

    GDAL reads both as ISO-8859-1.
    """
    content = text.encode("latin-1", "replace")
    for encoding in ("utf-8", "cp1252"):
        with contextlib.suppress(UnicodeDecodeError):
            return content.decode(encoding)
    return text


def _close(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _there(names: list[str]) -> str:
    return f"there are {', '.join(names)}" if names else "there are none"


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    errors = require("pyogrio.errors", "remote-sensing")
    try:
        yield
    except (errors.DataSourceError, errors.DataLayerError, errors.FeatureError, errors.GeometryError) as error:
        raise DataError(f"{path}: cannot be read as vector labels, or is damaged: {error}") from None
