"""What the columns of a table or the keys of a row are for, told by their names."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

__all__ = ["TABLES", "group_column", "heads_of", "text_columns"]

TABLES = frozenset({".csv", ".tsv"})
ROLES = {
    "image": ("image", "image_path", "img", "imgname", "filename", "file_name", "file", "path", "picture", "photo"),
    "prefix": ("prefix", "prompt", "question", "instruction"),
    "suffix": ("suffix", "answer", "label", "class", "caption", "response", "report", "text"),
    "references": ("references", "answers"),
}
GROUPS = ("patient", "patient_id", "patientid", "subject", "subject_id", "scene", "work", "group", "site")


def text_columns(names: Iterable[str]) -> dict[str, str]:
    """The column of each role of ``ROLES``, as it is spelt; roles without one are left out."""
    spelt = {name.lower().strip(): name for name in names}
    return {
        role: next(spelt[name] for name in known if name in spelt)
        for role, known in ROLES.items()
        if any(name in spelt for name in known)
    }


def group_column(names: Iterable[str]) -> str | None:
    """The column that says what belongs together, or None."""
    spelt = {name.lower().strip(): name for name in names}
    return next((spelt[name] for name in GROUPS if name in spelt), None)


def heads_of(path: Path) -> list[str]:
    """The names of a table's columns."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        line = file.readline()
    delimiter = max((",", ";", "\t", "|"), key=line.count)
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a name longer than 128 kB: no table that anyone can name columns of
        return []
