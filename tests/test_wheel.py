"""The built wheel: one top-level name, everything a run needs inside, and the quickstart from another folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("pgtune", "data_adapters", "recipes", "pyproject.toml", "README.md", "LICENSE")
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the checkout."""
    copy, out = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(copy))
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel in a folder of its own; its dependencies are those of the tests."""
    target = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--target", str(target), str(wheel))
    return target


def pip(*words: str) -> None:
    quiet = ["--quiet", "--disable-pip-version-check", "--no-index"]
    done = subprocess.run([sys.executable, "-m", "pip", *words, *quiet], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def run(installed: Path, folder: Path, *words: str) -> str:
    """Standard output of a Python that sees the wheel before the checkout, working in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_holds_one_name_and_all_that_a_run_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"pgtune"}
    expected = {
        f"pgtune/{there}/{path.relative_to(ROOT / here).as_posix()}".replace("/./", "/")
        for here, there in (("pgtune", "."), ("data_adapters", "data_adapters"), ("recipes", "recipes"))
        for path in (ROOT / here).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == expected
    for needed in ("py.typed", "tiny/weights/model.safetensors", "recipes/schema.json", "recipes/tiny/pretrain.yaml"):
        assert f"pgtune/{needed}" in names
    assert sum(name.startswith("pgtune/recipes/data/landcover/images/") for name in names) == 860
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_it_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < 20 * MEGABYTE
    weights = [path.stat().st_size for path in (ROOT / "pgtune/tiny/weights").iterdir()]
    assert sum(weights) < 12 * MEGABYTE


def test_it_runs_from_another_folder(installed: Path, tmp_path: Path) -> None:
    names = {path.name for path in installed.iterdir()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"bin", "pgtune"}
    short = ("train.max_steps=2", "eval.limit=4")
    said = run(installed, tmp_path, "-m", "pgtune", "train", "quickstart", "--json", *short)
    assert json.loads(said)["n"] == 4
    found = run(
        installed,
        tmp_path,
        "-c",
        "import pgtune, pgtune.data_adapters as a, pgtune.recipes as r; print(pgtune.__file__, a.__file__, r.__file__)",
    )
    assert [Path(path).is_relative_to(installed) for path in found.split()] == [True, True, True]
    adapter = tmp_path / "runs/quickstart/adapter/adapter_config.json"
    assert json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"] == "tiny"


@pytest.mark.slow
def test_the_whole_quickstart_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    metrics = json.loads(run(installed, tmp_path, "-m", "pgtune", "train", "quickstart", "--json"))
    before, after, trivial = (metrics[name]["exact_match"] for name in ("before", "after", "trivial"))
    low, _ = metrics["confidence_intervals"]["after"]["exact_match"]
    assert metrics["n"] >= 100
    assert after >= before + 0.30
    assert low > trivial
    # What the README says of this run, allowing for another machine's rounding.
    assert stated_after() == pytest.approx(after, abs=0.05)


def stated_after() -> float:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = (line for line in text.splitlines() if line.startswith("| share that is right |"))
    return float(row.split("|")[3].split()[0]) / 100
