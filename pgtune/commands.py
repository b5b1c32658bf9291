"""What each verb does: from parsed arguments to a Report. Modules are imported when their verb runs."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgtune.errors import RecipeError
from pgtune.progress import say

if TYPE_CHECKING:
    from pgtune.recipe import Recipe

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
    """What a verb has to say: ``document`` for ``--json``, ``text`` for a person."""

    document: Any
    text: str
    exit_code: int = 0
    error: str = ""
    """Printed on standard error before the rest."""


def table(rows: Sequence[Sequence[str]], heads: Sequence[str]) -> str:
    """Plain text in aligned columns."""
    lines = [heads, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [[f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def warn(messages: Sequence[str]) -> None:
    """Say on standard error what may be meant but should be known."""
    for message in messages:
        say(f"warning: {message}")


def _checked(arguments: Namespace) -> tuple[Recipe, list[str]]:
    """The recipe, checked as far as that goes without a model, and warnings about it."""
    from pgtune.preflight import validate_recipe
    from pgtune.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    return recipe, validate_recipe(recipe, arguments.recipe)


def recipes(arguments: Namespace) -> Report:
    """List the shipped recipes, or all keys of a recipe, or the schema that editors use."""
    if arguments.schema:
        from pgtune.recipe import json_schema

        return Report(json_schema(), json.dumps(json_schema(), indent=2, ensure_ascii=False))
    if arguments.keys:
        from pgtune.recipe import Recipe
        from pgtune.recipe_build import key_table

        keys = key_table(Recipe)
        blocks = [f"{key['key']}: {key['expected']} (default: {key['default']})\n    {key['help']}" for key in keys]
        return Report(keys, "\n\n".join(blocks))
    from pgtune.recipe import load_recipe, shipped_recipes

    listed = []
    for name, path in shipped_recipes().items():
        recipe = load_recipe(path)
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        listed.append({
            "name": name,
            "base": recipe.model.base,
            "method": recipe.method,
            "adapter": recipe.data.adapter,
            "metrics": list(recipe.eval.metrics),
            "description": first.removeprefix("#").strip(),
        })  # fmt: skip
    columns = ("name", "base", "method", "adapter", "description")
    return Report(listed, table([[str(entry[column]) for column in columns] for entry in listed], columns))


def show(arguments: Namespace) -> Report:
    """Print a recipe's text."""
    from pgtune.recipe import find_recipe, load_recipe
    from pgtune.recipe_reading import read_draft

    path = find_recipe(arguments.recipe)
    if arguments.json:
        return Report(load_recipe(arguments.recipe).model_dump(mode="json"), "")
    read_draft(path, arguments.recipe)  # refuses what is no recipe, with the reason
    return Report(None, path.read_text(encoding="utf-8-sig"))


def validate(arguments: Namespace) -> Report:
    """Check all of a recipe that needs no model."""
    try:
        recipe, found = _checked(arguments)
    except RecipeError as error:
        if not arguments.json:
            raise
        problems = [
            {"key": problem.path, "given": problem.given, "message": problem.message, "where": problem.where}
            for problem in error.problems
        ]
        document = {"valid": False, "message": str(error), "problems": problems}
        return Report(document, "", error.exit_code, error=str(error))
    warn(found)
    document = {"valid": True, "recipe": recipe.model_dump(mode="json"), "warnings": found}
    parts = recipe.model.trainable or ("vision_tower", "projector", "language_model")
    what = ", ".join(parts) if recipe.lora is None else f"rank {recipe.lora.rank}"
    return Report(
        document,
        f"{arguments.recipe}: valid. {recipe.method} ({what}) on {recipe.model.base}, learning rate "
        f"{recipe.rates_in_words}, data adapter {recipe.data.adapter}, into {recipe.output_dir}",
    )


def init(arguments: Namespace) -> Report:
    """Look at a folder and write a recipe for it."""
    from pgtune.starting import DEFAULT_BASE
    from pgtune.starting import init as run

    result = run(
        arguments.folder,
        out=arguments.out,
        base=arguments.base or DEFAULT_BASE,
        method=arguments.method,
        kind=arguments.kind,
    )
    first, *others = result["found"]
    lines = [f"found       {first['what']}"]
    lines += [f"also        {other['what']} (take it with --kind '{other['kind']}')" for other in others]
    if left := result["not_understood"]:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        lines.append(f"left aside  {len(left)} files that belong to none of it: {', '.join(left[:5])}{more}")
    if result["cut"]:
        lines.append("note        the folder holds more than 50,000 files; the first 50,000 were looked at")
    if example := result.get("example"):
        lines += [f"an example  {example['prefix']!r} -> {example['suffix']!r}"]
    else:
        lines += ["to mend     " + result["problem"].replace("\n", "\n            ")]
    lines += [f"recipe      {result['recipe']}", "", "next:"]
    lines += [f"  pgtune audit {result['recipe']}", f"  pgtune train {result['recipe']}"]
    return Report(result, "\n".join(lines))


def audit(arguments: Namespace) -> Report:
    """Look at the splits of a recipe before a score is believed."""
    recipe, found = _checked(arguments)
    warn(found)
    from pgtune.audit import audit as run
    from pgtune.audit import render

    result = run(recipe, pictures=not arguments.no_pictures)
    return Report(result.document(), "" if arguments.json else render(result))


def adapters(arguments: Namespace) -> Report:
    """List the data adapters: built-in ones and those of installed packages."""
    from pgtune.example import adapter_names
    from pgtune.names import ADAPTER_HELP

    listed = {name: ADAPTER_HELP.get(name, "of an installed package") for name in adapter_names()}
    document = [{"name": name, "description": text} for name, text in listed.items()]
    return Report(document, table(list(listed.items()), ("name", "description")))


def adapt(arguments: Namespace) -> Report:
    """Write what a data adapter reads as JSON Lines."""
    from pgtune.adapting import adapt as run
    from pgtune.left_out import summary
    from pgtune.recipe_reading import Draft, override, report

    draft = Draft("--arg", {})
    override(draft, arguments.arg, {})
    if draft.problems:
        raise report(draft.name, draft.problems)
    result = run(
        arguments.adapter,
        arguments.source,
        split=arguments.split,
        limit=arguments.limit,
        out=Path(arguments.out),
        adapter_args=draft.value,
        root=arguments.root,
        max_bad_share=arguments.max_bad_share,
        processes=arguments.processes,
    )
    left_out = [line for one in result["left_out"].values() for line in summary(one)]
    skipped = f", {result['skipped']} skipped by the data adapter" if result["skipped"] else ""
    bad = f", {result['bad']} bad ones left out" if result["bad"] else ""
    return Report(result, "\n".join([*left_out, f"{result['rows']} rows{skipped}{bad}, written to {result['out']}"]))


def preview(arguments: Namespace) -> Report:
    """Show what the model will see."""
    recipe, found = _checked(arguments)
    warn(found)
    from pgtune.preview import preview as run
    from pgtune.preview import render

    shown = run(recipe, split=arguments.split, n=arguments.n)
    return Report(shown, "" if arguments.json else render(shown, colour=arguments.in_terminal))


def plan(arguments: Namespace) -> Report:
    """Say what a recipe will need before anything is loaded."""
    from pgtune.planning import bytes_of, first_gpu
    from pgtune.planning import plan as run
    from pgtune.planning.text import document, render
    from pgtune.recipe import load_recipe

    memory = bytes_of(arguments.memory) if arguments.memory is not None else None
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    bfloat16 = True
    if memory is None and arguments.device == "gpu" and (gpu := first_gpu()) is not None:
        memory, bfloat16 = gpu
    made = run(recipe, memory, arguments.devices, device=arguments.device, bfloat16=bfloat16)
    return Report(document(made), "" if arguments.json else render(made, arguments.overrides))


def train(arguments: Namespace) -> Report:
    """Train by a recipe."""
    recipe, found = _checked(arguments)
    if arguments.resume:
        _check_not_moved(arguments.recipe, recipe)
    warn(found)
    from pgtune.ranks import leave
    from pgtune.training import train as run

    metrics = run(recipe, resume=arguments.resume, overwrite=arguments.overwrite)
    leave()
    return Report(metrics, _scores(metrics, recipe.output_dir))


def _check_not_moved(given: str, recipe: Recipe) -> None:
    """A recipe out of a run folder that has been moved would train anew where the folder was."""
    from pgtune.errors import RunError
    from pgtune.run_folder import RunFolder

    folder = RunFolder(Path(given).parent)
    its_own = folder.recipe_file.is_file() and Path(given).exists() and Path(given).samefile(folder.recipe_file)
    if its_own and folder.state != "foreign" and folder.path.resolve() != Path(recipe.output_dir).resolve():
        raise RunError(
            f"{given}: belongs to the run in {folder.path}, and its output_dir is {recipe.output_dir}; to go on with "
            f"that run add output_dir={folder.path}"
        )


def _scores(metrics: dict[str, Any], folder: str) -> str:
    from pgtune.metrics.show import columns

    scores = metrics.get("scores", {})
    names = [name for name in ("before", "after", "trivial") if scores.get(name)]
    lines = []
    if names:
        rows = columns([scores[name] for name in names])
        lines = [table(rows, ("", *names)), f"n {metrics['n']}"]
    if (Path(folder) / "predictions.png").is_file():
        lines.append(f"look at:    {folder}/predictions.png")
    return "\n".join([*lines, f"run folder: {folder}"])


def evaluate(arguments: Namespace) -> Report:
    """Score a finished run."""
    from pgtune.evaluation import evaluate as run
    from pgtune.ranks import leave, peers_explained

    with peers_explained():
        result = run(
            Path(arguments.folder),
            split=arguments.split,
            source=arguments.source,
            limit=arguments.limit,
            batch_size=arguments.batch_size,
            allow_code=arguments.allow_code,
        )
        leave()
    from pgtune.left_out import summary
    from pgtune.metrics.show import HEADS, columns, rows

    trivial = columns([result["scores"], result["trivial_scores"]])
    beside = {label: value.partition(" (")[0] for label, _, value in trivial}
    lines = [[*row, beside.get(row[0], "")] for row in rows(result["scores"])]
    text = table(lines, (*HEADS, "trivial"))
    answer = f"trivial: by always answering {result['trivial_answer']!r}"
    left_out = [line for one in result["left_out"].values() for line in summary(one)]
    last = f"n {result['n']}, written to {result['folder']}"
    return Report(result, "\n".join([*left_out, text, answer, last]))


def predict(arguments: Namespace) -> Report:
    """Answer for one example or many."""
    # Said here too, before torch is loaded: these are slips of the hand.
    if (arguments.image is None) == (arguments.input is None):
        raise RecipeError("predict: give either --image F... with --prefix P, or --input with --out")
    if arguments.image is not None and arguments.prefix is None:
        raise RecipeError("predict: --image needs --prefix P, the prompt (it may be empty: --prefix '')")
    if arguments.input is not None and arguments.out is None:
        raise RecipeError("predict: --input needs --out F.jsonl or F.csv")
    from pgtune.prediction import predict as run
    from pgtune.ranks import leave, peers_explained

    with peers_explained():
        result = run(
            Path(arguments.folder),
            images=arguments.image,
            prefix=arguments.prefix,
            input=arguments.input,
            out=arguments.out,
            batch_size=arguments.batch_size,
            max_new_tokens=arguments.max_new_tokens,
            allow_code=arguments.allow_code,
        )
        leave()
    if arguments.out is None:
        return Report(result, "\n".join([result["prediction"] or "(nothing)", *_boxes(result)]))
    counts = [f"{result['rows']} rows", f"{result['errors']} with an error", f"{result['skipped']} there already"]
    lines = [f"{', '.join(counts)}; written to {result['out']}"]
    if result.get("export") is not None:
        lines.append(json.dumps(result["export"], ensure_ascii=False))
    return Report(result, "\n".join(lines))


def _boxes(row: dict[str, Any]) -> list[str]:
    """The boxes of a predicted row, and what was left out."""
    if "boxes" not in row:
        return []
    edges = [[f"{edge:.1f}" for edge in box.get("pixels", ())] for box in row["boxes"]]
    cells = [[box["label"], f"{box['score']:.3f}", *at] for box, at in zip(row["boxes"], edges, strict=True)]
    heads = ["label", "score", *(("x0", "y0", "x1", "y1") if cells and len(cells[0]) > 2 else ())]
    lines = [table(cells, heads)] if cells else ["no boxes"]
    left_out = [f"{row[name]} {name}" for name in ("malformed", "repeated") if row[name]]
    cut = ["the answer ended at its limit of tokens (--max-new-tokens)"] if row["cut_off"] else []
    return [*lines, *([f"left out: {', '.join([*left_out, *cut])}"] if left_out or cut else [])]


def merge(arguments: Namespace) -> Report:
    """Write base and adapter as one model."""
    from pgtune.merging import merge as run
    from pgtune.merging import summary

    result = run(arguments.folder, arguments.out, arguments.dtype, arguments.quantize, overwrite=arguments.overwrite)
    return Report(result, summary(result))


def report(arguments: Namespace) -> Report:
    """Write a run as one HTML page."""
    from pgtune.reporting import report as run

    target = run(arguments.folder, arguments.out, limit=arguments.limit)
    size = target.stat().st_size
    return Report({"report": str(target), "bytes": size}, f"{target} ({size / 1e6:.1f} MB)")


def push(arguments: Namespace) -> Report:
    """Push a finished run to the Hub."""
    from pgtune.hub.pushing import push as run

    result = run(
        Path(arguments.folder),
        arguments.repo,
        private=arguments.private,
        tag=arguments.tag,
        merged=arguments.merged,
        with_examples=arguments.with_examples,
        dry_run=arguments.dry_run,
        base=arguments.base,
    )
    lines = [table([[f"{file['size']:,}", file["path"]] for file in result["files"]], ("bytes", "file"))]
    if arguments.dry_run:
        lines += ["", "README.md:", "", result["card"], "nothing was pushed (--dry-run)"]
        return Report(result, "\n".join(lines))
    where = "private" if result["private"] else "public"
    tag = f", tag {result['tag']}" if result["tag"] else ""
    lines += [f"{result['url']} ({where}), commit {result['commit'][:12]}{tag}", ""]
    lines += [f"elsewhere:  pgtune predict {arguments.repo} --image photo.png --prefix '...'"]
    return Report(result, "\n".join(lines))


def card(arguments: Namespace) -> Report:
    """Write the model card of a finished run."""
    from pgtune.hub.cards import card as run
    from pgtune.writing import write_text

    text = run(Path(arguments.folder), base=arguments.base, with_examples=arguments.with_examples)
    if arguments.out is None:
        return Report({"card": text}, text)
    write_text(Path(arguments.out), text)
    return Report({"card": text, "out": arguments.out}, f"written to {arguments.out}")


def score(arguments: Namespace) -> Report:
    """Compute metrics on predictions."""
    from pgtune.metrics import score_file
    from pgtune.metrics.show import HEADS, rows

    result = score_file(arguments.metric.split(","), Path(arguments.file))
    level = f"low and high: {100 * result['confidence']:g} % interval"
    return Report(result, f"{table(rows(result['scores']), HEADS)}\n{level}")


def _mark(test: dict[str, Any]) -> str:
    if not test["passed"]:
        return "FAILED"
    return "-" if str(test["detail"]).endswith("not tested") else "ok"


def doctor(arguments: Namespace) -> Report:
    """Print versions and devices and run the self-tests."""
    from pgtune.doctor import doctor as run

    result = run()
    versions = [[name, version or "not installed"] for name, version in result["versions"].items()]
    lines = [table(versions, ("", "version"))]
    for device in result["devices"]:
        lines.append(", ".join(str(value) if key == "name" else f"{key} {value}" for key, value in device.items()))
    marks = [
        [_mark(test), str(test["generation"]), test["name"], str(test["detail"])]
        for test in result["self_tests"]
    ]
    failed = sum(not test["passed"] for test in result["self_tests"])
    text = "\n\n".join([*lines, table(marks, ("", "", "self-test", ""))])
    return Report(result, text, exit_code=1 if failed else 0, error=f"{failed} self-tests failed" if failed else "")
