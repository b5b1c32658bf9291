"""Questions about remote sensing pictures, as published: RSVQA-LR and RSVQA-HR."""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pgtune.data_adapters.json_lists import read_lists
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Row, Skip, shown

__all__ = ["RsvqaHrAdapter", "RsvqaLrAdapter"]

_NUMERIC = ("drop", "binned", "raw")


@dataclass(frozen=True)
class _Rsvqa:
    """What the two RSVQA sets (Lobry et al., 10.1109/TGRS.2020.2988782) share; see `RsvqaLr` and `RsvqaHr`."""

    numeric: str = "drop"
    images: str = ""

    file: ClassVar[str]  # names of a split's files: split, then questions or answers
    whole: ClassVar[str]  # the same of the files that hold every split
    folder: ClassVar[str]
    types: ClassVar[tuple[str, ...]]  # whose answers are numbers
    names: ClassVar[dict[str, tuple[tuple[str, str], ...]]]  # split -> (split in the file's name, part)

    def __post_init__(self) -> None:
        if self.numeric not in _NUMERIC:
            raise AdapterError(f"numeric = {self.numeric!r}: expected one of {', '.join(_NUMERIC)}")
        if not isinstance(self.images, str):
            raise AdapterError(f"images must be the name of the pictures' folder, got {shown(self.images)}")

    def splits(self, source: Path) -> list[str]:
        """The splits whose files are there."""
        there = {file for files in self.names.values() for file, _ in files if self._questions(source, file).is_file()}
        return [name for name, files in self.names.items() if there.issuperset(file for file, _ in files)]

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """Every question of a split (None: of train, validation and test) with its answer, in the file's order.

        The files are read piece by piece. Stubs, which the files of one split hold for the questions of the others,
        are skipped before anything but ``active`` is read. Raises DataError: files or folders that are not there.
        """
        known = {"val": "validation", "valid": "validation", "dev": "validation", "test_phili": "test_2"}
        wanted = self.splits(source) if split is None else [known.get(split, split)]
        for name in wanted:
            if name not in self.names:
                close = difflib.get_close_matches(name, self.names, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise DataError(f"{source}: no split {split!r}{hint} (there are {', '.join(self.names)})")
        if split is None and not wanted:
            raise DataError(f"{source}: no {self._questions(source, 'train').name}, which every copy of the set has")
        parts = dict.fromkeys(part for name in wanted for part in self.names[name])
        for file, _ in parts:
            if not (path := self._questions(source, file)).is_file():
                raise DataError(f"{path}: no such file" + self._alone(source, split))
        pictures = source / (self.images or self.folder)
        if not pictures.is_dir():
            raise DataError(f"{pictures}: no such folder; data.adapter_args.images names the folder of the pictures")
        for file, part in parts:
            yield from self._split(source, file, part, pictures)

    def __call__(self, row: Mapping[str, Any]) -> Example:
        """A row as `rows` makes it. Raises DataError: a key of the wrong type, a number that is none."""
        for key in ("question", "type"):
            if not isinstance(row[key], str):
                raise DataError(f"{key} must be a text, got {shown(row[key])}")
        kind, answer = row["type"], row["answer"]
        if not isinstance(answer, str | int) or isinstance(answer, bool):
            raise DataError(f"answer must be a text, got {shown(answer)}")
        text = str(answer)
        if self.numeric == "binned":
            text = self.binned(text, kind)
        return Example(
            row["picture"],
            prefix=f"answer en {row['question']}",
            suffix=text.lower(),
            metadata={"question_id": row["id"]},
            part=row["part"],
            question_type=kind,
        )

    def binned(self, answer: str, kind: str) -> str:
        """The answer with numbers in the published bins."""
        raise NotImplementedError

    def _questions(self, source: Path, file: str) -> Path:
        return source / self.file.format(file, "questions")

    def _alone(self, source: Path, split: str | None) -> str:
        there = self.splits(source)
        return f"; of the splits {', '.join(there)} the files are there" if there and split else ""

    def _split(self, source: Path, file: str, part: str, pictures: Path) -> Iterator[Row]:
        path = self._questions(source, file)
        own = source / self.file.format(file, "answers")
        whole = {kind: source / self.whole.format(kind) for kind in ("questions", "answers")}
        alone = own.is_file() or not whole["answers"].is_file()
        answers = _ById(own if alone else whole["answers"], "answers", "answer")
        complete = _ById(whole["questions"], "questions", "question")
        complete_answers = _ById(whole["answers"], "answers", "answer")
        endings: dict[Any, Path] = {}
        for key, index, question in read_lists(path):
            if key != "questions":
                continue
            number = question.get("id", index) if isinstance(question, dict) else index
            place = f"{path.name}, question {number}"
            if not isinstance(question, dict):
                yield Row(DataError(f"must be an object, got {shown(question)}"), place)
                continue
            if not question.get("active", True):
                yield Row(Skip("inactive stub"), place)
                continue
            try:
                if "question" not in question:  # some copies keep ids only here; the text is in the file of all splits
                    question = complete.take(number)
                ids = _key(question, "answers_ids")
                if not isinstance(ids, list) or not ids:
                    raise DataError(f"answers_ids must be a list with an id, got {shown(ids)}")
                if self.numeric == "drop" and question.get("type") in self.types:
                    answers.drop(ids[0])
                    yield Row(Skip(f"numeric question ({question['type']})"), place)
                    continue
                answer = answers.take(ids[0])
                if "answer" not in answer:
                    answer = complete_answers.take(ids[0])
                if answer.get("question_id", number) != number:
                    raise DataError(f"answer {ids[0]} is of question {answer['question_id']}")
                image = _key(question, "img_id")
                if image not in endings:
                    endings[image] = _picture(pictures, image)
                yield Row(
                    {
                        "id": number,
                        "question": _key(question, "question"),
                        "type": _key(question, "type"),
                        "answer": answer["answer"],
                        "picture": str(endings[image]),
                        "part": part,
                    },
                    place,
                )
            except DataError as error:
                yield Row(error, place)


@dataclass(frozen=True)
class RsvqaLrAdapter(_Rsvqa):
    """RSVQA-LR: questions about 772 Sentinel-2 tiles (zenodo.org/records/6344334). The source is the unpacked folder.

    ``LR_split_{train,val,test}_{questions,answers}.json`` and ``Images_LR/{img_id}.tif`` (or .png). Splits train,
    validation, test. Prefix ``answer en {question}``, suffix the answer in lower case, question_type the file's type.

    ``numeric``: what becomes of count questions. ``drop`` (the papers: 39,441 / 6,782 / 6,782 questions are left of
    57,223 / 10,005 / 10,004), ``binned`` (0, "between 1 and 10", ... "more than 1000") or ``raw``.
    ``images``: the folder of the pictures where it is not called Images_LR.
    """

    file = "LR_split_{}_{}.json"
    whole = "all_{}.json"
    folder = "Images_LR"
    types = ("count",)
    names: ClassVar = {"train": (("train", ""),), "validation": (("val", ""),), "test": (("test", ""),)}

    def binned(self, answer: str, kind: str) -> str:
        """Counts in big_vision's bins (datasets/rsvqa_lr); other answers as they are."""
        return _bin(_integer(answer, answer), "") if kind == "count" else answer


@dataclass(frozen=True)
class RsvqaHrAdapter(_Rsvqa):
    """RSVQA-HR: questions about 10,659 aerial tiles (zenodo.org/records/6344367). The source is the unpacked folder.

    ``USGS_split_{train,val,test,test_phili}_{questions,answers}.json`` and ``Data/{img_id}.tif`` (or .png). Splits
    train, validation and test, whose rows have the part ``test`` or, for Philadelphia, ``test_2``; ``test_1`` and
    ``test_2`` are these alone. Prefix, suffix and question_type as in `RsvqaLr`.

    ``numeric``: what becomes of area and count questions. ``drop`` (the papers), ``binned`` (areas in bins such as
    "between 1 m2 and 10 m2", counts as they are) or ``raw``. ``images``: the folder of the pictures where it is not
    called Data.
    """

    file = "USGS_split_{}_{}.json"
    whole = "USGS{}.json"
    folder = "Data"
    types = ("area", "count")
    names: ClassVar = {
        "train": (("train", ""),),
        "validation": (("val", ""),),
        "test": (("test", "test"), ("test_phili", "test_2")),
        "test_1": (("test", "test"),),
        "test_2": (("test_phili", "test_2"),),
    }

    def binned(self, answer: str, kind: str) -> str:
        """Areas in big_vision's bins (datasets/rsvqa_hr); other answers as they are."""
        return _bin(_integer(answer.removesuffix("m2"), answer), " m2") if kind == "area" else answer


class _ById:
    """The active records of a file by their id, read on only as far as what is asked for.

    Questions and answers stand in the same order in the published files, so that next to nothing is held.
    """

    def __init__(self, path: Path, key: str, word: str) -> None:
        self.path = path
        self.word = word
        self.held: dict[Any, dict[str, Any]] = {}
        self.records = (record for found, _, record in read_lists(path) if found == key)

    def take(self, number: Any) -> dict[str, Any]:
        """The record, given out once. Raises DataError where there is none, or it is not active."""
        if number in self.held:
            return self.held.pop(number)
        for record in self.records:
            if isinstance(record, dict) and record.get("active", True) and "id" in record:
                if record["id"] == number:
                    return record
                kept = ("id", "question_id", "answer", "question", "type", "img_id", "answers_ids")
                self.held[record["id"]] = {
                    name: sys.intern(value) if isinstance(value, str) else value
                    for name in kept
                    if (value := record.get(name)) is not None
                }
        raise DataError(f"{self.word} {number} is not among the active ones of {self.path.name}")

    def drop(self, number: Any) -> None:
        """Let go of a record that is not wanted, if there is one."""
        with contextlib.suppress(DataError):
            self.take(number)


def _key(record: Mapping[str, Any], key: str) -> Any:
    if key not in record:
        raise DataError(f"the key {key!r} is missing (there are {', '.join(map(str, record)) or 'none'})")
    return record[key]


def _picture(folder: Path, number: Any) -> Path:
    """Where the picture of an id lies: the release has .tif, some copies .png."""
    paths = [folder / f"{number}{ending}" for ending in (".tif", ".png")]
    return next((path for path in paths if path.is_file()), paths[0])


def _integer(text: str, whole: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise DataError(f"the answer {whole!r} is not a whole number, which its bin needs") from None


def _bin(value: int, unit: str) -> str:
    """The published bins: 0, 1 to 10, 11 to 100, 101 to 1000, more."""
    if value == 0:
        return f"0{unit}"
    for low, high in ((1, 10), (11, 100), (101, 1000)):
        if value <= high:
            return f"between {low}{unit} and {high}{unit}"
    return f"more than 1000{unit}"
