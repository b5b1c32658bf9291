"""The run folder: its names, its state, and files that are complete or absent.

::

    recipe.yaml         resolved, with versions        metrics.json      before, after, trivial
    adapter/ | model/   what was trained               predictions.jsonl one row per scored example
    processor/          tokenizer and image processor  predictions.png   predictions beside the truth
    log.jsonl           one row per optimiser step     validation.jsonl  one row per look at the validation split
    status.json         running or finished            checkpoints/      to go on from
    splits.json         with data.split_by: the rows of each split, and how they were cut
    overlaps.json       patients, works, pictures on both sides of a split: `evaluate` repeats the warning
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from pgtune.errors import RunError
from pgtune.overlaps import Finding
from pgtune.recipe import Recipe, load_recipe
from pgtune.sources import source_path
from pgtune.splits import same_split

if sys.platform != "win32":
    import fcntl


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
        if error.errno == errno.ENOSPC:  # which says no name
            error.filename = str(path)
        raise


def write_json(path: Path, value: Any) -> None:
    """JSON, numbers unrounded; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a folder aside, then put it in the place of `path`."""
    aside, old = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.old")
    for leftover in (aside, old):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        fill(aside)
    except Exception as error:
        shutil.rmtree(aside, ignore_errors=True)
        full = os.strerror(errno.ENOSPC)
        if full in str(error):  # the libraries written in Rust have errors of their own for it
            raise OSError(errno.ENOSPC, full, str(path)) from error
        raise
    for file in aside.rglob("*"):
        if file.is_file():
            with open(file, "rb+") as written:
                os.fsync(written.fileno())
    if path.exists():
        path.rename(old)
    aside.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The complete rows of a JSON Lines file that is appended to; a last line cut off by a crash is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


@contextmanager
def undamaged(path: Path) -> Iterator[None]:
    """Around reading a file that pgtune wrote.

    Raises:
        RunError: it is gone, or something else has written into it.
    """
    try:
        yield
    except (FileNotFoundError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path}: damaged ({type(error).__name__}: {error}); start anew with --overwrite") from error


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.recipe_file = self.path / "recipe.yaml"
        self.adapter = self.path / "adapter"
        self.model = self.path / "model"
        self.processor = self.path / "processor"
        self.log = self.path / "log.jsonl"
        self.validation_log = self.path / "validation.jsonl"
        self.metrics = self.path / "metrics.json"
        self.predictions = self.path / "predictions.jsonl"
        self.picture = self.path / "predictions.png"
        self.checkpoints = self.path / "checkpoints"
        self.splits_file = self.path / "splits.json"
        self.overlaps_file = self.path / "overlaps.json"
        self.status_file = self.path / "status.json"

    @property
    def state(self) -> str:
        """absent, running (also: was killed), finished, or foreign: a folder with other things in it."""
        entries = {entry.name for entry in self.path.iterdir()} if self.path.is_dir() else set()
        if not self.path.exists() or (self.path.is_dir() and entries <= {f".{self.status_file.name}.part"}):
            return "absent"  # the part is what a crash left of the very first file
        if not self.status_file.is_file():
            return "foreign"
        try:
            state = self.status()["state"]
        except (ValueError, TypeError, KeyError):  # another program's status.json
            return "foreign"
        return state if state in ("running", "finished") else "foreign"

    def check_place(self, recipe: Recipe) -> None:
        """That there can be a folder here, and that the recipe reads nothing that lies in it.

        Raises:
            RunError: a file stands in the way, it may not be written, or data or base lie inside and would be lost.
        """
        path = Path(os.path.abspath(self.path))
        place = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
        if not place.exists():
            raise RunError(f"output_dir: {place} is a symbolic link that leads nowhere")
        if not place.is_dir():
            shown = self.path if place == path else place
            raise RunError(f"output_dir: {shown} is a file; expected a folder, or nothing yet")
        if not os.access(place, os.W_OK | os.X_OK):
            raise RunError(f"output_dir: {place} may not be written")
        read = {f"data.{key}": getattr(recipe.data, key) for key in ("train", "validation", "test")}
        inputs = {key: source_path(source.source) for key, source in read.items() if source is not None}
        for key, given in {**inputs, "model.base": Path(recipe.model.base)}.items():
            if given.exists() and given.resolve().is_relative_to(path.resolve()):
                raise RunError(
                    f"output_dir: {self.path} holds {key} ({given}), and a new run empties its folder; name another"
                )

    def check_free(self, *, resume: bool, overwrite: bool) -> None:
        """That a training may write here.

        Raises:
            RunError: the folder holds something else, or a run and neither `resume` nor `overwrite` was asked for, or
                both were.
        """
        if resume and overwrite:
            raise RunError("--resume goes on with a run and --overwrite starts anew: give one of them")
        state = self.state
        if state == "foreign":
            raise RunError(f"output_dir: {self.path} exists and is not a run folder; name another, or empty it")
        if state == "running" and not (resume or overwrite):
            raise RunError(
                f"output_dir: {self.path} holds an unfinished run; add --resume to go on with it, or --overwrite to "
                "start anew"
            )
        if state == "finished" and not (resume or overwrite):
            raise RunError(
                f"output_dir: {self.path} holds a finished run; add --overwrite to replace it "
                "(in Python overwrite=True), or name another"
            )

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder against a second training. The system lets go when the process ends, however it ends.

        Raises:
            RunError: another training is writing here.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"output_dir: {self.path} cannot be made: {error.strerror}") from error
        if sys.platform == "win32":  # a folder cannot be locked there
            yield
            return
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(
                    f"output_dir: another training is writing into {self.path}; wait for it, or name another folder"
                ) from None
            except OSError:  # a file system without locks
                pass
            yield
        finally:
            os.close(descriptor)

    def start(self, recipe: Recipe, versions: dict[str, str], facts: dict[str, Any]) -> None:
        """Empty the folder of an earlier run and write recipe, state and the facts that a resume must find again."""
        self.path.mkdir(parents=True, exist_ok=True)
        # State first and recipe last: interrupted in between, this is an unfinished run without a recipe.
        self.recipe_file.unlink(missing_ok=True)
        write_json(self.status_file, {"state": "running", **facts})
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry != self.status_file:
                entry.unlink()
        resolved = {**recipe.model_dump(mode="json"), "versions": versions}
        header = "# The recipe of this run, every key resolved.\n"
        write_text(self.recipe_file, header + yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True))

    def write_split(self, record: dict[str, Any] | None) -> None:
        """Write down how the data was cut, if it was: one line for each split."""
        if record is None:
            return
        splits = ",\n".join(f"    {json.dumps(name)}: {json.dumps(of)}" for name, of in record["splits"].items())
        rest = json.dumps({key: value for key, value in record.items() if key != "splits"}, indent=2)
        write_text(self.splits_file, rest.removesuffix("\n}") + f',\n  "splits": {{\n{splits}\n  }}\n}}\n')

    def overlaps(self, split: str) -> list[str]:
        """What the training found of this split on the other side too, in words; nothing where it found nothing."""
        if not self.overlaps_file.is_file():
            return []
        with undamaged(self.overlaps_file):
            found = [Finding(**one) for one in json.loads(self.overlaps_file.read_text(encoding="utf-8"))]
        return [one.words() for one in found if split in one.splits]

    def check_same_split(self, record: dict[str, Any] | None) -> None:
        """That a cut of the data is the one that the run was trained on.

        Raises:
            RunError: it is not, because the data has changed.
        """
        if record is None or not self.splits_file.is_file():
            return
        with undamaged(self.splits_file):
            same = same_split(record, json.loads(self.splits_file.read_text(encoding="utf-8")))
        if not same:
            raise RunError(
                f"{self.splits_file}: the data has changed since: cut by {record['split_by']!r} it falls otherwise "
                "than when the run was trained, so that rows of one split would be rows of another; put the data "
                "back, or train anew"
            )

    def status(self) -> dict[str, Any]:
        """state, and the facts that a resume must find again."""
        found: dict[str, Any] = json.loads(self.status_file.read_text(encoding="utf-8"))
        return found

    def identity(self) -> str:
        """Twelve letters and digits that are the same for the same recipe, versions and training data."""
        content = self.recipe_file.read_bytes() + json.dumps(self.status(), sort_keys=True).encode()
        return hashlib.sha256(content).hexdigest()[:12]

    def finish(self) -> None:
        """Record that the run is complete."""
        write_json(self.status_file, {**self.status(), "state": "finished"})

    def recipe(self) -> Recipe:
        """The recipe the run was started with.

        Raises:
            RunError: this is not a run folder.
        """
        if not self.recipe_file.is_file():
            missing = "is a file" if self.path.exists() else "does not exist"
            what = "is not a run folder (no recipe.yaml in it)" if self.path.is_dir() else missing
            raise RunError(f"{self.path} {what}; `pgtune train` makes one")
        return load_recipe(self.recipe_file)

    def check_trained(self) -> None:
        """That there is something to evaluate.

        Raises:
            RunError: the run never finished its training.
        """
        if not (self.adapter.is_dir() or self.model.is_dir()):
            raise RunError(f"{self.path}: the run has not finished its training; go on with `pgtune train --resume`")

    def keep_rows(self, path: Path, last_step: int) -> None:
        """Drop the rows after `last_step` from a log, so that a resumed run logs each step once."""
        with undamaged(path):
            rows = [row for row in read_rows(path) if row["step"] <= last_step]
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def json_line(row: dict[str, Any]) -> str:
    """A row of a JSON Lines file, in ASCII where it holds half of a character (a file name that is no UTF-8)."""
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(row, allow_nan=False)
    return text + "\n"


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Append one JSON line and flush it."""
    with open(path, "a", encoding="utf-8", newline="\n") as file:
        file.write(json_line(row))
