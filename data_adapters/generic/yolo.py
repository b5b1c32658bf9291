"""YOLO's label files: one text file a picture, a line an object, in fractions of the picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtune.data_adapters.generic.boxes import Boxed, Detect, Picture
from pgtune.data_adapters.layout import (
    PICTURES,
    SPLITS,
    chosen,
    entries,
    folder_named,
    pictures_below,
    read_text,
    relative,
    split_folders,
)
from pgtune.errors import DataError
from pgtune.example import Example, Row, Skip, shown

__all__ = ["YoloAdapter"]

_NAMES = ("classes.txt", "obj.names", "classes.names", "_darknet.labels", "labels.txt")
_TOLERANCE = 0.01
"""Fractions may leave 0 to 1 by so much, as in the Ultralytics checks, before they are not fractions at all."""


@dataclass(frozen=True)
class _Layout:
    """The names of the classes, the pictures' places by split, and how many numbers a line has after its box."""

    classes: tuple[str, ...]
    places: dict[str, list[Path]]
    keypoints: int = 0


@dataclass(frozen=True, kw_only=True)
class YoloAdapter(Detect):  # type: ignore[misc]  # mypy sees siblings as Any
    """YOLO's label files, one example a picture.

    The source is a ``data.yaml``, or a folder with one or with ``classes.txt`` (``obj.names``). A picture's labels lie
    in ``labels/`` where it lies in ``images/``, else beside it. A line is ``class x y width height``, the box's middle
    and size in fractions of the upright picture; ``class x1 y1 x2 y2 x3 y3 ...`` is an outline or a rotated box and
    counts as the upright box around it; keypoints (``kpt_shape`` in data.yaml) are not looked at. A picture without a
    label file, or with an empty one, has no objects. ``prefix``, ``classes``, ``labels``, ``per_class``, ``order``,
    ``seed``, ``background`` and ``orientation``: see `pgtune.data_adapters.boxes.Detect`.
    """

    def splits(self, source: Path) -> list[str]:
        """The splits, as recipes call them; ["all"] where nothing says."""
        return list(_layout(source).places)

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """Each picture with its objects; label files are read one after the other. Raises DataError."""
        layout = _layout(source)
        asked = self.asked(layout.classes, str(source))
        for _, places in chosen(source, layout.places, split):
            for path in _pictures(places):
                labels = _labels_of(path)
                place = relative(labels if labels.is_file() else path, source)
                try:
                    objects: list[Boxed] = []
                    seen: set[tuple[str, ...]] = set()
                    for number, line in _lines(labels):
                        where = f"{place}, line {number}"
                        found = _object(line, layout, where)
                        if found.x1 - found.x0 <= 0 or found.y1 - found.y0 <= 0:
                            yield Row(Skip("a box without area"), where)
                        elif found.x0 >= 1 or found.y0 >= 1 or found.x1 <= 0 or found.y1 <= 0:
                            yield Row(Skip("a box outside of the picture"), where)
                        elif tuple(line) in seen:
                            yield Row(Skip("a label that stands there twice"), where)
                        else:
                            objects.append(found)
                        seen.add(tuple(line))
                    picture = Picture(relative(path, source), path, None, tuple(objects), asked)
                    yield from self.picture_rows(picture, place)
                except DataError as error:
                    yield Row(error, place)

    def __call__(self, row: Any) -> Example | Skip:
        """The picture's Example. Raises DataError."""
        found: Example | Skip = super().__call__(row)
        return found


def _object(line: list[str], layout: _Layout, where: str) -> Boxed:
    """One line's object, in fractions. Raises DataError."""
    try:
        numbers = [float(text) for text in line]
    except ValueError:
        raise DataError(f"{where}: expected numbers, got {shown(' '.join(line))}") from None
    if not all(map(math.isfinite, numbers)):
        raise DataError(f"{where}: expected finite numbers, got {shown(' '.join(line))}")
    if not numbers[0].is_integer() or not 0 <= numbers[0] < len(layout.classes):
        raise DataError(f"{where}: class {line[0]} is none of the {len(layout.classes)} classes, 0 to "
                        f"{len(layout.classes) - 1}")
    label, values = layout.classes[int(numbers[0])], numbers[1:]
    if len(values) == 4 + layout.keypoints:
        values = values[:4]
    outline = len(values) >= 6 and len(values) % 2 == 0
    if len(values) != 4 and not outline:
        raise DataError(
            f"{where}: {len(line)} numbers; expected class x y width height, or a class and three points or more"
        )
    if not all(-_TOLERANCE <= value <= 1 + _TOLERANCE for value in values):
        raise DataError(f"{where}: coordinates are fractions of the picture, 0 to 1, got {shown(' '.join(line))}")
    if outline:
        return Boxed(label, min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
    x, y, width, height = values
    return Boxed(label, x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _lines(labels: Path) -> Iterator[tuple[int, list[str]]]:
    if labels.is_file():
        for number, line in enumerate(read_text(labels).splitlines(), start=1):
            if line.strip():
                yield number, line.split()


def _labels_of(picture: Path) -> Path:
    """``.../images/x/a.jpg`` -> ``.../labels/x/a.txt``, by the last folder called images; else beside the picture."""
    parts = list(picture.parts)
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
        mapped = Path(*parts).with_suffix(".txt")
        if mapped.parent.is_dir() or not picture.with_suffix(".txt").is_file():
            return mapped
    return picture.with_suffix(".txt")


def _pictures(places: list[Path]) -> Iterator[Path]:
    """The pictures of a split: in its folders, or as its lists name them."""
    for place in places:
        if place.is_dir():
            yield from pictures_below(place)
        else:
            for line in read_text(place).splitlines():
                if line.strip():
                    # as Ultralytics reads them: ./ begins at the list's folder
                    yield place.parent / line.strip().removeprefix("./")


def _layout(source: Path) -> _Layout:
    """What data.yaml or classes.txt say. Raises DataError."""
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    file = source if source.is_file() else _described(source)
    if file.suffix in (".yaml", ".yml"):
        return _from_yaml(file)
    names = tuple(line.strip() for line in read_text(file).splitlines() if line.strip())
    if not names:
        raise DataError(f"{file}: expected the name of a class on each line")
    root = file.parent
    images = folder_named(root, "images", "JPEGImages", "obj_train_data") or root
    places = {split: [folder] for split, folder in (split_folders(images) or split_folders(root)).items()}
    places = {split: [folder_named(each, "images") or each for each in found] for split, found in places.items()}
    return _Layout(names, places or {"all": [images]})


def _described(folder: Path) -> Path:
    """The file that names the classes. Raises DataError."""
    for path in entries(folder):
        if path.suffix in (".yaml", ".yml") and "names" in (_yaml(path) or {}):
            return Path(path)
    for name in _NAMES:
        for inner in (folder, folder / "labels", folder / "images"):
            if (inner / name).is_file():
                return folder / name if inner == folder else _moved(inner / name)
    raise DataError(f"{folder}: expected data.yaml or classes.txt with the names of the classes")


def _moved(path: Path) -> Path:
    raise DataError(f"{path}: the names of the classes lie in a sub-folder; move the file up to {path.parent.parent}")


def _yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise DataError(f"{path}: is not YAML: {error}") from None


def _from_yaml(file: Path) -> _Layout:
    content = _yaml(file)
    if not isinstance(content, Mapping) or not isinstance(content.get("names"), list | Mapping):
        raise DataError(f"{file}: expected the key names, a list or a mapping from number to name")
    names = content["names"]
    if isinstance(names, Mapping):
        # as Ultralytics: '0' counts as 0
        names = {int(key) if isinstance(key, str) and key.isdecimal() else key: name for key, name in names.items()}
        if not all(isinstance(key, int) for key in names) or sorted(names) != list(range(len(names))):
            raise DataError(f"{file}: names must be numbered from 0 without a gap, got {shown(list(names))}")
        names = [names[number] for number in range(len(names))]
    if not all(isinstance(name, str | int) and not isinstance(name, bool) for name in names) or not names:
        raise DataError(f"{file}: names must be texts, got {shown(names)}; yes, no, on and off need quotes in YAML")
    if "nc" in content and content["nc"] != len(names):
        raise DataError(f"{file}: nc is {content['nc']!r}, but there are {len(names)} names")
    places: dict[str, list[Path]] = {}
    for split, spellings in SPLITS.items():
        value = next((content[name] for name in spellings if content.get(name)), None)
        if value is not None:
            several = value if isinstance(value, list) else [value]
            places[split] = [_placed(str(each), content.get("path"), file) for each in several]
    if not places:
        raise DataError(f"{file}: expected train, val or test: where the pictures lie")
    shape = content.get("kpt_shape")
    keypoints = math.prod(shape) if isinstance(shape, list) and all(isinstance(each, int) for each in shape) else 0
    return _Layout(tuple(str(name) for name in names), places, keypoints)


def _placed(name: str, root: object, file: Path) -> Path:
    """Where data.yaml means a split to be: below ``path``, below its own folder, or as Roboflow writes ``../train``."""
    own = file.parent
    tried = [own / str(root or "") / name, own / name]
    if name.startswith("../"):
        tried += [own / name.removeprefix("../")]
    for path in tried:
        if path.is_dir() or (path.is_file() and path.suffix == ".txt"):
            return path
        if path.suffix.lower() in PICTURES and path.is_file():
            raise DataError(f"{file}: {name!r} is a picture, expected a folder or a list of pictures")
    raise DataError(f"{file}: {name!r} is not there; looked for {', '.join(dict.fromkeys(map(str, tried)))}")
