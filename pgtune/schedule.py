"""Pure functions of the step: how many there are, which examples each sees, and at which learning rate.

What step t sees depends on (seed, t) and the effective batch alone, not on how many devices share it, nor on where a
run was interrupted.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np


def total_steps(examples: int, effective_batch: int, epochs: float, max_steps: int | None) -> int:
    """Optimiser steps of a run: `max_steps` where set, else round(epochs * examples / effective batch), at least 1."""
    if max_steps is not None:
        return max_steps
    return max(1, round(epochs * examples / effective_batch))


@functools.lru_cache(maxsize=2)  # a step reaches into two epochs at most, unless the data is smaller than a batch
def epoch_order(seed: int, epoch: int, examples: int) -> np.ndarray:
    """The permutation of 0..examples-1 in which an epoch is read."""
    order = np.random.default_rng([seed, epoch]).permutation(examples)
    order.flags.writeable = False
    return order


def step_visits(seed: int, step: int, examples: int, effective_batch: int) -> list[int]:
    """What one step sees, as visits: epoch x examples + index, so that an example is told apart from its next time.

    Epochs follow each other without a gap, so a batch may reach into the next one.
    """
    first = step * effective_batch
    places = (divmod(position, examples) for position in range(first, first + effective_batch))
    return [epoch * examples + int(epoch_order(seed, epoch, examples)[offset]) for epoch, offset in places]


def step_indices(seed: int, step: int, examples: int, effective_batch: int) -> list[int]:
    """The examples of one step."""
    return [visit % examples for visit in step_visits(seed, step, examples, effective_batch)]


def reference_index(seed: int, example: int, epoch: int, references: int) -> int:
    """Which of its references an example learns in an epoch: none a second time before all were learnt.

    Each round through them has an order of its own, as in big_vision's `choice_no_replacement` (`_shuffled_index`), but
    the count of visits is the epoch here, and nothing has to be remembered.
    """
    turn, place = divmod(epoch, references)
    order = np.random.default_rng([0xC7C, seed, example, turn]).permutation(references)
    return int(order[place])


def micro_batches(
    seed: int, steps: range, examples: int, batch_size: int, accumulation: int, rank: int = 0, ranks: int = 1
) -> Iterator[list[int]]:
    """The visits that one rank reads in batches, `accumulation` of them for each step."""
    effective = batch_size * accumulation * ranks
    for step in steps:
        indices = step_visits(seed, step, examples, effective)
        share = indices[rank * batch_size * accumulation : (rank + 1) * batch_size * accumulation]
        for start in range(0, len(share), batch_size):
            yield share[start : start + batch_size]


def learning_rate_factor(step: int, steps: int, schedule: str, warmup_ratio: float) -> float:
    """The factor on the peak rate at step 0..steps-1: from 0 linearly up in warm-up, then by `schedule` (big_vision).

    Step 0 has rate 0 where there is a warm-up. Without warm-up, and for a run of one step, it starts at the peak.
    """
    warmup = round(warmup_ratio * steps) if steps > 1 else 0
    if step < warmup:
        return step / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    if schedule == "constant":
        return 1.0
    return 1.0 - progress if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))


def dropout_seed(seed: int, step: int, micro_batch: int, rank: int) -> int:
    """Seed of torch's random numbers in one forward pass."""
    (state,) = np.random.SeedSequence([seed, step, micro_batch, rank]).generate_state(1, np.uint64)
    return int(state >> np.uint64(1))
