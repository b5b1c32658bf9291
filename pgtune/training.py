"""`train(recipe)`: the only training path; LoRA, QLoRA, DoRA and full fine-tuning are arguments of it.

Everything that can fail on the user's input fails before the first step, and before an earlier run is touched: data,
model, token layouts, the first batch's leak test (`job.py`). Accelerate supplies devices and processes; the loop is
ours (`loop.py`).
"""

from __future__ import annotations

import json
import platform
from contextlib import nullcontext
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from pgtune import checkpoint, evaluation, scoring, tracking
from pgtune.data import Examples
from pgtune.errors import RunError
from pgtune.job import Job, new_optimizer, open_job
from pgtune.loop import evaluate_split, run_steps
from pgtune.metrics.show import shown, summary
from pgtune.model import enough_memory
from pgtune.processor import save_processor
from pgtune.progress import say
from pgtune.recipe import Recipe
from pgtune.run_folder import RunFolder, undamaged, write_folder, write_json
from pgtune.saving import save_trained

PACKAGES = ("pgtune", "torch", "transformers", "peft", "accelerate")


def versions() -> dict[str, str]:
    """What a run was made with."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def train(recipe: Recipe, *, resume: bool = False, overwrite: bool = False) -> dict[str, Any]:
    """Train by a recipe and score before and after.

    Args:
        resume: go on from the last complete checkpoint of an unfinished run; a finished run is left as it is.
        overwrite: replace a run that is in the folder.

    Returns:
        What `metrics.json` holds.

    Raises:
        PgtuneError: of the kind that its message says; nothing is written unless training itself began.
    """
    folder = RunFolder(recipe.output_dir)
    folder.check_place(recipe)
    folder.check_free(resume=resume, overwrite=overwrite)
    if resume and folder.state == "finished":
        _check_same_recipe(folder, recipe)
        say(f"{folder.path}: this run is finished; nothing to do")
        return _finished_metrics(folder)
    going_on = resume and folder.state == "running" and folder.recipe_file.is_file()
    if going_on:
        _check_same_recipe(folder, recipe)
    smaller = (
        f"train.batch_size={max(1, recipe.train.batch_size // 2)} with train.gradient_accumulation_steps="
        f"{recipe.train.gradient_accumulation_steps * 2}, train.gradient_checkpointing=true, or "
        "model.quantization=nf4 with LoRA"
    )
    with enough_memory(smaller):
        job = open_job(recipe, folder)
    facts = {"data": job.rows.fingerprint, "effective_batch": job.effective_batch}
    if going_on:
        _check_same_facts(folder, facts)
        folder.check_same_split(job.splits.record)
    with enough_memory(smaller), folder.claimed() if job.main else nullcontext():
        if job.main:
            folder.check_free(resume=resume, overwrite=overwrite)  # again: another may have been here meanwhile
            if not going_on:
                folder.start(recipe, versions(), facts)
                folder.write_split(job.splits.record)
                write_json(folder.overlaps_file, [asdict(overlap) for overlap in job.overlaps])
            write_folder(folder.processor, lambda aside: save_processor(job.loaded.processor, aside))
        job.accelerator.wait_for_everyone()
        return _run(job)


def _check_same_facts(folder: RunFolder, facts: dict[str, Any]) -> None:
    before = folder.status()
    if before.get("data") != facts["data"]:
        raise RunError(f"{folder.path}: data.train has changed since the unfinished run was started; use --overwrite")
    if before.get("effective_batch") != facts["effective_batch"]:
        raise RunError(
            f"{folder.path}: the unfinished run saw {before.get('effective_batch')} examples a step, now it would see "
            f"{facts['effective_batch']}: resume on as many processes as it was started with, or use --overwrite"
        )


def _finished_metrics(folder: RunFolder) -> dict[str, Any]:
    with undamaged(folder.metrics):
        found: dict[str, Any] = json.loads(folder.metrics.read_text(encoding="utf-8"))
    return found


def _check_same_recipe(folder: RunFolder, recipe: Recipe) -> None:
    def flat(settings: Any, path: str = "") -> dict[str, Any]:
        if not isinstance(settings, dict):
            return {path: settings}
        below = [flat(value, f"{path}.{key}" if path else key) for key, value in settings.items()]
        return {key: value for entries in below for key, value in entries.items()}

    free = {"tracking", "output_dir"}  # these change nothing of what is computed
    before, now = (flat(one.model_dump(mode="json", exclude=free)) for one in (folder.recipe(), recipe))
    changed = sorted(key for key in {**before, **now} if before.get(key) != now.get(key))
    if changed:
        raise RunError(
            f"{folder.path}: the run was started with another recipe (different: {', '.join(changed)}); "
            "resume with the same recipe, or start anew with --overwrite"
        )


def _run(job: Job) -> dict[str, Any]:
    recipe, folder = job.recipe, job.folder
    trained = dict(job.loaded.trainable())
    optimizer = new_optimizer(job)
    on_disk = checkpoint.steps_on_disk(folder.checkpoints)
    done = 0
    before_file = folder.path / "before.json"
    before = _evaluate_before(job, before_file)
    if on_disk:
        done = checkpoint.load(checkpoint.step_folder(folder.checkpoints, on_disk[-1]), trained, optimizer)["step"]
        say(f"going on after step {done} of {job.steps}")
    if job.main:
        checkpoint.prune(folder.checkpoints, recipe.train.keep_checkpoints)
        folder.keep_rows(folder.log, done)
        folder.keep_rows(folder.validation_log, done)
    job.accelerator.wait_for_everyone()  # the others read what the first process writes
    tracker = tracking.start(recipe, folder.path) if job.main else tracking.Tracker()
    stopped = run_steps(job, trained, optimizer, tracker, done)
    best = folder.checkpoints / "best"
    if recipe.train.best_metric is not None and (best / checkpoint.STATE).is_file():
        step = checkpoint.load(best, trained, None)["step"]
        say(f"the best step on validation was {step} of {stopped}; it is what is kept")
    if job.main:
        save_trained(job.loaded, folder, recipe)
    result = _evaluate_after(job, before, tracker, stopped)
    tracker.finish()
    if job.main:
        before_file.unlink(missing_ok=True)
        folder.finish()
    return result


def _scored(job: Job) -> tuple[str, Examples] | None:
    """What the run is scored on: test, else validation, else nothing."""
    if job.test is not None:
        return "test", job.test
    return ("validation", job.validation) if job.validation is not None else None


def _evaluate_before(job: Job, file: Any) -> scoring.Evaluation | None:
    scored = _scored(job)
    if scored is None or not job.recipe.eval.before:
        return None
    if file.is_file():
        with undamaged(file):
            return scoring.read_evaluation(file)
    before = evaluate_split(job, scored[1], "evaluate before")
    if job.main:
        say(f"before     {summary(before.scores)}")
        scoring.write_evaluation(file, before)
    return before


def _evaluate_after(
    job: Job, before: scoring.Evaluation | None, tracker: tracking.Tracker, steps: int
) -> dict[str, Any]:
    scored = _scored(job)
    result: dict[str, Any] = {"before": {}, "after": {}, "trivial": {}, "n": 0, "steps": steps, "split": None}
    result["left_out"] = job.splits.left_out()
    if scored is not None:
        split, examples = scored
        after = evaluate_split(job, examples, "evaluate after")
        answer, trivial = scoring.trivial(examples, job.recipe.eval)
        result |= {
            "before": before.values if before else {},
            "after": after.values,
            "trivial": {name: score.value for name, score in trivial.items()},
            "n": len(after.rows),
            "split": split,
            "trivial_answer": answer,
            "confidence": job.recipe.eval.confidence,
            "confidence_intervals": {"before": before.intervals if before else {}, "after": after.intervals},
            "scores": {
                "before": before.documents if before else {},
                "after": after.documents,
                "trivial": scoring.documents(trivial),
            },
        }
        if job.main:
            was = f"{summary(before.scores)} before, " if before else ""
            title = f"{split}: {was}{summary(after.scores)} after"
            evaluation.write_predictions(job.folder.path, after, examples, title=title, before=before)
            say(f"after      {summary(after.scores)}")
            constant = ", ".join(f"{name} {shown(name, score.value)}" for name, score in trivial.items())
            say(f"trivial    {constant} by always answering {answer!r}")
            tracker.log(steps, {f"{split}/{name}": value for name, value in after.values.items()})
            if job.recipe.tracking.log_examples:
                tracker.examples(steps, job.folder.picture)
    if job.main:
        write_json(job.folder.metrics, result)
    return result
