"""The embedded base model: its tokenizer, its processor, its folder, and the steps that make it."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoProcessor, GemmaTokenizer, PaliGemmaForConditionalGeneration, PaliGemmaProcessor

from pgtune import tiny
from pgtune.data_adapters.generated.generated import GeneratedAdapter
from pgtune.tiny import quality, questions, tower
from pgtune.tiny.architecture import new_model
from pgtune.tiny.build import build, new_processor
from pgtune.tiny.package import card

# transformers' own processor meets a change of NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


@lru_cache
def shipped_processor() -> PaliGemmaProcessor:
    return AutoProcessor.from_pretrained(tiny.path())


@pytest.fixture
def processor() -> PaliGemmaProcessor:
    return shipped_processor()


@pytest.fixture
def tokenizer() -> GemmaTokenizer:
    return shipped_processor().tokenizer


def ids(tokenizer: GemmaTokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def test_where_it_lies_is_told_without_torch() -> None:
    code = "import sys; from pgtune import tiny; print(tiny.path()); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == tiny.path()


def test_the_folder_is_small_and_whole() -> None:
    files = {file.name: file.stat().st_size for file in tiny.path().iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "processor_config.json", "README.md"} <= set(files)
    assert sum(files.values()) <= 12_000_000


def test_plain_transformers_loads_and_runs_it(processor: PaliGemmaProcessor) -> None:
    model, info = PaliGemmaForConditionalGeneration.from_pretrained(tiny.path(), output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert (model.dtype, model.config.text_config.model_type) == (torch.float32, "gemma2")
    assert model.config.image_token_index == processor.image_token_id
    picture = Image.new("RGB", (64, 48), "red")
    inputs = processor(images=[picture], text=["<image>ocr"], return_tensors="pt")
    inputs.pop("labels")
    start = inputs["input_ids"].shape[1]
    assert start == 64 + 1 + len(ids(processor.tokenizer, "ocr")) + 1
    assert model.generate(**inputs, max_new_tokens=3, do_sample=False).shape[1] > start


def test_ids_stand_in_the_order_of_the_real_tokenizer(tokenizer: GemmaTokenizer) -> None:
    assert tokenizer.convert_tokens_to_ids(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]) == [0, 1, 2, 3, 4]
    names = [f"<loc{index:04d}>" for index in range(1024)] + [f"<seg{index:03d}>" for index in range(128)] + ["<image>"]
    numbers = tokenizer.convert_tokens_to_ids(names)
    assert numbers == list(range(numbers[0], numbers[0] + len(names)))
    assert len(tokenizer) == numbers[-1] + 1
    for start in range(0, len(names) - 1, 97):
        assert ids(tokenizer, "".join(names[start : start + 9])) == numbers[start : start + 9]


def test_line_breaks_and_digits_never_merge(tokenizer: GemmaTokenizer) -> None:
    (line_break,) = ids(tokenizer, "\n")
    for text in ("a\nb", "\n\n", "circle\n", "\n ", "7\n", "<loc0001>\n<loc0002>"):
        assert ids(tokenizer, text).count(line_break) == text.count("\n")
    assert len(ids(tokenizer, "0123456789")) == 10
    assert len(ids(tokenizer, "2024.50")) == 7


def test_common_words_are_one_token(tokenizer: GemmaTokenizer) -> None:
    for word in ("circle", "red", "white", "background"):
        assert len(ids(tokenizer, f" {word}")) == 1


@settings(max_examples=200, deadline=None, database=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁<"), max_size=40))
def test_any_text_comes_back(text: str) -> None:
    tokenizer = shipped_processor().tokenizer  # a fixture would be made anew for each text
    numbers = ids(tokenizer, text)
    assert tokenizer.unk_token_id not in numbers
    assert tokenizer.decode(numbers, clean_up_tokenization_spaces=False) == text


def test_location_text_comes_back(tokenizer: GemmaTokenizer) -> None:
    text = "<loc0000><loc0512><loc1023><loc0007> red circle ; <loc0001><loc0002><loc0003><loc0004><seg127> x"
    assert tokenizer.decode(ids(tokenizer, text), skip_special_tokens=True) == text


def test_the_code_still_makes_the_shipped_tokenizer(tmp_path: Path) -> None:
    new_processor().save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json"):
        assert (tmp_path / name).read_text() == (tiny.path() / name).read_text(), name


def test_pictures_become_numbers_from_minus_one_to_one(processor: PaliGemmaProcessor) -> None:
    picture = Image.new("RGB", (30, 200), (255, 0, 51))
    pixels = processor(images=[picture], text=["<image>"], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 112, 112)
    expected = torch.tensor([1.0, -1.0, -0.6]).view(1, 3, 1, 1).expand_as(pixels)
    torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=0)


def test_new_weights_depend_on_the_seed_only(tokenizer: GemmaTokenizer) -> None:
    torch.manual_seed(5)
    first = new_model(tokenizer, 1).state_dict()
    torch.manual_seed(6)
    again, other = new_model(tokenizer, 1).state_dict(), new_model(tokenizer, 2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_new_location_tokens_are_alike_where_places_are_near(tokenizer: GemmaTokenizer) -> None:
    first = tokenizer.convert_tokens_to_ids("<loc0000>")
    rows = new_model(tokenizer).get_input_embeddings().weight[first : first + 1024].detach()
    alike = rows @ rows.T
    assert float(alike.diagonal(1).min()) > 0.99
    assert float(alike.diagonal(64).max()) < 0.85
    assert float(alike.diagonal(512).abs().max()) < 0.5


def test_labels_say_what_is_in_the_scene() -> None:
    adapter = GeneratedAdapter()
    kinds = set()
    for index in range(300):
        scene, _, suffix, task = adapter.scene("labels", index)
        kind, found = questions.labels(scene)
        kinds.add(kind)
        queries, heads = questions.HEADS[kind]
        assert set(found) == set(heads)
        for head, classes in found.items():
            assert len(classes) == queries
            assert all(value == questions.IGNORED or 0 <= value < heads[head] for value in classes)
        patches = questions.patch_labels(scene)
        assert set(patches) == set(questions.PATCH_HEADS.get(kind, {}))
        for head, classes in patches.items():
            assert len(classes) == 64
            number = questions.PATCH_HEADS[kind][head]
            assert all(value == questions.IGNORED or 0 <= value < number for value in classes)
        if task == "ocr":
            read = "".join(questions.CHARACTERS[value] for value in found["character"])
            assert read.rstrip("\0") == suffix
    assert kinds == set(questions.HEADS)


def test_the_tower_learns_and_goes_on_exactly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = pytest.MonkeyPatch()
    small.setattr(tower, "BATCH", 4)
    small.setattr(tower, "held_out", lambda seed: {})
    small.setattr(tower, "report", lambda *_: {})
    with small.context():
        tower.train(tmp_path / "whole", steps=4, seed=0, workers=0, every=4, minutes=None)
        tower.train(tmp_path / "parts", steps=4, seed=0, workers=0, every=2, minutes=0.0)
        assert not (tmp_path / "parts" / "tower.partial").exists()
        tower.train(tmp_path / "parts", steps=4, seed=0, workers=0, every=2, minutes=None)
    small.undo()
    whole, parts = (load_file(tmp_path / name / "tower.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert capsys.readouterr().out.count('"step": 4') == 2

    build(tmp_path / "init", tmp_path / "whole")
    model = PaliGemmaForConditionalGeneration.from_pretrained(tmp_path / "init")
    built = model.model.vision_tower.state_dict()
    assert all(torch.equal(built[name], whole[name]) for name in whole)
    assert {entry.name for entry in tmp_path.iterdir()} == {"whole", "parts", "init"}  # nothing is left aside


def test_right_answers_are_equal_text_or_overlapping_boxes() -> None:
    box = "<loc0100><loc0100><loc0300><loc0300> red circle"
    near = "<loc0110><loc0100><loc0300><loc0290> red circle"
    far = "<loc0300><loc0300><loc0500><loc0500> red circle"
    assert quality.is_right("42", "42")
    assert not quality.is_right("42 ", "42")
    assert quality.is_right(near, box)
    assert not quality.is_right(far, box)
    assert not quality.is_right(near.replace("red", "blue"), box)
    assert not quality.is_right(f"{near} ; {near}", box)


def test_the_base_has_learnt_its_task(processor: PaliGemmaProcessor) -> None:
    """Far from the full measurement of the card, yet nothing that an untrained model or wrong pixels could reach."""
    model = PaliGemmaForConditionalGeneration.from_pretrained(tiny.path())
    adapter = GeneratedAdapter(tasks=["caption"])
    examples = [adapter(row) for row in adapter.rows("48", quality.SPLIT)]
    pictures = [quality.open_image(example.images[0]) for example in examples]
    texts = quality.answers(model, processor, pictures, [example.prefix for example in examples])
    right = [text == example.suffix for text, example in zip(texts, examples, strict=True)]
    assert float(np.mean(right)) >= 0.6


def test_the_card_states_numbers() -> None:
    facts = {"parameters": 2_000_000, "tower_steps": 10, "tower_batch": 32, "align": "a", "pretrain": "b", "time": ""}
    text = card({"detect": {"right": 0.5, "n": 10}}, **facts)
    assert "| detect | 50.0 % | 10 |" in text
    assert text.startswith("---\nlicense: apache-2.0\n")
