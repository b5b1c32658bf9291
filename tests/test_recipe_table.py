"""The recipes of the domains: complete comment blocks, commands and sizes that hold, and a table that is current."""

import shlex
import sys
from pathlib import Path

import pytest

from pgtune.recipe import load_recipe

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "scripts"))

import recipe_table  # noqa: E402 - a script, found only now

RECIPES = recipe_table.domain_recipes()


@pytest.mark.parametrize("name", RECIPES)
def test_the_comment_block_is_complete_and_true(name: str) -> None:
    title, keys = recipe_table.header(RECIPES[name])
    assert title
    assert keys["command"] == [f"pgtune train {name}"]
    level = recipe_table.level(keys["level"][0])
    assert level != "V4", "no real weights were ever loaded here"


@pytest.mark.parametrize("name", RECIPES)
def test_the_overrides_for_other_sizes_hold(name: str) -> None:
    for size in recipe_table.header(RECIPES[name])[1].get("size", []):
        overrides = shlex.split(size.partition(": ")[2])
        recipe = load_recipe(str(RECIPES[name]), overrides)
        assert recipe.model.base != load_recipe(str(RECIPES[name])).model.base, size


def test_the_table_is_current() -> None:
    text = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    assert recipe_table.with_table(text) == text, "run python scripts/recipe_table.py"


def test_a_block_that_is_not_complete_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("# Title\n# command: pgtune train x\n# level: V0\nmodel: {}\n")
    with pytest.raises(recipe_table.HeaderError, match="missing"):
        recipe_table.header(path)
    with pytest.raises(recipe_table.HeaderError, match="expected one of V0"):
        recipe_table.level("V9")
