"""Records on disk instead of in memory: what is read of a data set may be larger than the memory."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import weakref
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import reduction
from multiprocessing.context import get_spawning_popen
from typing import Any

__all__ = ["Spool"]

_BUFFER = 1 << 18


class Spool:
    """Byte strings, appended one after the other and read by number; 8 bytes of memory each.

    They lie in a temporary file without a name (in TMPDIR), which the system removes when the last process that holds
    it ends, however it ends. May be read by several threads, by processes that are forked, and by those that are
    spawned and given it; is appended to by the one that made it.

    Raises OSError, with the folder's name, where the disk is full.
    """

    def __init__(self) -> None:
        self._hold(tempfile.TemporaryFile(prefix="pgtune-", buffering=_BUFFER), array("q"))  # noqa: SIM115

    def _hold(self, file: Any, ends: array[int]) -> None:
        self._file, self._ends = file, ends
        self._unwritten = False
        self._lock = threading.Lock()
        weakref.finalize(self, file.close).atexit = False

    def __len__(self) -> int:
        return len(self._ends)

    def append(self, record: bytes) -> None:
        """Add a record at the end."""
        with self._lock, _named_folder():
            self._file.write(record)
            self._unwritten = True
            self._ends.append((self._ends[-1] if self._ends else 0) + len(record))

    def __getitem__(self, number: int) -> bytes:
        if not 0 <= number < len(self._ends):
            raise IndexError(number)
        start = self._ends[number - 1] if number else 0
        return self._read(start, self._ends[number] - start)

    def flush(self) -> None:
        """Write what is still in memory; to be called before processes are forked."""
        if self._unwritten:
            with self._lock, _named_folder():
                self._file.flush()
                self._unwritten = False

    def _read(self, start: int, size: int) -> bytes:
        self.flush()
        if sys.platform == "win32":
            with self._lock:
                self._file.seek(start)
                found: bytes = self._file.read(size)
                self._file.seek(0, os.SEEK_END)
                return found
        # Does not move the place in the file, which forked processes share.
        return os.pread(self._file.fileno(), size, start)

    def __reduce__(self) -> tuple[Any, ...]:
        content = b""
        if sys.platform != "win32" and get_spawning_popen() is not None:
            self.flush()
            return _handed_over, (reduction.DupFd(self._file.fileno()), self._ends)
        if self._ends:
            content = self._read(0, self._ends[-1])
        return _restored, (content, self._ends)


@contextmanager
def _named_folder() -> Iterator[None]:
    """A full disk says no name of its own."""
    try:
        yield
    except OSError as error:
        error.filename = tempfile.gettempdir()
        raise


def _handed_over(descriptor: Any, ends: array[int]) -> Spool:
    """In a spawned process: the same file, which was handed down."""
    return _held(os.fdopen(descriptor.detach(), "r+b", buffering=_BUFFER), ends)


def _restored(content: bytes, ends: array[int]) -> Spool:
    """A copy, where a spool was pickled for anything but a process that is being spawned."""
    file = tempfile.TemporaryFile(prefix="pgtune-", buffering=_BUFFER)  # noqa: SIM115 - closed with its spool
    file.write(content)
    file.flush()
    return _held(file, ends)


def _held(file: Any, ends: array[int]) -> Spool:
    spool = Spool.__new__(Spool)
    spool._hold(file, ends)
    return spool
