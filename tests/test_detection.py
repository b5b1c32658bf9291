"""Boxes with scores out of decoded tokens: every bin, malformed, cut off and repeated ones, scores by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgtune import tiny
from pgtune.detection import REPEATED_IOU, asks_for_boxes, iou, read
from pgtune.locations import BINS, decode_box, decode_detections, encode_box, encode_detections
from pgtune.processor import load_processor

TOKENIZER = load_processor(str(tiny.path())).tokenizer


@dataclass
class Answer:
    """What `read` looks at."""

    ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    finished: bool = True
    size: tuple[int, int] | None = None


HALF = math.log(0.5)


def answer(text, *, finished=True, each=HALF, size=None):
    ids = tuple(TOKENIZER(text, add_special_tokens=False)["input_ids"])
    return Answer(ids, (each,) * len(ids), finished, size)


def labels(found):
    return [box["label"] for box in found.boxes]


ONE, TWO, THREE = ("<loc0000><loc0000><loc0100><loc0100>", "<loc0200><loc0300><loc0400><loc0500>",
                   "<loc0600><loc0600><loc1023><loc1023>")  # fmt: skip


def test_every_bin_of_every_corner_comes_back():
    for index in range(BINS):
        token = f"<loc{index:04d}>"
        for text in (f"{token}<loc0000><loc1023><loc1023>", f"<loc0000>{token}<loc1023><loc1023>",
                     f"<loc0000><loc0000>{token}<loc1023>", f"<loc0000><loc0000><loc1023>{token}"):  # fmt: skip
            decoded = decode_box(text)
            assert decoded is not None
            assert encode_box(decoded) == text
            assert 0 <= min(decoded) <= max(decoded) <= 1
    for index in range(0, BINS, 7):
        text = f"<loc{index:04d}><loc0000><loc1023><loc1023> x"
        (found,) = read(answer(text), TOKENIZER).boxes
        assert found["box"] == list(decode_box(text[:36]))


def test_boxes_labels_and_pixels():
    found = read(answer(f"{ONE} cat ; {TWO} parking lot;{THREE}großer 日本", size=(200, 100)), TOKENIZER)
    assert labels(found) == ["cat", "parking lot", "großer 日本"]
    assert found.boxes[0]["box"] == [0, 0, 100 / 1023, 100 / 1023]
    assert found.boxes[0]["pixels"] == [0, 0, pytest.approx(20000 / 1023), pytest.approx(10000 / 1023)]
    assert found.boxes[2]["pixels"][2:] == [200, 100]
    assert found.row.keys() == {"boxes", "malformed", "repeated", "cut_off"}
    assert (found.malformed, found.repeated, found.cut_off) == (0, 0, False)
    assert "pixels" not in read(answer(f"{ONE} cat"), TOKENIZER).boxes[0]
    assert read(answer(f"{ONE} cat"), TOKENIZER, (10, 10)).boxes[0]["pixels"][2] == pytest.approx(1000 / 1023)


def test_the_score_is_the_labels_likelihood_times_the_mean_of_the_places():
    given = answer(f"{ONE} cat ; {TWO} cat")
    pieces = TOKENIZER.convert_ids_to_tokens(list(given.ids))
    values = [-0.01 * (place + 1) for place in range(len(pieces))]
    found = read(Answer(given.ids, tuple(values)), TOKENIZER)
    second = [place for place, token in enumerate(pieces) if "loc" in token][4:]
    word = [place for place, token in enumerate(pieces) if place > second[-1] and token.strip("▁")]
    wanted = math.exp(sum(values[place] for place in second) / 4 + sum(values[place] for place in word))
    assert found.boxes[1]["score"] == pytest.approx(wanted)
    assert found.scores == [box["score"] for box in found.boxes]
    assert found.scores[0] > found.scores[1], "in the order of the answer, not of the scores"
    assert read(answer(ONE), TOKENIZER).scores == [pytest.approx(0.5)], "no label: the places alone"
    assert read(answer(f"{ONE} cat", each=0.0), TOKENIZER).scores == [1.0]


@pytest.mark.parametrize(
    ("text", "left", "malformed"),
    [
        ("", [], 0),
        ("nothing", [], 0),
        ("cat ; dog", [], 0),
        ("<loc0001><loc0002> cat", [], 1),
        (f"{ONE}<loc0001> cat", [], 1),
        ("<loc0500><loc0000><loc0100><loc0100> upside", [], 1),
        (f"{ONE} cat ; dog", ["cat"], 1),
        (f"cat {ONE} ; {TWO} dog", ["dog"], 1),
        (f"{ONE} cat ;; {TWO} dog", ["cat", "dog"], 1),
        (f"{ONE} cat ;", ["cat"], 1),
        (f"{ONE} cat {TWO} dog", [], 1),
        (f"{ONE} a < b ; {TWO} dog", ["dog"], 1),
        (f"{ONE}{'<seg001>' * 16} cat", ["cat"], 0),
        (f"{ONE}{'<seg001>' * 15} cat", [], 1),
    ],
)
def test_what_is_malformed_is_counted_and_not_guessed(text, left, malformed):
    found = read(answer(text), TOKENIZER)
    assert (labels(found), found.malformed) == (left, malformed)
    if "<loc" in text:
        other = decode_detections(text)
        assert [one.label for one in other.found] == left
        assert other.malformed == malformed


@pytest.mark.parametrize("cut", range(1, 20))
def test_an_answer_that_ended_at_its_limit_loses_its_last_object(cut):
    whole = answer(f"{ONE} cat ; {TWO} parking lot ; {THREE} dog")
    ids = whole.ids[:-cut]
    found = read(Answer(ids, whole.log_probabilities[:-cut], finished=False), TOKENIZER)
    assert found.cut_off
    assert found.malformed == 0
    complete = TOKENIZER.decode(list(ids)).count(";")
    assert labels(found) == ["cat", "parking lot"][:complete]


def test_repeated_objects_are_one():
    shifted = encode_detections([((0.0, 0.0, 0.1, 0.095), "cat")])
    text = f"{ONE} cat ; {TWO} cat ; {shifted} ; {ONE} dog ; {ONE} cat"
    given = answer(text)
    values = [-1.0] * len(given.ids)
    places = [place for place, token in enumerate(TOKENIZER.convert_ids_to_tokens(list(given.ids))) if "loc" in token]
    for place in places[8:12]:
        values[place] = -0.1  # the shifted one is the surest
    found = read(Answer(given.ids, tuple(values)), TOKENIZER)
    assert [(box["label"], round(box["box"][3], 2)) for box in found.boxes] == [
        ("cat", 0.49), ("cat", 0.09), ("dog", 0.1),
    ]  # fmt: skip
    assert found.repeated == 2
    assert iou((0, 0, 1, 1), (0, 0, 1, REPEATED_IOU)) == REPEATED_IOU
    assert read(answer(f"{ONE} cat ; " * 40 + f"{ONE} cat"), TOKENIZER).repeated == 40


def test_intersection_over_union_by_hand():
    assert iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    assert iou((0, 0, 1, 1), (0, 1, 1, 2)) == 0
    assert iou((0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5)) == 1
    assert iou((0.5, 0.5, 0.5, 0.5), (0, 0, 0, 0)) == 0


@given(st.lists(st.integers(4, len(TOKENIZER) - 1), max_size=30), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_tokens_give_what_the_text_says(ids, finished):
    """The boxes read off the tokens are those read off the text, whatever the tokens are."""
    found = read(Answer(tuple(ids), (-0.5,) * len(ids), finished), TOKENIZER)
    text = TOKENIZER.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    kept = text if finished else text.rpartition(";")[0]
    if "\ufffd" not in text and "<loc" in text and (finished or ";" in text):
        other = decode_detections(kept)
        assert len(found.boxes) + found.repeated == len(other.found)
        assert found.malformed == (other.malformed or (not finished and not kept.strip()))
    for box in found.boxes:
        assert 0 <= min(box["box"]) <= max(box["box"]) <= 1
        assert 0 <= box["score"] <= 1


def test_which_prefixes_ask_for_boxes():
    for prefix in ("detect cat", "Detect a ; b", " detect all classes", "detect"):
        assert asks_for_boxes(prefix)
    for prefix in ("", "detective", "what to detect?", "segment cat", "answer en detect"):
        assert not asks_for_boxes(prefix)
