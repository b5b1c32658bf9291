"""Padding to a white square and resizing without averaging: against torch, saved with the processor, used by all."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import recipe_for, write_rows
from PIL import Image

from pgtune import load, train
from pgtune.collate import Collator
from pgtune.errors import DataError
from pgtune.example import Example
from pgtune.processor import load_processor, save_processor
from pgtune.squares import NOTE, bilinear, settings_of, square


def noise(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(70, 50, 112), (201, 300, 112), (113, 113, 112), (1, 1, 14), (37, 1000, 224), (448, 448, 224), (14, 14, 14)],
)
def test_bilinear_is_torchs_without_antialias(width, height, size):
    pixels = noise(width, height)
    found = bilinear(pixels, size, size)
    wanted = torch.nn.functional.interpolate(
        torch.tensor(pixels).permute(2, 0, 1)[None].double(),
        size=(size, size),
        mode="bilinear",
        align_corners=False,
        antialias=False,
    )[0].permute(1, 2, 0).numpy()  # fmt: skip
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() < 3e-2, "places in float32: 1000 x 6e-8, times 255"
    # As bytes they are the same but where a value is whole: a hair below it, its whole part is one less.
    apart = np.abs(wanted - np.round(wanted)) > 3e-2
    assert (found.astype(np.uint8)[apart] == wanted.astype(np.uint8)[apart]).all()


def test_bilinear_by_hand():
    """Four pixels to two: centres at 0.5 and 2.5, each half of two neighbours; to eight: quarters."""
    line = np.array([[[0], [10], [20], [40]]], np.uint8)
    assert bilinear(line, 1, 2)[0, :, 0].tolist() == [5.0, 30.0]
    assert bilinear(line, 1, 8)[0, :, 0].tolist() == [0.0, 2.5, 7.5, 12.5, 17.5, 25.0, 35.0, 40.0]
    nine = np.arange(9, dtype=np.uint8).reshape(1, 9, 1)
    assert bilinear(nine, 1, 3)[0, :, 0].tolist() == [1.0, 4.0, 7.0], "the middle one of three, nothing averaged"


def test_an_even_ground_keeps_its_value_for_every_value_and_size():
    for value in range(256):
        for width, height in ((53, 97), (1000, 7)):
            assert (bilinear(np.full((height, width, 1), value, np.uint8), 112, 112) == value).all()


def test_what_is_between_two_bytes_is_cut_as_tf_cast_does(processor):
    processor.image_processor.size = {"height": 1, "width": 1}
    picture = Image.fromarray(np.array([[[10, 10, 0], [11, 13, 255]]], np.uint8))
    assert square(picture, processor.image_processor).getpixel((0, 0)) == (10, 11, 127)


@pytest.fixture
def processor(bases):
    return load_processor(str(bases["paligemma2"]), resample="bilinear", antialias=False)


@pytest.mark.parametrize(("size", "box"), [((40, 20), (0, 10, 40, 30)), ((20, 41), (10, 0, 30, 41))])
def test_pad_puts_the_picture_in_the_middle_of_white(bases, size, box):
    pad = load_processor(str(bases["paligemma2"]), image_fit="pad").image_processor
    picture = Image.fromarray(noise(*size))
    padded = square(picture, pad)
    assert padded.size == (max(size), max(size))
    assert padded.crop(box).tobytes() == picture.tobytes()
    padded.paste("white", box)
    assert padded.getcolors() == [(max(size) ** 2, (255, 255, 255))]
    squared = Image.fromarray(noise(30, 30))
    assert square(squared, pad).tobytes() == squared.tobytes()


def test_a_padded_strip_never_needs_a_square_of_its_length(bases):
    pad = load_processor(str(bases["paligemma2"]), image_fit="pad").image_processor
    strip = Image.new("RGB", (40_000, 10), "black")
    padded = square(strip, pad)
    assert padded.width == padded.height < 10_000
    assert padded.getpixel((5000, padded.height // 2))[0] < 128
    assert padded.getpixel((5000, 10)) == (255, 255, 255)


@pytest.mark.parametrize(("fit", "antialias"), [("stretch", True), ("pad", True), ("stretch", False), ("pad", False)])
def test_the_settings_are_saved_and_plain_transformers_can_be_given_the_same(bases, tmp_path, fit, antialias):
    from transformers import AutoProcessor

    resample = "bicubic" if antialias else "bilinear"
    ours = load_processor(str(bases["paligemma2"]), resample=resample, image_fit=fit, antialias=antialias)
    save_processor(ours, tmp_path)
    again = load_processor(str(tmp_path))
    assert settings_of(again.image_processor) == (fit, antialias)
    picture = Image.fromarray(noise(150, 91))
    pixels = Collator(ours).pixels([picture])
    assert torch.equal(Collator(again).pixels([picture]), pixels)
    plain = AutoProcessor.from_pretrained(tmp_path).image_processor
    as_it_is = plain(images=[picture], return_tensors="pt")["pixel_values"]
    note = tmp_path / NOTE
    if (fit, antialias) == ("stretch", True):
        assert torch.equal(as_it_is, pixels)
        assert not note.exists()
        assert "pgtune" not in (tmp_path / "processor_config.json").read_text(encoding="utf-8")
    else:
        assert not torch.allclose(as_it_is, pixels, atol=1e-2), "which the note says"
        text = note.read_text(encoding="utf-8")
        assert ("white square" in text) == (fit == "pad")
        assert ("antialias=False" in text) == (not antialias)
        made = plain(images=[square(picture, ours.image_processor)], return_tensors="pt")["pixel_values"]
        assert torch.equal(made, pixels)
    plainer = load_processor(str(tmp_path), image_fit="stretch", antialias=True)
    assert settings_of(plainer.image_processor) == ("stretch", True)
    assert "pgtune" not in json.dumps(sorted(vars(plainer.image_processor)))


def test_the_values_are_those_of_the_papers(processor):
    """tf.image.resize, whole numbers, then x / 255 * 2 - 1."""
    pixels = noise(150, 91)
    wanted = bilinear(pixels, 112, 112).astype(np.uint8).astype(np.float64) / 255 * 2 - 1
    found = Collator(processor).pixels([Image.fromarray(pixels)])[0].permute(1, 2, 0).numpy()
    assert np.abs(found - wanted).max() < 1e-6


def test_location_tokens_do_not_go_with_padding(bases, small_bases, data, pictures, tmp_path):
    padded = Collator(load_processor(str(bases["paligemma2"]), image_fit="pad"))
    for prefix, suffix in (("detect <loc0001>", "x"), ("detect", "<loc0001><loc0002><loc0003><loc0004> x")):
        with pytest.raises(DataError, match="image_fit pad shows the model another one"):
            padded.layout(Example(Image.new("RGB", (4, 4)), prefix, suffix))
    rows = write_rows(tmp_path / "rows.jsonl", [{"image": str(pictures[0]), "prefix": "", "suffix": "<loc0001>"}])
    with pytest.raises(DataError, match=r"rows\.jsonl:1: the text holds location tokens"):
        train(recipe_for(small_bases["paligemma2"], data, tmp_path / "r", "model.image_fit=pad", f"data.train={rows}"))


def test_a_run_keeps_how_it_saw_pictures(small_bases, data, tmp_path):
    knobs = ("model.image_fit=pad", "model.resample=bilinear", "model.antialias=false", "train.max_steps=1")
    rows = write_rows(tmp_path / "rows.jsonl", [{"image": "wide.png", "prefix": "a", "suffix": "b"}])
    Image.fromarray(noise(90, 30)).save(tmp_path / "wide.png")
    for name, lora in (("lora", {"rank": 2}), ("full", None)):
        run = tmp_path / name
        train(recipe_for(small_bases["paligemma2"], data, run, *knobs, f"data.train={rows}", lora=lora))
        loaded = load(run)
        assert settings_of(loaded.collator.processor.image_processor) == ("pad", False)
        assert (run / "processor" / NOTE).is_file()
        assert (run / "model" / NOTE).is_file() == (lora is None)
        assert isinstance(loaded.predict(tmp_path / "wide.png", "a").text, str)
        with pytest.raises(DataError, match="location tokens"):
            loaded.predict(tmp_path / "wide.png", "<loc0001>")
