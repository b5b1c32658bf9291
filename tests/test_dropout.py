"""`model.llm_dropout`: where it is, what it does to values, and that a run with it is exact."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import LORA, interrupted_after, losses, read_jsonl, recipe_for
from safetensors.torch import load_file

from pgtune import train
from pgtune.collate import Collator
from pgtune.forward import hidden_states
from pgtune.methods import add_residual_dropout, prepare
from pgtune.model import load_base
from pgtune.selftests import examples
from pgtune.settings import LoraSettings, ModelSettings

CPU = torch.device("cpu")
RATE = 0.25


def load(base):
    return load_base(ModelSettings(base=str(base)), full=True, device=CPU)


@pytest.fixture
def layer(small_base):
    """The first block, the arguments of one pass through it, and what it is in big_vision's words."""
    loaded = load(small_base)
    language_model = loaded.paligemma.model.language_model
    block = copy.deepcopy(language_model.layers[0])
    captured = {}

    def catch(module, args, kwargs):
        captured.update(kwargs, hidden_states=args[0])

    with torch.no_grad():
        handle = language_model.layers[0].register_forward_pre_hook(catch, with_kwargs=True)
        batch = Collator(loaded.processor)(examples()[:2])
        hidden_states(loaded.paligemma, batch, loaded.attention)
        handle.remove()
    return block, captured


def block_in_words(block, arguments, drop):
    """big_vision's Block.__call__, spelled out; `drop` stands for its dropout."""
    states = arguments["hidden_states"]
    rest = {key: value for key, value in arguments.items() if key != "hidden_states"}
    post_norms = hasattr(block, "post_feedforward_layernorm")
    attention, _ = block.self_attn(hidden_states=block.input_layernorm(states), **rest)
    if post_norms:
        attention = block.post_attention_layernorm(attention)
    states = states + drop(attention)
    normed = (block.pre_feedforward_layernorm if post_norms else block.post_attention_layernorm)(states)
    mlp = drop(block.mlp(normed))
    return states + (block.post_feedforward_layernorm(mlp) if post_norms else mlp)


@torch.no_grad()
def test_it_is_where_big_vision_has_it(layer):
    block, arguments = layer
    plain = copy.deepcopy(block)

    class One:
        layers = (block,)

    add_residual_dropout(One, RATE)
    block.train()
    torch.manual_seed(5)
    found = block(**arguments)
    torch.manual_seed(5)
    wanted = block_in_words(plain, arguments, lambda value: torch.nn.functional.dropout(value, RATE, training=True))
    assert torch.equal(found, wanted)
    assert not torch.equal(found, plain(**arguments))
    block.eval()
    assert torch.equal(block(**arguments), plain(**arguments)), "none at evaluation"


@torch.no_grad()
def test_a_share_is_dropped_and_the_mean_stays(layer):
    block, arguments = layer
    branch = []
    block.self_attn.register_forward_hook(lambda module, args, output: branch.append(output[0]))
    norm = getattr(block, "post_feedforward_layernorm", None)
    if norm is not None:
        block.post_attention_layernorm.register_forward_hook(lambda module, args, output: branch.append(output))

    class One:
        layers = (block,)

    block.eval()
    block(**arguments)
    whole = branch[-1]
    branch.clear()
    add_residual_dropout(One, RATE)
    place = block.self_attn if norm is None else block.post_attention_layernorm
    place.register_forward_hook(lambda module, args, output: branch.append(output[0] if norm is None else output))
    block.train()
    torch.manual_seed(0)
    total = torch.zeros_like(whole)
    dropped = 0.0
    for _ in range(200):
        block(**arguments)
        seen = branch[-1]
        zero = (seen == 0) & (whole != 0)
        dropped += zero.double().mean().item() / 200
        assert torch.allclose(seen[~zero], whole[~zero] / (1 - RATE), rtol=1e-5, atol=1e-6)
        total += seen / 200
    assert dropped == pytest.approx(RATE, abs=0.005)
    error = (total - whole).abs().mean() / whole.abs().mean()
    assert error < 0.06, "200 draws: the mean is the value, up to sqrt(0.25 / 0.75 / 200) = 0.04"


def test_it_survives_peft_and_leaves_evaluation_alone(small_base):
    plain = prepare(load(small_base), LoraSettings(rank=2), None, seed=0)
    dropping = prepare(load(small_base), LoraSettings(rank=2), None, seed=0, llm_dropout=RATE)
    batch = Collator(plain.processor)(examples()[:2])

    def states(loaded, seed=0):
        torch.manual_seed(seed)
        with torch.no_grad():
            return hidden_states(loaded.paligemma, batch, loaded.attention)

    for loaded in (plain, dropping):
        loaded.model.eval()
    assert torch.equal(states(plain), states(dropping))
    for loaded in (plain, dropping):
        loaded.model.train()
    assert not torch.allclose(states(plain), states(dropping), rtol=1e-2)
    assert torch.equal(states(dropping, 3), states(dropping, 3))
    assert not torch.equal(states(dropping, 3), states(dropping, 4))


def trained(run):
    file = run / "adapter" / "adapter_model.safetensors"
    return load_file(file if file.is_file() else run / "model" / "model.safetensors")


@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])
def test_checkpointing_draws_the_same_masks_and_a_resume_goes_on_to_the_last_bit(
    small_base, data, tmp_path, monkeypatch, lora
):
    def recipe(name, *more):
        knobs = ("model.llm_dropout=0.3", "train.save_steps=2", *more)
        return recipe_for(small_base, data, tmp_path / name, *knobs, lora=lora)

    train(recipe("whole"))
    train(recipe("recomputed", "train.gradient_checkpointing=true"))
    with interrupted_after(3):
        train(recipe("resumed"))
    train(recipe("resumed"), resume=True)
    train(recipe_for(small_base, data, tmp_path / "without", lora=lora))
    assert losses(tmp_path / "without") != losses(tmp_path / "whole")
    for name in ("recomputed", "resumed"):
        assert losses(tmp_path / name) == losses(tmp_path / "whole")
        one, two = trained(tmp_path / "whole"), trained(tmp_path / name)
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert [row["step"] for row in read_jsonl(tmp_path / "resumed" / "log.jsonl")] == [1, 2, 3, 4]
