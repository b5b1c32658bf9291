"""The first batch's test: passes on ours, catches broken masks, and shows the leak of a careless transformers call."""

from __future__ import annotations

import pytest
import torch

from pgtune import forward, probes
from pgtune.collate import Collator, prefix_lm_mask
from pgtune.errors import TrainingError
from pgtune.example import Example
from pgtune.methods import prepare
from pgtune.probes import LeakProbe, check_first_batch, probe_prefix_lm
from pgtune.selftests import examples, picture
from pgtune.settings import LoraSettings


def bidirectional(valid, suffix):
    return (valid[:, None, :] & valid[:, :, None] | torch.eye(valid.shape[1]).bool())[:, None]


def one_too_far(valid, suffix):
    """A suffix token sees the one it must predict: off by one."""
    rank = (suffix & valid).long().cumsum(-1)
    return ((rank[:, None, :] <= rank[:, :, None] + 1) & valid[:, None, :])[:, None]


def padding_visible(valid, suffix):
    rank = (suffix & valid).long().cumsum(-1)
    return (rank[:, None, :] <= rank[:, :, None])[:, None]


def suffix_alone(valid, suffix):
    """The suffix sees itself only: nothing leaks, and nothing is asked."""
    length = valid.shape[1]
    causal = torch.ones(length, length).tril().bool()
    same = suffix[:, None, :] == suffix[:, :, None]
    # the position that predicts the first suffix token is the separator, so it too is cut off
    return (same & causal & (suffix[:, :, None] | torch.eye(length).bool()))[:, None]


def causal(valid, suffix):
    length = valid.shape[1]
    lower = torch.ones(length, length).tril().bool()
    return (lower & valid[:, None, :] | torch.eye(length).bool())[:, None]


CASES = {
    "padded": examples(),
    "no padding": [examples()[0]] * 2,
    "one token": [examples()[1]],
    "several images": [Example([picture(0), picture(1)], "x", "two words"), Example([picture(2)] * 2, "y", "one")],
    "images in unequal number": [Example([picture(0), picture(1)], "x", "two"), Example(picture(2), "y", "one")],
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_our_mask_passes(bench, case, side):
    batch = Collator(bench.loaded.processor, padding_side=side)(CASES[case])
    probe = check_first_batch(bench.loaded.paligemma, batch, bench.loaded.attention)
    assert probe.leak == 0.0
    assert probe.prefix_effect > 1e-2


@pytest.mark.parametrize("broken", [bidirectional, one_too_far])
@pytest.mark.parametrize("case", CASES)
def test_a_leaking_mask_is_caught(bench, monkeypatch, broken, case):
    monkeypatch.setattr(forward, "prefix_lm_mask", broken)
    batch = Collator(bench.loaded.processor)(CASES[case])
    with pytest.raises(TrainingError, match=r"would see what it must predict.*Nothing was trained") as caught:
        check_first_batch(bench.loaded.paligemma, batch, bench.loaded.attention)
    assert caught.value.exit_code == 1


def test_visible_padding_is_caught(bench, monkeypatch):
    monkeypatch.setattr(forward, "prefix_lm_mask", padding_visible)
    batch = Collator(bench.loaded.processor, padding_side="left")(CASES["padded"])
    with pytest.raises(TrainingError, match="or padding"):
        check_first_batch(bench.loaded.paligemma, batch, bench.loaded.attention)


def test_a_suffix_that_does_not_see_the_prompt_is_caught(bench, monkeypatch):
    monkeypatch.setattr(forward, "prefix_lm_mask", suffix_alone)
    batch = Collator(bench.loaded.processor)(CASES["padded"])
    with pytest.raises(TrainingError, match="cannot depend on the question"):
        check_first_batch(bench.loaded.paligemma, batch, bench.loaded.attention)


def test_a_causal_mask_does_not_leak(bench, monkeypatch):
    """It is worse than ours (the papers' ablation) but the model sees no answer: not what this test is for."""
    monkeypatch.setattr(forward, "prefix_lm_mask", causal)
    batch = Collator(bench.loaded.processor)(CASES["padded"])
    assert check_first_batch(bench.loaded.paligemma, batch, bench.loaded.attention).leak == 0.0


@pytest.mark.parametrize("change", [{"quantization": "nf4"}, {"quantization": "int8"}, {"dtype": "bfloat16"}], ids=str)
def test_other_precisions_hide_no_leak(bench, generation, monkeypatch, change):
    """What a mask hides moves nothing at all, in any precision: int8's outlier columns are left out meanwhile."""
    loaded = prepare(bench.load(**change), LoraSettings(rank=4), None, seed=0)
    thresholds = [module.state.threshold for module in loaded.model.modules() if hasattr(module, "state")]
    for case in CASES.values():
        batch = Collator(loaded.processor)(case)
        monkeypatch.setattr(forward, "prefix_lm_mask", prefix_lm_mask)
        assert check_first_batch(loaded.paligemma, batch, loaded.attention).leak == 0.0
        for broken in (bidirectional, one_too_far):
            monkeypatch.setattr(forward, "prefix_lm_mask", broken)
            assert not probe_prefix_lm(loaded.paligemma, batch, loaded.attention).passed
    assert thresholds == [module.state.threshold for module in loaded.model.modules() if hasattr(module, "state")]


def test_the_careless_transformers_call_leaks(bases, monkeypatch):
    """PaliGemma 1 with sdpa and without token_type_ids or our mask: what this test was invented for (traps T1)."""
    from pgtune.selftests import Bench

    loaded = Bench("paligemma", bases["paligemma"], torch.device("cpu")).load(attention="sdpa")

    def careless(paligemma, batch, backend):
        return paligemma.model(
            input_ids=batch.input_ids, pixel_values=batch.pixel_values, attention_mask=batch.valid.long()
        ).last_hidden_state

    batch = Collator(loaded.processor)(CASES["no padding"])
    assert probe_prefix_lm(loaded.paligemma, batch, "sdpa").leak == 0.0
    monkeypatch.setattr(probes, "hidden_states", careless)
    with pytest.raises(TrainingError, match="would see what it must predict"):
        check_first_batch(loaded.paligemma, batch, "sdpa")


def test_the_mode_is_left_as_it_was(bench):
    loaded = bench.load()
    batch = Collator(loaded.processor)(CASES["no padding"])
    loaded.model.train()
    check_first_batch(loaded.paligemma, batch, loaded.attention)
    assert loaded.model.training


def test_noise_of_the_device_is_no_leak_and_no_effect():
    assert LeakProbe(leak=0.02, prefix_effect=1.0, tolerance=1e-3, noise=0.01).passed
    assert not LeakProbe(leak=0.03, prefix_effect=1.0, tolerance=1e-3, noise=0.01).passed
    assert not LeakProbe(leak=0.0, prefix_effect=0.02, tolerance=1e-3, noise=0.01).passed
