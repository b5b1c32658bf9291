"""predict() with a data adapter's own inputs and exports, and with boxes: the rows, the files, and what goes wrong."""

from __future__ import annotations

import csv
import json
import shutil
import sys

import pytest
from conftest import read_jsonl, recipe_for, write_rows
from PIL import Image

from pgtune import detection, prediction, train
from pgtune.detection import Detected
from pgtune.errors import AdapterError, DataError, RecipeError
from pgtune.prediction import predict
from pgtune.prediction_files import DETECTED

MODULE = """
from functools import partial
from pathlib import Path

from PIL import Image

from pgtune.errors import DataError
from pgtune.example import Example


def tile(path, number):
    if number == 3:
        raise DataError(f"{path}: tile 3 is damaged")
    return Image.new("RGB", (40, 20), (number * 10, 0, 0))


def write_map(rows, path):
    assert path.suffix == ".map", path
    if any(row["metadata"].get("refuse") for row in rows):
        raise ValueError("no place for this")
    path.write_text("".join(f"{row['image']} {row['prediction']!r}\\n" for row in rows))
    return {"features": len(rows)}


def write_folder(rows, path):
    path.mkdir()
    for number, row in enumerate(rows):
        (path / f"{number}.txt").write_text(str(row["prediction"]))


class Adapter:
    exports = {".map": write_map, ".parts": write_folder}

    def __call__(self, row):
        return Example(row["image"], row["prefix"], row["suffix"])

    def inputs(self, source, prefix):
        if prefix == "fail":
            raise KeyError("lost")
        if prefix == "odd":
            yield "text"
        if prefix == "nothing":
            return
        yield Example("beside.png", prefix or "own", "", metadata={"refuse": prefix == "refuse"})
        for number in range(1, 4):
            picture = partial(tile, source, number)
            suffix = "truth" if number == 1 else ""
            yield Example(picture, prefix or "own", suffix, metadata={"tile": [number, 0]})
        yield Example([partial(tile, source, 4), partial(tile, source, 5)], prefix or "own", "")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory, small_bases, data):
    """A run whose data adapter cuts scenes into tiles and writes maps."""
    folder = tmp_path_factory.mktemp("adapter")
    (folder / "maps_of_ours.py").write_text(MODULE)
    sys.path.append(str(folder))
    recipe = recipe_for(
        small_bases["paligemma2"], data, folder / "run", "train.max_steps=1", "data.adapter=maps_of_ours:Adapter"
    )
    train(recipe)
    yield folder / "run"
    sys.path.remove(str(folder))


@pytest.fixture
def scene(tmp_path, pictures):
    """A file that is no picture, and one that lies beside it."""
    shutil.copy(pictures[0], tmp_path / "beside.png")
    (tmp_path / "scene.dat").write_bytes(b"not a picture")
    return tmp_path / "scene.dat"


def test_a_data_adapters_inputs_are_predicted_tile_by_tile(run, scene, tmp_path):
    result = predict(run, input=str(scene), out=tmp_path / "out.jsonl")
    assert (result["rows"], result["errors"], result["skipped"]) == (5, 1, 0)
    rows = read_jsonl(tmp_path / "out.jsonl")
    two = [f"{scene}#5.1", f"{scene}#5.2"]
    assert [row["image"] for row in rows] == [
        str(scene.parent / "beside.png"),
        *(f"{scene}#{n}" for n in (2, 3, 4)),
        two,
    ]
    assert [row["where"] for row in rows] == [f"{scene}#{n}" for n in range(1, 6)]
    assert {row["prefix"] for row in rows} == {"own"}
    assert rows[1]["metadata"] == {"tile": [1, 0]}
    assert rows[1]["references"] == ["truth"]
    assert "references" not in rows[2]
    assert rows[3]["error"] == f"{scene}: tile 3 is damaged"
    again = predict(run, input=str(scene), out=tmp_path / "out.jsonl")
    assert (again["rows"], again["errors"], again["skipped"]) == (5, 1, 4), "only the damaged one is asked again"


@pytest.mark.parametrize("name", ["scene.tif", "scene.JP2", "folder"])
def test_scenes_and_folders_without_plain_pictures_go_to_the_data_adapter(run, tmp_path, pictures, name):
    shutil.copy(pictures[0], tmp_path / "beside.png")
    if name == "folder":
        (tmp_path / name).mkdir()
        shutil.copy(pictures[0], tmp_path / name / "beside.png")
        (tmp_path / name / "beside.png").rename(tmp_path / name / "a.tif")
        shutil.copy(pictures[0], tmp_path / "folder" / "b.tiff")
    else:
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    predict(run, input=str(tmp_path / name), prefix="x", out=tmp_path / "out.jsonl")
    assert [row["where"] for row in read_jsonl(tmp_path / "out.jsonl")] == [
        f"{tmp_path / name}#{n}" for n in range(1, 6)
    ]


def test_plain_pictures_are_read_as_ever(run, tmp_path, pictures, monkeypatch):
    (tmp_path / "in").mkdir()
    shutil.copy(pictures[0], tmp_path / "in" / "a.png")
    (tmp_path / "in" / "notes.txt").write_text("x")
    monkeypatch.setattr(prediction, "load_adapter", lambda *_: pytest.fail("not needed"))
    for given in (tmp_path / "in", tmp_path / "in" / "a.png", tmp_path / "in" / "*.png"):
        out = tmp_path / f"{given.name.replace('*', '')}.jsonl"
        predict(run, input=str(given), prefix="x", out=out)
        assert [row["image"] for row in read_jsonl(out)] == [str(tmp_path / "in" / "a.png")]


def test_an_export_is_written_whole_and_says_what_it_wrote(run, scene, tmp_path):
    result = predict(run, input=str(scene), out=tmp_path / "out.map")
    assert result["export"] == {"features": 5}
    lines = (tmp_path / "out.map").read_text().splitlines()
    assert [line.split()[0] for line in lines[1:4]] == [f"{scene}#{n}" for n in (2, 3, 4)]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["beside.png", "out.map", "scene.dat"]
    folder = predict(run, input=str(scene), out=tmp_path / "out.parts")
    assert folder["export"] is None
    assert len(list((tmp_path / "out.parts").iterdir())) == 5
    for name in ("out.map", "out.parts"):
        with pytest.raises(RecipeError, match=f"{name}: exists already; name another, or remove it"):
            predict(run, input=str(scene), out=tmp_path / name)


def test_an_export_that_fails_leaves_nothing_but_the_answers_to_go_on_from(run, scene, tmp_path, monkeypatch):
    with pytest.raises(
        AdapterError, match=r"writing .*out\.map, the data adapter's export raised ValueError: no place"
    ):
        predict(run, input=str(scene), prefix="refuse", out=tmp_path / "out.map")
    names = sorted(entry.name for entry in tmp_path.iterdir())
    assert names == [".out.map.rows.jsonl", "beside.png", "scene.dat"]
    assert len(read_jsonl(tmp_path / ".out.map.rows.jsonl")) == 5
    result = predict(run, input=str(scene), prefix="fine", out=tmp_path / "out.map")
    assert (result["rows"], result["skipped"]) == (5, 0)
    assert len((tmp_path / "out.map").read_text().splitlines()) == 5, "what else is in the journal is not exported"


def test_an_interrupted_export_goes_on(run, scene, tmp_path, monkeypatch):
    real, count = prediction.append_row, []

    def stopping(path, row):
        if len(count) == 2:
            raise KeyboardInterrupt
        count.append(row)
        real(path, row)

    with monkeypatch.context() as patched:
        patched.setattr(prediction, "append_row", stopping)
        with pytest.raises(KeyboardInterrupt):
            predict(run, input=str(scene), out=tmp_path / "out.map", batch_size=1)
    assert not (tmp_path / "out.map").exists()
    assert predict(run, input=str(scene), out=tmp_path / "out.map")["skipped"] == 2
    assert len((tmp_path / "out.map").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("prefix", "out", "kind", "words"),
    [
        ("x", "o.mapp", RecipeError, r"ends in \.jsonl, \.csv, \.map or \.parts; did you mean \.map\?"),
        ("x", "o", RecipeError, r"ends in \.jsonl, \.csv, \.map or \.parts$"),
        ("fail", "o.jsonl", AdapterError, r"reading inputs, data adapter Adapter raised KeyError: 'lost'"),
        ("odd", "o.jsonl", AdapterError, r"must give Examples, got str 'text'"),
        ("nothing", "o.jsonl", DataError, r"the data adapter Adapter found nothing in it to predict on"),
        ("x", "no/o.map", RecipeError, r"the folder .*no does not exist"),
    ],
)
def test_what_does_not_fit(run, scene, tmp_path, prefix, out, kind, words):
    with pytest.raises(kind, match=words):
        predict(run, input=str(scene), prefix=prefix, out=tmp_path / out)


def test_boxes_are_in_rows_of_a_detect_prefix_alone(run, pictures):
    row = predict(run, images=[str(pictures[0])], prefix="detect cat")
    assert row.keys() == {"image", "prefix", "prediction", "mean_log_probability", *DETECTED}
    assert "boxes" not in predict(run, images=[str(pictures[0])], prefix="what is it?")


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_boxes_survive_a_file_and_going_on(run, pictures, tmp_path, monkeypatch, ending):
    box = {"box": [0.0, 0.25, 0.5, 1.0], "pixels": [7.0, 0.0, 28.0, 14.0], "label": 'a "cat", grey', "score": 0.25}
    monkeypatch.setattr(detection, "read", lambda *_: Detected((box,), 1, 2, True))
    rows = [{"image": str(pictures[index]), "prefix": prefix} for index, prefix in enumerate(("detect cat", "what?"))]
    write_rows(tmp_path / "rows.jsonl", rows)
    out = tmp_path / f"out.{ending}"
    predict(run, input=str(tmp_path / "rows.jsonl"), out=out)
    before = out.read_text(encoding="utf-8")
    assert predict(run, input=str(tmp_path / "rows.jsonl"), out=out)["skipped"] == 2
    assert out.read_text(encoding="utf-8") == before
    if ending == "jsonl":
        first, second = read_jsonl(out)
        assert (first["boxes"], first["malformed"], first["repeated"], first["cut_off"]) == ([box], 1, 2, True)
        assert "boxes" not in second
    else:
        with open(out, encoding="utf-8", newline="") as file:
            first, second = csv.DictReader(file)
        assert json.loads(first["boxes"]) == [box]
        assert (first["malformed"], first["repeated"], first["cut_off"]) == ("1", "2", "true")
        assert second["boxes"] == second["cut_off"] == ""
