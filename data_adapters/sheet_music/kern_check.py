"""Is a predicted **kern text valid, and can it be mended without guessing?

Valid means: every line has as many columns as spines are open, every token is a note, rest, chord, null, bar line or
interpretation that the reader knows, splits and joins fit, and in each measure all staves and voices last equally long,
with each note at the moment where the one before it ends. A measure that is shorter or longer than its meter says is
valid (upbeats and repeats make such measures) and is reported beside.

What is mended, since only one reading is possible:

- spaces, code fences and empty lines, comments, ``**ekern`` and ``**bekern`` with their separators ``·`` and ``@``;
- empty columns: a tab too many, or a null token that was left out;
- a line of equal tokens (bar line, ``*-``, header, ``**kern``) that is repeated too often or not often enough;
- a missing first line ``**kern``, where clefs follow; text behind ``*-``;
- a data line with the wrong number of columns, where it is known from the time which voices have to begin a note, and
  it holds exactly that many: the null tokens are placed anew;
- a missing end: columns are joined and ``*-`` is written. What follows the last bar line is kept, and given one, only
  where the text ends with a line break and the measure is as long as its meter says; else the text was cut off, and
  what may be half a token is left out.

All else is invalid, and nothing is guessed. The rules are ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from pgtune.data_adapters.sheet_music.kern import Line, Piece, parse_kern
from pgtune.data_adapters.sheet_music.kern_tokens import (
    KernError,
    columns_after,
    duration,
    measure_length,
    normal_token,
)

__all__ = ["Verdict", "check_kern", "check_times", "mend_kern"]

MAX_LETTERS = 50_000
"""A longer text, a hundred times that of a system, is no prediction to be read: music21 takes minutes for it."""


@dataclass(frozen=True)
class Verdict:
    """What became of a text.

    ``state``: valid, mended or invalid; ``text``: the kern to go on with ("" if invalid); ``reasons``: what was mended,
    or why it is invalid; ``irregular``: measures that do not fit their meter (counted from 1).
    """

    state: str
    text: str
    reasons: tuple[str, ...] = ()
    irregular: tuple[str, ...] = ()


class _Clock:
    """When each voice is free for its next note, in quarter notes since the measure began."""

    def __init__(self, columns: int) -> None:
        self.free = [Fraction(0)] * columns

    @property
    def now(self) -> Fraction:
        return min(self.free)

    def data(self, tokens: Sequence[str]) -> None:
        """Goes on by a line of notes; raises KernError where it does not fit the notes before."""
        lengths = [None if token == "." else duration(token) for token in tokens]
        begun = [i for i, length in enumerate(lengths) if length is not None]
        at = self.free[begun[0]] if begun else self.now
        for i, token in enumerate(tokens):
            if token != "." and lengths[i] is None and self.free[i] != at:
                raise KernError(f"grace note {token!r} in column {i + 1}, {_late(at - self.free[i])} its voice")
        if not begun:
            return  # grace notes only: they take no time
        for i in begun:
            several = {duration(note) for note in _spelled(tokens[i])}
            if len(several) > 1:
                raise KernError(f"{tokens[i]!r}: the notes of a chord last differently")
        for i, free in enumerate(self.free):
            if lengths[i] is not None and free != at:
                raise KernError(f"{tokens[i]!r} in column {i + 1} begins {_late(at - free)} its voice")
            if tokens[i] == "." and free <= at:
                raise KernError(f"column {i + 1} is silent: {tokens[i]!r} where a note or rest has to begin")
        for i in begun:
            self.free[i] += lengths[i] or 0

    def interpretation(self, tokens: Sequence[str], spines: Sequence[int]) -> None:
        """Goes on by a line of splits and joins; raises KernError where joined voices are not equally long."""
        after: list[Fraction] = []
        for i, token in enumerate(tokens):
            if token == "*v" and i and tokens[i - 1] == "*v" and spines[i - 1] == spines[i]:
                if self.free[i] != after[-1]:
                    raise KernError(f"voices are joined in column {i + 1} that do not end together")
            else:
                after += [self.free[i]] * (2 if token == "*^" else 1)
        self.free = after

    def bar(self) -> Fraction:
        """Ends the measure and gives its length; raises KernError unless all voices end here."""
        if len(set(self.free)) > 1:
            lengths = ", ".join(str(free) for free in self.free)
            raise KernError(f"the voices last differently, in quarters: {lengths}")
        length = self.free[0]
        self.free = [Fraction(0)] * len(self.free)
        return length


def _late(gap: Fraction) -> str:
    return f"{abs(gap)} quarters {'after the end' if gap > 0 else 'before the end'} of the note before in"


def _spelled(token: str) -> list[str]:
    """The notes of a chord, those without a duration given the one before."""
    return str(normal_token(token)).split(" ")


def check_times(piece: Piece) -> list[str]:
    """Raises KernError where staves or voices do not last equally long; the measures that do not fit their meter."""
    irregular = []
    clock = _Clock(sum(piece.measures[0].start.voices))
    for position, measure in enumerate(piece.measures, 1):
        length = None
        for line in measure.lines:
            tokens = [token for cell in line.cells for token in cell]
            try:
                length = _advance(clock, line, tokens)
            except KernError as error:
                raise KernError(f"line {line.number} (measure {position}): {error}") from None
        if length is None:  # no bar line at the end
            try:
                length = clock.bar()
            except KernError as error:
                raise KernError(f"measure {position}: {error}") from None
        meter = next((token for token in _meters(measure.start.meter, measure.lines) if token), "")
        if measure_length(meter) not in (None, length):
            irregular.append(f"measure {position} lasts {length} quarters in {meter[2:]}")
    return irregular


def _advance(clock: _Clock, line: Line, tokens: list[str]) -> Fraction | None:
    if line.kind == "data":
        clock.data(tokens)
    elif line.kind in ("split", "join"):
        clock.interpretation(tokens, [staff for staff, cell in enumerate(line.cells) for _ in cell])
    elif line.kind == "bar":
        return clock.bar()
    return None


def _meters(start: Sequence[str], lines: Sequence[Line]) -> list[str]:
    """The meters of a measure: those that its own first lines set go before those that held before it."""
    changed = []
    for line in lines:
        if line.kind == "data":
            break
        changed += [cell[0] for cell in line.cells if cell[0].startswith("*M")]
    return [*changed, *start]


def check_kern(text: str) -> Verdict:
    """Valid or invalid, as it stands."""
    try:
        piece = parse_kern(text)
        names = text.lstrip("\ufeff").split("\n")[0].split("\t")
        if len(names) != piece.staves:
            raise KernError(f"the first line is {' '.join(names)[:60]!r}, expected **kern in each column")
        irregular = check_times(piece)
    except KernError as error:
        return Verdict("invalid", "", (str(error),))
    return Verdict("valid", text, (), tuple(irregular))


def mend_kern(text: str) -> Verdict:
    """Valid as it stands, mended by the rules above, or invalid."""
    if len(text) > MAX_LETTERS:
        return Verdict("invalid", "", (f"{len(text)} characters, at most {MAX_LETTERS} are read",))
    verdict = check_kern(text)
    if verdict.state == "valid":
        return verdict
    try:
        mended, reasons = _Mender().run(text)
        irregular = check_times(parse_kern(mended))
    except KernError as error:
        return Verdict("invalid", "", (str(error),))
    return Verdict("mended", mended, tuple(reasons), tuple(irregular))


class _Mender:
    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.rows: list[str] = []
        self.spines: list[int] = []
        self.ended = False
        self.complete = False  # the text ends with a line break
        self.meter: Fraction | None = None

    def note(self, reason: str) -> None:
        if reason not in self.reasons:
            self.reasons.append(reason)

    def run(self, text: str) -> tuple[str, list[str]]:
        """The mended text and what was mended. Raises KernError, with the line, where it cannot be."""
        lines = self._clean(text)
        self.complete = text.endswith("\n")
        at_bar: tuple[list[int], int] = ([], 0)
        clock = _Clock(1)
        seen_data = False
        for number, raw in lines:
            if self.ended:
                self.note("text behind '*-' left out")
                break
            last = number == lines[-1][0]
            tokens = raw.split("\t")
            if not self.spines:
                tokens = self._first(tokens, number)
                clock = _Clock(len(tokens))
                if raw.startswith("**"):
                    continue
            try:
                tokens = self._fit(tokens, clock, number)
                after = columns_after(tokens, self.spines, number) if tokens[0].startswith("*") else self.spines
                if tokens[0].startswith("="):
                    clock.bar()
                elif tokens[0].startswith("*"):
                    self.ended = "*-" in tokens
                    clock.interpretation(tokens, self.spines)
                    self.meter = measure_length(tokens[0]) or self.meter
                else:
                    clock.data([normal_token(token) for token in tokens])
                    seen_data = True
            except KernError as error:
                message = str(error).removeprefix(f"line {number}: ")
                if not last:
                    raise KernError(f"line {number}: {message}") from None
                self.note(f"line {number}, the last, left out: {message}")
                break
            self.rows.append("\t".join(tokens))
            self.spines = after
            if tokens[0].startswith("=") or not seen_data:
                at_bar = (list(self.spines), len(self.rows))
        if not self.spines and not self.ended:
            raise KernError("there is no **kern in it")
        if not self.ended:
            self._finish(clock, at_bar, seen_data)
        return "\n".join(self.rows), self.reasons

    def _clean(self, text: str) -> list[tuple[int, str]]:
        joined = text.replace("\r\n", "\n").replace("\r", "\n").replace("·", "").replace("@", "")
        lines = [
            (number, line.rstrip(" "))
            for number, line in enumerate(joined.split("\n"), 1)
            if line.strip() and not line.startswith(("```", "!"))
        ]
        if "\n".join(line for _, line in lines) != text:
            self.note("white space, comments, code fences or separators left out")
        if not lines:
            raise KernError("the text is empty")
        return lines

    def _first(self, tokens: list[str], number: int) -> list[str]:
        tokens = [token for token in tokens if token]
        if all(re.fullmatch(r"\*\*(e|be)?kern\S*", token) for token in tokens):
            names = tokens
        elif all(token.startswith("*clef") for token in tokens):
            names = ["**kern"] * len(tokens)
            self.note("first line **kern added")
        else:
            raise KernError(f"line {number}: {' '.join(tokens)[:40]!r}, expected **kern")
        self.spines = list(range(len(names)))
        self.rows.append("\t".join(["**kern"] * len(names)))
        return tokens

    def _fit(self, tokens: list[str], clock: _Clock, number: int) -> list[str]:
        """The line in as many columns as are open."""
        wanted = len(self.spines)
        if len(tokens) == wanted and "" not in tokens:
            return tokens
        full = [token for token in tokens if token]
        if len(full) == wanted:
            self.note("empty columns left out")
            return full
        if len(tokens) == wanted and not full[0].startswith(("*", "=")):
            self.note("empty columns filled with '.'")
            return [token or "." for token in tokens]
        if len(set(full)) == 1 and (full[0].startswith(("=", "*M", "*k[")) or full[0] in ("*-", "*")):
            self.note("lines of equal tokens made as wide as the columns")
            return full[:1] * wanted
        notes = [token for token in full if token != "."]
        due = [i for i, free in enumerate(clock.free) if free == clock.now]
        if full[0].startswith(("*", "=")) or "q" in "".join(notes) or len(notes) != len(due):
            raise KernError(f"line {number}: {len(tokens)} columns, expected {wanted}: {' '.join(tokens)[:60]!r}")
        self.note("null tokens placed where a note is held")
        placed = ["."] * wanted
        for i, note in zip(due, notes, strict=True):
            placed[i] = note
        return placed

    def _finish(self, clock: _Clock, at_bar: tuple[list[int], int], seen_data: bool) -> None:
        """Writes the end that lacks."""
        if not seen_data:
            raise KernError("the text ends before its first note")
        spines, rows = at_bar
        if len(self.rows) > rows:
            if self.complete and len(set(clock.free)) == 1 and clock.now == self.meter:
                self.rows.append("\t".join(["="] * len(self.spines)))
                self.note("bar line added behind the last measure, which is whole")
            else:
                self.note("what follows the last bar line left out: the text is cut off")
                del self.rows[rows:]
                self.spines = spines
        if not any(_is_data(row) for row in self.rows):
            raise KernError("the text ends within its first measure")
        staves = sorted(set(self.spines))
        for staff in staves:
            if self.spines.count(staff) > 1:
                row = ["*v" if spine == staff else "*" for spine in self.spines]
                self.spines = columns_after(row, self.spines, 0)
                self.rows.append("\t".join(row))
        self.rows.append("\t".join(["*-"] * len(self.spines)))
        self.note("'*-' added at the end")


def _is_data(row: str) -> bool:
    return not row.startswith(("*", "="))
