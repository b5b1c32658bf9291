"""Cross-entropy at the supervised positions only.

Logits of PaliGemma's 257,216 entries are computed for the tokens that are learnt and for no others: in float32 the full
ones cost 0.33 / 1.12 / 4.28 GB a sample at 224 / 448 / 896 px. Where many tokens are learnt, as in long captions and
music, a chunk of them at a time is turned into logits, and once more in the backward pass: a gigabyte for each thousand
is never held.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from pgtune.collate import IGNORE

CHUNK = 256
"""Tokens whose logits are held at once: 263 MB in float32 at 257,216 entries."""


@dataclass(frozen=True)
class SuffixLoss:
    """Per example: the summed negative log-likelihood and the number of tokens it was summed over, both [B]."""

    total: Tensor
    tokens: Tensor

    def example_sum(self) -> Tensor:
        """Sum over examples of the mean over an example's tokens (`loss_reduction: example`, the papers')."""
        return (self.total / self.tokens.clamp(min=1)).sum()

    def token_sum(self) -> Tensor:
        """Sum over all tokens (`loss_reduction: token`)."""
        return self.total.sum()


def suffix_loss(
    hidden: Tensor,
    labels: Tensor,
    head: nn.Module,
    *,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
) -> SuffixLoss:
    """Cross-entropy of the next token, in float32.

    Args:
        hidden: last hidden states, [B, L, H].
        labels: [B, L], aligned with the input (the shift is made here), `IGNORE` where nothing is learnt.
        head: maps [T, H] to logits [T, V].
        label_smoothing: e in [0, 1). The target is 1-e, every other class gets e/(V-1) (big_vision's convention;
            torch's gives e/V to all).
        softcap: final logit soft-capping c, logits become c*tanh(logits/c); None for none.

    Raises:
        ValueError: no position is supervised, so there is nothing to learn.
    """
    targets = labels[:, 1:]
    supervised = targets != IGNORE
    if not bool(supervised.any()):
        raise ValueError("no supervised position in the batch")
    chosen = hidden[:, :-1][supervised]  # [T, H]
    gold = targets[supervised]
    if len(gold) <= CHUNK:
        losses = _token_losses(chosen, gold, head, label_smoothing, softcap)
    else:
        losses = torch.cat([
            checkpoint(
                _token_losses, part, of, head, label_smoothing, softcap, use_reentrant=False, preserve_rng_state=False
            )
            for part, of in zip(torch.split(chosen, CHUNK), torch.split(gold, CHUNK), strict=True)
        ])  # fmt: skip
    rows = supervised.nonzero()[:, 0]
    total = torch.zeros(len(labels), dtype=losses.dtype, device=losses.device).index_add(0, rows, losses)
    return SuffixLoss(total, supervised.sum(-1))


def _token_losses(
    chosen: Tensor, gold: Tensor, head: nn.Module, label_smoothing: float, softcap: float | None
) -> Tensor:
    """The loss of each of some tokens, [T]."""
    logits = head(chosen).float()
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    losses = functional.cross_entropy(logits, gold, reduction="none")
    if label_smoothing:
        log_probabilities = functional.log_softmax(logits, dim=-1)
        others = -(log_probabilities.sum(-1) + losses)  # all classes but the target: losses is -log p(target)
        losses = (1 - label_smoothing) * losses + label_smoothing / (logits.shape[-1] - 1) * others
    return losses
