"""Gradient checkpointing that the plan decides: as little as fits, said outright, and the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import losses, recipe_for
from test_planning import SHORT, recipe_of

from pgtune import job, planning, train
from pgtune.methods import prepare
from pgtune.model import load_base
from pgtune.planning import plan
from pgtune.recipe import load_recipe
from pgtune.settings import ModelSettings


def test_auto_computes_as_little_again_as_fits() -> None:
    recipe = recipe_of("google/paligemma2-3b-pt-448", "train.batch_size=8")
    fixed = {level: f"train.gradient_checkpointing={level}" for level in ("false", "2", "true")}
    peaks = {}
    for level, override in fixed.items():
        memory = plan(recipe_of("google/paligemma2-3b-pt-448", "train.batch_size=8", override), seen=SHORT).memory
        peaks[level] = max(phase.total for phase in memory.training()) + planning.RESERVE["gpu"]
    assert peaks["true"] < peaks["2"] < peaks["false"]
    for level, wanted in (("false", False), ("2", 2), ("true", True)):
        for memory in (peaks[level] + 1, peaks[level] * 1.01):
            made = plan(recipe, round(memory), seen=SHORT)
            assert made.memory.recipe.train.gradient_checkpointing == wanted
            assert made.recipe.train.gradient_checkpointing == "auto", "what the recipe says stays"
    none = plan(recipe, round(peaks["true"]) - 10**8, seen=SHORT)
    assert none.memory.recompute == 1
    assert not none.fits
    assert plan(recipe, seen=SHORT).memory.recompute == 0, "no memory is known"
    assert plan(recipe, 10**9, seen=SHORT, device="cpu").memory.recompute == 0


def test_what_is_proposed_where_auto_is_not_enough_is_said_outright() -> None:
    recipe = recipe_of("google/paligemma2-3b-pt-448", "train.batch_size=8")
    made = plan(recipe, 11 * 10**9, seen=SHORT)
    assert not made.fits
    assert made.changes
    for change in made.changes:
        assert sum(override.startswith("train.gradient_checkpointing=") for override in change.overrides) == 1
        again = plan(load_recipe(recipe.model_dump(mode="json"), change.overrides), 11 * 10**9, seen=SHORT)
        assert again.fits
        assert again.peak.total == change.total


@pytest.mark.parametrize(("gigabytes_there", "wanted"), [(1000, False), (21, 2), (10, True), (None, False)])
def test_a_job_asks_the_plan(
    gigabytes_there: int | None, wanted: bool | int, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = None if gigabytes_there is None else (gigabytes_there * 10**9, True)
    monkeypatch.setattr(planning, "first_gpu", lambda: there)
    recipe = recipe_of("google/paligemma2-3b-pt-224", "train.batch_size=16")
    chosen, why = planning.choose_checkpointing(recipe)
    assert chosen == wanted
    assert type(chosen) is type(wanted)
    assert bool(why) == bool(wanted)
    if why:
        assert f"GB are planned without, of {gigabytes_there}.0 GB" in why
    stated = recipe_of("google/paligemma2-3b-pt-224", "train.gradient_checkpointing=3")
    assert planning.choose_checkpointing(stated) == (3, "")
    assert planning.choose_checkpointing(recipe_of("nobody/nothing")) == (False, "")


def test_a_run_computes_again_where_its_gpu_is_small(
    small_bases: dict[str, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """On a CPU that the plan takes for a GPU with no room at all."""
    seen = []
    real = job.prepare

    def prepare(*arguments: Any, **more: Any) -> Any:
        seen.append(more["gradient_checkpointing"])
        return real(*arguments, **more)

    monkeypatch.setattr(job, "prepare", prepare)
    base = small_bases["paligemma2"]
    train(recipe_for(base, data, tmp_path / "free"))
    assert "computed again" not in capsys.readouterr().err
    with monkeypatch.context() as patched:
        patched.setattr(planning, "first_gpu", lambda: (10**6, True))
        train(recipe_for(base, data, tmp_path / "small"))
    assert "every layer is computed again (train.gradient_checkpointing: auto)" in capsys.readouterr().err
    assert seen == [False, True]
    assert losses(tmp_path / "small") == losses(tmp_path / "free")


def test_a_checkpointed_step_keeps_no_copies_of_weights(small_bases: dict[str, Path]) -> None:
    """Autocast's cache would hold a bfloat16 copy of every trained weight through the forward pass."""
    for again in (False, True):
        settings = ModelSettings(base=str(small_bases["paligemma2"]))
        loaded = load_base(settings, full=True, device=torch.device("cpu"))
        prepare(loaded, None, None, seed=0, gradient_checkpointing=again)
        loaded.mixed_precision = True
        with loaded.autocast():
            assert torch.is_autocast_cache_enabled() == (not again)
        with torch.no_grad(), loaded.autocast():
            assert torch.is_autocast_cache_enabled(), "each token that is decoded uses each weight"
