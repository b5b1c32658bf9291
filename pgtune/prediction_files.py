"""Where predicted rows go: JSON Lines and CSV that are gone on with, and what a data adapter exports."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pgtune.errors import AdapterError, DataError, PgtuneError, RecipeError
from pgtune.names import nearest
from pgtune.writing import json_line, read_rows, write_text

__all__ = ["ANSWER", "DETECTED", "Export", "Target", "key_of"]

DETECTED = ("boxes", "malformed", "repeated", "cut_off")
ANSWER = ("prediction", "mean_log_probability", *DETECTED, "error")
"""The keys of a row that its answer gives."""
COLUMNS = ("image", "prefix", *ANSWER, "run")

Export = Callable[[Sequence[dict[str, Any]], Path], Any]
"""A data adapter's way to write predicted rows, each of which has ``metadata`` and ``where``; its result says what was
written."""


def key_of(row: Mapping[str, Any]) -> str:
    """What tells a prompt from others: its pictures and its prefix."""
    return json.dumps([row["image"], row["prefix"]])


class Target:
    """The file, or for some exports the folder, that ``--out`` names.

    Args:
        path: its ending decides what is written.
        exports: what else than ``.jsonl`` and ``.csv`` can be written here, by ending.

    Raises:
        RecipeError: it cannot be written to, or its ending means nothing for this run.
    """

    def __init__(self, path: Path, exports: Callable[[], Mapping[str, Export]]) -> None:
        self.path = path
        self.export: Export | None = None
        if path.suffix not in {".jsonl", ".csv"}:
            own = exports()
            if path.suffix not in own:
                known = [".jsonl", ".csv", *sorted(own)]
                close = nearest(path.suffix, known)
                raise RecipeError(
                    f"predict: --out {path}: expected a name that ends in "
                    f"{', '.join(known[:-1])} or {known[-1]}" + (f"; did you mean {close}?" if close else "")
                )
            self.export = own[path.suffix]
        if not path.absolute().parent.is_dir():
            raise RecipeError(f"predict: --out {path}: the folder {path.parent} does not exist")
        if self.export is not None and os.path.lexists(path):
            raise RecipeError(f"predict: --out {path}: exists already; name another, or remove it")
        if path.is_dir():
            raise RecipeError(f"predict: --out {path}: is a folder; expected the name of the file to write")
        # What is written at the end is made from these rows, so that one path goes on after a stop.
        self.journal = path if path.suffix == ".jsonl" else path.with_name(f".{path.name}.rows.jsonl")

    def known(self) -> dict[str, dict[str, Any]]:
        """What was answered earlier: in the file itself, and in the journal of one that was not finished.

        Raises:
            DataError: the file holds something else.
        """
        try:
            rows = _csv_rows(self.path) if self.path.suffix == ".csv" else []
            rows += [row for row in read_rows(self.journal) if "error" not in row]
            for row in rows:
                row["prediction"], row["mean_log_probability"], row["run"]  # of something else, KeyError
            return {key_of(row): row for row in rows}
        except (csv.Error, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{self.path}: exists and does not hold predictions; name another file for --out"
            ) from error

    def write(self, rows: list[dict[str, Any]]) -> Any:
        """Write all rows, complete or not at all; what an export says about it, else None."""
        summary = None
        if self.export is not None:
            summary = self._exported(self.export, rows)
        elif self.path.suffix == ".csv":
            _write_csv(self.path, rows)
        else:
            write_text(self.path, "".join(map(json_line, rows)))
        if self.journal != self.path:
            self.journal.unlink(missing_ok=True)
        return summary

    def _exported(self, export: Export, rows: list[dict[str, Any]]) -> Any:
        # Beside it under a name with the same ending, which the export may look at.
        aside = self.path.with_name(f".part-{self.path.name}")
        _remove(aside)
        try:
            summary = export([{"metadata": {}, "where": str(row["image"]), **row} for row in rows], aside)
            json.dumps(summary, allow_nan=False)
            aside.rename(self.path)
        except PgtuneError:
            _remove(aside)
            raise
        except (Exception, SystemExit) as error:  # someone else's code: whatever it raises is reported by name
            _remove(aside)
            raise AdapterError(
                f"predict: writing {self.path}, the data adapter's export raised {type(error).__name__}: {error}"
            ) from error
        return summary


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or COLUMNS) != COLUMNS:
            raise ValueError("other columns")
        rows: list[dict[str, Any]] = [row for row in reader if not row.pop("error")]
    for row in rows:
        row["mean_log_probability"] = float(row["mean_log_probability"])
        if row["image"].startswith('["'):
            row["image"] = json.loads(row["image"])
        for name in DETECTED:
            value = row.pop(name)
            if value:
                row[name] = json.loads(value)
    return rows


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        image = row["image"]
        as_json = {name: json.dumps(row[name], ensure_ascii=False) for name in DETECTED if name in row}
        writer.writerow({**row, **as_json, "image": json.dumps(image) if isinstance(image, list) else image})
    # Half of a character, as in a file name that is no UTF-8, is written as its number.
    write_text(path, text.getvalue().encode("utf-8", "backslashreplace").decode("utf-8"))
