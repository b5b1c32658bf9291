"""The base model: found, checked to be a PaliGemma, loaded with the transfer settings of the papers, frozen.

What is made trainable of it stands in `methods.py`, how it is quantised in `quantization.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from pgtune import parts
from pgtune.compat import check_versions
from pgtune.errors import HubError, ModelError, PgtuneError, RecipeError, TrainingError
from pgtune.names import BASES
from pgtune.processor import check_tokenizer, load_processor
from pgtune.quantization import check_quantized, keep_gradients_on_cpu, quantization_config
from pgtune.quiet import quiet_libraries
from pgtune.recipe import ModelSettings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass
class Loaded:
    """A model with its processor and the decisions that were taken while it was loaded."""

    model: nn.Module
    """PaliGemmaForConditionalGeneration, or PEFT's wrapper around one."""
    processor: Any
    base: str
    """Hub id, folder or shipped name, as the recipe gave it."""
    dtype: torch.dtype
    attention: str
    """The language model's attention backend: eager, sdpa or flex_attention."""
    quantization: str = "none"
    lora_modules: list[str] = field(default_factory=list)
    quantized_modules: list[str] = field(default_factory=list)
    trained_parts: tuple[str, ...] = ()
    mixed_precision: bool = False
    """Whether forward passes run under bfloat16 autocast."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where it computes; before weights are sharded they may lie elsewhere."""
    compile: bool = False
    """Whether the language model's layers are compiled for the steps."""
    compile_note: str = ""
    """Why they are not, where the recipe leaves it to the machine."""
    root: Any = None
    """Where the weights are sharded (`sharding.Root`): what gathers those that no layer gathers itself."""

    recomputes: bool = False
    """Whether activations are computed again in the backward pass (gradient checkpointing)."""

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of every forward pass, in training, evaluation and prediction alike.

        What autocast casts is kept for the next use of the weight, as each token that is decoded is one. A step that
        computes activations again would keep all of it beside them, and uses each weight once; of sharded weights,
        which are gathered for each use, it would keep whole copies on each process.
        """
        if not self.mixed_precision:
            return nullcontext()
        once = self.root is not None or (self.recomputes and torch.is_grad_enabled())
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=not once)

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call what uses parts of the model, with their weights gathered where they are sharded."""
        if self.root is None:
            return function(*args, **kwargs)
        result = self.root.call(function, *args, **kwargs)
        self.root.reshard()
        return result

    @property
    def paligemma(self) -> Any:
        """The PaliGemmaForConditionalGeneration itself, LoRA layers inside it included."""
        model: Any = self.model
        return model.get_base_model() if hasattr(model, "peft_config") else model

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """(name, parameter) of all that is trained, in the model's order."""
        return ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)

    def summary(self) -> str:
        """What is trained, quantised and kept, for a person."""
        trained = sum(p.numel() for _, p in self.trainable())
        total = sum(p.numel() for p in self.model.parameters())
        lines = [
            f"model      {self.base}: {total:,} parameters, {str(self.dtype).removeprefix('torch.')}, "
            f"attention {self.attention}",
            f"trained    {trained:,} parameters ({trained / total:.2%})",
        ]
        if self.lora_modules:
            lines.append(f"lora       on {_counts(self.lora_modules)}")
        if self.trained_parts:
            lines.append(f"in full    {', '.join(self.trained_parts)}")
        if self.quantized_modules:
            lines.append(f"{self.quantization:<10} {_counts(self.quantized_modules)}; all else is kept")
        if self.compile_note:
            lines.append(f"compile    {self.compile_note}")
        return "\n".join(lines)


def _counts(names: list[str]) -> str:
    return ", ".join(f"{count} modules of {part}" for part, count in parts.count_by_part(names).items())


def base_folder_or_id(base: str) -> str:
    """The folder of a shipped base, or the folder or hub id itself."""
    if base in BASES:
        from pgtune import tiny

        return str(tiny.path())
    return base


def load_config(base: str, revision: str | None = None, *, quantized: bool = False) -> Any:
    """The base's PaliGemmaConfig.

    Args:
        quantized: whether it may be stored quantised: to be used, not to be trained.

    Raises:
        HubError: the id cannot be reached, or needs a licence or login.
        ModelError: it is no PaliGemma, or a library is not of a version that pgtune works with.
    """
    from transformers import AutoConfig

    check_versions()
    quiet_libraries()
    source = base_folder_or_id(base)
    with explained(base):
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    text = getattr(getattr(config, "text_config", None), "model_type", None)
    if config.model_type != "paligemma" or text not in {"gemma", "gemma2"}:
        found = f"{config.model_type} with {text}" if config.model_type == "paligemma" else config.model_type
        raise ModelError(
            f"model.base: {base} is a {found!r} model; pgtune trains PaliGemma (Gemma) and PaliGemma 2 (Gemma 2) only"
        )
    if getattr(config, "quantization_config", None) is not None and not quantized:
        raise ModelError(
            f"model.base: {base} is stored quantised; name the checkpoint in full precision, and set model.quantization"
        )
    return config


class explained:
    """Turns the hub client's many errors into one that says what to do."""

    def __init__(self, base: str) -> None:
        self.base = base

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, Exception) or isinstance(error, (PgtuneError, torch.OutOfMemoryError)):
            return
        in_words = isinstance(error, (OSError, ValueError, RuntimeError, SafetensorError))
        in_folder = Path(self.base).is_dir() or self.base in BASES
        reason = re.sub(r"\s+", " ", str(error) if in_words else f"{type(error).__name__}: {error}").strip()
        if in_folder or not in_words:  # on a damaged file the libraries may raise anything
            what = f"the folder {self.base}" if in_folder else self.base
            raise ModelError(f"model.base: {what} cannot be loaded: {reason[:300]}") from error
        raise HubError(
            f"model.base: {self.base} cannot be loaded from the Hub. If the name is right: accept Gemma's licence on "
            f"https://huggingface.co/{self.base}, log in with `hf auth login` (or set HF_TOKEN), and check the "
            "network; offline, point model.base to a folder that holds the model (relative to the working directory), "
            "or use `tiny`. What was said: "
            f"{reason.partition('. ')[0][:200]}"
        ) from error


@contextmanager
def enough_memory(smaller: str | Callable[[], str]) -> Iterator[None]:
    """Turns the ways in which memory runs out into one error that says what helps: `smaller`, or what it returns.

    Raises:
        TrainingError: memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's are RuntimeErrors; on a CPU only the text tells
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "can't allocate memory" not in str(error):
            raise
        said = str(error).partition(". ")[0]
        helps = smaller if isinstance(smaller, str) else smaller()
        raise TrainingError(f"the device ran out of memory ({said}). What helps: {helps}") from error


def choose_attention(setting: str, generation: str) -> str:
    """The language model's backend. Gemma 2 caps its attention logits, which sdpa cannot do.

    Raises:
        RecipeError: sdpa for PaliGemma 2.
    """
    if setting == "auto":
        return "eager" if generation == "gemma2" else "sdpa"
    if setting == "sdpa" and generation == "gemma2":
        raise RecipeError(
            "model.attention: 'sdpa' leaves out the attention soft-capping of PaliGemma 2; "
            "use auto, eager or flex_attention"
        )
    return setting


def has_bfloat16() -> bool:
    """Whether the GPU computes in bfloat16 itself."""
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def choose_dtype(setting: str, *, full: bool, device: torch.device, config: Any) -> torch.dtype:
    """The dtype of the frozen weights (LoRA), or of all of them.

    auto: full fine-tuning keeps float32 master weights; LoRA takes bfloat16 on a GPU, and on a CPU what the
    checkpoint is stored in.

    Raises:
        RecipeError: float16, or bfloat16 on a GPU that lacks it.
    """
    if setting == "float16":
        raise RecipeError("model.dtype: Gemma's activations overflow in float16; use float32 or bfloat16")
    if setting != "auto":
        chosen = DTYPES[setting]
    elif full:
        chosen = torch.float32
    elif device.type == "cuda":
        chosen = torch.bfloat16
    else:
        stored = config.dtype or config.get_text_config().dtype
        chosen = stored if isinstance(stored, torch.dtype) else torch.float32
        chosen = torch.bfloat16 if chosen is torch.float16 else chosen
    if chosen is torch.bfloat16 and device.type == "cuda" and not has_bfloat16():
        raise RecipeError(
            f"model.dtype: {torch.cuda.get_device_name(device)} has no bfloat16 and Gemma overflows in float16; "
            "set model.dtype=float32"
        )
    return chosen


def choose_mixed_precision(setting: str, loaded: Loaded) -> bool:
    """Whether forward passes run under bfloat16 autocast.

    auto: on a GPU that has it, and on a base in bfloat16: LoRA's float32 matrices would otherwise turn all that they
    touch into float32, for more memory and time and nothing else.

    Raises:
        RecipeError: `no`, where parts trained in float32 stand beside a bfloat16 base.
    """
    beside = loaded.dtype is torch.bfloat16 and bool(loaded.trained_parts)
    if setting == "no" and beside:
        raise RecipeError(
            f"train.mixed_precision: 'no' does not go with {', '.join(loaded.trained_parts)} trained in float32 beside "
            "a bfloat16 base; use auto, or model.dtype=float32"
        )
    if setting == "auto" and loaded.device.type == "cuda":
        return has_bfloat16()
    return setting == "bf16" or beside or (setting == "auto" and loaded.dtype is torch.bfloat16)


def load_base(
    settings: ModelSettings,
    *,
    full: bool,
    device: torch.device,
    quantized: bool = False,
    stay_on_cpu: bool = False,
) -> Loaded:
    """The base model on `device`, frozen, with its processor.

    Final logit soft-capping is off unless the recipe keeps it, as the papers did for transfers (PaliGemma 2, section
    3). The sliding window is off always: big_vision has none, and the mask of training has none.

    Args:
        full: whether the recipe trains without LoRA (decides `dtype: auto`).
        quantized: whether it may be stored quantised, as `settings.quantization` then says: to be used, not trained.
        stay_on_cpu: leave the weights there for now, where `device` is to hold a share of them.

    Raises:
        HubError, ModelError, RecipeError: as their messages say.
    """
    from transformers import PaliGemmaForConditionalGeneration

    config = load_config(settings.base, settings.revision, quantized=quantized)
    stored = getattr(config, "quantization_config", None) is not None
    text = config.get_text_config()
    generation = text.model_type
    attention = choose_attention(settings.attention, generation)
    dtype = choose_dtype(settings.dtype, full=full, device=device, config=config)
    source = base_folder_or_id(settings.base)
    with explained(settings.base):
        processor = load_processor(
            source,
            settings.revision,
            resample=settings.resample,
            image_fit=settings.image_fit,
            antialias=settings.antialias,
        )
    check_tokenizer(settings.base, processor, config)
    if generation == "gemma2":
        if not settings.final_logit_softcapping:
            text.final_logit_softcapping = None
        text.layer_types = ["full_attention"] * text.num_hidden_layers  # no sliding window
    with explained(settings.base):
        model, report = PaliGemmaForConditionalGeneration.from_pretrained(
            source,
            revision=settings.revision,
            config=config,
            dtype=dtype,
            attn_implementation={"text_config": attention, "vision_config": "sdpa"},
            quantization_config=None if stored else quantization_config(settings.quantization, dtype),
            device_map=None if settings.quantization == "none" else {"": device},
            use_safetensors=True,
            output_loading_info=True,
        )
    if report["missing_keys"]:  # transformers fills them with random numbers
        raise ModelError(
            f"model.base: {settings.base} lacks {len(report['missing_keys'])} of the model's weights, such as "
            f"{sorted(report['missing_keys'])[0]}"
        )
    if odd := sorted(key for key in report["unexpected_keys"] if ".layers." in key):  # transformers drops them
        raise ModelError(
            f"model.base: {settings.base} holds {len(odd)} weights of layers that its config.json has not, such as "
            f"{odd[0]}"
        )
    if settings.quantization == "none" and not stay_on_cpu:
        model = model.to(device)
    model.requires_grad_(False)
    model.eval()
    loaded = Loaded(model, processor, settings.base, dtype, attention, settings.quantization, device=device)
    if settings.quantization != "none":
        loaded.quantized_modules = check_quantized(model)
        keep_gradients_on_cpu(model)
    return loaded
