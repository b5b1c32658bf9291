"""Scoring: decode every example, compare with its references, write rows a person can look at."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from pgtune import detection, metrics
from pgtune.collate import Collator
from pgtune.data import Examples, check_text, open_source
from pgtune.errors import DataError, RunError
from pgtune.example import Example, load_adapter
from pgtune.generation import Prompt, generate
from pgtune.images import open_image
from pgtune.loading import load_run, locate_run
from pgtune.metrics.show import summary
from pgtune.model import Loaded, enough_memory
from pgtune.picture import SheetRow, contact_sheet
from pgtune.progress import Progress, first_process, say
from pgtune.ranks import gathered, join, together, wait_for_all
from pgtune.recipe import EvalSettings, Recipe, Source
from pgtune.scoring import Evaluation, documents, labels_of, trivial
from pgtune.splits import open_splits
from pgtune.writing import json_line, write_folder, write_json, write_text

SHEET_ROWS = 24


class _Decoded(NamedTuple):
    """What one example gave: its place among the examples, and the answer."""

    place: int
    text: str
    mean_log_probability: float
    boxes: dict[str, Any]
    """What was read from it and the picture's size, where the prefix asks for boxes."""


def evaluate_examples(
    loaded: Loaded,
    collator: Collator,
    examples: Examples,
    settings: EvalSettings,
    *,
    batch_size: int,
    label: str,
    rank: int = 0,
    ranks: int = 1,
) -> Evaluation:
    """Decode and score; with several processes each decodes its share and all get the whole.

    Raises:
        DataError: a picture cannot be opened; names the row.
    """
    count = min(len(examples), settings.limit or len(examples))
    mine: Sequence[int] = range(rank, count, ranks)
    if loaded.root is not None:  # of sharded weights all ranks must make equal use: some answer one example twice
        mine = [min(turn * ranks + rank, count - 1) for turn in range(-(-count // ranks))]
    was_training = loaded.model.training
    loaded.model.eval()
    found: list[_Decoded] = []

    def name_row(index: int, error: DataError) -> None:
        raise DataError(f"{examples.where(mine[index])}: {error}") from error

    prompts = [Prompt(examples[index].images, examples[index].prefix) for index in mine]
    if loaded.root is not None:
        with together():  # before they begin: none can leave the others while they decode
            _check_prompts(collator, prompts, name_row)
    shared = together() if loaded.root is None else nullcontext()
    with shared, Progress(len(mine), label, shown=rank == 0) as progress:
        for index, answer in generate(
            loaded,
            collator,
            prompts,
            max_new_tokens=settings.max_new_tokens,
            batch_size=batch_size,
            num_beams=settings.num_beams,
            on_error=name_row,
        ):
            boxes: dict[str, Any] = {}
            if detection.asks_for_boxes(prompts[index].prefix):
                boxes = detection.read(answer, loaded.processor.tokenizer, answer.size).row
                boxes |= {"size": answer.size} if answer.size else {}
            found.append(_Decoded(mine[index], answer.text, answer.mean_log_probability, boxes))
            progress.advance()
    loaded.model.train(was_training)
    found = list({decoded.place: decoded for decoded in gathered(found)}.values())
    found.sort(key=lambda decoded: decoded.place)
    labels = labels_of(examples, (decoded.place for decoded in found))
    scores = {
        name: metrics.compute(
            name,
            [decoded.text for decoded in found],
            [examples[decoded.place].references for decoded in found],
            **labels._asdict(),
            boxes=[decoded.boxes.get("boxes") for decoded in found],
            sizes=[decoded.boxes.get("size") for decoded in found],
            confidence=settings.confidence,
            where=lambda position: examples.where(found[position].place),
        )
        for name in settings.metrics
    }
    rows = []
    for position, decoded in enumerate(found):
        example = examples[decoded.place]
        rows.append({
            "image": _image_field(example),
            "prefix": example.prefix,
            "prediction": decoded.text,
            "references": list(example.references),
            "metadata": dict(example.metadata),
            **({"part": example.part} if example.part else {}),
            **({"question_type": example.question_type} if example.question_type else {}),
            "cluster": labels.clusters[position],
            **decoded.boxes,
            "mean_log_probability": decoded.mean_log_probability,
            "scores": {
                name: score.per_example[position] for name, score in scores.items() if score.per_example is not None
            },
            "where": examples.where(decoded.place),
        })  # fmt: skip
    return Evaluation(scores, rows)


def _check_prompts(
    collator: Collator, prompts: Sequence[Prompt], on_error: Callable[[int, DataError], None]
) -> None:
    for index, prompt in enumerate(prompts):
        try:
            check_text("prefix", prompt.prefix)
            collator.check_locations(prompt.prefix)
            for image in prompt.images:
                open_image(image)
        except DataError as error:
            on_error(index, error)


def _image_field(example: Example) -> Any:
    paths = [str(Path(image).resolve()) if isinstance(image, str) else None for image in example.images]
    return paths[0] if len(paths) == 1 else paths


def write_predictions(
    folder: Path,
    evaluation: Evaluation,
    examples: Examples,
    *,
    title: str,
    before: Evaluation | None = None,
    home: Path | None = None,
) -> None:
    """`predictions.jsonl`, the pictures that lie in no file, and `predictions.png`.

    Args:
        home: where `folder` will lie when it is complete, if it is written aside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    earlier = {row["where"]: row["prediction"] for row in before.rows} if before else {}
    for number, row in enumerate(evaluation.rows):
        row.update({"before": earlier[row["where"]]} if row["where"] in earlier else {})
        row["image"] = _existing(row["image"], examples[number], folder, home or folder, number)
    write_text(folder / "predictions.jsonl", "".join(map(json_line, evaluation.rows)))
    metric = next(iter(evaluation.scores))
    chosen = range(0, len(evaluation.rows), max(1, -(-len(evaluation.rows) // SHEET_ROWS)))
    sheet = []
    for number in chosen:
        row = evaluation.rows[number]
        score = row["scores"].get(metric)
        sheet.append(
            SheetRow(
                image=open_image(examples[number].images[0]),
                prefix=row["prefix"],
                references=tuple(row["references"]),
                prediction=row["prediction"],
                before=row.get("before"),
                correct=None if score is None else metrics.load_metric(metric).is_right(score),
            )
        )
    contact_sheet(sheet, folder / "predictions.png", title=title)


def _existing(image: Any, example: Example, folder: Path, home: Path, number: int) -> Any:
    """The row's image field with every picture in a file: those made on demand are saved beside the predictions."""

    def path(index: int, given: str | None) -> str:
        if given is not None:
            return given
        name = f"images/{number:06d}-{index}.png"
        (folder / "images").mkdir(exist_ok=True)
        picture: Image.Image = open_image(example.images[index])
        picture.save(folder / name)
        return str(home.resolve() / name)

    if isinstance(image, list):
        return [path(index, given) for index, given in enumerate(image)]
    return path(0, image)


def batch_size_for(recipe: Recipe) -> int:
    """Examples decoded at once."""
    return recipe.eval.batch_size or 4 * recipe.train.batch_size


def evaluate(
    run: Path | str,
    *,
    split: str = "test",
    source: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    batch_size: int | None = None,
    allow_code: bool = False,
) -> dict[str, Any]:
    """Score a finished run on a split of its recipe, or on another source read by the same adapter.

    Writes `evaluations/<split>/` in the run folder, of a run from the Hub `evaluations/<its name>/<split>/` in the
    working directory (with the name of another source, and `first-N`, behind it) and
    leaves the run's own files alone.

    Args:
        split: train, validation or test; the name of the split in `source` where that is given.
        source: file or folder to score on instead of the recipe's.
        limit: score only the first so many examples.
        batch_size: examples decoded at once.
        allow_code: let a pushed or merged run import the `module:attribute` that its recipe names as data adapter.

    Returns:
        metrics, confidence_intervals, trivial, trivial_answer, n, split, source, folder, warnings (what of the split
        training saw too, such as patients); and scores and trivial_scores,
        which hold the parts and question types too (`pgtune.metrics.Score.document`).

    Raises:
        RunError, DataError, ModelError: as their messages say.
    """
    folder = locate_run(run)
    recipe = folder.recipe()
    folder.check_trained()
    folder.check_imports(recipe, allow_code=allow_code)
    if source is None:
        folder.check_source(recipe, split)
    if source == "":
        raise RunError("source: expected a file or folder, not ''")
    if not re.fullmatch(r"\w[\w.+-]*", split):  # it names the folder that is written
        raise RunError(f"split: {split!r} is not the name of a split")
    if source is None and split not in recipe.data.splits:
        has = ", ".join(recipe.data.splits)
        raise RunError(f"{run}: the recipe has no data.{split}; it has {has}; or give a source of your own")
    if source is not None:
        examples = open_source(
            Source(source=os.fspath(source), split=split),
            load_adapter(recipe.data.adapter, recipe.data.adapter_args),
            root=recipe.data.root,
            limit=limit,
            verify=recipe.data.verify_images,
            max_bad_share=recipe.data.max_bad_share,
        )
    else:
        opened = open_splits(recipe, (split,), limit=limit)
        folder.check_same_split(opened.record)
        examples = opened[split]
    warnings = [] if source is not None else folder.overlaps(split)
    for warning in warnings:
        say(f"warning    {warning}")
    left_out = examples.left_out
    read = os.fspath(source) if source is not None else (getattr(recipe.data, split) or recipe.data.train).source
    ranks = join()
    with together():
        loaded = load_run(folder, recipe, device=ranks.device if ranks else None)
    settings = recipe.eval.model_copy(update={"limit": limit or recipe.eval.limit})
    collator = Collator(loaded.processor)
    size = batch_size or batch_size_for(recipe)
    with enough_memory("a smaller --batch-size"):
        evaluation = evaluate_examples(
            loaded,
            collator,
            examples,
            settings,
            batch_size=size,
            label=f"evaluate {split}",
            rank=ranks.rank if ranks else 0,
            ranks=ranks.count if ranks else 1,
        )
    answer, trivial_scores = trivial(examples, settings)
    result = {
        "metrics": evaluation.values,
        "confidence_intervals": evaluation.intervals,
        "confidence": settings.confidence,
        "trivial": {name: score.value for name, score in trivial_scores.items()},
        "trivial_answer": answer,
        "n": len(evaluation.rows),
        "split": split,
        "source": read,
        "warnings": warnings,
        "left_out": {split: left_out.document()} if left_out else {},
        "scores": evaluation.documents,
        "trivial_scores": documents(trivial_scores),
    }
    other = [re.sub(r"[^\w.-]", "_", Path(source).stem)] if source is not None else []
    name = "-".join([split, *other, *([f"first-{limit}"] if limit else [])])
    target = folder.evaluations / name
    title = f"{name}: {summary(evaluation.scores)}"

    def fill(aside: Path) -> None:
        write_predictions(aside, evaluation, examples, title=title, home=target)
        write_json(aside / "metrics.json", result)

    if first_process():
        write_folder(target, fill)
    wait_for_all()
    return {**result, "folder": str(target)}


@torch.no_grad()
def mean_loss(
    model: Any,
    collator: Collator,
    examples: Sequence[Example],
    device: torch.device,
    *,
    batch_size: int,
    reduction: str,
    rank: int = 0,
    ranks: int = 1,
) -> float:
    """The validation loss in the training's own reduction; with several processes each reads its share."""
    total = tokens = 0.0
    model.eval()
    starts = range(0, len(examples), batch_size)
    for turn in range(0, len(starts), ranks):
        mine = turn + rank < len(starts)
        start = starts[turn + rank if mine else 0]  # all ranks call the model equally often (see evaluate_examples)
        with together():
            rows = [examples[index] for index in range(start, min(start + batch_size, len(examples)))]
            batch = collator(rows).to(device)
        loss = model(batch)
        if not mine:
            continue
        if reduction == "example":
            total, tokens = total + float(loss.example_sum()), tokens + len(batch.labels)
        else:
            total, tokens = total + float(loss.token_sum()), tokens + float(loss.tokens.sum())
    sums = gathered([(total, tokens)])
    return float(sum(one for one, _ in sums) / sum(count for _, count in sums))
