"""The report: what it shows of a run, that data stays text, and that the page loads nothing. The browser's part is in
test_report_browser.py."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import recipe_for
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from report_runs import CANARY, HOSTILE, hostile_run, picture, plain_run, row, rows_of_metrics, write_run

from pgtune import load_recipe, train
from pgtune.cli import main
from pgtune.errors import RunError
from pgtune.metrics.show import shown
from pgtune.overlaps import Finding
from pgtune.planning import plan
from pgtune.planning.text import gigabytes
from pgtune.reporting import engraved, report
from pgtune.reporting.curves import Series, chart, running_mean, thinned, ticks
from pgtune.reporting.differences import shown_text
from pgtune.reporting.engraved import engrave
from pgtune.reporting.intervals import score_table
from pgtune.reporting.markup import Safe, tag, visible
from pgtune.reporting.pictures import PIXELS, Thumbnail, boxes_of, thumbnail
from pgtune.reporting.ranking import BOX_F1, box_f1, choose, ranked

ELEMENTS = {
    *("a", "article", "b", "bdi", "body", "button", "caption", "circle", "dd", "details", "div", "dl", "dt"),
    *("figcaption", "figure", "footer", "form", "g", "h1", "h2", "h3", "head", "header", "html", "i", "img", "input"),
    *("label", "li", "main", "mark", "meta", "nav", "option", "p", "path", "pre", "rect", "script", "section"),
    *("select", "small", "span", "strong", "style", "summary", "svg", "table", "tbody", "td", "text", "th", "thead"),
    *("title", "tr", "ul"),
}  # fmt: skip
KERN = "**kern\t**kern\n*clefF4\t*clefG2\n*M2/4\t*M2/4\n4C\t4e\n4D\t4f\n=\t=\n2C\t2e\n==\t==\n*-\t*-"
WITH_MUSIC = pytest.mark.skipif(
    importlib.util.find_spec("verovio") is None or importlib.util.find_spec("resvg_py") is None,
    reason="needs pgtune[sheet-music]",
)


class Page(HTMLParser):
    """The elements, attributes and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, name: str) -> list[dict[str, str]]:
        return [attributes for found, attributes in self.elements if found == name]


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def made(run: Path, **options: Any) -> Page:
    return read(report(run, **options))


# --- what data cannot do


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(hostile_run(tmp_path_factory.mktemp("hostile")))


def test_hostile_data_is_text(hostile: Path) -> None:
    page = read(hostile)
    assert {name for name, _ in page.elements} <= ELEMENTS
    for _, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on") or key in ("style", "srcdoc", "srcset", "action")]
        assert attributes.get("href", "#").startswith("#")
        assert attributes.get("src", "data:image/").startswith("data:image/")
    for text in HOSTILE:
        assert visible(text) in page.text
    assert f"http://{CANARY}" in page.text, "the data's address is there, as text"
    assert len(page.named("script")) == len(page.named("style")) == 1


def test_the_policy_knows_the_script_and_the_style_and_allows_nothing_else(hostile: Path) -> None:
    text = hostile.read_text(encoding="utf-8")
    policy = next(meta["content"] for meta in Page(text).named("meta") if "http-equiv" in meta)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    for name, key in (("script", "script-src"), ("style", "style-src")):
        (inside,) = re.findall(f"<{name}>(.*?)</{name}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[key] == f"'sha256-{digest}'"
    assert text.index("Content-Security-Policy") < text.index("<style>") < text.index("<script>")


def test_style_and_script_name_no_address() -> None:
    folder = Path(engraved.__file__).parent
    for name in ("page.css", "page.js"):
        content = (folder / name).read_text(encoding="utf-8")
        assert not re.search(r"url\(|@import|https?:|//\w|fetch|XMLHttp|innerHTML|eval|document\.write", content), name


@given(st.text(max_size=40), st.text(max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_text_comes_back_as_it_is_shown(inside: str, value: str) -> None:
    markup = tag("p", inside, title=value)
    markup.encode("utf-8")
    page = Page(markup + "<hr>")
    assert [name for name, _ in page.elements] == ["p", "hr"]
    assert page.text == visible(inside)
    assert page.elements[0][1]["title"] == visible(value)


def test_what_cannot_be_seen_is_named() -> None:
    assert visible("a\u202eb\u2028c\xa0d\x00\udc80") == "a\\u202eb\\u2028c\\xa0d\\x00\\udc80"
    seen = "naïve 雨 e\u0301 \U0001f469\u200d\U0001f52c\n\t"
    assert visible(seen) == seen
    assert tag("a", Safe("<b>"), "<b>", None, ["&"], class_="x y", hidden=True, id=None, data_n=3) == (
        '<a class="x y" hidden data-n="3"><b>&lt;b&gt;&amp;</a>'
    )


# --- what it shows


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_run(tmp_path_factory.mktemp("plain"))


def test_all_of_a_finished_run(plain: Path) -> None:
    page = made(plain)
    found = rows_of_metrics(plain)["scores"]
    for column in ("before", "after", "trivial"):
        document = found[column]["exact_match"]
        low, high = (shown("exact_match", document[key]).removesuffix(" %") for key in ("low", "high"))
        assert shown("exact_match", document["value"]) in page.text
        assert f"{low} to {high}" in page.text
    for text in ("part", "open", "closed", "question type", "number & size", "60, 3 epochs", "finished", "2.13.0"):
        assert text in page.text
    titles = {figure.get("aria-label", "").partition(".")[0] for figure in page.named("svg")} - {""}
    assert titles == {"Loss", "Validation: exact_match", "Learning rate", "Gradient norm"}
    assert "rank: 4" in page.text
    assert "label_smoothing: 0.0" in page.text, "the whole recipe"
    assert "12 examples of test: 4 right, 8 wrong." in page.text
    assert len(page.named("article")) == 12
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in page.named("img"))


def test_the_worst_come_first(plain: Path) -> None:
    cards = made(plain).named("article")
    assert [card["data-verdict"] for card in cards] == ["wrong"] * 8 + ["right"] * 4
    numbers = [int(card["id"].removeprefix("row-")) for card in cards]
    assert numbers[:3] == [2, 3, 5], "the surest of the wrong ones first"
    assert numbers[-1] == 1, "the surest right one last"


def test_a_limit_keeps_the_worst_and_some_of_the_others(plain: Path) -> None:
    page = made(plain, limit=8)
    assert [card["data-verdict"] for card in page.named("article")] == ["wrong"] * 6 + ["wrong", "right"]
    assert "Shown here are 8: the 6 worst, and 2 of the others at even distances" in page.text
    assert "12 examples of test" in page.text


def test_an_unfinished_run_shows_what_there_is(tmp_path: Path) -> None:
    image = str(picture(tmp_path / "one.png"))
    run = write_run(tmp_path / "run", [row(image, "a", "a"), row(None, "b", "c")], steps=7, finished=False)
    page = made(run)
    assert "This run is not finished: it stands after step 7" in page.text
    assert "the answers of the base model, before training" in page.text
    assert "drawn on demand" in page.text
    assert "exact_match, before" in page.text
    assert "exact_match, after" not in page.text
    (run / "log.jsonl").unlink()
    (run / "before.json").unlink()
    bare = made(run)
    assert "before its first step" in bare.text
    assert not bare.named("article")
    assert [link["href"] for link in bare.named("a")] == ["#main", "#recipe"]


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [], steps=5, finished=False)
    with open(run / "log.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 6, "lo')
    assert "after step 5" in made(run).text


def test_warnings_come_with_the_scores(tmp_path: Path) -> None:
    image = str(picture(tmp_path / "one.png"))
    rows = [row(image, "cat", "dog") for _ in range(3)]
    overlap = Finding("groups", ("train", "test"), "belong to 2 patients that train holds too", 3, 3, ("test.jsonl:1",))
    skipped = {"count": 120, "reasons": {"suffix is empty": 119, "no picture": 1}, "rows": [
        {"file": "t.jsonl", "row": number, "reason": "suffix is empty"} for number in range(1, 121)
    ]}  # fmt: skip
    nothing: dict[str, Any] = {"count": 0, "reasons": {}, "rows": []}
    run = write_run(
        tmp_path / "run", rows, overlaps=[overlap],
        left_out={"test": {"source": "t.jsonl", "skipped": skipped, "bad": nothing}},
    )  # fmt: skip
    page = made(run)
    assert "test: 3 of 3 (100 %) belong to 2 patients that train holds too" in page.text
    assert "not clearly better than always answering 'cat'" in page.text
    assert "120 skipped by the data adapter" in page.text
    assert "119 suffix is empty" in page.text
    assert "t.jsonl, row 100: suffix is empty" in page.text
    assert "t.jsonl, row 101" not in page.text
    assert "and 20 more" in page.text


def test_other_evaluations_and_the_cut_of_the_data(plain: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(plain, run)
    scores = rows_of_metrics(plain)["scores"]
    document = {"n": 12, "source": "other.jsonl", "warnings": ["validation: 1 of 2"], "scores": scores["after"]}
    (run / "evaluations" / "validation-other").mkdir(parents=True)
    text = json.dumps({**document, "trivial_scores": scores["trivial"]})
    (run / "evaluations" / "validation-other" / "metrics.json").write_text(text, encoding="utf-8")
    cut = {"split_by": "patient", "seed": 5, "splits": {"test": {"examples": 12, "groups": 4, "rows": {}}}}
    (run / "splits.json").write_text(json.dumps(cut), encoding="utf-8")
    page = made(run)
    assert "evaluations/validation-otherWarning: validation: 1 of 212 examples of other.jsonl" in page.text
    assert "cut by patient, seed 5: test 12 examples of 4 groups." in page.text


def test_the_plan_beside_what_the_run_took(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [], "data.train=pgtune:landcover/train.jsonl", "train.max_steps=60")
    page = made(run)
    assert "Planned from the recipe and 564 examples" in page.text
    assert "steps6060" in page.text
    assert "not recorded" in page.text
    planned = plan(load_recipe(run / "recipe.yaml"), devices=1, device="cpu").peak.total
    taken = {"device": "cpu", "devices": 1, "bfloat16": True, "peak_bytes": int(planned * 2)}
    (run / "memory.json").write_text(json.dumps(taken), encoding="utf-8")
    assert f"{gigabytes(planned * 2)}, planned / measured 0.50" in made(run).text
    gone = write_run(tmp_path / "gone", [], "model.base=no/such-base")
    assert "There is no plan: " in made(gone).text


def test_a_pushed_run_shows_its_scores(plain: Path, tmp_path: Path) -> None:
    own = tmp_path / "pushed" / "pgtune"
    own.mkdir(parents=True)
    for name in ("recipe.yaml", "metrics.json", "status.json", "overlaps.json"):
        shutil.copy(plain / name, own / name)
    with pytest.raises(RunError, match="not written into; name the page with --out"):
        report(tmp_path / "pushed")
    page = made(tmp_path / "pushed", out=tmp_path / "page.html")
    assert "exact_match, after" in page.text
    assert [link["href"] for link in page.named("a")] == ["#main", "#scores", "#recipe"]


def test_a_run_that_was_trained(small_bases: dict[str, Path], data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe_for(small_bases["paligemma2"], data, run, f"data.test={data / 'test.jsonl'}", "train.max_steps=2"))
    page = made(run)
    assert len(page.named("article")) == len(page.named("img")) == 5
    assert "2, 0.333 epochs" in page.text


# --- charts and tables


@pytest.mark.parametrize("ends", [(0, 1), (0.2, 12.7), (-3, 4), (1e-9, 3e-9), (1, 100_000), (5, 5), (0, 0)])
def test_ticks_are_round_and_reach_both_ends(ends: tuple[float, float]) -> None:
    marks = ticks(*ends)
    assert marks[0] <= ends[0] <= ends[1] <= marks[-1]
    assert 2 <= len(marks) <= 8
    assert marks == sorted(set(marks))
    assert all(f"{mark:.2e}" == f"{mark:.6e}".replace("0000e", "e") for mark in marks), "at most three digits"


def test_long_lines_are_thinned_by_means() -> None:
    points = [(float(step), float(step % 2)) for step in range(1, 10_001)]
    few = thinned(points, 100)
    assert len(few) == 100
    assert few[-1] == (10_000, 0.5)
    assert thinned(points[:100], 100) == points[:100]
    smooth = running_mean(points[:99], 11)
    assert len(smooth) == 99
    assert smooth[0] == points[0]
    assert smooth[50][1] == pytest.approx(sum(value for _, value in points[45:56]) / 11)


def test_a_chart_says_each_value_and_stays_inside() -> None:
    points = [(1.0, 4.0), (2.0, 1.0), (3.0, 2.5)]
    lines = [Series("loss", points, "loss"), Series("seen", points[:1], "validation", dots=True)]
    page = Page(chart("Loss", lines, ends=(1, 3)))
    assert "step 2: loss 1" in page.text
    assert "loss falls from 4 at step 1 to 2.5 at step 3, lowest 1 at step 2" in page.named("svg")[0]["aria-label"]
    for circle in page.named("circle"):
        assert 0 <= float(circle["cx"]) <= 380
        assert 0 <= float(circle["cy"]) <= 210
    assert float(page.named("circle")[0]["cy"]) < float(page.named("circle")[1]["cy"]), "higher is further up"


def document(value: float, low: float, high: float, **more: Any) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 4, "clusters": 4, "average": "examples", **more}


def test_a_table_of_an_error_rate_above_one() -> None:
    text = score_table("cer", {"after": {"cer": document(1.5, 1.0, 2.2)}})
    page = Page(text)
    assert "lower is better" in page.text
    assert "150.0 %100.0 to 220.0" in page.text
    assert "250 %" in page.text, "the axis reaches beyond"
    whisker = next(path for path in page.named("path") if path.get("class") == "whisker")
    assert whisker["d"] == "M40.000 15H88.000"


def test_one_patient_alone_has_no_interval() -> None:
    page = Page(score_table("exact_match", {"after": {"exact_match": document(0.5, 0.5, 0.5, clusters=1)}}))
    assert " to " not in page.text
    assert not [path for path in page.named("path") if path.get("class") == "whisker"]


# --- which rows, and what stands in a card


def test_error_rates_rank_from_the_highest() -> None:
    rows = [row(None, "a", "b", scores={"cer": score}, mean_log_probability=-1.0) for score in (0.0, 1.2, 0.4)]
    cases, judge = ranked(rows, ("bleu", "cer"))
    assert judge is not None
    assert judge.name == "cer"
    assert [case.number for case in cases] == [2, 3, 1]
    assert [case.right for case in cases] == [False, False, True]


def test_without_a_score_of_each_the_least_sure_come_first() -> None:
    rows = [row(None, "a", "b", scores={}, mean_log_probability=sure) for sure in (-0.1, -2.0, -1.0)]
    cases, judge = ranked(rows, ("bleu",))
    assert judge is None
    assert [case.number for case in cases] == [2, 3, 1]
    assert {case.right for case in cases} == {None}


@pytest.mark.parametrize(
    ("count", "limit", "worst"), [(3, 5, 3), (5, 5, 5), (100, 10, 8), (4, 1, 1), (1000, 200, 150)]
)
def test_the_choice(count: int, limit: int, worst: int) -> None:
    rows = [row(None, "a", "b", scores={}, mean_log_probability=-place) for place in range(count)]
    cases, _ = ranked(rows, ("bleu",))
    chosen, simply = choose(cases, limit)
    assert len(chosen) == min(count, limit)
    assert simply == worst
    assert chosen[:worst] == cases[:worst]
    places = [cases.index(case) for case in chosen]
    assert places == sorted(set(places))


TWO = "<loc0000><loc0000><loc0511><loc0511> cat ; <loc0512><loc0512><loc1023><loc1023> dog"


def box(edges: list[float], label: str, score: float = 0.9) -> dict[str, Any]:
    return {"box": edges, "label": label, "score": score}


def test_boxes_are_judged_where_map_is_the_metric() -> None:
    cat, dog = [0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]
    assert box_f1(row(None, TWO, "", boxes=[box(cat, "cat"), box(dog, "dog")])) == 1
    assert box_f1(row(None, TWO, "", boxes=[box(cat, "cat"), box(cat, "cat")])) == 0.5
    assert box_f1(row(None, TWO, "", boxes=[box(cat, "dog")])) == 0
    assert box_f1(row(None, "nothing", "", boxes=[])) == 1
    rows = [row(None, TWO, "", boxes=[box(cat, "cat")], scores={}), row(None, TWO, "", boxes=[], scores={})]
    cases, judge = ranked(rows, ("map",))
    assert judge is not None
    assert judge.name == BOX_F1
    assert [case.number for case in cases] == [2, 1]


def test_boxes_are_drawn_where_they_are(tmp_path: Path) -> None:
    image = str(picture(tmp_path / "one.png", (200, 100)))
    said = "<loc0256><loc0256><loc0768><loc0768> cat ; <loc0900><loc0100><loc0800><loc0200> bird"
    left_out = {"malformed": 1, "repeated": 0, "cut_off": True}
    boxes = [box([0.25, 0.25, 0.75, 0.75], "cat", 0.42)]
    one = row(image, TWO, said, prefix="detect cat ; dog", boxes=boxes, **left_out)
    plain = row(image, TWO.partition(" ;")[0], "no box", prefix="detect cat")
    page = made(write_run(tmp_path / "run", [one, plain]))
    rects = page.named("rect")
    width, height = (float(page.named("img")[0][side]) for side in ("width", "height"))
    assert len(rects) == 4
    drawn = [[float(rect[key]) for key in ("x", "y", "width", "height")] for rect in rects]
    assert [width / 4, height / 4, width / 2, height / 2] in [pytest.approx(edges, abs=0.2) for edges in drawn]
    assert "answer: cat 0.42" in page.text
    assert "truth: dog" in page.text
    assert "left out: 1 malformed, the answer ended at its limit of tokens" in page.text
    assert any(field.get("name") == "boxes" for field in page.named("input"))


def test_boxes_are_read_from_the_text_where_they_were_not_before() -> None:
    truth, said = boxes_of(row(None, TWO, "<loc0000><loc0000><loc1023><loc1023> cow"))
    assert [each.label for each in truth] == ["cat", "dog"]
    assert [tuple(each.box) for each in said] == [(0, 0, 1, 1)]


def test_pictures_are_small_and_those_that_cannot_be_opened_say_why(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    Image.effect_noise((800, 600), 80).convert("RGB").save(large)
    small = thumbnail(large)
    assert isinstance(small, Thumbnail)
    head, _, content = small.uri.partition(",")
    assert head == "data:image/jpeg;base64"
    assert len(content) < 60_000
    assert small.width / small.height == pytest.approx(4 / 3, abs=0.02)
    wide = thumbnail(picture(tmp_path / "wide.png", (6000, 300)))
    assert isinstance(wide, Thumbnail)
    assert wide.wide
    assert wide.width * wide.height <= PIXELS
    gone = thumbnail(tmp_path / "gone.png")
    assert isinstance(gone, str)
    assert "no such file" in gone
    run = write_run(tmp_path / "run", [row(str(tmp_path / "gone.png"), "a", "b"), row([str(large)] * 2, "a", "b")])
    page = made(run)
    assert f"No picture: {tmp_path / 'gone.png'}: no such file" in page.text
    assert [image["alt"] for image in page.named("img")] == ["Picture 1 of 2", "Picture 2 of 2"]


def test_a_run_folder_that_was_moved_keeps_its_own_pictures(tmp_path: Path) -> None:
    kept = picture(tmp_path / "run" / "images" / "000000-0.png")
    write_run(tmp_path / "other", [row(str(kept), "a", "b")])
    shutil.move(tmp_path / "run" / "images", tmp_path / "other" / "images")
    assert len(made(tmp_path / "other").named("img")) == 1


def test_words_that_differ_are_marked() -> None:
    one, other = "no acute disease of the heart", "no chronic disease of the heart"
    assert re.findall("<mark>(.*?)</mark>", shown_text(one, other)) == ["acute"]
    assert re.findall("<mark>(.*?)</mark>", shown_text("a b c d", "a d")) == []
    assert re.findall("<mark>(.*?)</mark>", shown_text("a b c d e", "a x d e")) == ["b c"]
    assert "<mark>" not in shown_text(TWO, TWO.replace("0511", "0600"))
    assert "(nothing)" in shown_text("")
    assert Page(shown_text(" spaced ")).text == "\u201c spaced \u201d"
    assert "4,000 more characters" in Page(shown_text("x" * 10_000)).text


# --- music


@WITH_MUSIC
def test_music_is_engraved(tmp_path: Path) -> None:
    image = str(picture(tmp_path / "one.png", (800, 120)))
    cut = KERN.rsplit("\n", 2)[0]
    page = made(write_run(tmp_path / "run", [row(image, KERN, cut), row(image, KERN, "**kern\nnonsense")]))
    alts = [picture["alt"] for picture in page.named("img")]
    assert alts.count("Music engraved: truth") == 2
    assert alts.count("Music engraved: after") == 1
    assert "mended first" in page.text
    assert "no valid kern" in page.text
    assert not re.search("pip install", page.text)
    music = engrave(KERN).picture
    assert music is not None
    assert len(music.uri) < 20_000
    with Image.open(io.BytesIO(base64.b64decode(music.uri.partition(",")[2]))) as drawn:
        assert drawn.size == (music.width, music.height)
        assert drawn.convert("L").getextrema() == (0, 255)


def test_music_is_text_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engraved, "_NEEDED", ("verovio_that_is_not_there",))
    image = str(picture(tmp_path / "one.png"))
    page = made(write_run(tmp_path / "run", [row(image, KERN, KERN)]))
    assert "engraving it needs pip install 'pgtune[sheet-music]'" in page.text
    assert len(page.named("img")) == 1
    assert "*clefF4" in page.text


# --- the command


def test_the_command(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert main(["report", str(plain), "--out", str(out), "--limit", "3", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"report": str(out), "bytes": out.stat().st_size}
    assert len(read(out).named("article")) == 3
    assert main(["report", str(plain), "--out", str(out)]) == 0, "one that exists is replaced"
    assert len(read(out).named("article")) == 12
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("out", "message"),
    [("page.txt", "ends in .html"), ("no/where.html", "folder .*no does not exist"), ("folder.html", "is a folder")],
)
def test_a_name_that_cannot_be_written(plain: Path, tmp_path: Path, out: str, message: str) -> None:
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(RunError, match=message):
        report(plain, tmp_path / out)


def test_what_is_no_run_or_a_damaged_one(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "absent")]) == 2
    assert "does not exist" in capsys.readouterr().err
    for name in ("metrics.json", "predictions.jsonl", "log.jsonl", "overlaps.json", "status.json"):
        run = tmp_path / name
        shutil.copytree(plain, run, ignore=shutil.ignore_patterns("report.html"))
        (run / name).write_text("{nonsense\n", encoding="utf-8")
        with pytest.raises(RunError, match=f"{name}: damaged"):
            report(run)
        assert not (run / "report.html").exists()
