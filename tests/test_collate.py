"""The token layout, against hand-built ids and against transformers' own processor; labels, padding, limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pgtune.collate import IGNORE, Collator, prefix_lm_mask
from pgtune.errors import DataError
from pgtune.example import Example
from pgtune.selftests import examples, picture


@pytest.fixture(scope="module")
def collator(bench):
    return Collator(bench.loaded.processor)


def pieces(processor, text):
    """The ids of a text by the tokenizer's own pieces: an oracle that knows nothing of the collator."""
    return processor.tokenizer.convert_tokens_to_ids(processor.tokenizer.tokenize(text))


@pytest.mark.parametrize(
    ("prefix", "suffix"),
    [
        ("answer en what is this?", "a red circle"),
        ("", "7"),
        ("detect <loc0012>", "<loc0000><loc0345><loc0678><loc1023> circle <seg000><seg127>"),
        ("ends in a newline\n", "two\nlines"),
        (" spaces  around ", " leading"),
    ],
)
def test_layout_is_the_hand_built_one(bench, collator, prefix, suffix):
    processor = bench.loaded.processor
    layout = collator.layout(Example(picture(0), prefix, suffix))
    newline = pieces(processor, "\n")
    assert len(newline) == 1
    wanted_prefix = [processor.image_token_id] * 64 + [2] + pieces(processor, prefix) + newline
    wanted_suffix = [*pieces(processor, suffix), 1]
    assert layout.input_ids == wanted_prefix + wanted_suffix
    assert layout.prefix_length == len(wanted_prefix)
    assert layout.image_tokens == 64
    assert layout.labels == [-100] * len(wanted_prefix) + wanted_suffix


def test_several_images_stand_before_bos_one_after_the_other(bench, collator):
    layout = collator.layout(Example([picture(0), picture(1), picture(2)], "left or right", "left"))
    assert layout.input_ids[:193] == [bench.loaded.processor.image_token_id] * 192 + [2]
    batch = collator([Example([picture(0), picture(1)], "a", "b"), Example([picture(2), picture(3)], "a", "b")])
    assert batch.pixel_values.shape == (4, 3, 112, 112)
    for index in range(4):
        assert torch.equal(batch.pixel_values[index], collator.pixels([picture(index)])[0])


@pytest.mark.parametrize("example", examples(), ids=["long", "empty prefix, one token", "locations"])
def test_layout_is_that_of_transformers_processor(bench, collator, example):
    """Their processor tokenises prefix and newline together; where nothing merges, the ids must be the same."""
    theirs = bench.loaded.processor(
        images=[[example.images[0]]], text=[example.prefix], suffix=[example.suffix], return_tensors="pt"
    )
    ours = collator([example])
    assert theirs["input_ids"].tolist() == ours.input_ids.tolist()
    assert theirs["labels"].tolist() == ours.labels.tolist()
    assert theirs["token_type_ids"].bool().tolist() == ours.suffix.tolist()
    assert torch.equal(theirs["pixel_values"], ours.pixel_values)


def test_padding_right_and_left(bench):
    right, left = (Collator(bench.loaded.processor, padding_side=side)(examples()) for side in ("right", "left"))
    longest = right.input_ids.shape[1]
    for row, example in enumerate(examples()):
        layout = Collator(bench.loaded.processor).layout(example)
        used = len(layout.input_ids)
        pads = longest - used
        assert right.input_ids[row].tolist() == layout.input_ids + [0] * pads
        assert left.input_ids[row].tolist() == [0] * pads + layout.input_ids
        assert right.labels[row].tolist() == layout.labels + [IGNORE] * pads
        assert left.labels[row].tolist() == [IGNORE] * pads + layout.labels
        assert right.valid[row].tolist() == [True] * used + [False] * pads
        assert left.suffix[row].tolist() == [False] * (pads + layout.prefix_length) + [True] * (
            used - layout.prefix_length
        )
        # positions count from 1 and pass over padding
        assert right.position_ids[row, :used].tolist() == list(range(1, used + 1))
        assert left.position_ids[row, pads:].tolist() == list(range(1, used + 1))
    assert right.supervised_tokens == left.supervised_tokens == int(right.suffix.sum())


def test_the_mask_of_a_hand_written_case():
    """Two prefix tokens, two suffix tokens and a pad on the right, then on the left."""
    valid = torch.tensor([[1, 1, 1, 1, 0], [0, 1, 1, 1, 1]]).bool()
    suffix = torch.tensor([[0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]).bool()
    mask = prefix_lm_mask(valid, suffix)
    assert mask.shape == (2, 1, 5, 5)
    assert mask[0, 0, :4].long().tolist() == [
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
    ]
    assert mask[1, 0, 1:].long().tolist() == [
        [0, 1, 1, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 1, 1, 1, 1],
    ]
    assert bool(mask.any(-1).all()), "no row is empty, or softmax gives NaN"
    assert not bool(mask[0, 0, :, 4].any())
    assert not bool(mask[1, 0, :, 0].any())


def test_pixels_are_those_of_a_plain_resize(collator):
    image = picture(5).resize((53, 31))
    wanted = np.asarray(image.resize((112, 112), Image.Resampling.BICUBIC), dtype=np.float32) / 127.5 - 1
    pixels = collator.pixels([image])[0]
    assert pixels.dtype == torch.float32
    assert np.allclose(pixels.permute(1, 2, 0).numpy(), wanted, atol=1e-6)


def test_too_long_is_an_error_by_default(bench):
    collator = Collator(bench.loaded.processor, 8)
    with pytest.raises(DataError, match=r"has \d+ tokens .*data.max_text_tokens is 8; raise it, or set data.too_long"):
        collator.layout(examples()[0])
    assert collator.layout(examples()[1]) is not None


def test_too_long_may_be_skipped(bench):
    collator = Collator(bench.loaded.processor, 8, "skip")
    assert collator.layout(examples()[0]) is None
    assert collator.layout(examples()[1]) is not None


@pytest.mark.parametrize("limit", range(4, 14))
def test_truncation_cuts_the_suffix_first_and_keeps_newline_and_eos(bench, limit):
    collator = Collator(bench.loaded.processor, limit, "truncate")
    for example in examples():
        whole = Collator(bench.loaded.processor).layout(example)
        cut = collator.layout(example)
        text, whole_text = cut.input_ids[cut.image_tokens :], whole.input_ids[whole.image_tokens :]
        assert len(text) == min(limit, len(whole_text))
        assert text[0] == collator.bos_id
        assert text[-1] == collator.eos_id
        prefix = text[1 : cut.prefix_length - cut.image_tokens - 1]
        suffix = text[cut.prefix_length - cut.image_tokens : -1]
        assert text[cut.prefix_length - cut.image_tokens - 1] == collator.separator_id
        assert len(suffix) >= 1
        assert collator.tokenize(example.prefix)[: len(prefix)] == prefix
        assert collator.tokenize(example.suffix)[: len(suffix)] == suffix
        assert len(suffix) == 1 or prefix == collator.tokenize(example.prefix), "the prefix was cut before the suffix"


def test_prompts_pad_left_with_all_of_them_prefix(collator):
    images = [collator.pixels([picture(0)]), collator.pixels([picture(1), picture(2)])]
    prompts = collator.prompts(images, ["a longer prompt", ""])
    assert prompts["pixel_values"].shape[0] == 3
    assert int(prompts["token_type_ids"].sum()) == 0
    pads = (prompts["input_ids"] == 0).sum(-1).tolist()
    assert min(pads) == 0
    assert max(pads) > 0
    for row, count in enumerate(pads):
        assert prompts["attention_mask"][row].tolist() == [0] * count + [1] * (prompts["input_ids"].shape[1] - count)
    assert prompts["input_ids"][:, -1].tolist() == [collator.separator_id] * 2


def test_text_comes_back_from_its_tokens(bench):
    """What a suffix is learnt as is what is printed when it is generated."""
    tokenizer = bench.loaded.processor.tokenizer
    for text in ("a red circle", "7", "<loc0012><seg003> box ; two", " leading", "line\nline", "naïve 42 %", "a  b"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == text
