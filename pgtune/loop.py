"""The steps: which micro-batches, which gradient, what is logged, looked at and kept. Read it top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.utils.data import DataLoader

from pgtune import checkpoint, evaluation, metrics, scoring, tracking
from pgtune.collate import Batch, Collator
from pgtune.compiling import compiled, uncompiled
from pgtune.data import Examples
from pgtune.errors import DataError, TrainingError
from pgtune.feeding import Feed
from pgtune.job import Job, RowCollator
from pgtune.keeping import Keeper
from pgtune.optimizers import set_learning_rates
from pgtune.progress import Progress, say
from pgtune.ranks import everywhere, from_first, together
from pgtune.schedule import dropout_seed, learning_rate_factor, step_indices
from pgtune.sharding import clip_gradients, let_go
from pgtune.stopping import StopRequest
from pgtune.writing import append_row, read_rows


def run_steps(
    job: Job,
    trained: dict[str, Any],
    optimizer: torch.optim.Optimizer,
    tracker: tracking.Tracker,
    done: int,
    stop: StopRequest,
) -> int:
    """Steps `done` to the end; the number of steps that were done in all."""
    keeper = Keeper(job, trained, optimizer, done)
    recipe, accelerator, folder = job.recipe.train, job.accelerator, job.folder
    if _plateaued(job):
        return done
    ranks = accelerator.num_processes
    loader = DataLoader(
        job.rows,
        batch_sampler=job.micro_batches(range(done, job.steps)),
        collate_fn=RowCollator(job.collator),
        num_workers=recipe.num_workers,
        multiprocessing_context="spawn" if recipe.num_workers else None,
    )
    if done and _look_due(job, done) and not _looked(job, done):  # stopped before or in it
        _keep_look(job, trained, tracker, _look(job, done))
        if _plateaued(job):
            return done
    job.loaded.model.train()
    reading = (DataError, TrainingError, KeyboardInterrupt)
    with (
        stop.deferred(),
        _compiled(job),
        Feed(loader, stop) as feed,
        Progress(job.steps, "train", done=done, shown=job.main) as progress,
    ):
        module: Any = accelerator.prepare(job.root) if job.strategy == "ddp" else job.root
        for step in range(done, job.steps):
            began = time.monotonic()
            with keeper.on_end_by(step, *reading), together():
                micro = [feed.take().to(accelerator.device) for _ in range(recipe.gradient_accumulation_steps)]
            loss, norm, rate, leave = _step(job, module, optimizer, keeper, micro, step, stop)
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
            look = _look_due(job, step + 1)
            leave = stop.asked if ranks == 1 else leave  # several leave after the same step
            if leave or step + 1 == job.steps or (recipe.save_steps and (step + 1) % recipe.save_steps == 0):
                keeper.save(step + 1)
            if leave:
                raise everywhere(stop.error(step + 1))
            if look:
                keeper.check(step + 1)
                ends = nullcontext() if ranks > 1 else stop.at_once()
                with keeper.on_end_by(step + 1, *reading), ends, uncompiled():
                    found = _look(job, step + 1)
                _keep_look(job, trained, tracker, found)
            if look and _plateaued(job):
                keeper.save(step + 1)
                looks = f"{recipe.patience} look{'s' if recipe.patience != 1 else ''}"
                say(f"stopped early after step {step + 1}: {looks} at validation without a better one")
                return step + 1
    return job.steps


@contextmanager
def _compiled(job: Job) -> Iterator[None]:
    """The layers compiled, where the recipe and the machine allow it: by the first micro-batch of step 0, always."""
    recipe = job.recipe.train
    if not job.loaded.compile:
        yield
        return
    with together():
        first = RowCollator(job.collator)([job.rows[visit] for visit in next(job.micro_batches(range(1)))])
        if isinstance(first, DataError):
            raise first
    first = first.to(job.accelerator.device)
    say("compile    the layers of the language model: takes seconds to minutes, and goes on by itself")
    with compiled(job.loaded, job.root, first, deterministic=recipe.deterministic) as said:
        say(said)
        yield


def _look_due(job: Job, step: int) -> bool:
    every = job.recipe.train.eval_steps
    return every is not None and (step % every == 0 or step == job.steps)


def looks_due(job: Job, done: int) -> list[int]:
    """The steps up to `done` after which there is a look at validation."""
    return [step for step in range(1, done + 1) if _look_due(job, step)]


def _looked(job: Job, step: int) -> bool:
    return any(row["step"] == step for row in _looks(job))


def _looks(job: Job) -> list[dict[str, Any]]:
    """The rows of validation.jsonl as the first process sees them: a network drive may show others an older file."""
    return list(from_first(read_rows(job.folder.validation_log) if job.main else None))


def _step(
    job: Job,
    module: Any,
    optimizer: torch.optim.Optimizer,
    keeper: Keeper,
    micro: list[Batch],
    step: int,
    stop: StopRequest,
) -> tuple[float, float, float, bool]:
    """One optimiser step: summed over the effective batch first, divided once.

    Returns:
        Loss, gradient norm, learning rate, and whether a process was asked to stop.
    """
    recipe, accelerator = job.recipe.train, job.accelerator
    by_example = recipe.loss_reduction == "example"
    count = torch.tensor(
        float(sum(len(b.labels) if by_example else b.supervised_tokens for b in micro)), device=accelerator.device
    )
    denominator = accelerator.reduce(count, "sum")
    factor = learning_rate_factor(step, job.steps, recipe.schedule, recipe.warmup_ratio)
    set_learning_rates(optimizer, factor)
    rate = job.recipe.resolved_learning_rate * factor
    total = torch.zeros((), dtype=torch.float64, device="cpu")
    seen: list[torch.Tensor] = []
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
        seen.append(loss.total.detach())
    value, leave = float(total / denominator.cpu().double()), stop.asked
    if accelerator.num_processes > 1:
        sums = torch.stack([total.float(), torch.tensor(float(leave))]).to(accelerator.device)
        summed_loss, asked = accelerator.reduce(sums, "sum")
        value, leave = float(summed_loss / denominator), bool(asked > 0)
    norm = clip_gradients(keeper.trained.values(), recipe.max_grad_norm or math.inf)
    if not (math.isfinite(value) and math.isfinite(norm)):
        raise everywhere(TrainingError(
            f"step {step + 1}: the loss is {value} and the gradient norm {norm}; the weights were left as they were "
            f"before it, and {keeper.rescue(step)}. Its rows: {_named(job, step, torch.cat(seen))}. What helps: a look "
            f"at these pictures, then {stop.command}; or a new run with a smaller train.learning_rate "
            f"(now {job.recipe.resolved_learning_rate:g})" + _in_float32(job)
        ))  # fmt: skip
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return value, norm, rate, leave


def _in_float32(job: Job) -> str:
    already = job.loaded.dtype is torch.float32 and not job.loaded.mixed_precision
    return "" if already else " or in float32 (model.dtype)"


def _named(job: Job, step: int, losses: torch.Tensor) -> str:
    """Where the examples of a step come from, on all processes; of this one's `losses`, those that are not finite."""
    order = step_indices(job.recipe.seed, step, len(job.rows), job.effective_batch)
    rows = [job.rows.examples.where(index) for index in order]
    mine = rows[job.accelerator.process_index * len(losses) :]
    broken = [row for row, whole in zip(mine, torch.isfinite(losses).tolist(), strict=False) if not whole]
    return ", ".join(rows) + (f" (not finite in {', '.join(broken)})" if broken else "")


def _look(job: Job, step: int) -> dict[str, Any]:
    """Loss and scores on the validation split."""
    recipe, accelerator = job.recipe, job.accelerator
    assert job.validation is not None, "eval_steps without data.validation is refused by the schema"
    scores = evaluate_split(job, job.validation, "validate")  # first: it names the row of a bad picture
    with job.loaded.autocast():
        loss = evaluation.mean_loss(
            job.root,
            Collator(job.loaded.processor),
            job.validation,
            accelerator.device,
            batch_size=recipe.train.batch_size,
            reduction=recipe.train.loss_reduction,
            rank=accelerator.process_index,
            ranks=accelerator.num_processes,
        )
    let_go(job.root)
    job.loaded.model.train()
    return {"step": step, "loss": loss, **scores.values}


def _keep_look(job: Job, trained: dict[str, Any], tracker: tracking.Tracker, row: dict[str, Any]) -> None:
    """Write it down, and where it is the best one the weights too.

    Raises:
        TrainingError: the loss is not finite, and neither would be what is learnt from here.
    """
    step, metric, folder = row["step"], job.recipe.train.best_metric, job.folder
    if not math.isfinite(row["loss"]):
        raise everywhere(TrainingError(
            f"step {step}: the loss on data.validation is {row['loss']}: nothing more is learnt from here. What helps: "
            f"a new run with a smaller train.learning_rate (now {job.recipe.resolved_learning_rate:g})"
        ))  # fmt: skip
    if metric is not None and from_first(_since_best(metric, [*_looks(job), row])) == 0:
        # Before the row: a run that is killed in between looks again.
        best = folder.checkpoints / checkpoint.BEST
        checkpoint.save(best, step, trained, None, folder.identity(), main=job.main, validation=row)
    if job.main:
        append_row(folder.validation_log, row)
    tracker.log(step, {f"validation/{name}": value for name, value in row.items() if name != "step"})
    say(f"validation after step {step}: {', '.join(f'{k} {v:.4g}' for k, v in row.items() if k != 'step')}")
    job.accelerator.wait_for_everyone()  # the others read the log that the first one writes


def _since_best(metric: str, looks: list[dict[str, Any]]) -> int:
    """Looks at validation since the best one; a function of validation.jsonl alone, so a resumed run agrees."""
    values = [row[metric] for row in looks]
    sign = -1 if metric == "loss" or not metrics.load_metric(metric).higher_is_better else 1
    best = max(range(len(values)), key=lambda index: (sign * values[index], -index))
    return len(values) - 1 - best


def _plateaued(job: Job) -> bool:
    metric, patience = job.recipe.train.best_metric, job.recipe.train.patience
    looks = _looks(job) if metric and patience is not None else []
    return bool(looks) and _since_best(str(metric), looks) >= int(patience or 0)


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
