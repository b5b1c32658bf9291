"""The recipe's section `train`: optimiser, schedule, precision and what a step costs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pgtune.settings_common import Count, Positive, Rate, Settings, Share, Text


class LearningRates(Settings):
    """Peak learning rates of the parts, of their LoRA matrices as of their own weights."""

    vision_tower: Rate | None = None
    """Of SigLIP; null: ``train.learning_rate``."""

    projector: Rate | None = None
    """Of the projector; null: ``train.learning_rate``."""

    language_model: Rate | None = None
    """Of Gemma; null: ``train.learning_rate``."""


class TrainSettings(Settings):
    """The optimiser and its schedule. A step is always an optimiser step."""

    epochs: Positive = 1.0
    """Passes over the training examples, also a fraction; not looked at when ``max_steps`` is set."""

    max_steps: Count | None = None
    """Ends the run after this many steps; null: ``epochs`` decides."""

    batch_size: Count = 8
    """Examples per forward pass and device."""

    gradient_accumulation_steps: Count = 1
    """Forward passes per step: the effective batch is batch_size x this x devices."""

    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """AdamW with its two averages in float32, or in 8 bits through bitsandbytes: 2 bytes for each trained weight in
    place of 8, which matters in full fine-tuning; LoRA's are small anyhow."""

    learning_rate: Literal["auto"] | Rate = "auto"
    """Peak learning rate. ``auto``: 1e-4 with ``lora`` and 1e-5 without: LoRA wants about ten times the rate of full
    fine-tuning."""

    learning_rates: LearningRates = LearningRates()
    """Another peak rate for a part of the model; the schedule is the same for all."""

    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls after warm-up: to zero along a cosine, to zero along a line, or not at all."""

    warmup_ratio: Share = 0.05
    """Share of all steps in which the rate rises from zero."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay as torch's AdamW means it (multiplied by the rate), on SigLIP and projector kernels only.
    The papers' "1e-6 at rate 1e-5" is 0.1 here."""

    beta1: Share = 0.9
    """Adam's first decay rate."""

    beta2: Share = 0.999
    """Adam's second decay rate."""

    epsilon: Positive = 1e-8
    """Adam's epsilon."""

    max_grad_norm: Positive | None = 1.0
    """Gradients are clipped to this global norm; null: never."""

    label_smoothing: Share = 0.0
    """Probability spread over all other tokens of the vocabulary."""

    loss_reduction: Literal["example", "token"] = "example"
    """``example``: mean over each suffix, then over the effective batch (the papers'); ``token``: every suffix token
    counts the same."""

    save_steps: Count | None = 50
    """A checkpoint every so many steps; null: only at the end."""

    keep_checkpoints: Count = 1
    """How many of the newest checkpoints stay on disk."""

    eval_steps: Count | None = None
    """Look at ``data.validation`` every so many steps; null: never."""

    best_metric: Text | None = None
    """What makes a checkpoint the best on ``data.validation``: one of ``eval.metrics``, or ``loss``. The best one is
    the result of the run; null: the last one is."""

    patience: Count | None = None
    """Stop after so many looks at ``data.validation`` without a better ``best_metric``; null: never."""

    gradient_checkpointing: Literal["auto"] | bool | Annotated[int, Field(ge=2)] = "auto"
    """Recompute activations in the backward pass: less memory, more time. true: of every layer; a number n: of every
    n-th, for a part of either. ``auto``: on a GPU the least of false, 2 and true with which the training fits by its
    plan; false on a CPU. A frozen vision tower keeps no activations and is left out."""

    mixed_precision: Literal["auto", "no", "bf16"] = "auto"
    """Compute in bfloat16 while weights keep their type. ``auto``: bf16 on a GPU that has it, and where the base is in
    bfloat16; no otherwise."""

    compile: Literal["auto"] | bool = "auto"
    """Let torch.compile fuse each layer of the language model: faster steps in less memory, for some seconds to minutes
    at the start. ``auto``: where the model is of real size (hidden size 1,024 and more) and a compiler is there (on a
    CPU a C++ compiler, on a GPU triton); true where there is none is refused."""

    tf32: bool = True
    """On a GPU, multiply matrices that are in float32 in tf32: faster, about three digits. Without effect elsewhere."""

    deterministic: bool = False
    """Take only kernels that give the same bits each time, so that a run on a GPU can be repeated and resumed to the
    last bit; slower. On a CPU runs are so anyhow."""

    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """How several processes share the work: each holds the whole model (``ddp``), or a share of its weights and of the
    optimiser's state (``fsdp``). ``auto``: ddp with ``lora``, fsdp without; another has no meaning for one process."""

    num_workers: Annotated[int, Field(ge=0)] = 0
    """Processes that read and prepare images beside the training; 0: none."""
