"""Line charts as inline SVG: pure functions from points to markup. Values are shown on hovering, by `<title>`.

A chart is 380 units wide and is never shown much wider or narrower, so that its letters are legible on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from pgtune.reporting.markup import Safe, join, tag

__all__ = ["Series", "chart", "running_mean", "thinned", "ticks"]

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 380, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 26
MOST_POINTS = 240
"""A line has at most so many points; of a longer one, each stands for several."""


@dataclass(frozen=True)
class Series:
    """A line. ``look``: its class in the style sheet; ``dots``: values are marked; ``quiet``: nothing on hovering."""

    name: str
    points: Points
    look: str
    dots: bool = False
    quiet: bool = False


def chart(title: str, series: Sequence[Series], *, top: float | None = None, ends: tuple[float, float]) -> Safe:
    """A figure with one or more lines over the steps.

    Args:
        top: the upper end of the axis where it is known, as 1 for a share.
        ends: first and last step of the axis, the same for all charts of a run.
    """
    shown = [Series(one.name, thinned(one.points), one.look, one.dots, one.quiet) for one in series]
    values = [value for one in shown for _, value in one.points]
    marks = ticks(*_span(values, top))
    low, high = marks[0], marks[-1]
    first, last = ends if ends[0] < ends[1] else (ends[0] - 1, ends[0] + 1)

    def x(step: float) -> float:
        return round(_LEFT + (step - first) / (last - first) * (WIDTH - _LEFT - _RIGHT), 2)

    def y(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM), 2)

    grid = [
        join(
            tag("path", d=f"M{_LEFT} {y(mark)}H{WIDTH - _RIGHT}", class_="grid"),
            tag("text", _number(mark), x=_LEFT - 6, y=y(mark) + 4, text_anchor="end"),
        )
        for mark in marks
    ]
    steps = [step for step in ticks(*ends, whole=True) if first <= step <= last]
    below = [tag("text", _number(step), x=x(step), y=HEIGHT - 8, text_anchor="middle") for step in steps]
    lines = [
        tag("path", d="M" + "L".join(f"{x(step)} {y(value)}" for step, value in one.points), class_=f"line {one.look}")
        for one in shown
        if len(one.points) > 1
    ]
    dots = [
        tag("circle", tag("title", _said(one.name, step, value)), cx=x(step), cy=y(value), r=_radius(one),
            class_=f"dot {one.look}" if one.dots or len(one.points) == 1 else "hover")
        for one in shown
        if not one.quiet
        for step, value in one.points
    ]  # fmt: skip
    label = f"{title}. " + ". ".join(_in_words(one) for one in series if not one.quiet)
    drawing = tag("svg", grid, below, lines, dots, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)
    legend = [tag("span", tag("i", class_=one.look), one.name) for one in shown] if len(shown) > 1 else []
    caption = tag("figcaption", tag("b", title), tag("span", legend, class_="legend") if legend else None)
    return tag("figure", caption, drawing, class_="chart")


def thinned(points: Points, most: int = MOST_POINTS) -> Points:
    """At most so many points; each is the mean of as many neighbours as it stands for."""
    if len(points) <= most:
        return points
    size = math.ceil(len(points) / most)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def running_mean(points: Points, window: int) -> Points:
    """Each value as the mean of itself and its neighbours, ``window`` in all; fewer at the ends."""
    half = window // 2
    sums = list(accumulate((value for _, value in points), initial=0.0))
    found = []
    for place, (step, _) in enumerate(points):
        reach = min(half, place, len(points) - 1 - place)
        found.append((step, (sums[place + reach + 1] - sums[place - reach]) / (2 * reach + 1)))
    return found


def ticks(low: float, high: float, *, whole: bool = False, most: int = 5) -> list[float]:
    """Round numbers from at or below ``low`` to at or above ``high``, about ``most`` of them."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    if whole:
        step = max(1.0, round(step))
    digits = 2 - math.floor(math.log10(step))  # of which a step has two at most
    count = math.ceil(high / step - 1e-9) - math.floor(low / step + 1e-9)
    start = math.floor(low / step + 1e-9)
    return [round((start + place) * step, digits) for place in range(count + 1)]


def _span(values: Sequence[float], top: float | None) -> tuple[float, float]:
    """The ends of the axis: from zero, unless that would leave most of the chart empty."""
    low, high = min(values), max(values)
    if top is not None:
        return min(0.0, low), max(top, high)
    return (0.0 if 0 <= low < 0.5 * high else low), high


def _radius(one: Series) -> float:
    return 3.5 if one.dots or len(one.points) == 1 else 6


def _number(value: float) -> str:
    if value and abs(value) < 1e-4:
        digits, _, exponent = f"{value:.1e}".partition("e")
        return f"{digits.removesuffix('.0')}e{int(exponent)}"
    return f"{value:,.10g}" if abs(value) >= 1000 else f"{value:.4g}"


def _said(name: str, step: float, value: float) -> str:
    return f"step {step:,.0f}: {name} {value:.4g}"


def _in_words(one: Series) -> str:
    (first, start), (last, end) = one.points[0], one.points[-1]
    if len(one.points) == 1:
        return _said(one.name, first, start)
    at, lowest = min(one.points, key=lambda point: point[1])
    best, highest = max(one.points, key=lambda point: point[1])
    way = "rises" if end > start else "falls" if end < start else "stays"
    return (
        f"{one.name} {way} from {start:.4g} at step {first:,.0f} to {end:.4g} at step {last:,.0f}, lowest {lowest:.4g} "
        f"at step {at:,.0f}, highest {highest:.4g} at step {best:,.0f}"
    )
