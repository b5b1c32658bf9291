"""Boxes with scores out of a decoded answer: what ``predict`` and ``evaluate`` give for a prefix that says "detect".

The form is the papers', ``<loc ymin><loc xmin><loc ymax><loc xmax> label ; ...``. What is not of it is counted and
never guessed: pieces that are no box with a label, objects that were written twice, and an answer that ended at its
limit of tokens, whose last object is left out since its box or label may be cut.

The score of a box is the likelihood of its label's tokens times the geometric mean of its four location tokens'
probabilities, 0 to 1. PaliGemma 2 (Appendix C) takes the likelihood of the class tokens alone, from a model that was
trained to fill its answers with noise objects. One that is asked for a class by name writes that name with certainty,
so that the class alone would order nothing; the second factor is ours. A box without a label has it alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pgtune.locations import box_to_pixels, decode_box

__all__ = ["REPEATED_IOU", "Detected", "asks_for_boxes", "iou", "read"]

REPEATED_IOU = 0.7
"""Two boxes of the same label that overlap by this much or more (intersection over union) are one object."""

_PREFIX = re.compile(r"\s*detect\b", re.IGNORECASE)
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_OBJECT = re.compile(rb"\s*((?:<loc[0-9]{4}>){4})\s*(?:(?:<seg[0-9]{3}>){16})?\s*([^<>;]*?)\s*")


@dataclass(frozen=True)
class Detected:
    """The objects of one answer, in the order in which they were written, and what was left out."""

    boxes: tuple[dict[str, Any], ...]
    """Each ``{"box": [ymin, xmin, ymax, xmax], "pixels": [x0, y0, x1, y1], "label": ..., "score": ...}``, ``box`` in
    fractions of the picture; ``pixels`` only where the size of the picture is known."""
    malformed: int
    """Pieces that are no box with a label."""
    repeated: int
    """Objects left out because one of the same label with a higher score lies in the same place."""
    cut_off: bool
    """Whether the answer ended at its limit of tokens; the object that it ended in is left out."""

    @property
    def row(self) -> dict[str, Any]:
        """The keys that a predicted row gains."""
        return {
            "boxes": list(self.boxes),
            "malformed": self.malformed,
            "repeated": self.repeated,
            "cut_off": self.cut_off,
        }

    @property
    def scores(self) -> list[float]:
        """The scores, in the order of the boxes."""
        return [box["score"] for box in self.boxes]


def asks_for_boxes(prefix: str) -> bool:
    """Whether a prefix begins with the word "detect"."""
    return _PREFIX.match(prefix) is not None


def read(answer: Any, tokenizer: Any, size: tuple[int, int] | None = None) -> Detected:
    """The boxes in an `Answer`. One without any location token ("nothing") has none, and nothing malformed.

    Args:
        answer: its `ids` and `log_probabilities` (one for each id, `<eos>` left out), whether it is `finished`, and the
            `size` of the picture.
        tokenizer: the run's, to know which letters each token stands for.
        size: width and height of the picture in pixels, where the answer does not know it.
    """
    text, owners = _spelled(tokenizer, answer.ids)
    size = size or answer.size
    found: list[dict[str, Any]] = []
    malformed = 0
    pieces = _pieces(text) if b"<loc" in text else []
    if not answer.finished:
        pieces = pieces[:-1]
    for start, end in pieces:
        match = _OBJECT.fullmatch(text, start, end)
        box = decode_box(match[1].decode()) if match else None
        if match is None or box is None:
            malformed += 1
            continue

        def likelihood(group: int, match: re.Match[bytes] = match) -> list[float]:
            tokens = sorted({owners[place] for place in range(*match.span(group))})
            return [answer.log_probabilities[token] for token in tokens]

        places, label = likelihood(1), likelihood(2)
        entry: dict[str, Any] = {"box": list(box)}
        if size is not None:
            entry["pixels"] = list(box_to_pixels(box, *size))
        entry["label"] = match[2].decode("utf-8", "replace")
        entry["score"] = math.exp(min(0.0, sum(places) / len(places) + sum(label)))
        found.append(entry)
    kept = _without_repeated(found)
    return Detected(tuple(kept), malformed, len(found) - len(kept), not answer.finished)


def _spelled(tokenizer: Any, ids: Sequence[int]) -> tuple[bytes, list[int]]:
    """The text that the ids stand for in UTF-8, and for each of its bytes the position of the id it comes from."""
    special = set(tokenizer.all_special_ids)
    text, owners = bytearray(), list[int]()
    for position, token in enumerate(tokenizer.convert_ids_to_tokens(list(ids))):
        if ids[position] in special:
            continue
        one = _BYTE.fullmatch(token)
        spelled = bytes([int(one[1], 16)]) if one else token.replace("\u2581", " ").encode()
        text += spelled
        owners += [position] * len(spelled)
    return bytes(text), owners


def _pieces(text: bytes) -> list[tuple[int, int]]:
    """Where the pieces between semicolons begin and end."""
    ends = [place for place, value in enumerate(text) if value == ord(";")]
    return list(zip([0, *(end + 1 for end in ends)], [*ends, len(text)], strict=True))


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes (ymin, xmin, ymax, xmax), 0 to 1; two boxes without area: 1 if the same."""
    inside = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    inside *= max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - inside
    return inside / union if union > 0 else float(list(one) == list(other))


def _without_repeated(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of objects of one label in one place the one with the highest score, in the order of the answer."""
    kept: list[int] = []
    for index in sorted(range(len(found)), key=lambda index: (-found[index]["score"], index)):
        same = (found[other] for other in kept if found[other]["label"] == found[index]["label"])
        if all(iou(found[index]["box"], other["box"]) < REPEATED_IOU for other in same):
            kept.append(index)
    return [found[index] for index in sorted(kept)]
