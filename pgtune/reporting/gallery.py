"""The scored rows as cards: the picture, what was asked, the truth, the answers; and the form that filters them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtune.progress import Progress
from pgtune.reporting.differences import shown_text
from pgtune.reporting.engraved import can_engrave, engrave, is_kern
from pgtune.reporting.markup import Child, Safe, join, tag
from pgtune.reporting.pictures import Thumbnail, boxes_of, figure, find_picture, thumbnail
from pgtune.reporting.ranking import Case, Judge, choose, ranked
from pgtune.reporting.record import Record

__all__ = ["gallery"]

VERDICTS = {True: "right", False: "wrong", None: "open"}
_SIGNS = {"right": "\u2713 right", "wrong": "\u2717 wrong"}
_MOST_METADATA = 4_000
_NONE = "(none)"


@dataclass(frozen=True)
class _Look:
    """What all cards have in common."""

    run: Path
    judge: Judge | None
    said: str
    """What the answer that is judged is called: after, or before in a run that is not finished."""
    music: bool
    """Whether kern is engraved."""


def gallery(record: Record, limit: int) -> list[Safe]:
    """What is to be said about the choice, the filter, and the cards."""
    cases, judge = ranked(record.rows, record.recipe.eval.metrics)
    chosen, worst = choose(cases, limit)
    kern = any(is_kern(text) for case in chosen for text in (case.row["prediction"], *case.row["references"][:1]))
    look = _Look(record.path, judge, "after" if record.trained else "before", kern and can_engrave())
    with Progress(len(chosen), "pictures") as progress:
        cards = []
        for case in chosen:
            cards.append(_card(case, look))
            progress.advance()
    missing = kern and not look.music
    boxes = any("<loc" in text for case in chosen for text in (case.row["prediction"], *case.row["references"][:1]))
    return [
        tag("div", _notes(record, cases, chosen, worst, judge, missing=missing), class_="notes"),
        _form(chosen, boxes),
        tag("p", "No example here fits this filter.", id="nothing", hidden=True),
        tag("div", cards, class_="cards", id="cards"),
    ]


def _notes(
    record: Record, cases: Sequence[Case], chosen: Sequence[Case], worst: int, judge: Judge | None, *, missing: bool
) -> list[Safe]:
    counts = Counter(VERDICTS[case.right] for case in cases)
    split = record.metrics.get("split") or "the scored split"
    told = [f"{counts[name]:,} {name}" for name in ("right", "wrong") if counts[name]]
    lines = [f"{len(cases):,} examples of {split}" + (f": {', '.join(told)}." if told else ".")]
    if len(chosen) < len(cases):
        lines.append(
            f"Shown here are {len(chosen):,}: the {worst:,} worst, and {len(chosen) - worst:,} of the others at even "
            "distances (pgtune report --limit shows more)."
        )
    if judge is None:
        lines.append("The least sure answers come first: none of the run's metrics scores single examples.")
    else:
        line = f" Right is {judge.right}." if judge.right else ""
        lines.append(f"The worst by {judge.name} come first, and of equally bad ones the surest.{line}")
    if not record.trained:
        lines.append("The run is not finished: these are the answers of the base model, before training.")
    if missing:
        lines.append("The music is shown as text: engraving it needs pip install 'pgtune[sheet-music]'.")
    return [tag("p", line) for line in lines]


def _form(chosen: Sequence[Case], boxes: bool) -> Safe:
    """Hidden until the script is there that makes it work."""
    verdicts = Counter(VERDICTS[case.right] for case in chosen)
    fields: list[Child] = []
    if set(verdicts) != {"open"}:
        fields.append(_choice("verdict", "answers", {name: verdicts[name] for name in ("right", "wrong", "open")}))
    for key, label, field in (("part", "part", "part"), ("type", "question type", "question_type")):
        labels = Counter(case.row.get(field) or _NONE for case in chosen)
        if set(labels) != {_NONE}:
            fields.append(_choice(key, label, dict(sorted(labels.items()))))
    search = tag("input", type="search", id="f-q", name="q", autocomplete="off", spellcheck="false")
    fields.append(tag("p", tag("label", "search", for_="f-q"), search))
    if boxes:
        tick = tag("input", type="checkbox", id="f-boxes", name="boxes", checked=True)
        fields.append(tag("p", tag("label", tick, " boxes", for_="f-boxes"), class_="tick"))
    clear = tag("p", tag("button", "show all", type="button", id="f-clear"))
    status = tag("p", id="shown", role="status", aria_live="polite")
    return tag("form", tag("div", fields, clear, class_="fields"), status, id="filter", hidden=True, role="search",
               aria_label="Filter the examples")  # fmt: skip


def _choice(key: str, label: str, counts: Mapping[str, int]) -> Safe:
    options = [tag("option", f"all ({sum(counts.values())})", value="")]
    options += [tag("option", f"{name} ({count})", value=name) for name, count in counts.items() if count]
    return tag("p", tag("label", label, for_=f"f-{key}"), tag("select", options, id=f"f-{key}", name=key))


def _card(case: Case, look: _Look) -> Safe:
    row, verdict = case.row, VERDICTS[case.right]
    badge = tag("span", _SIGNS[verdict], class_="badge") if verdict in _SIGNS else None
    number = tag("a", f"{case.number}", href=f"#row-{case.number}", aria_label=f"Example {case.number}")
    sure = f"sure {math.exp(min(0.0, row['mean_log_probability'])):.2f}"
    score = f"{look.judge.name} {case.score:.3g}" if case.score is not None and look.judge else ""
    side = tag("small", join(score, " \u00b7 " if score else None, tag("span", sure, title=_SURE)))
    pictures, notes, wide = _pictures(row, look)
    texts = _texts(row, look, wide)
    labels = [row.get("part") and f"part {row['part']}", row.get("question_type"), row["where"]]
    foot = tag("footer", tag("small", " \u00b7 ".join(filter(None, labels))), _metadata(row))
    return tag(
        "article",
        tag("header", tag("h3", number, badge), side),
        tag("div", pictures, class_="pictures"),
        notes,
        texts,
        foot,
        class_=f"card {verdict}{' wide' if wide else ''}",
        id=f"row-{case.number}",
        data_verdict=verdict,
        data_part=row.get("part") or _NONE,
        data_type=row.get("question_type") or _NONE,
    )


_SURE = "the mean probability (geometric) that the model gave to the tokens of its answer"


def _pictures(row: Mapping[str, Any], look: _Look) -> tuple[list[Safe], list[Safe], bool]:
    """The row's pictures and its music, what is to be said of them, and whether the card takes the whole line."""
    given = row["image"] if isinstance(row["image"], list) else [row["image"]]
    truth, said = boxes_of(row) if len(given) == 1 else ([], [])
    found: list[Safe] = []
    notes: list[Safe] = []
    wide = False
    for place, path in enumerate(given, 1):
        alt = f"Picture {place} of {len(given)}" if len(given) > 1 else "The picture asked about"
        small = thumbnail(find_picture(path, look.run)) if path is not None else "drawn on demand, and kept nowhere yet"
        if isinstance(small, Thumbnail):
            found.append(figure(small, alt, truth, said))
            wide = wide or small.wide
        else:
            notes.append(tag("p", f"No picture: {small}", class_="lost"))
    note = _box_note(row)
    if truth or said or note:
        key = [tag("span", tag("i", class_="truth"), "truth"), tag("span", tag("i", class_="said"), "answer")]
        notes.append(tag("p", key if truth or said else None, tag("span", note) if note else None, class_="legend"))
    music = _music(row, look) if look.music else []
    return [*found, *music], notes, wide or bool(music)


def _box_note(row: Mapping[str, Any]) -> str:
    told = [f"{row[name]} {name}" for name in ("malformed", "repeated") if row.get(name)]
    told += ["the answer ended at its limit of tokens"] if row.get("cut_off") else []
    return f"left out: {', '.join(told)}" if told else ""


def _music(row: Mapping[str, Any], look: _Look) -> list[Safe]:
    drawn = []
    for label, text in (("truth", row["references"][0]), (look.said, row["prediction"])):
        if not is_kern(text):
            continue
        music = engrave(text)
        inside = figure(music.picture, f"Music engraved: {label}") if music.picture else None
        note = tag("small", music.note) if music.note else None
        drawn.append(tag("figure", tag("figcaption", label, " ", note), inside, class_="music"))
    return drawn


def _texts(row: Mapping[str, Any], look: _Look, wide: bool) -> Safe:
    references, said = row["references"], row["prediction"]
    truth = said if said in references else references[0]
    others = list(dict.fromkeys(text for text in references if text != truth))
    more = tag("small", "or: ", join(*(join(" | " if place else None, shown_text(text)) for place, text in
               enumerate(others[:5]))), f" and {len(others) - 5} more" if len(others) > 5 else None)  # fmt: skip
    pairs: list[tuple[str, Child]] = [("asked", shown_text(row["prefix"]))] if row["prefix"] else []
    pairs.append(("truth", [shown_text(truth, said), more if others else None]))
    if row.get("before") is not None:
        pairs.append(("before", shown_text(row["before"], truth)))
    pairs.append((look.said, shown_text(said, truth)))
    classes = "words kern" if is_kern(truth) or is_kern(said) else "words"
    listed = [
        tag("div", tag("dt", label), tag("dd", text, class_="answer" if label == look.said else None))
        for label, text in pairs
    ]
    return tag("dl", listed, class_=classes + (" beside" if wide else ""))


def _metadata(row: Mapping[str, Any]) -> Safe | None:
    if not row["metadata"]:
        return None
    text = json.dumps(row["metadata"], ensure_ascii=False, indent=1)
    cut = text[:_MOST_METADATA] + (" \u2026" if len(text) > _MOST_METADATA else "")
    return tag("details", tag("summary", "metadata"), tag("pre", cut))
