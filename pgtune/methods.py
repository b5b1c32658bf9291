"""What LoRA, DoRA, QLoRA and full fine-tuning make trainable of a frozen base, and how an adapter comes back.

And the dropout of the papers, which transformers' Gemma lacks: it is hung into the language model before training.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pgtune import parts
from pgtune.errors import ModelError, RecipeError
from pgtune.model import Loaded
from pgtune.probes import check_adapter_works
from pgtune.recipe import LoraSettings


def prepare(
    loaded: Loaded,
    lora: LoraSettings | None,
    trainable: tuple[str, ...] | None,
    *,
    seed: int,
    gradient_checkpointing: bool | int = False,
    llm_dropout: float = 0.0,
) -> Loaded:
    """Make a frozen base trainable by the recipe's method, in place.

    Args:
        lora: None for full fine-tuning.
        trainable: parts trained in full; None is all three without LoRA and none beside it.
        seed: of LoRA's initial weights.
        gradient_checkpointing: see `checkpoint_layers`.
        llm_dropout: see `add_residual_dropout`.

    Raises:
        RecipeError: the targets match nothing, or what is trained in full; or flex_attention on a CPU.
    """
    model: Any = loaded.model
    if loaded.attention == "flex_attention" and loaded.device.type == "cpu":
        raise RecipeError(
            "model.attention: flex_attention cannot be trained on a CPU (torch has no backward for it); use auto"
        )
    default = () if lora else tuple(parts.PARTS)
    loaded.trained_parts = tuple(p for p in parts.PARTS if p in (default if trainable is None else trainable))
    if lora is not None:
        loaded.lora_modules = parts.lora_modules(model, lora.targets)
        both = [name for name in loaded.lora_modules if parts.part_of(name) in loaded.trained_parts]
        if both:
            raise RecipeError(
                f"lora.targets: {lora.targets!r} matches {both[0]}, whose part model.trainable trains in full"
            )
        loaded.model = model = _attach_lora(model, lora, loaded, seed)
    else:
        for name, parameter in model.named_parameters():
            if parts.part_of(name) in loaded.trained_parts:
                parameter.requires_grad_(True)
    for parameter in model.parameters():
        if parameter.requires_grad:  # master weights: updates of 1e-5 are lost in bfloat16
            parameter.data = parameter.data.float()
    if llm_dropout > 0:
        add_residual_dropout(loaded.paligemma.model.language_model, llm_dropout)
    if gradient_checkpointing:
        checkpoint_layers(loaded, int(gradient_checkpointing))
        loaded.recomputes = True
    return loaded


def checkpoint_layers(loaded: Loaded, every: int) -> None:
    """Keep no activations of every n-th layer, and compute them again in the backward pass.

    Not in a frozen tower, which keeps none. transformers also makes the embeddings' outputs require gradients, for a
    way of checkpointing that is not used here; the whole frozen tower would then be gone through backwards for nothing.
    """
    model = loaded.paligemma.model
    for stack in (model.vision_tower, model.language_model):
        if stack is model.language_model or any(p.requires_grad for p in stack.parameters()):
            stack.activation_checkpointing_enable({"use_reentrant": False}, every_n_layers=every)
            stack.disable_input_require_grads()


def add_residual_dropout(language_model: Any, rate: float) -> None:
    """Dropout on both residual branches of each block while the model is in training mode (not in evaluation).

    The places are big_vision's (`models/ppp/gemma.py`, class Block): the attention branch after its norm, where it has
    one (Gemma 2), and the MLP branch before its norm, where it has one; for Gemma 1 the branches' own outputs. What is
    kept is divided by 1 - rate. Random numbers are torch's own, so that a step's seed decides them, and gradient
    checkpointing, which puts the state of the generator back, draws the same mask again.
    """

    def dropped(value: Any) -> Any:
        return nn.functional.dropout(value, rate, training=True)

    def on_output(module: nn.Module, inputs: Any, output: Any) -> Any:
        if not module.training:
            return None
        return (dropped(output[0]), *output[1:]) if isinstance(output, tuple) else dropped(output)

    for layer in language_model.layers:
        normed = hasattr(layer, "post_feedforward_layernorm")  # Gemma 2; Gemma 1's post_attention_layernorm is another
        (layer.post_attention_layernorm if normed else layer.self_attn).register_forward_hook(on_output)
        layer.mlp.register_forward_hook(on_output)


@contextmanager
def _without_known_warnings() -> Iterator[None]:
    """PEFT asks transformers 5 for an attribute by its old name, and only warns of missing keys, an error of ours."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "Found missing adapter keys")
        yield


def _attach_lora(model: nn.Module, lora: LoraSettings, loaded: Loaded, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=parts.lora_pattern(lora.targets),
        use_dora=lora.use_dora,
        use_rslora=lora.use_rslora,
        modules_to_save=[parts.PARTS[part].removeprefix("model.") for part in loaded.trained_parts] or None,
    )
    with _without_known_warnings():
        wrapped = get_peft_model(model, config)
    parts.check_same_modules("lora.targets", loaded.lora_modules, wrapped.targeted_module_names)
    return wrapped


def load_trained(loaded: Loaded, adapter: Path) -> Loaded:
    """Put a run's adapter on its base, for evaluation and prediction.

    Raises:
        ModelError: files missing or damaged, or the adapter does not fit this base.
    """
    from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

    try:
        weights = load_file(adapter / "adapter_model.safetensors")
        with _without_known_warnings():
            trained: Any = PeftModel.from_pretrained(loaded.model, str(adapter))
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(f"{adapter}: the adapter cannot be loaded onto {loaded.base}: {str(error)[:300]}") from error
    named = trained.peft_config["default"].base_model_name_or_path
    if named not in (None, loaded.base):
        raise ModelError(f"{adapter}: the adapter was trained on {named}, and is to be put on {loaded.base}")
    _check_fits(adapter, loaded, weights, get_peft_model_state_dict(trained, save_embedding_layers=False))
    copies = [p for name, p in trained.named_parameters() if ".modules_to_save." in name]
    if copies:  # parts trained in float32 stay so on a bfloat16 base
        for parameter in copies:
            parameter.data = parameter.data.float()
        set_peft_model_state_dict(trained, weights)
    loaded.lora_modules = list(trained.targeted_module_names)
    trained.requires_grad_(False)
    loaded.model = trained.eval()
    check_adapter_works(loaded, str(adapter))
    return loaded


def put_weights(loaded: Loaded, adapter: Path) -> None:
    """Put a trained adapter's weights into a model that `prepare` gave one of the same kind, to go on training.

    Raises:
        ModelError: files missing or damaged, or the adapter does not fit.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    model: Any = loaded.model
    try:
        weights = load_file(adapter / "adapter_model.safetensors")
        _check_fits(adapter, loaded, weights, get_peft_model_state_dict(model, save_embedding_layers=False))
        set_peft_model_state_dict(model, weights)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{adapter}: the adapter cannot be loaded onto {loaded.base}: {str(error)[:300]}") from error
    was_training = model.training
    model.eval()
    check_adapter_works(loaded, str(adapter))
    model.train(was_training)


def _check_fits(adapter: Path, loaded: Loaded, weights: dict[str, Any], wanted: dict[str, Any]) -> None:
    """That an adapter's file has the weights that the model has places for, no more and no less: PEFT only warns."""
    odd = sorted(weights.keys() ^ wanted.keys())
    if odd:
        raise ModelError(
            f"{adapter}: the adapter does not fit {loaded.base}: {len(odd)} weights are in one and not in the other, "
            f"such as {odd[0]}"
        )
    for name, weight in weights.items():
        if weight.shape != wanted[name].shape:
            raise ModelError(
                f"{adapter}: the adapter does not fit {loaded.base}: {name} has the shape {list(weight.shape)}, and "
                f"its place {list(wanted[name].shape)}"
            )
