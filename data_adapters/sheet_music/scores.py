"""Your own scores: kern, MusicXML, MEI and ABC files, engraved and cut into systems.

What the model learns is kern in the normal form of `pgtune.data_adapters.sheet_music.kern`. The picture is engraved
from the very kern that its suffix is made of, so that both hold the same measures; beams, slurs and articulation are
drawn though they are not in the suffix. Words are not drawn: pictures would depend on the fonts of the machine.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pgtune.data_adapters.layout import present
from pgtune.data_adapters.sheet_music.engraving import FONTS, EngravedKern
from pgtune.data_adapters.sheet_music.kern import Piece, parse_kern
from pgtune.data_adapters.sheet_music.kern_check import check_kern, check_times
from pgtune.data_adapters.sheet_music.kern_export import EXPORTS
from pgtune.data_adapters.sheet_music.kern_tokens import KernError, UnreadKern
from pgtune.data_adapters.sheet_music.score_files import ENDINGS, NoScore, read_scores
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Row, Skip

__all__ = ["ScoresAdapter", "System"]

_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev", "validate"),
    "test": ("test", "testing"),
}
# What marks a movement in a file's name: sonata3-mvt2, op18_mov-1
_MOVEMENT = re.compile(r"[ _.-]*(movement|mvmt|mvt|mov)[ _.-]*\d+$", re.IGNORECASE)


@dataclass(frozen=True)
class System:
    """Some measures of a score: what is drawn, what is learnt, and where they come from."""

    drawn: str
    suffix: str
    file: str
    tune: int
    first: int
    last: int
    work: str

    @property
    def place(self) -> str:
        """For messages and predictions: ``songs/linden.mxl, measures 5 to 8``."""
        tune = f", tune {self.tune}" if self.tune else ""
        return f"{self.file}{tune}, measures {self.first} to {self.last}"


@dataclass(frozen=True)
class ScoresAdapter:
    """A folder of scores (or one file), engraved with verovio and cut into systems of some measures.

    The group `work` is the file without its ending and without a movement's mark (`-mvt2`), of ABC files each tune.
    Folders train, validation (val, valid, dev) and test are splits; without them use data.split_by: work.

    Pitches are those that sound: a transposing instrument is drawn, and read, at concert pitch.

    Args:
        measures: how many measures a picture has; the last of a piece may have fewer.
        prefix: the prompt.
        work: `file` or `folder`: what the group `work` is; `folder` where a folder holds the movements of one work.
        font: one of verovio's music fonts, or a list of them, of which each system is given one.
        staff_height: height of a staff in pixels.
        page_width: None draws each system on one line, a number of pixels breaks it into lines of that width.
        cache: a folder where MusicXML, MEI and ABC are kept as kern, so that the next start is quick; None keeps none.

    Raises:
        AdapterError: for values outside these.
    """

    measures: int = 4
    prefix: str = "transcribe kern"
    work: str = "file"
    font: str | Sequence[str] = "Leipzig"
    staff_height: int = 36
    page_width: int | None = None
    cache: str | None = None

    exports: ClassVar[Mapping[str, Callable[[Sequence[Mapping[str, Any]], Path], dict[str, Any]]]] = EXPORTS

    def __post_init__(self) -> None:
        if self.measures < 1:
            raise AdapterError(f"data.adapter_args.measures: {self.measures!r}, expected 1 or more")
        if not 8 <= self.staff_height <= 400:
            raise AdapterError(f"data.adapter_args.staff_height: {self.staff_height!r}, expected 8 to 400 pixels")
        if self.page_width is not None and not 200 <= self.page_width <= 10_000:
            raise AdapterError(f"data.adapter_args.page_width: {self.page_width!r}, expected 200 to 10000, or null")
        if self.work not in ("file", "folder"):
            raise AdapterError(f"data.adapter_args.work: {self.work!r}, expected 'file' or 'folder'")
        for font in self._fonts() or [""]:
            if font not in FONTS:
                raise AdapterError(f"data.adapter_args.font: {font!r}, expected {', '.join(FONTS)}, or a list of these")

    def _fonts(self) -> list[str]:
        return [self.font] if isinstance(self.font, str) else list(self.font)

    def splits(self, source: Path) -> list[str]:
        """Which of train, validation and test the folder holds as folders; ["all"] where it holds none."""
        return [split for split in _SPLITS if _split_folder(source, split) is not None] or ["all"]

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """The systems of every score below the source, in the order of the files' names."""
        present(source)
        root = source
        if split is not None:
            folder = _split_folder(source, split)
            if folder is None:
                held = ", ".join(self.splits(source)).replace("all", "no folder train, validation or test")
                raise DataError(f"{source}: there is no split {split!r} in it; it holds {held}; see data.split_by")
            root = folder
        found = False
        for path in _files(root):
            found = True
            name = path.relative_to(source).as_posix() if path != source else path.name
            yield from self._systems(path, name)
        if not found:
            raise DataError(f"{root}: no score in it, expected files named {', '.join(ENDINGS)}")

    def _systems(self, path: Path, name: str) -> Iterator[Row]:
        try:
            scores = read_scores(path, Path(self.cache) if self.cache else None)
        except NoScore as error:
            yield Row(Skip(str(error)), name)
            return
        except DataError as error:
            yield Row(DataError(str(error)), name)
            return
        for number, score in enumerate(scores, 1):
            tune = number if len(scores) > 1 else 0
            place = f"{name}, tune {tune}" if tune else name
            try:
                piece = parse_kern(score.text)
            except UnreadKern as error:
                yield Row(Skip(str(error)), place)
                continue
            except KernError as error:
                yield Row(DataError(str(error)), place)
                continue
            if score.measures not in (None, len(piece.measures)):
                yield Row(Skip(f"{score.measures} measures, but {len(piece.measures)} in its kern"), place)
                continue
            adds_up = _adds_up(piece)
            for start in range(0, len(piece.measures), self.measures):
                yield self._system(piece, start, name, tune, adds_up)

    def _system(self, piece: Piece, start: int, name: str, tune: int, adds_up: bool) -> Row:
        stop = min(start + self.measures, len(piece.measures))
        stem = _MOVEMENT.sub("", os.path.splitext(name)[0])
        folder = name.rpartition("/")[0]
        work = folder or stem if self.work == "folder" else f"{stem}#{tune}" if tune else stem
        system = System(
            piece.cut(start, stop, clean=False), piece.cut(start, stop), name, tune, start + 1, stop, work
        )
        if not adds_up and (verdict := check_kern(system.suffix)).state == "invalid":
            return Row(Skip(f"rhythm that does not add up: {verdict.reasons[0]}"), system.place)
        return Row(system, system.place)

    def __call__(self, row: System) -> Example:
        """The Example of a system."""
        fonts = self._fonts()
        font = fonts[zlib.crc32(row.place.encode()) % len(fonts)]
        picture = EngravedKern(row.drawn, font, self.staff_height, self.page_width, row.place)
        metadata = {"file": row.file, "measures": [row.first, row.last]} | ({"tune": row.tune} if row.tune else {})
        return Example(picture, self.prefix, row.suffix, metadata=metadata, groups={"work": row.work})


def _adds_up(piece: Piece) -> bool:
    """Whether all measures last equally long in all voices; then those of every cut do."""
    try:
        check_times(piece)
    except KernError:
        return False
    return True


def _split_folder(source: Path, split: str) -> Path | None:
    names = _SPLITS.get(split, (split,))
    return next((source / name for name in names if (source / name).is_dir()), None)


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(ENDINGS) and not name.startswith("."):
                yield Path(folder, name)
