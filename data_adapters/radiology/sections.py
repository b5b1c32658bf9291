"""Radiology reports to their sections, and what stands in them where something was made anonymous.

`sections_of` follows the parser that the authors of MIMIC-CXR published (github.com/MIT-LCP/mimic-cxr, file
txt/section_parser.py) in where a section begins and ends, in the names that mean the same, and in taking the last of
several sections of one name. It differs in two points: misspelt names are found by likeness and not by a list, so that
"NDICATION" is an indication and not an impression; and its table of some fifty reports by study number, which were
sectioned by hand, is not used.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

__all__ = ["DEIDENTIFIED", "compose", "sections_of", "without_marks"]

DEIDENTIFIED = ("keep", "word", "sentence")
"""What may be done about what was made anonymous: nothing, or the words or the sentences with a mark are left out."""

# A name stands at the beginning of a line, behind one blank, in capitals, and a colon and white space follow it.
_HEADING = re.compile(r"\n ([A-Z ()/,-]+):\s")
_KNOWN = {
    "impression": (
        "impression",
        "conclusion",
        "findings and impression",
        "findings/impression",
        "findings/ impression",
    ),
    "findings": ("findings", "finding", "reference findings", "chest, two views"),
    "indication": ("indication", "reason for examination", "reason for exam", "clinical indication"),
    "history": ("history", "clinical history", "clinical information", "patient history", "pfi"),
    "comparison": ("comparison", "comparisons", "reference exam", "comparison exam", "comparison film"),
    "examination": ("examination", "exam", "type of examination"),
    "recommendations": ("recommendations", "recommendation", "recommendation(s)"),
    "wet read": ("wet read", "wetread"),
    **{name: (name,) for name in ("technique", "notification", "addendum", "date", "comment")},
}
_NAMES = {alias: name for name, aliases in _KNOWN.items() for alias in aliases}
_PART_OF_A_NAME = ("impression", "findings", "history", "comparison", "addendum")
# A heading that says which pictures were taken stands above what was found in them.
_VIEWS = re.compile(
    "chest|portable|ribs|bone window|two views|one view|(frontal|pa|ap|lateral) view|frontal (and|upright|semi-upright)"
    "|(pa|ap) and lateral|pa and lat|lateral and (pa|ap)"
)
_RULE = re.compile(r"_{10,}")
_ENUMERATOR = re.compile(r"\d+[.)]")


def sections_of(report: str) -> dict[str, str]:
    """The sections of a report by their normal name (findings, impression, indication, history, ...), white space kept.

    The last of several sections of a name is taken; a findings or impression section that is empty does not count.
    Where neither is there, ``last_paragraph`` holds what follows the first empty line of the last section.
    """
    headings = list(_HEADING.finditer(report))
    taken = headings[:1]
    for heading in headings[1:]:
        # What follows a heading in its own line is text, even if it looks like a heading in the next one.
        if heading.start() >= _end_of_line(report, taken[-1].end()):
            taken.append(heading)
    found = [("preamble", report[: taken[0].start(1)])] if taken else [("full report", report)]
    for place, heading in enumerate(taken):
        end = taken[place + 1].start() if place + 1 < len(taken) else len(report)
        found.append((_normal(heading[1]), report[heading.end() : end]))
    found = [(name, text) for name, text in found if text.strip() or name not in ("findings", "impression")]
    sections = dict(found)
    if "findings" not in sections and "impression" not in sections:
        name, text = found[-1]
        first, blank, rest = text.partition("\n \n")
        if blank:
            sections |= {name: first, "last_paragraph": rest}
    return sections


def _end_of_line(text: str, start: int) -> int:
    end = text.find("\n", start)
    return start if end < 0 else end


def _normal(heading: str) -> str:
    name = heading.strip().lower()
    if name in _NAMES:
        return _NAMES[name]
    if close := difflib.get_close_matches(name, _NAMES, n=1, cutoff=0.87):
        return _NAMES[close[0]]
    for part in _PART_OF_A_NAME:
        if part in name:
            return part
    return "findings" if _VIEWS.search(name) else name


def without_marks(text: str, mark: re.Pattern[str], how: str) -> str:
    """The text in one line, and of what holds ``mark`` the words or the sentences left out, or nothing (``keep``).

    A word goes as a whole ("x-XXXX", "XXXX-year-old"); the full stop or comma behind it stays.
    """
    text = " ".join(_RULE.sub(" ", text).split())
    if how == "keep" or not mark.search(text):
        return text
    if how == "sentence":
        return " ".join(sentence for sentence in _sentences(text) if not mark.search(sentence))
    kept: list[str] = []
    for word in text.split(" "):
        if not mark.search(word):
            kept.append(word)
        elif word[-1] in ".,;:" and kept and kept[-1][-1] not in ".,;:":
            kept[-1] += word[-1]
    return " ".join(kept)


def _sentences(text: str) -> list[str]:
    sentences: list[str] = []
    for piece in re.split(r"(?<=[.!?])\s+", text):
        if sentences and _ENUMERATOR.fullmatch(sentences[-1]):  # "2." is the beginning of what follows
            sentences[-1] += f" {piece}"
        else:
            sentences.append(piece)
    return sentences


def compose(sections: Mapping[str, str], names: Sequence[str]) -> str:
    """``FINDINGS: ... IMPRESSION: ...``: those of the named sections that are not empty, each with its name."""
    return " ".join(f"{name.upper()}: {sections[name]}" for name in names if sections.get(name))
