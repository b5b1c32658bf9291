"""Two texts beside each other: which words of one the other has not."""

from __future__ import annotations

import re

from rapidfuzz.distance import Levenshtein

from pgtune.reporting.markup import Child, Safe, tag

__all__ = ["shown_text"]

MOST_LETTERS = 6_000
"""So many letters of a text are shown; what is longer says how long it is."""

_FEWEST_WORDS = 3
_WORD = re.compile(r"\S+")
_LOCATIONS = re.compile(r"((?:<(?:loc[0-9]{4}|seg[0-9]{3})>)+)")


def shown_text(text: str, other: str | None = None) -> Safe:
    """A text as it stands, its words marked that ``other`` lacks, where the two are long enough and have words in
    common. Nothing at all is said in words, and white space at an end is made visible by quotes.
    """
    if not text:
        return tag("span", "(nothing)", class_="nothing")
    cut = text[:MOST_LETTERS]
    marks = _lacking(cut, other[:MOST_LETTERS]) if other is not None and other != text else []
    inside: list[Child] = []
    at = 0
    for start, end in marks:
        inside += [_with_locations(cut[at:start]), tag("mark", _with_locations(cut[start:end]))]
        at = end
    inside.append(_with_locations(cut[at:]))
    quote = "\u201c" if text != text.strip() else None
    more = tag("small", f" \u2026 {len(text) - len(cut):,} more characters") if len(text) > len(cut) else None
    return tag("span", quote, tag("bdi", inside), "\u201d" if quote else None, more, class_="text")


def _lacking(text: str, other: str) -> list[tuple[int, int]]:
    """Where in ``text`` the words stand that have no counterpart in ``other``; neighbours are one stretch."""
    words = list(_WORD.finditer(text))
    mine, theirs = [word[0] for word in words], _WORD.findall(other)
    if min(len(mine), len(theirs)) < _FEWEST_WORDS or not set(mine) & set(theirs):
        return []
    lacking = [
        place
        for block in Levenshtein.opcodes(theirs, mine)
        if block.tag in ("insert", "replace")
        for place in range(block.dest_start, block.dest_end)
        if not _LOCATIONS.match(mine[place])  # of two boxes hardly any two are written alike: look at the picture
    ]
    found: list[tuple[int, int]] = []
    for place, previous in zip(lacking, [-2, *lacking], strict=False):
        start = found.pop()[0] if place == previous + 1 else words[place].start()
        found.append((start, words[place].end()))
    return found


def _with_locations(text: str) -> list[Child]:
    """The text with its location tokens set back: they are read from the picture."""
    pieces = _LOCATIONS.split(text)
    return [tag("span", piece, class_="loc") if place % 2 else piece for place, piece in enumerate(pieces)]
