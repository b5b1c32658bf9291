"""The report of what is odd: a pushed run, a DoRA run, one in full, one without a score, and damaged files by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hub_client import command
from hub_server import Hub
from report_runs import picture, plain_run, row, rows_of_metrics, write_run

from pgtune.cli import main
from pgtune.errors import RunError
from pgtune.reporting import report
from pgtune.reporting.curves import Series, chart, ticks


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_run(tmp_path_factory.mktemp("plain"))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def published(run: Path, folder: Path, **metrics: Any) -> Path:
    """The run's own files as a push leaves them: without the trivial answer, and counts of rows left out."""
    (folder / "pgtune").mkdir(parents=True)
    shutil.copy(run / "recipe.yaml", folder / "pgtune" / "recipe.yaml")
    (folder / "pgtune" / "status.json").write_text('{"state": "finished", "kind": "adapter"}', encoding="utf-8")
    found = {key: value for key, value in rows_of_metrics(run).items() if key != "trivial_answer"} | metrics
    (folder / "pgtune" / "metrics.json").write_text(json.dumps(found), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def bad_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is not better than the trivial answer."""
    folder = tmp_path_factory.mktemp("bad")
    image = str(picture(folder / "one.png"))
    return write_run(folder / "run", [row(image, "cat", "dog") for _ in range(3)])


def test_a_pushed_run_that_is_not_better_than_the_trivial_answer(bad_run: Path, tmp_path: Path) -> None:
    folder = published(bad_run, tmp_path / "pushed", left_out={"test": {"skipped": 3, "bad": 1}})
    text = text_of(report(folder, tmp_path / "page.html"))
    assert "not clearly better than always answering the most frequent answer" in text
    assert "None" not in text
    assert "3 skipped by the data adapter" in text


def test_a_report_by_its_id(hub: Hub, bad_run: Path, tmp_path: Path) -> None:
    folder = published(bad_run, tmp_path / "pushed")
    hub.put("org/report", {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.*")})
    code, _, err = hub.call(command, "report", "org/report", "--out", str(tmp_path / "page.html"))
    assert code == 0, err
    assert "<h1>org/report</h1>" in text_of(tmp_path / "page.html")
    code, _, err = hub.call(command, "report", "org/absent", "--out", str(tmp_path / "page.html"))
    assert code == 2
    assert "org/absent: is not there" in err


def test_of_a_model_from_elsewhere_no_row_is_shown(plain: Path, tmp_path: Path) -> None:
    """Its rows could name any picture of this machine, and its links any file."""
    folder = published(plain, tmp_path / "pushed")
    shutil.copy(plain / "predictions.jsonl", folder)
    assert "<article" not in text_of(report(folder, tmp_path / "page.html"))
    shutil.move(folder / "pgtune" / "metrics.json", tmp_path / "private.json")
    (folder / "pgtune" / "metrics.json").symlink_to(tmp_path / "private.json")
    with pytest.raises(RunError, match=r"metrics.json is a link"):
        report(folder, tmp_path / "page.html")


def test_other_methods_and_nothing_scored(tmp_path: Path) -> None:
    image = str(picture(tmp_path / "one.png"))
    dora = write_run(tmp_path / "dora", [row(image, "a", "a")], "lora.use_dora=true")
    assert "dora, rank 4 on tiny" in text_of(report(dora))
    full = write_run(tmp_path / "full", [row(image, "a", "a")], "lora=null")
    assert "full on tiny" in text_of(report(full))
    unscored = write_run(tmp_path / "unscored", [])
    assert 'id="curves"' in text_of(report(unscored))


ROWS: dict[str, tuple[Any, str]] = {
    **{f"without {key}": (key, f"{key}: missing") for key in (
        "image", "prefix", "prediction", "references", "metadata", "where", "mean_log_probability", "scores"
    )},
    "no reference": ({"references": []}, "references: "),
    "prediction null": ({"prediction": None}, "prediction: expected text, not None"),
    "image number": ({"image": 123}, "image"),
    "boxes": ({"boxes": [{"box": [0, 0, 1], "label": "x", "score": 1}]}, r"boxes.0.box: "),
}  # fmt: skip


def damaged(plain: Path, tmp_path: Path, name: str, content: str) -> Path:
    run = tmp_path / "run"
    shutil.copytree(plain, run, ignore=shutil.ignore_patterns("report.html"))
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).write_text(content, encoding="utf-8")
    return run


@pytest.mark.parametrize("what", ROWS)
def test_a_damaged_prediction_is_named(what: str, plain: Path, tmp_path: Path) -> None:
    change, message = ROWS[what]
    rows = [json.loads(line) for line in (plain / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    if isinstance(change, str):
        del rows[2][change]
    else:
        rows[2] |= change
    run = damaged(plain, tmp_path, "predictions.jsonl", "".join(json.dumps(each) + "\n" for each in rows))
    with pytest.raises(RunError, match=rf"predictions.jsonl: damaged: row 3: {message}"):
        report(run)


STEP = {"step": 1, "loss": 2.0, "learning_rate": 0.1, "grad_norm": 1.0, "epoch": 0.1, "seconds": 0.5}
FILES: dict[str, tuple[str, str, str]] = {
    "log NaN": ("log.jsonl", json.dumps({**STEP, "loss": float("nan")}) + "\n", "row 1: loss: "),
    "log infinite": ("log.jsonl", json.dumps(STEP).replace("2.0", "1e400") + "\n", "row 1: loss: "),
    "log lacks": ("log.jsonl", '{"step": 1}\n', "row 1: loss: missing"),
    "log list": ("log.jsonl", "[1]\n", "row 1: expected a mapping"),
    "validation": ("validation.jsonl", '{"step": 1, "loss": 2.0, "exact_match": "x"}\n', "row 1: exact_match"),
    "metrics list": ("metrics.json", "[]", "expected a mapping, not "),
    "metrics null": ("metrics.json", "null", "expected a mapping, not None"),
    "metrics empty": ("metrics.json", "{}", "before: missing"),
    "metrics deep": ("metrics.json", "[" * 100_000, "too many levels"),
    "evaluation": ("evaluations/x/metrics.json", "{}", "n: missing"),
    "memory list": ("memory.json", "[]", "expected a mapping"),
    "memory device": ("memory.json", '{"device": "tpu", "devices": 1, "bfloat16": true, "peak_bytes": 1}', "device: "),
    "memory zero": ("memory.json", '{"device": "cpu", "devices": 1, "bfloat16": true, "peak_bytes": 0}', "peak_bytes"),
    **{
        f"memory {value}": (
            "memory.json",
            f'{{"device": "cpu", "devices": 1, "bfloat16": true, "peak_bytes": 9, "gradient_checkpointing": {value}}}',
            "gradient_checkpointing",
        )
        for value in ('"auto"', "-1", "1", "null", "[]", "1e9")
    },
    "splits": ("splits.json", "{}", "split_by: missing"),
    "overlaps": ("overlaps.json", '[{"kind": "a", "splits": [], "message": "b", "count": 0, "of": 0}]', "0.splits"),
    "status": ("status.json", "[]", "expected a mapping"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_damaged_file_is_named(
    what: str, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content, message = FILES[what]
    run = damaged(plain, tmp_path, name, content)
    assert main(["report", str(run)]) == 2
    said = capsys.readouterr().err
    assert f"{name}: damaged" in said
    assert message in said
    assert not (run / "report.html").exists()


def test_a_file_that_is_a_folder_is_named(plain: Path, tmp_path: Path) -> None:
    run = damaged(plain, tmp_path, "memory.json/x", "")
    with pytest.raises(RunError, match=r"memory.json: damaged \(IsADirectoryError"):
        report(run)


def test_rows_of_which_some_have_no_boxes_or_scores(tmp_path: Path) -> None:
    image = str(picture(tmp_path / "one.png"))
    rows = [row(image, "a", "a"), row(image, "a", "b", boxes=[])]
    run = write_run(tmp_path / "run", rows)
    rows[0]["scores"] = {}
    (run / "predictions.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    assert text_of(report(run)).count("<article") == 2


@pytest.mark.parametrize(("low", "high"), [(1.0, 1 + 1e-14), (1e-14, 3e-14), (-1e100, 1e100), (7e-13, 7e-13)])
def test_ticks_of_hardly_any_or_a_huge_span(low: float, high: float) -> None:
    marks = ticks(low, high)
    assert marks[0] < marks[-1]
    assert len(marks) == len(set(marks)) <= 8
    chart("loss", [Series("loss", [(1.0, low), (2.0, high)], "loss")], ends=(1, 2))
