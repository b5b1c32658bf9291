"""The recipe: the whole schema, and reading one.

A recipe is read from YAML by `load_recipe`, overridden from the command line, and checked in one go: every problem is
reported at once, with its dotted path, the value given and what was expected. Nothing here imports torch.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from pgtune.errors import RecipeError
from pgtune.names import nearest, unknown_name
from pgtune.recipe_build import build
from pgtune.recipe_reading import Draft, dotted, override, read_draft
from pgtune.recipe_rules import contradictions, warnings
from pgtune.recipe_yaml import KeyPath
from pgtune.settings import (
    AugmentSettings,
    DataSettings,
    EvalSettings,
    HubSettings,
    LoraSettings,
    ModelSettings,
    Part,
    Settings,
    Source,
    Text,
    TrackingSettings,
    TrainSettings,
)

__all__ = [
    "AugmentSettings",
    "DataSettings",
    "EvalSettings",
    "HubSettings",
    "LoraSettings",
    "ModelSettings",
    "Part",
    "Recipe",
    "Source",
    "TrackingSettings",
    "TrainSettings",
    "find_recipe",
    "json_schema",
    "load_recipe",
    "shipped_recipes",
]


def _tracking(value: object) -> object:
    return {"to": value} if isinstance(value, str) else value


class Recipe(Settings):
    """All that defines a run."""

    model: ModelSettings = ModelSettings()
    """The base model and which of its parts are trained in full."""

    lora: LoraSettings | None = None
    """Low-rank adaptation; null or left out: full fine-tuning."""

    data: DataSettings
    """The examples: who reads them, and from where."""

    augment: AugmentSettings = AugmentSettings()
    """Pictures changed at random while training."""

    train: TrainSettings = TrainSettings()
    """The optimiser and its schedule."""

    eval: EvalSettings = EvalSettings()
    """How a run is scored."""

    tracking: Annotated[
        TrackingSettings,
        BeforeValidator(
            _tracking, json_schema_input_type=Literal["none", "wandb", "tensorboard"] | TrackingSettings
        ),
    ] = TrackingSettings()
    """none, wandb, tensorboard, or a section with ``to`` and its settings."""

    hub: HubSettings = HubSettings()
    """What is pushed to the Hub when the training has ended."""

    output_dir: Text
    """The run folder, relative to the working directory."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the data order, of new weights and of dropout."""

    @model_validator(mode="after")
    def _no_contradictions(self) -> Self:
        if problems := contradictions(self):
            raise PydanticCustomError("contradictions", "{text}", {
                "text": "; ".join(f"{problem.path}: {problem.message}" for problem in problems),
                "problems": problems,
            })
        return self

    @property
    def resolved_learning_rate(self) -> float:
        """The peak learning rate, ``auto`` resolved: 1e-4 with LoRA, 1e-5 without."""
        chosen = self.train.learning_rate
        if chosen != "auto":
            return chosen
        return 1e-5 if self.lora is None else 1e-4

    def peak_learning_rate(self, part: str) -> float:
        """The peak learning rate of a part: its own, or the recipe's."""
        own: float | None = getattr(self.train.learning_rates, part)
        return self.resolved_learning_rate if own is None else own

    @property
    def rates_in_words(self) -> str:
        """The peak learning rate, and the parts that have their own."""
        own = self.train.learning_rates.model_dump(exclude_none=True)
        parts = ", ".join(f"{part} {rate:g}" for part, rate in own.items())
        return f"{self.resolved_learning_rate:g}" + (f" ({parts})" if parts else "")

    @property
    def method(self) -> str:
        """What the training is called: full, lora, dora, or qlora and qdora on a quantised base."""
        if self.lora is None:
            return "full"
        return ("" if self.model.quantization == "none" else "q") + ("dora" if self.lora.use_dora else "lora")

    @property
    def warnings(self) -> list[str]:
        """What may be meant but should be known: the same data under two keys."""
        return warnings(self)

    def to_yaml(self, header: Sequence[str] = ()) -> str:
        """The recipe as YAML that `load_recipe` reads back to an equal recipe, under comment lines."""
        text = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=1000)
        return "".join(f"# {line}\n" for line in header) + text


# A value written in place of a section stands for this key of it.
SHORT_FORMS: dict[KeyPath, str] = {
    ("data", "train"): "source",
    ("data", "validation"): "source",
    ("data", "test"): "source",
    ("tracking",): "to",
}


def load_recipe(recipe: str | PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and check it against the schema.

    ``recipe`` is a file, the name of a shipped recipe, or a mapping in the shape of one; ``overrides`` are
    ``key.path=value`` texts, read by the same rules. The mapping ``versions`` that a run folder's ``recipe.yaml``
    carries is a record, not a setting, and is passed over. Raises RecipeError listing every problem.
    """
    name = "recipe" if isinstance(recipe, Mapping) else str(recipe)
    try:
        draft = (
            Draft(name, _plain(recipe, ())) if isinstance(recipe, Mapping) else read_draft(find_recipe(recipe), name)
        )
        if isinstance(draft.value.get("versions"), dict):
            del draft.value["versions"]
        override(draft, overrides, SHORT_FORMS)
        return build(Recipe, draft)
    except RecursionError:
        raise RecipeError(f"{name}: too many levels inside one another") from None


def _plain(value: Any, path: KeyPath) -> Any:
    """A copy as a file would hold it: mappings as dicts with keys that are text, paths as text."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise RecipeError(f"recipe: {dotted(path) or 'at the top'}: a key that is not text: {key!r}")
        return {key: _plain(inner, (*path, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, (*path, place)) for place, inner in enumerate(value)]
    return fspath(value) if isinstance(value, PathLike) else value


def find_recipe(recipe: str | PathLike[str]) -> Path:
    """The file behind a path or the name of a shipped recipe; raises RecipeError with the nearest name."""
    path = Path(recipe)
    if path.exists() and not path.is_dir():  # a pipe too
        return path
    shipped = shipped_recipes()
    name = str(recipe)
    if name in shipped:
        return shipped[name]
    if path.is_dir():
        return path  # refused where it is read
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 2:
        close = nearest(path.stem, shipped)
        raise RecipeError(f"{name}: no such file" + (f"; {close!r} is a shipped recipe" if close else ""))
    raise RecipeError(f"{name}: no such file, and {unknown_name('shipped recipe', name, shipped)}")


def json_schema() -> dict[str, Any]:
    """The schema for editors, as ``recipes/schema.json`` holds it."""
    schema = Recipe.model_json_schema()
    record = {"type": "object", "description": "What wrote this file: a record in run folders, not a setting."}
    schema["properties"]["versions"] = record
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def shipped_recipes() -> dict[str, Path]:
    """The recipes in the package by name: the path below ``recipes/`` without ``.yaml``."""
    folder = shipped_folder()
    files = sorted(folder.rglob("*.yaml"))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def shipped_folder() -> Path:
    """The folder of shipped recipes and their data."""
    return Path(str(importlib.resources.files("pgtune.recipes")))
