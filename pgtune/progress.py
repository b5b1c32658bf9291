"""What a person sees while it works, on standard error: a live bar in a terminal, now and then a line elsewhere."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 15.0


def first_process() -> bool:
    """Whether this is the one that speaks, where several work together."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """A line for the person, never on standard output, which belongs to `--json`. Nobody need be there to read it."""
    if not first_process():
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:  # the reader has gone (`2>&1 | head`), and the work goes on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


class Progress:
    """Counts work done out of `total`, with the time left and the numbers given.

    Args:
        total: units of work; None where that is not known before the end.
        label: what is being done.
        done: units that were done earlier (after a resume).
        shown: False on all processes but the first.
    """

    def __init__(self, total: int | None, label: str, done: int = 0, shown: bool = True) -> None:
        self.total, self.label, self.done, self.start = total, label, done, done
        self.live = shown and sys.stderr.isatty()
        self.lines = shown and not self.live
        self.began = self.last_line = time.monotonic()
        self.bar = tqdm(
            total=total,
            initial=done,
            desc=label,
            disable=not self.live,
            file=sys.stderr,
            dynamic_ncols=True,
            leave=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def advance(self, count: int = 1, **numbers: float) -> None:
        """Count work done; `numbers` stand behind the bar."""
        self.done += count
        shown = {name: f"{value:.4g}" for name, value in numbers.items()}
        if self.live:
            self.bar.set_postfix(shown, refresh=False)
            self.bar.update(count)
        now = time.monotonic()
        if self.lines and (self.done == self.total or now - self.last_line >= SECONDS_BETWEEN_LINES):
            self.last_line = now
            out_of = "" if self.total is None else f"/{self.total}"
            parts = [f"{self.label} {self.done}{out_of}", *(f"{k} {v}" for k, v in shown.items())]
            if self.total is not None:
                left = (now - self.began) / max(1, self.done - self.start) * (self.total - self.done)
                parts.append(f"{left:.0f} s left" if left >= 1 else f"done in {now - self.began:.0f} s")
            say(", ".join(parts))
