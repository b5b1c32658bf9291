"""predict(): one picture, folders, patterns, JSONL, CSV; going on where it stopped; nothing of the user's is lost."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
from conftest import read_jsonl, recipe_for, write_rows

from pgtune import load, prediction, train
from pgtune.errors import DataError, RecipeError, RunError
from pgtune.prediction import predict


@pytest.fixture(scope="module")
def run(tmp_path_factory, small_bases, data):
    folder = tmp_path_factory.mktemp("predict") / "run"
    train(recipe_for(small_bases["paligemma2"], data, folder, "train.max_steps=2"))
    return folder


@pytest.fixture
def folder(tmp_path, pictures):
    """Five pictures and a file that is none."""
    place = tmp_path / "in"
    place.mkdir()
    for index in range(5):
        shutil.copy(pictures[index], place / f"{index}.png")
    (place / "notes.txt").write_text("not a picture")
    return place


@pytest.fixture
def decoded(monkeypatch):
    """How many prompts were decoded."""
    seen = []
    real = prediction.generate

    def counted(loaded, collator, prompts, **more):
        seen.append(len(prompts))
        return real(loaded, collator, prompts, **more)

    monkeypatch.setattr(prediction, "generate", counted)
    return seen


def test_one(run, pictures):
    row = predict(run, images=[str(pictures[0])], prefix="what is it?")
    assert row.keys() == {"image", "prefix", "prediction", "mean_log_probability"}
    assert row["mean_log_probability"] <= 0
    several = predict(run, images=[str(pictures[0]), str(pictures[1])], prefix="")
    assert several["image"] == [str(pictures[0]), str(pictures[1])]


@pytest.mark.parametrize("form", ["folder", "pattern", "rows"])
@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_many(run, folder, tmp_path, form, ending):
    given = {"folder": str(folder), "pattern": str(folder / "*.png"), "rows": str(folder / "rows.jsonl")}[form]
    write_rows(folder / "rows.jsonl", [{"image": f"{index}.png", "prefix": "what?"} for index in range(5)])
    out = tmp_path / f"out.{ending}"
    result = predict(run, input=given, prefix="what?", out=out, batch_size=2)
    assert {key: result[key] for key in ("rows", "errors", "skipped")} == {"rows": 5, "errors": 0, "skipped": 0}
    if ending == "jsonl":
        rows = read_jsonl(out)
    else:
        with open(out, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [str(folder / f"{index}.png") for index in range(5)]
    single = predict(run, images=[str(folder / "3.png")], prefix="what?")
    assert rows[3]["prediction"] == single["prediction"]
    assert float(rows[3]["mean_log_probability"]) == pytest.approx(single["mean_log_probability"], abs=1e-5)
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_a_bad_file_is_a_row_with_an_error_and_is_tried_again(run, folder, tmp_path, decoded, pictures):
    (folder / "2.png").write_bytes(b"")
    out = tmp_path / "out.jsonl"
    result = predict(run, input=str(folder), prefix="what?", out=out)
    assert (result["rows"], result["errors"]) == (5, 1)
    rows = read_jsonl(out)
    assert "is empty (0 bytes)" in rows[2]["error"]
    assert rows[2]["prediction"] is None
    assert all("error" not in row for row in rows[:2] + rows[3:])
    shutil.copy(pictures[2], folder / "2.png")
    assert predict(run, input=str(folder), prefix="what?", out=out)["errors"] == 0
    assert decoded == [5, 1]
    with pytest.raises(DataError, match="is a folder"):
        predict(run, images=[str(folder)], prefix="x")


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_it_goes_on_where_it_stopped(run, folder, tmp_path, monkeypatch, decoded, ending):
    out, whole = tmp_path / f"out.{ending}", tmp_path / f"whole.{ending}"
    predict(run, input=str(folder), prefix="what?", out=whole, batch_size=1)
    real, count = prediction.append_row, []

    def stopping(path, row):
        if len(count) == 3:
            with open(path, "a", encoding="utf-8") as file:
                file.write('{"image": "cut off')
            raise KeyboardInterrupt
        count.append(row)
        real(path, row)

    with monkeypatch.context() as patched:
        patched.setattr(prediction, "append_row", stopping)
        with pytest.raises(KeyboardInterrupt):
            predict(run, input=str(folder), prefix="what?", out=out, batch_size=1)
    result = predict(run, input=str(folder), prefix="what?", out=out, batch_size=1)
    assert result["skipped"] == 3
    assert decoded == [5, 5, 2]
    assert out.read_text(encoding="utf-8") == whole.read_text(encoding="utf-8")


def test_other_rows_in_the_file_stay(run, folder, tmp_path):
    out = tmp_path / "out.jsonl"
    predict(run, input=str(folder), prefix="what?", out=out)
    predict(run, input=str(folder), prefix="and now?", out=out)
    rows = read_jsonl(out)
    assert [row["prefix"] for row in rows] == ["what?"] * 5 + ["and now?"] * 5


def test_answers_of_another_run_are_not_taken_for_this_ones(run, folder, tmp_path):
    out = tmp_path / "out.jsonl"
    predict(run, input=str(folder), prefix="a", out=out)
    before = out.read_text()
    other = shutil.copytree(run, tmp_path / "other")
    with open(other / "recipe.yaml", "a") as file:
        file.write("# trained otherwise\n")
    with pytest.raises(RecipeError, match="holds answers of another run"):
        predict(other, input=str(folder), prefix="a", out=out)
    assert out.read_text() == before
    assert predict(run, input=str(folder), prefix="a", out=out)["skipped"] == 5


def test_a_prefix_that_rows_have_already_is_said(run, folder, tmp_path, capsys):
    rows = write_rows(folder / "rows.jsonl", [{"image": "0.png", "prefix": "mine"}, {"image": "1.png"}])
    predict(run, input=str(rows), prefix="theirs", out=tmp_path / "out.jsonl")
    assert [row["prefix"] for row in read_jsonl(tmp_path / "out.jsonl")] == ["mine", "theirs"]
    assert "1 of 2 rows" in capsys.readouterr().err


def test_a_file_that_holds_something_else_is_not_overwritten(run, folder, tmp_path):
    out = write_rows(tmp_path / "train.jsonl", [{"image": "0.png", "prefix": "a", "suffix": "b"}])
    before = out.read_bytes()
    with pytest.raises(DataError, match="exists and does not hold predictions"):
        predict(run, input=str(folder), prefix="a", out=out)
    with pytest.raises(DataError, match="exists and does not hold predictions"):
        predict(run, input=str(out), prefix="a", out=out)
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({}, RecipeError, "give either --image"),
        ({"images": ["a.png"], "input": "x"}, RecipeError, "give either --image"),
        ({"images": ["a.png"]}, RecipeError, "--image needs --prefix"),
        ({"input": "."}, DataError, "no pictures in this folder"),
        ({"input": "*.png", "prefix": "x", "out": "o.jsonl"}, DataError, "as a pattern it matches nothing"),
        ({"input": "ok.png", "prefix": "x"}, RecipeError, "--input needs --out"),
        ({"input": "ok.png", "prefix": "x", "out": "o.txt"}, RecipeError, "ends in .jsonl or .csv"),
        ({"input": "ok.png", "prefix": "x", "out": "o.json"}, RecipeError, "did you mean .jsonl"),
        ({"input": "out.jsonl", "prefix": "", "out": "o.csv"}, DataError, "row 1: image '../ok.png' is outside of"),
        ({"input": "ok.png", "prefix": "x", "out": "no/o.csv"}, RecipeError, "the folder no does not exist"),
        ({"input": "ok.png", "out": "o.csv"}, RecipeError, "need --prefix"),
        ({"input": "bad.jsonl", "out": "o.csv"}, DataError, "row 1: no prefix in the row"),
        ({"input": "odd.jsonl", "prefix": "", "out": "o.csv"}, DataError, "row 1: image must be a path"),
    ],
    ids=lambda value: None,
)
def test_what_does_not_fit_together(run, tmp_path, monkeypatch, pictures, arguments, kind, words):
    monkeypatch.chdir(tmp_path)
    if arguments.get("input") != "." and "*" not in arguments.get("input", ""):
        shutil.copy(pictures[0], "ok.png")
    write_rows(tmp_path / "bad.jsonl", [{"image": "ok.png"}])
    write_rows(tmp_path / "odd.jsonl", [{"image": 3}])
    write_rows(tmp_path / "out.jsonl", [{"image": "../ok.png"}])
    with pytest.raises(kind, match=words):
        predict(run, **arguments)


def test_special_tokens_in_a_prefix_are_refused(run, pictures, folder, tmp_path):
    with pytest.raises(DataError, match="<image>"):
        predict(run, images=[str(pictures[0])], prefix="<image> what?")


def test_an_unfinished_run_is_refused(tmp_path, pictures):
    with pytest.raises(RunError, match="does not exist"):
        predict(tmp_path / "none", images=[str(pictures[0])], prefix="x")


def test_rows_are_json(run, folder, tmp_path):
    predict(run, input=str(folder), prefix="what?", out=tmp_path / "out.jsonl")
    for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines():
        json.loads(line)


def test_a_csv_of_something_else_is_not_overwritten(run, folder, tmp_path):
    out = tmp_path / "labels.csv"
    out.write_text("image,label\n0.png,cat\n")
    with pytest.raises(DataError, match="exists and does not hold predictions"):
        predict(run, input=str(folder), prefix="what?", out=out)
    assert out.read_text() == "image,label\n0.png,cat\n"
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_a_csv_is_gone_on_with_too(run, folder, tmp_path, decoded):
    out = tmp_path / "out.csv"
    (folder / "2.png").write_bytes(b"")
    predict(run, input=str(folder), prefix="what?", out=out)
    assert predict(run, input=str(folder), prefix="what?", out=out)["skipped"] == 4
    assert decoded == [5, 1]
    predict(run, input=str(folder / "0.png"), prefix="and now?", out=out)
    with open(out, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["prefix"] for row in rows] == ["what?"] * 4 + ["and now?"], "the row with an error was not asked again"


def test_a_folder_in_the_place_of_the_file_is_named(run, folder, tmp_path):
    for name in ("out.csv", "out.jsonl"):
        (tmp_path / name).mkdir()
        with pytest.raises(RecipeError, match=f"{name}: is a folder"):
            predict(run, input=str(folder), prefix="x", out=tmp_path / name)
    with pytest.raises(RecipeError, match="--input is empty"):
        predict(run, input="", prefix="x", out=tmp_path / "o.jsonl")


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_half_characters_are_rows_with_an_error(run, folder, tmp_path, ending):
    rows = [("0.png", "\ud800"), ("\udcff.png", "x"), ("1.png", "x")]
    write_rows(folder / "rows.jsonl", [{"image": image, "prefix": prefix} for image, prefix in rows])
    result = predict(run, input=str(folder / "rows.jsonl"), out=tmp_path / f"out.{ending}")
    assert (result["rows"], result["errors"]) == (3, 2)
    with pytest.raises(DataError, match="half of a character"):
        predict(run, images=[str(folder / "0.png")], prefix="\udcff")


def test_the_same_question_twice_keeps_each_its_own_references(run, folder, tmp_path):
    rows = [{"image": "0.png", "prefix": "x"}, {"image": "0.png", "prefix": "x", "suffix": "b"}]
    write_rows(folder / "rows.jsonl", rows)
    predict(run, input=str(folder / "rows.jsonl"), out=tmp_path / "out.jsonl")
    first, second = read_jsonl(tmp_path / "out.jsonl")
    assert "references" not in first
    assert second["references"] == ["b"]


def test_what_load_gives_checks_what_it_is_asked(run, pictures):
    loaded = load(run)
    for images, prefix, words in (
        ([], "x", "images is empty"),
        (None, "x", "an image must be a path, a PIL image or a callable"),
        (pictures[0], None, "prefix must be text"),
        (pictures[0], "<image>", "prefix holds <image>"),
    ):
        with pytest.raises(DataError, match=words):
            loaded.predict(images, prefix)
    with pytest.raises(DataError, match="max_new_tokens = -1: expected 1 or more"):
        loaded.predict(pictures[0], "x", max_new_tokens=-1)
