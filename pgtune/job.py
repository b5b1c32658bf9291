"""A job: data opened, model loaded and made trainable, first batch tested; all before anything is written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from pgtune import evaluation, tracking
from pgtune.collate import Batch, Collator
from pgtune.data import Examples, open_source
from pgtune.errors import DataError
from pgtune.example import Example, load_adapter
from pgtune.methods import prepare
from pgtune.model import Loaded, choose_mixed_precision, load_base
from pgtune.parts import is_kernel
from pgtune.probes import check_first_batch
from pgtune.progress import say
from pgtune.recipe import Recipe, Source
from pgtune.run_folder import RunFolder
from pgtune.schedule import step_indices, total_steps


class RowCollator:
    """The collator for a DataLoader: takes (where, example) pairs and hands a bad row back as a value.

    An exception raised in a worker process arrives with its traceback as its message; a value arrives as it is.
    """

    def __init__(self, collator: Collator) -> None:
        self.collator = collator

    def __call__(self, items: list[tuple[str, Example]]) -> Batch | DataError:
        try:
            return self.collator([example for _, example in items])
        except DataError as error:
            for where, example in items:
                try:
                    self.collator([example])
                except DataError as own:
                    return DataError(f"{where}: {own}")
            return error


class Rows(torch.utils.data.Dataset[tuple[str, Example]]):
    """The training examples that fit, each with the place it came from."""

    def __init__(self, examples: Examples, kept: list[int]) -> None:
        self.examples, self.kept = examples, kept

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> tuple[str, Example]:
        return self.examples.where(self.kept[index]), self.examples[self.kept[index]]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the texts that are learnt from, in their order: not of pictures, so that one may be mended."""
        texts = [(self.examples[index].prefix, self.examples[index].suffix) for index in self.kept]
        return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


@dataclass
class Job:
    """All that one training works with."""

    recipe: Recipe
    accelerator: Accelerator
    folder: RunFolder
    loaded: Loaded
    collator: Collator
    rows: Rows
    validation: Examples | None
    test: Examples | None
    steps: int
    effective_batch: int

    @property
    def main(self) -> bool:
        """Only the first process writes."""
        return bool(self.accelerator.is_main_process)


def open_job(recipe: Recipe, folder: RunFolder) -> Job:
    """Data first, then the model: what is wrong with a row shows before gigabytes are loaded."""
    full = recipe.lora is None
    tracking.check(recipe)
    # Said outright, so that what `accelerate config` left in the environment changes nothing of the recipe.
    accelerator = Accelerator(mixed_precision="no", gradient_accumulation_steps=1)
    adapter = load_adapter(recipe.data.adapter, recipe.data.adapter_args)

    def opened(source: Source | None) -> Examples | None:
        if source is None:
            return None
        return open_source(source, adapter, root=recipe.data.root, verify=recipe.data.verify_images)

    train_set, validation, test = (opened(s) for s in (recipe.data.train, recipe.data.validation, recipe.data.test))
    assert train_set is not None
    loaded = load_base(recipe.model, full=full, device=accelerator.device)
    collator = Collator(loaded.processor, recipe.data.max_text_tokens, recipe.data.too_long)
    kept = _fitting(train_set, collator, loaded.paligemma.config.get_text_config().max_position_embeddings)
    for scored in (validation, test):
        if scored is not None:
            evaluation.trivial(scored, recipe.eval)  # a metric that these references do not suit shows now
    prepare(
        loaded,
        recipe.lora,
        recipe.model.trainable,
        seed=recipe.seed,
        gradient_checkpointing=recipe.train.gradient_checkpointing,
    )
    loaded.mixed_precision = choose_mixed_precision(recipe.train.mixed_precision, loaded)
    effective = recipe.train.batch_size * recipe.train.gradient_accumulation_steps * accelerator.num_processes
    steps = total_steps(len(kept), effective, recipe.train.epochs, recipe.train.max_steps)
    job = Job(recipe, accelerator, folder, loaded, collator, Rows(train_set, kept), validation, test, steps, effective)
    if job.main:
        say(loaded.summary())
        say(
            f"data       {len(kept)} to train on"
            + (f" ({len(train_set) - len(kept)} too long, left out)" if len(kept) < len(train_set) else "")
            + (f", {len(validation)} to validate" if validation else "")
            + (f", {len(test)} to test" if test else "")
            + f"; {steps} steps of {effective}, learning rate {recipe.resolved_learning_rate:g}"
        )
    first = RowCollator(collator)([job.rows[i] for i in step_indices(recipe.seed, 0, len(kept), effective)[:2]])
    if isinstance(first, DataError):
        raise first
    with loaded.autocast():
        probe = check_first_batch(loaded.paligemma, first.to(accelerator.device), loaded.attention)
    if job.main:
        moved = f"moved by {probe.leak:.2g}, a prefix token moves {probe.prefix_effect:.2g}"
        say(f"first batch no suffix token is seen early ({moved})")
    return job


def _fitting(examples: Examples, collator: Collator, positions: int) -> list[int]:
    """The examples whose text fits; the others are an error that names the row, or are left out."""
    kept = []
    for index in range(len(examples)):
        try:
            layout = collator.layout(examples[index])
            if layout is None:
                continue
            if len(layout.input_ids) > positions:
                raise DataError(
                    f"{layout.image_tokens} image tokens and {len(layout.input_ids) - layout.image_tokens} of text are "
                    f"more than the {positions} that the model can read; see data.max_text_tokens"
                )
            kept.append(index)
        except DataError as error:
            raise DataError(f"{examples.where(index)}: {error}") from error
    if not kept:
        raise DataError(f"{examples.name}: every example is longer than data.max_text_tokens; none is left to train on")
    return kept


def new_optimizer(job: Job) -> torch.optim.AdamW:
    """AdamW over what is trained; weight decay on SigLIP and projector kernels alone."""
    recipe = job.recipe.train
    decayed: list[torch.nn.Parameter] = []
    plain: list[torch.nn.Parameter] = []
    for name, parameter in job.loaded.trainable():
        (decayed if is_kernel(name.removeprefix("base_model.model."), parameter.ndim) else plain).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=job.recipe.resolved_learning_rate,
        betas=(recipe.beta1, recipe.beta2),
        eps=recipe.epsilon,
    )
