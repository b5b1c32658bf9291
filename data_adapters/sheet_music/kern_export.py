"""The way back: predicted kern, checked and mended, as MusicXML, MIDI, pictures and kern files.

Each function takes the predicted rows and the path of ``--out``. One row is written to that file; several are written
to a folder of that name, one file a row, named by the row's number and its picture. Rows that are neither valid nor
mended are not written, and the summary says why; where no row can be written, that is an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from pgtune.data_adapters.extras import require
from pgtune.data_adapters.sheet_music.engraving import EXTRA, engrave_svg, rasterize
from pgtune.data_adapters.sheet_music.kern import normal_form
from pgtune.data_adapters.sheet_music.kern_check import mend_kern
from pgtune.data_adapters.sheet_music.score_files import foreign, stream_of
from pgtune.errors import DataError

__all__ = ["EXPORTS", "kern_to_midi", "kern_to_musicxml", "kern_to_png", "kern_to_svg"]

Exporter = Callable[[Sequence[Mapping[str, Any]], Path], dict[str, Any]]


def _score(kern: str) -> Any:
    """A music21 score whose measures are numbered, and whose short ones are marked as such."""
    score = stream_of(normal_form(kern))
    for part in score.parts:
        measures = list(part.getElementsByClass("Measure"))
        upbeat = bool(measures) and 0 < measures[0].quarterLength < measures[0].barDuration.quarterLength
        for number, measure in enumerate(measures, 0 if upbeat else 1):
            measure.number = number
            short = Fraction(measure.barDuration.quarterLength) - Fraction(measure.quarterLength)
            if short > 0 and number == 0:
                measure.paddingLeft = short
            elif short > 0:
                measure.paddingRight = short
    return score


def kern_to_musicxml(kern: str) -> bytes:
    """A valid kern text as MusicXML, by converter21 and music21. Raises DataError."""
    require("music21", EXTRA)
    exporter = require("music21.musicxml.m21ToXml", EXTRA)
    xml = bytes(foreign(lambda: exporter.GeneralObjectExporter(_score(kern)).parse()))
    # music21 writes today's date and drawn ids, which make two files of the same music differ.
    xml = re.sub(rb"\s*<encoding-date>.*?</encoding-date>", b"", xml)
    ids: dict[bytes, bytes] = {}
    return re.sub(rb"\b[PI][0-9a-f]{32}\b", lambda found: ids.setdefault(found[0], b"P%d" % (len(ids) + 1)), xml)


def kern_to_midi(kern: str) -> bytes:
    """A valid kern text as a standard MIDI file. Raises DataError."""
    translate = require("music21.midi.translate", EXTRA)
    return bytes(foreign(lambda: translate.streamToMidiFile(_score(kern)).writestr()))


def kern_to_svg(kern: str) -> bytes:
    """A valid kern text, engraved. Raises DataError."""
    return str(engrave_svg(normal_form(kern))).encode()


def kern_to_png(kern: str) -> bytes:
    """A valid kern text, engraved, as PNG on white. Raises DataError."""
    return bytes(rasterize(engrave_svg(normal_form(kern))))


def _kern_file(kern: str) -> bytes:
    return (kern + "\n").encode()


def _export(write: Callable[[str], bytes], rows: Sequence[Mapping[str, Any]], path: Path) -> dict[str, Any]:
    counts = {"valid": 0, "mended": 0, "invalid": 0}
    report: list[dict[str, Any]] = []
    if len(rows) > 1:
        path.mkdir()
    width = max(4, len(str(len(rows))))
    for number, row in enumerate(rows, 1):
        verdict = mend_kern(str(row["prediction"]))
        state, reasons = verdict.state, list(verdict.reasons)
        target = path if len(rows) == 1 else path / f"{number:0{width}d}{_label(row)}{path.suffix}"
        if state != "invalid":
            try:
                data = write(verdict.text)
            except DataError as error:
                state, reasons = "invalid", [str(error)]
        counts[state] += 1
        entry: dict[str, Any] = {"row": number, "state": state}
        if row.get("where"):
            entry["where"] = row["where"]
        if reasons:
            entry["reasons"] = reasons
        if verdict.irregular:
            entry["irregular"] = list(verdict.irregular)
        if state != "invalid":
            target.write_bytes(data)
            if target != path:
                entry["file"] = target.name
        if state != "valid" or verdict.irregular or len(rows) == 1:
            report.append(entry)
    written = counts["valid"] + counts["mended"]
    if not written:
        why = "; ".join(f"row {entry['row']}: {entry['reasons'][0]}" for entry in report[:3])
        raise DataError(f"nothing to write: none of {len(rows)} predictions is valid kern. {why}")
    return {"written": written, **counts, "rows": report}


def _label(row: Mapping[str, Any]) -> str:
    """A name a person knows the row by, safe in a file's name."""
    metadata = row.get("metadata") or {}
    image = row.get("image")
    name = metadata.get("file") or (image if isinstance(image, str) else "")
    stem = os.path.splitext(os.path.basename(str(name)))[0]
    safe = re.sub(r"[^\w.-]+", "_", stem)[:60]
    measures = metadata.get("measures")
    return (f"_{safe}" if safe else "") + (f"_m{measures[0]}-{measures[1]}" if isinstance(measures, list) else "")


def _exporter(write: Callable[[str], bytes]) -> Exporter:
    def export(rows: Sequence[Mapping[str, Any]], path: Path) -> dict[str, Any]:
        """Writes the rows; a JSON-able summary. See the module."""
        return _export(write, rows, path)

    return export


EXPORTS: dict[str, Exporter] = {
    ".krn": _exporter(_kern_file),
    ".mid": _exporter(kern_to_midi),
    ".musicxml": _exporter(kern_to_musicxml),
    ".png": _exporter(kern_to_png),
    ".svg": _exporter(kern_to_svg),
}
"""By the ending of ``--out``: what writes the predicted rows in that form."""
