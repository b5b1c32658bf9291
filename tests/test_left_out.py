"""What was left out: counted by reason, the first in detail, however many there are."""

import json

from pgtune import left_out
from pgtune.left_out import LeftOut, summary


def test_it_does_not_grow_with_the_rows() -> None:
    found = LeftOut("set")
    for number in range(5000):
        found.skipped.add({"file": "a.csv", "row": number, "reason": "inactive"})
        found.bad.add({"file": "a.csv", "row": number, "reason": f"bad {number}"})
    assert (found.skipped.count, found.bad.count) == (5000, 5000)
    assert len(found.skipped.rows) == len(found.bad.rows) == left_out.DETAILED
    assert found.skipped.reasons == {"inactive": 5000}
    assert sum(found.bad.reasons.values()) == 5000
    assert len(found.bad.reasons) == left_out.REASONS + 1
    json.dumps(found.document())


def test_a_summary_for_a_person() -> None:
    found = LeftOut("set")
    assert not found
    assert found.summary() == []
    for reason in ("b", "a", "b", "c", "d", "e"):
        found.skipped.add({"file": "x", "row": 1, "reason": reason})
    for number in range(5):
        found.bad.add({"file": "x.csv", "row": number, "reason": "broken"})
    found.bad.rows[1]["place"] = "x.csv, line 2"
    assert found.summary() == [
        "set: 6 rows skipped by the data adapter (2 b, 1 a, 1 c, 1 d and 1 more reasons)",
        "set: 5 bad rows left out",
        "  x.csv, row 0: broken",
        "  x.csv, line 2: broken",
        "  x.csv, row 2: broken",
        "  ... and 2 more",
    ]
    assert summary(found.document()) == found.summary()
