"""Packages that only some metrics need: imported when they are used, with a message that says how to get them."""

from __future__ import annotations

import importlib
from typing import Any

from pgtune.errors import RecipeError

__all__ = ["require"]


def require(module: str, metric: str, extra: str) -> Any:
    """The module of that name. Raises RecipeError, which names the extra to install, where its package is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise RecipeError(
            f"the metric {metric} needs the package {error.name}, which is not installed: pip install 'pgtune[{extra}]'"
        ) from error
