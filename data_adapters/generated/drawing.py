"""Pictures of scenes, drawn with Pillow and NumPy: pure functions of the scene and the size."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pgtune.data_adapters.generated.scenes import (
    BarScene,
    LineScene,
    Patch,
    Scene,
    ShapeScene,
    StaffScene,
    TextScene,
    TextureScene,
    bar_boxes,
    font,
    note_points,
)
from pgtune.locations import Box


def draw(scene: Scene, size: int = 112) -> Image.Image:
    """The picture of a scene: RGB, `size` x `size` pixels."""
    if isinstance(scene, TextScene):
        return _draw_text(scene, size)
    if isinstance(scene, ShapeScene):
        return _draw_shapes(scene, size)
    if isinstance(scene, TextureScene):
        return _draw_textures(scene, size)
    if isinstance(scene, BarScene):
        return _draw_bars(scene, size)
    if isinstance(scene, LineScene):
        return _draw_line(scene, size)
    return _draw_staff(scene, size)


def _draw_text(scene: TextScene, size: int) -> Image.Image:
    ink = Image.new("L", (size, size))
    ImageDraw.Draw(ink).text(
        (scene.x * size, scene.y * size), scene.text, fill=255, anchor="mm",
        font=font(max(6, round(scene.height * size))), stroke_width=scene.stroke,
    )  # fmt: skip
    ink = ink.rotate(scene.angle, Image.Resampling.BILINEAR, center=(scene.x * size, scene.y * size))
    picture = Image.new("RGB", (size, size), scene.paper)
    picture.paste(scene.ink, mask=ink)
    return picture


def _polygon(name: str, box: Box) -> list[tuple[float, float]]:
    """Corner points (x, y) of a shape that touches all four sides of its box."""
    top, left, bottom, right = box
    y, x = (top + bottom) / 2, (left + right) / 2
    if name == "triangle":
        return [(x, top), (right, bottom), (left, bottom)]
    if name == "diamond":
        return [(x, top), (right, y), (x, bottom), (left, y)]
    if name == "cross":
        third_x, third_y = (right - left) / 3, (bottom - top) / 3
        columns = (left, left + third_x, right - third_x, right)
        rows = (top, top + third_y, bottom - third_y, bottom)
        corners = ((1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (2, 2), (2, 3), (1, 3), (1, 2), (0, 2), (0, 1), (1, 1))
        return [(columns[column], rows[row]) for column, row in corners]
    raw = [
        (radius * math.sin(step * math.pi / 5), -radius * math.cos(step * math.pi / 5))
        for step, radius in enumerate((1.0, 0.45) * 5)
    ]
    low_y, high_y = min(point[1] for point in raw), max(point[1] for point in raw)
    wide = max(point[0] for point in raw)
    return [
        (x + px / wide * (right - left) / 2, top + (py - low_y) / (high_y - low_y) * (bottom - top)) for px, py in raw
    ]


def _draw_shapes(scene: ShapeScene, size: int) -> Image.Image:
    picture = Image.new("RGB", (size, size), scene.paper)
    pen = ImageDraw.Draw(picture)
    for shape in scene.shapes:
        top, left, bottom, right = (value * size for value in shape.box)
        # Pillow includes the last pixel, so the far edges are drawn one pixel short
        around = (left, top, right - 1, bottom - 1)
        if shape.name == "circle":
            pen.ellipse(around, fill=shape.rgb)
        elif shape.name == "ring":
            pen.ellipse(around, outline=shape.rgb, width=max(2, round((right - left) * 0.2)))
        elif shape.name == "square":
            pen.rectangle(around, fill=shape.rgb)
        else:
            pen.polygon(_polygon(shape.name, Box(top, left, bottom - 1, right - 1)), fill=shape.rgb)
    return picture


def _second(patch: Patch, size: int) -> NDArray[np.bool_]:
    """Which pixels have the second colour: size x size."""
    rng = np.random.default_rng(patch.seed)
    grain = max(3, round(patch.grain * size))
    y, x = np.mgrid[0:size, 0:size]
    phase = int(rng.integers(grain))
    if patch.texture == "striped":
        along = (x, y, x + y)[int(rng.integers(3))]
        return np.asarray((along + phase) // grain % 2 == 1)
    if patch.texture == "checkered":
        return np.asarray((x + phase) // grain % 2 != (y + phase) // grain % 2)
    if patch.texture == "dotted":
        middle_y, middle_x = ((value + phase) % grain - (grain - 1) / 2 for value in (y, x))
        return np.asarray(middle_y**2 + middle_x**2 < (0.33 * grain) ** 2)
    if patch.texture == "patchy":
        coarse = rng.random((size // grain + 3, size // grain + 3), dtype=np.float32)
        smooth = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
        return np.asarray(np.asarray(smooth) > 0.55)
    if patch.texture == "rough":
        return np.asarray(rng.random((size, size)) < 0.35)
    return np.zeros((size, size), dtype=np.bool_)


def _texture(patch: Patch, size: int) -> NDArray[np.uint8]:
    first, second = np.array(patch.rgbs, dtype=np.float32)
    pixels = np.where(_second(patch, size)[..., None], second, first)
    rng = np.random.default_rng(patch.seed + 1)
    noise = {"rough": 30.0, "smooth": 2.0}.get(patch.texture, 6.0)
    pixels = pixels + noise * rng.standard_normal((size, size, 1), dtype=np.float32)
    return np.asarray(np.clip(pixels, 0, 255), dtype=np.uint8)


def _draw_textures(scene: TextureScene, size: int) -> Image.Image:
    pixels = _texture(scene.patches[0], size)
    if scene.layout == "left right":
        pixels[:, size // 2 :] = _texture(scene.patches[1], size)[:, size // 2 :]
    elif scene.layout == "top bottom":
        pixels[size // 2 :] = _texture(scene.patches[1], size)[size // 2 :]
    return Image.fromarray(pixels)


def _draw_bars(scene: BarScene, size: int) -> Image.Image:
    picture = Image.new("RGB", (size, size), scene.paper)
    pen = ImageDraw.Draw(picture)
    for value, rgb, box in zip(scene.values, scene.rgbs, bar_boxes(scene), strict=True):
        top, left, bottom, right = (edge * size for edge in box)
        pen.rectangle((left, top, right, bottom), fill=rgb)
        if scene.labelled:
            middle = ((left + right) / 2, top - 1)
            pen.text(middle, str(value), fill=(0, 0, 0), anchor="mb", font=font(round(0.14 * size)))
    _draw_axes(pen, size)
    return picture


def _draw_axes(pen: ImageDraw.ImageDraw, size: int) -> None:
    pen.line((0.06 * size, 0.05 * size, 0.06 * size, 0.95 * size, size - 1, 0.95 * size), fill=(0, 0, 0))


def _draw_line(scene: LineScene, size: int) -> Image.Image:
    picture = Image.new("RGB", (size, size), scene.paper)
    pen = ImageDraw.Draw(picture)
    points = [((0.12 + 0.2 * step) * size, (0.93 - 0.86 * high) * size) for step, high in enumerate(scene.heights)]
    pen.line(points, fill=scene.rgb, width=max(1, round(size / 45)))
    for x, y in points:
        pen.ellipse((x - size / 50, y - size / 50, x + size / 50, y + size / 50), fill=scene.rgb)
    _draw_axes(pen, size)
    return picture


def _draw_staff(scene: StaffScene, size: int) -> Image.Image:
    picture = Image.new("RGB", (size, size), scene.paper)
    pen = ImageDraw.Draw(picture)
    for line in range(5):
        level = round((scene.top + line * scene.gap) * size)
        pen.line((2, level, size - 3, level), fill=(60, 60, 60))
    half = 0.46 * scene.gap * size
    for position, point in zip(scene.positions, note_points(scene), strict=True):
        y, x = point[0] * size, point[1] * size
        pen.ellipse((x - 1.25 * half, y - half, x + 1.25 * half, y + half), fill=(0, 0, 0))
        if scene.stems:
            up = position < 5
            stem = x + 1.2 * half if up else x - 1.2 * half
            pen.line((stem, y, stem, y + (-3 if up else 3) * scene.gap * size), fill=(0, 0, 0))
    return picture
