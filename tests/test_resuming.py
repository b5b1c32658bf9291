"""What a resume must find, and what it says where it does not; the exact resumes are in test_training.py."""

from __future__ import annotations

import shutil

import pytest
from conftest import interrupted_after, losses, recipe_for

from pgtune import cli, train
from pgtune.errors import RunError, TrainingError


@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_without_its_best_checkpoint_no_step_is_spent(small_bases, data, tmp_path, how):
    more = (
        f"data.validation={data / 'validation.jsonl'}",
        "train.eval_steps=1",
        "train.best_metric=loss",
        "train.save_steps=1",
        "eval.before=false",
    )
    recipe = recipe_for(small_bases["paligemma"], data, tmp_path / "run", *more)
    with interrupted_after(3):
        train(recipe)
    best = tmp_path / "run" / "checkpoints" / "best"
    aside = tmp_path / "aside"
    shutil.copytree(best, aside)
    if how == "gone":
        shutil.rmtree(best)
    else:
        (best / "trained.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match=r"best: the checkpoint cannot be read .*put it back, or start anew"):
        train(recipe, resume=True)
    assert len(losses(tmp_path / "run")) == 2, "no step was taken"
    shutil.rmtree(best, ignore_errors=True)
    shutil.copytree(aside, best)
    train(recipe, resume=True)


def test_a_loss_on_validation_that_is_not_finite_ends_it(small_bases, data, tmp_path, monkeypatch):
    from pgtune import evaluation

    monkeypatch.setattr(evaluation, "mean_loss", lambda *_, **__: float("nan"))
    more = (f"data.validation={data / 'validation.jsonl'}", "train.eval_steps=2", "train.save_steps=1")
    recipe = recipe_for(small_bases["paligemma"], data, tmp_path / "run", *more, "eval.before=false")
    with pytest.raises(TrainingError, match=r"step 2: the loss on data.validation is nan: .* smaller train"):
        train(recipe)
    assert not (tmp_path / "run" / "validation.jsonl").read_text()


def test_a_finished_run_says_how_to_train_on(small_bases, data, tmp_path):
    run = tmp_path / "run"
    train(recipe_for(small_bases["paligemma"], data, run))
    with pytest.raises(RunError, match=f"a new run goes on from its result with model.adapter={run}"):
        train(recipe_for(small_bases["paligemma"], data, run, "train.max_steps=9"), resume=True)


def test_a_moved_run_is_not_trained_anew_where_it_was(small_bases, data, tmp_path, capsys):
    recipe = recipe_for(small_bases["paligemma"], data, tmp_path / "run")
    with interrupted_after(3):
        train(recipe)
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    assert cli.main(["train", str(moved / "recipe.yaml"), "--resume"]) == 2
    assert f"to go on with that run add output_dir={moved}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert cli.main(["train", str(moved / "recipe.yaml"), "--resume", f"output_dir={moved}"]) == 0
