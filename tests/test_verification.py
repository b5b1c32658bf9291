"""Which pictures are looked at before a training."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pgtune import verification
from pgtune.data import Examples, Verify, open_source
from pgtune.data_adapters.generic.jsonl import JsonlAdapter
from pgtune.errors import DataError
from pgtune.example import Example
from pgtune.recipe import Source

ROW = {"image": "a.png", "prefix": "what?", "suffix": "a cat"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two pictures in it."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4), "red").save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, *images: Any) -> None:
    text = "".join(json.dumps({**ROW, "image": image}) + "\n" for image in images)
    (folder / "train.jsonl").write_text(text, encoding="utf-8")


def read(verify: Verify = "auto", max_bad_share: float = 0.0) -> Examples:
    source = Source(source="train.jsonl", split="train")
    return open_source(source, JsonlAdapter(), verify=verify, max_bad_share=max_bad_share)


def test_verification_by_policy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.effect_noise((64, 64), 50).save(folder / "noise.png")
    (folder / "a.png").write_bytes((folder / "noise.png").read_bytes()[:2000])
    write(folder, "a.png")
    for verify in ("auto", "files", "full"):
        with pytest.raises(DataError, match=r"train.jsonl, row 1: image .*a.png: is damaged or truncated"):
            read(verify)
    assert len(read("header")) == 1
    monkeypatch.setattr(verification, "DECODED_FILES", 0)
    assert len(read("auto")) == 1
    (folder / "a.png").unlink()
    for verify in ("auto", "files", "header"):
        with pytest.raises(DataError, match="no such file"):
            read(verify)
    assert len(read("none")) == 1


def test_the_same_picture_is_looked_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(verification, "open_image", seen.append)
    write(folder, *["a.png"] * 5, ["a.png", "b.png"])
    read()
    assert sorted(seen) == [str(folder / "a.png"), str(folder / "b.png")]


def test_each_row_of_a_bad_picture_is_bad_once(folder: Path) -> None:
    (folder / "b.png").write_bytes(b"")
    write(folder, "b.png", "a.png", ["a.png", "b.png"], ["b.png", "missing.png"])
    with pytest.raises(DataError) as caught:
        read()
    lines = str(caught.value).split("\n")
    assert lines[0] == "train.jsonl: 3 bad rows"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [f"train.jsonl, row {n}" for n in (1, 3, 4)]
    assert all("b.png: is empty" in line for line in lines[1:])


def test_of_very_many_some_are_drawn_the_same_each_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DECODED_FILES", "HEADERS"):
        monkeypatch.setattr(verification, name, 5)
    looked: list[list[str]] = []
    monkeypatch.setattr(verification, "check_image", lambda path: looked[-1].append(path))
    monkeypatch.setattr(verification, "open_image", lambda path: pytest.fail("many pictures are not decoded"))
    write(folder, *(f"{number}.png" for number in range(50)))
    for _ in range(2):
        looked.append([])
        read()
    assert len(set(looked[0])) == 5
    assert looked[0] == looked[1]
    for options in ({"verify": "header"}, {"max_bad_share": 0.1}):
        looked.append([])
        read(**options)
        assert len(looked[-1]) == 50


def draw(number: int) -> Image.Image:
    if number % 10 == 7:
        raise RuntimeError("no ink")
    return Image.new("RGB", (2, 2))


@dataclass(frozen=True)
class Drawn:
    """Pictures made on demand."""

    count: int

    def rows(self, source: Path, split: str | None) -> Iterator[int]:
        return iter(range(self.count))

    def __call__(self, number: int) -> Example:
        return Example(["a.png", partial(draw, number)], "", str(number))


def test_pictures_made_on_demand_are_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(count: int, verify: Verify) -> Examples:
        return open_source(Source(source=".", split="train"), Drawn(count), verify=verify)

    for verify in ("auto", "full"):
        with pytest.raises(DataError) as caught:
            drawn(20, verify)
        assert str(caught.value) == (
            ".: 2 bad rows\n  ., row 8: image the image: partial raised RuntimeError: no ink"
            "\n  ., row 18: image the image: partial raised RuntimeError: no ink"
        )
    for verify in ("files", "header", "none"):
        assert len(drawn(20, verify)) == 20
    monkeypatch.setattr(verification, "CALLED", 8)
    monkeypatch.setattr(verification, "CALLED_OF_MANY", 3)
    made: list[int] = []
    monkeypatch.setattr(verification, "open_image", lambda image: callable(image) and made.append(image.args[0]))
    assert len(drawn(20, "auto")) == 20
    assert len(made) == 3
    assert len(drawn(20, "full")) == 20
    assert len(made) == 23
