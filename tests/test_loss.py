"""The loss: against transformers' own, against hand formulas, in both reductions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pgtune import loss as loss_module
from pgtune.collate import Collator
from pgtune.forward import SuffixLossModel
from pgtune.loss import suffix_loss
from pgtune.selftests import examples


def ours(loaded, batch, smoothing=0.0):
    return SuffixLossModel(loaded.model, loaded.paligemma, loaded.attention, smoothing)(batch)


@torch.no_grad()
@pytest.mark.parametrize("chosen", [[0], [1], [2], [0, 1, 2]], ids=str)
def test_token_reduction_is_transformers_loss(bench, chosen):
    loaded = bench.loaded
    batch = Collator(loaded.processor)([examples()[index] for index in chosen])
    theirs = loaded.paligemma(
        input_ids=batch.input_ids,
        pixel_values=batch.pixel_values,
        attention_mask=batch.valid.long(),
        token_type_ids=batch.suffix.long(),
        labels=batch.labels,
    ).loss
    loss = ours(loaded, batch)
    assert float(loss.token_sum() / loss.tokens.sum()) == pytest.approx(float(theirs), rel=1e-5)
    assert loss.tokens.tolist() == batch.suffix.sum(-1).tolist()


@torch.no_grad()
def test_example_reduction_is_the_mean_of_means(bench):
    loaded, collator = bench.loaded, Collator(bench.loaded.processor)
    together = ours(loaded, collator(examples()))
    alone = [ours(loaded, collator([example])) for example in examples()]
    means = [float(loss.total[0] / loss.tokens[0]) for loss in alone]
    assert float(together.example_sum()) / 3 == pytest.approx(sum(means) / 3, rel=1e-5)
    by_token = sum(float(loss.total[0]) for loss in alone) / sum(int(loss.tokens[0]) for loss in alone)
    assert float(together.token_sum() / together.tokens.sum()) == pytest.approx(by_token, rel=1e-5)
    assert sum(means) / 3 != pytest.approx(by_token, rel=1e-3), "the two reductions are different things"


def case():
    """Two rows over five classes; row 0 learns classes 3, 1 and row 1 learns class 4."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64).float()
    head = nn.Linear(3, 5, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.randn(5, 3, generator=generator))
    labels = torch.tensor([[-100, -100, 3, 1], [-100, 4, -100, -100]])
    return hidden, head, labels


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_the_hand_formula(smoothing, softcap):
    hidden, head, labels = case()
    loss = suffix_loss(hidden, labels, head, label_smoothing=smoothing, softcap=softcap)
    wanted = [0.0, 0.0]
    for row, position, target in ((0, 1, 3), (0, 2, 1), (1, 0, 4)):  # the hidden state before the target predicts it
        logits = [float(value) for value in head.weight.detach() @ hidden[row, position]]
        if softcap:
            logits = [softcap * math.tanh(value / softcap) for value in logits]
        total = math.log(sum(math.exp(value) for value in logits))
        for index, value in enumerate(logits):
            share = 1 - smoothing if index == target else smoothing / 4
            wanted[row] -= share * (value - total)
    assert loss.total.tolist() == pytest.approx(wanted, rel=1e-5)
    assert loss.tokens.tolist() == [2, 1]


def test_logits_are_computed_where_something_is_learnt_and_nowhere_else():
    hidden, head, labels = case()
    rows = []
    head.register_forward_hook(lambda module, inputs, output: rows.append(inputs[0].shape[0]))
    suffix_loss(hidden, labels, head)
    assert rows == [3]


def test_a_batch_without_a_target_is_refused():
    hidden, head, labels = case()
    with pytest.raises(ValueError, match="no supervised position"):
        suffix_loss(hidden, torch.full_like(labels, -100), head)


def test_the_loss_is_computed_in_float32_whatever_the_hidden_states():
    hidden, head, labels = case()
    loss = suffix_loss(hidden.bfloat16(), labels, head.bfloat16())
    assert loss.total.dtype == torch.float32


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("reduction", ["example_sum", "token_sum"])
def test_chunks_change_neither_loss_nor_gradient(monkeypatch, smoothing, softcap, reduction):
    """Three rows of 5, 12 and 3 tokens, in chunks of 4: a chunk begins in the middle of a row, the last is short."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(3, 14, 8, generator=generator)
    head = nn.Linear(8, 50, bias=False)
    labels = torch.full((3, 14), -100)
    for row, count in enumerate((5, 12, 3)):
        labels[row, -count:] = torch.randint(0, 50, (count,), generator=generator)

    def gradients(chunk):
        monkeypatch.setattr(loss_module, "CHUNK", chunk)
        states = hidden.clone().requires_grad_(True)
        head.weight.grad = None
        rows = []
        handle = head.register_forward_hook(lambda module, inputs, output: rows.append(inputs[0].shape[0]))
        loss = getattr(suffix_loss(states, labels, head, label_smoothing=smoothing, softcap=softcap), reduction)()
        seen = list(rows)
        loss.backward()
        handle.remove()
        return loss.detach(), states.grad, head.weight.grad.clone(), seen, rows

    whole, pieces = gradients(100), gradients(4)
    for one, other in zip(whole[:3], pieces[:3], strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)
    assert whole[3:] == ([20], [20])
    assert pieces[3:] == ([4] * 5, [4] * 10), "no more than a chunk at once, and each again in the backward pass"


def test_the_longest_chunk_is_a_quarter_of_a_gigabyte():
    assert loss_module.CHUNK * 257_216 * 4 < 2**28
