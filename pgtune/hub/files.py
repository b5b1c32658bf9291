"""The files of a model that are pushed, each by its name, and what of their keys is passed on.

A file that lies beside them stays, whatever it is called, and so does a link to elsewhere. Of a configuration only
known keys may hold text; numbers and flags are passed on as they are.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from pgtune.errors import ModelError, RunError
from pgtune.hub.weights import check_adapter, check_numbers, check_shards, shards_of
from pgtune.run_folder import RunFolder, undamaged

__all__ = ["Kind", "model_files", "own_file"]

Kind = Literal["adapter", "full", "merged"]
CONFIGS = (
    "added_tokens.json", "preprocessor_config.json", "processor_config.json", "special_tokens_map.json",
    "tokenizer_config.json",
)  # fmt: skip
"""What transformers writes for PaliGemma's processor, which has no chat template."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model")
INDEX = "model.safetensors.index.json"
ADAPTER_KEYS = ("auto_mapping", "peft_type", "peft_version")
"""Keys of adapter_config.json beside the fields of PEFT's LoraConfig; its texts are modules, types and versions."""
TEXTS = {
    "_attn_implementation", "additional_special_tokens", "added_tokens_decoder", "architectures", "attn_implementation",
    "backend", "bnb_4bit_compute_dtype", "bnb_4bit_quant_storage", "bnb_4bit_quant_type", "bos_token",
    "cache_implementation", "data_format", "dtype", "eos_token", "extra_special_tokens", "hidden_act",
    "hidden_activation", "image_processor_type", "image_token", "input_data_format", "layer_types",
    "llm_int8_skip_modules", "mask_token", "model_type", "pad_token", "padding_side", "pgtune_image_fit",
    "processor_class", "projector_hidden_act", "quant_method", "rope_type", "tokenizer_class", "torch_dtype",
    "transformers_version", "truncation_side", "unk_token", "use_bidirectional_attention",
}  # fmt: skip
"""Keys whose values are words of transformers, or the tokenizer's special tokens."""
TOKENIZER_KEYS = {
    "added_tokens", "decoder", "model", "normalizer", "padding", "post_processor", "pre_tokenizer", "truncation",
    "version",
}  # fmt: skip
_NEVER = {"is_local", "local_files_only"}
_KEY = re.compile(r"[A-Za-z_]\w{0,49}|\d{1,7}", re.ASCII)


def own_file(file: Path, root: Path) -> Path:
    """A file that lies in a folder, and is no link to elsewhere.

    Raises:
        RunError: it is a link, or no file.
    """
    if not file.resolve().is_relative_to(root.resolve()):
        raise RunError(f"{file} is a link out of {root}; what lies elsewhere is not pushed")
    if not file.is_file():
        raise RunError(f"{file} is {'a folder' if file.is_dir() else 'missing'}; expected a file")
    return file


def model_files(
    folder: RunFolder, merged: Path | None, kind: Kind, base: str, revision: str | None, *, checked: bool
) -> dict[str, Path | bytes]:
    """Weights, their configuration and the processor, none of which names a place on this machine.

    Args:
        merged: the folder of the merged model, in place of the adapter.
        checked: the weights were looked through before.

    Raises:
        ModelError: weights that are damaged, missing or left over. RunError: another file is.
    """
    root = merged or folder.path
    if kind == "adapter":
        files = _adapter(folder.adapter, root, base, revision, checked=checked)
    else:
        files = _whole(merged or folder.model, root, checked=checked)
    processor = merged or folder.processor
    if not processor.is_dir():
        raise RunError(f"{processor} is missing: tokenizer and image processor of the run")
    there = {file.name for file in processor.iterdir()}
    for name in CONFIGS:
        if name in there:
            files[name] = _json(_plain(_read(own_file(processor / name, root)), known=TEXTS))
    for name in TOKENIZERS:
        if name in there:
            files[name] = own_file(processor / name, root)
    if "tokenizer.json" in there:
        more = sorted(_read(processor / "tokenizer.json").keys() - TOKENIZER_KEYS)
        if more:
            raise RunError(f"{processor / 'tokenizer.json'}: holds {more[0][:40]!r}, which no tokenizer's file has")
    return files


def _adapter(
    place: Path, root: Path, base: str, revision: str | None, *, checked: bool
) -> dict[str, Path | bytes]:
    from peft import LoraConfig

    config = _read(own_file(place / "adapter_config.json", root))
    weights = place / "adapter_model.safetensors"
    if not weights.is_file():
        raise ModelError(f"{place}: holds no weights")
    own_file(weights, root)
    if not checked:
        check_adapter(weights, check_numbers(weights), config)
    known = {field.name for field in fields(LoraConfig)} | {*ADAPTER_KEYS}
    told = {key: value for key, value in config.items() if key in known and not isinstance(value, dict)}
    # What is in mappings are ranks of modules, or settings of initialisations that pgtune does not use.
    told |= {key: _plain(value) for key, value in config.items() if key in known and isinstance(value, dict)}
    told |= {"auto_mapping": config.get("auto_mapping")} if _is_mapping_of_peft(config.get("auto_mapping")) else {}
    told |= {"base_model_name_or_path": base, "revision": revision}
    return {"adapter_config.json": _json(dict(sorted(told.items()))), "adapter_model.safetensors": weights}


def _is_mapping_of_peft(value: Any) -> bool:
    """Whether this is what PEFT notes of the base: its class, and the module of transformers that has it."""
    return (
        isinstance(value, dict)
        and value.keys() == {"base_model_class", "parent_library"}
        and all(isinstance(one, str) and re.fullmatch(r"[A-Za-z_][\w.]{0,99}", one, re.ASCII) for one in value.values())
    )


def _whole(place: Path, root: Path, *, checked: bool) -> dict[str, Path | bytes]:
    """A model of one file of weights, or of the shards that its index names."""
    files: dict[str, Path | bytes] = {}
    for name in ("config.json", "generation_config.json"):
        if name == "config.json" or (place / name).exists():
            files[name] = _json(_plain(_read(own_file(place / name, root)), known=TEXTS))
    one, index = place / "model.safetensors", place / INDEX
    if one.is_file():
        files[one.name] = own_file(one, root)
        if not checked:
            check_numbers(one)
        return files
    if not index.is_file():
        raise ModelError(f"{place}: holds no weights")
    named = shards_of(own_file(index, root))
    for shard in sorted(set(named.values())):
        files[shard] = own_file(place / shard, root)
    if not checked:
        check_shards(index, named, {shard: check_numbers(place / shard) for shard in set(named.values())})
    sizes = {key: value for key, value in _read(index).get("metadata", {}).items() if isinstance(value, int)}
    files[INDEX] = _json({"metadata": sizes, "weight_map": named})
    return files


def _read(file: Path) -> dict[str, Any]:
    with undamaged(file):
        found: Any = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError("it holds no mapping")
    return found


def _plain(config: dict[str, Any], known: set[str] | frozenset[str] = frozenset()) -> dict[str, Any]:
    """A configuration without where it was loaded from, and without texts but of known keys."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if key in known:
            found[key] = value
        elif not _KEY.fullmatch(key) or key in _NEVER:
            continue
        elif isinstance(value, dict):
            found[key] = _plain(value, known)
        elif not isinstance(value, str) and not _has_text(value):
            found[key] = value
    return found


def _has_text(value: Any) -> bool:
    if isinstance(value, list):
        return any(_has_text(inner) for inner in value)
    return isinstance(value, (str, dict))


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
