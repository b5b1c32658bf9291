"""What a process knows of the `pgtune --processes` that started it; asked before anything slow is imported."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__ = ["ERROR_FILE", "LAUNCHER", "end_with_launcher"]

ERROR_FILE = "PGTUNE_ERROR_FILE"
"""The environment variable with the file in which one of several processes leaves its error, for `launching`."""
LAUNCHER = "PGTUNE_LAUNCHER"
"""The environment variable with the number of the process that started this one."""


def end_with_launcher() -> None:
    """Where `pgtune --processes` that started this process is killed, nobody else would end it: the system does."""
    if ERROR_FILE not in os.environ:
        return
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if LAUNCHER in os.environ and os.getppid() != int(os.environ[LAUNCHER]):  # it has ended already
        sys.exit(1)
