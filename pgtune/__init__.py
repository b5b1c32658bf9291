"""pgtune: parameter-efficient fine-tuning of PaliGemma and PaliGemma 2 from a YAML recipe.

The whole public surface is `__all__`. What needs torch is imported when it is first asked for, so that the command
line and a recipe check answer at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "AdapterError": "errors",
    "DataError": "errors",
    "Example": "example",
    "FineTuned": "loading",
    "HubError": "errors",
    "ModelError": "errors",
    "PgtuneError": "errors",
    "Recipe": "recipe",
    "RecipeError": "errors",
    "RunError": "errors",
    "TrainingError": "errors",
    "evaluate": "evaluation",
    "load": "loading",
    "load_recipe": "recipe",
    "train": "training",
}

__all__ = [
    "AdapterError",
    "DataError",
    "Example",
    "FineTuned",
    "HubError",
    "ModelError",
    "PgtuneError",
    "Recipe",
    "RecipeError",
    "RunError",
    "TrainingError",
    "evaluate",
    "load",
    "load_recipe",
    "train",
]

if TYPE_CHECKING:
    from pgtune.errors import (
        AdapterError,
        DataError,
        HubError,
        ModelError,
        PgtuneError,
        RecipeError,
        RunError,
        TrainingError,
    )
    from pgtune.evaluation import evaluate
    from pgtune.example import Example
    from pgtune.loading import FineTuned, load
    from pgtune.recipe import Recipe, load_recipe
    from pgtune.training import train


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"pgtune.{_HOME[name]}"), name)
    raise AttributeError(f"module 'pgtune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
