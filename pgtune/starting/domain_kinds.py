"""The kinds of data sets of the four domains that `pgtune init` knows. See `pgtune.starting.kinds`."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from pgtune.starting.discovery import BOOKKEEPING, PICTURES, Found, Listing, json_file, start_of
from pgtune.starting.tables import TABLES, heads_of, text_columns

__all__ = ["dicom", "geotiff", "published", "scores"]

VECTORS = frozenset({".geojson", ".gpkg", ".shp"})
VECTOR_PARTS = frozenset({".cpg", ".dbf", ".prj", ".sbn", ".sbx", ".shx"})
RASTER_PARTS = frozenset({".aux", ".msk", ".ovr", ".tfw"})
SCORES = frozenset({".abc", ".krn", ".mei", ".musicxml", ".mxl"})
CLASS_NAMES = ("class", "label", "category", "type", "kind", "species", "name", "land_use", "landuse", "building")
_UP = r"(?P<root>(?:.*/)?)"
PUBLISHED: tuple[tuple[str, str, str, tuple[str, ...], int], ...] = (
    (_UP + r"LR_split_train_questions\.json", "rsvqa_lr", "RSVQA-LR", ("rsvqa",), 16),
    (_UP + r"USGS_split_train_questions\.json", "rsvqa_hr", "RSVQA-HR", ("rsvqa",), 16),
    (_UP + r"dataset_(rsicd|rsitmd|ucm|sydney|nwpu)\.json", "rs_captions", "captions of aerial scenes", ("cider",), 48),
    (_UP + r"labelTxt[^/]*/[^/]+\.txt", "dota", "DOTA", ("map",), 512),
    (_UP + r"train/train_(human|augmented)\.json", "chartqa", "ChartQA", ("chartqa_relaxed",), 48),
    (_UP + r"List-of-Files-for-Each-Experiments/.*/file_idx\.json", "scicap", "SciCap", ("cider", "bleu"), 96),
    (_UP + r"VQA_RAD [^/]*\.json", "vqa_rad", "VQA-RAD", ("medvqa",), 32),
    (_UP + r"imgs/xmlab\d+/source\.jpg", "slake", "SLAKE", ("medvqa",), 32),
    (_UP + r"ecgen-radiology/[^/]+\.xml", "iu_xray", "IU X-Ray", ("cider", "bleu", "rouge_l"), 256),
    (_UP + r"mimic-cxr-2\.0\.0-split\.csv(\.gz)?", "mimic_cxr", "MIMIC-CXR", ("cider", "bleu", "rouge_l"), 512),
    (_UP + r"partitions_grandstaff/.*train\.txt", "grandstaff", "GrandStaff", ("ser", "cer", "ler"), 1024),
    (_UP + r"\d+-[\d_]+/\d+-[\d_]+\.semantic", "primus", "PrIMuS", ("ser",), 512),
)
"""File names that tell a published data set: pattern (``root`` is the folder to name), data adapter, name, metrics and
how long its answers are."""


def published(listing: Listing) -> Found | None:
    """A published data set in its own layout, told by the names of its files."""
    for pattern, adapter, name, metrics, tokens in PUBLISHED:
        for path in listing.files:
            if match := re.fullmatch(pattern, path.as_posix(), re.IGNORECASE):
                return Found(
                    kind=name,
                    what=f"{name} in its published layout: {len(listing.files):,} files",
                    adapter=adapter,
                    source=listing.full(Path(match["root"])),
                    metrics=metrics,
                    max_new_tokens=tokens,
                    notes=("the papers' settings are in the shipped recipes, see `pgtune recipes`",),
                    claims=frozenset(listing.endings),
                )
    return None


def dicom(listing: Listing) -> Found | None:
    """DICOM files, told by their ending or by the mark in their header, with a table of labels or reports."""
    files = [path for path in listing.files if path.suffix.lower() in {".dcm", ".dicom"}]
    if not files:
        other = [path for path in listing.files if path.suffix.lower() not in {*PICTURES, *TABLES, *BOOKKEEPING} - {""}]
        files = [path for path in other[:500] if start_of(listing.full(path), 132)[128:] == b"DICM"]
    if not files:
        return None
    tables = listing.having(TABLES)
    heads = heads_of(listing.full(tables[0])) if tables else []
    columns = text_columns(heads)
    answer = next((head for head in heads if head.lower() in ("findings", "impression", "diagnosis", "finding")), None)
    answer = columns.get("suffix", answer)
    notes = []
    if not tables:
        notes.append("there is no table that says what is to be learnt; put a CSV file into the folder")
    elif answer is None:
        notes.append("suffix: which column of the table is the answer could not be told from its name")
    asked = columns.get("prefix")
    args: dict[str, Any] = {"prefix": f"answer en {{{asked}}}" if asked else "answer en what is shown?"}
    if answer:
        args["suffix"] = f"{{{answer}}}"
    if len(tables) > 1:
        args["labels"] = tables[0].as_posix()
    long = answer is not None and answer.lower() in ("report", "findings", "impression", "text")
    count = f"{len(files):,}{' or more' if listing.cut else ''} file{'s' if len(files) > 1 else ''}"
    return Found(
        kind="DICOM",
        what=f"DICOM: {count}, " + (f"the table {tables[0]} ({', '.join(heads)})" if tables else "no table"),
        adapter="dicom",
        source=listing.root,
        args=args,
        split_by="patient",
        metrics=("rouge_l", "bleu", "cider") if long else ("exact_match",),
        max_new_tokens=256 if long else 32,
        notes=tuple(notes),
        claims=frozenset({path.suffix.lower() for path in files} | TABLES),
    )


def geotiff(listing: Listing) -> Found | None:
    """TIFFs with vector labels, or with the tags that place a picture on the ground."""
    vectors = listing.having(VECTORS)
    rasters = listing.having({".tif", ".tiff"})
    if not rasters or not (vectors or any(_on_the_ground(listing.full(path)) for path in rasters[:20])):
        return None
    if len(rasters) < len(listing.pictures) / 2:
        return None
    notes: list[str] = []
    args: dict[str, Any] = {}
    if not vectors:
        notes.append("no vector labels (GeoJSON, GeoPackage, Shapefile) lie in the folder")
    else:
        names = _attributes(listing.full(vectors[0]))
        column = next((name for known in CLASS_NAMES for name in names if name.lower() == known), None)
        column = column or next(iter(names), None)
        if column:
            args["column"] = column
            notes.append(f"column was told by its name, the attributes with text are {', '.join(names)}")
        else:
            args["label"] = "object"
            notes.append("label: the features have no attribute with text, so all are one class; name it")
    few = len(rasters) <= 2
    if few:  # then parts of a scene are kept apart: blocks of 4 x 4 tiles, which must not overlap
        args["overlap"] = 0
    scenes = f"{len(rasters):,} scene{'s' if len(rasters) > 1 else ''}"
    return Found(
        kind="GeoTIFF",
        what=f"GeoTIFF: {scenes}, " + (f"labels in {vectors[0]}" if vectors else "no vector labels"),
        adapter="geotiff",
        source=listing.root,
        args=args,
        split_by="block" if few else "scene",
        metrics=("map",),
        max_new_tokens=256,
        notes=tuple(notes),
        claims=frozenset({".tif", ".tiff"}) | VECTORS | VECTOR_PARTS | RASTER_PARTS,
    )


def _on_the_ground(path: Path) -> bool:
    """Whether a TIFF has a GeoTIFF tag, 33550, 33922 or 34264, in its first directory."""
    content = start_of(path, 8)
    order = {b"II": "little", b"MM": "big"}.get(content[:2])
    if order is None or len(content) < 8:
        return False
    if content[2:4] in (b"+\0", b"\0+"):
        return True  # BigTIFF: larger than 4 GB, as only scenes are
    number = int.from_bytes
    with open(path, "rb") as file:
        file.seek(number(content[4:8], order))  # type: ignore[arg-type]
        count = number(file.read(2), order)  # type: ignore[arg-type]
        entries = file.read(12 * count)
    tags = {number(entries[at : at + 2], order) for at in range(0, len(entries), 12)}  # type: ignore[arg-type]
    return bool(tags & {33550, 33922, 34264})


def _attributes(path: Path) -> list[str]:
    """The attributes with text of a vector file."""
    if path.suffix.lower() == ".geojson":
        content = json_file(path)
        features = content.get("features") if isinstance(content, dict) else None
        if not isinstance(features, list):  # the data adapter will say what is wrong with it
            return []
        listed = [one.get("properties") for one in features[:100] if isinstance(one, dict)]
        found = [one for one in listed if isinstance(one, dict)]
        return list(dict.fromkeys(key for one in found for key, value in one.items() if isinstance(value, str)))
    if path.suffix.lower() == ".gpkg":
        try:
            with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as base:
                (layer,) = base.execute("SELECT table_name FROM gpkg_contents WHERE data_type = 'features'").fetchone()
                columns = base.execute("SELECT name, type FROM pragma_table_info(?)", (layer,)).fetchall()
        except (sqlite3.Error, TypeError):  # as above
            return []
        return [name for name, kind in columns if str(kind).upper().startswith("TEXT")]
    table = path.with_suffix(".dbf")
    if not table.is_file():
        return []
    content = table.read_bytes()[32:8192]  # dBase: after 32 bytes, 32 for each field: name to a zero byte, then type
    fields = [content[at : at + 32] for at in range(0, content.find(b"\r"), 32)]
    return [one[:11].split(b"\0")[0].decode("latin-1") for one in fields if one[11:12] == b"C"]


def _start_of_text(path: Path) -> bytes:
    return start_of(path, 4000).replace(b"\0", b"")  # UTF-16 too


def scores(listing: Listing) -> Found | None:
    """Scores: kern, MusicXML, MEI or ABC, to be engraved."""
    xml = [path for path in listing.having({".xml"}) if b"<score-" in _start_of_text(listing.full(path))]
    files = [*listing.having(SCORES), *xml]
    if not files:
        return None
    kinds = Counter(path.suffix.lower() for path in files)
    return Found(
        kind="scores",
        what="scores: " + ", ".join(f"{count:,} {ending}" for ending, count in kinds.most_common()),
        adapter="scores",
        source=listing.root,
        split_by="work",
        metrics=("ser", "cer", "ler"),
        max_new_tokens=1024,
        model={"image_fit": "pad"},
        claims=frozenset({*SCORES, ".xml"}),
    )
