"""The first batch is a test: does any suffix logit see what it must predict?

A leaking mask is the most frequent and the most silent failure of PaliGemma training: the loss looks wonderful. It
depends on library versions, attention backend, padding and mode, so it is measured on the real model, device and batch
before the first step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgtune.collate import Batch
from pgtune.errors import ModelError, TrainingError
from pgtune.forward import hidden_states
from pgtune.model import Loaded

TOLERANCE = 1e-3
"""A leak beyond this share of the prefix's effect is one. What a mask hides moves nothing: 0.0 was measured throughout,
with eager, sdpa and flex_attention, float32 and bfloat16, nf4 and int8; the smallest real leak was 0.003."""


@dataclass(frozen=True)
class LeakProbe:
    """How far the logits moved (largest absolute difference over the probed positions)."""

    leak: float
    """Suffix logits before the changed suffix token, with other padding: must not move."""
    prefix_effect: float
    """Suffix logits after a changed prefix token: must move."""
    tolerance: float
    noise: float = 0.0
    """The same batch a second time: 0 unless the device's kernels add up in an order that changes."""

    @property
    def passed(self) -> bool:
        moved = self.leak - 2 * self.noise
        return moved <= self.tolerance * self.prefix_effect and self.prefix_effect > 2 * self.noise


def _other_token(ids: Tensor, special: set[int], rows: int) -> Tensor:
    """For each id an ordinary id that differs from it."""
    candidates = [index for index in range(rows) if index not in special][-2:]
    first, second = (torch.full_like(ids, candidate) for candidate in candidates)
    return torch.where(ids == first, second, first)


@torch.no_grad()
def probe_prefix_lm(paligemma: Any, batch: Batch, backend: str, *, max_rows: int = 2) -> LeakProbe:
    """Change the last suffix token, `<eos>` and the padding, then a prefix token: do suffix logits before them move?

    Args:
        batch: a real batch; the first `max_rows` rows are used, the rows' images as they are.
    """
    text = paligemma.config.get_text_config()
    special = {paligemma.config.image_token_id, 0, 1, 2, 3, text.pad_token_id, text.eos_token_id, text.bos_token_id}
    per_row = int(batch.pixel_values.shape[0] / len(batch.input_ids))
    equal_rows = len({int((row == paligemma.config.image_token_id).sum()) for row in batch.input_ids}) == 1
    rows = min(max_rows, len(batch.input_ids)) if equal_rows else len(batch.input_ids)
    pixels = batch.pixel_values[: rows * per_row] if equal_rows else batch.pixel_values
    base = Batch(pixels, *(getattr(batch, name)[:rows] for name in ("input_ids", "valid", "suffix", "labels")))
    index = torch.arange(rows, device=base.input_ids.device)
    positions = torch.arange(base.input_ids.shape[1], device=base.input_ids.device)
    eos_at = torch.where(base.suffix, positions, -1).max(-1).values
    first_suffix = torch.where(base.suffix, positions, len(positions)).min(-1).values
    last_at = eos_at - 1  # the last suffix token; the suffix is never empty
    assert bool((last_at >= first_suffix).all()), "a row without a suffix reached the model"

    def changed(at: Tensor) -> Batch:
        ids = base.input_ids.clone()
        ids[index, at] = _other_token(ids[index, at], special, min(text.vocab_size, 1000))
        return dataclasses.replace(base, input_ids=ids)

    future = changed(last_at)
    padding = _other_token(base.input_ids, special, min(text.vocab_size, 1000))
    future.input_ids[~base.valid] = padding[~base.valid]
    future.input_ids[index, eos_at] = _other_token(future.input_ids[index, eos_at], special, min(text.vocab_size, 1000))
    # The separator precedes the suffix; before it stands the last prefix token, or <bos> where the prefix is empty.
    past = changed(first_suffix - 2)

    def logits(of: Batch) -> Tensor:
        states = hidden_states(paligemma, of, backend)
        kept = (positions >= (first_suffix - 1)[:, None]) & (positions < last_at[:, None])
        # Never all positions of a long suffix: 8 are plenty, and a row of logits has 257,216 entries.
        chosen = states[kept]
        step = max(1, len(chosen) // 8)
        found: Tensor = paligemma.lm_head(chosen[::step]).float()
        return found

    with _each_token_quantised_alone(paligemma):
        original = logits(base)
        leak = (logits(future) - original).abs().max().item()
        effect = (logits(past) - original).abs().max().item()
        noise = (logits(base) - original).abs().max().item()
    return LeakProbe(leak, effect, TOLERANCE, noise)


@contextmanager
def _each_token_quantised_alone(paligemma: Any) -> Iterator[None]:
    """int8 picks its outlier columns over the whole batch, so that a changed token moves all others by rounding, which
    can be as much as a real leak: meanwhile without it."""
    states = [
        module.state
        for module in paligemma.modules()
        if type(module).__module__.startswith("bitsandbytes") and type(module).__name__ == "Linear8bitLt"
    ]
    thresholds = [state.threshold for state in states]
    for state in states:
        state.threshold = 0.0
    yield
    for state, threshold in zip(states, thresholds, strict=True):
        state.threshold = threshold


@torch.no_grad()
def check_adapter_works(loaded: Loaded, name: str) -> None:
    """That a model whose adapter was loaded computes something else with it than without: a few tokens of text, and a
    picture where the adapter is on the vision tower or the projector.

    Raises:
        ModelError: it computes the same to the last bit, as an adapter does whose weights found no place; or no matrix
            of LoRA was trained, which parts trained in full would hide.
    """
    paligemma, model = loaded.paligemma, loaded.model
    if not any(bool(weight.any()) for key, weight in model.named_parameters() if ".lora_B." in key):
        raise ModelError(
            f"{name}: the adapter does nothing: all its matrices lora_B are zero, as before training. It was not "
            "trained, or its file is damaged"
        )
    embed = paligemma.get_input_embeddings()
    ids = torch.arange(2, 10, device=embed.weight.device)[None]
    config = paligemma.config.vision_config
    grey = torch.linspace(-1, 1, config.image_size, device=embed.weight.device)
    picture = grey.expand(1, config.num_channels, config.image_size, -1)

    def text() -> Tensor:
        found: Tensor = paligemma.model.language_model(inputs_embeds=embed(ids), use_cache=False).last_hidden_state
        return found

    def seen() -> Tensor:
        features = paligemma.model.vision_tower(picture.to(paligemma.model.vision_tower.dtype)).last_hidden_state
        found: Tensor = paligemma.model.multi_modal_projector(features)
        return found

    for look in (text, seen):
        with loaded.autocast():
            with_adapter = look()
            with model.disable_adapter():  # type: ignore[operator]
                without = look()
        if not with_adapter.isfinite().all():
            raise ModelError(f"{name}: with the adapter the model computes NaN or infinity")
        if not torch.equal(with_adapter, without):
            return
    raise ModelError(
        f"{name}: the adapter does nothing: on a probe the model computes the same with and without it, to the last "
        "bit. It was not trained, or belongs to another base or version"
    )


def check_first_batch(paligemma: Any, batch: Batch, backend: str) -> LeakProbe:
    """Refuse to train on a model that sees the answer, or that does not see the question.

    Raises:
        TrainingError: says which of the two, and by how much.
    """
    was_training = paligemma.training
    paligemma.eval()
    probe = probe_prefix_lm(paligemma, batch, backend)
    paligemma.train(was_training)
    if not probe.passed:
        if probe.prefix_effect <= 2 * probe.noise:
            what = "a changed prefix token moves no suffix logit: the answer cannot depend on the question"
        else:
            what = (
                f"a changed last suffix token (or padding) moves earlier suffix logits by {probe.leak:.3g} (a changed "
                f"prefix token moves them by {probe.prefix_effect:.3g}): the model would see what it must predict"
            )
        raise TrainingError(
            f"the first batch failed its test with attention backend {backend!r}: {what}. Nothing was trained. "
            "Try model.attention=eager, and run `pgtune doctor`"
        )
    return probe
