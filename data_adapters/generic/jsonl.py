"""Data adapters for common forms that belong to no domain."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, shown

__all__ = ["JsonlAdapter"]


_OPTIONAL = ("part", "question_type", "groups")


@dataclass(frozen=True)
class JsonlAdapter:
    """Rows ``{"image": path or [paths], "prefix", "suffix", "references": [...], "metadata": {...}, ...}``.

    The common form of fine-tuning files for PaliGemma. ``prefix`` and ``suffix`` are passed on unchanged.
    ``references``, a list of all accepted answers, may be absent or null: then the suffix is the only one. So may
    ``part`` and ``question_type``, texts by which scores are given apart, and ``groups``, an object of what the row
    shares with others, such as ``{"patient": 17, "scene": "b"}``. Keys that are not listed here go to the example's
    metadata, beside what the ``metadata`` object holds.

    The arguments are the names of the keys, for files that call them otherwise. ``part``, ``question_type`` and
    ``groups`` may be null: then no key is read as such.
    """

    image: str = "image"
    prefix: str = "prefix"
    suffix: str = "suffix"
    references: str = "references"
    part: str | None = "part"
    question_type: str | None = "question_type"
    groups: str | None = "groups"

    def __post_init__(self) -> None:
        columns = self._columns()
        for argument, column in columns.items():
            if column is None and argument in _OPTIONAL:
                continue
            if not isinstance(column, str) or not column:
                raise AdapterError(f"{argument} must be the name of a key of the rows, got {shown(column)}")
            if list(columns.values()).count(column) > 1:
                raise AdapterError(f"{argument} = {column!r} is the name of another argument's key too")

    def _columns(self) -> dict[str, str | None]:
        names = ("image", "prefix", "suffix", "references", *_OPTIONAL)
        return {name: getattr(self, name) for name in names}

    def __call__(self, row: Mapping[str, Any]) -> Example:
        """The row's Example. Raises DataError, without the row's place: a missing key, a wrong type."""
        columns = (self.image, self.prefix, self.suffix)
        missing = [column for column in columns if column not in row]
        if missing:
            raise DataError("; ".join(self._missing(column, row) for column in missing))
        metadata = row.get("metadata")
        if metadata is not None and not isinstance(metadata, Mapping):
            raise DataError(f"metadata must be an object {{...}}, got {shown(metadata)}")
        known = {*self._columns().values(), "metadata"}
        extra = {key: value for key, value in row.items() if key not in known}
        both = sorted(extra.keys() & (metadata or {}))
        if both:
            raise DataError(f"the key {both[0]!r} is in the row and in its metadata")
        for column in (self.prefix, self.suffix):
            if not isinstance(row[column], str):
                raise DataError(f"{column} must be a text, got {shown(row[column])}")
        images = row[self.image]
        if not isinstance(images, str | list) or not all(isinstance(image, str) and image for image in images):
            raise DataError(f"{self.image} must be a path or a list of paths, got {shown(images)}")
        if not images:
            raise DataError(f"{self.image} is empty, expected a path or a list of paths")
        references = row.get(self.references)
        if references is not None and not isinstance(references, list):
            raise DataError(f"{self.references} must be a list of texts, got {shown(references)}")
        return Example(
            images=images,
            prefix=row[self.prefix],
            suffix=row[self.suffix],
            references=references or (),
            metadata={**extra, **(metadata or {})},
            part=self._text("part", self.part, row),
            question_type=self._text("question_type", self.question_type, row),
            groups=self._groups(row),
        )

    def _text(self, argument: str, column: str | None, row: Mapping[str, Any]) -> str:
        value = None if column is None else row.get(column)
        if value is not None and not isinstance(value, str):
            raise DataError(
                f"{column} must be a text, got {shown(value)}; if it is something else, name another key for the "
                f"argument {argument}, or null"
            )
        return value or ""

    def _groups(self, row: Mapping[str, Any]) -> dict[str, str]:
        groups = None if self.groups is None else row.get(self.groups)
        if groups is None:
            return {}
        if not isinstance(groups, Mapping):
            raise DataError(
                f"{self.groups} must be an object {{...}}, got {shown(groups)}; if it is something else, name another "
                "key for the argument groups, or null"
            )
        found = {}
        for key, value in groups.items():
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise DataError(f"{self.groups}.{key} must be a text or a number, got {shown(value)}")
            found[key] = str(value)
        return found

    def _missing(self, column: str, row: Mapping[str, Any]) -> str:
        others = [key for key in row if key not in (self.image, self.prefix, self.suffix, self.references)]
        close = difflib.get_close_matches(column, others, n=1, cutoff=0.6)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"the key {column!r} is missing{hint} (the row has {', '.join(row) or 'none'})"
