"""QLoRA's base: bitsandbytes on the language model's linear layers, and on nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pgtune import parts
from pgtune.compat import check_versions
from pgtune.errors import ModelError


def quantization_config(setting: str, dtype: torch.dtype) -> Any:
    """What `from_pretrained` takes for `none`, `int8` or `nf4`; `dtype` is what nf4 computes in.

    Raises:
        ModelError: bitsandbytes is not installed, or not of a version that pgtune works with.
    """
    if setting == "none":
        return None
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ModelError(
            f"model.quantization: {setting} needs bitsandbytes; install it with: pip install 'pgtune[quantization]'"
        ) from error
    check_versions(("bitsandbytes",))
    from transformers import BitsAndBytesConfig

    if setting == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=parts.QUANTIZATION_SKIPS)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=parts.QUANTIZATION_SKIPS,
    )


def stored_quantization(folder: Path) -> str:
    """`none`, `int8` or `nf4`: how the weights in a folder are stored.

    Raises:
        ModelError: otherwise than bitsandbytes does it.
    """
    found = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("quantization_config")
    if found is None:
        return "none"
    if found.get("quant_method") != "bitsandbytes":
        raise ModelError(f"{folder}: is stored quantised by {found.get('quant_method')}, which pgtune does not read")
    return "int8" if found.get("load_in_8bit") else "nf4"


def check_quantized(model: nn.Module) -> list[str]:
    """The quantised modules, after a check that they are the language model's linear layers and nothing else."""
    import bitsandbytes

    kinds = (bitsandbytes.nn.Linear4bit, bitsandbytes.nn.Linear8bitLt)
    found = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    parts.check_same_modules("model.quantization", parts.lora_modules(model, "language_model"), found)
    return found


def keep_gradients_on_cpu(model: nn.Module) -> None:
    """Work around two faults of bitsandbytes 0.50 and PEFT 0.21 on a CPU, both silent or late.

    nf4: where the CPU has AVX512-BF16, the first evaluation repacks a layer's weights for a kernel without a backward,
    and all later training gets wrong gradients. int8: DoRA's look at a weight loses its scales; they are still in the
    layer's state, and are put back before the layer is used again.
    """
    import bitsandbytes

    def put_scales_back(module: Any, _: Any) -> None:
        if module.weight.SCB is None:
            module.weight.SCB = module.state.SCB

    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
        elif isinstance(module, bitsandbytes.nn.Linear8bitLt):
            module.register_forward_pre_hook(put_scales_back)
