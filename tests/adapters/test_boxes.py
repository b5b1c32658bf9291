"""COCO, VOC and YOLO: the boxes lie on the objects in what open_image gives, and odd annotations are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pgtune.data import open_source
from pgtune.data_adapters.generic.boxes import turned
from pgtune.data_adapters.generic.coco import CocoAdapter
from pgtune.data_adapters.generic.voc import VocAdapter
from pgtune.data_adapters.generic.yolo import YoloAdapter
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Row, Skip
from pgtune.images import open_image
from pgtune.locations import Box, box_to_pixels, decode_detections
from pgtune.recipe import Source

SIZE = (100, 60)
RED = (10, 5, 40, 25)
"""Left, top, right, bottom of the red object, as edges; the blue one is below to the right."""
BLUE = (60, 30, 90, 55)


def draw(path: Path, orientation: int = 1, size: tuple[int, int] = SIZE) -> Path:
    """A white picture as stored, with a red and a blue object, and an EXIF orientation."""
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    for (x0, y0, x1, y1), colour in ((RED, "red"), (BLUE, "blue")):
        pen.rectangle((x0, y0, x1 - 1, y1 - 1), fill=colour)
    exif = Image.Exif()
    exif[274] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jpg":
        picture.save(path, exif=exif, quality=95, subsampling=0)
    else:
        picture.save(path)
    return path


def examples(adapter: Any, source: Path, split: str = "train") -> list[Example]:
    return list(open_source(Source(source=str(source), split=split), adapter))


def skips(adapter: Any, source: Path) -> list[str]:
    return [row.value.reason for row in adapter.rows(source, None) if isinstance(row.value, Skip)]


def problems(adapter: Any, source: Path) -> str:
    with pytest.raises(DataError) as caught:
        examples(adapter, source)
    return str(caught.value)


def found_in(example: Example, colour: str) -> tuple[float, ...]:
    """Where pixels of a colour lie in the opened picture: left, top, right, bottom."""
    pixels = np.asarray(open_image(example.images[0])).astype(int)
    other = {"red": (1, 2), "blue": (0, 1)}[colour]
    rows, columns = np.nonzero((pixels[:, :, other[0]] < 90) & (pixels[:, :, other[1]] < 90))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def assert_on_the_objects(example: Example) -> None:
    width, height = open_image(example.images[0]).size
    detections = decode_detections(example.suffix)
    assert detections.malformed == 0
    assert {each.label for each in detections.found} == {"red", "blue"}
    for box, label in detections.found:
        assert box_to_pixels(box, width, height) == pytest.approx(found_in(example, label), abs=1)


# --- turning ---


def test_a_box_turns_as_pillow_turns_the_picture(tmp_path: Path) -> None:
    for orientation in range(1, 9):
        path = draw(tmp_path / f"{orientation}.jpg", orientation)
        x0, y0, x1, y1 = RED
        box = turned(Box(y0 / SIZE[1], x0 / SIZE[0], y1 / SIZE[1], x1 / SIZE[0]), orientation)
        width, height = open_image(path).size
        assert box_to_pixels(box, width, height) == pytest.approx(
            found_in(Example(str(path), "", ""), "red"), abs=1
        ), orientation


# --- COCO ---


def coco(size: tuple[int, int] = SIZE, boxes: tuple[Any, ...] = (RED, BLUE), **changes: Any) -> dict[str, Any]:
    """An annotation file about a.jpg; category ids have gaps, as COCO's."""
    annotations = [
        {
            "id": 100 + place, "image_id": 7, "category_id": (3, 1)[place % 2], "iscrowd": 0, "area": 1.5,
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]], "segmentation": [[0.0, 1.0, 2.0, 3.0, 4.0]],
        }
        for place, box in enumerate(boxes)
    ]  # fmt: skip
    return {
        "info": {"year": 2017}, "licenses": [],
        "images": [{"id": 7, "file_name": "a.jpg", "width": size[0], "height": size[1]}],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "red", "supercategory": "x"}, {"id": 1, "name": "blue", "supercategory": "x"}],
        **changes,
    }  # fmt: skip


INSTANCES = "annotations/instances_train2017.json"


def write(folder: Path, content: Any, name: str = INSTANCES, image: str = "train2017") -> Path:
    draw(folder / image / "a.jpg")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_coco_to_the_letter(tmp_path: Path) -> None:
    [found] = examples(CocoAdapter(), write(tmp_path, coco()))
    assert found.prefix == "detect red ; blue"  # in the file's order
    assert found.suffix == "<loc0085><loc0102><loc0426><loc0409> red ; <loc0512><loc0614><loc0938><loc0921> blue"
    assert found.metadata == {"image_id": 7}
    assert_on_the_objects(found)


def test_the_encoding_is_round_of_x_times_1023(tmp_path: Path) -> None:
    [found] = examples(CocoAdapter(), write(tmp_path, coco()))
    values = [round(value * 1023) for value in (5 / 60, 10 / 100, 25 / 60, 40 / 100)]
    assert found.suffix.startswith("".join(f"<loc{value:04d}>" for value in values))


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_train2017.json", "images/train2017"),
        ("annotations/instances_train.json", "images"),
        ("annotations/instances_default.json", "images"),
        ("train/_annotations.coco.json", "train"),
        ("labels.json", "data"),
        ("annotations.json", "."),
        ("result.json", "images"),
        ("annotations/train.json", "train"),
    ],
)
def test_where_coco_files_lie(tmp_path: Path, name: str, image: str) -> None:
    source = write(tmp_path, coco(), name, image)
    assert_on_the_objects(examples(CocoAdapter(), source)[0])
    assert_on_the_objects(examples(CocoAdapter(images=image), source)[0])
    if image in ("train", "."):
        assert_on_the_objects(examples(CocoAdapter(), tmp_path / name)[0])


def test_one_file_with_its_pictures_above(tmp_path: Path) -> None:
    write(tmp_path, coco())
    assert_on_the_objects(examples(CocoAdapter(), tmp_path / "annotations" / "instances_train2017.json", "test")[0])


# As stored: only where a turn changes the size; else the upright picture is meant.
TURNS = [*((n, True) for n in range(1, 9)), *((n, False) for n in (1, 5, 6, 7, 8))]


@pytest.mark.parametrize(("orientation", "upright"), TURNS)
def test_exif_turned_pictures(tmp_path: Path, orientation: int, upright: bool) -> None:
    write(tmp_path, {})
    draw(tmp_path / "train2017" / "a.jpg", orientation)
    boxes: tuple[Any, ...] = (RED, BLUE)
    size = SIZE
    if upright:
        example = Example(str(tmp_path / "train2017" / "a.jpg"), "", "")
        boxes = tuple(tuple(int(side) for side in found_in(example, colour)) for colour in ("red", "blue"))
        size = open_image(example.images[0]).size
    (tmp_path / "annotations/instances_train2017.json").write_text(json.dumps(coco(size, boxes)))
    [found] = examples(CocoAdapter(), tmp_path)
    assert_on_the_objects(found)


def test_orientation_by_argument(tmp_path: Path) -> None:
    write(tmp_path, coco())
    draw(tmp_path / "train2017" / "a.jpg", 3)
    assert_on_the_objects(examples(CocoAdapter(orientation="stored"), tmp_path)[0])
    with pytest.raises(AssertionError):
        assert_on_the_objects(examples(CocoAdapter(), tmp_path)[0])


def test_what_coco_passes_over(tmp_path: Path) -> None:
    outside = (100, 5, 120, 10)
    flat = (5, 5, 5, 10)
    beyond = (-20, 30, 30, 80)
    content = coco(boxes=(RED, outside, flat, beyond))
    content["annotations"][0]["iscrowd"] = 1
    write(tmp_path, content)
    assert skips(CocoAdapter(), tmp_path) == [
        "a crowd, not one object (iscrowd)", "a box outside of the picture", "a box without area",
    ]  # fmt: skip
    places = [row.place for row in CocoAdapter().rows(tmp_path, None)]
    assert places[0] == "instances_train2017.json, annotation 100"
    [found] = examples(CocoAdapter(), tmp_path)
    assert found.suffix == "<loc0512><loc0000><loc1023><loc0307> blue"  # cut at the border


def test_pictures_without_objects(tmp_path: Path) -> None:
    write(tmp_path, coco(boxes=()))
    assert "skipped" in problems(CocoAdapter(), tmp_path) or "passed" in problems(CocoAdapter(), tmp_path)
    assert examples(CocoAdapter(background="nothing"), tmp_path)[0].suffix == "nothing"


def test_classes_labels_and_one_at_a_time(tmp_path: Path) -> None:
    write(tmp_path, coco(boxes=(RED, BLUE, (0, 0, 5, 5))))
    [found] = examples(CocoAdapter(classes=["blue"], labels={"blue": "sky"}), tmp_path)
    assert (found.prefix, found.suffix.rpartition("> ")[2]) == ("detect sky", "sky")
    one, two = examples(CocoAdapter(per_class=True), tmp_path)
    assert (one.prefix, one.suffix.count("red")) == ("detect red", 2)
    assert two.prefix == "detect blue"
    assert [row.place[-5:] for row in CocoAdapter(per_class=True).rows(tmp_path, None)] == [", red", " blue"]
    write(tmp_path, coco(boxes=(RED,)))
    found_all = examples(CocoAdapter(per_class=True, background="none"), tmp_path)
    assert [each.suffix.split()[-1] for each in found_all] == ["red", "none"]


def test_order_of_the_objects(tmp_path: Path) -> None:
    boxes = tuple((5 * n, 50 - 5 * n, 5 * n + 4, 54 - 5 * n) for n in range(8))
    write(tmp_path, coco(boxes=boxes))

    def tops(**arguments: Any) -> list[float]:
        return [box.ymin for box, _ in decode_detections(examples(CocoAdapter(**arguments), tmp_path)[0].suffix).found]

    assert tops() == sorted(tops())
    assert tops(order="file") == sorted(tops(), reverse=True)
    assert tops(order="random") not in (tops(), tops(order="file"))
    assert tops(order="random") == tops(order="random")
    assert tops(order="random", seed=1) != tops(order="random", seed=2)
    assert sorted(tops(order="random", seed=1)) == tops()


def test_the_published_prefix(tmp_path: Path) -> None:
    [found] = examples(CocoAdapter(prefix="detect all classes", order="random"), write(tmp_path, coco()))
    assert found.prefix == "detect all classes"


def test_captions(tmp_path: Path) -> None:
    captions = [{"id": n, "image_id": 7, "caption": f"A box, number {n}.{' ' * n}"} for n in range(5)]
    write(tmp_path, coco(annotations=captions, categories=[]), "annotations/captions_train2017.json")
    [found] = examples(CocoAdapter(task="caption"), tmp_path)
    assert found.prefix == "caption en"
    assert found.suffix == "A box, number 0."
    assert found.references == tuple(each["caption"] for each in captions)
    with pytest.raises(AdapterError, match="per_class has no effect with task: caption"):
        CocoAdapter(task="caption", per_class=True)


def test_roboflows_parent_category_is_none(tmp_path: Path) -> None:
    categories = [
        {"id": 0, "name": "things", "supercategory": "none"},
        {"id": 1, "name": "blue", "supercategory": "things"},
        {"id": 3, "name": "red", "supercategory": "things"},
    ]
    assert examples(CocoAdapter(), write(tmp_path, coco(categories=categories)))[0].prefix == "detect blue ; red"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bbox": [1, 2, 3]}, "annotation 100: bbox must be [x, y, width, height]"),
        ({"bbox": [1, 2, 3, "4"]}, "bbox must be"),
        ({"bbox": [1, 2, 3, float("nan")]}, "bbox must be"),
        ({"bbox": None}, "bbox must be"),
        ({"category_id": 2}, "category_id 2 is none of the categories"),
        ({"image_id": 8}, "annotation 100: image_id 8 is none of the images"),
    ],
)
def test_a_bad_annotation_is_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    content = coco()
    content["annotations"][0].update(change)
    assert words in problems(CocoAdapter(), write(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"image_id": 7, "bbox": [1, 2, 3, 4]}], "it holds a list (of results?)"),
        (coco(categories={}), "expected the lists"),
        (coco(size=(100, 100)), "the picture is 100 x 60, its annotation says 100 x 100"),
        (coco(images=[{"id": 7, "file_name": "b.jpg"}]), "its first picture 'b.jpg' lies in none of"),
        (coco(images=[{"id": 7, "file_name": "a.jpg"}] * 2), "two images have the same id"),
        (coco(categories=[{"id": 1, "name": "a;b"}, {"id": 3, "name": "c"}]), "give it another word with labels"),
        (coco(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "c"}]), "two categories have the id 1"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: Any, words: str) -> None:
    assert words in problems(CocoAdapter(), write(tmp_path, content))


def test_a_picture_that_is_not_there_or_leads_out(tmp_path: Path) -> None:
    content = coco()
    content["images"] += [
        {"id": 8, "file_name": "gone.jpg", "width": 1, "height": 1},
        {"id": 9, "file_name": "../../x.jpg", "width": 1, "height": 1},
    ]
    content["annotations"] += [{"id": n, "image_id": n, "category_id": 1, "bbox": [0, 0, 1, 1]} for n in (8, 9)]
    message = problems(CocoAdapter(), write(tmp_path, content))
    assert "image 8: " in message
    assert "gone.jpg: no such file" in message
    assert "image 9: the file name '../../x.jpg' leads out of" in message


def test_a_size_that_is_not_given_and_a_picture_made_smaller(tmp_path: Path) -> None:
    content = coco()
    del content["images"][0]["width"]
    assert_on_the_objects(examples(CocoAdapter(), write(tmp_path, content))[0])
    double = tuple(tuple(2 * side for side in box) for box in (RED, BLUE))
    assert_on_the_objects(examples(CocoAdapter(), write(tmp_path, coco((200, 120), double)))[0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": "boxes"}, "task = 'boxes': expected one of detect, caption"),
        ({"order": "left"}, "order = 'left': expected one of top_left"),
        ({"seed": 3}, "seed = 3 has no effect"),
        ({"classes": "cat"}, "expected a list of classes"),
        ({"classes": ["a", "a"]}, "each once"),
        ({"per_class": True, "prefix": "detect all classes"}, "must hold {classes}"),
        ({"orientation": "up"}, "expected one of auto, stored, upright"),
        ({"labels": {"a": ""}}, "labels.a"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(AdapterError) as caught:
        CocoAdapter(**arguments)
    assert words in str(caught.value)


def test_classes_that_are_not_there(tmp_path: Path) -> None:
    assert "has no class 'rad'; it has red, blue" in problems(CocoAdapter(classes=["rad"]), write(tmp_path, coco()))


# --- VOC ---


def voc(
    boxes: tuple[tuple[int, ...], ...] = (RED, BLUE), size: tuple[int, int] | None = SIZE, more: str = "", tag: str = ""
) -> str:
    """An annotation as VOC's development kit has it: pixel numbers from 1, the last one included."""
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    objects = "".join(
        f"<object><name>{name}</name>{tag}<bndbox><xmax>{x1}</xmax><xmin>{x0 + 1}</xmin>"
        f"<ymax>{y1}</ymax><ymin>{y0 + 1}</ymin></bndbox>"
        "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>"
        for (x0, y0, x1, y1), name in zip(boxes, ("red", "blue"), strict=False)
    )
    return f"<annotation><folder>V</folder><filename>other.jpg</filename>{sides}{objects}{more}</annotation>"


def write_voc(
    folder: Path, text: str, image: str = "JPEGImages/000005.jpg", name: str = "Annotations/000005.xml"
) -> Path:
    draw(folder / image)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_voc_counts_pixels_from_one(tmp_path: Path) -> None:
    [found] = examples(VocAdapter(), write_voc(tmp_path, voc()))
    assert found.prefix == "detect blue ; red"  # in the order of the alphabet
    assert found.suffix.startswith("<loc0085><loc0102><loc0426><loc0409> red")
    assert_on_the_objects(found)
    whole = voc(((0, 0, 100, 60),))
    assert examples(VocAdapter(), write_voc(tmp_path, whole))[0].suffix == "<loc0000><loc0000><loc1023><loc1023> red"
    [from_zero] = examples(VocAdapter(first_pixel=0), write_voc(tmp_path, voc(((9, 4, 40, 25),))))
    assert from_zero.suffix == "<loc0085><loc0102><loc0426><loc0409> red"


@pytest.mark.parametrize("inner", ["", "VOCdevkit/VOC2012", "VOC2012"])
def test_voc_splits(tmp_path: Path, inner: str) -> None:
    home = tmp_path / inner
    for name in ("000005", "000006", "000007"):
        write_voc(home, voc(), f"JPEGImages/{name}.jpg", f"Annotations/{name}.xml")
    sets = home / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("000005\n")
    (sets / "val.txt").write_text("000006  1\n\n")
    (sets / "trainval.txt").write_text("000005\n000006\n")
    (sets / "red_train.txt").write_text("000005 -1\n")
    source = home if inner == "VOC2012" else tmp_path
    assert VocAdapter().splits(source) == ["train", "validation"]
    assert len(examples(VocAdapter(), source, "train+validation")) == 2
    assert "000006" in str(examples(VocAdapter(), source, "validation")[0].images[0])
    with pytest.raises(DataError, match="no split 'test'; it has train, validation"):
        examples(VocAdapter(), source, "test")
    (sets / "train.txt").write_text("000009\n")
    with pytest.raises(DataError, match=r"000009.xml: .*cannot be read"):
        examples(VocAdapter(), source)


def test_labelimg_beside_the_pictures_and_roboflows_folders(tmp_path: Path) -> None:
    write_voc(tmp_path / "one", voc(), "pic ture.JPG", "pic ture.xml")
    assert_on_the_objects(examples(VocAdapter(), tmp_path / "one", "test")[0])
    write_voc(tmp_path / "two" / "train", voc(), "a.jpg", "a.xml")
    write_voc(tmp_path / "two" / "valid", voc(), "b.jpg", "b.xml")
    assert VocAdapter().splits(tmp_path / "two") == ["train", "validation"]
    assert_on_the_objects(examples(VocAdapter(), tmp_path / "two", "validation")[0])
    write_voc(tmp_path / "three", voc(), "images/other.jpg", "Annotations/x.xml")  # the one that the file names
    assert_on_the_objects(examples(VocAdapter(), tmp_path / "three")[0])
    assert_on_the_objects(examples(VocAdapter(), tmp_path / "one" / "pic ture.xml")[0])


def test_difficult_and_truncated(tmp_path: Path) -> None:
    write_voc(tmp_path, voc(tag="<difficult>1</difficult><truncated>1</truncated>"))
    assert skips(VocAdapter(), tmp_path) == ["an object marked difficult"] * 2
    assert_on_the_objects(examples(VocAdapter(difficult="keep"), tmp_path)[0])
    kept = VocAdapter(difficult="keep", truncated="skip")
    assert skips(kept, tmp_path) == ["an object marked truncated"] * 2
    assert next(row.place for row in kept.rows(tmp_path, None)) == str(Path("Annotations/000005.xml")) + ", object 1"


def test_rotated_boxes_and_sizes_that_are_missing(tmp_path: Path) -> None:
    corners = "".join(
        f"<{name}>{value}</{name}>"
        for name, value in (
            ("x_left_top", 25), ("y_left_top", 6), ("x_right_top", 40), ("y_right_top", 15), ("x_right_bottom", 26),
            ("y_right_bottom", 25), ("x_left_bottom", 11), ("y_left_bottom", 16),
        )
    )  # fmt: skip
    more = f"<object><name>red</name><type>robndbox</type><robndbox>{corners}</robndbox><angle>0</angle></object>"
    for size in (None, (0, 0)):
        [found] = examples(VocAdapter(), write_voc(tmp_path, voc((), size, more)))
        assert found.suffix == "<loc0085><loc0102><loc0426><loc0409> red"


def test_some_labelimg_files_have_the_stored_size_beside_upright_boxes(tmp_path: Path) -> None:
    write_voc(tmp_path, "")
    path = draw(tmp_path / "JPEGImages" / "000005.jpg", 6)
    example = Example(str(path), "", "")
    boxes = tuple(tuple(int(side) for side in found_in(example, colour)) for colour in ("red", "blue"))
    assert max(box[3] for box in boxes) > 60  # below the stored picture's lower edge
    write_xml = tmp_path / "Annotations" / "000005.xml"
    write_xml.write_text(voc(boxes))
    assert_on_the_objects(examples(VocAdapter(), tmp_path)[0])
    write_xml.write_text(voc())  # boxes on the pixels as stored
    assert_on_the_objects(examples(VocAdapter(), tmp_path)[0])
    write_xml.write_text(voc(boxes, (60, 100)))
    assert_on_the_objects(examples(VocAdapter(orientation="upright"), tmp_path)[0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotation>", "is not XML"),
        ("<html></html>", "is <html>, expected <annotation>"),
        (voc(more="<object><bndbox/></object>"), "object 3: has no name"),
        (voc(more="<object><name>x</name></object>"), "object 3: has no bndbox"),
        (voc().replace("<xmax>40", "<xmax>4o"), "object 1: xmax must be a number, got '4o'"),
        (voc(size=(60, 60)), "its annotation says 60 x 60"),
    ],
)
def test_a_bad_voc_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    message = problems(VocAdapter(), write_voc(tmp_path, text))
    assert words in message
    assert "000005.xml" in message


def test_voc_without_a_picture_or_annotations(tmp_path: Path) -> None:
    write_voc(tmp_path, voc(), "JPEGImages/000004.jpg")
    assert "its picture 000005.jpg (or other.jpg) lies in none of" in problems(VocAdapter(), tmp_path)
    shutil.rmtree(tmp_path / "Annotations")
    assert "expected Annotations/*.xml" in problems(VocAdapter(), tmp_path)
    for arguments in ({"first_pixel": 2}, {"difficult": "drop"}):
        with pytest.raises(AdapterError, match="expected"):
            VocAdapter(**arguments)  # type: ignore[arg-type]


# --- YOLO ---

RED_LINE = "0 0.25 0.25 0.3 0.333333"
BLUE_LINE = "1 0.75 0.70833334 0.3 0.41666666"


NAMES = "names: [red, blue]\n"


def write_yolo(folder: Path, label: str | None, names: str = NAMES, where: str = "images/train") -> Path:
    draw(folder / where / "a.jpg")
    if label is not None:
        path = folder / where.replace("images", "labels") / "a.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(label)
    (folder / "data.yaml").write_text(f"train: {where}\n{names}")
    return folder


def test_yolo_to_the_letter(tmp_path: Path) -> None:
    source = write_yolo(tmp_path, f"{RED_LINE}\r\n\r\n{BLUE_LINE}\r\n")
    [found] = examples(YoloAdapter(), source)
    assert found.prefix == "detect red ; blue"
    assert found.suffix == "<loc0085><loc0102><loc0426><loc0409> red ; <loc0512><loc0614><loc0938><loc0921> blue"
    assert_on_the_objects(found)
    assert_on_the_objects(examples(YoloAdapter(), source / "data.yaml")[0])


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_yolo_speaks_of_the_upright_picture(tmp_path: Path, orientation: int) -> None:
    write_yolo(tmp_path, "")
    path = draw(tmp_path / "images/train/a.jpg", orientation)
    example = Example(str(path), "", "")
    width, height = open_image(path).size
    lines = []
    for number, colour in enumerate(("red", "blue")):
        x0, y0, x1, y1 = found_in(example, colour)
        middle = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height)
        lines.append(f"{number} {middle[0]} {middle[1]} {(x1 - x0) / width} {(y1 - y0) / height}")
    (tmp_path / "labels/train/a.txt").write_text("\n".join(lines))
    assert_on_the_objects(examples(YoloAdapter(), tmp_path)[0])
    (tmp_path / "labels/train/a.txt").write_text(f"{RED_LINE}\n{BLUE_LINE}\n")
    assert_on_the_objects(examples(YoloAdapter(orientation="stored"), tmp_path)[0])


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("0 0.1 0.0833333 0.4 0.0833333 0.4 0.4166667 0.1 0.4166667", "names: [red, blue]\n"),  # a rotated box
        ("0 0.1 0.2 0.4 0.0833333 0.3 0.4166667", "names: {0: red, 1: blue}\n"),  # an outline
        (f"{RED_LINE} 0.2 0.2 2 0.3 0.3 1", "names: [red, blue]\nkpt_shape: [2, 3]\n"),
    ],
)
def test_other_lines(tmp_path: Path, line: str, names: str) -> None:
    assert examples(YoloAdapter(), write_yolo(tmp_path, line, names))[0].suffix == (
        "<loc0085><loc0102><loc0426><loc0409> red"
    )


def test_what_yolo_passes_over_and_cuts(tmp_path: Path) -> None:
    lines = f"{RED_LINE}\n{RED_LINE}\n0 0.5 0.5 0 0.1\n1 -0.005 0.5 0.2 0.2\n"
    source = write_yolo(tmp_path, lines)
    assert skips(YoloAdapter(), source) == ["a label that stands there twice", "a box without area"]
    [found] = examples(YoloAdapter(), source)
    assert found.suffix.endswith("<loc0409><loc0000><loc0614><loc0097> blue")
    assert next(row.place for row in YoloAdapter().rows(source, None)) == str(Path("labels/train/a.txt")) + ", line 2"


@pytest.mark.parametrize("label", [None, "", "\n"])
def test_a_picture_without_labels(tmp_path: Path, label: str | None) -> None:
    source = write_yolo(tmp_path, label)
    [row] = YoloAdapter().rows(source, None)
    assert YoloAdapter()(row.value) == Skip("a picture without objects")
    assert examples(YoloAdapter(background="no object"), source)[0].suffix == "no object"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.2", "line 1: 4 numbers; expected class x y width height"),
        ("0 0.5 0.5 0.2 0.2 0.9", "line 1: 6 numbers"),
        ("0 50 30 20 20", "coordinates are fractions of the picture"),
        ("2 0.5 0.5 0.2 0.2", "class 2 is none of the 2 classes, 0 to 1"),
        ("0.5 0.5 0.5 0.2 0.2", "class 0.5 is none"),
        ("red 0.5 0.5 0.2 0.2", "expected numbers, got str 'red 0.5"),
        ("0 nan 0.5 0.2 0.2", "expected finite numbers"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    message = problems(YoloAdapter(), write_yolo(tmp_path, line))
    assert words in message
    assert "a.txt" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("train: images/train\n", "expected data.yaml or classes.txt"),
        ("train: images/train\nnames: red\n", "expected the key names"),
        ("train: images/train\nnames: {1: red}\n", "numbered from 0 without a gap"),
        ("train: images/train\nnames: [red]\nnc: 2\n", "nc is 2, but there are 1 names"),
        ("train: images/gone\nnames: [red]\n", "'images/gone' is not there; looked for"),
        ("names: [red]\n", "expected train, val or test"),
        ("names: [red\n", "is not YAML"),
    ],
)
def test_a_bad_description_is_named(tmp_path: Path, content: str, words: str) -> None:
    write_yolo(tmp_path, RED_LINE)
    (tmp_path / "data.yaml").write_text(content)
    assert words in problems(YoloAdapter(), tmp_path)


def test_yolo_layouts(tmp_path: Path) -> None:
    one = tmp_path / "one"  # labelImg: classes.txt beside everything
    draw(one / "a.jpg")
    (one / "a.txt").write_text(f"{RED_LINE}\n{BLUE_LINE}\n")
    (one / "classes.txt").write_text("red\r\nblue\r\n")
    assert YoloAdapter().splits(one) == ["all"]
    assert_on_the_objects(examples(YoloAdapter(), one, "test")[0])

    two = tmp_path / "two"  # Roboflow: ../train/images
    draw(two / "train" / "images" / "a.jpg")
    (two / "train" / "labels").mkdir()
    (two / "train" / "labels" / "a.txt").write_text(f"{RED_LINE}\n{BLUE_LINE}\n")
    (two / "data.yaml").write_text("train: ../train/images\nval: \nnc: 2\nnames: ['red', 'blue']\n")
    assert YoloAdapter().splits(two) == ["train"]
    assert_on_the_objects(examples(YoloAdapter(), two)[0])

    three = tmp_path / "three"  # lists of pictures, a path that was another machine's
    draw(three / "images" / "a.jpg")
    (three / "labels").mkdir()
    (three / "labels" / "a.txt").write_text(f"{RED_LINE}\n{BLUE_LINE}\n")
    (three / "train.txt").write_text("./images/a.jpg\n")
    (three / "coco.yaml").write_text("path: /not/here\ntrain: train.txt\nval: [train.txt]\nnames: {0: red, 1: blue}\n")
    assert YoloAdapter().splits(three) == ["train", "validation"]
    assert_on_the_objects(examples(YoloAdapter(), three, "validation")[0])

    four = tmp_path / "four"  # train/ and valid/ with classes.txt above
    for split in ("train", "valid"):
        draw(four / "images" / split / "a.jpg")
        (four / "labels" / split).mkdir(parents=True)
        (four / "labels" / split / "a.txt").write_text(f"{RED_LINE}\n{BLUE_LINE}\n")
    (four / "classes.txt").write_text("red\nblue\n")
    assert YoloAdapter().splits(four) == ["train", "validation"]
    assert_on_the_objects(examples(YoloAdapter(), four, "validation")[0])


def test_rows_hold_no_pictures(tmp_path: Path) -> None:
    rows: list[Row] = list(YoloAdapter().rows(write_yolo(tmp_path, RED_LINE), None))
    assert rows[0].value.image == str(Path("images/train/a.jpg"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": ["x"]}, "images, number 1: expected an object"),
        ({"annotations": [None]}, "annotations, number 1: expected an object"),
        ({"annotations": [{"image_id": [1]}]}, "image_id must be a number or a text"),
        ({"categories": [{"id": [1], "name": "a"}]}, "categories, number 1: id must be a number or a text"),
    ],
)
def test_coco_lists_of_something_else(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps({**coco(), **changes}))
    with pytest.raises(DataError, match=message):
        list(CocoAdapter().rows(tmp_path / "a.json", None))


@pytest.mark.parametrize(
    ("names", "message"),
    [("[yes, no]", "need quotes in YAML"), ("{0: a, x: b}", "numbered from 0 without a gap")],
)
def test_yolo_names_that_are_none(tmp_path: Path, names: str, message: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "data.yaml").write_text(f"train: images\nnames: {names}\n")
    with pytest.raises(DataError, match=message):
        YoloAdapter().splits(tmp_path)


def test_yolo_names_numbered_by_texts(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "data.yaml").write_text("train: images\nnames: {'0': a, '1': b}\n")
    assert YoloAdapter().splits(tmp_path) == ["train"]
