"""Decoding: batched is one by one is a full forward; beams; probabilities."""

from __future__ import annotations

import itertools

import pytest
import torch

from pgtune.collate import Batch, Collator
from pgtune.errors import DataError
from pgtune.forward import hidden_states
from pgtune.generation import Prompt, generate
from pgtune.selftests import Bench, picture, write_random_base

PROMPTS = [
    Prompt((picture(0),), "answer en what is this?"),
    Prompt((picture(1),), ""),
    Prompt((picture(2), picture(3)), "which <loc0100>"),
    Prompt((picture(4),), "a longer prompt than all of the others here"),
    Prompt((picture(5),), "x"),
]


@pytest.fixture(scope="module")
def tame(tmp_path_factory, generation):
    """A random model whose answers are not all the same token over and over."""
    folder = write_random_base(tmp_path_factory.mktemp(generation), generation, spread=0.15, resolution=28, seed=1)
    return Bench(generation, folder, torch.device("cpu"))


def decode(tame, prompts=PROMPTS, **more):
    settings = {"max_new_tokens": 6, "batch_size": 3, **more}
    found = dict(generate(tame.loaded, tame.collator, prompts, **settings))
    return [found[index] for index in range(len(prompts))]


@torch.no_grad()
def log_probabilities(tame, prompt, ids):
    """Of each of `ids` after the prompt, by one full forward with our own mask."""
    prompt_ids = tame.collator.prompt_ids(len(prompt.images), tame.collator.tokenize(prompt.prefix))
    every = torch.tensor([prompt_ids + ids])
    suffix = torch.tensor([[False] * len(prompt_ids) + [True] * len(ids)])
    batch = Batch(tame.collator.pixels(prompt.images), every, torch.ones_like(suffix), suffix, every)
    states = hidden_states(tame.loaded.paligemma, batch, tame.loaded.attention)
    logits = tame.loaded.paligemma.lm_head(states[0, len(prompt_ids) - 1 :]).double()
    return logits.log_softmax(-1)


def by_hand(tame, prompt, steps=6):
    """Greedy decoding without a cache, a full forward for each token."""
    ids, total = [], 0.0
    for _ in range(steps):
        best = log_probabilities(tame, prompt, ids)[-1].max(-1)
        ids.append(int(best.indices))
        total += float(best.values)
        if ids[-1] == tame.collator.eos_id:
            break
    return ids, total / len(ids)


def text_of(tame, ids):
    return tame.loaded.processor.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def test_greedy_is_a_full_forward_for_each_token(tame):
    for prompt, answer in zip(PROMPTS, decode(tame), strict=True):
        ids, mean = by_hand(tame, prompt)
        assert answer.text == text_of(tame, ids)
        assert answer.tokens == len(ids)
        assert answer.mean_log_probability == pytest.approx(mean, abs=1e-4)


def test_batched_is_one_by_one(tame):
    alone = decode(tame, batch_size=1)
    for batch_size in (2, 5):
        for one, other in zip(alone, decode(tame, batch_size=batch_size), strict=True):
            assert (one.text, one.tokens) == (other.text, other.tokens)
            assert other.mean_log_probability == pytest.approx(one.mean_log_probability, abs=1e-5)


def test_an_answer_ends_at_eos(tame, monkeypatch):
    """Made to end: a token that is generated is declared to be `<eos>`. Others in the batch go on."""
    ids = [by_hand(tame, prompt)[0] for prompt in PROMPTS]
    end = ids[0][1]
    collator = Collator(tame.loaded.processor)
    collator.eos_id = end
    found = dict(generate(tame.loaded, collator, PROMPTS, max_new_tokens=6, batch_size=5))
    assert found[0].tokens == ids[0].index(end) + 1
    for index, one in enumerate(ids):
        cut = one[: one.index(end) + 1] if end in one else one
        assert found[index].tokens == len(cut)
        each = log_probabilities(tame, PROMPTS[index], cut[:-1])
        wanted = sum(float(row[token]) for row, token in zip(each, cut, strict=True)) / len(cut)
        assert found[index].mean_log_probability == pytest.approx(wanted, abs=1e-4)


def test_the_mean_log_probability_is_that_of_teacher_forcing(tame):
    prompt, answer = PROMPTS[0], decode(tame)[0]
    ids, _ = by_hand(tame, prompt)
    each = log_probabilities(tame, prompt, ids[:-1])
    wanted = sum(float(row[token]) for row, token in zip(each, ids, strict=True)) / len(ids)
    assert answer.mean_log_probability == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
def test_each_token_has_its_probability(tame, beams):
    for prompt, answer in zip(PROMPTS, decode(tame, num_beams=beams), strict=True):
        assert text_of(tame, list(answer.ids)) == answer.text
        assert answer.finished == (len(answer.ids) < answer.tokens)
        assert answer.size == ((112, 112) if len(prompt.images) == 1 else None)
        each = log_probabilities(tame, prompt, list(answer.ids))
        wanted = [float(row[token]) for row, token in zip(each, answer.ids, strict=False)]
        assert list(answer.log_probabilities) == pytest.approx(wanted, abs=1e-4)
        end = [float(each[-1][tame.collator.eos_id])] if answer.finished else []
        assert answer.mean_log_probability == pytest.approx(sum([*wanted, *end]) / answer.tokens, abs=1e-4)


def test_beams_find_the_most_likely_answer(tame):
    """Two tokens with as many beams as make the search exhaustive enough, against a look at every pair."""
    prompt = PROMPTS[1]
    first = log_probabilities(tame, prompt, [])[0]
    likely = first.topk(12).indices.tolist()
    best = max(
        (
            (float(first[one] + second[two]), [one, two])
            for one in likely
            if one != tame.collator.eos_id
            for second in [log_probabilities(tame, prompt, [one])[-1]]
            for two in second.topk(3).indices.tolist()
        ),
        key=lambda pair: pair[0],
    )
    (answer,) = decode(tame, [prompt], num_beams=12, max_new_tokens=2)
    assert answer.text == text_of(tame, best[1])
    assert answer.mean_log_probability == pytest.approx(best[0] / 2, abs=1e-4)


def test_beams_are_never_worse_than_greedy_here_and_the_same_in_a_batch(tame):
    greedy, beams = decode(tame), decode(tame, num_beams=3)
    alone = decode(tame, num_beams=3, batch_size=1)
    for one, other, single in zip(greedy, beams, alone, strict=True):
        assert other.mean_log_probability * other.tokens >= one.mean_log_probability * one.tokens - 1e-4
        assert other.text == single.text
        assert other.mean_log_probability == pytest.approx(single.mean_log_probability, abs=1e-4)


def test_a_bad_picture_is_told_apart_from_the_others(tame, tmp_path):
    prompts = [PROMPTS[0], Prompt((str(tmp_path / "none.png"),), "x"), PROMPTS[1]]
    errors = []
    found = dict(
        generate(
            tame.loaded,
            tame.collator,
            prompts,
            max_new_tokens=2,
            batch_size=3,
            on_error=lambda index, error: errors.append((index, str(error))),
        )
    )
    assert found.keys() == {0, 2}
    ((index, message),) = errors
    assert index == 1
    assert "none.png: no such file" in message
    with pytest.raises(DataError, match=r"none\.png"):
        list(itertools.chain(generate(tame.loaded, tame.collator, prompts, max_new_tokens=2, batch_size=3)))
