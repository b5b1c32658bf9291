"""Reading predictions that stand in a JSON Lines file, one {"prediction": ..., "references": [...]} a row."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from pgtune.errors import DataError

__all__ = ["Predictions", "read_predictions"]


@dataclass(frozen=True)
class Predictions:
    """The rows of a predictions file; ``rows[i]`` is the number of the line, from 1, that example i stands on.

    The other lists are as long and as in `pgtune.metrics.compute`.
    """

    predictions: list[str] = field(default_factory=list)
    references: list[list[str]] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    question_types: list[str] = field(default_factory=list)
    clusters: list[Hashable] = field(default_factory=list)
    scores: list[list[float] | None] = field(default_factory=list)
    sizes: list[tuple[int, int] | None] = field(default_factory=list)
    boxes: list[list[dict[str, Any]] | None] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


def read_predictions(path: str | Path) -> Predictions:
    """Every row of the file; keys that mean nothing here are ignored, empty lines are skipped.

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
    read = Predictions()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            _add(read, line, f"{path.name}, row {number}", number)
    if not read.rows:
        raise DataError(f'{path}: holds no row; expected one {{"prediction": ..., "references": [...]}} a line')
    return read


def _add(read: Predictions, line: bytes, where: str, number: int) -> None:
    row = _object(line, where)
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
    read.predictions.append(prediction)
    read.references.append(references)
    read.parts.append(_text(row, "part", where))
    read.question_types.append(_text(row, "question_type", where))
    read.clusters.append(_cluster(row, where, number))
    read.scores.append(_scores(row, where))
    read.sizes.append(_size(row, where))
    read.boxes.append(_boxes(row, where))
    read.rows.append(number)


def _object(line: bytes, where: str) -> dict[str, Any]:
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
    return row


def _text(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{where}: {key!r} must be text, found {_kind(value)}")
    return value


def _cluster(row: dict[str, Any], where: str, number: int) -> Hashable:
    """Rows without one stand for themselves."""
    value = row.get("cluster")
    if value is None:
        return ("row", number)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise DataError(f"{where}: 'cluster' must be text or a whole number, found {_kind(value)}")
    return value


def _scores(row: dict[str, Any], where: str) -> list[float] | None:
    value = row.get("score")
    if value is None:
        return None
    if not isinstance(value, list) or not all(_is_number(score) for score in value):
        raise DataError(f"{where}: 'score' must be a list of numbers, one for each predicted box, found {_kind(value)}")
    return [float(score) for score in value]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _size(row: dict[str, Any], where: str) -> tuple[int, int] | None:
    value = row.get("size")
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(side, int) and side > 0 for side in value):
        raise DataError(f"{where}: 'size' must be [width, height] in pixels, found {_kind(value)}")
    return value[0], value[1]


def _boxes(row: dict[str, Any], where: str) -> list[dict[str, Any]] | None:
    value = row.get("boxes")
    if value is None:
        return None
    if not isinstance(value, list):
        raise DataError(f"{where}: 'boxes' must be a list of objects, found {_kind(value)}")
    for place, one in enumerate(value):
        box = one.get("box") if isinstance(one, dict) else None
        right = isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))
        if not right or not isinstance(one.get("label"), str) or not _is_number(one.get("score")):
            raise DataError(f"{where}: 'boxes[{place}]' must be an object with box (four numbers), label and score")
    return value


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
