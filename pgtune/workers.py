"""The same work in several processes: rows through a data adapter and pictures into files, in the order of the rows."""

from __future__ import annotations

import pickle
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from types import TracebackType
from typing import Any, Self, TypeVar

from pgtune.errors import AdapterError, PgtuneError
from pgtune.example import DataAdapter, load_adapter
from pgtune.reading import Made, Raw, RowReader

__all__ = ["Workers"]

_CHUNK = 16
_AHEAD = 3  # chunks waiting for each process

Item = TypeVar("Item")


class Workers:
    """Processes that have loaded a data adapter. With one process all is done in this one.

    What comes out is the same, in the same order, for any number of processes.
    """

    def __init__(self, processes: int, adapter_name: str, adapter_args: Mapping[str, Any]) -> None:
        self.processes = processes
        self._arguments = (adapter_name, dict(adapter_args))
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self.processes > 1:
            # Spawned: a forked process would share what libraries keep open.
            self._pool = ProcessPoolExecutor(self.processes, get_context("spawn"), _load, self._arguments)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def read(self, reader: RowReader, rows: Iterable[Raw]) -> Iterator[tuple[Raw, Made]]:
        """What the reader makes of each row (`pgtune.data.RowMap`)."""
        if self._pool is None:
            for raw in rows:
                yield raw, reader(raw)
            return
        for raw, made in self._map(_read, (reader.parts, reader.folders), rows):
            yield raw, made

    def apply(self, function: Callable[[Item], Any], items: Iterable[Item]) -> Iterator[tuple[Item, Any]]:
        """A picklable function on each item."""
        if self._pool is None:
            for item in items:
                yield item, function(item)
            return
        yield from self._map(_apply, function, items)

    def _map(self, work: Callable[[bytes], Any], shared: Any, items: Iterable[Item]) -> Iterator[tuple[Item, Any]]:
        assert self._pool is not None
        waiting: deque[tuple[list[Item], Future[list[Any]]]] = deque()
        source, failed = iter(items), None
        while True:
            while failed is None and len(waiting) < self.processes * _AHEAD:
                chunk: list[Item] = []
                try:
                    chunk.extend(islice(source, _CHUNK))
                except PgtuneError as error:  # what was read before it comes first, as with one process
                    failed = error
                if not chunk:
                    break
                waiting.append((chunk, self._pool.submit(work, _packed(shared, chunk))))
            if not waiting:
                break
            chunk, future = waiting.popleft()
            try:
                results = future.result()
            except BrokenProcessPool:
                raise AdapterError(
                    "a process that read the data ended abruptly (was it killed for memory?); try fewer processes"
                ) from None
            yield from zip(chunk, results, strict=True)
        if failed is not None:
            raise failed


def _packed(shared: Any, chunk: list[Any]) -> bytes:
    try:
        return pickle.dumps((shared, chunk))
    except Exception as error:  # someone else's rows: whatever pickling them raises
        raise AdapterError(
            f"the rows cannot be handed to other processes ({type(error).__name__}: {error}); use one process"
        ) from error


_loaded: DataAdapter | None = None


def _load(adapter_name: str, adapter_args: dict[str, Any]) -> None:
    global _loaded
    sys.stdout = sys.stderr  # standard output belongs to the report
    warnings.simplefilter("ignore")
    _loaded = load_adapter(adapter_name, adapter_args)


def _read(packed: bytes) -> list[Made]:
    (parts, folders), rows = pickle.loads(packed)
    assert _loaded is not None
    reader = RowReader(_loaded, parts, folders)
    return [reader(raw) for raw in rows]


def _apply(packed: bytes) -> list[Any]:
    function, items = pickle.loads(packed)
    return [function(item) for item in items]
