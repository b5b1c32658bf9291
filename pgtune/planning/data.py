"""How much a run reads: examples, and tokens in each, from the data where it is there, else assumed. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pgtune.data import Examples, open_source
from pgtune.errors import PgtuneError
from pgtune.example import load_adapter
from pgtune.names import BASES
from pgtune.recipe import Recipe

__all__ = ["Workload", "assumed", "workload"]

LOOKED_AT = 20_000
"""So many examples are read at most, and the lengths of so many measured as `MEASURED`: an answer within seconds."""

MEASURED = 2_000
PREFIX = 32
"""Tokens that are assumed of a prefix where there is no data to look at."""

_CHARACTERS = 3
"""Characters a token where there is no tokenizer: fewer than English has, so that the estimate is rather long."""

_LOCATION = re.compile(r"<(?:loc\d{4}|seg\d{3})>")


@dataclass(frozen=True)
class Workload:
    """What the examples of a training are like. Text tokens: `<bos>`, prefix, separator, suffix, `<eos>`."""

    text: int
    """Of the longest example."""
    suffix: int
    """Learnt tokens of the longest suffix, `<eos>` included."""
    mean_text: float
    mean_suffix: float
    images: int = 1
    """Pictures of an example, at most."""
    examples: int | None = None
    """None where the data is not there."""
    complete: bool = True
    """Whether all examples were counted."""
    source: str = "assumed"
    """Where it comes from, for a person."""


def assumed(recipe: Recipe) -> Workload:
    """Without data: a prefix of 32 tokens, and suffixes as long as `eval.max_new_tokens` allows answers."""
    suffix = recipe.eval.max_new_tokens + 1
    text = min(PREFIX + 2 + suffix, recipe.data.max_text_tokens or 10**9)
    return Workload(text, min(suffix, text), text, min(suffix, text))


def workload(recipe: Recipe) -> Workload:
    """From the recipe's own training data; assumed where it cannot be read, with the reason in `source`."""
    data = recipe.data
    try:
        adapter = load_adapter(data.adapter, data.adapter_args)
        examples = open_source(
            data.train, adapter, root=data.root, limit=LOOKED_AT, verify="none", max_bad_share=data.max_bad_share
        )
    except PgtuneError as error:
        reason = str(error).partition("\n")[0][:160]
        guess = assumed(recipe)
        return replace(guess, source=f"assumed {guess.text} text tokens, {guess.suffix} of them learnt ({reason})")
    return _measured(recipe, examples)


def _measured(recipe: Recipe, examples: Examples) -> Workload:
    every = max(1, len(examples) // MEASURED)
    seen = [examples[index] for index in range(0, len(examples), every)]
    count, how = _counter(recipe)
    lengths = []
    for example in seen:
        suffixes = [example.suffix, *(example.references if recipe.data.cycle_references else ())]
        suffix = max(map(count, suffixes)) + 1
        lengths.append((count(example.prefix) + 2 + suffix, suffix))
    limit = recipe.data.max_text_tokens
    if limit is not None:
        lengths = [(min(text, limit), min(suffix, limit)) for text, suffix in lengths]
    complete = len(examples) < LOOKED_AT
    share = 1.0
    if recipe.data.split_by is not None:
        share = 1 - recipe.data.validation_share - recipe.data.test_share
    total = max(1, round(len(examples) * share))
    read = f"{total:,} examples" if complete else f"the first {LOOKED_AT:,} examples"
    return Workload(
        text=max(text for text, _ in lengths),
        suffix=max(suffix for _, suffix in lengths),
        mean_text=sum(text for text, _ in lengths) / len(lengths),
        mean_suffix=sum(suffix for _, suffix in lengths) / len(lengths),
        images=max(1, *(len(example.images) for example in seen)),
        examples=total,
        complete=complete,
        source=f"{read}, lengths of {len(seen):,} {how}",
    )


def _counter(recipe: Recipe) -> tuple[Any, str]:
    """What counts the tokens of a text, and how, in words."""
    path = _tokenizer(recipe)
    if path is None:
        return _estimate, f"estimated at {_CHARACTERS} characters a token"
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids), "counted"


def _estimate(text: str) -> int:
    rest = _LOCATION.sub("", text)
    return len(_LOCATION.findall(text)) + -(-len(rest) // _CHARACTERS)


def _tokenizer(recipe: Recipe) -> Path | None:
    """The base's tokenizer.json, where it lies on this machine."""
    base = recipe.model.base
    if base in BASES:
        from pgtune import tiny

        return tiny.path() / "tokenizer.json"
    if Path(base).is_dir():
        path = Path(base) / "tokenizer.json"
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(base, "tokenizer.json", revision=recipe.model.revision)
    return Path(found) if isinstance(found, str) else None
