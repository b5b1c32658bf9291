"""Finding a metric by its name."""

from __future__ import annotations

import importlib

from pgtune.errors import RecipeError
from pgtune.metrics.score import Metric
from pgtune.names import METRICS, unknown_name

__all__ = ["load_metric"]


def load_metric(name: str) -> Metric:
    """The metric of that name; RecipeError with the nearest name where there is none."""
    if name not in METRICS:
        raise RecipeError(unknown_name("metric", name, METRICS))
    module, attribute = METRICS[name].split(":")
    metric = getattr(importlib.import_module(module), attribute)
    assert isinstance(metric, Metric), METRICS[name]
    return metric
