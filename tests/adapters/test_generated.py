"""The generated pictures agree with what is said about them."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from pgtune.data_adapters.generated.drawing import draw
from pgtune.data_adapters.generated.generated import TASKS, GeneratedAdapter, caption
from pgtune.data_adapters.generated.scenes import COLOURS, PLACES, BarScene, Shape, ShapeScene, StaffScene, TextScene
from pgtune.errors import AdapterError
from pgtune.images import open_image
from pgtune.locations import Box, decode_detections


def examples(task: str, number: int = 150) -> list[tuple[object, str, str]]:
    adapter = GeneratedAdapter(tasks=[task])
    return [adapter.scene("test", index)[:3] for index in range(number)]


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def pixels(example_or_scene: object, size: int = 112) -> np.ndarray:
    return np.asarray(draw(example_or_scene, size)).astype(int)  # type: ignore[arg-type]


def test_same_seed_split_and_index_give_the_same_text_and_pixels() -> None:
    rows = list(GeneratedAdapter().rows("40", "train"))
    once, again = ([GeneratedAdapter()(row) for row in rows] for _ in range(2))
    for first, second in zip(once, again, strict=True):
        assert (first.prefix, first.suffix) == (second.prefix, second.suffix)
        assert open_image(first.images[0]).tobytes() == open_image(second.images[0]).tobytes()


def test_splits_and_seeds_share_no_picture() -> None:
    seen = []
    for seed, split in ((0, "train"), (0, "test"), (1, "train")):
        adapter = GeneratedAdapter(seed=seed)
        found = [adapter(row) for row in adapter.rows("200", split)]
        seen.append({open_image(example.images[0]).tobytes() for example in found})
        assert len(seen[-1]) == 200
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]


def test_pictures_are_made_when_asked_for_and_survive_pickling() -> None:
    adapter = GeneratedAdapter(size=56)
    for row in adapter.rows("20", None):
        example = pickle.loads(pickle.dumps(adapter(row)))
        picture = open_image(example.images[0])
        assert (picture.size, picture.mode) == ((56, 56), "RGB")


def test_every_task_comes_and_references_are_the_suffix() -> None:
    adapter = GeneratedAdapter()
    found = [adapter(row) for row in adapter.rows("400", "train")]
    assert {example.metadata["task"] for example in found} == set(TASKS)
    assert all(example.references == (example.suffix,) for example in found)
    assert all(example.suffix and "\n" not in example.prefix + example.suffix for example in found)


def test_weights_choose_the_tasks() -> None:
    adapter = GeneratedAdapter(tasks={"ocr": 3, "music": 1})
    counts = Counter(str(adapter(row).metadata["task"]) for row in adapter.rows("400", "train"))
    assert set(counts) == {"ocr", "music"}
    assert counts["ocr"] > 2 * counts["music"]


def test_boxes_hold_exactly_the_pixels_of_the_shape() -> None:
    for scene, prefix, suffix in examples("detect"):
        assert isinstance(scene, ShapeScene)
        things = prefix.removeprefix("detect ").split(" ; ")
        found = decode_detections(suffix)
        assert found.malformed == 0
        labels = [detection.label for detection in found.found]
        assert set(labels) == set(things)
        assert labels == sorted(labels, key=things.index)
        drawn = pixels(scene)
        for detection in found.found:
            shape = min(scene.shapes, key=lambda one: distance(one.box, detection.box))
            assert detection.label in (shape.name, f"{shape.colour} {shape.name}")
            rows, columns = np.nonzero((drawn == shape.rgb).all(-1))
            around = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
            assert np.abs(np.array(around) / 112 - np.array(detection.box)).max() < 2.5 / 112


def test_every_asked_for_shape_has_a_box() -> None:
    for scene, prefix, suffix in examples("detect"):
        assert isinstance(scene, ShapeScene)
        things = prefix.removeprefix("detect ").split(" ; ")
        wanted = sum(shape.name == thing for thing in things for shape in scene.shapes)
        if " " not in things[0]:
            assert len(decode_detections(suffix).found) == wanted


def test_shapes_lie_inside_and_apart() -> None:
    for scene, *_ in examples("answer", 300):
        assert isinstance(scene, ShapeScene)
        for shape in scene.shapes:
            assert 0 <= min(shape.box) < max(shape.box) <= 1
        for one, other in combinations(scene.shapes, 2):
            down = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
            along = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
            assert min(down, along) <= 0.01


def test_counts_colours_and_places() -> None:
    for scene, prefix, suffix in examples("answer", 300):
        assert isinstance(scene, ShapeScene)
        question = prefix.removeprefix("answer en ")
        named = next((shape for shape in scene.shapes if f"the {shape.name}?" in question), None)
        if question == "how many shapes?":
            assert suffix == str(len(scene.shapes))
        elif question.startswith("how many"):
            name = question.removeprefix("how many ").rstrip("?").removesuffix("s").removesuffix("e")
            assert suffix == str(sum(shape.name.rstrip("e") == name for shape in scene.shapes))
        elif question.startswith("what colour"):
            assert named is not None
            assert named.colour == suffix
        elif question.startswith("where"):
            assert named is not None
            y, x = (named.box[0] + named.box[2]) / 2, (named.box[1] + named.box[3]) / 2
            assert PLACES.index(suffix) == 3 * int(y * 3) + int(x * 3)
        else:
            assert suffix in {shape.name for shape in scene.shapes if shape.colour in question}


def test_colours_are_nearest_to_their_own_name() -> None:
    for scene, *_ in examples("caption"):
        assert isinstance(scene, ShapeScene)
        for shape in scene.shapes:
            assert min(COLOURS, key=lambda name: distance(shape.rgb, COLOURS[name])) == shape.colour


def test_a_caption_in_words() -> None:
    red = Shape("circle", "red", COLOURS["red"], Box(0.02, 0.02, 0.5, 0.5), 0)
    assert caption(ShapeScene((red,), "white", COLOURS["white"])) == (
        "a large red circle at the top left on a white background"
    )
    orange = Shape("star", "orange", COLOURS["orange"], Box(0.4, 0.7, 0.6, 0.9), 5)
    assert caption(ShapeScene((red, orange), "grey", COLOURS["grey"])) == "a red circle and an orange star"


def test_chart_answers_follow_from_the_bars() -> None:
    for scene, prefix, suffix in examples("chart"):
        if not isinstance(scene, BarScene):
            continue
        by_colour = dict(zip(scene.colours, scene.values, strict=True))
        assert len(by_colour) == len(scene.values)
        if "value" in prefix:
            assert scene.labelled
            assert suffix == str(by_colour[prefix.split()[-2]])
        elif "how many" in prefix:
            assert suffix == str(len(by_colour))
        else:
            pick = max if "tallest" in prefix else min
            assert by_colour[suffix] == pick(by_colour.values())
            assert sorted(by_colour.values())[-1] - sorted(by_colour.values())[-2] >= 7


def test_the_tallest_bar_has_most_rows_of_its_colour() -> None:
    for scene, *_ in examples("chart", 60):
        if isinstance(scene, BarScene):
            drawn = pixels(scene)
            heights = [(drawn == rgb).all(-1).any(1).sum() for rgb in scene.rgbs]
            assert int(np.argmax(heights)) == scene.values.index(max(scene.values))


def test_notes_are_counted_and_followed() -> None:
    for scene, prefix, suffix in examples("music"):
        assert isinstance(scene, StaffScene)
        if "how many" in prefix:
            assert suffix == str(len(scene.positions))
        elif "melody" in prefix:
            rising = all(a < b for a, b in zip(scene.positions, scene.positions[1:], strict=False))
            assert suffix == ("rises" if rising else "falls")
        else:
            assert len(scene.positions) == 1
    # the lowest line of a treble clef is E, the highest F
    one = StaffScene((1,), 0.3, 0.1, False, (255, 255, 255))
    dark = np.argwhere((pixels(one, 200) < 40).all(-1))
    assert dark[:, 0].mean() == pytest.approx((0.3 + 4 * 0.1) * 200, abs=1.5)


def test_text_stays_inside_the_picture() -> None:
    for scene, prefix, suffix in examples("ocr", 200):
        assert isinstance(scene, TextScene)
        assert (prefix, suffix) == ("ocr", scene.text)
        assert 1 <= len(scene.text) <= 6
        drawn = np.abs(pixels(scene) - np.array(scene.paper)).sum(-1) > 60
        assert drawn.any()
        edge = np.concatenate([drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]])
        assert not edge.any(), scene


def test_the_longest_text_can_be_set() -> None:
    adapter = GeneratedAdapter(tasks=["ocr"], characters=2)
    assert {len(adapter(row).suffix) for row in adapter.rows("60", "train")} == {1, 2}


@pytest.mark.parametrize("source", ["0", "-5", "1.5", "many", "data/train.jsonl"])
def test_a_source_is_a_number(source: str) -> None:
    with pytest.raises(AdapterError, match=r"source .* expected a number of examples"):
        GeneratedAdapter().rows(Path(source), "train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": ["oct"]}, "'oct'"),
        ({"tasks": []}, "empty"),
        ({"size": 8}, "16 or more"),
        ({"characters": 7}, "1 to 6"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        GeneratedAdapter(**arguments)  # type: ignore[arg-type]
