"""Measure the memory of training steps on random weights beside what `pgtune plan` predicts.

    python scripts/measure_memory.py google/paligemma2-3b-pt-224 train.batch_size=1 train.compile=false
    python scripts/measure_memory.py google/paligemma2-3b-pt-224 --layers 6 --vision-layers 2 --vocabulary 20032

On a GPU: the peak that torch allocated. On a CPU: by how much the anonymous memory of the process grew, from before the
model to the peak. A recipe's keys are given as for `pgtune train`; the default is LoRA of rank 16 on the language
model. One line of JSON for each call.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from pgtune.architecture import Architecture, architecture_of
from pgtune.collate import IGNORE, Batch
from pgtune.compiling import compiled
from pgtune.forward import SuffixLossModel
from pgtune.methods import prepare
from pgtune.model import Loaded
from pgtune.optimizers import new_optimizer
from pgtune.planning.data import Workload
from pgtune.planning.memory import Memory
from pgtune.recipe import Recipe, load_recipe


def random_model(shape: Architecture, dtype: torch.dtype, attention: str, device: torch.device) -> Any:
    """A PaliGemma of that shape with random weights, made as `load_base` leaves one."""
    from transformers import (
        Gemma2Config,
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        SiglipVisionConfig,
    )
    from transformers.initialization import no_init_weights

    sizes = dataclasses.asdict(shape.text)
    second = sizes.pop("generation") == "gemma2"
    if second:
        sizes |= {"final_logit_softcapping": None, "layer_types": ["full_attention"] * shape.text.num_hidden_layers}
    else:
        del sizes["attn_logit_softcapping"]
    text = (Gemma2Config if second else GemmaConfig)(**sizes)
    width = shape.text.hidden_size
    vision = SiglipVisionConfig(**dataclasses.asdict(shape.vision), vision_use_head=False, projection_dim=width)
    config = PaliGemmaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=shape.text.vocab_size - 1,
        vocab_size=shape.text.vocab_size,
        projection_dim=width,
        hidden_size=width,
    )
    config._attn_implementation = {"text_config": attention, "vision_config": "sdpa"}
    torch.set_default_dtype(dtype)
    with no_init_weights(), device:
        model = PaliGemmaForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    model.tie_weights()
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            if parameter.ndim > 1:
                parameter.uniform_(-0.03, 0.03)
            else:
                parameter.fill_(1.0 if "layer_norm" in name and "weight" in name else 0.0)
    return model.requires_grad_(False).eval()


def batch_of(memory: Memory, device: torch.device) -> Batch:
    """A batch as the plan supposes it: every row as long as the longest."""
    rows, length = memory.recipe.train.batch_size, memory.length
    vision, vocabulary = memory.architecture.vision, memory.architecture.text.vocab_size
    ids = torch.randint(5, vocabulary - 2, (rows, length))
    ids[:, : vision.tokens] = vocabulary - 1
    suffix = torch.zeros(rows, length, dtype=torch.bool)
    suffix[:, length - memory.workload.suffix :] = True
    pixels = torch.rand(rows, 3, vision.image_size, vision.image_size) * 2 - 1
    valid = torch.ones(rows, length, dtype=torch.bool)
    return Batch(pixels, ids, valid, suffix, torch.where(suffix, ids, IGNORE)).to(device)


@contextlib.contextmanager
def watched(device: torch.device) -> Iterator[list[float]]:
    """The peak, in bytes, when the block is over: allocated on a GPU, grown by on a CPU."""
    peak = [0.0]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        yield peak
        peak[0] = float(torch.cuda.max_memory_allocated())
        return

    def anonymous() -> int:
        _, resident, shared, *_ = Path("/proc/self/statm").read_text().split()
        return (int(resident) - int(shared)) * 4096

    start, stop = anonymous(), threading.Event()

    def watch() -> None:
        while not stop.is_set():
            peak[0] = max(peak[0], anonymous() - start)
            time.sleep(0.002)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def run(memory: Memory, steps: int, device: torch.device) -> None:
    """Some training steps, as the loop takes them."""
    recipe = memory.recipe
    dtype = torch.float32 if memory.base_bytes == 4 else torch.bfloat16
    model = random_model(memory.architecture, dtype, memory.attention, device)
    loaded = Loaded(model, None, recipe.model.base, dtype, memory.attention)
    prepare(
        loaded,
        recipe.lora,
        recipe.model.trainable,
        seed=0,
        gradient_checkpointing=memory.recompute,
        llm_dropout=recipe.model.llm_dropout,
    )
    loaded.mixed_precision = memory.autocast
    module = SuffixLossModel(loaded.model, loaded.paligemma, loaded.attention, recipe.train.label_smoothing)
    optimizer = new_optimizer(loaded, recipe)
    batch = batch_of(memory, device)
    loaded.model.train()
    with compiled(loaded, module, batch) if memory.compiled else contextlib.nullcontext():
        for _ in range(steps):
            with loaded.autocast():
                loss = module(batch).example_sum()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([one for _, one in loaded.trainable()], 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def memory_of(arguments: argparse.Namespace, device: torch.device) -> Memory:
    """The plan of what will be run."""
    shape = architecture_of(arguments.base)
    text, vision = shape.text, shape.vision
    text = dataclasses.replace(
        text,
        num_hidden_layers=arguments.layers or text.num_hidden_layers,
        vocab_size=arguments.vocabulary or text.vocab_size,
        hidden_size=arguments.width or text.hidden_size,
        intermediate_size=4 * arguments.width or text.intermediate_size,
    )
    vision = dataclasses.replace(vision, num_hidden_layers=arguments.vision_layers or vision.num_hidden_layers)
    lora = None if arguments.full else {"rank": 16, "alpha": 32, "targets": "language_model"}
    document = {
        "model": {"base": arguments.base},
        "lora": lora,
        "data": {"train": "none.jsonl"},
        "output_dir": "none",
        "train": {"batch_size": 1},
    }
    recipe: Recipe = load_recipe(document, arguments.overrides)
    count = arguments.text
    found = Workload(count, arguments.suffix, count, arguments.suffix)
    stored = dataclasses.replace(shape, text=text, vision=vision)
    return Memory(recipe, stored, found, "gpu" if device.type == "cuda" else "cpu")


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measure once and print the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="a released model, or a folder with a config.json; only its shape is used")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--full", action="store_true", help="full fine-tuning instead of LoRA")
    parser.add_argument("--layers", type=int, default=0, help="decoder layers (default: the base's)")
    parser.add_argument("--vision-layers", type=int, default=0)
    parser.add_argument("--vocabulary", type=int, default=0)
    parser.add_argument("--width", type=int, default=0, help="hidden size; four times it inside the MLP")
    parser.add_argument("--text", type=int, default=16, help="text tokens")
    parser.add_argument("--suffix", type=int, default=6, help="learnt ones of them")
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_intermixed_args(argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    memory = memory_of(arguments, device)
    peak = max(memory.training(), key=lambda phase: phase.total)
    import_module("transformers.models.paligemma.modeling_paligemma")  # code is no growth of a run's
    import_module("peft")
    with watched(device) as measured:
        run(memory, arguments.steps, device)
    result = {
        "base": arguments.base,
        "settings": " ".join([*(["--full"] if arguments.full else []), *arguments.overrides]),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "predicted": round(peak.total / 1e9, 3),
        "measured": round(measured[0] / 1e9, 3),
        "ratio": round(peak.total / measured[0], 3),
        "phase": peak.name,
    }
    print(json.dumps(result), flush=True)
    return result


if __name__ == "__main__":
    main()
