"""`pgtune init`: look at a folder, say what is there, and write a commented recipe for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import yaml

from pgtune.data import open_source
from pgtune.errors import DataError, PgtuneError, RecipeError
from pgtune.example import load_adapter
from pgtune.names import nearest
from pgtune.recipe import load_recipe
from pgtune.sources import shown_path, splits_of
from pgtune.starting.discovery import Found, Listing, discover, list_folder
from pgtune.starting.kinds import KINDS

__all__ = ["DEFAULT_BASE", "Method", "init"]

Method = Literal["lora", "qlora", "full"]

RATES = {"lora": "1e-4", "qlora": "1e-4", "full": "1e-5"}
TINY_RATES = {"lora": "2e-3", "full": "2e-4"}
DEFAULT_BASE = "google/paligemma2-3b-pt-224"
DETECT = "detect "
SHARES = {"validation": 0.1, "test": 0.2}
_SHOWN = 8


def init(
    folder: str | Path,
    *,
    out: str | Path | None = None,
    base: str = DEFAULT_BASE,
    method: Method = "lora",
    kind: str | None = None,
) -> dict[str, Any]:
    """Write a recipe for the data in a folder.

    Args:
        out: the recipe to write; None: the folder's name with ``.yaml``, in the working directory.
        kind: which of several kinds to take; None: the first that was found.

    Returns:
        ``found`` (kind and what, the chosen one first), ``not_understood`` (files), ``cut`` (more files than were
        looked at), ``recipe``, ``example`` (prefix and suffix of the first) or ``problem`` (why it cannot be read yet).

    Raises:
        DataError: no such folder, nothing in it that is known, or ``out`` exists.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{folder}: {'is a file, expected a folder' if root.exists() else 'no such folder'}")
    target = Path(out) if out is not None else Path(f"{root.resolve().name}.yaml")
    if target.suffix not in (".yaml", ".yml"):
        raise DataError(f"{target}: the recipe's name must end in .yaml")
    if target.exists():
        raise DataError(f"{target}: exists already; name another file with --out, or move it away")
    if not target.absolute().parent.is_dir():
        raise DataError(f"{target}: there is no folder {target.parent}")
    if method == "qlora" and base == "tiny":
        raise RecipeError("--method qlora: the base tiny is 9 MB, quantising it saves nothing; take lora")
    listing = list_folder(Path(shown_path(root)))
    found, left = discover(listing, KINDS)
    if not found:
        raise DataError(_nothing(root, listing))
    chosen = _chosen(found, kind)
    if str(chosen.source).encode("utf-8", "ignore").decode() != str(chosen.source):
        raise DataError(f"{_printable(str(chosen.source))}: not UTF-8, a recipe cannot hold this name; rename it")
    data, problem = _splits(chosen)
    text = recipe_text(chosen, data, str(folder), str(target), base, method)
    target.write_text(text, encoding="utf-8", newline="\n")
    ordered = (chosen, *(one for one in found if one is not chosen))
    result: dict[str, Any] = {
        "found": [{"kind": one.kind, "what": _printable(one.what)} for one in ordered],
        "not_understood": [_printable(path.as_posix()) for path in left],
        "cut": listing.cut,
        "recipe": str(target),
    }
    if problem is None:
        try:
            recipe = load_recipe(str(target))
            adapter = load_adapter(recipe.data.adapter, recipe.data.adapter_args)
            first = open_source(recipe.data.train, adapter, root=recipe.data.root, limit=1, verify="header")[0]
        except PgtuneError as error:
            problem = str(error)
        else:
            result["example"] = {"prefix": first.prefix, "suffix": first.suffix}
            if "classes" not in chosen.args and chosen.adapter == "geotiff" and first.prefix.startswith(DETECT):
                # Said in the recipe, so that `predict` knows what to ask of scenes without labels.
                named = replace(chosen, args={**chosen.args, "classes": first.prefix.removeprefix(DETECT).split(" ; ")})
                target.write_text(
                    recipe_text(named, data, str(folder), str(target), base, method), encoding="utf-8", newline="\n"
                )
    if problem is not None:
        result["problem"] = problem
    return result


def _splits(found: Found) -> tuple[dict[str, Any], str | None]:
    """The sources of a recipe: the data set's own splits where it has them, else shares cut by group.

    And what is wrong where the data adapter cannot tell.
    """
    place, problem = str(found.source), None
    try:
        adapter = load_adapter(found.adapter, found.args)
        own = getattr(adapter, "splits", None)
        names = set(own(found.source.absolute()) if own else splits_of(found.source))
    except PgtuneError as error:
        names, problem = set(), str(error)
    names = {"validation" if name in ("valid", "val") else name for name in names}
    shares = {f"{name}_share": share for name, share in SHARES.items() if name not in names}
    if "train" not in names or "test" not in names:
        if "train" not in names:
            return {"train": place, "split_by": found.split_by, **shares}, problem
        # It has splits, but none to be scored on: that one is cut from what is learnt from.
        train = {"source": place, "split": "train"}
        given = {"validation": place} if "validation" in names else {}
        return {"train": train, **given, "split_by": found.split_by, **shares}, problem
    return {name: place for name in ("train", "validation", "test") if name in names}, problem


def _chosen(found: list[Found], kind: str | None) -> Found:
    if kind is None:
        return found[0]
    known = {one.kind.lower(): one for one in found}
    if kind.lower() not in known:
        close = nearest(kind.lower(), known)
        hint = f"; did you mean {known[close].kind}?" if close else ""
        raise DataError(f"--kind {kind!r}: not found here; there is {', '.join(o.kind for o in found)}{hint}")
    return known[kind.lower()]


def _nothing(root: Path, listing: Listing) -> str:
    if not listing.files and listing.odd:
        odd = _printable(str(listing.odd[0]))
        return f"{root}: holds no file that can be read: {odd} is a broken link, a pipe, or may not be opened"
    if not listing.files:
        return f"{root}: the folder is empty"
    kinds = ", ".join(f"{count} {ending or '(no ending)'}" for ending, count in listing.endings.most_common(_SHOWN))
    return (
        f"{root}: nothing here that pgtune init knows ({kinds}). It knows JSON Lines and CSV with a column of "
        "pictures, COCO, VOC and YOLO, folders of pictures by class, DICOM, GeoTIFF, scores, and published data sets "
        "(`pgtune adapters`). For anything else write a data adapter of about 20 lines: docs/data_adapters.md"
    )


def recipe_text(found: Found, data: dict[str, Any], folder: str, target: str, base: str, method: Method) -> str:
    """The recipe, commented."""
    tiny = base == "tiny"
    rate = TINY_RATES[method] if tiny else RATES[method]
    lines = [
        f"# Made by `pgtune init {_printable(folder)}`, which found",
        f"# {_printable(found.what)}.",
        "#",
        f"#     pgtune preview {_printable(target)}       what the model will see and learn",
        f"#     pgtune train {_printable(target)}",
        "#",
        "# Every key there is, with a comment: pgtune show forkme",
        *(f"# Look at this: {_printable(note)}." for note in found.notes),
        "",
        "model:",
        f"  base: {_scalar(base)}".ljust(42) + "# model.base=tiny tries everything out on a CPU",
    ]
    if method == "qlora":
        lines.append("  quantization: nf4".ljust(42) + "# the frozen weights in 4 bits")
    lines += [f"  {key}: {_scalar(value)}" for key, value in found.model.items()]
    if method != "full":
        parts = "[vision_tower, projector, language_model]" if tiny else "language_model"
        lines += ["", "lora:", "  rank: 16", "  alpha: 32", f"  targets: {parts}"]
    lines += ["", "data:", f"  adapter: {found.adapter}"]
    lines += _data({**data, **({"adapter_args": found.args} if found.args else {})})
    lines += [
        "",
        "train:",
        "  epochs: 5".ljust(42) + "# passes over the examples",
        f"  batch_size: {16 if tiny else 4}",
        *([] if tiny else ["  gradient_accumulation_steps: 4".ljust(42) + "# an effective batch of 16"]),
        f"  learning_rate: {rate}".ljust(42) + f"# fit for {_reason(method, tiny)}",
        "",
        "eval:",
        f"  metrics: [{', '.join(found.metrics)}]",
        f"  max_new_tokens: {found.max_new_tokens}".ljust(42) + "# the longest answer that is decoded",
        "",
        f"output_dir: runs/{Path(target).stem}",
        "",
    ]
    return "\n".join(lines)


def _reason(method: Method, tiny: bool) -> str:
    if tiny:
        return "the tiny base; the real ones want 1e-4 with LoRA, 1e-5 in full"
    return "full fine-tuning" if method == "full" else "LoRA; full fine-tuning wants a tenth of it"


_COMMENTS = {
    "split_by": "nothing of one {value} on two sides",
    "test_share": "what the run is scored on",
    "validation_share": "what early stopping may look at",
}


def _data(data: dict[str, Any]) -> list[str]:
    lines = []
    for key, value in data.items():
        if key == "adapter_args":
            lines.append("  adapter_args:")
            lines += [f"    {name}: {_scalar(one)}" for name, one in value.items()]
            continue
        text = f"  {key}: {_scalar(value)}"
        comment = _COMMENTS.get(key, "").format(value=value)
        lines.append(f"{text.ljust(42)}# {comment}" if comment else text)
    return lines


def _printable(text: str) -> str:
    """A text on one line: line breaks and the like as escapes."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _scalar(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, str):
        style = None if value.isprintable() else '"'  # which escapes line breaks
        dumped = yaml.safe_dump(value, allow_unicode=True, width=10_000, default_style=style).splitlines()[0]
        return dumped if yaml.safe_load(dumped) == value else json.dumps(value, ensure_ascii=False)
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).splitlines()[0]
