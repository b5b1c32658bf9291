"""Files and folders that are complete or absent, whatever ends the process or the machine.

What is written lies aside until it is flushed to disk, then it is renamed; rows are appended one line at a time.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pgtune.errors import MACHINE_REFUSALS

__all__ = [
    "append_row",
    "json_line",
    "read_rows",
    "settle",
    "sync_file",
    "sync_folder",
    "write_folder",
    "write_json",
    "write_text",
]


def write_text(path: Path, text: str) -> None:
    """Write aside, flush to disk, rename: a reader sees the old file or the new one."""
    aside = path.with_name(f".{path.name}.part")
    try:
        with open(aside, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        _name(error, path)
        raise
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Flush to disk what a file holds."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush to disk what lies in a folder under which name."""
    if sys.platform == "win32":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network drives cannot, and are none the worse
            raise
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """JSON, numbers unrounded; NaN and infinity are refused."""
    write_text(path, _json(value, indent=2) + "\n")


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a folder aside, then put it in the place of `path`."""
    aside, old = _aside(path), _old(path)
    settle(path)
    aside.mkdir(parents=True)
    try:
        fill(aside)
        for entry in aside.rglob("*"):
            if entry.is_dir():
                sync_folder(entry)
            else:
                entry.chmod(aside.stat().st_mode & 0o666)  # safetensors lets nobody else read its files
                sync_file(entry)
        sync_folder(aside)
    except Exception as error:
        shutil.rmtree(aside, ignore_errors=True)
        if isinstance(error, OSError):
            _name(error, path)
            raise
        for number in MACHINE_REFUSALS:  # the libraries written in Rust have errors of their own for it
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number), str(path)) from error
        raise
    if os.path.lexists(path):  # a link too, wherever it leads
        path.rename(old)
    aside.rename(path)
    sync_folder(path.parent)
    _remove(old)


def settle(path: Path) -> None:
    """Put right what a crash in the middle of `write_folder` left: the folder it replaced is back, the rest gone."""
    aside, old = _aside(path), _old(path)
    if os.path.lexists(old) and not os.path.lexists(path):
        old.rename(path)
    for leftover in (aside, old):
        _remove(leftover)


def _remove(path: Path) -> None:
    """A folder with all in it; of a link the link, and not what it leads to."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _name(error: OSError, path: Path) -> None:
    """A full disk says no name."""
    if error.errno is not None and error.filename is None:
        error.filename = str(path)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The complete rows of a JSON Lines file that is appended to; a last line cut off by a crash is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def json_line(row: dict[str, Any]) -> str:
    """A row of a JSON Lines file."""
    return _json(row) + "\n"


def _json(value: Any, indent: int | None = None) -> str:
    """In ASCII where it holds half of a character (a file name that is no UTF-8)."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent, allow_nan=False)
    return text


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Append one JSON line and flush it, to survive the process; `RunFolder.sync_logs` is for the machine."""
    try:
        with open(path, "a", encoding="utf-8", newline="\n") as file:
            file.write(json_line(row))
    except OSError as error:
        _name(error, path)
        raise
