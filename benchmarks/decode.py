"""Answers: pgtune's batched decoding beside what transformers' documentation shows, a `generate` call per example."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import measure, report
from pgtune import tiny
from pgtune.collate import Collator
from pgtune.data_adapters.generated.generated import GeneratedAdapter
from pgtune.generation import Prompt, generate
from pgtune.images import open_image
from pgtune.model import load_base
from pgtune.settings import ModelSettings

DEFAULT_BATCH = 32
"""What evaluation takes with a recipe's default batch size of 8."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `python -m benchmarks decode`."""
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 8, 16, 32, 64])


def run(arguments: argparse.Namespace) -> None:
    """Decode the same prompts in all ways, in turn; the texts must be the same."""
    prompts = questions(arguments.examples)
    ways: dict[str, Callable[[], list[str]]] = {"generate per example": plain(prompts, arguments.max_new_tokens)}
    for size in arguments.batch:
        ways[f"pgtune, batch {size}"] = batched(prompts, arguments.max_new_tokens, size)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    texts = {name: way() for name, way in ways.items()}  # the first round is not timed
    for _ in range(arguments.repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            texts[name] = way()
            seconds[name].append(time.perf_counter() - began)
    expected = next(iter(texts.values()))
    for name, found in texts.items():
        different = [pair for pair in zip(expected, found, strict=True) if pair[0] != pair[1]]
        if different:
            raise SystemExit(f"{name}: {len(different)} texts differ, such as {different[0]}")
    rates = {name: len(prompts) / measure.median(times) for name, times in seconds.items()}
    record = _record(arguments, rates, expected)
    print(table(record), flush=True)
    report.write(arguments.results / f"decode-{'gpu' if torch.cuda.is_available() else 'cpu'}.json", record)


def _record(arguments: argparse.Namespace, rates: dict[str, float], texts: list[str]) -> dict[str, Any]:
    reference = rates["generate per example"]
    best = max(rates.values())
    return {
        "settings": {
            "base": "tiny",
            "examples": arguments.examples,
            "max_new_tokens": arguments.max_new_tokens,
            "repeats": arguments.repeats,
            "characters_per_answer": sum(map(len, texts)) / len(texts),
        },
        "hardware": measure.hardware(),
        "versions": measure.versions(),
        "same_text": True,
        "default_batch": DEFAULT_BATCH,
        "ways": {
            name: {"examples_per_second": rate, "against_reference": rate / reference, "against_best": rate / best}
            for name, rate in rates.items()
        },
    }


def table(record: dict[str, Any]) -> str:
    """The record for a person, as Markdown."""
    lines = ["| decoding | examples/s | against a call per example | against the best |", "|---|---|---|---|"]
    for name, one in record["ways"].items():
        ratios = f"{one['against_reference']:.2f}x | {one['against_best']:.0%}"
        lines.append(f"| {name} | {one['examples_per_second']:.3g} | {ratios} |")
    return "\n".join(lines)


def questions(count: int) -> list[Prompt]:
    """Prompts that `tiny` has learnt to answer, briefly and at length, with their pictures already drawn."""
    adapter = GeneratedAdapter()
    examples = [adapter({"split": "benchmark", "index": index}) for index in range(count)]
    return [Prompt((open_image(example.images[0]),), example.prefix) for example in examples]


def plain(prompts: list[Prompt], max_new_tokens: int) -> Callable[[], list[str]]:
    """As the documentation of transformers shows it."""
    from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

    processor = AutoProcessor.from_pretrained(str(tiny.path()))
    model: Any = PaliGemmaForConditionalGeneration.from_pretrained(str(tiny.path())).eval()
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")

    @torch.inference_mode()
    def decode() -> list[str]:
        texts = []
        for prompt in prompts:
            inputs = processor(text="<image>" + prompt.prefix, images=prompt.images[0], return_tensors="pt")
            inputs = inputs.to(model.device)
            output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
            new = output[0][inputs["input_ids"].shape[-1] :]
            texts.append(processor.decode(new, skip_special_tokens=True))
        return texts

    return decode


def batched(prompts: list[Prompt], max_new_tokens: int, batch_size: int) -> Callable[[], list[str]]:
    """As `pgtune evaluate` does it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded = load_base(ModelSettings(dtype="float32"), full=False, device=device)
    collator = Collator(loaded.processor)

    def decode() -> list[str]:
        texts = [""] * len(prompts)
        for index, answer in generate(loaded, collator, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size):
            texts[index] = answer.text
        return texts

    return decode
