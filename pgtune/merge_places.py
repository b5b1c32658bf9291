"""Where a merged model may be written, and what it may replace."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from pgtune.errors import RunError, TrainingError
from pgtune.recipe import Recipe
from pgtune.run_files import read_mapping
from pgtune.run_folder import OWN, RunFolder
from pgtune.sources import source_path

__all__ = ["Need", "check_only_written", "check_out", "check_room"]

EVALUATIONS = "evaluations/"
"""What `pgtune evaluate` wrote of a merged model goes with the model."""


@dataclass(frozen=True)
class Need:
    """What a merge takes, in bytes."""

    memory: int
    disk: int


def check_out(out: Path, run: RunFolder, recipe: Recipe, *, overwrite: bool) -> None:
    """That a merged model may be written to `out`.

    Raises:
        RunError: something is there, or it lies in the run, its base or its data, or they in it; it lies in another run
            or merged model, or is the working directory.
    """
    if out.is_symlink() and not out.exists():
        raise RunError(f"merge: {out} is a symbolic link that leads nowhere")
    place = Path(os.path.realpath(out))
    there = next(folder for folder in (place, *place.parents) if os.path.lexists(folder))
    if not there.is_dir():
        raise RunError(f"merge: {out if there == place else there} is a file; expected a folder, or nothing yet")
    sources = {f"data.{key}": getattr(recipe.data, key) for key in ("train", "validation", "test")}
    inputs = {key: source_path(source.source) for key, source in sources.items() if source is not None}
    for what, path in {"the run": run.path, "model.base": Path(recipe.model.base), **inputs}.items():
        given = path.resolve()
        if path.exists() and (place.is_relative_to(given) or given.is_relative_to(place)):
            raise RunError(f"merge: {out} and {what} ({path}) lie one in the other; name another folder")
    if Path.cwd().is_relative_to(place):
        raise RunError(f"merge: {out} would be replaced, and is or holds the working directory; name a folder in it")
    for parent in place.parents:
        if any((own / "recipe.yaml").is_file() and (own / "status.json").is_file() for own in (parent, parent / OWN)):
            raise RunError(f"merge: {out} lies in {parent}, a run or model of its own; name a folder outside of it")
    if out.is_dir() and any(out.iterdir()):
        if not (RunFolder(out).portable and RunFolder(out).whole):
            raise RunError(f"merge: {out} exists and is no merged model; name another folder, or empty it")
        if not overwrite:
            raise RunError(f"merge: {out} holds a merged model; add --overwrite to replace it, or name another folder")
        check_only_written(out)


def check_only_written(out: Path) -> None:
    """That a folder to be replaced holds nothing but what `merge` wrote, and evaluations of it.

    Raises:
        RunError: it does; names one.
    """
    if not out.is_dir() or not any(out.iterdir()):
        return
    status = out / OWN / "status.json"
    merged = read_mapping(status).get("merged") if status.is_file() else None
    known = merged.get("files") if isinstance(merged, dict) else None
    if not isinstance(known, list):
        raise RunError(
            f"merge: {out} does not say which of its files merge wrote (it was pushed, or is of an earlier pgtune); "
            "name another folder, or remove it yourself"
        )
    for entry in sorted(out.rglob("*")):
        name = entry.relative_to(out).as_posix()
        if (entry.is_file() or entry.is_symlink()) and name not in known and not name.startswith(EVALUATIONS):
            raise RunError(f"merge: {out} holds {name}, which merge did not write; move it, or name another folder")


def check_room(out: Path, need: Need) -> None:
    """That the disk has room.

    Raises:
        TrainingError: it has not.
    """
    there = next(folder for folder in (out, *out.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if free < need.disk:
        raise TrainingError(
            f"merge: {out}: about {need.disk / 1e9:.1f} GB will be written and {free / 1e9:.1f} GB are free there; "
            "make room, or name a folder on another disk"
        )
