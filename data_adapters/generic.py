"""Data adapters for common forms that belong to no domain."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, shown

__all__ = ["JsonlAdapter"]


@dataclass(frozen=True)
class JsonlAdapter:
    """Rows ``{"image": path or [paths], "prefix", "suffix", "references": [...], "metadata": {...}, ...}``.

    The common form of fine-tuning files for PaliGemma. ``prefix`` and ``suffix`` are passed on unchanged.
    ``references``, a list of all accepted answers, may be absent or null: then the suffix is the only one. Keys that
    are not listed here go to the example's metadata, beside what the ``metadata`` object holds.

    The arguments are the names of the keys, for files that call them otherwise.
    """

    image: str = "image"
    prefix: str = "prefix"
    suffix: str = "suffix"
    references: str = "references"

    def __post_init__(self) -> None:
        columns = [self.image, self.prefix, self.suffix, self.references]
        for argument, column in zip(("image", "prefix", "suffix", "references"), columns, strict=True):
            if not isinstance(column, str) or not column:
                raise AdapterError(f"{argument} must be the name of a key of the rows, got {shown(column)}")
            if columns.count(column) > 1:
                raise AdapterError(f"{argument} = {column!r} is the name of another argument's key too")

    def __call__(self, row: Mapping[str, Any]) -> Example:
        """The row's Example. Raises DataError, without the row's place: a missing key, a wrong type."""
        columns = (self.image, self.prefix, self.suffix)
        missing = [column for column in columns if column not in row]
        if missing:
            raise DataError("; ".join(self._missing(column, row) for column in missing))
        metadata = row.get("metadata")
        if metadata is not None and not isinstance(metadata, Mapping):
            raise DataError(f"metadata must be an object {{...}}, got {shown(metadata)}")
        known = {*columns, self.references, "metadata"}
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
        )

    def _missing(self, column: str, row: Mapping[str, Any]) -> str:
        others = [key for key in row if key not in (self.image, self.prefix, self.suffix, self.references)]
        close = difflib.get_close_matches(column, others, n=1, cutoff=0.6)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"the key {column!r} is missing{hint} (the row has {', '.join(row) or 'none'})"
