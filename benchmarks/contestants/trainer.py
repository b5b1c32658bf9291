"""What transformers' documentation and the popular notebooks show: Trainer, PEFT, a processor with `suffix=`.

Mended only so that it runs and learns the same: LoRA on the language model alone (the notebooks' list of names also
hits half of the vision tower), every number that the recipe of pgtune has too, the order of the data.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from transformers import (
    BitsAndBytesConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks.contestants.common import LANGUAGE_MODEL, Job, Measured, StepClock, run


class _Clock(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    def __init__(self) -> None:
        self.clock = StepClock()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.clock.start()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.clock.tick()


def load(job: Job) -> Any:
    """The base with LoRA on it; its initial weights are kept for the others."""
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    model = PaliGemmaForConditionalGeneration.from_pretrained(
        job.base,
        dtype=torch.bfloat16,
        device_map={"": 0} if torch.cuda.is_available() else None,
        quantization_config=quantization if job.quantization == "nf4" else None,
    )
    adapter = Path(job.adapter)
    if (adapter / "adapter_config.json").is_file():
        return PeftModel.from_pretrained(model, str(adapter), is_trainable=True)
    torch.manual_seed(job.seed)
    lora = LoraConfig(r=job.rank, lora_alpha=job.alpha, target_modules=LANGUAGE_MODEL, task_type="CAUSAL_LM")
    model = get_peft_model(model, lora)
    model.save_pretrained(str(adapter))
    return model


def train(job: Job, load: Callable[[Job], Any] = load) -> Measured:
    """One training."""
    processor = PaliGemmaProcessor.from_pretrained(job.base)
    rows = [json.loads(line) for line in (Path(job.data) / "ordered.jsonl").read_text(encoding="utf-8").splitlines()]
    model = load(job)
    loaded_at = time.time()

    def collate_fn(examples: list[dict[str, str]]) -> Any:
        tokens = processor(
            text=["<image>" + example["prefix"] for example in examples],
            images=[Image.open(example["image"]).convert("RGB") for example in examples],
            suffix=[example["suffix"] for example in examples],
            return_tensors="pt",
            padding="longest",
        )
        return tokens.to(torch.bfloat16)

    arguments = TrainingArguments(
        output_dir=job.folder,
        max_steps=job.steps,
        per_device_train_batch_size=job.batch,
        learning_rate=job.learning_rate,
        lr_scheduler_type="constant",
        warmup_steps=0,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        remove_unused_columns=False,
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        dataloader_pin_memory=False,
        disable_tqdm=True,
        seed=job.seed,
    )
    clock = _Clock()
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collate_fn, callbacks=[clock])
    trainer.train()
    trained_at = time.time()
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    return Measured(losses, clock.clock.seconds, loaded_at, trained_at)


if __name__ == "__main__":
    run(train)
