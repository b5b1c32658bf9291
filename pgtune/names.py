"""The tables of names a recipe may use, and the look-up that suggests the nearest one.

A table maps a name to ``module:attribute``, so that ``validate`` can check a name without importing what stands behind
it. The ``*_HELP`` tables hold one line for each name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["ADAPTERS", "ADAPTER_HELP", "BASES", "METRICS", "METRIC_HELP", "nearest", "unknown_name"]

ADAPTERS: dict[str, str] = {
    "generated": "pgtune.data_adapters.generated:GeneratedAdapter",
    "jsonl": "pgtune.data_adapters.generic:JsonlAdapter",
}

ADAPTER_HELP: dict[str, str] = {
    "generated": "pictures drawn on demand with their text: what the tiny base is pre-trained on",
    "jsonl": "a JSON Lines file with image, prefix, suffix (and references) in each row",
}

METRICS: dict[str, str] = {
    "anls": "pgtune.metrics.documents:ANLS",
    "bleu4": "pgtune.metrics.captions:BLEU4",
    "cer": "pgtune.metrics.transcription:CER",
    "cider": "pgtune.metrics.captions:CIDER",
    "exact_match": "pgtune.metrics.exact:EXACT_MATCH",
    "exact_match_lower": "pgtune.metrics.exact:EXACT_MATCH_LOWER",
    "ler": "pgtune.metrics.transcription:LER",
    "relaxed_accuracy": "pgtune.metrics.documents:RELAXED_ACCURACY",
    "rouge_l": "pgtune.metrics.captions:ROUGE_L",
    "science_qa": "pgtune.metrics.exact:SCIENCE_QA",
    "ser": "pgtune.metrics.transcription:SER",
    "tallyqa": "pgtune.metrics.exact:TALLYQA",
    "token_f1": "pgtune.metrics.overlap:TOKEN_F1",
    "token_recall": "pgtune.metrics.overlap:TOKEN_RECALL",
    "vqa_accuracy": "pgtune.metrics.vqa:VQA_ACCURACY",
    "vqav2": "pgtune.metrics.vqa:VQAV2",
    "wer": "pgtune.metrics.transcription:WER",
}

METRIC_HELP: dict[str, str] = {
    "anls": "similarity by edit distance, 0 below one half, lower-cased: DocVQA, InfoVQA, ST-VQA",
    "bleu4": "BLEU-4 over the whole set, as the COCO caption evaluation",
    "cer": "character error rate, pooled over the set; lower is better",
    "cider": "CIDEr-D from 0 to 10, as the COCO caption evaluation (papers print it times 100)",
    "exact_match": "1 where the prediction is one of the references, nothing normalised",
    "exact_match_lower": "exact_match on lower-cased text: RSVQA, OCR-VQA, POPE",
    "ler": "line error rate, pooled over the set; lower is better: sheet music",
    "relaxed_accuracy": "ChartQA: numbers within 5 %, other text the same, lower-cased",
    "rouge_l": "ROUGE-L, as the COCO caption evaluation",
    "science_qa": "ScienceQA: the letter in 'the answer is X.'",
    "ser": "symbol error rate, pooled over the set; lower is better: sheet music",
    "tallyqa": "TallyQA: exact_match after number words became digits",
    "token_f1": "F1 of the words shared with a reference: open questions in radiology",
    "token_recall": "share of a reference's words that the prediction has: open questions in radiology",
    "vqa_accuracy": "min(1, matches / 3) over all answers, nothing normalised: OKVQA, A-OKVQA, VizWiz",
    "vqav2": "the official VQAv2 accuracy, TextVQA too: answers normalised, each left out in turn",
    "wer": "word error rate, pooled over the set; lower is better",
}

# Bases that are shipped: the name and the folder inside the package.
BASES: dict[str, str] = {"tiny": "tiny"}


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like ``name``, or None when nothing is like it."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def unknown_name(kind: str, name: str, candidates: Iterable[str]) -> str:
    """The message of a failed look-up: what was asked for, the nearest name, and what exists."""
    known = sorted(candidates)
    close = nearest(name, known)
    hint = f"; did you mean {close!r}?" if close else "."
    return f"no {kind} is called {name!r}{hint} Known: {', '.join(known)}"
