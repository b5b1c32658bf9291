"""`pgtune plan`: what a recipe will need, before anything is loaded; what would make it fit; how much there is to do.

All of it is arithmetic on the recipe and the base's sizes (`memory`, `architecture`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pgtune.architecture import Architecture, Linear, architecture_of, part_of
from pgtune.errors import PgtuneError, RecipeError
from pgtune.planning.data import Workload, workload
from pgtune.planning.fit import RECOMPUTE, Kind, decoding_batches, levels, train_batches
from pgtune.planning.memory import Device, Memory, Phase
from pgtune.recipe import Recipe, load_recipe
from pgtune.schedule import total_steps
from pgtune.strategies import Strategy, strategy_of

__all__ = [
    "RESERVE",
    "Change",
    "Plan",
    "bytes_of",
    "choose_checkpointing",
    "first_gpu",
    "operations",
    "plan",
    "what_helps",
]

RESERVE = {"gpu": 1.0e9, "cpu": 0.0}
"""Kept free on a GPU: its context, libraries, and the holes in the caching allocator."""

_SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", re.IGNORECASE)


def bytes_of(text: str) -> int:
    """Bytes of "24GB", "80 GiB", "8000M".

    Raises:
        RecipeError: no size, or none above zero.
    """
    match = _SIZE.fullmatch(text.strip())
    size = float(match[1]) * _SUFFIXES[(match[2] or "").lower()] if match else 0.0
    if not 10**6 <= size < 10**18:
        raise RecipeError(f"--memory: expected a size such as 24GB or 80GiB, not {text[:40]!r}")
    return round(size)


@dataclass(frozen=True)
class Change:
    """Overrides that make the recipe fit, and on how many devices."""

    overrides: tuple[str, ...]
    devices: int
    total: float

    @property
    def words(self) -> str:
        """As they are typed."""
        return " ".join([*self.overrides, *([f"--devices {self.devices}"] if self.devices > 1 else [])])


@dataclass(frozen=True)
class Plan:
    """What a recipe will need on each of `devices` devices."""

    recipe: Recipe
    memory: Memory
    available: int | None
    """Bytes of one device; None: not asked."""
    strategy: Strategy
    changes: tuple[Change, ...] = ()
    """What would make it fit, the cheapest first; empty where it fits, and where nothing does."""

    @cached_property
    def phases(self) -> list[Phase]:
        """In their order in a run."""
        return self.memory.phases()

    @property
    def peak(self) -> Phase:
        """The dearest one."""
        return max(self.phases, key=lambda phase: phase.total)

    @property
    def reserve(self) -> float:
        """Beside what is counted."""
        return RESERVE[self.memory.device]

    @property
    def fits(self) -> bool | None:
        """Whether the peak and the reserve are within what there is; None where that is not known."""
        return None if self.available is None else self.peak.total + self.reserve <= self.available

    @property
    def trains(self) -> bool | None:
        """Whether the steps fit, decoding aside."""
        steps = max(phase.total for phase in self.memory.training())
        return None if self.available is None else steps + self.reserve <= self.available

    @property
    def tight(self) -> bool:
        """Whether it fits with less than a tenth of the memory to spare."""
        return bool(self.fits) and self.peak.total + self.reserve > 0.9 * (self.available or 0)

    @property
    def effective_batch(self) -> int:
        """Examples in a step."""
        train = self.recipe.train
        return train.batch_size * train.gradient_accumulation_steps * self.memory.devices

    @property
    def steps(self) -> int | None:
        """Optimiser steps; None where they depend on data that is not there, or was not read to its end."""
        found, train = self.memory.workload, self.recipe.train
        if train.max_steps is None and (found.examples is None or not found.complete):
            return None
        return total_steps(found.examples or 0, self.effective_batch, train.epochs, train.max_steps)

    @property
    def tokens_per_step(self) -> float:
        """Tokens that a step reads, padding aside."""
        found, vision = self.memory.workload, self.memory.architecture.vision
        return self.effective_batch * (found.images * vision.tokens + found.mean_text)

    @property
    def operations_per_step(self) -> float:
        """Necessary floating point operations of a step: nothing computed twice, logits of learnt positions alone."""
        return self.effective_batch * operations(self.memory)


def operations(memory: Memory) -> float:
    """Necessary floating point operations for one example: forward, and backward as far as a gradient is needed."""
    shape, found = memory.architecture, memory.workload
    vision, text = shape.vision, shape.text
    image = found.images * vision.tokens
    length = image + found.mean_text

    def layer(linears: Sequence[Linear], tokens: float, attention: float, flows: bool) -> float:
        forward = 2 * tokens * sum(one.weights for one in linears) + attention
        total = forward
        if flows:  # the gradient of the input costs what the layer does, of its attention twice
            total += forward + attention
        for one in linears:
            if one.name in memory.trained and part_of(one.name) in memory.full_parts:
                total += 2 * tokens * one.weights
            elif one.name in memory.trained and memory.recipe.lora is not None:
                total += 6 * tokens * memory.recipe.lora.rank * (one.inputs + one.outputs)
        return total

    flows = "vision_tower" in memory.full_parts
    total = 2.0 * image * vision.num_channels * vision.patch_size**2 * vision.hidden_size * (2 if flows else 1)
    seen = 4.0 * image * vision.tokens * vision.hidden_size
    for index in range(vision.num_hidden_layers):
        linears = vision.layers[index]
        flows = flows or any(one.name in memory.trained for one in linears)
        total += layer(linears, image, seen, flows)
    flows = flows or shape.projector.name in memory.trained
    total += layer([shape.projector], image, 0.0, flows)
    flows = flows or "language_model" in memory.full_parts
    for index in range(text.num_hidden_layers):
        linears = text.layers[index]
        flows = flows or any(one.name in memory.trained for one in linears)
        total += layer(linears, length, 4.0 * length * length * text.queries, flows)
    head = 2.0 * found.mean_suffix * text.embedding
    return total + head * (3 if "language_model" in memory.full_parts else 2)


def plan(
    recipe: Recipe,
    memory: int | None = None,
    devices: int = 1,
    *,
    device: Device = "gpu",
    bfloat16: bool = True,
    seen: Workload | None = None,
) -> Plan:
    """What a recipe will need, and where it does not fit what would.

    Args:
        memory: bytes of one device; None: no verdict.
        device: gpu counts what torch allocates on one; cpu how much the process grows.
        bfloat16: whether the device computes in it (V100 and T4 do not).
        seen: the data, where it was looked at already.

    Raises:
        ModelError, HubError: the base's sizes are not to be had.
        RecipeError: a strategy that cannot be.
    """
    shape = architecture_of(recipe.model.base, recipe.model.revision)
    found = workload(recipe) if seen is None else seen
    made = _planned(recipe, shape, found, memory, devices, device, bfloat16)
    if made.fits is not False:
        return made
    changes = tuple(_fitting(made, bfloat16))
    return Plan(recipe, made.memory, memory, made.strategy, changes)


def _planned(
    recipe: Recipe,
    shape: Architecture,
    found: Workload,
    available: int | None,
    devices: int,
    device: Device,
    bfloat16: bool,
) -> Plan:
    strategy = strategy_of(
        recipe.train.strategy,
        full=recipe.lora is None,
        ranks=devices,
        quantization=recipe.model.quantization,
        optimizer=recipe.train.optimizer,
    )
    memory = Memory(recipe, shape, found, device, devices, strategy == "fsdp", bfloat16)
    room = None if available is None else available - RESERVE[device]
    return Plan(recipe, memory.decided(room), available, strategy)


_ENOUGH = 2
"""So many ways of the same training on the same devices are shown; where there is none, one of each other kind."""


def _fitting(made: Plan, bfloat16: bool) -> Iterator[Change]:
    """Ways to make it fit, the cheapest first; of a kind, each dearer one allows larger batches than that before it."""
    decided = made.memory.recipe  # said outright: with another batch `auto` might decide otherwise
    document = decided.model_dump(mode="json")
    auto, again = made.recipe.train.gradient_checkpointing == "auto", decided.train.gradient_checkpointing
    said = (f"{RECOMPUTE}={json.dumps(again)}",) if auto and again else ()
    now = made.memory.devices
    sizes: dict[Kind, list[int]] = {"same": [], "lora": [], "devices": []}
    for kind, others, devices in levels(decided, now, made.strategy, made.memory.trained_parameters):
        if len(sizes[kind]) == (_ENOUGH if kind == "same" else 1) or (kind != "same" and sizes["same"]):
            continue
        others = others if any(one.startswith(RECOMPUTE) for one in others) else (*said, *others)
        for size, batches in train_batches(decided, devices // now):
            if size <= max(sizes[kind], default=0):  # dearer, and no larger
                break
            change = _with_decoding(made, document, (*batches, *others), devices, bfloat16)
            if change is not None:
                yield change
                sizes[kind].append(size)
                break


def _with_decoding(
    made: Plan, document: dict[str, Any], overrides: tuple[str, ...], devices: int, bfloat16: bool
) -> Change | None:
    """The overrides, and the largest batch to decode in with which they fit; None where they do not."""

    def tried(*more: str) -> Plan:
        recipe, memory = load_recipe(document, (*overrides, *more)), made.memory
        return _planned(
            recipe, memory.architecture, memory.workload, made.available, devices, memory.device, bfloat16
        )

    try:
        first = tried()
        if not first.trains:
            return None
        for decoding in decoding_batches(first.recipe):
            found = tried(*decoding)
            if found.fits:
                return Change((*overrides, *decoding), devices, found.peak.total)
    except RecipeError:  # a combination that cannot be
        pass
    return None


def first_gpu() -> tuple[int, bool] | None:
    """Memory of this machine's first GPU and whether it has bfloat16; None where there is none."""
    if not Path("/proc/driver/nvidia").exists() and not Path("/dev/dxg").exists():
        return None  # torch need not be imported
    import torch

    if not torch.cuda.is_available():
        return None
    from pgtune.model import has_bfloat16

    return int(torch.cuda.get_device_properties(0).total_memory), has_bfloat16()


def choose_checkpointing(recipe: Recipe, devices: int = 1) -> tuple[bool | int, str]:
    """What `train.gradient_checkpointing` is on this machine, and what to say of it where `auto` computes again."""
    setting = recipe.train.gradient_checkpointing
    if setting != "auto":
        return setting, ""
    gpu = first_gpu()
    if gpu is None:
        return False, ""
    memory, bfloat16 = gpu
    try:
        shape, found = architecture_of(recipe.model.base, recipe.model.revision), workload(recipe)
    except PgtuneError:  # a base whose sizes cannot be read
        return False, ""
    without = _planned(recipe, shape, found, None, devices, "gpu", bfloat16)
    made = _planned(recipe, shape, found, memory, devices, "gpu", bfloat16)
    if not made.memory.recompute:
        return False, ""
    dearest = max(phase.total for phase in without.memory.training())
    every = made.memory.recompute
    which = "every layer" if every == 1 else f"every {every}nd layer"
    why = f"{which} is computed again (train.gradient_checkpointing: auto): {dearest / 1e9:.1f} GB are planned without"
    return every == 1 or every, f"{why}, of {memory / 1e9:.1f} GB"


def what_helps(recipe: Recipe, devices: int = 1) -> str:
    """For a run that is out of memory: what the plan asks for, and which changes would do, in a sentence or two."""
    gpu = first_gpu()
    memory, bfloat16 = gpu or (os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), True)
    kind: Device = "gpu" if gpu else "cpu"
    try:
        made = plan(recipe, memory, devices, device=kind, bfloat16=bfloat16)
        shown = made
        if made.fits:  # something else has a part of the memory, or the plan is short: by a fifth less then
            less = round(0.8 * (made.peak.total + made.reserve))
            shown = plan(recipe, less, devices, device=kind, bfloat16=bfloat16, seen=made.memory.workload)
    except PgtuneError:  # a base whose sizes cannot be read: the way out matters more than the figures
        return "a smaller train.batch_size, train.gradient_checkpointing=true, or model.quantization=nf4 with LoRA"
    asked = f"planned were {made.peak.total / 1e9:.1f} GB ({made.peak.name}) of {memory / 1e9:.1f} GB"
    ways = "; or ".join(change.words for change in shown.changes) or "a smaller base, or a larger device"
    return f"{ways} ({asked}; see pgtune plan)"
