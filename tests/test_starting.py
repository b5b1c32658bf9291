"""`pgtune init`: each kind of folder is told apart, and the recipe it gets reads the data."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pgtune.cli import main
from pgtune.errors import DataError, RecipeError
from pgtune.recipe import Recipe, load_recipe
from pgtune.starting import init
from pgtune.starting.discovery import Listing, list_folder
from pgtune.starting.domain_kinds import PUBLISHED, published

KERN = "**kern\n*clefG2\n*k[]\n*M4/4\n=1\n4c\n4d\n4e\n4f\n=2\n1g\n==\n*-\n"


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def json_lines(folder: Path) -> None:
    for name in ("train", "test"):
        rows = []
        for number in range(4):
            picture(folder / "img" / f"{name}{number}.png", number)
            rows.append({"image": f"img/{name}{number}.png", "question": "how many?", "answer": str(number)})
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def csv_file(folder: Path) -> None:
    lines = ["file_name;question;answer;site"]
    for number in range(10):
        picture(folder / "pictures" / f"{number}.jpg", number)
        lines.append(f"pictures/{number}.jpg;what is it?;thing {number % 2};{number % 5}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")


def coco(folder: Path) -> None:
    images, annotations = [], []
    for number in range(8):
        picture(folder / "images" / f"{number}.jpg", number)
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 60, "height": 40})
        box = [6, 4, 30, 20]
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "bbox": box, "area": 600, "iscrowd": 0}
        )
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "ship"}]}
    (folder / "instances.json").write_text(json.dumps(content))


def voc(folder: Path) -> None:
    for number in range(8):
        picture(folder / "JPEGImages" / f"{number}.jpg", number)
        box = "<bndbox><xmin>7</xmin><ymin>5</ymin><xmax>36</xmax><ymax>24</ymax></bndbox>"
        (folder / "Annotations").mkdir(exist_ok=True)
        (folder / "Annotations" / f"{number}.xml").write_text(
            f"<annotation><filename>{number}.jpg</filename><size><width>60</width><height>40</height><depth>3</depth>"
            f"</size><object><name>ship</name><difficult>0</difficult>{box}</object></annotation>"
        )


def yolo(folder: Path) -> None:
    for split in ("train", "val"):
        for number in range(6):
            picture(folder / "images" / split / f"{number}.jpg", number)
            label = folder / "labels" / split / f"{number}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("0 0.5 0.5 0.2 0.4\n")
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [ship]\n")


def classes(folder: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(5):
            picture(folder / name / f"{number}.jpg", number)


def dicom(folder: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    lines = ["path,question,answer"]
    for number in range(8):
        data = pydicom.Dataset()
        data.PatientID = f"P{number % 6}"
        data.Modality = "DX"
        data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
        data.SOPInstanceUID = f"1.2.3.{number}"
        data.StudyInstanceUID, data.SeriesInstanceUID = "1.2", f"1.2.{number}"
        data.Rows, data.Columns, data.SamplesPerPixel = 8, 8, 1
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
        data.PhotometricInterpretation = "MONOCHROME2"
        data.PixelData = bytes(range(64))
        folder.mkdir(exist_ok=True)
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        lines.append(f"{number}.dcm,is the heart enlarged?,{'yes' if number % 2 else 'no'}")
    (folder / "reports.csv").write_text("\n".join(lines) + "\n")


def geotiff(folder: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    folder.mkdir(exist_ok=True)
    features = []
    for number in range(4):
        west = 500_000 + 1_000 * number
        place = rasterio.Affine(1, 0, west, 0, -1, 4_000_000)
        kind = {"driver": "GTiff", "width": 100, "height": 80, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
        with rasterio.open(folder / f"scene{number}.tif", "w", transform=place, **kind) as file:
            file.write(np.full((3, 80, 100), 100, dtype=np.uint8))
        left, top = west + 20, 4_000_000 - 20
        ring = [[left, top], [left + 30, top], [left + 30, top - 30], [left, top - 30], [left, top]]
        features.append(
            {
                "type": "Feature",
                "properties": {"id": number, "kind": "roof"},
                "geometry": {"type": "Polygon", "coordinates": [ring]},
            }
        )
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    (folder / "roofs.geojson").write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))


def scores(folder: Path) -> None:
    pytest.importorskip("verovio")
    folder.mkdir()
    for number in range(5):
        (folder / f"tune{number}.krn").write_text(KERN.replace("4c", "4" + "cdefg"[number]))


KINDS: dict[str, tuple[Callable[[Path], None], str, dict[str, Any]]] = {
    "JSON Lines": (json_lines, "jsonl", {"prefix": "how many?", "suffix": "0"}),
    "CSV": (csv_file, "csv", {"prefix": "answer en what is it?", "suffix": "thing 0"}),
    "COCO": (coco, "coco", {"prefix": "detect ship", "suffix": "<loc0102><loc0102><loc0614><loc0614> ship"}),
    "VOC": (voc, "voc", {"prefix": "detect ship", "suffix": "<loc0102><loc0102><loc0614><loc0614> ship"}),
    "YOLO": (yolo, "yolo", {"prefix": "detect ship", "suffix": "<loc0307><loc0409><loc0716><loc0614> ship"}),
    "class folders": (classes, "image_folder", {"prefix": "answer en what is in the picture?", "suffix": "cat"}),
    "DICOM": (dicom, "dicom", {"prefix": "answer en is the heart enlarged?", "suffix": "no"}),
    "GeoTIFF": (geotiff, "geotiff", {"prefix": "detect roof", "suffix": "<loc0046><loc0046><loc0114><loc0114> roof"}),
    "scores": (scores, "scores", {"prefix": "transcribe kern"}),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_found_and_its_recipe_reads_it(kind: str, place: Path) -> None:
    build, adapter, example = KINDS[kind]
    build(place / "mine")
    result = init("mine")
    assert "problem" not in result
    assert result["found"][0]["kind"] == kind
    assert {**result["example"], **example} == result["example"]
    assert (result["recipe"], result["not_understood"], result["cut"]) == ("mine.yaml", [], False)
    recipe = load_recipe("mine.yaml")
    assert recipe.data.adapter == adapter
    assert "test" in recipe.data.splits
    assert main(["validate", "mine.yaml", "model.base=tiny"]) == 0


@pytest.mark.parametrize("kind", ["CSV", "YOLO", "DICOM"])
def test_the_recipe_trains(kind: str, place: Path) -> None:
    KINDS[kind][0](place / "mine")
    init("mine", base="tiny")
    assert main(["train", "mine.yaml", "train.max_steps=1", "eval.limit=2", "eval.max_new_tokens=2"]) == 0


def read(place: Path, **more: Any) -> Recipe:
    init("mine", out="r.yaml", **more)
    return load_recipe("r.yaml")


@pytest.mark.parametrize(
    ("base", "method", "rate"),
    [
        ("google/paligemma2-3b-pt-224", "lora", 1e-4),
        ("google/paligemma2-3b-pt-224", "qlora", 1e-4),
        ("google/paligemma-3b-pt-448", "full", 1e-5),
        ("tiny", "lora", 2e-3),
        ("tiny", "full", 2e-4),
    ],
)
def test_the_rate_is_fit_for_the_method(base: str, method: Any, rate: float, place: Path) -> None:
    classes(place / "mine")
    recipe = read(place, base=base, method=method)
    assert (recipe.train.learning_rate, recipe.model.base) == (rate, base)
    assert (recipe.lora is None) == (method == "full")
    assert recipe.model.quantization == ("nf4" if method == "qlora" else "none")


def test_patients_works_and_sites_are_kept_together(place: Path) -> None:
    csv_file(place / "mine")
    assert read(place).data.split_by == "site"
    shutil.rmtree("mine")
    os.unlink("r.yaml")
    dicom(place / "mine")
    assert read(place).data.split_by == "patient"


def test_splits_that_are_there_are_used(place: Path) -> None:
    json_lines(place / "mine")
    data = read(place).data
    assert (data.test is not None, data.split_by, data.train.split) == (True, None, "train")


def test_without_a_test_split_one_is_cut(place: Path) -> None:
    yolo(place / "mine")
    data = read(place).data
    assert (data.train.split, data.split_by, data.test_share) == ("train", "image", 0.2)
    assert data.validation is not None


def test_the_second_kind_can_be_asked_for(place: Path) -> None:
    classes(place / "mine")
    csv_file(place / "mine")
    result = init("mine", out="a.yaml")
    assert [one["kind"] for one in result["found"]] == ["CSV", "class folders"]
    assert init("mine", out="b.yaml", kind="class folders")["found"][0]["kind"] == "class folders"
    with pytest.raises(DataError, match=r"--kind 'clas folders': not found here; there is CSV, class folders; did you"):
        init("mine", out="c.yaml", kind="clas folders")


def test_what_belongs_to_nothing_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classes(place / "mine")
    (place / "mine" / "film.mp4").write_bytes(b"")
    (place / "mine" / "README.md").write_text("about")
    assert main(["init", "mine"]) == 0
    said = capsys.readouterr().out
    assert "left aside  1 files that belong to none of it: film.mp4\n" in said
    assert said.endswith("next:\n  pgtune audit mine.yaml\n  pgtune train mine.yaml\n")


def test_a_folder_of_one_kind_without_labels_says_what_is_missing(place: Path) -> None:
    dicom(place / "mine")
    os.unlink("mine/reports.csv")
    result = init("mine")
    assert "problem" in result
    assert "# Look at this: there is no table that says what is to be learnt" in Path("mine.yaml").read_text()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "mine: the folder is empty"),
        ({"a.mp4": "", "b.mp4": ""}, r"mine: nothing here that pgtune init knows \(2 .mp4\). It knows JSON Lines"),
        ({"x.json": "{not json", "y.jsonl": "[1]\n"}, "nothing here that pgtune init knows"),
        ({"t.csv": "a,b\n1,2\n", "a.txt": "0 0.5 0.5 0.1 0.1"}, "nothing here that pgtune init knows"),
    ],
)
def test_nothing_that_is_known(files: dict[str, str], message: str, place: Path) -> None:
    (place / "mine").mkdir()
    for name, content in files.items():
        (place / "mine" / name).write_text(content)
    with pytest.raises(DataError, match=message):
        init("mine")
    assert not Path("mine.yaml").exists()


def test_slips_of_the_hand(place: Path) -> None:
    classes(place / "mine")
    (place / "there.yaml").write_text("mine\n")
    for arguments, error, message in (
        (("nothing",), DataError, "nothing: no such folder"),
        (("there.yaml",), DataError, "there.yaml: is a file, expected a folder"),
    ):
        with pytest.raises(error, match=message):
            init(*arguments)
    with pytest.raises(DataError, match=r"there.yaml: exists already; name another file with --out"):
        init("mine", out="there.yaml")
    assert Path("there.yaml").read_text() == "mine\n"
    with pytest.raises(DataError, match=r"a.txt: the recipe's name must end in .yaml"):
        init("mine", out="a.txt")
    with pytest.raises(DataError, match=r"no/a.yaml: there is no folder no"):
        init("mine", out="no/a.yaml")
    with pytest.raises(RecipeError, match="--method qlora: the base tiny is 9 MB"):
        init("mine", base="tiny", method="qlora")


def test_names_that_yaml_would_misread(place: Path) -> None:
    folder = place / "yes: #1 'ü'"
    classes(folder)
    init(folder.name, out="r.yaml")
    assert load_recipe("r.yaml").data.train.source == folder.name


@pytest.mark.parametrize(
    ("files", "adapter", "root"),
    [
        (["LR_split_train_questions.json"], "rsvqa_lr", "."),
        (["a/b/USGS_split_train_questions.json"], "rsvqa_hr", "a/b"),
        (["ChartQA Dataset/train/train_human.json"], "chartqa", "ChartQA Dataset"),
        (["dataset_rsicd.json", "RSICD_images/a.jpg"], "rs_captions", "."),
        (["train/labelTxt/P0001.txt"], "dota", "train"),
        (["VQA_RAD Dataset Public.json"], "vqa_rad", "."),
        (["Slake1.0/imgs/xmlab0/source.jpg"], "slake", "Slake1.0"),
        (["mimic-cxr-2.0.0-split.csv.gz"], "mimic_cxr", "."),
        (["s/List-of-Files-for-Each-Experiments/First-Sentence/No-Subfig/train/file_idx.json"], "scicap", "s"),
        (["ecgen-radiology/1.xml", "NLMCXR_png/CXR1_1.png"], "iu_xray", "."),
        (["corpus/000051652-1_2_1/000051652-1_2_1.semantic"], "primus", "corpus"),
    ],
)  # fmt: skip
def test_published_data_sets_are_told_by_their_files(files: list[str], adapter: str, root: str) -> None:
    found = published(Listing(Path("x"), tuple(Path(name) for name in files), cut=False))
    assert found is not None
    assert (found.adapter, found.source) == (adapter, Path("x", root))


def test_published_patterns_are_of_known_adapters_and_metrics() -> None:
    from pgtune.names import ADAPTERS, METRICS

    for _, adapter, _, metrics, tokens in PUBLISHED:
        assert adapter in ADAPTERS
        assert set(metrics) <= METRICS.keys()
        assert tokens >= 16


def test_hidden_files_are_not_listed(tmp_path: Path) -> None:
    for name in (".git/config", ".hidden", "a/b.txt", "__MACOSX/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert list_folder(tmp_path).files == (Path("a/b.txt"),)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", "[" * 100_000),
        ("a.jsonl", "[" * 100_000),
        ("a.json", '{"images": [1], "annotations": [1], "categories": [1]}'),
        ("a.json", '{"images": null, "annotations": null}'),
    ],
)
def test_files_that_are_not_what_their_names_say(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_text(content)
    with pytest.raises(DataError, match="nothing here that pgtune init knows"):
        init(tmp_path / "data", out=tmp_path / "r.yaml")
    assert not (tmp_path / "r.yaml").exists()


@pytest.mark.parametrize("labels", ['{"features": null}', '{"features": [1]}', '{"features": [{"properties": [1]}]}'])
def test_vector_labels_of_another_form(tmp_path: Path, labels: str) -> None:
    picture(tmp_path / "data" / "a.tif")
    (tmp_path / "data" / "a.geojson").write_text(labels)
    assert init(tmp_path / "data", out=tmp_path / "r.yaml")["found"][0]["kind"] == "GeoTIFF"


def test_links_that_lead_nowhere_and_pipes(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "gone.csv").symlink_to(tmp_path / "nothing")
    os.mkfifo(folder / "pipe.json")
    with pytest.raises(DataError, match="no file that can be read: gone"):
        init(folder, out=tmp_path / "r.yaml")
    csv_file(folder)
    assert init(folder, out=tmp_path / "r.yaml")["not_understood"] == ["gone.csv", "pipe.json"]


def test_names_with_line_breaks(tmp_path: Path) -> None:
    folder = tmp_path / "da\nta: x"
    folder.mkdir()
    csv_file(folder)
    (folder / "rows.csv").rename(folder / "ro\nws: x.csv")
    assert "example" in init(folder, out=tmp_path / "r.yaml")
    assert str(load_recipe(str(tmp_path / "r.yaml")).data.train.source).endswith("ro\nws: x.csv")
