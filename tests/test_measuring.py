"""The peak of memory that a training leaves in its run folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pgtune import measuring
from pgtune.measuring import FILE, PeakMemory
from pgtune.run_folder import RunFolder

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="there, what is counted is the GPU's memory"),
]


def status(folder: Path, now: int, highest: int) -> None:
    (folder / "status").write_text(f"Name:\tx\nVmHWM:\t{highest} kB\nVmRSS:\t  {now} kB\n", encoding="utf-8")


def test_growth_is_counted_from_the_start_to_the_highest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_STATUS", tmp_path / "status")
    status(tmp_path, 1000, 1200)
    memory = PeakMemory()
    status(tmp_path, 900, 5000)
    memory.write(RunFolder(tmp_path), 2, True)
    found = json.loads((tmp_path / FILE).read_text(encoding="utf-8"))
    assert found == {
        "device": "cpu", "devices": 2, "bfloat16": True, "peak_bytes": 4000 * 1024, "gradient_checkpointing": True,
    }  # fmt: skip


def test_nothing_is_said_where_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_STATUS", tmp_path / "status")
    PeakMemory().write(RunFolder(tmp_path), 1, False)  # no /proc
    status(tmp_path, 1000, 9000)
    PeakMemory().write(RunFolder(tmp_path), 1, False)  # it was larger before
    assert not (tmp_path / FILE).exists()


def test_this_process_grows(tmp_path: Path) -> None:
    memory = PeakMemory()
    missing = 1024 * (memory.peak_before - memory.before) + 80_000_000
    held = bytearray(missing)
    held[::4096] = b"x" * len(held[::4096])
    memory.write(RunFolder(tmp_path), 1, False)
    assert json.loads((tmp_path / FILE).read_text(encoding="utf-8"))["peak_bytes"] > missing - 20_000_000
