"""Batched decoding, shared by evaluation and prediction."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from pgtune.collate import Collator
from pgtune.data import check_text
from pgtune.errors import DataError
from pgtune.example import ImageSource
from pgtune.images import open_image
from pgtune.model import Loaded


@dataclass(frozen=True)
class Prompt:
    """What is asked: one or more pictures and a prefix."""

    images: tuple[ImageSource, ...]
    prefix: str


@dataclass(frozen=True)
class Answer:
    """What was decoded for one prompt."""

    text: str
    mean_log_probability: float
    """Mean over the generated tokens, `<eos>` included, in nats; never above 0."""
    tokens: int
    """How many there are, `<eos>` included."""
    ids: tuple[int, ...] = ()
    """The generated tokens without `<eos>`."""
    log_probabilities: tuple[float, ...] = ()
    """Of each of `ids`, in nats."""
    finished: bool = True
    """Whether it ended with `<eos>`, not at the limit of tokens."""
    size: tuple[int, int] | None = None
    """Width and height of the picture; None where there were several."""


class _GreedyScore(LogitsProcessor):  # type: ignore[misc]  # transformers is untyped here
    """Notes the log-probability of the most likely token of each step, so that no step's logits are kept."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        best = scores.float()
        self.steps.append(best.max(-1).values - best.logsumexp(-1))
        return scores


@torch.no_grad()
def generate_batch(
    loaded: Loaded,
    collator: Collator,
    pixels: Sequence[Tensor],
    prefixes: Sequence[str],
    *,
    max_new_tokens: int,
    num_beams: int,
) -> list[Answer]:
    """Decode one batch, greedily or with beams (scores then are sums, without length normalisation, as big_vision)."""
    paligemma = loaded.paligemma
    device = loaded.device
    inputs = {name: value.to(device) for name, value in collator.prompts(pixels, prefixes).items()}
    vision = paligemma.model.vision_tower.embeddings.patch_embedding.weight
    inputs["pixel_values"] = inputs["pixel_values"].to(vision.dtype)
    score = _GreedyScore()
    with loaded.autocast():
        output: Any = loaded.run(
            paligemma.generate,
            synced_gpus=loaded.root is not None,  # of sharded weights all ranks must make equal use
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=num_beams,
            length_penalty=0.0 if num_beams > 1 else None,
            early_stopping=False if num_beams > 1 else None,  # until no live beam can still win, as big_vision
            use_cache=True,
            eos_token_id=collator.eos_id,
            pad_token_id=collator.pad_id,
            bos_token_id=collator.bos_id,
            logits_processor=LogitsProcessorList([score]) if num_beams == 1 else None,
            output_scores=num_beams > 1,
            return_dict_in_generate=True,
        )
    new = output.sequences[:, inputs["input_ids"].shape[1] :]
    if num_beams == 1:
        by_step = torch.stack(score.steps, dim=1)
    else:  # of the beam that won; the scores are log-probabilities already
        by_step = paligemma.compute_transition_scores(output.sequences, output.scores, output.beam_indices)
    answers = []
    for row, (ids, likely) in enumerate(zip(new.tolist(), by_step.tolist(), strict=True)):
        finished = collator.eos_id in ids
        written = ids[: ids.index(collator.eos_id)] if finished else ids
        length = len(written) + finished
        text = collator.processor.tokenizer.decode(
            written, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        total = sum(likely[:length]) if num_beams == 1 else float(output.sequences_scores[row])
        mean = min(total / max(1, length), 0.0)
        answers.append(Answer(text, mean, length, tuple(written), tuple(likely[: len(written)]), finished))
    return answers


def generate(
    loaded: Loaded,
    collator: Collator,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    batch_size: int,
    num_beams: int = 1,
    on_error: Callable[[int, DataError], None] | None = None,
) -> Iterator[tuple[int, Answer]]:
    """Decode all prompts, batched with prompts of like length; yields (index, answer) as they are done.

    Args:
        on_error: called for a prompt whose picture cannot be opened or whose text is refused, which then yields
            nothing; without it the DataError is raised.
    """

    for name, count in (("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
        if count < 1:
            raise DataError(f"{name} = {count}: expected 1 or more")

    def failed(index: int, error: DataError) -> None:
        if on_error is None:
            raise error
        on_error(index, error)

    def length(index: int) -> int:
        prompt = prompts[index]
        return len(prompt.images) * collator.tokens_per_image + len(collator.tokenize(prompt.prefix))

    fit = []
    for index, prompt in enumerate(prompts):
        try:
            check_text("prefix", prompt.prefix)
            collator.check_locations(prompt.prefix)
            fit.append(index)
        except DataError as error:
            failed(index, error)
    order = sorted(fit, key=length)
    for start in range(0, len(order), batch_size):
        opened: list[tuple[int, Tensor]] = []
        sizes: list[tuple[int, int] | None] = []
        for index in order[start : start + batch_size]:
            try:
                pictures = [open_image(image) for image in prompts[index].images]
            except DataError as error:
                failed(index, error)
                continue
            opened.append((index, collator.pixels_of(pictures)))
            sizes.append(pictures[0].size if len(pictures) == 1 else None)
        if opened:
            answers = generate_batch(
                loaded,
                collator,
                [pixels for _, pixels in opened],
                [prompts[index].prefix for index, _ in opened],
                max_new_tokens=max_new_tokens,
                num_beams=num_beams,
            )
            for (index, _), answer, size in zip(opened, answers, sizes, strict=True):
                yield index, dataclasses.replace(answer, size=size)
