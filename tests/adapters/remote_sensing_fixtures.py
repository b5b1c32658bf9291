"""Miniature data sets in the layouts that the remote sensing data adapters read, written by hand or drawn."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from PIL import Image

QUESTIONS = {
    "comp": ("Are there more roads than buildings?", ("yes", "no")),
    "count": ("What is the number of roads?", ("0", "7", "10", "11", "101", "1001")),
    "presence": ("Is a Water area present?", ("Yes", "no")),
    "rural_urban": ("Is it a rural or an urban area", ("rural", "urban")),
    "area": ("What is the area covered by parkings?", ("0m2", "10m2", "100m2", "1000m2", "10632m2")),
}
LR_TYPES = ("rural_urban", "presence", "count", "comp")
HR_TYPES = ("presence", "count", "comp", "area")


def picture(path: Path, seed: int, size: tuple[int, int] = (24, 24)) -> None:
    """A small RGB picture of noise, of its own for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def rsvqa(folder: Path, *, high: bool = False, images: int = 8, ending: str = "tif") -> dict[str, list[dict[str, Any]]]:
    """RSVQA-LR (or HR) with a question of each type for each picture; returns the active questions with their answer.

    Pictures are dealt to the splits in turn; in the file of a split, the questions of the others are stubs.
    """
    rng = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    splits = ("train", "val", "test", "test_phili") if high else ("train", "val", "test")
    name, place = ("USGS_split_{}_{}.json", "Data") if high else ("LR_split_{}_{}.json", "Images_LR")
    questions, answers = [], []
    for image in range(images):
        picture(folder / place / f"{image}.{ending}", image)
        for kind in HR_TYPES if high else LR_TYPES:
            number = len(questions)
            text, choices = QUESTIONS[kind]
            questions.append(
                {"id": number, "date_added": 1579865382.19, "img_id": image, "people_id": 0, "type": kind,
                 "question": text, "answers_ids": [number], "active": True}
            )  # fmt: skip
            answers.append(
                {"id": number, "date_added": 1579865382.19, "question_id": number, "people_id": 0,
                 "answer": rng.choice(choices), "active": True}
            )  # fmt: skip
    found = {}
    for place_in_turn, split in enumerate(splits):
        mine = [q["img_id"] % len(splits) == place_in_turn for q in questions]
        for kind, records in (("questions", questions), ("answers", answers)):
            stubbed = [r if own else {"id": r["id"], "active": False} for r, own in zip(records, mine, strict=True)]
            (folder / name.format(split, kind)).write_text(json.dumps({kind: stubbed}))
        pairs = zip(questions, answers, mine, strict=True)
        found[split] = [{**q, "answer": a["answer"]} for q, a, own in pairs if own]
    return found


def captions(folder: Path, *, pictures: int = 12) -> None:
    """RSICD: five captions, of which the last two repeat the first for every other picture."""
    records = []
    for number in range(pictures):
        name = f"airport_{number}.jpg"
        picture(folder / "RSICD_images" / name, number)
        texts = [f"many planes are parked near building {number} {place} ." for place in range(5)]
        if number % 2:
            texts[3:] = [texts[0], texts[0]]
        sentences = [{"tokens": t.split()[:-1], "raw": t, "imgid": number, "sentid": i} for i, t in enumerate(texts)]
        split = ("train", "train", "val", "test")[number % 4]
        records.append({"filename": name, "imgid": number, "sentences": sentences, "split": split})
    (folder / "dataset_rsicd.json").write_text(json.dumps({"images": records, "dataset": "rsicd"}))


def nwpu(folder: Path) -> None:
    """NWPU-Captions: a list for each class, the captions in keys of their own, pictures in a folder for each class."""
    document: dict[str, Any] = {}
    for kind in ("airplane", "lake"):
        for number in (1, 2):
            name = f"{kind}_{number:03d}.jpg"
            picture(folder / "NWPU_images" / kind / name, number)
            raw = {key: f"A {kind} seen from above, {key}." for key in ("raw", "raw_1", "raw_2", "raw_3", "raw_4")}
            split = "train" if number == 1 else "val"
            record = {"filename": name, "imgid": number, "split": split, **raw, "sentids": 0}
            document.setdefault(kind, []).append(record)
    (folder / "dataset_nwpu.json").write_text(json.dumps(document))


def scenes(folder: Path, classes: Sequence[str] = ("AnnualCrop", "SeaLake"), each: int = 6) -> None:
    """EuroSAT: ``2750/AnnualCrop/AnnualCrop_1.jpg``."""
    for kind, name in enumerate(classes):
        for number in range(1, each + 1):
            picture(folder / "2750" / name / f"{name}_{number}.jpg", 100 * kind + number)


def dota(folder: Path, labels: Mapping[str, Sequence[str]], size: tuple[int, int] = (64, 48)) -> None:
    """``images/P0001.png`` and ``labelTxt/P0001.txt`` with the lines given, with headers and CRLF as published."""
    for number, (name, lines) in enumerate(labels.items()):
        picture(folder / "images" / f"{name}.png", number, size)
        (folder / "labelTxt").mkdir(exist_ok=True)
        text = ["imagesource:GoogleEarth", "gsd:0.25", *lines]
        (folder / "labelTxt" / f"{name}.txt").write_bytes("".join(f"{line}\r\n" for line in text).encode())


UTM = "EPSG:32633"
NORTH_UP = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
# By 30 degrees, half a metre a pixel.
ROTATED = Affine(0.4330127, 0.25, 500_000, 0.25, -0.4330127, 5_000_000)


def raster(path: Path, values: Any, *, crs: str | None = UTM, transform: Any = NORTH_UP, **profile: Any) -> Path:
    """A GeoTIFF of ``values`` (band, row, column)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.asarray(values)
    bands, height, width = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, height=height, width=width, dtype=values.dtype, crs=crs,
        transform=transform, **profile,
    ) as file:  # fmt: skip
        file.write(values)
    return path


def on_map(transform: Any, corners: Sequence[tuple[float, float]]) -> list[list[float]]:
    """Corners in pixels as a closed ring in a raster's coordinates."""
    a, b, c, d, e, f = tuple(transform)[:6]
    ring = [[a * x + b * y + c, d * x + e * y + f] for x, y in corners]
    return [*ring, ring[0]]


def box(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
    """The corners of a box in pixels."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def geojson(path: Path, features: Sequence[tuple[Any, Mapping[str, Any]]], crs: str | None = UTM) -> Path:
    """A GeoJSON file of geometries (or None) with their properties; ``crs`` None: WGS 84, the default."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"type": "FeatureCollection"}
    if crs is not None:
        document["crs"] = {"type": "name", "properties": {"name": crs.replace("EPSG:", "urn:ogc:def:crs:EPSG::")}}
    document["features"] = [
        {"type": "Feature", "properties": dict(properties), "geometry": geometry} for geometry, properties in features
    ]
    path.write_text(json.dumps(document))
    return path


def polygon(transform: Any, corners: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """A GeoJSON polygon from corners in pixels."""
    return {"type": "Polygon", "coordinates": [on_map(transform, corners)]}


def own_scenes(folder: Path, count: int = 4, size: int = 96) -> None:
    """Scenes with two bright houses each and their outlines in a GeoJSON beside each."""
    for number in range(count):
        transform = Affine(0.5, 0, 500_000 + 1000 * number, 0, -0.5, 5_000_000)
        values = np.random.default_rng(number).integers(100, 900, (3, size, size)).astype(np.uint16)
        corners = [box(10, 10, 30, 26), box(50, 60, 80, 90)]
        for (x0, y0), _, (x1, y1), _ in corners:
            values[:, int(y0) : int(y1), int(x0) : int(x1)] = 3000
        path = raster(folder / f"scene{number}.tif", values, transform=transform, photometric="RGB")
        kinds = ("house", "barn")
        geojson(
            path.with_suffix(".geojson"),
            [(polygon(transform, ring), {"kind": kind}) for ring, kind in zip(corners, kinds, strict=True)],
        )
