"""Every shipped recipe validates from any folder, is written to be read, and stands in the table of recipes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pgtune.cli import main
from pgtune.data import open_source
from pgtune.example import load_adapter
from pgtune.recipe import load_recipe, shipped_recipes

ROOT = Path(__file__).parents[1] / "recipes"
NAMES = sorted(path.relative_to(ROOT).with_suffix("").as_posix() for path in ROOT.rglob("*.yaml"))
DOMAINS = ("charts", "radiology", "remote_sensing", "sheet_music")
OURS = [name for name in NAMES if not name.startswith(DOMAINS)]
"""Their data is shipped or made on demand; tests/adapters runs those of the domains, on data in the same layout."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shipped recipe works from any folder."""
    monkeypatch.chdir(tmp_path)


def test_what_is_in_the_folder_is_what_is_shipped() -> None:
    assert list(shipped_recipes()) == NAMES
    assert {"quickstart", "forkme"} <= set(NAMES)


@pytest.mark.parametrize("name", OURS)
def test_it_validates(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


@pytest.mark.parametrize("name", NAMES)
def test_it_is_written_to_be_read(name: str) -> None:
    path = shipped_recipes()[name]
    lines = path.read_text(encoding="utf-8").splitlines()
    assert re.match(r"# \w", lines[0]), "the first line says what the recipe does: `pgtune recipes` shows it"
    assert max(map(len, lines)) <= 120
    recipe = load_recipe(name)
    assert Path(recipe.output_dir).parts[0] == "runs"
    assert recipe.tracking.to == "none", "a shipped recipe sends nothing"


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(OURS)))
def test_without_its_data_it_says_what_is_not_there(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", name]) == 2
    said = capsys.readouterr().err
    assert re.search(r"data\.train: data/\w+\S*: no such", said)


@pytest.mark.parametrize("name", OURS)
def test_it_learns_nothing_from_what_it_is_scored_on(name: str) -> None:
    data = load_recipe(name).data
    adapter = load_adapter(data.adapter, data.adapter_args)

    def pictures(split: str) -> set[Any]:
        source = getattr(data, split)
        if source is None:
            return set()
        examples = open_source(source, adapter, root=data.root, limit=1000)
        return {image for example in examples for image in example.images}

    train = pictures("train")
    assert train
    assert not train & (pictures("validation") | pictures("test"))


def test_the_table_is_in_line_with_the_folder() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [line.strip("|") for line in text.splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    rows = [row for row in rows if not row[0].strip("`").startswith(DOMAINS)]  # test_recipe_table looks at those
    assert sorted(row[0].strip("`") for row in rows) == OURS
    for name, _, base, method, *_ in rows:
        recipe = load_recipe(name.strip("`"))
        assert (base.strip("`"), method.lower()) == (recipe.model.base, recipe.method)
