"""pgtune, on a recipe as a user writes it: every key that is not named has its default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft  # noqa: F401  # imported first, so that what libraries take is there before anything is measured
import yaml
from transformers import PaliGemmaForConditionalGeneration  # noqa: F401

import pgtune
import pgtune.training
from benchmarks.contestants.common import Job, Measured, run


def recipe(job: Job) -> dict[str, Any]:
    """What the recipe says: the base, the data, and the numbers that all contestants share."""
    return {
        "model": {"base": job.base, **({"quantization": job.quantization} if job.quantization != "none" else {})},
        "lora": {"rank": job.rank, "alpha": job.alpha},
        "data": {"train": str(Path(job.data) / "rows.jsonl")},
        "train": {
            "max_steps": job.steps,
            "batch_size": job.batch,
            "learning_rate": job.learning_rate,
            "schedule": "constant",
            "warmup_ratio": 0.0,
            "loss_reduction": "token",
            "save_steps": None,
        },
        "output_dir": str(Path(job.folder) / "run"),
        "seed": job.seed,
    }


def train(job: Job) -> Measured:
    """One training; the run folder is begun when the model is loaded, and the log ends with the last step."""
    file = Path(job.folder) / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe(job)), encoding="utf-8")
    pgtune.train(pgtune.load_recipe(file, list(job.overrides)), overwrite=True)
    folder = Path(job.folder) / "run"
    log = folder / "log.jsonl"
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    losses, seconds = [row["loss"] for row in rows], [row["seconds"] for row in rows]
    return Measured(losses, seconds, (folder / "recipe.yaml").stat().st_mtime, log.stat().st_mtime)


if __name__ == "__main__":
    run(train)
