"""`pgtune merge`: base and adapter as one plain transformers model, in full precision or quantised.

The adapter goes into a base loaded afresh in full precision, never into 4 or 8 bits, layer by layer in float32, and
what comes out is rounded once. What was written is read back with plain transformers and compared before it gets its
name.
"""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pgtune.errors import ModelError, RecipeError, RunError
from pgtune.hub.foreign import PushedRun
from pgtune.loading import base_of, load_run, locate_run
from pgtune.merge_checks import check_merged, check_moves, check_reloaded, largest, logits, probe_inputs
from pgtune.merge_places import Need, check_only_written, check_out, check_room
from pgtune.model import DTYPES, Loaded, choose_dtype, enough_memory, explained, load_config
from pgtune.processor import save_processor
from pgtune.progress import Progress, say
from pgtune.quantization import check_quantized, quantization_config
from pgtune.quiet import quiet_libraries
from pgtune.recipe import Recipe
from pgtune.run_folder import OWN, RunFolder
from pgtune.settings import ModelSettings
from pgtune.writing import write_folder, write_json

CPU = torch.device("cpu")
SHARD = "2GB"
"""Largest file of weights; while one is written, it is in memory a second time."""


def merge(
    run: Path | str,
    out: Path | str,
    dtype: str | None = None,
    quantize: str | None = None,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write base and adapter of a run as one model that plain transformers loads, and `pgtune evaluate` too.

    Args:
        run: a finished run; one trained in full, and a merged model, are copied, in another dtype or quantised.
        out: the folder to write.
        dtype: float32 or bfloat16; None is what the base is stored in, and bfloat16 with `quantize`.
        quantize: int8 or nf4, for the language model's linear layers, after merging.
        overwrite: replace a merged model that is in `out`.

    Returns:
        out, run, base, dtype, quantization, bytes (of the folder), and how logits on a probe input differ:
        `logits` (the largest), `moved` (base and base with adapter; None without an adapter), `merged` (base with
        adapter and merged), `quantized` (merged and quantised; None), `reloaded` (in memory and read back). `lost`:
        which share of the weights' change rounding took away (None without an adapter). `data_elsewhere`: whether it
        is a pushed run, whose data is not here.

    Raises:
        RunError, RecipeError: not a run, not trained, or `out` cannot be written.
        ModelError, HubError: files missing or damaged, or an adapter that does nothing.
        TrainingError: not enough room, or what was written does not compute the same.
    """
    folder, target = locate_run(run), Path(os.path.realpath(out))  # of a link, what it leads to is replaced
    recipe = folder.recipe()
    folder.check_trained()
    settings = base_of(folder, recipe)
    for name, value, known in (("dtype", dtype, [*DTYPES]), ("quantize", quantize, ["int8", "nf4"])):
        if value is not None and value not in known:
            raise RecipeError(f"merge: {name}: expected {' or '.join(known)}, not {value!r}")
    check_out(Path(out), folder, recipe, overwrite=overwrite)
    if folder.whole and settings.quantization != "none":
        raise RunError(f"{run}: is stored quantised, and nothing is made of rounded weights; name the run it is from")
    config = load_config(settings.base, settings.revision)
    loaded_in = choose_dtype(settings.dtype, full=False, device=CPU, config=config)  # auto: what it is stored in
    written = DTYPES[dtype] if dtype else torch.bfloat16 if quantize else loaded_in
    loaded_in = torch.float32 if written is torch.float32 else loaded_in  # which loses nothing
    name = str(loaded_in).removeprefix("torch.")
    settings = settings.model_copy(update={"attention": "auto", "quantization": "none", "dtype": name})
    if quantize:
        quantization_config(quantize, written)  # bitsandbytes is there
    need = _need(config, loaded_in, written, quantize)
    check_room(target, need)
    what = f"{settings.base} copied" if folder.whole else f"{settings.base} with {folder.adapter}"
    name = str(written).removeprefix("torch.")
    say(
        f"merge      {what}, into {name}{f' and {quantize}' if quantize else ''}: about {need.memory / 1e9:.1f} GB of "
        f"memory and {need.disk / 1e9:.1f} GB of disk"
    )
    if recipe.model.quantization != "none" and not folder.whole:
        say(f"           trained and scored on a base in {recipe.model.quantization}, which this is not: score it anew")
    found: dict[str, Any] = {}

    def fill(aside: Path) -> None:
        with enough_memory("a machine with more of it; nothing else makes a merge smaller"):
            found.update(_fill(aside, folder, recipe, settings, written, quantize))
        facts = {"run": folder.identity(), "base": settings.base, "revision": settings.revision}
        facts |= {"dtype": name, "quantization": quantize or "none"}
        _write_own(aside, folder, {**facts, **found})
        found.update(facts)
        check_only_written(Path(out))  # again: it took a while

    write_folder(target, fill)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    elsewhere = isinstance(folder, PushedRun)
    return {"out": str(out), **found, "run": str(run), "bytes": size, "data_elsewhere": elsewhere}


def _need(config: Any, loaded_in: torch.dtype, written: torch.dtype, quantize: str | None) -> Need:
    """All weights once, in the larger of the two dtypes; written once, and where quantised a second time, smaller."""
    from transformers import PaliGemmaForConditionalGeneration

    with torch.device("meta"):
        model = PaliGemmaForConditionalGeneration._from_config(config)
    count = sum(parameter.numel() for parameter in model.parameters())
    bits = {None: 0, "int8": 8, "nf4": 5}[quantize]  # nf4: with its scales, and what stays as it is below
    linear = sum(p.numel() for name, p in model.named_parameters() if "language_model.layers" in name)
    quantized = (count - linear) * written.itemsize + linear * bits // 8 if quantize else 0
    return Need(count * max(loaded_in.itemsize, written.itemsize), count * written.itemsize + quantized)


def _fill(
    aside: Path, run: RunFolder, recipe: Recipe, settings: ModelSettings, dtype: torch.dtype, quantize: str | None
) -> dict[str, Any]:
    """Merge into `aside`; returns how the logits differ."""
    loaded = load_run(run, recipe, settings=settings, device=CPU)
    probe = probe_inputs(loaded)
    wanted = logits(loaded, probe)
    moved: float | None = None
    if not run.whole:
        with loaded.model.disable_adapter():  # type: ignore[operator]
            moved = largest(wanted - logits(loaded, probe))
        check_moves(moved, largest(wanted), run.adapter, loaded.base)
    model, lost = merge_layers(loaded, dtype)
    loaded.model = model
    merged = logits(loaded, probe)
    difference = largest(merged - wanted)
    if moved is not None:
        check_merged(difference, moved, largest(wanted), dtype, lost)
    _as_scored(model, recipe)
    full = aside / ".full" if quantize else aside  # bitsandbytes takes what it quantises from a folder
    say("write      the weights")
    model.save_pretrained(str(full), max_shard_size=SHARD)
    save_processor(loaded.processor, aside)
    del model
    loaded.model = torch.nn.Module()
    off: float | None = None
    in_memory = merged
    if quantize:
        loaded.model, in_memory = _quantize(full, aside, dtype, quantize, loaded, probe)
        shutil.rmtree(full)
        off = largest(in_memory - merged)
        loaded.model = torch.nn.Module()
    say("check      what was written, read back with transformers")
    loaded.model = _plain(aside)
    reloaded = largest(logits(loaded, probe) - in_memory)
    check_reloaded(reloaded, largest(in_memory))
    return {
        "logits": largest(wanted),
        "moved": moved,
        "lost": None if run.whole else lost,
        "merged": difference,
        "quantized": off,
        "reloaded": reloaded,
    }


def merge_layers(loaded: Loaded, dtype: torch.dtype) -> tuple[Any, float]:
    """The PaliGemma with the adapter in its weights, which are of `dtype` then, and the share that rounding lost.

    Each adapted layer is taken to float32, merged by PEFT and rounded; only one is in memory in float32 at a time. What
    is kept of the adapter's change is its projection on the change after rounding: near 1 where rounding is only noise,
    near 0 where the changes are too small to move a bfloat16 weight to its neighbour. The loaded model is used up.
    """
    model: Any = loaded.model
    adapted = [module for module in model.modules() if hasattr(module, "base_layer")]
    copied = [module for module in model.modules() if hasattr(module, "original_module")]
    change = kept = 0.0

    def note(before: Tensor, exact: Tensor) -> None:
        nonlocal change, kept
        wanted = exact - before
        change += float(wanted.square().sum())
        kept += float((wanted * (exact.to(dtype).float() - before.to(dtype).float())).sum())

    with torch.no_grad(), Progress(len(adapted), "merge") as progress:
        for module in adapted:
            weight = module.get_base_layer().weight
            before = weight.data
            weight.data = before.float()
            try:
                module.merge(safe_merge=True)
            except ValueError as error:  # what safe_merge looks for
                raise ModelError(f"the adapter holds NaN or infinity: {error}") from error
            note(before, weight.data)
            weight.data = weight.data.to(dtype)
            progress.advance()
        for module in copied:
            for name, parameter in module.original_module.named_parameters():
                note(parameter, module.modules_to_save["default"].get_parameter(name))
        if hasattr(model, "peft_config"):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "All adapters are already merged")
                model = model.merge_and_unload()
        for parameter in model.parameters():  # not buffers: the rotary frequencies stay in float32
            parameter.data = parameter.data.to(dtype)
    return model, max(0.0, 1 - kept / change) if change else 0.0


def _as_scored(model: Any, recipe: Recipe) -> None:
    """Let plain `generate` decode as the run was scored: greedily or with its beams, and as long."""
    decoding: dict[str, Any] = {
        "do_sample": False,
        "max_new_tokens": recipe.eval.max_new_tokens,
        "num_beams": recipe.eval.num_beams,
    }
    if recipe.eval.num_beams > 1:
        decoding |= {"length_penalty": 0.0, "early_stopping": False}
    model.generation_config.update(**decoding)


def _quantize(
    full: Path, aside: Path, dtype: torch.dtype, setting: str, loaded: Loaded, probe: dict[str, Any]
) -> tuple[Any, Tensor]:
    """Quantise what was written and write it to `aside`; returns the model and its logits on the probe."""
    say(f"quantize   to {setting}")
    model = _plain(full, quantization_config=quantization_config(setting, dtype))
    check_quantized(model)
    # Before the first forward, which on some CPUs lays the weights out anew.
    model.save_pretrained(str(aside), max_shard_size=SHARD)
    loaded.model = model
    return model, logits(loaded, probe)


def _plain(folder: Path, **more: Any) -> Any:
    """What a user gets who has transformers only."""
    from transformers import PaliGemmaForConditionalGeneration

    quiet_libraries()
    device_map = {"": CPU} if more else None
    with explained(str(folder)):
        model: Any = PaliGemmaForConditionalGeneration.from_pretrained(str(folder), device_map=device_map, **more)
    return model.eval()


def _write_own(aside: Path, run: RunFolder, facts: dict[str, Any]) -> None:
    """Beside the model what `pgtune evaluate` needs, and what it was made from."""
    own = aside / OWN
    own.mkdir()
    for file in (run.recipe_file, run.splits_file, run.overlaps_file, run.metrics):
        if file.is_file():
            shutil.copyfile(file, own / file.name)
    names = [entry.relative_to(aside).as_posix() for entry in aside.rglob("*") if entry.is_file()]
    facts["files"] = sorted([*names, f"{OWN}/status.json"])
    write_json(own / "status.json", {**run.status(), "merged": facts})


def summary(result: dict[str, Any]) -> str:
    """What `merge` returned, for a person."""
    lines = []
    if result["moved"] is not None:
        lines.append(f"adapter    moves logits on a probe input by up to {result['moved']:.3g}")
    largest_one = f"(the largest logit is {result['logits']:.3g})"
    what = "base and adapter" if result["moved"] is not None else "the model"
    lines.append(f"merged     differs by {result['merged']:.2g} from {what} {largest_one}")
    if result["lost"] is not None and result["dtype"] == "bfloat16":
        lines.append(f"rounding   took away {result['lost']:.1%} of what the adapter changes")
    if result["quantized"] is not None:
        lines.append(f"{result['quantization']:<10} differs by {result['quantized']:.2g} from that")
    lines.append(f"read back  differs by {result['reloaded']:.2g}")
    lines.append(f"written to {result['out']}, {result['bytes'] / 1e9:.2f} GB")
    source = " --source FILE" if result["data_elsewhere"] else ""
    return "\n".join([*lines, f"score it:  pgtune evaluate {result['out']}{source}"])
