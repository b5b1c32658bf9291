"""Scenes: what a generated picture shows, as small frozen records, and drawing them at random.

Unit coordinates: x to the right, y down, both 0 to 1. Each maker is a pure function of the state of `rng`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import ImageFont

from pgtune.locations import Box

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (215, 40, 40), "green": (50, 160, 60), "blue": (45, 80, 215), "yellow": (240, 220, 50),
    "orange": (245, 140, 30), "purple": (130, 50, 170), "brown": (125, 80, 45), "pink": (250, 150, 195),
    "black": (22, 22, 22), "grey": (135, 135, 135), "white": (245, 245, 245),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "star", "ring")
TEXTURES = ("smooth", "rough", "patchy", "striped", "checkered", "dotted")
PLACES = (
    "top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right",
)  # fmt: skip
NOTES = ("D", "E", "F", "G", "A", "B", "C", "D", "E", "F", "G")
"""treble clef, from below the lowest line to above the highest; a note's position is its index here"""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WORDS = tuple(
    """
    a an and area at axis bar be big blue book box by can car cat city clef corn crop day dog dry east end eye farm
    field fish flat flow for from go gold good green half hand hat he high hill home hour house in is it key lake land
    leaf left light line low lung major man map may milk minor moon more name new no north note of off oil old on one
    open or out page park part peak point rain rate red rest right river road roof row sale sand sea see set sharp
    ship sky small snow south stem sum sun tax ten test the time to top total town tree two unit up value wall water
    we week west wet white who wind wood year yes you zero
    """.split()  # noqa: SIM905 - a list literal would be a page
)


@dataclass(frozen=True)
class TextScene:
    """One line of text; `height` is the font size, `x`, `y` the middle of the text, `angle` in degrees."""

    text: str
    height: float
    x: float
    y: float
    angle: float
    stroke: int
    ink: RGB
    paper: RGB


@dataclass(frozen=True)
class Shape:
    """One shape filling its box; `place` is its cell in the 3 x 3 grid, an index into PLACES."""

    name: str
    colour: str
    rgb: RGB
    box: Box
    place: int


@dataclass(frozen=True)
class ShapeScene:
    """1 to 5 shapes that do not overlap, in reading order."""

    shapes: tuple[Shape, ...]
    background: str
    paper: RGB


@dataclass(frozen=True)
class Patch:
    """A textured rectangle: main and second colour (the same where it has one only), grain as part of the size."""

    texture: str
    colours: tuple[str, str]
    rgbs: tuple[RGB, RGB]
    grain: float
    seed: int


@dataclass(frozen=True)
class TextureScene:
    """One or two patches; two stand side by side (`layout` "left right") or one above the other ("top bottom")."""

    patches: tuple[Patch, ...]
    layout: str


@dataclass(frozen=True)
class BarScene:
    """2 to 5 upright bars of different colours; values 1 to 99, printed above the bars where `labelled`."""

    values: tuple[int, ...]
    colours: tuple[str, ...]
    rgbs: tuple[RGB, ...]
    width: float
    labelled: bool
    paper: RGB


@dataclass(frozen=True)
class LineScene:
    """One plotted line through evenly spaced heights (0 to 1); `trend` is -1, 0 or 1."""

    heights: tuple[float, ...]
    colour: str
    rgb: RGB
    trend: int
    paper: RGB


@dataclass(frozen=True)
class StaffScene:
    """1 to 6 notes on a staff of five lines; positions are indices into NOTES; `gap` is the distance of two lines."""

    positions: tuple[int, ...]
    top: float
    gap: float
    stems: bool
    paper: RGB


Scene = TextScene | ShapeScene | TextureScene | BarScene | LineScene | StaffScene


def _shade(rng: random.Random, name: str, spread: int = 14) -> RGB:
    red, green, blue = (min(255, max(0, value + rng.randint(-spread, spread))) for value in COLOURS[name])
    return red, green, blue


def _paper(rng: random.Random) -> RGB:
    level = rng.randint(225, 255)
    red, green, blue = (min(255, level + rng.randint(-6, 6)) for _ in range(3))
    return red, green, blue


def random_text(rng: random.Random, characters: int = 6) -> str:
    """A string of 1 to `characters` characters: mostly digits, also words, capitals and small numeric forms."""
    kind = rng.random()
    if kind < 0.6 or characters < 3:
        length = min(characters, rng.choices((1, 2, 3, 4, 5, 6), (8, 42, 22, 16, 6, 6))[0])
        return "".join(rng.choice("0123456789") for _ in range(length))
    if kind < 0.7:
        whole = rng.randint(0, 99)
        return rng.choice((f"{whole % 10}.{rng.randint(0, 9)}", f"{whole}%", f"-{whole % 10}"))[:characters]
    if kind < 0.9:
        word = rng.choice([word for word in WORDS if len(word) <= characters])
        return rng.choice((word, word, word.upper(), word.capitalize()))
    return "".join(rng.choice(LETTERS) for _ in range(rng.randint(1, min(3, characters))))


def text_scene(rng: random.Random, characters: int = 6) -> TextScene:
    """A line of text, dark on light or light on dark, in a random size, weight, place and slight rotation."""
    text = random_text(rng, characters)
    # width in parts of the font size, with some room for the stroke and the rotation
    width = text_widths(text)[-1] + 0.12
    height = min(0.62, 0.86 / width) * rng.uniform(0.75, 1.0)
    dark, light = _shade(rng, rng.choice(("black", "black", "red", "green", "blue", "purple", "brown"))), _paper(rng)
    ink, paper = (dark, light) if rng.random() < 0.8 else (light, dark)
    across = 0.46 - width * height / 2
    return TextScene(
        text, height, 0.5 + rng.uniform(-across, across), 0.5 + rng.uniform(-0.12, 0.12), rng.uniform(-5, 5),
        rng.randint(0, 1), ink, paper,
    )  # fmt: skip


def shape_scene(rng: random.Random, count: int | None = None, names: Sequence[str] = SHAPES) -> ShapeScene:
    """`count` shapes (None: 1 to 5, mostly 1 or 2) in different cells of the grid, each with a colour of its own."""
    count = count or rng.choices((1, 2, 3, 4, 5), (50, 25, 12, 8, 5))[0]
    background = rng.choices(("white", "grey", "black", "yellow", "blue", "green"), (60, 12, 10, 6, 6, 6))[0]
    colours = rng.sample([name for name in COLOURS if name != background], count)
    shapes = []
    for place, colour in zip(sorted(rng.sample(range(9), count)), colours, strict=True):
        large = count == 1 and rng.random() < 0.5
        half = rng.uniform(0.19, 0.25) if large else rng.uniform(0.085, 0.12)
        # alone it may lie anywhere in its cell; beside others it keeps away from the neighbours
        room = 1 / 6 - 0.03 if count == 1 else 0.045
        y, x = (
            rng.uniform(max(middle - room, half + 0.01), min(middle + room, 0.99 - half))
            for middle in ((cell + 0.5) / 3 for cell in divmod(place, 3))
        )
        shapes.append(
            Shape(rng.choice(names), colour, _shade(rng, colour), Box(y - half, x - half, y + half, x + half), place)
        )
    return ShapeScene(tuple(shapes), background, _shade(rng, background, 8))


def texture_scene(rng: random.Random) -> TextureScene:
    """One patch (60 %) or two, each smooth or textured, in one or two named colours."""

    def patch() -> Patch:
        texture = rng.choice(TEXTURES)
        first, second = rng.sample(list(COLOURS), 2)
        if texture == "smooth" or (texture == "rough" and rng.random() < 0.5):
            second = first
        if texture in ("patchy", "striped", "checkered"):
            # neither colour is the ground of the other here, so that the order of their names must not matter
            first, second = sorted((first, second))
        return Patch(
            texture, (first, second), (_shade(rng, first), _shade(rng, second)), rng.uniform(0.08, 0.16),
            rng.getrandbits(31),
        )  # fmt: skip

    if rng.random() < 0.6:
        return TextureScene((patch(),), "whole")
    return TextureScene((patch(), patch()), rng.choice(("left right", "top bottom")))


def bar_scene(rng: random.Random) -> BarScene:
    """A bar chart whose values differ by at least 8, so that tallest and shortest are plain to see."""
    count = rng.randint(2, 5)
    steps = rng.sample(range(11), count)
    values = tuple(10 + 8 * step + rng.randint(0, 1) for step in steps)
    colours = tuple(rng.sample([name for name in COLOURS if name not in ("white", "pink")], count))
    return BarScene(
        values, colours, tuple(_shade(rng, name) for name in colours), rng.uniform(0.5, 0.85), rng.random() < 0.6,
        _paper(rng),
    )  # fmt: skip


def line_scene(rng: random.Random) -> LineScene:
    """A line plot of five points that rises, falls or stays level, with a little noise."""
    trend = rng.choice((-1, 0, 1))
    slope = trend * rng.uniform(0.35, 0.7)
    level = 0.5 + rng.uniform(-0.1, 0.1) * (1 if trend else 2)
    heights = tuple(level + slope * (step / 4 - 0.5) + rng.uniform(-0.05, 0.05) for step in range(5))
    colour = rng.choice([name for name in COLOURS if name not in ("white", "yellow", "pink")])
    return LineScene(heights, colour, _shade(rng, colour), trend, _paper(rng))


def staff_scene(rng: random.Random) -> StaffScene:
    """1 to 6 notes: half of the staves rise or fall throughout, the others wander."""
    count = rng.randint(1, 6)
    if count > 1 and rng.random() < 0.6:
        positions = sorted(rng.sample(range(11), count), reverse=rng.random() < 0.5)
    else:
        positions = [rng.randrange(11) for _ in range(count)]
    gap = rng.uniform(0.09, 0.12)
    return StaffScene(tuple(positions), 0.5 - 2 * gap + rng.uniform(-0.1, 0.1), gap, rng.random() < 0.6, _paper(rng))


@lru_cache(maxsize=128)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's built-in font at a size in pixels."""
    return ImageFont.load_default(size=size)


@lru_cache(maxsize=4096)
def text_widths(text: str) -> tuple[float, ...]:
    """Where each character of a line begins, and where the last one ends, in parts of the font size."""
    return tuple(font(64).getlength(text[:end]) / 64 for end in range(len(text) + 1))


def bar_boxes(scene: BarScene) -> list[Box]:
    """Where the bars are drawn, from left to right."""
    left, floor, ceiling = 0.06, 0.95, 0.16
    pitch = (1 - 1.5 * left) / len(scene.values)
    middles = [left + (place + 0.5) * pitch for place in range(len(scene.values))]
    half = pitch * scene.width / 2
    return [
        Box(floor - (floor - ceiling) * value / 99, middle - half, floor, middle + half)
        for value, middle in zip(scene.values, middles, strict=True)
    ]


def note_points(scene: StaffScene) -> list[tuple[float, float]]:
    """The middles (y, x) of the note heads, from left to right."""
    pitch = 0.92 / len(scene.positions)
    return [
        (scene.top + (4.5 - position / 2) * scene.gap, 0.05 + (place + 0.5) * pitch)
        for place, position in enumerate(scene.positions)
    ]
