"""Examples to batches: token layout, labels and the prefix-LM attention mask.

The layout is big_vision's (`transfers/common.py`)::

    <image> x n   <bos>  prefix  "\\n"  |  suffix  <eos>  <pad> ...
    ------------- prefix: bidirectional |  causal, learnt

Prefix, separator and suffix are tokenised apart and their ids are joined, so that the separator is one token whatever
stands before or after it. The collator never sees a column name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from pgtune import squares
from pgtune.errors import DataError
from pgtune.example import Example, ImageSource
from pgtune.images import open_image

IGNORE = -100
"""The label of a position at which nothing is learnt."""

TooLong = Literal["error", "truncate", "skip"]


@dataclass(frozen=True)
class Layout:
    """One example as the model sees it, without padding."""

    input_ids: list[int]
    prefix_length: int
    """Tokens up to and with the separator (image tokens included): all of them see each other."""
    image_tokens: int

    @property
    def labels(self) -> list[int]:
        """As long as `input_ids`: the id where it is learnt, `IGNORE` elsewhere."""
        return [IGNORE] * self.prefix_length + self.input_ids[self.prefix_length :]


@dataclass
class Batch:
    """A padded batch of B examples of at most L tokens, with N images in all."""

    pixel_values: Tensor
    """[N, 3, R, R] float32 in [-1, 1], in the order of the `<image>` blocks."""
    input_ids: Tensor
    """[B, L] int64."""
    valid: Tensor
    """[B, L] bool, False at padding."""
    suffix: Tensor
    """[B, L] bool, True at suffix and `<eos>`."""
    labels: Tensor
    """[B, L] int64, aligned with `input_ids` (not shifted)."""

    def to(self, device: torch.device | str) -> Batch:
        """A copy of the batch on `device`."""
        return Batch(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})

    @property
    def position_ids(self) -> Tensor:
        """[B, L] int64, from 1 as in transformers' PaliGemma; padding does not count."""
        return self.valid.long().cumsum(-1).clamp(min=1)

    @property
    def supervised_tokens(self) -> int:
        """How many positions are learnt."""
        return int((self.labels != IGNORE).sum())


def prefix_lm_mask(valid: Tensor, suffix: Tensor) -> Tensor:
    """The attention mask: bool [B, 1, L, L], True where query i may see key j.

    A token sees every valid token of no later rank, where the rank counts the suffix tokens so far: the prefix
    (rank 0) is seen by all and sees no suffix, the suffix is causal (big_vision `make_attn_mask`).
    Padding is seen by nobody; its own rows see the prefix, so that no row is empty.
    """
    rank = (suffix & valid).long().cumsum(-1)
    allowed = (rank[:, None, :] <= rank[:, :, None]) & valid[:, None, :]
    return allowed[:, None]


class Collator:
    """Turns Examples into a padded `Batch`, and prompts into what `generate` takes.

    Args:
        processor: the run's PaliGemmaProcessor (image processor and tokenizer).
        max_text_tokens: limit for `<bos>` prefix separator suffix `<eos>` together; None for no limit.
        too_long: what to do over the limit: `error`, `truncate` (the end of the suffix, then of the prefix;
            separator and `<eos>` always stay) or `skip` (such examples are left out before training).
        padding_side: `right` for training; `left` gives the same loss.
    """

    def __init__(
        self,
        processor: Any,
        max_text_tokens: int | None = None,
        too_long: TooLong = "error",
        padding_side: Literal["left", "right"] = "right",
    ) -> None:
        self.processor = processor
        self.max_text_tokens = max_text_tokens
        self.too_long = too_long
        self.padding_side = padding_side
        tokenizer = processor.tokenizer
        self.padded_pictures = squares.settings_of(processor.image_processor)[0] == "pad"
        self.tokens_per_image = int(processor.image_seq_length)
        self.image_id = int(processor.image_token_id)
        self.bos_id, self.eos_id, self.pad_id = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
        (self.separator_id,) = self.tokenize("\n")

    def tokenize(self, text: str) -> list[int]:
        """The ids of `text` with nothing put before or after it."""
        ids: list[int] = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def prompt_ids(self, images: int, prefix_ids: Sequence[int]) -> list[int]:
        """Image tokens, `<bos>`, prefix and separator."""
        return [self.image_id] * (images * self.tokens_per_image) + [self.bos_id, *prefix_ids, self.separator_id]

    def layout(self, example: Example) -> Layout | None:
        """The token layout of one example; None where `too_long` is `skip` and it does not fit.

        Raises:
            DataError: the text is too long and `too_long` is `error`, or holds location tokens where pictures are
                padded.
        """
        self.check_locations(example.prefix + example.suffix)
        prefix, suffix = self.tokenize(example.prefix), self.tokenize(example.suffix)
        if self.max_text_tokens is not None:
            text_tokens = len(prefix) + len(suffix) + 3  # <bos>, separator, <eos>
            excess = text_tokens - self.max_text_tokens
            if excess > 0:
                if self.too_long == "skip":
                    return None
                if self.too_long == "error":
                    raise DataError(
                        f"the text has {text_tokens} tokens with <bos>, separator and <eos> "
                        f"(prefix {len(prefix)}, suffix {len(suffix)}), data.max_text_tokens is "
                        f"{self.max_text_tokens}; raise it, or set data.too_long to truncate or skip"
                    )
                cut = min(excess, len(suffix) - 1)
                suffix = suffix[: len(suffix) - cut]
                prefix = prefix[: len(prefix) - (excess - cut)] if excess > cut else prefix
        prompt = self.prompt_ids(len(example.images), prefix)
        return Layout([*prompt, *suffix, self.eos_id], len(prompt), len(example.images) * self.tokens_per_image)

    def check_locations(self, text: str) -> None:
        """Refuse location tokens where pictures are padded: they mean places in the picture, the model sees the square.

        Raises:
            DataError: without the row.
        """
        if self.padded_pictures and "<loc" in text:
            raise DataError(
                "the text holds location tokens, which are fractions of the picture, and model.image_fit pad shows the "
                "model another one; use stretch, or pad the pictures yourself and count from the padded square"
            )

    def pixels(self, images: Sequence[ImageSource]) -> Tensor:
        """float32 [N, 3, R, R] in [-1, 1], resized by the processor that is saved with the run."""
        return self.pixels_of([open_image(image) for image in images])

    def pixels_of(self, opened: Sequence[Image.Image]) -> Tensor:
        """The same for pictures that were opened already (`open_image`)."""
        squared = [squares.square(image, self.processor.image_processor) for image in opened]
        pixels: Tensor = self.processor.image_processor(images=squared, return_tensors="pt")["pixel_values"]
        return pixels

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Raises DataError for a picture that cannot be opened or a text that does not fit."""
        layouts = [layout for example in examples if (layout := self.layout(example)) is not None]
        assert len(layouts) == len(examples), "examples that do not fit are left out before batches are made"
        length = max(len(layout.input_ids) for layout in layouts)
        size = (len(layouts), length)
        input_ids = torch.full(size, self.pad_id, dtype=torch.long)
        labels = torch.full(size, IGNORE, dtype=torch.long)
        valid = torch.zeros(size, dtype=torch.bool)
        suffix = torch.zeros(size, dtype=torch.bool)
        for row, layout in enumerate(layouts):
            used = len(layout.input_ids)
            start = length - used if self.padding_side == "left" else 0
            input_ids[row, start : start + used] = torch.tensor(layout.input_ids)
            labels[row, start : start + used] = torch.tensor(layout.labels)
            valid[row, start : start + used] = True
            suffix[row, start + layout.prefix_length : start + used] = True
        pixels = self.pixels([image for example in examples for image in example.images])
        return Batch(pixels, input_ids, valid, suffix, labels)

    def prompts(self, images: Sequence[Tensor], prefixes: Sequence[str]) -> dict[str, Tensor]:
        """What `generate` takes for B prompts: left padding, a 2-D mask and `token_type_ids` 0 (all prefix).

        Args:
            images: per prompt the pixels [n, 3, R, R] of its pictures.
            prefixes: per prompt the prefix, without separator.
        """
        ids = [
            self.prompt_ids(len(pixels), self.tokenize(prefix)) for pixels, prefix in zip(images, prefixes, strict=True)
        ]
        length = max(map(len, ids))
        input_ids = torch.tensor([[self.pad_id] * (length - len(row)) + row for row in ids])
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in ids])
        return {
            "input_ids": input_ids,
            "attention_mask": mask,
            "token_type_ids": torch.zeros_like(input_ids),
            "pixel_values": torch.cat(list(images)),
        }
