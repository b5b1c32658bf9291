"""What cannot be learnt is not learnt: unpredictable suffixes, each seen once, never get below their entropy.

Three random digits and `<eos>`: the floor of an example's mean is 3 ln(10) / 4, as `<eos>` can be foreseen. A model
that gets below it sees what it must predict. The same training with a leaking mask does get below, so the test would
notice.
"""

from __future__ import annotations

import math
import random

import pytest
from conftest import GENERATIONS, losses, recipe_for, write_rows

from pgtune import forward, train
from pgtune.errors import TrainingError
from pgtune.selftests import write_random_base

FLOOR = 3 * math.log(10) / 4
STEPS, BATCH, WINDOW = 120, 8, 20
METHODS = {
    "full": (None, ()),
    "lora": ({"rank": 16, "alpha": 32}, ()),
    "qlora nf4": ({"rank": 16, "alpha": 32}, ("model.quantization=nf4",)),
    "qlora int8": ({"rank": 16, "alpha": 32}, ("model.quantization=int8",)),
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory, pictures):
    """As many examples as are seen, each with a suffix of its own."""
    folder = tmp_path_factory.mktemp("digits")
    generator = random.Random(0)
    rows = [
        {
            "image": str(pictures[index % len(pictures)]),
            "prefix": "read",
            "suffix": "".join(generator.choice("0123456789") for _ in range(3)),
        }
        for index in range(STEPS * BATCH)
    ]
    write_rows(folder / "train.jsonl", rows)
    return folder


def settings(steps):
    return (
        f"train.max_steps={steps}",
        f"train.batch_size={BATCH}",
        "train.learning_rate=3e-3",
        "data.verify_images=none",
    )


@pytest.fixture(scope="module")
def starts(tmp_path_factory, digits):
    """By generation a random base, and one that has learnt in 40 steps that digits come."""
    found = {}
    for generation in GENERATIONS:
        root = tmp_path_factory.mktemp(generation)
        base = write_random_base(root / "base", generation, spread=0.1, resolution=28)
        train(recipe_for(base, digits, root / "run", *settings(40), lora=None))
        found[generation] = {"random": base, "begun": root / "run" / "model"}
    return found


def windows(run):
    found = losses(run)
    assert len(found) == STEPS
    return [sum(found[start : start + WINDOW]) / WINDOW for start in range(STEPS - WINDOW + 1)]


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_never_gets_below_the_entropy(generation, starts, digits, tmp_path, method):
    lora, overrides = METHODS[method]
    base = starts[generation]["begun" if lora else "random"]
    train(recipe_for(base, digits, tmp_path / "run", *settings(STEPS), "seed=9", *overrides, lora=lora))
    means = windows(tmp_path / "run")
    assert min(means) > FLOOR - 0.02
    assert means[-1] < FLOOR + 0.25, "or the training never came near, and nothing was tested"


def one_too_far(valid, suffix):
    """Each suffix position sees the token it must predict, and no further."""
    rank = (suffix & valid).long().cumsum(-1)
    return ((rank[:, None, :] <= rank[:, :, None] + 1) & valid[:, None, :])[:, None]


@pytest.mark.parametrize(
    "method",
    [
        "full",
        "lora",
        pytest.param("qlora nf4", marks=pytest.mark.slow),
        pytest.param("qlora int8", marks=pytest.mark.slow),
    ],
)
def test_with_a_leaking_mask_it_does(generation, starts, digits, tmp_path, method, monkeypatch):
    """The negative control: the first batch's test, which would refuse this, is left out."""
    lora, overrides = METHODS[method]
    base = starts[generation]["begun" if lora else "random"]
    recipe = recipe_for(base, digits, tmp_path / "run", *settings(STEPS), "seed=9", *overrides, lora=lora)
    monkeypatch.setattr(forward, "prefix_lm_mask", one_too_far)
    with pytest.raises(TrainingError, match="would see what it must predict"):
        train(recipe)
    assert not (tmp_path / "run").exists(), "a refused training writes nothing"
    from pgtune import job
    from pgtune.probes import LeakProbe

    monkeypatch.setattr(job, "check_first_batch", lambda *_: LeakProbe(0.0, 1.0, 0.0))
    train(recipe)
    assert windows(tmp_path / "run")[-1] < FLOOR - 0.3
