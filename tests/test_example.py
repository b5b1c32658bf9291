"""The Example, and finding a data adapter by its name."""

import dataclasses
import pickle
import sys
import textwrap
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, adapter_names, load_adapter


def a_picture() -> Image.Image:
    return Image.new("RGB", (2, 2))


def test_one_image_or_several_become_a_tuple(tmp_path: Path) -> None:
    assert Example("a.png", "p", "s").images == ("a.png",)
    assert Example(Path("a.png"), "p", "s").images == ("a.png",)
    assert Example(["a.png", Path("b.png")], "p", "s").images == ("a.png", "b.png")
    picture = a_picture()
    assert Example((picture, a_picture), "p", "s").images == (picture, a_picture)


def test_references_default_to_the_suffix() -> None:
    assert Example("a", "p", "s").references == ("s",)
    assert Example("a", "p", "s", ["x", "y"]).references == ("x", "y")


def test_an_example_is_frozen_compared_by_value_and_picklable() -> None:
    example = Example([a_picture, "a.png"], "p", "s", metadata={"id": 3})
    assert pickle.loads(pickle.dumps(example)) == example
    assert hash(example) == hash(Example([a_picture, "a.png"], "p", "s"))
    assert dataclasses.replace(example, suffix="t").suffix == "t"
    with pytest.raises(dataclasses.FrozenInstanceError):
        example.suffix = "t"  # type: ignore[misc]


def test_metadata_is_a_copy() -> None:
    given = {"id": 1}
    example = Example("a", "p", "s", metadata=given)
    given["id"] = 2
    assert example.metadata == {"id": 1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"images": []}, "at least one image"),
        ({"images": 3}, "int 3"),
        ({"images": None}, "NoneType None"),
        ({"images": ["a.png", None]}, "NoneType None"),
        ({"images": ""}, "path is empty"),
        ({"images": b"a.png"}, "bytes"),
        ({"images": Image.Image}, "must be a path"),
        ({"prefix": None}, "prefix must be text"),
        ({"suffix": 4}, "suffix must be text (str), got int 4"),
        ({"references": "yes"}, "references must be a list of texts (str), got str 'yes'"),
        ({"references": ["yes", 1]}, "references must be a list of texts (str), got int 1"),
        ({"metadata": ["id"]}, "metadata must be a mapping"),
        ({"metadata": {1: 2}}, "metadata must be a mapping whose keys"),
    ],
)
def test_a_field_of_the_wrong_type_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        Example(**{"images": "a.png", "prefix": "p", "suffix": "s", **arguments})
    assert words in str(caught.value)


# Data adapters by name


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a user's module in it, and a module path that is put back afterwards."""
    (tmp_path / "my_receipts.py").write_text(
        textwrap.dedent(
            """
            from dataclasses import dataclass
            from pgtune.errors import DataError
            from pgtune.example import Example

            @dataclass(frozen=True)
            class Receipts:
                field: str = "total"
                scale: float = 1.0

                def __call__(self, row):
                    return Example(row["image"], f"What is the {self.field}?", row[self.field])

            def strict(field):
                if field != "total":
                    raise ValueError(f"no field {field}")
                return Receipts(field)

            def picky():
                raise DataError("the codebook is missing")

            def anything(**options):
                return Receipts(**options)

            def convert(row):
                return Example(row["image"], "", row["total"])

            def broken():
                return 3

            class Holder:
                Inner = Receipts

            value = 3
            """
        ),
        encoding="utf-8",
    )
    (tmp_path / "my_broken.py").write_text("1 / 0\n", encoding="utf-8")
    (tmp_path / "my_script.py").write_text("raise SystemExit(0)\n", encoding="utf-8")
    (tmp_path / "my_importer.py").write_text("import surely_not_installed\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in ("my_receipts", "my_broken", "my_importer", "my_script"):
        sys.modules.pop(name, None)


def test_a_built_in_name_is_found() -> None:
    assert "jsonl" in adapter_names()
    example = load_adapter("jsonl", {"image": "file"})({"file": "a.png", "prefix": "", "suffix": "s"})
    assert example == Example("a.png", "", "s")


def test_module_and_attribute_are_found_in_the_working_directory(project: Path) -> None:
    adapter = load_adapter("my_receipts:Receipts", {"field": "date"})
    assert adapter({"image": "a.png", "date": "1 May"}) == Example("a.png", "What is the date?", "1 May")
    assert sys.path[-1] == str(project)
    assert load_adapter("my_receipts:Holder.Inner", {}) is not None
    assert load_adapter("my_receipts:anything", {"scale": 2.0}) is not None


def test_an_entry_point_is_found(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sys.path.append(str(project))
    point = metadata.EntryPoint("receipts", "my_receipts:Receipts", "pgtune.data_adapters")

    def entry_points(**selection: Any) -> metadata.EntryPoints:
        return metadata.EntryPoints([point]).select(**selection)

    monkeypatch.setattr("pgtune.example.metadata.entry_points", entry_points)
    assert "receipts" in adapter_names()
    assert load_adapter("receipts", {"field": "date"}) is not None


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("jsnl", {}, ["data.adapter: ", "'jsnl'", "did you mean 'jsonl'", "generated", "module:attribute"]),
        ("zzzzzz", {}, ["'zzzzzz'", "jsonl"]),
        (":Receipts", {}, ["':Receipts' is not module:attribute"]),
        ("my receipts:X", {}, ["'my receipts'"]),
        ("my_receipt:Receipts", {}, ["no module 'my_receipt'", "did you mean 'my_receipts'"]),
        ("my_receipts.deep:Receipts", {}, ["no module 'my_receipts.deep'"]),
        ("my_receipts:Receipt", {}, ["no attribute 'Receipt'", "did you mean 'Receipts'"]),
        ("my_receipts:", {}, ["no attribute ''"]),
        ("my_receipts:value", {}, ["must be a class or function", "int 3"]),
        ("my_broken:X", {}, ["importing my_broken", "ZeroDivisionError"]),
        ("my_script:X", {}, ["importing my_script", "SystemExit: 0"]),
        ("my_receipts:value.deeper", {}, ["3 has no attribute 'deeper'"]),
        ("builtins:dict", {}, ["must give a callable", "dict {}"]),
        ("my_importer:X", {}, ["importing my_importer", "surely_not_installed"]),
        ("my_receipts:broken", {}, ["must give a callable", "int 3"]),
        ("my_receipts:picky", {}, ["data.adapter_args: the codebook is missing"]),
        ("my_receipts:strict", {"field": "date"}, ["data.adapter_args", "ValueError: no field date"]),
        ("my_receipts:strict", {}, ["data.adapter_args.field", "needs this argument"]),
        ("my_receipts:convert", {}, ["data.adapter_args.row", "a recipe names a factory"]),
        ("my_receipts:Receipts", {"fild": "date"}, ["data.adapter_args.fild = 'date'", "did you mean 'field'"]),
        ("my_receipts:Receipts", {"a": 1, "b": 2}, ["data.adapter_args.a", "data.adapter_args.b", "field, scale"]),
        ("jsonl", {"images": "file"}, ["data.adapter_args.images", "did you mean 'image'"]),
        ("jsonl", {"image": 3}, ["data.adapter_args: image", "int 3"]),
        ("jsonl", {"image": "suffix"}, ["data.adapter_args: image = 'suffix'"]),
    ],
)
def test_a_name_that_cannot_be_used_says_why(
    project: Path, name: str, arguments: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(AdapterError) as caught:
        load_adapter(name, arguments)
    for word in words:
        assert word in str(caught.value)
    assert str(caught.value).startswith("data.adapter")


def test_the_key_in_messages_is_the_callers() -> None:
    with pytest.raises(AdapterError, match=r"^ADAPTER: no data adapter"):
        load_adapter("nothing", {}, key="ADAPTER")
