"""preview: what the model will see, as the collator lays it out, without weights."""

from __future__ import annotations

import pytest
from conftest import read_jsonl, recipe_for

from pgtune.collate import Collator
from pgtune.errors import DataError, RecipeError
from pgtune.example import Example
from pgtune.preview import preview, render

KEYS = {"prefix", "suffix", "image_tokens", "input_ids", "tokens", "labels", "prefix_length"}


def test_rows_are_the_collators_layouts_in_file_order(bench, base, data, tmp_path):
    rows = preview(recipe_for(base, data, tmp_path / "run"), n=5)
    given = read_jsonl(data / "train.jsonl")[:5]
    collator = Collator(bench.loaded.processor)
    assert len(rows) == 5
    for row, source in zip(rows, given, strict=True):
        assert row.keys() >= KEYS
        assert (row["prefix"], row["suffix"]) == (source["prefix"], source["suffix"])
        layout = collator.layout(Example(source["image"], source["prefix"], source["suffix"]))
        assert row["input_ids"] == layout.input_ids
        assert row["labels"] == layout.labels
        assert row["prefix_length"] == layout.prefix_length
        assert row["image_tokens"] == 64
        assert len(row["tokens"]) == len(row["labels"]) == len(row["input_ids"])
        assert row["tokens"][64] == "<bos>"
        assert row["tokens"][-1] == "<eos>"
        assert row["labels"][: row["prefix_length"]] == [-100] * row["prefix_length"]
    assert not (tmp_path / "run").exists()


def test_other_splits_and_more_than_there_is(base, data, tmp_path):
    recipe = recipe_for(base, data, tmp_path / "run", f"data.test={data / 'test.jsonl'}")
    assert len(preview(recipe, split="test", n=100)) == 5
    with pytest.raises(RecipeError, match=r"data.validation: the recipe has none"):
        preview(recipe, split="validation")


def test_examples_that_are_left_out_do_not_count(base, data, tmp_path):
    """N objects, in file order, of those that will be learnt."""
    recipe = recipe_for(base, data, tmp_path / "run", "data.max_text_tokens=8", "data.too_long=skip")
    rows = preview(recipe, n=3)
    assert len(rows) == 3
    assert all(len(row["input_ids"]) - row["image_tokens"] <= 8 for row in rows)
    with pytest.raises(DataError, match=r"train.jsonl:\d+: the text has"):
        preview(recipe_for(base, data, tmp_path / "run", "data.max_text_tokens=4"), n=24)


def test_in_a_terminal(base, data, tmp_path):
    rows = preview(recipe_for(base, data, tmp_path / "run"), n=2)
    plain = render(rows, colour=False)
    assert "\x1b" not in plain
    assert "seen    <image> x 64 [<bos>]" in plain
    assert "[<eos>]" in plain
    assert "[\\n]" in plain
    assert "\x1b[32m" in render(rows, colour=True)
