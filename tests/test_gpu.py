"""What only a CUDA device can show: bfloat16, QLoRA kernels, flex attention's backward. Run by `make test-gpu`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pgtune.forward import SuffixLossModel
from pgtune.methods import prepare
from pgtune.model import load_base
from pgtune.recipe import load_recipe
from pgtune.selftests import GENERATIONS, SELF_TESTS, Bench, examples, write_random_base
from pgtune.settings import LoraSettings, ModelSettings
from pgtune.training import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module", params=GENERATIONS)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = write_random_base(tmp_path_factory.mktemp(request.param), request.param)
    return Bench(request.param, folder, torch.device("cuda"))


@pytest.mark.parametrize("check", SELF_TESTS, ids=lambda check: check.__name__)
def test_self_tests(bench: Bench, check) -> None:
    check(bench)


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
@pytest.mark.parametrize("attention", ["auto", "flex_attention"])
def test_lora_learns_in_bfloat16(tmp_path: Path, quantization: str, attention: str) -> None:
    recipe = load_recipe(
        {
            "model": {"base": "tiny", "quantization": quantization, "attention": attention},
            "lora": {"rank": 8},
            "data": {
                "adapter": "generated",
                "train": {"source": "64", "split": "train"},
                "test": {"source": "16", "split": "test"},
            },
            "train": {"max_steps": 20, "batch_size": 8, "learning_rate": 2e-3},
            "output_dir": str(tmp_path / "run"),
        }
    )
    train(recipe)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert len(rows) == 20
    assert sum(row["loss"] for row in rows[-5:]) < sum(row["loss"] for row in rows[:5])


def test_flex_attention_has_eager_attentions_gradient(bench: Bench) -> None:
    gradients = []
    for attention in ("eager", "flex_attention"):
        settings = ModelSettings(base=str(bench.folder), attention=attention, dtype="float32")
        loaded = prepare(load_base(settings, full=False, device=bench.device), LoraSettings(rank=4), None, seed=0)
        loss = SuffixLossModel(loaded.model, loaded.paligemma, attention)(bench.batch(examples())).token_sum()
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for _, p in loaded.trainable() if p.grad is not None]))
    assert (gradients[0] - gradients[1]).abs().max() < 1e-3 * gradients[0].abs().max()


@pytest.mark.parametrize(
    "arguments",
    [
        ["google/paligemma2-3b-pt-224", "train.batch_size=8"],
        ["google/paligemma2-3b-pt-224", "train.batch_size=8", "train.compile=false"],
        ["google/paligemma-3b-pt-224", "train.batch_size=8"],
        ["google/paligemma2-3b-pt-448", "train.batch_size=8", "train.gradient_checkpointing=true"],
        ["google/paligemma2-3b-pt-224", "train.batch_size=4", "--full", "--layers", "8"],
    ],
    ids=" ".join,
)
def test_allocated_memory_is_within_a_tenth_of_the_plan(arguments: list[str]) -> None:
    """In a process of its own, so that nothing else is allocated."""
    if torch.cuda.get_device_properties(0).total_memory < 24e9:
        pytest.skip("needs a GPU of 24 GB")
    script = str(Path(__file__).parents[1] / "scripts" / "measure_memory.py")
    result = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=True)
    assert 0.9 < json.loads(result.stdout)["ratio"] < 1.1, result.stdout
