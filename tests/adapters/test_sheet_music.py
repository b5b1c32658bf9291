"""GrandStaff and PrIMuS in their published layouts."""

from __future__ import annotations

from pathlib import Path

import pytest
from sheet_music_fixtures import BEKERN_SUFFIX, PIANO_NORMAL, grandstaff, primus

from pgtune.data_adapters.sheet_music.published import GrandStaffAdapter, PrimusAdapter
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, load_adapter


def examples(adapter: GrandStaffAdapter | PrimusAdapter, source: Path, split: str | None) -> list[Example]:
    return [adapter(row.value) for row in adapter.rows(source, split)]


def test_grandstaff_as_published(tmp_path: Path) -> None:
    root = grandstaff(tmp_path)
    adapter = load_adapter("grandstaff")
    assert isinstance(adapter, GrandStaffAdapter)
    assert adapter.splits(root) == ["train", "validation", "test"]
    train, test = examples(adapter, root, "train"), examples(adapter, root, "test")
    assert [Path(str(example.images[0])).name for example in train] == [
        f"maj2_up_m-{measures}{end}.jpg" for _ in range(2) for measures in ("0-5", "6-9") for end in ("", "_distorted")
    ]
    assert {Path(str(example.images[0])).name for example in test} == {"original_m-0-5.jpg", "original_m-6-9.jpg"}
    assert len(examples(adapter, root, "validation")) == 4
    assert len(examples(adapter, root, None)) == 8 + 4 + 4
    assert {example.suffix for example in train} == {BEKERN_SUFFIX}
    assert {example.prefix for example in train} == {"transcribe kern"}
    assert train[0].groups == {"work": "joplin/joplin/breeze", "fragment": "joplin/joplin/breeze/0-5"}
    # What the published lists do: the same fragments in other keys on both sides.
    assert {example.groups["fragment"] for example in train} == {example.groups["fragment"] for example in test}
    assert next(iter(adapter.rows(root, "test"))).place == "test.txt, line 1"
    assert all(Path(str(example.images[0])).is_file() for example in train + test)
    assert examples(adapter, root / "grandstaff_dataset", "test") == test


def test_grandstaff_without_lists(tmp_path: Path) -> None:
    root = grandstaff(tmp_path, lists=False)
    adapter = GrandStaffAdapter(encoding="kern", images="both")
    assert adapter.splits(root) == ["all"]
    found = examples(adapter, root, None)
    assert len(found) == 24
    assert {example.suffix for example in found} == {PIANO_NORMAL}
    assert {example.groups["work"] for example in found} == {"chopin/mazurkas/mazurka06-3", "joplin/joplin/breeze"}
    assert examples(adapter, root / "grandstaff_dataset", None) == found
    assert len(examples(GrandStaffAdapter(images="distorted"), root, None)) == 12
    with pytest.raises(DataError, match=r"no list of the split 'test', expected partitions_grandstaff/types/test\.txt"):
        list(adapter.rows(root, "test"))
    with pytest.raises(DataError, match=r"no \.ekrn file in it"):
        list(GrandStaffAdapter(encoding="ekern").rows(root, None))


def test_grandstaff_bad_files(tmp_path: Path) -> None:
    root = grandstaff(tmp_path)
    piece = root / "grandstaff_dataset/joplin/joplin/breeze"
    adapter = GrandStaffAdapter()
    (piece / "original_m-0-5.bekrn").unlink()
    (piece / "original_m-6-9.bekrn").write_text(" \n", encoding="utf-8")
    rows = list(adapter.rows(root, "test"))
    with pytest.raises(DataError, match=r"there is no file .*original_m-0-5\.bekrn"):
        adapter(rows[0].value)
    with pytest.raises(DataError, match=r"original_m-6-9\.bekrn: empty"):
        adapter(rows[1].value)
    (piece / "original_m-6-9.bekrn").write_bytes(b"\xff\xd8\xff\xe0 no text")
    with pytest.raises(DataError, match="not UTF-8"):
        adapter(rows[1].value)
    (piece / "original_m-6-9.bekrn").write_text("<html>404</html>", encoding="utf-8")
    with pytest.raises(DataError, match=r"begins with '<html>404</html>', expected \*\*kern"):
        adapter(rows[1].value)


def test_primus_as_published(tmp_path: Path) -> None:
    root = primus(tmp_path)
    adapter = load_adapter("primus")
    assert isinstance(adapter, PrimusAdapter)
    assert adapter.splits(root) == ["train", "test"]
    train = examples(adapter, root, "train")
    assert [example.metadata["fragment"] for example in train] == [
        "000100001-1_1_1",
        "000100001-1_2_1",
        "000100002-1_1_1",
    ]
    assert [example.groups["work"] for example in train] == ["000100001", "000100001", "000100002"]
    assert train[0].suffix == "clef-G2 keySignature-DM timeSignature-3/4 note-F#4_quarter. note-A4_eighth barline"
    assert train[0].prefix == "transcribe semantic"
    agnostic = PrimusAdapter(encoding="agnostic", images="both", prefix="omr")
    test = examples(agnostic, root, "test")
    assert [Path(str(example.images[0])).name for example in test] == [
        "000100003-1_1_1.png",
        "000100003-1_1_1_distorted.jpg",
    ]
    assert {example.suffix for example in test} == {"clef.G-L2 accidental.sharp-L5 note.quarter-S1 dot-S1 barline-L1"}
    assert {example.prefix for example in test} == {"omr"}
    assert len(examples(adapter, root, None)) == 4


@pytest.mark.parametrize("corpus", ["", "package_ab", "Corpus"])
def test_primus_without_lists(tmp_path: Path, corpus: str) -> None:
    root = primus(tmp_path, lists=False, corpus=corpus)
    assert len(examples(PrimusAdapter(), root, None)) == 4
    with pytest.raises(DataError, match=r"no list of the split 'train'.*data\.split_by: work"):
        list(PrimusAdapter().rows(root, "train"))


def test_primus_bad_files(tmp_path: Path) -> None:
    root = primus(tmp_path)
    adapter = PrimusAdapter()
    row = next(iter(adapter.rows(root, "test")))
    row.value.text.write_text("\t", encoding="utf-8")
    with pytest.raises(DataError, match="empty, expected symbols"):
        adapter(row.value)
    row.value.text.unlink()
    with pytest.raises(DataError, match="there is no file"):
        adapter(row.value)
    (root / "Data" / "test.txt").write_text("000999999-1_1_1\n", encoding="utf-8")
    row = next(iter(adapter.rows(root, "test")))
    assert row.place == "test.txt, line 1"
    with pytest.raises(DataError, match=r"there is no file .*000999999-1_1_1\.semantic"):
        adapter(row.value)


@pytest.mark.parametrize(
    ("adapter", "arguments", "message"),
    [
        ("grandstaff", {"encoding": "krn"}, "encoding: 'krn', expected bekern, ekern, kern"),
        ("grandstaff", {"images": "all"}, "images: 'all', expected published, clean, distorted, both"),
        ("primus", {"encoding": "kern"}, "encoding: 'kern', expected semantic, agnostic"),
        ("primus", {"images": "published"}, "images: 'published', expected clean, distorted, both"),
        ("primus", {"image": "clean"}, "did you mean 'images'"),
    ],
)
def test_wrong_arguments(adapter: str, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(AdapterError) as error:
        load_adapter(adapter, arguments)
    assert message in str(error.value)
