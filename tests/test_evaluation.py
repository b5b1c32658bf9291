"""evaluate(): its own files, the same numbers as the training wrote, other sources, pictures made on demand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import read_jsonl, recipe_for, rows_of, write_rows
from PIL import Image

from pgtune import evaluate, train
from pgtune.cli import main
from pgtune.errors import DataError, RunError
from pgtune.metrics import score_file


def snapshot(run):
    return {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and "evaluations" not in file.parts}


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory):
    return Path(shutil.copytree(finished, tmp_path_factory.mktemp("evaluated") / "run"))


def test_the_same_numbers_as_after_the_training(run):
    before = snapshot(run)
    result = evaluate(run)
    assert snapshot(run) == before, "the run's own files are left alone"
    wanted = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert result["metrics"] == wanted["after"]
    assert result["trivial"] == wanted["trivial"]
    assert result["n"] == 5
    folder = Path(result["folder"])
    assert {entry.name for entry in folder.iterdir()} == {"metrics.json", "predictions.jsonl", "predictions.png"}
    theirs, ours = (read_jsonl(place / "predictions.jsonl") for place in (run, folder))
    for one, other in zip(theirs, ours, strict=True):
        assert one["prediction"] == other["prediction"]
        assert one["mean_log_probability"] == pytest.approx(other["mean_log_probability"], abs=1e-6)


def test_another_source_and_a_limit(run, pictures, tmp_path):
    source = write_rows(tmp_path / "more.jsonl", rows_of(pictures, 6))
    result = evaluate(run, source=str(source), split="extra", limit=3, batch_size=2)
    assert result["n"] == 3
    assert (run / "evaluations" / "extra-more-first-3" / "metrics.json").is_file()
    assert evaluate(run, split="train", limit=2)["n"] == 2


def test_a_split_that_the_recipe_lacks(run):
    with pytest.raises(RunError, match=r"the recipe has no data.validation; it has train, test"):
        evaluate(run, split="validation")


def test_a_bad_picture_names_its_row(run, pictures, tmp_path):
    rows = rows_of(pictures, 3)
    (tmp_path / "bad.png").write_bytes(pictures[0].read_bytes()[:50])
    rows[1]["image"] = str(tmp_path / "bad.png")
    source = write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match=r"rows.jsonl, row 2: .*bad.png: is damaged or truncated"):
        evaluate(run, source=str(source), split="bad")
    assert not (run / "evaluations" / "bad").exists()


def test_pictures_made_on_demand_lie_where_the_rows_say(small_bases, tmp_path, monkeypatch):
    """In the training's own predictions and in a later evaluation, which is written aside and renamed."""
    module = tmp_path / "drawn_adapter.py"
    module.write_text(
        "from functools import partial\n"
        "from PIL import Image\n"
        "from pgtune import Example\n"
        "def draw(shade):\n"
        "    return Image.new('RGB', (20, 20), (shade, 0, 0))\n"
        "class Drawn:\n"
        "    def rows(self, source, split):\n"
        "        return range(4)\n"
        "    def __call__(self, row):\n"
        "        return Example([partial(draw, 40 * row), Image.new('L', (9, 9), row)], 'shade', str(row))\n"
    )
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    train(
        recipe_for(
            small_bases["paligemma"],
            tmp_path,
            run,
            "data.adapter=drawn_adapter:Drawn",
            "data.train=drawn",
            "data.test=drawn",
            "train.max_steps=1",
        )
    )
    evaluate(run)
    for folder in (run, run / "evaluations" / "test"):
        rows = read_jsonl(folder / "predictions.jsonl")
        assert len(rows) == 4
        for number, row in enumerate(rows):
            first, second = map(Path, row["image"])
            assert first.is_file()
            assert second.is_file()
            assert folder.resolve() in first.parents
            with Image.open(first) as picture:
                assert picture.getpixel((0, 0)) == (40 * number, 0, 0)


@pytest.mark.parametrize("split", ["../adapter", "..", "/tmp/x", "", "a/b"])
def test_a_split_cannot_name_another_folder(run, data, split):
    before = snapshot(run)
    for source in (None, str(data / "test.jsonl")):
        with pytest.raises(RunError, match="is not the name of a split"):
            evaluate(run, split=split, source=source)
    assert snapshot(run) == before


@pytest.mark.parametrize("split", ["adapter", "root", "copy"])
def test_other_keys_of_data_are_no_splits(run, split):
    with pytest.raises(RunError, match=f"the recipe has no data.{split}; it has train, test"):
        evaluate(run, split=split)


def test_arguments_out_of_range_are_named(run, data):
    with pytest.raises(RunError, match="source: expected a file or folder"):
        evaluate(run, source="")
    with pytest.raises(DataError, match="limit = 0: expected 1 or more"):
        evaluate(run, limit=0)
    with pytest.raises(DataError, match="batch_size = -1: expected 1 or more"):
        evaluate(run, source=data / "test.jsonl", limit=1, batch_size=-1)


def test_scores_come_by_part_and_type_and_name_no_patient(small_bases, pictures, tmp_path, capsys):
    """Two patients with three questions each: two clusters, whose numbers are all that is written of them."""
    rows = []
    for number in range(6):
        rows.append(
            {
                "image": str(pictures[number % len(pictures)]),
                "prefix": "detect cat" if number % 2 else "what is it?",
                "suffix": "<loc0100><loc0100><loc0500><loc0500> cat",
                "part": ("closed", "open")[number % 2],
                "question_type": ("PRES", "POS", "PRES")[number % 3],
                "groups": {"patient": f"SECRET-{number // 3}"},
            }
        )
    write_rows(tmp_path / "train.jsonl", rows)
    run = tmp_path / "run"
    overrides = (f"data.test={tmp_path / 'train.jsonl'}", "train.max_steps=1", "eval.metrics=[rsvqa, medvqa, map]")
    train(recipe_for(small_bases["paligemma"], tmp_path, run, *overrides))
    assert main(["evaluate", str(run)]) == 0
    printed = capsys.readouterr().out
    assert "rsvqa, mean over types" in printed
    assert "  part closed" in printed
    assert "  malformed" in printed
    for folder in (run, run / "evaluations" / "test"):
        found = read_jsonl(folder / "predictions.jsonl")
        assert [row["cluster"] for row in found] == [0, 0, 0, 1, 1, 1]
        assert [row["part"] for row in found] == ["closed", "open"] * 3
        assert [row["question_type"] for row in found] == ["PRES", "POS", "PRES"] * 2
        assert [isinstance(row.get("boxes"), list) for row in found] == [False, True] * 3
    document = json.loads((run / "evaluations" / "test" / "metrics.json").read_text(encoding="utf-8"))
    assert document["scores"]["rsvqa"]["types"].keys() == {"PRES", "POS"}
    assert document["scores"]["medvqa"]["parts"].keys() == {"closed", "open"}
    assert (document["scores"]["medvqa"]["n"], document["scores"]["medvqa"]["clusters"]) == (6, 2)
    assert document["trivial"]["rsvqa"] == document["trivial_scores"]["rsvqa"]["parts"]["open"]["value"] == 1.0
    after = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["scores"]["after"]
    assert after == document["scores"]
    predictions = run / "evaluations" / "test" / "predictions.jsonl"
    assert score_file(["rsvqa", "medvqa", "map"], predictions)["scores"] == document["scores"]
    for file in run.rglob("*"):
        assert not file.is_file() or b"SECRET" not in file.read_bytes(), file
