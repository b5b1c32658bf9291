"""`train.compile`: where it is on, what is refused, that kernels do not depend on what came before, and a whole run.

The compiler of C++ takes half a minute when its cache is empty, so one run is made with it and the rest of what can go
wrong is looked at with torch's `eager` backend, which traces in the same way; the methods with it are in a slow test.
"""

from __future__ import annotations

import dataclasses
import warnings

import pytest
import torch
from conftest import LORA, interrupted_after, losses, read_jsonl, recipe_for
from safetensors.torch import load_file
from torch._dynamo.utils import counters

from pgtune import compiling, train
from pgtune.collate import Collator
from pgtune.compiling import choose_compile, compiled, obstacle, uncompiled
from pgtune.errors import RecipeError, TrainingError
from pgtune.example import Example
from pgtune.forward import SuffixLossModel
from pgtune.methods import prepare
from pgtune.model import Loaded, load_base
from pgtune.selftests import examples, picture
from pgtune.settings import LoraSettings, ModelSettings

CPU = torch.device("cpu")
LONG = Example([picture(0)], "a prefix that is a good deal longer than all the others are", "and an answer " * 4)


RANK_2 = LoraSettings(rank=2)


def make(base, lora: LoraSettings | None = RANK_2, *, bits: str = "none", dtype: str = "auto", **changes):
    """A model in training mode whose LoRA matrices are not zero."""
    settings = ModelSettings(base=str(base), quantization=bits, dtype=dtype)
    loaded = prepare(load_base(settings, full=lora is None, device=CPU), lora, None, seed=0, **changes)
    loaded.mixed_precision = dtype == "bfloat16"
    generator = torch.Generator().manual_seed(9)
    for name, parameter in loaded.trainable():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.1, generator=generator)
    loaded.model.train()
    return loaded, SuffixLossModel(loaded.model, loaded.paligemma, loaded.attention)


def step(loaded: Loaded, module: SuffixLossModel, chosen: list[Example]):
    """Loss and gradients of one pass."""
    loaded.model.zero_grad(set_to_none=True)
    torch.manual_seed(4)
    with loaded.autocast():
        loss = module(Collator(loaded.processor)(chosen)).example_sum()
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in loaded.trainable()}


BATCHES = (examples()[:2], [examples()[1], LONG], examples()[1:3], [examples()[0]] * 2)


# ---- where it is on


def test_auto_is_for_models_of_real_size(small_base):
    loaded, _ = make(small_base)
    assert choose_compile("auto", loaded) == (False, "")
    assert choose_compile(False, loaded) == (False, "")
    assert choose_compile(True, loaded) == (True, "")
    loaded.paligemma.config.get_text_config().hidden_size = 1024
    assert choose_compile("auto", loaded) == (True, "")
    assert choose_compile(False, loaded) == (False, "")


def test_no_compiler_is_a_note_with_auto_and_refused_with_true(small_base, monkeypatch):
    loaded, _ = make(small_base)
    loaded.paligemma.config.get_text_config().hidden_size = 1024
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert choose_compile("auto", loaded) == (False, "no: there is no C++ compiler (no-such-compiler)")
    with pytest.raises(RecipeError, match=r"train\.compile: true, but there is no C\+\+ compiler \(no-such-compiler\)"):
        choose_compile(True, loaded)
    loaded.compile_note = choose_compile("auto", loaded)[1]
    assert "\ncompile    no: there is no C++ compiler" in loaded.summary()
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(compiling.sysconfig, "get_path", lambda name: "/no/such/folder")
    assert obstacle(loaded) == "Python's headers are not installed (/no/such/folder/Python.h)"


def test_what_cannot_be_compiled_is_said(small_base, monkeypatch):
    dora, _ = make(small_base, LoraSettings(rank=2, use_dora=True))
    assert obstacle(dora) == "torch.compile cannot trace PEFT's DoRA"
    loaded, _ = make(small_base)
    assert obstacle(loaded) is None
    assert obstacle(dataclasses.replace(loaded, attention="flex_attention")) == "flex_attention is compiled by itself"
    assert obstacle(dataclasses.replace(loaded, device=torch.device("mps"))) == "it is not proven on mps"
    on_gpu = dataclasses.replace(loaded, device=torch.device("cuda"))
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: None)
    assert obstacle(on_gpu) == "triton is not installed"
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("CC", "no-such-compiler")
    assert obstacle(on_gpu) == "there is no C compiler (no-such-compiler)"


# ---- what is compiled


@pytest.mark.parametrize(
    ("changes", "graphs"),
    [({"llm_dropout": 0.3}, 2), ({"gradient_checkpointing": 2}, 2)],  # both together: below, torch's eager cannot
    ids=["dropout", "checkpointing"],
)
def test_all_layers_and_lengths_share_what_the_first_batch_has_made(small_bases, changes, graphs):
    """Two graphs: the first layer's input needs no gradient. Nothing is traced for other lengths, batches or modes."""
    loaded, module = make(small_bases["paligemma2"], **changes)
    expected = [step(loaded, module, chosen) for chosen in BATCHES]
    first = Collator(loaded.processor)(BATCHES[0])
    counters.clear()
    with compiled(loaded, module, first, backend="eager") as said:
        assert said.startswith("compile    2 layers of the language model: first loss ")
        assert all(parameter.grad is None for parameter in loaded.model.parameters())
        made = counters["stats"]["unique_graphs"]
        found = [step(loaded, module, chosen) for chosen in BATCHES]
        loaded.model.eval()
        with uncompiled(), torch.no_grad():
            module(first)
        loaded.model.train()
        again = step(loaded, module, BATCHES[0])
        assert counters["stats"]["unique_graphs"] == made == graphs
        assert not counters["graph_break"]
    for (loss, gradients), (loss_here, gradients_here) in zip(
        [*expected, expected[0]], [*found, again], strict=True
    ):
        assert torch.allclose(loss, loss_here, rtol=1e-5)
        for name, gradient in gradients.items():
            assert torch.allclose(gradient, gradients_here[name], rtol=1e-3, atol=1e-5 * float(gradient.abs().max()))
    assert not any("forward" in vars(layer) for layer in loaded.paligemma.model.language_model.layers)


def test_a_batch_that_does_not_fit_is_computed_uncompiled(small_bases):
    """Torch makes a batch of one example a case of its own; kernels for it would depend on when it came."""
    loaded, module = make(small_bases["paligemma"])
    alone = step(loaded, module, [examples()[1]])
    with compiled(loaded, module, Collator(loaded.processor)(BATCHES[0]), backend="eager"):
        made = counters["stats"]["unique_graphs"]
        loss, gradients = step(loaded, module, [examples()[1]])
        assert counters["stats"]["unique_graphs"] == made
    assert torch.equal(loss, alone[0])
    assert all(torch.equal(gradients[name], alone[1][name]) for name in gradients)


def test_a_compiler_that_computes_something_else_ends_the_run(small_bases):
    def wrong(graph, inputs):
        return lambda *given: tuple(value + 1.0 for value in graph(*given))

    loaded, module = make(small_bases["paligemma"])
    first = Collator(loaded.processor)(BATCHES[0])
    refused = pytest.raises(TrainingError, match=r"loss is \S+ compiled and \S+ uncompiled; nothing was trained")
    with refused, compiled(loaded, module, first, backend=wrong):
        raise AssertionError("nothing may be trained")


def test_a_compiler_that_fails_is_one_message(small_bases):
    def broken(graph, inputs):
        raise RuntimeError("no such instruction\nand a thousand lines")

    loaded, module = make(small_bases["paligemma"])
    first = Collator(loaded.processor)(BATCHES[0])
    with pytest.raises(TrainingError) as caught, compiled(loaded, module, first, backend=broken):
        raise AssertionError("nothing may be trained")
    assert "no such instruction" in str(caught.value)
    assert str(caught.value).endswith("Use train.compile=false")
    assert "\n" not in str(caught.value)


# ---- whole runs with the compiler


def trained(run):
    file = run / "adapter" / "adapter_model.safetensors"
    return load_file(file if file.is_file() else run / "model" / "model.safetensors")


def interrupted(monkeypatch, make_recipe, at: int) -> None:
    with interrupted_after(at):
        train(make_recipe())
    train(make_recipe(), resume=True)


def whole_and_resumed(base, data, tmp_path, monkeypatch, lora, *more):
    """A run, the same killed and resumed, and the same uncompiled."""
    lengths = []
    real = SuffixLossModel.forward

    def noting(self, batch):
        lengths.append(batch.input_ids.shape[1])
        return real(self, batch)

    monkeypatch.setattr(SuffixLossModel, "forward", noting)

    def recipe(name, compiling="true"):
        knobs = ("train.batch_size=2", "train.save_steps=2", f"train.compile={compiling}", *more)
        return recipe_for(base, data, tmp_path / name, *knobs, lora=lora)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(recipe("whole"))
    assert len(set(lengths)) > 1, "the lengths differ"
    interrupted(monkeypatch, lambda: recipe("resumed"), at=3)
    train(recipe("uncompiled", "false"))
    assert losses(tmp_path / "resumed") == losses(tmp_path / "whole")
    assert [row["step"] for row in read_jsonl(tmp_path / "resumed" / "log.jsonl")] == [1, 2, 3, 4]
    one, two = trained(tmp_path / "whole"), trained(tmp_path / "resumed")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    return losses(tmp_path / "whole"), losses(tmp_path / "uncompiled")


def test_a_compiled_run_learns_the_same_and_is_resumed_to_the_last_bit(
    small_bases, data, tmp_path, monkeypatch, capsys
):
    few = {**LORA, "targets": ".*language_model.*(q_proj|down_proj)"}
    one_graph = "model.trainable=[projector]"  # the first layer's input needs a gradient too: half of the compiling
    ours, plain = whole_and_resumed(small_bases["paligemma2"], data, tmp_path, monkeypatch, few, one_graph)
    assert ours == pytest.approx(plain, rel=1e-4)
    said = capsys.readouterr().err
    assert said.count("compile    2 layers of the language model: first loss") == 3  # whole, killed, resumed
    assert "Warning" not in said


METHODS = {
    "lora, bfloat16": (LORA, ("model.dtype=bfloat16", "train.mixed_precision=bf16")),
    "lora with both dropouts": ({**LORA, "dropout": 0.2}, ("model.llm_dropout=0.2",)),
    "lora, checkpointing": (LORA, ("train.gradient_checkpointing=2", "model.llm_dropout=0.2")),
    "nf4": (LORA, ("model.quantization=nf4",)),
    "int8": (LORA, ("model.quantization=int8",)),
    "full": (None, ("train.learning_rate=1e-3",)),
    "full, checkpointing": (None, ("train.learning_rate=1e-3", "train.gradient_checkpointing=true")),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_compiled(small_base, data, tmp_path, monkeypatch, method):
    lora, more = METHODS[method]
    ours, plain = whole_and_resumed(small_base, data, tmp_path, monkeypatch, lora, *more)
    assert ours == pytest.approx(plain, rel=2e-2 if "bfloat16" in method else 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full", "nf4", "int8"])
def test_gradients_compiled(small_base, method):
    lora = None if method == "full" else LoraSettings(rank=2, dropout=0.2)
    loaded, module = make(small_base, lora, bits=method if method in ("nf4", "int8") else "none", llm_dropout=0.2)
    expected = [step(loaded, module, chosen) for chosen in BATCHES]
    with compiled(loaded, module, Collator(loaded.processor)(BATCHES[0])):
        for chosen, (loss, gradients) in zip(BATCHES, expected, strict=True):
            here, found = step(loaded, module, chosen)
            assert torch.allclose(loss, here, rtol=1e-5)
            largest = max(float(gradient.norm()) for gradient in gradients.values())
            for name, gradient in gradients.items():  # a key's bias moves nothing: its gradient is rounding alone
                bound = 1e-3 * max(float(gradient.norm()), 1e-4 * largest)
                assert float((gradient - found[name]).norm()) <= bound, name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", ["lora, bfloat16", "lora with both dropouts", "nf4", "full"])
def test_a_deterministic_run_on_a_gpu_goes_on_to_the_last_bit(small_base, data, tmp_path, monkeypatch, method):
    lora, more = METHODS[method]
    more = (*more, "train.deterministic=true")
    ours, plain = whole_and_resumed(small_base, data, tmp_path, monkeypatch, lora, *more)
    assert ours == pytest.approx(plain, rel=2e-2)
