"""`adapt`: what is written reads back to the same Examples, and nothing half-written is left."""

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pgtune.adapting import adapt
from pgtune.data import open_source
from pgtune.data_adapters.generic import JsonlAdapter
from pgtune.errors import AdapterError, DataError, PgtuneError
from pgtune.example import Example
from pgtune.images import open_image
from pgtune.recipe import Source


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a data set of two splits and a module with data adapters."""
    (tmp_path / "set").mkdir()
    for number, name in enumerate(("a.png", "b.png", "ü c.png")):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / "set" / name)
    rows: list[dict[str, Any]] = [
        {"image": "a.png", "prefix": "", "suffix": "1"},
        {"image": ["b.png", "ü c.png"], "prefix": " é\u2028 ", "suffix": "2\n", "references": ["2", "two"], "id": 7},
        {"image": "a.png", "prefix": "p", "suffix": "3", "metadata": {"box": [0.1, None], "metadata": {"x": True}}},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "set" / "train.jsonl").write_text(text, encoding="utf-8")
    (tmp_path / "set" / "valid.jsonl").write_text(text.splitlines()[0], encoding="utf-8")
    (tmp_path / "my_drawn.py").write_text(
        textwrap.dedent(
            """
            from functools import partial
            from PIL import Image
            from pgtune.example import Example

            def draw(colour):
                if colour == 3:
                    raise RuntimeError("no ink")
                return Image.new("RGB", (5, 5), (colour, 10, 20))

            class Drawn:
                def __init__(self, count=3, splits=None):
                    self.count = count
                    if splits == "broken":
                        self.splits = lambda source: 1 / 0
                    elif splits:
                        self.splits = lambda source: splits

                def rows(self, source, split):
                    return ({"split": split, "colour": colour} for colour in range(self.count))

                def __call__(self, row):
                    if row["colour"] == 1:
                        return None
                    return Example([partial(draw, row["colour"]), draw(0)], "", f"{row['split']} {row['colour']}")
            """
        ),
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("my_drawn", None)


def read(source: str, split: str = "train") -> list[Example]:
    return list(open_source(Source(source=source, split=split), JsonlAdapter()))


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.parametrize("out", ["out.jsonl", "set/out.jsonl", "new/deeper/out.jsonl"])
def test_what_is_written_reads_back_to_the_same_examples(project: Path, out: str) -> None:
    report = adapt("jsonl", "set", split="train", out=out)
    assert report == {"rows": 3, "skipped": 0, "out": out, "splits": {"train": 3}}
    assert read(out) == read("set")


def test_images_are_referred_to_where_they_lie(project: Path) -> None:
    adapt("jsonl", "set/train.jsonl", out="out.jsonl")
    rows = [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").split("\n") if line]
    assert rows[0] == {"image": "set/a.png", "prefix": "", "suffix": "1", "references": ["1"]}
    assert rows[1]["image"] == ["set/b.png", "set/ü c.png"]
    assert rows[1]["metadata"] == {"id": 7}
    adapt("jsonl", "set/train.jsonl", out="elsewhere/out.jsonl")
    first = json.loads(Path("elsewhere/out.jsonl").read_text(encoding="utf-8").split("\n")[0])
    assert first["image"] == (project / "set" / "a.png").as_posix()


def test_all_splits_is_the_default(project: Path) -> None:
    report = adapt("jsonl", "set", out="out.jsonl")
    assert report["splits"] == {"train": 3, "valid": 1}
    assert read("out.jsonl") == read("set") + read("set", "valid")
    assert adapt("jsonl", "set", out="out.jsonl", limit=2)["splits"] == {"train": 2}
    assert len(read("out.jsonl")) == 2
    assert adapt("jsonl", "set", split="validation", out="out.jsonl")["rows"] == 1


def test_pictures_that_lie_in_no_file_are_saved_once_each(project: Path) -> None:
    report = adapt("my_drawn:Drawn", "3", out="drawn.jsonl")
    assert (report["rows"], report["skipped"]) == (2, 1)
    examples = read("drawn.jsonl")
    assert [example.suffix for example in examples] == ["None 0", "None 2"]
    assert len(list((project / "drawn_images").iterdir())) == 2
    second = examples[1].images[0]
    assert str(second).startswith(str(project / "drawn_images"))
    assert np.asarray(open_image(second))[0, 0].tolist() == [2, 10, 20]
    before = files(project)
    adapt("my_drawn:Drawn", "3", out="drawn.jsonl")
    assert files(project) == before


def test_a_data_adapter_may_list_its_splits(project: Path) -> None:
    report = adapt("my_drawn:Drawn", "3", out="drawn.jsonl", adapter_args={"splits": ["train", "dev"]})
    assert report["splits"] == {"train": 2, "dev": 2}
    assert [example.suffix for example in read("drawn.jsonl")] == ["train 0", "train 2", "dev 0", "dev 2"]


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"out": "out.json"}, DataError, "out.json: the file to write must end in .jsonl"),
        ({"out": "folder.jsonl"}, DataError, "folder.jsonl: is a folder"),
        ({"out": "set/train.jsonl"}, DataError, "set/train.jsonl: would overwrite what is read"),
        ({"out": "set/a.png/out.jsonl"}, DataError, "out.jsonl: cannot be written"),
        ({"source": "empty"}, DataError, "empty: no splits in this folder"),
        ({"source": "nowhere"}, DataError, "nowhere: no such file or folder"),
        ({"source": ""}, DataError, "the source is empty"),
        (
            {"adapter_name": "my_drawn:Drawn", "adapter_args": {"splits": "broken"}},
            AdapterError,
            "set: listing the splits, data adapter Drawn raised ZeroDivisionError",
        ),
        (
            {"adapter_name": "my_drawn:Drawn", "adapter_args": {"splits": [1]}},
            AdapterError,
            "set: listing the splits, data adapter Drawn must give names, one or more, got list [1]",
        ),
        ({"source": "bad"}, DataError, "bad/train.jsonl, row 1: is not JSON"),
        ({"split": "test"}, DataError, "set: no split 'test' in this folder; it has train, valid"),
        ({"limit": 0}, DataError, "limit = 0: expected 1 or more"),
        ({"adapter_name": "jsnol"}, AdapterError, "adapter: no data adapter is called 'jsnol'"),
        ({"adapter_args": {"imge": 1}}, AdapterError, "adapter_args.imge"),
        (
            {"adapter_name": "my_drawn:Drawn", "source": "4", "adapter_args": {"count": 4}},
            DataError,
            "4:4: the image: partial raised RuntimeError: no ink",
        ),
    ],
)
def test_after_an_error_nothing_new_is_left(
    project: Path, arguments: dict[str, Any], kind: type[PgtuneError], words: str
) -> None:
    for name in ("folder.jsonl", "empty", "bad"):
        (project / name).mkdir()
    (project / "bad" / "train.jsonl").write_text("{", encoding="utf-8")
    before = files(project)
    with pytest.raises(kind) as caught:
        adapt(**{"adapter_name": "jsonl", "source": "set", "out": "new/out.jsonl", **arguments})
    assert words in str(caught.value)
    assert files(project) == before


def test_an_output_that_is_there_stays_as_it_was_after_an_error(project: Path) -> None:
    (project / "out.jsonl").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError):
        adapt("my_drawn:Drawn", "4", out="out.jsonl", adapter_args={"count": 4})
    assert (project / "out.jsonl").read_text(encoding="utf-8") == "mine"
