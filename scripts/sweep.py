"""Train `tiny` on the four real data sets: the headline table, and LoRA's and full fine-tuning's rates side by side.

    python scripts/sweep.py --headline          # each recipe once as it is, before and after: some 8 minutes on 1 core
    python scripts/sweep.py                     # the sweep: about an hour; stop it and start it again at will
    python scripts/sweep.py --report            # the tables of what is there

The data sets must lie in data/ (scripts/build_*.py). Every training ends in runs/sweep/<domain>/<name>/ and is skipped
when it is there; runs/sweep/results.json and runs/sweep/tables.md hold the tables.

The sweep tries rates three times apart for LoRA (rank 16 on everything) and for full fine-tuning, 150 steps each, seed
0; where the best is at the end of the row, the row is made longer. The rate is chosen on the validation rows alone; the
best of each method, with two more seeds, is scored on the test rows. A base of the same shape with random weights,
trained in full, is treated the same way, with one seed. Intervals are 95 % and from resampling groups (works, packages,
blocks, patients), not rows.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pgtune

ROOT = Path("runs/sweep")
GRID = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
START = {"lora": (1e-3, 3e-3, 1e-2), "full": (3e-4, 1e-3, 3e-3), "random": (1e-3, 3e-3)}
"""Where the row of rates begins; it grows while its best is at an end."""
SEEDS = (0, 1, 2)
STEPS = 150
"""Of 16 examples: less than the recipes take, for there are many cells."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Domain:
    """One of the four: its recipe, its data, and the group that its intervals are clustered by."""

    name: str
    recipe: str
    data: str
    group: str


DOMAINS = (
    Domain("remote sensing", "remote_sensing/real_continents", "data/continents", "scene"),
    Domain("charts", "charts/real_charts", "data/charts", "package"),
    Domain("radiology", "radiology/real_ct_levels", "data/ct_levels", "patient"),
    Domain("sheet music", "sheet_music/real_incipits", "data/incipits", "work"),
)


def method_overrides(method: str) -> list[str]:
    """What turns a LoRA recipe into the method."""
    if method == "lora":
        return []
    overrides = ["lora=null", "model.trainable=[vision_tower, projector, language_model]"]
    return [*overrides, f"model.base={random_base()}"] if method == "random" else overrides


def random_base() -> Path:
    """A folder with a model of `tiny`'s shape and random weights, made when it is first asked for."""
    from transformers import AutoProcessor, PaliGemmaConfig, PaliGemmaForConditionalGeneration, set_seed

    from pgtune import tiny

    folder = ROOT / "random_base"
    if not (folder / "processor_config.json").is_file():
        set_seed(0)
        config = PaliGemmaConfig.from_pretrained(tiny.path())
        PaliGemmaForConditionalGeneration(config).save_pretrained(folder)
        AutoProcessor.from_pretrained(tiny.path()).save_pretrained(folder)
    return folder


def run(domain: Domain, method: str, rate: float | None, seed: int, before: bool) -> Path:
    """Train, unless it was done; the run folder. Rate None: the recipe's."""
    name = f"{method}-{'recipe' if rate is None else f'{rate:g}'}-{seed}"
    folder = ROOT / domain.name.replace(" ", "_") / name
    if not (folder / "metrics.json").is_file():
        overrides = [f"seed={seed}", f"output_dir={folder}", f"eval.before={str(before).lower()}"]
        overrides += method_overrides(method)
        if rate is not None:
            overrides += [f"train.learning_rate={rate:g}", f"train.max_steps={STEPS}"]
        pgtune.train(pgtune.load_recipe(domain.recipe, overrides), overwrite=True)
    return folder


def validation_score(folder: Path) -> float:
    """The share of right answers on the validation rows."""
    file = folder / "evaluations" / "validation" / "metrics.json"
    if not file.is_file():
        pgtune.evaluate(folder, split="validation")
    return float(json.loads(file.read_text())["metrics"]["exact_match"])


def choose_rate(domain: Domain, method: str) -> tuple[float, dict[float, float]]:
    """The rate with the best validation score, and the scores of all that were tried."""
    scores: dict[float, float] = {}
    wanted = list(START[method])
    while wanted:
        for rate in wanted:
            scores[rate] = validation_score(run(domain, method, rate, SEEDS[0], before=False))
        best = max(scores, key=lambda rate: (scores[rate], -rate))
        place = GRID.index(best)
        neighbours = [GRID[index] for index in (place - 1, place + 1) if 0 <= index < len(GRID)]
        wanted = [rate for rate in neighbours if rate not in scores]
    return best, scores


def answers(domain: Domain, folder: Path, which: str = "prediction") -> list[dict[str, Any]]:
    """The test rows (prefix, suffix, groups, question_type) with `right`: whether the run's answer is the suffix."""
    rows = [json.loads(line) for line in Path(domain.data, "test.jsonl").read_text().splitlines()]
    for line in (folder / "predictions.jsonl").read_text().splitlines():
        predicted = json.loads(line)
        row = rows[int(predicted["where"].rpartition(":")[2]) - 1]
        if row["suffix"] != predicted["references"][0]:
            raise SystemExit(f"{folder}: predictions of other test rows than {domain.data} has; remove the folder")
        row["right"] = float(predicted[which] == row["suffix"])
    return rows


def interval(rows: Sequence[dict[str, Any]], group: str, values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of `values`, groups of rows drawn with replacement."""
    by_group: dict[str, list[float]] = defaultdict(list)
    for row, value in zip(rows, values, strict=True):
        by_group[str(row["groups"][group])].append(value)
    sums = [(sum(group_values), len(group_values)) for group_values in by_group.values()]
    draw = random.Random(0)
    means = []
    for _ in range(RESAMPLES):
        chosen = draw.choices(sums, k=len(sums))
        means.append(sum(total for total, _ in chosen) / sum(count for _, count in chosen))
    means.sort()
    return means[round(0.025 * RESAMPLES)], means[round(0.975 * RESAMPLES) - 1]


def trivial(rows: Sequence[dict[str, Any]], by_question: bool) -> list[float]:
    """Whether the most frequent answer, of all rows or of those with the same question, is right for each row."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row["prefix"] if by_question else ""][row["suffix"]] += 1
    best = {key: counter.most_common(1)[0][0] for key, counter in counts.items()}
    return [float(row["suffix"] == best[row["prefix"] if by_question else ""]) for row in rows]


def percent(values: Iterable[float]) -> float:
    """The mean in percent, to one decimal."""
    return round(100 * statistics.fmean(values), 1)


def shown(rows: Sequence[dict[str, Any]], group: str, values: Sequence[float]) -> str:
    """`68.2 (61.4 to 74.3)`."""
    low, high = interval(rows, group, values)
    # All right or all wrong: drawing groups again tells nothing.
    return f"{percent(values)} ({100 * low:.1f} to {100 * high:.1f})" if low < high else f"{percent(values)}"


def headline(domain: Domain) -> dict[str, Any]:
    """The recipe as it is, before and after, beside the trivial answers; also by question type."""
    folder = run(domain, "lora", None, 0, before=True)
    rows, before = answers(domain, folder), [row["right"] for row in answers(domain, folder, "before")]
    after = [row["right"] for row in rows]
    result: dict[str, Any] = {
        "domain": domain.name,
        "recipe": domain.recipe,
        "n": len(rows),
        "groups": f"{len({row['groups'][domain.group] for row in rows})} {domain.group}s",
        "trivial": percent(trivial(rows, by_question=False)),
        "trivial by question": percent(trivial(rows, by_question=True)),
        "base": shown(rows, domain.group, before),
        "after": shown(rows, domain.group, after),
    }
    gain = [value - other for value, other in zip(after, trivial(rows, by_question=True), strict=True)]
    result["gain"] = shown(rows, domain.group, gain)
    measured = {"base": before, "after": after}
    for kind in sorted({row["question_type"] for row in rows}):
        picked = [index for index, row in enumerate(rows) if row["question_type"] == kind]
        some = [rows[index] for index in picked]
        facts = {"type": kind, "n": len(some), "trivial by question": percent(trivial(some, by_question=True))}
        scores = {name: percent(right[index] for index in picked) for name, right in measured.items()}
        result.setdefault("types", []).append(facts | scores)
    always = trivial(rows, by_question=True)
    for patient in sorted({row["groups"].get("patient", "") for row in rows} - {""}):
        picked = [index for index, row in enumerate(rows) if row["groups"]["patient"] == patient]
        scores = {
            name: percent(right[index] for index in picked)
            for name, right in {"trivial by question": always, **measured}.items()
        }
        result.setdefault("patients", []).append({"patient": patient, "n": len(picked), **scores})
    return result


def sweep(domain: Domain, methods: Sequence[str], seeds: Sequence[int], known: dict[str, Any]) -> dict[str, Any]:
    """The best rate of each method by validation, and its test score over the seeds, added to what is `known`."""
    result: dict[str, Any] = {"domain": domain.name, **known}
    means: dict[str, list[float]] = {}
    rows: list[dict[str, Any]] = []
    for method in methods:
        rate, scores = choose_rate(domain, method)
        per_seed = []
        for seed in seeds:
            rows = answers(domain, run(domain, method, rate, seed, before=False))
            per_seed.append([row["right"] for row in rows])
        means[method] = [statistics.fmean(values) for values in zip(*per_seed, strict=True)]
        result[method] = {
            "validation": {f"{tried:g}": round(100 * score, 1) for tried, score in sorted(scores.items())},
            "rate": rate,
            "seeds": [percent(values) for values in per_seed],
            "test": shown(rows, domain.group, means[method]),
        }
    if {"lora", "full"} <= set(means):
        gap = [one - other for one, other in zip(means["lora"], means["full"], strict=True)]
        result["lora minus full"] = shown(rows, domain.group, gap)
    return result


def table(header: Sequence[str], lines: Iterable[Sequence[object]]) -> list[str]:
    """A markdown table."""
    rule = ["---"] * len(header)
    return [f"| {' | '.join(map(str, line))} |" for line in (header, rule, *lines)] + [""]


def tables(results: dict[str, Any]) -> str:
    """All results as markdown."""
    lines: list[str] = []
    heads = list(results.get("headline", {}).values())
    if heads:
        keys = ("domain", "n", "groups", "trivial", "trivial by question", "base", "after", "gain")
        lines += table(keys, ([head[key] for key in keys] for head in heads))
        parts = ("type", "n", "trivial by question", "base", "after")
        lines += table(
            ("domain", *parts),
            ([head["domain"], *(part[key] for key in parts)] for head in heads for part in head["types"]),
        )
        people = ("patient", "n", "trivial by question", "base", "after")
        if named := [one for head in heads for one in head.get("patients", [])]:
            lines += table(people, ([one[key] for key in people] for one in named))
    swept = list(results.get("sweep", {}).values())
    if swept:
        rates = [f"{rate:g}" for rate in GRID]
        lines += table(
            ("domain", "method", *rates, "chosen", "test, mean of seeds", "seeds"),
            (
                [item["domain"], method, *(item[method]["validation"].get(rate, "") for rate in rates),
                 f"{item[method]['rate']:g}", item[method]["test"], ", ".join(map(str, item[method]["seeds"]))]
                for item in swept
                for method in START
                if method in item
            ),
        )  # fmt: skip
        gaps = ([item["domain"], item["lora minus full"]] for item in swept if "lora minus full" in item)
        lines += table(("domain", "LoRA minus full"), gaps)
    return "\n".join(lines)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train tiny on real data: the headline and the sweep of rates.")
    parser.add_argument("--headline", action="store_true", help="only each recipe as it is, once")
    parser.add_argument("--report", action="store_true", help="train nothing, print the tables that are there")
    parser.add_argument("--only", choices=[domain.name for domain in DOMAINS], help="one domain")
    options = parser.parse_args()
    file = ROOT / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    # What the question is about comes first: a stopped sweep has the most of it.
    both = ("lora", "full")
    rounds = [] if options.report else [(both, SEEDS[:1]), (both, SEEDS), (("random",), SEEDS[:1])]
    for methods, seeds in rounds[:1] if options.headline else rounds:
        for domain in DOMAINS:
            if options.only not in (None, domain.name):
                continue
            if options.headline:
                results.setdefault("headline", {})[domain.name] = headline(domain)
            else:
                known = results.setdefault("sweep", {}).get(domain.name, {})
                results["sweep"][domain.name] = sweep(domain, methods, seeds, known)
            ROOT.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(results, indent=1) + "\n")
            (ROOT / "tables.md").write_text(tables(results))
    print(tables(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
