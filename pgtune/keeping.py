"""Which steps of a running training are kept: checkpoints as the recipe asks, and the steps that an end would cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pgtune import checkpoint
from pgtune.errors import TrainingError
from pgtune.job import Job
from pgtune.ranks import everywhere, gathered
from pgtune.sharding import local

__all__ = ["Keeper"]


class Keeper:
    """Writes the checkpoints of a run, each step once. Every process calls it; what is on disk is the first one's.

    Args:
        trained: the parameters that are trained, by name.
        done: steps done when the run went on.
    """

    def __init__(self, job: Job, trained: dict[str, Any], optimizer: torch.optim.Optimizer, done: int) -> None:
        self.job, self.trained, self.optimizer = job, trained, optimizer
        self.newest = done
        """Steps that the newest checkpoint holds; 0 for none."""

    def save(self, step: int) -> None:
        """The checkpoint after `step` steps, unless it is there already."""
        if step == self.newest:
            return
        self.check(step)
        folder, main = self.job.folder, self.job.main
        if main:
            folder.sync_logs()
        target = checkpoint.step_folder(folder.checkpoints, step)
        checkpoint.save(target, step, self.trained, self.optimizer, folder.identity(), main=main)
        if main:
            checkpoint.prune(folder.checkpoints, self.job.recipe.train.keep_checkpoints)
        self.job.accelerator.wait_for_everyone()  # or one that leaves would have the others ended while they write
        self.newest = step

    def check(self, step: int) -> None:
        """That the weights are whole: a step whose loss was finite may still have broken them.

        Raises:
            TrainingError: they are not; names one.
        """
        if name := self.broken():
            raise everywhere(TrainingError(
                f"step {step}: {name} is no longer finite; nothing of it was kept. What helps: a smaller "
                "train.learning_rate or train.weight_decay, a larger train.epsilon"
            ))  # fmt: skip

    def broken(self) -> str | None:
        """A parameter that is no longer finite, in whichever process."""
        found = (name for name, value in self.trained.items() if not bool(torch.isfinite(local(value)).all()))
        return next((name for name in gathered([next(found, None)]) if name), None)

    def rescue(self, step: int) -> str:
        """Keep `step` steps where their weights are whole; what is kept, for a message."""
        if self.broken() is None:
            self.save(step)
        return f"step {self.newest} is kept" if self.newest else "no step is kept"

    @contextmanager
    def on_end_by(self, step: int, *kinds: type[BaseException]) -> Iterator[None]:
        """Around what only reads: ended by one of `kinds`, the steps before it are kept.

        One of several processes may meet it alone, and cannot wait there for the others: then the checkpoint before
        remains.
        """
        try:
            yield
        except kinds as error:
            if self.job.accelerator.num_processes == 1 or getattr(error, "on_all_ranks", False):
                self.rescue(step)
            raise
