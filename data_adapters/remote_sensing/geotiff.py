"""Own imagery: scenes as GeoTIFF, cut into tiles, with labels from vector files; predictions back on the map."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pgtune.data_adapters.remote_sensing.geotiff_export import NOTHING, write_geojson
from pgtune.data_adapters.remote_sensing.geotiff_labels import VectorLabels, beside
from pgtune.data_adapters.remote_sensing.geotiff_look import Look
from pgtune.data_adapters.remote_sensing.geotiff_raster import open_raster, scene_look
from pgtune.data_adapters.remote_sensing.tiling import Grid, Objects, Placed, check_tiling
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Row, Skip, shown
from pgtune.locations import encode_detections

__all__ = ["GeoTiffAdapter", "check_labels", "detect_prefix", "scene_metadata"]

RASTERS = (".tif", ".tiff", ".vrt", ".jp2")
"""The endings of files that are taken for scenes in a folder."""

_TASKS = ("detect", "scene")
_SPLITS = {"train": ("train",), "validation": ("validation", "val", "valid", "dev"), "test": ("test",)}


@dataclass(frozen=True)
class GeoTiffAdapter:
    """Tiles of scenes with labels from GeoJSON, GeoPackage or Shapefile. The source is a raster or a folder of them.

    Folders ``train``, ``validation`` and ``test`` in the source are splits; where there are none, write ``{source: ...,
    split: all}`` and divide with ``data.split_by: scene``. A source that is one raster is taken as it is.
    ``data.split_by: block`` divides a single large scene, by squares of 4 x 4 tiles; what lies in the overlap of two of
    them is on both sides, so set ``overlap: 0`` with it.

    What is asked: ``task: detect`` gives the prefix ``detect tree ; house`` (all classes, sorted) and the suffix
    ``<loc..>x4 tree ; <loc..>x4 house`` from top to bottom; ``task: scene`` gives the prefix ``question`` and as the
    suffix the class that covers most of the tile, if it covers ``min_cover`` of it.

    Labels: ``labels`` is a vector file, or a pattern with ``{stem}`` for the scene's name, below the source's folder;
    left out, it is the file beside the scene with its name, or the only vector file in the folder. ``column`` names
    the attribute with the class; without one every feature is a ``label``. ``layer``: of a file with several.
    ``label_crs``: where the file does not say (the raster's is always its own). ``classes``: those to learn, in the
    order they are asked for; null: all that occur. ``buffer``: half the width in the raster's pixels that points and
    lines are given. ``min_visible``: the share of an object that a tile must show. ``empty``: skip or keep tiles
    without an object (their suffix is "nothing").

    Tiles: ``size`` in pixels (null: each scene is one picture), ``overlap`` of neighbours in pixels, ``scale``: pixels
    of the raster for one of the tile (2 halves the resolution, read from overviews).

    Pictures: ``bands`` (one or three, from 1), ``stretch`` (auto, percentile, none, [lowest, highest] or a pair for
    each band), ``percentiles``, ``nodata`` (a value beside the file's own), ``fill`` (its colour); `geotiff_look`
    has the rules. ``export_crs``: coordinates of ``pgtune predict --out boxes.geojson``: ``wgs84`` (longitude and
    latitude, as RFC 7946 has it) or ``native`` (the raster's).
    """

    task: str = "detect"
    labels: str = ""
    column: str = ""
    label: str = ""
    layer: str = ""
    label_crs: str = ""
    classes: list[str] | None = field(default=None, hash=False)
    buffer: float = 0.0
    min_visible: float = 0.4
    empty: str = "skip"
    question: str = "answer en what kind of scene is this?"
    min_cover: float = 0.5
    size: int | None = 448
    overlap: int = 64
    scale: float = 1.0
    bands: list[int] | None = field(default=None, hash=False)
    stretch: Any = field(default="auto", hash=False)
    percentiles: list[float] = field(default_factory=lambda: [2.0, 98.0], hash=False)
    nodata: float | None = None
    fill: list[int] = field(default_factory=lambda: [0, 0, 0], hash=False)
    export_crs: str = "wgs84"

    def __post_init__(self) -> None:
        if self.task not in _TASKS:
            raise AdapterError(f"task = {self.task!r}: expected one of {', '.join(_TASKS)}")
        check_tiling(self.size, self.overlap, self.scale, self.min_visible)
        Look.check(self.bands, self.stretch, self.percentiles)
        colour = isinstance(self.fill, list) and len(self.fill) == 3
        if not colour or not all(type(value) is int and 0 <= value <= 255 for value in self.fill):
            raise AdapterError(f"fill must be a colour as three numbers from 0 to 255, got {shown(self.fill)}")
        if self.percentiles != [2.0, 98.0] and self.stretch not in ("auto", "percentile"):
            raise AdapterError(f"percentiles have no effect with stretch = {self.stretch!r}")
        if self.column and self.label:
            raise AdapterError(f"label = {self.label!r} has no effect beside column = {self.column!r}")
        if self.task == "scene" and not self.column:
            raise AdapterError("task = 'scene' needs column, the attribute that holds a polygon's class")
        if self.export_crs not in ("wgs84", "native"):
            raise AdapterError(f"export_crs = {self.export_crs!r}: expected wgs84 or native")
        if self.empty not in ("skip", "keep"):
            raise AdapterError(f"empty = {self.empty!r}: expected skip or keep")
        if isinstance(self.buffer, bool) or not isinstance(self.buffer, int | float) or self.buffer < 0:
            raise AdapterError(f"buffer must be a number of the raster's pixels, got {shown(self.buffer)}")
        share = isinstance(self.min_cover, int | float) and not isinstance(self.min_cover, bool)
        if not share or not 0 < self.min_cover <= 1:
            raise AdapterError(f"min_cover must be a share above 0 and at most 1, got {shown(self.min_cover)}")
        defaults = GeoTiffAdapter.__dataclass_fields__
        for name in ("question", "min_cover") if self.task == "detect" else ("min_visible", "buffer", "empty", "label"):
            if getattr(self, name) != defaults[name].default:
                raise AdapterError(f"{name} = {getattr(self, name)!r} has no effect with task = {self.task!r}")
        check_labels(self.classes, "classes")
        if self.label:
            check_labels([self.label], "label")

    @property
    def exports(self) -> Mapping[str, Callable[[Sequence[dict[str, Any]], Path], dict[str, Any]]]:
        """How predicted rows are written, by the ending of the file."""
        return {".geojson": partial(write_geojson, crs=self.export_crs, whole_tiles=self.task == "scene")}

    def splits(self, source: Path) -> list[str]:
        """The splits whose folders are there."""
        return [split for split in _SPLITS if _split_folder(source, split)]

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """The tiles of every scene of a split (None: all), and what is left out of labels and scenes, and why.

        Raises DataError: nothing there, no such split, no labels or several files of them, no such column.
        """
        if not self.column and not self.label:
            raise DataError(
                "data.adapter_args.column names the attribute of the labels that holds the class; or write label: tree "
                "where every feature is one"
            )
        vectors = {path: self._vector(path, source) for path in self._scenes(source, split)}
        found: set[str] = set()
        missed: dict[VectorLabels, Path] = {}  # with a scene that none of their features lies in
        placed: set[VectorLabels] = set()
        for vector in dict.fromkeys(vectors.values()):
            names, left_out = vector.survey(self.classes)
            found |= set(names)
            if not names:
                placed.add(vector)
            yield from left_out
        classes = self.classes
        if classes is None:
            if split is not None and source.is_dir():
                found |= self._classes_elsewhere(source, set(vectors.values()))
            classes = sorted(found)
            try:
                check_labels(classes or None, f"the column {self.column!r}")
            except AdapterError as error:
                raise DataError(str(error)) from None
        if not classes:
            yield Row(DataError("no feature of the labels can be an object"), str(source))
            return
        for path, vector in vectors.items():
            try:
                with open_raster(path) as raster:
                    objects = vector.objects(raster, str(path), self.classes)
            except DataError as error:  # the scene as a whole
                yield Row(error, path.name)
                continue
            if objects.labels:
                placed.add(vector)
            else:
                missed.setdefault(vector, path)
            yield from self._scene(path, objects, classes, source)
        for vector, path in missed.items():
            if vector not in placed:
                problem = vector.elsewhere(path)
                yield Row(Skip(problem) if self.empty == "keep" else DataError(problem), vector.path.name)

    def __call__(self, row: Mapping[str, Any]) -> Example:
        """A row as `rows` makes it."""
        return Example(
            row["placed"].tile,
            prefix=row["prefix"],
            suffix=row["suffix"],
            metadata=row["metadata"],
            groups={"scene": row["scene"], "block": f"{row['scene']} {row['placed'].block}"},
        )

    def inputs(self, source: Path, prefix: str | None) -> Iterator[Example]:
        """The tiles of scenes without labels, to predict on; those without data are left out.

        ``prefix`` None: that of training, for which ``classes`` or ``label`` must be given. Raises DataError.
        """
        if prefix is None and self.task == "scene":
            prefix = self.question
        if prefix is None:
            names = self.classes or ([self.label] if self.label else [])
            if not names:
                raise DataError("predict needs --prefix, such as 'detect house ; tree', or data.adapter_args.classes")
            prefix = detect_prefix(names)
        for path in self._scenes(source, None):
            for placed, has_data, metadata in self._tiles(path, source):
                if has_data:
                    yield Example(placed.tile, prefix, "", metadata=metadata, groups={"scene": str(path)})

    def _classes_elsewhere(self, source: Path, known: set[VectorLabels]) -> set[str]:
        """The classes of the other splits: every split has to be asked for the same ones."""
        vectors = set()
        for path in self._scenes(source, None):
            with contextlib.suppress(DataError):  # scenes of another split may have no labels
                vectors.add(self._vector(path, source))
        others = (vector for vector in vectors - known if vector.path.is_file())
        return {name for vector in others for name in vector.survey(None)[0]}

    def _scenes(self, source: Path, split: str | None) -> list[Path]:
        if source.is_file():
            return [source]
        if not source.is_dir():
            raise DataError(f"{source}: no such file or folder")
        folder: Path | None = source
        if split is not None:
            folder = _split_folder(source, split)
            if folder is None:
                there = self.splits(source)
                has = f"there are {', '.join(there)}" if there else "there are no folders train, validation, test"
                raise DataError(
                    f"{source}: no folder for the split {split!r} ({has}); write {{source: {source}, split: all}} to "
                    "take everything in it, and divide it with data.split_by"
                )
        assert folder is not None, "the source's, or that of a split that is there"
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in RASTERS and path.is_file())
        if not found:
            raise DataError(f"{folder}: no rasters in it (looked for {', '.join(RASTERS)})")
        return found

    def _vector(self, scene: Path, source: Path) -> VectorLabels:
        top = source if source.is_dir() else source.parent
        if self.labels:
            try:
                path = top / self.labels.format(stem=scene.stem)
            except (KeyError, IndexError, ValueError):
                raise DataError(f"data.adapter_args.labels = {self.labels!r}: only {{stem}} can be filled in") from None
        else:
            path = beside(scene, top)
        return VectorLabels(path, self.column, self.label, self.layer, self.label_crs, float(self.buffer))

    def _tiles(self, path: Path, source: Path) -> Iterator[tuple[Placed, bool, dict[str, Any]]]:
        ends = (float(self.percentiles[0]), float(self.percentiles[1]))
        fill = (self.fill[0], self.fill[1], self.fill[2])
        name = str(path.relative_to(source)) if source.is_dir() else path.name
        with open_raster(path) as raster:
            look = scene_look(raster, path, self.bands, self.stretch, ends, self.nodata, fill)
            scene = scene_metadata(raster, name, look)
            for placed, has_data in Grid(self.size, self.overlap, self.scale).tiles(raster, str(path), look):
                yield placed, has_data, {**scene, "cover": list(placed.cover)}

    def _scene(self, path: Path, objects: Objects, classes: list[str], source: Path) -> Iterator[Row]:
        prefix = detect_prefix(classes) if self.task == "detect" else self.question
        try:
            for placed, has_data, metadata in self._tiles(path, source):
                place = f"{path.name}, {placed.place}"
                suffix = self._suffix(objects, placed) if has_data else Skip("tile without data")
                if isinstance(suffix, Skip):
                    yield Row(suffix, place)
                    continue
                row = {"placed": placed, "prefix": prefix, "suffix": suffix, "metadata": metadata, "scene": str(path)}
                yield Row(row, place)
            if self.task == "detect":
                with open_raster(path) as raster:
                    yield from objects.unseen(raster)
        except DataError as error:  # the scene as a whole
            yield Row(error, path.name)

    def _suffix(self, objects: Objects, placed: Placed) -> str | Skip:
        if self.task == "detect":
            found = objects.visible(placed, self.min_visible)
            if not found:
                return NOTHING if self.empty == "keep" else Skip("tile without an object")
            return encode_detections(found)
        shares = objects.shares(placed)
        best = max(shares, key=lambda label: (shares[label], label), default="")
        if not best or shares[best] < self.min_cover:
            return Skip("no class covers enough of the tile")
        return best


def detect_prefix(classes: Sequence[str]) -> str:
    """``detect tree ; house``, as in the papers' pre-training and the mix checkpoints."""
    return f"detect {' ; '.join(classes)}"


def check_labels(labels: Any, name: str) -> None:
    """Refuse classes that the text of a detection cannot hold. Raises AdapterError."""
    if labels is None:
        return
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise AdapterError(f"{name} must be a list of texts, got {shown(labels)}")
    for label in labels:
        if not label or label != label.strip() or any(character in label for character in "<>;"):
            raise AdapterError(f"{name}: {label!r} must hold no '<', '>' or ';' and no white space at its ends")
    if len(set(labels)) < len(labels):
        raise AdapterError(f"{name} names a class twice")


def scene_metadata(raster: Any, name: str, look: Look) -> dict[str, Any]:
    """What the way back to the map needs, beside a tile's ``cover``: the scene, its size, transform and system."""
    return {
        "scene": name,
        "scene_size": [raster.width, raster.height],
        "transform": [float(value) for value in tuple(raster.transform)[:6]],
        "crs": raster.crs.to_string() if raster.crs else None,
    } | ({"bands": look.note} if look.note else {})


def _split_folder(source: Path, split: str) -> Path | None:
    names = next((names for key, names in _SPLITS.items() if split in (key, *names)), (split,))
    return next((source / name for name in names if (source / name).is_dir()), None)
