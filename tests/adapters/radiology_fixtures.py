"""Miniature data sets in the layouts that the radiology data adapters read, written by hand or drawn."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from pgtune.errors import DataError
from pgtune.example import Example, Row, Skip

CT, SR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.11"
NAMES = ("Planted^Patient", "PLANTED-ID-77", "19550505", "PLANTED-ACC-9", "Planted Hospital", "1.2.826.77")
"""What must be found nowhere: name, number, birth date, accession number, hospital, the beginning of each UID."""


def read(adapter: Any, source: Path, split: str | None) -> tuple[list[Example], list[tuple[str, str]]]:
    """The examples of a split, and where and why others were left out (a DataError begins with "!")."""
    examples, left_out = [], []
    for row in adapter.rows(source, split):
        assert isinstance(row, Row)
        try:
            result = row.value if isinstance(row.value, Skip | DataError) else adapter(row.value)
        except DataError as error:
            result = error
        if isinstance(result, Example):
            examples.append(result)
        else:
            left_out.append((row.place, result.reason if isinstance(result, Skip) else f"!{result}"))
    return examples, left_out


def picture(path: Path, seed: int, size: tuple[int, int] = (24, 24)) -> None:
    """A small grey picture of noise, of its own for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8)).save(path)


def vqa_rad_rows() -> list[dict[str, Any]]:
    """Twelve questions about three pictures as MEVF's files have them; the odd ones are of the kinds that are met."""
    kinds = [
        ("Are there ribs? ", "Yes", "CLOSED", "PRES", "freeform"),
        ("Is the rib broken?", "no", "CLOSED ", "PRSE", "para"),
        ("Where is the mass?", " left lung", "OPEN", "POS, ABN", "frame"),
        ("How many are there?", 4, "OPEN", "COUNT", "freeform"),
    ]
    return [
        {
            "qid": 4 * image + number + 1,
            "image_name": f"synpic{100 + image}.jpg",
            "image_organ": ("CHEST", "ABD", "HEAD")[image],
            "answer": answer,
            "answer_type": answer_type,
            "question_type": kind,
            "question": question,
            "phrase_type": phrase,
        }
        for image in range(3)
        for number, (question, answer, answer_type, kind, phrase) in enumerate(kinds)
    ]


def vqa_rad(folder: Path) -> list[dict[str, Any]]:
    """MEVF's two files: all twelve to learn from, the first four of them as the test, and the pictures."""
    rows = vqa_rad_rows()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trainset.json").write_text(json.dumps(rows))
    (folder / "testset.json").write_text(json.dumps(rows[:4]))
    for image in range(3):
        picture(folder / f"images/synpic{100 + image}.jpg", image)
    return rows


def vqa_rad_public(folder: Path) -> list[dict[str, Any]]:
    """The file on OSF: every fourth question is of the test."""
    rows = []
    for number, row in enumerate(row for row in vqa_rad_rows() if row["phrase_type"] != "frame"):
        mark = "test_" if number % 4 == 0 else ""
        more = {
            "qid_linked_id": f"q{number}",
            "image_case_url": "https://example.org",
            "evaluation": "evaluated",
            "question_rephrase": "NULL",
            "question_relation": "strict agreement",
            "question_frame": "NULL",
        }
        rows.append({**row, **more, "qid": str(row["qid"]), "phrase_type": mark + row["phrase_type"]})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "VQA_RAD Dataset Public.json").write_text(json.dumps(rows))
    for image in range(3):
        picture(folder / f"VQA_RAD Image Folder/synpic{100 + image}.jpg", image)
    return rows


def slake(folder: Path) -> None:
    """Two pictures a split, each with two questions in English and one in Chinese."""
    for place, split in enumerate(("train", "validate", "test")):
        rows = []
        for image in (2 * place, 2 * place + 1):
            asked = [
                ("What modality is used?", "MRI", "en", "OPEN", "Modality"),
                ("Does the picture contain liver?", "Yes", "en", "CLOSED", "Organ"),
                ("图中有肝脏吗?", "有", "zh", "CLOSED", "Organ"),
            ]
            rows += [
                {"img_id": image, "img_name": f"xmlab{image}/source.jpg", "question": question, "answer": answer,
                 "q_lang": language, "location": "Abdomen", "modality": "MRI", "answer_type": answer_type,
                 "base_type": "vqa", "content_type": kind, "triple": ["vhead", "_", "_"], "qid": len(rows) + 1}
                for question, answer, language, answer_type, kind in asked
            ]  # fmt: skip
            picture(folder / f"imgs/xmlab{image}/source.jpg", image)
        (folder / f"{split}.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def open_i_xml(number: int, sections: Mapping[str, str], pictures: Sequence[str]) -> str:
    """A report as Open-i writes it, of the elements that matter."""
    texts = "".join(
        f'<AbstractText Label="{label}">{escape(sections.get(label, ""))}</AbstractText>'
        for label in ("COMPARISON", "INDICATION", "FINDINGS", "IMPRESSION")
    )
    parents = "".join(
        f'<parentImage id="{name}"><figureId>F{place}</figureId><caption>Xray</caption></parentImage>'
        for place, name in enumerate(pictures, start=1)
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?><eCitation><meta type="rr"/><uId id="CXR{number}"/><MedlineCitation>'
        f"<Article><Abstract>{texts}</Abstract></Article></MedlineCitation>{parents}</eCitation>"
    )


def open_i(folder: Path, reports: int = 12) -> None:
    """Reports with two pictures each; the third has no findings, the fourth nothing, the fifth no picture."""
    (folder / "ecgen-radiology").mkdir(parents=True)
    for number in range(1, reports + 1):
        sections = {"INDICATION": f"Cough for {number} days, XXXX-year-old", "COMPARISON": "None."}
        if number != 4:
            sections["IMPRESSION"] = "1. Clear.\n2. No XXXX."
        if number not in (3, 4):
            sections["FINDINGS"] = "The heart is normal. Signs of x-XXXX, as before. Bones > 40 years."
        pictures = [] if number == 5 else [f"CXR{number}_IM-{number:04d}-{view}001" for view in (1, 2)]
        text = open_i_xml(number, sections, pictures)
        (folder / f"ecgen-radiology/{number}.xml").write_text(text, encoding="utf-8")
        for place, name in enumerate(pictures):
            picture(folder / f"NLMCXR_png/{name}.png", 10 * number + place)


def r2gen(folder: Path) -> None:
    """R2Gen's annotation: two reports a split, the test's key being four blanks."""
    annotation = {}
    for place, (key, split) in enumerate((("train", "train"), ("val", "val"), ("    ", "test"))):
        reports = []
        for number in (2 * place + 1, 2 * place + 2):
            study = f"CXR{number}_IM-{number:04d}"
            paths = [f"{study}/{view}.png" for view in (0, 1)]
            report = f"The heart is normal. Report {number}."
            reports.append({"id": study, "report": report, "image_path": paths, "split": split})
            for view, path in enumerate(paths):
                picture(folder / "images" / path, 10 * number + view)
        annotation[key] = reports
    (folder / "annotation.json").write_text(json.dumps(annotation))


REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)
 
 INDICATION:  ___ year old woman with cough  // pneumonia?
 
 TECHNIQUE:  Chest PA and lateral
 
 FINDINGS: 
 
 The lungs are clear. The heart
 is normal as of ___.
 
 IMPRESSION: 
 
 No pneumonia.
"""


def mimic_cxr(folder: Path, *, zipped: bool = False, patients: int = 6) -> None:
    """Two studies a patient: one with a PA and a lateral picture, one with an AP picture."""
    split_rows, metadata = [], []
    for patient in range(10000001, 10000001 + patients):
        split = ("train", "validate", "test")[patient % 3]
        for study, views in ((50000000 + 2 * patient, ("PA", "LATERAL")), (50000001 + 2 * patient, ("AP",))):
            below = folder / f"files/p10/p{patient}"
            below.mkdir(parents=True, exist_ok=True)
            (below / f"s{study}.txt").write_text(REPORT)
            for view in views:
                dicom = f"{study:08x}-{view.lower():0<8}-0-0-0"
                picture(below / f"s{study}/{dicom}.jpg", len(split_rows))
                split_rows.append([dicom, study, patient, split])
                metadata.append([dicom, patient, study, "CHEST", view])
    write_csv(folder / "mimic-cxr-2.0.0-split.csv", ["dicom_id", "study_id", "subject_id", "split"], split_rows, zipped)
    header = ["dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition"]
    write_csv(folder / "mimic-cxr-2.0.0-metadata.csv", header, metadata, zipped)


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]], zipped: bool = False) -> None:
    """A table; zipped: with .gz behind its name."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    if zipped:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(text.getvalue().encode()))
    else:
        path.write_text(text.getvalue(), encoding="utf-8")


def dicom(path: Path, pixels: NDArray[Any] | None, **tags: Any) -> Dataset:
    """A DICOM file, explicit little-endian, with planted names and the tags given (None takes one away).

    ``pixels``: rows x columns, frames x rows x columns, or rows x columns x 3; int16, uint16, int8 or uint8.
    """
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = SR if pixels is None else CT
    data.PatientName, data.PatientID, data.PatientBirthDate = NAMES[:3]
    data.AccessionNumber, data.InstitutionName = NAMES[3:5]
    for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(data, name, generate_uid(prefix=f"{NAMES[5]}."))
    data.Modality = "CT"
    if pixels is not None:
        colour = pixels.ndim == 3 and pixels.shape[-1] == 3
        bits = 8 * pixels.dtype.itemsize
        data.Rows, data.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
        data.SamplesPerPixel = 3 if colour else 1
        data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
        if colour:
            data.PlanarConfiguration = 0
        elif pixels.ndim == 3:
            data.NumberOfFrames = len(pixels)
        data.BitsAllocated = data.BitsStored = bits
        data.HighBit = bits - 1
        data.PixelRepresentation = int(pixels.dtype.kind == "i")
        content = pixels.tobytes()
        data.PixelData = content + b"\0" * (len(content) % 2)
        data["PixelData"].VR = "OW" if bits == 16 else "OB"
    for keyword, value in tags.items():
        if value is None:
            data.pop(keyword, None)
        else:
            setattr(data, keyword, value)
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    return data


def own_dicom(folder: Path, patients: int = 8, slices: int = 3) -> None:
    """A series a patient, in folders and files without names of patients, and labels.csv by SeriesInstanceUID."""
    rows = []
    for patient in range(patients):
        uid = f"{NAMES[5]}.{patient}"
        for place in range(slices):
            values = np.random.default_rng(10 * patient + place).integers(-1000, 1000, (16, 16)).astype(np.int16)
            dicom(
                folder / f"scan{patient}/{place}.dcm", values, PatientID=f"{NAMES[1]}-{patient}", SeriesInstanceUID=uid,
                RescaleSlope=1, RescaleIntercept=0, ImagePositionPatient=[0, 0, 5.0 * place],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            )  # fmt: skip
        rows.append([uid, "is there a mass?", ("yes", "no")[patient % 2], f"Report number {patient}."])
    write_csv(folder / "labels.csv", ["SeriesInstanceUID", "question", "answer", "report"], rows)
