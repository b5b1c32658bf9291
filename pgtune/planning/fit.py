"""What may make a recipe fit, in the order of what it costs: overrides and devices to try. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pgtune.recipe import Recipe

__all__ = ["RECOMPUTE", "Kind", "decoding_batches", "levels", "train_batches"]

Kind = Literal["same", "lora", "devices"]
"""The same training on the devices that there are; LoRA on them in place of full fine-tuning; more of them."""

RECOMPUTE = "train.gradient_checkpointing"
MOST_DEVICES = 64


def levels(recipe: Recipe, devices: int, strategy: str, trained: int) -> Iterator[tuple[Kind, tuple[str, ...], int]]:
    """Changes beside the batch, and devices: of each kind the cheapest first.

    Args:
        recipe: with `train.gradient_checkpointing` decided.
        trained: parameters: an 8-bit optimiser pays where there are many.
    """
    now = recipe.train.gradient_checkpointing
    recompute: list[tuple[str, ...]] = [()]
    if not now:
        recompute.append((f"{RECOMPUTE}=2",))
    if now is not True:
        recompute.append((f"{RECOMPUTE}=true",))
    states: list[tuple[str, ...]] = [()]
    if recipe.train.optimizer == "adamw" and trained > 10**8:
        states.append(("train.optimizer=adamw_8bit",))
    for state in states:
        for again in recompute:
            yield "same", (*again, *state), devices
    if devices > 1 and strategy == "ddp":
        for again in recompute:
            yield "same", (*again, "train.strategy=fsdp"), devices
    if recipe.lora is not None and recipe.model.quantization == "none":
        for again in recompute:
            yield "same", (*again, "model.quantization=nf4"), devices
    if recipe.lora is None and recipe.model.trainable is None:
        rate = () if recipe.train.learning_rate == "auto" else ("train.learning_rate=auto",)
        for quantization in ((), ("model.quantization=nf4",)):
            for again in recompute:
                yield "lora", (*again, "lora.rank=16", *rate, *quantization), devices
    more = devices * 2 if devices > 1 else 2
    while more <= MOST_DEVICES:
        split = () if recipe.lora is None else ("train.strategy=fsdp",)
        for again in recompute:
            yield "devices", (*again, *split), more
        more *= 2


def train_batches(recipe: Recipe, times_devices: int = 1) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The same effective batch in smaller and smaller pieces: examples at once on a device, and the overrides.

    Args:
        times_devices: on so many times as many devices; nothing where they cannot share the batch evenly.
    """
    size, times = recipe.train.batch_size, recipe.train.gradient_accumulation_steps
    share, left = divmod(size * times, times_devices)
    for piece in range(size, 0, -1) if not left else ():
        if share % piece == 0:
            batch = (f"train.batch_size={piece}",) if piece != size else ()
            steps = share // piece
            yield piece, (*batch, *((f"train.gradient_accumulation_steps={steps}",) if steps != times else ()))


def decoding_batches(recipe: Recipe) -> Iterator[tuple[str, ...]]:
    """Decoding in smaller and smaller batches."""
    batch = recipe.eval.batch_size or 4 * recipe.train.batch_size
    yield ()
    while batch > 1:
        batch //= 2
        yield (f"eval.batch_size={batch}",)
