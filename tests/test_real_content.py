"""The builders of real content and the sweep, on packages, volumes and music made here: the real ones are downloads."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import itertools
import json
import struct
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pgtune
from pgtune import tiny

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
RECIPES = (
    "charts/real_charts",
    "radiology/real_ct_levels",
    "remote_sensing/real_continents",
    "sheet_music/real_incipits",
)


@pytest.fixture(scope="module")
def scripts() -> Any:
    """Import a script by its name."""
    sys.path.insert(0, str(SCRIPTS))
    yield importlib.import_module
    sys.path.remove(str(SCRIPTS))


@pytest.fixture
def content(scripts: Any) -> ModuleType:
    return scripts("real_content")


def _wheel(folder: Path, name: str, members: dict[str, bytes]) -> str:
    with zipfile.ZipFile(folder / name, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return hashlib.sha256((folder / name).read_bytes()).hexdigest()


# --- packages and rows


def test_a_wheel_and_an_sdist_are_read_by_name_version_and_hash(content: ModuleType, tmp_path: Path) -> None:
    digest = _wheel(tmp_path, "some_thing-1.0-py3-none-any.whl", {"some/a.txt": b"a", "some/b.txt": b"b"})
    wheel = content.Package("some-thing", "1.0", digest).open(tmp_path)
    assert dict(wheel.read(["some/b.txt"])) == {"some/b.txt": b"b"}
    with tarfile.open(tmp_path / "other-2.0.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("other-2.0/data/x.bin")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"xyz"))
    digest = hashlib.sha256((tmp_path / "other-2.0.tar.gz").read_bytes()).hexdigest()
    sdist = content.Package("Other", "2.0", digest, sdist=True).open(tmp_path)
    assert dict(sdist.read(["data/x.bin"])) == {"data/x.bin": b"xyz"}


def test_a_package_that_is_missing_or_another_one_is_refused(content: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no \.whl of thing==1\.0"):
        content.Package("thing", "1.0", "0" * 64).open(tmp_path)
    digest = _wheel(tmp_path, "thing-1.0-py3-none-any.whl", {"a": b"a"})
    with pytest.raises(SystemExit, match="but the data was made of"):
        content.Package("thing", "1.0", "0" * 64).open(tmp_path)
    with pytest.raises(SystemExit, match="holds no b"):
        list(content.Package("thing", "1.0", digest).open(tmp_path).read(["b"]))


def test_written_rows_are_read_by_the_jsonl_adapter(content: ModuleType, tmp_path: Path, capsys: Any) -> None:
    rows = {
        split: [content.Question(f"{split}{n}", "answer en?", str(n), "kind", {"work": f"w{n}"}) for n in range(3)]
        for split in content.SPLITS
    }
    pictures = {f"{split}{n}": Image.new("RGB", (8, 8)) for split in content.SPLITS for n in range(3)}
    content.write(tmp_path, rows, pictures)
    first = (tmp_path / "train.jsonl").read_bytes()
    content.write(tmp_path, rows, pictures)
    assert (tmp_path / "train.jsonl").read_bytes() == first
    row = json.loads(first.splitlines()[0])
    assert set(row) == {"image", "prefix", "suffix", "question_type", "groups"}
    assert (tmp_path / row["image"]).is_file()
    assert "train: 3 rows, 3 by work" in capsys.readouterr().out


# --- CT


def _nifti(array: np.ndarray[Any, np.dtype[np.int16]], affine: tuple[float, float, float]) -> bytes:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *array.shape, 1, 1, 1, 1)
    struct.pack_into("<h", header, 70, 4)
    struct.pack_into("<f", header, 108, 352.0)
    struct.pack_into("<2f", header, 112, 1.0, 0.0)
    matrix = np.zeros((3, 4), "<f4")
    np.fill_diagonal(matrix, affine)
    header[280:328] = matrix.tobytes()
    return gzip.compress(bytes(header) + array.tobytes(order="F"))


def test_a_volume_is_shown_with_the_right_on_the_left_and_the_front_on_top(scripts: Any) -> None:
    ct = scripts("build_ct_levels")
    # index 0 is far left, far back, lowest: the axes count to the right, the front and up
    array = np.zeros((2, 3, 4), np.int16)
    array[1, 2, 3] = 9  # right, front, up
    volume = ct.read_nifti(_nifti(array, (2.0, 3.0, 4.0)))
    assert volume.voxels.shape == (4, 3, 2)
    assert volume.voxels[3, 0, 0] == 9
    assert volume.spacing == (3.0, 2.0)
    mirrored = ct.read_nifti(_nifti(array[::-1, ::-1], (-2.0, -3.0, 4.0)))
    assert np.array_equal(mirrored.voxels, volume.voxels)


def test_a_nrrd_volume_is_turned_the_same_way(scripts: Any) -> None:
    ct = scripts("build_ct_levels")
    array = np.arange(24, dtype="<i2").reshape(2, 3, 4)
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 3 4\n"
        "space directions: (1,0,0) (0,-2,0) (0,0,3)\nencoding: gzip"
    )
    volume = ct.read_nrrd(header.encode() + b"\n\n" + gzip.compress(array.tobytes(order="F")))
    assert np.array_equal(volume.voxels, array[:, ::-1].transpose(2, 1, 0))
    assert volume.spacing == (2.0, 1.0)


def test_no_patient_is_in_train_and_test_and_validation_keeps_its_distance(scripts: Any) -> None:
    ct = scripts("build_ct_levels")
    for patient in ct.FACTS:
        splits = {ct.split_of(patient, place) for place in range(120)} - {None}
        assert splits == ({"test"} if patient in ct.TEST else {"train", "validation"})
    train = [place for place in range(120) if ct.split_of("ct-b", place) == "train"]
    held = [place for place in range(120) if ct.split_of("ct-b", place) == "validation"]
    assert min(abs(one - other) for one in train for other in held) > ct.GAP


def test_a_slice_between_two_parts_has_no_part(scripts: Any) -> None:
    ct = scripts("build_ct_levels")
    assert ct.answers("ct-b", 100)[ct.PART] == "chest"
    assert ct.PART not in ct.answers("ct-b", 50)
    assert ct.answers("ct-b", 50)["answer en is the heart visible?"] == "yes"
    for facts in ct.FACTS.values():
        ranges = sorted(facts.parts.values())
        assert all(last < first for (_, last), (first, _) in itertools.pairwise(ranges))
        for organ, (first, last) in facts.present.items():
            assert all(end < first or start > last for start, end in facts.absent.get(organ, ()))


def test_a_slice_is_drawn_through_the_window_in_square_pixels(scripts: Any) -> None:
    ct = scripts("build_ct_levels")
    plane = np.full((40, 80), -1000.0, np.float32)
    plane[10:30, 20:60] = 40.0  # 20 rows of 2 mm, 40 columns of 1 mm: a square
    picture = np.asarray(ct.render(ct.Volume(plane[None], (2.0, 1.0)), 0, ct.Look(margin=0.0)))
    assert picture.shape == (224, 224, 3)
    inner = picture[20:204, 20:204]
    assert abs(int(inner.min()) - 127) <= 1
    assert abs(int(inner.max()) - 127) <= 1


# --- music


def test_kern_signatures_and_questions(scripts: Any) -> None:
    incipits = scripts("build_incipits")
    assert incipits.signature(2) == "*k[f#c#]"
    assert incipits.signature(-1) == "*k[b-]"
    assert incipits.signature(0) == "*k[]"
    asked = {prefix: answer for prefix, _, answer in incipits.questions("*clefF4 *k[b-e-] *M2/2 *met(c|)")}
    assert asked == {incipits.METRE: "C|", incipits.CLEF: "F", incipits.FLAT: "2"}
    asked = {prefix: answer for prefix, _, answer in incipits.questions("*clefGv2 *k[] *M3/4")}
    assert asked == {incipits.METRE: "3/4", incipits.CLEF: "G8", incipits.SHARP: "0", incipits.FLAT: "0"}


def test_one_voice_of_a_mass_is_cut_out_and_engraved(scripts: Any, content: ModuleType, tmp_path: Path) -> None:
    verovio = pytest.importorskip("verovio")
    incipits = scripts("build_incipits")
    kern = (
        "!!!OPR: Missa Nova\n**kern\t**kern\n*Ibass\t*Icant\n*clefF4\t*clefF4\n*k[b-]\t*k[b-]\n*F:ion\t*F:ion\n"
        "*M4/2\t*M4/2\n=1\t=1\n0C\t1c\n.\t1d\n=2\t=2\n0D\t0e\n==\t==\n*-\t*-\n"
    )
    name = "music21-10.5.1-py3-none-any.whl"
    digest = _wheel(tmp_path, name, {"music21/corpus/palestrina/Kyrie_00.krn": kern.encode()})
    archive = content.Package("music21", "10.5.1", digest).open(tmp_path)
    (found,) = incipits.palestrina(archive)
    assert (found.work, found.kern) == ("Missa Nova", "*clefF4 *k[b-] *M4/2")
    assert "\t" not in found.music
    assert "ion" not in found.music
    verovio.enableLog(verovio.LOG_OFF)
    picture = incipits.engrave(verovio.toolkit(), found)
    assert picture is not None
    assert picture.size == (224, 224)
    assert 0.005 < (np.asarray(picture) < 128).mean() < 0.2


def test_the_beginning_of_a_tune(scripts: Any, content: ModuleType, tmp_path: Path) -> None:
    incipits = scripts("build_incipits")
    tune = b'X:1\nT:Reel\nM:C|\nL:1/8\nK:Ador\n"3"A2 {g}Bc dedB|d2fd ~c2dc|dcAG|\n'
    digest = _wheel(tmp_path, "music21-1-py3-none-any.whl", {"music21/corpus/ryansMammoth/Reel.abc": tune})
    (found,) = incipits.tunes(content.Package("music21", "1", digest).open(tmp_path))
    assert found.kern == "*clefG2 *k[f#] *M2/2 *met(c|)"
    assert found.music.endswith("A2 Bc dedB|d2fd c2dc|\n")


def test_a_work_is_in_one_split(scripts: Any) -> None:
    incipits = scripts("build_incipits")
    made = [incipits.Incipit(f"piece{n}", "palestrina", f"mass {n % 50}", "", "") for n in range(200)]
    for work in {piece.work for piece in made}:
        assert len({incipits.split_of(piece) for piece in made if piece.work == work}) == 1
    assert {incipits.split_of(piece) for piece in made} == {"train", "validation", "test"}


# --- charts


def test_the_answers_of_a_bar_chart_are_those_of_its_bars(scripts: Any) -> None:
    pandas = pytest.importorskip("pandas")
    charts = scripts("build_charts")
    chart = charts.bars("package/table", pandas.Series({"a": 2.0, "b": 9.0, "c": 5.0}))
    asked = {prefix: answer for prefix, _, answer in chart.questions}
    assert asked[charts.COUNT] == "3"
    assert asked[charts.TALLEST] != asked[charts.SHORTEST]
    assert charts.bars("package/table", pandas.Series({"a": 2.0, "b": -9.0, "c": 5.0})) is None
    close = charts.bars("package/table", pandas.Series({"a": 9.0, "b": 9.1, "c": 5.0}))
    assert charts.TALLEST not in {prefix for prefix, _, _ in close.questions}


def test_a_bar_chart_shows_its_tallest_bar(scripts: Any) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("matplotlib")
    charts = scripts("build_charts")
    chart = charts.bars("package/table", pandas.Series({"a": 2.0, "b": 9.0, "c": 5.0}))
    tallest = next(answer for prefix, _, answer in chart.questions if prefix == charts.TALLEST)
    from matplotlib.colors import to_rgb

    pixels = np.asarray(charts.picture(chart)).astype(int)
    wanted = (np.array(to_rgb(tallest)) * 255).round().astype(int)
    hits = (abs(pixels - wanted).sum(axis=2) < 20).sum()
    others = [
        (abs(pixels - (np.array(to_rgb(colour)) * 255).round().astype(int)).sum(axis=2) < 20).sum()
        for colour in charts.COLOURS
        if colour not in (tallest, "black")
    ]
    assert hits > max(others)


def test_the_same_data_under_another_name_have_a_fingerprint_in_common(scripts: Any) -> None:
    pandas = pytest.importorskip("pandas")
    charts = scripts("build_charts")
    values = np.linspace(1, 2, 30)
    one = charts.fingerprints("cars", pandas.DataFrame({"speed": values, "kind": ["a", "b", "c"] * 10}))
    other = charts.fingerprints("autos", pandas.DataFrame({"v": values[::-1]}))
    assert one & other
    assert not one & charts.fingerprints("autos", pandas.DataFrame({"v": values + 1}))


# --- land cover


def test_squares_of_test_continents_do_not_overlap(scripts: Any) -> None:
    continents = scripts("build_continents")
    land_cover = np.zeros((3600, 7200), np.uint8)
    land_cover[1600:2000, 2300:2700] = 2  # rainforest in South America
    land_cover[1700:1900, 3900:4200] = 2  # and in Africa
    chosen = [square for square in continents.choose(continents.squares(land_cover)) if square.name == "rainforest"]
    assert {square.continent.split for square in chosen} == {"train", "test"}
    test = [square for square in chosen if square.continent.split == "test"]
    for one in test:
        for other in test:
            far = max(abs(one.row - other.row), abs(one.column - other.column))
            assert one is other or far >= continents.TILE


def test_a_square_belongs_to_the_continent_that_it_lies_in_whole(scripts: Any) -> None:
    continents = scripts("build_continents")
    amazon = continents.continent_of(15 * 95, 15 * 120)
    assert (amazon.name, amazon.split) == ("South America", "test")
    assert continents.continent_of(15 * 90, 15 * 150) is None  # the Atlantic


# --- the sweep


def test_an_interval_is_wider_where_groups_are_alike(scripts: Any) -> None:
    sweep = scripts("sweep")
    rows = [{"groups": {"work": str(n // 10)}} for n in range(100)]
    alike = [float(n // 10 < 5) for n in range(100)]
    low, high = sweep.interval(rows, "work", alike)
    each = [{"groups": {"work": str(n)}} for n in range(100)]
    tight_low, tight_high = sweep.interval(each, "work", alike)
    assert low < tight_low < 0.5 < tight_high < high


def test_the_trivial_answer_overall_and_by_question(scripts: Any) -> None:
    sweep = scripts("sweep")
    rows = [{"prefix": "a", "suffix": "yes"}] * 3 + [{"prefix": "b", "suffix": "no"}] * 2
    assert sweep.trivial(rows, by_question=False) == [1, 1, 1, 0, 0]
    assert sweep.trivial(rows, by_question=True) == [1, 1, 1, 1, 1]


def test_the_row_of_rates_grows_until_its_best_is_inside(scripts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = scripts("sweep")
    monkeypatch.setattr(sweep, "run", lambda domain, method, rate, seed, before: rate)
    monkeypatch.setattr(sweep, "validation_score", lambda rate: {3e-4: 0.9, 1e-3: 0.8, 1e-4: 0.7}.get(rate, 0.1))
    best, scores = sweep.choose_rate(sweep.DOMAINS[0], "full")
    assert best == 3e-4
    assert set(scores) == {1e-4, 3e-4, 1e-3, 3e-3}


def test_random_weights_have_the_shape_of_tiny(scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import safe_open

    sweep = scripts("sweep")
    monkeypatch.setattr(sweep, "ROOT", tmp_path)
    with (
        safe_open(sweep.random_base() / "model.safetensors", "np") as made,
        safe_open(Path(tiny.path()) / "model.safetensors", "np") as shipped,
    ):
        shapes = {name: made.get_slice(name).get_shape() for name in made.keys()}  # noqa: SIM118 - no mapping
        assert shapes == {name: shipped.get_slice(name).get_shape() for name in shipped.keys()}  # noqa: SIM118
        name = next(name for name in shapes if name.endswith("q_proj.weight"))
        assert not np.array_equal(made.get_tensor(name), shipped.get_tensor(name))


# --- the recipes


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_on_a_miniature(
    name: str, content: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = pgtune.load_recipe(name)
    folder = Path(recipe.data.train.source).parent
    rows = {
        split: [content.Question(f"{split}{n}", "answer en?", "yes", "kind", {"work": f"{split}{n}"}) for n in range(4)]
        for split in content.SPLITS
    }
    pictures = {f"{split}{n}": Image.new("RGB", (32, 32), (n * 9, 0, 0)) for split in content.SPLITS for n in range(4)}
    content.write(tmp_path / folder, rows, pictures)
    metrics = pgtune.train(pgtune.load_recipe(name, ["train.max_steps=1", "eval.limit=2", "eval.before=false"]))
    assert metrics["n"] == 2
