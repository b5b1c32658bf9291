"""ms-swift, the most correct of the maintained peers: its own trainer, told the same numbers.

Runs in an environment of its own, whose python `--swift` names: it wants older versions of transformers and peft. Set
against its defaults: no gradient checkpointing, AdamW's beta2, no shuffling, attention that keeps Gemma 2's cap.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from swift import sft_main  # type: ignore[import-not-found]  # in an environment of its own
from swift.callbacks import TrainerCallback, callbacks_map  # type: ignore[import-not-found]

from benchmarks.contestants.common import Job, Measured, StepClock, run

_clock = StepClock()
_losses: list[float] = []
_times: list[float] = []


class _Clock(TrainerCallback):  # type: ignore[misc]  # swift is untyped here
    def on_train_begin(self, *_: Any, **__: Any) -> None:
        _times.append(time.time())
        _clock.start()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        _clock.tick()
        _times.append(time.time())

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        if "loss" in logs:
            _losses.append(float(logs["loss"]))


def arguments(job: Job) -> list[str]:
    """Of `swift sft`."""
    config = json.loads((Path(job.base) / "config.json").read_text(encoding="utf-8"))
    keys = {
        "model": job.base,
        "model_type": "paligemma",
        "template": "paligemma",
        "torch_dtype": "bfloat16",
        "attn_impl": "eager" if config["text_config"]["model_type"] == "gemma2" else "sdpa",
        "tuner_type": "lora",
        "lora_rank": job.rank,
        "lora_alpha": job.alpha,
        "lora_dropout": 0,
        "adapters": job.adapter,
        "freeze_vit": True,
        "freeze_aligner": True,
        "dataset": Path(job.data) / "chats.jsonl",
        "split_dataset_ratio": 0,
        "dataset_shuffle": False,
        "train_dataloader_shuffle": False,
        "load_from_cache_file": False,
        "max_steps": job.steps,
        "per_device_train_batch_size": job.batch,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False,
        "learning_rate": job.learning_rate,
        "lr_scheduler_type": "constant",
        "warmup_ratio": 0,
        "weight_decay": 0,
        "adam_beta2": 0.999,
        "max_grad_norm": 1.0,
        "bf16": True,
        "use_cpu": not torch.cuda.is_available(),
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "dataloader_num_workers": 0,
        "output_dir": Path(job.folder) / "swift",
        "callbacks": "bench_clock",
        "seed": job.seed,
    }
    if job.quantization == "nf4":
        keys |= {"quant_method": "bnb", "quant_bits": 4, "bnb_4bit_quant_type": "nf4"}
    texts = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in keys.items()}
    return [part for key, value in texts.items() for part in (f"--{key}", value)]


def train(job: Job) -> Measured:
    """One training."""
    callbacks_map["bench_clock"] = _Clock
    sft_main(arguments(job))
    return Measured(_losses, _clock.seconds, _times[0], _times[-1])


if __name__ == "__main__":
    run(train)
