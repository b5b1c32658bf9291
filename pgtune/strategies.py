"""Which strategy runs: decided without torch, so that a plan and a training say the same."""

from __future__ import annotations

from typing import Literal

from pgtune.errors import RecipeError

__all__ = ["Strategy", "strategy_of"]

Strategy = Literal["single", "ddp", "fsdp"]


def strategy_of(
    setting: str, *, full: bool, ranks: int, quantization: str = "none", optimizer: str = "adamw"
) -> Strategy:
    """What will run.

    Args:
        setting: `train.strategy`.
        full: whether the recipe trains without LoRA.

    Raises:
        RecipeError: a strategy for one process, or one that cannot run.
    """
    if ranks == 1:
        if setting != "auto":
            raise RecipeError(
                f"train.strategy: {setting!r} has no effect: this is one process; start several with --processes N "
                "(for plan: --devices N), or leave it at auto"
            )
        return "single"
    chosen: Strategy = "fsdp" if setting == "fsdp" or (setting == "auto" and full) else "ddp"
    if chosen == "fsdp" and quantization == "int8":
        raise RecipeError(
            "train.strategy: fsdp does not go with model.quantization int8 (bitsandbytes loses its scales); use nf4"
        )
    if chosen == "fsdp" and optimizer == "adamw_8bit":
        raise RecipeError(
            "train.optimizer: adamw_8bit does not go with fsdp, which several processes take for full fine-tuning "
            "(bitsandbytes has no sharded optimiser); use adamw, whose averages are sharded, or train.strategy=ddp"
        )
    return chosen
