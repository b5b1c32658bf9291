"""What a training took, beside what `pgtune plan` said: its peak of memory, kept in the run folder."""

from __future__ import annotations

from pathlib import Path

import torch

from pgtune.run_folder import RunFolder
from pgtune.writing import write_json

__all__ = ["FILE", "PeakMemory"]

FILE = "memory.json"

_STATUS = Path("/proc/self/status")


class PeakMemory:
    """The peak since it was made: on a GPU what torch allocated on it, on a CPU how much the process has grown.

    A process that was larger before, by another run in it, tells nothing, nor does a system without /proc.
    """

    def __init__(self) -> None:
        self.on_gpu = torch.cuda.is_available()
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        self.before, self.peak_before = _kilobytes("VmRSS"), _kilobytes("VmHWM")

    def write(self, folder: RunFolder, devices: int, gradient_checkpointing: bool | int) -> None:
        """Write it down, where it is known. Of several processes this is the first one's.

        Args:
            devices: how many worked together.
            gradient_checkpointing: as it was.
        """
        if self.on_gpu:
            kind, peak = "gpu", torch.cuda.max_memory_allocated()
        else:
            highest = _kilobytes("VmHWM")
            kind, peak = "cpu", 1024 * (highest - self.before) if highest > self.peak_before else 0
        if peak:
            bfloat16 = not self.on_gpu or torch.cuda.is_bf16_supported(including_emulation=False)
            found = {"device": kind, "devices": devices, "bfloat16": bfloat16, "peak_bytes": peak}
            write_json(folder.path / FILE, {**found, "gradient_checkpointing": gradient_checkpointing})


def _kilobytes(key: str) -> int:
    """A figure of this process: VmRSS is what is resident, VmHWM the most that ever was; 0 where there is no /proc."""
    if not _STATUS.is_file():
        return 0
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
