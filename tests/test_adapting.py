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
from pgtune.cli import main
from pgtune.data import open_source
from pgtune.data_adapters.generic.jsonl import JsonlAdapter
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
    assert report == {"rows": 3, "skipped": 0, "bad": 0, "out": out, "splits": {"train": 3}, "left_out": {}}
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
            "set: listing the splits, data adapter Drawn must give names, got list [1]",
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


def rows_of(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(file).read_text(encoding="utf-8").split("\n") if line]


def test_part_type_and_groups_are_written_and_of_groups_only_numbers(project: Path) -> None:
    def row(patient: str, **fields: Any) -> str:
        return json.dumps({"image": "a.png", "prefix": "", "suffix": "x", "groups": {"patient": patient}, **fields})

    (project / "set" / "train.jsonl").write_text("\n".join([row("MRN-9"), row("MRN-4", part="human")]), "utf-8")
    (project / "set" / "valid.jsonl").write_text(
        "\n".join([row("MRN-4", question_type="count"), row("MRN-7"), row("MRN-9")]), "utf-8"
    )
    adapt("jsonl", "set", out="out.jsonl")
    rows = rows_of("out.jsonl")
    assert [row["groups"]["patient"] for row in rows] == [1, 2, 2, 3, 1], "over all splits of the call"
    assert (rows[1]["part"], rows[2]["question_type"]) == ("human", "count")
    assert "part" not in rows[0]
    assert "MRN" not in (project / "out.jsonl").read_text("utf-8")
    assert [example.groups["patient"] for example in read("out.jsonl")] == ["1", "2", "2", "3", "1"]


def test_named_splits_are_taken_in_their_order(project: Path) -> None:
    assert adapt("jsonl", "set", split="valid+train", out="out.jsonl")["splits"] == {"valid": 1, "train": 3}
    assert read("out.jsonl") == read("set", "valid") + read("set")


@pytest.mark.parametrize("processes", [1, 2])
def test_bad_rows_up_to_a_share_are_left_out_and_listed(project: Path, processes: int) -> None:
    report = adapt(
        "my_drawn:Drawn", "9", out="drawn.jsonl", adapter_args={"count": 9}, max_bad_share=0.2, processes=processes
    )
    assert {key: report[key] for key in ("rows", "skipped", "bad", "splits")} == {
        "rows": 7,
        "skipped": 1,
        "bad": 1,
        "splits": {"all": 7},
    }
    left_out = report["left_out"]["all"]
    assert left_out["bad"]["rows"] == [
        {"file": "9", "row": 4, "reason": "the image: partial raised RuntimeError: no ink"}
    ]
    assert left_out["skipped"]["rows"] == [{"file": "9", "row": 2, "reason": "no reason given"}]
    assert [example.suffix for example in read("drawn.jsonl")] == [f"None {n}" for n in (0, 2, 4, 5, 6, 7, 8)]
    before = files(project)
    with pytest.raises(DataError, match=r"9: 1 of 8 rows are bad \(12.5 %, data.max_bad_share allows 10 %\)"):
        adapt("my_drawn:Drawn", "9", out="new.jsonl", adapter_args={"count": 9}, max_bad_share=0.1, processes=processes)
    assert files(project) == before


def test_what_is_written_is_the_same_with_several_processes(project: Path) -> None:
    written = []
    for processes in (1, 3):
        arguments = {"count": 3, "splits": ["train", "dev"]}
        adapt("my_drawn:Drawn", "3", out="drawn.jsonl", adapter_args=arguments, processes=processes)
        made = [path for path in files(project) if path.startswith("drawn") and (project / path).is_file()]
        written.append({path: (project / path).read_bytes() for path in made})
        for path in written[-1]:
            (project / path).unlink()
    assert len(written[0]) == 3
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        ("Failing", "x: the rows cannot go on"),
        ("Wrong", "x, row 40: data adapter Wrong raised KeyError: 'a'"),
        ("Handles", "the rows cannot be handed to other processes"),
        ("Deadly", "a process that read the data ended abruptly"),
    ],
)
def test_what_fails_in_another_process_is_told_as_in_this_one(project: Path, adapter: str, words: str) -> None:
    (project / "my_faults.py").write_text(
        textwrap.dedent(
            """
            import os, threading
            from pgtune.errors import DataError
            from pgtune.example import Example

            class Failing:
                def rows(self, source, split):
                    yield from range(40)
                    raise DataError("x: the rows cannot go on")

                def __call__(self, row):
                    return Example("set/a.png", "", str(row))

            class Wrong(Failing):
                def rows(self, source, split):
                    return iter(range(100))

                def __call__(self, row):
                    return Example("set/a.png", "", str(row)) if row < 39 else {}["a"]

            class Handles(Wrong):
                def rows(self, source, split):
                    yield threading.Lock()

            class Deadly(Wrong):
                def __call__(self, row):
                    os._exit(9)
            """
        ),
        encoding="utf-8",
    )
    before = files(project)
    with pytest.raises(PgtuneError) as caught:
        adapt(f"my_faults:{adapter}", "x", out="out.jsonl", processes=2)
    assert words in str(caught.value)
    if adapter in ("Failing", "Wrong"):
        with pytest.raises(PgtuneError) as alone:
            adapt(f"my_faults:{adapter}", "x", out="out.jsonl")
        assert str(alone.value) == str(caught.value)
    assert files(project) == before
    sys.modules.pop("my_faults", None)


def test_on_the_command_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["adapt", "my_drawn:Drawn", "9", "--arg", "count=9", "--out", "drawn.jsonl"]
    assert main([*words, "--max-bad-share", "0.2", "--processes", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["rows"], document["bad"], document["skipped"]) == (7, 1, 1)
    assert document["left_out"]["all"]["bad"]["rows"][0]["row"] == 4
    assert "write 8/8" in err
    assert main([*words, "--max-bad-share", "0.2"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "9: 1 rows skipped by the data adapter (1 no reason given)",
        "9: 1 bad rows left out",
        "  9, row 4: the image: partial raised RuntimeError: no ink",
        "7 rows, 1 skipped by the data adapter, 1 bad ones left out, written to drawn.jsonl",
    ]
    before = files(project)
    assert main([*words[:-1], "new.jsonl"]) == 2
    assert "9:4: the image: partial raised RuntimeError: no ink" in capsys.readouterr().err
    assert files(project) == before
    for bad in ("1", "-0.1", "x", "nan"):
        with pytest.raises(SystemExit):
            main([*words, f"--max-bad-share={bad}"])
