"""How a picture becomes the model's square where transformers' image processor does it otherwise.

Two settings go beyond that processor: padding with white before resizing, and bilinear resizing without averaging. They
are kept in the saved processor under names that plain transformers reads past, and applied before it is called; the
picture then has the model's size, and the processor only scales its values.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pgtune.images import MAX_PIXELS

__all__ = ["bilinear", "describe", "remember", "settings_of", "square"]

_FIT, _ANTIALIAS = "pgtune_image_fit", "pgtune_antialias"
_DEFAULTS: dict[str, Any] = {_FIT: "stretch", _ANTIALIAS: True}


def remember(image_processor: Any, *, image_fit: str | None = None, antialias: bool | None = None) -> None:
    """Keep the settings in the image processor, with which they are saved; None keeps what it has."""
    for name, value in ((_FIT, image_fit), (_ANTIALIAS, antialias)):
        if value == _DEFAULTS[name]:
            vars(image_processor).pop(name, None)  # so that the default writes nothing of ours
        elif value is not None:
            setattr(image_processor, name, value)


def settings_of(image_processor: Any) -> tuple[str, bool]:
    """(image_fit, antialias) of a processor, the defaults where it has none of its own."""
    fit, antialias = (vars(image_processor).get(name, default) for name, default in _DEFAULTS.items())
    return str(fit), bool(antialias)


def square(image: Image.Image, image_processor: Any) -> Image.Image:
    """An RGB picture as far on its way to the model as transformers' processor would not take it."""
    fit, antialias = settings_of(image_processor)
    if fit == "pad":
        image = _padded(image)
    if not antialias:
        size = image_processor.size
        pixels = bilinear(np.asarray(image), size["height"], size["width"])
        # tf.cast to uint8 takes the whole part; a mean of four bytes is never outside of 0..255.
        image = Image.fromarray(pixels.astype(np.uint8))
    return image


def _padded(image: Image.Image) -> Image.Image:
    """The picture in the middle of a white square. One whose square would be too large is made smaller first."""
    side = max(image.size)
    if side * side > MAX_PIXELS:
        side = math.isqrt(MAX_PIXELS)
        shrink = side / max(image.size)
        width, height = (max(1, round(length * shrink)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    padded = Image.new("RGB", (side, side), "white")
    padded.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return padded


def bilinear(pixels: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.float32]:
    """``tf.image.resize(pixels, (height, width), "bilinear", antialias=False)``: [H, W, C] to float32 values 0 to 255.

    Pixel centres are at halves, each value is mixed from its four neighbours and from no others, edges are repeated.
    The steps and their float32 are those of TensorFlow's CPU kernel (`resize_bilinear_op.cc`), so that an even ground
    keeps its value to the last bit, which matters since the result is cut to whole numbers afterwards. The same to
    rounding as torch's ``interpolate(mode="bilinear", align_corners=False, antialias=False)``.
    """
    top, bottom, down = _neighbours(pixels.shape[0], height)
    left, right, across = _neighbours(pixels.shape[1], width)
    across, down = across[None, :, None], down[:, None, None]

    def row(index: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        line = pixels[index]
        start, end = line[:, left].astype(np.float32), line[:, right].astype(np.float32)
        mixed: npt.NDArray[np.float32] = start + (end - start) * across
        return mixed

    upper, lower = row(top), row(bottom)
    result: npt.NDArray[np.float32] = upper + (lower - upper) * down
    return result


def _neighbours(
    inputs: int, outputs: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """For each output the input before it, the one after it, and its way from the one to the other, 0 to 1."""
    scale = np.float32(inputs) / np.float32(outputs)
    places = (np.arange(outputs, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    whole = np.floor(places)
    before = np.maximum(whole.astype(np.int64), 0)
    after = np.minimum(np.ceil(places).astype(np.int64), inputs - 1)
    return before, after, places - whole


def describe(image_processor: Any) -> str:
    """What plain transformers would do otherwise with this processor, for the saved folder; "" where nothing."""
    fit, antialias = settings_of(image_processor)
    size = image_processor.size
    steps = []
    if fit == "pad":
        steps.append("put in the middle of a white square as large as its longer side")
    if not antialias:
        steps.append(
            f"resized to {size['width']} x {size['height']} as by tf.image.resize(method='bilinear', antialias=False) "
            "and cut to whole numbers (torch: interpolate(mode='bilinear', align_corners=False, antialias=False))"
        )
    if not steps:
        return ""
    return (
        "# How pictures are prepared for this model\n\n"
        "It was trained on pictures that `AutoProcessor` alone does not make. pgtune does it by itself; with plain\n"
        "transformers each picture has to be, before it is given to the processor,\n\n"
        + "".join(f"{number}. {step}\n" for number, step in enumerate(steps, start=1))
        + "\nWithout that the model sees other pictures than it was trained on, and no error says so.\n"
    )


NOTE = "PICTURES.md"


def write_note(image_processor: Any, folder: Path) -> None:
    """Put `describe` beside a saved processor, where there is something to say."""
    if text := describe(image_processor):
        (folder / NOTE).write_text(text, encoding="utf-8")
