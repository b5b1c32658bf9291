"""What lies in a folder: its files, and the data sets among them that `pgtune init` can make a recipe for."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

__all__ = ["Found", "Listing", "discover", "json_file", "json_of", "list_folder", "start_of"]

PICTURES = frozenset({".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
BOOKKEEPING = frozenset(
    {"", ".cfg", ".html", ".ini", ".log", ".md", ".md5", ".pdf", ".sha256", ".txt", ".yaml", ".yml"}
)
_LIMIT = 50_000
_LARGEST_JSON = 200_000_000


@dataclass(frozen=True)
class Found:
    """A data set that can be trained on.

    ``what``: in words, with counts. ``adapter``, ``args`` and ``source``: who reads it, and from where; ``split_by``:
    what its examples belong to, where it has no splits of its own. ``metrics``, ``max_new_tokens`` and ``model`` fit
    its answers and pictures. ``notes``: what a person should look at. ``claims``: the endings of the files in it.
    """

    kind: str
    what: str
    adapter: str
    source: Path
    args: dict[str, Any] = field(default_factory=dict)
    split_by: str = "image"
    metrics: tuple[str, ...] = ("exact_match",)
    max_new_tokens: int = 32
    model: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    claims: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Listing:
    """The files below a folder, relative to it, sorted, without hidden ones; ``cut``: more are there than were read.

    ``odd``: what cannot be read as a file: broken links, pipes, and files that may not be opened.
    """

    root: Path
    files: tuple[Path, ...]
    cut: bool
    odd: tuple[Path, ...] = ()

    @cached_property
    def endings(self) -> Counter[str]:
        """How many files have each ending, in lower case."""
        return Counter(path.suffix.lower() for path in self.files)

    def having(self, endings: Iterable[str]) -> list[Path]:
        """The files with one of these endings."""
        wanted = set(endings)
        return [path for path in self.files if path.suffix.lower() in wanted]

    def named(self, pattern: str) -> list[Path]:
        """The files whose path fits a regular expression, whatever its case."""
        return [path for path in self.files if re.fullmatch(pattern, path.as_posix(), re.IGNORECASE)]

    def full(self, path: Path) -> Path:
        """The path as it can be opened."""
        return self.root / path

    @cached_property
    def pictures(self) -> list[Path]:
        """Files that are called like pictures."""
        return self.having(PICTURES)


def list_folder(root: Path) -> Listing:
    """Read the names below a folder, at most 50,000."""
    files: list[Path] = []
    odd: list[Path] = []
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in sorted(names):
            if not name.startswith("."):
                path = Path(place, name)
                readable = path.is_file() and os.access(path, os.R_OK)
                (files if readable else odd).append(path.relative_to(root))
        if len(files) > _LIMIT:
            return Listing(root, tuple(files[:_LIMIT]), True, tuple(odd))
    return Listing(root, tuple(files), False, tuple(odd))


def start_of(path: Path, length: int) -> bytes:
    """The first bytes of a file."""
    with open(path, "rb") as file:
        return file.read(length)


def json_of(content: bytes) -> Any:
    """JSON, or None for what is not."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):  # then it is not what its name says
        return None


def json_file(path: Path) -> Any:
    """The content of a JSON file, or None where it is none, or larger than 200 MB."""
    return json_of(path.read_bytes()) if path.stat().st_size <= _LARGEST_JSON else None


Kind = Callable[[Listing], Found | None]


def discover(listing: Listing, kinds: Sequence[Kind]) -> tuple[list[Found], list[Path]]:
    """The data sets in a folder, in the order of ``kinds``, and the files that belong to none of them."""
    found = [one for kind in kinds if (one := kind(listing)) is not None]
    claimed = frozenset[str]().union(*(one.claims for one in found))
    left = [path for path in listing.files if path.suffix.lower() not in claimed | BOOKKEEPING]
    return found, [*left, *listing.odd]
