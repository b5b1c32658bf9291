"""The radiology recipes: the papers' values, and end to end on miniature copies of the published layouts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import radiology_fixtures as made

from pgtune.cli import main
from pgtune.recipe import load_recipe

FOLDER = Path(__file__).parents[2] / "recipes" / "radiology"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if not path.stem.startswith("real_"))
SHORT = ["model.base=tiny", "train.max_steps=1", "train.batch_size=2", "train.gradient_accumulation_steps=1"]
SHORT += ["eval.max_new_tokens=2", "eval.limit=2", "eval.before=false"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with every data set that the recipes name."""
    top = tmp_path_factory.mktemp("radiology")
    folder = top / "data"
    made.vqa_rad_public(folder / "vqa_rad")
    made.slake(folder / "slake")
    made.open_i(folder / "iu_xray")
    made.r2gen(folder / "iu_xray")
    made.mimic_cxr(folder / "mimic_cxr", zipped=True)
    made.own_dicom(folder / "own_dicom")
    return top


@pytest.fixture
def data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data sets are at hand."""
    monkeypatch.chdir(folder)


def test_they_are_there() -> None:
    tasks = ("vqa_rad_224", "vqa_rad_448", "slake_224", "slake_448", "iu_xray_448", "mimic_cxr_448", "mimic_cxr_896",
             "own_dicom_448")  # fmt: skip
    assert sorted(f"{task}{method}" for task in tasks for method in ("", "_lora", "_qlora")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_it_validates(name: str, data: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", f"radiology/{name}", "model.base=tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


@pytest.mark.parametrize("name", NAMES)
def test_its_head_and_method_agree(name: str) -> None:
    recipe = load_recipe(f"radiology/{name}")
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    method = {"lora": "LoRA", "qlora": "QLoRA"}.get(name.rpartition("_")[2], "full")
    assert recipe.method.lower() == method.lower()
    assert f"\n# command:   pgtune train radiology/{name}\n" in text
    assert recipe.output_dir == f"runs/{name}"
    assert recipe.model.base.endswith(f"-{name.split('_')[-1 if method == 'full' else -2]}")
    assert recipe.train.batch_size * recipe.train.gradient_accumulation_steps == 256
    if method != "full":
        assert recipe.train.learning_rate == 1e-4
    for overrides in re.findall(r"^# size: +[^:]+: (.+)$", text, re.MULTILINE):
        assert load_recipe(f"radiology/{name}", overrides.split()).model.base.startswith("google/paligemma2-")


@pytest.mark.parametrize("name", ["mimic_cxr_448", "mimic_cxr_896"])
def test_the_papers_values(name: str) -> None:
    recipe = load_recipe(f"radiology/{name}")
    assert (recipe.train.learning_rate, recipe.train.epochs) == (5e-6, 8)
    assert (recipe.train.label_smoothing, recipe.model.llm_dropout, recipe.train.weight_decay) == (0, 0, 0)
    assert recipe.eval.num_beams == 1


@pytest.mark.parametrize(
    "name", ["vqa_rad_224", "slake_224_lora", "iu_xray_448_qlora", "mimic_cxr_448", "mimic_cxr_896_lora"]
)
def test_it_runs_on_the_tiny_base(name: str, data: None) -> None:
    assert main(["train", f"radiology/{name}", *SHORT]) == 0
    rows = [json.loads(line) for line in (Path("runs") / name / "predictions.jsonl").read_text().splitlines()]
    assert rows
    assert not [row for row in rows if "10000" in json.dumps({**row, "references": []})]  # MIMIC's numbers of patients
