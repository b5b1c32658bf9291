"""The tokens of **kern: notes, durations, bar lines, and how splits and joins change the columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from pgtune.errors import DataError

__all__ = ["KernError", "UnreadKern", "bar_line", "bar_number", "columns_after", "duration", "normal_token"]

_DURATION = re.compile(r"(\d+)(?:%(\d+))?(\.*)")
_PITCH = re.compile(r"([A-G])\1*|([a-g])\2*")
_ACCIDENTAL = re.compile(r"#{1,3}|-{1,3}")


class KernError(DataError):
    """Text that is no valid **kern; the message names the line."""


class UnreadKern(KernError):
    """Kern that may be valid, but holds what is not read here."""


def columns_after(tokens: Sequence[str], spines: Sequence[int], number: int) -> list[int]:
    """The columns after a line of interpretations: each with the spine it belongs to. Raises KernError."""
    after: list[int] = []
    i = 0
    while i < len(tokens):
        token, spine = tokens[i], spines[i]
        if token == "*v":
            last = i
            while last + 1 < len(tokens) and tokens[last + 1] == "*v" and spines[last + 1] == spine:
                last += 1
            if last == i:
                raise KernError(f"line {number}: '*v' in column {i + 1} has no neighbour of its staff to join")
            after.append(spine)
            i = last
        elif token == "*^":
            after += [spine, spine]
        elif token == "*x" and tokens[i + 1 : i + 2] == ["*x"] and max(spine, spines[i + 1]) < 0:
            after += [spines[i + 1], spine]
            i += 1
        elif token == "*+" and spine < 0:
            after += [spine, spine]
        elif token in ("*+", "*x") or (token.startswith("**") and spine >= 0):
            known = {"*+": "a kern spine is added", "*x": "kern spines are exchanged"}
            done = known.get(token, "a second piece begins")
            raise UnreadKern(f"line {number}: {token!r}: {done}, which is not read")
        elif token != "*-":
            after.append(spine)
        i += 1
    return after


def duration(token: str) -> Fraction | None:
    """The length of a note or rest in quarter notes; None for a grace note. A chord has that of its first note.

    ``4`` is a quarter, ``0`` a breve, ``00`` a long, ``3%2`` two thirds of a whole note. Raises KernError without one.
    """
    first = token.split(" ")[0]
    if "q" in first:
        return None
    found = _DURATION.search(first)
    if not found:
        raise KernError(f"{token!r} has no duration")
    digits, over, dots = found.groups()
    if set(digits) == {"0"}:
        whole = Fraction(2 ** len(digits))
    else:
        whole = Fraction(int(over or 1), int(digits))
        if over == "0":
            raise KernError(f"{token!r} has no duration")
    return 4 * whole * (2 - Fraction(1, 2 ** len(dots)))


def _pitch_height(note: str) -> tuple[int, int]:
    """For sorting: the diatonic step (c, middle C, is 28) and the accidental in semitones."""
    found = _PITCH.search(note)
    assert found, note
    letters = found[0]
    octave = 3 + len(letters) if letters.islower() else 4 - len(letters)
    accidental = note.count("#") - note.count("-")
    return 7 * octave + "cdefgab".index(letters[0].lower()), accidental


@lru_cache(maxsize=20_000)
def normal_token(token: str) -> str:
    """A token of a data line in the normal form. Raises KernError for what is no note, rest, chord or '.'."""
    if token == ".":
        return token
    notes: list[str] = []
    length = ""
    for part in token.split(" "):
        if not part:
            raise KernError(f"{token!r}: two spaces, or one at an end, in a chord")
        found = _DURATION.search(part)
        if found:
            length = found[0]
        grace = "q" in part
        if not length and not grace:
            raise KernError(f"{token!r} has no duration")
        pitches = _PITCH.findall(part)
        hidden = "yy" if "yy" in part else ""
        if "r" in part:
            notes.append(f"{length or '8'}r{'q' if grace else ''}{hidden}")
            continue
        if len(pitches) != 1:
            raise KernError(f"{part!r} is no note: expected one pitch, such as 4c# or 8.BB-")
        pitch = _PITCH.search(part)
        assert pitch
        accidental = _ACCIDENTAL.match(part, pitch.end())
        sign = accidental[0] if accidental else ""
        if part.count("#") + part.count("-") != len(sign) or not part.isascii():
            raise KernError(f"{part!r} is no note: expected the accidental right behind the pitch, such as 8.BB-")
        notes.append(f"{length or '8'}{pitch[0]}{sign}{'q' if grace else ''}{hidden}{_tie(part)}")
    if len(notes) > 1:
        if any("r" in note for note in notes):
            raise KernError(f"{token!r}: a rest inside a chord")
        notes.sort(key=_pitch_height)
    return " ".join(notes)


def _tie(note: str) -> str:
    if "_" in note or ("[" in note and "]" in note):
        return "_"
    return "[" if "[" in note else "]" if "]" in note else ""


def bar_number(flat: Sequence[str]) -> str:
    """The number of a measure that begins with this bar line; "" where there is none."""
    found = re.match(r"=+(\d+[a-z]?)", flat[0])
    return found[1] if found else ""


def bar_line(flat: Sequence[str]) -> str | None:
    """The bar line in the normal form: the first staff's that is not plain. None: it is not printed."""
    shown = None
    for token in flat:
        style = re.sub(r"^=+|\d+[a-z]?|[;,?]", "", token)
        if style == "-" or style == "-;":
            continue
        left, right = style.startswith(":"), style.endswith(":")
        if left and right and len(style) > 1:
            bar = "=:|!|:"
        elif left:
            bar = "=:|!"
        elif right:
            bar = "=!|:"
        elif token.startswith("==") or style in ("|!", "!"):
            bar = "=="
        else:
            bar = "=||" if style == "||" else "="
        if shown in (None, "="):
            shown = bar
    return shown
