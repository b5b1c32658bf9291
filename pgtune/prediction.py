"""`pgtune predict`: answers for one picture, or for many, going on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pgtune import detection
from pgtune.collate import Collator
from pgtune.errors import DataError, RecipeError
from pgtune.example import load_adapter
from pgtune.generation import Answer, Prompt, generate
from pgtune.loading import load_run, locate_run
from pgtune.model import Loaded, enough_memory
from pgtune.prediction_files import ANSWER, Export, Target, key_of
from pgtune.prediction_inputs import Asked, from_images, from_input
from pgtune.progress import Progress, first_process, say
from pgtune.ranks import Ranks, everywhere, from_all, from_first, join, together
from pgtune.recipe import Recipe
from pgtune.writing import append_row, json_line, write_text

BATCHES_IN_A_PART = 8
"""What several processes answer each before they put their rows together; those that are lost if one is killed."""


def predict(
    run: Path | str,
    *,
    images: Sequence[str] | None = None,
    prefix: str | None = None,
    input: str | None = None,
    out: Path | str | None = None,
    batch_size: int | None = None,
    max_new_tokens: int | None = None,
    allow_code: bool = False,
) -> dict[str, Any]:
    """Answer prompts with a finished run.

    A prefix that begins with "detect" gives `boxes` with scores too, and the counts `malformed`, `repeated` and
    `cut_off` (`pgtune.detection`).

    Args:
        images: the pictures of one prompt; with `prefix`.
        input: a folder of pictures, a glob pattern, or a JSONL with `image` (and `prefix`) in each row; its
            `references` (or `suffix`) and `metadata` are carried over, so that `pgtune score` can read the output. Or
            what the recipe's data adapter takes for predicting, such as a scene that it cuts into tiles.
        prefix: the prompt of `images`, or of every picture of `input` that has none of its own.
        out: `.jsonl` or `.csv`; rows that are there already are not predicted again. Or an ending that the recipe's
            data adapter exports, which is written when all is predicted. Needed with `input`.
        allow_code: let a pushed or merged run import the `module:attribute` that its recipe names as data adapter.

    Returns:
        For one prompt its row: image, prefix, prediction and mean_log_probability. For many: out, rows, errors (rows
        that hold `error` because their picture could not be read), skipped (rows that were there already), and
        `export`, what the data adapter's export says.

    Raises:
        RecipeError: the arguments do not fit together. DataError, RunError, ModelError: as their messages say.
    """
    folder = locate_run(run)
    recipe = folder.recipe()
    folder.check_trained()
    if (images is None) == (input is None):
        raise RecipeError("predict: give either --image FILE ... with --prefix, or --input with --out")
    ranks = join()
    if ranks and images is not None:
        raise everywhere(RecipeError("predict: several processes have no effect on one example"))

    @cache
    def adapter() -> Any:
        folder.check_imports(recipe, allow_code=allow_code)
        return load_adapter(recipe.data.adapter, recipe.data.adapter_args)

    def exports() -> Mapping[str, Export]:
        found: Mapping[str, Export] = getattr(adapter(), "exports", {})
        return found

    target = Target(Path(out), exports) if out is not None else None
    if images is not None:
        asked = from_images(images, prefix)
    else:
        asked = from_input(str(input), prefix, adapter, recipe.data.root)
        if target is None:
            raise RecipeError("predict: --input needs --out F.jsonl or F.csv")
    identity = folder.identity()
    with together():  # as the first one sees it, before it begins to write
        known = target.known() if target else {}
    known = from_first(known)
    if others := {row["run"] for row in known.values()} - {identity}:
        raise RecipeError(
            f"predict: --out {out}: holds answers of another run ({', '.join(sorted(others))}; {run} is "
            f"{identity}); name another file"
        )
    todo = [one for one in asked if key_of(one.row) not in known]
    if known:
        say(f"{len(asked) - len(todo)} of {len(asked)} are in {out} already")

    def journal(row: dict[str, Any]) -> None:
        if target is not None and first_process():
            append_row(target.journal, row)

    found: list[dict[str, Any]] = []
    if todo:
        with together():
            loaded = load_run(folder, recipe, device=ranks.device if ranks else None)
        if target is not None and first_process():
            # Drop rows with errors, so that they are tried anew, and a line cut off by a crash.
            write_text(target.journal, "".join(map(json_line, known.values())))
        found = _predict(loaded, recipe, todo, identity, journal, batch_size, max_new_tokens, ranks)
    if target is None:
        (row,) = found
        if "error" in row:
            raise DataError(row["error"])
        return {name: value for name, value in row.items() if name != "run"}
    answered = (*known.values(), *found)
    answers = {key_of(row): {name: row[name] for name in (*ANSWER, "run") if name in row} for row in answered}
    asked_keys = {key_of(one.row) for one in asked}
    # The same question twice keeps each its own references.
    rows = [{**known.get(key_of(one.row), {}), **one.row, **answers[key_of(one.row)]} for one in asked]
    # What was asked for earlier is kept in a file of rows; an export shows what is asked for now.
    earlier = [] if target.export else [row for key, row in known.items() if key not in asked_keys]
    with together():
        summary = target.write([*earlier, *rows]) if first_process() else None
    return {
        "out": str(target.path),
        "rows": len(rows),
        "errors": sum("error" in row for row in rows),
        "skipped": len(asked) - len(todo),
        **({"export": summary} if target.export else {}),
    }


def _predict(
    loaded: Loaded,
    recipe: Recipe,
    todo: list[Asked],
    identity: str,
    journal: Callable[[dict[str, Any]], None],
    batch_size: int | None,
    max_new_tokens: int | None,
    ranks: Ranks | None = None,
) -> list[dict[str, Any]]:
    """The rows of what is asked, in its order; each is handed to `journal` as soon as it is there.

    Several processes share a part at a time and have all rows of it together; alone, all of it is one part.
    """
    size = batch_size or recipe.eval.batch_size or 4 * recipe.train.batch_size
    part = size * BATCHES_IN_A_PART * ranks.count if ranks else len(todo)
    found: list[dict[str, Any]] = []
    with enough_memory("a smaller --batch-size"), Progress(len(todo), "predict") as progress:
        for start in range(0, len(todo), part):
            asked = todo[start : start + part]
            mine = asked[ranks.rank :: ranks.count] if ranks else asked
            with together():
                keep = journal if ranks is None else None
                rows = _answered(loaded, recipe, mine, identity, keep, progress, size, max_new_tokens)
            if ranks:
                by_rank = from_all(rows)
                rows = [by_rank[index % ranks.count][index // ranks.count] for index in range(len(asked))]
                for row in rows:
                    journal(row)
                progress.advance(len(asked) - len(mine))
            found += rows
    return found


def _answered(
    loaded: Loaded,
    recipe: Recipe,
    todo: list[Asked],
    identity: str,
    journal: Callable[[dict[str, Any]], None] | None,
    progress: Progress,
    batch_size: int,
    max_new_tokens: int | None,
) -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}

    def keep(index: int, more: dict[str, Any]) -> None:
        found[index] = {**todo[index].row, **more, "run": identity}
        if journal is not None:
            journal(found[index])
        progress.advance()

    def failed(index: int, error: DataError) -> None:
        keep(index, {"prediction": None, "mean_log_probability": None, "error": str(error)})

    def answered(index: int, answer: Answer) -> None:
        more: dict[str, Any] = {"prediction": answer.text, "mean_log_probability": answer.mean_log_probability}
        if detection.asks_for_boxes(todo[index].row["prefix"]):
            more |= detection.read(answer, loaded.processor.tokenizer).row
        keep(index, more)

    for index, answer in generate(
        loaded,
        Collator(loaded.processor),
        [Prompt(one.images, one.row["prefix"]) for one in todo],
        max_new_tokens=max_new_tokens or recipe.eval.max_new_tokens,
        batch_size=batch_size,
        num_beams=recipe.eval.num_beams,
        on_error=failed,
    ):
        answered(index, answer)
    return [found[index] for index in range(len(todo))]
