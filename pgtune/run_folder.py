"""The run folder: its names, its state, and what a resume must find in it.

::

    recipe.yaml         resolved, with versions        metrics.json      before, after, trivial
    adapter/ | model/   what was trained               predictions.jsonl one row per scored example
    processor/          tokenizer and image processor  predictions.png   predictions beside the truth
    log.jsonl           one row per optimiser step     validation.jsonl  one row per look at the validation split
    status.json         running or finished            checkpoints/      to go on from
    splits.json         with data.split_by: the rows of each split, and how they were cut
    overlaps.json       patients, works, pictures on both sides of a split: `evaluate` repeats the warning
    memory.json         the peak of memory, where it is known; `report` shows it beside the plan

A merged or published model is one folder of plain files that any library loads, with what is pgtune's in `pgtune/`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from pgtune.errors import RunError
from pgtune.overlaps import Finding
from pgtune.recipe import Recipe, load_recipe
from pgtune.run_files import read_findings, read_status, undamaged
from pgtune.sources import source_path
from pgtune.splits import same_split
from pgtune.writing import json_line, read_rows, sync_file, sync_folder, write_json, write_text

if sys.platform != "win32":
    import fcntl

__all__ = ["OWN", "RunFolder", "undamaged"]

OWN = "pgtune"
"""Where recipe, state and metrics lie in a folder whose top level is a plain model or adapter."""


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.portable = (self.path / OWN / "recipe.yaml").is_file()
        own = self.path / OWN if self.portable else self.path
        self.recipe_file = own / "recipe.yaml"
        self.adapter = self.path if self.portable else self.path / "adapter"
        self.model = self.path if self.portable else self.path / "model"
        self.processor = self.path if self.portable else self.path / "processor"
        self.log = self.path / "log.jsonl"
        self.validation_log = self.path / "validation.jsonl"
        self.metrics = own / "metrics.json"
        self.predictions = self.path / "predictions.jsonl"
        self.picture = self.path / "predictions.png"
        self.checkpoints = self.path / "checkpoints"
        self.evaluations = self.path / "evaluations"
        self.splits_file = own / "splits.json"
        self.overlaps_file = own / "overlaps.json"
        self.status_file = own / "status.json"

    @property
    def whole(self) -> bool:
        """Whether it holds all weights of a model: trained in full, or merged."""
        return (self.model / "config.json").is_file()

    @property
    def state(self) -> str:
        """absent, running (also: was killed), finished, or foreign: a folder with other things in it."""
        entries = {entry.name for entry in self.path.iterdir()} if self.path.is_dir() else set()
        if not self.path.exists() or (self.path.is_dir() and entries <= {f".{self.status_file.name}.part"}):
            return "absent"  # the part is what a crash left of the very first file
        if self.portable or not self.status_file.is_file():
            return "foreign"
        try:
            state = self.status()["state"]
        except RunError:  # another program's status.json
            return "foreign"
        if state == "finished" and not self.recipe_file.is_file():
            return "running"  # killed while it was cleared away for another: see `start`
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
        inputs |= {"model.adapter": Path(recipe.model.adapter)} if recipe.model.adapter else {}
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

    def start(
        self,
        recipe: Recipe,
        versions: dict[str, str],
        facts: dict[str, Any],
        split: dict[str, Any] | None = None,
        overlaps: Sequence[Finding] = (),
    ) -> None:
        """Empty the folder of an earlier run and write recipe, state and the facts that a resume must find again.

        Args:
            split: how the data was cut, if it was (`Splits.record`).
            overlaps: what stands on both sides of a split.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        # State first and recipe last: interrupted in between, this is an unfinished run without a recipe.
        self.recipe_file.unlink(missing_ok=True)
        write_json(self.status_file, {"state": "running", **facts})
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry != self.status_file:
                entry.unlink()
        self._write_split(split)
        write_json(self.overlaps_file, [asdict(overlap) for overlap in overlaps])
        self.checkpoints.mkdir()
        sync_folder(self.path.parent)
        resolved = {**recipe.model_dump(mode="json"), "versions": versions}
        header = "# The recipe of this run, every key resolved.\n"
        write_text(self.recipe_file, header + yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True))

    def _write_split(self, record: dict[str, Any] | None) -> None:
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
        return [one.words() for one in read_findings(self.overlaps_file) if split in one.splits]

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
        """state, and the facts that a resume must find again.

        Raises:
            RunError: the file is gone or damaged.
        """
        return read_status(self.status_file)

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
        if not (self.whole or (self.adapter / "adapter_config.json").is_file()):
            raise RunError(f"{self.path}: the run has not finished its training; go on with `pgtune train --resume`")

    def check_imports(self, recipe: Recipe, *, allow_code: bool) -> None:
        """That its data adapter may be imported: of a run of one's own, always."""

    def check_source(self, recipe: Recipe, split: str) -> None:
        """That the sources of its recipe mean something here: of a run of one's own, always."""

    def sync_logs(self) -> None:
        """Flush the logs to disk, before a checkpoint that is not to outlive their rows."""
        for path in (self.log, self.validation_log):
            if path.exists():
                sync_file(path)
        sync_folder(self.path)

    def keep_rows(self, path: Path, steps: Sequence[int], optional: int | None = None) -> None:
        """Drop the rows of other steps from a log, so that a resumed run logs each step once.

        Args:
            optional: one of `steps` whose row need not be there yet.

        Raises:
            RunError: the log is damaged: it cannot be read, or has not one row for each of `steps`.
        """
        wanted = set(steps)
        with undamaged(path):
            rows = [row for row in read_rows(path) if row["step"] in wanted]
        found = [row["step"] for row in rows]
        if found != list(steps) and [*found, optional] != list(steps):
            odd = next((step for step, count in Counter([*found, *steps]).items() if count != 2), steps[-1])
            raise RunError(
                f"{path}: damaged: the checkpoint is of step {steps[-1]}, and step {odd} should have one row, in its "
                "place; start anew with --overwrite"
            )
        write_text(path, "".join(map(json_line, rows)))
