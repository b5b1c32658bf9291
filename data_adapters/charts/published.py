"""Charts: ChartQA, SciCap, charts with the table behind them, and tables of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtune.data_adapters.layout import (
    chosen,
    entries,
    folder_named,
    hint,
    inside,
    read_json,
    relative,
    split_folders,
    split_named,
)
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Row, shown

__all__ = ["ChartQaAdapter", "SciCapAdapter"]

PARTS = ("human", "augmented")
"""The parts of each of ChartQA's splits, in the order in which they are read."""

EXPERIMENTS = {
    "first_sentence": "First-Sentence",
    "single_sentence": "Single-Sentence-Caption",
    "at_most_100_tokens": "Caption-No-More-Than-100-Tokens",
}
"""SciCap's lists of figures, and their folders."""

CAPTIONS = {
    "0-originally-extracted": (),
    "1-lowercase-and-token-and-remove-figure-index": (),
    "2-1-basic-num": ("2-normalized",),
    "2-2-advanced-euqation-bracket": ("2-normalized",),
}
"""The captions that a figure has, and the keys above them."""


@dataclass(frozen=True, kw_only=True)
class ChartQaAdapter:
    """ChartQA in its published layout: ``{train,val,test}/{split}_human.json``, ``_augmented.json`` and ``png/``.

    The source is the folder ``ChartQA Dataset``, or one that holds it. The prefix is the question alone, without
    ``answer en``, the suffix the label, both verbatim (big_vision, ``transfers/chartqa.py``). ``parts``: of human and
    augmented; all rows of both are the mixture that PaliGemma is trained on (7,398 : 20,901).
    """

    parts: tuple[str, ...] | list[str] = PARTS

    def __post_init__(self) -> None:
        bad = [part for part in self.parts if part not in PARTS] if isinstance(self.parts, list | tuple) else ["?"]
        if bad or not self.parts or len(set(self.parts)) < len(self.parts):
            raise AdapterError(f"parts = {self.parts!r}: expected a list of {' and '.join(PARTS)}, each once")

    def splits(self, source: Path) -> list[str]:
        """The splits, as recipes call them."""
        return list(split_folders(_inner(source, "ChartQA Dataset")))

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """Each question, with its part and the path of its picture. Raises DataError."""
        home = _inner(source, "ChartQA Dataset")
        have = split_folders(home)
        if not have:
            raise DataError(f"{source}: expected ChartQA's folders train, val and test")
        for _, folder in chosen(source, have, split):
            for number, part, question in _mixed({part: _questions(folder, part) for part in self.parts}):
                row = {"question": question, "number": number, "part": part}
                place = f"{folder.name}_{part}.json, question {number + 1}"
                try:
                    row["image"] = relative(inside(folder / "png", _field(question, "imgname")), source)
                except DataError as error:
                    yield Row(error, place)
                    continue
                yield Row(row, place)

    def __call__(self, row: Mapping[str, Any]) -> Example:
        """The question's Example. Raises DataError: a field that is not there or not a text."""
        question = row["question"]
        return Example(
            images=row["image"],
            prefix=_field(question, "query"),
            suffix=_field(question, "label"),
            metadata={"question_id": row["number"]},
            part=row["part"],
        )


def _questions(folder: Path, part: str) -> list[Any]:
    file = folder / f"{folder.name}_{part}.json"
    questions = read_json(file)
    if not isinstance(questions, list):
        raise DataError(f"{file}: expected a list of questions, got {shown(questions)}")
    return questions


def _mixed(parts: Mapping[str, list[Any]]) -> Iterator[tuple[int, str, Any]]:
    """Number, part and question; evenly mixed, so that the first so many show every part in its share."""
    numbers = [(number, part) for part, questions in parts.items() for number in range(len(questions))]
    for number, part in sorted(numbers, key=lambda each: (each[0] + 0.5) / len(parts[each[1]])):
        yield number, part, parts[part][number]


@dataclass(frozen=True, kw_only=True)
class SciCapAdapter:
    """SciCap in its published layout: ``SciCap-Caption-All``, ``SciCap-No-Subfig-Img`` and the lists of figures.

    The source is the folder ``scicap_data``, or one that holds it. ``experiment``: first_sentence (PaliGemma's),
    single_sentence or at_most_100_tokens: which list of figures. ``subfigures``: false (PaliGemma's) or true: of
    figures with parts. ``caption``: the key of the caption. ``sentences``: all or first. PaliGemma learns the whole
    caption of the figures in the list first_sentence, verbatim (big_vision, ``datasets/scicap``); first takes its first
    sentence.
    ``prefix``: PaliGemma's ``caption en``.
    """

    experiment: str = "first_sentence"
    subfigures: bool = False
    caption: str = "1-lowercase-and-token-and-remove-figure-index"
    sentences: str = "all"
    prefix: str = "caption en"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("experiment", self.experiment, EXPERIMENTS),
            ("caption", self.caption, CAPTIONS),
            ("sentences", self.sentences, ("all", "first")),
        ):
            if value not in known:
                raise AdapterError(f"{name} = {value!r}: expected one of {', '.join(known)}{hint(str(value), known)}")
        if self.sentences == "first" and self.caption.startswith("0"):
            raise AdapterError(f"sentences = first: the caption {self.caption} is not divided into sentences")

    def splits(self, source: Path) -> list[str]:
        """The splits, as recipes call them."""
        return list(self._lists(source))

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """Each figure of the list, with the paths of its picture and of its captions. Raises DataError."""
        home = _inner(source, "scicap_data")
        kind = f"SciCap-{'Yes' if self.subfigures else 'No'}-Subfig-Img"
        for name, folder in chosen(source, self._lists(source), split):
            pictures = _split_below(home / kind, name)
            captions = _split_below(home / "SciCap-Caption-All", name)
            file = folder / "file_idx.json"
            figures = read_json(file)
            if not isinstance(figures, list):
                raise DataError(f"{file}: expected a list of figures, got {shown(figures)}")
            for number, figure in enumerate(figures, start=1):
                place = f"{relative(file, source)}, figure {number}"
                try:
                    if not isinstance(figure, str) or not figure.endswith(".png"):
                        raise DataError(f"expected the name of a .png file, got {shown(figure)}")
                    image = relative(inside(pictures, figure), source)
                    row = {"image": image, "caption": inside(captions, f"{figure.removesuffix('.png')}.json")}
                except DataError as error:
                    yield Row(error, place)
                    continue
                yield Row(row, f"{place} ({figure})")

    def __call__(self, row: Mapping[str, Any]) -> Example:
        """The figure's Example. Raises DataError: captions that are not there, or without the one asked for."""
        content = read_json(row["caption"])
        found = content
        for key in (*CAPTIONS[self.caption], self.caption):
            found = _field(found, key, object)
        if isinstance(found, dict):
            sentences = _field(found, "sentence", list) if self.sentences == "first" else None
            if sentences == []:
                raise DataError(f"{self.caption}: has no sentence")
            found = _field(found, "caption") if sentences is None else sentences[0]
        if not isinstance(found, str):
            raise DataError(f"{self.caption} must be a text, got {shown(found)}")
        paper = content.get("paper-ID")
        return Example(row["image"], self.prefix, found, groups={"paper": paper} if isinstance(paper, str) else None)

    def _lists(self, source: Path) -> dict[str, Path]:
        home = _inner(source, "scicap_data")
        lists = home / "List-of-Files-for-Each-Experiments" / EXPERIMENTS[self.experiment]
        return dict(split_folders(lists / f"{'Yes' if self.subfigures else 'No'}-Subfig"))


def _inner(source: Path, name: str) -> Path:
    """The folder of that name in the source, as archives unpack; or the source itself. Raises DataError."""
    if not source.exists():
        raise DataError(f"{source}: no such folder; expected {name!r}, or a folder with it")
    found = folder_named(source, name)
    return source if found is None else Path(found)


def _split_below(folder: Path, split: str) -> Path:
    """The sub-folder of a split, in any spelling. Raises DataError."""
    for path in entries(folder):
        if split_named(path.name) == split and path.is_dir():
            return Path(path)
    raise DataError(f"{folder}: has no folder for the split {split!r}")


def _field(record: Any, key: str, kind: type = str) -> Any:
    """A field of a record. Raises DataError where it is not there or of another kind."""
    if not isinstance(record, dict):
        raise DataError(f"expected an object {{...}}, got {shown(record)}")
    if key not in record:
        raise DataError(f"the key {key!r} is missing{hint(key, record)} (there are {', '.join(record)})")
    if not isinstance(record[key], kind):
        raise DataError(f"{key} must be a {'text' if kind is str else kind.__name__}, got {shown(record[key])}")
    return record[key]
