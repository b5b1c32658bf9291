"""The processor: which tokenizers are PaliGemma's, and that plain transformers reads what is saved."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from pgtune.collate import Collator
from pgtune.errors import ModelError
from pgtune.model import load_base, load_config
from pgtune.processor import check_tokenizer, load_processor, save_processor
from pgtune.selftests import examples, picture
from pgtune.settings import ModelSettings

CPU = torch.device("cpu")


@pytest.fixture
def copy(bases, tmp_path):
    """A base to be damaged."""
    return shutil.copytree(bases["paligemma2"], tmp_path / "base")


def changed(file, change):
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def load(folder):
    return load_base(ModelSettings(base=str(folder)), full=True, device=CPU)


def rename_tokens(folder, old, new):
    """Give tokens another name in tokenizer.json."""
    file = folder / "tokenizer.json"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "missing"), [("<loc0", "<loc0000>"), ("<seg12", "<seg120>"), ("<loc1023>", "<loc1023>")]
)
def test_a_tokenizer_without_location_tokens_is_refused(copy, old, missing):
    rename_tokens(copy, old, old.replace("<", "<x"))
    with pytest.raises(ModelError, match=f"is not PaliGemma's: it lacks .* such as {missing}"):
        load(copy)


def test_a_foreign_tokenizer_is_refused(copy):
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>")).save(str(copy / "tokenizer.json"))
    (copy / "tokenizer_config.json").write_text('{"tokenizer_class": "TokenizersBackend"}', encoding="utf-8")
    with pytest.raises(ModelError, match="is not PaliGemma's"):
        load(copy)


def test_another_image_token_id_is_refused(copy):
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    key = "image_token_index" if "image_token_index" in config else "image_token_id"
    changed(copy / "config.json", lambda config: config.update({key: 5}))
    with pytest.raises(ModelError, match=r"<image> has id .*, the model's config says 5"):
        load(copy)


def test_a_tokenizer_larger_than_the_embedding_is_refused(bases):
    processor, config = load_processor(str(bases["paligemma2"])), load_config(str(bases["paligemma2"]))
    config.get_text_config().vocab_size = 1000
    with pytest.raises(ModelError, match=r"<seg127> has id \d+, the model's embedding has 1000 rows"):
        check_tokenizer("base", processor, config)


def test_another_picture_size_is_refused(copy):
    def smaller(content):
        content["image_processor"]["size"] = {"height": 56, "width": 56}

    changed(copy / "processor_config.json", smaller)
    with pytest.raises(ModelError, match="resizes to 56 x 56, the model takes 112 x 112"):
        load(copy)


@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
def test_plain_transformers_sees_the_same_pixels_and_ids(bases, tmp_path, resample):
    """What is saved with a run says how pictures are resized; AutoProcessor reads it."""
    from transformers import AutoProcessor

    processor = load_processor(str(bases["paligemma"]), resample=resample)
    save_processor(processor, tmp_path)
    plain = AutoProcessor.from_pretrained(str(tmp_path))
    batch = Collator(processor)([examples()[0]])
    theirs = plain(images=[picture(0)], text=[examples()[0].prefix], return_tensors="pt")
    prompt = batch.input_ids[0][~batch.suffix[0]].tolist()
    assert theirs["input_ids"][0].tolist() == prompt
    assert torch.equal(theirs["pixel_values"], batch.pixel_values)
    other = load_processor(str(bases["paligemma"]), resample="bilinear" if resample == "bicubic" else "bicubic")
    small = picture(3).resize((40, 40))
    assert not torch.equal(Collator(processor).pixels([small]), Collator(other).pixels([small]))
