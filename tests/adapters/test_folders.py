"""A folder of pictures, a class a sub-folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pgtune.data import open_source
from pgtune.data_adapters.generic.image_folder import ImageFolderAdapter
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Skip
from pgtune.recipe import Source


def pictures(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    return folder


def examples(source: Path, split: str = "train", **arguments: Any) -> list[Example]:
    return list(open_source(Source(source=str(source), split=split), ImageFolderAdapter(**arguments)))


def test_classes_in_any_spelling(tmp_path: Path) -> None:
    pictures(tmp_path, "sea_lake/1.jpg", "sea_lake/deep/2.PNG", "Ödland/a b,c.tif")
    pictures(tmp_path, "sea_lake/.3.png", "__MACOSX/x/1.jpg")
    (tmp_path / "sea_lake" / "notes.txt").write_text("not a picture")
    found = examples(tmp_path)
    assert [(Path(str(each.images[0])).name, each.suffix) for each in found] == [
        ("1.jpg", "sea lake"), ("2.PNG", "sea lake"), ("a b,c.tif", "Ödland"),
    ]  # fmt: skip
    assert {each.prefix for each in found} == {"answer en what is in the picture?"}
    assert next(each.suffix for each in examples(tmp_path, underscores=True)) == "sea_lake"
    assert examples(tmp_path, labels={"sea_lake": "water"}, prefix="which?")[0].suffix == "water"


def test_splits(tmp_path: Path) -> None:
    pictures(tmp_path, "train/a/1.png", "val/a/2.png", "test/b/3.png")
    adapter = ImageFolderAdapter()
    assert adapter.splits(tmp_path) == ["train", "validation", "test"]
    assert [each.suffix for each in examples(tmp_path, "test")] == ["b"]
    assert len(examples(tmp_path, "all")) == 3
    assert len(examples(tmp_path, "train+validation")) == 2
    assert adapter.splits(tmp_path / "val") == ["all"]
    assert len(examples(tmp_path / "val", "anything")) == 1  # no splits of its own: all of it
    pictures(tmp_path, "valid/a/2.png")
    with pytest.raises(DataError, match="val and valid are both the split 'validation'"):
        examples(tmp_path)


def test_a_picture_beside_the_classes_is_passed_over(tmp_path: Path) -> None:
    pictures(tmp_path, "a/1.png", "2.png")
    rows = list(ImageFolderAdapter().rows(tmp_path, None))
    skipped = {row.place: isinstance(row.value, Skip) for row in rows}
    assert skipped == {"2.png": True, str(Path("a/1.png")): False}


@pytest.mark.parametrize(
    ("names", "arguments", "words"),
    [
        (["1.png"], {}, "has no sub-folders"),
        (["train/1.png"], {}, "has no sub-folders"),
        (["a/1.png"], {"labels": {"b": "bee", "aa": "x"}}, "labels: there is no folder 'aa' in .*did you mean 'a'"),
        (["train/a/1.png"], {"split": "test"}, "no split 'test'; it has train"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, names: list[str], arguments: dict[str, Any], words: str) -> None:
    pictures(tmp_path, *names)
    with pytest.raises(DataError, match=words):
        examples(tmp_path, **{"split": "all", **arguments})


def test_the_source_must_be_a_folder(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    with pytest.raises(DataError, match="is a file, expected a folder"):
        examples(tmp_path / "a.png")
    with pytest.raises(AdapterError, match=r"labels.a = ''"):
        ImageFolderAdapter(labels={"a": ""})


def test_a_link_to_a_folder_above_is_not_followed(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "a b%20.png")
        (tmp_path / name / "up").symlink_to(tmp_path)
    assert len(examples(tmp_path, split="all")) == 2
