"""Two processes on the CPU (gloo): the same losses, the same weights and the same scores as one with a double batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
import torch
from conftest import losses, read_jsonl, recipe_for
from safetensors.torch import load_file

from pgtune import train


def launch(recipe, tmp_path, *flags):
    """`pgtune train` in two processes, as torchrun starts them."""
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml(), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}"]
    command += ["-m", "pgtune", "train", str(file), *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_two_processes_are_one_with_twice_the_batch(small_bases, data, tmp_path, method):
    lora = {"rank": 4, "alpha": 8, "targets": "language_model"} if method == "lora" else None
    more = (
        f"data.validation={data / 'validation.jsonl'}",
        f"data.test={data / 'test.jsonl'}",
        "train.eval_steps=2",
        "train.best_metric=loss",
        "train.patience=3",
        "train.epsilon=1e-3",
        "train.learning_rate=1e-3",
    )
    base = small_bases["paligemma2"]
    one = recipe_for(base, data, tmp_path / "one", *more, lora=lora)
    two = recipe_for(base, data, tmp_path / "two", *more, "train.batch_size=2", lora=lora)
    train(one)
    launch(two, tmp_path)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    name = "adapter/adapter_model.safetensors" if lora else "model/model.safetensors"
    first, second = (load_file(tmp_path / run / name) for run in ("one", "two"))
    assert max((first[key] - second[key]).abs().max().item() for key in first) < 1e-5
    rows = [read_jsonl(tmp_path / run / "predictions.jsonl") for run in ("one", "two")]
    assert [row["where"] for row in rows[0]] == [row["where"] for row in rows[1]]
    assert [row["prediction"] for row in rows[0]] == [row["prediction"] for row in rows[1]]
    looks = [[row["loss"] for row in read_jsonl(tmp_path / run / "validation.jsonl")] for run in ("one", "two")]
    assert looks[0] == pytest.approx(looks[1], rel=1e-5)
    assert torch.isfinite(torch.tensor(looks)).all()
