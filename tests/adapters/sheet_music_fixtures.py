"""Miniature sheet music in the published layouts, and scores of our own in four formats; all music is made up here."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from PIL import Image, ImageDraw

PIANO = """!!!COM: nobody
!!!OTL: Study
**kern\t**dynam\t**kern\t**text
*staff2\t*\t*staff1\t*
*clefF4\t*\t*clefG2\t*
*k[b-]\t*\t*k[b-]\t*
*F:\t*\t*F:\t*
*M3/4\t*\t*M3/4\t*
*MM96\t*\t*MM96\t*
=1-\t=1-\t=1-\t=1-
2.FF 2.C\tp\t4cc\\(\tla
.\t.\t8a\\L\tla
.\t<\t8g\\J)\t.
.\t.\t4fn/;\tla
=2\t=2\t=2\t=2
*^\t*\t*\t*
4A/\t2.F\\\t.\t4r\t.
4G/\t.\t.\t[2b-\\X\tlo
4A/\t.\t.\t.\t.
=3\t=3\t=3\t=3\t=3
4B-/\t2.D\\\tf\t4b-\\]\tli
4A/\t.\t.\tqcc/\t.
.\t.\t.\t4b-' 4gg'\t.
4F/\t.\t[\t4a\\\t.
*v\t*v\t*\t*\t*
=4:|!\t=4:|!\t=4:|!\t=4:|!
*clefG2\t*\t*\t*
2.c/\t.\t12f/L\t.
.\t.\t12g/\t.
.\t.\t12a/J\t.
.\t.\t2ff\\T\t.
==\t==\t==\t==
*-\t*-\t*-\t*-
"""
"""Four measures for piano: a split spine, lyrics, dynamics, ties, a grace note, a chord, a triplet, a clef change."""

PIANO_NORMAL = """**kern\t**kern
*clefF4\t*clefG2
*k[b-]\t*k[b-]
*M3/4\t*M3/4
2.FF 2.C\t4cc
.\t8a
.\t8g
.\t4f
=\t=
*^\t*
4A\t2.F\t4r
4G\t.\t2b-[
4A\t.\t.
=\t=\t=
4B-\t2.D\t4b-]
4A\t.\t8ccq
.\t.\t4b- 4gg
4F\t.\t4a
*v\t*v\t*
=:|!\t=:|!
*clefG2\t*
2.c\t12f
.\t12g
.\t12a
.\t2ff
==\t==
*-\t*-"""

ABC = """X:1
T:One
M:4/4
L:1/4
K:D
D E F A|d3 B|A2 F2|D4|]

X:2
T:Two
M:6/8
L:1/8
K:G
GAB d2e|dBG A3|G6|]
"""

BEKERN = """**ekern_1.0\t**ekern_1.0
*clefF4\t*clefG2
*k[f#]\t*k[f#]
*M2/4\t*M2/4
=12\t=12
4·GG·#·[ 4·D\t8·b·L
.\t8·cc·J
4·GG·]\t4·dd
=13\t=13
*-\t*-
"""

BEKERN_SUFFIX = """**ekern_1.0\t**ekern_1.0
*clefF4\t*clefG2
*k[f#]\t*k[f#]
*M2/4\t*M2/4
=\t=
4GG#[ 4D\t8bL
.\t8ccJ
4GG]\t4dd
=\t=
*-\t*-"""


def tune(notes: str, key: str = "*k[]") -> str:
    """A melody of quarter notes in 4/4 as kern: ``"c d e f g a b cc"`` are two measures."""
    rows = ["**kern", "*clefG2", key, "*M4/4"]
    for place, note in enumerate(notes.split()):
        if place % 4 == 0:
            rows.append(f"={place // 4 + 1}")
        rows.append(f"4{note}")
    return "\n".join([*rows, "==", "*-", ""])


def musicxml(notes: str, encoding: str = "utf-8") -> bytes:
    """A melody as MusicXML, two staves of one part; the lower one rests. Letters are notes of the octave above c'."""
    measures = []
    letters = notes.split()
    for start in range(0, len(letters), 4):
        number = start // 4 + 1
        attributes = (
            "<attributes><divisions>1</divisions><key><fifths>-1</fifths></key><time><beats>4</beats><beat-type>4"
            "</beat-type></time><staves>2</staves><clef number='1'><sign>G</sign><line>2</line></clef>"
            "<clef number='2'><sign>F</sign><line>4</line></clef></attributes>"
        )
        upper = "".join(
            f"<note><pitch><step>{letter.upper()}</step><octave>5</octave></pitch><duration>1</duration><voice>1</voice>"
            f"<type>quarter</type><staff>1</staff><lyric><syllabic>single</syllabic><text>lü</text></lyric></note>"
            for letter in letters[start : start + 4]
        )
        lower = "<note><rest/><duration>4</duration><voice>5</voice><type>whole</type><staff>2</staff></note>"
        head = attributes if number == 1 else ""
        backup = "<backup><duration>4</duration></backup>"
        measures.append(f"<measure number='{number}'>{head}{upper}{backup}{lower}</measure>")
    text = (
        f"<?xml version='1.0' encoding='{encoding}'?><score-partwise version='4.0'><part-list><score-part id='P1'>"
        f"<part-name>Flügel</part-name></score-part></part-list><part id='P1'>{''.join(measures)}</part>"
        "</score-partwise>"
    )
    return text.encode(encoding)


def mxl(score: bytes, inside: str = "Lied für Übung.xml") -> bytes:
    """The zipped form of a MusicXML file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(
            "META-INF/container.xml",
            f"<?xml version='1.0' encoding='UTF-8'?><container><rootfiles><rootfile full-path='{inside}'/></rootfiles>"
            "</container>",
        )
        archive.writestr(inside, score)
    return out.getvalue()


def mei(rest_measures: int = 2) -> str:
    """A melody as MEI behind some measures of rest, with the header that PrIMuS' files have."""
    notes = "".join(f"<note dur='4' oct='4' pname='{name}'/>" for name in "gabg")
    return (
        "<?xml version='1.0' encoding='UTF-8'?><mei xmlns='http://www.music-encoding.org/ns/mei'><meiHead><fileDesc>"
        "<titleStmt><title>Übung</title></titleStmt></fileDesc></meiHead><music><body><mdiv><score>"
        "<scoreDef key.sig='1s' meter.count='4' meter.unit='4'><staffGrp><staffDef n='1' lines='5' clef.shape='G' "
        "clef.line='2'/></staffGrp></scoreDef><section>"
        f"<measure><staff n='1'><layer n='1'><multiRest num='{rest_measures}'/></layer></staff></measure>"
        f"<measure><staff n='1'><layer n='1'>{notes}</layer></staff></measure>"
        "</section></score></mdiv></body></music></mei>"
    )


def staff_picture(path: Path, seed: int) -> None:
    """Five lines and some dots, as PNG or JPEG by the name."""
    picture = Image.new("L", (240, 40), 255)
    pen = ImageDraw.Draw(picture)
    for line in range(5):
        pen.line((2, 8 + 5 * line, 237, 8 + 5 * line), fill=0)
    for dot in range(6):
        y = 6 + (seed * 7 + dot * 5) % 24
        pen.ellipse((20 + dot * 36, y, 27 + dot * 36, y + 5), fill=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def grandstaff(root: Path, lists: bool = True) -> Path:
    """Two pieces with fragments in three keys, and the lists by type: transpositions to train on, originals to test."""
    names: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    splits = {"maj2_up": "train", "min3_down": "val", "original": "test"}
    for seed, piece in enumerate(("joplin/joplin/breeze", "chopin/mazurkas/mazurka06-3")):
        for measures in ("0-5", "6-9"):
            for key, split in splits.items():
                stem = f"grandstaff_dataset/{piece}/{key}_m-{measures}"
                staff_picture(root / f"{stem}.jpg", seed)
                staff_picture(root / f"{stem}_distorted.jpg", seed + 1)
                (root / f"{stem}.bekrn").write_text(BEKERN, encoding="utf-8")
                (root / f"{stem}.krn").write_text(PIANO_NORMAL + "\n", encoding="utf-8")
                names[split].append(f"{stem}.ekrn\n")
    if lists:
        for split, lines in names.items():
            path = root / f"partitions_grandstaff/types/{split}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(lines), encoding="utf-8")
    return root


def primus(root: Path, lists: bool = True, corpus: str = "Corpus") -> Path:
    """Four incipits of three RISM records."""
    ids = ("000100001-1_1_1", "000100001-1_2_1", "000100002-1_1_1", "000100003-1_1_1")
    for seed, name in enumerate(ids):
        folder = root / corpus / name
        staff_picture(folder / f"{name}.png", seed)
        staff_picture(folder / f"{name}_distorted.jpg", seed)
        semantic = ("clef-G2", "keySignature-DM", "timeSignature-3/4", "note-F#4_quarter.", "note-A4_eighth", "barline")
        agnostic = ("clef.G-L2", "accidental.sharp-L5", "note.quarter-S1", "dot-S1", "barline-L1")
        (folder / f"{name}.semantic").write_text("\t".join(semantic) + "\t", encoding="utf-8")
        (folder / f"{name}.agnostic").write_text("\t".join(agnostic) + "\t", encoding="utf-8")
    if lists:
        (root / "Data").mkdir()
        (root / "Data" / "train.txt").write_text("\n".join(ids[:3]) + "\n", encoding="utf-8")
        (root / "Data" / "test.txt").write_text(ids[3] + "\n", encoding="utf-8")
    return root


def own_scores(root: Path) -> Path:
    """Scores in every format, below folders with umlauts."""
    folder = root / "Übungen, leichte"
    folder.mkdir(parents=True)
    (folder / "piano.krn").write_text(PIANO, encoding="utf-8")
    (folder / "lied.mxl").write_bytes(mxl(musicxml("c d e f g a b g")))
    (folder / "tunes.abc").write_text(ABC, encoding="utf-8")
    (root / "rest.mei").write_text(mei(), encoding="utf-8")
    for number in range(1, 6):
        (root / f"melody{number}.krn").write_text(tune("c d e f g a b cc " * number), encoding="utf-8")
    return root
