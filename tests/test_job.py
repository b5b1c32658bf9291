"""A job's data: cut splits that evaluate finds again, what is left out, worker processes, texts that are too long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import losses, read_jsonl, recipe_for, rows_of, write_rows

from pgtune import train
from pgtune.errors import DataError, RunError
from pgtune.evaluation import evaluate


def grouped(pictures: list[Path], folder: Path, count: int = 20) -> Path:
    """A folder whose train.jsonl is all of the material: two rows a patient."""
    rows = [{**row, "groups": {"patient": f"MRN-{number // 2}"}} for number, row in enumerate(rows_of(pictures, count))]
    write_rows(folder / "train.jsonl", rows)
    return folder


CUT = ("data.split_by=patient", "data.test_share=0.2", "data.validation_share=0.1", "train.max_steps=1")


def test_a_cut_is_written_down_and_evaluate_scores_the_same_rows(small_bases, pictures, tmp_path):
    data, run = grouped(pictures, tmp_path), tmp_path / "run"
    recipe = recipe_for(small_bases["paligemma2"], data, run, *CUT)
    metrics = train(recipe)
    assert (metrics["split"], metrics["n"], metrics["left_out"]) == ("test", 4, {})
    record = json.loads((run / "splits.json").read_text(encoding="utf-8"))
    assert {name: (of["examples"], of["groups"]) for name, of in record["splits"].items()} == {
        "train": (14, 7),
        "test": (4, 2),
        "validation": (2, 1),
    }
    (rows,) = record["splits"]["test"]["rows"].values()
    scored = [row["where"] for row in read_jsonl(run / "predictions.jsonl")]
    assert [place.rpartition(":")[2] for place in scored] == [str(row) for row in rows]
    assert "MRN" not in "".join(
        file.read_text(encoding="utf-8", errors="ignore") for file in run.rglob("*.json*") if file.is_file()
    )
    for split, n in (("test", 4), ("validation", 2), ("train", 14)):
        result = evaluate(run, split=split)
        assert result["n"] == n
        if split == "test":
            assert result["metrics"] == metrics["after"]
            assert [row["where"] for row in read_jsonl(run / "evaluations" / "test" / "predictions.jsonl")] == scored
    grouped(pictures, tmp_path, 24)
    with pytest.raises(RunError, match=r"splits.json: the data has changed since: cut by 'patient' it falls otherwise"):
        evaluate(run)


def test_what_is_left_out_is_said_and_stands_in_the_metrics(small_bases, pictures, tmp_path, capsys):
    rows = rows_of(pictures, 20)
    rows[3]["suffix"] = ""
    write_rows(tmp_path / "train.jsonl", rows)
    overrides = ("data.max_bad_share=0.05", "train.max_steps=1")
    metrics = train(recipe_for(small_bases["paligemma2"], tmp_path, tmp_path / "run", *overrides))
    bad = metrics["left_out"]["train"]["bad"]
    assert (bad["count"], bad["rows"][0]["row"]) == (1, 4)
    assert metrics == json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    err = capsys.readouterr().err
    assert "left out   " in err
    assert "train.jsonl, row 4: suffix is empty" in err
    assert "19 to train on" in err
    with pytest.raises(DataError, match=r"1 of 20 rows are bad \(5 %, data.max_bad_share allows 4 %\)"):
        train(recipe_for(small_bases["paligemma2"], tmp_path, tmp_path / "new", "data.max_bad_share=0.04"))
    assert not (tmp_path / "new").exists()


def test_worker_processes_read_the_same_examples(small_bases, data, tmp_path):
    series = []
    for workers in (0, 2):
        run = tmp_path / f"run{workers}"
        train(recipe_for(small_bases["paligemma2"], data, run, f"train.num_workers={workers}", "train.max_steps=2"))
        series.append(losses(run))
    assert series[0] == series[1]


@pytest.mark.parametrize("place", [0, 1003])
def test_a_text_that_is_too_long_is_named_wherever_it_stands(small_bases, pictures, tmp_path, place: int) -> None:
    rows: list[dict[str, Any]] = rows_of(pictures, 1010)
    rows[place]["suffix"] = "long " * 60
    write_rows(tmp_path / "train.jsonl", rows)
    recipe = recipe_for(small_bases["paligemma2"], tmp_path, tmp_path / "run", "data.max_text_tokens=40")
    with pytest.raises(DataError, match=rf"train.jsonl:{place + 1}: the text has \d+ tokens .*max_text_tokens is 40"):
        train(recipe)


def test_what_does_not_fit_may_be_left_out(small_bases, pictures, tmp_path, capsys) -> None:
    rows = rows_of(pictures, 12)
    for place in (2, 9):
        rows[place]["suffix"] = "long " * 60
    write_rows(tmp_path / "train.jsonl", rows)
    overrides = ("data.max_text_tokens=40", "data.too_long=skip", "train.max_steps=1")
    train(recipe_for(small_bases["paligemma2"], tmp_path, tmp_path / "run", *overrides))
    assert "10 to train on (2 too long, left out)" in capsys.readouterr().err
