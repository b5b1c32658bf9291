"""Intervals, the trivial answer, and scoring a file: what is wrong in it is named by file and row."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Sequence
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgtune.errors import DataError, RecipeError
from pgtune.metrics import Score, compute, load_metric, score_file, trivial_answer
from pgtune.metrics.intervals import bootstrap_interval, wilson_interval
from pgtune.metrics.show import columns, rows, summary

GOOD = '{"prediction": "yes", "references": ["yes"]}'


def test_value_and_wilson_interval_of_right_and_wrong() -> None:
    score = compute("exact_match", ["a"] * 63 + ["b"] * 37, [["a"]] * 100)
    assert (score.value, score.n, score.confidence, score.higher_is_better) == (0.63, 100, 0.95, True)
    # Newcombe's worked values of Wilson's interval for 63 of 100.
    assert (score.low, score.high) == pytest.approx((0.53225, 0.71817), abs=1e-4)
    assert score.per_example == (1.0,) * 63 + (0.0,) * 37
    with pytest.raises(FrozenInstanceError):
        score.value = 1.0  # type: ignore[misc]


def test_wilson_stays_inside_and_has_width_at_the_ends() -> None:
    # The known closed forms: 0 of n gives [0, z^2 / (n + z^2)].
    z2 = 1.959964**2
    assert wilson_interval(0, 10, 0.95) == pytest.approx((0.0, z2 / (10 + z2)))
    assert wilson_interval(10, 10, 0.95) == pytest.approx((10 / (10 + z2), 1.0))
    assert wilson_interval(5, 10, 0.95) == pytest.approx((0.23659, 0.76341), abs=1e-5)
    assert wilson_interval(1, 1, 0.95)[1] == 1.0


def test_higher_confidence_is_a_wider_interval() -> None:
    for name in ("exact_match", "cer", "bleu"):
        predictions, references = noisy(60)
        narrow = compute(name, predictions, references, confidence=0.5)
        wide = compute(name, predictions, references, confidence=0.99)
        assert wide.low < narrow.low <= narrow.value <= narrow.high < wide.high


def noisy(n: int) -> tuple[list[str], list[list[str]]]:
    generator = random.Random(0)
    words = ["red", "blue", "green", "tall", "small", "house", "tree", "river", "road", "field"]
    truths = [generator.choices(words, k=8) for _ in range(n)]
    predictions = [
        truth if generator.random() < 0.3 else [word if generator.random() < 0.8 else "x" for word in truth]
        for truth in truths
    ]
    return [" ".join(words) for words in predictions], [[" ".join(words)] for words in truths]


@pytest.mark.parametrize("name", ["anls", "token_f1", "cer", "bleu", "cider"])
def test_bootstrap_is_reproducible_and_holds_the_value(name: str) -> None:
    predictions, references = noisy(80)
    first = compute(name, predictions, references, seed=1)
    assert first == compute(name, predictions, references, seed=1)
    other = compute(name, predictions, references, seed=2)
    assert other.value == first.value
    assert (other.low, other.high) != (first.low, first.high)
    assert first.low < first.value < first.high


def test_bootstrap_of_a_mean_is_near_the_normal_interval() -> None:
    scores = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_interval(lambda weights: weights @ scores / 400, 400, 0.95, 0)
    half = 1.96 * scores.std() / 20
    assert (low, high) == pytest.approx((scores.mean() - half, scores.mean() + half), abs=0.02)


def test_clusters_widen_the_interval() -> None:
    """Ten questions on each picture that are all right or all wrong tell no more than one question each."""
    generator = random.Random(0)
    right = [generator.random() < 0.6 for _ in range(50)]
    predictions = ["a" if picture else "b" for picture in right for _ in range(10)]
    alone = compute("exact_match", predictions, [["a"]] * 500)
    together = compute("exact_match", predictions, [["a"]] * 500, clusters=[n // 10 for n in range(500)])
    assert (alone.clusters, together.clusters, together.value) == (500, 50, alone.value)
    one_each = compute("exact_match", predictions[::10], [["a"]] * 50)
    assert together.high - together.low > 2.5 * (alone.high - alone.low)
    assert together.high - together.low == pytest.approx(one_each.high - one_each.low, rel=0.15)
    # The sandwich estimate of the standard error of a mean over clusters of equal size.
    half = 1.96 * np.std(right) / np.sqrt(50)
    assert (together.low, together.high) == pytest.approx((alone.value - half, alone.value + half), abs=0.03)


def test_clusters_of_one_example_are_no_clusters() -> None:
    predictions, references = noisy(60)
    for name in ("exact_match", "cer"):
        alone = compute(name, predictions, references)
        assert compute(name, predictions, references, clusters=[f"p{n}" for n in range(60)]) == alone


def test_all_right_in_clusters_is_as_sure_as_so_many_clusters() -> None:
    score = compute("exact_match", ["a"] * 30, [["a"]] * 30, clusters=[n // 10 for n in range(30)])
    assert (score.low, score.high) == wilson_interval(3, 3, 0.95)
    wrong = compute("exact_match", ["b"] * 30, [["a"]] * 30, clusters=[n // 10 for n in range(30)])
    assert (wrong.low, wrong.high) == wilson_interval(0, 3, 0.95)


def test_one_cluster_has_no_interval() -> None:
    score = compute("exact_match", ["a", "b"], [["a"], ["a"]], clusters=["p", "p"])
    assert (score.clusters, score.low, score.value, score.high) == (1, 0.5, 0.5, 0.5)
    (row,) = rows({"exact_match": score.document()})
    assert row == ["exact_match", "50.0 %", "", "", "2"]
    assert summary({"exact_match": score}) == "exact_match 50.0 % (n 2)"


def test_how_scores_are_shown() -> None:
    score = compute("cider", ["a b", "c d"], [["a b"], ["c d"]])
    assert summary({"cider": score}) == "cider 5.000 (5.000 to 5.000, n 2)"
    right = compute("exact_match", ["a"] * 63 + ["b"] * 37, [["a"]] * 100)
    assert summary({"exact_match": right}) == "exact_match 63.0 % (53.2 to 71.8, n 100)"
    rsvqa = compute("rsvqa", ["a", "b"], [["a"], ["a"]], question_types=["comp", "count"], parts=["test", "test"])
    found = rows({"rsvqa": rsvqa.document(), "cer": compute("cer", ["a"], [["b"]]).document()})
    assert [row[0] for row in found] == [
        "rsvqa, mean over types", "  overall", "  part test", "  type comp", "  type count", "cer, lower is better",
        "  mean",
    ]  # fmt: skip
    assert found[1] == ["  overall", "50.0 %", "", "", ""]
    side = columns([{}, {"rsvqa": rsvqa.document()}])
    assert side[2][:2] == ["  part test", ""]
    assert side[2][2].startswith("50.0 % (")
    detected = compute("map", ["<loc0000> x"], [["<loc0000><loc0000><loc0009><loc0009> a"]])
    assert ["  malformed", "1", "", "", ""] in rows({"map": detected.document()})


def test_a_score_survives_json() -> None:
    score = compute("rsvqa", ["a", "b"], [["a"], ["a"]], question_types=["comp", "count"], parts=["p", "q"])
    assert Score.from_json(json.loads(json.dumps(dataclasses.asdict(score)))) == score
    bleu = compute("bleu", ["a b c d"], [["a b c d"]])
    assert Score.from_json(json.loads(json.dumps(dataclasses.asdict(bleu)))) == bleu


@pytest.mark.parametrize("key", ["parts", "question_types", "clusters", "scores", "sizes", "boxes"])
def test_lists_of_another_length_are_refused(key: str) -> None:
    with pytest.raises(DataError, match=r"exact_match: 1 predictions, but .* for 2 examples"):
        compute("exact_match", ["a"], [["a"]], **{key: [None, None]})


def test_bootstrap_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, references = noisy(50)
    whole = compute("cer", predictions, references)
    monkeypatch.setattr("pgtune.metrics.intervals._CHUNK", 170)
    in_chunks = compute("cer", predictions, references)
    assert (in_chunks.low, in_chunks.high) == pytest.approx((whole.low, whole.high), rel=1e-12)


def test_one_example() -> None:
    assert compute("anls", ["hallo"], [["hello"]]).n == 1
    assert compute("bleu", ["a b c d"], [["a b c d"]]).value == pytest.approx(1)


def test_is_right() -> None:
    assert [load_metric("anls").is_right(score) for score in (0.0, 0.49, 0.5, 1.0)] == [False, False, True, True]
    assert [load_metric("cer").is_right(score) for score in (0.0, 0.01, 1.5)] == [True, False, False]
    assert load_metric("cider").is_right(3.0) is None


def test_trivial_answer_is_the_most_frequent_first_reference() -> None:
    assert trivial_answer([["no"], ["yes", "no"], ["yes"], ["maybe", "no"]]) == "yes"
    assert trivial_answer([["b"], ["a"], ["a"], ["b"]]) == "b", "of equally frequent ones the first seen"
    with pytest.raises(DataError, match="no example"):
        trivial_answer([])


@pytest.mark.parametrize(
    ("name", "message"),
    [("exact_matches", "did you mean 'exact_match'"), ("CIDEr", "did you mean 'cider'"), ("zzz", "Known: anls, bleu")],
)
def test_unknown_metric_names_the_nearest(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        compute(name, ["a"], [["a"]])
    with pytest.raises(RecipeError, match=message):
        score_file([name], tmp_path / "not there.jsonl")


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([], [], "no example to score"),
        (["a"], [], "1 predictions, but references for 0 examples"),
        (["a", "b"], [["a"], []], "example 2: exact_match needs at least a reference, found 0"),
        (["a", "b"], [["a"], "b"], "example 2: references must be a list of texts, found the text 'b'"),
    ],
)
def test_compute_refuses(predictions: Sequence[str], references: Sequence[Sequence[str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        compute("exact_match", predictions, references)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, 95.0, float("nan")])
def test_compute_refuses_a_confidence_out_of_range(confidence: float) -> None:
    with pytest.raises(RecipeError, match="confidence"):
        compute("exact_match", ["a"], [["a"]], confidence=confidence)


def test_score_file(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    rows: list[dict[str, Any]] = [
        {"prediction": "ja", "references": ["ja", "yes"], "image": "a.png"},
        {"prediction": "zwölf\n", "references": ["zwölf"]},
    ]
    # A byte order mark, Windows line ends and an empty line at the end are what editors leave.
    text = "\ufeff" + "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\r\n\r\n"
    path.write_bytes(text.encode())
    found = score_file(["exact_match", "cer"], path)
    low, high = wilson_interval(1, 2, 0.95)
    assert (found["n"], found["confidence"], list(found["scores"])) == (2, 0.95, ["exact_match", "cer"])
    assert found["scores"]["exact_match"] == {
        "value": 0.5, "low": low, "high": high, "n": 2, "clusters": 2, "average": "examples",
    }  # fmt: skip
    assert score_file(["cer"], str(path), confidence=0.5)["confidence"] == 0.5


def test_score_file_reads_parts_types_clusters_and_scores(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    box, other = "<loc0100><loc0100><loc0500><loc0500> cat", "<loc0600><loc0600><loc0900><loc0900> cat"
    more: list[dict[str, Any]] = [
        {"part": "p", "question_type": "t", "cluster": 7, "score": [0.1, 0.9], "size": [40, 30]},
        {"part": "q", "question_type": None, "cluster": "a"},
        {"part": "q", "boxes": [{"box": [0.6, 0.6, 0.9, 0.9], "label": "cat", "score": 1, "pixels": [1, 2, 3, 4]}]},
    ]
    content = [{"prediction": f"{other} ; {box}", "references": [box]} | keys for keys in more]
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    found = score_file(["map", "exact_match"], path)["scores"]
    assert {name: part["value"] for name, part in found["map"]["parts"].items()} == {
        "p": pytest.approx(1.0), "q": pytest.approx(0.25, abs=0.01),
    }  # fmt: skip
    assert found["map"]["types"].keys() == {"t", "(none)"}
    assert found["exact_match"]["clusters"] == 3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('"part": 1', "'part' must be text, found the number 1"),
        ('"question_type": ["a"]', "'question_type' must be text, found a list"),
        ('"cluster": 1.5', "'cluster' must be text or a whole number, found the number 1.5"),
        ('"cluster": true', "'cluster' must be text or a whole number, found true"),
        ('"score": 0.5', "'score' must be a list of numbers, one for each predicted box, found the number 0.5"),
        ('"score": [1, "a"]', "'score' must be a list of numbers"),
        ('"score": [1e999]', "'score' must be a list of numbers"),
        ('"size": [3]', r"'size' must be \[width, height\] in pixels, found a list"),
        ('"size": [3, 0]', "'size' must be"),
        ('"boxes": {}', "'boxes' must be a list of objects, found an object"),
        ('"boxes": [{"box": [1, 2, 3], "label": "a", "score": 1}]', r"'boxes\[0\]' must be an object with box"),
        ('"boxes": [3]', r"'boxes\[0\]' must be an object with box"),
    ],
)
def test_a_malformed_key_is_named(tmp_path: Path, keys: str, message: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(f'{GOOD}\n{{"prediction": "a", "references": ["a"], {keys}}}\n')
    with pytest.raises(DataError, match=rf"^mine\.jsonl, row 2: {message}"):
        score_file(["exact_match"], path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "not JSON: .*the line begins 'not json'"),
        ('{"prediction": "a", "references": ["a"]', "not JSON"),
        (GOOD + GOOD, "not JSON: Extra data"),
        ("[" * 100_000, "not JSON"),
        ('["a"]', "expected an object with the keys prediction and references, found a list"),
        ("null", "expected an object .*, found null"),
        ('{"references": ["a"]}', "the key 'prediction' is missing; found 'references'"),
        ('{"prediction": "a", "references": ["a"], "prediction": ""}', "not JSON: the key 'prediction' is there twice"),
        ('{"prediction": "a", "reference": ["a"]}', "the key 'references' is missing; found 'prediction', 'reference'"),
        ("{}", "the key 'prediction' is missing; found no key"),
        ('{"prediction": null, "references": ["a"]}', "'prediction' must be text, found null"),
        ('{"prediction": 3, "references": ["a"]}', "'prediction' must be text, found the number 3"),
        ('{"prediction": NaN, "references": ["a"]}', "not JSON: NaN is not a JSON value"),
        ('{"prediction": ["a"], "references": ["a"]}', "'prediction' must be text, found a list"),
        ('{"prediction": "a", "references": "a"}', "'references' must be a list of texts, found the text 'a'"),
        ('{"prediction": "a", "references": {"a": 1}}', "'references' must be a list of texts, found an object"),
        ('{"prediction": "a", "references": []}', "'references' is empty"),
        ('{"prediction": "a", "references": ["a", true]}', r"'references\[1\]' must be text, found true"),
        ('{"prediction": "a", "references": [-Infinity]}', "not JSON: -Infinity is not a JSON value"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(f"{GOOD}\n\n{line}\n")
    with pytest.raises(DataError, match=rf"^mine\.jsonl, row 3: {message}") as raised:
        score_file(["exact_match"], path)
    assert len(str(raised.value)) < 300
    assert "\n" not in str(raised.value)


def test_a_row_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(f"{GOOD}\n".encode() + '{"prediction": "é", "references": ["é"]}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"mine\.jsonl, row 2: not UTF-8 text \(byte 17 is 0xe9\)"):
        score_file(["exact_match"], path)


@pytest.mark.parametrize("content", ["", "\n\n", "  \n"])
def test_an_empty_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=r"mine\.jsonl: holds no row"):
        score_file(["exact_match"], path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl: there is no such file"):
        score_file(["exact_match"], tmp_path / "gone.jsonl")
    with pytest.raises(DataError, match=r"cannot be read as a file of predictions"):
        score_file(["exact_match"], tmp_path)


def test_too_few_references_for_the_metric_name_the_row(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prediction": "a", "references": ["a", "b"]}\n\n' + GOOD)
    with pytest.raises(DataError, match=r"mine\.jsonl, row 3: vqav2 needs at least 2 references, found 1"):
        score_file(["vqav2"], path)


def test_confidence_may_come_close_to_one() -> None:
    assert wilson_interval(5, 10, 0.9999999999999999)[0] < wilson_interval(5, 10, 0.999)[0]
