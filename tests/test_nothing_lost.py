"""A training that is killed goes on to the last bit: `kill -9` of real processes, at exact moments and at random."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import psutil
import pytest
from conftest import LORA, recipe_for, rows_of, write_rows
from killing import Training, assert_same, outcome

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")

SCORED = ("train.eval_steps=3", "train.best_metric=loss", "train.save_steps=2", "train.keep_checkpoints=2")
METHODS = {
    "lora": (
        {**LORA, "dropout": 0.3},
        ("train.batch_size=2", "train.gradient_accumulation_steps=2", "augment.brightness=0.3", "augment.contrast=0.3"),
    ),
    "full": (None, ("train.batch_size=3", "train.weight_decay=0.1", "train.warmup_ratio=0.2")),
    "nf4": ({**LORA, "use_dora": True}, ("model.quantization=nf4", "augment.saturation=0.5")),
}


def scored(data, *more):
    """What a run looks at in the middle, at its ends, and writes in addition."""
    return (f"data.validation={data / 'validation.jsonl'}", f"data.test={data / 'test.jsonl'}", *SCORED, *more)


@pytest.fixture
def trainings(small_bases, data, tmp_path):
    """Two trainings by the same recipe: the one that is left alone, and the one that is killed."""

    def made(method, *more):
        lora, overrides = METHODS[method]
        base = small_bases["paligemma2"]
        return [
            Training(recipe_for(base, data, tmp_path / name / "run", *overrides, *more, lora=lora), tmp_path / name)
            for name in ("whole", "killed")
        ]

    return made


# ---- kill -9


def kill_before(training, operations):
    """Killed before each of these operations in turn, each time gone on with. It comes to its end at last."""
    for operation in operations:
        assert training.run(kill_before=operation) in (-9, 0), training.said()
    assert training.run() == 0, training.said()


@pytest.mark.parametrize("method", ["lora", "full"])
def test_killed_and_gone_on_with(trainings, data, method):
    """Four times, before an operation on a file: while the run is begun, goes, and writes a checkpoint."""
    whole, killed = trainings(method, *scored(data, "train.max_steps=7"))
    assert whole.run() == 0, whole.said()
    # 7: begun by half; 34: in the first checkpoint; 20: on going on; 66: near the end
    kill_before(killed, (7, 34) if method == "lora" else (20, 66))
    assert_same(whole.folder, killed.folder)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_killed_before_any_operation_on_a_file(trainings, small_bases, pictures, data, tmp_path, method):
    """Every moment that there is between two changes of the disk, of a run that takes the place of an earlier one."""
    rows = [{**row, "groups": {"patient": str(number)}} for number, row in enumerate(rows_of(pictures, 20))]
    source = write_rows(tmp_path / "cut.jsonl", rows)
    cut = (f"data.train={source}", "data.split_by=patient", "data.test_share=0.2", "data.validation_share=0.2")
    whole, killed = trainings(method, *SCORED, *cut, "train.max_steps=4")
    assert whole.run() == 0, whole.said()
    assert killed.run() == 0, killed.said()
    for operation in range(1, whole.operations("--overwrite") + 1):
        code = killed.run("--overwrite", kill_before=operation)
        assert code in (-9, 0), (operation, killed.said())  # 0: it had a file fewer to remove, and was at its end
        assert killed.run() == 0, (operation, killed.said())
        assert_same(whole.folder, killed.folder)


RANDOM = {
    "lora, accumulation, augmentation": ("lora", ()),
    "lora, workers": ("lora", ("train.num_workers=2",)),
    "full": ("full", ()),
    "nf4, augmentation": ("nf4", ()),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", RANDOM)
def test_killed_at_random_moments(trainings, data, case, capsys):
    """Five moments a case, drawn: some steps later, and every other one when a checkpoint begins to be written."""
    method, more = RANDOM[case]
    whole, killed = trainings(method, *scored(data, "train.max_steps=40", *more))
    assert whole.run() == 0, whole.said()
    draw, record = random.Random(case), []
    for number, rows in enumerate(sorted(draw.sample(range(1, 36), 5))):
        process = killed.start()
        wait_for(process, killed.folder, rows, written=number % 2 == 1)
        time.sleep(draw.random() * (0.002 if number % 2 else 0.2))
        process.kill()
        process.join()
        record.append(state(killed.folder, process.exitcode))
    assert killed.run() == 0, killed.said()
    with capsys.disabled():
        print(f"\n{case}, killed at\n  " + "\n  ".join(record))
    assert sum(line.startswith("exit -9") for line in record) >= 3, record
    assert_same(whole.folder, killed.folder)


def wait_for(process, folder, rows, *, written):
    """Until so many steps are in the log, and, where `written`, a checkpoint is being written; or the end."""
    log, checkpoints = folder / "log.jsonl", folder / "checkpoints"
    while process.is_alive() and not (log.exists() and log.read_bytes().count(b"\n") >= rows):
        time.sleep(0.001)
    while written and process.is_alive() and not list(checkpoints.glob(".*.part")):
        pass


def state(folder: Path, code: int) -> str:
    """For the record: what a killed run has on disk."""
    log = folder / "log.jsonl"
    rows = log.read_text(encoding="utf-8").count("\n") if log.exists() else 0
    checkpoints = folder / "checkpoints"
    names = sorted(entry.name for entry in checkpoints.iterdir()) if checkpoints.is_dir() else []
    return f"exit {code}, {rows} steps in the log, checkpoints: {' '.join(names) or 'none'}"


# ---- the machine says no


@pytest.mark.parametrize(
    ("method", "largest", "place"), [("lora", 60_000, "processor"), ("full", 300_000, "checkpoints/step-000002")]
)
def test_a_disk_that_is_full_ends_it_clearly(trainings, data, method, largest, place):
    """A limit on the size of a file: the system refuses to write on, in the libraries too."""
    whole, stopped = trainings(method, *scored(data, "train.max_steps=4"))
    assert whole.run() == 0, whole.said()
    assert stopped.run(largest_file=largest) == 1
    error = stopped.said().splitlines()[-1]
    assert error == (
        f"error: {stopped.folder}/{place}: File too large; what was complete before is kept. When that is mended, go "
        f"on with: pgtune train {stopped.folder}/recipe.yaml --resume"
    )
    assert not list(stopped.folder.rglob("*.part"))
    assert stopped.run() == 0, stopped.said()
    assert_same(whole.folder, stopped.folder)


@pytest.mark.slow
def test_a_data_worker_that_is_killed_ends_it_clearly(trainings, data):
    whole, lost = trainings("lora", f"data.test={data / 'test.jsonl'}", "train.max_steps=60")
    assert whole.run() == 0, whole.said()
    process = lost.start("train.num_workers=1", "--resume")
    log = lost.folder / "log.jsonl"
    while process.is_alive() and not (log.exists() and log.stat().st_size):
        time.sleep(0.01)
    (worker,) = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    worker.kill()
    process.join()
    assert process.exitcode == 1, lost.said()
    assert "error: a process that reads the data died (" in lost.said()
    assert "Traceback" not in lost.said()
    kept = [entry.name for entry in (lost.folder / "checkpoints").glob("step-*")]
    assert len(kept) == 1, "the steps before it are kept, although the recipe saves only at the end"
    assert lost.run() == 0, "with another number of workers"
    assert f"going on after step {int(kept[0][5:])} of 60" in lost.said()
    one, two = outcome(whole.folder), outcome(lost.folder)
    assert one["log.jsonl"] == two["log.jsonl"]
    assert one["adapter/adapter_model.safetensors"] == two["adapter/adapter_model.safetensors"]
