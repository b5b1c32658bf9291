"""Finding the same, or nearly the same, picture among many: what `pgtune audit` looks for on both sides of a split.

A picture is known by 64 bits, the difference hash of N. Krawetz ("Kind of Like That", 2013): shrunk to 9 x 8 grey
pixels, each bit says whether a pixel is darker than its right neighbour. Two pictures with at most ``NEAR_BITS``
different bits are candidates; they are the same if their pixels are equal, and nearly the same if no part of them
differs. Pictures that were compressed, resized or brightened a little are found; cropped, mirrored or turned ones not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pgtune.example import ImageSource
from pgtune.images import open_image

__all__ = ["Lookalike", "Print", "lookalikes", "nearly_the_same", "print_of"]

NEAR_BITS = 8
"""Different bits, out of 64, up to which two pictures are compared further."""

_SIDE, _BLOCK, _TOLERANCE = 128, 8, 20.0
_CANDIDATES = 8


@dataclass(frozen=True)
class Print:
    """A picture's marks: of its exact pixels (SHA-256 over size and RGB), and its 64-bit difference hash."""

    exact: bytes
    bits: int


@dataclass(frozen=True)
class Lookalike:
    """Picture ``index`` of one side looks like ``other`` of the other side."""

    index: int
    other: int
    kind: Literal["same", "nearly the same"]


def print_of(source: ImageSource) -> Print:
    """The marks of one picture. Raises DataError where it cannot be opened."""
    image = open_image(source)
    small = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BILINEAR), dtype=np.int16)
    bits = np.packbits(small[:, :-1] < small[:, 1:]).tobytes()
    digest = hashlib.sha256(f"{image.width}x{image.height}".encode() + image.tobytes()).digest()
    return Print(digest, int.from_bytes(bits, "big"))


def prints(sources: Sequence[ImageSource], done: Callable[[], None] = lambda: None) -> list[Print]:
    """The marks of many pictures, in their order; ``done`` is called after each."""
    found = []
    with ThreadPoolExecutor(4) as pool:  # Pillow decodes without holding Python's lock
        waiting = iter(sources)
        # In portions: a pool that is handed everything at once holds everything at once.
        while portion := list(islice(waiting, 256)):
            for one in pool.map(print_of, portion):
                found.append(one)
                done()
    return found


def nearly_the_same(one: ImageSource, other: ImageSource) -> bool:
    """Whether no part of two pictures differs: both as 128 x 128 grey pixels, their differences averaged over blocks of
    8 x 8; at most 20 of 255 in every block.

    The greatest difference decides and not the mean: two charts of one style differ in a few bars only.
    """
    count = _SIDE // _BLOCK
    blocks = np.abs(_grey(one) - _grey(other)).reshape(count, _BLOCK, count, _BLOCK).mean(axis=(1, 3))
    return bool(blocks.max() <= _TOLERANCE)


def _grey(source: ImageSource) -> NDArray[np.float64]:
    image = open_image(source).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float64)


def lookalikes(
    sources: Sequence[ImageSource],
    own: Sequence[Print],
    others: Sequence[ImageSource],
    theirs: Sequence[Print],
) -> list[Lookalike]:
    """For each picture of ``sources`` its look-alike among ``others``, if it has one: the same before a near one."""
    exact = {one.exact: index for index, one in reversed(list(enumerate(theirs)))}
    bits = np.array([one.bits for one in theirs], dtype=np.uint64)
    found = []
    for index, one in enumerate(own):
        if one.exact in exact:
            found.append(Lookalike(index, exact[one.exact], "same"))
            continue
        distances = np.bitwise_count(bits ^ np.uint64(one.bits))
        near = np.flatnonzero(distances <= NEAR_BITS)
        for other in near[np.argsort(distances[near], kind="stable")][:_CANDIDATES].tolist():
            if nearly_the_same(sources[index], others[other]):
                found.append(Lookalike(index, other, "nearly the same"))
                break
    return found
