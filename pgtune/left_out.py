"""What was not taken of a data set: rows passed over and bad rows, counted by reason, the first of them in detail."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

__all__ = ["NO_REASON", "LeftOut", "Tally", "described", "summary"]

DETAILED = 1000
"""So many rows are kept with place and reason; beyond, they are counted."""

REASONS = 200
"""So many different reasons are counted apart; beyond, they are counted together."""

OTHER = "other reasons"
NO_REASON = "no reason given"


@dataclass
class Tally:
    """Rows of one kind: how many, for which reasons, and the first of them. Its size does not grow with the rows."""

    count: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: dict[str, Any]) -> None:
        """Count a row: ``{"file", "row", "place"?, "reason"}``."""
        self.count += 1
        reason = row["reason"]
        self.reasons[reason if reason in self.reasons or len(self.reasons) < REASONS else OTHER] += 1
        if len(self.rows) < DETAILED:
            self.rows.append(row)

    def document(self) -> dict[str, Any]:
        """For ``--json``: ``count``, ``reasons`` and the first rows."""
        return {"count": self.count, "reasons": dict(self.reasons.most_common()), "rows": list(self.rows)}


@dataclass
class LeftOut:
    """The rows of one source that gave no example: ``skipped`` rightly, ``bad`` because something is wrong."""

    name: str
    skipped: Tally = field(default_factory=Tally)
    bad: Tally = field(default_factory=Tally)

    def __bool__(self) -> bool:
        return bool(self.skipped.count or self.bad.count)

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"source": self.name, "skipped": self.skipped.document(), "bad": self.bad.document()}

    def summary(self) -> list[str]:
        """For a person: a line for skipped rows and a few for bad ones; empty where nothing was left out."""
        return summary(self.document())


def summary(document: dict[str, Any]) -> list[str]:
    """`LeftOut.summary` of what `LeftOut.document` gave."""
    name, skipped, bad = document["source"], document["skipped"], document["bad"]
    lines = []
    if skipped["count"]:
        named = [f"{count} {reason}" for reason, count in list(skipped["reasons"].items())[:4]]
        more = len(skipped["reasons"]) - len(named)
        lines.append(
            f"{name}: {skipped['count']} rows skipped by the data adapter ({', '.join(named)}"
            + (f" and {more} more reasons)" if more > 0 else ")")
        )
    if bad["count"]:
        lines.append(f"{name}: {bad['count']} bad rows left out")
        lines += [f"  {described(row)}" for row in bad["rows"][:3]]
        if bad["count"] > 3:
            lines.append(f"  ... and {bad['count'] - 3} more")
    return lines


def described(row: dict[str, Any]) -> str:
    """``train.jsonl, row 7: suffix is empty``."""
    return f"{row.get('place') or '{file}, row {row}'.format(**row)}: {row['reason']}"
