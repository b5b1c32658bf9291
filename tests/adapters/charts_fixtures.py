"""Miniature data sets in the layouts of ChartQA, SciCap and chart-to-table sets; all of it is made up here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "orange")


def chart(path: Path, values: list[int], size: tuple[int, int] = (64, 48)) -> None:
    """A small bar chart, as RGBA like PlotQA's."""
    picture = Image.new("RGBA", size, "white")
    pen = ImageDraw.Draw(picture)
    for place, value in enumerate(values):
        left = 4 + place * 14
        pen.rectangle((left, size[1] - 2 - value, left + 9, size[1] - 2), fill=COLOURS[place % 4])
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def write_json(path: Path, value: Any) -> Path:
    """A JSON file in a folder that is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def build_chartqa(folder: Path) -> Path:
    """`folder` with `ChartQA Dataset/{train,val,test}`: 4 human and 6 augmented questions a split, tables with CRLF."""
    for split in ("train", "val", "test"):
        home = folder / "ChartQA Dataset" / split
        for number in range(3):
            values = [10 + number, 20 + 3 * number, 35 - number]
            name = f"multi_col_{split}_{number}"
            chart(home / "png" / f"{name}.png", values)
            lines = ["Fruit,Sold in 2001", *(f"{fruit},{value}" for fruit, value in zip("abc", values, strict=True))]
            table = home / "tables" / f"{name}.csv"
            table.parent.mkdir(parents=True, exist_ok=True)
            table.write_bytes("\r\n".join([*lines, ""]).encode())
        asked = [
            ("How many bars are there?", "3"),
            ("Is the red bar the tallest?", "No"),
            ("Which bars are above 15?", "[green, blue]"),
            ("What is the share of red?", "0.17"),
        ]
        named = f"multi_col_{split}_"
        human = [{"imgname": f"{named}{n % 3}.png", "query": q, "label": a} for n, (q, a) in enumerate(asked)]
        augmented = [
            {"imgname": f"{named}{n % 3}.png", "query": f"How many {'abc'[n % 3]} were sold in 2001?", "label": str(n)}
            for n in range(6)
        ]
        write_json(home / f"{split}_human.json", human)
        write_json(home / f"{split}_augmented.json", augmented)
    return folder


def captions(figure: str, paper: str) -> dict[str, Any]:
    """A figure's record with all its fields, in the published spelling."""
    sentences = [f"the loss of {paper} over 5 epochs .", "lower is better ( see text ) ."]
    numbers = [sentence.replace("5", "NUM-TK") for sentence in sentences]
    brackets = [numbers[0], "lower is better BRACKET-TK ."]

    def part(each: list[str], words: str = "token") -> dict[str, Any]:
        return {"caption": " ".join(each), "sentence": each, words: " ".join(each).split()}

    return {
        "contains-subfigure": False,
        "Img-text": ["loss", "epoch"],
        "paper-ID": paper,
        "figure-ID": figure,
        "figure-type": "Graph Plot",
        "0-originally-extracted": f"Figure 2: The loss of {paper} over 5 epochs. Lower is better (see text).",
        "1-lowercase-and-token-and-remove-figure-index": part(sentences),
        "2-normalized": {"2-1-basic-num": part(numbers), "2-2-advanced-euqation-bracket": part(brackets, "tokens")},
    }


def build_scicap(folder: Path, spelling: tuple[str, str, str] = ("Train", "Val", "Test")) -> Path:
    """`folder` with `scicap_data`: three figures a split, two of one paper; only two are in the lists."""
    home = folder / "scicap_data"
    for order, split in enumerate(spelling):
        names = []
        for number in range(3):
            paper = f"10{order}{min(number, 1)}.0001v1"
            figure = f"{paper}-Figure{number + 1}-1.png"
            names.append(figure)
            chart(home / "SciCap-No-Subfig-Img" / split / figure, [5, 10 * number + 5, 20])
            chart(home / "SciCap-Yes-Subfig-Img" / split / figure, [5, 5, 5])
            write_json(home / "SciCap-Caption-All" / split / figure.replace(".png", ".json"), captions(figure, paper))
        for experiment in ("First-Sentence", "Single-Sentence-Caption", "Caption-No-More-Than-100-Tokens"):
            for kind in ("No-Subfig", "Yes-Subfig"):
                listed = names[:2] if kind == "No-Subfig" else names
                lists = home / "List-of-Files-for-Each-Experiments" / experiment / kind
                write_json(lists / split / "file_idx.json", listed)
    return folder


def build_tables(folder: Path, count: int = 4) -> Path:
    """Own tables in `folder`: years and a share, cities and two columns."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        years = "".join(f"{2000 + year},{3 + (year * (number + 2)) % 7}.5\n" for year in range(5))
        (folder / f"share_{number}.csv").write_text(f"Year,Share\n{years}", encoding="utf-8")
        cities = "".join(f"{city}\t{number + 2 * place}\t{9 - place}\n" for place, city in enumerate(("Bonn", "Ulm")))
        (folder / f"cities_{number}.tsv").write_text(f"City\tIn\tOut\n{cities}", encoding="utf-8")
    return folder
