"""Loading a base: families, damage, dtype, attention, quantisation; and what each method makes trainable."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from pgtune.collate import Collator
from pgtune.errors import HubError, ModelError, RecipeError, TrainingError
from pgtune.forward import SuffixLossModel, hidden_states
from pgtune.methods import prepare
from pgtune.model import (
    choose_attention,
    choose_dtype,
    choose_mixed_precision,
    enough_memory,
    load_base,
    load_config,
)
from pgtune.selftests import examples
from pgtune.settings import LoraSettings, ModelSettings

CPU = torch.device("cpu")


def load(folder, **changes):
    return load_base(ModelSettings(base=str(folder), **changes), full=True, device=CPU)


@pytest.fixture
def copy(bases, tmp_path):
    """A base to be damaged."""
    return shutil.copytree(bases["paligemma"], tmp_path / "base")


# ---- which bases are refused, and how


def write_config(folder, config):
    folder.mkdir(exist_ok=True)
    config.save_pretrained(str(folder))
    return folder


def test_other_families_are_refused_by_name(tmp_path):
    from transformers import Gemma2Config, GemmaConfig, SiglipConfig

    for config, name in ((GemmaConfig(), "gemma"), (Gemma2Config(), "gemma2"), (SiglipConfig(), "siglip")):
        with pytest.raises(ModelError, match=f"is a '{name}' model; pgtune trains PaliGemma"):
            load_config(str(write_config(tmp_path / name, config)))


def test_a_paligemma_of_another_language_model_is_refused(tmp_path):
    from transformers import Gemma3TextConfig, PaliGemmaConfig

    config = PaliGemmaConfig(text_config=Gemma3TextConfig(num_hidden_layers=1))
    with pytest.raises(ModelError, match="is a 'paligemma with gemma3_text' model"):
        load_config(str(write_config(tmp_path / "odd", config)))


def test_an_id_out_of_reach_says_what_to_do():
    """HF_HUB_OFFLINE is set for all tests."""
    with pytest.raises(HubError) as caught:
        load_base(ModelSettings(base="google/paligemma2-3b-pt-224"), full=False, device=CPU)
    text = str(caught.value)
    for advice in ("accept Gemma's licence on https://huggingface.co/google/paligemma2-3b-pt-224", "hf auth login"):
        assert advice in text
    assert "point model.base to a folder" in text
    assert "\n" not in text


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"the folder .* cannot be loaded: .*config"):
        load(tmp_path)


def test_pickled_weights_are_refused(copy):
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"cannot be loaded: .*safetensors"):
        load(copy)


def test_damaged_weights_are_refused(copy):
    file = copy / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"the folder .* cannot be loaded"):
        load(copy)
    file.write_bytes(b"")
    with pytest.raises(ModelError, match=r"the folder .* cannot be loaded"):
        load(copy)


def test_missing_weights_are_refused_not_made_up(copy):
    weights = load_file(copy / "model.safetensors")
    gone = next(name for name in weights if "up_proj" in name)
    del weights[gone]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 of the model's weights, such as .*up_proj"):
        load(copy)


def test_weights_of_another_shape_are_refused(copy):
    weights = load_file(copy / "model.safetensors")
    name = next(name for name in weights if "up_proj" in name)
    weights[name] = weights[name][:5].clone()
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"the folder .* cannot be loaded"):
        load(copy)


def test_a_config_that_is_no_json_is_refused(copy):
    (copy / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match=r"the folder .* cannot be loaded"):
        load(copy)


# ---- dtype, attention, precision


def test_attention_backends():
    assert choose_attention("auto", "gemma") == "sdpa"
    assert choose_attention("auto", "gemma2") == "eager"
    assert choose_attention("flex_attention", "gemma2") == "flex_attention"
    with pytest.raises(RecipeError, match=r"sdpa.*soft-capping of PaliGemma 2"):
        choose_attention("sdpa", "gemma2")


def test_the_backend_that_is_named_is_the_one_in_the_model(bases):
    for generation, attention in (("paligemma", "sdpa"), ("paligemma", "eager"), ("paligemma2", "eager")):
        loaded = load(bases[generation], attention=attention)
        assert loaded.paligemma.model.language_model.config._attn_implementation == attention
        assert loaded.paligemma.model.vision_tower.config._attn_implementation == "sdpa"


def test_dtype_is_the_checkpoints_own_on_a_cpu_for_lora(bases):
    config = load_config(str(bases["paligemma2"]))
    assert choose_dtype("auto", full=False, device=CPU, config=config) is torch.float32
    config.dtype = torch.bfloat16
    assert choose_dtype("auto", full=False, device=CPU, config=config) is torch.bfloat16
    assert choose_dtype("auto", full=True, device=CPU, config=config) is torch.float32
    config.dtype = torch.float16
    assert choose_dtype("auto", full=False, device=CPU, config=config) is torch.bfloat16
    with pytest.raises(RecipeError, match="overflow in float16"):
        choose_dtype("float16", full=False, device=CPU, config=config)


def test_flex_attention_is_not_trained_on_a_cpu(bases):
    with pytest.raises(RecipeError, match="flex_attention cannot be trained on a CPU"):
        prepare(load(bases["paligemma"], attention="flex_attention"), LoraSettings(rank=2), None, seed=0)


def test_transfer_settings_of_the_papers(bases):
    """No final soft-capping and no sliding window, unless the recipe keeps them; attention soft-capping stays."""
    text = load(bases["paligemma2"]).paligemma.config.get_text_config()
    assert text.final_logit_softcapping is None
    assert text.attn_logit_softcapping == 50.0
    assert set(text.layer_types) == {"full_attention"}
    assert load(bases["paligemma2"], final_logit_softcapping=True).paligemma.config.text_config.final_logit_softcapping


# ---- what is trained


def test_lora_weights_are_float32_on_a_bfloat16_base(base):
    loaded = prepare(load(base, dtype="bfloat16"), LoraSettings(rank=2), None, seed=0)
    assert {p.dtype for _, p in loaded.trainable()} == {torch.float32}
    frozen = {p.dtype for p in loaded.model.parameters() if not p.requires_grad}
    assert frozen == {torch.bfloat16}
    assert choose_mixed_precision("auto", loaded)
    assert not choose_mixed_precision("no", loaded)
    assert not choose_mixed_precision("auto", load(base))


def test_parts_trained_beside_a_bfloat16_base_need_mixed_precision(base):
    loaded = prepare(load(base, dtype="bfloat16"), LoraSettings(rank=2), ("projector",), seed=0)
    assert choose_mixed_precision("auto", loaded)
    with pytest.raises(RecipeError, match="'no' does not go with projector trained in float32"):
        choose_mixed_precision("no", loaded)


METHODS = {
    "lora": (LoraSettings(rank=2), None, {}),
    "lora everywhere": (LoraSettings(rank=2, targets=("language_model", "vision_tower", "projector")), None, {}),
    "lora by pattern": (LoraSettings(rank=2, targets=r".*language_model.*\.[qv]_proj"), None, {}),
    "rslora": (LoraSettings(rank=2, use_rslora=True), None, {}),
    "dora": (LoraSettings(rank=2, use_dora=True), None, {}),
    "qlora nf4": (LoraSettings(rank=2), None, {"quantization": "nf4"}),
    "qlora int8": (LoraSettings(rank=2), None, {"quantization": "int8"}),
    "lora, projector in full": (LoraSettings(rank=2), ("projector",), {}),
    "lora, tower in full": (LoraSettings(rank=2), ("vision_tower", "projector"), {}),
    "full": (None, None, {}),
    "projector": (None, ("projector",), {}),
    "tower": (None, ("vision_tower",), {}),
    "language model": (None, ("language_model",), {}),
}


@pytest.mark.parametrize("method", METHODS)
def test_what_is_trainable(base, method):
    lora, trainable, changes = METHODS[method]
    loaded = prepare(load(base, **changes), lora, trainable, seed=0)
    names = {name for name, _ in loaded.trainable()}
    adapters = {name for name in names if "lora_" in name}
    full = names - adapters
    wanted = trainable if trainable is not None else (() if lora else ("vision_tower", "projector", "language_model"))
    module = {
        "vision_tower": "vision_tower.",
        "projector": "multi_modal_projector.",
        "language_model": "language_model.",
    }
    assert {part for part in module for name in full if module[part] in name} == set(wanted)
    frozen = {name for name, p in loaded.model.named_parameters() if not p.requires_grad}
    for part in wanted:  # all of the part is trained: what stays frozen of it is PEFT's original beside the copy
        assert all("original_module" in name for name in frozen if f"model.{module[part]}" in name)
    per_module = 3 if lora and lora.use_dora else 2
    assert len(adapters) == per_module * len(loaded.lora_modules)
    assert loaded.trained_parts == tuple(part for part in module if part in wanted)
    text = loaded.summary()
    assert f"trained    {sum(p.numel() for _, p in loaded.trainable()):,} parameters" in text
    assert ("lora       on" in text) == (lora is not None)


def test_quantised_modules_are_the_language_models(base):
    for quantization in ("nf4", "int8"):
        loaded = load(base, quantization=quantization)
        assert len(loaded.quantized_modules) == 14
        assert f"{quantization:<10} 14 modules of language_model; all else is kept" in loaded.summary()
        head, embedding = loaded.paligemma.lm_head.weight, loaded.paligemma.get_input_embeddings().weight
        assert head is embedding, "the head stays tied to the embedding"


@pytest.mark.parametrize("lora", [LoraSettings(rank=2), LoraSettings(rank=2, targets="vision_tower"), None])
def test_which_layers_are_checkpointed(base, lora):
    """Not those of a frozen tower, and nothing makes its gradients be computed."""
    for every, layers in ((True, [True, True]), (2, [True, False])):
        loaded = prepare(load(base), lora, None, seed=0, gradient_checkpointing=every)
        model = loaded.paligemma.model
        assert [layer.gradient_checkpointing for layer in model.language_model.layers] == layers
        tower = [layer.gradient_checkpointing for layer in model.vision_tower.encoder.layers]
        assert tower == ([False, False] if lora and lora.targets == "language_model" else layers)
    if lora and lora.targets == "language_model":
        features = []
        model.multi_modal_projector.register_forward_hook(lambda module, inputs, output: features.append(output))
        loaded.model.train()
        SuffixLossModel(loaded.model, loaded.paligemma, loaded.attention)(Collator(loaded.processor)(examples()))
        assert not features[0].requires_grad


def test_targets_inside_a_part_that_is_trained_in_full_are_refused(base):
    with pytest.raises(RecipeError, match=r"multi_modal_projector.linear, whose part model.trainable trains in full"):
        prepare(load(base), LoraSettings(rank=2, targets=".*multi_modal_projector.linear"), ("projector",), seed=0)


def test_lora_starts_at_the_base_and_from_the_seed(base):
    batch = None
    found = {}
    for seed in (0, 0, 1):
        loaded = prepare(load(base), LoraSettings(rank=2), None, seed=seed)
        loaded.model.eval()
        batch = batch or Collator(loaded.processor)(examples())
        with torch.no_grad():
            states = hidden_states(loaded.paligemma, batch, loaded.attention)
        first = next(p for name, p in loaded.trainable() if "lora_A" in name).detach().clone()
        found.setdefault(seed, []).append((states, first))
    plain = load(base)
    with torch.no_grad():
        assert torch.equal(found[0][0][0], hidden_states(plain.paligemma, batch, plain.attention))
    assert torch.equal(found[0][0][1], found[0][1][1])
    assert not torch.equal(found[0][0][1], found[1][0][1])


def test_rslora_scales_by_the_root_of_the_rank(base):
    def scaling(**changes):
        loaded = prepare(load(base), LoraSettings(rank=4, alpha=8, **changes), None, seed=0)
        return {m.scaling["default"] for m in loaded.model.modules() if hasattr(m, "lora_A")}

    assert scaling() == {2.0}
    assert scaling(use_rslora=True) == {4.0}


# ---- adapters that do not fit


@pytest.fixture(scope="module")
def adapter(bench, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    bench.lora().model.save_pretrained(str(folder))
    return folder


def reload(bench, folder):
    from pgtune.methods import load_trained

    return load_trained(bench.load(), folder)


def test_a_damaged_adapter_is_refused(bench, adapter, tmp_path):
    broken = shutil.copytree(adapter, tmp_path / "adapter")
    file = broken / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ModelError, match="the adapter cannot be loaded onto"):
        reload(bench, broken)
    file.unlink()
    with pytest.raises(ModelError, match="the adapter cannot be loaded onto"):
        reload(bench, broken)


def test_an_adapter_that_lacks_weights_is_refused(bench, adapter, tmp_path):
    broken = shutil.copytree(adapter, tmp_path / "adapter")
    weights = load_file(broken / "adapter_model.safetensors")
    weights.pop(sorted(weights)[0])
    save_file(weights, broken / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"does not fit .* 1 weights are in one and not in the other, such as"):
        reload(bench, broken)


def test_an_adapter_of_another_model_is_refused(bench, adapter, tmp_path):
    broken = shutil.copytree(adapter, tmp_path / "adapter")
    config = json.loads((broken / "adapter_config.json").read_text(encoding="utf-8"))
    config["target_modules"] = r".*language_model\.model\.layers.*q_proj"  # the names of transformers 4
    (broken / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match="the adapter cannot be loaded onto"):
        reload(bench, broken)


# ---- quantised bases on a CPU


def gradients(loaded):
    batch = Collator(loaded.processor)(examples())
    loaded.model.zero_grad()
    SuffixLossModel(loaded.model, loaded.paligemma, loaded.attention)(batch).example_sum().backward()
    return {name: p.grad.clone() for name, p in loaded.trainable()}


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_an_evaluation_changes_no_gradient(base, quantization, dora):
    """bitsandbytes 0.50 repacks nf4 weights at the first evaluation on a CPU, and has no backward after it."""
    loaded = prepare(load(base, quantization=quantization), LoraSettings(rank=2, use_dora=dora), None, seed=0)
    loaded.model.train()
    before = gradients(loaded)
    assert all(bool(gradient.any()) for name, gradient in before.items() if "lora_B" in name)
    loaded.model.eval()
    with torch.no_grad():
        hidden_states(loaded.paligemma, Collator(loaded.processor)(examples()), loaded.attention)
    loaded.model.train()
    after = gradients(loaded)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_nf4_gradients_are_those_of_the_dequantised_weights(base):
    import bitsandbytes

    loaded = prepare(load(base, quantization="nf4"), LoraSettings(rank=2), None, seed=0)
    plain = prepare(load(base), LoraSettings(rank=2), None, seed=0)
    layers = dict(plain.model.named_modules())
    with torch.no_grad():
        for name, module in loaded.model.named_modules():
            if isinstance(module, bitsandbytes.nn.Linear4bit):
                weight = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
                layers[name].weight.copy_(weight)
    quantised, wanted = gradients(loaded), gradients(plain)
    for name, gradient in wanted.items():
        assert torch.allclose(quantised[name], gradient, rtol=1e-3, atol=1e-4), name


# ---- folders in which something is odd


def change_config(folder, change):
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    change(config)
    file.write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.update(text_config="x"),
        lambda config: config.update(model_type=["x"]),
        lambda config: config["vision_config"].update(patch_size=0),
        lambda config: config["text_config"].update(hidden_size="x"),
        lambda config: config.update(dtype="x"),
    ],
)
def test_whatever_the_libraries_raise_on_a_damaged_config_is_an_error_with_the_folder(copy, change):
    change_config(copy, change)
    with pytest.raises(ModelError, match=r"the folder .* cannot be loaded: "):
        load(copy)


@pytest.mark.parametrize(
    ("name", "content"), [("tokenizer.json", "{}"), ("tokenizer_config.json", "[]"), ("config.json", "null")]
)
def test_json_of_another_shape_is_an_error_with_the_folder(copy, name, content):
    (copy / name).write_text(content)
    with pytest.raises(ModelError, match=r"the folder .* cannot be loaded: \w+Error"):
        load(copy)


def test_code_of_the_checkpoint_is_never_run_nor_asked_about(copy, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    change_config(copy, lambda config: config.update(model_type="odd", auto_map={"AutoConfig": "odd.Config"}))
    with pytest.raises(ModelError, match=r"contains custom code"):
        load(copy)


def test_weights_that_the_config_has_no_layer_for_are_not_dropped(copy):
    change_config(copy, lambda config: config["vision_config"].update(num_hidden_layers=1))
    with pytest.raises(ModelError, match=r"holds 16 weights of layers that its config.json has not, such as .*ers.1"):
        load(copy)


def test_a_checkpoint_that_is_stored_quantised_is_refused(copy):
    change_config(copy, lambda config: config.update(quantization_config={"quant_method": "bitsandbytes"}))
    with pytest.raises(ModelError, match="is stored quantised"):
        load(copy)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no room"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_memory_that_runs_out_says_what_helps(error):
    with pytest.raises(TrainingError, match=r"ran out of memory .* What helps: less"), enough_memory("less"):
        raise error
    with pytest.raises(RuntimeError, match=r"^a bug$"), enough_memory("less"):
        raise RuntimeError("a bug")
