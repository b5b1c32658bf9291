"""`pgtune plan` against what a run then takes: the planned peak beside the measured growth."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import Any

from benchmarks import measure, report
from benchmarks.base import write_base
from benchmarks.contestants.common import Job
from benchmarks.contestants.ours import recipe
from benchmarks.material import write_rows
from benchmarks.train import run_contestant
from pgtune.planning import plan
from pgtune.recipe import load_recipe

SETTINGS = ("train.batch_size=1", "train.batch_size=4", "train.batch_size=4,train.gradient_checkpointing=true")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `python -m benchmarks plan`."""
    parser.add_argument("--size", default="pg2-3b")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--settings", nargs="+", default=SETTINGS, help="each KEY=VALUE[,KEY=VALUE]")


def run(arguments: argparse.Namespace) -> None:
    """Plan and train for some steps, with each of the settings."""
    base = write_base(arguments.size, arguments.resolution, arguments.work)
    data = arguments.work / "data"
    write_rows(data, 64)
    job = Job(
        base=str(base),
        data=str(data),
        folder=str(arguments.work / "runs" / "plan"),
        adapter="",
        steps=arguments.steps,
        batch=2,
        learning_rate=1e-3,
    )
    rows: dict[str, dict[str, Any]] = {}
    for keys in arguments.settings:
        print(f"{arguments.size} {arguments.resolution}: {keys}", file=sys.stderr)
        rows[keys] = compared(replace(job, overrides=tuple(keys.split(","))))
    record = {
        "settings": {"size": arguments.size, "resolution": arguments.resolution, "steps": arguments.steps},
        "hardware": measure.hardware(),
        "versions": measure.versions(),
        "compared": rows,
    }
    print(table(record), flush=True)
    kind = "gpu" if "gpu" in record["hardware"] else "cpu"
    report.write(arguments.results / f"plan-{kind}-{arguments.size}-{arguments.resolution}.json", record)


def compared(job: Job) -> dict[str, Any]:
    """Bytes planned and measured. On a CPU: by how much the process has grown since its libraries were imported."""
    result = run_contestant(sys.executable, "ours", job)
    if result is None:
        raise SystemExit(f"{', '.join(job.overrides)}: out of memory")
    memory = result["memory"]
    on_gpu = "gpu_peak_allocated" in memory
    measured = memory["gpu_peak_allocated"] if on_gpu else memory["peak"] - memory["before"]
    planned = plan(load_recipe(recipe(job), job.overrides), device="gpu" if on_gpu else "cpu").peak
    return {
        "planned": planned.total,
        "phase": planned.name,
        "measured": measured,
        "ratio": planned.total / measured,
        "memory": memory,
    }


def table(record: dict[str, Any]) -> str:
    """The record for a person, as Markdown."""
    lines = ["| setting | planned GB | measured GB | planned / measured |", "|---|---|---|---|"]
    for keys, one in record["compared"].items():
        figures = f"{one['planned'] / 1e9:.2f} | {one['measured'] / 1e9:.2f} | {one['ratio']:.2f}"
        lines.append(f"| {keys.replace(',', ' ')} | {figures} |")
    return "\n".join(lines)
