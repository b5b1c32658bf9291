"""Splits: cut by group, the same each time, no group on two sides."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pgtune.errors import DataError, RecipeError
from pgtune.example import Example, Row, Skip
from pgtune.preview import preview
from pgtune.recipe import Recipe, load_recipe
from pgtune.splits import Splits, groups_by_key, open_splits, same_split


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(rows: list[dict[str, Any]], name: str = "rows.jsonl") -> None:
    for row in rows:
        for image in [row["image"]] if isinstance(row["image"], str) else row["image"]:
            if not Path(image).exists():
                Image.new("RGB", (2, 2)).save(image)
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def row(number: int, patient: Any, image: Any = None) -> dict[str, Any]:
    return {
        "image": image or f"{number % 40}.png",
        "prefix": "",
        "suffix": str(number),
        "groups": {"patient": patient},
        "metadata": {"site": number % 8},
    }


def recipe(*overrides: str, train: str = "rows.jsonl", **data: Any) -> Recipe:
    return load_recipe({"data": {"train": train, **data}, "output_dir": "run"}, overrides)


def cut(*overrides: str, by: str = "patient", train: str = "rows.jsonl", **data: Any) -> Splits:
    data = {"split_by": by, "test_share": 0.2, "validation_share": 0.1, **data}
    return open_splits(recipe(*overrides, train=train, **data))


def suffixes(splits: Splits) -> dict[str, set[str]]:
    return {name: {example.suffix for example in examples} for name, examples in splits.items()}


def material(count: int = 300) -> list[dict[str, Any]]:
    return [row(number, number // 3) for number in range(count)]


# Given splits


def test_each_split_is_opened_from_its_source() -> None:
    for name, count in (("train", 3), ("test", 2)):
        write([row(number, 1) for number in range(count)], f"{name}.jsonl")
    given = recipe("data.test=test.jsonl", train="train.jsonl")
    opened = open_splits(given)
    assert {name: len(examples) for name, examples in opened.items()} == {"train": 3, "test": 2}
    assert opened.record is None
    assert list(open_splits(given, ("test",))) == ["test"]
    assert len(open_splits(given, ("train",), limit=1)["train"]) == 1
    with pytest.raises(RecipeError, match=r"data.validation: the recipe has none; it has train, test"):
        open_splits(given, ("validation",))


def test_what_is_left_out_is_said_of_each_source() -> None:
    write([row(1, 1), {**row(2, 2), "suffix": ""}], "train.jsonl")
    write([row(1, 1)], "test.jsonl")
    opened = open_splits(recipe("data.test=test.jsonl", "data.max_bad_share=0.5", train="train.jsonl"))
    assert list(opened.left_out()) == ["train"]
    assert opened.left_out()["train"]["bad"]["count"] == 1
    assert opened.summary()[0] == "train.jsonl: 1 bad rows left out"


# Cut splits


def test_no_group_falls_on_two_sides_and_the_shares_are_met() -> None:
    write(material())
    splits = cut()
    assert {name: len(examples) for name, examples in splits.items()} == {"train": 210, "validation": 30, "test": 60}
    sides = [{example.groups["patient"] for example in examples} for examples in splits.values()]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 100


def test_it_is_the_same_each_time_and_in_any_order_of_the_rows() -> None:
    rows = material()
    write(rows)
    first = suffixes(cut())
    assert suffixes(cut()) == first
    random.Random(0).shuffle(rows)
    write(rows)
    assert suffixes(cut()) == first
    assert suffixes(cut("seed=1")) != first
    assert cut().record != cut("seed=1").record
    only = open_splits(recipe(split_by="patient", test_share=0.2, validation_share=0.1), ("test",))
    assert suffixes(only) == {"test": first["test"]}


def test_the_order_of_a_split_is_that_of_the_rows() -> None:
    write(material())
    numbers = [int(example.suffix) for example in cut()["test"]]
    assert numbers == sorted(numbers)
    assert cut()["test"].where(0) == f"rows.jsonl:{numbers[0] + 1}"


@pytest.mark.parametrize("by", ["site", "image"])
def test_by_a_column_of_the_metadata_or_by_the_picture(by: str) -> None:
    write(material())
    splits = cut(by=by)
    keys = [{example.metadata["site"] if by == "site" else example.images for example in s} for s in splits.values()]
    assert sum(map(len, keys)) == len(set().union(*keys)) == (8 if by == "site" else 40)


def test_examples_that_share_one_of_several_pictures_stay_together() -> None:
    rows = [row(n, n, [f"{n}.png", f"{n + 1}.png"] if n % 5 != 4 else f"{n}.png") for n in range(200)]
    write(rows)
    splits = cut(by="image")
    blocks = [{int(example.suffix) // 5 for example in examples} for examples in splits.values()]
    assert sum(map(len, blocks)) == len(set().union(*blocks)) == 40
    assert len(splits["test"]) == 40


@dataclass(frozen=True)
class Own:
    """A source of its own, with splits of its own."""

    def rows(self, source: Path, split: str | None) -> Iterator[Any]:
        assert split is None, "all of the material"
        for number in range(60):
            yield Row(number, f"table.csv, row {number + 2}") if number % 6 else Skip("a stub")

    def __call__(self, number: int) -> Example:
        picture = Image.new("RGB", (2, 2), (number // 2, 0, 0))
        return Example(picture, "", str(number), groups={"patient": f"P{number // 4}"})


def test_of_a_data_adapter_with_splits_all_of_them_are_the_material(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgtune.splits.load_adapter", lambda name, arguments: Own())
    splits = cut(train="table")
    assert sum(map(len, splits.values())) == 50
    assert splits.left_out()["train"]["skipped"]["count"] == 10
    assert len(splits.summary()) == 1
    by_image = cut(train="table", by="image")
    colours = [{example.images[0].getpixel((0, 0)) for example in s} for s in by_image.values()]  # type: ignore[union-attr]
    assert sum(map(len, colours)) == len(set().union(*colours))


@pytest.mark.parametrize(
    ("sizes", "test"),
    [
        ([50, 50], 50),  # the nearest that leaves both sides something
        ([90, 10], 10),
        ([1] * 100, 20),
        ([95, 1, 1, 1, 1, 1], 5),
        ([40, 30, 20, 10], 20),
    ],
)
def test_shares_are_met_as_well_as_the_groups_allow(sizes: list[int], test: int) -> None:
    write([row(number, group) for group, size in enumerate(sizes) for number in range(size)])
    found = set()
    for seed in range(5):
        splits = cut(f"seed={seed}", validation_share=0.0)
        counts = Counter(example.groups["patient"] for examples in splits.values() for example in examples)
        assert sorted(counts.values()) == sorted(sizes)
        found.add(len(splits["test"]))
    assert test in found
    assert all(size <= max(test, 30) for size in found)


def test_too_few_groups_are_refused() -> None:
    write([row(number, number % 2) for number in range(20)])
    with pytest.raises(DataError, match=r"rows.jsonl: data.split_by = 'patient' finds 2 groups in 20 examples"):
        cut()
    assert {name: len(examples) for name, examples in cut(validation_share=0.0).items()} == {"train": 10, "test": 10}


def test_a_row_without_the_group_is_named() -> None:
    rows = material(10)
    rows[6]["groups"] = {"patent": 3}
    write(rows)
    with pytest.raises(DataError) as caught:
        cut()
    assert str(caught.value) == (
        "rows.jsonl:7: has no group 'patient'; did you mean 'patent'? (it has patent, site, image); "
        "data.split_by needs it in every row"
    )
    rows[6]["groups"] = {"patient": ""}
    write(rows)
    with pytest.raises(DataError, match=r"rows.jsonl:7: the group 'patient' must be a text that is not empty"):
        list(groups_by_key(open_splits(recipe())["train"], "patient"))


def test_a_given_test_stays_and_validation_is_cut_from_train() -> None:
    write(material(100), "train.jsonl")
    write([row(1000, 1000)], "test.jsonl")
    splits = cut(train="train.jsonl", test="test.jsonl", test_share=0.0)
    assert {name: len(examples) for name, examples in splits.items()} == {"train": 90, "validation": 10, "test": 1}
    assert splits.record is not None
    assert set(splits.record["splits"]) == {"train", "validation"}


def test_the_record_says_how_and_which_rows_but_no_groups() -> None:
    write([row(number, f"MRN-{number // 3:05}") for number in range(300)])
    splits = cut()
    record = splits.record
    assert record is not None
    assert {key: record[key] for key in ("split_by", "seed", "shares")} == {
        "split_by": "patient",
        "seed": 0,
        "shares": {"test": 0.2, "validation": 0.1},
    }
    assert {name: (of["examples"], of["groups"]) for name, of in record["splits"].items()} == {
        "train": (210, 70),
        "test": (60, 20),
        "validation": (30, 10),
    }
    rows = [int(example.suffix) + 1 for example in splits["test"]]
    assert record["splits"]["test"]["rows"] == {"rows.jsonl": rows}
    assert "MRN" not in json.dumps(record)
    assert same_split(record, json.loads(json.dumps(record)))
    other = cut("seed=1").record
    assert other is not None
    assert not same_split(record, other)


def test_whoever_asks_gets_the_cut_of_the_training() -> None:
    write(material())
    for number in range(0, 40, 9):
        Path(f"{number}.png").write_bytes(b"no picture")
    given = recipe(split_by="patient", test_share=0.2, validation_share=0.1, max_bad_share=0.2)
    trained = open_splits(given)
    assert sum(map(len, trained.values())) == 262
    assert same_split(open_splits(given, verify="none").record or {}, trained.record or {})
    words = trained.cut_summary()
    assert words.startswith("by patient, seed 0: train ")
    assert ", test 52 (19.8 %, " in words
    assert " groups), validation 27 (10.3 %, " in words


def test_preview_shows_a_cut_split() -> None:
    write(material())
    shown = preview(recipe(split_by="patient", test_share=0.2), split="test", n=2)
    test = cut(validation_share=0.0)["test"]
    assert [one["suffix"] for one in shown] == [test[0].suffix, test[1].suffix]
    with pytest.raises(RecipeError, match=r"data.validation: the recipe has none"):
        preview(recipe(split_by="patient", test_share=0.2), split="validation")
