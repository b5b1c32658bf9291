"""Sources to Examples: what is read, and that a bad row is named by file and number."""

import gc
import json
import os
import pickle
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pgtune import reading
from pgtune.data import Examples, check_text, open_source
from pgtune.data_adapters.generic.jsonl import JsonlAdapter
from pgtune.errors import AdapterError, DataError
from pgtune.example import DataAdapter, Example, Row, Skip
from pgtune.recipe import Source
from pgtune.sources import source_path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two pictures in it."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4), "red").save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def row(**change: Any) -> dict[str, Any]:
    return {"image": "a.png", "prefix": "what?", "suffix": "a cat", **change}


def lines(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in rows)


def read(
    source: str = "train.jsonl", split: str = "train", adapter: DataAdapter | None = None, **options: Any
) -> Examples:
    return open_source(Source(source=source, split=split), adapter or JsonlAdapter(), **options)


GOOD = lines(row())


# What is read


def test_rows_become_examples_that_know_their_place(folder: Path) -> None:
    (folder / "train.jsonl").write_bytes(lines(row(suffix="1"), row(suffix="2", image=["a.png", "b.png"])))
    examples = read()
    assert [example.suffix for example in examples] == ["1", "2"]
    assert examples[1].images == (str(folder / "a.png"), str(folder / "b.png"))
    assert (examples.name, examples.where(1), examples.skipped) == ("train.jsonl", "train.jsonl:2", 0)
    assert examples[1:].where(0) == "train.jsonl:2"
    assert [example.suffix for example in pickle.loads(pickle.dumps(examples))] == ["1", "2"]


def test_byte_order_mark_windows_line_ends_and_blank_lines(folder: Path) -> None:
    content = b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") + b"\r\n  \n" + lines(row(suffix="2")).strip()
    (folder / "train.jsonl").write_bytes(content)
    examples = read()
    assert [example.suffix for example in examples] == ["a cat", "2"]
    assert examples.where(1) == "train.jsonl:4"


def test_a_unicode_line_separator_does_not_end_a_row(folder: Path) -> None:
    (folder / "train.jsonl").write_text(json.dumps(row(suffix="a\u2028b\x85c"), ensure_ascii=False), encoding="utf-8")
    assert read()[0].suffix == "a\u2028b\x85c"


def test_a_json_file_with_a_list(folder: Path) -> None:
    (folder / "rows.json").write_text(json.dumps([row(), row(suffix="2")], indent=1), encoding="utf-8")
    assert read("rows.json").where(1) == "rows.json:2"


def test_a_file_is_taken_as_it_is_whatever_the_split(folder: Path) -> None:
    (folder / "train.jsonl").write_bytes(GOOD)
    assert len(read("train.jsonl", "test")) == 1


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("test.jsonl", "test"),
        ("test.json", "test"),
        ("_annotations.test.jsonl", "test"),
        ("dataset/_annotations.test.jsonl", "test"),
        ("_annotations.valid.jsonl", "validation"),
        ("val.jsonl", "validation"),
        ("validation.jsonl", "validation"),
        ("valid.jsonl", "valid"),
        ("minival.jsonl", "minival"),
    ],
)
def test_a_folder_holds_a_file_for_each_split(folder: Path, name: str, split: str) -> None:
    (folder / "set" / "dataset").mkdir(parents=True)
    (folder / "set" / "train.jsonl").write_bytes(GOOD)
    path = folder / "set" / name
    path.write_bytes(f"[{json.dumps(row())}]".encode() if name.endswith("json") else GOOD)
    Image.new("RGB", (4, 4)).save(path.parent / "a.png")
    examples = read("set", split)
    assert examples.name == os.path.join("set", *name.split("/"))
    assert examples[0].images == (str(path.parent / "a.png"),)


def test_data_that_is_shipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert source_path("pgtune:plots/train.jsonl").parts[-4:] == ("recipes", "data", "plots", "train.jsonl")
    monkeypatch.setattr(reading, "find_files", lambda source, split: [folder / "train.jsonl"])
    (folder / "train.jsonl").write_bytes(GOOD)
    assert len(read("pgtune:train.jsonl")) == 1


def test_limit_counts_examples_and_reads_no_further(folder: Path) -> None:
    (folder / "train.jsonl").write_bytes(lines(row(), row()) + b"not JSON\n")
    assert len(read(limit=2)) == 2


def test_rows_that_the_adapter_skips_are_counted(folder: Path) -> None:
    (folder / "train.jsonl").write_bytes(lines(row(), row(suffix="skip"), row()))

    def adapter(one: dict[str, Any]) -> Example | None:
        return None if one["suffix"] == "skip" else JsonlAdapter()(one)

    examples = read(adapter=adapter)
    assert (len(examples), examples.skipped, examples.where(1)) == (2, 1, "train.jsonl:3")


def test_location_and_segmentation_tokens_are_text_like_any_other(folder: Path) -> None:
    suffix = "<loc0000><loc1023><loc0512><loc0009><seg000><seg127> x <location> a < b > c <loc> <pads>"
    (folder / "train.jsonl").write_bytes(lines(row(prefix="", suffix=suffix)))
    assert read()[0].suffix == suffix


# Image paths


def test_an_absolute_path_is_taken_as_it_is(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "train.jsonl").write_bytes(lines(row(image=str(folder / "a.png"))))
    assert read("sub/train.jsonl")[0].images == (str(folder / "a.png"),)


def test_a_relative_path_may_climb_below_the_root_that_the_recipe_names(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "train.jsonl").write_bytes(lines(row(image="../a.png")))
    assert read("sub/train.jsonl", root=".")[0].images == (str(folder / "a.png"),)
    with pytest.raises(DataError, match=r"sub/train.jsonl, row 1: image '../a.png' is outside of sub; .*data.root"):
        read("sub/train.jsonl")
    with pytest.raises(DataError, match="outside of"):
        read("sub/train.jsonl", root="sub")
    with pytest.raises(DataError, match=r"data.root = 'nowhere': no such folder"):
        read("sub/train.jsonl", root="nowhere")


def test_a_neighbour_with_a_longer_name_is_outside(folder: Path) -> None:
    for name in ("set", "set_b"):
        (folder / name).mkdir()
    Image.new("RGB", (4, 4)).save(folder / "set_b" / "a.png")
    (folder / "set" / "train.jsonl").write_bytes(lines(row(image="../set_b/a.png")))
    with pytest.raises(DataError, match="outside of set;"):
        read("set/train.jsonl")


# Forty malformed files, rows and pictures: each one message that names file and row

BAD_ROWS: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"image: a.png\n", "is not JSON: Expecting value at column 1"),
    "cut off": (GOOD[:30] + b"\n", "is not JSON: "),
    "single quotes": (b"{'image': 'a.png'}\n", "at column 2"),
    "trailing comma": (GOOD.replace(b"}", b",}"), "is not JSON: "),
    "two objects": (GOOD.strip() + GOOD, "Extra data at column 57"),
    "NaN": (GOOD.replace(b'"a cat"', b"NaN"), "holds NaN"),
    "infinity": (GOOD.replace(b'"a cat"', b"-Infinity"), "holds -Infinity"),
    "a number too large": (GOOD.replace(b'"a cat"', b"1e999"), "holds the number 1e999"),
    "an integer too long": (GOOD.replace(b'"a cat"', b"1" * 5000), "is not readable"),
    "brackets without end": (b"[" * 100_000 + b"\n", "too many brackets"),
    "a list": (b'["a.png"]\n', "is a list, expected a JSON object"),
    "a text": (b'"a.png"\n', "is a text"),
    "a number": (b"3\n", "is a number"),
    "null": (b"null\n", "is null"),
    "a key twice": (GOOD.replace(b"{", b'{"suffix": "x", '), "has the key 'suffix' twice"),
    "a key twice further in": (b'{"metadata": {"id": 1, "id": 2}}\n', "has the key 'id' twice"),
    "latin-1": ('{"image": "é"}\n'.encode("latin-1"), "is not UTF-8 text (byte 0xe9 at column 12)"),
    "no image": (b'{"prefix": "", "suffix": "x"}\n', "the key 'image' is missing"),
    "no suffix": (b'{"image": "a.png", "prefix": "", "suffixes": "x"}\n', "did you mean 'suffixes'"),
    "an empty object": (b"{}\n", "the key 'image' is missing"),
    "wrong case": (b'{"Image": "a.png", "prefix": "", "suffix": "x"}\n', "did you mean 'Image'"),
    "image is a number": (lines(row(image=3)), "image must be a path"),
    "image is null": (lines(row(image=None)), "image must be a path"),
    "no images": (lines(row(image=[])), "image is empty"),
    "prefix is null": (lines(row(prefix=None)), "prefix must be a text"),
    "suffix is a list": (lines(row(suffix=["a"])), "suffix must be a text"),
    "references is a text": (lines(row(references="a")), "references must be a list"),
    "references of numbers": (lines(row(references=[1])), "references must be a list"),
    "metadata is a list": (lines(row(metadata=[])), "metadata must be an object"),
    "empty suffix": (lines(row(suffix="")), "suffix is empty"),
    "image token": (lines(row(prefix="<image> what?")), "prefix holds <image>"),
    "bos": (lines(row(prefix="<bos>what?")), "prefix holds <bos>"),
    "eos": (lines(row(suffix="a cat<eos>")), "suffix holds <eos>"),
    "pad": (lines(row(suffix="a <pad> cat")), "suffix holds <pad>"),
    "location too large": (lines(row(suffix="<loc1024>")), "suffix holds <loc1024>"),
    "location too short": (lines(row(suffix="<loc12>")), "<loc0000> to <loc1023>"),
    "segment too large": (lines(row(suffix="<seg128>")), "<seg000> to <seg127>"),
    "location in capitals": (lines(row(prefix="<LOC0001>")), "prefix holds <LOC0001>"),
    "location with a space": (lines(row(prefix="<loc 0001>")), "prefix holds <loc 0001>"),
    "half of a character": (b'{"image": "a.png", "prefix": "\\ud800", "suffix": "x"}\n', "U+D800"),
    "half of a character in references": (
        b'{"image": "a.png", "prefix": "", "suffix": "x", "references": ["\\ud800"]}\n',
        "references and metadata",
    ),
    "missing picture": (lines(row(image="c.png")), "c.png: no such file"),
    "missing folder": (lines(row(image="images/c.png")), "there is no folder"),
    "a folder for a picture": (lines(row(image=".")), "is outside of"),
    "not a picture": (lines(row(image="train.jsonl")), "train.jsonl: not an image"),
    "an empty picture": (lines(row(image="empty.png")), "empty.png: is empty"),
    "a truncated picture": (lines(row(image="truncated.png")), "truncated.png: is damaged or truncated"),
    "second picture missing": (lines(row(image=["a.png", "c.png"])), "c.png: no such file"),
    "a path that climbs out": (lines(row(image="../a.png")), "image '../a.png' is outside of"),
    "a path that climbs out further in": (lines(row(image="x/../../a.png")), "is outside of"),
    "a zero byte in a path": (lines(row(image="a\0.png")), "is not a path"),
    "half of a character in a path": (b'{"image": "\\udc80.png", "prefix": "", "suffix": "x"}\n', "is not a path"),
    "an address": (lines(row(image="https://example.org/a.png")), "pictures are not downloaded"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_named(folder: Path, case: str) -> None:
    content, words = BAD_ROWS[case]
    (folder / "empty.png").touch()
    Image.effect_noise((32, 32), 50).save(folder / "truncated.png")
    (folder / "truncated.png").write_bytes((folder / "truncated.png").read_bytes()[:600])
    (folder / "train.jsonl").write_bytes(GOOD + content + GOOD)
    with pytest.raises(DataError) as caught:
        read()
    message = str(caught.value)
    assert message.startswith("train.jsonl, row 2: ")
    assert words in message
    assert "\n" not in message


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "train.jsonl: the file is empty (0 bytes)"),
    "blank": (b"\n  \n", "train.jsonl: no rows in it"),
    "only a byte order mark": (b"\xef\xbb\xbf", "train.jsonl: no rows in it"),
    "utf-16": (GOOD.decode().encode("utf-16"), "row 1: is not UTF-8 text (it looks like UTF-16)"),
    "binary": (bytes(range(128, 256)), "row 1: is not UTF-8 text"),
    "a csv": (b"image,prefix,suffix\na.png,what?,a cat\n", "row 1: is not JSON"),
    "pretty-printed": (json.dumps(row(), indent=1).encode(), "row 1: is not JSON"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_without_rows_is_named(folder: Path, case: str) -> None:
    content, words = BAD_FILES[case]
    (folder / "train.jsonl").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"train": []}', "rows.json: holds an object, expected a list of objects"),
        (b"[", "rows.json: is not JSON"),
        (b"", "rows.json: is not JSON"),
        (b"[\n{},\n", "at line 2, column 4"),
        (b"[3]", "rows.json, row 1: is a number"),
        (b"[]", "rows.json: no rows in it"),
    ],
)
def test_a_bad_json_list_is_named(folder: Path, content: bytes, words: str) -> None:
    (folder / "rows.json").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read("rows.json")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("source", "split", "words"),
    [
        ("trian.jsonl", "train", ["trian.jsonl: no such file or folder", "did you mean 'train.jsonl'"]),
        ("nowhere/train.jsonl", "train", ["nowhere/train.jsonl: no such file or folder", "there is no folder"]),
        ("set", "test", ["set: no split 'test'", "it has train, valid"]),
        ("set", "trian", ["did you mean 'train'"]),
        ("none", "train", ["none: no split 'train'", "expected train.jsonl"]),
        ("double", "train", ["_annotations.train.jsonl and train.jsonl are both the split 'train'"]),
        ("pgtune:nothing.jsonl", "train", ["pgtune:nothing.jsonl: no such file"]),
    ],
)
def test_a_source_that_is_not_there_says_what_is(folder: Path, source: str, split: str, words: list[str]) -> None:
    (folder / "train.jsonl").write_bytes(GOOD)
    for name in ("set", "none", "double"):
        (folder / name).mkdir()
    for name in ("set/train.jsonl", "set/valid.jsonl", "double/train.jsonl", "double/_annotations.train.jsonl"):
        (folder / name).write_bytes(GOOD)
    with pytest.raises(DataError) as caught:
        read(source, split)
    for word in words:
        assert word in str(caught.value)


def test_the_first_five_bad_rows_and_how_many_more(folder: Path) -> None:
    (folder / "train.jsonl").write_bytes(lines(*[row(suffix=""), row()] * 8))
    with pytest.raises(DataError) as caught:
        read()
    message = str(caught.value)
    assert message.startswith("train.jsonl: 8 bad rows\n  train.jsonl, row 1: suffix is empty")
    assert "train.jsonl, row 9: " in message
    assert "row 11" not in message
    assert message.endswith("... and 3 more")


# Is it the same data?


def test_the_fingerprint_changes_with_what_is_learnt(folder: Path) -> None:
    (folder / "train.jsonl").write_bytes(GOOD)
    first = read().fingerprint
    assert first == read().fingerprint
    assert len(first) == 64
    for changed in (row(suffix="a dog"), row(prefix=""), row(references=["x"]), row(image="b.png")):
        (folder / "train.jsonl").write_bytes(lines(changed))
        assert read().fingerprint != first
    (folder / "train.jsonl").write_bytes(GOOD)
    Image.new("RGB", (40, 40)).save(folder / "a.png")
    assert read().fingerprint != first


# Data adapters of one's own


def red() -> Image.Image:
    return Image.new("RGB", (4, 4), "red")


@dataclass(frozen=True)
class Folders:
    """One folder a class: data that is laid out otherwise."""

    fault: str = ""

    def rows(self, source: Path, split: str | None) -> Iterator[Any]:
        assert source.is_absolute()
        if self.fault == "rows":
            raise RuntimeError("the index is damaged")
        if self.fault == "file":
            (source / f"{split}.csv").read_text(encoding="utf-8")
        for file in sorted((source / str(split)).glob("*/*.png")):
            yield file.relative_to(source)

    def __call__(self, one: Path) -> Example | None:
        if self.fault == "type":
            return "an example"  # type: ignore[return-value]
        if self.fault == "bug":
            raise KeyError("label")
        if self.fault == "metadata":
            return Example(one, "", "x", metadata={"path": one})
        if self.fault == "none":
            return None
        return Example([str(one), red], "", one.parent.name)


@pytest.fixture
def classes(folder: Path) -> Path:
    for name in ("cat", "dog"):
        (folder / "pets" / "train" / name).mkdir(parents=True)
        red().save(folder / "pets" / "train" / name / "1.png")
    return folder


def test_an_adapter_with_rows_of_its_own(classes: Path) -> None:
    examples = read("pets", adapter=Folders())
    assert [example.suffix for example in examples] == ["cat", "dog"]
    assert examples[0].images == (str(classes / "pets" / "train" / "cat" / "1.png"), red)
    assert examples.where(1) == "pets:2"
    assert examples.fingerprint == read("pets", adapter=Folders()).fingerprint


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (
            "type",
            AdapterError,
            "pets, row 1: data adapter Folders must give an Example, or Skip(reason) or None to skip the row; got str",
        ),
        ("bug", AdapterError, "pets, row 1: data adapter Folders raised KeyError: 'label'"),
        ("rows", AdapterError, "pets: reading the rows of split 'train', data adapter Folders raised RuntimeError"),
        ("file", DataError, "train.csv"),
        ("metadata", DataError, "pets: 2 bad rows\n  pets, row 1: references and metadata must hold JSON values only"),
        ("none", DataError, "pets: the data adapter skipped all 2 rows"),
    ],
)
def test_an_adapter_that_fails_is_named_with_the_row(classes: Path, fault: str, kind: type, words: str) -> None:
    with pytest.raises(kind) as caught:
        read("pets", adapter=Folders(fault))
    assert words in str(caught.value)


def test_the_cause_is_chained_and_the_row_shown(folder: Path) -> None:
    def adapter(one: dict[str, Any]) -> Example:
        return Example(one["image"], one["question"], one["suffix"])

    (folder / "train.jsonl").write_bytes(GOOD)
    with pytest.raises(
        AdapterError, match=r"row 1: data adapter adapter .*\(the row has image, prefix, suffix\)"
    ) as caught:
        read(adapter=adapter)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_source_without_rows_says_whether_it_is_there(classes: Path) -> None:
    with pytest.raises(DataError, match=r"^pets: no rows in it$"):
        read("pets", "test", adapter=Folders())

    @dataclass(frozen=True)
    class Lenient(Folders):
        def rows(self, source: Path, split: str | None) -> Iterator[Any]:
            return iter(())

    with pytest.raises(DataError, match=r"^pest: no rows in it; there is no such file or folder$"):
        read("pest", adapter=Lenient())


def test_text_for_a_prediction_is_checked_by_the_same_rules() -> None:
    check_text("prefix", "detect cat <loc0001>")
    with pytest.raises(DataError, match="prefix holds <eos>"):
        check_text("prefix", "<eos>")


def test_a_data_adapter_that_wants_to_leave_does_not_end_the_program(folder: Path) -> None:
    def leaving(one: Any) -> Example:
        raise SystemExit(0)

    (folder / "train.jsonl").write_bytes(GOOD)
    with pytest.raises(AdapterError, match="data adapter leaving raised SystemExit: 0"):
        read(adapter=leaving)


def test_a_limit_below_one_is_refused(folder: Path) -> None:
    (folder / "train.jsonl").write_bytes(GOOD)
    with pytest.raises(DataError, match="limit = 0: expected 1 or more examples"):
        read(limit=0)


# Several splits of one source


def test_splits_are_joined_by_a_plus(folder: Path) -> None:
    (folder / "set" / "dataset").mkdir(parents=True)
    for name, suffix in (("train.jsonl", "1"), ("dataset/_annotations.valid.jsonl", "2"), ("test.jsonl", "3")):
        path = folder / "set" / name
        Image.new("RGB", (4, 4)).save(path.parent / "a.png")
        path.write_bytes(lines(row(suffix=suffix), row(suffix=suffix)))
    joined = read("set", "train+validation")
    assert [example.suffix for example in joined] == ["1", "1", "2", "2"]
    places = ["set/train.jsonl:1", "set/train.jsonl:2", *(f"set/dataset/_annotations.valid.jsonl:{n}" for n in (1, 2))]
    assert [joined.where(index) for index in range(4)] == [os.path.join(*place.split("/")) for place in places]
    assert joined[2].images == (str(folder / "set" / "dataset" / "a.png"),)
    assert joined.name == "set"
    assert [example.suffix for example in read("set", "all")] == ["1", "1", "2", "2", "3", "3"]
    assert [example.suffix for example in read("set", "test+train")] == ["3", "3", "1", "1"]
    assert len(read("set/train.jsonl", "train+validation")) == 2
    (folder / "set" / "test.jsonl").write_bytes(lines(row(), row(suffix="")))
    with pytest.raises(DataError, match=r"set.test.jsonl, row 2: suffix is empty"):
        read("set", "train+test")


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("train+dev", "no split 'dev' in this folder; it has train, val"),
        ("train+", "split 'train+': expected names joined by +"),
        ("train + val", "split 'train + val': expected names joined by +"),
        ("val+val", "val is named twice"),
        ("all+val", "all is every split already"),
        ("val+validation", "names set/val.jsonl twice ('val' is it too)"),
    ],
)
def test_splits_that_cannot_be_joined(folder: Path, split: str, words: str) -> None:
    (folder / "set").mkdir()
    for name in ("train", "val"):
        (folder / "set" / f"{name}.jsonl").write_bytes(lines(row(image=str(folder / "a.png"))))
    with pytest.raises(DataError) as caught:
        read("set", split)
    assert words in str(caught.value)


@dataclass(frozen=True)
class Table:
    """Rows that say where they stand."""

    place: str = "labels.csv, row {}"

    def rows(self, source: Path, split: str | None) -> Iterator[Any]:
        yield Row({"suffix": f"{split} 1"}, self.place.format(2))
        yield Skip("inactive stub")
        yield Row(Skip("inactive stub"), self.place.format(4))
        yield Row({"suffix": f"{split} 2"}, self.place.format(5))
        yield Row({"suffix": "skip"}, self.place.format(6))
        yield {"suffix": f"{split} 3"}

    def __call__(self, one: dict[str, str]) -> Example | Skip | None:
        return Skip("of another kind") if one["suffix"] == "skip" else Example(red, "", one["suffix"])


def test_an_adapter_of_its_own_is_asked_for_each_split(folder: Path) -> None:
    examples = read("table", "train+test", Table("{}"))
    assert [example.suffix for example in examples] == [f"{name} {n}" for name in ("train", "test") for n in (1, 2, 3)]
    assert [examples.where(index) for index in (0, 2, 3, 5)] == [
        "2 (table (train), row 1)",
        "table (train):6",
        "2 (table (test), row 1)",
        "table (test):6",
    ]
    assert [example.suffix for example in read("table", "all", Table())] == ["None 1", "None 2", "None 3"]


# Where rows stand, and what is left out


def test_the_place_that_a_row_names_is_what_it_is_called(folder: Path) -> None:
    examples = read("table", adapter=Table())
    assert [examples.where(index) for index in range(3)] == ["labels.csv, row 2", "labels.csv, row 5", "table:6"]
    assert [examples.row(index) for index in range(3)] == [("table", 1), ("table", 4), ("table", 6)]
    twice = read("table", adapter=Table("labels.csv"))
    assert [twice.where(index) for index in range(3)] == ["labels.csv (row 1)", "labels.csv (row 4)", "table:6"]


def test_what_is_skipped_is_counted_by_reason_and_listed(folder: Path) -> None:
    skipped = read("table", adapter=Table()).left_out.document()["skipped"]
    assert skipped == {
        "count": 3,
        "reasons": {"inactive stub": 2, "of another kind": 1},
        "rows": [
            {"file": "table", "row": 2, "reason": "inactive stub"},
            {"file": "table", "row": 3, "place": "labels.csv, row 4", "reason": "inactive stub"},
            {"file": "table", "row": 5, "place": "labels.csv, row 6", "reason": "of another kind"},
        ],
    }


def test_a_bad_row_is_named_by_its_own_place(folder: Path) -> None:
    class Bad:
        def rows(self, source: Path, split: str | None) -> Iterator[Any]:
            yield Row(3, "q.json, question 17")
            yield Row(DataError("answer is missing"), "q.json, question 18")

        def __call__(self, one: int) -> Example:
            raise DataError("question is empty") if one == 3 else AssertionError

    with pytest.raises(DataError) as caught:
        read("set", adapter=Bad())
    assert str(caught.value) == (
        "set: 2 bad rows\n  q.json, question 17: question is empty\n  q.json, question 18: answer is missing"
    )


def test_a_share_of_bad_rows_may_be_left_out(folder: Path) -> None:
    Image.new("RGB", (4, 4)).save(folder / "c.png")
    (folder / "c.png").write_bytes((folder / "c.png").read_bytes()[:40])
    bad = [row(suffix=""), row(image="c.png")]
    (folder / "train.jsonl").write_bytes(lines(*bad, *[row(suffix=str(n)) for n in range(18)]))
    examples = read(max_bad_share=0.1)
    assert (len(examples), examples[0].suffix, examples.where(0)) == (18, "0", "train.jsonl:3")
    found = examples.left_out.document()["bad"]
    assert found["count"] == 2
    assert [(one["file"], one["row"]) for one in found["rows"]] == [("train.jsonl", 1), ("train.jsonl", 2)]
    assert "c.png: " in found["rows"][1]["reason"]
    with pytest.raises(DataError) as caught:
        read(max_bad_share=0.09)
    assert str(caught.value).startswith(
        "train.jsonl: 2 of 20 rows are bad (10 %, data.max_bad_share allows 9 %)\n  train.jsonl, row 1: suffix is empty"
    )
    assert len(read(max_bad_share=0.09, limit=1)) == 1, "under a limit the share is not known"
    with pytest.raises(DataError, match="row 1: suffix is empty"):
        read(limit=1)


def test_rows_that_are_skipped_have_no_part_in_the_share(folder: Path) -> None:
    class Most(Table):
        def rows(self, source: Path, split: str | None) -> Iterator[Any]:
            yield from [Skip("not ours")] * 98
            yield from (DataError("broken"), {"suffix": "x"})

    with pytest.raises(DataError, match=r"set: 1 of 2 rows are bad \(50 %, data.max_bad_share allows 10 %\)"):
        read("set", adapter=Most(), max_bad_share=0.1)
    assert len(read("set", adapter=Most(), max_bad_share=0.5)) == 1


def test_where_nothing_is_left_it_says_why(folder: Path) -> None:
    class Stubs(Table):
        def rows(self, source: Path, split: str | None) -> Iterator[Any]:
            yield from [Skip("inactive stub")] * 3

    with pytest.raises(DataError, match=r"^set: the data adapter skipped all 3 rows \(3 inactive stub\)$"):
        read("set", adapter=Stubs())


# What is kept of a picture


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the data adapter's own open files
def test_a_picture_in_memory_is_kept_as_it_will_be_seen(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (8, 4), "red").save(folder / "turned.jpg", exif=exif)
    Image.fromarray(np.full((4, 4), 65535, np.uint16)).save(folder / "deep.tiff")

    def adapter(one: dict[str, Any]) -> Example:
        return Example(Image.open(one["image"]), "", one["suffix"])

    (folder / "train.jsonl").write_bytes(lines(row(image="turned.jpg"), row(image="deep.tiff")))
    turned, deep = (example.images[0] for example in read(adapter=adapter))
    assert isinstance(turned, Image.Image)
    assert isinstance(deep, Image.Image)
    assert (turned.size, deep.mode, deep.getpixel((0, 0))) == ((4, 8), "RGB", (255, 255, 255))
    (folder / "deep.tiff").write_bytes((folder / "deep.tiff").read_bytes()[:-20])
    with pytest.raises(DataError, match=r"train.jsonl, row 2: the image: is damaged"):
        read(adapter=adapter)


def test_a_callable_that_no_process_can_be_given_is_refused(folder: Path) -> None:
    (folder / "train.jsonl").write_bytes(GOOD)
    with pytest.raises(AdapterError, match=r"train.jsonl, row 1: data adapter .* that cannot be pickled .*partial"):
        read(adapter=lambda one: Example(lambda: red(), "", one["suffix"]))


# Memory


def test_memory_does_not_grow_with_the_rows(folder: Path) -> None:
    def kept_and_peak(count: int) -> tuple[int, int]:
        with open(folder / "train.jsonl", "wb") as file:
            for number in range(count):
                file.write(lines(row(image=f"{number}.png", suffix=f"answer {number}", id=number)))
        read(verify="none")
        gc.collect()
        tracemalloc.start()
        examples = read(verify="none")
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(examples) == count
        return kept, peak

    few, many = kept_and_peak(500), kept_and_peak(4500)
    assert (many[0] - few[0]) / 4000 < 16, "bytes a row"
    assert (many[1] - few[1]) / 4000 < 40, "bytes a row, while it is read"
