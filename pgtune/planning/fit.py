"""What may make a recipe fit, in the order of what it costs: overrides and devices to try. No torch."""

from __future__ import annotations

from collections.abc import Iterator

from pgtune.recipe import Recipe

__all__ = ["RECOMPUTE", "levels", "smaller_batches"]

RECOMPUTE = "train.gradient_checkpointing"


def levels(recipe: Recipe, devices: int, strategy: str, trained: int) -> Iterator[tuple[tuple[str, ...], int]]:
    """Changes beside the batch, and devices, the cheapest first.

    Args:
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
    sharing: list[tuple[str, ...]] = [()]
    if devices > 1 and strategy == "ddp":
        sharing.append(("train.strategy=fsdp",))
    for state in states:
        for again in recompute:
            yield (*again, *state), devices
    for shared in sharing[1:]:
        for again in recompute:
            yield (*again, *shared), devices
    if recipe.lora is not None and recipe.model.quantization == "none":
        for again in recompute:
            yield (*again, "model.quantization=nf4"), devices
    more = devices * 2 if devices > 1 else 2
    while more <= 64:
        split = () if recipe.lora is None else ("train.strategy=fsdp",)
        for again in recompute:
            yield (*again, *split), more
        more *= 2
    if recipe.lora is None and recipe.model.trainable is None:
        for quantization in ((), ("model.quantization=nf4",)):
            for again in recompute:
                yield (*again, "lora.rank=16", "train.learning_rate=1e-4", *quantization), devices


def smaller_batches(recipe: Recipe) -> Iterator[tuple[str, ...]]:
    """The same effective batch in smaller pieces; decoding in smaller batches too."""
    size, times = recipe.train.batch_size, recipe.train.gradient_accumulation_steps
    decoded = recipe.eval.batch_size or 4 * size
    yield ()
    smaller = decoded
    while smaller > 1:  # decoding alone: the training stays as it is
        smaller = max(1, smaller // 2)
        yield (f"eval.batch_size={smaller}",)
    pieces = [piece for piece in range(size - 1, 0, -1) if size % piece == 0]
    for piece in pieces:
        batch = (f"train.batch_size={piece}", f"train.gradient_accumulation_steps={times * size // piece}")
        yield (*batch, *([f"eval.batch_size={min(decoded, 4 * piece)}"] if recipe.eval.batch_size else []))
    if pieces:
        last = (f"train.batch_size={pieces[-1]}", f"train.gradient_accumulation_steps={times * size}")
        for few in (2, 1):
            yield (*last, f"eval.batch_size={few}")
