"""What is told of a run: its recipe without places, its scores without texts, what was on both sides of a split.

Functions from what a run folder holds to what may leave it, made key by key: what has another name, or another type, is
not passed on. Nothing of a data row is in what they return.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pgtune.hub.arguments import KINDS, last_part, public_arguments, texts_in
from pgtune.names import ADAPTERS, HUB_ID, METRICS
from pgtune.overlaps import Finding
from pgtune.recipe import Recipe
from pgtune.sources import SHIPPED

__all__ = [
    "EVERYWHERE",
    "adapter_on_hub",
    "given_texts",
    "public_facts",
    "public_finding",
    "public_metrics",
    "public_recipe",
    "public_source",
    "public_versions",
]

EVERYWHERE = (SHIPPED, "hub:")
"""Sources that mean the same on every machine."""
PUBLISHED = {
    "chart_to_table", "chartqa", "grandstaff", "primus", "rs_captions", "rsvqa_hr", "rsvqa_lr", "scicap", "slake",
    "vqa_rad",
}  # fmt: skip
"""Data adapters of published sets: their parts and question types are words of the set, not of somebody's rows."""
SPLITS = ("train", "validation", "test")
_SHIPPED_FILE = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*")
_SHARED = re.compile(r"belong to (?P<count>[\d,]+) (?P<kind>.+) that (?P<other>train|validation|test) holds too", re.S)
_VERSION = re.compile(r"[\w.+!-]{1,40}", re.ASCII)
_DEVICE = re.compile(r"(\d+ x )?[A-Za-z][\w ().,+-]{0,59}", re.ASCII)
_VERSIONS = {
    **dict.fromkeys(("python", "pgtune", "torch", "transformers", "peft", "accelerate"), _VERSION),
    "device": _DEVICE,
    "base_commit": re.compile(r"[0-9a-f]{40}"),
}
_SHA256 = re.compile(r"[0-9a-f]{64}")


def public_source(source: str) -> str:
    """A source by name: shipped and Hub data as they are, of a path its last part."""
    for prefix, form in ((SHIPPED, _SHIPPED_FILE), ("hub:", HUB_ID)):
        if source.startswith(prefix) and form.fullmatch(source.removeprefix(prefix)):
            return source
    return last_part(source)


def public_recipe(
    recipe: Recipe, base: str, revision: str | None, name: str, *, adapter: str | None, texts: bool
) -> tuple[dict[str, Any], list[str]]:
    """The recipe as it is pushed: paths become names, the base is named as on the Hub, nothing is tracked or pushed.

    Args:
        adapter: the run that it went on from, where that is on the Hub.
        texts: tell the texts among the data adapter's arguments.

    Returns:
        The recipe, and the names of the data adapter's arguments that it lacks.
    """
    found = recipe.model_dump(mode="json")
    found["model"] |= {"base": base, "revision": revision, "adapter": adapter}
    data = found["data"]
    for split in SPLITS:
        if data[split] is not None:
            data[split]["source"] = public_source(data[split]["source"])
    data["root"] = None
    if data["split_by"] is not None:
        data["split_by"] = _kind(data["split_by"])
    data["adapter_args"], left_out = public_arguments(data["adapter"], data["adapter_args"], texts=texts)
    plain = Recipe(data=recipe.data, output_dir="runs").model_dump(mode="json")
    return {**found, "tracking": plain["tracking"], "hub": plain["hub"], "output_dir": f"runs/{name}"}, left_out


def adapter_on_hub(given: str | None, run: Path, status: Mapping[str, Any]) -> str | None:
    """`model.adapter`, where it is a run on the Hub and no folder.

    Args:
        run: the folder of the run that went on from it.
        status: of that run, which notes whether the adapter was a folder then.
    """
    if given is None or status.get("adapter_on_hub") is not True:
        return None
    name, at, revision = given.partition("@")
    if not HUB_ID.fullmatch(name) or (at and not _VERSION.fullmatch(revision)):
        return None
    # A merged run may note what another machine found; a relative path looks like an id, and starts where the training
    # was called: somewhere above the run, or here.
    here = [Path.cwd(), *run.resolve().parents]
    return None if any((folder / given).exists() for folder in here) else given


def given_texts(recipe: Recipe) -> list[str]:
    """The words of a public recipe that are the user's own: names of files, splits, columns, modules."""
    data = recipe.data
    sources = [source for source in (data.train, data.validation, data.test) if source is not None]
    found = [text for source in sources for text in (source.source, source.split) if not text.startswith(EVERYWHERE)]
    found += [] if data.adapter in ADAPTERS else [data.adapter]
    found += [] if recipe.model.revision is None else [recipe.model.revision]
    if recipe.lora is not None and isinstance(recipe.lora.targets, str):
        found.append(recipe.lora.targets)
    return found + texts_in(data.adapter_args)


def public_metrics(metrics: Any, adapter: str) -> dict[str, Any]:
    """The scores of a run. The trivial answer is an answer of the data, and stays; so do reasons and places of rows.

    Raises:
        KeyError, TypeError, ValueError: it is damaged.
    """
    if not isinstance(metrics, dict):
        raise TypeError("it holds no mapping")
    split = metrics["split"]
    if split not in (*SPLITS, None):
        raise ValueError(f"split: {split!r} is none")
    found: dict[str, Any] = {when: _numbers(metrics.get(when, {})) for when in ("before", "after", "trivial")}
    found |= {"n": _count(metrics["n"]), "steps": _count(metrics["steps"]), "split": split}
    found["left_out"] = {
        split: {what: _count(of[what]["count"]) for what in ("skipped", "bad")}
        for split, of in metrics.get("left_out", {}).items()
        if split in SPLITS
    }
    if "scores" in metrics:
        found["confidence"] = _number(metrics["confidence"])
        found["scores"] = {
            when: {
                name: _score(score, labels=adapter in PUBLISHED)
                for name, score in metrics["scores"][when].items()
                if name in METRICS
            }
            for when in ("before", "after", "trivial")
            if when in metrics["scores"]
        }
    return found


def _score(score: Mapping[str, Any], *, labels: bool) -> dict[str, Any]:
    """One score as `pgtune.metrics.score.Score.document` has it.

    Args:
        labels: whether parts and question types may be told.
    """
    found: dict[str, Any] = {name: _number(score[name]) for name in ("value", "low", "high")}
    found |= {name: _count(score[name]) for name in ("n", "clusters")}
    found["average"] = _average(score["average"])
    if "also" in score:
        found["also"] = {
            name: _number(value) for name, value in score["also"].items() if re.fullmatch(r"[a-z][a-z0-9_]{0,19}", name)
        }
    for name in ("parts", "types") if labels else ():
        if name in score:
            found[name] = {label: _score(inner, labels=False) for label, inner in score[name].items()}
    return found


def _average(value: Any) -> str:
    if value not in ("examples", "parts", "types"):
        raise ValueError(f"average: {value!r:.60}")
    return str(value)


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: _number(value) for name, value in values.items() if name in METRICS}


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r:.60} is no number")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r:.60} is no count")
    return value


def public_finding(finding: Finding) -> Finding:
    """A finding with its numbers, without the places of rows, and with no name of a group but the known ones.

    Raises:
        TypeError, ValueError: it is damaged.
    """
    splits = tuple(finding.splits)
    if not splits or any(split not in SPLITS for split in splits):
        raise ValueError(f"splits: {splits!r:.60}")
    count, of = _count(finding.count), _count(finding.of)
    share = f"{count:,} of {of:,} ({100 * count / max(of, 1):.0f} %)"
    shared = _SHARED.search(finding.message)
    if shared is None:
        words = f"{share} are not independent of another split"
    else:
        words = f"{share} belong to {shared['count']} {_kind(shared['kind'])} that {shared['other']} holds too"
    return Finding("groups", splits, words, count, of)


def _kind(given: str) -> str:
    """The kind of a group, one or several of them: as it is where it is known."""
    if given in KINDS or given.removesuffix("s") in KINDS:
        return given
    return "groups" if given.endswith("s") else "group"


def public_versions(versions: Mapping[str, str]) -> dict[str, str]:
    """What a run was made with."""
    return {name: versions[name] for name, form in _VERSIONS.items() if form.fullmatch(versions.get(name, ""))}


def public_facts(status: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of how a run was made: hashes of its texts, and the number of examples of a step."""
    found = {key: status.get(key) for key in ("data", "validation", "test")}
    told: dict[str, Any] = {key: value for key, value in found.items() if _SHA256.fullmatch(str(value))}
    effective = status.get("effective_batch")
    return told | ({"effective_batch": effective} if type(effective) is int else {})
