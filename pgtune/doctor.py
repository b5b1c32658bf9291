"""`pgtune doctor`: versions, devices, and whether this installation computes what it should."""

from __future__ import annotations

import platform
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from pgtune.loading import device_for_use
from pgtune.selftests import GENERATIONS, SELF_TESTS, Bench, write_random_base

PACKAGES = (
    "pgtune",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "safetensors",
    "pillow",
    "wandb",
    "tensorboard",
)


def installed(package: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def devices() -> list[dict[str, Any]]:
    """The devices that torch sees; memory in bytes."""
    found: list[dict[str, Any]] = [{"name": "cpu", "threads": torch.get_num_threads()}]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(
            {
                "name": f"cuda:{index}",
                "model": properties.name,
                "memory": properties.total_memory,
                "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
            }
        )
    return found


def doctor() -> dict[str, Any]:
    """versions, devices and self_tests, each of them with name, generation, passed, detail and seconds."""
    device = device_for_use()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for generation in GENERATIONS:
            bench = Bench(generation, write_random_base(Path(folder, generation), generation), device)
            for test in SELF_TESTS:
                began = time.monotonic()
                try:
                    passed, detail = True, test(bench)
                except Exception as error:  # a self-test's failure, of whatever kind, is what is asked for
                    passed, detail = False, f"{type(error).__name__}: {error}"
                results.append(
                    {
                        "name": test.__name__.replace("_", " "),
                        "generation": generation,
                        "passed": passed,
                        "detail": detail,
                        "seconds": time.monotonic() - began,
                    }
                )
    return {
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in PACKAGES}},
        "devices": devices(),
        "self_tests": results,
    }
