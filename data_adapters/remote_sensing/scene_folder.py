"""Pictures sorted into a folder for each class, as EuroSAT and UC Merced are: one question about the scene."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgtune.data_adapters.remote_sensing.geotiff_look import Look
from pgtune.data_adapters.remote_sensing.geotiff_raster import open_raster, scene_look, whole
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Row, Skip, shown

__all__ = ["SceneFolderAdapter", "readable"]

QUESTION = "answer en what kind of scene is this?"
"""Ours: no paper prints a prompt for scene classification."""

SUFFIXES = frozenset({".tif", ".tiff", ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".jp2"})

_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
_UC_MERCED = {
    "baseballdiamond": "baseball diamond",
    "denseresidential": "dense residential",
    "golfcourse": "golf course",
    "mediumresidential": "medium residential",
    "mobilehomepark": "mobile home park",
    "parkinglot": "parking lot",
    "sparseresidential": "sparse residential",
    "storagetanks": "storage tanks",
    "tenniscourt": "tennis court",
}
"""Class folders of UC Merced (and RSICD's file names) that run two words together."""


def readable(name: str) -> str:
    """A class folder's name as words: AnnualCrop, annual_crop and annual-crop become "annual crop"."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    text = " ".join(re.split(r"[\s_-]+", words)).strip().lower()
    return _UC_MERCED.get(text, text)


@dataclass(frozen=True)
class SceneFolderAdapter:
    """A folder for each class, pictures in it: EuroSAT (``2750/AnnualCrop/AnnualCrop_1.jpg``), UC Merced
    (``Images/agricultural/agricultural00.tif``), yours. The source may lie a folder or two above those of the classes.

    Where folders ``train``, ``validation`` (``val``), ``test`` lie above the classes, they are the splits. Elsewhere
    there are none: write ``{source: ..., split: all}`` and divide with ``data.split_by``.

    ``question``: the prefix. ``names``: ``{folder: answer}`` for classes whose folder's name would not read well; else
    AnnualCrop is answered "annual crop". ``group``: a regular expression with one group that finds in a file's name
    what the picture was cut from (for EuroSAT and UC Merced it cannot be told); it becomes the group ``scene``.
    ``bands`` and ``stretch``: for GeoTIFFs of many bands, as in the adapter geotiff; EuroSAT's 13 bands look right
    with ``bands: [4, 3, 2]``, ``stretch: [0, 2750]``.
    """

    question: str = QUESTION
    names: dict[str, str] = field(default_factory=dict, hash=False)
    group: str = ""
    bands: list[int] | None = field(default=None, hash=False)
    stretch: Any = field(default="auto", hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.question, str):
            raise AdapterError(f"question must be a text, got {shown(self.question)}")
        if not isinstance(self.names, dict) or not all(isinstance(v, str) and v for v in self.names.values()):
            raise AdapterError(f"names must give a text for each folder, got {shown(self.names)}")
        if self.group:
            try:
                groups = re.compile(self.group).groups
            except re.error as error:
                raise AdapterError(f"group = {self.group!r} is not a regular expression: {error}") from None
            if groups != 1:
                raise AdapterError(f"group = {self.group!r}: expected one group in brackets, it has {groups}")
        if self.bands is None and self.stretch != "auto":
            raise AdapterError("stretch has no effect without bands: other pictures are read as they are")
        if self.bands is not None:
            Look.check(self.bands, self.stretch, (2.0, 98.0))

    def splits(self, source: Path) -> list[str]:
        """The splits whose folders are there; none where the classes lie at the top."""
        return list(_split_folders(_descended(source)))

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """The pictures of a split (None: all), class by class, in the order of their names.

        Raises DataError: no such folder or split, a name in ``names`` that is no class, a folder without classes.
        """
        if not source.is_dir():
            raise DataError(f"{source}: no such folder")
        top = _descended(source)
        folders = _split_folders(top)
        if split is None:
            tops = list(folders.values()) or [top]
        elif not folders:
            raise DataError(
                f"{source}: has no folders train, validation, test, so that there is no split {split!r}; write "
                f"{{source: {source}, split: all}} and divide it with data.split_by"
            )
        elif split not in folders:
            raise DataError(f"{source}: no folder for the split {split!r} (there are {', '.join(folders)})")
        else:
            tops = [folders[split]]
        classes = [folder for place in tops for folder in _folders(place) if _has_pictures(folder)]
        if not classes:
            raise DataError(f"{source}: no folders with pictures in it, expected one for each class")
        unknown = sorted(self.names.keys() - {folder.name for folder in classes})
        if unknown:
            there = ", ".join(sorted({folder.name for folder in classes}))
            raise DataError(f"data.adapter_args.names: {unknown[0]!r} is no folder of a class (there are {there})")
        for folder in classes:
            for path in sorted(folder.iterdir()):
                place = str(path.relative_to(source))
                if path.suffix.lower() in SUFFIXES:
                    yield Row({"path": str(path), "class": folder.name}, place)
                elif path.is_file() and not path.name.startswith("."):
                    yield Row(Skip(f"not a picture ({path.suffix or 'no ending'})"), place)

    def __call__(self, row: Mapping[str, Any]) -> Example:
        """A row as `rows` makes it. Raises DataError: ``group`` finds nothing in the file's name."""
        path = row["path"]
        groups = {}
        if self.group:
            match = re.search(self.group, Path(path).name)
            if not match or not match[1]:
                raise DataError(f"group = {self.group!r} finds nothing in the file's name {Path(path).name!r}")
            groups["scene"] = match[1]
        image: Any = path
        if self.bands is not None:
            with open_raster(path) as raster:
                image = whole(raster, path, scene_look(raster, path, self.bands, self.stretch))
        answer = self.names.get(row["class"]) or readable(row["class"])
        return Example(image, prefix=self.question, suffix=answer, groups=groups)


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def _has_pictures(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.iterdir())


def _descended(source: Path) -> Path:
    """Past folders that only hold one other, as archives unpack to: EuroSAT/2750, UCMerced_LandUse/Images."""
    for _ in range(3):
        inner = _folders(source) if source.is_dir() else []
        if len(inner) != 1 or _has_pictures(inner[0]):
            break
        source = inner[0]
    return source


def _split_folders(top: Path) -> dict[str, Path]:
    inner = {path.name.lower(): path for path in (_folders(top) if top.is_dir() else [])}
    found = {}
    for split, names in _SPLITS.items():
        for name in names:
            # A class could be called so too; a split holds folders, not pictures.
            if name in inner and not _has_pictures(inner[name]):
                found[split] = inner[name]
                break
    return found
