"""VQA accuracy: an answer counts in full when three people gave it.

Sources: big_vision's PaliGemma evaluators ``vqa`` and ``vqav2``; the rules of https://visualqa.org/evaluation.html.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pgtune.metrics.score import mean_of

__all__ = ["VQA", "VQAV2", "normalise_vqav2", "vqa", "vqav2"]

# What the official table completes words to: it lists each of these with one "'" left out, whichever of them. Where
# there are two, both left out (hedve) is not in the table.
_COMPLETE = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've "
    "needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll "
    "somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd "
    "there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll "
    "what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's "
    "won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've"
)
# What that rule does not give: the table's slips, kept.
_ODD = {
    "somebody'd": "somebodyd",
    "ow's'at": "'ow's'at",
    "'ows'at": "'ow's'at",
    "'ow'sat": "'ow's'at",
}


def _without_one_apostrophe(word: str) -> list[str]:
    return [word[:place] + word[place + 1 :] for place, letter in enumerate(word) if letter == "'"]


_REPLACE = {short: word for word in _COMPLETE.split() for short in _without_one_apostrophe(word)} | _ODD
_NUMBERS = "zero one two three four five six seven eight nine ten"
_REPLACE |= {word: str(number) for number, word in enumerate(_NUMBERS.split())}
_REPLACE["none"] = "0"

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_ARTICLES = frozenset({"a", "an", "the"})
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
# Meant as "not between digits"; the look-behind of the official code is misspelt, so only what follows counts.
_FULL_STOP = re.compile(r"\.(?!\d)")


def vqa(prediction: str, references: Sequence[str]) -> float:
    """min(1, matches / 3) over all answers, on the raw text: OKVQA, A-OKVQA, VizWiz.

    No answer is left out in turn and nothing is normalised. A single reference is a single answer: 1 or 0.
    """
    if len(references) == 1:
        return float(prediction == references[0])
    return min(1.0, sum(prediction == reference for reference in references) / 3)


def vqav2(prediction: str, references: Sequence[str]) -> float:
    """The official VQAv2 accuracy (TextVQA too): the mean, over the answers left out in turn, of min(1, matches / 3).

    Line breaks and tabs become spaces, ends are stripped; if the answers are then not all the same, they and the
    prediction go through ``normalise_vqav2``. Made for ten answers: fewer than four cannot give 1, and a single one,
    which would leave nothing to compare with, is refused by ``pgtune.metrics.compute``.
    """
    answer = _one_line(prediction)
    accepted = [_one_line(reference) for reference in references]
    if len(set(accepted)) > 1:
        answer = normalise_vqav2(answer)
        accepted = [normalise_vqav2(reference) for reference in accepted]
    matches = [answer == reference for reference in accepted]
    total = sum(matches)
    return sum(min(1.0, (total - match) / 3) for match in matches) / len(matches)


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def normalise_vqav2(text: str) -> str:
    """The official clean-up of an answer, its bugs included: punctuation, full stops, case, articles, numbers."""
    comma_in_number = _COMMA_IN_NUMBER.search(text) is not None
    cleaned = text
    for mark in _PUNCTUATION:
        # Decided on the text as it came in; one number with a comma decides for every mark.
        glued = comma_in_number or f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if glued else " ")
    cleaned = _FULL_STOP.sub("", cleaned)
    words = [word for word in cleaned.lower().split() if word not in _ARTICLES]
    return " ".join(_REPLACE.get(word, word) for word in words)


VQA = mean_of(vqa)
VQAV2 = mean_of(vqav2, min_references=2)
