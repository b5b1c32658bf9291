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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from pgtune.errors import HubError, RunError
from pgtune.example import load_adapter
from pgtune.hub.credentialed import origin_named, origin_of, origin_of_rows
from pgtune.hub.files import Kind, model_files, own_file
from pgtune.hub.published import (
    adapter_on_hub,
    public_facts,
    public_finding,
    public_metrics,
    public_recipe,
    public_versions,
)
from pgtune.names import ADAPTERS, BASES, CREDENTIALED, HUB_ID
from pgtune.overlaps import Finding
from pgtune.recipe import Recipe, load_recipe
from pgtune.run_folder import OWN, RunFolder, undamaged
from pgtune.writing import json_line, read_rows

__all__ = ["Contents", "Kind", "gather", "named_base"]

EXAMPLES = 50
"""Rows of predictions that --with-examples shows."""


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
    left_out: list[str]
    """Arguments of the data adapter that the recipe lacks, as they are text."""
    went_on: bool
    """Whether it went on from an adapter."""
    credentialed: str | None
    """The credentialed data adapter that the data came from."""

    @property
    def quantized(self) -> bool:
        """Whether the weights are stored in 8 or 4 bits."""
        config = self.files.get("config.json")
        return isinstance(config, bytes) and "quantization_config" in json.loads(config)

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
    checked: bool = False,
) -> Contents:
    """All that a push of this run holds, but for the card.

    Args:
        name: of the repo, without its owner.
        base: see `named_base`.
        revision: of the base, where it is known better.
        merged: a folder that holds the run merged, to be pushed in place of its adapter.
        with_examples: rows of the data too.
        checked: the weights were looked through before.

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
    with undamaged(folder.status_file):
        status = folder.status()
    credentialed = _credentialed(folder, recipe, status, resolve=with_examples)
    with undamaged(folder.metrics):
        given = json.loads(own_file(folder.metrics, folder.path).read_text(encoding="utf-8"))
        metrics = public_metrics(given, recipe.data.adapter)
    findings = []
    if folder.overlaps_file.is_file():
        with undamaged(folder.overlaps_file):
            found_there = json.loads(own_file(folder.overlaps_file, folder.path).read_text(encoding="utf-8"))
            findings = [public_finding(Finding(**one)) for one in found_there]
    on_hub = adapter_on_hub(recipe.model.adapter, folder.path, status)
    public, left_out = public_recipe(recipe, base, revision, name, adapter=on_hub, texts=with_examples)
    versions = public_versions(_versions(folder))
    facts = {"state": "finished", "kind": kind, **public_facts(status)}
    facts |= _counted(folder, facts.get("effective_batch"))
    # For a push of what was fetched.
    went_on = recipe.model.adapter is not None or status.get("went_on") is True
    left_out = sorted({*left_out, *_left_out_before(status, public)})
    facts |= {"credentialed": credentialed} if credentialed else {}
    facts |= {"went_on": True} if went_on else {}
    facts |= {"adapter_on_hub": True} if on_hub else {}
    facts |= {"left_out_arguments": left_out} if left_out else {}
    files = model_files(folder, merged, kind, base, revision, checked=checked)
    text = yaml.safe_dump({**public, "versions": versions}, sort_keys=False, allow_unicode=True)
    files[f"{OWN}/recipe.yaml"] = ("# The recipe of this run; files are named without their places.\n" + text).encode()
    documents: dict[str, Any] = {
        "metrics.json": metrics,
        "status.json": facts,
        "overlaps.json": [asdict(finding) for finding in findings],
    }
    for file, document in documents.items():
        files[f"{OWN}/{file}"] = (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
    examples = _examples(folder, credentialed) if with_examples else []
    if with_examples:
        files[f"{OWN}/examples.jsonl"] = "".join(map(json_line, examples)).encode()
        if folder.picture.is_file():
            files[f"{OWN}/predictions.png"] = own_file(folder.picture, folder.path)
    return Contents(
        kind=kind,
        recipe=load_recipe(public),
        versions=versions,
        metrics=metrics,
        status=facts,
        findings=findings,
        base=base,
        revision=revision,
        files=files,
        examples=examples,
        left_out=left_out,
        went_on=went_on,
        credentialed=credentialed,
    )


def _credentialed(folder: RunFolder, recipe: Recipe, status: dict[str, Any], *, resolve: bool) -> str | None:
    """The credentialed data adapter that the run's data came from: as the run noted when it started, or by its recipe.

    Args:
        resolve: import a data adapter of the user's own, to see what it is derived from, where the run noted nothing.
    """
    noted = status.get("credentialed")
    found = (noted if noted in CREDENTIALED else None) or origin_named(recipe.data.adapter)
    if found is None and resolve and "credentialed" not in status and recipe.data.adapter not in ADAPTERS:
        found = origin_of(load_adapter(recipe.data.adapter, recipe.data.adapter_args))
    return found


def _left_out_before(status: dict[str, Any], public: dict[str, Any]) -> list[str]:
    """Of a run that was fetched: the arguments that its recipe lacked already."""
    before = status.get("left_out_arguments")
    names = [name for name in before if isinstance(name, str)] if isinstance(before, list) else []
    return [name for name in names if name.isidentifier() and name not in public["data"]["adapter_args"]]


def _counted(folder: RunFolder, effective: Any) -> dict[str, Any]:
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


def _examples(folder: RunFolder, credentialed: str | None) -> list[dict[str, Any]]:
    """Rows that were scored: what was asked, answered and wanted. No picture's place, and no metadata.

    Raises:
        RunError: the data may not be shown to others, or nothing was scored.
    """
    with undamaged(folder.predictions):
        rows = read_rows(folder.predictions)
        # Of a run that noted nothing, the rows know.
        credentialed = credentialed or origin_of_rows(row.get("metadata", {}) for row in rows)
    if credentialed:
        raise RunError(f"{folder.path}: no examples of {credentialed} may be shown: {CREDENTIALED[credentialed]}")
    if not rows:
        raise RunError(f"{folder.path}: there are no examples to show: the run was not scored (predictions.jsonl)")
    own_file(folder.predictions, folder.path)
    kept = ("prefix", "prediction", "before", "references", "scores")
    return [{key: row[key] for key in kept if key in row} for row in rows[:EXAMPLES]]
