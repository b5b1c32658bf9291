"""Data that only people with a signed agreement may see: what it is known by, however it came into a run.

A data adapter is known by its class, not by the name that a recipe calls it. `pgtune adapt` leaves a mark in the
metadata of each row, which stays with a row through copying, joining and adapting files again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pgtune.example import Example, load_adapter
from pgtune.names import ADAPTERS, CREDENTIALED
from pgtune.recipe import Recipe

__all__ = ["MARK", "facts_of", "origin_named", "origin_of", "origin_of_rows"]

MARK = "pgtune_adapter"
"""The key of a row's metadata that names the credentialed data adapter that the row came from."""

_CLASSES = {ADAPTERS[name].removeprefix("pgtune."): name for name in CREDENTIALED}


def origin_of(adapter: object) -> str | None:
    """The name of the credentialed data adapter that this one is, or is derived from."""
    for kind in type(adapter).__mro__:
        # The package's modules can be imported under two names, see CONTRIBUTING.md.
        if found := _CLASSES.get(f"{kind.__module__}:{kind.__qualname__}".removeprefix("pgtune.")):
            return found
    return None


def origin_named(name: str) -> str | None:
    """The same by a name in a recipe, with nothing imported: the short name, or ``module:attribute`` of the class."""
    if name in CREDENTIALED:
        return name
    classes = {target.rpartition(":")[2]: short for target, short in _CLASSES.items()}
    return classes.get(name.rpartition(":")[2]) if ":" in name else None


def origin_of_rows(metadata: Iterable[Mapping[str, Any]]) -> str | None:
    """The mark of the first row that has one."""
    for one in metadata:
        if (found := one.get(MARK)) is not None:
            # A mark of a later version is a mark too.
            return found if isinstance(found, str) and found in CREDENTIALED else next(iter(CREDENTIALED))
    return None


def facts_of(recipe: Recipe, splits: Mapping[str, Iterable[Example]], *, adapter_is_folder: bool) -> dict[str, Any]:
    """What a run notes when it starts, for a push that may come years later.

    Args:
        adapter_is_folder: whether `model.adapter` is a folder of this machine.

    Returns:
        ``credentialed``: the credentialed data adapter that rows came from, or None. ``adapter_on_hub``: whether
        `model.adapter` was taken from the Hub.
    """
    name = recipe.data.adapter
    found = origin_named(name)
    if found is None and name not in ADAPTERS:
        found = origin_of(load_adapter(name, recipe.data.adapter_args))
    found = found or origin_of_rows(example.metadata for examples in splits.values() for example in examples)
    return {"credentialed": found, "adapter_on_hub": recipe.model.adapter is not None and not adapter_is_folder}
