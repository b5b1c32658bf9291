"""What the vision tower is asked in stage 1, and the right answers, computed from the scene.

Each patch is asked what lies on it, and each kind of scene has queries that answer for the whole picture. Every answer
is a class.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pgtune.data_adapters.generated.drawing import draw
from pgtune.data_adapters.generated.scenes import (
    COLOURS,
    SHAPES,
    TEXTURES,
    BarScene,
    LineScene,
    Scene,
    ShapeScene,
    StaffScene,
    TextScene,
    TextureScene,
    bar_boxes,
    note_points,
    text_widths,
)
from pgtune.tiny.architecture import PATCH, RESOLUTION

CHARACTERS = "\0" + "0123456789.%-" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + "abcdefghijklmnopqrstuvwxyz"
"""classes of a character slot; the first stands for none"""
LAYOUTS = ("whole", "left right", "top bottom")
BINS = 64
"""box edges are classified into this many bins"""
IGNORED = -100
SLOT_HEADS = ("character", "index", "name", "colour", "texture", "note")
"""heads whose class 0 stands for nothing here"""
FINE_HEADS = ("y1", "x1", "y2", "x2", "value")
"""heads of many ordered classes; they count a quarter"""

COLOUR = len(COLOURS) + 1
HEADS: dict[str, tuple[int, dict[str, int]]] = {
    "text": (6, {"character": len(CHARACTERS)}),
    "shapes": (10, {"name": len(SHAPES) + 1, "colour": COLOUR, **dict.fromkeys(("y1", "x1", "y2", "x2"), BINS)}),
    "texture": (2, {"texture": len(TEXTURES) + 1, "first": COLOUR, "second": COLOUR, "layout": len(LAYOUTS)}),
    "bars": (5, {"colour": COLOUR, "value": 50, "tens": 10, "units": 10}),
    "line": (1, {"colour": COLOUR, "trend": 3}),
    "staff": (6, {"note": 12}),
}
"""kind of scene -> number of queries, and for each head its number of classes"""

PATCH_HEADS: dict[str, dict[str, int]] = {
    "text": {"character": len(CHARACTERS), "index": 7},
    "shapes": {"name": len(SHAPES) + 1, "colour": COLOUR},
    "texture": {"texture": len(TEXTURES) + 1, "first": COLOUR, "second": COLOUR},
    "bars": {"colour": COLOUR, "tens": 10, "units": 10},
    "staff": {"note": 12},
}
"""kind of scene -> what every patch is asked, with the number of classes"""

Labels = dict[str, list[int]]
Batch = tuple[Tensor, dict[str, tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]]]
"""Pictures (batch, 3, height, width) in [-1, 1]; for each kind of scene its rows, and by head the classes of
its queries (rows, queries) and of its patches (rows, patches)."""


def labels(scene: Scene) -> tuple[str, Labels]:
    """The kind of a scene and, for each of its heads, a class per query (IGNORED: nothing to say)."""
    colour = {name: place + 1 for place, name in enumerate(COLOURS)}
    if isinstance(scene, TextScene):
        classes = [CHARACTERS.index(character) for character in scene.text]
        return "text", {"character": classes + [0] * (6 - len(classes))}
    if isinstance(scene, ShapeScene):
        cells: Labels = {head: [IGNORED] * 10 for head in HEADS["shapes"][1]}
        cells["name"][:9] = cells["colour"][:9] = [0] * 9
        cells["colour"][9] = colour[scene.background]
        for shape in scene.shapes:
            cells["name"][shape.place] = SHAPES.index(shape.name) + 1
            cells["colour"][shape.place] = colour[shape.colour]
            for edge, value in zip(("y1", "x1", "y2", "x2"), shape.box, strict=True):
                cells[edge][shape.place] = min(BINS - 1, int(value * BINS))
        return "shapes", cells
    if isinstance(scene, TextureScene):
        patches = scene.patches
        missing = 2 - len(patches)
        return "texture", {
            "texture": [TEXTURES.index(patch.texture) + 1 for patch in patches] + [0] * missing,
            "first": [colour[patch.colours[0]] for patch in patches] + [IGNORED] * missing,
            "second": [colour[patch.colours[1]] for patch in patches] + [IGNORED] * missing,
            "layout": [LAYOUTS.index(scene.layout), IGNORED],
        }
    if isinstance(scene, BarScene):
        missing = 5 - len(scene.values)
        printed = scene.values if scene.labelled else (IGNORED * 11,) * len(scene.values)
        return "bars", {
            "colour": [colour[name] for name in scene.colours] + [0] * missing,
            "value": [value // 2 for value in scene.values] + [IGNORED] * missing,
            "tens": [value // 10 if value > 0 else IGNORED for value in printed] + [IGNORED] * missing,
            "units": [value % 10 if value > 0 else IGNORED for value in printed] + [IGNORED] * missing,
        }
    if isinstance(scene, LineScene):
        return "line", {"colour": [colour[scene.colour]], "trend": [scene.trend + 1]}
    return "staff", {"note": [place + 1 for place in scene.positions] + [0] * (6 - len(scene.positions))}


def patch_labels(scene: Scene) -> Labels:
    """For each of the kind's patch heads, a class per patch in reading order (IGNORED: nothing to say)."""
    side = RESOLUTION // PATCH
    middles = [((row + 0.5) / side, (column + 0.5) / side) for row in range(side) for column in range(side)]
    if isinstance(scene, TextScene):
        found = [_character_at(scene, y, x) for y, x in middles]
        characters = [CHARACTERS.index(scene.text[index]) if index >= 0 else 0 for index in found]
        return {"character": characters, "index": [index + 1 for index in found]}
    colour = {name: place + 1 for place, name in enumerate(COLOURS)}
    if isinstance(scene, ShapeScene):
        over = [
            next((one for one in scene.shapes if one.box[0] < y < one.box[2] and one.box[1] < x < one.box[3]), None)
            for y, x in middles
        ]
        return {
            "name": [SHAPES.index(shape.name) + 1 if shape else 0 for shape in over],
            "colour": [colour[shape.colour if shape else scene.background] for shape in over],
        }
    if isinstance(scene, TextureScene):
        axis = 1 if scene.layout == "left right" else 0
        under = [scene.patches[int(middle[axis] * len(scene.patches))] for middle in middles]
        return {
            "texture": [TEXTURES.index(patch.texture) + 1 for patch in under],
            "first": [colour[patch.colours[0]] for patch in under],
            "second": [colour[patch.colours[1]] for patch in under],
        }
    if isinstance(scene, BarScene):
        bars: Labels = {"colour": [0] * side**2, "tens": [IGNORED] * side**2, "units": [IGNORED] * side**2}
        for value, name, box in zip(scene.values, scene.colours, bar_boxes(scene), strict=True):
            top, left, bottom, right = box
            for place, (y, x) in enumerate(middles):
                if top < y < bottom and left < x < right:
                    bars["colour"][place] = colour[name]
            if scene.labelled:
                # the middle of the printed number
                place = int((top - 0.06) * side) * side + int((left + right) / 2 * side)
                bars["tens"][place], bars["units"][place] = value // 10, value % 10
        return bars
    if isinstance(scene, StaffScene):
        notes = [0] * len(middles)
        for position, (y, x) in zip(scene.positions, note_points(scene), strict=True):
            notes[min(side - 1, max(0, int(y * side))) * side + int(x * side)] = position + 1
        return {"note": notes}
    return {}


def _character_at(scene: TextScene, y: float, x: float) -> int:
    """Index of the character that covers a point, -1 for none."""
    turn = math.radians(scene.angle)
    down, right = y - scene.y, x - scene.x
    along = right * math.cos(turn) - down * math.sin(turn)
    across = right * math.sin(turn) + down * math.cos(turn)
    if abs(across) > 0.45 * scene.height:
        return -1
    edges = [(length - text_widths(scene.text)[-1] / 2) * scene.height for length in text_widths(scene.text)]
    return next((i for i in range(len(scene.text)) if edges[i] <= along < edges[i + 1]), -1)


def make_batch(scenes: list[Scene]) -> Batch:
    """Draw the scenes and sort their labels by kind."""
    pixels = np.stack([np.asarray(draw(scene, RESOLUTION)) for scene in scenes])
    pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1
    rows: dict[str, list[int]] = {}
    asked: dict[str, list[tuple[Labels, Labels]]] = {}
    for row, scene in enumerate(scenes):
        kind, found = labels(scene)
        rows.setdefault(kind, []).append(row)
        asked.setdefault(kind, []).append((found, patch_labels(scene)))
    targets = {}
    for kind in rows:
        queries, patches = (
            {head: torch.tensor([pair[which][head] for pair in asked[kind]]) for head in asked[kind][0][which]}
            for which in (0, 1)
        )
        targets[kind] = (torch.tensor(rows[kind]), queries, patches)
    return pictures, targets
