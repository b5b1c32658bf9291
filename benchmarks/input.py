"""Pictures: how many a second one worker opens, resizes and normalises, beside what the device takes in training."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks import measure, report
from benchmarks.base import write_processor
from benchmarks.material import photo
from pgtune.collate import Collator
from pgtune.example import Example
from pgtune.processor import load_processor

KINDS = {
    "JPEG 640 x 480": (640, 480, "jpg"),  # COCO and what is made from it
    "JPEG 1600 x 1200": (1600, 1200, "jpg"),
    "JPEG 4032 x 3024": (4032, 3024, "jpg"),  # as a phone takes them
    "PNG 1000 x 700": (1000, 700, "png"),  # charts, pages
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `python -m benchmarks input`."""
    parser.add_argument("--resolution", type=int, nargs="+", default=[224, 448, 896])
    parser.add_argument("--seconds", type=float, default=1.5, help="how long each is measured")


def run(arguments: argparse.Namespace) -> None:
    """Measure each kind of picture at each resolution with one thread, as a worker of a DataLoader has."""
    torch.set_num_threads(1)
    rates: dict[str, dict[str, float]] = {}
    for kind, (width, height, suffix) in KINDS.items():
        files = _files(arguments.work / "pictures", width, height, suffix)
        rates[kind] = {}
        for resolution in arguments.resolution:
            folder = arguments.work / f"processor-{resolution}"
            folder.mkdir(parents=True, exist_ok=True)
            write_processor(folder, resolution)
            rates[kind][str(resolution)] = rate(Collator(load_processor(str(folder))), files, arguments.seconds)
    record = {
        "hardware": measure.hardware(),
        "versions": measure.versions(),
        "images_per_second_of_one_worker": rates,
        "device_takes": device_takes(arguments.results),
    }
    print(table(record), flush=True)
    report.write(arguments.results / "input.json", record)


def rate(collator: Collator, files: list[Path], seconds: float) -> float:
    """Pictures a second through the collator, in batches of two; the median of three."""

    def once(duration: float) -> float:
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < duration:
            pair = [files[(done + place) % len(files)] for place in range(2)]
            collator([Example(str(file), prefix="caption en", suffix="a photo") for file in pair])
            done += 2
        return done / (time.perf_counter() - began)

    once(seconds / 5)
    return measure.median(once(seconds / 3) for _ in range(3))


def _files(folder: Path, width: int, height: int, suffix: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{width}x{height}-{number}.{suffix}" for number in range(4)]
    for number, file in enumerate(files):
        if not file.is_file():
            picture = photo(width, height, number)
            if suffix == "png":  # few colours, as drawn pictures have
                picture = picture.quantize(16, dither=Image.Dither.NONE).convert("RGB")
            picture.save(file, quality=90)  # which PNG passes over
    return files


def device_takes(results: Path) -> dict[str, float]:
    """Examples a second that pgtune trained on, from the records of `train` that are there."""
    found = {}
    for file in sorted(results.glob("train-*.json")):
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        for name, one in record["contestants"].items():
            if name == "pgtune":
                machine = record["hardware"].get("gpu", "CPU")
                found[f"{file.stem}, {machine}"] = one["examples_per_second"]
    return found


def table(record: dict[str, Any]) -> str:
    """The record for a person, as Markdown."""
    rates: dict[str, dict[str, float]] = record["images_per_second_of_one_worker"]
    resolutions = list(next(iter(rates.values())))
    lines = ["| images/s of one worker | " + " | ".join(f"{size} px" for size in resolutions) + " |"]
    lines.append("|---|" + "---|" * len(resolutions))
    for kind, by_size in rates.items():
        lines.append(f"| {kind} | " + " | ".join(f"{by_size[size]:.3g}" for size in resolutions) + " |")
    lines += [""] + [f"the device takes {rate:.3g} a second: {name}" for name, rate in record["device_takes"].items()]
    return "\n".join(lines)
