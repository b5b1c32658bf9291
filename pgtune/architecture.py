"""The shape of a PaliGemma, known before anything is loaded: what `pgtune plan` counts with. No torch, no weights.

It comes from a `config.json`, or for the released models from a table, so that it is known without a network.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from pgtune.errors import HubError, ModelError
from pgtune.names import BASES

__all__ = ["RELEASED", "Architecture", "Linear", "Text", "Vision", "architecture_of", "from_config"]


@dataclass(frozen=True)
class Linear:
    """A linear layer: its module's name in the model, and its shape."""

    name: str
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def inner(self) -> str:
        """Its own name in its layer, such as q_proj."""
        return self.name.rpartition(".")[2]

    @property
    def weights(self) -> int:
        """Elements of its matrix."""
        return self.inputs * self.outputs

    @property
    def parameters(self) -> int:
        """Its matrix and its bias."""
        return self.weights + (self.outputs if self.bias else 0)


@dataclass(frozen=True)
class Vision:
    """SigLIP's sizes; the defaults are those of transformers, which a `config.json` leaves out."""

    hidden_size: int = 1152
    intermediate_size: int = 4096
    num_hidden_layers: int = 27
    num_attention_heads: int = 16
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 14

    @property
    def tokens(self) -> int:
        """Image tokens of one picture."""
        return (self.image_size // self.patch_size) ** 2

    @cached_property
    def layers(self) -> tuple[tuple[Linear, ...], ...]:
        """The linear layers of each of its layers."""
        return tuple(tuple(self._linears(layer)) for layer in range(self.num_hidden_layers))

    def _linears(self, layer: int) -> list[Linear]:
        at, width, wide = f"model.vision_tower.encoder.layers.{layer}", self.hidden_size, self.intermediate_size
        attention = [Linear(f"{at}.self_attn.{one}_proj", width, width, True) for one in ("k", "v", "q", "out")]
        return [*attention, Linear(f"{at}.mlp.fc1", width, wide, True), Linear(f"{at}.mlp.fc2", wide, width, True)]

    @property
    def others(self) -> int:
        """Its parameters that are in no linear layer: patches, positions, norms."""
        patches = self.num_channels * self.patch_size**2 * self.hidden_size + self.hidden_size
        return patches + self.tokens * self.hidden_size + (4 * self.num_hidden_layers + 2) * self.hidden_size


@dataclass(frozen=True)
class Text:
    """Gemma's sizes, generation 1 or 2; the defaults are those of PaliGemma's and Gemma's configurations."""

    generation: Literal["gemma", "gemma2"] = "gemma"
    hidden_size: int = 2048
    intermediate_size: int = 16384
    num_hidden_layers: int = 18
    num_attention_heads: int = 8
    num_key_value_heads: int = 1
    head_dim: int = 256
    vocab_size: int = 257152
    max_position_embeddings: int = 8192
    attn_logit_softcapping: float | None = None

    @property
    def queries(self) -> int:
        """Width of all heads together."""
        return self.num_attention_heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of the keys, or the values."""
        return self.num_key_value_heads * self.head_dim

    @property
    def norms(self) -> int:
        """Norms in a layer."""
        return 4 if self.generation == "gemma2" else 2

    @property
    def embedding(self) -> int:
        """Elements of the embedding, which is the head too."""
        return self.vocab_size * self.hidden_size

    @cached_property
    def layers(self) -> tuple[tuple[Linear, ...], ...]:
        """The linear layers of each of its layers."""
        return tuple(tuple(self._linears(layer)) for layer in range(self.num_hidden_layers))

    def _linears(self, layer: int) -> list[Linear]:
        at, width, wide = f"model.language_model.layers.{layer}", self.hidden_size, self.intermediate_size
        return [
            Linear(f"{at}.self_attn.q_proj", width, self.queries),
            Linear(f"{at}.self_attn.k_proj", width, self.keys),
            Linear(f"{at}.self_attn.v_proj", width, self.keys),
            Linear(f"{at}.self_attn.o_proj", self.queries, width),
            Linear(f"{at}.mlp.gate_proj", width, wide),
            Linear(f"{at}.mlp.up_proj", width, wide),
            Linear(f"{at}.mlp.down_proj", wide, width),
        ]

    @property
    def others(self) -> int:
        """Its parameters that are in no linear layer: the embedding and the norms."""
        return self.embedding + (self.norms * self.num_hidden_layers + 1) * self.hidden_size


@dataclass(frozen=True)
class Architecture:
    """A PaliGemma's sizes, and what type its checkpoint is stored in."""

    vision: Vision
    text: Text
    stored: Literal["float32", "bfloat16"]

    @property
    def projector(self) -> Linear:
        """The layer between tower and language model."""
        name = "model.multi_modal_projector.linear"
        return Linear(name, self.vision.hidden_size, self.text.hidden_size, True)

    @cached_property
    def linears(self) -> tuple[Linear, ...]:
        """All linear layers but the head, which is the embedding."""
        return (*chain(*self.vision.layers), self.projector, *chain(*self.text.layers))

    @cached_property
    def parameters(self) -> dict[str, int]:
        """Parameters of each part."""
        counts = {"vision_tower": self.vision.others, "projector": 0, "language_model": self.text.others}
        for linear in self.linears:
            counts[part_of(linear.name)] += linear.parameters
        return counts


def part_of(name: str) -> str:
    """The part of the model that a linear layer lies in."""
    inner = name.split(".")[1]
    return "projector" if inner == "multi_modal_projector" else inner


# Sizes: the papers (PaliGemma, arXiv 2407.07726; PaliGemma 2, arXiv 2412.03555) and big_vision's models/ppp/gemma.py.
_SECOND = Text("gemma2", 2304, 9216, 26, 8, 4, vocab_size=257216, attn_logit_softcapping=50.0)
RELEASED: dict[str, Text] = {
    "paligemma-3b": Text(vocab_size=257216),
    "paligemma2-3b": _SECOND,
    "paligemma2-10b": replace(
        _SECOND,
        hidden_size=3584,
        intermediate_size=14336,
        num_hidden_layers=42,
        num_attention_heads=16,
        num_key_value_heads=8,
    ),
    "paligemma2-28b": replace(
        _SECOND,
        hidden_size=4608,
        intermediate_size=36864,
        num_hidden_layers=46,
        num_attention_heads=32,
        num_key_value_heads=16,
        head_dim=128,
    ),
}
_NAME = re.compile(r"google/(paligemma-3b|paligemma2-(?:3b|10b|28b))-(?:pt|mix|ft-[a-z0-9-]+)-(224|448|896)")


def architecture_of(base: str, revision: str | None = None) -> Architecture:
    """The architecture behind `model.base`: a shipped name, a folder, a released model, or another Hub id.

    Raises:
        ModelError: no PaliGemma, or a `config.json` that cannot be read.
        HubError: an id that is not in the table of the released models, and cannot be asked for on the Hub.
    """
    if base in BASES:
        from pgtune import tiny

        return from_config(_read(tiny.path() / "config.json", base), base)
    if Path(base).is_dir():
        return from_config(_read(Path(base) / "config.json", base), base)
    if known := _NAME.fullmatch(base):
        vision = Vision(intermediate_size=4304, image_size=int(known[2]))
        return Architecture(vision, RELEASED[known[1]], "float32" if known[1] == "paligemma-3b" else "bfloat16")
    return from_config(_checked(_from_hub(base, revision), base), base)


def _from_hub(base: str, revision: str | None) -> Any:
    """The `config.json` of a Hub id: what was downloaded before, else asked for once, without the client's retries."""
    from huggingface_hub import get_session, get_token, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    found = try_to_load_from_cache(base, "config.json", revision=revision)
    if isinstance(found, str):
        return json.loads(Path(found).read_text(encoding="utf-8"))
    # Of whichever HTTP library this version of the client is built on.
    failures: tuple[type[BaseException], ...] = (*HfHubHTTPError.__bases__, ValueError)
    headers = {"authorization": f"Bearer {token}"} if (token := get_token()) else {}
    try:
        url = hf_hub_url(base, "config.json", revision=revision)
        answer = get_session().get(url, headers=headers, timeout=10, follow_redirects=True)
        answer.raise_for_status()
        return answer.json()
    except failures as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0]
        raise HubError(
            f"model.base: the sizes of {base} are not known here: it is no folder and not one of the released models "
            "(google/paligemma-3b-pt-224, google/paligemma2-10b-mix-448 and so on), and its config.json cannot be had "
            f"from the Hub: {reason[:200]}"
        ) from error


def _read(path: Path, base: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"model.base: {base}: {path} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"model.base: {base}: {path} is not JSON ({error})") from error
    return _checked(found, base)


def _checked(found: Any, base: str) -> dict[str, Any]:
    if not isinstance(found, dict) or found.get("model_type") != "paligemma":
        kind = found.get("model_type") if isinstance(found, dict) else type(found).__name__
        raise ModelError(f"model.base: {base} is a {kind!r} model by its config.json; pgtune trains PaliGemma")
    return found


def from_config(config: dict[str, Any], base: str = "config.json") -> Architecture:
    """The architecture that a PaliGemma's `config.json` describes.

    Raises:
        ModelError: not Gemma or Gemma 2 inside, or a size that is no positive whole number.
    """
    inner = _section(config, "text_config", base)
    generation = inner.get("model_type", "gemma")
    if generation not in ("gemma", "gemma2"):
        raise ModelError(f"model.base: {base} holds {generation!r}; pgtune trains PaliGemma (Gemma) and 2 (Gemma 2)")
    default = replace(_SECOND, vocab_size=256000) if generation == "gemma2" else Text()
    text = replace(default, **{**_taken(inner, Text, base), "generation": generation})
    vision = Vision(**_taken(_section(config, "vision_config", base), Vision, base))
    if vision.image_size % vision.patch_size:
        raise ModelError(
            f"model.base: {base}: config.json has patches of {vision.patch_size} pixels, which do not divide "
            f"{vision.image_size}"
        )
    dtype = config.get("dtype") or config.get("torch_dtype") or inner.get("dtype") or inner.get("torch_dtype")
    # float16 weights are trained in bfloat16 (`model.choose_dtype`).
    return Architecture(vision, text, "bfloat16" if dtype in ("bfloat16", "float16") else "float32")


def _section(config: dict[str, Any], name: str, base: str) -> dict[str, Any]:
    found = config.get(name) or {}
    if not isinstance(found, dict):
        raise ModelError(f"model.base: {base}: config.json has {name} = {str(found)[:40]!r}; expected a section")
    return found


def _taken(section: dict[str, Any], kind: type[Vision] | type[Text], base: str) -> dict[str, Any]:
    found = {field.name: section[field.name] for field in fields(kind) if field.name in section}
    for name, value in found.items():
        whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
        capped = name == "attn_logit_softcapping" and (value is None or (isinstance(value, int | float) and value > 0))
        if not whole and not capped and name != "generation":
            raise ModelError(f"model.base: {base}: config.json has {name} = {value!r}; expected a whole number above 0")
    return found
