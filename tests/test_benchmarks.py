"""The bench itself: that it measures what it says, and still runs. No wall time is asserted."""

from __future__ import annotations

import json
import platform
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import __main__ as bench
from benchmarks import measure, operations, report
from benchmarks.base import SIZES, config, write_base
from benchmarks.contestants.common import Job
from benchmarks.material import write_for_others, write_rows
from pgtune.collate import Collator
from pgtune.model import Loaded, load_base
from pgtune.schedule import step_indices
from pgtune.settings import ModelSettings


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scratch folder with the small base in it."""
    folder = tmp_path_factory.mktemp("bench")
    write_base("tiny-smoke", 28, folder)
    return folder


@pytest.fixture(scope="module")
def loaded(work: Path) -> Loaded:
    """That base."""
    return load_base(ModelSettings(base=str(work / "base-tiny-smoke-28")), full=False, device=torch.device("cpu"))


def test_base_is_of_real_shape_and_passes_the_check_of_its_tokenizer(loaded: Loaded) -> None:
    assert loaded.paligemma.lm_head.weight.shape[0] == 257_216
    assert loaded.paligemma.config.get_text_config().final_logit_softcapping is None
    assert Collator(loaded.processor).tokenize("<loc0000>\n<image>") == [256_000, 108, 257_152]


@pytest.mark.parametrize(("size", "billions"), [("pg1-3b", 2.9), ("pg2-3b", 3.0), ("pg2-10b", 9.7)])
def test_sizes_are_those_of_the_released_models(size: str, billions: float) -> None:
    from transformers import PaliGemmaForConditionalGeneration

    with torch.device("meta"):
        model = PaliGemmaForConditionalGeneration(config(size, 224))
    assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(billions, abs=0.05)
    assert SIZES[size].generation == model.config.get_text_config().model_type


def test_operations_of_a_step_are_what_the_goal_counts() -> None:
    needed = operations.step(config("pg2-3b", 224), [operations.Lengths(8, 8)] * 8, rank=16)
    assert needed.total / 1e12 == pytest.approx(20, rel=0.05)
    assert needed.vision / needed.total == pytest.approx(0.09, abs=0.02)


def test_forward_operations_agree_with_torch(loaded: Loaded) -> None:
    model = loaded.paligemma.model
    needed = operations.step(model.config, [operations.Lengths(6, 1)], rank=16)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.get_image_features(torch.zeros(1, 3, 28, 28, dtype=torch.bfloat16))
    vision = model.config.vision_config
    uncounted = vision.num_hidden_layers * 4 * 4 * 4 * vision.hidden_size  # torch counts no sdpa on a CPU: 4 patches
    assert counter.get_total_flops() + uncounted == needed.vision
    tokens = 4 + 6 + 1
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.language_model(input_ids=torch.ones(1, tokens, dtype=torch.long), use_cache=False)
    text = model.config.text_config
    attention = text.num_hidden_layers * 4 * tokens * tokens * text.num_attention_heads * text.head_dim
    assert counter.get_total_flops() == needed.language_model / 2 + attention


def _result(step: float, peak: int, losses: list[float]) -> dict[str, Any]:
    return {
        "losses": losses,
        "seconds": [10.0, 9.0, step, step],
        "memory": {"peak": peak, "peak_loading": 1, "peak_anonymous": 1},
        "seconds_to_loaded": 1.0,
        "seconds_to_trained": 40.0,
        "seconds_in_all": 41.0,
        "versions": {},
    }


SETTINGS = {
    "batch": 2,
    "skipped_steps": 2,
    "weights_bytes": 6,
    "size": "x",
    "resolution": 224,
    "quantization": "none",
    "out_of_memory": [],
}


def test_record_gives_medians_and_ratios() -> None:
    losses = [3.0, 2.0, 1.5, 1.2]
    runs = {
        "trainer": [_result(4.0, 16, losses), _result(5.0, 16, losses), _result(6.0, 18, losses)],
        "pgtune": [_result(2.0, 11, losses), _result(2.5, 11, [loss * 1.001 for loss in losses])],
    }
    found = report.record(SETTINGS, runs, {"total": 9.0}, rate=10.0)
    ours = found["contestants"]["pgtune"]
    assert ours["step_seconds"] == 2.25
    assert ours["against"]["examples_per_second"] == pytest.approx(5 / 2.25)
    assert ours["against"]["peak"] == pytest.approx(11 / 16)
    assert ours["against"]["beyond_weights"] == pytest.approx(5 / 10)
    assert ours["share_of_matrix_rate"] == pytest.approx(0.4)
    assert (
        ours["against"]["pays_after_steps"] == 4
    )  # 40 - 4 * 2.25 beside steps, not 40 - 4 * 5: 11 s, won back by 2.75 s a step
    assert ours["losses_repeat"] is False
    assert "| pgtune | 2.25 |" in report.table(found)


def test_record_refuses_contestants_that_learn_something_else() -> None:
    runs = {"trainer": [_result(4.0, 9, [3.0, 2.0, 1.0, 1.0])], "pgtune": [_result(2.0, 9, [3.0, 2.0, 1.0, 1.1])]}
    with pytest.raises(SystemExit, match="pgtune does not learn what trainer learns"):
        report.record(SETTINGS, runs, {"total": 1.0}, rate=1.0)


def test_median() -> None:
    assert [measure.median(values) for values in ([3.0, 1.0, 2.0], [4.0, 1.0, 2.0, 3.0], [5.0])] == [2.0, 2.5, 5.0]


def test_contestants_learn_the_same(work: Path, tmp_path: Path) -> None:
    from benchmarks.contestants import ours, trainer

    data = work / "data"
    rows = write_rows(data, 8, size=(40, 30))
    order = [index for step in range(3) for index in step_indices(0, step, len(rows), 2)]
    write_for_others(data, [rows[index] for index in order])
    job = Job(
        base=str(work / "base-tiny-smoke-28"),
        data=str(data),
        folder=str(tmp_path),
        adapter=str(tmp_path / "adapter"),
        steps=3,
        batch=2,
        learning_rate=1e-2,
    )
    plain = trainer.train(job)
    AcceleratorState._reset_state(reset_partial_state=True)  # the bench gives each a process of its own
    found = ours.train(replace(job, overrides=("train.num_workers=0",)))
    assert len(plain.seconds) == len(found.seconds) == 3
    assert report.largest_difference(plain.losses, found.losses) < 0.005
    learnt_apart = [loss for loss in plain.losses if abs(loss - found.losses[0]) > 0.05]
    assert learnt_apart, "the losses hardly move: agreement would say nothing"


@pytest.mark.slow
def test_whole_bench(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--work", str(work), "--results", str(tmp_path)]
    shutil.rmtree(work / "data", ignore_errors=True)
    small = ["--size", "tiny-smoke", "--resolution", "28"]
    bench.main(["train", *small, "--steps", "4", "--repeats", "1", "--also", "train.mixed_precision=bf16", *place])
    bench.main(["tower", *small, "--repeats", "1", *place])
    bench.main(["plan", *small, "--settings", "train.batch_size=1", *place])
    bench.main(["decode", "--examples", "4", "--repeats", "1", "--batch", "1", "4", *place])
    bench.main(["input", "--resolution", "28", "--seconds", "0.1", *place])
    shown = capsys.readouterr().out
    assert "| pgtune train.mixed_precision=bf16 |" in shown
    assert "| pgtune, batch 4 |" in shown
    records = {file.stem: file.read_text(encoding="utf-8") for file in tmp_path.glob("*.json")}
    sized = {"plan-cpu-tiny-smoke-28", "tower-cpu-tiny-smoke-28", "train-cpu-tiny-smoke-lora-28-b2"}
    assert set(records) == {"decode-cpu", "input", *sized}
    for text in records.values():
        assert json.loads(text)["hardware"]["cores"] >= 1
        assert platform.node() not in text
        assert str(work) not in text
