"""Medians, ratios, the check that all learnt the same, the table and the record."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from benchmarks import measure

Runs = dict[str, list[dict[str, Any]]]

TOLERANCE = 0.01
"""Largest relative difference of any step's loss from the plain trainer's: bfloat16 rounds differently in another
order, and what differs in one step is learnt from in the next. docs/speed.md says what was found."""


def write(path: Path, record: dict[str, Any]) -> None:
    """The record as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path.name}")


def record(settings: dict[str, Any], runs: Runs, needed: dict[str, float], rate: float) -> dict[str, Any]:
    """All that a comparison showed.

    Args:
        runs: contestant -> what each of its repeats measured.
        needed: operations of a step.
        rate: the device's measured rate of bfloat16 matrix products.

    Raises:
        SystemExit: the losses of two contestants differ by more than the tolerance.
    """
    found = {name: summary(settings, results, needed["total"], rate) for name, results in runs.items()}
    reference = "trainer" if "trainer" in found else next(iter(found))
    for name, one in found.items():
        one["loss_difference"] = largest_difference(found[reference]["losses"], one["losses"])
        one["against"] = _ratios(found[reference], one)
        if one["loss_difference"] > TOLERANCE:
            losses = f"losses {one['losses']} and {found[reference]['losses']}"
            raise SystemExit(f"{name} does not learn what {reference} learns: {losses}")
    return {
        "settings": settings,
        "hardware": measure.hardware(),
        "necessary_operations_per_step": needed,
        "measured_matrix_rate": rate,
        "reference": reference,
        "tolerance": TOLERANCE,
        "contestants": found,
    }


def summary(settings: dict[str, Any], results: list[dict[str, Any]], needed: float, rate: float) -> dict[str, Any]:
    """One contestant: medians over its repeats; the losses are those of the first (they repeat)."""
    skipped = settings["skipped_steps"]
    step = measure.median(second for result in results for second in result["seconds"][skipped:])
    figures = {key: measure.median(result["memory"][key] for result in results) for key in results[0]["memory"]}
    peak = figures.get("gpu_peak_allocated", figures["peak"])
    return {
        "step_seconds": step,
        "step_seconds_by_repeat": [measure.median(result["seconds"][skipped:]) for result in results],
        "examples_per_second": settings["batch"] / step,
        "share_of_matrix_rate": needed / step / rate,
        "first_step_seconds": measure.median(result["seconds"][0] for result in results),
        "all_step_seconds": [result["seconds"] for result in results],
        "memory_bytes": figures,
        "peak_bytes": peak,
        # Quantised, the weights are smaller than their files.
        "beyond_weights_bytes": peak - settings["weights_bytes"] if settings["quantization"] == "none" else None,
        "seconds_beside_steps": measure.median(
            result["seconds_to_trained"] - len(result["seconds"]) * measure.median(result["seconds"][skipped:])
            for result in results
        ),
        "seconds_to_loaded": measure.median(result["seconds_to_loaded"] for result in results),
        "seconds_in_all": measure.median(result["seconds_in_all"] for result in results),
        "losses": results[0]["losses"],
        "losses_repeat": all(result["losses"] == results[0]["losses"] for result in results),
        "versions": results[0]["versions"],
    }


def largest_difference(reference: list[float], losses: list[float]) -> float:
    """The largest relative difference between two series of losses of the same steps."""
    return max(abs(one - other) / abs(one) for one, other in zip(reference, losses, strict=True))


def _ratios(reference: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    """Speed and memory against the reference, and after how many steps what is lost beside them is won back."""
    saved = reference["step_seconds"] - one["step_seconds"]
    beyond = one["beyond_weights_bytes"]
    extra = one["seconds_beside_steps"] - reference["seconds_beside_steps"]
    return {
        "examples_per_second": reference["step_seconds"] / one["step_seconds"],
        "peak": one["peak_bytes"] / reference["peak_bytes"],
        "beyond_weights": beyond / reference["beyond_weights_bytes"] if beyond is not None else None,
        "pays_after_steps": max(0, math.ceil(extra / saved)) if saved > 0 else None,
    }


def table(record: dict[str, Any]) -> str:
    """The record for a person, as Markdown."""
    settings, reference = record["settings"], record["reference"]
    machine = record["hardware"].get("gpu") or f"{record['hardware']['cpu']}, {record['hardware']['cores']} cores"
    lines = [
        f"{settings['size']} at {settings['resolution']}, batch {settings['batch']}, {settings['quantization']} "
        f"quantisation; {machine}; {record['measured_matrix_rate'] / 1e12:.2f} Top/s in bfloat16 products; a step "
        f"needs {record['necessary_operations_per_step']['total'] / 1e12:.2f} Top",
        "",
        f"| contestant | s a step | examples/s | against {reference} | beside steps, s | peak GB | against {reference} "
        "| beyond weights | of matrix rate | loss differs | pays after |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in record["contestants"].items():
        ratio = one["against"]
        beyond = "" if ratio["beyond_weights"] is None else f"{ratio['beyond_weights']:.2f}x"
        pays = "never" if ratio["pays_after_steps"] is None else f"{ratio['pays_after_steps']} steps"
        lines.append(
            f"| {name} | {one['step_seconds']:.3g} | {one['examples_per_second']:.3g} "
            f"| {ratio['examples_per_second']:.2f}x | {one['seconds_beside_steps']:.3g} "
            f"| {one['peak_bytes'] / 1e9:.2f} | {ratio['peak']:.2f}x | {beyond} | {one['share_of_matrix_rate']:.0%} "
            f"| {one['loss_difference']:.1e} | {pays} |"
        )
    lines += [f"| {name} | out of memory |" + " |" * 9 for name in settings["out_of_memory"]]
    return "\n".join(lines)
