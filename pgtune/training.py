"""`train(recipe)`: the only training path; LoRA, QLoRA, DoRA and full fine-tuning are arguments of it.

Everything that can fail on the user's input fails before the first step, and before an earlier run is touched: data,
model, token layouts, the first batch's leak test (`job.py`). Accelerate supplies devices and processes; the loop is
ours (`loop.py`).
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import time
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pgtune import checkpoint, evaluation, scoring, tracking
from pgtune.arithmetic import arithmetic
from pgtune.data import Examples, texts_fingerprint
from pgtune.errors import PgtuneError, RunError
from pgtune.hub.credentialed import facts_of
from pgtune.hub.pushing import check_may_push, push
from pgtune.job import Job, open_job
from pgtune.loop import evaluate_split, looks_due, run_steps
from pgtune.measuring import PeakMemory
from pgtune.metrics.show import shown, summary
from pgtune.model import enough_memory
from pgtune.optimizers import new_optimizer
from pgtune.planning import what_helps
from pgtune.processor import save_processor
from pgtune.progress import first_process, say
from pgtune.ranks import from_first, launched, peers_explained, together
from pgtune.recipe import Recipe
from pgtune.run_folder import RunFolder, undamaged
from pgtune.saving import save_trained
from pgtune.settings import HubSettings
from pgtune.stopping import StopRequest, resume_command
from pgtune.writing import read_rows, settle, write_folder, write_json

SECONDS_UNTIL_SHOWN = 60
TRAIN_FREE = {
    *("num_workers", "save_steps", "keep_checkpoints"),
    *("batch_size", "gradient_accumulation_steps", "strategy"),  # how the effective batch is shared, which is a fact
}
PACKAGES = ("pgtune", "torch", "transformers", "peft", "accelerate")


def versions() -> dict[str, str]:
    """What a run was made with."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def made_on(job: Job) -> dict[str, str]:
    """The kind of device a run was made on, never which one, and the commit of a base from the Hub."""
    device, count = job.accelerator.device, job.accelerator.num_processes
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {os.cpu_count()} cores"
    commit = getattr(job.loaded.paligemma.config, "_commit_hash", None)
    return {"device": f"{count} x {name}" if count > 1 else name, **({"base_commit": commit} if commit else {})}


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
    computing = arithmetic(tf32=recipe.train.tf32, deterministic=recipe.train.deterministic)
    with computing, StopRequest() as stop, stop.explained(folder), peers_explained():
        was_finished = resume and folder.state == "finished"
        result = _train(recipe, folder, stop, resume=resume, overwrite=overwrite)
    if recipe.hub.push_to is not None and not was_finished and first_process():
        _push(folder, recipe.hub)
    return result


def _push(folder: RunFolder, settings: HubSettings) -> None:
    assert settings.push_to is not None, "there is a repo to push to"
    more = {name: getattr(settings, name) for name in ("private", "with_examples", "tag")}
    try:
        pushed = push(folder.path, settings.push_to, **more)
    except PgtuneError as error:
        words = ["pgtune", "push", str(folder.path), settings.push_to]
        words += [f"--{name.replace('_', '-')}" for name in ("private", "with_examples") if more[name]]
        words += ["--tag", settings.tag] if settings.tag is not None else []
        again = shlex.join(words)
        raise type(error)(f"the run is finished, but was not pushed: {error}\npush it with: {again}") from error
    say(f"pushed     {pushed['url']}, commit {pushed['commit'][:12]}")


def _train(recipe: Recipe, folder: RunFolder, stop: StopRequest, *, resume: bool, overwrite: bool) -> dict[str, Any]:
    memory = PeakMemory()
    folder.check_place(recipe)
    folder.check_free(resume=resume, overwrite=overwrite)
    if resume and folder.state == "finished":
        _check_same_recipe(folder, recipe)
        say(f"{folder.path}: this run is finished; nothing to do")
        return _finished_metrics(folder)
    going_on = resume and folder.state == "running" and folder.recipe_file.is_file()
    if going_on:
        _check_same_recipe(folder, recipe)
        stop.command = resume_command(folder)
    smaller = partial(what_helps, recipe, launched())
    if recipe.hub.push_to is not None:
        check_may_push(recipe.hub.push_to, recipe.hub.tag)
    with enough_memory(smaller):
        job = open_job(recipe, folder)
    facts = {
        "data": job.rows.fingerprint,
        "validation": texts_fingerprint(job.validation) if job.validation is not None else None,
        "test": texts_fingerprint(job.test) if job.test is not None else None,
        "effective_batch": job.effective_batch,
    }
    facts |= facts_of(recipe, job.splits, adapter_is_folder=Path(recipe.model.adapter or "").exists())
    with enough_memory(smaller), ExitStack() as held:
        with together():
            if going_on:
                _check_same_facts(folder, facts)
                folder.check_same_split(job.splits.record)
            if job.main:
                held.enter_context(folder.claimed())
                folder.check_free(resume=resume, overwrite=overwrite)  # again: another may have been here meanwhile
        with together():
            if job.main:
                if not going_on:
                    folder.start(recipe, versions() | made_on(job), facts, job.splits.record, job.overlaps)
                    stop.command = resume_command(folder)
                write_folder(folder.processor, lambda aside: save_processor(job.loaded.processor, aside))
        with together():
            _check_shared(folder)
        stop.command = resume_command(folder)
        result = _run(job, stop)
        if job.main:
            memory.write(folder, job.accelerator.num_processes, job.gradient_checkpointing)
        return result


def _check_shared(folder: RunFolder) -> None:
    """That this process sees what the first one has written; a network drive may take a while to show it."""
    for _ in range(SECONDS_UNTIL_SHOWN):
        if folder.recipe_file.is_file():
            return
        time.sleep(1)
    raise RunError(
        f"output_dir: {folder.path} is not to be seen on {platform.node()}: processes on several machines need a "
        "folder that all of them share"
    )


def _check_same_facts(folder: RunFolder, facts: dict[str, Any]) -> None:
    before = folder.status()
    for fact, key in (("data", "data.train"), ("validation", "data.validation"), ("test", "data.test")):
        if before.get(fact) != facts[fact]:
            raise RunError(
                f"{folder.path}: {key} has changed since the unfinished run was started; put it back, or use "
                "--overwrite"
            )
    if before.get("effective_batch") != facts["effective_batch"]:
        raise RunError(
            f"{folder.path}: the unfinished run saw {before.get('effective_batch')} examples a step, now it would see "
            f"{facts['effective_batch']}: processes x train.batch_size x train.gradient_accumulation_steps has to be "
            f"{before.get('effective_batch')}; or use --overwrite"
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

    # These change nothing of what is computed.
    free: Any = {"tracking": True, "hub": True, "output_dir": True, "train": TRAIN_FREE}
    before, now = (flat(one.model_dump(mode="json", exclude=free)) for one in (folder.recipe(), recipe))
    changed = sorted(key for key in {**before, **now} if before.get(key) != now.get(key))
    if changed:
        result = f"model.base={folder.model}" if folder.whole else f"model.adapter={folder.path}"
        longer = f"; a new run goes on from its result with {result}" if folder.state == "finished" else ""
        raise RunError(
            f"{folder.path}: the run was started with another recipe (different: {', '.join(changed)}); "
            f"resume with the same recipe, or start anew with --overwrite{longer}"
        )


def _run(job: Job, stop: StopRequest) -> dict[str, Any]:
    recipe, folder = job.recipe, job.folder
    trained = dict(job.loaded.trainable())
    optimizer = new_optimizer(job.loaded, recipe)
    on_disk = from_first(checkpoint.steps_on_disk(folder.checkpoints))
    done = 0
    before_file = folder.path / "before.json"
    before = _evaluate_before(job, before_file)
    if on_disk:
        with together():
            last = checkpoint.step_folder(folder.checkpoints, on_disk[-1])
            done = checkpoint.load(last, trained, optimizer, folder.identity())["step"]
        say(f"going on after step {done} of {job.steps}")
    with together():  # the others read what the first process writes
        if job.main:
            checkpoint.prune(folder.checkpoints, recipe.train.keep_checkpoints)
            best = folder.checkpoints / checkpoint.BEST
            settle(best)
            folder.keep_rows(folder.log, range(1, done + 1))
            folder.keep_rows(folder.validation_log, looks_due(job, done), optional=done)
            if recipe.train.best_metric is not None and read_rows(folder.validation_log):
                checkpoint.check(best, folder.identity())  # before steps are spent that would end without it
        tracker = tracking.start(recipe, folder.path, done) if job.main else tracking.Tracker()
    stopped = run_steps(job, trained, optimizer, tracker, done, stop)
    if recipe.train.best_metric is not None:
        with together():
            best = folder.checkpoints / checkpoint.BEST
            step = checkpoint.load(best, trained, None, folder.identity())["step"]
        say(f"the best step on validation was {step} of {stopped}; it is what is kept")
    save_trained(job.loaded, folder, recipe, main=job.main)
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
    if from_first(file.is_file()):
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
