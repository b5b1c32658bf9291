"""Boxes to text and back."""

import math
import random

import pytest

from pgtune.locations import (
    BINS,
    Box,
    Detection,
    box_from_pixels,
    box_to_pixels,
    decode_box,
    decode_detections,
    encode_box,
    encode_detections,
)


def random_box(rng: random.Random) -> Box:
    ymin, ymax = sorted((rng.random(), rng.random()))
    xmin, xmax = sorted((rng.random(), rng.random()))
    return Box(ymin, xmin, ymax, xmax)


def test_a_box_is_written_y_first() -> None:
    assert encode_box((0.0, 0.25, 0.5, 1.0)) == "<loc0000><loc0256><loc0512><loc1023>"


def test_halves_are_rounded_to_even() -> None:
    # 0.5 bins and 1.5 bins: both go to the even neighbour, 0 and 2.
    half, one_and_a_half = 0.5 / 1023, 1.5 / 1023
    assert half * 1023 == 0.5
    assert one_and_a_half * 1023 == 1.5
    assert encode_box((half, half, one_and_a_half, one_and_a_half)) == "<loc0000><loc0000><loc0002><loc0002>"


def test_every_bin_comes_back_exactly() -> None:
    for value in range(BINS):
        text = f"<loc0000><loc0000><loc{value:04d}><loc{value:04d}>"
        box = decode_box(text)
        assert box is not None
        assert encode_box(box) == text


def test_a_box_comes_back_within_half_a_bin() -> None:
    rng = random.Random(0)
    for _ in range(500):
        box = random_box(rng)
        back = decode_box(encode_box(box))
        assert back is not None
        assert max(abs(a - b) for a, b in zip(box, back, strict=True)) <= 0.5 / (BINS - 1) + 1e-12


def test_what_lies_outside_is_clipped() -> None:
    assert encode_box((-0.5, -1e9, 1.0001, 7)) == "<loc0000><loc0000><loc1023><loc1023>"


@pytest.mark.parametrize(
    "box",
    [(0, 0, math.nan, 1), (0, 0, math.inf, 1), (0.5, 0, 0.4, 1), (0, 0.5, 1, 0.4)],
    ids=["nan", "infinite", "y reversed", "x reversed"],
)
def test_a_box_that_is_none_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="a box"):
        encode_box(box)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<loc0000>",
        "<loc0000><loc0000><loc1023>",
        "<loc0000><loc0000><loc1023><loc1023><loc1023>",
        "<loc0000><loc0000><loc1024><loc1023>",
        "<loc000><loc0000><loc1023><loc1023>",
        "<loc0500><loc0000><loc0400><loc1023>",
        "<loc0000><loc0500><loc1023><loc0400>",
        "<loc0000><loc0000><loc1023><loc1023> cat",
        "<loc٠٠٠٠><loc0000><loc1023><loc1023>",
    ],
)
def test_a_text_that_is_no_box_gives_none(text: str) -> None:
    assert decode_box(text) is None


def test_detections_come_back() -> None:
    rng = random.Random(1)
    for count in range(6):
        wanted = [(random_box(rng), rng.choice(["cat", "a red car", "étoile", ""])) for _ in range(count)]
        text = encode_detections(wanted)
        read = decode_detections(text)
        assert read.malformed == 0
        assert [label for _, label in read.found] == [label for _, label in wanted]
        assert encode_detections(read.found) == text


def test_the_written_form_is_the_models_own() -> None:
    text = encode_detections([((0, 0, 1, 1), "cat"), ((0, 0, 0, 0), "dog")])
    assert text == "<loc0000><loc0000><loc1023><loc1023> cat ; <loc0000><loc0000><loc0000><loc0000> dog"


@pytest.mark.parametrize(
    ("text", "found", "malformed"),
    [
        ("", 0, 0),
        ("   ", 0, 0),
        ("no objects here", 0, 0),
        ("<loc0000><loc0000><loc1023> cat", 0, 1),
        ("<loc0000><loc0000><loc1023><loc1023> cat ; <loc0000> dog", 1, 1),
        ("<loc0000><loc0000><loc1023><loc1023> cat ; ", 1, 1),
        ("cat <loc0000><loc0000><loc1023><loc1023>", 0, 1),
        ("<loc0000><loc0000><loc1023><loc9999> cat", 0, 1),
        ("<loc0000><loc0000><loc1023><loc1023>" + "<seg012>" * 16 + " cat", 1, 0),
        ("<loc0000><loc0000><loc1023><loc1023>" + "<seg012>" * 15 + " cat", 0, 1),
        ("<loc0000><loc0000><loc1023><loc1023>cat;<loc0000><loc0000><loc1023><loc1023>dog", 2, 0),
    ],
)
def test_malformed_objects_are_counted_not_guessed(text: str, found: int, malformed: int) -> None:
    read = decode_detections(text)
    assert (len(read.found), read.malformed) == (found, malformed)


def test_a_detection_names_box_and_label() -> None:
    read = decode_detections("<loc0000><loc0000><loc1023><loc1023> a cat")
    assert read.found == (Detection(Box(0.0, 0.0, 1.0, 1.0), "a cat"),)


@pytest.mark.parametrize("label", ["a ; b", "a<b", "<loc0001>", " cat", "cat "])
def test_a_label_that_could_not_be_read_back_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match="label"):
        encode_detections([((0, 0, 1, 1), label)])


def test_pixels_to_fractions_and_back() -> None:
    rng = random.Random(2)
    for _ in range(200):
        width, height = rng.randint(1, 4000), rng.randint(1, 4000)
        x0, x1 = sorted((rng.uniform(0, width), rng.uniform(0, width)))
        y0, y1 = sorted((rng.uniform(0, height), rng.uniform(0, height)))
        box = box_from_pixels(x0, y0, x1, y1, width, height)
        assert box_from_pixels(x1, y1, x0, y0, width, height) == box
        assert box_to_pixels(box, width, height) == pytest.approx((x0, y0, x1, y1))


def test_pixels_outside_the_picture_are_clipped() -> None:
    assert box_from_pixels(-5, 10, 50, 400, 100, 200) == Box(0.05, 0.0, 1.0, 0.5)


def test_a_picture_without_area_is_refused() -> None:
    with pytest.raises(ValueError, match="0 x 10"):
        box_from_pixels(0, 0, 1, 1, 0, 10)
