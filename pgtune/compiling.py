"""torch.compile for the layers of the language model: faster steps in less memory, and the same bits in every run.

Each layer is compiled alone ("regional"): all of them share one set of kernels, so that a model of 26 layers compiles
as fast as one of two. Lengths are symbols in it. It is made once, by the first micro-batch of step 0 whatever step a
run begins with, and nothing is compiled after that: what it does not fit is computed uncompiled. So what is computed
for a batch depends on the recipe and the batch, never on the batches before it, and a resumed run goes on to the last
bit.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from pgtune.collate import Batch
from pgtune.errors import RecipeError, TrainingError
from pgtune.forward import SuffixLossModel
from pgtune.loss import SuffixLoss
from pgtune.model import Loaded

__all__ = ["REAL_SIZE", "choose_compile", "compiled", "obstacle", "uncompiled"]

REAL_SIZE = 1024
"""Hidden size from which `auto` compiles: below it a run is over before the compiler is."""

TOLERANCES = {False: 1e-3, True: 2e-2}
"""Relative difference that is left between the compiled and the uncompiled loss of one batch, in float32 and bfloat16;
1e-7 and 3e-3 were measured."""


def obstacle(loaded: Loaded) -> str | None:
    """Why this model's layers cannot be compiled here; None: they can."""
    if any(getattr(module, "lora_magnitude_vector", None) for module in loaded.model.modules()):
        return "torch.compile cannot trace PEFT's DoRA"
    if loaded.attention == "flex_attention":
        return "flex_attention is compiled by itself"
    kind = loaded.device.type
    if kind not in ("cpu", "cuda"):
        return f"it is not proven on {kind}"
    if kind == "cuda" and importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    language, variable, name = ("C++", "CXX", "g++") if kind == "cpu" else ("C", "CC", "gcc")
    compiler = os.environ.get(variable, {"g++": "clang++", "gcc": "clang"}[name] if sys.platform == "darwin" else name)
    if shutil.which(compiler) is None:
        return f"there is no {language} compiler ({compiler})"
    header = Path(sysconfig.get_path("include"), "Python.h")
    return None if header.is_file() else f"Python's headers are not installed ({header})"


def choose_compile(setting: str | bool, loaded: Loaded) -> tuple[bool, str]:
    """Whether to compile, and what to say of it.

    Raises:
        RecipeError: true, where it cannot be done.
    """
    size = loaded.paligemma.config.get_text_config().hidden_size
    if setting is False or (setting == "auto" and size < REAL_SIZE):
        return False, ""
    why_not = obstacle(loaded)
    if why_not is None:
        return True, ""
    if setting is True:
        raise RecipeError(f"train.compile: true, but {why_not}; use auto or false")
    return False, f"no: {why_not}"


def uncompiled() -> AbstractContextManager[Any]:
    """Around what is not a training step: compiled layers run as they are written."""
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


@contextmanager
def compiled(
    loaded: Loaded, module: SuffixLossModel, first: Batch, *, deterministic: bool = False, backend: Any = "inductor"
) -> Iterator[str]:
    """Around the steps: the layers are compiled, by one pass over `first`, and are as before afterwards.

    Args:
        deterministic: choose no kernel by its time on this device.

    Yields:
        What to say.

    Raises:
        TrainingError: the compiler failed, or compiled layers give another loss.
    """
    # Dropout draws what it draws uncompiled.
    options: Any = {"fallback_random": True, "deterministic": deterministic} if backend == "inductor" else None
    layers = loaded.paligemma.model.language_model.layers
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's compiler about itself
            for layer in layers:
                # Not the module's own compile(): what is hung around a layer to gather its weights stays outside.
                layer.forward = torch.compile(layer.forward, dynamic=True, backend=backend, options=options)
            before, after = _settle(loaded, module, first)
        bound = TOLERANCES[loaded.mixed_precision or loaded.dtype is torch.bfloat16]
        if not math.isclose(before, after, rel_tol=bound):
            raise TrainingError(
                f"train.compile: the first batch's loss is {after:.6g} compiled and {before:.6g} uncompiled; nothing "
                "was trained. Use train.compile=false"
            )
        with torch.compiler.set_stance("eager_on_recompile"):
            found = f"first loss {after:.6g}, uncompiled {before:.6g}"
            yield f"compile    {len(layers)} layers of the language model: {found}"
    except TorchDynamoException as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"torch.compile failed ({reason}); nothing was trained. Use train.compile=false") from error
    finally:
        for layer in layers:
            del layer.forward
        torch.compiler.reset()


def _settle(loaded: Loaded, module: SuffixLossModel, batch: Batch) -> tuple[float, float]:
    """One pass forward and back that leaves nothing behind but kernels; the loss before and after."""
    with uncompiled(), torch.no_grad(), loaded.autocast():
        torch.manual_seed(0)
        before = float(_mean(module(batch)))
    with loaded.autocast():
        torch.manual_seed(0)
        loss = _mean(module(batch))
    torch.autograd.backward(loss)
    loaded.model.zero_grad(set_to_none=True)
    return before, float(loss.detach())


def _mean(loss: SuffixLoss) -> Tensor:
    return loss.token_sum() / loss.tokens.sum()
