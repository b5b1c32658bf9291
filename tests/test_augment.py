"""Augmentations: boxes stay on what they are of, text that would become wrong keeps its picture, draws are exact."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from conftest import interrupted_after, losses, recipe_for, rows_of, write_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from pgtune import train
from pgtune.augment import Plan, augmented, change_picture, check_movable, draw_plan, names_a_place
from pgtune.errors import DataError
from pgtune.example import Example
from pgtune.images import open_image
from pgtune.locations import box_from_pixels, decode_detections, encode_detections
from pgtune.settings import AugmentSettings

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
ALL = AugmentSettings(horizontal_flip=0.5, vertical_flip=0.5, rotate90=0.5, crop=0.4, zoom_out=2.0)


def squares(seed, size=(203, 147)):
    """A grey picture with three rectangles that do not touch, and the example that names their boxes."""
    chance = random.Random(seed)
    width, height = size
    picture = Image.new("RGB", size, (120, 120, 120))
    found = []
    for place, (name, colour) in enumerate(COLOURS.items()):
        third = width // 3
        left = place * third + chance.randrange(2, third // 3)
        right = left + chance.randrange(third // 3, third // 2)
        top = chance.randrange(2, height // 2)
        bottom = top + chance.randrange(height // 5, height // 3)
        ImageDraw.Draw(picture).rectangle((left, top, right - 1, bottom - 1), fill=colour)
        found.append((box_from_pixels(left, top, right, bottom, width, height), name))
    return Example(picture, "detect red ; green ; blue", encode_detections(found))


def seen(picture, name):
    """The pixel edges (x0, y0, x1, y1) of a colour, or None."""
    values = np.asarray(picture).astype(int)
    near = np.abs(values - COLOURS[name]).sum(-1) < 120
    if not near.any():
        return None
    ys, xs = np.nonzero(near)
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


@pytest.mark.parametrize("seed", range(60))
def test_boxes_stay_on_what_they_are_of(seed):
    example = squares(seed)
    shown = augmented(example, ALL, seed=1, index=seed, epoch=seed % 5)
    (picture,) = map(open_image, shown.images)
    found = decode_detections(shown.suffix)
    assert found.malformed == 0
    width, height = picture.size
    for box, name in found.found:
        edges = seen(picture, name)
        assert edges is not None, f"{name} is told and not there"
        told = (box.xmin * width, box.ymin * height, box.xmax * width, box.ymax * height)
        assert np.abs(np.array(edges) - told).max() <= 1.6, "a bin and a blurred edge"
    plan = draw_plan(ALL, 1, seed, seed % 5)
    for before, name in decode_detections(example.suffix).found:
        edges = seen(picture, name)
        if name not in {told for _, told in found.found} and edges is not None:
            area = (before.xmax - before.xmin) * (before.ymax - before.ymin) * 203 * 147 / plan.zoom**2
            assert (edges[2] - edges[0]) * (edges[3] - edges[1]) < 0.4 * area, "dropped, and more than a rest is there"


def test_each_change_by_hand():
    """A picture of 4 x 2 pixels with one white one, in the second row of the last column."""
    picture = Image.new("RGB", (4, 2))
    picture.putpixel((3, 1), (255, 255, 255))

    def white(plan):
        changed = change_picture(picture, plan)
        return changed.size, [(x, y) for x in range(changed.width) for y in range(changed.height)
                              if changed.getpixel((x, y)) == (255, 255, 255)]  # fmt: skip

    assert white(Plan(mirror=True)) == ((4, 2), [(0, 1)])
    assert white(Plan(upend=True)) == ((4, 2), [(3, 0)])
    assert white(Plan(turns=1)) == ((2, 4), [(1, 0)])
    assert white(Plan(turns=2)) == ((4, 2), [(0, 0)])
    assert white(Plan(turns=3)) == ((2, 4), [(0, 3)])
    assert white(Plan(crop=0.25, crop_at=(1.0, 1.0))) == ((2, 1), [(1, 0)])
    even = Image.new("RGB", (8, 8), (10, 20, 30))
    smaller = change_picture(even, Plan(zoom=2.0, zoom_at=(0.0, 1.0)))
    assert smaller.tobytes() == even.tobytes(), "an even picture on its own mean colour"
    assert change_picture(even, Plan(brightness=2.0)).getpixel((0, 0)) == (20, 40, 60)
    assert len(set(change_picture(even, Plan(saturation=0.0)).getpixel((0, 0)))) == 1
    assert change_picture(Image.new("RGB", (1, 1)), Plan(crop=0.1, zoom=8.0, turns=1)).size == (1, 1)


def only(plan):
    """Settings that can only give that plan's flips and turns, and how they move text."""
    return AugmentSettings(
        horizontal_flip=float(plan.mirror), vertical_flip=float(plan.upend), rotate90=float(plan.turns > 0)
    )


def test_the_text_of_a_flip_by_hand():
    example = Example(Image.new("RGB", (10, 10)), "what is in <loc0000><loc0100><loc0500><loc0200>?", "a cat")
    flipped = augmented(example, only(Plan(mirror=True)), seed=0, index=0, epoch=0)
    assert flipped.prefix == "what is in <loc0000><loc0823><loc0500><loc0923>?"
    upended = augmented(example, only(Plan(upend=True)), seed=0, index=0, epoch=0)
    assert upended.prefix == "what is in <loc0523><loc0100><loc1023><loc0200>?"
    listed = Example(
        example.images, "detect", "<loc0000><loc0100><loc0500><loc0200> cat;<loc0001><loc0002><loc0003><loc0004>"
    )
    assert (
        augmented(listed, only(Plan(mirror=True)), seed=0, index=0, epoch=0).suffix
        == "<loc0000><loc0823><loc0500><loc0923> cat;<loc0001><loc1019><loc0003><loc1021>"
    )


@given(st.lists(st.integers(0, 1023), min_size=4, max_size=4))
@settings(max_examples=200, deadline=None)
def test_a_flip_twice_is_none_at_every_bin(bins):
    low, high = sorted(bins[:2]), sorted(bins[2:])
    text = f"<loc{low[0]:04d}><loc{high[0]:04d}><loc{low[1]:04d}><loc{high[1]:04d}> x"
    example = Example(Image.new("RGB", (7, 5)), "detect", text)
    for plan in (Plan(mirror=True), Plan(upend=True)):
        once = augmented(example, only(plan), seed=0, index=0, epoch=0)
        assert augmented(once, only(plan), seed=0, index=0, epoch=0).suffix == text


def box(x0, y0, x1, y1, size=100):
    return box_from_pixels(x0, y0, x1, y1, size, size)


def cropped_right_half(example, **more):
    """The example in the first epoch whose crop keeps less than half of the width, at the right."""
    settings = AugmentSettings(crop=0.1, **more)
    for epoch in range(5000):
        plan = draw_plan(settings, 0, 0, epoch)
        if plan.crop < 0.2 and plan.crop_at[0] > 0.93 and plan.crop_at[1] < 0.2:
            return augmented(example, settings, seed=0, index=0, epoch=epoch)
    raise AssertionError("no such crop drawn")


def test_what_a_crop_leaves_out_is_dropped_and_the_rest_kept_in_order():
    picture = Image.new("RGB", (100, 100))
    gone, there, also = (box(0, 0, 20, 20), "a"), (box(80, 10, 90, 20), "b"), (box(85, 12, 95, 30), "c")
    shown = cropped_right_half(Example(picture, "detect", encode_detections([gone, there, gone, also])))
    assert [label for _, label in decode_detections(shown.suffix).found] == ["b", "c"]
    assert shown.references == (shown.suffix,)
    whole = Example(picture, "detect", encode_detections([gone]))
    assert cropped_right_half(whole) is whole, "all boxes gone: the picture stays"
    sentence = Example(picture, "", f"it is {encode_detections([gone])} near {encode_detections([there])}")
    assert cropped_right_half(sentence) is sentence, "nothing can be dropped from a sentence"
    asked = Example(picture, f"what is in {encode_detections([gone])[:36]}", "yes")
    assert cropped_right_half(asked) is asked, "nor from a prefix"


def test_a_box_that_is_cut_is_clipped_or_dropped_by_its_visible_share():
    picture = Image.new("RGB", (100, 100))
    wide = Example(picture, "detect", encode_detections([(box(0, 10, 100, 20), "a")]))
    assert cropped_right_half(wide, min_visibility=0.6) is wide
    (found,) = decode_detections(cropped_right_half(wide, min_visibility=0.1).suffix).found
    assert (found.box.xmin, found.box.xmax) == (0.0, 1.0)
    line = Example(picture, "detect", encode_detections([(box(90, 10, 90, 20), "a")]))
    assert cropped_right_half(line) is not line


@pytest.mark.parametrize(
    ("prefix", "suffix", "words"),
    [
        ("", "<loc0001><loc0002><loc0003><loc0004><seg000>", "suffix holds segmentation tokens"),
        ("at <loc0001><loc0002>?", "x", "prefix holds <loc0001><loc0002>, which is no box"),
        ("", "<loc0005><loc0002><loc0003><loc0004> x", "suffix holds <loc0005>"),
        ("", "<loc0001><loc0002><loc0003><loc0004><loc0004>", "suffix holds <loc0001>.*which is no box"),
    ],
)
def test_tokens_that_cannot_be_moved_are_refused_by_row(small_bases, data, pictures, tmp_path, prefix, suffix, words):
    example = Example(Image.new("RGB", (4, 4)), prefix, suffix)
    with pytest.raises(DataError, match=words):
        check_movable(example, AugmentSettings(horizontal_flip=0.1))
    check_movable(example, AugmentSettings(brightness=0.1))
    good = rows_of(pictures, 3)
    for row in good:
        row.update(prefix="a", suffix="b")
    rows = [*good, {"image": str(pictures[0]), "prefix": prefix, "suffix": suffix}]
    file = write_rows(tmp_path / "rows.jsonl", rows)
    recipe = recipe_for(small_bases["paligemma2"], data, tmp_path / "r", f"data.train={file}", "augment.crop=0.5")
    with pytest.raises(DataError, match=rf"rows\.jsonl:4: {words}"):
        train(recipe)


def test_text_that_names_a_side_or_place_keeps_its_picture():
    for text in (
        "What is left of it?",
        "the TOP",
        "north-west",
        "a left-hand turn",
        "in the lower right corner",
        "row 2",
    ):
        assert names_a_place(Example("a.png", text, "x")), text
        assert names_a_place(Example("a.png", "x", text)), text
    for text in ("what colour is the car?", "bright", "leftover", "a topic", "the rightful cowboy"):
        assert not names_a_place(Example("a.png", text, text)), text
    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    example = Example(picture, "what is on the left?", "x")
    assert augmented(example, AugmentSettings(horizontal_flip=1.0, crop=0.5), seed=0, index=0, epoch=0) is example
    bright = augmented(example, AugmentSettings(horizontal_flip=1.0, brightness=0.9), seed=0, index=0, epoch=0)
    factor = draw_plan(AugmentSettings(horizontal_flip=1.0, brightness=0.9), 0, 0, 0).brightness
    assert bright.images[0].tobytes() == change_picture(picture, Plan(brightness=factor)).tobytes()


def test_draws_are_a_function_of_seed_example_and_epoch_and_cover_their_ranges():
    plans = {(s, i, e): draw_plan(ALL, s, i, e) for s in range(3) for i in range(20) for e in range(20)}
    assert len(set(plans.values())) == len(plans)
    assert plans == {key: draw_plan(ALL, *key) for key in plans}
    share = [plan.mirror for plan in plans.values()]
    assert 0.45 < sum(share) / len(share) < 0.55
    assert {plan.turns for plan in plans.values()} == {0, 1, 2, 3}
    crops = [plan.crop for plan in plans.values()]
    assert 0.4 <= min(crops) < 0.42
    assert 0.98 < max(crops) <= 1
    # Switching one on leaves what the others draw.
    more = draw_plan(AugmentSettings(**{**ALL.model_dump(), "brightness": 0.5}), 2, 3, 4)
    assert dataclasses.replace(more, brightness=1.0) == plans[2, 3, 4]
    assert draw_plan(AugmentSettings(), 0, 0, 0) == Plan()


def test_what_else_an_example_has_stays():
    example = Example(
        Image.new("RGB", (4, 4)), "a", "b", ("b", "c"), {"k": 1}, part="human", question_type="count", groups={"s": "1"}
    )
    shown = augmented(example, AugmentSettings(horizontal_flip=1.0), seed=0, index=0, epoch=0)
    assert (shown.prefix, shown.suffix, shown.metadata, shown.part) == ("a", "b", {"k": 1}, "human")
    assert (shown.question_type, shown.groups) == ("count", {"s": "1"})
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        augmented(Example("none.png", "a", "b"), AugmentSettings(crop=0.5), seed=0, index=0, epoch=0)


def test_a_resumed_run_sees_the_same_pictures(small_bases, pictures, tmp_path, monkeypatch):
    rows = [row for row in rows_of(pictures, 24) if "<loc" not in row["prefix"] + row["suffix"]]
    write_rows(tmp_path / "train.jsonl", rows)

    def recipe(name, *more):
        knobs = ["train.save_steps=2", "train.max_steps=8", *more]
        return recipe_for(small_bases["paligemma2"], tmp_path, tmp_path / name, *knobs)

    def changed(name):
        return recipe(name, "augment.horizontal_flip=0.5", "augment.contrast=0.5", "augment.rotate90=0.5")

    with interrupted_after(5):
        train(changed("resumed"))
    train(changed("resumed"), resume=True)
    train(changed("whole"))
    train(recipe("plain"))
    assert losses(tmp_path / "resumed") == losses(tmp_path / "whole") != losses(tmp_path / "plain")
