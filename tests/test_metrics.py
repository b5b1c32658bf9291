"""Every metric against values worked out by hand, and against text of any kind."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from pgtune.metrics import compute, load_metric
from pgtune.metrics.documents import anls, chartqa_relaxed
from pgtune.metrics.exact import exact_match, exact_match_lower, science_qa, tallyqa
from pgtune.metrics.overlap import token_f1, token_recall
from pgtune.metrics.vqa import normalise_vqav2, vqa, vqav2
from pgtune.names import METRIC_HELP, METRICS

ODD_TEXTS = [
    "", " ", "\n", "\t\n", "%", "nan", "inf", "-", "…", "é", "日本語", "🎼𝄞", "\ud800", "\x00", "a\nb\r\nc",
    "<loc0001>",
    "'", "(", "1e999", "1_0", "٣", "İ", "the", "x" * 500,
]  # fmt: skip


LABELS = {"rsvqa": {"question_types": ["comp"]}, "medvqa": {"parts": ["open"]}}


def labels(name: str, n: int) -> dict[str, list[str]]:
    """What a metric needs of each example besides."""
    return {key: values * n for key, values in LABELS.get(name, {}).items()}


def value(name: str, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    return compute(name, predictions, references, **labels(name, len(predictions))).value


def test_every_metric_loads_and_has_help() -> None:
    assert list(METRICS) == sorted(METRICS)
    assert METRICS.keys() == METRIC_HELP.keys()
    for name in METRICS:
        load_metric(name)


@pytest.mark.parametrize("name", sorted(METRICS.keys() - {"map", "omr_ned"}))
def test_no_text_makes_a_metric_raise(name: str) -> None:
    predictions = [text for text in ODD_TEXTS for _ in ODD_TEXTS]
    references = [[text, text] for _ in ODD_TEXTS for text in ODD_TEXTS]
    score = compute(name, predictions, references, **labels(name, len(predictions)))
    assert math.isfinite(score.value)
    assert score.low <= score.value <= score.high
    if score.per_example is not None:
        assert len(score.per_example) == score.n == len(ODD_TEXTS) ** 2
        assert all(math.isfinite(each) and each >= 0 for each in score.per_example)


@pytest.mark.parametrize("name", sorted(METRICS.keys() - {"science_qa", "map", "omr_ned"}))
def test_perfect_predictions_get_the_best_value(name: str) -> None:
    # Four different sentences of four words and more, so that BLEU and CIDEr have n-grams of every length.
    texts = ["a dog runs on grass", "two red cars stand here", "the bridge spans a river", "many tall trees grow there"]
    best = {"cider": 10.0, "cer": 0.0, "wer": 0.0, "ser": 0.0, "ler": 0.0}.get(name, 1.0)
    assert value(name, texts, [[text] * 10 for text in texts]) == pytest.approx(best)


def test_exact_match_normalises_nothing() -> None:
    assert exact_match("Yes", ["no", "Yes"]) == 1
    for prediction in ("yes", "Yes ", "Yes.", "\nYes", ""):
        assert exact_match(prediction, ["Yes"]) == 0
    assert exact_match("", [""]) == 1


def test_exact_match_lower_changes_case_only() -> None:
    assert exact_match_lower("YES", ["no", "Yes"]) == 1
    assert exact_match_lower("yes ", ["yes"]) == 0


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("2", "two", 1), ("Two", "2", 1), ("none", "0", 1), ("zero", "none", 1), ("twenty", "20", 1),
        ("twenty one", "21", 0), ("two ", "2", 0), ("02", "2", 0), ("Cat", "cat", 0),
    ],
)  # fmt: skip
def test_tallyqa(prediction: str, reference: str, expected: float) -> None:
    assert tallyqa(prediction, [reference]) == expected


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("The answer is B.", 1), ("the answer is b. because it is", 1), ("the answer is a.", 0), ("b", 0),
        ("So the answer is b.", 0), ("the answer is b", 0), ("", 0),
    ],
)  # fmt: skip
def test_science_qa(prediction: str, expected: float) -> None:
    assert science_qa(prediction, ["The answer is B."]) == expected


def test_science_qa_never_rewards_two_texts_that_cannot_be_read() -> None:
    assert science_qa("b", ["b"]) == 0


def test_vqa_counts_matches_in_thirds() -> None:
    for matches, expected in enumerate((0, 1 / 3, 2 / 3, 1, 1)):
        answers = ["yes"] * matches + ["no"] * (10 - matches)
        assert vqa("yes", answers) == pytest.approx(expected)
    assert vqa("Yes", ["yes"] * 10) == 0
    assert vqa("yes", ["yes"]) == 1, "a single reference is a single answer"


def test_vqav2_leaves_each_answer_out_in_turn() -> None:
    # Three of ten agree: leaving out one of the three leaves 2/3, leaving out another one leaves 1.
    assert vqav2("yes", ["yes"] * 3 + ["no"] * 7) == pytest.approx((3 * 2 / 3 + 7) / 10)
    assert vqav2("yes", ["yes"] * 2 + ["no"] * 8) == pytest.approx((2 * 1 / 3 + 8 * 2 / 3) / 10)
    assert vqav2("yes", ["yes"] + ["no"] * 9) == pytest.approx(0.3)
    assert vqav2("yes", ["yes"] * 4 + ["no"] * 6) == 1


def test_vqav2_normalises_only_where_answers_differ() -> None:
    assert vqav2("The cat", ["cat"] * 10) == 0
    assert vqav2("The cat", ["cat"] * 9 + ["dog"]) == 1
    assert vqav2(" cat\n", ["cat\t"] * 10) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Two dogs", "2 dogs"),
        ("none", "0"),
        ("eleven", "eleven"),
        ("dont", "don't"),
        ("shouldntve shouldnt've", "shouldntve shouldn't've"),
        ("somebody'd", "somebodyd"),
        ("black/white", "black white"),
        ("black / white", "black white"),
        ("yes, sir", "yes sir"),
        ("yes,sir", "yes sir"),
        ("1,000", "1000"),
        # One number with a comma deletes every mark that would have become a space.
        ("1,000-2,000", "10002000"),
        # The official look-behind is misspelt: a full stop goes unless a digit follows.
        ("3.5", "3.5"),
        ("3.", "3"),
        ("a.m.", "am"),
        ("e.g. .5", "eg .5"),
        ("it's 5:30", "it's 5:30"),
        ("an apple a day", "apple day"),
    ],
)
def test_normalise_vqav2(text: str, expected: str) -> None:
    assert normalise_vqav2(text) == expected


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        ("hello", ["hello"], 1),
        ("Hello", ["hELLO"], 1),
        ("hallo", ["hello"], 0.8),
        ("hello ", ["hello"], 5 / 6),
        ("abcd", ["abxy"], 0),  # exactly one half is already nothing
        ("abcde", ["abcxy"], 0.6),
        ("hallo", ["nothing", "hello"], 0.8),
        ("", ["hello"], 0),
        ("", [""], 1),
        ("x", [""], 0),
    ],
)
def test_anls(prediction: str, references: list[str], expected: float) -> None:
    assert anls(prediction, references) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("105", "100", 1),
        ("95", "100", 1),
        ("105.1", "100", 0),
        ("94.9", "100", 0),
        ("-10", "-10.4", 1),
        ("10", "-10", 0),
        ("50%", "0.5", 1),
        ("50%", "50", 0),
        ("51%", "50%", 1),
        ("0", "0", 1),
        ("0.0", "0", 0),
        ("0.01", "0", 0),
        ("1,000", "1000", 0),
        ("$5", "5", 0),
        ("Yes", "yes", 1),
        ("yes ", "yes", 0),
        ("5", "five", 0),
        ("-3", "-3.1", 1),
        ("-3", "3", 0),
        ("5%", "0.05", 1),
        ("0.05", "5%", 1),
        ("1,234", "1,234", 1),
        ("1,234", "1234", 0),
        ("1e3", "1000", 1),
        ("٣", "3", 1),  # an Arabic three: float() reads it
        (" 5 ", "5", 1),
        ("0%", "0", 0),
        ("-0", "0", 0),
        ("nan", "nan", 0),  # as in the source: a number within 5 % of nothing
        ("inf", "inf", 0),
        ("1e400", "1e400", 0),
        ("inf", "5", 0),
        ("%", "%", 1),
        ("", "5", 0),
    ],
)
def test_chartqa_relaxed(prediction: str, reference: str, expected: float) -> None:
    assert chartqa_relaxed(prediction, [reference]) == expected
    assert chartqa_relaxed(prediction, ["something else", reference]) == expected


@pytest.mark.parametrize(
    ("prediction", "reference", "f1", "recall"),
    [
        ("The left lung", "left lung.", 1, 1),
        ("left lung", "left upper lung", 0.8, 2 / 3),
        ("lung lung", "lung", 2 / 3, 1),
        ("heart", "lung", 0, 0),
        ("", "lung", 0, 0),
        ("the", "", 1, 1),
        ("lung", "", 0, 0),
    ],
)
def test_token_overlap(prediction: str, reference: str, f1: float, recall: float) -> None:
    assert token_f1(prediction, [reference]) == pytest.approx(f1)
    assert token_recall(prediction, [reference]) == pytest.approx(recall)
    assert token_f1(prediction, ["kidney stone", reference]) == pytest.approx(f1)


def test_error_rates_are_pooled_over_the_set() -> None:
    # Two errors in 10 characters, none in 30: 2 / 40, not the mean of 0.2 and 0.
    score = compute("cer", ["abcdefghXY", "z" * 30], [["abcdefghij"], ["z" * 30]])
    assert score.value == pytest.approx(0.05)
    assert score.per_example == pytest.approx((0.2, 0.0))
    assert score.also == pytest.approx({"mean": 0.1})
    assert not score.higher_is_better


def test_error_rates_equal_the_sheet_music_transformers() -> None:
    """Values of ``compute_poliphony_metrics`` of antoniorv6/SMT (afcdefd) for these four systems."""
    truths = ["**kern\t**kern\n4c\t4e\n8d 8f\t.\n*-\t*-", "=\t=\n4GG#\t2r", "[4A\t16ff\n.\t(8dd)", "4c 4e 4g"]
    wrong = ["**kern\t**kern\n4c\t4d\n8d 8f\t4g\n*-\t*-", "=\t=\n4GG\t2r", "[4A\t16ff", "4c 4g"]
    found = [100 * value(name, wrong, [[truth] for truth in truths]) for name in ("cer", "ser", "ler")]
    assert found == pytest.approx([22.058823529411764, 24.242424242424242, 55.55555555555556])


def test_error_rates_by_level() -> None:
    reference = "**kern\t**kern\n4c 4e\t2g\n*-\t*-"
    prediction = "**kern\t**kern\n4c 4f\t2g\n*-\t*-"
    assert value("cer", [prediction], [[reference]]) == pytest.approx(1 / len(reference))
    # Seven words, three tabs and two line breaks; one word is wrong.
    assert value("ser", [prediction], [[reference]]) == pytest.approx(1 / 12)
    assert value("wer", [prediction], [[reference]]) == pytest.approx(1 / 7)
    assert value("ler", [prediction], [[reference]]) == pytest.approx(1 / 3)


def test_error_rates_of_empty_and_long_texts() -> None:
    assert value("cer", [""], [["abc"]]) == 1
    assert value("cer", ["abcdef"], [["abc"]]) == 1
    assert value("cer", ["abcdefg"], [["abc"]]) == pytest.approx(4 / 3)
    assert value("cer", ["abc"], [[""]]) == 3, "no length to divide by: the distance itself"
    assert value("cer", [""], [[""]]) == 0
    assert value("ler", [""], [["a\nb"]]) == 1


def test_error_rates_take_the_nearest_reference() -> None:
    assert value("wer", ["a b c d"], [["x y", "a b c"]]) == pytest.approx(1 / 3)
