"""What the frozen vision tower costs of a step: the most that keeping its features could ever save."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch

from benchmarks import measure, report
from benchmarks.base import write_base
from pgtune.model import load_base
from pgtune.settings import ModelSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `python -m benchmarks tower`."""
    parser.add_argument("--size", default="pg2-3b")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)


def run(arguments: argparse.Namespace) -> None:
    """Time the tower and the projector on a batch; set it against the step of the train record, where there is one."""
    base = write_base(arguments.size, arguments.resolution, arguments.work)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded = load_base(ModelSettings(base=str(base)), full=False, device=device)
    seconds = tower_seconds(loaded.paligemma.model, arguments)
    text = loaded.paligemma.config.get_text_config()
    tokens = (arguments.resolution // 14) ** 2
    step = _step_seconds(arguments)
    record = {
        "settings": {"size": arguments.size, "resolution": arguments.resolution, "batch": arguments.batch},
        "hardware": measure.hardware(),
        "versions": measure.versions(),
        "tower_seconds": seconds,
        "step_seconds": step,
        "share_of_step": seconds / step if step else None,
        "bytes_of_features_per_picture": tokens * text.hidden_size * 2,
    }
    share = f", {seconds / step:.1%} of pgtune's step of {step:.3g} s" if step else ""
    megabytes = record["bytes_of_features_per_picture"] / 1e6
    print(f"tower and projector, batch {arguments.batch}: {seconds:.3g} s{share}; features {megabytes:.2g} MB each")
    report.write(arguments.results / f"tower-{device.type}-{arguments.size}-{arguments.resolution}.json", record)


@torch.no_grad()
def tower_seconds(model: Any, arguments: argparse.Namespace) -> float:
    """The median of some passes, after one that does not count."""
    weight = model.vision_tower.embeddings.patch_embedding.weight
    pixels = torch.rand(arguments.batch, 3, arguments.resolution, arguments.resolution, device=weight.device) * 2 - 1
    times = []
    for _ in range(arguments.repeats + 1):
        began = time.perf_counter()
        model.get_image_features(pixels.to(weight.dtype))
        if weight.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return measure.median(times[1:])


def _step_seconds(arguments: argparse.Namespace) -> float | None:
    device = "gpu" if torch.cuda.is_available() else "cpu"
    name = f"train-{device}-{arguments.size}-lora-{arguments.resolution}-b{arguments.batch}.json"
    if not (arguments.results / name).is_file():
        return None
    record = json.loads((arguments.results / name).read_text(encoding="utf-8"))
    return float(record["contestants"]["pgtune"]["step_seconds"])
