"""AdamW over what is trained: which parameters, at which rate and with which decay, and in how many bits."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pgtune.compat import check_versions
from pgtune.errors import ModelError, RecipeError
from pgtune.model import Loaded
from pgtune.parts import PARTS, is_kernel, part_of
from pgtune.recipe import Recipe

__all__ = ["new_optimizer", "parameter_groups", "set_learning_rates"]


def parameter_groups(loaded: Loaded, recipe: Recipe) -> list[dict[str, Any]]:
    """The trained parameters by peak rate (`peak`) and weight decay, in the model's order within a group.

    Weight decay is on SigLIP and projector kernels alone. Groups of one kind with another rate stand one after the
    other, so that a recipe without rates of its own has the groups that it always had.

    Raises:
        RecipeError: a rate for a part of which nothing is trained.
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    found = set()
    for full_name, parameter in loaded.trainable():
        name = full_name.removeprefix("base_model.model.")
        part = part_of(name)
        assert part is not None, full_name
        found.add(part)
        decayed = is_kernel(name, parameter.ndim)
        groups.setdefault((decayed, recipe.peak_learning_rate(part)), []).append(parameter)
    for part in PARTS:
        if getattr(recipe.train.learning_rates, part) is not None and part not in found:
            raise RecipeError(f"train.learning_rates.{part}: has no effect: nothing of {part} is trained")
    return [
        {"params": parameters, "lr": peak, "peak": peak, "weight_decay": recipe.train.weight_decay if decayed else 0.0}
        for (decayed, peak), parameters in sorted(groups.items(), key=lambda group: (not group[0][0], group[0][1]))
    ]


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Each group's own peak rate times the schedule's factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def check_installed(optimizer: str) -> None:
    """That the optimiser of this name can be had.

    Raises:
        ModelError: adamw_8bit without bitsandbytes, or with another version.
    """
    if optimizer != "adamw_8bit":
        return
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "train.optimizer: adamw_8bit needs bitsandbytes; install it with: pip install 'pgtune[quantization]'"
        ) from error
    check_versions(("bitsandbytes",))


def new_optimizer(loaded: Loaded, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser of a training.

    Raises:
        ModelError: adamw_8bit without bitsandbytes.
        RecipeError: as `parameter_groups`; adamw_8bit on a device that bitsandbytes has no 8-bit optimiser for.
    """
    train = recipe.train
    groups = parameter_groups(loaded, recipe)
    betas = (train.beta1, train.beta2)
    if train.optimizer == "adamw":
        return torch.optim.AdamW(groups, betas=betas, eps=train.epsilon, fused=True)
    check_installed(train.optimizer)
    import bitsandbytes

    optimizer: torch.optim.Optimizer = bitsandbytes.optim.AdamW8bit(groups, betas=betas, eps=train.epsilon)
    return optimizer
