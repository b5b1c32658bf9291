"""Reading predictions that stand in a JSON Lines file, one {"prediction": ..., "references": [...]} a row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pgtune.errors import DataError

__all__ = ["Predictions", "read_predictions"]


@dataclass(frozen=True)
class Predictions:
    """The rows of a predictions file; ``rows[i]`` is the number of the line, from 1, that example i stands on."""

    predictions: list[str]
    references: list[list[str]]
    rows: list[int]


def read_predictions(path: str | Path) -> Predictions:
    """Every row of the file; other keys than the two are ignored, empty lines are skipped.

    Raises DataError, naming file and row, for whatever is not such a row, and for a file without any.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read as a file of predictions: {error.strerror}") from None
    # A byte order mark is how some editors on Windows begin UTF-8.
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    read = Predictions([], [], [])
    for number, line in enumerate(lines, start=1):
        if line.strip():
            prediction, references = _row(line, f"{path.name}, row {number}")
            read.predictions.append(prediction)
            read.references.append(references)
            read.rows.append(number)
    if not read.rows:
        raise DataError(f'{path}: holds no row; expected one {{"prediction": ..., "references": [...]}} a line')
    return read


def _row(line: bytes, where: str) -> tuple[str, list[str]]:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text (byte {error.start + 1} is 0x{line[error.start]:02x})") from None
    try:
        row = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {error}; the line begins {text.strip()[:40]!r}") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object with the keys prediction and references, found {_kind(row)}")
    for key in ("prediction", "references"):
        if key not in row:
            found = ", ".join(map(repr, list(row)[:8])) or "no key"
            raise DataError(f"{where}: the key {key!r} is missing; found {found}")
    prediction, references = row["prediction"], row["references"]
    if not isinstance(prediction, str):
        raise DataError(f"{where}: 'prediction' must be text, found {_kind(prediction)}")
    if not isinstance(references, list):
        raise DataError(f"{where}: 'references' must be a list of texts, found {_kind(references)}")
    if not references:
        raise DataError(f"{where}: 'references' is empty; expected at least one text")
    for place, reference in enumerate(references):
        if not isinstance(reference, str):
            raise DataError(f"{where}: 'references[{place}]' must be text, found {_kind(reference)}")
    return prediction, references


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"the key {key!r} is there twice")
    return dict(pairs)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _kind(value: Any) -> str:
    """A JSON value in words for a message: its kind, and itself where it is short."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case dict():
            return "an object"
        case list():
            return "a list"
        case str():
            return f"the text {value[:40]!r}"
        case _:
            return f"the number {value!s:.40}"
