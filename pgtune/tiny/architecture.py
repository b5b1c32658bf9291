"""The shape of `tiny`: PaliGemma 2 made small, with every part that the large ones have."""

from __future__ import annotations

import torch
from transformers import (
    Gemma2Config,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PreTrainedTokenizerBase,
    SiglipVisionConfig,
)

RESOLUTION = 112
"""width and height of the pictures in pixels"""
PATCH = 14
HIDDEN = 128
IMAGE_TOKENS = (RESOLUTION // PATCH) ** 2
VOCABULARY_MULTIPLE = 64
"""the embedding has this many rows or a multiple, as the conversion of the released checkpoints pads it"""


def vision_config() -> SiglipVisionConfig:
    """SigLIP: 8 x 8 patches of 14 pixels, 4 layers of width 128, no pooling head (as PaliGemma has it)."""
    return SiglipVisionConfig(
        hidden_size=HIDDEN,
        intermediate_size=4 * HIDDEN,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=RESOLUTION,
        patch_size=PATCH,
        vision_use_head=False,
        projection_dim=HIDDEN,
    )


def text_config(vocabulary: int) -> Gemma2Config:
    """Gemma 2: 4 layers of width 128, 4 query and 2 key heads of 32, attention soft-cap 50, no cap on the output."""
    return Gemma2Config(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=4 * HIDDEN,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        query_pre_attn_scalar=32,
        attn_logit_softcapping=50.0,
        final_logit_softcapping=None,
        sliding_window=4096,
        max_position_embeddings=8192,
        hidden_activation="gelu_pytorch_tanh",
        use_bidirectional_attention=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        tie_word_embeddings=True,
    )


def config(tokenizer: PreTrainedTokenizerBase) -> PaliGemmaConfig:
    """The whole configuration, for a tokenizer that has the location, segmentation and image tokens."""
    vocabulary = -(-len(tokenizer) // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
    return PaliGemmaConfig(
        vision_config=vision_config(),
        text_config=text_config(vocabulary),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vocab_size=vocabulary,
        projection_dim=HIDDEN,
        hidden_size=HIDDEN,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        tie_word_embeddings=True,
        dtype="float32",
    )


def new_model(tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> PaliGemmaForConditionalGeneration:
    """The model with random weights that depend on the seed only; float32. Location tokens start out in order."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PaliGemmaForConditionalGeneration(config(tokenizer)).eval()
        order_locations(model, tokenizer)
        return model


@torch.no_grad()
def order_locations(model: PaliGemmaForConditionalGeneration, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the 1024 location tokens embeddings that are alike where the places are near.

    Each is seen too seldom to find out on its own that 0500 lies beside 0501. Random Fourier features: half of the
    dimensions tell places apart that are a quarter of the picture from each other, half a thirtieth. Norm 1.
    """
    first = tokenizer.convert_tokens_to_ids("<loc0000>")
    places = torch.arange(1024) / 1023
    spread = torch.cat([torch.full((HIDDEN // 4,), 1.0), torch.full((HIDDEN // 4,), 5.0)])
    turns = 2 * torch.pi * places[:, None] * (torch.randn(HIDDEN // 2) * spread)
    waves = torch.cat([turns.cos(), turns.sin()], dim=1) / (HIDDEN // 2) ** 0.5
    mixed = waves @ torch.linalg.qr(torch.randn(HIDDEN, HIDDEN))[0]
    model.get_input_embeddings().weight[first : first + 1024] = mixed
