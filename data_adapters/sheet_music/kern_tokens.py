"""The tokens of **kern: notes, durations, bar lines, and how splits and joins change the columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from pgtune.errors import DataError

__all__ = [
    "MAX_STAVES",
    "MAX_VOICES",
    "KernError",
    "UnreadKern",
    "bar_line",
    "bar_number",
    "check_interpretation",
    "columns_after",
    "duration",
    "measure_length",
    "normal_token",
]

MAX_STAVES = 100
MAX_VOICES = 16
"""Voices of one staff: verovio ends the whole process at 30, and at some thousands of staves."""

_DURATION = re.compile(r"([0-9]+)(?:%([0-9]+))?(\.*)")
# What music21 and verovio write in seconds: up to a long's long, 2048ths, four dots, and ratios such as 8%9 (a whole
# measure's rest in 9/8). Others, such as 7%999, take them minutes or end the process.
_LONGEST, _SHORTEST, _MOST_DOTS, _MOST_OVER = 3, 2048, 4, 32
_HIGHEST = 6
"""Letters of a pitch: cccccc is seven octaves above C."""
_METER = re.compile(r"\*M([0-9]+)/([0-9]+)(?:%([0-9]+))?")
_CLEF = re.compile(r"\*clef(?:[GFC](?:[v^]{1,2})?[1-5]|X[1-5]?|T(?:AB)?)")
_KEY = re.compile(r"\*k\[(?:[a-gA-G](?:#{1,2}|-{1,2}|n))*\]\S{0,2}")
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
        raise KernError(f"{_brief(token)} has no duration")
    return _length(found, token)


def _length(found: re.Match[str], token: str) -> Fraction:
    digits, over, dots = found.groups()
    zeros = set(digits) == {"0"}
    known = len(dots) <= _MOST_DOTS and len(over or "") <= 2 and (not over or 0 < int(over) <= _MOST_OVER)
    known = known and (len(digits) <= _LONGEST and not over if zeros else len(digits) <= 4)
    if not known or int(digits) > _SHORTEST:
        raise KernError(f"{_brief(token)} has a duration that notes do not have")
    whole = Fraction(2 ** len(digits)) if zeros else Fraction(int(over or 1), int(digits))
    return 4 * whole * (2 - Fraction(1, 2 ** len(dots)))


def measure_length(token: str) -> Fraction | None:
    """The length in quarters of a measure under ``*M3/4``; None for a token that is no meter.

    The number below is a duration: 0 is a breve, ``3%2`` two thirds of a whole note. Raises KernError for a meter that
    music does not have, such as ``*M0/4``.
    """
    found = _METER.fullmatch(token)
    if not found:
        return None
    above, below, over = found.groups()
    beat = re.fullmatch(_DURATION, f"{below}%{over}" if over else below)
    if len(above) > 3 or int(above) == 0 or beat is None or len(below) > 3:
        raise KernError(f"{_brief(token)} is no meter, expected one such as *M3/4")
    return int(above) * _length(beat, token)


def check_interpretation(token: str) -> None:
    """Refuse a clef, key signature or meter that is none. Raises KernError."""
    if token.startswith("*clef") and not _CLEF.fullmatch(token):
        raise UnreadKern(f"{_brief(token)} is not a clef that is read, expected one such as *clefG2")
    if token.startswith("*k[") and not _KEY.fullmatch(token):
        raise KernError(f"{_brief(token)} is no key signature, expected one such as *k[b-e-]")
    measure_length(token)


def _brief(token: str) -> str:
    return repr(token if len(token) <= 40 else token[:37] + "...")


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
            raise KernError(f"{_brief(token)}: two spaces, or one at an end, in a chord")
        found = _DURATION.search(part)
        if found:
            _length(found, token)
            length = found[0]
        grace = "q" in part
        if not length and not grace:
            raise KernError(f"{_brief(token)} has no duration")
        if not (part.isascii() and part.isprintable()):
            raise KernError(f"{_brief(part)} is no note: it holds characters that kern has not")
        pitches = _PITCH.findall(part)
        hidden = "yy" if "yy" in part else ""
        if "r" in part:
            notes.append(f"{length or '8'}r{'q' if grace else ''}{hidden}")
            continue
        pitch = _PITCH.search(part)
        if len(pitches) != 1 or pitch is None or len(pitch[0]) > _HIGHEST:
            raise KernError(f"{_brief(part)} is no note: expected one pitch, such as 4c# or 8.BB-")
        accidental = _ACCIDENTAL.match(part, pitch.end())
        sign = accidental[0] if accidental else ""
        if part.count("#") + part.count("-") != len(sign):
            raise KernError(f"{_brief(part)} is no note: expected the accidental right behind the pitch, such as 8.BB-")
        notes.append(f"{length or '8'}{pitch[0]}{sign}{'q' if grace else ''}{hidden}{_tie(part)}")
    if len(notes) > 1:
        if any("r" in note for note in notes):
            raise KernError(f"{_brief(token)}: a rest inside a chord")
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
