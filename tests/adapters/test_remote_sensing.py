"""RSVQA, captions and scene folders, in miniature copies of the published layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import remote_sensing_fixtures as made

from pgtune.data_adapters import json_lists
from pgtune.data_adapters.json_lists import read_lists
from pgtune.data_adapters.remote_sensing.captions import RsCaptionsAdapter
from pgtune.data_adapters.remote_sensing.rsvqa import RsvqaHrAdapter, RsvqaLrAdapter
from pgtune.data_adapters.remote_sensing.scene_folder import SceneFolderAdapter, readable
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Row, Skip
from pgtune.images import open_image


def read(adapter: Any, source: Path, split: str | None) -> tuple[list[Example], list[tuple[str, str]]]:
    """The examples of a split, and where and why others were left out (a DataError begins with "!")."""
    examples, left_out = [], []
    for row in adapter.rows(source, split):
        assert isinstance(row, Row)
        value = row.value
        try:
            result = value if isinstance(value, Skip | DataError) else adapter(value)
        except DataError as error:
            result = error
        if isinstance(result, Example):
            examples.append(result)
        else:
            left_out.append((row.place, result.reason if isinstance(result, Skip) else f"!{result}"))
    return examples, left_out


class TestRsvqa:
    def test_the_papers_questions(self, tmp_path: Path) -> None:
        published = made.rsvqa(tmp_path)
        for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
            examples, left_out = read(RsvqaLrAdapter(), tmp_path, split)
            wanted = [q for q in published[name] if q["type"] != "count"]
            assert [e.prefix for e in examples] == [f"answer en {q['question']}" for q in wanted]
            assert [e.suffix for e in examples] == [q["answer"].lower() for q in wanted]
            assert [e.question_type for e in examples] == [q["type"] for q in wanted]
            assert [e.metadata["question_id"] for e in examples] == [q["id"] for q in wanted]
            assert [e.images[0] for e in examples] == [str(tmp_path / f"Images_LR/{q['img_id']}.tif") for q in wanted]
            reasons = [reason for _, reason in left_out]
            assert reasons.count("numeric question (count)") == len(published[name]) - len(wanted)
            assert reasons.count("inactive stub") == 32 - len(published[name])
        assert examples[0].references == (examples[0].suffix,)
        assert open_image(examples[0].images[0]).size == (24, 24)

    def test_a_question_without_a_mark_stays_without(self, tmp_path: Path) -> None:
        made.rsvqa(tmp_path)
        examples, _ = read(RsvqaLrAdapter(), tmp_path, "train")
        assert examples[0].prefix == "answer en Is it a rural or an urban area"

    def test_parts_of_the_high_resolution_test(self, tmp_path: Path) -> None:
        made.rsvqa(tmp_path, high=True, ending="png")
        both, _ = read(RsvqaHrAdapter(), tmp_path, "test")
        first, _ = read(RsvqaHrAdapter(), tmp_path, "test_1")
        second, _ = read(RsvqaHrAdapter(), tmp_path, "test_phili")
        assert [e.part for e in both] == ["test"] * 4 + ["test_2"] * 4
        assert [*first, *second] == both
        train, _ = read(RsvqaHrAdapter(), tmp_path, "train")
        assert {e.part for e in train} == {""}
        assert {e.question_type for e in train} == {"presence", "comp"}
        assert train[0].images[0] == str(tmp_path / "Data" / "0.png")
        everything, _ = read(RsvqaHrAdapter(), tmp_path, None)
        assert len(everything) == 16

    def test_numbers(self, tmp_path: Path) -> None:
        published = made.rsvqa(tmp_path)
        raw, _ = read(RsvqaLrAdapter(numeric="raw"), tmp_path, None)
        assert sorted(e.metadata["question_id"] for e in raw) == list(range(32))
        counts = {q["answer"] for split in published.values() for q in split if q["type"] == "count"}
        assert {e.suffix for e in raw if e.question_type == "count"} == counts

    @pytest.mark.parametrize(
        ("answer", "bin_"),
        [
            ("0", "0"), ("1", "between 1 and 10"), ("10", "between 1 and 10"), ("11", "between 11 and 100"),
            ("100", "between 11 and 100"), ("101", "between 101 and 1000"), ("1000", "between 101 and 1000"),
            ("1001", "more than 1000"),
        ],
    )  # fmt: skip
    def test_bins(self, answer: str, bin_: str) -> None:
        low, high = RsvqaLrAdapter(numeric="binned"), RsvqaHrAdapter(numeric="binned")
        assert low.binned(answer, "count") == bin_
        assert low.binned(answer, "comp") == answer
        assert high.binned(answer, "count") == answer
        area = bin_ + " m2" if " " not in bin_ else bin_.replace(" and", " m2 and") + " m2"
        assert high.binned(f"{answer}m2", "area") == area

    def test_a_number_that_is_none(self) -> None:
        with pytest.raises(DataError, match="'many' is not a whole number"):
            RsvqaLrAdapter(numeric="binned").binned("many", "count")

    def test_answers_are_joined_by_their_id(self, tmp_path: Path) -> None:
        made.rsvqa(tmp_path)
        before, _ = read(RsvqaLrAdapter(), tmp_path, "train")
        path = tmp_path / "LR_split_train_answers.json"
        answers = json.loads(path.read_text())["answers"]
        path.write_text(json.dumps({"answers": answers[::-1]}))
        assert read(RsvqaLrAdapter(), tmp_path, "train")[0] == before

    def test_text_in_the_file_of_all_splits(self, tmp_path: Path) -> None:
        published = made.rsvqa(tmp_path)
        before, _ = read(RsvqaLrAdapter(), tmp_path, "train")
        whole = [{k: v for k, v in q.items() if k != "answer"} for split in published.values() for q in split]
        path = tmp_path / "LR_split_train_questions.json"
        stubs = [{"id": q["id"], "active": q["active"]} for q in json.loads(path.read_text())["questions"]]
        path.write_text(json.dumps({"questions": stubs}))
        (tmp_path / "all_questions.json").write_text(json.dumps({"questions": whole}))
        (tmp_path / "LR_split_train_answers.json").rename(tmp_path / "all_answers.json")
        assert read(RsvqaLrAdapter(), tmp_path, "train")[0] == before

    def test_bad_records_are_named(self, tmp_path: Path) -> None:
        made.rsvqa(tmp_path)
        path = tmp_path / "LR_split_train_questions.json"
        questions = json.loads(path.read_text())["questions"]
        questions[0]["answers_ids"] = [999]
        del questions[1]["img_id"]
        questions[3]["answers_ids"] = [14]
        questions.append("oops")
        path.write_text(json.dumps({"questions": questions}))
        examples, left_out = read(RsvqaLrAdapter(), tmp_path, "train")
        bad = {place: reason for place, reason in left_out if reason.startswith("!")}
        assert "999 is not among the active ones" in bad["LR_split_train_questions.json, question 0"]
        assert "'img_id' is missing" in bad["LR_split_train_questions.json, question 1"]
        assert "answer 14 is of question 14" in bad["LR_split_train_questions.json, question 3"]
        assert "must be an object" in bad["LR_split_train_questions.json, question 32"]
        assert len(examples) == 6

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no LR_split_train_questions"):
            list(RsvqaLrAdapter().rows(tmp_path, None))
        made.rsvqa(tmp_path)
        assert RsvqaLrAdapter().splits(tmp_path) == ["train", "validation", "test"]
        with pytest.raises(DataError, match="did you mean 'train'"):
            list(RsvqaLrAdapter().rows(tmp_path, "trian"))
        (tmp_path / "LR_split_val_questions.json").unlink()
        with pytest.raises(DataError, match="no such file; of the splits train, test"):
            list(RsvqaLrAdapter().rows(tmp_path, "validation"))
        with pytest.raises(DataError, match=r"Images: no such folder; data.adapter_args.images"):
            list(RsvqaLrAdapter(images="Images").rows(tmp_path, "train"))
        with pytest.raises(AdapterError, match="drop, binned, raw"):
            RsvqaLrAdapter(numeric="keep")


class TestJsonLists:
    @pytest.mark.parametrize("chunk", [1, 2, 7, 64])
    def test_it_reads_what_json_reads(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
    ) -> None:
        monkeypatch.setattr(json_lists, "CHUNK", chunk)
        document = {
            "a": [1, 2.5, -3e-7, "text \"quoted\" \u00e9 \\", None, True, {"x": [1, {"y": []}]}, []],
            "n": 12345, "s": "[1]", "o": {"q": [9]}, "empty": [], "b": [[1], [2]],
        }  # fmt: skip
        for indent in (None, 2):
            path = tmp_path / "x.json"
            path.write_text(json.dumps(document, indent=indent), encoding="utf-8-sig" if indent else "utf-8")
            found = list(read_lists(path))
            assert [value for key, _, value in found if key == "a"] == document["a"]
            assert [(key, index) for key, index, _ in found if key == "b"] == [("b", 0), ("b", 1)]
            assert {key for key, _, _ in found} == {"a", "b"}
        path.write_text("[1, 22, 333]")
        assert list(read_lists(path)) == [("", 0, 1), ("", 1, 22), ("", 2, 333)]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "the file is empty"), ('{"a": [1, 2', "cut off"), ('{"a": [{"b": "unfinis', "cut off"),
            ('{"a": [1 2]}', "expected , or ]"), ('{"a": [1]} x', "something follows"), ("12", "expected { or"),
            ('{"a": [nope]}', "Expecting value"), ("{'a': []}", "expected a key"),
        ],
    )  # fmt: skip
    def test_it_refuses_what_json_refuses(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "x.json"
        path.write_text(text + " " * 40 if "nope" in text else text)
        with pytest.raises(DataError, match=message) as caught:
            list(read_lists(path))
        assert "x.json" in str(caught.value)

    def test_other_bytes(self, tmp_path: Path) -> None:
        (tmp_path / "x.json").write_bytes(b'{"a": ["\xff"]}')
        with pytest.raises(DataError, match="not UTF-8"):
            list(read_lists(tmp_path / "x.json"))
        with pytest.raises(DataError, match="no such file"):
            list(read_lists(tmp_path / "y.json"))


class TestCaptions:
    def test_padded_duplicates(self, tmp_path: Path) -> None:
        made.captions(tmp_path)
        train, _ = read(RsCaptionsAdapter(), tmp_path, "train")
        assert [len(e.references) for e in train] == [5, 3, 5, 3, 5, 3]
        assert train[0].prefix == "caption en"
        assert train[0].suffix == train[0].references[0] == "many planes are parked near building 0 0 ."
        assert train[0].images[0] == str(tmp_path / "RSICD_images" / "airport_0.jpg")
        scored, _ = read(RsCaptionsAdapter(), tmp_path, "test")
        assert {len(e.references) for e in scored} == {5}, "CIDEr averages over all five"
        dropped, _ = read(RsCaptionsAdapter(duplicates="drop"), tmp_path, "test")
        assert {len(e.references) for e in dropped} == {3}
        kept, _ = read(RsCaptionsAdapter(duplicates="keep"), tmp_path, "train")
        assert {len(e.references) for e in kept} == {5}
        assert RsCaptionsAdapter().splits(tmp_path) == ["train", "validation", "test"]
        assert len(read(RsCaptionsAdapter(), tmp_path, None)[0]) == 12

    def test_nwpu(self, tmp_path: Path) -> None:
        made.nwpu(tmp_path)
        train, _ = read(RsCaptionsAdapter(), tmp_path, "train")
        assert [Path(e.images[0]).relative_to(tmp_path).as_posix() for e in train if isinstance(e.images[0], str)] == [
            "NWPU_images/airplane/airplane_001.jpg", "NWPU_images/lake/lake_001.jpg",
        ]  # fmt: skip
        assert train[0].references == tuple(
            f"A airplane seen from above, {key}." for key in ("raw", "raw_1", "raw_2", "raw_3", "raw_4")
        )
        assert len(read(RsCaptionsAdapter(), tmp_path / "dataset_nwpu.json", "validation")[0]) == 2

    def test_text_as_published(self, tmp_path: Path) -> None:
        (tmp_path / "imgs").mkdir()
        raw = [" There is  a Pond .\n", "  ", " There is  a Pond .", "two"]
        record = {"filename": "1.tif", "split": "train", "sentences": [{"raw": text} for text in raw]}
        (tmp_path / "dataset.json").write_text(json.dumps({"images": [record]}))
        (example,), _ = read(RsCaptionsAdapter(), tmp_path, "train")
        assert example.references == ("There is  a Pond .", "two")

    def test_what_is_wrong(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="holds no dataset_rsicd"):
            list(RsCaptionsAdapter().rows(tmp_path, "train"))
        records = [{"filename": "a.jpg", "split": "train", "sentences": []}, {"split": "train", "sentences": []}, 3]
        (tmp_path / "dataset_RSITMD.json").write_text(json.dumps({"images": records}))
        with pytest.raises(DataError, match=r"adapter_args\.images names"):
            list(RsCaptionsAdapter().rows(tmp_path, "train"))
        (tmp_path / "images").mkdir()
        _, left_out = read(RsCaptionsAdapter(), tmp_path, "train")
        assert left_out[0][0] == "dataset_RSITMD.json, picture 1"
        assert "no caption" in left_out[0][1]
        assert "filename must be" in left_out[1][1]
        assert "must be an object" in left_out[2][1]
        with pytest.raises(DataError, match=r"split 'validation' \(there are train\)"):
            list(RsCaptionsAdapter().rows(tmp_path, "validation"))
        with pytest.raises(AdapterError, match="auto, drop, keep"):
            RsCaptionsAdapter(duplicates="no")


class TestScenes:
    def test_names(self) -> None:
        names = {
            "AnnualCrop": "annual crop", "SeaLake": "sea lake", "HerbaceousVegetation": "herbaceous vegetation",
            "mobilehomepark": "mobile home park", "tennis_court": "tennis court", "Bare Land": "bare land",
            "thermal-power-station": "thermal power station", "beach": "beach", "USForest": "us forest",
        }  # fmt: skip
        assert {name: readable(name) for name in names} == names

    def test_classes_below_the_archive_folder(self, tmp_path: Path) -> None:
        made.scenes(tmp_path)
        (tmp_path / "2750" / "SeaLake" / "notes.txt").write_text("x")
        examples, left_out = read(SceneFolderAdapter(), tmp_path, None)
        assert len(examples) == 12
        assert examples[0].prefix == "answer en what kind of scene is this?"
        assert [e.suffix for e in examples] == ["annual crop"] * 6 + ["sea lake"] * 6
        assert left_out == [("2750/SeaLake/notes.txt", "not a picture (.txt)")]
        assert SceneFolderAdapter().splits(tmp_path) == []
        with pytest.raises(DataError, match="split: all"):
            list(SceneFolderAdapter().rows(tmp_path, "train"))

    def test_split_folders_names_and_groups(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            for name in ("a_7_1.png", "a_8_2.png"):
                made.picture(tmp_path / split / "Highway" / name, 1)
        adapter = SceneFolderAdapter(names={"Highway": "road"}, group=r"_(\d+)_", question="what?")
        assert adapter.splits(tmp_path) == ["train", "validation"]
        examples, _ = read(adapter, tmp_path, "validation")
        assert [(e.prefix, e.suffix, dict(e.groups)) for e in examples] == [
            ("what?", "road", {"scene": "7"}), ("what?", "road", {"scene": "8"}),
        ]  # fmt: skip
        with pytest.raises(DataError, match="no folder for the split 'test'"):
            list(adapter.rows(tmp_path, "test"))
        made.picture(tmp_path / "val" / "Highway" / "b.png", 1)
        assert "finds nothing" in read(adapter, tmp_path, "validation")[1][0][1]
        with pytest.raises(DataError, match="'Sea' is no folder"):
            list(SceneFolderAdapter(names={"Sea": "x"}).rows(tmp_path, "train"))

    def test_many_bands(self, tmp_path: Path) -> None:
        import numpy as np

        values = np.zeros((4, 8, 8), dtype=np.uint16)
        values[3], values[1] = 1000, 500
        made.raster(tmp_path / "x" / "Forest" / "1.tif", values)
        made.raster(tmp_path / "x" / "River" / "1.tif", values)
        examples, _ = read(SceneFolderAdapter(bands=[4, 2, 1], stretch=[0, 1000]), tmp_path / "x", None)
        assert open_image(examples[0].images[0]).getpixel((3, 3)) == (255, 128, 0)

    def test_arguments(self) -> None:
        with pytest.raises(AdapterError, match="no effect without bands"):
            SceneFolderAdapter(stretch=[0, 1])
        with pytest.raises(AdapterError, match="one group"):
            SceneFolderAdapter(group="a")
        with pytest.raises(AdapterError, match="not a regular expression"):
            SceneFolderAdapter(group="(")
