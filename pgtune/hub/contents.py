"""What a push holds, gathered from a finished run: every file, and what the card has to know.

::

    README.md                                        the card
    adapter_config.json, adapter_model.safetensors   an adapter, or
    config.json, model*.safetensors, ...             a model trained in full or merged
    processor_config.json, tokenizer.json, ...       the processor
    pgtune/recipe.yaml, metrics.json, status.json    what `pgtune evaluate ORG/NAME` reads
    pgtune/overlaps.json                             what stood on both sides of a split, as counts
    pgtune/examples.jsonl, predictions.png           with examples only: rows of the data, and pictures

Everything is made from what is known, file by file; nothing is taken because it lies there.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from pgtune.errors import HubError, ModelError, RunError
from pgtune.hub.privacy import header_of
from pgtune.hub.published import public_finding, public_metrics, public_recipe
from pgtune.names import BASES, CREDENTIALED, HUB_ID
from pgtune.overlaps import Finding
from pgtune.recipe import Recipe, load_recipe
from pgtune.run_folder import OWN, RunFolder, undamaged
from pgtune.writing import json_line, read_rows

__all__ = ["Contents", "Kind", "gather", "named_base"]

Kind = Literal["adapter", "full", "merged"]
EXAMPLES = 50
"""Rows of predictions that --with-examples shows."""
PROCESSOR = re.compile(r"[\w.-]+\.(json|model|txt|jinja)")
MODEL = re.compile(r"(generation_)?config\.json|model[\w.-]*\.safetensors(\.index\.json)?")
_AT_ONCE = 1 << 24
_LOCAL = ("_name_or_path", "name_or_path", "_commit_hash", "is_local", "local_files_only")


@dataclass(frozen=True)
class Contents:
    """A push before it is sent."""

    kind: Kind
    recipe: Recipe
    """As it is pushed."""
    versions: dict[str, str]
    metrics: dict[str, Any]
    status: dict[str, Any]
    findings: list[Finding]
    base: str
    """The base's name on the Hub, or of a shipped one."""
    revision: str | None
    files: dict[str, Path | bytes]
    """Path in the repo -> file, or what it holds; without the card."""
    examples: list[dict[str, Any]]

    def size_of(self, name: str) -> int:
        """Bytes of a file."""
        file = self.files[name]
        return len(file) if isinstance(file, bytes) else file.stat().st_size


def named_base(folder: RunFolder, recipe: Recipe, given: str | None) -> tuple[str, str | None]:
    """The base by its name on the Hub and its revision: never a path.

    Args:
        given: `--base`, ``org/name`` or ``org/name@revision``.

    Raises:
        HubError: it has none, the given one is none, or another.
    """
    base, known = recipe.model.base, _versions(folder).get("base_commit") or recipe.model.revision
    on_hub = base not in BASES and not Path(base).exists() and HUB_ID.fullmatch(base) is not None
    if given is None:
        if base in BASES or on_hub:
            return base, known
        raise HubError(
            f"the run's base is the folder {base}, which nobody else has; name the same model on the Hub with "
            "--base org/name (or org/name@revision)"
        )
    name, at, revision = given.partition("@")
    if not HUB_ID.fullmatch(name) or (at and not revision):
        raise HubError(f"--base: {given!r} is not org/name or org/name@revision")
    if on_hub and name != base:
        raise HubError(f"--base: {name} is not what the run was trained on, which is {base}")
    return name, revision or (known if on_hub else None)


def _versions(folder: RunFolder) -> dict[str, str]:
    with undamaged(folder.recipe_file):
        found = yaml.safe_load(folder.recipe_file.read_text(encoding="utf-8")).get("versions") or {}
    return {str(key): str(value) for key, value in found.items()}


def gather(
    run: Path | str,
    *,
    name: str,
    base: str | None = None,
    revision: str | None = None,
    merged: Path | None = None,
    with_examples: bool = False,
) -> Contents:
    """All that a push of this run holds, but for the card.

    Args:
        name: of the repo, without its owner.
        base: see `named_base`.
        revision: of the base, where it is known better.
        merged: a folder that holds the run merged, to be pushed in place of its adapter.
        with_examples: rows of the data too.

    Raises:
        RunError: not a run, not finished, damaged, or of data that may not be shown.
        HubError: the base has no name on the Hub. ModelError: weights that cannot be read.
    """
    folder = RunFolder(run)
    recipe = folder.recipe()
    if not folder.portable and folder.state != "finished":
        raise RunError(f"{run}: the run has not finished; go on with `pgtune train --resume`, then push")
    folder.check_trained()
    kind: Kind = "adapter"
    if merged is not None or (folder.whole and recipe.lora is not None):
        kind = "merged"
    elif folder.whole:
        kind = "full"
    base, found = named_base(folder, recipe, base)
    revision = revision or found
    with undamaged(folder.metrics):
        metrics = json.loads(folder.metrics.read_text(encoding="utf-8"))
    with undamaged(folder.status_file):
        status = folder.status()
    findings = []
    if folder.overlaps_file.is_file():
        with undamaged(folder.overlaps_file):
            findings = [Finding(**one) for one in json.loads(folder.overlaps_file.read_text(encoding="utf-8"))]
    public = public_recipe(recipe, base, revision, name)
    versions = _versions(folder)
    facts = {key: status.get(key) for key in ("data", "validation", "test", "effective_batch")}
    facts |= _counted(folder, metrics, facts["effective_batch"])
    facts = {"state": "finished", "kind": kind, **{key: value for key, value in facts.items() if value is not None}}
    documents: dict[str, Any] = {
        "metrics.json": public_metrics(metrics, recipe.data.adapter),
        "status.json": facts,
        "overlaps.json": [asdict(public_finding(finding)) for finding in findings],
    }
    files = _weights(folder, merged, kind, base, revision)
    text = yaml.safe_dump({**public, "versions": versions}, sort_keys=False, allow_unicode=True)
    files[f"{OWN}/recipe.yaml"] = ("# The recipe of this run; files are named without their places.\n" + text).encode()
    for file, document in documents.items():
        files[f"{OWN}/{file}"] = _json(document)
    examples = _examples(folder, recipe) if with_examples else []
    if with_examples:
        files[f"{OWN}/examples.jsonl"] = "".join(map(json_line, examples)).encode()
        if folder.picture.is_file():
            files[f"{OWN}/predictions.png"] = folder.picture
    return Contents(
        kind=kind,
        recipe=load_recipe(public),
        versions=versions,
        metrics=documents["metrics.json"],
        status=facts,
        findings=[public_finding(finding) for finding in findings],
        base=base,
        revision=revision,
        files=files,
        examples=examples,
    )


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False, sort_keys=False) + "\n").encode()


def _counted(folder: RunFolder, metrics: dict[str, Any], effective: Any) -> dict[str, Any]:
    """How many examples were learnt from and how long the steps took, as the log of the steps has it."""
    with undamaged(folder.log):
        rows = read_rows(folder.log)
        if not rows or not effective:
            return {}
        last = rows[-1]
        return {
            "examples": round(last["step"] * effective / last["epoch"]),
            "epochs": last["epoch"],
            "seconds": sum(row["seconds"] for row in rows),
        }


def _weights(
    folder: RunFolder, merged: Path | None, kind: Kind, base: str, revision: str | None
) -> dict[str, Path | bytes]:
    """Weights, their configuration and the processor, none of which names a place on this machine."""
    place = merged or (folder.adapter if kind == "adapter" else folder.model)
    files: dict[str, Path | bytes] = {}
    if kind == "adapter":
        config = _read(place / "adapter_config.json")
        config |= {"base_model_name_or_path": base, "revision": revision}
        files = {"adapter_config.json": _json(config)}
        files["adapter_model.safetensors"] = place / "adapter_model.safetensors"
    else:
        for file in sorted(place.iterdir()):
            if MODEL.fullmatch(file.name):
                files[file.name] = file if file.name.endswith(".safetensors") else _json(_cleaned(_read(file)))
    processor = merged or folder.processor
    if not processor.is_dir():
        raise RunError(f"{processor} is missing: tokenizer and image processor of the run")
    for file in sorted(processor.iterdir()):
        if PROCESSOR.fullmatch(file.name) and not MODEL.fullmatch(file.name) and file.name != "adapter_config.json":
            small = file.suffix == ".json" and file.name != "tokenizer.json"
            files[file.name] = _json(_cleaned(_read(file))) if small else file
    for name, found in files.items():
        if name.endswith(".safetensors") and isinstance(found, Path):
            _check_weights(found)
    if not any(name.endswith(".safetensors") for name in files):
        raise ModelError(f"{place}: holds no weights")
    return files


def _read(file: Path) -> dict[str, Any]:
    with undamaged(file):
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _cleaned(config: dict[str, Any]) -> dict[str, Any]:
    """Without where it was loaded from."""
    return {
        key: _cleaned(value) if isinstance(value, dict) else value for key, value in config.items() if key not in _LOCAL
    }


def _check_weights(file: Path) -> None:
    """That a safetensors file is whole and holds numbers.

    Raises:
        ModelError: it is damaged.
    """
    import numpy as np
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as opened:
            names = list(opened.keys())
        header = header_of(file)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{file}: damaged: {error}") from error
    raw = np.memmap(file, dtype=np.uint8, mode="r")
    start = 8 + int(raw[:8].view("<u8")[0])
    for name in names:
        entry: Any = header[name]
        if entry["dtype"] not in ("F32", "BF16"):
            continue
        first, last = entry["data_offsets"]
        kind, infinite = (np.uint16, 0x7F80) if entry["dtype"] == "BF16" else (np.uint32, 0x7F800000)
        for at in range(first, last, _AT_ONCE):
            words: Any = raw[start + at : start + min(at + _AT_ONCE, last)].view(kind)
            if bool(((words & infinite) == infinite).any()):
                raise ModelError(f"{file}: damaged: {name} holds NaN or infinity")


def _examples(folder: RunFolder, recipe: Recipe) -> list[dict[str, Any]]:
    """Rows that were scored: what was asked, answered and wanted. No picture's place, and no metadata.

    Raises:
        RunError: the data may not be shown to others, or nothing was scored.
    """
    if terms := CREDENTIALED.get(recipe.data.adapter):
        raise RunError(f"{folder.path}: no examples of {recipe.data.adapter} may be shown: {terms}")
    with undamaged(folder.predictions):
        rows = read_rows(folder.predictions)
    if not rows:
        raise RunError(f"{folder.path}: there are no examples to show: the run was not scored (predictions.jsonl)")
    kept = ("prefix", "prediction", "before", "references", "scores")
    return [{key: row[key] for key in kept if key in row} for row in rows[:EXAMPLES]]
