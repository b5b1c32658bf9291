"""How many operations a LoRA step needs, and no more than that: what the fraction of the matrix rate is taken of.

Two operations (a product and a sum) per weight and token. Counted, for LoRA on the language model of a frozen base:

* vision tower and projector: forward only (nothing in or before them is trained), attention over all patches;
* language model: forward and the gradient of its activations, each once: frozen weights get no gradient. Attention over
  the pairs that the prefix-LM mask allows: two products forward, four backward;
* LoRA: forward, gradient of its inputs and of its weights;
* head: forward and gradient of its input, for supervised positions only.

Not counted: padding, logits nobody learns, anything that is computed twice, norms, softmax, activation functions, the
optimiser.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple


class Lengths(NamedTuple):
    """Tokens of one example."""

    prefix: int
    """Without image tokens; with <bos> and separator."""
    suffix: int
    """With <eos>."""


class Operations(NamedTuple):
    """Of one step, by where they fall."""

    vision: float
    language_model: float
    attention: float
    lora: float
    head: float

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self)


def step(config: Any, examples: Iterable[Lengths], rank: int) -> Operations:
    """One step on these examples, each with one picture.

    Args:
        config: a PaliGemmaConfig.
        rank: of LoRA on all linear layers of the language model.
    """
    text, vision = config.text_config, config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    shapes = _linear_shapes(text)
    frozen = text.num_hidden_layers * sum(inputs * outputs for inputs, outputs in shapes)
    adapted = text.num_hidden_layers * rank * sum(inputs + outputs for inputs, outputs in shapes)
    width = text.num_attention_heads * text.head_dim
    found = Operations(0, 0, 0, 0, 0)
    for example in examples:
        prompt = patches + example.prefix
        tokens = prompt + example.suffix
        seen = prompt * prompt + example.suffix * prompt + example.suffix * (example.suffix + 1) / 2
        one = Operations(
            vision=_vision(vision, text.hidden_size, patches),
            language_model=2 * 2 * frozen * tokens,
            attention=text.num_hidden_layers * 6 * 2 * seen * width,
            lora=3 * 2 * adapted * tokens,
            head=2 * 2 * text.hidden_size * text.vocab_size * example.suffix,
        )
        found = Operations(*(sum(pair) for pair in zip(found, one, strict=True)))
    return found


def _linear_shapes(text: Any) -> list[tuple[int, int]]:
    hidden, inner = text.hidden_size, text.intermediate_size
    queries, keys = text.num_attention_heads * text.head_dim, text.num_key_value_heads * text.head_dim
    attention = [(hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden)]
    return [*attention, (hidden, inner), (hidden, inner), (inner, hidden)]


def _vision(vision: Any, hidden: int, patches: int) -> float:
    width, inner = int(vision.hidden_size), int(vision.intermediate_size)
    layer: float = 4 * width * width + 2 * width * inner
    embedding = vision.num_channels * vision.patch_size**2 * width
    products: float = 2 * patches * (vision.num_hidden_layers * layer + embedding + width * hidden)
    return products + int(vision.num_hidden_layers) * 2 * 2 * patches * patches * width
