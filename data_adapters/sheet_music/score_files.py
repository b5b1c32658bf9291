"""Scores in kern, MusicXML, MEI and ABC, as Humdrum texts."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import warnings
import zipfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pgtune.data_adapters.extras import require
from pgtune.data_adapters.sheet_music.engraving import EXTRA
from pgtune.errors import DataError, PgtuneError

__all__ = ["ENDINGS", "NoScore", "Score", "foreign", "read_scores", "stream_of"]

ENDINGS = (".abc", ".kern", ".krn", ".mei", ".musicxml", ".mxl", ".xml")
"""The file names that are taken for scores."""

MAX_BYTES = 64 * 2**20
"""Larger score files, or larger ones inside an .mxl, are refused."""


@dataclass(frozen=True)
class Score:
    """The Humdrum text of a piece, and how many measures its source has (None: kern, or not counted)."""

    text: str
    measures: int | None = None


class NoScore(DataError):
    """An XML file that is something else."""


def read_scores(path: Path, cache: Path | None = None) -> list[Score]:
    """Each piece in a file: one, or for ABC as many as there are tunes.

    Kern is returned as it is. All else is read by music21 (MEI by converter21) and turned into kern by converter21,
    never by verovio, whose Humdrum output is not faithful. ``cache``: a folder where these texts are kept, by the
    file's content and the packages' versions.

    Raises DataError where the file cannot be read, NoScore for XML of another kind.
    """
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path.stat().st_size} bytes, at most {MAX_BYTES} are read")
    raw = path.read_bytes()
    if path.suffix.lower() in (".krn", ".kern"):
        return [Score(_decoded(raw))]
    if cache is None:
        return _converted(path, raw)
    versions = " ".join(metadata.version(name) for name in ("music21", "converter21"))
    key = hashlib.sha256(raw + versions.encode()).hexdigest()
    kept = cache / f"{key}.json"
    if kept.is_file():
        return [Score(**fields) for fields in json.loads(kept.read_text(encoding="utf-8"))]
    scores = _converted(path, raw)
    cache.mkdir(parents=True, exist_ok=True)
    aside = kept.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps([asdict(score) for score in scores]), encoding="utf-8")
    aside.replace(kept)
    return scores


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")  # old files have Latin-1 in their comments; the notes are ASCII


def _converted(path: Path, raw: bytes) -> list[Score]:
    suffix = path.suffix.lower()
    if suffix == ".abc":
        return [Score(_text_of(stream)) for stream in foreign(_abc, _with_length(_decoded(raw)))]
    if suffix == ".mxl":
        raw = _unzipped(raw)
    try:
        root = ElementTree.fromstring(raw)
    except ElementTree.ParseError as error:
        raise DataError(f"broken or cut off XML: {error}") from None
    kind = root.tag.rpartition("}")[2]
    if kind in ("score-partwise", "mei"):
        if kind == "mei":
            _plain_mei(root)
        reader = _mei if kind == "mei" else _musicxml
        stream = foreign(reader, ElementTree.tostring(root, encoding="unicode"))
        return [Score(_text_of(stream), _count_measures(root))]
    if kind == "score-timewise":
        raise DataError("MusicXML with measures outside (score-timewise), which is not read; save it as score-partwise")
    raise NoScore(f"XML, but no score: its root is <{kind}>, expected <score-partwise> or <mei>")


def _count_measures(root: ElementTree.Element) -> int:
    """The measures of an MEI score, or of the first part of a MusicXML one."""
    part = next((element for element in root if element.tag.endswith("part")), root)
    return sum(element.tag.rpartition("}")[2] == "measure" for element in part.iter())


def _plain_mei(root: ElementTree.Element) -> None:
    """Takes away what converter21 does not read: the header, and rests of several measures, which are written out."""
    root.attrib.setdefault("meiversion", "4.0.0")  # which it asks for
    for head in [element for element in root if element.tag.endswith("meiHead")]:
        root.remove(head)
    for parent in list(root.iter()):
        for measure in [child for child in parent if child.tag.endswith("}measure") or child.tag == "measure"]:
            rests = [element for element in measure.iter() if element.tag.rpartition("}")[2] == "multiRest"]
            if not rests:
                continue
            count = int(rests[0].get("num", "1"))
            for rest in rests:
                rest.tag = rest.tag.replace("multiRest", "mRest")
                rest.attrib.pop("num", None)
            place = list(parent).index(measure)
            for _ in range(count - 1):
                parent.insert(place, deepcopy(measure))


def _unzipped(raw: bytes) -> bytes:
    """The score in an .mxl, which META-INF/container.xml names."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            names = archive.namelist()
            if "META-INF/container.xml" not in names:
                raise DataError(f"an .mxl without META-INF/container.xml; it holds {', '.join(names[:5])}")
            container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
            found = [element.get("full-path", "") for element in container.iter() if element.tag.endswith("rootfile")]
            if not found or found[0] not in names:
                raise DataError(f"META-INF/container.xml names {found[:1]}, the archive holds {', '.join(names[:5])}")
            if archive.getinfo(found[0]).file_size > MAX_BYTES:
                size = archive.getinfo(found[0]).file_size
                raise DataError(f"{found[0]} has {size} bytes, at most {MAX_BYTES} are read")
            return archive.read(found[0])
    except (zipfile.BadZipFile, EOFError, ElementTree.ParseError, RuntimeError) as error:
        raise DataError(f"broken or cut off .mxl: {error}") from None


def foreign(reader: Callable[[Any], Any], *arguments: Any) -> Any:
    """What a reader of another package gives; whatever it raises or warns of is about the file."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            return reader(*arguments)
        except PgtuneError:
            raise
        except Exception as error:  # readers of other packages fail on odd files in any way
            raise DataError(f"cannot be converted: {type(error).__name__}: {error}") from error


def _musicxml(text: str) -> Any:
    return require("music21", EXTRA).converter.parseData(text, format="musicxml")


def _mei(text: str) -> Any:
    return require("converter21.mei", EXTRA).MeiReader(text).run()


def _with_length(text: str) -> str:
    """Names the length of a note, an eighth, in tunes without meter and length, as ABC's standard has it (4.7).

    music21 refuses them.
    """
    lines: list[str] = []
    of_all: set[str] = set()  # fields in front of the first tune
    fields: set[str] = set()
    header = True
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        name = line[:2]
        if name == "X:":
            of_all = of_all if lines and "X:" in fields else set(fields)
            fields, header = {"X:", *of_all}, True
        elif header:
            fields.add(name)
        if header and name == "K:":
            if not fields & {"L:", "M:"}:
                lines.append("L:1/8")
            header = False
        lines.append(line)
    return "\n".join(lines)


def _abc(text: str) -> list[Any]:
    music21 = require("music21", EXTRA)
    found = music21.converter.parseData(text, format="abc")
    return list(found.scores) if isinstance(found, music21.stream.Opus) else [found]


def _text_of(stream: Any) -> str:
    """A music21 score as a Humdrum text, by converter21. Raises DataError."""
    return str(foreign(_written, stream))


def _written(stream: Any) -> str:
    humdrum = require("converter21.humdrum", EXTRA)
    out = io.StringIO()
    humdrum.HumdrumWriter(stream).write(out)
    return out.getvalue()


def stream_of(kern: str) -> Any:
    """A valid kern text as a music21 score, by converter21. Raises DataError."""
    return foreign(_read, kern)


def _read(kern: str) -> Any:
    humdrum = require("converter21.humdrum", EXTRA)
    file = humdrum.HumdrumFile()
    file.readString(kern + "\n")
    return file.createMusic21Stream()
