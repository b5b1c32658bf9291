"""What a merge is held against: logits on one picture and one prompt, before, after, and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pgtune.collate import Collator
from pgtune.errors import ModelError, TrainingError
from pgtune.model import Loaded
from pgtune.progress import say

__all__ = ["FLOAT32_TOLERANCE", "check_merged", "check_moves", "check_reloaded", "largest", "logits", "probe_inputs"]

FLOAT32_TOLERANCE = 1e-4
"""How far logits in float32 may move by merging, as a share of the largest."""
BFLOAT16_TOLERANCE = 0.1
"""The same in bfloat16, where layer after layer rounds what it computes, or by as much as the adapter moves them."""
MUCH, MOST = 0.25, 0.9
"""From which share of the adapter's change that is lost to rounding there is a warning, and an error."""
NOTHING = 1e-6
"""An adapter that moves the logits by a smaller share of the largest than this does nothing."""
PROMPT = "answer en what is this?"


def probe_inputs(loaded: Loaded) -> dict[str, Any]:
    """A picture of many colours and a prompt, as they are given to the model when it answers."""
    collator = Collator(loaded.processor)
    side = torch.arange(256, dtype=torch.uint8)
    red, green = side.expand(256, 256), side[:, None].expand(256, 256)
    picture = Image.fromarray(torch.stack([red, green, red * 7 + green * 3], -1).numpy())
    return collator.prompts([collator.pixels_of([picture])], [PROMPT])


@torch.no_grad()
def logits(loaded: Loaded, inputs: dict[str, Any]) -> Tensor:
    """Of the prompt's text, in float32."""
    model: Any = loaded.model
    parameter = next(model.parameters())
    dtype = loaded.paligemma.model.vision_tower.embeddings.patch_embedding.weight.dtype
    given = {name: value.to(parameter.device) for name, value in inputs.items()}
    given["pixel_values"] = given["pixel_values"].to(dtype)
    texts = int((given["input_ids"] != model.config.image_token_id).sum())
    # Beside a bfloat16 base parts may stand that were trained in float32.
    beside = loaded.dtype is torch.bfloat16 and any(".modules_to_save." in name for name, _ in model.named_parameters())
    with torch.autocast(parameter.device.type, torch.bfloat16, enabled=beside):
        found: Tensor = model(**given, logits_to_keep=texts, use_cache=False).logits
    return found.float()


def largest(difference: Tensor) -> float:
    """The largest magnitude."""
    return float(difference.abs().max())


def check_moves(moved: float, scale: float, adapter: Path, base: str) -> None:
    """That the adapter does something.

    Args:
        moved: by how much it moves a logit at most.
        scale: the largest logit.

    Raises:
        ModelError: it does not.
    """
    if moved <= NOTHING * scale:
        raise ModelError(
            f"{adapter}: the adapter does nothing: on a probe input the logits of {base} are the same "
            f"with and without it (they differ by {moved:.1e})"
        )


def check_reloaded(difference: float, scale: float) -> None:
    """That what was written is what was in memory.

    Raises:
        TrainingError: it is not.
    """
    if difference > FLOAT32_TOLERANCE * scale:
        raise TrainingError(
            f"merge: what was written computes other logits than what was in memory, by {difference:.3g}"
        )


def check_merged(difference: float, moved: float, scale: float, dtype: torch.dtype, lost: float) -> None:
    """Whether merging kept what the adapter does. In bfloat16 a weight is rounded by up to 0.4 %: small changes drown.

    Raises:
        TrainingError: it did not.
    """
    allowed = FLOAT32_TOLERANCE * scale if dtype is torch.float32 else max(moved, BFLOAT16_TOLERANCE * scale)
    if not difference <= allowed:  # nor is it NaN
        raise TrainingError(
            f"merge: the merged model's logits differ by {difference:.3g} from those of base and adapter, more than "
            f"rounding explains (the largest is {scale:.3g}); run `pgtune doctor`"
        )
    if lost > MOST:
        raise TrainingError(
            f"merge: in bfloat16 {lost:.0%} of what the adapter changes is rounded away; use --dtype float32, or serve "
            "base and adapter"
        )
    if lost > MUCH:
        say(f"warning    rounding to bfloat16 takes away {lost:.0%} of what the adapter changes: score it")
