"""The run folder: its names, its state, and files that are complete or absent.

::

    recipe.yaml         resolved, with versions        metrics.json      before, after, trivial
    adapter/ | model/   what was trained               predictions.jsonl one row per scored example
    processor/          tokenizer and image processor  predictions.png   predictions beside the truth
    log.jsonl           one row per optimiser step     validation.jsonl  one row per look at the validation split
    status.json         running or finished            checkpoints/      to go on from
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from pgtune.errors import RunError
from pgtune.recipe import Recipe, load_recipe


def write_text(path: Path, text: str) -> None:
    """Write aside, flush to disk, rename: a reader sees the old file or the new one."""
    aside = path.with_name(f".{path.name}.part")
    with open(aside, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def write_json(path: Path, value: Any) -> None:
    """JSON, numbers unrounded; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a folder aside, then put it in the place of `path`."""
    aside, old = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.old")
    for leftover in (aside, old):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir(parents=True)
    fill(aside)
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
        self.status_file = self.path / "status.json"

    @property
    def state(self) -> str:
        """absent, running (also: was killed), finished, or foreign: a folder with other things in it."""
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return "absent"
        if not self.status_file.is_file():
            return "foreign"
        return str(self.status()["state"])

    def check_free(self, *, resume: bool, overwrite: bool) -> None:
        """That a training may write here.

        Raises:
            RunError: the folder holds something else, or a run and neither `resume` nor `overwrite` was asked for.
        """
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
                f"output_dir: {self.path} holds a finished run; add --overwrite to replace it, or name another"
            )

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

    def status(self) -> dict[str, Any]:
        """state, and the facts that a resume must find again."""
        found: dict[str, Any] = json.loads(self.status_file.read_text(encoding="utf-8"))
        return found

    def finish(self) -> None:
        """Record that the run is complete."""
        write_json(self.status_file, {**self.status(), "state": "finished"})

    def recipe(self) -> Recipe:
        """The recipe the run was started with.

        Raises:
            RunError: this is not a run folder.
        """
        if not self.recipe_file.is_file():
            what = "is not a run folder (no recipe.yaml in it)" if self.path.is_dir() else "does not exist"
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
        rows: Iterable[dict[str, Any]] = (row for row in read_rows(path) if row["step"] <= last_step)
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Append one JSON line and flush it."""
    with open(path, "a", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
