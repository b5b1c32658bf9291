"""The contact sheet of a run: pictures with what was asked, the truth and what the model said, to be looked at.

Drawn with Pillow and the font inside it, so that it looks the same everywhere. That font knows ASCII and little more:
other letters are shown without their accents, what has no such form as an empty box, and the sheet says so below.
"""

from __future__ import annotations

import functools
import math
import os
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from PIL import Image, ImageDraw, ImageFont

from pgtune.locations import Box, decode_box

__all__ = ["SheetRow", "contact_sheet"]

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]

WIDTH = 1200
_MARGIN = 24
_GAP = 14
_PAD = 12
_FRAME = 4
_SIDE = 168  # a picture beside its text, in pixels
_TOP = 190  # the most height of a picture above its text, for pictures much wider than high
_WIDE = 1.9  # width / height from which on pictures stand above the text
_LABEL = 52  # room for the words asked, truth, before, after
_LINE = 20
_SPACE = 5

_PAPER: Colour = (246, 246, 244)
_CARD: Colour = (255, 255, 255)
_INK: Colour = (28, 28, 30)
_FAINT: Colour = (116, 116, 122)
_RIGHT: Colour = (22, 128, 61)
_WRONG: Colour = (200, 38, 38)
_OPEN: Colour = (176, 176, 182)
_TRUTH_BOX: Colour = (0, 190, 80)
_SAID_BOX: Colour = (255, 138, 0)

_FOUR_LOCATIONS = re.compile(r"(?:<loc[0-9]{4}>){4}")
_MISSING = "\uffff"
_PLAIN = {"→": "->", "←": "<-", "−": "-", "×": "x", "≤": "<=", "≥": ">=", "\r": ""}


@dataclass(frozen=True)
class SheetRow:
    """One example on the sheet. ``before`` is the base model's prediction, None where there is none.

    ``correct``: whether ``prediction`` counts as right; None where there is no such thing, as for a caption.
    """

    image: Image.Image
    prefix: str
    references: Sequence[str]
    prediction: str
    before: str | None = None
    correct: bool | None = None


@dataclass(frozen=True)
class _Text:
    """Lines of one colour, with a label before the first one."""

    label: str
    lines: list[str]
    colour: Colour


def contact_sheet(
    rows: Sequence[SheetRow], path: str | Path, *, title: str, columns: int | None = None, max_rows: int = 24
) -> None:
    """Write a PNG, 1200 pixels wide, that shows the first ``max_rows`` rows.

    ``columns``: by default three, or two where the pictures are much wider than high.

    A right answer stands in a green frame with a tick and the word, a wrong one in a red frame with a cross. Boxes in
    the truth and the prediction (four location tokens each) are drawn on the picture. ``title`` may have several
    lines, the first one is the headline. The file is written aside and renamed.
    """
    shown = rows[:max_rows]
    above = bool(shown) and median(row.image.width / row.image.height for row in shown) >= _WIDE
    columns = columns or (2 if above else 3)
    inner = (WIDTH - 2 * _MARGIN - (columns - 1) * _GAP) // columns
    cards = [_card(row, inner, above) for row in shown]
    heights = [max(card.height for card in cards[i : i + columns]) for i in range(0, len(cards), columns)]
    header, footer = _header(title), _footer(rows, shown)
    sheet = Image.new("RGB", (WIDTH, header.height + sum(heights) + _GAP * len(heights) + footer.height), _PAPER)
    sheet.paste(header, (0, 0))
    top = header.height
    for line, height in enumerate(heights):
        for column, card in enumerate(cards[line * columns : (line + 1) * columns]):
            left = _MARGIN + column * (inner + _GAP)
            ImageDraw.Draw(sheet).rectangle((left, top, left + inner - 1, top + height - 1), fill=_CARD)
            sheet.paste(card, (left, top))
            _frame(sheet, (left, top, left + inner - 1, top + height - 1), shown[line * columns + column].correct)
        top += height + _GAP
    sheet.paste(footer, (0, top))
    path = Path(path)
    aside = path.with_name(f".{path.name}.part")
    sheet.save(aside, format="PNG")
    os.replace(aside, path)


def _header(title: str) -> Image.Image:
    head, *rest = _readable(title).split("\n")
    room = WIDTH - 2 * _MARGIN
    texts = [(line, 26, _INK) for line in _wrap(head, _font(26), room, 2)]
    texts += [(line, 17, _FAINT) for more in rest for line in _wrap(more, _font(17), room, 3)]
    height = _MARGIN + sum(round(size * 1.4) for _, size, _ in texts) + _PAD
    strip = Image.new("RGB", (WIDTH, height), _PAPER)
    top = _MARGIN
    for line, size, colour in texts:
        ImageDraw.Draw(strip).text((_MARGIN, top), line, fill=colour, font=_font(size))
        top += round(size * 1.4)
    return strip


def _footer(rows: Sequence[SheetRow], shown: Sequence[SheetRow]) -> Image.Image:
    notes = [f"{len(shown)} of {len(rows)} examples"] if len(shown) < len(rows) else []
    texts = [text for row in shown for text in (row.prefix, row.prediction, row.before or "", *row.references[:1])]
    if any(_FOUR_LOCATIONS.search(text) for row in shown for text in (row.prediction, *row.references[:1])):
        notes.append(
            "[ymin xmin ymax xmax] = four location tokens; green, solid box = truth; orange, dashed = prediction"
        )
    if any(_readable(text) != text for text in texts):
        notes.append("letters that the font lacks are simplified")
    strip = Image.new("RGB", (WIDTH, _MARGIN + (20 if notes else 0)), _PAPER)
    ImageDraw.Draw(strip).text((_MARGIN, 2), "   |   ".join(notes), fill=_FAINT, font=_font(14))
    return strip


def _card(row: SheetRow, width: int, above: bool) -> Image.Image:
    """One row as a picture ``width`` wide and as high as it needs; without its frame.

    What was asked stands over the full width, below it the picture, beside or below that the truth and the answers.
    """
    room = width - 2 * _PAD
    picture = _with_boxes(row, (room, _TOP) if above else (_SIDE, _SIDE))
    asked = [_Text("asked", _lines(row.prefix, room - _LABEL, 3), _INK)] if row.prefix else []
    picture_top = _PAD + _height(asked)
    left = _PAD if above else _PAD + _SIDE + _PAD
    top = picture_top + picture.height + _PAD if above else picture_top
    answers = _answers(row, width - _PAD - left - _LABEL)
    verdict = 26 if row.correct is not None else 0
    height = max(top + _height(answers) + verdict, picture_top + picture.height) + _PAD
    card = Image.new("RGB", (width, height), _CARD)
    draw = ImageDraw.Draw(card)
    _write(draw, (_PAD, _PAD), asked)
    card.paste(picture, (_PAD + ((room if above else _SIDE) - picture.width) // 2, picture_top))
    _write(draw, (left, top), answers)
    if row.correct is not None:
        _verdict(draw, (left + _LABEL, top + _height(answers) + 2), row.correct)
    return card


def _answers(row: SheetRow, room: int) -> list[_Text]:
    said = {True: _RIGHT, False: _WRONG, None: _INK}[row.correct]
    truth = row.references[0] if row.references else ""
    others = len(set(row.references) - {truth})
    more = [f"(or {others} other{'s' * (others > 1)})"] if others else []
    texts = [_Text("truth", _lines(truth, room, 4) + more, _INK)]
    if row.before is not None:
        texts.append(_Text("before", _lines(row.before, room, 3), _FAINT))
    return [*texts, _Text("said" if row.before is None else "after", _lines(row.prediction, room, 4), said)]


def _lines(text: str, room: int, most: int) -> list[str]:
    return _wrap(_visible(_readable(text)), _font(16), room, most)


def _height(texts: Sequence[_Text]) -> int:
    return sum(_LINE * len(text.lines) + _SPACE for text in texts)


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], texts: Sequence[_Text]) -> None:
    left, top = at
    for text in texts:
        draw.text((left, top + 2), text.label, fill=_FAINT, font=_font(13))
        for line in text.lines:
            draw.text((left + _LABEL, top), line, fill=text.colour, font=_font(16))
            top += _LINE
        top += _SPACE


def _verdict(draw: ImageDraw.ImageDraw, at: tuple[int, int], correct: bool) -> None:
    """A tick or a cross, drawn since the font has neither, and the word: colour is never alone."""
    left, top = at
    colour = _RIGHT if correct else _WRONG
    tick = [(0, 9), (3, 6), (6, 10), (14, 0), (17, 3), (6, 16)]
    cross = [(0, 3), (3, 0), (8, 5), (13, 0), (16, 3), (11, 8), (16, 13), (13, 16), (8, 11), (3, 16), (0, 13), (5, 8)]
    draw.polygon([(left + x, top + y) for x, y in (tick if correct else cross)], fill=colour)
    draw.text((left + 24, top - 2), "right" if correct else "wrong", fill=colour, font=_font(16))


def _frame(sheet: Image.Image, edges: tuple[int, int, int, int], correct: bool | None) -> None:
    colour = {True: _RIGHT, False: _WRONG, None: _OPEN}[correct]
    ImageDraw.Draw(sheet).rectangle(edges, outline=colour, width=1 if correct is None else _FRAME)


def _with_boxes(row: SheetRow, room: tuple[int, int]) -> Image.Image:
    """The picture, fitted into ``room``, with the boxes of truth and prediction on it."""
    shrink = min(room[0] / row.image.width, room[1] / row.image.height)
    fitted = (max(1, round(row.image.width * shrink)), max(1, round(row.image.height * shrink)))
    picture = row.image.convert("RGB").resize(fitted, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    size = (picture.width - 1, picture.height - 1)
    for box in _boxes(row.references[0] if row.references else ""):
        draw.rectangle(_pixels(box, size), outline=_TRUTH_BOX, width=3)
    for box in _boxes(row.prediction):
        _dashed(draw, _pixels(box, size))
    return picture


def _boxes(text: str) -> list[Box]:
    found = (decode_box(match) for match in _FOUR_LOCATIONS.findall(text))
    return [box for box in found if box is not None]


def _pixels(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    width, height = size
    return round(box.xmin * width), round(box.ymin * height), round(box.xmax * width), round(box.ymax * height)


def _dashed(draw: ImageDraw.ImageDraw, edges: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = edges
    dash, step = 7, 12
    for x in range(left, right + 1, step):
        for y in (top, bottom):
            draw.line([(x, y), (min(x + dash, right), y)], fill=_SAID_BOX, width=3)
    for y in range(top, bottom + 1, step):
        for x in (left, right):
            draw.line([(x, y), (x, min(y + dash, bottom))], fill=_SAID_BOX, width=3)


@functools.cache
def _font(size: int) -> Font:
    return ImageFont.load_default(size)


@functools.cache
def _known(letter: str) -> bool:
    """Whether the font has the letter: what it lacks is drawn like a letter that cannot exist."""
    font = _font(16)
    glyph, missing = font.getmask(letter), font.getmask(_MISSING)
    return glyph.size != missing.size or bytes(glyph) != bytes(missing)


def _readable(text: str) -> str:
    """The text in letters that the font has: accents dropped, dashes made plain, the rest an empty box."""
    return "".join(map(_simplify, text))


@functools.cache
def _simplify(letter: str) -> str:
    if letter in "\n\t":
        return letter
    if letter.isprintable() and _known(letter):
        return letter
    if letter in _PLAIN:
        return _PLAIN[letter]
    kind = unicodedata.category(letter)
    if kind in ("Pd", "Mn"):  # dashes, and accents that stand on their own
        return "-" if kind == "Pd" else ""
    plain = "".join(part for part in unicodedata.normalize("NFKD", letter) if part.isprintable() and _known(part))
    return plain or _MISSING


def _visible(text: str) -> str:
    """Boxes short, tabs as space, ends that would be invisible in quotes, nothing at all in words."""
    text = _FOUR_LOCATIONS.sub(lambda match: f"[{' '.join(re.findall('[0-9]{4}', match[0]))}]", text)
    if not text:
        return "(nothing)"
    return f'"{text}"' if text != text.strip() else text.expandtabs(4)


def _wrap(text: str, font: Font, room: int, most: int) -> list[str]:
    """At most ``most`` lines no wider than ``room`` pixels; broken at spaces where possible, ended by "..." if cut."""
    # Nothing beyond this many letters can be seen; a report is not measured to its end for four lines.
    text = text[: most * room]
    lines = [line for paragraph in text.split("\n") for line in _wrap_line(paragraph, font, room)]
    if len(lines) <= most:
        return lines
    last = lines[most - 1]
    while last and font.getlength(last + "...") > room:
        last = last[:-1]
    return [*lines[: most - 1], last + "..."]


def _wrap_line(text: str, font: Font, room: int) -> Iterable[str]:
    line = ""
    for word in re.findall(r"\S+\s*|\s+", text):
        if line and font.getlength(line + word.rstrip()) > room:
            yield line.rstrip()
            line = ""
        # A word wider than a line, such as a row of location tokens, is cut anywhere.
        while font.getlength(word.rstrip()) > room:
            fitting = max(
                1, bisect_right(range(len(word)), room, key=lambda end: math.ceil(font.getlength(word[:end]))) - 1
            )
            yield word[:fitting]
            word = word[fitting:]
        line += word
    yield line.rstrip()
