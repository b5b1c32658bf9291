"""OMR-NED against the command line of musicdiff, and texts that are no music."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from pgtune.errors import DataError, RecipeError
from pgtune.metrics import compute
from pgtune.metrics.omr import MAX_LETTERS, omr_distance
from pgtune.metrics.show import rows

TRUE = (
    "**kern\t**kern\n*clefF4\t*clefG2\n*k[b-]\t*k[b-]\n*M3/4\t*M3/4\n4FF\t8fL\n.\t8gJ\n4A\t4a\n4c\t4f\n=\t=\n"
    "2.F\t4a\n.\t4b-\n.\t4cc\n=\t=\n*-\t*-\n"
)
CUT_OFF = TRUE[: TRUE.index("2.F")]

# Edits and symbols of both, as output.csv of `python3 -m musicdiff --ml_training_evaluation` (5.2, with music21 10.5.1
# and converter21 4.0.1) has them for these files; its overall score of the seven is TOTAL.
PAIRS = [
    (TRUE, 0, 74),
    (TRUE.replace("4b-", "4b").replace("*M3/4", "*M4/4"), 5, 75),
    (CUT_OFF, 9, 65),
    ("hello world", 37, 37),
    ("", 37, 37),
    ("**kern\t**kern\n4c\n4d\t4e\n", 41, 47),
    ("**kern\t**kern\n4zz\tfoo\n4zz\tfoo\n4zz\tfoo\n", 36, 50),
]
TOTAL = 0.42857142857142855


@pytest.mark.parametrize(("prediction", "edits", "symbols"), PAIRS)
def test_a_pair_is_what_musicdiff_says(prediction: str, edits: int, symbols: int) -> None:
    assert omr_distance(prediction, TRUE)[:2] == (edits, symbols)


def test_a_set_is_what_musicdiff_says() -> None:
    score = compute("omr_ned", [prediction for prediction, *_ in PAIRS], [[TRUE]] * len(PAIRS), parts=["a"] * 7)
    assert score.value == pytest.approx(TOTAL, abs=1e-12)
    assert score.per_example == pytest.approx([edits / symbols for _, edits, symbols in PAIRS])
    assert score.also == {"mean": pytest.approx(sum(score.per_example or ()) / 7), "unreadable": 2}
    assert score.parts["a"].value == score.value
    assert not score.higher_is_better
    assert ["  unreadable", "2", "", "", ""] in rows({"omr_ned": score.document()})


def test_measures_that_all_differ() -> None:
    def piece(notes: str, count: int) -> str:
        measures = "".join(f"4{notes[i % 7]}\n2{notes[(3 * i) % 7]}\n4{notes[(i * i) % 7]}\n=\n" for i in range(count))
        return f"**kern\n*clefG2\n*M4/4\n{measures}*-\n"

    # The values of the command line for these 12 and 10 measures.
    assert omr_distance(piece("cdefgab", 12), piece("gfcabde", 10))[:2] == (100, 138)
    # It goes on for minutes with these.
    edits, symbols, read = omr_distance(piece("cdefgab", 90), piece("gfcabde", 90))
    assert read
    assert 0 < edits < symbols


def test_the_nearest_reference_counts() -> None:
    assert compute("omr_ned", [TRUE], [[CUT_OFF, TRUE]]).value == 0


def test_grandstaff_text_is_kern() -> None:
    ekern = TRUE.replace("**kern", "**ekern_1.0").replace("4b-", "4·b·-").replace("8fL", "8@f·L")
    assert omr_distance(ekern, TRUE) == (0, 74, True)
    assert omr_distance(TRUE.replace("**kern", "**bekern").rstrip(), ekern) == (0, 74, True)


@pytest.mark.parametrize(
    "prediction",
    ["\x00", "\ud800", "**text\nfoo\n*-", "a\t" * 400, TRUE.replace("4FF", "4%999999999c"),
     TRUE.replace("*M3/4", "*M999999999/1"), "**kern\n" + "4c\n" * MAX_LETTERS],
)  # fmt: skip
def test_what_is_no_music_is_an_empty_score(prediction: str) -> None:
    assert omr_distance(prediction, TRUE) == (37, 37, False)


def test_a_reference_must_be_readable() -> None:
    for reference in ("", "C major", TRUE.replace("2.F", "2%10000F")):
        with pytest.raises(DataError, match="example 2: omr_ned cannot read the reference as \\*\\*kern: "):
            compute("omr_ned", [TRUE, TRUE], [[TRUE], [reference]])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def missing(module: str, *rest: Any) -> Any:
        if module.split(".")[0] == "musicdiff":
            raise ModuleNotFoundError("No module named 'musicdiff'", name="musicdiff")
        return real(module, *rest)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(RecipeError, match=r"the metric omr_ned needs the package musicdiff.*pgtune\[omr\]"):
        compute("omr_ned", [TRUE], [[TRUE]])
