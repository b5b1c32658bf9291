"""Put a trained tiny model into the package: weights, tokenizer, processor and a card with its measured quality.

python -m pgtune.tiny.package --runs runs/tiny
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PaliGemmaForConditionalGeneration

from pgtune.recipe import load_recipe
from pgtune.tiny import path
from pgtune.tiny.architecture import HIDDEN, IMAGE_TOKENS, RESOLUTION, new_model
from pgtune.tiny.build import new_processor
from pgtune.tiny.quality import measure
from pgtune.tiny.tower import BATCH as TOWER_BATCH
from pgtune.writing import write_folder

LIMIT = 12_000_000
"""bytes of all files together"""

CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
language: en
tags: [paligemma, tiny, pgtune]
---

# tiny: a small trained PaliGemma 2

A real `PaliGemmaForConditionalGeneration` ({parameters:,} parameters, float32): SigLIP tower (4 layers of width
{hidden}, {resolution} x {resolution} pixels, patches of 14, {tokens} image tokens), linear projector, Gemma 2 (4
layers of width {hidden}, attention soft-cap 50, output soft-cap off), a tokenizer of its own with all `<loc>` and
`<seg>` tokens. It comes with pgtune so that a fine-tune can be tried, and tested, on a laptop and without a download;
transformers alone loads it too.

## Data

Pictures drawn by `pgtune.data_adapters.generated` (Pillow and its built-in font), nothing else: lines of digits and
short words, coloured shapes, textures, bar and line charts, notes on a staff. No photograph, no text of others.
Prompts are PaliGemma's: `ocr`, `caption en`, `detect red circle ; square`, `answer en how many circles?`.

## Training

1. The vision tower alone, asked directly what is in the picture: {tower_steps:,} steps of {tower_batch} pictures,
   Muon and AdamW. `python -m pgtune.tiny.tower --out runs/tiny/tower`
2. A projector and a language model with random weights are put beside it
   (`python -m pgtune.tiny.build --tower runs/tiny/tower --out runs/tiny/init`) and learn, the tower frozen, by
   pgtune's own training, suffix loss only: {align}.
   `pgtune train tiny/align model.base=runs/tiny/init`
3. Everything together at a lower rate: {pretrain}.
   `pgtune train tiny/pretrain model.base=runs/tiny/align/model`
4. Into the package, with this card: `python -m pgtune.tiny.package --runs runs/tiny`

`make tiny` runs all of this.
{time}

## Quality

Greedy answers to pictures that no training has drawn (`python -m pgtune.tiny.quality`). Right means the same text;
for `detect`, the right labels in the right order, each box overlapping by half or more (IoU 0.5).

| question | right | n |
|---|---|---|
{table}

## What it cannot prove

It has never seen a photograph, knows no language beyond a few hundred phrases, and no facts. It shows that the
layout, the mask, the loss, LoRA, quantisation, saving and decoding work, and that what it knows carries over where
there is something to carry: asked for the number in a picture in words it never met (400 pictures, 200 steps of LoRA,
200 unseen pictures), it went from 36 % to 99 % right, and random weights of the same shape stayed at 0 %. On the
satellite pictures of the quickstart, which look like nothing it has seen, random weights got as far as it did (both
68 %): that score shows that training works, not that this base helps. It says nothing about the scores, the memory or
the best learning rate of the 3B, 10B or 28B checkpoints, and {resolution} pixels are too few for documents.
`<seg>` tokens exist but were never trained.
"""


def card(quality: dict[str, dict[str, float]], **facts: object) -> str:
    """The text of README.md."""
    table = "\n".join(f"| {name} | {100 * score['right']:.1f} % | {score['n']} |" for name, score in quality.items())
    return CARD.format(table=table, hidden=HIDDEN, resolution=RESOLUTION, tokens=IMAGE_TOKENS, **facts)


def _trained(run: Path) -> str:
    """What a run of stage 2 or 3 did, for the card."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    settings = load_recipe(run / "recipe.yaml").train
    return f"{rows[-1]['step']:,} AdamW steps of {settings.batch_size} examples, learning rate {settings.learning_rate}"


def package(runs: Path, out: Path, number: int, time: str) -> None:
    """Write the folder `out` (replaced if there) from the finished `runs`/pretrain, and measure what was written."""
    processor = new_processor()
    model = new_model(processor.tokenizer)
    # the weights of the run under the architecture's own configuration, free of what a run adds to it
    trained = PaliGemmaForConditionalGeneration.from_pretrained(runs / "pretrain" / "model")
    model.load_state_dict(trained.state_dict())
    with safe_open(runs / "tower" / "tower.safetensors", "pt") as stored:
        tower_steps = int(stored.metadata()["step"])

    def fill(aside: Path) -> None:
        model.save_pretrained(aside)
        processor.save_pretrained(aside)
        text = card(
            measure(aside, number),
            parameters=model.num_parameters(),
            tower_steps=tower_steps,
            tower_batch=TOWER_BATCH,
            align=_trained(runs / "align"),
            pretrain=_trained(runs / "pretrain"),
            time=time,
        )
        (aside / "README.md").write_text(text, encoding="utf-8")
        for file in aside.iterdir():
            file.chmod(0o644)
        size = sum(file.stat().st_size for file in aside.iterdir())
        assert size <= LIMIT, f"{size} bytes, more than the {LIMIT} that the package has room for"

    write_folder(out, fill)


def main() -> None:
    """Command line of the last step."""
    parser = argparse.ArgumentParser(description="Put the trained tiny model into the package.")
    parser.add_argument("--runs", type=Path, required=True, help="folder with the runs tower, align and pretrain")
    parser.add_argument("--out", type=Path, default=path())
    parser.add_argument("--number", type=int, default=500, help="examples per task to measure")
    parser.add_argument("--time", default="", help="a sentence on how long it took, for the card")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    package(given.runs, given.out, given.number, given.time)


if __name__ == "__main__":
    main()
