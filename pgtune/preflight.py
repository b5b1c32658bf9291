"""All that can be checked of a recipe without a model: names, files, the data adapter and its arguments."""

from __future__ import annotations

from pathlib import Path

from pgtune.data import open_source
from pgtune.errors import DataError, PgtuneError, RunError
from pgtune.example import load_adapter
from pgtune.groups import group_of
from pgtune.names import BASES, HUB_ID, nearest
from pgtune.recipe import Recipe, Source
from pgtune.recipe_reading import Problem, report
from pgtune.run_folder import RunFolder

__all__ = ["validate_recipe"]


def validate_recipe(recipe: Recipe, name: str = "recipe") -> list[str]:
    """Check what the schema cannot see; returns warnings.

    The base is a shipped name, a folder with a model in it, or has the form of a Hub id; the data adapter exists and
    takes its arguments; each source can be opened and its first example read. Raises RecipeError with all problems,
    under ``name``, which is what the user calls the recipe.
    """
    problems = [*_base(recipe), *_hub(recipe), *_data(recipe)]
    try:
        RunFolder(recipe.output_dir).check_place(recipe)
    except RunError as error:
        problems.append(Problem("output_dir", str(error).removeprefix("output_dir: "), recipe.output_dir))
    if problems:
        raise report(name, problems)
    return recipe.warnings


def _base(recipe: Recipe) -> list[Problem]:
    base, revision = recipe.model.base, recipe.model.revision
    folder = Path(base)
    if base in BASES or (not folder.exists() and HUB_ID.fullmatch(base)):
        return []
    if not folder.exists():
        close = nearest(base, BASES)
        message = (
            f"{base!r} is no folder here, no Hub id (org/name) and none of the shipped bases "
            f"({', '.join(sorted(BASES))})" + (f"; did you mean {close}?" if close else "")
        )
    elif not folder.is_dir():
        message = f"{base} is a file; expected the folder of a checkpoint"
    elif not (folder / "config.json").is_file():
        message = f"the folder {base} has no config.json; expected a PaliGemma checkpoint"
    elif revision is not None:
        return [Problem("model.revision", f"{revision!r} has no effect on a folder; it is for Hub ids", revision)]
    else:
        return []
    return [Problem("model.base", message, base)]


def _hub(recipe: Recipe) -> list[Problem]:
    started, problems = recipe.model.adapter, []
    if started is not None and not Path(started).is_dir() and not HUB_ID.fullmatch(started):
        message = f"{started!r} is no run folder here and no Hub id (org/name)"
        problems.append(Problem("model.adapter", message, started))
    if recipe.hub.push_to is not None and Path(recipe.model.base).is_dir() and recipe.model.base not in BASES:
        message = (
            f"{recipe.hub.push_to!r} would need a name for the base, which is the folder {recipe.model.base}; push "
            "when the run is finished, with `pgtune push RUN org/name --base org/name`"
        )
        problems.append(Problem("hub.push_to", message, recipe.hub.push_to))
    return problems


def _data(recipe: Recipe) -> list[Problem]:
    data = recipe.data
    try:
        adapter = load_adapter(data.adapter, data.adapter_args)
    except PgtuneError as error:
        return [Problem("", str(error), data.adapter)]
    problems = []
    for key in ("train", "validation", "test"):
        source: Source | None = getattr(data, key)
        if source is None:
            continue
        try:
            examples = open_source(
                source, adapter, root=data.root, limit=1, verify="header", max_bad_share=data.max_bad_share
            )
        except PgtuneError as error:
            problems.append(Problem(f"data.{key}", str(error), source.source))
            continue
        if key == "train" and data.split_by is not None:
            try:
                group_of(examples[0], data.split_by)
            except DataError as error:
                problems.append(Problem("data.split_by", f"{examples.where(0)}: {error}", data.split_by))
    return problems
