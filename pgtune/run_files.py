"""The JSON files of a run folder, read back: each is held against its form before anything is made of it.

A run folder may be damaged, edited, or come from elsewhere. Keys that no form names are passed on as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pgtune import run_forms as forms
from pgtune.errors import RunError
from pgtune.overlaps import Finding
from pgtune.writing import read_rows

__all__ = [
    "read_before",
    "read_document",
    "read_findings",
    "read_log",
    "read_mapping",
    "read_memory",
    "read_metrics",
    "read_other_scores",
    "read_predictions",
    "read_split_record",
    "read_status",
    "read_validation",
    "undamaged",
]


@contextmanager
def undamaged(path: Path) -> Iterator[None]:
    """Around reading a file that pgtune wrote.

    Raises:
        RunError: it is gone, or something else has written into it.
    """
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path}: damaged ({type(error).__name__}: {error}); start anew with --overwrite") from error
    except RecursionError as error:
        raise RunError(f"{path}: damaged: too many levels inside one another") from error


def read_document(path: Path) -> Any:
    """A JSON file, whatever it holds.

    Raises:
        RunError: it is gone, or no JSON.
    """
    with undamaged(path):
        return json.loads(path.read_text(encoding="utf-8"))


def read_mapping(path: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping.

    Raises:
        RunError: it is gone or damaged.
    """
    return _mapping(path, dict[forms.Text, Any])


def read_metrics(path: Path) -> dict[str, Any]:
    """metrics.json, of a run or as it is pushed.

    Raises:
        RunError: it is gone or damaged; as all here.
    """
    return _mapping(path, forms.Metrics)


def read_other_scores(path: Path) -> dict[str, Any]:
    """The metrics.json that `pgtune evaluate` wrote."""
    return _mapping(path, forms.OtherScores)


def read_status(path: Path) -> dict[str, Any]:
    """status.json."""
    return _mapping(path, forms.Status)


def read_memory(path: Path) -> dict[str, Any]:
    """memory.json."""
    return _mapping(path, forms.Memory)


def read_before(path: Path) -> dict[str, Any]:
    """before.json: scores and rows of the base."""
    return _mapping(path, forms.Before)


def read_split_record(path: Path) -> dict[str, Any]:
    """splits.json."""
    return _mapping(path, forms.SplitRecord)


def read_findings(path: Path) -> list[Finding]:
    """overlaps.json."""
    rows: list[dict[str, Any]] = _checked(path, read_document(path), list[forms.Finding])
    return [
        Finding(**{**row, "splits": tuple(row["splits"]), "places": tuple(row.get("places", ()))})
        for row in ({key: row[key] for key in forms.Finding.model_fields if key in row} for row in rows)
    ]


def read_log(path: Path) -> list[dict[str, Any]]:
    """log.jsonl, one row a step."""
    return _rows(path, forms.Step)


def read_validation(path: Path) -> list[dict[str, Any]]:
    """validation.jsonl."""
    return _rows(path, forms.Look)


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """predictions.jsonl, of a training or an evaluation."""
    return _rows(path, forms.Prediction)


def _mapping(path: Path, form: Any) -> dict[str, Any]:
    content: dict[str, Any] = _checked(path, read_document(path), form)
    return content


def _rows(path: Path, form: Any) -> list[dict[str, Any]]:
    with undamaged(path):
        rows = read_rows(path)
    for number, row in enumerate(rows, 1):
        _checked(path, row, form, row=number)
    return rows


_WORDS = {
    "missing": "missing",
    "model_type": "expected a mapping",
    "dict_type": "expected a mapping",
    "is_instance_of": "expected text",
}


@cache
def _adapter(form: Any) -> TypeAdapter[Any]:
    return TypeAdapter(form)


def _checked(path: Path, content: Any, form: Any, *, row: int | None = None) -> Any:
    """The content itself, if it has the form."""
    try:
        _adapter(form).validate_python(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = [f"row {row}"] if row else []
        at += [".".join(map(str, first["loc"]))] if first["loc"] else []
        what = _WORDS.get(first["type"], first["msg"].replace("Input should be", "expected"))
        given = "" if first["type"] == "missing" else f", not {_brief(first['input'])}"
        raise RunError(f"{path}: damaged: {': '.join([*at, what])}{given}") from error
    except RecursionError as error:
        raise RunError(f"{path}: damaged: too many levels inside one another") from error
    return content


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}\u2026"
