"""Build a small sheet music data set: the beginning of a staff, with questions on its clef, key signature and metre.

    pip download --no-deps --dest packages music21==10.5.1
    python scripts/build_incipits.py packages                      # writes data/incipits in about 20 s

Needs Pillow, verovio and resvg-py (pip install 'pgtune[sheet-music]'). Of music21's corpus, three collections are
engraved: Palestrina's masses (kern), Bach's chorales (MusicXML), Ryan's Mammoth Collection of fiddle tunes (ABC). One
voice of a piece, its first bars, in one of verovio's fonts, cut at the left so that little more than clef, key and
metre is in the picture: 112 pixels show no more. Each row's metadata has the same in kern: `*clefG2 *k[f#c#] *M3/4`. A
clef is named G, F or G8 (the octave clef of tenors); a metre as it is drawn: 3/4, C, C|.

The split is by work: a mass, a chorale, a tune is in one split only. What is drawn is real music engraved by a program;
it is no scan.

Licences: music21's corpus carries terms per file (corpus/license.txt in the package: out of copyright in the United
States, the encodings free to use, some not commercially). The Palestrina encodings are John Miller's, the tunes John
Chambers' and others'. Nothing of it is committed here. verovio is LGPL-3, its fonts are SIL OFL.
"""

from __future__ import annotations

import io
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from real_content import SIZE, Archive, Package, Question, arguments, lot, write

MUSIC21 = Package("music21", "10.5.1", "dc3309498c4c95cebdf8d4f20c868deb6b63bce1d929cad4f51a7ccc982987b1")
CLEF, METRE = "answer en which clef is this?", "answer en what is the metre?"
SHARP, FLAT = "answer en how many sharps?", "answer en how many flats?"
FONTS = ("Leipzig", "Bravura", "Leland", "Gootville", "Petaluma")
SHARES = {"train": 0.6, "validation": 0.12, "test": 0.28}
PER_ANSWER = {"train": 24, "validation": 4, "test": 6}
"""At most so many pieces of a collection with the same clef, key and metre."""
SHARPS, FLATS = ("f#", "c#", "g#", "d#", "a#", "e#", "b#"), ("b-", "e-", "a-", "d-", "g-", "c-", "f-")
FIFTHS = {"C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5, "F#": 6, "C#": 7, "F": -1, "Bb": -2, "Eb": -3, "Ab": -4}
MODES = {"": 0, "maj": 0, "m": -3, "min": -3, "mix": -1, "dor": -2, "phr": -4, "lyd": 1, "aeo": -3, "ion": 0, "loc": -5}


@dataclass(frozen=True)
class Incipit:
    """The first bars of one voice as verovio reads them, and what stands at their beginning."""

    name: str
    collection: str
    work: str
    music: str
    kern: str


def signature(fifths: int) -> str:
    """Kern's key signature: 2 is `*k[f#c#]`, -1 is `*k[b-]`."""
    return f"*k[{''.join(SHARPS[:fifths] if fifths > 0 else FLATS[:-fifths])}]"


def palestrina(archive: Archive) -> Iterator[Incipit]:
    """One voice a movement; the work is the mass."""
    names = [name for name in archive.names if name.startswith("music21/corpus/palestrina/") and name.endswith(".krn")]
    for name, content in archive.read(names):
        lines = content.decode("latin-1").splitlines()
        title = next((line[8:].strip() for line in lines if line.startswith("!!!OPR:")), "")
        columns = [line.split("\t") for line in lines if line and not line.startswith("!!")]
        voices = len(columns[0])
        voice = lot(name, "voice") % voices
        kern: list[str] = []
        for fields in columns:
            if len(fields) != voices:
                break  # a spine splits: the bars before are enough
            token = fields[voice]
            if token.startswith("=4"):
                break
            if token not in (".", "*", "!", "*-") and not token.startswith(("!", "*I", "*>")) and not _names_key(token):
                kern.append(token)
        head = [token for token in kern if token.startswith(("*clef", "*k[", "*M"))]
        if not title or [token[:2] for token in head] != ["*c", "*k", "*M"]:
            continue
        yield Incipit(name.rpartition("/")[2], "palestrina", title, "\n".join([*kern, "*-", ""]), " ".join(head))


def _names_key(token: str) -> bool:
    """Whether the token names a key or mode (`*G:mix`), which is not drawn."""
    return re.fullmatch(r"\*[A-Ga-g][#-]?:.*", token) is not None


def chorales(archive: Archive) -> Iterator[Incipit]:
    """Two voices a chorale; the work is its BWV number."""
    names = [name for name in archive.names if name.startswith("music21/corpus/bach/bwv") and name.endswith(".mxl")]
    for name, content in archive.read(names):
        with zipfile.ZipFile(io.BytesIO(content)) as container:
            files = ElementTree.fromstring(container.read("META-INF/container.xml"))
            inner = next(item.get("full-path", "") for item in files.iter() if item.tag.endswith("rootfile"))
            root = ElementTree.fromstring(container.read(inner))
        stem = name.rpartition("/")[2].removesuffix(".mxl")
        parts = [(part.get("id", ""), part.findall("measure")[:2]) for part in root.findall("part")]
        if len(parts) < 4:
            continue
        first = lot(name, "voice") % 4
        for voice in (first, (first + 1 + lot(name, "second") % 3) % 4):
            identity, measures = parts[voice]
            attributes = measures[0].find("attributes") if measures else None
            if attributes is None or attributes.find("time") is None:
                continue
            for measure in measures:
                for unwanted in ("direction", "print", "harmony", "sound"):
                    for element in measure.findall(unwanted):
                        measure.remove(element)
                for note in measure.findall("note"):
                    for lyric in note.findall("lyric"):
                        note.remove(lyric)
            answer = _musicxml_answer(attributes)
            body = "".join(ElementTree.tostring(measure, encoding="unicode") for measure in measures)
            music = (
                '<score-partwise version="3.1"><part-list><score-part id="P1"><part-name/></score-part></part-list>'
                f'<part id="P1">{body}</part></score-partwise>'
            )
            yield Incipit(f"{stem}_{identity}", "chorales", stem.removesuffix("-sc"), music, answer)


def _musicxml_answer(attributes: ElementTree.Element) -> str:
    def text(path: str, default: str = "") -> str:
        return (attributes.findtext(path) or default).strip()

    time = attributes.find("time")
    symbol = {"common": " *met(c)", "cut": " *met(c|)"}.get(time.get("symbol", "") if time is not None else "", "")
    octave = {"-1": "v", "1": "^"}.get(text("clef/clef-octave-change"), "")
    clef = f"*clef{text('clef/sign')}{octave}{text('clef/line')}"
    metre = f"*M{text('time/beats')}/{text('time/beat-type')}"
    return f"{clef} {signature(int(text('key/fifths', '0')))} {metre}{symbol}"


def tunes(archive: Archive) -> Iterator[Incipit]:
    """The beginning of a tune; the work is the tune."""
    start = "music21/corpus/ryansMammoth/"
    names = [name for name in archive.names if name.startswith(start) and name.endswith(".abc")]
    for name, content in archive.read(names):
        lines = content.decode("latin-1").splitlines()
        place = next((number for number, line in enumerate(lines) if line.startswith("K:")), None)
        if place is None:
            continue
        fields = {line[0]: line[2:].strip() for line in reversed(lines[: place + 1]) if line[1:2] == ":"}
        key = re.fullmatch(r"([A-G][#b]?)\s*([A-Za-z]*)", fields["K"])
        metre = {"C": "*M4/4 *met(c)", "C|": "*M2/2 *met(c|)"}.get(fields.get("M", ""), f"*M{fields.get('M', '')}")
        mode = key[2].lower()[:3] if key else "?"
        if key is None or key[1] not in FIFTHS or mode not in MODES or not re.match(r"\*M\d+/\d+", metre):
            continue
        body = " ".join(line for line in lines[place + 1 :] if line[1:2] != ":" and not line.startswith("%"))
        plain = re.sub(r'"[^"]*"|![^!]*!|\{[^}]*\}|[~TuvHJ\\]', "", body)  # no fingerings, ornaments, grace notes
        bars = [bar for bar in re.split(r"\|+:?|:\|+", plain) if bar.strip()]
        music = f"X:1\nM:{fields['M']}\nL:{fields.get('L', '1/8')}\nK:{fields['K']}\n{'|'.join(bars[:2])}|\n"
        answer = f"*clefG2 {signature(FIFTHS[key[1]] + MODES[mode])} {metre}"
        yield Incipit(name.rpartition("/")[2], "tunes", fields.get("T", name), music, answer)


def engrave(toolkit: Any, incipit: Incipit) -> Image.Image | None:
    """The beginning of the staff, SIZE x SIZE, black on white; None where verovio cannot read the music."""
    import resvg_py

    draw = lot(incipit.name, "look")
    options = {
        "scale": 54 + draw % 12,  # a staff space is 18 pixels at 100
        "font": FONTS[draw // 12 % len(FONTS)],
        "adjustPageHeight": True,
        "adjustPageWidth": True,
        "pageWidth": 4000,
        "header": "none",
        "footer": "none",
        "breaks": "none",
    }
    toolkit.setOptions(options)
    if not toolkit.loadData(incipit.music):
        return None
    drawn = resvg_py.svg_to_bytes(svg_string=toolkit.renderToSVG(1), skip_system_fonts=True, background="white")
    with Image.open(io.BytesIO(bytes(drawn))) as image:
        ink = 255 - np.asarray(image.convert("L"))
    lines = np.flatnonzero((ink > 90).mean(axis=1) > 0.5)
    if not len(lines):
        return None
    top = int(lines.mean()) - SIZE // 2 + draw // 60 % 21 - 10
    left = int(np.flatnonzero((ink > 90).any(axis=0))[0]) - 6 - draw // 1260 % 12
    page = np.zeros((SIZE, SIZE), dtype=np.uint8)
    rows = range(max(0, top), min(ink.shape[0], top + SIZE))
    columns = range(max(0, left), min(ink.shape[1], left + SIZE))
    page[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = ink[
        rows.start : rows.stop, columns.start : columns.stop
    ]
    return Image.fromarray(255 - page)


def questions(kern: str) -> list[tuple[str, str, str]]:
    """Question, type and answer for the beginning of a staff; flats are asked for only where there is no sharp."""
    clef, key, metre, *symbol = kern.split()
    names = {"*clefG2": "G", "*clefF4": "F", "*clefGv2": "G8"}
    drawn = {"*met(c)": "C", "*met(c|)": "C|"}[symbol[0]] if symbol else metre.removeprefix("*M")
    found = [(METRE, "metre", drawn)]
    if clef in names:
        found.append((CLEF, "clef", names[clef]))
    sharps, flats = key.count("#"), key.count("-")
    if not flats:
        found.append((SHARP, "key", str(sharps)))
    if not sharps:
        found.append((FLAT, "key", str(flats)))
    return found


def split_of(incipit: Incipit) -> str:
    """The split of the work, by lot."""
    draw = lot(incipit.collection, incipit.work, "split") / 2**64
    if draw < SHARES["test"]:
        return "test"
    return "validation" if draw < SHARES["test"] + SHARES["validation"] else "train"


def main() -> int:
    """Run the command line."""
    import verovio

    options = arguments("Engrave the beginnings of real pieces.", "incipits")
    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    archive = MUSIC21.open(options.packages)
    found = [*palestrina(archive), *chorales(archive), *tunes(archive)]
    rows: dict[str, list[Question]] = {split: [] for split in SHARES}
    pictures: dict[str, Image.Image] = {}
    counts: Counter[tuple[str, str, str]] = Counter()
    failed = 0
    for incipit in sorted(found, key=lambda item: lot(item.name, "choice")):
        split = split_of(incipit)
        if counts[split, incipit.collection, incipit.kern] >= PER_ANSWER[split]:
            continue
        picture = engrave(toolkit, incipit)
        if picture is None:
            failed += 1
            continue
        counts[split, incipit.collection, incipit.kern] += 1
        name = f"{incipit.collection}_{len(pictures):04d}"
        pictures[name] = picture
        groups = {"work": f"{incipit.collection}: {incipit.work}"}
        rows[split] += [
            Question(name, prefix, answer, kind, groups, {"kern": incipit.kern, "collection": incipit.collection})
            for prefix, kind, answer in questions(incipit.kern)
        ]
    write(options.out, rows, pictures)
    print(f"{failed} beginnings could not be engraved")
    print("licences: terms per file in music21/corpus/license.txt; some encodings are not for commercial use")
    return 0


if __name__ == "__main__":
    sys.exit(main())
