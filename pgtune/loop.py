"""The steps: which micro-batches, which gradient, what is logged, looked at and kept. Read it top to bottom."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from typing import Any

import torch
from torch.utils.data import DataLoader

from pgtune import checkpoint, evaluation, metrics, scoring, tracking
from pgtune.collate import Batch, Collator
from pgtune.data import Examples
from pgtune.errors import DataError, TrainingError
from pgtune.forward import SuffixLossModel
from pgtune.job import Job, RowCollator
from pgtune.progress import Progress, say
from pgtune.run_folder import append_row, read_rows
from pgtune.schedule import dropout_seed, learning_rate_factor, micro_batches


def run_steps(
    job: Job, trained: dict[str, Any], optimizer: torch.optim.AdamW, tracker: tracking.Tracker, done: int
) -> int:
    """Steps `done` to the end; the number of steps that were done in all."""
    recipe, accelerator, folder = job.recipe.train, job.accelerator, job.folder
    if _plateaued(job):
        return done
    module: Any = SuffixLossModel(job.loaded.model, job.loaded.paligemma, job.loaded.attention, recipe.label_smoothing)
    ranks, rank = accelerator.num_processes, accelerator.process_index
    if ranks > 1:
        module = accelerator.prepare(module)
    loader = DataLoader(
        job.rows,
        batch_sampler=micro_batches(
            job.recipe.seed,
            range(done, job.steps),
            len(job.rows),
            recipe.batch_size,
            recipe.gradient_accumulation_steps,
            rank,
            ranks,
        ),
        collate_fn=RowCollator(job.collator),
        num_workers=recipe.num_workers,
        multiprocessing_context="spawn" if recipe.num_workers else None,
        persistent_workers=recipe.num_workers > 0,
    )
    batches = iter(loader)
    job.loaded.model.train()
    with Progress(job.steps, "train", done=done, shown=job.main) as progress:
        for step in range(done, job.steps):
            began = time.monotonic()
            micro = [_whole(next(batches)).to(accelerator.device) for _ in range(recipe.gradient_accumulation_steps)]
            loss, norm, rate = _step(job, module, optimizer, trained, micro, step)
            if job.main:
                row = {
                    "step": step + 1,
                    "loss": loss,
                    "learning_rate": rate,
                    "grad_norm": norm,
                    "epoch": (step + 1) * job.effective_batch / len(job.rows),
                    "seconds": time.monotonic() - began,
                }
                append_row(folder.log, row)
                tracker.log(step + 1, {k: v for k, v in row.items() if k != "step"})
            progress.advance(loss=loss)
            last = step + 1 == job.steps
            look = recipe.eval_steps is not None and ((step + 1) % recipe.eval_steps == 0 or last)
            due = last or (recipe.save_steps is not None and (step + 1) % recipe.save_steps == 0)
            if look or due:
                _check_weights(trained, step + 1)
            if look:
                _validate(job, module, trained, tracker, step + 1)
            if due and job.main:
                target = checkpoint.step_folder(folder.checkpoints, step + 1)
                checkpoint.save(target, step + 1, trained, optimizer)
                checkpoint.prune(folder.checkpoints, recipe.keep_checkpoints)
            if look and _plateaued(job):
                say(f"stopped early after step {step + 1}: {recipe.patience} looks at validation without a better one")
                return step + 1
    return job.steps


def _whole(batch: Batch | DataError) -> Batch:
    if isinstance(batch, DataError):
        raise batch
    return batch


def _step(
    job: Job, module: Any, optimizer: torch.optim.AdamW, trained: dict[str, Any], micro: list[Batch], step: int
) -> tuple[float, float, float]:
    """One optimiser step: summed over the effective batch first, divided once. Loss, gradient norm, learning rate."""
    recipe, accelerator = job.recipe.train, job.accelerator
    by_example = recipe.loss_reduction == "example"
    count = torch.tensor(
        float(sum(len(b.labels) if by_example else b.supervised_tokens for b in micro)), device=accelerator.device
    )
    denominator = accelerator.reduce(count, "sum")
    rate = job.recipe.resolved_learning_rate * learning_rate_factor(
        step, job.steps, recipe.schedule, recipe.warmup_ratio
    )
    for group in optimizer.param_groups:
        group["lr"] = rate
    total = torch.zeros((), dtype=torch.float64, device="cpu")
    for number, batch in enumerate(micro):
        # Dropout is a function of the step, not of what ran before it: a resumed run draws the same.
        torch.manual_seed(dropout_seed(job.recipe.seed, step, number, accelerator.process_index))
        last = number + 1 == len(micro)
        with nullcontext() if last else accelerator.no_sync(module):
            with job.loaded.autocast():
                loss = module(batch)
                summed = loss.example_sum() if by_example else loss.token_sum()
            # Gradients are averaged over processes afterwards, so each rank counts for all of them.
            accelerator.backward(summed / denominator * accelerator.num_processes)
        total += summed.detach().cpu().double()
    value = (
        float(accelerator.reduce(total.float().to(accelerator.device), "sum") / denominator)
        if (accelerator.num_processes > 1)
        else float(total / denominator.cpu().double())
    )
    parameters = list(trained.values())
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm or math.inf))
    if not (math.isfinite(value) and math.isfinite(norm)):
        raise TrainingError(
            f"step {step + 1}: the loss is {value} and the gradient norm {norm}; the weights were left as they were "
            "before it. What helps: a smaller train.learning_rate "
            f"(now {job.recipe.resolved_learning_rate:g}), model.dtype=float32"
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return value, norm, rate


def _check_weights(trained: dict[str, Any], step: int) -> None:
    """A step whose loss was finite may still have broken the weights; what is kept must be whole."""
    for name, parameter in trained.items():
        if not bool(torch.isfinite(parameter).all()):
            raise TrainingError(
                f"step {step}: {name} is no longer finite; nothing of it was kept. What helps: a smaller "
                "train.learning_rate or train.weight_decay, a larger train.epsilon"
            )


def _validate(job: Job, module: Any, trained: dict[str, Any], tracker: tracking.Tracker, step: int) -> None:
    recipe, accelerator = job.recipe, job.accelerator
    assert job.validation is not None, "eval_steps without data.validation is refused by the schema"
    model = accelerator.unwrap_model(module)
    scores = evaluate_split(job, job.validation, "validate")  # first: it names the row of a bad picture
    with job.loaded.autocast():
        loss = evaluation.mean_loss(
            model,
            Collator(job.loaded.processor),
            job.validation,
            accelerator.device,
            batch_size=recipe.train.batch_size,
            reduction=recipe.train.loss_reduction,
        )
    job.loaded.model.train()
    if job.main:
        _log_validation(job, trained, tracker, {"step": step, "loss": loss, **scores.values})
    accelerator.wait_for_everyone()  # the others read the log that the first one writes


def _log_validation(job: Job, trained: dict[str, Any], tracker: tracking.Tracker, row: dict[str, Any]) -> None:
    append_row(job.folder.validation_log, row)
    tracker.log(row["step"], {f"validation/{name}": value for name, value in row.items() if name != "step"})
    shown = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "step")
    say(f"validation after step {row['step']}: {shown}")
    if job.recipe.train.best_metric is not None and _looks_since_best(job) == 0:
        checkpoint.save(job.folder.checkpoints / "best", row["step"], trained, None, validation=row)


def _looks_since_best(job: Job) -> int:
    """Looks at validation since the best one; a function of validation.jsonl alone, so a resumed run agrees."""
    metric = job.recipe.train.best_metric
    values = [row[metric] for row in read_rows(job.folder.validation_log)] if metric else []
    if not values:
        return 0
    sign = -1 if metric == "loss" or not metrics.load_metric(str(metric)).higher_is_better else 1
    best = max(range(len(values)), key=lambda index: (sign * values[index], -index))
    return len(values) - 1 - best


def _plateaued(job: Job) -> bool:
    patience = job.recipe.train.patience
    return patience is not None and _looks_since_best(job) >= patience


def evaluate_split(job: Job, examples: Examples, label: str) -> scoring.Evaluation:
    """Score the job's model as it stands; each process decodes its share."""
    return evaluation.evaluate_examples(
        job.loaded,
        Collator(job.loaded.processor),
        examples,
        job.recipe.eval,
        batch_size=evaluation.batch_size_for(job.recipe),
        label=label,
        rank=job.accelerator.process_index,
        ranks=job.accelerator.num_processes,
    )
