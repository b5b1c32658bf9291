"""Bases of real size with random weights, written once: nobody has to download or accept anything to measure.

The tokenizer is that of `tiny` with its entries moved to where the released checkpoints have them (`<loc0000>`
256,000, `<seg000>` 257,024, `<image>` 257,152, "\\n" 108) and entries that no text reaches in between. So ids,
embedding and head are of real size, and pgtune's own check of the tokenizer passes; only the words are split finer
than Gemma splits them.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pgtune import tiny
from pgtune.processor import RELEASED_IDS, SEGMENTATION_TOKENS

ROWS = 257_216
_SHARD = 2 * 1024**3
_COMPLETE = "complete"


@dataclass(frozen=True)
class Size:
    """An architecture. `spread`: standard deviation of the random weights, such that LoRA lowers the loss."""

    generation: str
    text: dict[str, Any]
    vision: dict[str, Any]
    spread: float = 0.02


_SIGLIP = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
_SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def _text(hidden: int, intermediate: int, layers: int, heads: int, kv: int, head: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": head,
        **more,
    }


SIZES = {
    "pg1-3b": Size("gemma", _text(2048, 16384, 18, 8, 1, 256), _SIGLIP),
    "pg2-3b": Size("gemma2", _text(2304, 9216, 26, 8, 4, 256, query_pre_attn_scalar=256), _SIGLIP),
    "pg2-10b": Size("gemma2", _text(3584, 14336, 42, 16, 8, 256, query_pre_attn_scalar=256), _SIGLIP),
    # Two narrow layers, to test the bench: nothing that is measured on it means anything.
    "tiny-smoke": Size("gemma2", _text(64, 128, 2, 4, 2, 16, query_pre_attn_scalar=16), _SMALL, 0.1),
}


def config(size: str, resolution: int) -> Any:
    """The PaliGemmaConfig: the released checkpoints' shape; no cap on the output, as the papers train."""
    from transformers import Gemma2Config, GemmaConfig, PaliGemmaConfig, SiglipVisionConfig

    chosen = SIZES[size]
    tokens: dict[str, Any] = {"vocab_size": ROWS, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    if chosen.generation == "gemma":
        text = GemmaConfig(**chosen.text, **tokens, max_position_embeddings=8192)
    else:
        more = {"sliding_window": 4096, "final_logit_softcapping": None, "max_position_embeddings": 8192}
        text = Gemma2Config(**chosen.text, **tokens, **more)
    vision = SiglipVisionConfig(
        **chosen.vision,
        image_size=resolution,
        patch_size=14,
        vision_use_head=False,
        projection_dim=text.hidden_size,
    )
    return PaliGemmaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=RELEASED_IDS["<image>"],
        projection_dim=text.hidden_size,
        hidden_size=text.hidden_size,
        tie_word_embeddings=True,
        dtype="bfloat16",
        **tokens,
    )


def write_base(size: str, resolution: int, work: Path) -> Path:
    """The base's folder below `work`, written where it is not there yet: one shard of at most 2 GB in memory."""
    folder = work / f"base-{size}-{resolution}"
    if (folder / _COMPLETE).is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    chosen = config(size, resolution)
    chosen.architectures = ["PaliGemmaForConditionalGeneration"]
    chosen.save_pretrained(str(folder))
    write_processor(folder, resolution)
    _write_weights(folder, chosen, SIZES[size].spread)
    (folder / _COMPLETE).touch()
    return folder


def _write_weights(folder: Path, chosen: Any, spread: float) -> None:
    from transformers import PaliGemmaForConditionalGeneration

    with torch.device("meta"):
        model = PaliGemmaForConditionalGeneration(chosen)
    generator = torch.Generator().manual_seed(0)
    shard: dict[str, torch.Tensor] = {}
    index: dict[str, str] = {}
    written, held = 0, 0

    def flush() -> None:
        nonlocal written, held
        name = f"model-{written:05d}.safetensors"
        save_file(shard, str(folder / name), {"format": "pt"})
        index.update(dict.fromkeys(shard, name))
        written, held = written + 1, 0
        shard.clear()

    for name, parameter in model.named_parameters():  # the tied head is no parameter of its own
        shard[name] = _random(name, parameter.shape, spread, generator)
        held += 2 * parameter.numel()
        if held > _SHARD:
            flush()
    flush()
    content = {"metadata": {}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content), encoding="utf-8")


def _random(name: str, shape: torch.Size, spread: float, generator: torch.Generator) -> torch.Tensor:
    if len(shape) > 1:
        return torch.empty(shape, dtype=torch.bfloat16).normal_(0, spread, generator=generator)
    # Gemma's norms scale by 1 + weight, SigLIP's by weight.
    ones = "vision_tower" in name and "norm" in name and name.endswith("weight")
    return torch.full(shape, float(ones), dtype=torch.bfloat16)


def write_processor(folder: Path, resolution: int) -> None:
    """The shipped processor, at `resolution` and with the released ids, as plain transformers reads it."""
    shipped = tiny.path()
    shutil.copy(shipped / "tokenizer_config.json", folder)
    processor = json.loads((shipped / "processor_config.json").read_text(encoding="utf-8"))
    processor["image_processor"] |= {
        "size": {"height": resolution, "width": resolution},
        "image_seq_length": (resolution // 14) ** 2,
    }
    (folder / "processor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    tokenizer = json.loads((shipped / "tokenizer.json").read_text(encoding="utf-8"))
    _move_ids(tokenizer)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")


def _move_ids(tokenizer: dict[str, Any]) -> None:
    """Give the entries of tokenizer.json the ids of the released checkpoints."""
    newline, first_location = RELEASED_IDS["\n"], RELEASED_IDS["<loc0000>"]
    old = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    kept = [token for token in old if token != "\n"]
    entries = [*kept[:newline], "\n", *kept[newline:]]
    entries += [f"<filler{number}>" for number in range(len(entries), first_location)]
    ids = {token: number for number, token in enumerate(entries)}
    tokenizer["model"]["vocab"] = dict(ids)
    for token in tokenizer["added_tokens"]:
        if token["content"] not in ids:
            ids[token["content"]] = len(ids)
        token["id"] = ids[token["content"]]
    wanted = {**RELEASED_IDS, SEGMENTATION_TOKENS[-1]: RELEASED_IDS["<image>"] - 1}
    assert all(ids[token] == number for token, number in wanted.items()), "the shipped tokenizer has another order"
