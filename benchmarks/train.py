"""Training side by side: each contestant a process of its own, in turn, several times over."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import operations, report
from benchmarks.base import config, write_base
from benchmarks.contestants.common import Job
from benchmarks.material import write_for_others, write_rows
from pgtune.collate import Collator
from pgtune.example import Example
from pgtune.processor import load_processor
from pgtune.schedule import step_indices

SKIPPED = 2
"""Steps before the ones that count: compilation, caches, memory that is asked for the first time."""
ROOT = Path(__file__).parent.parent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `python -m benchmarks train`."""
    parser.add_argument("--size", default="pg2-3b", help="pg1-3b, pg2-3b, pg2-10b or tiny-smoke")
    parser.add_argument("--resolution", type=int, nargs="+", default=[224])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6, help=f"the first {SKIPPED} are reported apart")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--quantization", choices=["none", "nf4"], default="none")
    parser.add_argument("--without", nargs="*", default=[], choices=["trainer", "pgtune"])
    parser.add_argument("--also", action="append", default=[], help="pgtune once more with KEY=VALUE[,KEY=VALUE]")
    parser.add_argument("--swift", metavar="PYTHON", help="the python of an environment with ms-swift")
    parser.add_argument("--unsloth", metavar="PYTHON", help="the python of an environment with Unsloth (CUDA)")


def run(arguments: argparse.Namespace) -> None:
    """For each resolution: train, print the table, write the record."""
    for resolution in arguments.resolution:
        record = measured(arguments, resolution)
        print(report.table(record), flush=True)
        device = "gpu" if "gpu" in record["hardware"] else "cpu"
        method = "qlora" if arguments.quantization == "nf4" else "lora"
        name = f"train-{device}-{arguments.size}-{method}-{resolution}-b{arguments.batch}"
        report.write(arguments.results / f"{name}.json", record)


def measured(arguments: argparse.Namespace, resolution: int) -> dict[str, Any]:
    """The record of one comparison."""
    base = write_base(arguments.size, resolution, arguments.work)
    data = arguments.work / "data"
    rows = write_rows(data, 64)
    seen = [step_indices(0, step, len(rows), arguments.batch) for step in range(arguments.steps)]
    write_for_others(data, [rows[index] for indices in seen for index in indices])
    job = {
        "base": str(base),
        "data": str(data),
        "adapter": str(arguments.work / f"adapter-{arguments.size}"),
        "steps": arguments.steps,
        "batch": arguments.batch,
        "learning_rate": arguments.learning_rate,
        "quantization": arguments.quantization,
    }
    rates = [matrix_rate()]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants(arguments)}
    for repeat in range(arguments.repeats):
        for name, (python, module, overrides) in contestants(arguments).items():
            if name not in runs:
                continue
            print(f"{arguments.size} {resolution}: {name}, {repeat + 1} of {arguments.repeats}", file=sys.stderr)
            folder = arguments.work / "runs" / name.replace(" ", "_").replace("/", "_")
            result = run_contestant(python, module, Job(**job, folder=str(folder), overrides=overrides))
            if result is None:
                del runs[name]
            else:
                runs[name].append(result)
    rates.append(matrix_rate())
    lengths = text_lengths(base, rows)
    counted = [lengths[index] for indices in seen[SKIPPED:] for index in indices]
    needed = operations.step(config(arguments.size, resolution), counted, rank=16)
    return report.record(
        {
            "size": arguments.size,
            "resolution": resolution,
            "batch": arguments.batch,
            "steps": arguments.steps,
            "skipped_steps": SKIPPED,
            "learning_rate": arguments.learning_rate,
            "method": "LoRA, rank 16, on the language model",
            "quantization": arguments.quantization,
            "prefix_tokens": sum(length.prefix for length in lengths) / len(lengths),
            "suffix_tokens": sum(length.suffix for length in lengths) / len(lengths),
            "out_of_memory": [name for name in contestants(arguments) if name not in runs],
            "weights_bytes": sum(file.stat().st_size for file in base.glob("*.safetensors")),
        },
        runs,
        {name: value / len(seen[SKIPPED:]) for name, value in {**needed._asdict(), "total": needed.total}.items()},
        max(rates),
    )


def contestants(arguments: argparse.Namespace) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """Name -> python, module and overrides, in the order in which they run."""
    found: dict[str, tuple[str, str, tuple[str, ...]]] = {}
    if "trainer" not in arguments.without:
        found["trainer"] = (sys.executable, "trainer", ())
    if "pgtune" not in arguments.without:
        found["pgtune"] = (sys.executable, "ours", ())
    for keys in arguments.also:
        found[f"pgtune {keys}"] = (sys.executable, "ours", tuple(keys.split(",")))
    if arguments.swift:
        found["ms-swift"] = (arguments.swift, "swift", ())
    if arguments.unsloth:
        found["unsloth"] = (arguments.unsloth, "unsloth", ())
    return found


def run_contestant(python: str, module: str, job: Job) -> dict[str, Any] | None:
    """What its process measured; None where it ran out of memory."""
    folder = Path(job.folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    file = folder / "job.json"
    file.write_text(json.dumps(asdict(job)), encoding="utf-8")
    with open(folder / "output.txt", "w", encoding="utf-8") as output:
        command = [python, "-m", f"benchmarks.contestants.{module}", str(file)]
        done = subprocess.run(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        said = (folder / "output.txt").read_text(encoding="utf-8")
        if "out of memory" in said.lower():
            return None
        raise SystemExit(f"{module} ended with {done.returncode}; the end of what it said:\n{said[-3000:]}")
    result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return result


def matrix_rate() -> float:
    """Measured in a process of its own, so that nothing of it stays on the device."""
    code = "from benchmarks.measure import matrix_rate; print(matrix_rate())"
    return float(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True).stdout)


def text_lengths(base: Path, rows: list[dict[str, Any]]) -> list[operations.Lengths]:
    """Tokens of each row's text."""
    collator = Collator(load_processor(str(base)))
    found = []
    for row in rows:
        layout = collator.layout(Example(row["image"], prefix=row["prefix"], suffix=row["suffix"]))
        assert layout is not None
        prefix = layout.prefix_length - layout.image_tokens
        found.append(operations.Lengths(prefix, len(layout.input_ids) - layout.prefix_length))
    return found
