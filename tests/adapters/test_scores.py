"""Own scores: four formats, engraving, the way back, and the recipes end to end."""

from __future__ import annotations

import json
import pickle
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sheet_music_fixtures import (
    ABC,
    BEKERN_SUFFIX,
    PIANO,
    PIANO_NORMAL,
    grandstaff,
    mei,
    musicxml,
    mxl,
    own_scores,
    primus,
    tune,
)

from pgtune.data_adapters.sheet_music.engraving import FONTS, EngravedKern, engrave_svg
from pgtune.data_adapters.sheet_music.kern import normal_form, parse_kern
from pgtune.data_adapters.sheet_music.kern_export import EXPORTS, kern_to_musicxml
from pgtune.data_adapters.sheet_music.score_files import read_scores
from pgtune.data_adapters.sheet_music.scores import ScoresAdapter
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Skip, load_adapter

music21 = pytest.importorskip("music21")
pytest.importorskip("verovio")
CORPUS = Path(music21.__file__).parent / "corpus"
RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "sheet_music").glob("[!r]*.yaml"))  # no real_*


def systems(adapter: ScoresAdapter, source: Path, split: str | None = None) -> list[Example]:
    found = []
    for row in adapter.rows(source, split):
        assert not isinstance(row.value, DataError | Skip), row
        found.append(adapter(row.value))
    return found


def sounding(score: Any) -> Counter[tuple[Any, ...]]:
    """Measure, onset in it, pitch and duration of each note."""
    notes: Counter[tuple[Any, ...]] = Counter()
    for part in score.parts:
        for number, measure in enumerate(part.getElementsByClass("Measure")):
            for note in measure.flatten().notes:
                for pitch in note.pitches:
                    onset, length = round(float(note.offset), 4), round(float(note.quarterLength), 4)
                    notes[number, onset, pitch.nameWithOctave, length] += 1
    return notes


def parsed(text: str, kind: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return music21.converter.parseData(text, format=kind)


def test_a_folder_of_scores(tmp_path: Path) -> None:
    root = own_scores(tmp_path)
    adapter = load_adapter("scores", {"measures": 2})
    assert isinstance(adapter, ScoresAdapter)
    found = systems(adapter, root)
    by_file = Counter(str(example.metadata["file"]) for example in found)
    assert by_file == {
        **{f"melody{number}.krn": number for number in range(1, 6)},
        "rest.mei": 2,
        "Übungen, leichte/lied.mxl": 1,
        "Übungen, leichte/piano.krn": 2,
        "Übungen, leichte/tunes.abc": 4,
    }
    works = {example.groups["work"] for example in found}
    assert {"Übungen, leichte/tunes#1", "Übungen, leichte/tunes#2", "melody1"} <= works
    assert {example.prefix for example in found} == {"transcribe kern"}
    by_folder = systems(ScoresAdapter(work="folder"), root)
    works = {example.groups["work"] for example in by_folder}
    assert works == {"Übungen, leichte", "rest", *(f"melody{n}" for n in range(1, 6))}
    assert systems(adapter, root / "melody2.krn")[1].metadata == {"file": "melody2.krn", "measures": [3, 4]}


def test_movements_of_a_work_stay_together(tmp_path: Path) -> None:
    for name in ("sonata-mvt1.krn", "sonata-mvt2.krn", "other.krn"):
        (tmp_path / name).write_text(tune("c d e f"), encoding="utf-8")
    works = [example.groups["work"] for example in systems(ScoresAdapter(), tmp_path)]
    assert works == ["other", "sonata", "sonata"]


def test_every_format_says_the_same(tmp_path: Path) -> None:
    """MusicXML in three wrappings: two staves, lyrics, an umlaut; the kern is that of the notes."""
    score = musicxml("c d e f g a b g")
    wide = musicxml("c d e f g a b g", "utf-16")
    names = {"a.xml": score, "b.musicxml": wide, "c.mxl": mxl(score)}
    for name, content in names.items():
        (tmp_path / name).write_bytes(content)
    texts = {example.suffix for example in systems(ScoresAdapter(), tmp_path)}
    upper = ["4cc", "4dd", "4ee", "4ff"], ["4gg", "4aa", "4bb", "4gg"]
    rows = ["**kern\t**kern", "*clefF4\t*clefG2", "*k[b-]\t*k[b-]", "*M4/4\t*M4/4"]
    for measure in upper:
        rows += [f"{'1r' if place == 0 else '.'}\t{note}" for place, note in enumerate(measure)] + ["=\t="]
    rows[-1] = rows[-1] if "\n=\t=\n*-" in next(iter(texts)) else "==\t=="
    assert texts == {"\n".join([*rows, "*-\t*-"])}


def test_abc_and_mei(tmp_path: Path) -> None:
    (tmp_path / "a.abc").write_text(ABC, encoding="utf-8")
    first, second = (normal_form(score.text) for score in read_scores(tmp_path / "a.abc"))
    assert "*k[f#c#]\n*M4/4\n4d\n4e\n4f#\n4a\n=\n2.dd\n4b\n=\n" in first
    assert "*k[f#]\n*M6/8\n8g\n8a\n8b\n4dd\n8ee\n=\n" in second
    (tmp_path / "b.mei").write_text(mei(2), encoding="utf-8")
    (score,) = read_scores(tmp_path / "b.mei")
    assert score.measures == 3
    assert normal_form(score.text).startswith("**kern\n*clefG2\n*k[f#]\n*M4/4\n1r\n=\n1r\n=\n4g\n4a\n4b\n4g\n=")


def test_what_is_converted_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "a.abc").write_text(ABC, encoding="utf-8")
    first = read_scores(tmp_path / "a.abc", tmp_path / "kept")
    (kept,) = (tmp_path / "kept").iterdir()
    assert read_scores(tmp_path / "a.abc", tmp_path / "kept") == first
    kept.write_text(json.dumps([{"text": tune("c"), "measures": None}]), encoding="utf-8")
    assert normal_form(read_scores(tmp_path / "a.abc", tmp_path / "kept")[0].text).endswith("4c\n==\n*-")
    assert len(systems(ScoresAdapter(cache=str(tmp_path / "kept")), tmp_path / "a.abc")) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.mxl", mxl(musicxml("c d e f"))[:200], "broken or cut off .mxl"),
        ("a.xml", musicxml("c d e f")[:-30], "broken or cut off XML"),
        ("a.krn", PIANO[:-20].encode(), "line 32: 2 columns, expected 4"),
        ("a.krn", PIANO.removesuffix("*-\t*-\t*-\t*-\n").encode(), "the text ends, but 4 spines are open; cut off?"),
        ("a.krn", PIANO.replace("8a\\L", "8?").encode(), "line 12: '8?' is no note"),
        ("a.mei", b"<score-timewise/>", "score-timewise"),
    ],
)
def test_a_broken_score_is_a_bad_row(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    (row,) = ScoresAdapter().rows(tmp_path, None)
    assert row.place == name
    assert isinstance(row.value, DataError)
    assert message in str(row.value)


def test_what_is_no_score_or_does_not_add_up_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "settings.xml").write_text("<settings/>", encoding="utf-8")
    (tmp_path / "uneven.krn").write_text("**kern\t**kern\n4c\t4c\n=\t=\n4c\t2c\n=\t=\n*-\t*-\n", encoding="utf-8")
    (tmp_path / "readme.txt").write_text("nothing", encoding="utf-8")
    (tmp_path / "words.krn").write_text("**text\nla\n*-\n", encoding="utf-8")
    first, second, third, fourth = ScoresAdapter(measures=1).rows(tmp_path, None)
    assert isinstance(fourth.value, Skip)
    assert fourth.value.reason == "line 1: there is no **kern spine, only **text"
    assert isinstance(first.value, Skip)
    assert "its root is <settings>" in first.value.reason
    assert second.place == "uneven.krn, measures 1 to 1"
    assert isinstance(third.value, Skip)
    assert third.value.reason.startswith("rhythm that does not add up: line 3 (measure 1)")
    with pytest.raises(DataError, match="missing: no such file or folder"):
        list(ScoresAdapter().rows(tmp_path / "missing", None))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no score in it"):
        list(ScoresAdapter().rows(tmp_path / "empty", None))


def test_folders_may_be_splits(tmp_path: Path) -> None:
    for folder in ("train", "val"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.krn").write_text(tune("c d e f"), encoding="utf-8")
    adapter = ScoresAdapter()
    assert adapter.splits(tmp_path) == ["train", "validation"]
    assert [example.metadata["file"] for example in systems(adapter, tmp_path, "validation")] == ["val/val.krn"]
    with pytest.raises(DataError, match="no split 'test' in it; it holds train, validation"):
        list(adapter.rows(tmp_path, "test"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"measures": 0}, "measures: 0, expected 1 or more"),
        ({"font": "Arial"}, "font: 'Arial', expected Bravura"),
        ({"font": []}, "font: '', expected Bravura"),
        ({"work": "composer"}, "work: 'composer'"),
        ({"staff_height": 2}, "staff_height: 2"),
        ({"page_width": 10}, "page_width: 10"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AdapterError) as error:
        load_adapter("scores", arguments)
    assert message in str(error.value)


def ink(picture: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(picture.convert("L")) < 128


def test_engraving() -> None:
    drawn = EngravedKern(parse_kern(PIANO).cut(0, 4, clean=False), place="study.krn")
    picture = pickle.loads(pickle.dumps(drawn))()
    assert picture.mode == "RGB"
    assert picture == drawn()  # the same each time
    black = ink(picture)
    for edge in (black[:3], black[-3:], black[:, :3], black[:, -3:]):
        assert not edge.any()  # white around, nothing cut off
    lines = np.flatnonzero((np.asarray(picture.convert("L")) < 230).mean(axis=1) > 0.6)
    assert len(lines) >= 10  # two staves of five lines
    pixels = np.asarray(picture).reshape(-1, 3)
    assert (pixels == pixels[:, :1]).all()  # no warning in red
    assert EngravedKern(drawn.kern, staff_height=72)().width > 1.8 * picture.width
    lined = EngravedKern(parse_kern(tune("c d e f g a b cc " * 8)).cut(0, 16), page_width=500)()
    assert lined.width <= 520
    assert lined.height > 300


@pytest.mark.parametrize("font", FONTS)
def test_every_font_draws(font: str) -> None:
    assert ink(EngravedKern(PIANO_NORMAL, font)()).mean() > 0.02


def test_ties_that_leave_the_picture_are_black() -> None:
    svg = engrave_svg("**kern\n*clefG2\n*M4/4\n1g]\n=\n1a[\n=\n*-")
    assert svg.count("hanging-initial") == svg.count("hanging-terminal") == 1
    assert "red" not in svg


def test_a_picture_with_other_measures_than_its_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgtune.data_adapters.sheet_music.engraving._measures", lambda kern: 5)
    with pytest.raises(DataError, match=r"odd\.krn: the picture has 4 measures, the kern 5"):
        EngravedKern(PIANO_NORMAL, place="odd.krn")()


def rows(*predictions: str) -> list[dict[str, Any]]:
    return [
        {"image": f"pictures/p {n}.png", "prediction": text, "where": f"row {n}", "metadata": {"measures": [1, 4]}}
        for n, text in enumerate(predictions, 1)
    ]


def test_predictions_become_musicxml(tmp_path: Path) -> None:
    cut = PIANO_NORMAL[: PIANO_NORMAL.index(".\t12a")]
    export = EXPORTS[".musicxml"]
    summary = export(rows(PIANO_NORMAL, cut, "no kern", BEKERN_SUFFIX), tmp_path / "read.musicxml")
    folder = tmp_path / "read.musicxml"
    counts = {key: summary[key] for key in ("written", "valid", "mended", "invalid")}
    assert counts == {"written": 3, "valid": 2, "mended": 1, "invalid": 1}
    assert [(entry["row"], entry["state"], entry["where"]) for entry in summary["rows"]] == [
        (2, "mended", "row 2"),
        (3, "invalid", "row 3"),
    ]
    assert "expected **kern" in summary["rows"][1]["reasons"][0]
    assert summary["rows"][0]["file"] == "0002_p_2_m1-4.musicxml"
    json.dumps(summary)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["0001_p_1_m1-4.musicxml", "0002_p_2_m1-4.musicxml", "0004_p_4_m1-4.musicxml"]
    score = parsed((folder / names[0]).read_text(encoding="utf-8"), "musicxml")
    assert sounding(score) == sounding(parsed(PIANO, "humdrum"))
    again = tmp_path / "again.musicxml"
    one = export(rows(PIANO_NORMAL)[:1], again)
    assert one["rows"] == [{"row": 1, "state": "valid", "where": "row 1"}]
    assert again.read_bytes() == (folder / names[0]).read_bytes()


def test_nothing_that_can_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of 1 predictions is valid kern\. row 1: line 1: 'no kern'"):
        EXPORTS[".png"](rows("no kern"), tmp_path / "one.png")


@pytest.mark.parametrize(
    ("ending", "begins"), [(".mid", b"MThd"), (".png", b"\x89PNG"), (".svg", b"<svg"), (".krn", b"**kern")]
)
def test_predictions_become_pictures_and_sound(tmp_path: Path, ending: str, begins: bytes) -> None:
    out = tmp_path / f"one{ending}"
    assert EXPORTS[ending](rows(PIANO_NORMAL), out)["written"] == 1
    assert out.read_bytes().startswith(begins)


def test_the_adapters_offer_the_exports() -> None:
    for name in ("scores", "grandstaff"):
        assert load_adapter(name).exports is EXPORTS  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["palestrina/Agnus_00.krn", "bach/bwv66.6.mxl", "ryansMammoth/DiamondReel.abc"])
def test_real_scores_there_and_back(name: str, tmp_path: Path) -> None:
    """Pitches, onsets and durations after kern, its normal form and MusicXML are those that music21 reads itself."""
    path = CORPUS / name
    score = read_scores(path)[0]
    if name.endswith(".mxl"):
        from pgtune.data_adapters.sheet_music.score_files import _unzipped

        truth = parsed(_unzipped(path.read_bytes()).decode(), "musicxml")
    else:
        truth = parsed(path.read_text(encoding="utf-8"), "humdrum" if name.endswith(".krn") else "abc")
    back = parsed(kern_to_musicxml(normal_form(score.text)).decode(), "musicxml")
    assert sounding(back) == sounding(truth)


@pytest.mark.parametrize("recipe", RECIPES, ids=[path.stem for path in RECIPES])
def test_the_recipes_run_on_tiny(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pgtune import load_recipe, train

    monkeypatch.chdir(tmp_path)
    for build, folder in ((grandstaff, "grandstaff"), (primus, "primus"), (own_scores, "scores")):
        if folder in recipe.read_text(encoding="utf-8").split("train: data/")[1].split()[0]:
            (tmp_path / "data" / folder).mkdir(parents=True)
            build(tmp_path / "data" / folder)
    quick = ["train.max_steps=1", "train.batch_size=1", "train.gradient_accumulation_steps=1"]
    quick += ["eval.limit=1", "eval.max_new_tokens=2", "eval.before=false"]
    metrics = train(load_recipe(str(recipe), ["model.base=tiny", *quick]))
    assert set(load_recipe(str(recipe)).eval.metrics) <= set(metrics["after"])


@pytest.mark.parametrize("rest", ["1r", "1r\t1r"])
def test_rests_of_several_measures_are_drawn_one_by_one(rest: str) -> None:
    columns = rest.count("\t") + 1
    rows = ["**kern", "*clefG2", "*M4/4", "1c", "=", rest, "=", rest, "=", rest, "=", "1c", "=", "*-"]
    text = "\n".join("\t".join([row] * columns) if "\t" not in row else row for row in rows)
    assert engrave_svg(text).count('class="measure"') == 5


def test_abc_without_meter_and_length_has_eighths(tmp_path: Path) -> None:
    path = tmp_path / "a.abc"
    path.write_text("X:1\nK:Am\nABcd|\n\nX:2\nM:2/4\nL:1/4\nK:C\nCD|\n\nX:3\nK:C\nCD|\n")
    suffixes = [normal_form(score.text) for score in read_scores(path)]
    assert ["8a" in suffixes[0], "4c" in suffixes[1], "8c" in suffixes[2]] == [True, True, True]
