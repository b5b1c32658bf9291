"""Steps, data order and learning rate as pure functions."""

from __future__ import annotations

import math
from itertools import chain

import pytest

from pgtune.schedule import (
    dropout_seed,
    epoch_order,
    learning_rate_factor,
    micro_batches,
    reference_index,
    step_indices,
    step_visits,
    total_steps,
)


@pytest.mark.parametrize(
    ("examples", "batch", "epochs", "max_steps", "steps"),
    [(100, 8, 1.0, None, 12), (100, 8, 2.0, None, 25), (100, 8, 0.5, None, 6), (3, 8, 1.0, None, 1), (3, 8, 9.0, 7, 7)],
)
def test_total_steps(examples, batch, epochs, max_steps, steps):
    assert total_steps(examples, batch, epochs, max_steps) == steps


def test_each_epoch_reads_every_example_once_in_another_order():
    steps = [step_indices(5, step, 12, 4) for step in range(6)]
    first, second = (list(chain(*steps[start : start + 3])) for start in (0, 3))
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    assert first == epoch_order(5, 0, 12).tolist()
    assert step_indices(6, 0, 12, 4) != steps[0]


def test_a_batch_reaches_into_the_next_epoch():
    seen = list(chain(*(step_indices(0, step, 10, 4) for step in range(5))))
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert len(step_indices(0, 0, 3, 8)) == 8, "more than the data holds"


@pytest.mark.parametrize(("batch", "accumulation", "ranks"), [(8, 1, 1), (2, 4, 1), (1, 8, 1), (4, 1, 2), (2, 2, 2)])
def test_what_a_step_sees_does_not_depend_on_how_it_is_split(batch, accumulation, ranks):
    for step in (0, 3, 7):
        seen = []
        for rank in range(ranks):
            found = list(micro_batches(1, range(step, step + 1), 30, batch, accumulation, rank, ranks))
            assert [len(one) for one in found] == [batch] * accumulation
            seen += chain(*found)
        assert seen == step_visits(1, step, 30, 8)
        assert [visit % 30 for visit in seen] == step_indices(1, step, 30, 8)
        assert [visit // 30 for visit in seen] == [(8 * step + place) // 30 for place in range(8)]


@pytest.mark.parametrize("references", [1, 2, 5, 10])
def test_references_are_learnt_in_turn_and_none_twice_before_all_were(references):
    seen = [reference_index(7, 3, epoch, references) for epoch in range(4 * references)]
    for turn in range(4):
        assert sorted(seen[turn * references : (turn + 1) * references]) == list(range(references))
    if references == 10:
        assert len({tuple(seen[turn * 10 : turn * 10 + 10]) for turn in range(4)}) == 4, "each round in its own order"
        assert seen != [reference_index(7, 4, epoch, 10) for epoch in range(40)], "another example, another order"
        assert seen != [reference_index(8, 3, epoch, 10) for epoch in range(40)], "another seed, another order"
    firsts = [reference_index(0, example, 0, references) for example in range(400)]
    counts = [firsts.count(index) for index in range(references)]
    assert min(counts) > 200 / references, "in the first epoch each is as likely as another"


def test_a_resumed_range_goes_on_where_the_whole_one_would():
    whole = list(micro_batches(2, range(10), 7, 3, 2))
    assert list(micro_batches(2, range(4, 10), 7, 3, 2)) == whole[8:]


def test_cosine_with_warm_up_by_hand():
    """Twenty steps, two of them warm-up: 0, 1/2, then the cosine of the 18 that are left."""
    factors = [learning_rate_factor(step, 20, "cosine", 0.1) for step in range(20)]
    wanted = [0.0, 0.5] + [0.5 * (1 + math.cos(math.pi * k / 18)) for k in range(18)]
    assert factors == pytest.approx(wanted, abs=1e-12)
    assert factors[2] == 1.0
    assert factors[11] == pytest.approx(0.5)
    assert 0 < factors[-1] < 0.01


def test_linear_and_constant_by_hand():
    assert [learning_rate_factor(step, 4, "linear", 0.0) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]
    assert [learning_rate_factor(step, 4, "linear", 0.25) for step in range(4)] == pytest.approx([0, 1, 2 / 3, 1 / 3])
    assert [learning_rate_factor(step, 4, "constant", 0.5) for step in range(4)] == [0.0, 0.5, 1.0, 1.0]


def test_a_run_of_one_step_is_at_the_peak():
    assert learning_rate_factor(0, 1, "cosine", 0.05) == 1.0
    assert learning_rate_factor(0, 5, "cosine", 0.05) == 1.0, "5 % of five steps is none"


def test_dropout_seeds_differ_and_stay():
    seeds = {dropout_seed(0, step, micro, rank) for step in range(4) for micro in range(3) for rank in range(2)}
    assert len(seeds) == 24
    assert dropout_seed(7, 1, 2, 0) == dropout_seed(7, 1, 2, 0)
    assert all(0 <= seed < 2**63 for seed in seeds)
