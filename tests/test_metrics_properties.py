"""What holds for every metric and any text."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgtune.locations import encode_detections
from pgtune.metrics import compute, load_metric
from pgtune.names import METRICS

TEXT = st.text(alphabet=st.one_of(st.sampled_from(" .,'-%0123456789abnotyes|\n\t"), st.characters()), max_size=20)
CASES = st.lists(st.tuples(TEXT, st.lists(TEXT, min_size=2, max_size=3)), min_size=1, max_size=6)
OF_TEXT = sorted(METRICS.keys() - {"map", "omr_ned"})  # whose references are boxes, and music
quick = settings(max_examples=40, deadline=None, derandomize=True)


def scored(name: str, predictions: list[str], references: list[list[str]]) -> Any:
    more: dict[str, Any] = {"rsvqa": {"question_types": ["t"]}, "medvqa": {"parts": ["open"]}}.get(name, {})
    return compute(name, predictions, references, **{key: values * len(predictions) for key, values in more.items()})


@pytest.mark.parametrize("name", OF_TEXT)
@quick
@given(cases=CASES)
def test_any_text_has_a_value_within_bounds(name: str, cases: list[tuple[str, list[str]]]) -> None:
    score = scored(name, [prediction for prediction, _ in cases], [accepted for _, accepted in cases])
    most = {"cider": 10 + 1e-9}.get(name, 1 + 1e-9) if score.higher_is_better else math.inf
    assert 0 <= score.low <= score.value <= score.high <= most
    assert all(0 <= value <= most for value in score.per_example or ())
    assert all(value >= 0 for value in score.also.values())


@pytest.mark.parametrize("name", sorted(set(OF_TEXT) - {"science_qa", "bleu", "cider", "chartqa_relaxed", "rms"}))
@quick
@given(texts=st.lists(TEXT, min_size=1, max_size=6))
def test_the_reference_itself_is_the_best_answer(name: str, texts: list[str]) -> None:
    # Not for BLEU and CIDEr (short texts have no runs of four), nor where "nan" is a number (ChartQA's code).
    score = scored(name, texts, [[text] * 4 for text in texts])
    if name == "medvqa":
        assert score.value == 1
    else:
        assert score.value == pytest.approx(1.0 if load_metric(name).higher_is_better else 0.0)


# Not BLEU, ROUGE-L and CIDEr of any text: their tokenizer sees the beginning of the next caption ("A." before "The").
@pytest.mark.parametrize("name", OF_TEXT)
@quick
@given(cases=CASES, seed=st.integers(0, 9))
def test_the_order_of_examples_does_not_matter(name: str, cases: list[tuple[str, list[str]]], seed: int) -> None:
    cases = [(one.replace(".", ""), [text.replace(".", "") for text in several]) for one, several in cases]
    other = random.Random(seed).sample(cases, len(cases))
    first, second = (
        scored(name, [one for one, _ in each], [several for _, several in each]) for each in (cases, other)
    )
    assert second.value == pytest.approx(first.value)
    assert second.also == pytest.approx(first.also)


@pytest.mark.parametrize("name", ["exact_match", "anls", "vqa", "token_f1", "rms", "chartqa_relaxed"])
@quick
@given(prediction=TEXT, references=st.lists(TEXT, min_size=4, max_size=5), more=TEXT)
def test_another_reference_never_lowers_the_score(name: str, prediction: str, references: list[str], more: str) -> None:
    fewer = scored(name, [prediction], [references]).value
    assert scored(name, [prediction], [[*references, more]]).value >= fewer - 1e-12


FRACTION = st.integers(0, 1023)
OBJECT = st.tuples(st.tuples(FRACTION, FRACTION, FRACTION, FRACTION), st.sampled_from(["cat", "dog", ""]))
SCENES = st.lists(st.tuples(st.lists(OBJECT, max_size=4), st.lists(OBJECT, max_size=4)), min_size=1, max_size=4)


def text(objects: list[tuple[tuple[int, int, int, int], str]]) -> str:
    """Boxes with some area."""
    return encode_detections(
        ((min(a, c) / 1100, min(b, d) / 1100, (max(a, c) + 30) / 1100, (max(b, d) + 30) / 1100), label)
        for (a, b, c, d), label in objects
    )


@settings(max_examples=25, deadline=None, derandomize=True)
@given(scenes=SCENES)
def test_map_of_any_boxes(scenes: list[tuple[list[Any], list[Any]]]) -> None:
    references = [[text(true)] for _, true in scenes]
    score = compute("map", [text(found) for found, _ in scenes], references)
    assert 0 <= score.low <= score.value <= score.high <= 1
    assert 0 <= score.also.get("ap75", 0) <= score.also.get("ap50", 0) + 1e-9
    if any(true for _, true in scenes):
        itself = compute("map", [accepted[0] for accepted in references], references)
        assert itself.value == pytest.approx(1.0)
