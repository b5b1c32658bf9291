"""What a run holds all the time, in bytes a device: weights, gradients, the optimiser's state. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pgtune.architecture import Architecture, Linear, part_of
from pgtune.errors import RecipeError
from pgtune.parts import PARTS, lora_pattern
from pgtune.planning.data import Workload
from pgtune.recipe import Recipe

__all__ = ["REAL_SIZE", "Device", "Held"]

Device = Literal["gpu", "cpu"]

REAL_SIZE = 1024
"""Hidden size from which `train.compile: auto` compiles (`compiling.REAL_SIZE`)."""

_NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in nf4: half a byte, a byte for each 64 (double quantisation), a float32 for each 256 of those."""

_ADAM_8BIT = 2 + 2 * 4 / 256
"""Bytes of a weight's two averages in 8 bits, with a float32 for each block of 256."""


@dataclass(frozen=True)
class Held:
    """What a recipe's run holds all the time on each of `devices` devices, and what decides it.

    Args:
        sharded: whether weights, gradients and optimiser are shared among the devices (FSDP) or copied (DDP).
        bfloat16: whether the device computes in it.
    """

    recipe: Recipe
    architecture: Architecture
    workload: Workload
    device: Device = "gpu"
    devices: int = 1
    sharded: bool = False
    bfloat16: bool = True

    # --- what the recipe decides ---

    @cached_property
    def base_bytes(self) -> int:
        """Bytes of a weight of the base as loaded (`model.choose_dtype`), those of nf4 and int8 aside."""
        chosen = self.recipe.model.dtype
        if chosen != "auto":
            return 4 if chosen == "float32" else 2
        if self.recipe.lora is None or not self.bfloat16:
            return 4
        return 2 if self.device == "gpu" or self.architecture.stored == "bfloat16" else 4

    @cached_property
    def autocast(self) -> bool:
        """Whether forward passes run under bfloat16 autocast (`model.choose_mixed_precision`)."""
        setting = self.recipe.train.mixed_precision
        if setting != "auto":
            return setting == "bf16"
        return self.bfloat16 and (self.device == "gpu" or self.base_bytes == 2)

    @property
    def recompute(self) -> int:
        """Every so many layers are computed again in the backward pass; 0: none, as where `auto` is not decided yet."""
        setting = self.recipe.train.gradient_checkpointing
        return 0 if setting == "auto" else int(setting)

    @cached_property
    def attention(self) -> str:
        """The backend (`model.choose_attention`)."""
        setting = self.recipe.model.attention
        if setting == "auto":
            return "eager" if self.architecture.text.generation == "gemma2" else "sdpa"
        return setting

    @cached_property
    def compiled(self) -> bool:
        """Whether decoder layers are compiled; that a compiler is there is taken for granted (`compiling.obstacle`)."""
        lora = self.recipe.lora
        cannot = self.recipe.model.quantization != "none" or (lora is not None and lora.use_dora)
        if cannot or self.attention == "flex_attention":
            return False
        setting = self.recipe.train.compile
        return self.architecture.text.hidden_size >= REAL_SIZE if setting == "auto" else setting

    @cached_property
    def lora_linears(self) -> list[Linear]:
        """The layers that LoRA is put on."""
        if self.recipe.lora is None:
            return []
        pattern = re.compile(lora_pattern(self.recipe.lora.targets))
        found = [linear for linear in self.architecture.linears if pattern.fullmatch(linear.name)]
        if not found:
            raise RecipeError(f"lora.targets: {pattern.pattern!r} matches no module of {self.recipe.model.base}")
        return found

    @cached_property
    def full_parts(self) -> tuple[str, ...]:
        """The parts trained in full."""
        default = () if self.recipe.lora else tuple(PARTS)
        return default if self.recipe.model.trainable is None else self.recipe.model.trainable

    @cached_property
    def trained(self) -> frozenset[str]:
        """Names of the linear layers that are trained, either way."""
        whole = {linear.name for linear in self.architecture.linears if part_of(linear.name) in self.full_parts}
        return frozenset(whole | {linear.name for linear in self.lora_linears})

    # --- parameters ---

    @cached_property
    def adapter_parameters(self) -> int:
        """LoRA's, and DoRA's magnitudes."""
        lora = self.recipe.lora
        if lora is None:
            return 0
        dora = 1 if lora.use_dora else 0
        return sum(lora.rank * (one.inputs + one.outputs) + dora * one.outputs for one in self.lora_linears)

    @cached_property
    def trained_parameters(self) -> int:
        """All that an optimiser step changes."""
        counts = self.architecture.parameters
        return self.adapter_parameters + sum(counts[part] for part in self.full_parts)

    @cached_property
    def frozen_parameters(self) -> int:
        """The others; beside LoRA, a part that is trained in full is a copy, and the original stays."""
        total = sum(self.architecture.parameters.values())
        return total - (0 if self.recipe.lora else self.trained_parameters)

    @cached_property
    def frozen_bytes(self) -> float:
        """Of the frozen weights, as they are stored."""
        quantised = {"none": 0.0, "int8": 1.0, "nf4": _NF4}[self.recipe.model.quantization]
        if not quantised:
            return float(self.frozen_parameters * self.base_bytes)
        inner = [one for one in self.architecture.linears if part_of(one.name) == "language_model"]
        weights = sum(one.weights for one in inner)
        scales = 4 * sum(one.outputs for one in inner) if quantised == 1.0 else 0
        return (self.frozen_parameters - weights) * self.base_bytes + weights * quantised + scales

    @cached_property
    def embedding_bytes(self) -> int:
        """Of an element of the embedding that computes: float32 where the language model is trained in full."""
        return 4 if "language_model" in self.full_parts else self.base_bytes

    # --- what is held all the time ---

    @cached_property
    def split(self) -> int:
        """Into how many shares the weights are cut."""
        return self.devices if self.sharded else 1

    @cached_property
    def weights(self) -> float:
        """Frozen and trained ones; trained ones are float32."""
        return (self.frozen_bytes + 4 * self.trained_parameters) / self.split

    @cached_property
    def gradients(self) -> float:
        """Float32; DDP has a second copy in its buckets, which stays."""
        return 4.0 * self.trained_parameters / self.split

    @cached_property
    def buckets(self) -> float:
        """DDP's."""
        return self.gradients if self.devices > 1 and not self.sharded else 0.0

    @cached_property
    def optimizer(self) -> float:
        """Adam's two averages."""
        each = 8.0 if self.recipe.train.optimizer == "adamw" else _ADAM_8BIT
        return each * self.trained_parameters / self.split

    @cached_property
    def gathered(self) -> float:
        """FSDP: the embedding, which stays gathered, and of the largest layer two, one of them fetched ahead."""
        if not self.sharded:
            return 0.0
        text = self.architecture.text
        largest = sum(one.weights for one in text.layers[0]) * self._layer_bytes
        return text.embedding * self.embedding_bytes + 2 * largest

    @property
    def _layer_bytes(self) -> float:
        if "language_model" in self.full_parts:
            return 4
        return {"none": float(self.base_bytes), "int8": 1.0, "nf4": _NF4}[self.recipe.model.quantization]
