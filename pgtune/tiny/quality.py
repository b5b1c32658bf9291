"""What the tiny model can do on pictures it has not seen: share of exact answers, by kind of question.

Uses transformers only, so that it says what anyone who loads the folder gets.

    python -m pgtune.tiny.quality [FOLDER] [--number 1500] [--out quality.json]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration, PreTrainedModel, ProcessorMixin

from pgtune.data_adapters.generated.generated import TASKS, GeneratedAdapter
from pgtune.example import Example
from pgtune.images import open_image
from pgtune.locations import decode_detections
from pgtune.tiny import path

SPLIT = "held out"
"""of the generator; no stage of the training draws from it, and no choice was made by it"""


def kind(example: Example) -> str:
    """The row of the card's table that an example belongs to."""
    task, suffix = str(example.metadata["task"]), example.suffix
    if task == "ocr":
        return f"ocr: {len(suffix)} digits" if suffix.isdigit() else "ocr: letters and signs"
    if task == "caption":
        return "caption: one shape" if " background" in suffix else "caption: several shapes"
    if task == "texture":
        return "caption: one texture" if " texture" in suffix else "caption: two textures"
    if task == "detect":
        return "detect"
    words = example.prefix.removeprefix("answer en ").rstrip("?").split()
    length = 2 if words[:2] in (["how", "many"], ["what", "shape"]) else 3 if words[0] == "what" else len(words)
    asked = " ".join(words[:length]) if task == "answer" and words[0] != "where" else " ".join(words)
    if words[0] == "where":
        asked = "where is"
    if "value" in words:
        asked = "what is the value"
    return f"{task}: {asked}"


def is_right(prediction: str, reference: str) -> bool:
    """Equal texts; boxes are right where label and order agree and each overlaps by half or more (IoU 0.5)."""
    expected = decode_detections(reference).found
    if not expected:
        return prediction == reference
    found = decode_detections(prediction).found
    return len(found) == len(expected) and all(
        one.label == other.label and _overlap(one.box, other.box) >= 0.5
        for one, other in zip(found, expected, strict=True)
    )


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    height = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    width = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    shared = height * width
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared) if areas > shared else 0.0


@torch.no_grad()
def answers(
    model: PreTrainedModel, processor: ProcessorMixin, pictures: list[Image.Image], prefixes: list[str]
) -> list[str]:
    """Greedy answers of up to 40 tokens to one batch of prompts."""
    inputs = processor(
        images=[[picture] for picture in pictures],
        text=["<image>" + prefix for prefix in prefixes],
        padding="longest",
        padding_side="left",
        return_tensors="pt",
    )
    inputs.pop("labels")
    tokens = model.generate(**inputs, max_new_tokens=40, do_sample=False)
    texts: list[str] = processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def measure(folder: Path, number: int, seed: int = 0, batch_size: int = 64) -> dict[str, dict[str, float]]:
    """For each kind of question: `right` (share, 0 to 1) and `n`, on `number` unseen examples a task."""
    processor = AutoProcessor.from_pretrained(folder)
    model = PaliGemmaForConditionalGeneration.from_pretrained(folder).eval()
    counts: dict[str, list[bool]] = {}
    for task in TASKS:
        adapter = GeneratedAdapter(seed=seed, tasks=[task])
        examples = [adapter(row) for row in adapter.rows(str(number), SPLIT)]
        # alike lengths together: less padding
        examples.sort(key=lambda example: (len(example.prefix), len(example.suffix)))
        for start in range(0, number, batch_size):
            part = examples[start : start + batch_size]
            pictures = [open_image(example.images[0]) for example in part]
            texts = answers(model, processor, pictures, [example.prefix for example in part])
            for example, text in zip(part, texts, strict=True):
                counts.setdefault(kind(example), []).append(is_right(text, example.suffix))
    return {name: {"right": sum(right) / len(right), "n": len(right)} for name, right in sorted(counts.items())}


def main() -> None:
    """Command line: print a Markdown table, optionally write JSON."""
    parser = argparse.ArgumentParser(description="Measure the tiny base model on unseen generated pictures.")
    parser.add_argument("folder", type=Path, nargs="?", default=path())
    parser.add_argument("--number", type=int, default=500, help="examples per task")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = measure(given.folder, given.number)
    print("| question | right | n |\n|---|---|---|")
    for name, score in found.items():
        print(f"| {name} | {100 * score['right']:.1f} % | {score['n']} |")
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
