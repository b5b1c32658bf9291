"""The Hub's metadata on top of a card: what the Hub shows, searches and compares models by."""

from __future__ import annotations

from typing import Any

from pgtune.hub.contents import Contents
from pgtune.hub.published import EVERYWHERE
from pgtune.names import BASES

__all__ = ["GOOGLE", "metadata", "plain", "sources_of"]

TASK = "image-text-to-text"
GOOGLE = "google/paligemma"


def metadata(contents: Contents, repo_id: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    adapter = contents.kind == "adapter"
    named = dict(sources_of(contents))
    source = next(iter(named.values()))
    split = contents.metrics.get("split")
    dataset = source.removeprefix("hub:") if source.startswith("hub:") else contents.recipe.data.adapter
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=dataset,
            dataset_name=plain(named.get(str(split), source)),
            dataset_split=split,
            metric_type=metric,
            metric_name=metric,
            metric_value=value,
        )
        for metric, value in contents.metrics["after"].items()
    ]
    data = ModelCardData(
        base_model=contents.base,
        base_model_relation="adapter" if adapter else "quantized" if contents.quantized else "finetune",
        library_name="peft" if adapter else "transformers",
        pipeline_tag=TASK,
        datasets=sorted({one.removeprefix("hub:") for one in named.values() if one.startswith("hub:")}) or None,
        model_name=repo_id.partition("/")[2],
        eval_results=results or None,
        tags=["paligemma", "pgtune", *(["lora"] if adapter else [])],
        **_license_keys(contents),
    )
    return data.to_yaml()


def _license_keys(contents: Contents) -> dict[str, Any]:
    if contents.base in BASES:
        return {"license": "apache-2.0"}
    if contents.base.startswith(GOOGLE):
        return {"license": "gemma"}
    link = f"https://huggingface.co/{contents.base}"
    return {"license": "other", "license_name": "as-the-base-model", "license_link": link}


def sources_of(contents: Contents) -> list[tuple[str, str]]:
    """(split, source) as they are told."""
    data = contents.recipe.data
    given = [(split, getattr(data, split)) for split in ("train", "validation", "test")]
    return [(split, source.source) for split, source in given if source is not None]


def plain(source: str) -> str:
    for prefix in EVERYWHERE:
        source = source.removeprefix(prefix)
    return source
