"""The micro-batches of a training, one after the other; a row that cannot be read or a worker that dies ends them."""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any, Self

from torch.utils.data import DataLoader

from pgtune.collate import Batch
from pgtune.errors import DataError, TrainingError
from pgtune.stopping import StopRequest

__all__ = ["Feed"]


class Feed:
    """Around the steps: takes from a DataLoader, whose worker processes start on entry."""

    def __init__(self, loader: DataLoader[Any], stop: StopRequest) -> None:
        self._loader, self._stop = loader, stop
        self._batches: Iterator[Batch | DataError] = iter(())
        self._waiting = False
        self._torchs: Any = None

    def __enter__(self) -> Self:
        with self._clear(), _born_without_interrupts() if self._loader.num_workers else nullcontext():
            self._batches = iter(self._loader)
        if self._loader.num_workers and threading.current_thread() is threading.main_thread():
            self._torchs = signal.signal(signal.SIGCHLD, self._child_ended) if hasattr(signal, "SIGCHLD") else None
        return self

    def __exit__(self, *_: object) -> None:
        self._batches = iter(())  # lets the workers end
        if self._torchs is not None:
            signal.signal(signal.SIGCHLD, self._torchs)

    def take(self) -> Batch:
        """The next micro-batch.

        Raises:
            DataError: a row of it cannot be read; names the row.
            TrainingError: a worker process died; or it was asked to stop, as the training was.
        """
        with self._clear():
            found = next(self._batches)
        if isinstance(found, DataError):
            raise found
        return found

    def _child_ended(self, number: int, frame: FrameType | None) -> None:
        """Torch's handler raises at any line, also halfway through an optimiser's step: let it only while we wait.

        A worker that died in the meantime is found when its next batch does not come.
        """
        if self._waiting and callable(self._torchs):
            self._torchs(number, frame)

    def _by_death(self, error: BaseException) -> bool:
        """Whether a worker's end is what an error says: torch's words, or a line that broke before torch noticed."""
        if isinstance(error, RuntimeError):
            return str(error).startswith("DataLoader worker")
        broken = isinstance(error, EOFError | ConnectionError | FileNotFoundError)
        return broken and self._loader.num_workers > 0 and not str(error).startswith("Caught ")  # by the worker itself

    @contextmanager
    def _clear(self) -> Iterator[None]:
        try:
            self._waiting = True
            yield
            self._waiting = False
        except BaseException as error:
            self._waiting = False
            traceback.clear_frames(error.__traceback__)  # they would hold the workers past the end of the steps
            if not self._by_death(error):
                raise
            if self._stop.asked:
                raise self._stop.error() from error
            raise TrainingError(
                f"a process that reads the data died ({str(error).strip().rstrip('.') or 'in the middle of a batch'}): "
                "memory or /dev/shm may have run out. What helps: fewer train.num_workers "
                f"(now {self._loader.num_workers}). Go on with: {self._stop.command}"
            ) from error


@contextmanager
def _born_without_interrupts() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal: workers started here leave it to the training to end them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # which unblocks it when it is started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
