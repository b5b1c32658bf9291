"""Write a PaliGemma folder for stage 2: the trained tower, everything else random.

python -m pgtune.tiny.build --tower runs/tiny/tower --out runs/tiny/init
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.torch import load_file
from transformers import PaliGemmaProcessor
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from pgtune.tiny.architecture import IMAGE_TOKENS, RESOLUTION, new_model
from pgtune.tiny.tokenizer import new_tokenizer
from pgtune.writing import write_folder


def new_processor() -> PaliGemmaProcessor:
    """Image processor (112 x 112, bicubic, values in [-1, 1]) and tokenizer; needs no torchvision."""
    images = SiglipImageProcessorPil(
        size={"height": RESOLUTION, "width": RESOLUTION},
        resample=3,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    images.image_seq_length = IMAGE_TOKENS
    return PaliGemmaProcessor(images, new_tokenizer())


def build(out: Path, tower: Path | None = None, seed: int = 0) -> None:
    """Write model and processor to `out` (replaced if there); `tower` is a folder of stage 1, None leaves it random."""
    processor = new_processor()
    model = new_model(processor.tokenizer, seed)
    if tower is not None:
        model.model.vision_tower.load_state_dict(load_file(tower / "tower.safetensors"))

    def fill(aside: Path) -> None:
        model.save_pretrained(aside)
        processor.save_pretrained(aside)

    write_folder(out, fill)


def main() -> None:
    """Command line of the step between the two stages."""
    parser = argparse.ArgumentParser(description="Write the base that stage 2 of the tiny model starts from.")
    parser.add_argument("--tower", type=Path, default=None, help="folder of stage 1 (left out: a random tower)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    build(given.out, given.tower, given.seed)


if __name__ == "__main__":
    main()
