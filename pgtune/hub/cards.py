"""The model card: the Hub's metadata on top, below it what a person wants to know before using the model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pgtune.hub.card_metadata import GOOGLE, metadata, plain, sources_of
from pgtune.hub.contents import Contents, gather
from pgtune.metrics.show import columns
from pgtune.names import ADAPTER_HELP, BASES, CREDENTIALED

__all__ = ["card", "card_of"]

GEMMA = "https://ai.google.dev/gemma/terms"
UNNAMED = "org/name"


def card(
    run: Path | str, *, repo_id: str = UNNAMED, base: str | None = None, with_examples: bool = False
) -> str:
    """The card of a finished run, as `pgtune push` would write it.

    Args:
        repo_id: where it will lie.
        base: the base's name on the Hub, where the run's base is a folder.
        with_examples: show rows of the data.

    Raises:
        RunError, HubError, ModelError: as `gather`.
    """
    name = repo_id.partition("/")[2]
    return card_of(gather(run, name=name, base=base, with_examples=with_examples), repo_id)


def card_of(contents: Contents, repo_id: str) -> str:
    """The card of what is to be pushed."""
    sections = [
        _title(contents, repo_id),
        _use(contents, repo_id),
        _scores(contents),
        _data(contents),
        _training(contents),
        _limits(contents),
        _licence(contents),
    ]
    return f"---\n{metadata(contents, repo_id)}\n---\n\n" + "\n\n".join(sections) + "\n"


def _base(contents: Contents) -> str:
    """The base in words, with where it comes from."""
    if contents.base in BASES:
        version = contents.versions.get("pgtune", "")
        return (
            f"`{contents.base}`, a small PaliGemma 2 that is not on the Hub: it lies in the Python package pgtune"
            f"{f' {version}' if version else ''} (`pgtune.{contents.base}.path()`)"
        )
    at = f" at revision `{contents.revision}`" if contents.revision else ""
    return f"[{contents.base}](https://huggingface.co/{contents.base}){at}"


def _method(contents: Contents) -> str:
    recipe = contents.recipe
    parts = ", ".join(recipe.model.trainable or ("vision_tower", "projector", "language_model"))
    if recipe.lora is None:
        return f"full fine-tuning of {parts}"
    targets = recipe.lora.targets
    on = targets if isinstance(targets, str) else ", ".join(targets)
    name = {"lora": "LoRA", "dora": "DoRA", "qlora": "QLoRA", "qdora": "QDoRA"}[recipe.method]
    beside = f", and {parts} in full" if recipe.model.trainable else ""
    return f"{name}, rank {recipe.lora.rank} and alpha {recipe.lora.alpha:g}, on `{on}`{beside}"


def _title(contents: Contents, repo_id: str) -> str:
    what = {
        "adapter": "An adapter (PEFT) for",
        "full": "All weights, fine-tuned from",
        "merged": "All weights: an adapter merged into",
    }[contents.kind]
    if contents.quantized:
        what = "All weights, the language model's in 8 or 4 bits (bitsandbytes): an adapter merged into"
    adapter = contents.recipe.data.adapter
    task = ADAPTER_HELP.get(adapter, "data of its maker's own")
    return (
        f"# {repo_id.partition('/')[2]}\n\n{what} {_base(contents)}.\n\n"
        "It was trained with pgtune, which fine-tunes PaliGemma, to answer prompts about pictures. "
        f"Data adapter `{adapter}`: {task}."
    )


def _use(contents: Contents, repo_id: str) -> str:
    recipe = contents.recipe
    lines = ["## How to use it", "", "```python", *_sample(contents, repo_id), "```", ""]
    lines += [
        "**The prompt.** The picture first, then the prefix (`PROMPT` above) and a newline; the answer is the suffix. "
        "The processor puts the picture's tokens, `<bos>` and the newline in their places. Prefixes must be written as "
        f"in training, to the letter; they are those of the data adapter{_prompts(contents)}.",
        "",
        f"**Pictures** are resized to a square by the processor ({recipe.model.resample}, {recipe.model.image_fit}). "
        f"**Answers** are decoded {_decoding(recipe.eval.num_beams)}, up to {recipe.eval.max_new_tokens} tokens.",
    ]
    if recipe.model.image_fit == "pad" or not recipe.model.antialias:
        lines[-1] += (
            " The way this run prepared its pictures is beyond the saved image processor: use pgtune, or prepare them "
            "yourself."
        )
    lines += ["", "With pgtune, which also takes folders of pictures and JSON Lines:", "", "```bash"]
    lines += [f'pgtune predict {repo_id} --image photo.png --prefix "your prompt"']
    lines += [f"pgtune evaluate {repo_id} --source your/test.jsonl", "```"]
    if contents.examples:
        lines += ["", "Some rows that it was scored on:", "", "| prefix | answer | truth |", "|---|---|---|"]
        cells = [[row["prefix"], row["prediction"], row["references"][0]] for row in contents.examples[:5]]
        lines += [f"| {' | '.join(map(_cell, row))} |" for row in cells]
    return "\n".join(lines)


def _prompts(contents: Contents) -> str:
    """Where the prompts stand."""
    if contents.left_out:
        return ", of whose arguments some are not told (see Data): ask who made this"
    return " and its arguments in `pgtune/recipe.yaml`"


def _cell(text: str) -> str:
    """Text of the data in a table of Markdown: as it is, never as markup."""
    short = text if len(text) <= 200 else f"{text[:200]}..."
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~$&:@-])", r"\\\1", " ".join(short.split()))


def _decoding(beams: int) -> str:
    return "greedily" if beams == 1 else f"with {beams} beams"


def _sample(contents: Contents, repo_id: str) -> list[str]:
    """Python that loads it with plain transformers and PEFT and computes what the run computed."""
    recipe, adapter, shipped = contents.recipe, contents.kind == "adapter", contents.base in BASES
    at = f', revision="{contents.revision}"' if contents.revision and not shipped else ""
    name = f"{contents.base}.path()" if shipped else f'"{contents.base}"{at}'
    uncapped = "" if recipe.model.final_logit_softcapping else "None"
    lines = ["# needs bitsandbytes"] if contents.quantized else ["import torch"]
    lines += ["from peft import PeftModel"] if adapter else []
    lines += ["from PIL import Image", "from transformers import AutoProcessor, PaliGemmaForConditionalGeneration", ""]
    lines += [f"from pgtune import {contents.base}  # the base lies in this package", ""] if adapter and shipped else []
    lines += ['PROMPT = "your prompt"', ""]
    source = name if adapter else f'"{repo_id}"'
    lines += [
        "model = PaliGemmaForConditionalGeneration.from_pretrained(",
        f"    {source}, {'' if contents.quantized else 'dtype=torch.float32, '}"
        'attn_implementation={"text_config": "eager"}',
        ")",
    ]
    if uncapped and adapter:
        lines += ["model.config.text_config.final_logit_softcapping = None  # as in training"]
    if adapter:
        lines += [f'model = PeftModel.from_pretrained(model, "{repo_id}")']
    decoding = f"max_new_tokens={recipe.eval.max_new_tokens}, do_sample=False"
    decoding += f", num_beams={recipe.eval.num_beams}, length_penalty=0.0" if recipe.eval.num_beams > 1 else ""
    return [
        *lines,
        f'processor = AutoProcessor.from_pretrained("{repo_id}")',
        "",
        'picture = Image.open("photo.png").convert("RGB")',
        'inputs = processor(images=picture, text="<image>" + PROMPT, return_tensors="pt")',
        'inputs.pop("labels", None)',
        f"ids = model.eval().generate(**inputs, {decoding})",
        'print(processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
    ]


def _scores(contents: Contents) -> str:
    metrics = contents.metrics
    scores = metrics.get("scores", {})
    names = [name for name in ("before", "after", "trivial") if scores.get(name)]
    lines = ["## Scores", ""]
    if not names:
        return "\n".join([*lines, "The run was not scored."])
    heads = {"before": "base before", "after": "this model", "trivial": "always the most frequent answer"}
    lines += [f"| {metrics['split']} | {' | '.join(heads[name] for name in names)} |", "|---|" + "---|" * len(names)]
    lines += [f"| {' | '.join(row)} |" for row in columns([scores[name] for name in names])]
    level = f"{100 * metrics['confidence']:g} %"
    lines += [
        "",
        f"On {metrics['n']:,} examples of the split `{metrics['split']}`. In brackets: {level} intervals; examples of "
        "the same picture or patient are taken as alike.",
    ]
    return "\n".join([*lines, "", *_split(contents)])


def _split(contents: Contents) -> list[str]:
    """What is known about how honest the split is."""
    data, lines = contents.recipe.data, ["**The split.**"]
    if data.split_by is not None:
        shares = f"{100 * data.validation_share:g} % for validation and {100 * data.test_share:g} % for the test"
        lines.append(f"Cut from the material by `{data.split_by}`, {shares}, with seed {contents.recipe.seed}.")
    else:
        lines.append("As the data gives it.")
    if contents.findings:
        lines += ["**Not independent:**", *(f"{finding.words()}." for finding in contents.findings)]
    else:
        lines.append("No group (patient, work, scene) and no picture file was found on two sides.")
    for split, left in contents.metrics.get("left_out", {}).items():
        lines.append(f"Left out of {split}: {left['skipped']:,} rows skipped by the data adapter, {left['bad']:,} bad.")
    return [" ".join(lines)]


def _data(contents: Contents) -> str:
    recipe, status = contents.recipe, contents.status
    lines = ["## Data", "", "| | |", "|---|---|"]
    for split, source in sources_of(contents):
        link = f"[{plain(source)}](https://huggingface.co/datasets/{plain(source)})"
        shown = link if source.startswith("hub:") else f"`{source}`"
        lines.append(f"| {split} | {shown}, split `{getattr(recipe.data, split).split}` |")
    lines.append(f"| data adapter | `{recipe.data.adapter}` |")
    if "examples" in status:
        lines.append(f"| examples learnt from | {status['examples']:,} |")
    if contents.metrics.get("n"):
        lines.append(f"| examples scored | {contents.metrics['n']:,} |")
    for key, words in (("data", "learnt"), ("test", "of the test")):
        if key in status:
            lines.append(f"| SHA-256 of the texts {words} | `{status[key]}` |")
    none = "No row of the data is in this revision: no picture, prompt, answer or prediction."
    some = "The data itself is not in this revision; some of its rows are shown above and in `pgtune/`."
    last = [some if contents.examples else none]
    if recipe.data.adapter_args or contents.left_out:
        last.append(
            "Told are the data adapter's arguments in `pgtune/recipe.yaml`: names of columns and files, choices and "
            "numbers" + (", and texts." if contents.examples else ".")
        )
    if contents.left_out:
        names = ", ".join(f"`{name}`" for name in contents.left_out)
        last.append(f"Left out there, as they are text: {names}; without them the data adapter takes its defaults.")
    return "\n".join([*lines, "", " ".join(last)])


def _training(contents: Contents) -> str:
    recipe, status, versions = contents.recipe, contents.status, contents.versions
    train = recipe.train
    rows = [
        ("method", _method(contents)),
        ("steps", f"{contents.metrics['steps']:,}" + _of(status)),
        ("learning rate", f"{recipe.resolved_learning_rate:g}, {train.schedule}, warm-up {train.warmup_ratio:g}"),
        ("base loaded in", recipe.model.dtype + _quantized(recipe.model.quantization)),
        ("seed", str(recipe.seed)),
    ]
    if "device" in versions:
        rows.append(("hardware", versions["device"]))
    if "seconds" in status:
        rows.append(("time of the steps", _time(status["seconds"])))
    if contents.went_on:
        rows.append(("went on from", f"`{recipe.model.adapter}`" if recipe.model.adapter else "an earlier run"))
    packages = [f"{name} {versions[name]}" for name in ("pgtune", "transformers", "peft", "torch") if name in versions]
    if packages:
        rows.append(("made with", ", ".join(packages)))
    lines = ["## Training", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]
    lines.append("The recipe is in `pgtune/recipe.yaml`, with files named without their places.")
    return "\n".join(lines)


def _of(status: dict[str, Any]) -> str:
    found = f" of {status['effective_batch']} examples" if "effective_batch" in status else ""
    return found + (f", {status['epochs']:.3g} epochs" if "epochs" in status else "")


def _quantized(setting: str) -> str:
    return "" if setting == "none" else f", language model in {setting} while training"


def _time(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _limits(contents: Contents) -> str:
    recipe = contents.recipe
    lines = ["## Limits", ""]
    lines.append("- The scores hold for pictures and prompts like those of the test split, and for no others.")
    lines.append("- The model answers one prompt about its picture; it was not trained to converse, nor to refuse.")
    lines.append("- It has the base's limits and biases, and can be wrong with great fluency.")
    if not contents.metrics.get("after"):
        lines.append("- It was not scored: nothing is known about how well it does.")
    elif contents.metrics["n"] < 100:
        lines.append(f"- It was scored on {contents.metrics['n']} examples only: see the intervals.")
    if contents.kind == "merged":
        lost = "merged and rounded to 8 or 4 bits" if contents.quantized else "merged"
        lines.append(f"- The scores are those of base and adapter, before they were {lost}: what this model scores was "
                     "not measured for this card.")
    if contents.findings:
        lines.append("- Test and training share material (see the split): the scores may be too high.")
    if recipe.data.adapter in ("dicom", "iu_xray", "slake", "vqa_rad") or contents.credentialed == "mimic_cxr":
        lines.append("- It is no medical device: not for diagnosis or treatment.")
    if contents.credentialed:
        terms = f"{contents.credentialed}: {CREDENTIALED[contents.credentialed]}"
        lines.append(f"- Its data is credentialed ({terms}); ask whether weights may be shared.")
    if contents.base in BASES:
        lines.append(f"- The base `{contents.base}` has seen generated pictures only: it is for trying things out.")
    return "\n".join(lines)


def _licence(contents: Contents) -> str:
    if contents.base in BASES:
        text = "The base is Apache-2.0, and so is this. The data has its own licence."
    elif contents.base.startswith(GOOGLE):
        text = (
            f"The base comes under the [Gemma Terms of Use]({GEMMA}), and so does what is derived from it, this "
            "included: use and redistribution are bound to these terms and to the "
            "[prohibited use policy](https://ai.google.dev/gemma/prohibited_use_policy). The data has its own licence."
        )
    else:
        text = (
            f"As the base's: see [{contents.base}](https://huggingface.co/{contents.base}). Where that is derived from "
            f"Google's PaliGemma, the [Gemma Terms of Use]({GEMMA}) hold. The data has its own licence."
        )
    return f"## Licence\n\n{text}"
