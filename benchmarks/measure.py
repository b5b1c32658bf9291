"""What is measured with: memory, the machine, versions, the rate of matrix products. Nothing of pgtune.

Read by the other contestants' environments too, so only torch is imported, and only where it is needed.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, Self

PACKAGES = ("pgtune", "torch", "transformers", "peft", "accelerate", "bitsandbytes", "ms-swift", "unsloth", "pillow")


def status(key: str) -> int:
    """A figure of this process in bytes: VmHWM is the peak of what is resident, RssAnon what is in no file."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


class Sample(NamedTuple):
    """Memory at one moment."""

    time: float
    resident: int
    anonymous: int


class Watch:
    """Samples this process's memory twenty times a second, to tell the peak of loading from that of training."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.before = status("VmRSS")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            self.samples.append(Sample(time.time(), status("VmRSS"), status("RssAnon")))

    def figures(self, loaded_at: float) -> dict[str, int]:
        """Bytes before all, with the libraries imported, and peaks; `loaded_at`: when the model was loaded."""
        loading = [sample for sample in self.samples if sample.time <= loaded_at]
        found = {
            "before": self.before,
            "peak": status("VmHWM"),
            "peak_loading": max((sample.resident for sample in loading), default=0),
            "peak_anonymous": max(sample.anonymous for sample in self.samples),
        }
        return found | _on_gpu()


def _on_gpu() -> dict[str, int]:
    import torch

    if not torch.cuda.is_available():
        return {}
    return {
        "gpu_peak_allocated": torch.cuda.max_memory_allocated(),
        "gpu_peak_reserved": torch.cuda.max_memory_reserved(),
    }


def versions() -> dict[str, str]:
    """Of Python and of what is installed beside this."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """The kind of machine; no names of hosts or folders."""
    import torch

    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = set(facts.get("flags", "").split())
    found: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": facts.get("model name", platform.processor()),
        "cpu_features": sorted(flags & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
    }
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        found |= {"gpu": gpu.name, "gpu_memory_gb": round(gpu.total_memory / 1e9, 1), "cuda": torch.version.cuda}
    return found


def matrix_rate(seconds: float = 2.0) -> float:
    """bfloat16 matrix products in operations per second, on the device that trains."""
    import torch

    on_gpu = torch.cuda.is_available()
    side = 8192 if on_gpu else 2048
    left, right = (torch.randn(side, side, device="cuda" if on_gpu else "cpu").bfloat16() for _ in range(2))

    def product(times: int) -> float:
        began = time.perf_counter()
        for _ in range(times):
            left @ right
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - began

    product(3)
    times = max(3, round(seconds / 3 / (product(3) / 3)))
    return 2 * side**3 * times / min(product(times) for _ in range(3))


def median(values: Iterable[float]) -> float:
    """The middle one; the mean of the two in the middle."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
