"""The metrics of the four domains: by part and question type, tables, boxes, open and closed questions."""

from __future__ import annotations

import importlib
import random
from typing import Any

import pytest

from pgtune.errors import DataError, RecipeError
from pgtune.locations import encode_detections
from pgtune.metrics import compute
from pgtune.metrics.radiology import open_overlap
from pgtune.metrics.tables import rms


def test_rsvqa_is_the_mean_over_types() -> None:
    # 3 of 4 presence, 1 of 2 comp: the mean of the types is 0.625, of the examples 4 / 6.
    predictions = ["Yes", "no", "no", "yes", "no", "yes"]
    references = [["yes"], ["no"], ["no"], ["no"], ["no"], ["no"]]
    kinds = ["presence"] * 4 + ["comp"] * 2
    score = compute("rsvqa", predictions, references, question_types=kinds)
    assert (score.value, score.average) == (0.625, "types")
    assert score.also == {"overall": pytest.approx(4 / 6)}
    assert {kind: (one.value, one.n) for kind, one in score.types.items()} == {"presence": (0.75, 4), "comp": (0.5, 2)}
    assert list(score.types) == ["presence", "comp"]
    assert score.types["presence"].average == "types"
    assert score.parts == {}
    assert 0 <= score.low < 0.625 < score.high <= 1


def test_rsvqa_in_parts_has_the_mean_over_types_of_each() -> None:
    score = compute(
        "rsvqa",
        ["a", "x", "a", "a"],
        [["a"]] * 4,
        parts=["test", "test", "test_2", "test_2"],
        question_types=["comp", "presence", "comp", "comp"],
    )
    assert {name: part.value for name, part in score.parts.items()} == {"test": 0.5, "test_2": 1.0}
    assert score.value == 0.5


def test_rsvqa_needs_types() -> None:
    with pytest.raises(DataError, match="example 1: rsvqa needs the question_type of each example, found none"):
        compute("rsvqa", ["a"], [["a"]])
    with pytest.raises(DataError, match="example 2: rsvqa needs the question_type"):
        compute("rsvqa", ["a", "a"], [["a"], ["a"]], question_types=["comp", ""])


def test_chartqa_is_the_mean_of_its_parts() -> None:
    predictions, references = ["5", "x", "105", "x", "x", "x"], [["5"], ["6"], ["100"], ["7"], ["8"], ["9"]]
    parts = ["human"] * 2 + ["augmented"] * 4
    score = compute("chartqa_relaxed", predictions, references, parts=parts)
    assert (score.value, score.average) == ((1 / 2 + 1 / 4) / 2, "parts")
    assert score.also["overall"] == pytest.approx(2 / 6)
    assert (score.parts["human"].value, score.parts["augmented"].value) == (0.5, 0.25)
    whole = compute("chartqa_relaxed", predictions, references)
    assert (whole.value, whole.average) == (pytest.approx(2 / 6), "examples")
    with pytest.raises(DataError, match="example 2: chartqa_relaxed needs the part of each example, found none"):
        compute("chartqa_relaxed", ["a", "b"], [["a"], ["b"]], parts=["human", ""])


def test_any_metric_comes_by_part_and_type() -> None:
    score = compute(
        "cer", ["ab", "xx", "c"], [["ab"], ["ab"], ["cd"]], parts=["p", "p", "q"], question_types=["", "t", "t"]
    )
    assert {name: one.value for name, one in score.parts.items()} == {"p": 0.5, "q": 0.5}
    assert {name: one.value for name, one in score.types.items()} == {"(none)": 0.0, "t": 0.75}
    assert score.average == "examples"


@pytest.mark.parametrize(
    ("prediction", "reference", "right"),
    [("Yes.", "yes", 1), ("the left lung", "Left lung", 1), ("two", "2", 1), ("no", "normal", 0), ("", "", 1),
     ("x-ray", "x ray", 1), ("", "lung", 0)],
)  # fmt: skip
def test_medvqa_normalises_as_llava_med(prediction: str, reference: str, right: float) -> None:
    assert compute("medvqa", [prediction], [[reference]], parts=["closed"]).value == right


def test_medvqa_reports_open_closed_and_recall() -> None:
    predictions = ["yes", "no", "the left upper lobe", "lung lung"]
    references = [["yes"], ["yes"], ["left lobe"], ["left lung"]]
    score = compute("medvqa", predictions, references, parts=["closed", "closed", "open", "open"])
    assert score.value == 0.25
    assert {name: part.value for name, part in score.parts.items()} == {"closed": 0.5, "open": 0.0}
    # Values of calculate_f1score of microsoft/LLaVA-Med (b9a98a7) on the normalised texts.
    assert open_overlap(predictions[2], "left lobe") == pytest.approx((1.0, 0.8))
    assert open_overlap(predictions[3], "left lung") == pytest.approx((2 / 3, 0.8))
    assert score.also == pytest.approx({"open_recall": (1 + 2 / 3) / 2, "open_f1": 0.8})
    assert score.parts["closed"].also == {}, "recall is of open questions only"


def test_medvqa_needs_open_or_closed() -> None:
    with pytest.raises(DataError, match="example 1: medvqa needs the part of each example"):
        compute("medvqa", ["a"], [["a"]])
    with pytest.raises(DataError, match="example 1: medvqa needs the part 'open' or 'closed', found 'OPEN'"):
        compute("medvqa", ["a"], [["a"]], parts=["OPEN"])


TABLE = "TITLE | Sales\nYear | Cars | Bikes\n2019 | 10 | 5%\n2020 | 20 | n/a"


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        # Values of table_datapoints_precision_recall_per_point of google-research/deplot, with its f1 (an early version
        # of it appends the recall in place of it).
        (TABLE, (1.0, 1.0, 1.0)),
        (TABLE.replace("\n", " <0x0A> "), (1.0, 1.0, 1.0)),
        ("TITLE | Sales\nYear | 2019 | 2020\nCars | 10 | 20\nBikes | 5% | n/a", (1.0, 1.0, 1.0)),
        ("Year | Cars | Bikes\n2019 | 10.5 | 0.05\n2020 | 23 | n/a", (0.7375, 0.59, 0.6555555555555556)),
        ("Year | Cars\n2019 | 10", (1.0, 0.2, 0.33333333333333337)),
        ("", (1.0, 0.0, 0.0)),
        ("no table at all", (1.0, 0.0, 0.0)),
        ("a | b\nc | d", (0.0, 0.0, 0.0)),
    ],
)
def test_rms(prediction: str, expected: tuple[float, float, float]) -> None:
    assert rms(prediction, [TABLE]) == pytest.approx(expected)
    assert rms(prediction, ["x | y\n1 | 2", TABLE])[2] >= expected[2]


def test_rms_of_a_set_and_of_empty_references() -> None:
    score = compute("rms", [TABLE, "Year | Cars\n2019 | 10"], [[TABLE], [TABLE]])
    assert score.value == pytest.approx((1 + 1 / 3) / 2)
    assert score.also == pytest.approx({"precision": 1.0, "recall": 0.6})
    assert rms("", [""]) == (1, 1, 1)
    assert rms("a | b\nc | d", [""]) == (0, 1, 0)


def boxes(*objects: tuple[tuple[float, float, float, float], str]) -> str:
    return encode_detections(objects)


def scene(generator: random.Random, count: int) -> tuple[list[str], list[list[str]], list[list[float]]]:
    """Pictures with up to five objects of three labels, found with some error, and some that are not there."""

    def box() -> tuple[float, float, float, float]:
        y, x = generator.uniform(0, 0.7), generator.uniform(0, 0.7)
        return y, x, y + generator.uniform(0.05, 0.3), x + generator.uniform(0.05, 0.3)

    predictions, references, scores = [], [], []
    for _ in range(count):
        true = [(box(), generator.choice(["car", "ship", "plane"])) for _ in range(generator.randint(0, 5))]
        found: list[Any] = []
        for (y0, x0, y1, x1), label in true:
            move = generator.uniform(-0.03, 0.03)
            found.append(((max(0, y0 + move), x0, y1 + move, x1), label))
        found += [(box(), "ship")] * generator.randint(0, 2)
        predictions.append(boxes(*found))
        references.append([boxes(*true)])
        scores.append([round(generator.random(), 2) for _ in found])
    return predictions, references, scores


def test_map_equals_pycocotools() -> None:
    """Values of pycocotools 2.0.11 (``loadRes``, ``COCOeval.summarize``) for the same boxes and sizes."""
    predictions, references, scores = scene(random.Random(0), 40)
    sizes = [((60, 70), (900, 400), (300, 400))[number % 3] for number in range(40)]
    score = compute("map", predictions, references, scores=scores, sizes=sizes)
    expected = [
        0.47822792841746187,
        0.7780521941570705,
        0.48590118263857296,
        0.49226187561656404,
        0.4617940346887408,
        0.6171351201054172,
    ]
    found = [score.value, *(score.also[name] for name in ("ap50", "ap75", "ap_small", "ap_medium", "ap_large"))]
    assert found == pytest.approx(expected, abs=1e-9)
    assert score.low < score.value < score.high
    assert (score.n, score.per_example) == (40, None)
    # Without sizes the overlaps are the same but for the last digit, which can count where one is just at a threshold.
    assert compute("map", predictions, references, scores=scores).value == pytest.approx(score.value, abs=0.01)


def test_map_of_perfect_missing_and_wrong_boxes() -> None:
    _, references, _ = scene(random.Random(1), 10)
    perfect = compute("map", [accepted[0] for accepted in references], references)
    assert (perfect.value, perfect.low, perfect.high) == (pytest.approx(1.0),) * 3
    assert compute("map", [""] * 10, references).value == 0
    one = boxes(((0.1, 0.1, 0.5, 0.5), "cat"))
    wrong = compute("map", [one.replace("cat", "dog") + " ; <loc0001><loc0002> cat"], [[one]])
    assert (wrong.value, wrong.also["malformed"], wrong.also["unknown"]) == (0, 1, 1)
    assert compute("map", ["", ""], [[""], [""]]).value == 1, "nothing there and nothing found"
    assert compute("map", ["", one], [[""], [""]]).value == 0
    found = compute("map", ["nothing", one], [["nothing"], [one]])
    assert (found.value, found.also["malformed"]) == (pytest.approx(1), 0), "a picture without an object"


def test_map_takes_the_scores_and_the_boxes_it_is_given() -> None:
    box, other = (0.1, 0.1, 0.5, 0.5), (0.6, 0.6, 0.9, 0.9)
    text, reference = boxes((other, "cat"), (box, "cat")), boxes((box, "cat"))
    assert compute("map", [text], [[reference]]).value == pytest.approx(0.5), "in the order of the text"
    assert compute("map", [text], [[reference]], scores=[[0.1, 0.9]]).value == pytest.approx(1.0)
    given = [{"box": list(box), "label": "cat", "score": 0.5}]
    assert compute("map", [text], [[reference]], boxes=[given]).value == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    ("prediction", "references", "scores", "message"),
    [
        ("", ["", ""], None, "map compares with one reference, found 2"),
        ("", ["a cat"], None, "the reference is not .*: 'a cat'"),
        ("", [""], [0.5], "1 scores for 0 predicted boxes"),
        ("<loc0000><loc0000><loc0009><loc0009> a", [""], [float("nan")], "a score is not finite"),
    ],
)
def test_map_refuses(prediction: str, references: list[str], scores: list[float] | None, message: str) -> None:
    with pytest.raises(DataError, match=f"example 1: {message}"):
        compute("map", [prediction], [references], scores=[scores])


@pytest.mark.parametrize(
    ("name", "package", "extra", "text"),
    [("map", "pycocotools", "detection", "<loc0000><loc0000><loc0009><loc0009> a"), ("rms", "scipy", "charts", TABLE)],
)
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str, text: str
) -> None:
    real = importlib.import_module

    def missing(module: str, *rest: Any) -> Any:
        if module.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real(module, *rest)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(RecipeError, match=rf"the metric {name} needs the package {package}.*pgtune\[{extra}\]"):
        compute(name, [text], [[text]])
