"""`pgtune predict`: answers for one picture, or for a folder, pattern or JSONL of them, going on where it stopped."""

from __future__ import annotations

import csv
import glob
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pgtune.collate import Collator
from pgtune.errors import DataError, RecipeError
from pgtune.generation import Answer, Prompt, generate
from pgtune.loading import load_run
from pgtune.model import enough_memory
from pgtune.progress import Progress, say
from pgtune.run_folder import RunFolder, append_row, json_line, read_rows, write_text
from pgtune.sources import read_rows as read_source_rows

IMAGE_SUFFIXES = {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
ANSWER = ("prediction", "mean_log_probability", "error")
COLUMNS = ("image", "prefix", *ANSWER, "run")


def predict(
    run: Path | str,
    *,
    images: Sequence[str] | None = None,
    prefix: str | None = None,
    input: str | None = None,
    out: Path | str | None = None,
    batch_size: int | None = None,
    max_new_tokens: int | None = None,
) -> dict[str, Any]:
    """Answer prompts with a finished run.

    Args:
        images: the pictures of one prompt; with `prefix`.
        input: a folder of pictures, a glob pattern, or a JSONL with `image` (and `prefix`) in each row; its
            `references` (or `suffix`) and `metadata` are carried over, so that `pgtune score` can read the output.
        prefix: the prompt of `images`, or of every picture of `input` that has none of its own.
        out: `.jsonl` or `.csv`; rows that are there already are not predicted again. Needed with `input`.

    Returns:
        For one prompt its row: image, prefix, prediction and mean_log_probability. For many: out, rows, errors (rows
        that hold `error` because their picture could not be read) and skipped (rows that were there already).

    Raises:
        RecipeError: the arguments do not fit together. DataError, RunError, ModelError: as their messages say.
    """
    folder = RunFolder(run)
    recipe = folder.recipe()
    folder.check_trained()
    if (images is None) == (input is None):
        raise RecipeError("predict: give either --image FILE ... with --prefix, or --input with --out")
    asked = _from_images(images, prefix) if images is not None else _from_input(str(input), prefix)
    target = Path(out) if out is not None else None
    if input is not None and target is None:
        raise RecipeError("predict: --input needs --out F.jsonl or F.csv")
    if target is not None and target.suffix not in {".jsonl", ".csv"}:
        raise RecipeError(f"predict: --out {target}: expected a name that ends in .jsonl or .csv")
    if target is not None and not target.absolute().parent.is_dir():
        raise RecipeError(f"predict: --out {target}: the folder {target.parent} does not exist")
    if target is not None and target.is_dir():
        raise RecipeError(f"predict: --out {target}: is a folder; expected the name of the file to write")
    # A CSV is written at the end from these rows, so that one path goes on after a stop.
    journal = target.with_name(f".{target.name}.rows.jsonl") if target and target.suffix == ".csv" else target
    identity = folder.identity()
    known = _known(target, journal)
    if others := {row["run"] for row in known.values()} - {identity}:
        raise RecipeError(
            f"predict: --out {target}: holds answers of another run ({', '.join(sorted(others))}; {run} is "
            f"{identity}); name another file"
        )
    todo = [row for row in asked if _key(row) not in known]
    if known:
        say(f"{len(asked) - len(todo)} of {len(asked)} are in {target} already")
    found: list[dict[str, Any]] = []
    if todo:
        found = _predict(
            folder,
            recipe,
            todo,
            journal,
            identity,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            known=list(known.values()),
        )
    if target is None:
        (row,) = found
        if "error" in row:
            raise DataError(row["error"])
        return {name: value for name, value in row.items() if name != "run"}
    answered = (*known.values(), *found)
    answers = {_key(row): {name: row[name] for name in (*ANSWER, "run") if name in row} for row in answered}
    asked_keys = {_key(row) for row in asked}
    # The same question twice keeps each its own references.
    rows = [{**known.get(_key(row), {}), **row, **answers[_key(row)]} for row in asked]
    _write(target, [*(row for key, row in known.items() if key not in asked_keys), *rows])  # none is lost
    if journal is not None and journal != target:
        journal.unlink(missing_ok=True)
    return {
        "out": str(target),
        "rows": len(rows),
        "errors": sum("error" in row for row in rows),
        "skipped": len(asked) - len(todo),
    }


def _key(row: dict[str, Any]) -> str:
    return json.dumps([row["image"], row["prefix"]])


def _known(target: Path | None, journal: Path | None) -> dict[str, dict[str, Any]]:
    """What was answered earlier: in the file itself, and in the journal of a CSV that was not finished."""
    if target is None or journal is None:
        return {}
    try:
        rows = [] if journal == target else _csv_rows(target)
        rows += [row for row in read_rows(journal) if "error" not in row]
        for row in rows:
            row["prediction"], row["mean_log_probability"], row["run"]  # of something else, KeyError
        return {_key(row): row for row in rows}
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{target}: exists and does not hold predictions; name another file for --out") from error


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or COLUMNS) != COLUMNS:
            raise ValueError("other columns")
        rows: list[dict[str, Any]] = [row for row in reader if not row.pop("error")]
    for row in rows:
        row["mean_log_probability"] = float(row["mean_log_probability"])
        if row["image"].startswith('["'):
            row["image"] = json.loads(row["image"])
    return rows


def _from_images(images: Sequence[str], prefix: str | None) -> list[dict[str, Any]]:
    if prefix is None:
        raise RecipeError("predict: --image needs --prefix (it may be empty: --prefix '')")
    return [{"image": list(images) if len(images) > 1 else images[0], "prefix": prefix}]


def _from_input(given: str, prefix: str | None) -> list[dict[str, Any]]:
    if not given:
        raise RecipeError("predict: --input is empty; expected a folder, a pattern or a JSONL file")
    path = Path(given)
    if path.is_file() and path.suffix in {".jsonl", ".json"}:
        return _from_jsonl(path, prefix)
    if path.is_dir():
        files = sorted(str(f) for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise DataError(f"{path}: no pictures in this folder (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
    elif path.is_file():
        files = [given]
    else:
        files = sorted(glob.glob(given, recursive=True))
        if not files:
            raise DataError(f"{given}: no such file or folder, and as a pattern it matches nothing")
    if prefix is None:
        raise RecipeError("predict: pictures without text need --prefix (it may be empty: --prefix '')")
    return [{"image": file, "prefix": prefix} for file in files]


def _from_jsonl(path: Path, prefix: str | None) -> list[dict[str, Any]]:
    asked = []
    own_prefixes = 0
    for number, row in read_source_rows(path):
        where = f"{path}, row {number}"
        if isinstance(row, DataError):
            raise DataError(f"{where}: {row}")
        image, own = row.get("image"), row.get("prefix", prefix)
        names: list[Any] = image if isinstance(image, list) else [image]
        if not names or not all(isinstance(name, str) and name for name in names):
            raise DataError(f"{where}: image must be a path or a list of paths, got {image!r}")
        own_prefixes += prefix is not None and own != prefix
        if not isinstance(own, str):
            raise DataError(f"{where}: no prefix in the row and no --prefix given")
        lying = [str(path.parent / name) for name in names]
        truth: dict[str, Any] = {name: row[name] for name in ("references", "metadata") if name in row}
        if "references" not in truth and isinstance(row.get("suffix"), str):
            truth["references"] = [row["suffix"]]
        asked.append({"image": lying if isinstance(image, list) else lying[0], "prefix": own, **truth})
    if not asked:
        raise DataError(f"{path}: no rows")
    if own_prefixes:
        say(f"warning: {own_prefixes} of {len(asked)} rows in {path} have their own prefix; --prefix is for the rest")
    return asked


def _predict(
    folder: RunFolder,
    recipe: Any,
    todo: list[dict[str, Any]],
    journal: Path | None,
    identity: str,
    *,
    batch_size: int | None,
    max_new_tokens: int | None,
    known: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    loaded = load_run(folder, recipe)
    collator = Collator(loaded.processor)
    prompts = [
        Prompt(tuple(row["image"]) if isinstance(row["image"], list) else (row["image"],), row["prefix"])
        for row in todo
    ]
    found: dict[int, dict[str, Any]] = {}
    if journal is not None:  # drop rows with errors, so that they are tried anew, and a line cut off by a crash
        write_text(journal, "".join(map(json_line, known)))

    def keep(index: int, more: dict[str, Any]) -> None:
        found[index] = {**todo[index], **more, "run": identity}
        if journal is not None:
            append_row(journal, found[index])
        progress.advance()

    def failed(index: int, error: DataError) -> None:
        keep(index, {"prediction": None, "mean_log_probability": None, "error": str(error)})

    def answered(index: int, answer: Answer) -> None:
        keep(index, {"prediction": answer.text, "mean_log_probability": answer.mean_log_probability})

    with enough_memory("a smaller --batch-size"), Progress(len(todo), "predict") as progress:
        for index, answer in generate(
            loaded,
            collator,
            prompts,
            max_new_tokens=max_new_tokens or recipe.eval.max_new_tokens,
            batch_size=batch_size or recipe.eval.batch_size or 4 * recipe.train.batch_size,
            num_beams=recipe.eval.num_beams,
            on_error=failed,
        ):
            answered(index, answer)
    return [found[index] for index in range(len(todo))]


def _write(target: Path, rows: list[dict[str, Any]]) -> None:
    if target.suffix == ".jsonl":
        write_text(target, "".join(map(json_line, rows)))
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        image = row["image"]
        writer.writerow({**row, "image": json.dumps(image) if isinstance(image, list) else image})
    # Half of a character, as in a file name that is no UTF-8, is written as its number.
    write_text(target, text.getvalue().encode("utf-8", "backslashreplace").decode("utf-8"))
