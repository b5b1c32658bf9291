"""The normal form of kern, its checks and what is mended."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest
from sheet_music_fixtures import BEKERN, PIANO, PIANO_NORMAL, tune

from pgtune.data_adapters.sheet_music.kern import KernError, normal_form, parse_kern
from pgtune.data_adapters.sheet_music.kern_check import check_kern, check_times, mend_kern
from pgtune.data_adapters.sheet_music.kern_tokens import duration, normal_token

music21 = pytest.importorskip("music21")
CORPUS = Path(music21.__file__).parent / "corpus"


def test_the_normal_form_of_a_score() -> None:
    assert normal_form(PIANO) == PIANO_NORMAL
    assert normal_form(PIANO_NORMAL) == PIANO_NORMAL
    assert normal_form(PIANO.replace("\n", "\r\n")) == PIANO_NORMAL


@pytest.mark.parametrize(
    ("token", "normal"),
    [
        (".", "."),
        ("8.ff#\\L", "8.ff#"),
        ("(4BB-/;)", "4BB-"),
        ("4dn", "4d"),
        ("[2b--X", "2b--["),
        ("2e_/", "2e_"),
        ("16g##]JJ", "16g##]"),
        ("ccq", "8ccq"),
        ("16ddqqL", "16ddq"),
        ("4ryy", "4ryy"),
        ("4r;", "4r"),
        ("2rgg", "2r"),
        ("3%2c", "3%2c"),
        ("00AAA", "00AAA"),
        ("4g 4e- 4c", "4c 4e- 4g"),
        ("4c e g", "4c 4e 4g"),
        ("4c#T 4c", "4c 4c#"),
        ("4BBB 4b 4B", "4BBB 4B 4b"),
        ("4a<>", "4a"),
        ("4gi", "4g"),
    ],
)
def test_a_token_in_the_normal_form(token: str, normal: str) -> None:
    assert normal_token(token) == normal
    assert normal_token(normal) == normal


@pytest.mark.parametrize("token", ["x", "4", "c", "4ce", "4c  4e", "4cd#", "", "4c 4r", "4@c@#", "8·f", "4c-#", "-4c"])
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(KernError):
        normal_token(token)


@pytest.mark.parametrize(
    ("token", "quarters"),
    [("4c", 1), ("4.c", Fraction(3, 2)), ("4..c", Fraction(7, 4)), ("0c", 8), ("00c", 16), ("12c", Fraction(1, 3)),
     ("3%2c", Fraction(8, 3)), ("1r", 4), ("8ccq", None)],
)  # fmt: skip
def test_durations(token: str, quarters: Fraction | None) -> None:
    assert duration(token) == quarters


def test_a_cut_carries_clef_key_meter_and_voices() -> None:
    piece = parse_kern(PIANO)
    assert (piece.staves, len(piece.measures)) == (2, 4)
    assert [measure.closing for measure in piece.measures] == ["=", "=", "=:|!", "=="]
    third = piece.cut(2, 3)
    assert third.split("\n")[:6] == ["**kern\t**kern", "*clefF4\t*clefG2", "*k[b-]\t*k[b-]", "*M3/4\t*M3/4", "*^\t*",
                                     "4B-\t2.D\t4b-]"]  # fmt: skip
    second = piece.cut(1, 2).split("\n")
    assert second[-3:] == ["=\t=\t=", "*v\t*v\t*", "*-\t*-"]  # the cut falls while the lower staff is split
    assert piece.cut(3, 4).split("\n")[1] == "*clefG2\t*clefG2"  # a change in front of the first note is in the header
    for start in range(4):
        for stop in range(start + 1, 5):
            cut = piece.cut(start, stop)
            assert check_kern(cut).state == "valid"
            assert normal_form(cut) == cut
            assert normal_form(piece.cut(start, stop, clean=False)) == cut
    assert "4cc\\(" in piece.cut(0, 1, clean=False)
    with pytest.raises(IndexError):
        piece.cut(3, 5)


def test_joins_of_two_staves_are_kept_apart() -> None:
    """Without the spine between them, ``*v *v *v *v`` on one line would join all four."""
    text = "\n".join(
        ["**kern\t**dynam\t**kern", "*^\t*\t*^", "4C\t4E\t.\t4c\t4e", "*v\t*v\t*\t*v\t*v", "4C\tp\t4c", "*-\t*-\t*-"]
    )
    rows = ["**kern\t**kern", "*^\t*^", "4C\t4E\t4c\t4e", "*v\t*v\t*\t*", "*\t*v\t*v", "4C\t4c", "*-\t*-"]
    assert normal_form(text).split("\n") == rows


def test_three_voices_across_a_cut() -> None:
    text = "\n".join(
        ["**kern", "*M4/4", "1c", "=1", "*^", "*^\t*", "1c\t1e\t1g", "=2\t=2\t=2", "1d\t1f\t1a", "=3\t=3\t=3",
         "*v\t*v\t*v", "1c", "==", "*-"]
    )  # fmt: skip
    piece = parse_kern(text)
    assert piece.cut(2, 3) == "**kern\n*M4/4\n*^\n*\t*^\n1d\t1f\t1a\n=\t=\t=\n*v\t*v\t*v\n*-"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["**kern\t**kern", "4c", "*-\t*-"], "line 2: 1 columns, expected 2"),
        (["**text", "la", "*-"], "no **kern spine, only **text"),
        (["**kern", "4c"], "the text ends, but 1 spines are open"),
        (["**kern", "4z", "*-"], "line 2: '4z' is no note"),
        (["**kern\t**kern", "4c\t", "*-\t*-"], "line 2: column 2 is empty"),
        (["**kern", "*v", "*-"], "line 2: '*v' in column 1 has no neighbour"),
        (["**kern\t**kern", "*x\t*x", "4c\t4d", "*-\t*-"], "line 2: '*x': kern spines are exchanged"),
        (["**kern", "4c", "*+", "4c\t4d", "*-\t*-"], "line 3: '*+': a kern spine is added"),
        (["**kern", "4c", "*-", "**kern", "4d", "*-"], "line 4: '**kern' after the spines ended"),
        (["**kern\t**kern", "4c\t4c", "*-\t*", "4c", "*-"], "line 3: one kern spine ends before the others"),
        (["**kern\t**kern", "4c\t4c", "=\t4c", "*-\t*-"], "line 3: a bar line is missing"),
        (["4c"], "line 1: '4c', expected the spines' names first"),
        ([""], "there is no **kern in it"),
        (["**kern", "=1", "*-"], "there is no note in it"),
    ],
)
def test_broken_kern_is_refused_by_line(lines: list[str], message: str) -> None:
    with pytest.raises(KernError) as error:
        normal_form("\n".join(lines))
    assert message in str(error.value)


def test_bar_lines() -> None:
    styles = {"=7": "=", "=7a;": "=", "=7||": "=||", "==9": "==", "=9|!": "==", "=3:|!": "=:|!", "=3:!!:": "=:|!|:",
              "=4!|:": "=!|:", "=8'": "="}  # fmt: skip
    for bar, normal in styles.items():
        assert normal_form(f"**kern\n=1\n4c\n{bar}\n4d\n=\n*-") == f"**kern\n4c\n{normal}\n4d\n=\n*-"
    assert normal_form("**kern\n=1!|:\n4c\n=-\n4d\n=2\n=:|!\n=3\n*M3/4\n4e\n*-") == (
        "**kern\n=!|:\n4c\n4d\n=:|!\n*M3/4\n4e\n*-"
    )


def test_other_spines_may_do_what_they_like() -> None:
    text = "\n".join(
        ["**text\t**kern\t**dynam\t**dynam", "la\t4c\tp\tp", "*^\t*\t*x\t*x", "a\tb\t4d\tp\tf",
         "*v\t*v\t*\t*\t*-", "e\t4e\tp", "*-\t*\t*", "4f\tp", "*-\t*-"]
    )  # fmt: skip
    assert normal_form(text) == "**kern\n4c\n4d\n4e\n4f\n*-"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("4c\t4c|=\t=|4c\t2d|=\t=|", "line 7 (measure 2): the voices last differently, in quarters: 1, 2"),
        ("4c\t8c|4c\t8c|=\t=|", "line 5 (measure 1): '8c' in column 2 begins"),
        ("4c\t8c|.\t.|4c\t.|=\t=|", "column 2 is silent"),
        ("4c 8e\t4c|=\t=|", "the notes of a chord last differently"),
        ("2c\t4c|.\t4d|=\t=|2c\t4c|8cq\t4c|=\t=|", "grace note '8cq' in column 1"),
        ("2c\t4c|8cq\t.|.\t4d|=\t=|", "grace note '8cq' in column 1"),
        ("*^\t*|4c\t2c\t4c|*v\t*v\t*|=\t=|", "voices are joined in column 2 that do not end together"),
    ],
)
def test_rhythm_that_does_not_add_up(rows: str, message: str) -> None:
    text = "**kern\t**kern\n*clefF4\t*clefG2\n*M2/4\t*M2/4\n" + rows.replace("|", "\n") + "*-\t*-"
    verdict = check_kern(text)
    assert verdict.state == "invalid"
    assert message in verdict.reasons[0]


def test_measures_beside_their_meter_are_reported_and_valid() -> None:
    verdict = check_kern("**kern\n*M3/4\n4c\n=\n4c\n4d\n4e\n=\n*M2/4\n4c\n4d\n==\n*-")
    assert verdict.state == "valid"
    assert verdict.irregular == ("measure 1 lasts 1 quarters in 3/4",)
    assert check_times(parse_kern(PIANO)) == []


WIDE = "lines of equal tokens made as wide as the columns"
PLACED = "null tokens placed where a note is held"
MEND = {
    "nothing": (PIANO_NORMAL, ""),
    "fences": (f"```\n{PIANO_NORMAL}\n\n```", "white space, comments, code fences or separators left out"),
    "terminator": (PIANO_NORMAL.removesuffix("\n*-\t*-"), "'*-' added at the end"),
    "garbage": (f"{PIANO_NORMAL}\n4c\t4c\n=\t=", "text behind '*-' left out"),
    "tab": (PIANO_NORMAL.replace("2.c\t12f", "2.c\t\t12f"), "empty columns left out"),
    "empty": (PIANO_NORMAL.replace(".\t12g", "\t12g"), "empty columns filled with '.'"),
    "bar": (PIANO_NORMAL.replace("=:|!\t=:|!", "=:|!"), WIDE),
    "key": (PIANO_NORMAL.replace("*k[b-]\t*k[b-]", "*k[b-]\t*k[b-]\t*k[b-]"), WIDE),
    "null": (PIANO_NORMAL.replace("4G\t.\t2b-[", "4G\t2b-["), PLACED),
    "moved": (PIANO_NORMAL.replace("4G\t.\t2b-[", "4G\t2b-[\t.\t."), PLACED),
    "names": (PIANO_NORMAL.removeprefix("**kern\t**kern\n"), "first line **kern added"),
}


@pytest.mark.parametrize("case", MEND)
def test_what_is_mended(case: str) -> None:
    text, reason = MEND[case]
    verdict = mend_kern(text)
    assert (verdict.text, verdict.reasons) == (PIANO_NORMAL, (reason,) if reason else ())
    assert verdict.state == ("mended" if reason else "valid")


def test_a_text_that_was_cut_off_keeps_its_whole_measures() -> None:
    whole = normal_form(tune("c d e f g a b cc"))
    cut = whole[: whole.index("4b")]  # ends with a line break, in the second measure
    for text in (cut, f"{cut}4", f"{cut}4b", cut.rstrip("\n")):
        verdict = mend_kern(text)
        assert verdict.state == "mended"
        assert verdict.text == "**kern\n*clefG2\n*k[]\n*M4/4\n4c\n4d\n4e\n4f\n=\n*-"
    assert mend_kern(whole[: whole.index("4cc") + 3]).text.endswith("4f\n=\n*-")  # 4cc might have been 4ccc
    assert mend_kern(whole[: whole.index("4cc") + 4]).text.endswith("4cc\n=\n*-")
    inside = PIANO_NORMAL[: PIANO_NORMAL.index("4F\t.\t4a")]  # while a staff is split
    assert mend_kern(inside).text.endswith("\n=\t=\t=\n*v\t*v\t*\n*-\t*-")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no music here",
        "**kern",
        "**kern\n*clefG2\n4c\n4d",
        PIANO_NORMAL.replace("4G\t.\t2b-[", "4G"),
        PIANO_NORMAL.replace("**kern\t**kern", "**kern\t**kebn"),
        PIANO_NORMAL.replace(".\t12g", ".\t4g"),
        PIANO_NORMAL.replace("*v\t*v\t*", "*v\t*\t*"),
        PIANO_NORMAL.replace("4B-\t2.D\t4b-]", "4B-\t2.D\t4b-]\t4c\t4d"),
    ],
)
def test_what_would_be_a_guess_is_invalid(text: str) -> None:
    verdict = mend_kern(text)
    assert (verdict.state, verdict.text) == ("invalid", "")
    assert len(verdict.reasons) == 1


def test_the_published_forms_are_read() -> None:
    assert normal_form(BEKERN.replace("·", "")).split("\n")[0] == "**kern\t**kern"
    verdict = mend_kern(BEKERN)
    assert verdict.state == "mended"
    assert "4GG#[ 4D" in normal_form(verdict.text)


@pytest.mark.parametrize("name", ["palestrina/Agnus_00.krn", "palestrina/Agnus_13.krn", "palestrina/Kyrie_15.krn"])
def test_real_kern_in_every_cut(name: str) -> None:
    piece = parse_kern((CORPUS / name).read_text(encoding="utf-8"))
    check_times(piece)
    for start in range(0, len(piece.measures), 4):
        cut = piece.cut(start, min(start + 4, len(piece.measures)))
        assert normal_form(cut) == cut
        assert check_kern(cut).state == "valid"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("**kern\n*M4/0" + "0" * 900 + "\n1c\n=\n*-", "is no meter"),
        ("**kern\n*M0/4\n1c\n=\n*-", "is no meter"),
        ("**kern\n*M" + "9" * 5000 + "/4\n1c\n=\n*-", "is no meter"),
        ("**kern\n" + "1" * 5000 + "c\n=\n*-", "a duration that notes do not have"),
        ("**kern\n" + "0" * 20000 + "c\n=\n*-", "a duration that notes do not have"),
        ("**kern\n4" + "." * 20000 + "c\n=\n*-", "a duration that notes do not have"),
        ("**kern\n7%999c\n=\n*-", "a duration that notes do not have"),
        ("**kern\n4" + "c" * 300 + "\n=\n*-", "expected one pitch"),
        ("**kern\n4c\0\n=\n*-", "characters that kern has not"),
        ("**kern\n\u0664r\n=\n*-", "has no duration|characters that kern has not"),
        ("**kern\n*clefQ9\n4c\n=\n*-", "not a clef that is read"),
        ("**kern\n*k[zzz]\n4c\n=\n*-", "is no key signature"),
        ("\n".join("\t".join([token] * 200) for token in ("**kern", "4c", "=", "*-")), "200 staves"),
        ("**kern\n4c\n" * 10_000, "at most 50000 are read"),
    ],
)
def test_what_no_music_has_is_invalid_and_told_in_short(text: str, reason: str) -> None:
    """music21 or verovio take minutes for these, or end the process."""
    verdict = mend_kern(text)
    assert verdict.state == "invalid"
    assert re.search(reason, verdict.reasons[0]), verdict.reasons
    assert len(verdict.reasons[0]) < 200


def test_more_voices_than_verovio_bears_are_refused() -> None:
    splits = ["\t".join(["*"] * count + ["*^"]) for count in range(17)]
    text = "\n".join(["**kern", *splits, "\t".join(["4c"] * 18), "\t".join(["*v"] * 18), "=", "*-"])
    assert "more than 16 voices" in mend_kern(text).reasons[0]


def test_a_meter_in_breves() -> None:
    verdict = check_kern("**kern\n*clefG2\n*M3/0\n0c\n0d\n0e\n=\n*-")
    assert (verdict.state, verdict.irregular) == ("valid", ())
