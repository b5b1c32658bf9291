"""DOTA: label files as published and as copied, tiles of large pictures, the server's form."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import remote_sensing_fixtures as made
from PIL import Image
from test_remote_sensing import read

from pgtune.data_adapters.remote_sensing.dota import CLASSES, DotaAdapter
from pgtune.errors import AdapterError, DataError
from pgtune.images import open_image
from pgtune.locations import decode_detections

SHIP = "10 20 20 10 30 20 20 30 ship 0"  # a square on its corner, 10 to 30 each way
PLANE = "40.5 5.0 50.5 5.0 50.5 25.0 40.5 25.0 plane 1"


def boxes(example: Any) -> list[tuple[str, list[float]]]:
    """The labels and boxes of a tile in the picture's pixels: left, top, right, bottom."""
    left, top, wide, high = example.metadata["cover"]
    found = decode_detections(example.suffix).found
    return [
        (label, [left + b.xmin * wide, top + b.ymin * high, left + b.xmax * wide, top + b.ymax * high])
        for b, label in found
    ]


def test_the_upright_box_around_the_oriented_one(tmp_path: Path) -> None:
    made.dota(tmp_path, {"P0001": [SHIP, PLANE]})
    (example,), left_out = read(DotaAdapter(size=64, overlap=0), tmp_path, None)
    assert not left_out
    assert example.prefix == "detect " + " ; ".join(CLASSES["1.0"])
    assert example.prefix.startswith("detect plane ; ship ; storage-tank ; ")
    assert [label for label, _ in boxes(example)] == ["plane", "ship"]
    for (_, found), wanted in zip(boxes(example), ([40.5, 5, 50.5, 25], [10, 10, 30, 30]), strict=True):
        assert np.abs(np.array(found) - wanted).max() <= 0.5 * 64 / 1023 + 1e-9
    assert dict(example.groups) == {"scene": "P0001"}
    picture = np.asarray(open_image(example.images[0]))
    assert (picture[:48] == np.asarray(Image.open(tmp_path / "images" / "P0001.png"))).all()
    assert (picture[48:] == 0).all()


@pytest.mark.parametrize("headers", [True, False])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines(tmp_path: Path, headers: bool, end: str) -> None:
    made.dota(tmp_path, {"P1": []})
    lines = [*(["imagesource:GoogleEarth", "gsd:null"] if headers else []), SHIP, "", SHIP.replace(" 0", " 2"), PLANE]
    lines.append("1 1 9 1 9 9 1 9 harbor")  # no difficult flag, as in some copies
    (tmp_path / "labelTxt" / "P1.txt").write_bytes(b"\xef\xbb\xbf" + end.join(lines).encode())
    (example,), _ = read(DotaAdapter(size=64, overlap=0), tmp_path, None)
    assert len(boxes(example)) == 4
    (example,), left_out = read(DotaAdapter(size=64, overlap=0, difficult="drop"), tmp_path, None)
    assert [label for label, _ in boxes(example)] == ["harbor", "ship"]
    first = 5 if headers else 3
    assert left_out == [(f"P1.txt, line {n}", "difficult object") for n in (first, first + 1)]


def test_bad_lines_are_named(tmp_path: Path) -> None:
    made.dota(tmp_path, {"P1": []})
    text = ["1 2 3", "a 1 9 1 9 9 1 9 ship 0", "1 1 9 1 9 9 1 9 ship 7", "1 1 9 1 9 9 1 9 shipp 0", SHIP]
    text += ["1 1 nan 1 9 9 1 9 ship 0", "5 5 5 5 5 5 5 5 ship 0", "1 1 9 1 9 9 1 9 helipad 0"]
    (tmp_path / "labelTxt" / "P1.txt").write_text("\n".join(text))
    examples, left_out = read(DotaAdapter(size=64, overlap=0), tmp_path, None)
    assert len(boxes(examples[0])) == 1
    found = dict(left_out)
    assert "has 3 words" in found["P1.txt, line 1"]
    assert "must be numbers" in found["P1.txt, line 2"]
    assert "difficult must be 0, 1 or 2, got '7'" in found["P1.txt, line 3"]
    assert "did you mean 'ship'" in found["P1.txt, line 4"]
    assert "finite" in found["P1.txt, line 6"]
    assert found["P1.txt, line 7"] == "box without area"
    assert found["P1.txt, line 8"] == "class helipad is not asked for"


def test_tiles_share_objects_at_their_borders(tmp_path: Path) -> None:
    made.dota(tmp_path, {"P1": ["26 4 40 4 40 14 26 14 ship 0", "2 2 60 2 60 46 2 46 bridge 0"]})
    examples, left_out = read(DotaAdapter(size=32, overlap=8, min_visible=0.5), tmp_path, None)
    covers = {tuple(example.metadata["cover"][:2]): boxes(example) for example in examples}
    assert set(covers) == {(24, 0), (32, 0)}, "of 14 columns tile 0 shows 6, tile 24 all, tile 32 8"
    assert np.abs(np.array(covers[32, 0][0][1]) - [32, 4, 40, 14]).max() <= 0.05
    assert ("P1.txt, line 4", "object that no tile shows enough of") in left_out
    assert sum(reason == "tile without an object" for _, reason in left_out) == 4
    kept, _ = read(DotaAdapter(size=32, overlap=8, min_visible=0.5, empty="keep"), tmp_path, None)
    assert [example.suffix for example in kept].count("nothing") == 4


def test_splits_and_missing_halves(tmp_path: Path) -> None:
    made.dota(tmp_path / "train", {"P1": [SHIP], "P2": [PLANE]})
    made.dota(tmp_path / "val", {"P3": [SHIP]})
    (tmp_path / "train" / "labelTxt" / "P2.txt").unlink()
    (tmp_path / "train" / "labelTxt" / "P9.txt").write_text(SHIP)
    adapter = DotaAdapter(size=64, overlap=0)
    assert adapter.splits(tmp_path) == ["train", "validation"]
    examples, left_out = read(adapter, tmp_path, "train")
    assert len(examples) == 1
    assert [place for place, _ in left_out] == ["P2.png", "P9.txt"]
    assert all(reason.startswith("!no ") for _, reason in left_out)
    assert len(read(adapter, tmp_path, None)[0]) == 2
    with pytest.raises(DataError, match="no folder for the split 'test'"):
        list(adapter.rows(tmp_path, "test"))
    with pytest.raises(DataError, match=r"labelTxt-v1\.5: no such folder"):
        list(DotaAdapter(labels="labelTxt-v1.5").rows(tmp_path, "train"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"version": 3}, "1.0, 1.5, 2.0"), ({"difficult": True}, "keep or drop"), ({"size": None}, "size is null"),
        ({"classes": ["ships"]}, "did you mean 'ship'"), ({"classes": ["helipad"]}, "no class of DOTA-v1.0"),
        ({"overlap": 1024}, "less than"), ({"empty": "no"}, "skip or keep"),
    ],
)  # fmt: skip
def test_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        DotaAdapter(**arguments)


def test_a_picture_beyond_the_limit_for_one(tmp_path: Path) -> None:
    """15,000 x 12,000 pixels, more than are decoded at once; only windows of it are."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labelTxt").mkdir()
    made_by = Image.new("1", (15_000, 12_000), 1)
    made_by.paste(0, (14_900, 11_900, 14_950, 11_950))
    made_by.save(tmp_path / "images" / "P1.png")
    (tmp_path / "labelTxt" / "P1.txt").write_text("14900 11900 14950 11900 14950 11950 14900 11950 ship 0")
    (example,), _ = read(DotaAdapter(size=256, overlap=0), tmp_path, None)
    assert example.metadata["cover"] == [14_744, 11_744, 256, 256]
    picture = np.asarray(open_image(example.images[0]))
    assert (picture[156:206, 156:206] == 0).all()
    assert (picture == 0).sum() == 50 * 50 * 3
    assert picture.max() == 255


def test_the_servers_form(tmp_path: Path) -> None:
    made.dota(tmp_path, {"P1": [SHIP, PLANE], "P2": [SHIP]}, size=(64, 64))
    adapter = DotaAdapter(size=40, overlap=20, min_visible=0.2)
    rows = [{"prediction": e.suffix, "metadata": dict(e.metadata)} for e in read(adapter, tmp_path, None)[0]]
    rows.append({**rows[0], "prediction": "<loc0000><loc0000><loc0100><loc0100> spoon ; <loc0001>"})
    rows.append({**rows[0], "prediction": None})
    summary = adapter.exports[".zip"](rows, tmp_path / "o.zip")
    assert (summary["objects"], summary["malformed"], summary["errors"], summary["unknown_class"]) == (3, 1, 1, 1)
    with zipfile.ZipFile(tmp_path / "o.zip") as archive:
        assert len(archive.namelist()) == 18
        ships = [line.split() for line in archive.read("Task2_ship.txt").decode().splitlines()]
    assert [line[0] for line in ships] == ["P1", "P2"]
    assert np.abs(np.array([float(word) for word in ships[0][2:]]) - [10, 10, 30, 30]).max() <= 0.15
    with pytest.raises(DataError, match="no tile of a picture"):
        adapter.exports[".zip"]([{"prediction": ""}], tmp_path / "o.zip")


def test_inputs(tmp_path: Path) -> None:
    made.dota(tmp_path, {"P1": [], "P2": []})
    adapter = DotaAdapter(size=48, overlap=0, classes=["ship"])
    assert len(list(adapter.inputs(tmp_path / "images" / "P1.png", "detect x"))) == 2
    assert [e.prefix for e in adapter.inputs(tmp_path, None)] == ["detect ship"] * 4
    assert len(list(adapter.inputs(tmp_path / "images", None))) == 4
    with pytest.raises(DataError, match="no such file"):
        list(adapter.inputs(tmp_path / "x", None))
