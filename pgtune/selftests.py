"""Self-tests on tiny random models of both generations: do these library versions still compute what we think?

`pgtune doctor` runs them in seconds on the user's machine and device; pgtune's own tests run them too. Each is a
function of a `Bench` that raises AssertionError with what it found, and returns a short measurement.
"""

from __future__ import annotations

import copy
import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from pgtune import parts, tiny
from pgtune.collate import Batch, Collator
from pgtune.example import Example
from pgtune.forward import SuffixLossModel, hidden_states
from pgtune.methods import load_trained, prepare
from pgtune.model import Loaded, load_base
from pgtune.probes import probe_prefix_lm
from pgtune.processor import LOCATION_TOKENS, SEGMENTATION_TOKENS, load_processor
from pgtune.quiet import quiet_libraries
from pgtune.settings import LoraSettings, ModelSettings, Part

Generation = Literal["paligemma", "paligemma2"]
GENERATIONS: tuple[Generation, ...] = ("paligemma", "paligemma2")


def random_model(
    generation: Generation,
    vocabulary: int,
    image_token: int,
    *,
    seed: int = 0,
    spread: float = 0.3,
    resolution: int = 112,
) -> Any:
    """A PaliGemmaForConditionalGeneration of two layers with random float32 weights.

    Args:
        spread: standard deviation of the weights; with the usual 0.02 nothing moves by more than rounding.
        resolution: pixels, a multiple of 14; (resolution / 14)^2 image tokens.
    """
    from transformers import (
        Gemma2Config,
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        SiglipVisionConfig,
    )

    common = {
        "vocab_size": vocabulary,
        "hidden_size": 64,  # nf4 wants multiples of 64
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
        "initializer_range": spread,
    }
    text = (
        GemmaConfig(num_attention_heads=2, num_key_value_heads=1, head_dim=32, **common)
        if generation == "paligemma"
        else Gemma2Config(
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            query_pre_attn_scalar=16,
            sliding_window=16,
            **common,
        )
    )
    vision = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=resolution,
        patch_size=14,
        vision_use_head=False,
        projection_dim=64,
    )
    config = PaliGemmaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=image_token,
        vocab_size=vocabulary,
        projection_dim=64,
        hidden_size=64,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PaliGemmaForConditionalGeneration(config).eval()


def write_random_base(
    folder: Path, generation: Generation, *, seed: int = 0, spread: float = 0.3, resolution: int = 112
) -> Path:
    """A folder with such a model and the shipped tokenizer, to be named as `model.base`."""
    from transformers import PaliGemmaProcessor

    shipped = load_processor(str(tiny.path()))
    quiet_libraries()
    images = shipped.image_processor
    images.size = {"height": resolution, "width": resolution}
    images.image_seq_length = (resolution // 14) ** 2
    processor = PaliGemmaProcessor(images, shipped.tokenizer)
    rows = -(-len(processor.tokenizer) // 64) * 64
    model = random_model(generation, rows, processor.image_token_id, seed=seed, spread=spread, resolution=resolution)
    model.save_pretrained(str(folder))
    processor.save_pretrained(str(folder))
    return folder


def picture(seed: int) -> Image.Image:
    """A picture of random colours."""
    colours = torch.randint(0, 256, (7, 7, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Image.fromarray(colours.numpy()).resize((112, 112), Image.Resampling.NEAREST)


def examples() -> list[Example]:
    """Three examples with texts of different lengths."""
    return [
        Example(picture(0), "answer en what is this?", "a red circle on white"),
        Example(picture(1), "", "7"),
        Example(picture(2), "detect circle ; square", "<loc0012><loc0345><loc0678><loc1023> circle"),
    ]


@dataclass
class Bench:
    """A tiny base on disk, loaded on a device, and a batch."""

    generation: Generation
    folder: Path
    device: torch.device

    def load(self, **changes: Any) -> Loaded:
        """The base, freshly loaded and frozen."""
        settings = ModelSettings(base=str(self.folder), **changes)
        return load_base(settings, full="quantization" not in changes, device=self.device)

    @cached_property
    def loaded(self) -> Loaded:
        return self.load()

    @cached_property
    def collator(self) -> Collator:
        return Collator(self.loaded.processor)

    def batch(self, chosen: Sequence[Example] | None = None, padding_side: Literal["left", "right"] = "right") -> Batch:
        """A batch on the device."""
        return Collator(self.loaded.processor, padding_side=padding_side)(list(chosen or examples())).to(self.device)

    def lora(self, targets: str | tuple[Part, ...] = "language_model", **changes: Any) -> Loaded:
        """A fresh base with LoRA whose update is not zero."""
        loaded = prepare(self.load(**changes), LoraSettings(rank=4, alpha=8, targets=targets), None, seed=0)
        with torch.no_grad():
            for number, (name, parameter) in enumerate(loaded.trainable()):
                if "lora_B" in name:
                    noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
                    parameter.copy_(0.3 * noise)
        loaded.model.eval()
        return loaded


def close(what: str, one: Tensor, other: Tensor, tolerance: float = 1e-4) -> str:
    """Assert that two tensors agree; the largest difference."""
    difference = (one - other).abs().max().item()
    assert difference <= tolerance, f"{what} differ by {difference:.3g} (allowed {tolerance:g})"
    return f"differ by {difference:.1e}"


@torch.no_grad()
def _states(loaded: Loaded, batch: Batch) -> Tensor:
    return hidden_states(loaded.paligemma, batch, loaded.attention)[batch.valid]


def _losses(loaded: Loaded, batch: Batch, smoothing: float = 0.0) -> Any:
    return SuffixLossModel(loaded.model, loaded.paligemma, loaded.attention, smoothing)(batch)


def no_suffix_token_is_seen_early(bench: Bench) -> str:
    """1 and 2: a later suffix token moves no earlier logit, a prefix token does; with and without padding."""
    found = []
    for chosen in (examples(), examples()[:1]):
        probe = probe_prefix_lm(bench.loaded.paligemma, bench.batch(chosen), bench.loaded.attention, max_rows=3)
        assert probe.passed, f"suffix logits moved by {probe.leak:.3g}, by a prefix token {probe.prefix_effect:.3g}"
        found.append(f"{probe.leak:.1e} of {probe.prefix_effect:.2g}")
    return "moved by " + ", ".join(found)


@torch.no_grad()
def padding_changes_no_loss(bench: Bench) -> str:
    """3: the loss of each example is the same alone, padded left and padded right."""
    alone = torch.cat([_losses(bench.loaded, bench.batch([example])).total for example in examples()])
    right = close("alone and right-padded", alone, _losses(bench.loaded, bench.batch()).total)
    left = close("alone and left-padded", alone, _losses(bench.loaded, bench.batch(padding_side="left")).total)
    return f"right {right}, left {left}"


def accumulation_changes_no_gradient(bench: Bench) -> str:
    """4: one batch of three, or three of one, divided once: the same gradient in both reductions."""
    found = []
    for reduction in ("example_sum", "token_sum"):
        gradients = []
        for split in ([examples()], [[example] for example in examples()]):
            loaded = bench.lora()
            batches = [bench.batch(chosen) for chosen in split]
            count = sum(b.supervised_tokens for b in batches) if reduction == "token_sum" else 3
            for batch in batches:
                (getattr(_losses(loaded, batch), reduction)() / count).backward()
            gradients.append(torch.cat([p.grad.flatten() for _, p in loaded.trainable() if p.grad is not None]))
        found.append(close(f"gradients ({reduction})", gradients[0], gradients[1]))
    return ", ".join(found)


@torch.no_grad()
def smoothing_is_the_formula(bench: Bench) -> str:
    """5: label smoothing is (1-e) on the target and e/(V-1) on each other class."""
    batch, smoothing = bench.batch(examples()[:1]), 0.3
    loaded = bench.loaded
    states = hidden_states(loaded.paligemma, batch, loaded.attention)
    log_probabilities = torch.log_softmax(loaded.paligemma.lm_head(states[0]).float(), -1)
    wanted = 0.0
    for position in range(batch.labels.shape[1] - 1):
        target = int(batch.labels[0, position + 1])
        if target == -100:
            continue
        share = torch.full_like(log_probabilities[position], smoothing / (log_probabilities.shape[-1] - 1))
        share[target] = 1 - smoothing
        wanted += float(-(share * log_probabilities[position]).sum())
    total = _losses(loaded, batch, smoothing).total
    return close("smoothed losses", total, torch.full_like(total, wanted), 1e-3)


def lora_lands_where_it_is_named(bench: Bench) -> str:
    """6: LoRA is on the linear layers of the named parts and on no other."""
    counts = {"language_model": 7 * 2, "vision_tower": 6 * 2, "projector": 1}
    names: tuple[Part, ...] = ("language_model", "vision_tower", "projector")
    for targets in (*((name,) for name in names), names):
        found = parts.count_by_part(bench.lora(targets).lora_modules)
        wanted = {name: counts[name] for name in parts.PARTS if name in targets}
        assert found == wanted, f"targets {targets} gave {found}, expected {wanted}"
    return f"{counts}"


def quantisation_lands_where_it_is_named(bench: Bench) -> str:
    """7: nf4 and int8 replace the language model's linear layers, not the tower, the projector or the head."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return "bitsandbytes is not installed: not tested"
    for quantization in ("nf4", "int8"):
        found = parts.count_by_part(bench.load(quantization=quantization).quantized_modules)
        assert found == {"language_model": 14}, f"{quantization} changed {found}"
    return "14 modules of language_model"


def location_tokens_are_one_id(bench: Bench) -> str:
    """8: every location and segmentation token is one id, in order."""
    ids = [bench.collator.tokenize(token) for token in (*LOCATION_TOKENS, *SEGMENTATION_TOKENS)]
    assert all(len(one) == 1 for one in ids), "a token was cut into several"
    flat = [one[0] for one in ids]
    assert flat == list(range(flat[0], flat[0] + len(flat))), "the ids are not consecutive"
    return f"{len(flat)} tokens, ids {flat[0]} to {flat[-1]}"


def the_last_target_is_eos(bench: Bench) -> str:
    """9: the model is taught to stop, also where a long text is cut."""
    for limit in (None, 8):
        collator = Collator(bench.loaded.processor, limit, "truncate")
        for example in examples():
            layout = collator.layout(example)
            assert layout is not None
            assert layout.labels[-1] == collator.eos_id, "the last target is not <eos>"
            assert layout.input_ids[layout.prefix_length - 1] == collator.separator_id, "the separator was lost"
    return "whole and cut"


def a_reloaded_adapter_is_the_same(bench: Bench) -> str:
    """10: an adapter read back from disk gives the same hidden states, other than the base's."""
    trained, batch = bench.lora(), bench.batch()
    with tempfile.TemporaryDirectory() as folder:
        trained.model.save_pretrained(folder)  # type: ignore[operator]
        reloaded = load_trained(bench.load(), Path(folder))
    moved = (_states(trained, batch) - _states(bench.loaded, batch)).abs().max().item()
    assert moved > 1e-3, f"the adapter changes nothing (by {moved:.3g})"
    return close("in memory and reloaded", _states(trained, batch), _states(reloaded, batch), 0.0)


def a_merged_model_is_the_same(bench: Bench) -> str:
    """11: base and adapter merged give the adapter's hidden states."""
    trained, batch = bench.lora(), bench.batch()
    wanted = _states(trained, batch)
    merged: Any = copy.deepcopy(trained.model)
    trained.model = merged.merge_and_unload()
    return close("adapter and merged", wanted, _states(trained, batch), 1e-3)


@torch.no_grad()
def generation_is_the_full_forward(bench: Bench) -> str:
    """12: greedy decoding with left padding and a cache picks what one full forward with our mask picks."""
    paligemma, collator = bench.loaded.paligemma, bench.collator
    pixels = [collator.pixels(example.images) for example in examples()]
    prompts = collator.prompts(pixels, [example.prefix for example in examples()])
    inputs = {name: value.to(bench.device) for name, value in prompts.items()}
    steps = 4
    out = paligemma.generate(
        **inputs,
        max_new_tokens=steps,
        do_sample=False,
        use_cache=True,
        return_dict_in_generate=True,
        output_logits=True,
        eos_token_id=collator.image_id,
        pad_token_id=0,  # an end that is never chosen
    )
    new = out.sequences[:, inputs["input_ids"].shape[1] :]
    valid = torch.cat([inputs["attention_mask"].bool(), torch.ones_like(new, dtype=torch.bool)], 1)
    suffix = torch.cat([torch.zeros_like(inputs["attention_mask"]), torch.ones_like(new)], 1).bool()
    batch = Batch(inputs["pixel_values"], out.sequences, valid, suffix, out.sequences)
    states = hidden_states(paligemma, batch, bench.loaded.attention)[:, -steps - 1 : -1]
    return close("cached and full logits", torch.stack(out.logits, 1), paligemma.lm_head(states), 1e-3)


SELF_TESTS: tuple[Callable[[Bench], str], ...] = (
    no_suffix_token_is_seen_early,
    padding_changes_no_loss,
    accumulation_changes_no_gradient,
    smoothing_is_the_formula,
    lora_lands_where_it_is_named,
    quantisation_lands_where_it_is_named,
    location_tokens_are_one_id,
    the_last_target_is_eos,
    a_reloaded_adapter_is_the_same,
    a_merged_model_is_the_same,
    generation_is_the_full_forward,
)
