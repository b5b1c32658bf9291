"""Run folders for the tests of the report, written by hand: what a training would leave, with data of every kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from pgtune import load_recipe, metrics
from pgtune.overlaps import Finding
from pgtune.run_folder import RunFolder
from pgtune.writing import json_line, write_json, write_text

CANARY = "canary.invalid"
"""A host that nothing may ever be asked of."""

HOSTILE = (
    "<script>document.title='owned'</script>",
    "</script><script>document.title='owned'</script>",
    f'"><img src="http://{CANARY}/a.png" onerror="document.title=\'owned\'">',
    "' onmouseover='document.title=1' x='",
    f"</style></title><iframe src=https://{CANARY}></iframe>",
    "line\u2028separator\u2029here",
    "right\u202eto left\x00nul\x1b[31m",
    "<!-- <!DOCTYPE html> ]]> {{7*7}} ${x} &amp; &lt;",
    "half \udc80 of a character",
    f"javascript:fetch('http://{CANARY}') `backtick`",
)


def picture(path: Path, size: tuple[int, int] = (90, 60), colour: tuple[int, int, int] = (40, 110, 190)) -> Path:
    """A picture of one colour with a dark square in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, colour)
    image.paste((20, 20, 20), (size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2))
    image.save(path)
    return path


def row(image: Any, truth: str, said: str, before: str | None = "cross", **more: Any) -> dict[str, Any]:
    """A row as an evaluation writes it, without its scores."""
    found = {
        "image": image,
        "prefix": "answer en what is it?",
        "prediction": said,
        "references": [truth],
        "metadata": {},
        "mean_log_probability": -0.25,
        "where": "test.jsonl:1",
        **more,
    }
    return found if before is None else {**found, "before": before}


def scored(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """`scores` of metrics.json; each row gains its own."""
    references = [each["references"] for each in rows]
    answer = metrics.trivial_answer(references)
    answers = {
        "before": [each.get("before", "") for each in rows],
        "after": [each["prediction"] for each in rows],
        "trivial": [answer] * len(rows),
    }
    labels = {
        "parts": [each.get("part", "") for each in rows],
        "question_types": [each.get("question_type", "") for each in rows],
    }
    found: dict[str, Any] = {}
    for column, texts in answers.items():
        scores = {name: metrics.compute(name, texts, references, **labels) for name in names}
        found[column] = {name: score.document() for name, score in scores.items()}
        if column == "after":
            for place, each in enumerate(rows):
                each["scores"] = {
                    name: score.per_example[place] for name, score in scores.items() if score.per_example is not None
                }
    return {"scores": found, "trivial_answer": answer}


def write_run(
    path: Path,
    rows: Sequence[dict[str, Any]],
    *overrides: str,
    metric: Sequence[str] = ("exact_match",),
    steps: int = 60,
    finished: bool = True,
    looks: Sequence[int] = (20, 40, 60),
    overlaps: Sequence[Finding] = (),
    left_out: dict[str, Any] | None = None,
) -> Path:
    """A run folder of `steps` steps with these scored rows."""
    given = {
        "model": {"base": "tiny"},
        "lora": {"rank": 4, "alpha": 8},
        "data": {"train": "gone/train.jsonl", "test": "gone/test.jsonl"},
        "eval": {"metrics": list(metric)},
        "output_dir": str(path),
    }
    folder = RunFolder(path)
    folder.start(
        load_recipe(given, overrides), {"python": "3.12.1", "torch": "2.13.0"}, {"data": "0" * 64}, None, overlaps
    )
    losses = [12 / (1 + step / 6) + 0.3 * (step % 3) for step in range(1, steps + 1)]
    log = [
        {"step": step, "loss": loss, "learning_rate": 1e-3 * (1 - step / (steps + 1)), "grad_norm": 2.0 / step,
         "epoch": step / 20, "seconds": 0.5}
        for step, loss in enumerate(losses, 1)
    ]  # fmt: skip
    write_text(folder.log, "".join(map(json_line, log)))
    seen = [{"step": step, "loss": 2.0 - step / 60, metric[0]: step / 100} for step in looks if step <= steps]
    write_text(folder.validation_log, "".join(map(json_line, seen)))
    found = scored(rows, metric) if rows else {}
    if not finished:
        if rows:
            bases = [{**each, "prediction": each["before"]} for each in rows]
            write_json(path / "before.json", {"scores": found["scores"]["before"], "rows": bases})
        return path
    write_text(folder.predictions, "".join(map(json_line, rows)))
    values: dict[str, Any] = {"before": {}, "after": {}, "trivial": {}}
    base = {**values, "n": len(rows), "steps": steps, "split": "test" if rows else None, "left_out": left_out or {}}
    write_text(folder.metrics, json.dumps({**base, "confidence": 0.95, **found}))  # in ASCII: it holds half a character
    folder.finish()
    return path


def rows_of_metrics(path: Path) -> dict[str, Any]:
    """metrics.json."""
    found: dict[str, Any] = json.loads((path / "metrics.json").read_text(encoding="utf-8"))
    return found


def hostile_run(folder: Path) -> Path:
    """A run whose every text tries to be markup."""
    image = str(picture(folder / "pictures" / "one.png"))
    rows = [
        row(image, truth, HOSTILE[(place + 1) % len(HOSTILE)], truth, prefix=truth, part=truth, question_type=truth,
            where=truth, metadata={truth: [truth]}, references=[truth, HOSTILE[place - 1]])
        for place, truth in enumerate(HOSTILE)
    ]  # fmt: skip
    reason = f"suffix is {HOSTILE[0]}"
    tally = {"count": 1, "reasons": {reason: 1}, "rows": [{"file": HOSTILE[2], "row": 7, "reason": reason}]}
    nothing: dict[str, Any] = {"count": 0, "reasons": {}, "rows": []}
    return write_run(
        folder / "<b>run & 'co'",
        rows,
        "data.adapter_args={}",
        overlaps=[Finding("groups", ("train", "test"), f"belong to {HOSTILE[0]}", 3, 10, (HOSTILE[2],))],
        left_out={"test": {"source": HOSTILE[1], "skipped": tally, "bad": nothing}},
    )


def plain_run(folder: Path) -> Path:
    """Twelve rows of two parts and two question types, every third right."""
    image = str(picture(folder / "pictures" / "one.png"))
    rows = [
        row(image, f"answer {place}", f"answer {place if place % 3 == 0 else place + 1}",
            part=("open", "closed")[place % 2], question_type=("colour", "number & size")[place // 6],
            where=f"test.jsonl:{place + 1}", mean_log_probability=-0.1 * place)
        for place in range(12)
    ]  # fmt: skip
    return write_run(folder / "plain", rows)
