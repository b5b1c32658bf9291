"""The spool: records on disk that other processes read too."""

import os
import pickle
from multiprocessing import get_context
from pathlib import Path

import pytest

from pgtune import spool
from pgtune.spool import Spool


def filled(*records: bytes) -> Spool:
    made = Spool()
    for record in records:
        made.append(record)
    return made


def test_records_come_back_by_number() -> None:
    records = [b"one", b"", b"three" * 100_000, b"4"]
    made = filled(*records)
    assert [made[number] for number in range(4)] == records
    made.append(b"five")
    assert (made[4], made[0], len(made)) == (b"five", b"one", 5)
    for number in (-1, 5):
        with pytest.raises(IndexError):
            made[number]


def test_nothing_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool.tempfile, "tempdir", str(tmp_path))
    made = filled(b"x" * 1_000_000)
    assert made[0]
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_is_a_copy() -> None:
    made = filled(b"one", b"two")
    copy = pickle.loads(pickle.dumps(made))
    copy.append(b"three")
    assert [copy[number] for number in range(3)] == [b"one", b"two", b"three"]
    assert len(made) == 2
    assert len(pickle.loads(pickle.dumps(Spool()))) == 0


def _answer(made: Spool, numbers: list[int], queue: object) -> None:
    queue.put([made[number] for number in numbers])  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_other_processes_read_the_same_file(method: str) -> None:
    context = get_context(method)
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("a system without fork")
    made = filled(*(f"{number}".encode() * 1000 for number in range(200)))
    made.flush()
    queue = context.Queue()
    readers = [
        context.Process(target=_answer, args=(made, list(range(first, 200, 2)), queue)) for first in range(2)
    ]
    for reader in readers:
        reader.start()
    found = [queue.get(timeout=120) for _ in readers]
    for reader in readers:
        reader.join()
    assert sorted(record for records in found for record in records) == sorted(made[number] for number in range(200))


def test_a_full_disk_names_the_folder() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("a system without /dev/full")
    made = Spool()
    made._file.close()
    made._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 - closed below
    with pytest.raises(OSError, match="No space left") as caught:
        made.append(b"x")
    assert caught.value.filename == spool.tempfile.gettempdir()
    made._file.close()
