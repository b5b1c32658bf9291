"""Pictures that look alike: found after compression and resizing, not invented for pictures of one style."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from pgtune.lookalikes import Lookalike, lookalikes, nearly_the_same, print_of, prints


def photo(seed: int, size: tuple[int, int] = (240, 180)) -> Image.Image:
    """Smooth noise: a picture with parts of all sizes, as photographs have."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def chart(heights: list[int]) -> Image.Image:
    """Bars in one style."""
    image = Image.new("RGB", (400, 300), "white")
    draw = ImageDraw.Draw(image)
    for place, height in enumerate(heights):
        draw.rectangle((30 + 60 * place, 280 - height, 70 + 60 * place, 280), fill="steelblue")
    return image


def jpeg(image: Image.Image, quality: int = 60) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def compressed(image: Image.Image) -> Image.Image:
    return jpeg(image)


def smaller(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)


def brighter(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1.06)


@pytest.mark.parametrize("change", [compressed, smaller, brighter])
@pytest.mark.parametrize("seed", range(5))
def test_a_changed_copy_is_found(change: Callable[[Image.Image], Image.Image], seed: int) -> None:
    others = [photo(number) for number in range(10)]
    copy = change(photo(seed))
    found = lookalikes([copy], prints([copy]), others, prints(others))
    assert found == [Lookalike(0, seed, "nearly the same")]


def test_the_same_pixels_are_the_same_whatever_the_file() -> None:
    others = [photo(1), photo(2), photo(2)]
    found = lookalikes([photo(2)], prints([photo(2)]), others, prints(others))
    assert found == [Lookalike(0, 1, "same")]


def test_the_same_pixels_in_another_shape_are_not_the_same() -> None:
    assert print_of(Image.new("RGB", (4, 6))).exact != print_of(Image.new("RGB", (6, 4))).exact


def test_different_pictures_are_not_alike() -> None:
    others = [photo(number) for number in range(40)]
    mine = [photo(number) for number in range(100, 140)]
    assert lookalikes(mine, prints(mine), others, prints(others)) == []


def test_charts_of_one_style_differ() -> None:
    one, other = chart([100, 150, 80, 200, 120]), chart([100, 150, 80, 200, 160])
    assert not nearly_the_same(one, other)
    assert nearly_the_same(one, jpeg(one, 40))
    assert lookalikes([one], prints([one]), [other], prints([other])) == []


def test_pictures_without_detail_differ_by_their_shade() -> None:
    assert nearly_the_same(Image.new("RGB", (30, 30), (90, 90, 90)), Image.new("RGB", (30, 30), (100, 100, 100)))
    assert not nearly_the_same(Image.new("RGB", (30, 30), (90, 90, 90)), Image.new("RGB", (30, 30), (120, 120, 120)))


def test_done_is_called_for_each_picture() -> None:
    seen: list[int] = []
    prints([photo(1), photo(2), photo(3)], done=lambda: seen.append(1))
    assert len(seen) == 3
