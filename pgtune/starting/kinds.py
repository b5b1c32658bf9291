"""The kinds of data sets that `pgtune init` knows: told by what is in their files, never by a folder's name alone.

Each kind is a function ``(listing) -> Found | None``. In ``KINDS`` the more special ones stand first.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pgtune.starting.discovery import PICTURES, Found, Kind, Listing, json_file, json_of, start_of
from pgtune.starting.domain_kinds import dicom, geotiff, published, scores
from pgtune.starting.tables import TABLES, group_column, heads_of, text_columns

__all__ = ["KINDS"]


def jsonl(listing: Listing) -> Found | None:
    """JSON Lines with a picture, what is asked and what is to be answered in each row."""
    files = [path for path in listing.having({".jsonl"}) if len(path.parts) <= 2]
    for path in files:
        first = _first_row(listing.full(path))
        columns = text_columns(first)
        if not {"image", "prefix", "suffix"} <= columns.keys():
            continue
        beside = [other for other in files if other.parent == path.parent]
        one = len(beside) == 1
        return Found(
            kind="JSON Lines",
            what=f"JSON Lines with the keys {', '.join(first)} ({len(beside)} file{'' if one else 's'})",
            adapter="jsonl",
            source=listing.full(path) if one else listing.full(path.parent),
            args={key: name for key, name in columns.items() if key != name},
            split_by=group_column(first) or "image",
            claims=frozenset({".jsonl", *PICTURES}),
            **_scored(str(first[columns["suffix"]])),
        )
    return None


def _first_row(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        line = file.readline(1_000_000).removeprefix(b"\xef\xbb\xbf")
    row = json_of(line)
    return row if isinstance(row, dict) else {}


def _scored(answer: str) -> dict[str, Any]:
    """Metrics and length for answers like this one: boxes, sentences, or short ones."""
    if "<loc" in answer:
        return {"metrics": ("map",), "max_new_tokens": 256}
    if len(answer.split()) > 5:
        return {"metrics": ("cider", "bleu", "rouge_l"), "max_new_tokens": 128}
    return {}


def coco(listing: Listing) -> Found | None:
    """COCO annotations: JSON with images, annotations and, for boxes, categories."""
    read = ((path, json_file(listing.full(path))) for path in listing.having({".json"})[:50])
    hits = [(path, one) for path, one in read if _is_coco(one)]
    if not hits:
        return None
    path, content = hits[0]
    detect = bool(content.get("categories")) and any("bbox" in one for one in content["annotations"][:5])
    names = [str(one.get("name")) for one in content.get("categories") or []]
    what = f"COCO {'detection' if detect else 'captions'}: {len(content['images']):,} pictures in {path}"
    if len(hits) > 1:
        what += f" and more in {_some(other.as_posix() for other, _ in hits[1:])}"
    return Found(
        kind="COCO",
        what=f"{what}, {len(names)} classes ({_some(names)})" if detect else what,
        adapter="coco",
        source=listing.full(path) if len(hits) == 1 else listing.root,
        args={"task": "detect" if detect else "caption"},
        metrics=("map",) if detect else ("cider", "bleu", "rouge_l"),
        max_new_tokens=256 if detect else 64,
        claims=frozenset({".json", *PICTURES}),
    )


def _is_coco(content: Any) -> bool:
    """Whether it has COCO's lists, of objects; ``categories`` may lack."""
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        return False
    lists = [content["images"], content["annotations"], content.get("categories") or []]
    return all(isinstance(each, list) and all(isinstance(one, dict) for one in each) for each in lists)


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (", ..." if len(listed) > 5 else "")


def voc(listing: Listing) -> Found | None:
    """Pascal VOC: XML with <annotation> for each picture."""
    files = [path for path in listing.having({".xml"}) if b"<annotation" in start_of(listing.full(path), 2000)]
    if not files:
        return None
    return Found(
        kind="VOC",
        what=f"Pascal VOC detection: {len(files):,} annotated pictures",
        adapter="voc",
        source=listing.root,
        metrics=("map",),
        max_new_tokens=256,
        claims=frozenset({".xml", *PICTURES}),
    )


def yolo(listing: Listing) -> Found | None:
    """YOLO: a text file with ``class x y w h`` in fractions for each picture."""
    stems = {path.stem for path in listing.pictures}
    labels = [path for path in listing.having({".txt"}) if path.stem in stems]
    fits = re.compile(r"\d+(\s+-?\d*\.?\d+(e-?\d+)?){4,}\s*", re.IGNORECASE)
    starts = [start_of(listing.full(path), 2000).decode("latin-1") for path in labels[:20]]
    lines = [line for start in starts for line in start.splitlines()[:5]]
    if not labels or not all(fits.fullmatch(line) for line in lines if line.strip()):
        return None
    return Found(
        kind="YOLO",
        what=f"YOLO detection: {len(labels):,} label files",
        adapter="yolo",
        source=listing.root,
        metrics=("map",),
        max_new_tokens=256,
        claims=frozenset({".txt", ".yaml", *PICTURES}),
    )


def table(listing: Listing) -> Found | None:
    """A CSV file with a column of pictures and a column of answers."""
    for path in listing.having(TABLES) if listing.pictures else ():
        heads = heads_of(listing.full(path))
        columns = text_columns(heads)
        if not {"image", "suffix"} <= columns.keys():
            continue
        asked, answer = columns.get("prefix"), columns["suffix"]
        args: dict[str, Any] = {"image": columns["image"], "suffix": answer}
        if asked is None:
            caption = answer.lower() in ("caption", "text", "report")
            args["prefix_template"] = "caption en" if caption else "answer en what is shown?"
        elif asked.lower() == "question":
            args["prefix_template"] = f"answer en {{{asked}}}"
        else:
            args["prefix"] = asked
        if group := group_column(heads):
            args["groups"] = [group]
        return Found(
            kind="CSV",
            what=f"the table {path} with the columns {', '.join(heads)}",
            adapter="csv",
            source=listing.full(path),
            args=args,
            split_by=group or "image",
            claims=frozenset({*TABLES, *PICTURES}),
            **_scored(_first_cell(listing.full(path), answer)),
        )
    return None


def _first_cell(path: Path, column: str) -> str:
    heads = heads_of(path)
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        sample = file.read(100_000)
    delimiter = max((",", ";", "\t", "|"), key=sample.partition("\n")[0].count)
    try:
        rows = list(csv.reader(sample.splitlines(), delimiter=delimiter))[1:3]
    except csv.Error:  # the data adapter will say what is wrong with it
        return ""
    return rows[0][heads.index(column)] if rows and len(rows[0]) == len(heads) else ""


def classes(listing: Listing) -> Found | None:
    """A folder of pictures for each class, perhaps below a folder for each split."""
    folders = Counter(path.parent for path in listing.pictures if path.parent.parts)
    labels = sorted({folder.name for folder in folders})
    if len(labels) < 2:
        return None
    return Found(
        kind="class folders",
        what=f"{len(listing.pictures):,} pictures in folders, one a class ({_some(labels)})",
        adapter="image_folder",
        source=listing.root,
        max_new_tokens=16,
        claims=frozenset(PICTURES),
    )


KINDS: tuple[Kind, ...] = (published, jsonl, coco, voc, yolo, dicom, geotiff, scores, table, classes)
