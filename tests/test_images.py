"""Opening any image: what comes out is right, what cannot be right is refused with one message that names the file."""

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from pgtune import images
from pgtune.errors import DataError
from pgtune.images import check_image, open_image

ORIENTATION = 0x0112


def gradient(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.linear_gradient("L").resize(size).convert(mode)


def pixel(source: Any, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    picture = open_image(source)
    assert picture.mode == "RGB"
    value = picture.getpixel(at)
    assert isinstance(value, tuple)
    return tuple(int(channel) for channel in value)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("a.png", "RGB"),
        ("a.png", "L"),
        ("a.png", "1"),
        ("a.png", "P"),
        ("a.png", "RGBA"),
        ("a.png", "LA"),
        ("a.jpg", "RGB"),
        ("a.jpg", "L"),
        ("a.jpg", "CMYK"),
        ("a.webp", "RGB"),
        ("a.bmp", "RGB"),
        ("a.gif", "P"),
        ("a.ppm", "RGB"),
        ("a.jp2", "RGB"),
        ("a.tif", "RGB"),
        ("a.tif", "CMYK"),
        ("a.tif", "YCbCr"),
    ],
)
def test_formats_and_modes_become_rgb(tmp_path: Path, name: str, mode: str) -> None:
    path = tmp_path / name
    gradient(mode).save(path)
    check_image(path)
    picture = open_image(path)
    assert (picture.mode, picture.size) == ("RGB", (40, 30))
    wanted = np.asarray(gradient("1" if mode == "1" else "RGB").convert("RGB"), dtype=int)
    assert np.abs(np.asarray(picture, dtype=int) - wanted).mean() < 8


def test_the_file_is_closed_and_the_picture_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    gradient().save(path)
    picture = open_image(path)
    path.unlink()
    assert picture.getpixel((0, 0)) is not None  # an open file would warn, and warnings are errors here


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_laid_on_white(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    Image.new(mode, (4, 4), (0, 0, 0, 0) if mode == "RGBA" else (0, 0)).save(path)
    assert pixel(path) == (255, 255, 255)
    Image.new(mode, (4, 4), (0, 0, 0, 128) if mode == "RGBA" else (0, 128)).save(path)
    assert pixel(path) == (127, 127, 127)


def test_palettes_and_colour_keys_with_transparency_are_laid_on_white(tmp_path: Path) -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((0, 0), 0)
    palette.save(tmp_path / "index.png", transparency=1)
    palette.save(tmp_path / "index.gif", transparency=1)
    palette.save(tmp_path / "bytes.png", transparency=bytes([255, 0]))
    for name in ("index.png", "index.gif", "bytes.png"):
        assert pixel(tmp_path / name, (1, 1)) == (255, 255, 255)
        assert pixel(tmp_path / name, (0, 0)) == (255, 0, 0)
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "key.png", transparency=(1, 2, 3))
    Image.new("L", (4, 4), 7).save(tmp_path / "grey.png", transparency=7)
    assert pixel(tmp_path / "key.png") == (255, 255, 255)
    assert pixel(tmp_path / "grey.png") == (255, 255, 255)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_mapped_from_the_full_range(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16)).save(path)
    assert [pixel(path, (x, 0))[0] for x in range(4)] == [0, 1, 128, 255]


def test_32_bit_integers_are_taken_as_16_bit_where_they_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0, 65535]], dtype=np.int32)).save(path)
    assert pixel(path, (1, 0)) == (255, 255, 255)


def test_floating_point_is_mapped_from_0_to_1(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)).save(path)
    assert [pixel(path, (x, 0))[0] for x in range(3)] == [0, 128, 255]


def test_big_endian_16_bit_is_read_as_such() -> None:
    raw = struct.pack(">4H", 0, 257, 32896, 65535)
    picture = Image.frombytes("I;16B", (4, 1), raw)
    assert [pixel(picture, (x, 0))[0] for x in range(4)] == [0, 1, 128, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    upright = Image.new("RGB", (32, 16), "white")
    upright.paste("black", (0, 0, 16, 8))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored.save(path, exif=exif, quality=100)
    picture = open_image(path)
    assert picture.size == (32, 16)
    assert pixel(path, (2, 2))[0] < 50
    assert pixel(path, (30, 2))[0] > 200
    assert pixel(path, (2, 14))[0] > 200


def test_a_phone_photo_with_pictures_beside_it_is_its_first(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    preview = Image.new("RGB", (8, 8), "black")
    Image.new("RGB", (16, 16), "white").save(path, format="MPO", save_all=True, append_images=[preview])
    assert open_image(path).size == (16, 16)
    assert pixel(path) == (255, 255, 255)


def test_overviews_in_a_tiff_are_not_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    overview = Image.new("RGB", (8, 8), "black")
    overview.encoderinfo = {"tiffinfo": {254: 1}}
    Image.new("RGB", (16, 16), "white").save(path, save_all=True, append_images=[overview])
    with Image.open(path) as stored:
        assert isinstance(stored, TiffImagePlugin.TiffImageFile)
        assert stored.n_frames == 2
    assert open_image(path).size == (16, 16)


def test_a_pil_image_is_left_as_it_is() -> None:
    given = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert pixel(given) == (255, 255, 255)
    assert given.mode == "RGBA"
    rgb = Image.new("RGB", (4, 4))
    opened = open_image(rgb)
    opened.putpixel((0, 0), (255, 255, 255))
    assert rgb.getpixel((0, 0)) == (0, 0, 0)


def draw(colour: str) -> Image.Image:
    return Image.new("P" if colour == "black" else "RGB", (3, 3), 0 if colour == "black" else colour)


def test_a_callable_is_asked_for_its_picture() -> None:
    assert pixel(partial(draw, "red")) == (255, 0, 0)
    assert pixel(partial(draw, "black")) == (0, 0, 0)


# What is refused

PNG = io.BytesIO()
Image.linear_gradient("L").convert("RGB").save(PNG, "PNG")
JPEG = io.BytesIO()
Image.linear_gradient("L").convert("RGB").save(JPEG, "JPEG")


def written(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content)
        return path

    return write


def saved(name: str, picture: Image.Image, **options: Any) -> Callable[[Path], Path]:
    def save(folder: Path) -> Path:
        path = folder / name
        picture.save(path, **options)
        return path

    return save


def encoded(kind: str, keep: float, **options: Any) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, kind, **options)
    return buffer.getvalue()[: int(len(buffer.getvalue()) * keep)]


def frames(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (8, 8), (40 * index, 0, 0)) for index in range(count)]


def huge_png(width: int, height: int) -> bytes:
    content = bytearray(PNG.getvalue())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def corrupt(content: bytes) -> bytes:
    damaged = bytearray(content)
    middle = len(damaged) // 2
    damaged[middle : middle + 64] = bytes(64)
    return bytes(damaged)


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda folder: folder / "a.png", "no such file"),
    "missing folder": (lambda folder: folder / "nowhere" / "a.png", "there is no folder"),
    "inside a file": (lambda folder: written("f", b"x")(folder) / "a.png", "no such file"),
    "a folder": (lambda folder: folder, "is a folder"),
    "a zero byte in the name": (lambda folder: folder / "a\0.png", "not a file that can be opened"),
    "a name that is too long": (lambda folder: folder / ("a" * 300 + ".png"), "not a file that can be opened"),
    "empty": (written("a.png", b""), "empty (0 bytes)"),
    "text": (written("a.png", b"this is not a picture at all"), "not an image"),
    "one byte": (written("a.jpg", b"\xff"), "not an image"),
    "pdf": (written("a.png", b"%PDF-1.7 ..."), "a PDF"),
    "postscript": (written("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"), "PostScript"),
    "svg": (written("a.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "an SVG drawing"),
    "xml": (written("a.png", b"<?xml version='1.0'?><svg/>"), "perhaps an SVG drawing"),
    "web page": (written("a.jpg", b"<!DOCTYPE html><html>404</html>"), "a web page"),
    "lfs pointer": (written("a.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:0"), "git lfs pull"),
    "zip": (written("a.png", b"PK\x03\x04" + bytes(40)), "a ZIP archive"),
    "dicom": (written("a.dcm", bytes(128) + b"DICM" + bytes(40)), "DICOM, which data.adapter: dicom reads"),
    "heic": (written("a.heic", b"\0\0\0\x18ftypheic" + bytes(40)), "HEIC"),
    "truncated png": (written("a.png", encoded("PNG", 0.6)), "damaged or truncated"),
    "truncated jpeg": (written("a.jpg", encoded("JPEG", 0.6)), "damaged or truncated"),
    "truncated gif": (written("a.gif", encoded("GIF", 0.6)), "damaged or truncated"),
    "truncated bmp": (written("a.bmp", encoded("BMP", 0.6)), "damaged or truncated"),
    "truncated tiff": (written("a.tif", encoded("TIFF", 0.6)), "a.tif"),
    "truncated webp": (written("a.webp", encoded("WEBP", 0.6, lossless=True)), "a.webp"),
    "truncated jpeg 2000": (written("a.jp2", encoded("JPEG2000", 0.3)), "a.jp2"),
    "truncated ppm": (written("a.ppm", encoded("PPM", 0.6)), "damaged or truncated"),
    "header only": (written("a.png", PNG.getvalue()[:40]), "its beginning is damaged"),
    "damaged inside": (written("a.png", corrupt(encoded("PNG", 1))), "damaged or truncated"),
    "animated gif": (saved("a.gif", frames(3)[0], save_all=True, append_images=frames(3)[1:]), "3 frames"),
    "animated png": (saved("a.png", frames(2)[0], save_all=True, append_images=frames(2)[1:]), "2 frames"),
    "animated webp": (saved("a.webp", frames(2)[0], save_all=True, append_images=frames(2)[1:]), "2 frames"),
    "pages": (saved("a.tif", frames(4)[0], save_all=True, append_images=frames(4)[1:]), "4 pages"),
    "too many pixels": (written("a.png", huge_png(10_000, 10_000)), "10000 x 10000 is 100,000,000 pixels"),
    "far too many pixels": (written("a.png", huge_png(60_000, 60_000)), "pixels; tile or shrink it"),
    "float": (saved("a.tif", Image.fromarray(np.full((2, 2), 1.5, np.float32))), "expected 0 to 1"),
    "negative float": (saved("a.tif", Image.fromarray(np.full((2, 2), -1000.0, np.float32))), "normalise"),
    "not a number": (saved("a.tif", Image.fromarray(np.full((2, 2), np.nan, np.float32))), "nan"),
    "32 bit": (saved("a.tif", Image.fromarray(np.full((2, 2), 70_000, np.int32))), "from 70000 to 70000"),
    "negative": (saved("a.tif", Image.fromarray(np.full((2, 2), -1, np.int32))), "expected 0 to 65535"),
    "lab colours": (saved("a.tif", Image.new("LAB", (2, 2))), "LAB"),
    "another format": (saved("a.tga", Image.new("RGB", (4, 4))), "not an image"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path, case: str) -> None:
    make, words = REFUSED[case]
    path = make(tmp_path)
    with pytest.raises(DataError) as caught:
        open_image(path)
    message = str(caught.value)
    assert words in message
    assert path.name in message or repr(path.name)[1:-1] in message
    assert "\n" not in message


@pytest.mark.parametrize("case", ["missing", "empty", "text", "pages", "animated gif", "too many pixels"])
def test_the_header_alone_shows_much_of_it(tmp_path: Path, case: str) -> None:
    make, words = REFUSED[case]
    with pytest.raises(DataError) as caught:
        check_image(make(tmp_path))
    assert words in str(caught.value)


def test_the_limit_on_pixels_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    with pytest.raises(DataError, match="121 pixels, at most 100"):
        open_image(Image.new("RGB", (11, 11)))


def fails() -> Image.Image:
    raise KeyError("palette")


def gives_a_path() -> Any:
    return "a.png"


def makes_bad_data() -> Image.Image:
    return open_image("nowhere/a.png")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (fails, "fails raised KeyError: 'palette'"),
        (gives_a_path, "gives_a_path must give a PIL image, got str"),
        (makes_bad_data, "nowhere/a.png: no such file"),
        (partial(draw, "no colour"), "raised ValueError"),
    ],
)
def test_a_callable_that_fails_is_named(source: Callable[[], Image.Image], words: str) -> None:
    with pytest.raises(DataError) as caught:
        open_image(source)
    assert words in str(caught.value)


def test_a_pil_image_whose_file_is_gone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    gradient().save(path)
    with Image.open(path) as picture:
        pass
    with pytest.raises(DataError, match="the image: is damaged"):
        open_image(picture)


def test_pillows_warnings_do_not_leak(tmp_path: Path) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"  # says five tags, has one
    path = tmp_path / "a.jpg"
    gradient().save(path, exif=exif)
    with pytest.warns(UserWarning, match="EXIF"):
        Image.open(path).close()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        open_image(path)
    assert seen == []


def test_warning_filters_survive_threads(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    gradient(size=(300, 300)).save(path)
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [open_image(path) for _ in range(5)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


def write_tiff(path: Path, values: np.ndarray, bits: int, *, zero_is_white: bool = False, geo: bool = False) -> None:
    """A little-endian grey TIFF of one strip, packed by hand: Pillow writes none of these kinds."""
    height, width = values.shape
    if bits == 12:
        whole = "".join(f"{value:012b}" for value in values.ravel())
        data = int(whole, 2).to_bytes(len(whole) // 8, "big")
    else:
        data = values.astype(f"<u{bits // 8}").tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 0 if zero_is_white else 1, 273: 8, 277: 1, 278: height,
            279: len(data), **({34735: 1} if geo else {})}  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + directory)


@pytest.mark.parametrize(("bits", "top"), [(8, 255), (12, 4095), (16, 65535)])
@pytest.mark.parametrize("zero_is_white", [False, True])
def test_grey_tiffs_of_any_depth_and_with_0_as_white(
    tmp_path: Path, bits: int, top: int, zero_is_white: bool
) -> None:
    path = tmp_path / "a.tif"
    write_tiff(path, np.array([[0, top // 5, 2 * top // 5, top]]), bits, zero_is_white=zero_is_white)
    if bits == 12 and zero_is_white:
        with pytest.raises(DataError, match="a kind of pixels that is not read"):
            open_image(path)
        return
    found = [pixel(path, (x, 0))[0] for x in range(4)]
    wanted = [0, 51, 102, 255]
    assert np.abs(np.array(found) - (255 - np.array(wanted) if zero_is_white else wanted)).max() <= 1


def test_a_geotiff_of_more_than_8_bits_is_left_to_its_data_adapter(tmp_path: Path) -> None:
    write_tiff(tmp_path / "wide.tif", np.array([[0, 3000]]), 16, geo=True)
    write_tiff(tmp_path / "byte.tif", np.array([[0, 200]]), 8, geo=True)
    for look in (check_image, open_image):
        with pytest.raises(DataError, match=r"wide\.tif: a GeoTIFF of 16 bits; data\.adapter: geotiff reads it"):
            look(tmp_path / "wide.tif")
    assert pixel(tmp_path / "byte.tif", (1, 0)) == (200, 200, 200)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_pictures_are_turned_upright_too(tmp_path: Path, name: str) -> None:
    values = np.zeros((2, 3), np.uint16)
    values[0, 0] = 65535
    picture = Image.fromarray(values)
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned clockwise: the first pixel goes to the top right
    picture.save(tmp_path / name, exif=exif)
    opened = open_image(tmp_path / name)
    assert opened.size == (2, 3)
    assert opened.getpixel((1, 0)) == (255, 255, 255)
    assert opened.getpixel((0, 0)) == (0, 0, 0)


def test_a_16_bit_colour_key_is_laid_on_white(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 3, 1, 16, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" + struct.pack(">3H", 0, 770, 32896))
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tRNS", struct.pack(">H", 770))
    (tmp_path / "a.png").write_bytes(file + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    assert [pixel(tmp_path / "a.png", (x, 0))[0] for x in range(3)] == [0, 255, 128]


def test_a_tiled_tiff_is_put_together(tmp_path: Path) -> None:
    wide = Image.linear_gradient("L").resize((70, 40)).convert("RGB")
    wide.save(tmp_path / "a.tif", compression="tiff_adobe_deflate", tiffinfo={322: 16, 323: 32})
    assert open_image(tmp_path / "a.tif").tobytes() == wide.tobytes()
