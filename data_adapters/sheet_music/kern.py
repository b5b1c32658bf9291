"""Humdrum **kern: reading it, and the one normal form in which pgtune learns and writes it.

The normal form of a piece, or of a cut of some measures, is what a reader can see of the notes, and nothing else:

- One column for each staff, lowest staff first, separated by tabs; one line for each moment; no comment, no blank line.
  Spines other than **kern (lyrics, dynamics, fingering) are left out, and lines that then say nothing.
- The header: ``**kern``, then one line each for clefs (``*clefG2``), key signatures (``*k[b-]``) and meters
  (``*M3/4``), as they stand where the cut begins. Changes inside stand where they happen, in the same order, and only
  where something changes. Key names, ``*met`` symbols, tempo, instruments, staff numbers, ottavas, pedals and ``*>``
  labels are left out.
- Notes: duration with dots, pitch, accidental (``n`` is not written, pitches are absolute), ``q`` for a grace note
  (with a duration, 8 where the source has none), ``yy`` for what is not printed, and the tie ``[ _ ]``: ``8.f#[``.
  Notes of a chord are sorted upwards, each with its duration. Beams, stems, slurs, articulation, ornaments, fermatas,
  editorial marks and a rest's height are left out.
- Bar lines: ``=``, ``=||``, ``==`` (final), ``=!|:``, ``=:|!``, ``=:|!|:``, without numbers. The one before the first
  measure is left out unless it begins a repeat; two with nothing between are one; invisible ones (``=-``) are none.
- Voices of a staff: ``*^`` splits its column and ``*v`` joins it; each staff is joined on a line of its own. Where a
  cut falls while a staff is split, the staff is joined at the cut's end and split again at the start of the next.
- The last line is ``*-``; no line break follows it.

Format: the Humdrum Toolkit's Reference Guide and its **kern representation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pgtune.data_adapters.sheet_music.kern_tokens import (
    MAX_STAVES,
    MAX_VOICES,
    KernError,
    UnreadKern,
    bar_line,
    bar_number,
    check_interpretation,
    columns_after,
    measure_length,
    normal_token,
)

__all__ = ["KernError", "Line", "Measure", "Piece", "State", "normal_form", "parse_kern"]

Cells = tuple[tuple[str, ...], ...]
"""The tokens of a line: for each staff, lowest first, those of its voices."""

_HEADER = ("clef", "k[", "M")
_EXCLUSIVE = re.compile(r"\*\*(e|be)?kern(_\d+(\.\d+)*)?")


@dataclass(frozen=True)
class Line:
    """A line of the kern spines: ``kind`` is data, bar, change (of clef, key, meter), split or join.

    ``number`` is the line of the source, from 1.
    """

    kind: str
    cells: Cells
    number: int


@dataclass
class State:
    """What holds at a place: for each staff its clef, key signature and meter, and how many voices are open."""

    clef: list[str]
    key: list[str]
    meter: list[str]
    voices: list[int]

    def copy(self) -> State:
        return State(list(self.clef), list(self.key), list(self.meter), list(self.voices))

    def table(self, token: str) -> list[str]:
        return self.clef if token.startswith("*clef") else self.key if token.startswith("*k[") else self.meter


@dataclass
class Measure:
    """The lines of a measure, its closing bar line (may lack at the end), and what holds at its beginning."""

    start: State
    lines: list[Line] = field(default_factory=list)
    opening: str = ""  # the repeat sign in front of the first measure
    number: str = ""

    @property
    def closing(self) -> str:
        """The closing bar line in the normal form; "" where the source ends without one."""
        return self.lines[-1].cells[0][0] if self.lines and self.lines[-1].kind == "bar" else ""


@dataclass
class Piece:
    """A score: how many staves, and its measures."""

    staves: int
    measures: list[Measure]

    def cut(self, start: int, stop: int, clean: bool = True) -> str:
        """Measures ``start`` (from 0) up to ``stop`` (exclusive) as a piece of its own.

        ``clean``: in the normal form. Otherwise notes keep the marks of the source (beams, slurs, articulation), for
        engraving. Raises IndexError outside the piece.
        """
        if not 0 <= start < stop <= len(self.measures):
            raise IndexError(f"measures {start}..{stop} of {len(self.measures)}")
        measures = self.measures[start:stop]
        state = measures[0].start.copy()
        lines = [line for measure in measures for line in measure.lines]
        # Changes in front of the first note belong into the header.
        ahead = next((i for i, line in enumerate(lines) if line.kind != "change"), len(lines))
        for line in lines[:ahead]:
            _apply_change(state, line)
        rows = ["\t".join(["**kern"] * self.staves)]
        tables = (state.clef, state.key, state.meter)
        rows += ["\t".join(token or "*" for token in table) for table in tables if any(table)]
        if start == 0 and measures[0].opening:
            rows.append("\t".join([measures[0].opening] * self.staves))
        rows += _splits(state.voices)
        voices = list(state.voices)
        for line in lines[ahead:]:
            rows += _written(line, clean)
            if line.kind in ("split", "join"):
                voices = [_after(cell) for cell in line.cells]
        return "\n".join([*rows, *_joins(voices), "\t".join(["*-"] * self.staves)])


def parse_kern(text: str) -> Piece:
    """The kern spines of a Humdrum text.

    Raises KernError, which names the line: a line with another number of columns than spines are open, a wrong split
    or join, a token that is no note, text that ends without ``*-``; and UnreadKern for what this reader does not take:
    no **kern spine, kern spines that are exchanged, added or end early, and a second piece in the file.
    """
    spines: list[int] = []  # for each open column the spine it came from, -1 for those that are not **kern
    staves = 0
    piece: Piece | None = None
    measure: Measure | None = None
    changes: dict[str, dict[tuple[int, int], str]] = {}
    state = State([], [], [], [])
    for number, raw in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff").split("\n"), 1):
        if not raw.strip() or raw.startswith("!"):
            continue
        tokens = raw.split("\t")
        if not spines:
            if piece is not None:
                raise UnreadKern(f"line {number}: {raw[:40]!r} after the spines ended; one piece a file is read")
            if not all(token.startswith("**") for token in tokens):
                raise KernError(f"line {number}: {raw[:40]!r}, expected the spines' names first, such as **kern")
            kern = [i for i, token in enumerate(tokens) if _EXCLUSIVE.fullmatch(token)]
            if not kern:
                raise UnreadKern(f"line {number}: there is no **kern spine, only {', '.join(sorted(set(tokens)))}")
            if len(kern) > MAX_STAVES:
                raise UnreadKern(f"line {number}: {len(kern)} staves, at most {MAX_STAVES} are read")
            spines = [kern.index(i) if i in kern else -1 - i for i in range(len(tokens))]
            staves = len(kern)
            state = State([""] * staves, [""] * staves, [""] * staves, [1] * staves)
            measure = Measure(state.copy())
            piece = Piece(staves, [measure])
            continue
        if len(tokens) != len(spines):
            raise KernError(f"line {number}: {len(tokens)} columns, expected {len(spines)}: {raw[:60]!r}")
        if "" in tokens:
            raise KernError(f"line {number}: column {tokens.index('') + 1} is empty, expected a token or '.'")
        assert piece is not None
        assert measure is not None
        cells = _by_staff(tokens, spines, staves)
        flat = [token for cell in cells for token in cell]
        if raw.startswith("*"):
            if not all(token.startswith("*") for token in tokens):
                raise KernError(f"line {number}: interpretations and other tokens are mixed: {raw[:60]!r}")
            after = columns_after(tokens, spines, number)
            if max(map(after.count, range(staves))) > MAX_VOICES:
                raise UnreadKern(f"line {number}: more than {MAX_VOICES} voices in one staff, which is not read")
            for token in flat:
                try:
                    check_interpretation(token)
                except KernError as error:
                    raise type(error)(f"line {number}: {error}") from None
            if any(token in ("*^", "*v", "*-") for token in flat):
                _flush(measure, changes, state, number)
                if "*-" in flat and not all(token == "*-" for token in flat):
                    raise UnreadKern(f"line {number}: one kern spine ends before the others, which is not read")
                if "*-" not in flat:
                    _manipulate(measure, cells, number)
                    state.voices = [_after(cell) for cell in cells]
            else:
                _note_changes(changes, cells)
            spines = after
        elif raw.startswith("="):
            if not all(token.startswith("=") for token in flat):
                raise KernError(f"line {number}: a bar line is missing in some columns: {raw[:60]!r}")
            bar = bar_line(flat)
            if bar is None:
                continue
            if measure is piece.measures[0] and not any(line.kind == "data" for line in measure.lines):
                measure.opening = bar if bar.endswith(":") else ""
                measure.number = bar_number(flat)
                continue
            if measure is not piece.measures[0] and not any(line.kind == "data" for line in measure.lines):
                _merge_bar(piece.measures[-2], bar)  # two bar lines with nothing between are one
                continue
            _flush(measure, changes, state, number)
            measure.lines.append(Line("bar", tuple((bar,) * len(cell) for cell in cells), number))
            measure = Measure(state.copy(), number=bar_number(flat))
            piece.measures.append(measure)
        else:
            if all(token == "." for token in flat):
                continue
            _flush(measure, changes, state, number)
            for token in flat:
                try:
                    normal_token(token)
                except KernError as error:
                    raise KernError(f"line {number}: {error}") from None
            measure.lines.append(Line("data", cells, number))
    if piece is None:
        raise KernError("there is no **kern in it: the text is empty or holds only comments")
    if spines:
        raise KernError(f"line {text.count(chr(10)) + 1}: the text ends, but {len(spines)} spines are open; cut off?")
    if not any(line.kind == "data" for line in piece.measures[-1].lines):
        piece.measures.pop()  # what follows the last bar line
    if not piece.measures:
        raise KernError("there is no note in it")
    return piece


def normal_form(text: str) -> str:
    """A whole Humdrum text in the normal form (see above). Raises KernError."""
    piece = parse_kern(text)
    return piece.cut(0, len(piece.measures))


def _by_staff(tokens: Sequence[str], spines: Sequence[int], staves: int) -> Cells:
    return tuple(
        tuple(token for token, spine in zip(tokens, spines, strict=True) if spine == staff) for staff in range(staves)
    )


def _after(cell: Sequence[str]) -> int:
    """How many voices a staff has after a line of splits and joins."""
    return len(columns_after(cell, [0] * len(cell), 0))


def _manipulate(measure: Measure, cells: Cells, number: int) -> None:
    """Adds splits and joins: a staff with a join on a line of its own, all mere splits together."""
    now = [len(cell) for cell in cells]
    for staff, cell in enumerate(cells):
        if "*v" in cell:
            row = tuple(cell if other == staff else ("*",) * now[other] for other in range(len(cells)))
            measure.lines.append(Line("join", row, number))
            now[staff] = _after(cell)
    splits = tuple(("*",) * now[s] if "*v" in cell else cell for s, cell in enumerate(cells))
    if any("*^" in cell for cell in splits):
        row = tuple(tuple(token if token == "*^" else "*" for token in cell) for cell in splits)
        measure.lines.append(Line("split", row, number))


def _note_changes(changes: dict[str, dict[tuple[int, int], str]], cells: Cells) -> None:
    for staff, cell in enumerate(cells):
        for token in cell:
            kind = next((kind for kind in _HEADER if token[1:].startswith(kind)), None)
            if kind is None or (kind == "M" and measure_length(token) is None):
                continue
            changes.setdefault(kind, {})[staff, 0] = token


def _flush(measure: Measure, changes: dict[str, dict[tuple[int, int], str]], state: State, number: int) -> None:
    """Writes the changes since the last line, as far as they change anything."""
    for kind in _HEADER:
        tokens = changes.get(kind, {})
        row = []
        for staff, voices in enumerate(state.voices):
            token = tokens.get((staff, 0), "*")
            row.append((token,) * voices if token != "*" and state.table(token)[staff] != token else ("*",) * voices)
        line = Line("change", tuple(row), number)
        if any(cell[0] != "*" for cell in row):
            _apply_change(state, line)
            measure.lines.append(line)
    changes.clear()


def _merge_bar(measure: Measure, bar: str) -> None:
    last = measure.lines[-1]
    if measure.closing == "=":
        measure.lines[-1] = Line("bar", tuple((bar,) * len(cell) for cell in last.cells), last.number)


def _apply_change(state: State, line: Line) -> None:
    for staff, cell in enumerate(line.cells):
        if cell[0] != "*":
            state.table(cell[0])[staff] = cell[0]


def _written(line: Line, clean: bool) -> list[str]:
    tokens = [token for cell in line.cells for token in cell]
    if line.kind == "data":
        tokens = [normal_token(token) if clean else _drawn(token) for token in tokens]
    return ["\t".join(tokens)]


def _drawn(token: str) -> str:
    """A token with its marks, its grace notes with a duration: without one they are drawn without stem and flag."""
    parts = token.split(" ")
    return " ".join(f"8{part}" if "q" in part and not re.search(r"\d", part) else part for part in parts)


def _splits(voices: Sequence[int]) -> list[str]:
    """Lines that split each staff, one voice at first, into so many."""
    rows = []
    now = [1] * len(voices)
    while now != list(voices):
        cells = [["*"] * (n - 1) + ["*^" if n < wanted else "*"] for n, wanted in zip(now, voices, strict=True)]
        rows.append("\t".join(token for cell in cells for token in cell))
        now = [n + (n < wanted) for n, wanted in zip(now, voices, strict=True)]
    return rows


def _joins(voices: Sequence[int]) -> list[str]:
    rows = []
    now = list(voices)
    for staff, count in enumerate(voices):
        if count > 1:
            cells = [["*v" if other == staff else "*"] * n for other, n in enumerate(now)]
            rows.append("\t".join(token for cell in cells for token in cell))
            now[staff] = 1
    return rows
