"""The tables of names a recipe may use, and the look-up that suggests the nearest one.

A table maps a name to ``module:attribute``, so that ``validate`` can check a name without importing what stands behind
it. The ``*_HELP`` tables hold one line for each name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

__all__ = [
    "ADAPTERS",
    "ADAPTER_HELP",
    "BASES",
    "CREDENTIALED",
    "HUB_ID",
    "METRICS",
    "METRIC_HELP",
    "nearest",
    "unknown_name",
]

_LISTED = 40
"""Up to so many names, all are listed in a message."""

ADAPTERS: dict[str, str] = {
    "chart_to_table": "pgtune.data_adapters.charts.chart_tables:ChartToTableAdapter",
    "chartqa": "pgtune.data_adapters.charts.published:ChartQaAdapter",
    "coco": "pgtune.data_adapters.generic.coco:CocoAdapter",
    "csv": "pgtune.data_adapters.generic.columns:CsvAdapter",
    "dicom": "pgtune.data_adapters.radiology.dicom:DicomAdapter",
    "dota": "pgtune.data_adapters.remote_sensing.dota:DotaAdapter",
    "generated": "pgtune.data_adapters.generated.generated:GeneratedAdapter",
    "geotiff": "pgtune.data_adapters.remote_sensing.geotiff:GeoTiffAdapter",
    "grandstaff": "pgtune.data_adapters.sheet_music.published:GrandStaffAdapter",
    "hf": "pgtune.data_adapters.generic.hf:HfAdapter",
    "image_folder": "pgtune.data_adapters.generic.image_folder:ImageFolderAdapter",
    "iu_xray": "pgtune.data_adapters.radiology.reports:IuXrayAdapter",
    "jsonl": "pgtune.data_adapters.generic.jsonl:JsonlAdapter",
    "mimic_cxr": "pgtune.data_adapters.radiology.mimic_cxr:MimicCxrAdapter",
    "primus": "pgtune.data_adapters.sheet_music.published:PrimusAdapter",
    "rs_captions": "pgtune.data_adapters.remote_sensing.captions:RsCaptionsAdapter",
    "rsvqa_hr": "pgtune.data_adapters.remote_sensing.rsvqa:RsvqaHrAdapter",
    "rsvqa_lr": "pgtune.data_adapters.remote_sensing.rsvqa:RsvqaLrAdapter",
    "scene_folder": "pgtune.data_adapters.remote_sensing.scene_folder:SceneFolderAdapter",
    "scicap": "pgtune.data_adapters.charts.published:SciCapAdapter",
    "scores": "pgtune.data_adapters.sheet_music.scores:ScoresAdapter",
    "slake": "pgtune.data_adapters.radiology.vqa:SlakeAdapter",
    "tables": "pgtune.data_adapters.charts.chart_tables:TablesAdapter",
    "voc": "pgtune.data_adapters.generic.voc:VocAdapter",
    "vqa_rad": "pgtune.data_adapters.radiology.vqa:VqaRadAdapter",
    "yolo": "pgtune.data_adapters.generic.yolo:YoloAdapter",
}

ADAPTER_HELP: dict[str, str] = {
    "chart_to_table": "charts and the table behind each, as DePlot writes tables: ChartQA, Chart-to-text, yours",
    "chartqa": "ChartQA: questions about charts, human and augmented",
    "coco": "boxes around objects, or captions, as MS COCO's JSON has them",
    "csv": "a table as CSV or TSV, columns named by arguments",
    "dicom": "your own DICOM files with a CSV file of questions, labels or reports; nothing of the patient is kept",
    "dota": "DOTA: objects in large aerial pictures as upright boxes, tile by tile",
    "generated": "pictures drawn on demand with their text: what the tiny base is pre-trained on",
    "geotiff": "your own scenes with GeoJSON, GeoPackage or Shapefile labels, cut into tiles",
    "grandstaff": "GrandStaff: piano systems, clean and camera-distorted, with their kern",
    "hf": "parquet, WebDataset, save_to_disk or the Hub, through the library datasets; columns named by arguments",
    "image_folder": "a folder of pictures in one sub-folder a class",
    "iu_xray": "Indiana University chest X-rays with reports: Open-i's XML or R2Gen's annotation",
    "jsonl": "a JSON Lines file with image, prefix, suffix (and references) in each row",
    "mimic_cxr": "MIMIC-CXR: chest X-rays with reports, the indication as the prefix (PaliGemma 2)",
    "primus": "PrIMuS and Camera-PrIMuS: incipits with semantic or agnostic text",
    "rs_captions": "captions of RSICD, UCM, Sydney, RSITMD and NWPU",
    "rsvqa_hr": "RSVQA-HR: questions about aerial pictures, 15 cm a pixel",
    "rsvqa_lr": "RSVQA-LR: questions about Sentinel-2 pictures, 10 m a pixel",
    "scene_folder": "a folder of pictures for each class, asked as a question: EuroSAT, UC Merced, yours",
    "scicap": "SciCap: captions of scientific figures",
    "scores": "your own kern, MusicXML, MEI or ABC scores, engraved and cut into systems",
    "slake": "SLAKE: questions about radiology pictures, in English or Chinese",
    "tables": "your own tables, drawn as charts or beside their pictures: the table, or questions about it",
    "voc": "boxes around objects as Pascal VOC's XML has them (labelImg)",
    "vqa_rad": "VQA-RAD: questions about radiology pictures, open and closed",
    "yolo": "boxes around objects as YOLO's label files have them (Ultralytics, darknet)",
}

METRICS: dict[str, str] = {
    "anls": "pgtune.metrics.documents:ANLS",
    "bleu": "pgtune.metrics.captions:BLEU",
    "cer": "pgtune.metrics.transcription:CER",
    "chartqa_relaxed": "pgtune.metrics.documents:CHARTQA_RELAXED",
    "cider": "pgtune.metrics.captions:CIDER",
    "exact_match": "pgtune.metrics.exact:EXACT_MATCH",
    "exact_match_lower": "pgtune.metrics.exact:EXACT_MATCH_LOWER",
    "ler": "pgtune.metrics.transcription:LER",
    "map": "pgtune.metrics.detection:MAP",
    "medvqa": "pgtune.metrics.radiology:MEDVQA",
    "omr_ned": "pgtune.metrics.omr:OMR_NED",
    "rms": "pgtune.metrics.tables:RMS",
    "rouge_l": "pgtune.metrics.captions:ROUGE_L",
    "rsvqa": "pgtune.metrics.exact:RSVQA",
    "science_qa": "pgtune.metrics.exact:SCIENCE_QA",
    "ser": "pgtune.metrics.transcription:SER",
    "tallyqa": "pgtune.metrics.exact:TALLYQA",
    "token_f1": "pgtune.metrics.overlap:TOKEN_F1",
    "token_recall": "pgtune.metrics.overlap:TOKEN_RECALL",
    "vqa": "pgtune.metrics.vqa:VQA",
    "vqav2": "pgtune.metrics.vqa:VQAV2",
    "wer": "pgtune.metrics.transcription:WER",
}

METRIC_HELP: dict[str, str] = {
    "anls": "similarity by edit distance, 0 below one half, lower-cased: DocVQA, InfoVQA, ST-VQA",
    "bleu": "BLEU-4 over the whole set, BLEU-1 to 3 beside it, as the COCO caption evaluation",
    "cer": "character error rate, pooled over the set; lower is better",
    "chartqa_relaxed": "ChartQA: numbers within 5 %, other text the same, lower-cased; the mean of human and augmented",
    "cider": "CIDEr-D from 0 to 10, as the COCO caption evaluation (papers print it times 100)",
    "exact_match": "1 where the prediction is one of the references, nothing normalised",
    "exact_match_lower": "exact_match on lower-cased text: OCR-VQA, POPE",
    "ler": "line error rate, pooled over the set; lower is better: sheet music",
    "map": "COCO's mean average precision of boxes written as <loc> text (needs pgtune[detection])",
    "medvqa": "VQA-RAD, SLAKE: the same text after VQAv2's clean-up; recall and F1 of open answers beside it",
    "omr_ned": "edits of notation by the symbols of both scores, as musicdiff; lower is better (needs pgtune[omr])",
    "rms": "relative mapping similarity (F1) of linearised tables: chart to table, DePlot (needs pgtune[charts])",
    "rouge_l": "ROUGE-L, as the COCO caption evaluation",
    "rsvqa": "RSVQA: exact_match_lower, the mean over question types",
    "science_qa": "ScienceQA: the letter in 'the answer is X.'",
    "ser": "symbol error rate, pooled over the set; lower is better: sheet music",
    "tallyqa": "TallyQA: exact_match after number words became digits",
    "token_f1": "F1 of the words shared with a reference: open questions in radiology",
    "token_recall": "share of a reference's words that the prediction has: open questions in radiology",
    "vqa": "min(1, matches / 3) over all answers, nothing normalised: OKVQA, A-OKVQA, VizWiz",
    "vqav2": "the official VQAv2 accuracy, TextVQA too: answers normalised, each left out in turn",
    "wer": "word error rate, pooled over the set; lower is better",
}

# Bases that are shipped: the name and the folder inside the package.
BASES: dict[str, str] = {"tiny": "tiny"}

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""``org/name``: the form of an id on the Hub."""

# Data adapters of material that only people with a signed agreement may see, and what forbids showing it.
CREDENTIALED: dict[str, str] = {
    "mimic_cxr": "PhysioNet's Credentialed Health Data License forbids sharing the data or parts of it",
}


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
    if len(known) <= _LISTED:
        return f"no {kind} is called {name!r}{hint} Known: {', '.join(known)}"
    alike = difflib.get_close_matches(name.lower(), known, n=5, cutoff=0.3)
    return f"no {kind} is called {name!r}{hint} Known are {len(known)}" + (
        f", the most alike {', '.join(alike)}" if alike else f", such as {', '.join(known[:5])}"
    )
