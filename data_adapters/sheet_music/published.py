"""Published sheet music: GrandStaff (piano systems with kern) and PrIMuS (incipits with semantic or agnostic text).

What is learnt is the text that the published loaders make of the files:

- GrandStaff, as the Sheet Music Transformer (antoniorv6/SMT, ``data.py``): line breaks and spaces at both ends
  stripped, numbers of bar lines dropped (``=12`` becomes ``=``), the separators ``·`` of the .bekrn files dropped, and
  ``@`` where ekern has them. Tabs, spaces and line breaks, which are its symbols ``<t>``, ``<s>`` and ``<b>``, stay
  what they are: the tokenizer of PaliGemma has them. The first line, ``**ekern_1.0`` in each column, stays.
- PrIMuS, as OMR-Research/tf-end-to-end (``primus.py``): the symbols of the first line. They are separated by TAB in the
  files, with one more at the end, and by single spaces in the suffix: the metric ``ser`` then counts them alone.

PaliGemma 2 prints no prompt for scores; the prefixes are ours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pgtune.data_adapters.layout import present
from pgtune.data_adapters.sheet_music.kern_export import EXPORTS
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Row

__all__ = ["GrandStaffAdapter", "Labelled", "PrimusAdapter"]

_BAR_NUMBER = re.compile(r"(?<==)\d+")
_FRAGMENT = re.compile(r"(?P<key>.+?)_m-(?P<measures>\d+-\d+)")
_IMAGES = ("published", "clean", "distorted", "both")


@dataclass(frozen=True)
class Labelled:
    """A picture and the file that holds its text; ``fragment`` is the music, whatever the picture or the key."""

    image: Path
    text: Path
    work: str
    fragment: str
    distorted: bool


@dataclass(frozen=True)
class GrandStaffAdapter:
    """GrandStaff: `grandstaff_dataset/<composer>/<collection>/<piece>/<key>_m-<from>-<to>.{krn,bekrn,jpg}`.

    The splits are the lists `partitions_grandstaff/<partition>/{train,val,test}.txt` beside it, whose paths end in
    .ekrn or .krn. Without lists there is no split: all fragments are read, for data.split_by. In the published lists
    `types` the test fragments are the originals whose transpositions are trained on; data.split_by: work makes an
    honest split.

    Groups: `work`, the piece, and `fragment`, the same measures in all keys.

    Args:
        encoding: `bekern` (the .bekrn, as published), `kern` (the .krn, with slurs and stems) or `ekern` (the .ekrn).
        images: `clean`, `distorted`, `both`, or `published`: both to train on, clean elsewhere.
        partition: the folder of the lists below partitions_grandstaff.
        prefix: the prompt.

    Raises:
        AdapterError: for values outside these.
    """

    encoding: str = "bekern"
    images: str = "published"
    partition: str = "types"
    prefix: str = "transcribe kern"

    exports: ClassVar[Mapping[str, Callable[[Sequence[Mapping[str, Any]], Path], dict[str, Any]]]] = EXPORTS
    _endings: ClassVar[Mapping[str, str]] = {"bekern": ".bekrn", "ekern": ".ekrn", "kern": ".krn"}

    def __post_init__(self) -> None:
        _one_of("encoding", self.encoding, tuple(self._endings))
        _one_of("images", self.images, _IMAGES)

    def splits(self, source: Path) -> list[str]:
        """Which of train, validation and test have a list; ["all"] where there is none."""
        return self._held(source) or ["all"]

    def _held(self, source: Path) -> list[str]:
        return [split for split in ("train", "validation", "test") if self._list(source, split) is not None]

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """The fragments of a list in its order, or without lists all, by name; clean before distorted."""
        present(source)
        held = self._held(source)
        if split is None and not held:
            yield from self._all(source)
            return
        if split is not None and split not in held:
            raise DataError(
                f"{source}: there is no list of the split {split!r}, expected "
                f"partitions_grandstaff/{self.partition}/{'val' if split == 'validation' else split}.txt; "
                + (f"it has {', '.join(held)}" if held else "without lists, use data.split_by: work")
            )
        for name in [split] if split is not None else held:
            file = self._list(source, name)
            assert file is not None
            root = file.parents[len(Path(self.partition).parts) + 1]
            with file.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        stem = root / os.path.splitext(line.strip())[0]
                        place = f"{file.name}, line {number}"
                        yield from self._fragment(stem, root / "grandstaff_dataset", name, place)

    def _list(self, source: Path, split: str) -> Path | None:
        file = f"{'val' if split == 'validation' else split}.txt"
        for root in (source, source.parent):  # the source may be grandstaff_dataset itself
            if root == source or source.name == "grandstaff_dataset":
                path = root / "partitions_grandstaff" / self.partition / file
                if path.is_file():
                    return path
        return None

    def _all(self, source: Path) -> Iterator[Row]:
        ending = self._endings[self.encoding]
        found = False
        for folder, folders, names in os.walk(source):
            folders.sort()
            for name in sorted(names):
                if name.endswith(ending):
                    found = True
                    stem = Path(folder, name.removesuffix(ending))
                    root = source / "grandstaff_dataset" if (source / "grandstaff_dataset").is_dir() else source
                    yield from self._fragment(stem, root, "", f"{stem.relative_to(source)}{ending}")
        if not found:
            raise DataError(f"{source}: no {ending} file in it (encoding: {self.encoding})")

    def _fragment(self, stem: Path, root: Path, split: str, place: str) -> Iterator[Row]:
        piece = stem.parent.relative_to(root).as_posix()
        found = _FRAGMENT.fullmatch(stem.name)
        fragment = f"{piece}/{found['measures'] if found else stem.name}"
        wanted = ("both" if split == "train" else "clean") if self.images == "published" else self.images
        text = stem.with_name(stem.name + self._endings[self.encoding])
        for distorted in (False, True):
            if wanted in ("both", "distorted" if distorted else "clean"):
                image = stem.with_name(f"{stem.name}{'_distorted' if distorted else ''}.jpg")
                yield Row(Labelled(image, text, piece, fragment, distorted), place)

    def __call__(self, row: Labelled) -> Example:
        """The Example of a fragment. Raises DataError for a file that is missing, empty or not UTF-8."""
        text = _read(row.text).replace("\r\n", "\n").strip("\n ")
        suffix = _BAR_NUMBER.sub("", text).replace("·", "").replace("@", "")
        if not suffix:
            raise DataError(f"{row.text}: empty, expected kern")
        if not suffix.startswith("**"):
            raise DataError(f"{row.text}: begins with {suffix[:30]!r}, expected **kern or **ekern_1.0")
        return _example(row, self.prefix, suffix, {"work": row.work, "fragment": row.fragment})


@dataclass(frozen=True)
class PrimusAdapter:
    """PrIMuS and Camera-PrIMuS: `<id>/<id>.png` with `.semantic` and `.agnostic`, distorted `<id>_distorted.jpg`.

    The folders lie in the source, or in folders of it (Corpus, package_aa, package_ab). Lists `train.txt` and
    `test.txt` with an id a line, in the source or in its folder Data, are the splits; without them, use
    data.split_by: work.

    Groups: `work`, the RISM record (the first number of the id), and `fragment`, the incipit.

    Args:
        encoding: `semantic` (clef-G2, note-A4_eighth) or `agnostic` (clef.G-L2, note.eighth-S2).
        images: `clean`, `distorted`, or `both`.
        prefix: the prompt; None: "transcribe semantic" or "transcribe agnostic".

    Raises:
        AdapterError: for values outside these.
    """

    encoding: str = "semantic"
    images: str = "clean"
    prefix: str | None = None

    def __post_init__(self) -> None:
        _one_of("encoding", self.encoding, ("semantic", "agnostic"))
        _one_of("images", self.images, _IMAGES[1:])

    def splits(self, source: Path) -> list[str]:
        """Which of train, validation and test have a list; ["all"] where there is none."""
        return self._held(source) or ["all"]

    def _held(self, source: Path) -> list[str]:
        return [split for split in ("train", "validation", "test") if _primus_list(source, split) is not None]

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """The incipits of a list in its order, or without lists all, by id; clean before distorted."""
        present(source)
        held = self._held(source)
        homes = _homes(source)
        if split is None and not held:
            found = False
            for home in homes:
                for name in sorted(entry.name for entry in os.scandir(home) if entry.is_dir()):
                    if (home / name / f"{name}.{self.encoding}").is_file():
                        found = True
                        yield from self._incipit(home / name, f"{name}.{self.encoding}")
            if not found:
                raise DataError(f"{source}: no <id>/<id>.{self.encoding} in it, nor in Corpus or package_*")
            return
        if split is not None and split not in held:
            raise DataError(
                f"{source}: there is no list of the split {split!r}, expected {split}.txt or Data/{split}.txt; "
                + (f"it has {', '.join(held)}" if held else "without lists, use data.split_by: work")
            )
        for name in [split] if split is not None else held:
            file = _primus_list(source, name)
            assert file is not None
            with file.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, 1):
                    if incipit := line.strip():
                        folders = [home / incipit for home in homes if (home / incipit).is_dir()]
                        folder = folders[0] if folders else homes[0] / incipit
                        yield from self._incipit(folder, f"{file.name}, line {number}")

    def _incipit(self, folder: Path, place: str) -> Iterator[Row]:
        for distorted in (False, True):
            if self.images in ("both", "distorted" if distorted else "clean"):
                image = folder / (f"{folder.name}_distorted.jpg" if distorted else f"{folder.name}.png")
                work = folder.name.partition("-")[0]
                text = folder / f"{folder.name}.{self.encoding}"
                yield Row(Labelled(image, text, work, folder.name, distorted), place)

    def __call__(self, row: Labelled) -> Example:
        """The Example of an incipit. Raises DataError for a file that is missing, empty or not UTF-8."""
        # The loader reads one line; some copies separate by spaces. No symbol holds white space.
        symbols = _read(row.text).lstrip("\n").split("\n")[0].split()
        if not symbols:
            raise DataError(f"{row.text}: empty, expected symbols separated by TAB")
        prefix = f"transcribe {self.encoding}" if self.prefix is None else self.prefix
        return _example(row, prefix, " ".join(symbols), {"work": row.work, "fragment": row.fragment})


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise AdapterError(f"data.adapter_args.{name}: {value!r}, expected {', '.join(known)}")


def _homes(source: Path) -> list[Path]:
    """Where the folders of incipits lie: the source, and those of its folders that are named as the releases are."""
    inner = sorted(
        path
        for path in source.iterdir()
        if path.is_dir() and (path.name == "Corpus" or path.name.startswith("package_"))
    )
    return inner or [source]


def _primus_list(source: Path, split: str) -> Path | None:
    names = ("validation.txt", "val.txt") if split == "validation" else (f"{split}.txt",)
    places = [folder / name for folder in (source, source / "Data") for name in names]
    return next((path for path in places if path.is_file()), None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: {error}") from None


def _example(row: Labelled, prefix: str, suffix: str, groups: dict[str, str]) -> Example:
    metadata = {"fragment": row.fragment, "distorted": row.distorted}
    return Example(row.image, prefix, suffix, metadata=metadata, groups=groups)
