"""Own imagery: rasters of every kind as pictures, labels in tiles, and the way back to the map."""

from __future__ import annotations

import contextlib
import json
import pickle
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import remote_sensing_fixtures as made
import shapely
from PIL import Image
from test_remote_sensing import read

from pgtune.data_adapters.remote_sensing import geotiff_look
from pgtune.data_adapters.remote_sensing.geotiff import GeoTiffAdapter
from pgtune.data_adapters.remote_sensing.geotiff_export import Found, merged
from pgtune.data_adapters.remote_sensing.geotiff_raster import Tile, open_raster
from pgtune.data_adapters.remote_sensing.tiling import Objects, Placed
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example
from pgtune.images import open_image
from pgtune.locations import BINS, decode_detections


def shown(path: Path, **arguments: Any) -> Any:
    """The whole of a raster as pixels (row, column, 3)."""
    (example,) = GeoTiffAdapter(size=None, overlap=0, **arguments).inputs(path, "detect x")
    return np.asarray(open_image(example.images[0]))


def gradient(kind: str, low: float, high: float, bands: int = 3, side: int = 40) -> Any:
    """Bands that rise from left to right, each a little later than the one before."""
    row = np.linspace(low, high, side)
    return np.stack([np.tile(row, (side, 1)) - band * (high - low) / 50 for band in range(bands)]).astype(kind)


class TestPictures:
    def test_8_bits_stay(self, tmp_path: Path) -> None:
        values = np.random.default_rng(0).integers(0, 256, (3, 20, 30), dtype=np.uint8)
        path = made.raster(tmp_path / "a.tif", values, photometric="RGB")
        assert (shown(path) == np.moveaxis(values, 0, -1)).all()
        assert (shown(path, bands=[3, 1, 2]) == np.moveaxis(values[[2, 0, 1]], 0, -1)).all()
        assert (shown(path, bands=[2]) == values[1][..., None]).all()

    @pytest.mark.parametrize("kind", ["uint16", "int16", "uint32", "float32", "float64"])
    def test_percentiles(self, tmp_path: Path, kind: str) -> None:
        values = gradient(kind, 1000, 3000)
        path = made.raster(tmp_path / "a.tif", values, photometric="RGB" if kind == "uint16" else "MINISBLACK")
        got = shown(path).astype(int)
        for band in range(3):
            low, high = np.percentile(values[band].astype(float), [2, 98])
            wanted = np.round(np.clip((values[band] - low) / (high - low), 0, 1) * 255).astype(int)
            assert abs(got[..., band] - wanted).max() <= 1
        assert got.min() == 0
        assert got.max() == 255

    def test_fixed_stretch(self, tmp_path: Path) -> None:
        values = np.zeros((3, 4, 4), dtype=np.int16)
        values[0], values[1], values[2] = 500, -100, 2000
        path = made.raster(tmp_path / "a.tif", values, photometric="MINISBLACK")
        assert shown(path, stretch=[0, 1000])[0, 0].tolist() == [128, 0, 255]
        assert shown(path, stretch=[[0, 500], [-200, 0], [0, 4000]])[0, 0].tolist() == [255, 128, 128]
        with pytest.raises(DataError, match="holds int16"):
            shown(path, stretch="none")
        with pytest.raises(DataError, match="1 pairs, expected one for each of 3"):
            shown(path, stretch=[[0, 1]])

    def test_the_stretch_is_the_scenes_and_not_the_tiles(self, tmp_path: Path) -> None:
        values = gradient("uint16", 1000, 4000, side=64)
        path = made.raster(tmp_path / "a.tif", values, photometric="RGB")
        tiles = list(GeoTiffAdapter(size=32, overlap=0).inputs(path, "detect x"))
        left, right = (np.asarray(open_image(tiles[i].images[0])) for i in (0, 1))
        assert left.max() < 140
        assert right.min() > 100

    def test_nodata_stays_out_of_the_stretch(self, tmp_path: Path) -> None:
        values = gradient("int16", 1000, 2000, bands=1)
        values[:, :, :10] = -9999
        path = made.raster(tmp_path / "a.tif", values, nodata=-9999)
        picture = shown(path, fill=[9, 8, 7])
        assert (picture[:, :10] == [9, 8, 7]).all()
        assert picture[0, 12, 0] < 20
        assert picture[0, -1, 0] == 255
        untagged = made.raster(tmp_path / "b.tif", values)
        assert shown(untagged)[0, 12, 0] > 200, "what the file does not say is not guessed"
        assert (shown(untagged, nodata=-9999, fill=[9, 8, 7]) == picture).all()

    @pytest.mark.parametrize("tag", [None, float("nan")])
    def test_what_is_not_finite(self, tmp_path: Path, tag: float | None) -> None:
        values = gradient("float32", 0, 1)
        values[1, 3:6, 3:6], values[0, 10, 10] = np.nan, np.inf
        path = made.raster(tmp_path / "a.tif", values, nodata=tag, photometric="MINISBLACK")
        picture = shown(path, fill=[255, 0, 255])
        assert (picture[3:6, 3:6] == [255, 0, 255]).all()
        assert picture[10, 10].tolist() == [255, 0, 255]
        values[2, 20:30] = np.finfo(np.float32).min
        path = made.raster(tmp_path / "b.tif", values, nodata=tag, photometric="MINISBLACK")
        lowest = shown(path, fill=[255, 0, 255])
        assert (lowest[20:30] == [255, 0, 255]).all()
        assert abs(lowest[35, 5:] - picture[35, 5:].astype(int)).max() <= 3
        assert picture[0, 0].tolist() != [255, 0, 255]
        assert picture[0, -1, 0] == 255

    def test_a_dark_band_is_not_nodata_alone(self, tmp_path: Path) -> None:
        values = np.full((3, 4, 4), 50, dtype=np.uint8)
        values[0] = 0
        values[:, 0, 0] = 0
        picture = shown(made.raster(tmp_path / "a.tif", values, nodata=0, photometric="RGB"), fill=[1, 2, 3])
        assert picture[2, 2].tolist() == [0, 50, 50]
        assert picture[0, 0].tolist() == [1, 2, 3]

    @pytest.mark.parametrize(("kind", "opaque"), [("uint8", 255), ("uint16", 65535), ("uint16", 255)])
    def test_alpha_is_a_mask(self, tmp_path: Path, kind: str, opaque: int) -> None:
        values = np.concatenate([gradient(kind, 10, 250), np.full((1, 40, 40), opaque)]).astype(kind)
        values[:, :, 20:] = 0
        path = made.raster(tmp_path / "a.tif", values, photometric="RGB", alpha="YES")
        picture = shown(path, fill=[200, 0, 0])
        assert (picture[:, 20:] == [200, 0, 0]).all()
        assert (picture[:, :20] != [200, 0, 0]).any(axis=-1).all()
        if kind == "uint16":
            assert picture[0, 19, 0] == 255, "percentiles are those of the opaque half"
        tagged = made.raster(tmp_path / "b.tif", values, photometric="RGB", alpha="YES", nodata=9)
        assert (shown(tagged, fill=[200, 0, 0])[:, 20:] == [200, 0, 0]).all(), "a nodata value hides no alpha"

    @pytest.mark.parametrize("inside", [True, False])
    def test_masks(self, tmp_path: Path, inside: bool) -> None:
        values = np.full((3, 8, 8), 90, dtype=np.uint8)
        mask = np.full((8, 8), 255, dtype=np.uint8)
        mask[:, :3] = 0
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside):
            path = made.raster(tmp_path / "a.tif", values, photometric="RGB")
            with rasterio.open(path, "r+") as file:
                file.write_mask(mask)
        assert (tmp_path / "a.tif.msk").exists() is not inside
        picture = shown(path, fill=[0, 255, 0])
        assert (picture[:, :3] == [0, 255, 0]).all()
        assert (picture[:, 3:] == 90).all()

    def test_palette(self, tmp_path: Path) -> None:
        values = np.array([[[0, 1], [2, 3]]], dtype=np.uint8)
        path = made.raster(tmp_path / "a.tif", values, photometric="palette")
        with rasterio.open(path, "r+") as file:
            file.write_colormap(1, {0: (10, 20, 30, 255), 1: (255, 0, 0, 255), 2: (0, 0, 255, 255)})
        assert shown(path).tolist() == [[[10, 20, 30], [255, 0, 0]], [[0, 0, 255], [0, 0, 0]]]

    def test_white_is_zero(self, tmp_path: Path) -> None:
        values = np.array([[[0, 100, 255]]], dtype=np.uint8)
        path = made.raster(tmp_path / "a.tif", values, photometric="MINISWHITE")
        assert shown(path)[0, :, 0].tolist() == [255, 155, 0]

    def test_bits(self, tmp_path: Path) -> None:
        values = np.array([[[0, 1, 1, 0]]], dtype=np.uint8)
        assert shown(made.raster(tmp_path / "a.tif", values, nbits=1))[0, :, 0].tolist() == [0, 255, 255, 0]

    def test_bands_by_colour_name_or_order(self, tmp_path: Path) -> None:
        values = np.stack([np.full((4, 4), 10 * band, dtype=np.uint8) for band in range(1, 6)])
        path = made.raster(tmp_path / "a.tif", values[:4], photometric="MINISBLACK")
        (example,) = GeoTiffAdapter(size=None, overlap=0).inputs(path, "detect x")
        assert shown(path)[0, 0].tolist() == [10, 20, 30]
        assert example.metadata["bands"] == "1, 2, 3 of 4, for the file names no red, green and blue"
        with rasterio.open(path, "r+") as file:
            file.descriptions = ("blue", "green", "red", "nir")
        (example,) = GeoTiffAdapter(size=None, overlap=0).inputs(path, "detect x")
        assert shown(path)[0, 0].tolist() == [30, 20, 10]
        assert "bands" not in example.metadata
        two = made.raster(tmp_path / "b.tif", values[:2], photometric="MINISBLACK")
        assert shown(two)[0, 0].tolist() == [10, 10, 10]
        with pytest.raises(DataError, match="has 2 bands, and no band 4"):
            shown(two, bands=[4, 3, 2])

    def test_a_constant_scene_is_grey(self, tmp_path: Path) -> None:
        assert (shown(made.raster(tmp_path / "a.tif", np.full((1, 4, 4), 7, dtype=np.uint16))) == 128).all()

    def test_few_bright_targets(self, tmp_path: Path) -> None:
        values = np.zeros((1, 100, 100), dtype=np.float32)
        values[0, 5, 5] = 3
        picture = shown(made.raster(tmp_path / "a.tif", values))
        assert picture[5, 5, 0] == 255
        assert picture[0, 0, 0] == 0

    @pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
    def test_other_colours(self, tmp_path: Path, mode: str) -> None:
        colour = {"CMYK": (255, 0, 0, 0), "YCbCr": (171, 171, 1)}[mode]  # both are cyan
        compression = {"compression": "jpeg", "quality": 100} if mode == "YCbCr" else {}
        Image.new(mode, (16, 16), colour).save(tmp_path / "a.tif", **compression)
        assert np.abs(shown(tmp_path / "a.tif").astype(int) - [0, 255, 255]).max() <= 10

    def test_refused(self, tmp_path: Path) -> None:
        path = made.raster(tmp_path / "a.tif", np.zeros((1, 4, 4), dtype=np.complex64))
        with pytest.raises(DataError, match="complex numbers"):
            shown(path)
        inks = made.raster(tmp_path / "b.tif", np.zeros((4, 4, 4), dtype=np.uint16), photometric="CMYK")
        with pytest.raises(DataError, match="holds inks \\(cyan, magenta, yellow, black\\); save it as RGB"):
            shown(inks)
        assert shown(inks, bands=[4], stretch=[0, 9]).max() == 0
        (tmp_path / "c.tif").write_bytes(b"II*\0nothing else")
        with pytest.raises(DataError, match=r"c\.tif: cannot be read as a raster"):
            shown(tmp_path / "c.tif")
        with pytest.raises(DataError, match="no such file"):
            shown(tmp_path / "d.tif")

    def test_cut_off(self, tmp_path: Path) -> None:
        values = np.random.default_rng(0).integers(0, 255, (3, 256, 256), dtype=np.uint8)
        path = made.raster(tmp_path / "a.tif", values, photometric="RGB", compress="deflate")
        path.write_bytes(path.read_bytes()[:90_000])
        with pytest.raises(DataError, match=r"a\.tif: cannot be read as a raster, or is damaged"):
            shown(path)

    def test_overviews_and_scale(self, tmp_path: Path) -> None:
        values = np.zeros((3, 64, 64), dtype=np.uint8)
        values[:, ::2, ::2] = 200
        path = made.raster(tmp_path / "a.tif", values, photometric="RGB", tiled=True, blockxsize=16, blockysize=16)
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2], rasterio.enums.Resampling.average)
        tiles = list(GeoTiffAdapter(size=32, overlap=0, scale=2).inputs(path, "detect x"))
        assert [example.metadata["cover"] for example in tiles] == [[0, 0, 64, 64]]
        picture = np.asarray(open_image(tiles[0].images[0]))
        assert picture.shape == (32, 32, 3)
        assert (picture == 50).all()

    @pytest.mark.parametrize("argument", [True, False])
    def test_nodata_does_not_bleed(self, tmp_path: Path, argument: bool) -> None:
        values = np.full((1, 64, 64), 200, dtype=np.int16)
        values[:, :, ::2], values[:, 0, 1] = -9999, 100
        path = made.raster(tmp_path / "a.tif", values, nodata=None if argument else -9999)
        more: dict[str, Any] = {"nodata": -9999.0} if argument else {}
        adapter = GeoTiffAdapter(size=32, overlap=0, scale=2, stretch=[0, 200], fill=[9, 9, 9], **more)
        (example,) = adapter.inputs(path, "detect x")
        seen = set(np.asarray(open_image(example.images[0]))[1:].ravel().tolist())
        assert seen in ({255}, {9}, {9, 255})


class TestTiles:
    def test_windows(self, tmp_path: Path) -> None:
        values = np.random.default_rng(1).integers(1, 255, (3, 50, 100), dtype=np.uint8)
        path = made.raster(tmp_path / "a.tif", values, photometric="RGB")
        examples = list(GeoTiffAdapter(size=40, overlap=10).inputs(path, "detect x"))
        covers = [example.metadata["cover"] for example in examples]
        assert covers == [[x, y, 40, 40] for y in (0, 10) for x in (0, 30, 60)]
        for example, (x, y, wide, high) in zip(examples, covers, strict=True):
            wanted = np.moveaxis(values[:, y : y + high, x : x + wide], 0, -1)
            assert (np.asarray(open_image(example.images[0])) == wanted).all()

    def test_a_small_scene_is_filled_up(self, tmp_path: Path) -> None:
        values = np.full((3, 10, 20), 99, dtype=np.uint8)
        path = made.raster(tmp_path / "a.tif", values, photometric="RGB")
        (example,) = GeoTiffAdapter(size=32, overlap=0, fill=[1, 2, 3]).inputs(path, "detect x")
        picture = np.asarray(open_image(example.images[0]))
        assert (picture[:10, :20] == 99).all()
        assert (picture[10:] == [1, 2, 3]).all()
        assert (picture[:, 20:] == [1, 2, 3]).all()

    def test_tiles_without_data(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(geotiff_look, "SAMPLE", 16)
        values = np.zeros((1, 128, 128), dtype=np.uint16)
        values[0, 65, 1] = 3  # a single pixel, which the reduced mask does not see
        values[0, 64:, 64:] = 5
        path = made.raster(tmp_path / "a.tif", values, nodata=0)
        found = [
            example.metadata["cover"][:2] for example in GeoTiffAdapter(size=64, overlap=0).inputs(path, "detect x")
        ]
        assert found == [[0, 64], [64, 64]]
        ring = made.box(70, 70, 80, 80)
        made.geojson(path.with_suffix(".geojson"), [(made.polygon(made.NORTH_UP, ring), {"k": "a"})])
        examples, left_out = read(GeoTiffAdapter(size=64, overlap=0, column="k"), path, None)
        assert len(examples) == 1
        assert [reason for _, reason in left_out] == ["tile without data"] * 2 + ["tile without an object"]
        assert left_out[0][0] == "a.tif, tile 0, 0"

    def test_pictures_travel_to_other_processes(self, tmp_path: Path) -> None:
        path = made.raster(tmp_path / "a.tif", gradient("uint16", 0, 900), photometric="RGB")
        (example,) = GeoTiffAdapter(size=40, overlap=0).inputs(path, "detect x")
        again = pickle.loads(pickle.dumps(example.images[0]))
        assert again == example.images[0]
        assert hash(again) == hash(example.images[0])
        assert (np.asarray(again()) == np.asarray(example.images[0]())).all()

    def test_a_file_that_changes_is_read_anew(self, tmp_path: Path) -> None:
        path = made.raster(tmp_path / "a.tif", np.full((3, 4, 4), 10, dtype=np.uint8), photometric="RGB")
        (example,) = GeoTiffAdapter(size=None, overlap=0).inputs(path, "detect x")
        assert open_image(example.images[0]).getpixel((0, 0)) == (10, 10, 10)
        made.raster(path, np.full((3, 5, 4), 20, dtype=np.uint8), photometric="RGB")
        assert open_image(example.images[0]).getpixel((0, 0)) == (20, 20, 20)

    def test_too_large_for_one_picture(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        with rasterio.open(
            path, "w", driver="GTiff", count=1, height=10_000, width=10_000, dtype="uint8", sparse_ok=True,
            tiled=True, transform=made.NORTH_UP, crs=made.UTM,
        ):  # fmt: skip
            pass
        with pytest.raises(DataError, match=r"set data\.adapter_args\.size"):
            list(GeoTiffAdapter(size=None, overlap=0).inputs(path, "detect x"))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"size": 0}, "size must be"), ({"overlap": 448}, "less than the tile's size"),
            ({"size": None, "overlap": 8}, "no effect without a size"), ({"scale": 0}, "scale must be"),
            ({"min_visible": 0}, "min_visible"), ({"bands": [1, 2]}, "one or three"), ({"bands": [0]}, "from 1"),
            ({"stretch": [5, 5]}, "stretch must be"), ({"stretch": "max"}, "stretch must be"),
            ({"percentiles": [98, 2]}, "percentiles must be"), ({"fill": [0, 0, 256]}, "fill must be"),
            ({"percentiles": [1, 99], "stretch": [0, 1]}, "no effect"), ({"task": "segment"}, "detect, scene"),
            ({"task": "scene"}, "needs column"), ({"column": "a", "label": "b"}, "no effect beside"),
            ({"export_crs": "utm"}, "wgs84 or native"), ({"empty": "yes"}, "skip or keep"), ({"buffer": -1}, "buffer"),
            ({"classes": ["a ; b"]}, "must hold no"), ({"classes": ["a", "a"]}, "twice"), ({"classes": []}, "a list"),
            ({"min_cover": 0.2}, "no effect with task = 'detect'"), ({"min_cover": 2}, "min_cover must be"),
            ({"task": "scene", "column": "a", "buffer": 2}, "no effect with task = 'scene'"),
        ],
    )  # fmt: skip
    def test_arguments(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(AdapterError, match=message):
            GeoTiffAdapter(**arguments)


CORNERS = {"house": made.box(10, 12, 30, 26), "barn": made.box(50, 60, 81, 90)}


def scene(folder: Path, transform: Any = made.NORTH_UP, crs: str = made.UTM, side: int = 96) -> Path:
    """A grey scene whose objects are the boxes of CORNERS, drawn white, in a file with corner boxes' outlines."""
    values = np.full((3, side, side), 60, dtype=np.uint8)
    for ring in CORNERS.values():
        (x0, y0), _, (x1, y1), _ = ring
        values[:, int(y0) : int(y1), int(x0) : int(x1)] = 255
    path = made.raster(folder / "a.tif", values, transform=transform, crs=crs, photometric="RGB")
    features = [(made.polygon(transform, ring), {"kind": kind}) for kind, ring in CORNERS.items()]
    made.geojson(path.with_suffix(".geojson"), features, crs)
    return path


def boxes(example: Example, text: str | None = None) -> list[tuple[str, list[float]]]:
    """The labels and boxes of a tile in the scene's pixels: left, top, right, bottom."""
    left, top, width, height = example.metadata["cover"]
    found = decode_detections(example.suffix if text is None else text)
    assert not found.malformed
    return [
        (label, [left + b.xmin * width, top + b.ymin * height, left + b.xmax * width, top + b.ymax * height])
        for b, label in found.found
    ]


class TestLabels:
    @pytest.mark.parametrize("transform", [made.NORTH_UP, made.ROTATED])
    def test_boxes_lie_on_the_objects(self, tmp_path: Path, transform: Any) -> None:
        path = scene(tmp_path, transform)
        (example,), left_out = read(GeoTiffAdapter(size=96, overlap=0, column="kind"), path, "train")
        assert not left_out
        assert example.prefix == "detect barn ; house"
        assert [label for label, _ in boxes(example)] == ["house", "barn"]
        assert dict(example.groups) == {"scene": str(path), "block": f"{path} 0, 0"}
        picture = np.asarray(open_image(example.images[0]))
        for label, found in boxes(example):
            (x0, y0), _, (x1, y1), _ = CORNERS[label]
            assert np.abs(np.array(found) - [x0, y0, x1, y1]).max() <= 96 / 1023
            left, top, right, bottom = (round(value) for value in found)
            assert (picture[top:bottom, left:right] == 255).all()

    @pytest.mark.parametrize("ending", [".gpkg", ".shp", ".geojson"])
    def test_other_formats_and_systems(self, tmp_path: Path, ending: str) -> None:
        path = scene(tmp_path, made.ROTATED)
        moved = pyproj.Transformer.from_crs(made.UTM, "EPSG:4326", always_xy=True).transform
        rings = [made.on_map(made.ROTATED, ring) for ring in CORNERS.values()]
        shapes = shapely.transform([shapely.Polygon(ring) for ring in rings], moved, interleaved=False)
        path.with_suffix(".geojson").unlink()
        pyogrio.raw.write(
            path.with_suffix(ending), np.array(shapely.to_wkb(shapes)), [np.array(["house", "barn"], dtype=object)],
            ["kind"], crs="EPSG:4326", geometry_type="Polygon",
        )  # fmt: skip
        (example,), _ = read(GeoTiffAdapter(size=96, overlap=0, column="kind"), path, None)
        assert [label for label, _ in boxes(example)] == ["house", "barn"]
        for label, found in boxes(example):
            (x0, y0), _, (x1, y1), _ = CORNERS[label]
            assert np.abs(np.array(found) - [x0, y0, x1, y1]).max() <= 0.12

    def test_clipping_and_visibility(self, tmp_path: Path) -> None:
        path = made.raster(tmp_path / "a.tif", np.full((1, 64, 128), 9, dtype=np.uint8))
        ring = made.box(50, 10, 70, 20)  # 14 of 20 columns lie in the left tile
        made.geojson(tmp_path / "a.geojson", [(made.polygon(made.NORTH_UP, ring), {})])

        def tiles(min_visible: float) -> list[list[tuple[str, list[float]]]]:
            adapter = GeoTiffAdapter(size=64, overlap=0, label="car", min_visible=min_visible)
            return [boxes(example) for example in read(adapter, path, None)[0]]

        (left,) = tiles(0.5)
        assert np.abs(np.array(left[0][1]) - [50, 10, 64, 20]).max() <= 64 / 1023
        both = tiles(0.3)
        assert np.abs(np.array(both[1][0][1]) - [64, 10, 70, 20]).max() <= 64 / 1023
        assert tiles(0.7) == [left]
        assert tiles(0.71) == []
        _, left_out = read(GeoTiffAdapter(size=64, overlap=0, label="car", min_visible=0.71), path, None)
        assert left_out[-1] == ("a.geojson, feature 0", "object that no tile shows enough of")

    def test_left_out_with_a_reason(self, tmp_path: Path) -> None:
        path = made.raster(tmp_path / "a.tif", np.full((1, 64, 64), 9, dtype=np.uint8))
        bow = [(10, 10), (20, 20), (20, 10), (10, 20)]
        good = made.polygon(made.NORTH_UP, made.box(5, 5, 9, 9))
        made.geojson(
            tmp_path / "a.geojson",
            [
                (None, {"k": "a"}),
                ({"type": "Polygon", "coordinates": []}, {"k": "a"}),
                (made.polygon(made.NORTH_UP, bow), {"k": "a"}),
                ({"type": "Point", "coordinates": made.on_map(made.NORTH_UP, [(5, 5)])[0]}, {"k": "a"}),
                (good, {"k": None}),
                (good, {"k": "b"}),
                (good, {"k": "a"}),
            ],
        )
        examples, left_out = read(GeoTiffAdapter(size=64, overlap=0, column="k", classes=["a"]), path, None)
        assert len(examples) == 1
        assert len(boxes(examples[0])) == 1
        assert [place for place, _ in left_out] == [f"a.geojson, feature {i}" for i in range(6)]
        for (_, reason), word in zip(
            left_out, ["no geometry", "empty", "self-intersection", "a point", "nothing in", "class 'b'"], strict=True
        ):
            assert word in reason

    def test_points_and_lines(self, tmp_path: Path) -> None:
        path = made.raster(tmp_path / "a.tif", np.full((1, 64, 64), 9, dtype=np.uint8))
        point = {"type": "Point", "coordinates": made.on_map(made.NORTH_UP, [(20, 30)])[0]}
        line = {"type": "LineString", "coordinates": made.on_map(made.NORTH_UP, [(5, 50), (60, 50)])[:2]}
        made.geojson(tmp_path / "a.geojson", [(point, {}), (line, {})])
        (example,), _ = read(GeoTiffAdapter(size=64, overlap=0, label="x", buffer=4), path, None)
        found = [box for _, box in boxes(example)]
        assert np.abs(np.array(found[0]) - [16, 26, 24, 34]).max() <= 0.1
        assert np.abs(np.array(found[1]) - [1, 46, 64, 54]).max() <= 0.1
        (example,), left_out = read(GeoTiffAdapter(size=64, overlap=0, label="x"), path, None)
        assert len(left_out) == 1
        assert np.abs(np.array(boxes(example)[0][1]) - [5, 49.5, 60, 50.5]).max() <= 0.1

    def test_tiles_without_an_object(self, tmp_path: Path) -> None:
        path = scene(tmp_path, side=192)
        kept, _ = read(GeoTiffAdapter(size=96, overlap=0, column="kind", empty="keep"), path, None)
        assert [example.suffix == "nothing" for example in kept] == [False, True, True, True]
        skipped, left_out = read(GeoTiffAdapter(size=96, overlap=0, column="kind"), path, None)
        assert len(skipped) == 1
        assert [reason for _, reason in left_out] == ["tile without an object"] * 3

    def test_one_file_for_all_and_a_pattern(self, tmp_path: Path) -> None:
        made.own_scenes(tmp_path, 2)
        adapter = GeoTiffAdapter(size=96, overlap=0, column="kind")
        examples, _ = read(adapter, tmp_path, None)
        assert [len(boxes(example)) for example in examples] == [2, 2]
        (tmp_path / "labels").mkdir()
        for number in range(2):
            (tmp_path / f"scene{number}.geojson").rename(tmp_path / "labels" / f"scene{number}_v2.geojson")
        again, _ = read(
            GeoTiffAdapter(size=96, overlap=0, column="kind", labels="labels/{stem}_v2.geojson"), tmp_path, None
        )
        assert [e.suffix for e in again] == [e.suffix for e in examples]
        one, _ = read(
            GeoTiffAdapter(size=96, overlap=0, column="kind", labels="labels/scene1_v2.geojson"), tmp_path, None
        )
        assert [e.metadata["scene"] for e in one] == ["scene1.tif"]
        with pytest.raises(DataError, match="no labels"):
            list(adapter.rows(tmp_path, None))
        with pytest.raises(DataError, match="no folder for the split 'train'"):
            list(adapter.rows(tmp_path, "train"))

    def test_splits(self, tmp_path: Path) -> None:
        made.own_scenes(tmp_path / "train", 2)
        made.own_scenes(tmp_path / "val", 1)
        other = tmp_path / "val" / "scene0.geojson"
        other.write_text(other.read_text().replace("barn", "villa"))
        adapter = GeoTiffAdapter(size=96, overlap=0, column="kind")
        assert adapter.splits(tmp_path) == ["train", "validation"]
        (example,), _ = read(adapter, tmp_path, "validation")
        everything, _ = read(adapter, tmp_path, None)
        assert len(everything) == 3
        assert {e.prefix for e in everything} == {example.prefix} == {"detect barn ; house ; villa"}

    def test_what_is_wrong_with_labels(self, tmp_path: Path) -> None:
        path = scene(tmp_path)
        with pytest.raises(DataError, match="did you mean 'kind'"):
            list(GeoTiffAdapter(column="kinds").rows(path, None))
        with pytest.raises(DataError, match=r"adapter_args\.column names the attribute"):
            list(GeoTiffAdapter().rows(path, None))
        with pytest.raises(DataError, match="no such file"):
            list(GeoTiffAdapter(column="kind", labels="b.gpkg").rows(path, None))
        bare = made.raster(tmp_path / "bare.tif", np.full((1, 64, 64), 9, dtype=np.uint8), crs=None)
        _, left_out = read(GeoTiffAdapter(column="kind", labels="a.geojson"), bare, None)
        assert "has no coordinate reference system, its labels" in left_out[-1][1]
        path.with_suffix(".geojson").write_text('{"type": "FeatureColl')
        with pytest.raises(DataError, match=r"a\.geojson: cannot be read as vector labels"):
            list(GeoTiffAdapter(column="kind").rows(path, None))

    def test_labels_that_do_not_say_where_they_are(self, tmp_path: Path) -> None:
        path = scene(tmp_path)
        shapes = [shapely.Polygon(made.on_map(made.NORTH_UP, ring)) for ring in CORNERS.values()]
        with pytest.warns(UserWarning, match="crs"):
            pyogrio.raw.write(
                tmp_path / "l.shp", np.array(shapely.to_wkb(shapes)), [np.array(["house", "barn"], dtype=object)],
                ["kind"], geometry_type="Polygon",
            )  # fmt: skip
        arguments: dict[str, Any] = {"size": 96, "overlap": 0, "column": "kind", "labels": "l.shp"}
        _, left_out = read(GeoTiffAdapter(**arguments), path, None)
        assert "data.adapter_args.label_crs" in left_out[-1][1]
        (example,), _ = read(GeoTiffAdapter(**arguments, label_crs=made.UTM), path, None)
        assert len(boxes(example)) == 2

    @pytest.mark.parametrize("mistake", ["axes", "system"])
    def test_labels_that_lie_elsewhere(self, tmp_path: Path, mistake: str) -> None:
        """Swapped axes, or map coordinates in a file that does not name their system: what is wrong is said."""
        path = scene(tmp_path)
        ring = made.on_map(made.NORTH_UP, CORNERS["barn"])
        if mistake == "axes":
            ring = [list(pyproj.Transformer.from_crs(made.UTM, "EPSG:4326").transform(*point)) for point in ring]
        made.geojson(tmp_path / "a.geojson", [({"type": "Polygon", "coordinates": [ring]}, {"kind": "barn"})], None)
        found, left_out = read(GeoTiffAdapter(size=96, overlap=0, column="kind"), path, None)
        assert not found
        place, why = left_out[-1]
        assert place == "a.geojson"
        assert why.startswith("!none of its features lies in a scene: in EPSG:4326 they are at x ")
        assert "a.tif is at x 14.9999" in why
        assert "are x and y swapped" in why
        found, left_out = read(GeoTiffAdapter(size=96, overlap=0, column="kind", empty="keep"), path, None)
        assert [example.suffix for example in found] == ["nothing"]
        assert left_out[-1][1].startswith("none of its features")

    @pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
    def test_shapefiles_that_do_not_tell_their_encoding(self, tmp_path: Path, encoding: str) -> None:
        path = scene(tmp_path)
        shape = np.array([shapely.to_wkb(shapely.Polygon(made.on_map(made.NORTH_UP, CORNERS["barn"])))])
        names = [np.array(["Gehöft – groß"], dtype=object)]
        pyogrio.raw.write(
            tmp_path / "l.shp", shape, names, ["kind"], geometry_type="Polygon", crs=made.UTM, encoding=encoding
        )
        (tmp_path / "l.cpg").unlink()
        adapter = GeoTiffAdapter(size=96, overlap=0, column="kind", labels="l.shp")
        (example,), _ = read(adapter, path, None)
        assert example.prefix == "detect Gehöft – groß"

    def test_a_scene_without_objects(self, tmp_path: Path) -> None:
        made.own_scenes(tmp_path, 2)
        made.geojson(tmp_path / "scene1.geojson", [])
        adapter = GeoTiffAdapter(size=96, overlap=0, column="kind", empty="keep")
        assert [example.suffix == "nothing" for example in read(adapter, tmp_path, None)[0]] == [False, True]
        _, left_out = read(adapter, tmp_path / "scene1.tif", None)
        assert left_out == [(str(tmp_path / "scene1.tif"), "!no feature of the labels can be an object")]

    def test_layers(self, tmp_path: Path) -> None:
        path = scene(tmp_path)
        shape = np.array([shapely.to_wkb(shapely.Polygon(made.on_map(made.NORTH_UP, CORNERS["barn"])))])
        for layer in ("roofs", "roads"):
            pyogrio.raw.write(
                tmp_path / "l.gpkg", shape, [np.array([7])], ["kind"], layer=layer, append=layer == "roads",
                crs=made.UTM, geometry_type="Polygon",
            )  # fmt: skip
        arguments: dict[str, Any] = {"size": 96, "overlap": 0, "column": "kind", "labels": "l.gpkg"}
        with pytest.raises(DataError, match=r"there are roofs, roads; data\.adapter_args\.layer"):
            list(GeoTiffAdapter(**arguments).rows(path, None))
        with pytest.raises(DataError, match="did you mean 'roofs'"):
            list(GeoTiffAdapter(**arguments, layer="roof").rows(path, None))
        (example,), _ = read(GeoTiffAdapter(**arguments, layer="roofs"), path, None)
        assert example.prefix == "detect 7"

    def test_a_table_of_styles_is_no_layer(self, tmp_path: Path) -> None:
        path = scene(tmp_path)
        shape = np.array([shapely.to_wkb(shapely.Polygon(made.on_map(made.NORTH_UP, CORNERS["barn"])))])
        options = {"crs": made.UTM, "geometry_type": "Polygon"}
        pyogrio.raw.write(tmp_path / "l.gpkg", shape, [np.array([7])], ["kind"], layer="roofs", **options)
        with contextlib.closing(sqlite3.connect(tmp_path / "l.gpkg")) as base, base:
            base.execute("CREATE TABLE layer_styles (id INTEGER PRIMARY KEY, styleQML TEXT)")
            names = "INSERT INTO gpkg_contents (table_name, data_type, identifier) VALUES (?, ?, ?)"
            base.execute(names, ("layer_styles", "attributes", "layer_styles"))
        adapter = GeoTiffAdapter(size=96, overlap=0, column="kind", labels="l.gpkg")
        (example,), _ = read(adapter, path, None)
        assert example.prefix == "detect 7"

    def test_corners_on_the_edge_of_a_tile(self) -> None:
        """Rings that GEOS's own clipping gets wrong: what is outside counted, or a whole tile missed."""
        rings = [
            [(96, 24), (80, 48), (48, 32), (32, 8), (88, -40), (72, -8), (56, 8), (88, 0)],
            [(56, 8), (64, 16), (64, 16), (56, 16), (40, 16), (24, 8), (8, -24), (72, -8)],
            [(80, 48), (72, 64), (16, 56), (8, 32), (32, 24), (8, 8), (0, -8), (64, 0), (48, 16), (64, 16), (72, 24)],
            [(64, 64 + 6e-11), (64 + 7e-12, -1e-10), (32, 2e-7), (0, 0), (0, 64 + 6e-11)],
        ]
        shapes = [shapely.Polygon(ring) for ring in rings]
        window = shapely.box(0, 0, 64, 64)
        tile = Tile("a", (0, 0, 64, 64), (64, 64), (64, 64), geotiff_look.Look((1,), None))
        placed = Placed(tile, (0, 0, 64, 64), "", "")
        objects = Objects(shapes, ["a", "b", "c", "d"], ["", "", "", ""])
        for label, shape in zip("abcd", shapes, strict=True):
            share = shape.intersection(window).area
            assert objects.shares(placed)[label] == pytest.approx(share / 64**2, rel=1e-6)
        assert {label for _, label in objects.visible(placed, 0.999)} == {"d"}

    def test_a_touching_edge_is_not_seen(self) -> None:
        """An L whose one arm lies along the tile from outside."""
        shape = shapely.Polygon([(10, 10), (20, 10), (20, -30), (60, -30), (60, 0), (30, 0), (30, 20), (10, 20)])
        tile = Tile("a", (0, 0, 64, 64), (64, 64), (64, 64), geotiff_look.Look((1,), None))
        ((box, _),) = Objects([shape], ["a"], [""]).visible(Placed(tile, (0, 0, 64, 64), "", ""), 0.05)
        assert [64 * value for value in box] == [0, 10, 20, 30]

    def test_scenes(self, tmp_path: Path) -> None:
        path = made.raster(tmp_path / "a.tif", np.full((1, 64, 128), 9, dtype=np.uint8))
        features = [
            (made.polygon(made.NORTH_UP, made.box(0, 0, 40, 64)), {"use": "forest"}),
            (made.polygon(made.NORTH_UP, made.box(0, 0, 40, 64)), {"use": "forest"}),
            (made.polygon(made.NORTH_UP, made.box(64, 0, 94, 64)), {"use": "water"}),
        ]
        made.geojson(tmp_path / "a.geojson", features)
        examples, left_out = read(GeoTiffAdapter(task="scene", column="use", size=64, overlap=0), path, None)
        assert [(e.prefix, e.suffix) for e in examples] == [("answer en what kind of scene is this?", "forest")]
        assert left_out == [("a.tif, tile 0, 1", "no class covers enough of the tile")]
        examples, _ = read(GeoTiffAdapter(task="scene", column="use", size=64, overlap=0, min_cover=0.45), path, None)
        assert [e.suffix for e in examples] == ["forest", "water"]


def predicted(adapter: GeoTiffAdapter, source: Path, *, scored: bool = True) -> list[dict[str, Any]]:
    """Rows as if a model had answered each tile of a labelled source with its suffix."""
    rows = []
    for example in read(adapter, source, None)[0]:
        found = decode_detections(example.suffix)
        entries = [{"box": list(box), "label": label, "score": 0.5} for box, label in found.found]
        row = {"image": "x", "prefix": example.prefix, "prediction": example.suffix, "metadata": example.metadata}
        rows.append({**row, "boxes": entries, "malformed": found.malformed} if scored else row)
    return json.loads(json.dumps(rows))


class TestBackOnTheMap:
    @pytest.mark.parametrize("transform", [made.NORTH_UP, made.ROTATED])
    @pytest.mark.parametrize("crs", ["wgs84", "native"])
    @pytest.mark.parametrize(("size", "overlap"), [(96, 0), (64, 40), (40, 16), (33, 0)])
    def test_round_trip(self, tmp_path: Path, transform: Any, crs: str, size: int, overlap: int) -> None:
        path = scene(tmp_path, transform)
        adapter = GeoTiffAdapter(size=size, overlap=overlap, column="kind", min_visible=0.05, export_crs=crs)
        rows = predicted(adapter, path, scored=crs == "wgs84")
        summary = adapter.exports[".geojson"](rows, tmp_path / "out.geojson")
        assert summary["objects"] == 2
        assert summary["malformed"] == summary["errors"] == 0
        assert summary["boxes"] == sum(row["prediction"].count(" ; ") + 1 for row in rows)
        info = pyogrio.read_info(tmp_path / "out.geojson")
        assert info["crs"] == ("EPSG:4326" if crs == "wgs84" else made.UTM)
        meta, _, wkb, (labels, scores, _scenes) = pyogrio.raw.read(tmp_path / "out.geojson")
        assert list(meta["fields"]) == ["label", "score", "scene"]
        assert all(score == 0.5 if crs == "wgs84" else score is None or np.isnan(score) for score in scores)
        moved = pyproj.Transformer.from_crs(info["crs"], made.UTM, always_xy=True).transform
        a, b, c, d, e, f = tuple(~transform)[:6]
        for label, shape in zip(labels, shapely.from_wkb(wkb), strict=True):
            assert shape.exterior.is_ccw, "RFC 7946"
            xs, ys = shapely.transform(shape, moved, interleaved=False).exterior.xy
            pixels = [(a * x + b * y + c, d * x + e * y + f) for x, y in zip(xs, ys, strict=True)]
            wanted = CORNERS[label]
            for corner in wanted:
                nearest = min(abs(x - corner[0]) + abs(y - corner[1]) for x, y in pixels)
                assert nearest <= 2 * size / (BINS - 1)

    def test_same_object_in_two_tiles(self) -> None:
        one = Found((10, 10, 30, 30), "a", 0.6, 0)
        same = Found((11, 10, 31, 30), "a", 0.9, 1)
        (found,) = merged([one, same])
        assert (found.box, found.score) == (same.box, 0.9)
        assert len(merged([one, Found(same.box, "b", 0.9, 1)])) == 2, "another class"
        assert len(merged([one, Found(same.box, "a", 0.9, 0)])) == 2, "the same tile: the model's own business"
        assert len(merged([one, Found((40, 10, 60, 30), "a", 0.9, 1)])) == 2

    def test_a_part_and_the_whole(self) -> None:
        part = Found((56, 10, 64, 30), "a", 0.9, 0, (False, False, True, False))
        whole = Found((56, 10, 90, 30), "a", 0.4, 1)
        (found,) = merged([part, whole])
        assert (found.box, found.score) == (whole.box, 0.9)

    def test_neighbours_stay_apart(self) -> None:
        cut = Found((56, 10, 64, 30), "a", 0.9, 0, (False, False, True, False))
        other = Found((48, 31, 90, 50), "a", 0.4, 1, (True, False, False, False))
        assert len(merged([cut, other])) == 2
        assert len(merged([Found((0, 0, 9, 9), "a", None, 0), Found((9, 0, 18, 9), "a", None, 1)])) == 2, "not cut"

    def test_parts_across_four_tiles(self) -> None:
        quarters = [
            Found((20, 20, 64, 64), "a", 0.1, 0, (False, False, True, True)),
            Found((64, 20, 90, 64), "a", 0.2, 1, (True, False, False, True)),
            Found((20, 64, 64, 99), "a", 0.3, 2, (False, True, True, False)),
            Found((64, 64, 90, 99), "a", None, 3, (True, True, False, False)),
        ]
        (found,) = merged(quarters)
        assert (found.box, found.score) == ((20, 20, 90, 99), 0.3)

    def test_what_cannot_be_placed(self, tmp_path: Path) -> None:
        path = scene(tmp_path)
        rows = predicted(GeoTiffAdapter(size=96, overlap=0, column="kind"), path)
        out = tmp_path / "out.geojson"
        write = GeoTiffAdapter().exports[".geojson"]
        bad = [{**rows[0], "boxes": None, "prediction": "<loc0001> house ; <loc0100><loc0100><loc0200><loc0200> barn"}]
        del bad[0]["boxes"], bad[0]["malformed"]
        failed = {**rows[0], "prediction": None, "error": "gone"}
        empty = {**rows[0], "boxes": [], "malformed": 1, "prediction": "nothing"}
        summary = write([*bad, failed, empty], out)
        assert summary == {"objects": 1, "boxes": 1, "malformed": 1, "errors": 1}
        with pytest.raises(DataError, match="no tile of a scene"):
            write([{"prediction": "", "metadata": {}}], out)
        bare = json.loads(json.dumps(rows))
        bare[0]["metadata"]["crs"] = None
        with pytest.raises(DataError, match="export_crs: native"):
            write(bare, out)
        assert GeoTiffAdapter(export_crs="native").exports[".geojson"](bare, out)["objects"] == 2
        assert "crs" not in json.loads(out.read_text())

    def test_answers_of_whole_tiles(self, tmp_path: Path) -> None:
        path = scene(tmp_path)
        adapter = GeoTiffAdapter(task="scene", column="kind", size=64, overlap=0, export_crs="native")
        rows = [
            {"prediction": "forest", "mean_log_probability": 0.0, "metadata": example.metadata}
            for example in adapter.inputs(path, None)
        ]
        assert adapter.exports[".geojson"](rows, tmp_path / "o.geojson")["objects"] == 4
        document = json.loads((tmp_path / "o.geojson").read_text())
        assert document["features"][0]["properties"] == {"label": "forest", "score": 1.0, "scene": "a.tif"}
        assert shapely.geometry.shape(document["features"][0]["geometry"]).area == 32 * 32

    def test_prefixes_of_inputs(self, tmp_path: Path) -> None:
        path = scene(tmp_path)
        (example,) = GeoTiffAdapter(size=96, overlap=0, classes=["b", "a"]).inputs(path, None)
        assert (example.prefix, example.suffix) == ("detect b ; a", "")
        with pytest.raises(DataError, match="--prefix"):
            list(GeoTiffAdapter().inputs(path, None))


def test_a_text_that_points_elsewhere_is_no_raster(tmp_path: Path) -> None:
    source = "<SourceFilename>/vsicurl/http://127.0.0.1:9/a.tif</SourceFilename>"
    text = (
        '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"{source}<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    (tmp_path / "a.tif").write_text(text)
    with pytest.raises(DataError, match="cannot be read as a raster"), open_raster(tmp_path / "a.tif"):
        pass
