"""Pictures and texts to train on: noise, but of the sizes and lengths that photos, questions and captions have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# Half of the texts are questions with a short answer, half captions of a sentence: what transfers mostly learn.
_QUESTIONS = (
    "answer en what is in the picture?",
    "answer en how many buildings are there?",
    "answer en which year has the highest value?",
    "answer en what is the name of the road?",
)
_ANSWERS = ("water", "12", "residential area", "yes", "no", "the left one", "1998", "about ten percent")
_SUBJECTS = ("a small town", "the long road", "an airport with two runways", "the green field", "a table of prices")
_PLACES = ("by the river", "between the houses and the forest", "in front of the harbour", "on the other side")


def text(number: int, rng: np.random.Generator) -> tuple[str, str]:
    """Prefix and suffix number so and so."""
    if number % 2:
        return str(rng.choice(_QUESTIONS)), str(rng.choice(_ANSWERS))
    subject, other = rng.choice(_SUBJECTS, 2, replace=False)
    return "caption en", f"{subject} {rng.choice(_PLACES)} and {other}"


def photo(width: int, height: int, seed: int) -> Image.Image:
    """Colours that run into each other with a little noise: what compresses about as well as a photo."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((width, height))
    noise = rng.normal(0, 6, (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8))


def write_rows(folder: Path, examples: int, size: tuple[int, int] = (640, 480)) -> list[dict[str, Any]]:
    """`rows.jsonl` and its pictures below `folder`, as JPEG files of `size`; the rows."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(examples):
        path = folder / "images" / f"{number:04d}.jpg"
        if not path.is_file():
            photo(*size, number).save(path, quality=90)
        prefix, suffix = text(number, rng)
        rows.append({"image": str(path.resolve()), "prefix": prefix, "suffix": suffix})
    write_lines(folder / "rows.jsonl", rows)
    return rows


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """A JSON Lines file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_for_others(folder: Path, rows: list[dict[str, Any]]) -> None:
    """The rows in the order in which pgtune sees them, for those who have to be told: plain, and as chats."""
    write_lines(folder / "ordered.jsonl", rows)
    chats = [
        {
            "messages": [
                {"role": "user", "content": f"<image>{row['prefix']}"},
                {"role": "assistant", "content": row["suffix"]},
            ],
            "images": [row["image"]],
        }
        for row in rows
    ]
    write_lines(folder / "chats.jsonl", chats)
