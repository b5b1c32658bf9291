"""A folder of pictures in which a sub-folder's name is the class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pgtune.data_adapters.layout import PICTURES, chosen, entries, hint, pictures_below, relative, split_folders
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Row, Skip

__all__ = ["ImageFolderAdapter"]


@dataclass(frozen=True, kw_only=True)
class ImageFolderAdapter:
    """Pictures in one folder a class, ``CLASS/*.jpg`` or ``train/CLASS/*.jpg``; the class is the suffix.

    ``prefix``: the question. ``labels``: other words for some folders' names, ``{n01440764: a tench}``.
    ``underscores``: false (default) writes a name's underscores as spaces, true keeps them.
    Sub-folders train, validation and test (also val, valid, dev) are the splits; without them every split is the whole
    folder, to be cut with data.split_by. Pictures below a class's folder belong to the class.
    """

    prefix: str = "answer en what is in the picture?"
    labels: Mapping[str, str] = field(default_factory=dict)
    underscores: bool = False

    def __post_init__(self) -> None:
        for name, label in dict(self.labels).items():
            if not isinstance(label, str) or not label:
                raise AdapterError(f"labels.{name} = {label!r}: expected a text")

    def splits(self, source: Path) -> list[str]:
        """The sub-folders' splits; ["all"] for a folder of classes."""
        return list(split_folders(source)) or ["all"]

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """Each picture with its class's folder; a picture beside the classes is passed over. Raises DataError."""
        if source.is_file():
            raise DataError(f"{source}: is a file, expected a folder with one sub-folder a class")
        folders = split_folders(source)
        roots = [folder for _, folder in chosen(source, folders, split)] if folders else [source]
        unused = set(self.labels)
        known: set[str] = set()
        for root in roots:
            here = entries(root)
            classes = [path for path in here if path.is_dir()]
            if not classes:
                raise DataError(f"{root}: has no sub-folders, expected one a class with pictures in it")
            known.update(path.name for path in classes)
            unused -= known
            for path in here:
                if path.suffix.lower() in PICTURES:
                    yield Row(Skip("a picture that lies in no class's folder"), relative(path, source))
            for folder in classes:
                for path in pictures_below(folder):
                    image = relative(path, source)
                    yield Row({"image": image, "class": folder.name}, image)
        if unused and split is None:
            name = min(unused)
            raise DataError(f"labels: there is no folder {name!r} in {source}{hint(name, known)}")

    def __call__(self, row: Mapping[str, str]) -> Example:
        """The picture's Example."""
        name = row["class"]
        label = self.labels.get(name, name if self.underscores else name.replace("_", " "))
        return Example(row["image"], self.prefix, label)
