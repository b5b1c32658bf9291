"""The remote sensing recipes: the papers' values, and end to end on miniature copies of the published layouts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import remote_sensing_fixtures as made

from pgtune.cli import main
from pgtune.recipe import load_recipe

FOLDER = Path(__file__).parents[2] / "recipes" / "remote_sensing"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if not path.stem.startswith("real_"))
SHIP = "10 20 20 10 30 20 20 30 ship 0"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with every data set that the recipes name."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    made.rsvqa(folder / "rsvqa_lr")
    made.rsvqa(folder / "rsvqa_hr", high=True)
    made.captions(folder / "rsicd")
    made.scenes(folder / "eurosat")
    for split in ("train", "val"):
        made.dota(folder / "dota" / split, {f"P{number}": [SHIP] for number in range(4)})
    made.own_scenes(folder / "scenes", 5)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_it_validates(name: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", f"remote_sensing/{name}", "model.base=tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


@pytest.mark.parametrize("name", NAMES)
def test_its_head_and_method_agree(name: str) -> None:
    recipe = load_recipe(f"remote_sensing/{name}")
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    method = {"lora": "LoRA", "qlora": "QLoRA"}.get(name.rpartition("_")[2], "full")
    assert recipe.method.lower() == method.lower()
    assert f"\n# command:   pgtune train remote_sensing/{name}\n" in text
    assert recipe.output_dir == f"runs/{name}"
    assert recipe.model.base.endswith(f"-{name.split('_')[-1 if method == 'full' else -2]}")
    if method != "full":
        assert recipe.train.learning_rate == 1e-4
    for overrides in re.findall(r"^# size: +[^:]+: (.+)$", text, re.MULTILINE):
        assert load_recipe(f"remote_sensing/{name}", overrides.split()).model.base.startswith("google/paligemma2-")


@pytest.mark.parametrize(
    ("name", "rate", "epochs", "smoothing"),
    [
        ("rsvqa_lr_224", 3e-6, 3, 0.2), ("rsvqa_lr_448", 3e-6, 3, 0.2),
        ("rsvqa_hr_224", 1e-5, 1, 0.0), ("rsvqa_hr_448", 1e-5, 1, 0.0),
    ],
)  # fmt: skip
def test_the_papers_values(name: str, rate: float, epochs: int, smoothing: float) -> None:
    recipe = load_recipe(f"remote_sensing/{name}")
    train = recipe.train
    assert (train.learning_rate, train.epochs, train.label_smoothing) == (rate, epochs, smoothing)
    assert train.batch_size * train.gradient_accumulation_steps == 256
    assert (train.weight_decay, train.warmup_ratio, train.schedule, train.max_grad_norm) == (0, 0.05, "cosine", 1)
    assert (train.beta1, train.beta2, train.epsilon, train.loss_reduction) == (0.9, 0.999, 1e-8, "example")
    assert (recipe.model.resample, recipe.model.antialias, recipe.model.llm_dropout) == ("bilinear", True, 0)
    assert list(recipe.eval.metrics) == ["rsvqa"]
    assert recipe.data.train.split == "train+validation"


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(("_224", "_448")) and "hr_448" not in name])
def test_it_runs_on_the_tiny_base(name: str, data: Path) -> None:
    # Small batches, one step and short answers only so that the test is quick.
    short = ["train.max_steps=1", "train.batch_size=2", "train.gradient_accumulation_steps=1", "eval.max_new_tokens=4"]
    assert main(["train", f"remote_sensing/{name}", "model.base=tiny", *short, "eval.before=false"]) == 0
    scores = json.loads(Path("runs", name, "metrics.json").read_text(encoding="utf-8"))
    assert load_recipe(f"remote_sensing/{name}").eval.metrics[0] in json.dumps(scores)


@pytest.mark.parametrize("name", ["own_geotiff_448_lora", "rsvqa_hr_224_qlora"])
def test_other_methods_run_too(name: str, data: Path) -> None:
    short = ["train.max_steps=1", "train.batch_size=2", "train.gradient_accumulation_steps=1", "eval.max_new_tokens=4"]
    assert main(["train", f"remote_sensing/{name}", "model.base=tiny", *short, "eval.before=false"]) == 0
