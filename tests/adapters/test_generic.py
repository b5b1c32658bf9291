"""The jsonl data adapter: a row to an Example."""

from typing import Any

import pytest

from pgtune.data_adapters.generic.jsonl import JsonlAdapter
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example

ROW = {"image": "a.png", "prefix": "what?", "suffix": "a cat"}


def test_the_common_form() -> None:
    assert JsonlAdapter()(ROW) == Example("a.png", "what?", "a cat")


def test_several_images_references_and_metadata() -> None:
    row = {**ROW, "image": ["a.png", "b.png"], "references": ["a cat", "cat"], "id": 3, "metadata": {"source": "x"}}
    example = JsonlAdapter()(row)
    assert example.images == ("a.png", "b.png")
    assert example.references == ("a cat", "cat")
    assert example.metadata == {"id": 3, "source": "x"}


@pytest.mark.parametrize("references", [None, []])
def test_no_references_means_the_suffix(references: Any) -> None:
    assert JsonlAdapter()({**ROW, "references": references, "metadata": None}).references == ("a cat",)


def test_text_is_passed_on_unchanged() -> None:
    text = "  two  spaces\n\tÅngström é <loc0001> \u2028 end "
    example = JsonlAdapter()({**ROW, "prefix": text, "suffix": text})
    assert (example.prefix, example.suffix) == (text, text)


def test_part_question_type_and_groups() -> None:
    row = {**ROW, "part": "human", "question_type": "count", "groups": {"patient": 17, "scene": "b", "work": None}}
    example = JsonlAdapter()(row)
    assert (example.part, example.question_type, example.metadata) == ("human", "count", {})
    assert example.groups == {"patient": "17", "scene": "b"}
    nothing = JsonlAdapter()({**ROW, "part": None, "question_type": None, "groups": None})
    assert nothing == JsonlAdapter()(ROW)
    named = JsonlAdapter(part="half", question_type="kind", groups="shared")
    example = named({**ROW, "half": "human", "kind": "count", "shared": {"x": 1.5}, "part": 3})
    assert (example.part, example.question_type, example.groups) == ("human", "count", {"x": "1.5"})
    assert example.metadata == {"part": 3}
    unread = JsonlAdapter(part=None, question_type=None, groups=None)({**ROW, "part": 3, "groups": [1]})
    assert (unread.part, unread.groups, unread.metadata) == ("", {}, {"part": 3, "groups": [1]})


def test_other_names_for_the_keys() -> None:
    adapter = JsonlAdapter(image="file", prefix="question", suffix="answer", references="answers")
    row = {"file": "a.png", "question": "q", "answer": "x", "answers": ["x", "y"], "suffix": "kept"}
    assert adapter(row) == Example("a.png", "q", "x", ["x", "y"], {"suffix": "kept"})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image": ""}, "image must be the name of a key"),
        ({"suffix": None}, "suffix must be the name of a key of the rows, got NoneType None"),
        ({"prefix": "suffix"}, "prefix = 'suffix'"),
        ({"part": ""}, "part must be the name of a key"),
        ({"groups": "part"}, "'part' is the name of another argument's key too"),
    ],
)
def test_key_names_that_cannot_be_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(AdapterError) as caught:
        JsonlAdapter(**arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": None}, "image must be a path or a list of paths, got NoneType None"),
        ({"image": 3}, "image must be a path or a list of paths, got int 3"),
        ({"image": ""}, "image is empty"),
        ({"image": []}, "image is empty"),
        ({"image": ["a.png", ""]}, "image must be a path or a list of paths"),
        ({"image": [["a.png"]]}, "image must be a path or a list of paths"),
        ({"image": {"path": "a.png"}}, "image must be a path or a list of paths, got dict"),
        ({"prefix": None}, "prefix must be a text, got NoneType None"),
        ({"prefix": ["a"]}, "prefix must be a text, got list ['a']"),
        ({"suffix": 12}, "suffix must be a text, got int 12"),
        ({"suffix": True}, "suffix must be a text, got bool True"),
        ({"references": "a cat"}, "references must be a list of texts, got str 'a cat'"),
        ({"references": [1]}, "references must be a list of texts (str), got int 1"),
        ({"metadata": "x"}, "metadata must be an object {...}, got str 'x'"),
        ({"part": 3}, "part must be a text, got int 3; if it is something else, name another key for the argument"),
        ({"question_type": ["a"]}, "question_type must be a text, got list ['a']"),
        ({"groups": "a"}, "groups must be an object {...}, got str 'a'"),
        ({"groups": {"patient": [1]}}, "groups.patient must be a text or a number, got list [1]"),
        ({"groups": {"patient": True}}, "groups.patient must be a text or a number, got bool True"),
        ({"metadata": {"id": 1}, "id": 2}, "the key 'id' is in the row and in its metadata"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        JsonlAdapter()({**ROW, **change})
    assert words in str(caught.value)


def test_a_missing_key_names_the_nearest() -> None:
    with pytest.raises(DataError) as caught:
        JsonlAdapter()({"images": "a.png", "prefix": "", "sufix": "x"})
    message = str(caught.value)
    assert "the key 'image' is missing; did you mean 'images'?" in message
    assert "the key 'suffix' is missing; did you mean 'sufix'?" in message


def test_an_empty_row_says_that_it_has_nothing() -> None:
    with pytest.raises(DataError, match="'image' is missing"):
        JsonlAdapter()({})
