"""Edit distance and longest common subsequence, in time proportional to one sequence for the lengths met here.

Both run a whole row of the dynamic programme in a few operations on Python's unbounded integers (bit-parallel, one bit
a position), so that a page of sheet music, 2,000 characters, takes milliseconds instead of seconds.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

__all__ = ["common_subsequence", "edit_distance"]


def _positions(sequence: Sequence[Hashable]) -> dict[Hashable, int]:
    """For each item the set of places where it stands, as bits."""
    places: dict[Hashable, int] = {}
    for place, item in enumerate(sequence):
        places[item] = places.get(item, 0) | (1 << place)
    return places


def edit_distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Levenshtein distance: insertions, deletions and replacements, each counting 1 (Myers 1999, Hyyrö 2003)."""
    if not first:
        return len(second)
    places = _positions(first)
    everywhere = (1 << len(first)) - 1
    last = 1 << (len(first) - 1)
    # Bit i tells whether the column grows (plus) or falls (minus) by one between rows i and i + 1.
    plus, minus, distance = everywhere, 0, len(first)
    for item in second:
        same = places.get(item, 0)
        level = (((same & plus) + plus) ^ plus) | same | minus
        across_plus = minus | (everywhere & ~(level | plus))
        across_minus = level & plus
        if across_plus & last:
            distance += 1
        elif across_minus & last:
            distance -= 1
        across_plus = ((across_plus << 1) | 1) & everywhere
        across_minus = (across_minus << 1) & everywhere
        plus = across_minus | (everywhere & ~(level | across_plus))
        minus = across_plus & level
    return distance


def common_subsequence(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Length of the longest sequence that is contained in both, in order but not necessarily in one piece."""
    places = _positions(first)
    everywhere = (1 << len(first)) - 1
    # A zero bit is a place where the subsequence found so far grows.
    row = everywhere
    for item in second:
        same = row & places.get(item, 0)
        row = ((row + same) | (row - same)) & everywhere
    return len(first) - row.bit_count()
