"""Scores of music: how much of the notation would have to be changed (OMR-NED). Lower is better.

OMR-NED is the edit distance between two scores in symbols of notation (notes with their accidentals, dots, beams and
ties; clefs, keys, meters, bar lines and all else that is drawn), divided by the symbols of both, as the package
musicdiff 5.2 counts them at its default level of detail. The value over a set is the distance summed over the set,
divided by the symbols summed over the set, which is the overall score of ``python3 -m musicdiff
--ml_training_evaluation``; the mean of each example's is reported beside as ``mean``. With several references the
nearest one counts.

As there, a prediction that is not **kern, or that musicdiff cannot take in, is an empty score: 1.0, all symbols of the
reference are missing. What converter21 can mend in a prediction is mended, each time at the cost of one edit.
``unreadable`` counts the predictions that gave no score. Ours: very long predictions, and those with a number of five
digits in a note or meter, count as unreadable too, since reading them would not end. A reference has to be readable.

musicdiff walks through pairs of measures by recursion and copies the edits found so far at each step, which takes
minutes for two pages that differ in every measure. Here the same minimum is taken row by row and the edits are not
copied; the numbers are the same. A system takes a tenth of a second, a page that is all wrong some seconds.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import re
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np

from pgtune.errors import DataError
from pgtune.metrics.packages import require
from pgtune.metrics.score import Cases, FloatArray, ratio, sums

__all__ = ["OMR_NED", "omr_distance"]

EXTRA = "omr"

MAX_LETTERS = 10_000
"""A longer prediction counts as unreadable, unless the reference is half as long: reading it would take minutes."""

_ENDLESS = re.compile(r"^(?![=!]).*\d{5}", re.MULTILINE)
"""A length or meter of five digits. Nothing has one, and music21 cuts such a note or measure into countless parts."""

_EKERN = re.compile(r"\*\*b?ekern(_[\d.]+)?(?=\t|\n|$)")
_SEPARATORS = str.maketrans("", "", "·@")


def omr_distance(prediction: str, reference: str) -> tuple[int, int, bool]:
    """Edits, the symbols of both texts, and whether the prediction could be read; OMR-NED is edits / symbols.

    Both are **kern from the first line on (``**ekern_1.0`` and ``**bekern`` are read as such, their separators ``·``
    and ``@`` left out). Raises DataError where the reference is no kern, RecipeError where musicdiff is not installed.
    """
    require("musicdiff", "omr_ned", EXTRA)
    return _distance(prediction, reference)


@functools.lru_cache(maxsize=65536)  # parts and question types are scored from the same pairs again
def _distance(prediction: str, reference: str) -> tuple[int, int, bool]:
    if endless := _ENDLESS.search(reference):
        raise DataError(f"{endless[0][:60]!r} has a number of five digits")
    with _quiet():
        try:
            true = _annotated(reference, mend=False)
        except Exception as error:  # converter21 and music21 fail on odd texts in any way
            raise DataError(f"{type(error).__name__}: {error}") from error
        if true is None:
            raise DataError("it holds no staff")
        if len(prediction) <= max(MAX_LETTERS, 2 * len(reference)) and not _ENDLESS.search(prediction):
            # As above, and musicdiff on odd scores: either way there is nothing that can be compared.
            with contextlib.suppress(Exception):
                found = _annotated(prediction, mend=True)
                if found is not None:
                    return _compared(found, true)
        missing = int(true.notation_size())
        return missing, missing, False


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def _annotated(text: str, *, mend: bool) -> Any:
    """musicdiff's view of a kern text; None where it holds no staff."""
    musicdiff = require("musicdiff", "omr_ned", EXTRA)
    annotation = require("musicdiff.annotation", "omr_ned", EXTRA)
    reader = require("converter21", "omr_ned", EXTRA).HumdrumConverter()
    head, _, body = text.partition("\n")
    plain = _EKERN.sub("**kern", head)
    if plain != head:
        body = body.translate(_SEPARATORS)
    score = reader.parseData(f"{plain}\n{body.rstrip()}\n", acceptSyntaxErrors=mend)
    if "Opus" in score.classes:  # several pieces in one text: as musicdiff does, the first
        score = score.scores[0]
    if not list(score.parts):
        return None
    return annotation.AnnScore(score, musicdiff.DetailLevel.Default)


def _compared(found: Any, true: Any) -> tuple[int, int, bool]:
    module = require("musicdiff.comparison", "omr_ned", EXTRA)
    comparison = module.Comparison

    def of_measures(original: Sequence[Any], other: Sequence[Any]) -> tuple[list[Any], int]:
        return [], _edits(original, other, functools.partial(_of_measure, comparison))

    # Both change how long it takes, not the number; see the head of this file.
    plain = types.SimpleNamespace(copy=copy.copy, deepcopy=lambda pair: (list(pair[0]), pair[1]))
    with mock.patch.object(module, "copy", plain), mock.patch.object(comparison, "_block_diff_lin", of_measures):
        _, edits = comparison.annotated_scores_diff(found, true)
        comparison._clear_memoizer_caches()
    return int(edits), int(found.notation_size() + true.notation_size()), True


def _edits(original: Sequence[Any], other: Sequence[Any], between: Callable[[Any, Any], int]) -> int:
    """The least cost of turning one run of measures into another: leaving out, putting in, or changing each."""
    row = [0]
    for measure in other:
        row.append(row[-1] + measure.notation_size())
    for measure in original:
        size = measure.notation_size()
        before, row = row, [row[0] + size]
        for place, wanted in enumerate(other):
            row.append(
                min(
                    before[place + 1] + size,
                    row[place] + wanted.notation_size(),
                    before[place] + between(measure, wanted),
                )
            )
    return int(row[-1])


def _of_measure(comparison: Any, measure: Any, wanted: Any) -> int:
    if measure == wanted:
        return 0
    parts = (
        comparison._extras_set_distance(measure.extras_list, wanted.extras_list),
        comparison._lyrics_diff_lin(measure.lyrics_list, wanted.lyrics_list),
        comparison._notes_set_distance(measure.annot_notes, wanted.annot_notes),
    )
    return int(sum(cost for _, cost in parts))


def _statistics(cases: Cases) -> FloatArray:
    """(n, 5): edits, symbols, OMR-NED, 1, whether the prediction was unreadable."""
    rows = []
    for place, (prediction, accepted) in enumerate(zip(cases.predictions, cases.references, strict=True)):
        try:
            found = [omr_distance(prediction, reference) for reference in accepted]
        except DataError as error:
            raise DataError(f"{cases.where(place)}: omr_ned cannot read the reference as **kern: {error}") from error
        edits, symbols, read = min(found, key=lambda one: one[0] / max(one[1], 1))
        rows.append((edits, symbols, edits / max(symbols, 1), 1.0, float(not read)))
    return np.array(rows, dtype=np.float64)


OMR_NED = sums(
    _statistics,
    ratio,
    also={"mean": lambda totals: ratio(totals, 2, 3), "unreadable": lambda totals: totals[..., 4]},
    counts=frozenset({"unreadable"}),
    higher_is_better=False,
)
