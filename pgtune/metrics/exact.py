"""Metrics that ask for the very same answer: 1 or 0 for each example.

Sources: big_vision's PaliGemma evaluators ``vqa`` (single answer), ``rsvqa``, ``pope``, ``tallyqa``, ``science_qa``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pgtune.metrics.score import mean_of, ratio

__all__ = [
    "EXACT_MATCH",
    "EXACT_MATCH_LOWER",
    "RSVQA",
    "SCIENCE_QA",
    "TALLYQA",
    "exact_match",
    "exact_match_lower",
    "science_qa",
    "tallyqa",
]

_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_NUMBER_WORDS = {word: str(number) for number, word in enumerate(_NUMBERS.split())} | {"none": "0"}
_CHOICE = re.compile(r"the answer is ([a-z])\.")


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1 where the prediction equals a reference, character by character: nothing is normalised, not even white space.

    With one reference this is the accuracy of AI2D, GQA, NLVR2 and of molecules; with several it is big_vision's
    ``acc_any``.
    """
    return float(prediction in references)


def exact_match_lower(prediction: str, references: Sequence[str]) -> float:
    """``exact_match`` on lower-cased text: OCR-VQA, POPE, and RSVQA, whose figure in the papers is ``rsvqa``.

    ``rsvqa`` is the plain mean over question types of this (big_vision's ``acc_avg``), each type counting alike; the
    share of all examples (``acc_any``) is reported beside as ``overall``. The papers' types are comp and presence, and
    rural_urban of the low resolution set; a set with count or area questions has more.
    """
    return float(prediction.lower() in [reference.lower() for reference in references])


def tallyqa(prediction: str, references: Sequence[str]) -> float:
    """``exact_match`` after a text that is one number word as a whole (none, zero ... twenty) became digits."""
    return float(_digits(prediction) in [_digits(reference) for reference in references])


def _digits(text: str) -> str:
    return _NUMBER_WORDS.get(text.lower(), text)


def science_qa(prediction: str, references: Sequence[str]) -> float:
    """1 where both texts begin with "the answer is X." and name the same letter; any other prediction is wrong."""
    chosen = _choice(prediction)
    return float(chosen is not None and chosen in [_choice(reference) for reference in references])


def _choice(text: str) -> str | None:
    match = _CHOICE.match(text.lower())
    return match[1] if match else None


EXACT_MATCH = mean_of(exact_match)
EXACT_MATCH_LOWER = mean_of(exact_match_lower)
RSVQA = mean_of(exact_match_lower, average="types", needs="question_type", also={"overall": ratio})
TALLYQA = mean_of(tallyqa)
SCIENCE_QA = mean_of(science_qa)
