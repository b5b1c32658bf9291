"""The optimiser: which parameter has which rate and decay, AdamW by the formula, and its averages in 8 bits."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from conftest import LORA, interrupted_after, losses, recipe_for

from pgtune import checkpoint, loop, train
from pgtune.errors import ModelError, RecipeError
from pgtune.methods import prepare
from pgtune.model import load_base
from pgtune.optimizers import new_optimizer, parameter_groups, set_learning_rates

CPU = torch.device("cpu")
EVERYWHERE = {**LORA, "targets": ["vision_tower", "language_model"]}


def prepared(recipe):
    loaded = load_base(recipe.model, full=recipe.lora is None, device=CPU)
    return prepare(loaded, recipe.lora, recipe.model.trainable, seed=0)


@pytest.fixture
def make(small_bases, data, tmp_path):
    def recipe(*overrides, lora=LORA):
        return recipe_for(small_bases["paligemma2"], data, tmp_path / "run", *overrides, lora=lora)

    return recipe


def test_one_rate_is_one_group_of_each_decay(make):
    recipe = make("train.weight_decay=0.1", lora=None)
    loaded = prepared(recipe)
    groups = parameter_groups(loaded, recipe)
    assert [(group["peak"], group["weight_decay"]) for group in groups] == [(1e-2, 0.1), (1e-2, 0.0)]
    assert sum(len(group["params"]) for group in groups) == len(list(loaded.trainable()))
    lora = make()
    assert [group["weight_decay"] for group in parameter_groups(prepared(lora), lora)] == [0.0]


@pytest.mark.parametrize("lora", [EVERYWHERE, None], ids=["lora", "full"])
def test_each_part_has_its_own_rate(make, lora):
    more = () if lora is None else ("model.trainable=[projector]",)
    recipe = make(
        "train.learning_rates={vision_tower: 1e-4, projector: 1e-3}", "train.weight_decay=0.1", *more, lora=lora
    )
    loaded = prepared(recipe)
    peaks = {id(p): group["peak"] for group in parameter_groups(loaded, recipe) for p in group["params"]}
    decays = {id(p): group["weight_decay"] for group in parameter_groups(loaded, recipe) for p in group["params"]}
    for name, parameter in loaded.trainable():
        wanted = 1e-4 if "vision_tower" in name else 1e-3 if "multi_modal_projector" in name else 1e-2
        assert peaks[id(parameter)] == wanted, name
        kernel = ("vision_tower" in name or "projector" in name) and parameter.ndim > 1
        kernel = kernel and "lora_" not in name and "position" not in name
        assert decays[id(parameter)] == (0.1 if kernel else 0.0), name
    optimizer = new_optimizer(loaded, recipe)
    set_learning_rates(optimizer, 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {0.5e-2, 0.5e-3, 0.5e-4}


def test_a_rate_for_what_a_pattern_leaves_out_is_refused(make):
    recipe = make("train.learning_rates.vision_tower=1e-4", lora={**LORA, "targets": ".*language_model.*q_proj"})
    with pytest.raises(RecipeError, match=r"train\.learning_rates\.vision_tower: has no effect: nothing of vision_t"):
        parameter_groups(prepared(recipe), recipe)


def test_the_first_step_of_a_part_is_its_rate(make, data, tmp_path, small_bases, monkeypatch):
    """Adam's first step moves each weight by its rate, whatever the gradient; the log shows the recipe's rate."""
    rates = ("train.learning_rates.vision_tower=1e-3", "train.max_steps=1", "train.max_grad_norm=null")
    recipe = make(*rates, lora=EVERYWHERE)
    moved = {}
    real = loop.run_steps

    def watched(job, trained, *rest):
        before = {name: p.detach().clone() for name, p in trained.items() if "lora_B" in name}
        done = real(job, trained, *rest)
        moved.update({name: float((trained[name].detach() - value).abs().max()) for name, value in before.items()})
        return done

    monkeypatch.setattr("pgtune.training.run_steps", watched)
    train(recipe)
    tower = [value for name, value in moved.items() if "vision_tower" in name]
    language = [value for name, value in moved.items() if "language_model" in name]
    assert tower == pytest.approx([1e-3] * len(tower), rel=1e-2)
    assert language == pytest.approx([1e-2] * len(language), rel=1e-2)


def test_adamw_is_torchs(make):
    recipe = make("train.weight_decay=0.1", "train.beta1=0.8", "train.beta2=0.9", "train.epsilon=1e-6", lora=None)
    loaded = prepared(recipe)
    optimizer = new_optimizer(loaded, recipe)
    assert type(optimizer) is torch.optim.AdamW
    assert {(group["betas"], group["eps"]) for group in optimizer.param_groups} == {((0.8, 0.9), 1e-6)}
    chosen = next(p for name, p in loaded.trainable() if "fc1.weight" in name)
    before = chosen.detach().clone()
    chosen.grad = torch.full_like(chosen, 0.25)
    optimizer.step()
    wanted = before * (1 - 1e-2 * 0.1) - 1e-2 * 0.25 / (0.25 + 1e-6)
    assert torch.allclose(chosen, wanted, rtol=1e-5, atol=1e-7)


# ---- 8 bits


def test_8_bit_needs_bitsandbytes(make, monkeypatch):
    recipe = make("train.optimizer=adamw_8bit")
    loaded = prepared(recipe)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ModelError, match=r"adamw_8bit needs bitsandbytes; install it with: pip install 'pgtune\[quant"):
        new_optimizer(loaded, recipe)
    with pytest.raises(ModelError, match="adamw_8bit needs bitsandbytes"):
        train(recipe)
    assert not Path(recipe.output_dir).exists(), "said before there is a run"


def test_8_bit_learns_nearly_the_same_in_a_quarter_of_the_state(make, small_bases, data, tmp_path):
    def recipe(name, *more):
        knobs = ("train.learning_rate=1e-3", "model.trainable=[language_model]", *more)
        return recipe_for(small_bases["paligemma2"], data, tmp_path / name, *knobs, lora=None)

    for optimizer in ("adamw", "adamw_8bit"):
        train(recipe(optimizer, f"train.optimizer={optimizer}"))
    assert losses(tmp_path / "adamw_8bit") == pytest.approx(losses(tmp_path / "adamw"), rel=1e-2)
    assert losses(tmp_path / "adamw_8bit") != losses(tmp_path / "adamw")
    sizes = [sum(f.stat().st_size for f in (tmp_path / name).rglob("optimizer*")) for name in ("adamw", "adamw_8bit")]
    assert sizes[1] < 0.4 * sizes[0]


def test_8_bit_goes_on_to_the_last_bit(small_bases, data, tmp_path, monkeypatch):
    def recipe(name):
        knobs = ("train.optimizer=adamw_8bit", "train.save_steps=2", "train.learning_rate=1e-3")
        return recipe_for(small_bases["paligemma2"], data, tmp_path / name, *knobs, lora=None)

    train(recipe("whole"))
    with interrupted_after(3):
        train(recipe("resumed"))
    train(recipe("resumed"), resume=True)
    assert losses(tmp_path / "resumed") == losses(tmp_path / "whole")
    one, two = (
        sorted((checkpoint.step_folder(tmp_path / name / "checkpoints", 4)).glob("*.safetensors"))
        for name in ("whole", "resumed")
    )
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]
