"""Which arguments of a data adapter are told: its choices and the names of columns, not texts of the data.

A prompt, a list of classes or a table of labels is text of somebody's data. What pgtune's own data adapters are given
is known argument by argument; of another's only numbers and flags are told.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
from typing import Any

from pgtune.names import ADAPTERS

__all__ = ["KINDS", "last_part", "public_arguments", "texts_in"]

KINDS = {
    "block", "chart", "document", "figure", "image", "page", "paper", "patient", "picture", "scene", "series", "source",
    "study", "table", "work",
}  # fmt: skip
"""Kinds of groups that are told by name; another may be somebody's name."""

COLUMNS = {
    "column", "columns", "image", "key", "metadata", "part", "patient", "question_type", "references", "split_column",
}  # fmt: skip
"""Arguments that name columns, attributes or keys."""
OF_COLUMNS = ("csv", "hf", "jsonl")
"""Data adapters whose ``prefix`` and ``suffix`` are names of columns."""
CHOICES = {
    "answer_case", "base_type", "burned_in", "caption", "config", "deidentified", "difficult", "duplicates", "empty",
    "encoding", "experiment", "export_crs", "font", "frame", "kind", "label_crs", "language", "layer", "level",
    "missing", "numeric", "order", "orientation", "partition", "parts", "phrases", "picture", "pictures", "questions",
    "revision", "sections", "sentences", "slices", "stretch", "task", "tasks", "title", "truncated", "version", "views",
    "window", "work",
}  # fmt: skip
"""Arguments that choose among what the data adapter offers."""
PLACES = {"annotation", "annotations", "captions", "images", "labels", "reports"}
"""Files and folders in the source: the last part of the path is told. ``labels`` may be a table of texts too."""
SIGNS = {"delimiter", "separator"}
_NAME = re.compile(r"[A-Za-z_]\w{0,39}", re.ASCII)
_OLD = re.compile(r"[A-Za-z]:[\\/]")
_SHORT = 64


def public_arguments(adapter: str, arguments: dict[str, Any], *, texts: bool) -> tuple[dict[str, Any], list[str]]:
    """The arguments that are told, and the names of those that are left out.

    Args:
        texts: tell all, but for places on this machine.
    """
    found, left_out = {}, []
    defaults = _defaults(adapter)
    for name, value in arguments.items():
        if texts or not texts_in(value) or (name in defaults and defaults[name] == value):
            found[name] = _without_places(value)
        elif adapter in ADAPTERS and _is_told(adapter, name, value):
            found[name] = _last_parts(value) if name in PLACES else _without_places(value)
        else:
            left_out.append(name)
    named = {name: value for name, value in found.items() if texts or _NAME.fullmatch(name)}
    # An argument's name is the data adapter's word, unless it takes any.
    return named, [name if _NAME.fullmatch(name) else "another" for name in (*left_out, *(found.keys() - named.keys()))]


def _defaults(adapter: str) -> dict[str, Any]:
    """What the arguments of a data adapter of pgtune's are where they are not given."""
    if adapter not in ADAPTERS:
        return {}
    module, _, name = ADAPTERS[adapter].partition(":")
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters.values()
    return {one.name: one.default for one in parameters}


def _is_told(adapter: str, name: str, value: Any) -> bool:
    texts = texts_in(value)
    if any(len(text) > _SHORT or "\n" in text for text in texts):
        return False
    if name == "groups":
        names = value if isinstance(value, dict) else texts
        return adapter in OF_COLUMNS and (isinstance(value, str) or all(kind in KINDS for kind in names))
    if name in SIGNS:
        return all(len(text) <= 3 for text in texts)
    if name in PLACES or name in COLUMNS:
        return not isinstance(value, dict)
    return name in CHOICES or (adapter in OF_COLUMNS and name in ("prefix", "suffix"))


def texts_in(value: Any) -> list[str]:
    """All texts in a value, keys too."""
    if isinstance(value, dict):
        return [text for key, inner in value.items() for text in (key, *texts_in(inner))]
    if isinstance(value, list):
        return [text for inner in value for text in texts_in(inner)]
    return [value] if isinstance(value, str) else []


def last_part(path: str) -> str:
    """The name of a file or folder, without where it lies."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] or "data"


def _last_parts(value: Any) -> Any:
    if isinstance(value, list):
        return [_last_parts(inner) for inner in value]
    return last_part(value) if isinstance(value, str) and value else value


def _without_places(value: Any) -> Any:
    """With the last part of each path in place of the path."""
    if isinstance(value, dict):
        return {_without_places(key): _without_places(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_places(inner) for inner in value]
    return last_part(value) if isinstance(value, str) and _is_place(value) else value


def _is_place(text: str) -> bool:
    if os.path.isabs(text) or text.startswith("~") or _OLD.match(text):
        return True
    return len(text) < 1000 and "\n" not in text and re.search(r"[\\/]", text) is not None and os.path.exists(text)
