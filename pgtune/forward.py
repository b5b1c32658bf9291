"""One forward pass in training: our own mask in, the loss at the suffix out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pgtune.collate import Batch, prefix_lm_mask
from pgtune.loss import SuffixLoss, suffix_loss


def attention_mask(batch: Batch, backend: str, dtype: torch.dtype) -> Any:
    """The batch's prefix-LM mask in the form that a backend takes.

    A mask of four dimensions is passed through by transformers untouched, for each kind of layer. It does not depend on
    `token_type_ids`, on whether the batch has padding, or on the model's mode.
    """
    allowed = prefix_lm_mask(batch.valid, batch.suffix)
    if backend == "sdpa":
        return allowed
    if backend == "flex_attention":
        from torch.nn.attention.flex_attention import create_block_mask

        def may_see(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return allowed[row, 0, query, key]

        size = allowed.shape[-1]
        return create_block_mask(may_see, len(allowed), None, size, size, device=str(allowed.device))
    assert backend == "eager", backend
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(~allowed, torch.finfo(dtype).min)


def hidden_states(paligemma: Any, batch: Batch, backend: str) -> Tensor:
    """The language model's last hidden states, [B, L, H].

    Args:
        paligemma: a PaliGemmaForConditionalGeneration, with or without LoRA layers inside.
        backend: the language model's attention backend.
    """
    vision = paligemma.model.vision_tower.embeddings.patch_embedding.weight
    outputs = paligemma.model(
        input_ids=batch.input_ids,
        pixel_values=batch.pixel_values.to(vision.dtype),
        attention_mask=attention_mask(batch, backend, paligemma.lm_head.weight.dtype),
        position_ids=batch.position_ids,
        use_cache=False,
    )
    states: Tensor = outputs.last_hidden_state
    return states


class SuffixLossModel(nn.Module):
    """A model whose forward takes a `Batch` and gives a `SuffixLoss`: what is wrapped for several devices."""

    def __init__(self, model: nn.Module, paligemma: Any, backend: str, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self._paligemma = [paligemma]  # in a list, so that it is not registered a second time
        self.backend = backend
        self.label_smoothing = label_smoothing

    def forward(self, batch: Batch) -> SuffixLoss:
        paligemma = self._paligemma[0]
        return suffix_loss(
            hidden_states(paligemma, batch, self.backend),
            batch.labels,
            paligemma.lm_head,
            label_smoothing=self.label_smoothing,
            softcap=getattr(paligemma.config.get_text_config(), "final_logit_softcapping", None),
        )
