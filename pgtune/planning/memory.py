"""The memory of each phase of a run on one device, in bytes: what is held, and what a step needs beside. No torch.

A run's peak is that of its dearest phase. What `docs/memory.md` says in words is computed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

from pgtune.architecture import Linear, part_of
from pgtune.planning.activations import (
    Kept,
    Mode,
    decoder_layer,
    decoder_transient,
    vision_layer,
    vision_transient,
)
from pgtune.planning.held import Device, Held
from pgtune.recipe import Recipe

__all__ = ["LOSS_CHUNK", "Device", "Memory", "Phase", "recomputing"]

LOSS_CHUNK = 256
"""Learnt tokens whose logits exist at once (`loss.CHUNK`)."""


@dataclass(frozen=True)
class Phase:
    """What one phase of a run holds at its peak, in bytes."""

    name: str
    weights: float
    optimizer: float
    gradients: float = 0.0
    activations: float = 0.0
    """Kept for the backward pass; in decoding the keys and values."""
    working: float = 0.0
    """What comes and goes inside a layer, the loss or the optimiser."""
    allocator: float = 0.0
    """On a CPU: what malloc has taken and cannot give back, for the holes in it."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.optimizer + self.gradients + self.activations + self.working + self.allocator


@dataclass(frozen=True)
class Memory(Held):
    """The phases of a recipe's run on each of `devices` devices."""

    @property
    def length(self) -> int:
        """Tokens of the longest example."""
        return self.workload.images * self.architecture.vision.tokens + self.workload.text

    @cached_property
    def mode(self) -> Mode:
        """Of the decoder's layers."""
        lora, language = self.recipe.lora, "language_model" in self.full_parts
        return Mode(
            base=4 if language else self.base_bytes,
            autocast=self.autocast,
            compiled=self.compiled,
            attention=self.attention,
            gpu=self.device == "gpu",
            rank=lora.rank if lora is not None and not language else None,
            dora=lora is not None and lora.use_dora,
            lora_dropout=lora is not None and lora.dropout > 0,
            llm_dropout=self.recipe.model.llm_dropout > 0,
        )

    @cached_property
    def vision_mode(self) -> Mode:
        """Of the vision tower's layers, which are not compiled."""
        lora, vision = self.recipe.lora, "vision_tower" in self.full_parts
        return Mode(
            base=4 if vision else self.base_bytes,
            autocast=self.autocast,
            gpu=self.device == "gpu",
            rank=lora.rank if lora is not None and not vision else None,
            dora=lora is not None and lora.use_dora,
            lora_dropout=lora is not None and lora.dropout > 0,
        )

    @cached_property
    def layers(self) -> list[tuple[str, int, Kept]]:
        """(part, tokens in a batch, what is kept) of each layer through which a gradient flows, in their order."""
        return [*self._vision_layers(), *self._decoder_layers()]

    def _vision_layers(self) -> Iterator[tuple[str, int, Kept]]:
        vision, whole = self.architecture.vision, "vision_tower" in self.full_parts
        tokens = self.recipe.train.batch_size * self.workload.images * vision.tokens
        stream = 4 if whole else self.base_bytes
        known: dict[tuple[str, ...], Kept] = {}  # layers are alike
        flows = whole
        for index in range(vision.num_hidden_layers):
            here = self._trained_in(vision.layers[index])
            flows = flows or bool(here)
            if flows:
                if here not in known:
                    known[here] = vision_layer(vision, here, self.vision_mode, stream=stream)
                yield "vision_tower", tokens, known[here]

    def _decoder_layers(self) -> Iterator[tuple[str, int, Kept]]:
        text, whole = self.architecture.text, "language_model" in self.full_parts
        tokens = self.recipe.train.batch_size * self.length
        known: dict[tuple[str, ...], Kept] = {}
        before = (*chain(*self.architecture.vision.layers), self.architecture.projector)
        flows = whole or bool(self._trained_in(before))
        for index in range(text.num_hidden_layers):
            here = self._trained_in(text.layers[index])
            flows = flows or bool(here)
            if flows:
                if here not in known:
                    known[here] = decoder_layer(
                        text, here, self.length, self.mode, stream=self.embedding_bytes, norms=whole
                    )
                yield "language_model", tokens, known[here]

    def _trained_in(self, linears: Sequence[Linear]) -> tuple[str, ...]:
        """The inner names, such as mlp.fc1, of those that are trained."""
        return tuple(one.inner for one in linears if one.name in self.trained)

    @cached_property
    def activations(self) -> tuple[float, float]:
        """What all layers keep in a forward pass; what the largest one computes again where it is checkpointed."""
        every = self.recompute
        kept_all = again = 0.0
        width = {
            "vision_tower": self.architecture.vision.hidden_size * (4 if self.vision_mode.base == 4 else 2),
            "language_model": self.architecture.text.hidden_size * self.embedding_bytes,
        }
        for index, (part, tokens, kept) in enumerate(self.layers):
            if every and index % every == 0:
                kept_all += width[part] * tokens
                again = max(again, kept.of(tokens)) if every == 1 else 0.0  # else a layer before has let go of as much
            else:
                kept_all += kept.of(tokens)
        return kept_all + self._outside, again

    @cached_property
    def _outside(self) -> float:
        """Kept outside of the layers: pixels, embeddings, mask, positions, the last norm."""
        text, vision = self.architecture.text, self.architecture.vision
        batch, length = self.recipe.train.batch_size, self.length
        pixels = batch * self.workload.images * vision.num_channels * vision.image_size**2 * (4 + self.base_bytes)
        states = batch * length * text.hidden_size * (4 + 2 * self.embedding_bytes)
        mask = batch * length * length * (1 + (self.embedding_bytes if self.attention == "eager" else 0))
        return pixels + states + mask + batch * length * 2 * text.head_dim * self.embedding_bytes

    @cached_property
    def loss(self) -> float:
        """What the head and the cross-entropy hold at their peak, of the learnt positions alone."""
        text = self.architecture.text
        positions = self.recipe.train.batch_size * self.workload.suffix
        at_once = min(positions, LOSS_CHUNK)
        copies = 12 if self.recipe.train.label_smoothing or self.recipe.model.final_logit_softcapping else 8
        logits = at_once * text.vocab_size * (copies + self.mode.compute)
        return logits + positions * text.hidden_size * (4 + self.mode.compute) + self.head_copy

    @cached_property
    def head_copy(self) -> float:
        """The head's weights in bfloat16, where autocast makes them so."""
        return 2.0 * self.architecture.text.embedding if self.autocast and self.embedding_bytes == 4 else 0.0

    @cached_property
    def transient(self) -> float:
        """Most that a layer holds for a moment."""
        text, vision = self.architecture.text, self.architecture.vision
        batch = self.recipe.train.batch_size
        decoder = batch * self.length * decoder_transient(text, self.length, self.mode)
        tower = batch * self.workload.images * vision.tokens * vision_transient(vision, self.vision_mode)
        return max(decoder, tower) + self._unpacked

    @cached_property
    def _unpacked(self) -> float:
        """A quantised matrix in the type that it is multiplied in."""
        if self.recipe.model.quantization == "none":
            return 0.0
        return max(one.weights for one in self.architecture.text.layers[0]) * self.mode.compute

    @cached_property
    def cast_cache(self) -> float:
        """Autocast's bfloat16 copies of the trained weights: kept while an answer is decoded (`Loaded.autocast`)."""
        if not self.autocast or self.sharded:
            return 0.0
        whole = [one for one in self.architecture.linears if part_of(one.name) in self.full_parts]
        return 2.0 * (sum(one.weights for one in whole) + self.adapter_parameters)

    def decided(self, available: float | None) -> Memory:
        """With `train.gradient_checkpointing: auto` decided: the least with which training fits.

        Args:
            available: bytes of one device; None: not known, and nothing is computed again, as on a CPU.
        """
        if self.recipe.train.gradient_checkpointing != "auto":
            return self
        levels: tuple[bool | int, ...] = (False, 2, True)
        tried = [replace(self, recipe=recomputing(self.recipe, level)) for level in levels]
        if available is None or self.device == "cpu":
            return tried[0]
        fitting = (one for one in tried if max(phase.total for phase in one.training()) <= available)
        return next(fitting, tried[-1])

    def phases(self) -> list[Phase]:
        """Those of a step, and decoding in evaluation."""
        return [*self.training(), *([self._with_holes(self.decoding)] if self.decodes else [])]

    def training(self) -> list[Phase]:
        """Forward, backward (its begin and its end), step."""
        kept, again = self.activations
        weights = self.weights + self.gathered
        held = {"weights": weights, "optimizer": self.optimizer}
        embedding = 4.0 * self.architecture.text.embedding if "language_model" in self.full_parts else 0.0
        before = self.gradients if self.recipe.train.gradient_accumulation_steps > 1 else 0.0
        begin = max(before, embedding / self.split) + self.buckets
        whole = self.gradients + self.buckets
        count = len(self.layers)
        share = kept / count + again if count else again
        return [
            self._with_holes(Phase(
                "forward", **held, gradients=before + self.buckets,
                activations=kept, working=max(self.loss, self.transient),
            )),
            self._with_holes(Phase(
                "backward", **held, gradients=begin, activations=kept + again,
                working=self.transient + (embedding if self.sharded else 0.0),
            )),
            self._with_holes(Phase(
                "backward, its end", **held, gradients=whole, activations=share, working=self.transient + embedding,
            )),
            Phase("optimiser step", self.weights, self.optimizer, whole),
        ]  # fmt: skip

    @property
    def decodes(self) -> bool:
        """Whether the run is scored."""
        return len(self.recipe.data.splits) > 1

    @cached_property
    def decoding(self) -> Phase:
        """Decoding in an evaluation: uncompiled and without a gradient, in its own batches, keys and values kept."""
        text, vision, recipe = self.architecture.text, self.architecture.vision, self.recipe
        batch = recipe.eval.batch_size or 4 * recipe.train.batch_size
        rows = batch * recipe.eval.num_beams
        prompt = self.workload.images * vision.tokens + max(1, self.workload.text - self.workload.suffix)
        compute = self.mode.compute
        cache = 2 * text.num_hidden_layers * text.keys * rows * (prompt + recipe.eval.max_new_tokens) * compute
        scores = text.num_attention_heads * prompt * (2 * compute + 8) if self.attention == "eager" else 0
        states = text.hidden_size * (8 + 2 * self.embedding_bytes)
        inside = max(3 * text.intermediate_size * compute, scores + 4 * text.queries * compute)
        prefill = rows * prompt * (states + inside) + rows * prompt**2 * (1 + compute)
        tower = batch * self.workload.images * vision.tokens * vision_transient(vision, self.vision_mode)
        logits = rows * text.vocab_size * (compute + 8) + self.head_copy
        working = max(prefill, tower, logits) + self._unpacked + self.cast_cache
        held = self.weights + self.gathered
        return Phase("decoding", held, self.optimizer, self.buckets, float(cache), working)

    def _with_holes(self, phase: Phase) -> Phase:
        """On a CPU glibc's malloc grows beyond what is in use; measured, see docs/memory.md."""
        if self.device == "gpu":
            return phase
        layer = max((kept.per_token * tokens for _, tokens, kept in self.layers), default=0.0)
        holes = (0.25 if self.compiled else 0.35) * (phase.activations or phase.working) + 2.5 * layer
        return replace(phase, allocator=holes)


def recomputing(recipe: Recipe, level: bool | int) -> Recipe:
    """The recipe with `train.gradient_checkpointing` decided."""
    train = recipe.train.model_copy(update={"gradient_checkpointing": level})
    return recipe.model_copy(update={"train": train})
