"""Groups: what an example shares with others."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from PIL import Image

from pgtune.errors import DataError
from pgtune.example import Example
from pgtune.groups import group_of, picture_identity


def draw(colour: str, values: Any = None) -> Image.Image:
    return Image.new("RGB", (4, 4), colour)


@dataclass(frozen=True)
class Drawn:
    colour: str

    def __call__(self) -> Image.Image:
        return draw(self.colour)


class Plain:
    """Prints as its address does."""

    def __init__(self, colour: str) -> None:
        self.colour = colour

    def __call__(self) -> Image.Image:
        return draw(self.colour)


def example(image: Any = "a.png", **fields: Any) -> Example:
    return Example(image, "", "x", **fields)


def test_groups_go_before_metadata_and_that_before_the_picture() -> None:
    assert group_of(example(groups={"patient": "7"}, metadata={"patient": 8}), "patient") == "7"
    assert [group_of(example(metadata={"patient": one}), "patient") for one in (8, "8")] == ["8", "8"]
    assert group_of(example(groups={"image": "i"}), "image") == "i"
    assert group_of(example("/x/a.png"), "image") == "/x/a.png"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"groups": {"patient": "7"}}, "has no group 'patiant'; did you mean 'patient'? (it has patient, image)"),
        ({"metadata": {"id": 7}}, "has no group 'patiant' (it has id, image)"),
        ({"metadata": {"patiant": None}}, "must be a text that is not empty or a number, got NoneType None"),
        ({"metadata": {"patiant": True}}, "got bool True"),
        ({"metadata": {"patiant": [1]}}, "got list [1]"),
        ({"groups": {"patiant": ""}}, "got str ''"),
    ],
)
def test_a_group_that_is_not_there(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        group_of(example(**fields), "patiant")
    assert words in str(caught.value)


def test_the_same_picture_is_the_same_group() -> None:
    same = [
        (draw("red"), draw("red")),
        (partial(draw, "red"), partial(draw, "".join(["r", "ed"]))),
        (Drawn("red"), Drawn("red")),
        (Plain("red"), Plain("red")),
        (partial(draw, "red", list(range(5000))), partial(draw, "red", list(range(5000)))),
    ]
    for one, other in same:
        assert picture_identity(one) == picture_identity(other)
    shared = "red"
    pair, apart = partial(draw, shared, [shared, shared]), partial(draw, "red", ["".join("red"), "".join("red")])
    assert picture_identity(pair) == picture_identity(apart), "whether objects are shared has no part in it"


def test_another_picture_is_another_group() -> None:
    pictures = [
        *("a.png", "b.png", draw("red"), draw("blue"), draw("red").convert("L"), draw("red").resize((2, 8))),
        *(partial(draw, "red"), partial(draw, "blue"), Drawn("red"), Drawn("blue"), Plain("red"), Plain("blue")),
        *(partial(draw, "red", [*range(5000), last]) for last in (1, 2)),
    ]
    assert len({picture_identity(picture) for picture in pictures}) == len(pictures)
    assert group_of(example(["a.png", "b.png"]), "image") != group_of(example("a.png"), "image")
