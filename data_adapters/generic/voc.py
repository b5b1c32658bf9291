"""Pascal VOC's XML annotations, one file a picture, as labelImg and many data sets write them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtune.data_adapters.generic.boxes import Boxed, Detect, Picture, picture_size
from pgtune.data_adapters.layout import (
    chosen,
    entries,
    folder_named,
    inside,
    picture_named,
    read_text,
    relative,
    split_folders,
    split_named,
)
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Row, Skip

__all__ = ["VocAdapter"]

_PICTURES = ("JPEGImages", "images", "img", "JPEGImages-trainval", "JPEGImages-test")
_WHAT = {"difficult": "an object marked difficult", "truncated": "an object marked truncated"}


@dataclass(frozen=True, kw_only=True)
class VocAdapter(Detect):  # type: ignore[misc]  # mypy sees siblings as Any
    """Pascal VOC's annotations, one example a picture.

    The source is a folder with ``Annotations/*.xml``, ``JPEGImages/`` and, for splits, ``ImageSets/Main/train.txt``
    (``VOCdevkit/VOC2012``); or one with train, validation and test in which XML files lie beside their pictures; or XML
    files beside their pictures alone, every split then being all of them. ``first_pixel``: 1 (VOC's: the box of the
    whole picture is 1, 1, width, height) or 0 (some tools: 0, 0, width, height). ``difficult``, ``truncated``: keep or
    skip objects that are marked so (VOC's own evaluation leaves out difficult ones). Parts of objects are not looked
    at; a rotated box (``robndbox``) counts as the upright box around it. ``annotations``: the folder of the XML files.
    ``images``: the folder of the pictures; null: the usual ones. Classes are in the order of the alphabet, over all
    splits. ``prefix``, ``classes``, ``labels``, ``per_class``, ``order``, ``seed``, ``background`` and ``orientation``:
    see `pgtune.data_adapters.boxes.Detect`.
    """

    first_pixel: int = 1
    difficult: str = "skip"
    truncated: str = "keep"
    annotations: str = "Annotations"
    images: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_pixel not in (0, 1):
            raise AdapterError(f"first_pixel = {self.first_pixel!r}: expected 0 or 1")
        for name in _WHAT:
            if getattr(self, name) not in ("keep", "skip"):
                raise AdapterError(f"{name} = {getattr(self, name)!r}: expected keep or skip")

    def splits(self, source: Path) -> list[str]:
        """The splits, as recipes call them; ["all"] where nothing says."""
        return list(self._lists(source))

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """Each picture with its objects; files are read one after the other. Raises DataError."""
        lists = self._lists(source)
        asked: tuple[str, ...] | None = None
        if "{classes}" in self.prefix or self.classes is not None or self.labels:
            asked = self.asked(self._classes(lists), str(source))
        for _, files in chosen(source, lists, split):
            for file in files:
                place = relative(file, source)
                try:
                    yield from self._file(file, source, asked, place)
                except DataError as error:
                    yield Row(error, place)

    def __call__(self, row: Any) -> Example | Skip:
        """The picture's Example. Raises DataError."""
        found: Example | Skip = super().__call__(row)
        return found

    def _classes(self, lists: dict[str, list[Path]]) -> list[str]:
        names: set[str] = set()
        for file in dict.fromkeys(file for files in lists.values() for file in files):
            try:
                names.update((found.findtext("name") or "").strip() for found in _root(file).iterfind("object"))
            except DataError:  # said when its own row is read
                continue
        return sorted(names - {""})

    def _file(self, file: Path, source: Path, asked: tuple[str, ...] | None, place: str) -> Iterator[Row]:
        root = _root(file)
        path = self._picture(file, root, source)
        width, height = (_side(root, name) for name in ("size/width", "size/height"))
        if not (width and height):
            width, height, turn = picture_size(path)
            width, height = (height, width) if turn > 4 else (width, height)
        objects = []
        for number, found in enumerate(root.iterfind("object"), start=1):
            where = f"{place}, object {number}"
            label = (found.findtext("name") or "").strip()
            if not label:
                raise DataError(f"{where}: has no name")
            skipped = next((what for name, what in _WHAT.items() if self._leaves_out(found, name)), None)
            if skipped:
                yield Row(Skip(skipped), where)
                continue
            x0, y0, x1, y1 = self._corners(found, where)
            if x1 <= x0 or y1 <= y0:
                yield Row(Skip("a box without area"), where)
            elif max(x0, y0) >= max(width, height) or x1 <= 0 or y1 <= 0:
                yield Row(Skip("a box outside of the picture"), where)
            else:
                objects.append(Boxed(label, x0, y0, x1, y1))
        classes = tuple(dict.fromkeys(each.label for each in objects)) if asked is None else asked
        picture = Picture(relative(path, source), path, (width, height), tuple(objects), classes)
        yield from self.picture_rows(picture, place)

    def _leaves_out(self, found: ET.Element, name: str) -> bool:
        return getattr(self, name) == "skip" and (found.findtext(name) or "").strip() in ("1", "true", "True")

    def _corners(self, found: ET.Element, where: str) -> tuple[float, float, float, float]:
        """Left, top, right, bottom as edges, from 0: VOC's pixel numbers begin at 1 and include the last one."""
        box = found.find("bndbox")
        if box is not None:
            numbers = [_number(box, name, where) for name in ("xmin", "ymin", "xmax", "ymax")]
            x0, y0, x1, y1 = numbers
        else:
            box = found.find("robndbox")
            corners = [child for child in box if child.tag[:2] in ("x_", "y_")] if box is not None else []
            if box is None or not corners:
                raise DataError(f"{where}: has no bndbox")
            across = [_number(box, child.tag, where) for child in corners if child.tag.startswith("x_")]
            down = [_number(box, child.tag, where) for child in corners if child.tag.startswith("y_")]
            x0, y0, x1, y1 = min(across), min(down), max(across), max(down)
        return x0 - self.first_pixel, y0 - self.first_pixel, x1, y1

    def _picture(self, file: Path, root: ET.Element, source: Path) -> Path:
        """The picture of an annotation: of the same name, else the one that it names."""
        base = source if source.is_dir() else source.parent
        if self.images is not None:
            folders = [Path(inside(base, self.images))]
        else:
            homes = (_home(base), file.parent, file.parent.parent)
            named = [folder_named(home, name) for home in homes for name in _PICTURES]
            folders = [file.parent, *(folder for folder in named if folder is not None)]
        found = picture_named(file.stem, folders)
        if found is not None:
            return Path(found)
        named_file = (root.findtext("filename") or "").strip().replace("\\", "/").rpartition("/")[2]
        for folder in folders if named_file else []:
            if (folder / named_file).is_file():
                return Path(folder / named_file)
        raise DataError(f"its picture {file.stem}.jpg (or {named_file or 'as it names'}) lies in none of the folders "
                        f"{', '.join(dict.fromkeys(map(str, folders)))}")

    def _lists(self, source: Path) -> dict[str, list[Path]]:
        """The XML files by split. Raises DataError."""
        if source.is_file():
            if source.suffix.lower() != ".xml":
                raise DataError(f"{source}: expected a folder with Annotations, or an XML file")
            return {"all": [source]}
        home = _home(source)
        folder = Path(inside(home, self.annotations))
        sets = folder_named(home, "ImageSets")
        lists = folder_named(sets, "Main") or sets if sets is not None else None
        found: dict[str, list[Path]] = {}
        for path in entries(lists) if lists is not None else []:
            split = split_named(path.stem)
            if split is not None and path.suffix == ".txt":
                # a line may hold a second column, as the lists of single classes do
                ids = [line.split()[0] for line in read_text(path).splitlines() if line.strip()]
                found[split] = [Path(inside(folder, f"{name}.xml")) for name in ids]
        if found:
            return found
        found = {split: _xml(inner) for split, inner in split_folders(source).items()}
        files = _xml(folder) if folder.is_dir() else _xml(home)
        if any(found.values()):
            return {split: inner for split, inner in found.items() if inner}
        if not files:
            raise DataError(f"{source}: expected {self.annotations}/*.xml, or XML files beside their pictures")
        return {"all": files}


def _home(source: Path) -> Path:
    """The folder that holds Annotations: the source, or VOCdevkit/VOC2012 in it where there is one such folder."""
    if source.name == "VOCdevkit" or folder_named(source, "VOCdevkit"):
        devkit = folder_named(source, "VOCdevkit") or source
        years = [path for path in entries(devkit) if path.name.upper().startswith("VOC") and path.is_dir()]
        if len(years) != 1:
            names = ", ".join(path.name for path in years) or "none"
            raise DataError(f"{source}: expected one VOC folder in it, found {names}; name the one you mean")
        return Path(years[0])
    return source


def _xml(folder: Path) -> list[Path]:
    """The XML files in a folder, or in its sub-folder Annotations."""
    files = [path for path in entries(folder) if path.suffix.lower() == ".xml"]
    inner = folder_named(folder, "Annotations")
    return files if files or inner is None else _xml(inner)


def _root(file: Path) -> ET.Element:
    try:
        root = ET.parse(file).getroot()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    except (ET.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{file}: is not XML: {error}") from None
    if root.tag != "annotation":
        raise DataError(f"{file}: is <{root.tag}>, expected <annotation>")
    return root


def _side(root: ET.Element, name: str) -> float:
    text = (root.findtext(name) or "").strip()
    return float(text) if text.replace(".", "", 1).isdigit() else 0.0


def _number(box: ET.Element, name: str, where: str) -> float:
    text = (box.findtext(name) or "").strip()
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -1e9 < value < 1e9:
        raise DataError(f"{where}: {name} must be a number, got {text!r}")
    return value
