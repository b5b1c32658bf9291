"""Questions about radiology pictures: VQA-RAD and SLAKE.

Neither is in the PaliGemma papers; the prefix, ``answer en {question}``, is the one of the papers' other question
answering tasks. Text is taken as it is published, with its ends stripped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtune.data_adapters.json_lists import read_lists
from pgtune.data_adapters.layout import present
from pgtune.data_adapters.radiology.files import check_choice, did_you_mean, find, text_of
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Row, Skip, shown

__all__ = ["SlakeAdapter", "VqaRadAdapter"]

_PARTS = ("open", "closed")
_PHRASES = ("freeform", "para", "frame")
_PUBLIC = ("VQA_RAD Dataset Public.json", "VQA_RAD_Dataset_Public.json")
_PUBLIC_PICTURES = ("VQA_RAD Image Folder", "VQA_RAD_Image_Folder", "images")
# Misspelt in the published files.
_TYPES = {"PRSE": "PRES", "ATRIB": "ATTRIB"}


@dataclass(frozen=True)
class _Question:
    """A published record, the folder of its picture, and for VQA-RAD whether the same one came before."""

    record: Any
    pictures: str
    repeats: int | None = None


@dataclass(frozen=True)
class VqaRadAdapter:
    """VQA-RAD (Lau et al. 2018): questions about 314 CT, MR and X-ray pictures from MedPix.

    The source is the folder (or the file itself) of one of the two published forms:

    - ``VQA_RAD Dataset Public.json`` with ``VQA_RAD Image Folder/``, as on OSF: 1,797 questions to learn from and 451
      to test on, told apart by ``phrase_type`` (``test_freeform`` and ``test_para`` are the test);
    - ``trainset.json``, ``testset.json`` and ``images/``, as used by MEVF and later work: the same, and 1,267 questions
      rephrased into a frame, so that 3,064 to learn from.

    There is no validation split, and every picture of the test is among those to learn from.

    Suffix: the answer as it is written, "Yes" and "yes" both occur; metrics of the task do not look at the case.
    ``part`` is ``open`` or ``closed``. ``question_type``: PRES, POS, ABN, SIZE, ...; of several ("PRES, ABN") the names
    in alphabetical order; the misspellings PRSE and ATRIB are mended.

    ``prefix``: the prompt; ``{question}`` stands for the question.
    ``answer_case``: ``as_written`` or ``lower``.
    ``phrases``: only questions of these kinds: freeform, para, frame; null: all.
    ``duplicates``: ``keep``, or ``skip`` for questions whose picture, question and answer all came before in the split.
    """

    prefix: str = "answer en {question}"
    answer_case: str = "as_written"
    phrases: Sequence[str] | None = None
    duplicates: str = "keep"

    def __post_init__(self) -> None:
        _check_prefix(self.prefix)
        check_choice("answer_case", self.answer_case, ("as_written", "lower"))
        check_choice("duplicates", self.duplicates, ("keep", "skip"))
        if self.phrases is not None:
            if isinstance(self.phrases, str) or not self.phrases:
                raise AdapterError(f"phrases must be a list of {', '.join(_PHRASES)}, got {shown(self.phrases)}")
            for phrase in self.phrases:
                check_choice("phrases", phrase, _PHRASES)

    def splits(self, source: Path) -> list[str]:
        """``train`` and ``test``, as far as the source has them."""
        folder, public = _vqa_rad_files(source)
        if public is not None:
            return ["train", "test"]
        return [name for name in ("train", "test") if (folder / f"{name}set.json").is_file()]

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """The records of a split (None: both), in the order of the file."""
        present(source)
        folder, public = _vqa_rad_files(source)
        known = self.splits(source)
        if split is not None and split not in known:
            raise DataError(f"{source}: VQA-RAD has no split {split!r} here, it has {' and '.join(known)}")
        if public is not None:
            files = {public: find(folder, _PUBLIC_PICTURES) or folder}
        elif source.is_file() and split is None:
            files = {source: folder / "images"}
        else:
            files = {folder / f"{name}set.json": folder / "images" for name in known if split in (None, name)}
        for path, pictures in files.items():
            seen: dict[tuple[str, ...], int] = {}
            for number, record in enumerate(_records(path), start=1):
                if public is not None and split is not None and _in_test(record) != (split == "test"):
                    continue
                repeats = None
                if self.duplicates == "skip" and isinstance(record, dict) and self._wanted(_phrase(record)):
                    names = ("image_name", "question", "answer")
                    # Where both splits are read from one file, each is looked at by itself.
                    key = (str(_in_test(record)), *(str(record.get(name)).strip() for name in names))
                    repeats = seen.setdefault(key, number)
                yield Row(
                    _Question(record, str(pictures), None if repeats in (None, number) else repeats),
                    f"{path.name}, question {number}",
                )

    def __call__(self, row: _Question) -> Example | Skip:
        """The question's Example. Raises DataError, without the place: a missing key, an unknown answer type."""
        record = row.record
        question, answer = text_of(record, "question"), text_of(record, "answer")
        phrase = _phrase(record)
        if phrase not in _PHRASES:
            raise DataError(f"phrase_type is {record['phrase_type']!r}, expected one of {', '.join(_PHRASES)}")
        if not self._wanted(phrase):
            return Skip(f"its phrase type is {phrase}")
        if row.repeats is not None:
            return Skip("picture, question and answer came before")
        if not question or not answer:
            return Skip("no answer" if question else "no question")
        kinds = sorted({_TYPES.get(kind.strip(), kind.strip()) for kind in _upper(record, "question_type").split(",")})
        return Example(
            images=_picture(row.pictures, text_of(record, "image_name")),
            prefix=self.prefix.replace("{question}", question),
            suffix=answer.lower() if self.answer_case == "lower" else answer,
            part=_part(record),
            question_type=", ".join(kind for kind in kinds if kind),
            metadata={"qid": record.get("qid"), "organ": _upper(record, "image_organ"), "phrase_type": phrase},
        )

    def _wanted(self, phrase: str) -> bool:
        return self.phrases is None or phrase in self.phrases


@dataclass(frozen=True)
class SlakeAdapter:
    """SLAKE (Liu et al. 2021): questions about 642 CT, MR and X-ray pictures, in English and Chinese.

    The source is the folder ``Slake1.0`` with ``train.json``, ``validate.json``, ``test.json`` and ``imgs/``.
    ``part`` is ``open`` or ``closed``, ``question_type`` the published ``content_type``. Of the 4,919 / 1,053 / 1,061
    questions in English one, of train, has an empty answer and is skipped.

    ``language``: ``en`` or ``zh``: questions in the other language are skipped; null: both.
    ``prefix``: the prompt; ``{language}`` and ``{question}`` stand for the question's own.
    ``answer_case``: ``as_written`` or ``lower``.
    ``base_type``: only ``vqa``, or only ``kvqa`` (which ask for more than the picture shows); null: both.
    """

    language: str | None = "en"
    prefix: str = "answer {language} {question}"
    answer_case: str = "as_written"
    base_type: str | None = None

    def __post_init__(self) -> None:
        _check_prefix(self.prefix)
        check_choice("language", self.language, ("en", "zh", None))
        check_choice("answer_case", self.answer_case, ("as_written", "lower"))
        check_choice("base_type", self.base_type, ("vqa", "kvqa", None))

    def splits(self, source: Path) -> list[str]:
        """The splits whose files are there: train, validation (``validate.json``), test."""
        names = {"train": "train.json", "validation": "validate.json", "test": "test.json"}
        found = [split for split, name in names.items() if (source / name).is_file()]
        if not found:
            raise DataError(f"{source}: no train.json, validate.json or test.json; expected the folder Slake1.0")
        return found

    def rows(self, source: Path, split: str | None) -> Iterator[Row]:
        """The records of a split (None: all three), in the order of the file."""
        present(source)
        known = self.splits(source)
        if split is not None and split not in known:
            raise DataError(f"{source}: no split {split!r}{did_you_mean(split, known)} (it has {', '.join(known)})")
        for name in known if split is None else [split]:
            path = source / ("validate.json" if name == "validation" else f"{name}.json")
            for number, record in enumerate(_records(path), start=1):
                yield Row(_Question(record, str(source / "imgs")), f"{path.name}, question {number}")

    def __call__(self, row: _Question) -> Example | Skip:
        """The question's Example. Raises DataError, without the place: a missing key, an unknown answer type."""
        record = row.record
        question, answer = text_of(record, "question"), text_of(record, "answer")
        language, base_type = text_of(record, "q_lang"), text_of(record, "base_type")
        if language not in ("en", "zh"):
            raise DataError(f"q_lang is {language!r}, expected en or zh")
        if self.language not in (None, language):
            return Skip(f"its language is {language}")
        if self.base_type not in (None, base_type):
            return Skip(f"its base type is {base_type}")
        if not question or not answer:
            return Skip("no answer" if question else "no question")
        return Example(
            images=_picture(row.pictures, text_of(record, "img_name")),
            prefix=self.prefix.replace("{language}", language).replace("{question}", question),
            suffix=answer.lower() if self.answer_case == "lower" else answer,
            part=_part(record),
            question_type=text_of(record, "content_type"),
            metadata={
                "qid": record.get("qid"),
                "language": language,
                "location": text_of(record, "location"),
                "modality": text_of(record, "modality"),
                "base_type": base_type,
            },
        )


def _vqa_rad_files(source: Path) -> tuple[Path, Path | None]:
    """The folder, and the file of the form on OSF (None: the form with two files)."""
    folder = source if source.is_dir() else source.parent
    if source.is_file():
        return folder, source if source.name not in ("trainset.json", "testset.json") else None
    public = find(folder, _PUBLIC)
    if public is None and find(folder, ("trainset.json", "testset.json")) is None:
        raise DataError(f"{source}: expected {_PUBLIC[0]!r}, or trainset.json and testset.json, in this folder")
    return folder, public


def _in_test(record: Any) -> bool:
    return isinstance(record, dict) and str(record.get("phrase_type")).strip().startswith("test_")


def _phrase(record: Any) -> str:
    text: str = text_of(record, "phrase_type")
    return text.removeprefix("test_")


def _records(path: Path) -> Iterator[Any]:
    for key, _, record in read_lists(path):
        if key:
            raise DataError(f"{path}: has the list {key!r} in an object, expected a list of questions")
        yield record


def _upper(record: Any, key: str) -> str:
    text: str = text_of(record, key)
    return text.upper()


def _part(record: Any) -> str:
    part: str = text_of(record, "answer_type").lower()
    if part not in _PARTS:
        raise DataError(f"answer_type is {record['answer_type']!r}, expected OPEN or CLOSED")
    return part


def _picture(folder: str, name: str) -> str:
    path = os.path.normpath(os.path.join(folder, name))
    if not name or not path.startswith(os.path.join(folder, "")):
        raise DataError(f"the picture {name!r} is not a path inside of {os.path.basename(folder)}/")
    return path


def _check_prefix(prefix: object) -> None:
    if not isinstance(prefix, str) or "{question}" not in prefix:
        raise AdapterError(f"prefix must be a text with {{question}} in it, got {shown(prefix)}")
