"""The contact sheet: what must be on it, and that no text or picture breaks it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pgtune import picture
from pgtune.picture import SheetRow, contact_sheet

GREEN, RED, TRUTH_BOX, SAID_BOX = (22, 128, 61), (200, 38, 38), (0, 190, 80), (255, 138, 0)


def row(**changes: object) -> SheetRow:
    image = changes.pop("image", None) or Image.new("RGB", (112, 112), (90, 120, 200))
    values: dict[str, object] = {"prefix": "answer en What?", "references": ["river"], "prediction": "river"}
    return SheetRow(image=image, **{**values, **changes})  # type: ignore[arg-type]


def draw(tmp_path: Path, *rows: SheetRow, title: str = "exact_match 2 % -> 63 %", **options: int) -> Image.Image:
    path = tmp_path / "sheet.png"
    contact_sheet(rows, path, title=title, **options)
    assert [file.name for file in tmp_path.iterdir()] == ["sheet.png"], "written aside and renamed"
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        assert sheet.mode == "RGB"
        return sheet.copy()


def count(sheet: Image.Image, colour: tuple[int, int, int]) -> int:
    colours = sheet.getcolors(maxcolors=1 << 24)
    assert colours is not None
    return sum(number for number, found in colours if found == colour)


def test_frames_tell_right_from_wrong(tmp_path: Path) -> None:
    right = draw(tmp_path, row(correct=True))
    wrong = draw(tmp_path, row(correct=False))
    neither = draw(tmp_path, row())
    assert count(right, GREEN) > 1000
    assert count(right, RED) == 0
    assert count(wrong, RED) > 1000
    assert count(wrong, GREEN) == 0
    assert count(neither, GREEN) == count(neither, RED) == 0


def test_right_and_wrong_differ_without_colour(tmp_path: Path) -> None:
    right = draw(tmp_path, row(correct=True)).convert("L").point(lambda level: 255 * (level > 200))
    wrong = draw(tmp_path, row(correct=False)).convert("L").point(lambda level: 255 * (level > 200))
    assert right.tobytes() != wrong.tobytes()


def test_the_sheet_is_1200_wide_and_grows_with_its_rows(tmp_path: Path) -> None:
    few = draw(tmp_path, *[row()] * 3)
    many = draw(tmp_path, *[row()] * 24)
    assert few.width == many.width == 1200
    assert few.height < many.height < 3000


def test_rows_beyond_the_most_are_left_out(tmp_path: Path) -> None:
    assert draw(tmp_path, *[row()] * 30).size == draw(tmp_path, *[row()] * 24, row()).size
    assert draw(tmp_path, *[row()] * 9, max_rows=2, columns=1).height < draw(tmp_path, *[row()] * 9, columns=1).height


def test_the_same_rows_give_the_same_picture(tmp_path: Path) -> None:
    assert draw(tmp_path, row(), row(correct=True)).tobytes() == draw(tmp_path, row(), row(correct=True)).tobytes()


def test_what_was_said_before_is_shown_where_there_is_one(tmp_path: Path) -> None:
    assert draw(tmp_path, row()).tobytes() != draw(tmp_path, row(before="forest")).tobytes()
    assert draw(tmp_path, row(before="")).tobytes() != draw(tmp_path, row(before="forest")).tobytes()


def test_boxes_of_truth_and_prediction_are_drawn(tmp_path: Path) -> None:
    box, other = "<loc0100><loc0200><loc0700><loc0900>", "<loc0300><loc0300><loc1023><loc1023>"
    truth_only = draw(tmp_path, row(references=[f"{box} car"], prediction="car"))
    assert count(truth_only, TRUTH_BOX) > 100
    assert count(truth_only, SAID_BOX) == 0
    both = draw(tmp_path, row(references=[f"{box} car ; {other} bus"], prediction=f"{other} car"))
    assert count(both, TRUTH_BOX) > count(truth_only, TRUTH_BOX)
    assert count(both, SAID_BOX) > 50


def test_a_box_stands_where_its_tokens_say(tmp_path: Path) -> None:
    # Ymin and xmax at the edges: the frame's corner is the picture's upper right one, its lower left one the centre.
    image = Image.new("RGB", (112, 112), (255, 255, 255))
    sheet = draw(tmp_path, row(image=image, prefix="", references=["<loc0000><loc0512><loc0512><loc1023>"]))
    mask = Image.new("1", sheet.size)
    mask.putdata([pixel == TRUTH_BOX for pixel in sheet.get_flattened_data()])
    found = mask.getbbox()
    assert found is not None
    left, top, right, bottom = found
    assert right - left == pytest.approx(168 / 2, abs=3)
    assert bottom - top == pytest.approx(168 / 2, abs=3)
    assert left == pytest.approx(24 + 12 + 84, abs=3)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "\n\n", "\t", "é à ß", "日本語のテキスト", "🎼𝄞", "\ud800", "\x00\x07", "مرحبا", "x" * 3000,
        "word " * 800, "a\nb\r\nc", "<loc9999>" * 4, "<loc0001>", "<loc0500><loc0500><loc0100><loc0100>",
        "<loc0000><loc0000><loc0000><loc0000>", "e\u0301 \u200b", "%s {} \\", "\uffff",
    ],
)  # fmt: skip
def test_no_text_breaks_the_sheet(tmp_path: Path, text: str) -> None:
    sheet = draw(
        tmp_path,
        row(prefix=text, references=[text, "other"], prediction=text, before=text, correct=False),
        row(references=[]),
        title=text,
    )
    assert sheet.height < 900, "long text is cut off"


@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (300, 20)),
        Image.new("RGBA", (20, 300)),
        Image.new("P", (64, 64)),
        Image.new("1", (1, 1)),
        Image.new("RGB", (9000, 1)),
        Image.new("RGB", (1, 9000)),
    ],
)
def test_pictures_of_any_mode_and_shape(tmp_path: Path, image: Image.Image) -> None:
    assert draw(tmp_path, row(image=image)).width == 1200


def test_wide_pictures_stand_above_their_text(tmp_path: Path) -> None:
    blue = (0, 0, 255)
    wide = draw(tmp_path, row(image=Image.new("RGB", (900, 150), blue)))
    assert count(wide, blue) > 500 * 80


def test_no_rows(tmp_path: Path) -> None:
    assert draw(tmp_path).width == 1200


def test_an_old_sheet_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "sheet.png").write_text("old")
    draw(tmp_path, row())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain 1.5 %", "plain 1.5 %"),
        ("é ü Ⅳ ½", "e u IV 1⁄2"),
        ("2 → 3 – 4 − 5", "2 -> 3 - 4 - 5"),
        ("日🎼", "\uffff\uffff"),
        ("a\r\nb\tc", "a\nb\tc"),
    ],
)
def test_letters_that_the_font_lacks(text: str, expected: str) -> None:
    assert picture._readable(text) == expected


def test_wrapping_keeps_to_the_room_and_to_the_lines() -> None:
    font = picture._font(16)
    for text in ("one two three four five six seven", "<loc0001>" * 12, "a" * 200, "a b", ""):
        for most in (1, 2, 5):
            lines = picture._wrap(text, font, 90, most)
            assert 1 <= len(lines) <= most
            assert all(font.getlength(line) <= 90 for line in lines)
            joined = "".join(lines).replace(" ", "")
            assert joined == text.replace(" ", "") or joined.endswith("...")
    assert picture._wrap("one two", font, 500, 1) == ["one two"]
