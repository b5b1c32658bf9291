"""CIDEr, BLEU, ROUGE-L and their tokens against what pycocoevalcap 1.2 gives, Java's tokenizer included."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import shutil
from pathlib import Path

import pytest

from pgtune.metrics import compute
from pgtune.metrics.ptb import tokenize

EXPECTED = Path(__file__).parent / "expected" / "ptb_tokens.jsonl"
TOKENS = [json.loads(line) for line in EXPECTED.read_text(encoding="utf-8").splitlines()]
"""What ``PTBTokenizer().tokenize`` of pycocoevalcap 1.2 (stanford-corenlp-3.4.1.jar, OpenJDK 17) gave for our strings,
all in one call and in this order: the end of one can depend on the next."""

PREDICTIONS = [
    "a dog runs on the grass.",
    "Two red cars (parked) near a 3-story building",
    "",
    "there are many planes in the airport, and a U.S. flag",
    "No acute cardiopulmonary abnormality. Heart size is normal, 1 1/2 cm.",
    "the the the the the",
    "Ein Zug, der fährt!",
    "it's 50% of $1,000 isn't it?",
]
REFERENCES = [
    ["A dog is running on grass", "the dog runs across the grass .", "a brown dog running"],
    ["two red cars are parked beside a 3-story building", "there're 2 cars near the building"],
    ["an empty prediction scores nothing"],
    ["Many planes are parked at the airport.", "there are many planes in the airport", "several planes, a U.S. flag"],
    ["No acute cardiopulmonary abnormality. Heart size normal."],
    ["the cat sat on the mat", "the mat"],
    ["Ein Zug fährt.", "."],
    ["It's 50% of $1,000, isn't it?", "It is half of $1000."],
]  # fmt: skip


def test_tokens_are_those_of_the_java_programme() -> None:
    found = tokenize([row["text"] for row in TOKENS])
    for row, tokens in zip(TOKENS, found, strict=True):
        assert tokens == row["tokens"], row["text"]
    assert len(found) == len(TOKENS) == 408


def test_a_line_break_of_any_kind_is_a_blank() -> None:
    breaks = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\u2028", "\u2029"]
    assert tokenize([f"one{mark}two" for mark in breaks]) == ["one two"] * len(breaks)
    assert tokenize([]) == [""], "as pycocoevalcap: nothing is one empty line"
    assert tokenize(["\ud800 a lone half"]) == ["a lone half"]


def test_long_texts_take_no_long_time() -> None:
    # What would be slow in a careless pattern: the regular expressions go over each of these once, or nearly.
    for text in (
        "a" * 20_000,
        "a." * 5_000,
        "-" * 20_000,
        "1," * 2_000,
        "<a " * 500,
        "x@" * 500,
        "a'" * 500,
        "a," * 500,
    ):
        assert len(tokenize([text])) == 1


def test_caption_scores_are_pycocoevalcaps() -> None:
    """Values that ``Cider``, ``Bleu(4)`` and ``Rouge`` of pycocoevalcap 1.2 gave for these captions."""
    cider = compute("cider", PREDICTIONS, REFERENCES)
    assert cider.value == pytest.approx(2.495565849511074, abs=1e-9)
    assert cider.per_example == pytest.approx(
        (1.995378091394341, 2.298662792307299, 0.0, 3.0908450207915816, 5.186330794160712, 0.23646693415720912,
         1.5708722324340454, 5.585970930843401),
        abs=1e-9,
    )  # fmt: skip
    bleu = compute("bleu", PREDICTIONS, REFERENCES)
    assert bleu.value == pytest.approx(0.5440080488556527, abs=1e-9)
    assert bleu.also == pytest.approx(
        {"bleu_1": 0.807017543845491, "bleu_2": 0.6958523739253969, "bleu_3": 0.6084131453295875}, abs=1e-9
    )
    assert bleu.per_example is None
    rouge = compute("rouge_l", PREDICTIONS, REFERENCES)
    assert rouge.value == pytest.approx(0.6755940856738002, abs=1e-9)
    assert rouge.per_example == pytest.approx(
        (0.6666666666666666, 0.7439024390243903, 0.0, 0.8102466793168881, 0.850597609561753, 0.4535315985130111,
         0.8798076923076923, 1.0),
        abs=1e-9,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("java") is None or importlib.util.find_spec("pycocoevalcap") is None,
    reason="compares with pycocoevalcap, which needs Java; neither is needed by pgtune",
)
def test_random_captions_against_pycocoevalcap_itself() -> None:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    generator = random.Random(0)
    words = [word for row in TOKENS for word in row["text"].split(" ")]

    def caption() -> str:
        return "".join(generator.choice(words) + generator.choice(" .,") for _ in range(generator.randint(0, 9)))

    references = [[caption() for _ in range(generator.randint(1, 4))] for _ in range(3000)]
    predictions = [generator.choice([caption(), *accepted]) for accepted in references]
    true = PTBTokenizer().tokenize({i: [{"caption": text} for text in texts] for i, texts in enumerate(references)})
    predicted = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(predictions)})
    assert [predicted[i] for i in range(3000)] == [[text] for text in tokenize(predictions)]
    for name, (value, each) in {
        "cider": Cider().compute_score(true, predicted),
        "rouge_l": Rouge().compute_score(true, predicted),
    }.items():
        score = compute(name, predictions, references)
        assert score.value == pytest.approx(value, abs=1e-9)
        assert score.per_example == pytest.approx(tuple(each), abs=1e-9)
    values, _ = Bleu(4).compute_score(true, predicted, verbose=0)
    score = compute("bleu", predictions, references)
    assert [*score.also.values(), score.value] == pytest.approx(values, abs=1e-9)


def test_bleu_by_hand() -> None:
    # Prediction of 6 tokens: 5, 3, 2 and 1 of 6, 5, 4 and 3 n-grams match; as long as the reference.
    prediction, reference = "the cat sat on the mat", "the cat sat on a mat"
    precision = (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert compute("bleu", [prediction], [[reference]]).value == pytest.approx(precision)
    # Two tokens short of the nearest reference (8, not 20): brevity penalty exp(1 - 8 / 6).
    references = [reference + " right now", reference + " x" * 14]
    assert compute("bleu", [prediction], [references]).value == pytest.approx(precision * math.exp(1 - 8 / 6))


def test_bleu_is_pooled_and_nearly_zero_without_a_match_of_four() -> None:
    """Its guards against division by zero are pycocoevalcap's: 1e-15 matches of 1e-9 runs of four."""
    assert compute("bleu", ["the cat sat"], [["the cat sat"]]).value == pytest.approx((1e-15 / 1e-9) ** 0.25)
    assert compute("bleu", ["", ""], [["a b c d"], ["e f g h"]]).value == 0
    # One sentence alone has no 4-gram, the set has: counts are summed before they are divided.
    assert compute("bleu", ["the cat sat", "a b c d e"], [["the cat sat"], ["a b c d e"]]).value == pytest.approx(1)


def test_rouge_l_by_hand() -> None:
    # Longest common subsequence "the sat on mat": 4 of 5 predicted, 4 of 6 true.
    precision, recall, beta = 4 / 5, 4 / 6, 1.2**2
    expected = (1 + beta) * precision * recall / (recall + beta * precision)
    assert compute("rouge_l", ["the dog sat on mat"], [["the cat sat on the mat"]]).value == pytest.approx(expected)
    assert compute("rouge_l", [""], [["cat"]]).value == 0
    assert compute("rouge_l", ["..."], [["!"]]).value == 1, "two texts without a token agree, as pycocoevalcap"


def test_cider_by_hand() -> None:
    # Two examples: an n-gram of one example's references weighs log 2, one of both weighs 0.
    references = [["red cat"], ["red dog"]]
    # Unigrams: "cat" matches, "red" weighs nothing -> 1. Bigrams -> 1. No trigrams, no 4-grams -> 0.
    assert compute("cider", ["red cat", "red cow"], references).per_example == pytest.approx((5.0, 0.0))
    # Unigrams of "cat sun": min(1, 1) * 1 / (sqrt 2 * 1); no bigram in common; lengths are equal.
    assert compute("cider", ["cat sun", "x"], references).per_example == pytest.approx((10 / 4 / math.sqrt(2), 0.0))


def test_cider_d_clips_and_punishes_length() -> None:
    references = [["cat"], ["dog"]]
    # "cat cat cat" has cosine 1 with "cat", clipped to 1/3, and is 2 tokens too long: exp(-2^2 / 72).
    expected = 10 / 4 / 3 * math.exp(-4 / 72)
    assert compute("cider", ["cat cat cat", "x"], references).per_example == pytest.approx((expected, 0.0))


def test_cider_averages_over_references() -> None:
    score = compute("cider", ["cat", "x"], [["cat", "cow"], ["dog"]])
    assert score.per_example == pytest.approx((10 / 4 / 2, 0.0))


def test_cider_of_one_example_is_zero() -> None:
    assert compute("cider", ["a b c d"], [["a b c d"]]).value == 0
