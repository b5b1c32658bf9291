"""A folder from elsewhere: it runs no code, reads nothing outside of itself, and its damaged files are named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import LORA, recipe_for
from PIL import Image
from safetensors.torch import load_file, save_file

from pgtune.cli import main
from pgtune.errors import ModelError, PgtuneError, RunError
from pgtune.hub.foreign import MergedRun, PushedRun, check_pushed, run_in_folder
from pgtune.loading import load, locate_run
from pgtune.merging import merge
from pgtune.methods import prepare
from pgtune.model import load_base
from pgtune.processor import save_processor
from pgtune.run_folder import RunFolder
from pgtune.saving import save_trained
from pgtune.writing import write_folder

CPU = torch.device("cpu")
STATUS = {"state": "finished", "kind": "adapter"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A finished run on tiny with LoRA and a projector trained beside it, all moved at random."""
    out = tmp_path_factory.mktemp("mine") / "run"
    recipe = recipe_for("tiny", data, out, f"data.test={data / 'test.jsonl'}", "model.trainable=[projector]")
    loaded = prepare(load_base(recipe.model, full=False, device=CPU), recipe.lora, recipe.model.trainable, seed=0)
    with torch.no_grad():
        for name, parameter in loaded.trainable():
            if "lora_A" not in name:
                parameter.add_(0.05 * torch.randn(parameter.shape))
    folder = RunFolder(out)
    folder.start(recipe, {"pgtune": "0"}, {"data": "0"})
    write_folder(folder.processor, lambda aside: save_processor(loaded.processor, aside))
    save_trained(loaded, folder, recipe)
    folder.finish()
    return out


@pytest.fixture
def clone(run: Path, tmp_path: Path) -> Path:
    """The run as it lies in a repo."""
    folder = tmp_path / "clone"
    shutil.copytree(run / "processor", folder)
    shutil.copytree(run / "adapter", folder, dirs_exist_ok=True)
    (folder / "pgtune").mkdir()
    shutil.copy(run / "recipe.yaml", folder / "pgtune")
    write(folder / "pgtune" / "status.json", STATUS)
    Image.new("RGB", (20, 20)).save(tmp_path / "photo.png")
    return folder


def write(file: Path, content: Any) -> None:
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def edit(file: Path, **keys: Any) -> None:
    write(file, json.loads(file.read_text(encoding="utf-8")) | keys)


def of_code(folder: Path, here: Path) -> None:
    """A recipe that names a module, and the module where it would be found, which leaves a file when it is imported."""
    file = folder / "pgtune" / "recipe.yaml"
    recipe = yaml.safe_load(file.read_text(encoding="utf-8"))
    recipe["data"]["adapter"] = "evil_in_clone:Thing"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    (here / "evil_in_clone.py").write_text(
        "open('imported', 'w').close()\nfrom pgtune.data_adapters.generic.jsonl import JsonlAdapter as Thing\n"
    )


@pytest.mark.parametrize("status", [STATUS, {"state": "finished"}, {"state": "finished", "merged": {}}])
def test_no_status_makes_a_clone_run_code(
    status: dict[str, Any], clone: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(clone / "pgtune" / "status.json", status)
    of_code(clone, clone)
    monkeypatch.chdir(clone)
    assert isinstance(locate_run("."), PushedRun)
    assert main(["evaluate", ".", "--source", str(data / "test.jsonl"), "--limit", "1"]) == 2
    assert "--allow-code" in capsys.readouterr().err
    assert not (clone / "imported").exists()


def test_a_merged_model_runs_code_only_where_it_is_allowed(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "merged"
    merge(run, out)
    assert isinstance(run_in_folder(out, "merged"), MergedRun)
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "merged", "--limit", "1"]) == 0, "its own data and a data adapter of ours need no leave"
    assert (out / "evaluations" / "test-first-1" / "metrics.json").is_file()
    of_code(out, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["evaluate", "merged", "--limit", "1"]) == 2
    assert "--allow-code" in capsys.readouterr().err
    assert not (tmp_path / "imported").exists()
    main(["evaluate", "merged", "--limit", "1", "--allow-code"])
    assert (tmp_path / "imported").exists()


def linked(name: str) -> Callable[[Path], Any]:
    """The file moved out of the folder, and a link in its place."""

    def change(folder: Path) -> None:
        outside = folder.parent / "outside"
        shutil.move(folder / name, outside)
        (folder / name).symlink_to(outside)

    return change


def weight_map(value: Any) -> Callable[[Path], Any]:
    return lambda folder: write(folder / "model.safetensors.index.json", {"weight_map": value})


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


HOSTILE: dict[str, tuple[Callable[[Path], Any], type[PgtuneError], str]] = {
    **{
        f"link {name}": (linked(name), RunError, rf"{name} is a link to what is not a file in it")
        for name in ("tokenizer.json", "adapter_model.safetensors", "pgtune/recipe.yaml", "pgtune")
    },
    "a pipe": (lambda folder: os.mkfifo(folder / "x.txt"), RunError, "x.txt is neither a file nor a folder"),
    "a folder": (lambda folder: (folder / "x.json").mkdir(), ModelError, "x.json is a folder"),
    "weight_map list": (weight_map(["a"]), ModelError, "weight_map: expected a mapping"),
    "weight_map text": (weight_map("a"), ModelError, "weight_map: expected a mapping"),
    "weight_map nested": (weight_map({"a": {"b": "c"}}), RunError, "which is not in it"),
    "deep": (lambda folder: write(folder / "x.json", nested(100_000)), ModelError, "too many levels"),
    "rather deep": (lambda folder: write(folder / "x.json", nested(200)), ModelError, "more than 50 levels"),
    "code in a list": (
        lambda folder: edit(folder / "processor_config.json", x=[[{"auto_map": {"A": "b.C"}}]]), RunError, "auto_map"
    ),
    "status damaged": (
        lambda folder: write(folder / "pgtune" / "status.json", "{"), RunError, "status.json: damaged"
    ),
    "status a list": (
        lambda folder: write(folder / "pgtune" / "status.json", ["kind"]), RunError, "damaged: expected a mapping"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_not_read(what: str, clone: Path) -> None:
    change, kind, message = HOSTILE[what]
    change(clone)
    with pytest.raises(kind, match=message):
        locate_run(clone)


def test_links_inside_and_into_the_blobs_of_a_cache_are_read(clone: Path, tmp_path: Path) -> None:
    (clone / "copy.json").symlink_to("tokenizer_config.json")
    check_pushed(clone, "clone")
    blobs, snapshot = tmp_path / "models--org--x" / "blobs", tmp_path / "models--org--x" / "snapshots" / "1"
    blobs.mkdir(parents=True)
    shutil.move(clone, snapshot)
    shutil.move(snapshot / "tokenizer.json", blobs / "2")
    (snapshot / "tokenizer.json").symlink_to("../../blobs/2")
    check_pushed(snapshot, "clone")
    shutil.move(blobs, tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is a link"):
        check_pushed(snapshot, "clone")


def test_pictures_are_of_the_models_size(clone: Path) -> None:
    file = clone / "processor_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["image_processor"]["size"] = {"height": 10**6, "width": 10**6}
    write(file, config)
    with pytest.raises(ModelError, match=r"resizes to 1000000 x 1000000, the model takes 112 x 112"):
        load(clone)


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [("lora_alpha", 3200, LORA["alpha"]), ("r", 3, LORA["rank"]), ("use_rslora", True, False), ("use_dora", 1, False),
     ("alpha_pattern", {"q_proj": 3200}, {}), ("init_lora_weights", "pissa", True), ("peft_type", None, "LORA")],
)  # fmt: skip
def test_an_adapter_is_what_the_recipe_says(key: str, value: Any, wanted: Any, clone: Path) -> None:
    edit(clone / "adapter_config.json", **{key: value})
    with pytest.raises(ModelError, match=rf"adapter_config.json: {key} is {value!r}.*; expected {wanted!r}"):
        load(clone)


@pytest.mark.parametrize("verb", ["predict", "merge"])
def test_a_lora_of_zeros_is_refused_beside_a_trained_part(
    verb: str, run: Path, clone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load(clone)
    file = clone / "adapter_model.safetensors"
    weights = load_file(file)
    assert any("projector" in key for key in weights)
    save_file({key: value * ("lora_B" not in key) for key, value in weights.items()}, file, {"format": "pt"})
    words = {"predict": ["--image", str(tmp_path / "photo.png"), "--prefix", ""], "merge": [str(tmp_path / "out")]}
    assert main([verb, str(clone), *words[verb]]) == 2
    assert "all its matrices lora_B are zero" in capsys.readouterr().err


def test_a_run_folder_is_ones_own(run: Path) -> None:
    assert type(locate_run(run)) is RunFolder
