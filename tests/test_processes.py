"""Several processes on the CPU (gloo): the same losses, weights and answers as one, however they share the work.

Each of these starts Python two or three times, so that all but one are slow.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import LORA, losses, read_jsonl, recipe_for, write_rows
from safetensors.torch import load_file

from pgtune import train
from pgtune.schedule import step_indices

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
LOOKS = ("train.eval_steps=2", "train.best_metric=loss", "train.patience=3")
CALM = ("train.epsilon=1e-3", "train.learning_rate=1e-3")  # Adam turns rounding of tiny gradients into whole steps


def pgtune(*words, launcher=("-m", "pgtune"), code=0, seconds=1500):
    """Run pgtune and return what it did, after a look at its exit code."""
    command = [sys.executable, *launcher, *map(str, words)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def torchrun(*more):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return ("-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}", *more, "-m", "pgtune")


def written(recipe, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml(), encoding="utf-8")
    return file


def scored(data):
    return f"data.validation={data / 'validation.jsonl'}", f"data.test={data / 'test.jsonl'}"


def assert_same(one, two):
    """Two runs: the losses to 1e-5, the files that come out, the answers."""
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    norms = [[row["grad_norm"] for row in read_jsonl(run / "log.jsonl")] for run in (one, two)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)
    name = next(
        path for path in ("adapter/adapter_model.safetensors", "model/model.safetensors") if (one / path).exists()
    )
    first, second = (load_file(run / name) for run in (one, two))
    assert first.keys() == second.keys()
    assert max((first[key].float() - second[key].float()).abs().max().item() for key in first) < 1e-5
    rows = [read_jsonl(run / "predictions.jsonl") for run in (one, two)]
    for field in ("where", "prediction", "before", "references"):
        assert [row[field] for row in rows[1]] == [row[field] for row in rows[0]]
    if (one / "validation.jsonl").exists():
        looks = [[row["loss"] for row in read_jsonl(run / "validation.jsonl")] for run in (one, two)]
        assert looks[1] == pytest.approx(looks[0], rel=1e-5)
    files = [{str(file.relative_to(run)) for file in run.rglob("*") if file.is_file()} for run in (one, two)]
    assert files[0] ^ files[1] <= {"memory.json"}, "which a process writes for its first run only"


def test_two_processes_are_one_with_twice_the_batch(small_bases, data, tmp_path):
    base, more = small_bases["paligemma2"], (*scored(data), *LOOKS, *CALM)
    train(recipe_for(base, data, tmp_path / "one", *more))
    two = recipe_for(base, data, tmp_path / "two", *more, "train.batch_size=2")
    done = pgtune("train", written(two, tmp_path), "--processes", 2, "--json")
    assert_same(tmp_path / "one", tmp_path / "two")
    assert json.loads(done.stdout)["n"] == 5
    assert done.stderr.count("evaluate after") == done.stderr.count("processes  2 on cpu, ddp") == 1


CASES = {
    "full": (None, ()),
    "full, ddp": (None, ("train.strategy=ddp",)),
    "full, by torchrun": (None, ()),
    "lora, fsdp": (LORA, ("train.strategy=fsdp",)),
    "dora, fsdp": ({**LORA, "use_dora": True}, ("train.strategy=fsdp",)),
    "nf4, fsdp": (LORA, ("train.strategy=fsdp", "model.quantization=nf4")),
    "nf4, ddp": (LORA, ("model.quantization=nf4",)),
    "parts beside lora, fsdp": (LORA, ("train.strategy=fsdp", "model.trainable=[vision_tower,projector]")),
    "projector alone, fsdp": (None, ("model.trainable=[projector]",)),
    "checkpointed, fsdp": (LORA, ("train.strategy=fsdp", "train.gradient_checkpointing=true")),
    "accumulated, fsdp": (LORA, ("train.strategy=fsdp", "train.gradient_accumulation_steps=2")),
    "compiled, fsdp": (LORA, ("train.strategy=fsdp", "train.compile=true")),
    "compiled, ddp": (LORA, ("train.compile=true",)),
    "clipped hard, fsdp": (None, ("train.max_grad_norm=0.01",)),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_strategy_is_exact(small_base, data, tmp_path, case):
    lora, more = CASES[case]
    shared = (*more, *scored(data), *LOOKS, *CALM)
    alone = [setting for setting in shared if not setting.startswith("train.strategy")]
    train(recipe_for(small_base, data, tmp_path / "one", *alone, lora=lora))
    file = written(recipe_for(small_base, data, tmp_path / "two", *shared, "train.batch_size=2", lora=lora), tmp_path)
    how = {"launcher": torchrun()} if "torchrun" in case else {}
    done = pgtune("train", file, *(() if how else ("--processes", 2)), **how)
    runs = "fsdp" if "fsdp" in case or (lora is None and "ddp" not in case) else "ddp"
    assert f"processes  2 on cpu, {runs}" in done.stderr
    assert_same(tmp_path / "one", tmp_path / "two")


def broken(data, split, row, tmp_path):
    """The rows of a split with a picture that is cut off; the file, and the picture."""
    rows = read_jsonl(data / f"{split}.jsonl")
    whole = rows[row]["image"]
    bad = tmp_path / "bad.png"
    bad.write_bytes(Path(whole).read_bytes()[:60])
    rows[row]["image"] = str(bad)
    return write_rows(tmp_path / f"{split}.jsonl", rows), bad, whole


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_bad_picture_on_one_rank_ends_all_and_one_process_goes_on(small_bases, data, tmp_path, strategy):
    """The picture is read by the second process only, in step 2; what was done goes on with one process."""
    rows, bad, whole = broken(data, "train", step_indices(3, 2, 24, 4)[3], tmp_path)
    root = f"data.root={data.parent.parent}"
    shared = (f"data.train={rows}", "data.verify_images=none", "data.test=" + str(data / "test.jsonl"), root, *CALM)
    lora = LORA if strategy == "ddp" else None
    two = written(
        recipe_for(small_bases["paligemma2"], data, tmp_path / "two", *shared, "train.batch_size=2", lora=lora),
        tmp_path,
    )
    said = pgtune("train", two, "--processes", 2, code=2).stderr
    assert said.count("error: ") == 1
    assert f"{bad}: is damaged or truncated" in said
    assert "Traceback" not in said
    bad.write_bytes(Path(whole).read_bytes())
    assert "saw 4 examples a step, now it would see 2" in pgtune("train", two, "--resume", code=2).stderr
    said = pgtune("train", two, "--resume", "train.batch_size=4").stderr
    assert "going on after step 2 of 4" in said
    train(recipe_for(small_bases["paligemma2"], data, tmp_path / "one", *shared, lora=lora))
    assert_same(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_a_bad_picture_of_the_test_split_ends_sharded_ranks(small_bases, data, tmp_path):
    rows, bad, _ = broken(data, "test", 1, tmp_path)
    more = (f"data.test={rows}", "data.verify_images=none", f"data.root={data.parent.parent}", "train.batch_size=2")
    file = written(recipe_for(small_bases["paligemma2"], data, tmp_path / "run", *more, lora=None), tmp_path)
    said = pgtune("train", file, "--processes", 2, code=2).stderr
    assert said.count("error: ") == 1
    assert f"test.jsonl:2: {bad}: is damaged" in said


@pytest.mark.slow
def test_evaluate_and_predict_share_the_work(finished, data, tmp_path):
    """Five examples on two processes: nobody answers twice, and all that is written is as one process writes it."""
    asked = write_rows(
        tmp_path / "asked.jsonl",
        [{**row, "prefix": f"{row['prefix']} {n}"} for n, row in enumerate(read_jsonl(data / "train.jsonl"))],
    )
    found = {}
    for processes in (1, 2):
        command = ("evaluate", finished, "--source", data / "test.jsonl", "--json", "--processes", processes)
        found[processes] = json.loads(pgtune(*command).stdout)
        out = tmp_path / f"{processes}.jsonl"
        pgtune("predict", finished, "--input", asked, "--out", out, "--batch-size", 2, "--processes", processes)
    assert found[1].pop("scores")["exact_match"]["value"] == found[2].pop("scores")["exact_match"]["value"]
    assert found[1] == found[2]
    texts = [(tmp_path / f"{processes}.jsonl").read_text(encoding="utf-8") for processes in (1, 2)]
    one, two = ([json.loads(line) for line in text.splitlines()] for text in texts)
    for row in (*one, *two):
        row["mean_log_probability"] = round(row["mean_log_probability"], 5)
    assert one == two
    assert len(two) == 24
    said = pgtune("predict", finished, "--input", asked, "--out", out, "--processes", 2)
    assert "0 rows" not in said.stdout
    assert "24 there already" in said.stdout


@pytest.mark.slow
@pytest.mark.parametrize("what", ["SIGTERM", "SIGINT", "SIGKILL"])
def test_signals_reach_every_process(small_bases, data, tmp_path, what):
    """Asked to stop, the processes keep the step they are in; one that is killed ends the others; none is left."""
    run = tmp_path / "run"
    file = written(
        recipe_for(small_bases["paligemma2"], data, run, "train.max_steps=4000", "train.batch_size=2"), tmp_path
    )
    command = [sys.executable, "-m", "pgtune", "train", str(file), "--processes", "2"]
    started = subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    children = []
    deadline = time.monotonic() + 120
    while len(losses(run) if (run / "log.jsonl").exists() else []) < 5:
        assert started.poll() is None, started.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for folder in os.scandir("/proc"):
        if folder.name.isdigit() and f"PPid:\t{started.pid}\n" in Path(folder.path, "status").read_text():
            children.append(int(folder.name))
    assert len(children) == 2
    if what == "SIGKILL":
        os.kill(max(children), signal.SIGKILL)
    else:
        started.send_signal(getattr(signal, what))
    said = started.communicate(timeout=60)[1]
    assert started.returncode == 1
    assert said.count("error: ") == 1
    assert not any(os.path.exists(f"/proc/{child}") for child in children)
    if what == "SIGKILL":
        assert "of 2 was ended by SIGKILL" in said
    else:
        steps = len(losses(run))
        assert f"stopped on request after step {steps}, which is kept" in said
        assert "--resume --processes 2" in said
        assert (run / "checkpoints" / f"step-{steps:06d}").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--multi_gpu", "--num_machines=1", "--mixed_precision=bf16", "--dynamo_backend=inductor"), None),
        (("--cpu",), "accelerate launch was told of several processes and started one"),
        (("--use_fsdp", "--fsdp_version=2"), "ACCELERATE_USE_FSDP=true: the configuration of accelerate asks for FSDP"),
    ],
)
def test_accelerate_launch(small_bases, data, tmp_path, options, says):
    """What it starts is what it was asked for and the recipe says, or nothing is trained."""
    file = written(recipe_for(small_bases["paligemma2"], data, tmp_path / "run", "train.batch_size=2"), tmp_path)
    launcher = (
        "-m",
        "accelerate.commands.launch",
        "--num_processes=2",
        "--main_process_port=0",
        *options,
        "-m",
        "pgtune",
    )
    done = pgtune("train", file, launcher=launcher, code=0 if says is None else 1)
    if says is None:
        assert "processes  2 on cpu, ddp" in done.stderr
    else:
        assert says in done.stderr
    assert (tmp_path / "run").exists() == (says is None)
