"""`data.cycle_references`: what is learnt in which epoch, and that all of it is checked beforehand."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
from conftest import interrupted_after, losses, recipe_for, write_rows

from pgtune import job, train
from pgtune.errors import DataError
from pgtune.example import Example
from pgtune.visits import Visits

ANSWERS = (["a"], ["b", "c"], ["d", "e", "f"], ["red", "green", "blue", "red"])


@pytest.fixture
def rows(tmp_path, pictures):
    """Four examples with one to four references."""
    return write_rows(
        tmp_path / "train.jsonl",
        [
            {"image": str(picture), "prefix": f"q{number}", "suffix": answers[0], "references": answers}
            for number, (picture, answers) in enumerate(zip(pictures, ANSWERS, strict=False))
        ],
    )


@pytest.fixture
def learnt(monkeypatch):
    """The suffixes that reached the collator in training, by prefix, in their order."""
    found = defaultdict(list)
    real = job.RowCollator.__call__

    def watched(self, items):
        for _, example in items:
            found[example.prefix].append(example.suffix)
        return real(self, items)

    monkeypatch.setattr(job.RowCollator, "__call__", watched)
    return found


def recipe(small_bases, rows, name, *more):
    # A batch is an epoch; the first two examples of a step are looked at before the first one too.
    overrides = ("train.max_steps=12", "train.save_steps=5", *more)
    return recipe_for(small_bases["paligemma2"], rows.parent, rows.parent / name, *overrides)


def test_all_references_are_learnt_in_turn(small_bases, rows, learnt):
    train(recipe(small_bases, rows, "run", "data.cycle_references=true"))
    for number, answers in enumerate(ANSWERS):
        seen = learnt[f"q{number}"][-12:]
        for start in range(0, 12, len(answers)):
            assert sorted(seen[start : start + len(answers)]) == sorted(answers)
    learnt.clear()
    train(recipe(small_bases, rows, "off"))
    assert [set(learnt[f"q{number}"]) for number in range(4)] == [{answers[0]} for answers in ANSWERS]


def test_a_resumed_run_learns_the_same_ones(small_bases, rows, monkeypatch):
    on = "data.cycle_references=true"
    train(recipe(small_bases, rows, "whole", on))
    with interrupted_after(7):
        train(recipe(small_bases, rows, "resumed", on))
    train(recipe(small_bases, rows, "resumed", on), resume=True)
    assert losses(rows.parent / "resumed") == losses(rows.parent / "whole")


@pytest.mark.parametrize(
    ("references", "words"),
    [
        (["b", "a very long answer that is of more tokens than are allowed here"], "data.max_text_tokens is 12"),
        (["b", ""], "one of the references is empty"),
        (["b", "c <eos>"], "references holds <eos>"),
    ],
)
def test_references_are_checked_before_training(small_bases, rows, pictures, references, words):
    more = {"image": str(pictures[0]), "prefix": "q", "suffix": "b", "references": references}
    with open(rows, "a", encoding="utf-8") as file:
        file.write(json.dumps(more) + "\n")
    knobs = ("data.cycle_references=true", "data.max_text_tokens=12")
    with pytest.raises(DataError, match=rf"train\.jsonl:5: .*{words}"):
        train(recipe(small_bases, rows, "run", *knobs))
    assert not (rows.parent / "run").exists()


def test_an_example_with_a_reference_that_is_too_long_may_be_left_out(small_bases, rows, pictures, learnt):
    references = ["b", "a very long answer that is of more tokens than are allowed here"]
    more = {"image": str(pictures[0]), "prefix": "q", "suffix": "b", "references": references}
    with open(rows, "a", encoding="utf-8") as file:
        file.write(json.dumps(more) + "\n")
    limit = ("data.max_text_tokens=12", "data.too_long=skip")
    train(recipe(small_bases, rows, "run", "data.cycle_references=true", *limit))
    assert "q" not in learnt


def test_a_key_that_changes_nothing_is_said(small_bases, pictures, tmp_path, capsys):
    rows = write_rows(tmp_path / "train.jsonl", [{"image": str(pictures[0]), "prefix": "q", "suffix": "b"}])
    train(recipe(small_bases, rows, "run", "data.cycle_references=true"))
    assert "no example has several references; data.cycle_references changes nothing" in capsys.readouterr().err


def test_how_many_keep_their_picture_is_said(small_bases, data, tmp_path):
    visits = Visits(recipe_for(small_bases["paligemma2"], data, tmp_path / "r", "augment.crop=0.5"))
    for prefix in ("what is left of it?", "what colour?", "on top"):
        visits.learnt(Example("a.png", prefix, "x"))
    assert visits.notes() == ["augment    2 examples name a side or place: changed in colour only"]
