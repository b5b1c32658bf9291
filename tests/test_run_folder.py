"""The run folder: what is in it, what plain libraries read of it, and that files are complete or absent."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
from pathlib import Path

import pytest
import torch
from conftest import read_jsonl
from PIL import Image

from pgtune import load, load_recipe
from pgtune.collate import Collator
from pgtune.errors import RunError
from pgtune.run_folder import RunFolder
from pgtune.selftests import examples
from pgtune.writing import append_row, read_rows, write_folder, write_json, write_text

COMMON = {
    "recipe.yaml",
    "processor",
    "log.jsonl",
    "validation.jsonl",
    "metrics.json",
    "predictions.jsonl",
    "predictions.png",
    "checkpoints",
    "status.json",
    "overlaps.json",
}


def test_the_files(finished):
    lora = load_recipe(finished / "recipe.yaml").lora is not None
    names = {entry.name for entry in finished.iterdir()} - {"memory.json"}  # only of a process that has grown
    assert names == COMMON | {"adapter" if lora else "model"}
    assert RunFolder(finished).state == "finished"
    if lora:
        names = {entry.name for entry in (finished / "adapter").iterdir()}
        assert names == {"adapter_config.json", "adapter_model.safetensors"}
    assert not list(finished.rglob(".*")), "nothing half-written is left"
    with Image.open(finished / "predictions.png") as picture:
        assert picture.width > 100


def test_the_recipe_is_resolved_and_reads_back(finished):
    import yaml

    content = yaml.safe_load((finished / "recipe.yaml").read_text(encoding="utf-8"))
    assert content["versions"].keys() >= {"pgtune", "torch", "transformers", "peft", "accelerate", "python"}
    assert content["train"]["schedule"] == "constant"
    assert content["train"]["beta2"] == 0.999
    recipe = load_recipe(finished / "recipe.yaml")
    assert recipe.output_dir == str(finished)


def test_the_log_has_each_step_once(finished):
    rows = read_jsonl(finished / "log.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    for row in rows:
        assert row.keys() == {"step", "loss", "learning_rate", "grad_norm", "epoch", "seconds"}
        assert row["learning_rate"] == 1e-2
        assert len(repr(row["loss"])) > 9, "in full precision"
    assert [row["epoch"] for row in rows] == pytest.approx([4 / 24, 8 / 24, 12 / 24, 16 / 24])


def test_metrics_hold_scores_and_nothing_else_inside(finished):
    found = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    for name in ("before", "after", "trivial"):
        assert found[name].keys() == {"exact_match"}
        assert 0 <= found[name]["exact_match"] <= 1
    assert found["n"] == 5
    assert found["split"] == "test"
    assert found["trivial"]["exact_match"] == pytest.approx(0.2), "five different answers"
    low, high = found["confidence_intervals"]["after"]["exact_match"]
    assert 0 <= low <= found["after"]["exact_match"] <= high <= 1


def test_predictions_can_be_looked_at(finished, data):
    rows = read_jsonl(finished / "predictions.jsonl")
    given = read_jsonl(data / "test.jsonl")
    assert len(rows) == 5
    for row, source in zip(rows, given, strict=True):
        assert row.keys() >= {
            "image",
            "prefix",
            "prediction",
            "references",
            "metadata",
            "before",
            "mean_log_probability",
        }
        assert Path(row["image"]).is_file()
        assert Path(row["image"]) == Path(source["image"])
        assert row["prefix"] == source["prefix"]
        assert row["references"] == [source["suffix"]]
        assert row["metadata"] == {"number": source["number"]}
        assert row["mean_log_probability"] <= 0
        assert row["scores"] == {"exact_match": float(row["prediction"] == source["suffix"])}


def test_nothing_in_it_names_this_machine(finished):
    """Paths that the recipe names may stand in it; the folders of the installation may not."""
    import pgtune

    place = str(Path(pgtune.__file__).parent)
    for file in finished.rglob("*"):
        if file.is_file() and file.suffix in {".json", ".yaml", ".jsonl"}:
            assert place not in file.read_text(encoding="utf-8"), file


@torch.no_grad()
def test_plain_transformers_and_peft_read_it(finished, small_base, generation):
    """Without pgtune: the same logits to the last bit, given the same attention implementation."""
    from peft import PeftModel
    from transformers import AutoConfig, AutoProcessor, PaliGemmaForConditionalGeneration

    run = load(finished)
    lora = (finished / "adapter").is_dir()
    source = str(small_base if lora else finished / "model")
    config = AutoConfig.from_pretrained(source)
    text = config.get_text_config()
    if lora and generation == "paligemma2":  # a base says otherwise; a full run's own config does not
        assert text.final_logit_softcapping == 30.0
        text.final_logit_softcapping = None
        text.layer_types = ["full_attention"] * text.num_hidden_layers
    if generation == "paligemma2":
        assert text.final_logit_softcapping is None
    plain = PaliGemmaForConditionalGeneration.from_pretrained(source, config=config)
    if lora:
        plain = PeftModel.from_pretrained(plain, str(finished / "adapter"))
    plain.eval()
    processor = AutoProcessor.from_pretrained(str(finished / "processor"))
    example = examples()[0]
    theirs = processor(
        images=[[example.images[0]]], text=[example.prefix], suffix=[example.suffix], return_tensors="pt"
    )
    labels = theirs.pop("labels")
    logits = plain(**theirs).logits
    from pgtune.forward import hidden_states

    batch = Collator(run.loaded.processor)([example])
    ours = run.loaded.paligemma.lm_head(hidden_states(run.loaded.paligemma, batch, run.loaded.attention))
    assert labels.tolist() == batch.labels.tolist()
    assert torch.equal(logits, ours)


def test_a_full_runs_model_is_a_base_again(finished, data, tmp_path):
    """The second stage of a training in stages."""
    if (finished / "adapter").is_dir():
        pytest.skip("an adapter is no base")
    from conftest import recipe_for

    from pgtune import train

    train(recipe_for(finished / "model", data, tmp_path / "run", "train.max_steps=1"))


# ---- writing


def test_a_file_is_the_old_one_or_the_new_one(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    write_json(file, {"a": 1 / 3})
    assert json.loads(file.read_text()) == {"a": 1 / 3}

    def crash(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="no space"):
            write_json(file, {"a": 2})
    assert json.loads(file.read_text()) == {"a": 1 / 3}
    with pytest.raises(ValueError, match="JSON"):
        write_json(file, {"a": math.nan})
    assert json.loads(file.read_text()) == {"a": 1 / 3}


def test_a_folder_is_complete_or_absent(tmp_path):
    folder = tmp_path / "deep" / "folder"
    write_folder(folder, lambda aside: write_text(aside / "a", "1"))
    assert (folder / "a").read_text() == "1"

    def half(aside):
        write_text(aside / "b", "2")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(folder, half)
    assert [entry.name for entry in folder.iterdir()] == ["a"]
    write_folder(folder, lambda aside: write_text(aside / "c", "3"))
    assert [entry.name for entry in folder.iterdir()] == ["c"]
    assert [entry.name for entry in folder.parent.iterdir()] == ["folder"]


def test_a_folder_that_a_crash_left_under_its_old_name_is_found(tmp_path):
    """Killed between the two renames: there was nothing under its name."""
    folder, old = tmp_path / "best", tmp_path / ".best.old"
    write_folder(folder, lambda aside: write_text(aside / "a", "1"))
    folder.rename(old)

    def fails(aside):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(folder, fails)
    assert (folder / "a").read_text() == "1", "what it was to replace is there as long as nothing replaces it"
    write_folder(folder, lambda aside: write_text(aside / "b", "2"))
    assert [entry.name for entry in folder.iterdir()] == ["b"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["best"]


def test_the_rows_of_a_log_are_those_of_the_steps(tmp_path):
    """Each once, in their order; one that is not made yet may be missing, if it is the last."""
    folder = RunFolder(tmp_path)

    def log(*steps):
        folder.log.write_text("".join(f'{{"step": {step}}}\n' for step in steps))

    log(2, 4, 5)
    folder.keep_rows(folder.log, [2, 4])
    assert [row["step"] for row in read_rows(folder.log)] == [2, 4]
    folder.keep_rows(folder.log, [2, 4, 6], optional=6)
    assert [row["step"] for row in read_rows(folder.log)] == [2, 4]
    for steps, odd in (((2, 6), 4), ((2, 4, 4, 6), 4), ((4, 2, 6), 6), ((), 2)):
        log(*steps)
        with pytest.raises(RunError, match=f"log.jsonl: damaged: the checkpoint is of step 6, and step {odd} should"):
            folder.keep_rows(folder.log, [2, 4, 6], optional=6)


def test_a_row_that_a_crash_cut_off_is_left_out(tmp_path):
    file = tmp_path / "log.jsonl"
    assert read_rows(file) == []
    append_row(file, {"step": 1})
    append_row(file, {"step": 2})
    with open(file, "a", encoding="utf-8") as more:
        more.write('{"step": 3, "lo')
    assert [row["step"] for row in read_rows(file)] == [1, 2]
    RunFolder(tmp_path).keep_rows(file, [1])
    assert file.read_text() == '{"step": 1}\n'


@pytest.mark.parametrize(("make", "words"), [(True, "is not a run folder"), (False, "does not exist")])
def test_what_is_no_run_is_named(tmp_path, make, words):
    folder = tmp_path / "run"
    if make:
        folder.mkdir()
    with pytest.raises(RunError, match=words):
        load(folder)


def test_states(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.state == "absent"
    folder.path.mkdir()
    assert folder.state == "absent"
    (folder.path / "x").write_text("")
    assert folder.state == "foreign"
    write_json(folder.status_file, {"state": "running", "data": ""})
    assert folder.state == "running"
    folder.finish()
    assert folder.state == "running", "without its recipe it is one that was being cleared away"
    folder.recipe_file.write_text("")
    assert folder.state == "finished"


@pytest.mark.parametrize("content", ["", "[]", "null", '{"state": 5}', '{"state": "done"}', '{"status": "running"}'])
def test_another_programs_status_does_not_make_a_run(tmp_path, content):
    folder = RunFolder(tmp_path)
    folder.status_file.write_text(content)
    (tmp_path / "precious.txt").write_text("")
    for more in ({"resume": False, "overwrite": True}, {"resume": True, "overwrite": False}):
        with pytest.raises(RunError, match="exists and is not a run folder"):
            folder.check_free(**more)


def test_going_on_and_starting_anew_contradict_each_other(tmp_path):
    with pytest.raises(RunError, match="give one of them"):
        RunFolder(tmp_path).check_free(resume=True, overwrite=True)


def test_a_crash_before_the_first_file_leaves_nothing_that_counts(tmp_path):
    (tmp_path / ".status.json.part").write_text("{")
    assert RunFolder(tmp_path).state == "absent"


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")
def test_two_trainings_do_not_write_into_one_folder(tmp_path):
    folder = tmp_path / "run"
    second = RunFolder(folder).claimed()
    with RunFolder(folder).claimed(), pytest.raises(RunError, match="another training is writing into"):
        second.__enter__()
    with RunFolder(folder).claimed():
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made: Not a directory"), RunFolder(tmp_path / "file" / "x").claimed():
        pass


def test_a_damaged_log_is_named(tmp_path):
    folder = RunFolder(tmp_path)
    for content in ("x\n", "[1]\n", "{}\n"):
        folder.log.write_text(content)
        with pytest.raises(RunError, match=r"log.jsonl: damaged .* start anew with --overwrite"):
            folder.keep_rows(folder.log, [1])


def test_a_row_with_half_a_character_is_written(tmp_path):
    append_row(tmp_path / "rows.jsonl", {"image": "a\udcff.png"})
    append_row(tmp_path / "rows.jsonl", {"image": "é.png"})
    assert (tmp_path / "rows.jsonl").read_text(encoding="utf-8") == '{"image": "a\\udcff.png"}\n{"image": "é.png"}\n'
    assert read_rows(tmp_path / "rows.jsonl") == [{"image": "a\udcff.png"}, {"image": "é.png"}]


def test_a_document_with_half_a_character_is_written(tmp_path):
    write_json(tmp_path / "one.json", {"answer": "a\udcff", "é": 1})
    assert json.loads((tmp_path / "one.json").read_text(encoding="utf-8")) == {"answer": "a\udcff", "é": 1}


@pytest.mark.skipif(sys.platform == "win32", reason="has no such modes")
def test_what_is_saved_can_be_read_by_whom_the_folder_can(finished):
    files = [file for file in finished.rglob("*") if file.is_file()]
    weights = [file for file in files if file.suffix == ".safetensors"]
    assert weights
    assert {file.stat().st_mode & 0o777 for file in weights} == {(finished / "recipe.yaml").stat().st_mode & 0o777}


def test_a_full_disk_is_named_and_leaves_no_part(tmp_path, monkeypatch):
    def full(aside):
        (aside / "a").write_text("half")
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    with pytest.raises(OSError, match=r"No space left on device: .*adapter"):
        write_folder(tmp_path / "adapter", full)

    def sync(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(OSError, match=r"No space left on device: .*metrics.json"):
        write_json(tmp_path / "metrics.json", {})
    assert list(tmp_path.iterdir()) == []
