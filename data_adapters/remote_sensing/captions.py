"""Captions of remote sensing pictures: RSICD, UCM, Sydney, RSITMD and NWPU, in the JSON files they are published in."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtune.data_adapters.json_lists import read_lists
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Row, shown

__all__ = ["RsCaptionsAdapter"]

FILES = (
    "dataset_rsicd.json",
    "dataset_nwpu.json",
    "dataset_RSITMD.json",
    "dataset_rsitmd.json",
    "dataset_ucm.json",
    "dataset_ucmd.json",
    "dataset_sydney.json",
    "dataset.json",
)
"""The names under which the sets and common copies of them have their captions."""

FOLDERS = ("RSICD_images", "NWPU_images", "UCM_images", "Sydney_images", "images", "imgs")
"""The names under which they have their pictures."""

_SPLITS = {"val": "validation", "valid": "validation", "dev": "validation"}
_DUPLICATES = ("auto", "drop", "keep")


@dataclass(frozen=True)
class RsCaptionsAdapter:
    """Captions of aerial pictures. The source is the folder of a set, or its JSON file.

    RSICD, UCM, Sydney and RSITMD: ``{"images": [{"filename", "split", "sentences": [{"raw"}, ...]}]}``. NWPU:
    ``{class: [{"filename", "split", "raw", "raw_1", ... "raw_4"}]}``, pictures in a folder for each class. Splits are
    the file's own (RSITMD: train and test only). Prefix ``caption en``; the suffix is the first caption, all are
    references: set ``data.cycle_references: true`` to learn each in turn.

    A caption is the published text without white space at its ends: its capitals and its " ." stay, as PaliGemma
    learns COCO's captions. The metrics' tokeniser takes capitals and full stops away in any case. A picture that is
    missing or broken is a bad row (published loaders of NWPU leave out ``airplane_111.jpg``): ``data.max_bad_share``.

    ``captions``: the JSON file's name where it is not a usual one. ``images``: the pictures' folder, likewise.
    ``duplicates``: RSICD fills up to five captions with copies. ``drop``: each text once; ``keep``: as published;
    ``auto``: once in train, where they would be learnt more often, kept elsewhere, since CIDEr averages over the
    references and published numbers are over all five.
    """

    captions: str = ""
    images: str = ""
    duplicates: str = "auto"

    def __post_init__(self) -> None:
        if self.duplicates not in _DUPLICATES:
            raise AdapterError(f"duplicates = {self.duplicates!r}: expected one of {', '.join(_DUPLICATES)}")
        for name in ("captions", "images"):
            if not isinstance(getattr(self, name), str):
                raise AdapterError(f"{name} must be a name in the source's folder, got {shown(getattr(self, name))}")

    def splits(self, source: Path) -> list[str]:
        """The splits that the file's pictures have, the usual ones first."""
        found = {_split_of(record) for _, _, record in read_lists(self._file(source)) if isinstance(record, Mapping)}
        usual = [name for name in ("train", "validation", "test") if name in found]
        return usual + sorted(found - {*usual, ""})

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """The pictures of a split (None: all), in the file's order. Raises DataError: no such file, folder, split."""
        file = self._file(source)
        folder = self._folder(file.parent)
        wanted = _SPLITS.get(split, split) if split else None
        there = set()
        found = False
        for key, index, record in read_lists(file):
            place = f"{file.name}, {'picture' if key in ('', 'images') else key} {index + 1}"
            if not isinstance(record, Mapping):
                yield Row(DataError(f"must be an object, got {shown(record)}"), place)
                continue
            own = _split_of(record)
            there.add(own)
            if wanted is None or own == wanted:
                found = True
                picture = folder / key if (folder / key).is_dir() and key != "images" else folder
                yield Row({**record, "split": own, "folder": str(picture), "class": key}, place)
        if not found:
            close = difflib.get_close_matches(str(split), there, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            names = ", ".join(sorted(there - {""})) or "no picture with one"
            raise DataError(f"{file}: no picture of the split {split!r}{hint} (there are {names})")

    def __call__(self, row: Mapping[str, Any]) -> Example:
        """A row as `rows` makes it. Raises DataError: no file name, no caption."""
        name = row.get("filename")
        if not isinstance(name, str) or not name:
            raise DataError(f"filename must be a text, got {shown(name)}")
        texts = _captions(row)
        if self.duplicates == "drop" or (self.duplicates == "auto" and row["split"] == "train"):
            texts = list(dict.fromkeys(texts))
        picture = str(Path(row["folder"], name))
        return Example(picture, prefix="caption en", suffix=texts[0], references=texts, metadata={"file": name})

    def _file(self, source: Path) -> Path:
        if source.is_file():
            return source
        if not source.is_dir():
            raise DataError(f"{source}: no such file or folder")
        names = [self.captions] if self.captions else list(FILES)
        found = [source / name for name in names if (source / name).is_file()]
        # A disk that does not tell capitals apart shows one file under two names.
        found = [path for i, path in enumerate(found) if not any(path.samefile(other) for other in found[:i])]
        if not found:
            raise DataError(
                f"{source}: holds no {' or '.join(names)}; data.adapter_args.captions names the captions' JSON file"
            )
        if len(found) > 1:
            raise DataError(f"{source}: holds {' and '.join(path.name for path in found)}; name one as the source")
        return found[0]

    def _folder(self, source: Path) -> Path:
        names = (self.images,) if self.images else FOLDERS
        found = [source / name for name in names if (source / name).is_dir()]
        if not found:
            raise DataError(
                f"{source}: holds no folder {' or '.join(names)}; data.adapter_args.images names that of the pictures"
            )
        if len(found) > 1:
            several = " and ".join(path.name for path in found)
            raise DataError(f"{source}: holds {several}; data.adapter_args.images names the folder of the pictures")
        return found[0]


def _split_of(record: Mapping[str, Any]) -> str:
    name = str(record.get("split") or "")
    return _SPLITS.get(name, name)


def _captions(row: Mapping[str, Any]) -> list[str]:
    """The texts of a record in their order, white space at the ends taken off; empty ones are left out."""
    if "sentences" in row:
        sentences = row["sentences"]
        if not isinstance(sentences, list):
            raise DataError(f"sentences must be a list, got {shown(sentences)}")
        raw: list[Any] = [sentence.get("raw") if isinstance(sentence, Mapping) else sentence for sentence in sentences]
    else:  # NWPU: raw, raw_1, ... raw_4
        raw = [value for key, value in row.items() if key == "raw" or key.startswith("raw_")]
    for text in raw:
        if not isinstance(text, str):
            raise DataError(f"a caption must be a text, got {shown(text)}")
    texts = [text.strip() for text in raw if text.strip()]
    if not texts:
        raise DataError(f"{row['filename']} has no caption (there are {', '.join(map(str, row))})")
    return texts
