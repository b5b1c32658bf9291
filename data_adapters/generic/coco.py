"""MS COCO's annotation files: boxes around objects, or captions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pgtune.data_adapters.generic.boxes import Boxed, Detect, Picture, picture_size
from pgtune.data_adapters.layout import (
    chosen,
    entries,
    folder_named,
    inside,
    read_json,
    relative,
    split_folders,
    split_named,
)
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Row, Skip, shown

__all__ = ["CocoAdapter"]

_KEPT = ("id", "image_id", "category_id", "bbox", "iscrowd", "caption")
_TASKS = {"detect": "instances", "caption": "captions"}
_OTHERS = (*_TASKS.values(), "person", "panoptic", "stuff", "image")
"""What the names of COCO's own annotation files begin with."""


@dataclass(frozen=True, kw_only=True)
class CocoAdapter(Detect):  # type: ignore[misc]  # mypy sees siblings as Any
    """MS COCO's annotation files, one example a picture.

    The source is a folder: ``annotations/instances_train2017.json`` with ``train2017/``, ``_annotations.coco.json`` in
    ``train/`` beside its pictures (Roboflow), ``labels.json`` with ``data/``; or one annotation file. ``task``: detect
    (boxes) or caption: prefix ``caption en``, all captions of a picture as references, verbatim, the first being learnt
    (all in turn with data.cycle_references). ``images``: the folder of the pictures, below the source; null: the usual
    places. Crowds (``iscrowd``), boxes without area and boxes outside of the picture are passed over, boxes beyond its
    border are cut. ``prefix``: ``{classes}`` in it stands for the classes; the published detection transfer has
    ``detect all classes``; null: ``detect {classes}`` or ``caption en``. ``classes``, ``labels``, ``per_class``,
    ``order``, ``seed``, ``background`` and ``orientation``: see `pgtune.data_adapters.boxes.Detect`.
    """

    task: str = "detect"
    images: str | None = None
    prefix: str | None = None

    def __post_init__(self) -> None:
        if self.task not in _TASKS:
            raise AdapterError(f"task = {self.task!r}: expected one of {', '.join(_TASKS)}")
        if self.prefix is None:
            object.__setattr__(self, "prefix", "detect {classes}" if self.task == "detect" else "caption en")
        elif self.task == "caption" and "{classes}" in self.prefix:
            raise AdapterError(f"prefix = {self.prefix!r}: a caption has no classes")
        if self.task == "caption":
            defaults = Detect()
            for each in fields(Detect):
                if each.name != "prefix" and getattr(self, each.name) != getattr(defaults, each.name):
                    raise AdapterError(f"{each.name} has no effect with task: caption")
        super().__post_init__()

    def splits(self, source: Path) -> list[str]:
        """The splits that there are annotation files for."""
        return list(_files(source, self.task))

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """Each picture with its objects or captions. Raises DataError."""
        files = _files(source, self.task)
        for name, file in chosen(source, files, split):
            yield from self._rows_of(file, name, source)

    def __call__(self, row: Any) -> Example | Skip:
        """The picture's Example. Raises DataError."""
        if isinstance(row, Picture):
            found: Example | Skip = super().__call__(row)
            return found
        captions = row["captions"]
        return Example(row["image"], str(self.prefix), captions[0], captions, metadata=row["metadata"])

    def _rows_of(self, file: Path, split: str, source: Path) -> Iterator[Row]:
        content = read_json(file, _slim)
        needed = ("images", "annotations", *(("categories",) if self.task == "detect" else ()))
        lacking = [key for key in needed if not isinstance(content, dict) or not isinstance(content.get(key), list)]
        if lacking:
            kind = "a list (of results?)" if isinstance(content, list) else f"{', '.join(content)}"
            raise DataError(f"{file}: expected the lists {', '.join(needed)}; it holds {kind}")
        for key in needed:
            _check_objects(key, content[key], file)
        folder = self._folder(file, split, source, [image.get("file_name") for image in content["images"][:1]])
        by_image: dict[Any, list[dict[str, Any]]] = {image.get("id"): [] for image in content["images"]}
        if len(by_image) < len(content["images"]):
            raise DataError(f"{file}: two images have the same id")
        for annotation in content["annotations"]:
            if annotation.get("image_id") not in by_image:
                place = f"{file.name}, annotation {annotation.get('id')}"
                yield Row(DataError(f"image_id {annotation.get('image_id')!r} is none of the images"), place)
            else:
                by_image[annotation["image_id"]].append(annotation)
        del content["annotations"]
        names = _categories(content["categories"], file) if self.task == "detect" else {}
        asked = self.asked(list(dict.fromkeys(names.values())), str(file)) if names else ()
        for image in content["images"]:
            annotations = by_image.pop(image.get("id"))
            place = f"{file.name}, image {image.get('id')}"
            try:
                path = inside(folder, _text("file_name", image.get("file_name")))
                metadata = {"image_id": image["id"]} if isinstance(image.get("id"), int | str) else {}
                if self.task == "detect":
                    known = _Known(names, asked, file.name)
                    yield from self._picture(known, image, annotations, path, relative(path, source), metadata, place)
                elif annotations:
                    captions = [_text("caption", annotation.get("caption")) for annotation in annotations]
                    yield Row({"image": relative(path, source), "captions": captions, "metadata": metadata}, place)
                else:
                    yield Row(Skip("a picture without captions"), place)
            except DataError as error:
                yield Row(error, place)

    def _picture(
        self,
        known: _Known,
        image: dict[str, Any],
        annotations: list[dict[str, Any]],
        path: Path,
        name: str,
        metadata: dict[str, Any],
        place: str,
    ) -> Iterator[Row]:
        width, height = image.get("width"), image.get("height")
        if not (isinstance(width, int | float) and isinstance(height, int | float) and width > 0 and height > 0):
            width, height, turn = picture_size(path)
            width, height = (height, width) if turn > 4 else (width, height)
        objects = []
        for annotation in annotations:
            where = f"{known.file}, annotation {annotation.get('id')}"
            label = known.names.get(annotation.get("category_id"))
            if label is None:
                raise DataError(f"{where}: category_id {annotation.get('category_id')!r} is none of the categories")
            if annotation.get("iscrowd"):
                yield Row(Skip("a crowd, not one object (iscrowd)"), where)
                continue
            x, y, across, down = _bbox(annotation.get("bbox"), where)
            if across <= 0 or down <= 0:
                yield Row(Skip("a box without area"), where)
            elif x >= width or y >= height or x + across <= 0 or y + down <= 0:
                yield Row(Skip("a box outside of the picture"), where)
            else:
                objects.append(Boxed(label, x, y, x + across, y + down))
        picture = Picture(name, path, (width, height), tuple(objects), known.asked, None, metadata)
        yield from self.picture_rows(picture, place)

    def _folder(self, file: Path, split: str, source: Path, first: list[Any]) -> Path:
        """Where the pictures lie: the first of the usual places that holds the first of them."""
        root = source if source.is_dir() else file.parent
        if self.images is not None:
            return Path(inside(root, self.images))
        stem = file.stem.split("_")[-1]
        above = file.parent if source.is_file() and file.parent.name != "annotations" else file.parent.parent
        names = [stem, split, "val" if split == "validation" else split, "images", "data"]
        places = [file.parent]
        for top in dict.fromkeys((file.parent, above, root)):
            for name in names:
                inner = folder_named(top, name)
                deeper = folder_named(top / "images", name)
                places += [folder for folder in (inner, deeper) if folder is not None]
        for folder in places:
            if first and isinstance(first[0], str) and inside(folder, first[0]).is_file():
                return folder
        if not first:
            return places[0]
        tried = ", ".join(dict.fromkeys(str(folder) for folder in places))
        raise DataError(f"{file}: its first picture {first[0]!r} lies in none of {tried}; name the folder with images")


@dataclass(frozen=True)
class _Known:
    """The categories of a file, and those asked for."""

    names: dict[Any, str]
    asked: tuple[str, ...] = field(default=())
    file: str = ""


def _files(source: Path, task: str) -> dict[str, Path]:
    """Annotation files by split; {"all": file} for one that says nothing about it. Raises DataError."""
    if source.is_file():
        return {"all": source}
    found: dict[str, Path] = {}
    whole: list[Path] = []

    def add(split: str, path: Path) -> None:
        if split in found:
            raise DataError(f"{source}: {found[split].name} and {path.name} are both the split {split!r}; name one")
        found[split] = path

    for folder in (folder_named(source, "annotations"), source):
        for path in entries(folder) if folder is not None else []:
            if path.suffix != ".json" or not path.is_file():
                continue
            kind, _, rest = path.stem.partition("_")
            split = split_named(rest.rstrip("0123456789")) or split_named(path.stem)
            if split and (kind == _TASKS[task] or kind not in _OTHERS):
                add(split, path)
            elif path.stem in ("labels", "result", "annotations", "_annotations.coco", f"{_TASKS[task]}_default"):
                whole.append(path)
    for split, folder in split_folders(source).items():
        for name in ("_annotations.coco.json", "annotations.json", "labels.json"):
            if (folder / name).is_file() and split not in found:
                add(split, folder / name)
    if found:
        return found
    if len(whole) == 1:
        return {"all": whole[0]}
    raise DataError(
        f"{source}: expected annotations/{_TASKS[task]}_train2017.json, train/_annotations.coco.json or the like"
    )


def _check_objects(key: str, values: list[Any], file: Path) -> None:
    """Refuse a list of something else than objects, and ids that are no number or text. Raises DataError."""
    ids = {"images": ("id",), "annotations": ("image_id", "category_id"), "categories": ("id", "supercategory")}[key]
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            raise DataError(f"{file}: {key}, number {number}: expected an object {{...}}, got {shown(value)}")
        for name in ids:
            if not isinstance(value.get(name), str | int | float | None):
                raise DataError(
                    f"{file}: {key}, number {number}: {name} must be a number or a text, got {shown(value[name])}"
                )


def _slim(item: dict[str, Any]) -> dict[str, Any]:
    """An annotation without what is not used: outlines take most of the memory."""
    return {key: item[key] for key in _KEPT if key in item} if "image_id" in item else item


def _categories(categories: list[Any], file: Path) -> dict[Any, str]:
    """Category id -> name, in the file's order, without Roboflow's parent of all (a supercategory without one)."""
    parents = {category.get("supercategory") for category in categories}
    names = {}
    for category in categories:
        name = _text("a category's name", category.get("name"))
        if category.get("supercategory") == "none" and name in parents and len(categories) > 1:
            continue
        if category.get("id") in names:
            raise DataError(f"{file}: two categories have the id {category.get('id')!r}")
        names[category.get("id")] = name
    return names


def _bbox(value: Any, where: str) -> tuple[float, float, float, float]:
    numbers = isinstance(value, list) and len(value) == 4
    if not numbers or not all(
        isinstance(each, int | float) and not isinstance(each, bool) and math.isfinite(each) for each in value
    ):
        raise DataError(f"{where}: bbox must be [x, y, width, height] in pixels, got {shown(value)}")
    return (float(value[0]), float(value[1]), float(value[2]), float(value[3]))


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise DataError(f"{name} must be a text, got {shown(value)}")
    return value
