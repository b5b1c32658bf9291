"""What the model will see of the first examples, before anything is trained."""

from __future__ import annotations

import sys
from typing import Any

from pgtune.collate import Collator
from pgtune.errors import DataError, RecipeError
from pgtune.model import base_folder_or_id, explained, load_config
from pgtune.processor import check_tokenizer, load_processor
from pgtune.progress import say
from pgtune.recipe import Recipe
from pgtune.splits import open_splits

GREEN, DIM, OFF = "\x1b[32m", "\x1b[2m", "\x1b[0m"


def preview(recipe: Recipe, split: str = "train", n: int = 3) -> list[dict[str, Any]]:
    """The first `n` examples in file order, as layouts without padding; no weights are loaded.

    Returns:
        One dict each: images, prefix, suffix, image_tokens (count), input_ids, tokens, labels (-100 where nothing is
        learnt, aligned with input_ids), prefix_length (positions before the first suffix token, image tokens
        included), where.

    Raises:
        RecipeError: the recipe has no such split.
        DataError: a row is wrong; names it.
    """
    if split not in recipe.data.splits:
        raise RecipeError(f"data.{split}: the recipe has none, so there is nothing to preview")
    limit = None if recipe.data.too_long == "skip" else n  # n of those that are not left out
    splits = open_splits(recipe, (split,), limit=limit)
    examples = splits[split]
    config = load_config(recipe.model.base, recipe.model.revision)
    with explained(recipe.model.base):
        processor = load_processor(
            base_folder_or_id(recipe.model.base), recipe.model.revision, image_fit=recipe.model.image_fit
        )
    check_tokenizer(recipe.model.base, processor, config)
    collator = Collator(processor, recipe.data.max_text_tokens, recipe.data.too_long)
    shown: list[dict[str, Any]] = []
    for index in range(len(examples)):
        if len(shown) == n:
            break
        example = examples[index]
        try:
            layout = collator.layout(example)
        except DataError as error:
            raise DataError(f"{examples.where(index)}: {error}") from error
        if layout is None:
            continue
        shown.append(
            {
                "where": examples.where(index),
                "images": [image if isinstance(image, str) else None for image in example.images],
                "prefix": example.prefix,
                "suffix": example.suffix,
                "references": list(example.references),
                "image_tokens": layout.image_tokens,
                "input_ids": layout.input_ids,
                "tokens": processor.tokenizer.convert_ids_to_tokens(layout.input_ids),
                "labels": layout.labels,
                "prefix_length": layout.prefix_length,
            }
        )
    for line in splits.summary():
        say(line)
    return shown


def render(rows: list[dict[str, Any]], colour: bool | None = None) -> str:
    """The same for a terminal: a token per bracket, what is learnt in green (and behind the bar)."""
    colour = sys.stdout.isatty() if colour is None else colour
    green, dim, off = (GREEN, DIM, OFF) if colour else ("", "", "")
    blocks = []
    for row in rows:
        start, end = row["image_tokens"], row["prefix_length"]
        seen = " ".join(map(_visible, row["tokens"][start:end]))
        learnt = " ".join(map(_visible, row["tokens"][end:]))
        blocks.append(
            f"{row['where']}\n"
            f"  image   {', '.join(str(image or '(made on demand)') for image in row['images'])}\n"
            f"  seen    {dim}<image> x {start} {seen}{off}\n"
            f"  learnt  {green}{learnt}{off}\n"
            f"  length  {len(row['input_ids'])} tokens: {start} image, {end - start} prefix, "
            f"{len(row['input_ids']) - end} suffix"
        )
    return "\n\n".join(blocks)


def _visible(token: str) -> str:
    return "[" + token.replace("\n", "\\n").replace("▁", " ") + "]"
