"""A training that is asked to stop, by SIGTERM or SIGINT, or that the machine stops, says how to go on."""

from __future__ import annotations

import os
import shlex
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from pgtune.errors import MACHINE_REFUSALS, TrainingError
from pgtune.run_folder import RunFolder

__all__ = ["StopRequest", "resume_command"]

SIGNALS = (signal.SIGTERM, signal.SIGINT, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
ONE_REQUEST_SECONDS = 1.0


class StopRequest:
    """Around a training: catches SIGTERM, SIGINT and SIGHUP (the terminal is gone) for as long as it lasts.

    Where nothing has to be brought to an end first (loading, an evaluation), a signal interrupts at once. Within
    `deferred` it is only noted in `asked`, to be looked at after each step; a second one interrupts there too. What
    interrupts is a KeyboardInterrupt, which no library takes for an error of its own.
    """

    def __init__(self) -> None:
        self.asked = False
        self.command = ""
        """What goes on with the run; empty while there is nothing to go on with."""
        self._deferred = False
        self._when = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only it may set handlers
            for number in SIGNALS:
                before = signal.getsignal(number)
                if before not in (signal.SIG_IGN, None):  # ignored, as under nohup: so it is meant
                    self._before[number] = before
                    signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()

    def _received(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        again = self.asked
        if again and now - self._when < ONE_REQUEST_SECONDS:
            return  # a launcher passes on what the terminal or the cluster has sent to every process already
        self.asked, self._when = True, now
        if again or not self._deferred:
            raise KeyboardInterrupt

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within it a signal waits until `asked` is looked at, and interrupts at the end where nobody has."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.asked:
            raise KeyboardInterrupt

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within `deferred`: what may be interrupted after all. A signal that came before interrupts here."""
        self._deferred = False
        try:
            if self.asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._deferred = True

    def error(self, step: int | None = None) -> TrainingError:
        """What ends a run that was asked to stop; after `step` steps, all of them kept, where they are given."""
        after = "" if step is None else f" after step {step}, which is kept"
        return TrainingError(f"stopped on request{after}; go on with: {self.command}")

    @contextmanager
    def explained(self, folder: RunFolder) -> Iterator[None]:
        """Turn what comes from outside into an error with the command, once there is something to go on with.

        Raises:
            TrainingError: the run was interrupted, the disk is full, or the folder may no longer be written.
        """
        try:
            yield
        except KeyboardInterrupt:
            if not self.command:
                raise
            raise self.error() from None
        except OSError as error:
            if not self.command:
                raise
            if not folder.path.is_dir():
                raise TrainingError(f"{folder.path}: the run folder was removed during the training") from error
            if error.errno not in MACHINE_REFUSALS:
                raise
            place = f"{error.filename}: " if error.filename else ""
            raise TrainingError(
                f"{place}{error.strerror}; what was complete before is kept. When that is mended, go on with: "
                f"{self.command}"
            ) from error


def resume_command(folder: RunFolder) -> str:
    """What goes on with a run as it was started, to be typed in the same working directory."""
    words = ["pgtune", "train", str(folder.recipe_file), "--resume"]
    processes, here = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if processes != here:
        return f"{shlex.join(words)} (on {processes} processes, by what started them)"
    return shlex.join([*words, "--processes", str(processes)] if processes > 1 else words)
