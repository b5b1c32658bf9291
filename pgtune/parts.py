"""The three parts of a PaliGemma, and which of their modules a method touches.

Module names are those of transformers 5.23 and later in the 5 series. What a recipe names is resolved to a list of
modules, counted, and compared with what PEFT or bitsandbytes really changed: neither tells when it hit something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pgtune.errors import ModelError, RecipeError

if TYPE_CHECKING:
    from torch import nn

PARTS = {
    "vision_tower": "model.vision_tower",
    "projector": "model.multi_modal_projector",
    "language_model": "model.language_model",
}
"""The recipe's word for a part -> its module in PaliGemmaForConditionalGeneration."""

_LORA_PATTERNS = {
    "vision_tower": r".*vision_tower\.encoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])",
    "projector": r".*multi_modal_projector\.linear",
    "language_model": r".*language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)",
}

# What bitsandbytes must leave alone. transformers 5 matches a name from its start, and any list drops the default entry
# for lm_head, which would then be quantised over the tied embedding.
QUANTIZATION_SKIPS = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]


def part_of(name: str) -> str | None:
    """The part a parameter or module belongs to (`lm_head` is tied to the language model's embedding)."""
    for part, prefix in PARTS.items():
        if name == prefix or name.startswith(prefix + "."):
            return part
    return "language_model" if name.startswith("lm_head") else None


def lora_pattern(targets: str | Sequence[str]) -> str:
    """The regular expression, matched against whole module names, that a recipe's `lora.targets` stands for."""
    if isinstance(targets, str) and targets not in PARTS:
        return targets
    names = [targets] if isinstance(targets, str) else list(targets)
    return "|".join(_LORA_PATTERNS[name] for name in PARTS if name in names)


def lora_modules(model: nn.Module, targets: str | Sequence[str]) -> list[str]:
    """The linear modules that LoRA will be put on, in the model's order.

    Raises:
        RecipeError: nothing matches, or something matches that is not a linear layer inside one of the parts.
    """
    from torch import nn

    pattern = lora_pattern(targets)
    found = {name: module for name, module in model.named_modules() if re.fullmatch(pattern, name)}
    if not found:
        raise RecipeError(
            f"lora.targets: {pattern!r} matches no module of this model; it is matched against whole names such as "
            f"{_examples(model)}"
        )
    wrong = [
        name
        for name, module in found.items()
        if not isinstance(module, nn.Linear) or name.startswith("lm_head") or part_of(name) is None
    ]
    if wrong:
        raise RecipeError(
            f"lora.targets: {pattern!r} also matches {', '.join(wrong[:3])}, which LoRA cannot be put on: "
            "only linear layers inside vision_tower, projector and language_model"
        )
    return list(found)


def _examples(model: nn.Module) -> str:
    from torch import nn

    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and part_of(name)]
    return ", ".join(names[:: max(1, len(names) // 3)][:3])


def check_same_modules(what: str, expected: Iterable[str], found: Iterable[str]) -> None:
    """Loud where a library changed other modules than those that were named.

    Raises:
        ModelError: lists the modules that differ.
    """
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing or extra:
        raise ModelError(
            f"{what}: the modules changed are not the modules named (not changed: {missing[:3] or 'none'}; "
            f"changed but not named: {extra[:3] or 'none'}). "
            "This is a mismatch of library versions; run `pgtune doctor`"
        )


def count_by_part(names: Iterable[str]) -> dict[str, int]:
    """How many of the named modules lie in each part, parts without any left out."""
    counts = dict.fromkeys(PARTS, 0)
    for name in names:
        part = part_of(name)
        assert part is not None, name
        counts[part] += 1
    return {part: count for part, count in counts.items() if count}


def is_kernel(name: str, ndim: int) -> bool:
    """Whether weight decay applies: SigLIP and projector kernels (big_vision's `.*/kernel$`).

    No Gemma weight, embedding, norm or bias carries that name there, and a LoRA matrix is no kernel.
    """
    return (
        part_of(name) in {"vision_tower", "projector"}
        and name.endswith(".weight")
        and ndim >= 2
        and "position_embedding" not in name
        and "lora_" not in name
    )
