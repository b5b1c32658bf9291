"""Which modules a method touches: by name, resolved, counted, checked."""

from __future__ import annotations

import pytest

from pgtune import parts
from pgtune.errors import ModelError, RecipeError


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.vision_tower.encoder.layers.0.self_attn.q_proj.weight", "vision_tower"),
        ("model.multi_modal_projector.linear.bias", "projector"),
        ("model.language_model.layers.1.mlp.up_proj", "language_model"),
        ("model.language_model", "language_model"),
        ("lm_head.weight", "language_model"),
        ("model.language_models.0", None),
        ("model", None),
    ],
)
def test_part_of(name, part):
    assert parts.part_of(name) == part


@pytest.mark.parametrize(
    ("targets", "counts"),
    [
        ("language_model", {"language_model": 14}),
        ("vision_tower", {"vision_tower": 12}),
        ("projector", {"projector": 1}),
        (("projector", "vision_tower", "language_model"), {"vision_tower": 12, "projector": 1, "language_model": 14}),
        (r".*language_model.*\.[qv]_proj", {"language_model": 4}),
        (r".*\.[qv]_proj", {"vision_tower": 4, "language_model": 4}),
        (r"model\.language_model\.layers\.1\.mlp\..*_proj", {"language_model": 3}),
    ],
)
def test_targets_are_resolved_by_whole_names(bench, targets, counts):
    found = parts.lora_modules(bench.loaded.model, targets)
    assert parts.count_by_part(found) == counts
    assert len(set(found)) == len(found)
    names = [name for name, _ in bench.loaded.model.named_modules()]
    assert found == sorted(found, key=names.index)


def test_the_language_models_modules_by_name(bench):
    wanted = {
        f"model.language_model.layers.{layer}.{module}"
        for layer in range(2)
        for module in (
            *(f"self_attn.{letter}_proj" for letter in "qkvo"),
            *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
        )
    }
    assert set(parts.lora_modules(bench.loaded.model, "language_model")) == wanted


@pytest.mark.parametrize("targets", ["q_proj", "all-linear", r"model\.language_model\.model\..*"])
def test_a_pattern_that_matches_nothing_shows_what_there_is(bench, targets):
    with pytest.raises(RecipeError, match=r"lora.targets: .* matches no module .* whole names such as model\.vision_"):
        parts.lora_modules(bench.loaded.model, targets)


@pytest.mark.parametrize("targets", [".*", ".*embed_tokens", "lm_head", r".*layers\.0\..*norm.*|.*q_proj"])
def test_a_pattern_that_matches_more_than_linear_layers_is_refused(bench, targets):
    with pytest.raises(RecipeError, match="which LoRA cannot be put on: only linear layers inside"):
        parts.lora_modules(bench.loaded.model, targets)


def test_other_modules_than_those_named_are_loud():
    parts.check_same_modules("lora.targets", ["a", "b"], ["b", "a"])
    with pytest.raises(ModelError, match=r"not changed: \['b'\]; changed but not named: \['c'\]"):
        parts.check_same_modules("lora.targets", ["a", "b"], ["a", "c"])


def test_weight_decay_is_for_siglip_and_projector_kernels(bench):
    """big_vision's `.*/kernel$`: no embedding, norm or bias, and nothing of Gemma."""
    kernels = {name for name, p in bench.loaded.model.named_parameters() if parts.is_kernel(name, p.ndim)}
    wanted = {"model.vision_tower.embeddings.patch_embedding.weight", "model.multi_modal_projector.linear.weight"}
    for layer in range(2):
        prefix = f"model.vision_tower.encoder.layers.{layer}."
        wanted |= {f"{prefix}self_attn.{name}_proj.weight" for name in ("q", "k", "v", "out")}
        wanted |= {f"{prefix}mlp.fc{number}.weight" for number in (1, 2)}
    assert kernels == wanted
    assert not parts.is_kernel("model.vision_tower.encoder.layers.0.mlp.fc1.lora_A.default.weight", 2)
