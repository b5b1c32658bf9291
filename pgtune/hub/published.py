"""What is told of a run: its recipe without places, its scores without texts, what was on both sides of a split.

Pure functions from what a run folder holds to what may leave it. Nothing of a data row is in what they return.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pgtune.overlaps import Finding
from pgtune.recipe import Recipe
from pgtune.sources import SHIPPED

__all__ = ["EVERYWHERE", "public_finding", "public_metrics", "public_recipe", "public_source"]

EVERYWHERE = (SHIPPED, "hub:")
"""Sources that mean the same on every machine."""
PUBLISHED = {
    "chart_to_table", "chartqa", "grandstaff", "primus", "rs_captions", "rsvqa_hr", "rsvqa_lr", "scicap", "slake",
    "vqa_rad",
}  # fmt: skip
"""Data adapters of published sets: their parts and question types are words of the set, not of somebody's rows."""
_OLD = re.compile(r"[A-Za-z]:[\\/]")


def public_source(source: str) -> str:
    """A source by name: shipped and Hub data as they are, of a path its last part."""
    return source if source.startswith(EVERYWHERE) else _last(source)


def _last(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] or "data"


def public_recipe(recipe: Recipe, base: str, revision: str | None, name: str) -> dict[str, Any]:
    """The recipe as it is pushed: paths become names, the base is named as on the Hub, nothing is tracked or pushed."""
    found = recipe.model_dump(mode="json")
    started = found["model"]["adapter"]
    found["model"] |= {
        "base": base,
        "revision": revision,
        "adapter": None if started is None or Path(started).exists() else started,
    }
    data = found["data"]
    for split in ("train", "validation", "test"):
        if data[split] is not None:
            data[split]["source"] = public_source(data[split]["source"])
    data["root"] = None
    data["adapter_args"] = _without_places(data["adapter_args"])
    plain = Recipe(data=recipe.data, output_dir="runs").model_dump(mode="json")
    return {**found, "tracking": plain["tracking"], "hub": plain["hub"], "output_dir": f"runs/{name}"}


def _without_places(value: Any) -> Any:
    """Arguments of a data adapter with the last part of each path in place of the path."""
    if isinstance(value, dict):
        return {key: _without_places(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_places(inner) for inner in value]
    if isinstance(value, str) and _is_place(value):
        return public_source(value)
    return value


def _is_place(text: str) -> bool:
    if os.path.isabs(text) or text.startswith("~") or _OLD.match(text):
        return True
    return len(text) < 1000 and "\n" not in text and re.search(r"[\\/]", text) is not None and os.path.exists(text)


def public_metrics(metrics: Mapping[str, Any], adapter: str) -> dict[str, Any]:
    """The scores of a run. The trivial answer is an answer of the data, and stays; so do reasons and places of rows."""
    keys = ("before", "after", "trivial", "n", "steps", "split", "confidence", "confidence_intervals")
    found = {key: metrics[key] for key in keys if key in metrics}
    found["left_out"] = {
        split: {"skipped": of["skipped"]["count"], "bad": of["bad"]["count"]}
        for split, of in metrics.get("left_out", {}).items()
    }
    if "scores" in metrics:
        labels = () if adapter in PUBLISHED else ("parts", "types")
        found["scores"] = {
            when: {
                name: {key: value for key, value in score.items() if key not in labels} for name, score in of.items()
            }
            for when, of in metrics["scores"].items()
        }
    return found


def public_finding(finding: Finding) -> Finding:
    """A finding with its numbers and without the places of rows."""
    words = finding.words().removeprefix(f"{finding.splits[-1]}: ")
    return Finding(finding.kind, finding.splits, words, finding.count, finding.of)
