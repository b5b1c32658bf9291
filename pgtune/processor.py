"""The processor: image processor and tokenizer, loaded so that pixels and ids are the same wherever it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pgtune import squares
from pgtune.errors import ModelError

LOCATION_TOKENS = tuple(f"<loc{index:04d}>" for index in range(1024))
RELEASED_ROWS = 257_152
RELEASED_IDS = {
    "<pad>": 0,
    "<eos>": 1,
    "<bos>": 2,
    "\n": 108,
    "<loc0000>": 256_000,
    "<seg000>": 257_024,
    "<image>": 257_152,
}
"""Ids in every released checkpoint, whose embeddings have 257,152 rows and a few of padding."""
SEGMENTATION_TOKENS = tuple(f"<seg{index:03d}>" for index in range(128))


def load_processor(
    source: str,
    revision: str | None = None,
    *,
    resample: str | None = None,
    image_fit: str | None = None,
    antialias: bool | None = None,
) -> Any:
    """A PaliGemmaProcessor that resizes with Pillow, so that torchvision changes no pixel.

    Args:
        source: folder or hub id.
        resample: bicubic or bilinear; None keeps what was saved.
        image_fit: stretch or pad, and `antialias`: see `squares.py`; None keeps what was saved.
    """
    from PIL.Image import Resampling
    from transformers import AutoTokenizer, PaliGemmaProcessor
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    image_processor = SiglipImageProcessorPil.from_pretrained(source, revision=revision)
    if resample is not None:
        image_processor.resample = Resampling[resample.upper()]
    squares.remember(image_processor, image_fit=image_fit, antialias=antialias)
    tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    known = set(tokenizer.get_vocab())
    missing = [token for token in (*LOCATION_TOKENS, *SEGMENTATION_TOKENS, "<image>") if token not in known]
    if missing:  # PaliGemmaProcessor would add them at ids the model was never trained on
        raise ModelError(
            f"model.base: the tokenizer of {source} ({type(tokenizer).__name__}, {len(known):,} entries) is not "
            f"PaliGemma's: it lacks {len(missing)} tokens such as {missing[0]}"
        )
    return PaliGemmaProcessor(image_processor, tokenizer)


def check_tokenizer(base: str, processor: Any, config: Any) -> None:
    """That tokenizer, image processor and model belong together.

    Raises:
        ModelError: names the token, id or size that does not fit.
    """
    tokenizer = processor.tokenizer

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def wrong(what: str) -> ModelError:
        return ModelError(f"model.base: the tokenizer of {base} is not PaliGemma's: {what}")

    if len(ids("\n")) != 1:
        raise wrong(f"the separator '\\n' gives ids {ids(chr(10))}, it must be one token")
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if getattr(tokenizer, name) is None:
            raise wrong(f"it has no {name}")
    for tokens in (LOCATION_TOKENS, SEGMENTATION_TOKENS):
        first = tokenizer.convert_tokens_to_ids(tokens[0])
        for offset, token in enumerate(tokens):
            if ids(token) != [first + offset]:
                raise wrong(f"{token} gives ids {ids(token)}, expected [{first + offset}]")
    rows = config.get_text_config().vocab_size
    if rows >= RELEASED_ROWS:
        for token, wanted in RELEASED_IDS.items():
            if tokenizer.convert_tokens_to_ids(token) != wanted:
                found = tokenizer.convert_tokens_to_ids(token)
                raise wrong(f"{token!r} has id {found}, in the released checkpoints it has {wanted}")
    highest = tokenizer.convert_tokens_to_ids(SEGMENTATION_TOKENS[-1])
    if highest >= rows:
        raise wrong(f"{SEGMENTATION_TOKENS[-1]} has id {highest}, the model's embedding has {rows} rows")
    image_id = tokenizer.convert_tokens_to_ids("<image>")
    if image_id != config.image_token_id:
        raise wrong(f"<image> has id {image_id}, the model's config says {config.image_token_id}")
    vision = config.vision_config
    size = processor.image_processor.size
    expected = (vision.image_size // vision.patch_size) ** 2
    if (size["height"], size["width"]) != (vision.image_size, vision.image_size):
        raise ModelError(
            f"model.base: the image processor of {base} resizes to {size['height']} x {size['width']}, "
            f"the model takes {vision.image_size} x {vision.image_size}"
        )
    if processor.image_seq_length != expected:
        raise ModelError(
            f"model.base: the image processor of {base} says {processor.image_seq_length} image tokens, "
            f"the model makes {expected}"
        )


def save_processor(processor: Any, folder: Path) -> None:
    """Write what plain `AutoProcessor.from_pretrained(folder)` reads back, and a note where it lacks something."""
    processor.save_pretrained(str(folder))
    squares.write_note(processor.image_processor, folder)
