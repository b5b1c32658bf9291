"""The page itself: its sections, its style and script, and the policy that forbids it to load or run anything else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from statistics import median
from typing import Any

import yaml

from pgtune.left_out import described
from pgtune.metrics import load_metric
from pgtune.metrics.show import shown
from pgtune.reporting.curves import Series, chart, running_mean, thinned
from pgtune.reporting.gallery import gallery
from pgtune.reporting.intervals import score_table
from pgtune.reporting.markup import Child, Safe, tag
from pgtune.reporting.planned import plan_beside_run
from pgtune.reporting.record import Record

__all__ = ["page"]

_MOST_ROWS = 100
"""Left-out rows that are listed, and lines of the table of steps."""


def page(record: Record, limit: int) -> str:
    """The whole document.

    Args:
        limit: at most so many examples, each with its pictures, are carried in it.
    """
    style, script = _asset("page.css"), _asset("page.js")
    name = record.name
    sections = {
        "Scores": _scores(record),
        "Curves": _curves(record),
        "Examples": gallery(record, limit) if record.rows else [],
        "Left-out rows": _left_out(record),
        "Plan and measured": plan_beside_run(record),
        "Recipe": _recipe(record),
    }
    there = {title: content for title, content in sections.items() if content}
    anchors = {title: title.lower().replace(" ", "-") for title in there}
    links = [tag("a", title, href=f"#{anchors[title]}") for title in there]
    main = [
        tag("section", tag("h2", title, id=f"{anchors[title]}-head"), content, id=anchors[title],
            aria_labelledby=f"{anchors[title]}-head")
        for title, content in there.items()
    ]  # fmt: skip
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{name}: pgtune report"),
        tag("style", style),
    ]
    body = [
        tag("a", "Skip to the scores", href="#main", class_="skip"),
        tag("header", _summary(record, name), class_="top"),
        tag("nav", links, aria_label="Sections"),
        tag("main", main, id="main"),
        tag("footer", tag("p", _CLOSING), class_="bottom"),
        tag("script", script),
    ]
    return f"<!DOCTYPE html>\n{tag('html', tag('head', head), tag('body', body), lang='en')}\n"


_CLOSING = (
    "Made by pgtune report from the run folder alone. The page is complete in itself and loads nothing. It holds "
    "pictures and texts of the data: pass it on only as the data may be passed on."
)


def _asset(name: str) -> Safe:
    return Safe(resources.files("pgtune.reporting").joinpath(name).read_text(encoding="utf-8"))


def _policy(style: str, script: str) -> str:
    """Only this style and this script, known by their digests, and pictures that are in the page."""

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {digest(script)}; style-src {digest(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _summary(record: Record, name: str) -> list[Child]:
    recipe = record.recipe
    parts: list[Child] = [tag("h1", name)]
    method = recipe.method if recipe.lora is None else f"{recipe.method}, rank {recipe.lora.rank}"
    parts.append(tag("p", f"{method} on {recipe.model.base}, data adapter {recipe.data.adapter}", class_="what"))
    if not record.finished:
        parts.append(tag("p", _unfinished(record), class_="banner", role="note"))
    if tiles := _tiles(record):
        parts.append(tag("div", tiles, class_="tiles"))
    facts = [tag("div", tag("dt", label), tag("dd", text)) for label, text in _facts(record)]
    return [*parts, tag("dl", facts, class_="facts")]


def _unfinished(record: Record) -> str:
    step = f"after step {record.log[-1]['step']:,}" if record.log else "before its first step"
    return (
        f"This run is not finished: it stands {step}, is still being trained or was stopped. "
        "What is known so far is shown. pgtune train --resume goes on with it."
    )


def _tiles(record: Record) -> list[Safe]:
    """The headline: the first metric, before, after and of the trivial answer."""
    metric = record.recipe.eval.metrics[0]
    words = {
        "before": "the base model",
        "after": "the trained model",
        "trivial": f"always answering {_trivial_answer(record)}",
    }
    tiles = []
    for label, found in record.scores.items():
        if metric not in found:
            continue
        document = found[metric]
        inside = None
        if document["clusters"] > 1 or document["n"] == 1:
            low, high = (shown(metric, document[bound]).removesuffix(" %") for bound in ("low", "high"))
            inside = tag("span", f"{low} to {high}")
        name = tag("b", f"{metric}, {label}")
        value = tag("strong", shown(metric, document["value"]))
        tiles.append(tag("div", name, value, inside, tag("small", words[label]), class_=f"tile {label}"))
    return tiles


def _trivial_answer(record: Record) -> str:
    """Of a pushed run it is not known: it is an answer of the data, and was not pushed."""
    found = record.metrics.get("trivial_answer")
    return "the most frequent answer" if found is None else _brief(found)


def _brief(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}\u2026")


def _facts(record: Record) -> list[tuple[str, str]]:
    facts = [("state", "finished" if record.finished else "not finished"), ("run", record.identity)]
    if record.log:
        last = record.log[-1]
        seconds = [float(row["seconds"]) for row in record.log]
        facts += [
            ("steps", f"{last['step']:,}, {last['epoch']:.3g} epochs"),
            ("time in steps", f"{_duration(sum(seconds))}, {median(seconds):.3g} s a step"),
        ]
    if record.metrics.get("n"):
        facts.append(("scored", f"{record.metrics['n']:,} of {record.metrics['split']}"))
    facts += [("seed", str(record.recipe.seed))]
    return facts


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _scores(record: Record) -> list[Safe]:
    names = [name for name in record.recipe.eval.metrics if any(name in found for found in record.scores.values())]
    parts = [_warning(words) for words in _overlaps(record)]
    parts += [_warning(words) for words in _not_above_trivial(record, names)]
    if names:
        level = f"{100 * record.confidence:g} % intervals"
        said = f"Values with their {level}; where examples share a picture or a patient, that is taken into account."
        parts.append(tag("p", said))
    parts += [score_table(name, record.scores) for name in names]
    if record.split is not None:
        sizes = ", ".join(
            f"{name} {of['examples']:,} examples of {of['groups']:,} groups"
            for name, of in record.split["splits"].items()
        )  # fmt: skip
        told = f"The splits were cut by {record.split['split_by']}, seed {record.split['seed']}: {sizes}."
        parts.append(tag("p", told))
    for name, found in record.evaluations.items():
        parts.append(tag("h3", f"evaluations/{name}"))
        parts += [_warning(words) for words in found.get("warnings", [])]
        parts.append(tag("p", f"{found['n']:,} examples of {found['source']}"))
        columns = {"after": found["scores"], "trivial": found["trivial_scores"]}
        parts += [score_table(metric, columns) for metric in found["scores"]]
    return parts


def _warning(text: str) -> Safe:
    return tag("p", tag("b", "Warning: "), text, class_="warning")


def _overlaps(record: Record) -> list[str]:
    """What stands on both sides of a split: a score on it tells less of what is new."""
    return [finding.words() for finding in record.overlaps]


def _not_above_trivial(record: Record, names: Sequence[str]) -> list[str]:
    """Metrics by which the trained model is not clearly better than one answer to everything."""
    after, trivial = record.scores.get("after", {}), record.scores.get("trivial", {})
    found = []
    for name in names:
        if name not in after or name not in trivial:
            continue
        level = trivial[name]["value"]
        better = after[name]["low"] > level if load_metric(name).higher_is_better else after[name]["high"] < level
        if not better:
            found.append(
                f"by {name} the trained model is not clearly better than always answering {_trivial_answer(record)} "
                f"({shown(name, level)} lies inside its interval or beyond)."
            )
    return found


def _curves(record: Record) -> list[Safe]:
    log, validation = record.log, record.validation
    if not log:
        return []
    ends = (float(log[0]["step"]), float(log[-1]["step"]))

    def points(rows: Sequence[Any], key: str) -> list[tuple[float, float]]:
        return [(float(row["step"]), float(row[key])) for row in rows if key in row]

    losses = points(log, "loss")
    window = len(losses) // 20 | 1
    if window > 1:
        lines = [
            Series("each step", losses, "faint", quiet=True),
            Series(f"mean of {window}", running_mean(losses, window), "loss"),
        ]
    else:
        lines = [Series("loss", losses, "loss")]
    if validation:
        lines.append(Series("validation", points(validation, "loss"), "validation", dots=True))
    charts = [chart("Loss", lines, ends=ends)]
    for name in record.recipe.eval.metrics:
        found = points(validation, name)
        if found:
            top = 1.0 if load_metric(name).percent else None
            series = [Series(name, found, "validation", dots=True)]
            charts.append(chart(f"Validation: {name}", series, top=top, ends=ends))
    charts.append(chart("Learning rate", [Series("learning rate", points(log, "learning_rate"), "rate")], ends=ends))
    charts.append(chart("Gradient norm", [Series("gradient norm", points(log, "grad_norm"), "norm")], ends=ends))
    return [tag("div", charts, class_="charts"), _table_of_steps(record)]


def _table_of_steps(record: Record) -> Safe:
    """The same in numbers, for who cannot see or hover: steps thinned, every look at validation."""
    keys = ("loss", "learning_rate", "grad_norm")
    columns = {key: dict(thinned([(row["step"], row[key]) for row in record.log], _MOST_ROWS)) for key in keys}
    steps = [tag("tr", tag("th", f"{step:,}", scope="row"), [tag("td", f"{columns[key][step]:.4g}") for key in keys])
             for step in columns["loss"]]  # fmt: skip
    head = tag("tr", [tag("th", name, scope="col") for name in ("step", "loss", "learning rate", "gradient norm")])
    note = None
    if len(steps) < len(record.log):
        note = tag("p", f"Each line is the mean of up to {-(-len(record.log) // _MOST_ROWS)} steps and names the last.")
    tables = [tag("table", tag("thead", head), tag("tbody", steps), class_="numbers")]
    if record.validation:
        names = [name for name in record.validation[0] if name != "step"]
        head = tag("tr", [tag("th", name, scope="col") for name in ("step", *(f"validation {name}" for name in names))])
        looks = [
            tag("tr", tag("th", f"{row['step']:,}", scope="row"),
                [tag("td", f"{row[name]:.4g}" if name in row else "\u2013") for name in names])
            for row in record.validation
        ]
        tables.append(tag("table", tag("thead", head), tag("tbody", looks), class_="numbers"))
    scrolled = tag("div", tables, class_="sideways", tabindex="0", role="group", aria_label="Curves in numbers")
    return tag("details", tag("summary", "The curves in numbers"), note, scrolled)


def _left_out(record: Record) -> list[Safe]:
    parts: list[Safe] = []
    for split, found in record.metrics.get("left_out", {}).items():
        parts.append(tag("h3", f"{split}: {found['source']}" if "source" in found else split))
        for kind, words in (("skipped", "skipped by the data adapter"), ("bad", "bad rows")):
            tally = found[kind]
            if isinstance(tally, int):  # of a pushed run the counts alone are known
                parts.append(tag("p", f"{tally:,} {words}"))
                continue
            if not tally["count"]:
                continue
            reasons = [tag("li", f"{count:,} {reason}") for reason, count in tally["reasons"].items()]
            parts.append(tag("p", f"{tally['count']:,} {words}:"))
            parts.append(tag("ul", reasons))
            listed = [tag("li", described(row)) for row in tally["rows"][:_MOST_ROWS]]
            more = tally["count"] - len(listed)
            rest = tag("p", f"and {more:,} more") if more > 0 else None
            parts.append(tag("details", tag("summary", f"the rows {words}"), tag("ul", listed), rest))
    return parts


def _recipe(record: Record) -> list[Safe]:
    chosen = record.recipe.model_dump(mode="json", exclude_defaults=True)
    own = yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True)
    versions = [tag("div", tag("dt", name), tag("dd", version)) for name, version in record.versions.items()]
    return [
        tag("p", "What differs from the defaults:"),
        tag("pre", own, tabindex="0", aria_label="Recipe, what differs from the defaults"),
        tag("details", tag("summary", "The whole recipe, every key resolved"),
            tag("pre", record.recipe_text, tabindex="0", aria_label="Recipe")),
        tag("h3", "Versions"),
        tag("dl", versions, class_="facts"),
    ]  # fmt: skip
