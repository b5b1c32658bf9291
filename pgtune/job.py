"""A job: data opened, model loaded and made trainable, first batch tested; all before anything is written."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from pgtune import scoring, tracking
from pgtune.collate import Batch, Collator
from pgtune.compiling import choose_compile
from pgtune.data import Examples, texts_fingerprint
from pgtune.errors import DataError
from pgtune.example import Example
from pgtune.loading import start_from
from pgtune.methods import prepare
from pgtune.model import Loaded, choose_mixed_precision, load_base
from pgtune.optimizers import check_installed
from pgtune.overlaps import Finding, group_overlaps
from pgtune.planning import choose_checkpointing
from pgtune.probes import check_first_batch
from pgtune.progress import say
from pgtune.ranks import from_first, open_accelerator, together
from pgtune.recipe import Recipe
from pgtune.run_folder import RunFolder
from pgtune.schedule import micro_batches, step_indices, total_steps
from pgtune.sharding import Root, shard
from pgtune.splits import Splits, open_splits
from pgtune.strategies import Strategy, strategy_of
from pgtune.visits import Visits

_AT_ONCE = 1000


class RowCollator:
    """The collator for a DataLoader: takes (where, example) pairs and hands a bad row back as a value.

    An exception raised in a worker process arrives with its traceback as its message; a value arrives as it is.
    """

    def __init__(self, collator: Collator) -> None:
        self.collator = collator

    def __call__(self, items: list[tuple[str, Example | DataError]]) -> Batch | DataError:
        examples = []
        for where, example in items:
            if isinstance(example, DataError):
                return DataError(f"{where}: {example}")
            examples.append(example)
        try:
            return self.collator(examples)
        except DataError as error:
            for (where, _), example in zip(items, examples, strict=True):
                try:
                    self.collator([example])
                except DataError as own:
                    return DataError(f"{where}: {own}")
            return error


class Rows(torch.utils.data.Dataset[tuple[str, Example | DataError]]):
    """The training examples that fit, each with the place it came from; asked for by visit (`schedule.step_visits`)."""

    def __init__(self, examples: Examples, visits: Visits) -> None:
        self.examples, self.visits = examples, visits

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, visit: int) -> tuple[str, Example | DataError]:
        epoch, index = divmod(visit, len(self.examples))
        where, example = self.examples.at(index)
        return where, self.visits.shown(example, index, epoch)

    @property
    def fingerprint(self) -> str:
        """Of the texts that are learnt from (`texts_fingerprint`)."""
        return texts_fingerprint(self.examples, references=self.visits.cycle)


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
    splits: Splits
    overlaps: list[Finding]
    steps: int
    effective_batch: int
    strategy: Strategy
    gradient_checkpointing: bool | int
    """As decided for this machine."""
    root: Root
    """What is called in a step, or wrapped for several processes and called then."""

    @property
    def main(self) -> bool:
        """Only the first process writes."""
        return bool(self.accelerator.is_main_process)

    def micro_batches(self, steps: range) -> Iterator[list[int]]:
        """The visits that this process reads in batches in these steps."""
        train = self.recipe.train
        return micro_batches(
            self.recipe.seed,
            steps,
            len(self.rows),
            train.batch_size,
            train.gradient_accumulation_steps,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )


def open_job(recipe: Recipe, folder: RunFolder) -> Job:
    """Data first, then the model: what is wrong with a row shows before gigabytes are loaded.

    Raises:
        PgtuneError: on all ranks, where it is wrong on one.
    """
    accelerator = open_accelerator()
    again, why = from_first(choose_checkpointing(recipe, accelerator.num_processes))
    with together():
        job, first = _opened(recipe, folder, accelerator, again)
    if job.main and why:
        say(f"memory     {why}")
    if job.strategy == "fsdp":
        shard(job.root, accelerator.device)
        job.loaded.root = job.root
    with job.loaded.autocast():
        probe = job.loaded.run(
            check_first_batch, job.loaded.paligemma, first.to(accelerator.device), job.loaded.attention
        )
    moved = f"moved by {probe.leak:.2g}, a prefix token moves {probe.prefix_effect:.2g}"
    say(f"first batch no suffix token is seen early ({moved})")
    return job


def _opened(
    recipe: Recipe, folder: RunFolder, accelerator: Accelerator, gradient_checkpointing: bool | int
) -> tuple[Job, Batch]:
    """The job and its first examples; no rank waits for another in it."""
    full = recipe.lora is None
    strategy = strategy_of(
        recipe.train.strategy,
        full=full,
        ranks=accelerator.num_processes,
        quantization=recipe.model.quantization,
        optimizer=recipe.train.optimizer,
    )
    tracking.check(recipe)
    check_installed(recipe.train.optimizer)
    splits = open_splits(recipe)
    overlaps = group_overlaps(splits)
    train_set, validation, test = splits["train"], splits.get("validation"), splits.get("test")
    loaded = load_base(recipe.model, full=full, device=accelerator.device, stay_on_cpu=strategy == "fsdp")
    collator = Collator(loaded.processor, recipe.data.max_text_tokens, recipe.data.too_long)
    positions = loaded.paligemma.config.get_text_config().max_position_embeddings
    visits = Visits(recipe)
    kept = _fitting(train_set, collator, positions, visits)
    for scored in (validation, test):
        if scored is not None:
            scoring.trivial(scored, recipe.eval)  # a metric that these references do not suit shows now
    prepare(
        loaded,
        recipe.lora,
        recipe.model.trainable,
        seed=recipe.seed,
        gradient_checkpointing=gradient_checkpointing,
        llm_dropout=recipe.model.llm_dropout,
    )
    loaded.mixed_precision = choose_mixed_precision(recipe.train.mixed_precision, loaded)
    if recipe.model.adapter is not None:
        start_from(loaded, recipe)
    loaded.compile, loaded.compile_note = choose_compile(recipe.train.compile, loaded)
    effective = recipe.train.batch_size * recipe.train.gradient_accumulation_steps * accelerator.num_processes
    steps = total_steps(len(kept), effective, recipe.train.epochs, recipe.train.max_steps)
    rows = Rows(kept, visits)
    job = Job(
        recipe,
        accelerator,
        folder,
        loaded,
        collator,
        rows,
        validation,
        test,
        splits,
        overlaps,
        steps,
        effective,
        strategy,
        gradient_checkpointing,
        Root(loaded.model, loaded.paligemma, loaded.attention, recipe.train.label_smoothing),
    )
    if job.main:
        for overlap in overlaps:
            say(f"warning    {overlap.words()}")
        say(loaded.summary())
        for line in visits.notes():
            say(line)
        for line in splits.summary():
            say(f"left out   {line}")
        if splits.record:
            say(f"cut        {splits.cut_summary()}")
        say(
            f"data       {len(kept)} to train on"
            + (f" ({len(train_set) - len(kept)} too long, left out)" if len(kept) < len(train_set) else "")
            + (f", {len(validation)} to validate" if validation else "")
            + (f", {len(test)} to test" if test else "")
            + f"; {steps} steps of {effective}, learning rate {recipe.rates_in_words}"
        )
        if accelerator.num_processes > 1:
            say(f"processes  {accelerator.num_processes} on {accelerator.device.type}, {strategy}")
    first = RowCollator(collator)([job.rows[i] for i in step_indices(recipe.seed, 0, len(kept), effective)[:2]])
    if isinstance(first, DataError):
        raise first
    return job, first


def _fitting(examples: Examples, collator: Collator, positions: int, visits: Visits) -> Examples:
    """The examples whose text fits, whatever they will show; the others are an error or left out."""
    kept = array("q")
    tokenizer = collator.processor.tokenizer

    def lengths(texts: list[str]) -> list[int]:
        distinct = list(dict.fromkeys(texts))  # prefixes are often the same
        ids = tokenizer(distinct, add_special_tokens=False)["input_ids"]
        found = dict(zip(distinct, map(len, ids), strict=True))
        return [found[text] for text in texts]

    for start in range(0, len(examples), _AT_ONCE):
        batch = examples[start : start + _AT_ONCE]
        variants = []
        for index, example in enumerate(batch):
            try:
                variants += [(index, variant) for variant in visits.learnt(example)]
            except DataError as error:
                raise DataError(f"{batch.where(index)}: {error}") from error
        prefixes = lengths([variant.prefix for _, variant in variants])
        suffixes = lengths([variant.suffix for _, variant in variants])
        too_long: set[int] = set()
        for (index, variant), prefix, suffix in zip(variants, prefixes, suffixes, strict=True):
            text = prefix + suffix + 3  # <bos>, separator, <eos>
            limit = text if collator.max_text_tokens is None else collator.max_text_tokens
            try:
                collator.check_locations(variant.prefix + variant.suffix)
                if text <= limit and text + len(variant.images) * collator.tokens_per_image <= positions:
                    continue  # as nearly all do: a layout is made only of those that may not fit
                if not _fits(variant, collator, positions):
                    too_long.add(index)
            except DataError as error:
                raise DataError(f"{batch.where(index)}: {error}") from error
        kept.extend(start + index for index in range(len(batch)) if index not in too_long)
    if not kept:
        raise DataError(f"{examples.name}: every example is longer than data.max_text_tokens; none is left to train on")
    return examples if len(kept) == len(examples) else examples.select(kept)


def _fits(example: Example, collator: Collator, positions: int) -> bool:
    layout = collator.layout(example)
    if layout is None:
        return False
    if len(layout.input_ids) > positions:
        raise DataError(
            f"{layout.image_tokens} image tokens and {len(layout.input_ids) - layout.image_tokens} of text are "
            f"more than the {positions} that the model can read; see data.max_text_tokens"
        )
    return True
