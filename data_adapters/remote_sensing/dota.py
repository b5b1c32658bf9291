"""DOTA: objects in large aerial pictures, as upright boxes in tiles."""

from __future__ import annotations

import difflib
import io
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgtune.data_adapters.extras import require
from pgtune.data_adapters.remote_sensing.geotiff import check_labels, detect_prefix, scene_metadata
from pgtune.data_adapters.remote_sensing.geotiff_export import NOTHING, boxes_of, merged
from pgtune.data_adapters.remote_sensing.geotiff_raster import open_raster, scene_look
from pgtune.data_adapters.remote_sensing.tiling import Grid, Objects, Placed, check_tiling
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Row, Skip
from pgtune.locations import encode_detections

__all__ = ["CLASSES", "DotaAdapter"]

_FIRST = (
    "plane", "ship", "storage-tank", "baseball-diamond", "tennis-court", "basketball-court", "ground-track-field",
    "harbor", "bridge", "large-vehicle", "small-vehicle", "helicopter", "roundabout", "soccer-ball-field",
    "swimming-pool",
)  # fmt: skip
CLASSES: dict[str, tuple[str, ...]] = {
    "1.0": _FIRST,
    "1.5": (*_FIRST, "container-crane"),
    "2.0": (*_FIRST, "container-crane", "airport", "helipad"),
}
"""The classes of each version, in the order of the authors' list (captain-whu.github.io/DOTA/tasks.html)."""

_SPLITS = {"train": ("train",), "validation": ("val", "validation", "valid"), "test": ("test",)}
_IMAGES = (".tif", ".tiff", ".png", ".jpg", ".bmp")


@dataclass(frozen=True)
class DotaAdapter:
    """DOTA (Xia et al., CVPR 2018). The source holds ``images/P0706.png`` and ``labelTxt/P0706.txt``, or folders
    ``train``, ``val`` and ``test`` with these.

    A label is ``x1 y1 ... x4 y4 class difficult`` a line; the lines ``imagesource:`` and ``gsd:`` may be missing. The
    box learnt is the upright one around what a tile shows of the oriented one. Prefix ``detect plane ; ship ; ...``
    with every class of the version, names with their hyphens as published; suffix ``<loc..>x4 ship ; <loc..>x4 plane``
    from top to bottom (prompt and order are ours).

    ``version``: 1.0 (15 classes), 1.5 (16) or 2.0 (18). ``classes``: fewer of them; objects of others are left out.
    ``difficult``: keep or drop what is marked 1 or 2. ``size``, ``overlap``: of the tiles in pixels, the development
    kit's 1024 and 200. ``scale``: pixels of the picture for one of the tile. ``min_visible``: the share of an object
    that a tile must show, the development kit's 0.7. ``empty``: skip or keep tiles without an object (then their
    suffix is "nothing"). ``images``, ``labels``: names of the folders. Pictures are read tile by tile; a PNG has to be
    decoded from its top for that, so that for many large ones tiled GeoTIFFs of the same names are faster.
    """

    version: str | float = "1.0"
    classes: list[str] | None = field(default=None, hash=False)
    difficult: str = "keep"
    size: int = 1024
    overlap: int = 200
    scale: float = 1.0
    min_visible: float = 0.7
    empty: str = "skip"
    images: str = "images"
    labels: str = "labelTxt"

    def __post_init__(self) -> None:
        if str(self.version) not in CLASSES:
            raise AdapterError(f"version = {self.version!r}: expected one of {', '.join(CLASSES)}")
        if self.difficult not in ("keep", "drop"):
            raise AdapterError(f"difficult = {self.difficult!r}: expected keep or drop")
        if self.empty not in ("skip", "keep"):
            raise AdapterError(f"empty = {self.empty!r}: expected skip or keep")
        if self.size is None:
            raise AdapterError("size is null: pictures of up to 20,000 pixels have to be cut into tiles")
        check_tiling(self.size, self.overlap, self.scale, self.min_visible)
        check_labels(self.classes, "classes")
        for name in self.classes or ():
            if name not in CLASSES[str(self.version)]:
                raise AdapterError(f"classes: {_unknown(name, str(self.version))}")

    @property
    def exports(self) -> Mapping[str, Callable[[Sequence[dict[str, Any]], Path], dict[str, Any]]]:
        """How predicted rows are written, by the ending of the file."""
        return {".zip": write_task2}

    def splits(self, source: Path) -> list[str]:
        """The splits whose folders are there."""
        return [split for split in _SPLITS if _split_folder(source, split)]

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """The tiles of every picture of a split (None: all), and the objects and tiles that are left out, and why.

        Raises DataError: no such folder or split.
        """
        for folder in self._folders(source, split):
            images, labels = folder / self.images, folder / self.labels
            for place in (images, labels):
                if not place.is_dir():
                    raise DataError(
                        f"{place}: no such folder; data.adapter_args.images and .labels name the folders of a split"
                    )
            pictures = _by_stem(images, _IMAGES)
            texts = _by_stem(labels, (".txt",))
            for stem in sorted(pictures.keys() | texts.keys()):
                if stem not in texts:
                    yield Row(DataError(f"no labels: there is no {labels / stem}.txt"), pictures[stem].name)
                elif stem not in pictures:
                    yield Row(DataError(f"no picture {stem} in {images}"), texts[stem].name)
                else:
                    yield from self._picture(pictures[stem], texts[stem])

    def __call__(self, row: Mapping[str, Any]) -> Example:
        """A row as `rows` makes it."""
        return Example(
            row["placed"].tile,
            prefix=self._prefix(),
            suffix=row["suffix"],
            metadata=row["metadata"],
            groups={"scene": row["metadata"]["scene"]},
        )

    def inputs(self, source: Path, prefix: str | None) -> Iterator[Example]:
        """The tiles of a picture, of a folder of pictures, or of a split's folder, without labels."""
        if source.is_file():
            pictures = [source]
        else:
            folder = source / self.images if (source / self.images).is_dir() else source
            if not folder.is_dir():
                raise DataError(f"{source}: no such file or folder")
            pictures = list(_by_stem(folder, _IMAGES).values())
        if not pictures:
            raise DataError(f"{source}: no pictures in it (looked for {', '.join(_IMAGES)})")
        for path in pictures:
            for placed, _, metadata in self._tiles(path):
                text = self._prefix() if prefix is None else prefix
                yield Example(placed.tile, text, "", metadata=metadata, groups={"scene": path.stem})

    def _prefix(self) -> str:
        prefix: str = detect_prefix(self.classes or CLASSES[str(self.version)])
        return prefix

    def _folders(self, source: Path, split: str | None) -> list[Path]:
        if not source.is_dir():
            raise DataError(f"{source}: no such folder")
        if split is None:
            inner = [folder for name in self.splits(source) if (folder := _split_folder(source, name))]
            return inner or [source]
        found = _split_folder(source, split)
        if found is None:
            there = ", ".join(self.splits(source)) or "no folders train, val, test"
            raise DataError(
                f"{source}: no folder for the split {split!r} (there are {there}); write {{source: {source}, split: "
                f"all}} to take everything in it, and divide it with data.split_by: scene"
            )
        return [found]

    def _tiles(self, path: Path) -> Iterator[tuple[Placed, bool, dict[str, Any]]]:
        with open_raster(path) as raster:
            look = scene_look(raster, path)
            scene = scene_metadata(raster, path.stem, look)
            for placed, has_data in Grid(self.size, self.overlap, self.scale).tiles(raster, str(path), look):
                yield placed, has_data, {**scene, "cover": list(placed.cover)}

    def _picture(self, picture: Path, text: Path) -> Iterator[Row]:
        shapes, labels, places = [], [], []
        try:
            for line, content in _lines(text):
                place = f"{text.name}, line {line}"
                read = self._object(content)
                if isinstance(read, Skip | DataError):
                    yield Row(read, place)
                else:
                    shapes.append(read[0])
                    labels.append(read[1])
                    places.append(place)
            objects = Objects(shapes, labels, places)
            for placed, _, metadata in self._tiles(picture):
                found = objects.visible(placed, self.min_visible)
                place = f"{picture.name}, {placed.place}"
                if not found and self.empty == "skip":
                    yield Row(Skip("tile without an object"), place)
                    continue
                suffix = encode_detections(found) or NOTHING
                yield Row({"placed": placed, "suffix": suffix, "metadata": metadata}, place)
            with open_raster(picture) as raster:
                yield from objects.unseen(raster)
        except DataError as error:  # the label file or the picture as a whole
            yield Row(error, picture.name)

    def _object(self, content: str) -> tuple[Any, str] | Skip | DataError:
        """A line's shape in pixels and its class, or why it is not learnt, or what is wrong with it."""
        shapely = require("shapely", "remote-sensing")
        words = content.split()
        if len(words) not in (9, 10):
            return DataError(f"has {len(words)} words, expected x1 y1 x2 y2 x3 y3 x4 y4 class difficult: {content!r}")
        try:
            numbers = [float(word) for word in words[:8]]
        except ValueError:
            return DataError(f"the first eight words must be numbers: {content!r}")
        if not all(math.isfinite(number) for number in numbers):
            return DataError(f"the first eight words must be finite numbers: {content!r}")
        name, difficult = words[8], words[9] if len(words) == 10 else "0"
        if difficult not in ("0", "1", "2"):
            return DataError(f"difficult must be 0, 1 or 2, got {difficult!r}")
        if name not in CLASSES["2.0"]:
            return DataError(_unknown(name, "2.0"))
        if name not in (self.classes or CLASSES[str(self.version)]):
            return Skip(f"class {name} is not asked for")
        if difficult != "0" and self.difficult == "drop":
            return Skip("difficult object")
        # Whatever corner the line starts at, and should two of them be swapped.
        shape = shapely.MultiPoint(list(zip(numbers[0::2], numbers[1::2], strict=True))).convex_hull
        return (shape, name) if shape.area > 0 else Skip("box without area")


def write_task2(rows: Sequence[dict[str, Any]], path: Path) -> dict[str, Any]:
    """Write predicted rows as the zip that DOTA's server takes for Task 2, upright boxes: ``Task2_plane.txt`` and so
    on.

    A line is ``picture score xmin ymin xmax ymax`` in the picture's pixels; an object in several tiles is written
    once. A box without a score gets 1. Returns what was written, with the number of malformed pieces. Raises
    DataError: rows that are no tiles.
    """
    found: dict[str, list[Any]] = {}
    count = malformed = errors = 0
    for number, row in enumerate(rows):
        if not {"scene", "scene_size", "cover"} <= (row.get("metadata") or {}).keys():
            raise DataError(f"{path}: row {number + 1} of the predictions is no tile of a picture")
        if row.get("prediction") is None:
            errors += 1
            continue
        boxes, bad = boxes_of(row, number)
        found.setdefault(row["metadata"]["scene"], []).extend(boxes)
        count += len(boxes)
        malformed += bad
    files = {name: io.StringIO() for name in CLASSES["2.0"]}
    objects = others = 0
    for scene, boxes in sorted(found.items()):
        for item in merged(boxes):
            if item.label not in files:
                others += 1
                continue
            score = 1.0 if item.score is None else item.score
            files[item.label].write(f"{scene} {score:.6f} {' '.join(f'{value:.1f}' for value in item.box)}\n")
            objects += 1
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            # A fixed date, so that the same predictions give the same file.
            archive.writestr(zipfile.ZipInfo(f"Task2_{name}.txt"), text.getvalue())
    summary = {"objects": objects, "boxes": count, "malformed": malformed, "errors": errors}
    return summary | {"unknown_class": others}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines that hold an object."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.startswith(("imagesource:", "gsd:")):
            yield number, line.strip()


def _by_stem(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """The files of a folder by their names; where one has several endings, the first of these."""
    found: dict[str, Path] = {}
    for ending in endings:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() == ending:
                found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def _split_folder(source: Path, split: str) -> Path | None:
    names = next((names for key, names in _SPLITS.items() if split in (key, *names)), (split,))
    return next((source / name for name in names if (source / name).is_dir()), None)


def _unknown(name: str, version: str) -> str:
    close = difflib.get_close_matches(name, CLASSES[version], n=1)
    return f"{name!r} is no class of DOTA-v{version}" + (f"; did you mean {close[0]!r}?" if close else "")
