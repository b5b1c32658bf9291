"""What every contestant is told, and what it hands back."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Watch, versions

LANGUAGE_MODEL = r".*language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
"""The linear layers that LoRA adapts."""


@dataclass(frozen=True)
class Job:
    """One training: all figures that change what is learnt."""

    base: str
    data: str
    """Folder with rows.jsonl, ordered.jsonl and chats.jsonl."""
    folder: str
    """Where the contestant may write."""
    adapter: str
    """LoRA's initial weights: written by the first plain contestant, read by the others that can."""
    steps: int
    batch: int
    learning_rate: float
    rank: int = 16
    alpha: float = 32.0
    seed: int = 0
    quantization: str = "none"
    overrides: tuple[str, ...] = ()
    """Recipe keys for pgtune, KEY=VALUE."""


@dataclass
class Measured:
    """What a training showed. Seconds per step hold everything between two steps' ends, also reading the data."""

    losses: list[float]
    seconds: list[float]
    loaded_at: float
    """When the model was loaded, in seconds since the epoch."""
    trained_at: float
    """When the last step ended, likewise."""


def run(contestant: Callable[[Job], Measured]) -> None:
    """Read the job that the command line names, run it, write `result.json` into its folder."""
    began = time.time()
    content: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    job = Job(**{**content, "overrides": tuple(content["overrides"])})
    with Watch() as watch:
        measured = contestant(job)
    result = asdict(measured) | {
        "memory": watch.figures(measured.loaded_at),
        "seconds_to_loaded": measured.loaded_at - began,
        "seconds_to_trained": measured.trained_at - began,
        "seconds_in_all": time.time() - began,
        "versions": versions(),
    }
    (Path(job.folder) / "result.json").write_text(json.dumps(result), encoding="utf-8")


class StepClock:
    """Times between the ends of steps, for a Trainer's callback."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = 0.0

    def start(self) -> None:
        """Training begins."""
        self._last = time.perf_counter()

    def tick(self) -> None:
        """A step has ended; on a GPU, once all of it is done."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now
