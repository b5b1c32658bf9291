"""Rows to Examples: every row is checked before anything large is loaded, and a bad one is named by file and number.

What is read lies in a temporary file (`pgtune.spool`), not in memory, of which a row takes 16 bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, overload

import numpy as np

from pgtune.errors import DataError
from pgtune.example import DataAdapter, Example, ImageSource, Skip
from pgtune.groups import digest, picture_identity
from pgtune.left_out import NO_REASON, LeftOut, described
from pgtune.reading import (
    REFUSED_TOKENS,
    Made,
    Part,
    Raw,
    RowReader,
    Taken,
    check_text,
    kept,
    parts_of,
    raw_rows,
    taken,
)
from pgtune.recipe import Source
from pgtune.sources import ALL_SPLITS, source_path
from pgtune.spool import Spool
from pgtune.verification import Pictures

__all__ = ["ALL_SPLITS", "REFUSED_TOKENS", "Examples", "Verify", "check_share", "check_text", "open_source"]

Verify = Literal["auto", "files", "full", "header", "none"]
"""Which pictures are looked at; ``files``: as ``auto``, but for those that a callable makes."""

RowMap = Callable[[RowReader, Iterable[Raw]], Iterator[tuple[Raw, Made]]]
"""Applies a reader to rows, in their order; `in_turn` does, and so may several processes."""

_SHOWN = 5


class Examples(Sequence[Example]):
    """The examples of one source, in its order; each knows the row it came from.

    ``name`` is the file (or source) for messages, ``skipped`` how many rows the data adapter passed over, ``left_out``
    says which and why, and which were bad. Slices and `select` are views: nothing is copied.
    """

    def __init__(self, name: str, examples: Sequence[Example] = (), rows: Sequence[int] = ()) -> None:
        assert len(examples) == len(rows), "each example has its row"
        self.name = name
        self.left_out = LeftOut(name)
        self._spool = Spool()
        self._parts: list[tuple[int, str]] = [(0, name)]  # the first record of each, and its name
        self._numbered = False  # a place is not enough to tell two rows apart: the number stands behind it
        self._index: range | array[int] = range(len(rows))
        for example, row in zip(examples, rows, strict=True):
            self._spool.append(taken(example, row).record)
        self._spool.flush()

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> Examples: ...

    def __getitem__(self, index: int | slice) -> Example | Examples:
        if isinstance(index, slice):
            return self._view(self._index[index])
        return self.at(index)[1]

    def select(self, places: Iterable[int]) -> Examples:
        """Those of these examples, in this order."""
        return self._view(array("q", (self._index[place] for place in places)))

    def _view(self, index: range | array[int]) -> Examples:
        view = Examples.__new__(Examples)
        view.name, view.left_out, view._spool, view._parts = self.name, self.left_out, self._spool, self._parts
        view._numbered, view._index = self._numbered, index
        return view

    @property
    def skipped(self) -> int:
        """How many rows the data adapter passed over."""
        return self.left_out.skipped.count

    def at(self, index: int) -> tuple[str, Example]:
        """The place of an example, and the example."""
        record = self._index[index]
        row, place, example = kept(self._spool[record])
        return self._named(record, row, place), example

    def where(self, index: int) -> str:
        """The place of an example, for messages and editors: ``train.jsonl:12``, or as the data adapter calls it.

        No two examples of a source have the same one.
        """
        record = self._index[index]
        row, place = pickle.loads(self._spool[record])  # the first of two pickles
        return self._named(record, row, place)

    def row(self, index: int) -> tuple[str, int]:
        """The name of the part (file) that an example comes from, and the number of its row in it, from 1."""
        record = self._index[index]
        number: int = pickle.loads(self._spool[record])[0]
        return self._part(record), number

    def _part(self, record: int) -> str:
        return self._parts[bisect_right(self._parts, record, key=lambda part: part[0]) - 1][1]

    def _named(self, record: int, row: int, place: str) -> str:
        if not place:
            return f"{self._part(record)}:{row}"
        if not self._numbered:
            return place
        return f"{place} (row {row})" if len(self._parts) == 1 else f"{place} ({self._part(record)}, row {row})"

    def add_bad(self, index: int, reason: str) -> None:
        """Count an example among the bad rows that are left out."""
        file, row = self.row(index)
        where = self.where(index)
        place = {} if where == f"{file}:{row}" else {"place": where}
        self.left_out.bad.add({"file": file, "row": row, **place, "reason": reason})

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over texts, references and pictures (of a file its name and size): has the data changed?"""
        digest = hashlib.sha256()
        for example in self:
            pictures = [_identity(image) for image in example.images]
            fields = [example.prefix, example.suffix, list(example.references), pictures]
            digest.update(json.dumps(fields).encode() + b"\n")
        return digest.hexdigest()


def texts_fingerprint(examples: Iterable[Example], *, references: bool = True) -> str:
    """SHA-256 of prefixes, suffixes and references in their order: not of pictures, so that one may be mended."""
    digest = hashlib.sha256()
    for example in examples:
        others = example.references if references else ()
        digest.update(json.dumps([example.prefix, example.suffix, *others]).encode() + b"\n")
    return digest.hexdigest()


def in_turn(read: RowReader, rows: Iterable[Raw]) -> Iterator[tuple[Raw, Made]]:
    """One row after the other, none before it is asked for."""
    for raw in rows:
        yield raw, read(raw)


def open_source(
    source: Source,
    adapter: DataAdapter,
    *,
    root: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    verify: Verify = "auto",
    max_bad_share: float = 0.0,
    row_map: RowMap = in_turn,
) -> Examples:
    """Read and check a source: every row through the data adapter, every text, and pictures.

    A relative image path starts at the folder of the data file (of the source, for a data adapter that has ``rows``)
    and becomes absolute. One that leaves that folder is refused, unless it ends below ``root``; this looks at the
    path's own ``..``, symbolic links are followed. ``limit`` stops after so many examples. ``verify`` says which
    pictures are looked at (`pgtune.verification`). Bad rows are left out and listed in the result's ``left_out`` where
    they are up to ``max_bad_share`` of the rows that are not skipped; under a ``limit`` that is reached, where
    ``max_bad_share`` is above 0 at all: the share is then known for a part of the rows only.

    Raises DataError with the first five bad rows and the number of all, and AdapterError where the data adapter fails
    or gives something that is not an Example.
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit = {limit}: expected 1 or more examples")
    folders = []
    if root is not None:
        if not os.path.isdir(root):
            raise DataError(f"data.root = {os.fspath(root)!r}: no such folder")
        folders.append(os.path.abspath(root))
    # Where bad rows are left out, no picture is left unseen, to be met in the middle of the training.
    opening = _Opening(source, parts_of(source, adapter), verify, every_header=max_bad_share > 0)
    complete = opening.read(row_map, adapter, folders, limit, at_once=limit is not None and max_bad_share > 0)
    check_share(opening.left_out, len(opening.examples), max_bad_share, complete=complete)
    examples = opening.without_bad_pictures()
    check_share(opening.left_out, len(examples), max_bad_share, complete=complete)
    if not examples:
        raise DataError(opening.nothing())
    return examples


def check_share(left_out: LeftOut, good: int, allowed: float, *, complete: bool) -> None:
    """Refuse a source of which too many rows are bad.

    `good`: the rows that gave an example. `complete`: these were all the rows; a share of some of them is not judged.
    """
    bad, name = left_out.bad, left_out.name
    total = good + bad.count
    if bad.count <= allowed * total or (allowed > 0 and not complete):
        return
    lines = [described(row) for row in bad.rows[:_SHOWN]]
    if allowed > 0:
        share = f"{100 * bad.count / total:.3g} %, data.max_bad_share allows {100 * allowed:g} %"
        lines.insert(0, f"{name}: {bad.count} of {total} rows are bad ({share})")
    elif bad.count > 1:
        lines.insert(0, f"{name}: {bad.count} bad rows")
    if bad.count > _SHOWN:
        lines.append(f"... and {bad.count - _SHOWN} more")
    raise DataError("\n  ".join(lines))


class _Opening:
    """A source while it is read."""

    def __init__(self, source: Source, parts: list[Part], verify: Verify, *, every_header: bool) -> None:
        self.source = source
        self.parts = parts
        self.examples = Examples(parts[0].name if len(parts) == 1 else source.source)
        self.left_out = self.examples.left_out
        self.pictures = Pictures(verify, every_header=every_header)

    def read(
        self, row_map: RowMap, adapter: DataAdapter, folders: list[str], limit: int | None, *, at_once: bool
    ) -> bool:
        """All rows, or up to `limit` examples; whether there was an end to them.

        `at_once`: pictures are looked at row by row, so that `limit` counts those that open.
        """
        reader = RowReader(adapter, [(part.name, part.folder) for part in self.parts], folders)
        places = array("Q")
        firsts = self.examples._parts = []
        for raw, made in row_map(reader, raw_rows(self.parts)):
            if at_once and isinstance(made, Taken) and (problem := self.pictures.problem_of(made.example())):
                self.left_out.bad.add(self._row(raw, f"image {problem}"))
            elif isinstance(made, Taken):
                number = len(self.examples._spool)
                if not firsts or firsts[-1][1] != self.parts[raw.part].name:
                    firsts.append((number, self.parts[raw.part].name))
                self.examples._spool.append(made.record)
                if not at_once:
                    self.pictures.add(number, made.pictures)
                if raw.place:
                    places.append(digest(raw.place))
                if number + 1 == limit:
                    break
            elif isinstance(made, Skip):
                self.left_out.skipped.add(self._row(raw, made.reason or NO_REASON))
            elif isinstance(made, DataError):
                self.left_out.bad.add(self._row(raw, str(made)))
            else:
                raise made
        self.examples._spool.flush()
        self.examples._index = range(len(self.examples._spool))
        self.examples._numbered = len(np.unique(np.asarray(places))) < len(places)
        return len(self.examples) != limit

    def _row(self, raw: Raw, reason: str) -> dict[str, Any]:
        place = {"place": raw.place} if raw.place else {}
        return {"file": self.parts[raw.part].name, "row": raw.number, **place, "reason": reason}

    def without_bad_pictures(self) -> Examples:
        """The examples whose pictures open, as far as they are looked at."""
        examples = self.examples
        problems = self.pictures.problems(examples)
        for record, problem in problems.items():
            examples.add_bad(record, f"image {problem}")
        if problems:
            self.examples = examples.select(record for record in range(len(examples)) if record not in problems)
        return self.examples

    def nothing(self) -> str:
        """What to say where no example was found."""
        left_out = self.left_out
        if left_out:
            why = [f"the data adapter skipped all {left_out.skipped.count} rows"] if left_out.skipped.count else []
            why += [f"{left_out.bad.count} bad rows"] if left_out.bad.count else []
            reasons = left_out.skipped.reasons.most_common(4)
            named = ", ".join(f"{count} {reason}" for reason, count in reasons if reason != NO_REASON)
            return f"{left_out.name}: {' and '.join(why)}" + (f" ({named})" if named else "")
        there = source_path(self.source.source).exists()
        return f"{left_out.name}: no rows in it" + ("" if there else "; there is no such file or folder")


def _identity(image: ImageSource) -> list[Any]:
    if isinstance(image, str):
        return [os.path.basename(image), os.path.getsize(image) if os.path.isfile(image) else None]
    return [picture_identity(image)]
