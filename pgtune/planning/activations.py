"""What autograd keeps of a layer's forward pass, in bytes a token: arithmetic, read off the code that runs.

The terms stand beside what saves them; tests/test_planning.py compares their sums with what torch's own
`saved_tensors_hooks` count, so that a change of the code or of a library shows there. H is the hidden size, I the
intermediate size, Q the width of all query heads together, K that of all key heads.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pgtune.architecture import Linear, Text, Vision

__all__ = ["Kept", "Mode", "decoder_layer", "decoder_transient", "vision_layer", "vision_transient"]


@dataclass(frozen=True)
class Mode:
    """How a model computes, as far as memory goes."""

    base: int
    """Bytes of a frozen weight as it is computed with: 4 or 2 (also where it is stored in 4 bits)."""
    autocast: bool
    compiled: bool = False
    attention: str = "eager"
    """eager, sdpa or flex_attention."""
    gpu: bool = True
    rank: int | None = None
    """LoRA's; None where layers are trained in full, or not at all."""
    dora: bool = False
    lora_dropout: bool = False
    llm_dropout: bool = False

    @property
    def compute(self) -> int:
        """Bytes of what comes out of a linear layer."""
        return 2 if self.autocast else self.base

    @property
    def trained_input(self) -> int:
        """Bytes of the input that a trained matrix keeps: trained matrices are float32."""
        return 2 if self.autocast else 4

    @property
    def shared(self) -> bool:
        """Whether layers that read the same input keep one copy of it together, not one each after a cast."""
        return self.base == 4 and not self.autocast and not self.lora_dropout


@dataclass(frozen=True)
class Kept:
    """What a layer keeps for the backward pass."""

    per_token: float = 0.0
    constant: float = 0.0
    """Copies of weights, whatever the batch."""

    def of(self, tokens: int) -> float:
        """Bytes for so many tokens."""
        return self.per_token * tokens + self.constant


def _matrices(linears: Sequence[Linear], trained: Collection[str], mode: Mode) -> Kept:
    """What belongs to matrices, not to what flows between them: casts, LoRA's inner results, DoRA, dropout."""
    token = constant = 0.0
    if mode.autocast and mode.base == 4:
        constant += 2 * sum(linear.weights for linear in linears)
    for linear in linears:
        if mode.rank is None or linear.inner not in trained:
            continue
        token += mode.rank * mode.trained_input
        if mode.autocast:
            constant += 2 * mode.rank * (linear.inputs + linear.outputs)
        if mode.lora_dropout:  # the mask; on a CPU, uncompiled, it is a tensor of the input's own float32
            token += linear.inputs * (1 if mode.gpu or mode.compiled else 4)
        if mode.dora:  # PEFT multiplies LoRA into an identity matrix to have the norm of the sum
            token += 2 * linear.outputs * mode.compute
            constant += linear.inputs * (linear.inputs + mode.rank) * mode.trained_input
    return Kept(token, constant)


def decoder_layer(text: Text, trained: Collection[str], length: int, mode: Mode, *, stream: int, norms: bool) -> Kept:
    """A Gemma layer through which a gradient flows.

    Args:
        trained: its linear layers that are trained, by LoRA or in full: q_proj, down_proj and so on.
        length: tokens in a row, padding included.
        stream: bytes of an element of the residual stream.
        norms: whether the norms' weights are trained.
    """
    H, I, Q = text.hidden_size, text.intermediate_size, text.queries  # noqa: E741
    linears = text.layers[0]
    on = set(trained)
    attention = [name for name in ("q_proj", "k_proj", "v_proj") if name in on]
    gates = [name for name in ("gate_proj", "up_proj") if name in on]
    copied, given = mode.compute, mode.trained_input
    separate = not mode.shared and (not mode.compiled or mode.lora_dropout)
    inputs = len(attention) + len(gates) if separate else bool(attention) + bool(gates)
    token = 4.0 * text.norms + inputs * H * given
    if mode.compiled:  # norms are computed again, from what stands between them
        token += H * stream + (text.norms // 2) * H * copied
        token += 2 * I * copied
    else:  # a norm keeps its input in float32, and its result where its weight is trained
        token += text.norms * H * (8 if norms else 4)
        token += 3 * I * copied  # gate, gelu of it, up
    token += _attention(text, length, mode)
    if "o_proj" in on and not (mode.attention != "eager" and (mode.rank is None or mode.shared)):
        token += Q * given
    if "down_proj" in on:
        token += I * given
    if mode.llm_dropout:
        token += 2 * H * (1 if mode.gpu or mode.compiled else copied)
    matrices = _matrices(linears, on, mode)
    return Kept(token + matrices.per_token, matrices.constant)


def _attention(text: Text, length: int, mode: Mode) -> float:
    """What the attention itself keeps of a token, its projections aside."""
    heads, Q, K, copied = text.num_attention_heads, text.queries, text.keys, mode.compute
    if mode.attention == "flex_attention":
        return (2 * Q + 2 * K) * copied + 4 * heads
    if mode.attention == "sdpa":  # the mask is made into numbers in each layer
        values = K if text.num_key_value_heads == 1 else Q  # one head is shown to all, several are copied
        keys = Q if mode.autocast and mode.base == 4 else values  # and a cast copies as well
        return (2 * Q + keys + values + length) * copied + 4 * heads
    scores = heads * length
    if mode.compiled:
        return 3 * Q * copied + 2 * scores * copied + (8 * heads if copied == 2 else 0)
    capped = text.attn_logit_softcapping is not None
    # tanh of the scores; softmax in float32; what it is multiplied with the values as
    return 3 * Q * copied + scores * (capped * copied + 4 + (2 if copied == 2 else 0))


def decoder_transient(text: Text, length: int, mode: Mode) -> float:
    """Most that a layer's backward pass holds beyond what was kept, in bytes a token."""
    H, I = text.hidden_size, text.intermediate_size  # noqa: E741
    scores = text.num_attention_heads * length if mode.attention == "eager" else 0
    half = mode.compute / 2
    if mode.compiled:
        return max(10 * H, 4 * I + 4 * H, 4 * scores + 4 * H) * half
    return max(20 * H, 4 * I + 8 * H, 5.4 * scores + 8 * H) * half


def vision_layer(vision: Vision, trained: Collection[str], mode: Mode, *, stream: int) -> Kept:
    """A SigLIP layer through which a gradient flows; its attention has no mask and keeps no scores."""
    W, M = vision.hidden_size, vision.intermediate_size
    linears = vision.layers[0]
    on = set(trained)
    copied, given = mode.compute, mode.trained_input
    ins = [name for name in ("q_proj", "k_proj", "v_proj") if name in on]
    inputs = bool(ins) + ("fc1" in on) if mode.shared else len(ins) + ("fc1" in on)
    normed = 4 if mode.autocast and mode.gpu else stream  # on a GPU autocast computes layer norms in float32
    token = 2 * W * normed + 4 * stream + inputs * W * given
    token += 4 * W * copied + 4 * vision.num_attention_heads
    if "out_proj" in on and mode.rank is not None and not mode.shared:
        token += W * given
    token += M * copied + (M * given if "fc2" in on else 0)
    matrices = _matrices(linears, on, mode)
    return Kept(token + matrices.per_token, matrices.constant)


def vision_transient(vision: Vision, mode: Mode) -> float:
    """Most that a SigLIP layer holds at once beyond what is kept, in bytes a token, forward or backward."""
    return max(10 * vision.hidden_size, 4 * vision.intermediate_size + 4 * vision.hidden_size) * mode.compute / 2
