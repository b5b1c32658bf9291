"""Weights before they are pushed: whole, numbers, nothing beside them, and those that their configuration speaks of.

Nothing is loaded: headers are read, and bytes are looked at for NaN and infinity.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pgtune.errors import ModelError

__all__ = ["check_adapter", "check_numbers", "check_shards", "header_of", "shards_of"]

SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_AT_ONCE = 1 << 24
_INFINITE = {"F16": 0x7C00, "BF16": 0x7F80, "F32": 0x7F800000, "F64": 0x7FF0000000000000}
"""The bits of the exponent, all of them set in NaN and infinity alone."""
_LORA = re.compile(
    r"base_model\.model\.(?P<module>.+)\.(?P<part>lora_(?:embedding_)?[AB]|lora_magnitude_vector)(?P<leaf>\.weight|\.bias)?"
)


def header_of(file: Path) -> dict[str, Any]:
    """The header of a safetensors file: what it holds, without the weights."""
    with open(file, "rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header: dict[str, Any] = json.loads(opened.read(size))
    return header


def check_numbers(file: Path) -> dict[str, Any]:
    """The entries of a safetensors file that is whole, holds finite numbers and nothing else.

    Raises:
        ModelError: it is damaged, or holds notes of somebody.
    """
    import numpy as np
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):
            header = header_of(file)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{file}: damaged: {error}") from error
    notes = header.pop("__metadata__", {})
    if notes not in ({}, {"format": "pt"}):
        raise ModelError(
            f"{file}: has notes beside the weights ({', '.join(sorted(notes))[:80]}), and pgtune writes none; save the "
            'weights without them: metadata={"format": "pt"}'
        )
    raw = np.memmap(file, dtype=np.uint8, mode="r")
    start = 8 + int(raw[:8].view("<u8")[0])
    for name, entry in header.items():
        infinite = _INFINITE.get(entry["dtype"])
        if infinite is None:
            continue
        width = int(entry["dtype"].lstrip("BF")) // 8
        first, last = entry["data_offsets"]
        for at in range(first, last, _AT_ONCE):
            words: Any = raw[start + at : start + min(at + _AT_ONCE, last)].view(f"<u{width}")
            if bool(((words & infinite) == infinite).any()):
                raise ModelError(f"{file}: damaged: {name} holds NaN or infinity")
    return header


def shards_of(index: Path) -> dict[str, str]:
    """Weight -> file, as an index of shards has it.

    Raises:
        ModelError: it is damaged, or names other files.
    """
    try:
        named = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if not isinstance(named, dict) or not all(isinstance(shard, str) for shard in named.values()):
            raise TypeError("weight_map is no mapping of weights to files")
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{index}: damaged ({type(error).__name__}: {error})") from error
    for shard in sorted(set(named.values())):
        if not SHARD.fullmatch(shard):
            raise ModelError(f"{index}: names {shard!r}, which is no name of a shard")
        if not (index.parent / shard).is_file():
            raise ModelError(f"{index}: names {shard}, which is missing")
    return named


def check_shards(index: Path, named: Mapping[str, str], headers: Mapping[str, Iterable[str]]) -> None:
    """That each weight is in the shard that the index names, and no other is in any.

    Args:
        headers: shard -> the names of its weights.

    Raises:
        ModelError: it is not so.
    """
    held = {weight: shard for shard, weights in headers.items() for weight in weights}
    wrong = sorted(weight for weight in named.keys() | held.keys() if named.get(weight) != held.get(weight))
    if wrong:
        where = f"is in {held[wrong[0]]}" if wrong[0] in held else "is in none of the shards"
        told = f"in {named[wrong[0]]}" if wrong[0] in named else "nowhere"
        raise ModelError(f"{index}: damaged: {wrong[0]} {where}, and {told} by the index ({len(wrong)} such weights)")


def check_adapter(file: Path, header: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """That an adapter holds what its configuration speaks of: for each adapted module both matrices, of its rank.

    Args:
        config: of `adapter_config.json`.

    Raises:
        ModelError: something is missing or left over.
    """

    def damaged(what: str) -> ModelError:
        return ModelError(f"{file}: damaged: {what}")

    modules: dict[str, dict[str, Any]] = defaultdict(dict)
    others = []
    for name, entry in header.items():
        if entry["dtype"] not in _INFINITE:
            raise damaged(f"{name} is of the type {entry['dtype']}, expected float")
        if found := _LORA.fullmatch(name):
            if found["leaf"] != ".bias":
                modules[found["module"]][found["part"].replace("embedding_", "")] = entry["shape"]
        else:
            others.append(name)
    if not modules:
        raise damaged("it holds no LoRA weights")
    parts = {"lora_A", "lora_B", *(["lora_magnitude_vector"] if config.get("use_dora") else [])}
    for module, found_parts in sorted(modules.items()):
        if wrong := sorted(parts ^ found_parts.keys()):
            what = "lacks" if wrong[0] in parts else "has"
            raise damaged(f"{module} {what} {wrong[0]}, other than adapter_config.json says")
        ranks = (found_parts["lora_A"][0], found_parts["lora_B"][1])
        rank = config.get("r")
        if not config.get("rank_pattern") and set(ranks) != {rank}:
            raise damaged(f"{module} has matrices of rank {ranks[0]} and {ranks[1]}, adapter_config.json says {rank}")
    kept = config.get("modules_to_save") or []
    for name in kept:
        if not any(f".{name}." in other for other in others):
            raise damaged(f"the weights of {name} are missing, which adapter_config.json names in modules_to_save")
    for other in others:
        if not any(f".{name}." in other for name in kept):
            raise damaged(f"{other} is no weight that adapter_config.json speaks of")
