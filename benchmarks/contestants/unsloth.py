"""Unsloth's own way to train a vision-language model, on CUDA only. Written from its documentation, never run.

PaliGemma has no chat template there, so the batches are those of `trainer.py`; its kernels and checkpointing are on as
its notebooks have them. Runs in an environment of its own, whose python `--unsloth` names.
"""

from __future__ import annotations

from typing import Any

import torch
from unsloth import FastVisionModel  # type: ignore[import-not-found]  # before transformers, which it patches

from benchmarks.contestants import trainer
from benchmarks.contestants.common import LANGUAGE_MODEL, Job, run


def load(job: Job) -> Any:
    """The base with LoRA on the language model."""
    model, _ = FastVisionModel.from_pretrained(
        job.base,
        dtype=torch.bfloat16,
        load_in_4bit=job.quantization == "nf4",
        use_gradient_checkpointing="unsloth",
    )
    return FastVisionModel.get_peft_model(
        model,
        r=job.rank,
        lora_alpha=job.alpha,
        lora_dropout=0,
        bias="none",
        random_state=job.seed,
        target_modules=LANGUAGE_MODEL,
    )


if __name__ == "__main__":
    run(lambda job: trainer.train(job, load))
