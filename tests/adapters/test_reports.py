"""Reports: their sections, Open-i, R2Gen's annotation and MIMIC-CXR, in text written for these tests."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import radiology_fixtures as made
from radiology_fixtures import read

from pgtune.data_adapters.radiology.mimic_cxr import MimicCxrAdapter
from pgtune.data_adapters.radiology.reports import IuXrayAdapter
from pgtune.data_adapters.radiology.sections import sections_of, without_marks
from pgtune.errors import AdapterError, DataError
from pgtune.images import open_image

XXXX = re.compile("X{3,}")
WORDS = ["The", "lungs", "are", "clear.", "The", "heart", "is", "normal", "as", "of", "___."]


class TestSections:
    def test_a_report(self) -> None:
        found = sections_of(made.REPORT)
        assert list(found) == ["preamble", "examination", "indication", "technique", "findings", "impression"]
        assert found["indication"].strip() == "___ year old woman with cough  // pneumonia?"
        assert found["findings"].split() == WORDS

    @pytest.mark.parametrize(
        ("heading", "name"),
        [
            ("FINDINGS AND IMPRESSION", "impression"),
            ("REASON FOR EXAM", "indication"),
            ("IMPERSSION", "impression"),
            ("NDICATION", "indication"),
            ("PORTABLE CHEST RADIOGRAPH", "findings"),
            ("CLINICAL HISTORY", "history"),
            ("LINES AND TUBES", "lines and tubes"),
            ("FINAL ADDENDUM", "addendum"),
        ],
    )
    def test_names(self, heading: str, name: str) -> None:
        assert sections_of(f" FINAL REPORT\n {heading}:  text\n")[name] == " text\n"

    def test_the_last_of_a_name_counts_and_empty_ones_do_not(self) -> None:
        text = " ADDENDUM\n IMPRESSION:  old\n ______\n FINAL REPORT\n CHEST, PA LATERAL:\n \n IMPRESSION:  new"
        text += "\n IMPRESSION:  \n"
        assert sections_of(text)["impression"] == " new"
        assert "findings" not in sections_of(text)

    def test_a_heading_behind_a_heading_is_text(self) -> None:
        assert sections_of("\n COMPARISON: \n FINDINGS:  x\n")["comparison"].strip() == ""
        assert sections_of("\n FINDINGS:  IMPRESSION:  x\n")["findings"].strip() == "IMPRESSION:  x"

    def test_no_findings_and_no_impression(self) -> None:
        found = sections_of(" FINAL REPORT\n INDICATION:  Cough.\n \n The lungs are clear.\n \n No change.\n")
        assert found["indication"].strip() == "Cough."
        assert " ".join(found["last_paragraph"].split()) == "The lungs are clear. No change."
        assert sections_of("no heading at all") == {"full report": "no heading at all"}
        assert sections_of("") == {"full report": ""}

    @pytest.mark.parametrize(
        ("how", "text"),
        [
            ("keep", "1. Signs of x-XXXX, XXXX. 2. No XXXX. The heart is normal."),
            ("word", "1. Signs of, 2. No. The heart is normal."),
            ("sentence", "The heart is normal."),
        ],
    )
    def test_what_is_de_identified(self, how: str, text: str) -> None:
        given = "1. Signs of x-XXXX,\n XXXX. 2. No XXXX.  The heart is\nnormal."
        assert without_marks(given, XXXX, how) == text

    def test_nothing_but_marks(self) -> None:
        assert without_marks("XXXX. XXXX", XXXX, "word") == ""
        assert without_marks("____________________\n a", re.compile("_{3,}"), "sentence") == "a"


class TestIuXray:
    def test_open_i(self, tmp_path: Path) -> None:
        made.open_i(tmp_path)
        examples, left_out = read(IuXrayAdapter(), tmp_path, None)
        assert left_out == [("4.xml", "its report is empty"), ("5.xml", "the report has no picture")]
        assert [e.groups["study"] for e in examples] == [f"CXR{n}" for n in (1, 2, 3, 6, 7, 8, 9, 10, 11, 12)]
        assert examples[0].prefix == "INDICATION: Cough for 1 days, XXXX-year-old"
        findings = "FINDINGS: The heart is normal. Signs of x-XXXX, as before. Bones > 40 years."
        assert examples[0].suffix == f"{findings} IMPRESSION: 1. Clear. 2. No XXXX."
        assert examples[2].suffix == "IMPRESSION: 1. Clear. 2. No XXXX."
        assert len(examples[0].images) == 2
        assert open_image(examples[0].images[1]).size == (24, 24)
        assert IuXrayAdapter().splits(tmp_path) == ["all"]

    def test_arguments(self, tmp_path: Path) -> None:
        made.open_i(tmp_path)
        adapter = IuXrayAdapter(pictures="each", deidentified="sentence", sections=["findings"])
        examples, left_out = read(adapter, tmp_path / "ecgen-radiology", None)
        assert [e.prefix for e in examples[:2]] == ["INDICATION:"] * 2
        assert examples[0].suffix == "FINDINGS: The heart is normal. Bones > 40 years."
        assert [e.images[0] for e in examples[:2]] == [
            str(tmp_path / f"NLMCXR_png/CXR1_IM-0001-{view}001.png") for view in (1, 2)
        ]
        assert ("3.xml, picture 2", "its report is empty") in left_out
        only = read(IuXrayAdapter(sections=["impression"], deidentified="sentence", max_pictures=1), tmp_path, None)[0][
            0
        ]
        assert (len(only.images), only.suffix) == (1, "IMPRESSION: 1. Clear.")

    def test_open_i_has_no_splits_of_its_own(self, tmp_path: Path) -> None:
        made.open_i(tmp_path)
        with pytest.raises(DataError, match=r"no splits, so there is no 'train'.*data.split_by: study"):
            list(IuXrayAdapter().rows(tmp_path, "train"))
        made.r2gen(tmp_path)  # its reports 1 to 6 have the same numbers
        adapter = IuXrayAdapter(annotation="annotation.json")
        assert adapter.splits(tmp_path) == ["train", "validation", "test"]
        assert [e.groups["study"] for e in read(adapter, tmp_path, "validation")[0]] == ["CXR3"]
        assert [e.groups["study"] for e in read(adapter, tmp_path, "test")[0]] == ["CXR6"]

    def test_r2gen(self, tmp_path: Path) -> None:
        made.r2gen(tmp_path)
        assert IuXrayAdapter().splits(tmp_path) == ["train", "validation", "test"]
        for source in (tmp_path, tmp_path / "annotation.json"):
            examples, left_out = read(IuXrayAdapter(), source, "test")  # listed under four blanks
            assert not left_out
            assert [(e.prefix, e.suffix) for e in examples] == [
                ("caption en", f"The heart is normal. Report {n}.") for n in (5, 6)
            ]
            assert open_image(examples[1].images[1]).size == (24, 24)
        assert len(read(IuXrayAdapter(pictures="each", prefix=""), tmp_path, None)[0]) == 12
        with pytest.raises(DataError, match="no split 'tset'; did you mean 'test'"):
            list(IuXrayAdapter().rows(tmp_path, "tset"))

    def test_damaged_files_are_named(self, tmp_path: Path) -> None:
        made.open_i(tmp_path, reports=2)
        folder = tmp_path / "ecgen-radiology"
        (folder / "1.xml").write_bytes((folder / "1.xml").read_bytes()[:200])
        (folder / "3.xml").write_text("<html/>")
        (folder / "9.xml").write_text(made.open_i_xml(9, {"FINDINGS": "x"}, ["../../x"]))
        examples, left_out = read(IuXrayAdapter(), tmp_path, None)
        assert len(examples) == 1
        assert [place for place, _ in left_out] == ["1.xml", "3.xml", "9.xml"]
        assert left_out[0][1].startswith("!is not XML, or cut off: ")
        assert left_out[1][1] == "!has no uId with an id; expected a report of Open-i"
        made.r2gen(tmp_path / "r")
        path = tmp_path / "r/annotation.json"
        content = json.loads(path.read_text())
        content["train"][0]["image_path"] = "x.png"
        path.write_text(json.dumps(content))
        assert read(IuXrayAdapter(), path, "train")[1] == [
            ("annotation.json, report 1", "!image_path must be a list of paths, got str 'x.png'")
        ]
        with pytest.raises(DataError, match="expected ecgen-radiology/"):
            IuXrayAdapter().splits(tmp_path / "r/images")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"pictures": "both"}, "expected study or each"),
            ({"deidentified": "words"}, "did you mean 'word'"),
            ({"sections": ["finding"]}, "did you mean 'findings'"),
            ({"sections": []}, "must be a list of findings and impression"),
            ({"max_pictures": 0}, "expected a whole number from 1"),
        ],
    )
    def test_wrong_arguments(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(AdapterError, match=message):
            IuXrayAdapter(**arguments)


class TestMimicCxr:
    @pytest.mark.parametrize("zipped", [False, True])
    def test_prefix_and_suffix(self, tmp_path: Path, zipped: bool) -> None:
        made.mimic_cxr(tmp_path, zipped=zipped)
        examples, left_out = read(MimicCxrAdapter(), tmp_path, "validation")
        assert [e.groups["patient"] for e in examples] == ["10000003", "10000003", "10000006", "10000006"]
        assert len({e.groups["study"] for e in examples}) == 4
        assert examples[0].prefix == "INDICATION: ___ year old woman with cough // pneumonia?"
        assert examples[0].suffix == (
            "FINDINGS: The lungs are clear. The heart is normal as of ___. IMPRESSION: No pneumonia."
        )
        assert [reason for _, reason in left_out] == ["its view is another or not known"] * 2
        assert all(place.startswith("mimic-cxr-2.0.0-split.csv") for place, _ in left_out)
        assert open_image(examples[0].images[0]).size == (24, 24)
        assert not examples[0].metadata
        assert "10000003" not in repr(examples[0].images)

    def test_all_views_of_a_study_together(self, tmp_path: Path) -> None:
        made.mimic_cxr(tmp_path)
        examples, left_out = read(MimicCxrAdapter(views=None, pictures="study"), tmp_path, None)
        assert not left_out
        assert [len(e.images) for e in examples] == [2, 1] * 6
        first = read(MimicCxrAdapter(views=["LATERAL", "PA"], pictures="study"), tmp_path, None)[0][0]
        assert ["lateral" in str(image.path) for image in first.images] == [True, False]  # type: ignore[union-attr]
        assert (
            len(read(MimicCxrAdapter(views=None, pictures="study", max_pictures=1), tmp_path, None)[0][0].images) == 1
        )

    def test_reports_and_dicom_elsewhere(self, tmp_path: Path) -> None:
        made.mimic_cxr(tmp_path / "jpg", patients=1)
        for folder in ("jpg/mimic-cxr-reports", "txt"):
            target = tmp_path / folder / "files/p10/p10000001"
            target.mkdir(parents=True)
            for report in (tmp_path / "jpg/files/p10/p10000001").glob("*.txt"):
                (target / report.name).write_text(made.REPORT.replace("No pneumonia", folder))
        image = next((tmp_path / "jpg/files").rglob("*.jpg"))
        image.unlink()
        made.dicom(image.with_suffix(".dcm"), np.full((8, 9), 40, np.int16))
        found = read(MimicCxrAdapter(views=None), tmp_path / "jpg", None)[0]
        assert {open_image(e.images[0]).size for e in found} == {(9, 8), (24, 24)}
        assert found[0].suffix.endswith("IMPRESSION: jpg/mimic-cxr-reports.")
        found = read(MimicCxrAdapter(views=None, reports="../txt"), tmp_path / "jpg", None)[0]
        assert found[0].suffix.endswith("IMPRESSION: txt.")

    def test_reports_that_lack_something(self, tmp_path: Path) -> None:
        made.mimic_cxr(tmp_path, patients=1)
        first, second = sorted((tmp_path / "files").rglob("*.txt"))
        first.write_text(" FINAL REPORT\n HISTORY:  Fever.\n \n Clear lungs.\n")
        second.write_text(" FINAL REPORT\n IMPRESSION:  ___\n")
        examples, left_out = read(MimicCxrAdapter(), tmp_path, None)
        assert [e.prefix for e in examples] == ["INDICATION:"]
        assert left_out[1][1] == "its report is empty"
        examples, _ = read(MimicCxrAdapter(last_paragraph=True), tmp_path, None)
        assert (examples[0].prefix, examples[0].suffix) == ("INDICATION: Fever.", "FINDINGS: Clear lungs.")
        _, left_out = read(MimicCxrAdapter(deidentified="word"), tmp_path, None)
        assert left_out[-1][1] == "nothing is left of its report without what is de-identified"

    def test_files_that_are_not_there(self, tmp_path: Path) -> None:
        made.mimic_cxr(tmp_path, patients=2)
        next(iter(sorted((tmp_path / "files").rglob("*.txt")))).unlink()
        next(iter(sorted((tmp_path / "files/p10/p10000002").rglob("*.jpg")))).unlink()
        _, left_out = read(MimicCxrAdapter(views=None), tmp_path, None)
        assert [reason.partition(";")[0] for _, reason in left_out] == [
            "!its report is not there", "!its report is not there", "!its picture is not there",
        ]  # fmt: skip
        _, left_out = read(MimicCxrAdapter(views=None, missing="skip"), tmp_path, None)
        assert [reason for _, reason in left_out] == ["its report is not there"] * 2 + ["its picture is not there"]

    def test_tables(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"there is no mimic-cxr-2\.0\.0-split\.csv or \.csv\.gz"):
            MimicCxrAdapter().splits(tmp_path)
        made.mimic_cxr(tmp_path, zipped=True)
        with pytest.raises(DataError, match=r"no picture has the ViewPosition XX"):
            list(MimicCxrAdapter(views=["XX"]).rows(tmp_path, None))
        with pytest.raises(DataError, match="there is no 'validate'"):
            list(MimicCxrAdapter().rows(tmp_path, "validate"))
        table = tmp_path / "mimic-cxr-2.0.0-split.csv.gz"
        whole = table.read_bytes()
        table.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match="is damaged or cut off"):
            list(MimicCxrAdapter().rows(tmp_path, None))
        table.unlink()
        made.write_csv(tmp_path / "mimic-cxr-2.0.0-split.csv", ["dicom_id", "study", "subject_id", "split"], [])
        with pytest.raises(DataError, match="no column 'study_id'; did you mean 'study'"):
            list(MimicCxrAdapter().rows(tmp_path, None))
        rows = [["a", 1, 10000001, "train"], ["b", 2, 10000001, "train"], ["c", 1, 10000001, "train"]]
        made.write_csv(tmp_path / "mimic-cxr-2.0.0-split.csv", ["dicom_id", "study_id", "subject_id", "split"], rows)
        with pytest.raises(DataError, match="row 3: the rows of its study do not stand together"):
            list(MimicCxrAdapter(views=None).rows(tmp_path, None))
