"""A plan for a person, the verdict first, and as a document for `--json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pgtune.planning import Plan
from pgtune.planning.memory import Phase

__all__ = ["document", "gigabytes", "layers_again", "render"]


def gigabytes(count: float) -> str:
    """``7.42 GB``, of 10^9 bytes."""
    return f"{count / 1e9:.{2 if count < 99.5e9 else 0}f} GB"


def _operations(count: float) -> str:
    for unit, size in (("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e9:.3g} GFLOP"


def layers_again(every: int) -> str:
    """Which layers are computed again, where every n-th one is."""
    return {1: "every layer", 2: "every second layer", 3: "every third layer"}.get(every, f"every {every}th layer")


def verdict(plan: Plan) -> str:
    """Whether it fits, in a sentence."""
    where = f"{plan.memory.devices} devices" if plan.memory.devices > 1 else "one device"
    each = " each" if plan.memory.devices > 1 else ""
    need = f"{gigabytes(plan.peak.total)}{each} ({plan.peak.name})"
    beside = f" and {gigabytes(plan.reserve)} beside it" if plan.reserve else ""
    if plan.available is None:
        return f"needs {need}{beside} on {where}"
    says = "does not fit" if not plan.fits else "fits, with little to spare" if plan.tight else "fits"
    return f"{says}: {need}{beside}, of {gigabytes(plan.available)} on {where}"


def render(plan: Plan, given: Sequence[str] = ()) -> str:
    """The verdict, what would make it fit, and the table.

    Args:
        given: the overrides that the recipe was planned with, some of which may have to go.
    """
    memory, recipe = plan.memory, plan.recipe
    lines = [verdict(plan)]
    if plan.fits is False:
        lines += [f"  fits with  {change.words}   ({gigabytes(change.total)})" for change in plan.changes]
        if not plan.changes:
            lines.append("  nothing that was tried makes it fit: a smaller base, or a larger device")
        lines += [f"  {line}" for line in _notes(plan, given)]
    counts = memory.trained_parameters, memory.frozen_parameters
    how = [recipe.method, "bf16 autocast" if memory.autocast else "no autocast", f"attention {memory.attention}"]
    how += ["compiled"] if memory.compiled else []
    how += [f"{layers_again(memory.recompute)} computed again"] if memory.recompute else []
    how += [plan.strategy] if memory.devices > 1 else []
    lines += [
        "",
        f"model       {recipe.model.base}: {counts[0]:,} parameters trained, {counts[1]:,} frozen",
        f"computes    on a {memory.device}: {', '.join(how)}",
        f"data        {memory.workload.source}",
        f"longest     {memory.length:,} tokens, {memory.workload.suffix} learnt; batch {recipe.train.batch_size}",
        f"work        {_work(plan)}",
        "",
        _table(plan),
    ]
    return "\n".join(lines)


def _notes(plan: Plan, given: Sequence[str]) -> list[str]:
    """What to know before the changes are pasted behind a command."""
    proposed = {one.partition("=")[0] for change in plan.changes for one in change.overrides}
    again = [one for one in given if one.partition("=")[0] in proposed]
    notes = [f"in place of {' '.join(again)}, where both name a key"] if again else []
    if any(change.devices > 1 for change in plan.changes):
        notes.append("the effective batch stays; what is --devices here is --processes for train")
    return notes


def _work(plan: Plan) -> str:
    each = f"{plan.tokens_per_step:,.0f} tokens and {_operations(plan.operations_per_step)} a step"
    if plan.steps is None:
        return f"{plan.effective_batch} examples, {each}; steps unknown without all of the data"
    total = _operations(plan.operations_per_step * plan.steps)
    return f"{plan.steps:,} steps of {plan.effective_batch} examples, {each}; {total} in all"


COLUMNS = ("weights", "optimizer", "gradients", "activations", "working", "allocator")


def _table(plan: Plan) -> str:
    shown = [name for name in COLUMNS if any(getattr(phase, name) for phase in plan.phases)]
    rows = [["GB a device", *shown, "total", ""]]
    for phase in plan.phases:
        sizes = [*(getattr(phase, name) for name in shown), phase.total]
        rows.append([phase.name, *(f"{size / 1e9:.2f}" for size in sizes), "<- peak" if phase is plan.peak else ""])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{row[0]:{widths[0]}}  "
        + "  ".join(f"{cell:>{width}}" for cell, width in zip(row[1:-1], widths[1:-1], strict=True))
        + (f"  {row[-1]}" if row[-1] else "")
        for row in rows
    )


def _phase(phase: Phase) -> dict[str, Any]:
    return {**{name: round(value) if isinstance(value, float) else value for name, value in asdict(phase).items()},
            "total": round(phase.total)}  # fmt: skip


def document(plan: Plan) -> dict[str, Any]:
    """For ``--json``; sizes in bytes a device."""
    memory = plan.memory
    return {
        "base": plan.recipe.model.base,
        "method": plan.recipe.method,
        "device": memory.device,
        "devices": memory.devices,
        "strategy": plan.strategy,
        "compiled": memory.compiled,
        "attention": memory.attention,
        "autocast": memory.autocast,
        "gradient_checkpointing": memory.recipe.train.gradient_checkpointing,
        "parameters": {"trained": memory.trained_parameters, "frozen": memory.frozen_parameters},
        "data": asdict(memory.workload),
        "longest": memory.length,
        "memory": plan.available,
        "reserve": round(plan.reserve),
        "fits": plan.fits,
        "peak": _phase(plan.peak),
        "phases": [_phase(phase) for phase in plan.phases],
        "changes": [
            {"overrides": list(change.overrides), "devices": change.devices, "total": round(change.total)}
            for change in plan.changes
        ],
        "steps": plan.steps,
        "effective_batch": plan.effective_batch,
        "tokens_per_step": round(plan.tokens_per_step),
        "operations_per_step": round(plan.operations_per_step),
    }
