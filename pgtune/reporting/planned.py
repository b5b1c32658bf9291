"""What `pgtune plan` says of the run's recipe, beside what the run took."""

from __future__ import annotations

from statistics import median
from typing import Any

from pgtune.errors import PgtuneError
from pgtune.planning import Plan, plan
from pgtune.planning.memory import recomputing
from pgtune.planning.text import gigabytes
from pgtune.reporting.markup import Safe, tag
from pgtune.reporting.record import Record

__all__ = ["plan_beside_run"]


def plan_beside_run(record: Record) -> list[Safe]:
    """A table of both; nothing before the first step, and of a run from elsewhere, whose data is not here."""
    if not record.log or record.published:
        return []
    found = record.memory
    device = found.get("device", "gpu")
    try:
        recipe = recomputing(record.recipe, found.get("gradient_checkpointing", False))
        made = plan(recipe, devices=found.get("devices", 1), device=device, bfloat16=found.get("bfloat16", True))
    except PgtuneError as error:
        return [tag("p", f"There is no plan: {error}")]
    head = tag("tr", [tag("th", name, scope="col") for name in ("", "planned", "measured")])
    rows = [
        tag("tr", tag("th", label, scope="row"), tag("td", planned), tag("td", measured))
        for label, planned, measured in _rows(made, record, found)
    ]
    counted = {
        "gpu": "what torch allocates on a GPU",
        "cpu": "how much the process grows, the libraries' own growth with it, which the plan leaves out",
    }[device]
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="numbers plan")
    return [
        tag("div", table, class_="sideways", tabindex="0", role="group", aria_label="Plan and measured"),
        tag("p", f"Memory is {counted}. Planned from the recipe and {made.memory.workload.source}."),
    ]


def _rows(made: Plan, record: Record, found: dict[str, Any]) -> list[tuple[str, str, str]]:
    last = record.log[-1]
    seconds = median(float(row["seconds"]) for row in record.log)
    steps = f"{made.steps:,}" if made.steps is not None else "unknown without the data"
    peak = gigabytes(found["peak_bytes"]) if found else "not recorded"
    measured = seconds > 0  # a clock may be too coarse for a step
    if found:
        peak += f", planned / measured {made.peak.total / found['peak_bytes']:.2f}"
    tokens = f"{made.tokens_per_step / seconds:,.0f} a second" if measured else ""
    rate = f"{_operations(made.operations_per_step / seconds)} a second" if measured else ""
    return [
        ("peak of memory", f"{gigabytes(made.peak.total)} ({made.peak.name})", peak),
        ("steps", steps, f"{last['step']:,}"),
        ("tokens a step", f"{made.tokens_per_step:,.0f}", tokens),
        ("operations a step", _operations(made.operations_per_step), rate),
        ("time of a step", "", f"{seconds:.3g} s"),
    ]


def _operations(count: float) -> str:
    return f"{count / 1e12:,.3g} TFLOP" if count >= 1e12 else f"{count / 1e9:.3g} GFLOP"
