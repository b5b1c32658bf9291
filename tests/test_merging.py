"""Merging: the same logits as base and adapter, for every method, in files that plain transformers reads."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import LORA, read_jsonl, recipe_for
from PIL import Image
from safetensors.torch import load_file, save_file

import pgtune
from pgtune import merging
from pgtune.cli import main
from pgtune.errors import ModelError, PgtuneError, RecipeError, RunError, TrainingError
from pgtune.merge_checks import FLOAT32_TOLERANCE
from pgtune.merging import merge
from pgtune.methods import prepare
from pgtune.model import load_base, load_config
from pgtune.processor import save_processor
from pgtune.run_folder import RunFolder
from pgtune.saving import save_trained
from pgtune.writing import write_folder

CPU = torch.device("cpu")
BF16_TOLERANCE = 0.1
"""Share of the largest logit by which a merged model in bfloat16 may differ from float32 on these random models, whose
weights are fifteen times as large as a real one's."""
ALL = ["vision_tower", "projector", "language_model"]
METHODS: dict[str, tuple[dict[str, Any] | None, list[str]]] = {
    "lora": (LORA, []),
    "rslora on all parts": ({**LORA, "targets": ALL, "use_rslora": True}, []),
    "dora": ({**LORA, "use_dora": True}, []),
    "lora and trained parts": (LORA, ["model.trainable=[vision_tower, projector]"]),
    "qlora nf4": (LORA, ["model.quantization=nf4"]),
    "qlora int8": (LORA, ["model.quantization=int8"]),
    "full": (None, []),
}

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Make:
    """A finished run whose trained weights were moved at random, by `size`; no step is computed."""

    def made(base: Path, lora: dict[str, Any] | None = LORA, *overrides: str, size: float = 0.05) -> Path:
        recipe = recipe_for(base, data, tmp_path_factory.mktemp("run") / "run", *overrides, lora=lora)
        loaded = prepare(
            load_base(recipe.model, full=lora is None, device=CPU), recipe.lora, recipe.model.trainable, seed=0
        )
        noise = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in loaded.trainable():
                if "lora_A" not in name:
                    parameter.add_(size * torch.randn(parameter.shape, generator=noise))
        folder = RunFolder(recipe.output_dir)
        folder.start(recipe, {"pgtune": "0"}, {"data": "0"})
        write_folder(folder.processor, lambda aside: save_processor(loaded.processor, aside))
        save_trained(loaded, folder, recipe)
        folder.finish()
        return folder.path

    return made


def plain(folder: Path | str, **more: Any) -> Any:
    """What a stranger loads, without pgtune."""
    from transformers import PaliGemmaForConditionalGeneration

    return PaliGemmaForConditionalGeneration.from_pretrained(str(folder), **more).eval()


@torch.no_grad()
def logits(model: Any, folder: Path, prompt: str = "<image>what is it?") -> torch.Tensor:
    from transformers import AutoProcessor

    picture = Image.linear_gradient("L").rotate(30).convert("RGB")
    inputs = AutoProcessor.from_pretrained(str(folder))(images=picture, text=prompt, return_tensors="pt")
    inputs.pop("labels", None)
    inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    found: torch.Tensor = model(**inputs).logits
    return found.float()


def trained(run: Path, base: Path) -> Any:
    """Base and adapter of a run as PEFT puts them together, in float32 and unquantised."""
    from peft import PeftModel

    if (run / "model").is_dir():
        return plain(run / "model")
    model = plain(base, dtype=torch.float32)
    text = model.config.get_text_config()
    if text.model_type == "gemma2":
        text.final_logit_softcapping = None
    return PeftModel.from_pretrained(model, str(run / "adapter")).eval()


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


CASES = [
    *(("paligemma2", method) for method in METHODS),
    *(("paligemma", method) for method in ("dora", "lora and trained parts")),
    *(pytest.param("paligemma", name, marks=pytest.mark.slow) for name in METHODS if "dora" not in name),
]


@pytest.mark.parametrize(("of", "method"), CASES)
def test_the_merged_model_computes_the_same(
    of: str, method: str, small_bases: dict[str, Path], make: Make, tmp_path: Path
) -> None:
    lora, overrides = METHODS[method]
    small_base = small_bases[of]
    run, out = make(small_base, lora, *overrides), tmp_path / "merged"
    result = merge(run, out)
    assert result["dtype"] == "float32"
    assert result["reloaded"] == 0
    model, reference = plain(out), trained(run, small_base)
    wanted = logits(reference, out)
    assert (logits(model, out) - wanted).abs().max() <= FLOAT32_TOLERANCE * wanted.abs().max()
    if lora is not None:
        assert (logits(plain(small_base), out) - wanted).abs().max() > 0.01 * wanted.abs().max(), "a test of nothing"
    # One embedding, tied, in the file once, under the names that the base has.
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert tensors(out).keys() == tensors(small_base).keys()


def test_in_bfloat16_it_is_what_float32_computed_rounded_once(small_base: Path, make: Make, tmp_path: Path) -> None:
    run, out = make(small_base, {**LORA, "use_dora": True}, "model.trainable=[projector]"), tmp_path / "half"
    merge(run, tmp_path / "exact")
    assert merge(run, out, dtype="bfloat16")["reloaded"] == 0
    exact = tensors(tmp_path / "exact")
    for name, weight in tensors(out).items():
        assert weight.dtype is torch.bfloat16
        assert torch.equal(weight, exact[name].bfloat16()), name
    model, wanted = plain(out), logits(plain(tmp_path / "exact"), out)
    assert model.dtype is torch.bfloat16
    assert (logits(model, out) - wanted).abs().max() <= BF16_TOLERANCE * wanted.abs().max()


def test_from_a_base_in_bfloat16_too(small_bases: dict[str, Path], make: Make, tmp_path: Path) -> None:
    small_base, base = small_bases["paligemma"], tmp_path / "base"
    shutil.copytree(small_base, base)
    plain(small_base, dtype=torch.bfloat16).save_pretrained(str(base))
    run = make(base)
    assert merge(run, tmp_path / "half")["dtype"] == "bfloat16"
    merge(run, tmp_path / "exact", dtype="float32")
    adapter, exact = load_file(run / "adapter" / "adapter_model.safetensors"), tensors(tmp_path / "exact")
    for name, weight in tensors(tmp_path / "half").items():
        assert torch.equal(weight, exact[name].bfloat16())
        adapted = name.endswith("_proj.weight") and "language_model" in name
        assert torch.equal(weight, tensors(base)[name]) != adapted
    name = "layers.1.mlp.up_proj"
    (down,) = (value for key, value in adapter.items() if f"language_model.{name}.lora_A" in key)
    (up,) = (value for key, value in adapter.items() if f"language_model.{name}.lora_B" in key)
    key = next(key for key in exact if key.endswith(f"{name}.weight"))
    assert torch.allclose(exact[key], tensors(base)[key].float() + 2 * up @ down, atol=1e-6)  # alpha / rank = 2


def test_the_files_are_plain_and_name_no_place(bases: dict[str, Path], make: Make, tmp_path: Path) -> None:
    changes = ("model.image_fit=pad", "model.resample=bilinear", "eval.num_beams=3", "eval.max_new_tokens=7")
    run, out = make(bases["paligemma2"], LORA, *changes), tmp_path / "merged"
    merge(run, out)
    config = json.loads((out / "config.json").read_text())
    assert config["dtype"] == "float32"
    assert config["tie_word_embeddings"] is True
    assert config["text_config"]["final_logit_softcapping"] is None
    assert set(config["text_config"]["layer_types"]) == {"full_attention"}
    for file in out.iterdir():
        if file.is_file():
            assert str(bases["paligemma2"]).encode() not in file.read_bytes(), file
            assert str(run).encode() not in file.read_bytes(), file
            assert file.stat().st_mode == (out / "config.json").stat().st_mode
    generation = json.loads((out / "generation_config.json").read_text())
    wanted = {"eos_token_id": 1, "pad_token_id": 0, "max_new_tokens": 7, "num_beams": 3, "length_penalty": 0.0}
    assert wanted.items() <= generation.items()
    assert "PICTURES.md" in os.listdir(out)
    image_processor = json.loads((out / "processor_config.json").read_text())["image_processor"]
    assert (image_processor["resample"], image_processor["pgtune_image_fit"]) == (2, "pad")
    assert pgtune.load(out).collator.processor.image_processor.pgtune_image_fit == "pad"


def test_softcapping_stays_as_trained(small_bases: dict[str, Path], make: Make, tmp_path: Path) -> None:
    run = make(small_bases["paligemma2"], LORA, "model.final_logit_softcapping=true")
    merge(run, tmp_path / "out")
    assert plain(tmp_path / "out").config.text_config.final_logit_softcapping == 30.0


def test_evaluate_and_predict_take_a_merged_folder(
    finished: Path, tmp_path: Path, pictures: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "merged"
    assert main(["merge", str(finished), str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["out"] == str(out)
    assert result["bytes"] > 1e5
    assert (result["moved"] is None) == (finished / "model").is_dir()
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    before, after = pgtune.evaluate(run), pgtune.evaluate(out)
    assert after["metrics"] == before["metrics"]
    rows = [read_jsonl(Path(found["folder"]) / "predictions.jsonl") for found in (before, after)]
    assert [row["prediction"] for row in rows[1]] == [row["prediction"] for row in rows[0]]
    question = ["--image", str(pictures[0]), "--prefix", "what is it?", "--json"]
    answers = []
    for folder in (finished, out):
        assert main(["predict", str(folder), *question]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0]["prediction"] == answers[1]["prediction"]
    assert answers[0]["mean_log_probability"] == pytest.approx(answers[1]["mean_log_probability"], abs=1e-4)
    # Its answers are not the run's own, so no file mixes them.
    assert RunFolder(out).identity() != RunFolder(finished).identity()


@pytest.mark.parametrize("setting", ["nf4", "int8"])
def test_quantised(
    setting: str, small_base: Path, make: Make, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import bitsandbytes

    kind = {"nf4": bitsandbytes.nn.Linear4bit, "int8": bitsandbytes.nn.Linear8bitLt}[setting]
    run, out = make(small_base), tmp_path / "small"
    result = merge(run, out, quantize=setting)
    assert (result["dtype"], result["quantization"], result["reloaded"]) == ("bfloat16", setting, 0)
    merge(run, tmp_path / "merged", dtype="bfloat16")
    assert sum(f.stat().st_size for f in out.iterdir()) < sum(f.stat().st_size for f in (tmp_path / "merged").iterdir())
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    model = plain(out)
    found = [name for name, module in model.named_modules() if isinstance(module, kind)]
    assert len(found) == 14
    assert all("language_model.layers" in name for name in found)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    again = plain(tmp_path / "merged", device_map={"": "cpu"}, quantization_config=model.config.quantization_config)
    assert torch.equal(logits(model, out), logits(again, out))
    # As everywhere, pgtune reads it too; but it trains no weights that were rounded.
    assert pgtune.evaluate(out, source=data / "test.jsonl", limit=2)["n"] == 2
    assert pgtune.load(out).loaded.quantization == setting
    with pytest.raises(ModelError, match="stored quantised"):
        pgtune.train(recipe_for(out, data, tmp_path / "run"))
    assert main(["merge", str(out), str(tmp_path / "again")]) == 2
    assert "is stored quantised" in capsys.readouterr().err


def test_a_merged_model_is_copied_and_is_a_base(
    small_bases: dict[str, Path], make: Make, data: Path, tmp_path: Path
) -> None:
    run, out = make(small_bases["paligemma2"]), tmp_path / "merged"
    merge(run, out)
    result = merge(out, tmp_path / "copy")
    assert (result["merged"], result["moved"]) == (0, None)
    assert all(torch.equal(weight, tensors(out)[name]) for name, weight in tensors(tmp_path / "copy").items())
    metrics = pgtune.train(recipe_for(out, data, tmp_path / "next", "train.max_steps=1"))
    assert metrics["steps"] == 1


def spoil(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    """Change an adapter's weights on disk."""

    def spoiled(run: Path) -> None:
        file = run / "adapter" / "adapter_model.safetensors"
        weights = load_file(file)
        change(weights)
        save_file(weights, file, {"format": "pt"})

    return spoiled


def cut(run: Path) -> None:
    file = run / "adapter" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


BROKEN: dict[str, tuple[Callable[[Path], Any], type[PgtuneError], str]] = {
    "it does nothing": (
        spoil(lambda weights: [weights[name].zero_() for name in weights if "lora_B" in name]),
        ModelError,
        "the adapter does nothing: all its matrices lora_B are zero",
    ),
    "weights are missing": (spoil(lambda weights: weights.pop(next(iter(weights)))), ModelError, "does not fit"),
    "weights are not numbers": (
        spoil(lambda weights: weights[next(name for name in weights if "lora_B" in name)].fill_(torch.nan)),
        ModelError,
        "NaN or infinity",
    ),
    "the file is cut off": (cut, ModelError, "cannot be loaded onto"),
    "it never finished": (lambda run: shutil.rmtree(run / "adapter"), RunError, "has not finished its training"),
    "it is no run": (lambda run: (run / "recipe.yaml").unlink(), RunError, "not a run folder"),
    "the processor is gone": (lambda run: shutil.rmtree(run / "processor"), ModelError, "processor is missing"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_run_is_refused_and_nothing_is_written(
    what: str, small_bases: dict[str, Path], make: Make, tmp_path: Path
) -> None:
    spoil_it, kind, message = BROKEN[what]
    run = make(small_bases["paligemma2"])
    spoil_it(run)
    with pytest.raises(kind, match=message):
        merge(run, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_dora_that_does_nothing_is_refused(small_bases: dict[str, Path], make: Make, tmp_path: Path) -> None:
    """Its norms round otherwise than the base's, so that the logits are not the same to the last bit."""
    run = make(small_bases["paligemma2"], {**LORA, "use_dora": True}, size=0)
    with pytest.raises(ModelError, match="does nothing"):
        merge(run, tmp_path / "out")


def test_changes_too_small_for_bfloat16_are_refused(small_bases: dict[str, Path], make: Make, tmp_path: Path) -> None:
    small_base, base = small_bases["paligemma2"], tmp_path / "base"
    shutil.copytree(small_base, base)
    plain(small_base, dtype=torch.bfloat16).save_pretrained(str(base))
    run = make(base, size=1e-4)
    with pytest.raises(TrainingError, match=r"in bfloat16 \d+% of what the adapter changes is rounded away"):
        merge(run, tmp_path / "out", dtype="bfloat16")
    assert not (tmp_path / "out").exists()
    assert merge(run, tmp_path / "out", dtype="float32")["lost"] < 1e-3


def test_a_wrong_merge_is_found(
    small_bases: dict[str, Path], make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(small_bases["paligemma2"])
    real = merging.merge_layers

    def wrong(loaded: Any, dtype: torch.dtype) -> Any:
        model, lost = real(loaded, dtype)
        weight = model.model.language_model.layers[0].mlp.up_proj.weight
        weight.data = weight.data.flip(0)
        return model, lost

    monkeypatch.setattr(merging, "merge_layers", wrong)
    with pytest.raises(TrainingError, match="more than rounding explains"):
        merge(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_reads_back_otherwise_is_found(
    small_bases: dict[str, Path], make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(small_bases["paligemma"])
    real = merging._plain

    def wrong(folder: Path, **more: Any) -> Any:
        model = real(folder, **more)
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().flip(0))
        return model

    monkeypatch.setattr(merging, "_plain", wrong)
    with pytest.raises(TrainingError, match="computes other logits than what was in memory"):
        merge(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_where_it_may_be_written(small_bases: dict[str, Path], make: Make, tmp_path: Path) -> None:
    run = make(small_bases["paligemma2"])
    other, file = tmp_path / "other", tmp_path / "file"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    file.write_text("")
    for out, message in (
        (file, "is a file"),
        (other, "is no merged model"),
        (run, "lie one in the other"),
        (run / "merged", "lie one in the other"),
        (run.parent, "lie one in the other"),
        (small_bases["paligemma2"], "lie one in the other"),
        (small_bases["paligemma2"] / "merged", "lie one in the other"),
    ):
        with pytest.raises(RunError, match=message):
            merge(run, out, overwrite=True)
    assert (other / "thesis.txt").is_file()
    out = tmp_path / "merged"
    merge(run, out)
    (out / "evaluations").mkdir()
    with pytest.raises(RunError, match="add --overwrite"):
        merge(run, out)
    merge(run, out, overwrite=True)
    assert not (out / "evaluations").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "merged", "other"]
    for wrong in ({"dtype": "float16"}, {"quantize": "int4"}):
        with pytest.raises(RecipeError, match=next(iter(wrong))):
            merge(run, tmp_path / "more", **wrong)  # type: ignore[arg-type]


def test_through_a_link_and_into_the_working_directory(
    small_bases: dict[str, Path], make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out, link = make(small_bases["paligemma2"]), tmp_path / "out", tmp_path / "link"
    merge(run, out)
    link.symlink_to("out")
    for _ in range(2):
        assert merge(run, link, overwrite=True)["out"] == str(link)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "out"]
        assert link.is_symlink()
    assert pgtune.load(link)
    empty, lost = tmp_path / "empty", tmp_path / "lost"
    empty.mkdir()
    lost.symlink_to("nowhere")
    with pytest.raises(RunError, match="a symbolic link that leads nowhere"):
        merge(run, lost)
    monkeypatch.chdir(empty)
    with pytest.raises(RunError, match="is or holds the working directory"):
        merge(run, ".")
    merge(run, "in")
    assert (empty / "in" / "config.json").is_file()


def test_other_files_are_not_lost(small_bases: dict[str, Path], make: Make, tmp_path: Path) -> None:
    run, out = make(small_bases["paligemma2"]), tmp_path / "out"
    merge(run, out)
    with pytest.raises(RunError, match=r"inside lies in .*out, a run or model of its own"):
        merge(run, out / "deep" / "inside")
    with pytest.raises(RunError, match="is a file"):
        merge(run, out / "config.json" / "inside")
    (out / "notes").mkdir()
    (out / "notes" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match=r"holds notes/thesis.txt, which merge did not write"):
        merge(run, out, overwrite=True)
    (out / "notes" / "thesis.txt").unlink()
    merge(run, out, overwrite=True)
    status = out / "pgtune" / "status.json"
    facts = json.loads(status.read_text())
    del facts["merged"]["files"]
    status.write_text(json.dumps(facts))
    with pytest.raises(RunError, match="does not say which of its files merge wrote"):
        merge(run, out, overwrite=True)


def test_a_file_that_comes_while_it_merges_is_not_lost(
    small_bases: dict[str, Path], make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = make(small_bases["paligemma2"]), tmp_path / "out"
    merge(run, out)
    real = merging.check_reloaded

    def slow(*given: Any) -> None:
        (out / "thesis.txt").write_text("years of work")
        real(*given)

    monkeypatch.setattr(merging, "check_reloaded", slow)
    with pytest.raises(RunError, match=r"holds thesis.txt"):
        merge(run, out, overwrite=True)
    assert (out / "thesis.txt").is_file()
    assert list(tmp_path.iterdir()) == [out]


def test_a_link_in_the_place_of_a_folder_is_replaced_and_leaves_nothing(tmp_path: Path) -> None:
    there, link = tmp_path / "there", tmp_path / "link"
    there.mkdir()
    for target in ("there", "nowhere"):
        link.unlink(missing_ok=True) if link.is_symlink() else shutil.rmtree(link, ignore_errors=True)
        link.symlink_to(target)
        (tmp_path / ".link.old").symlink_to("there")  # as an earlier version left it
        for _ in range(2):
            write_folder(link, lambda aside: (aside / "x").write_text("1") and None)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "there"]
        assert (link / "x").is_file()
        assert not any(there.iterdir())


def test_training_leaves_a_merged_folder_alone(
    small_bases: dict[str, Path], make: Make, data: Path, tmp_path: Path
) -> None:
    merge(make(small_bases["paligemma2"]), tmp_path / "merged")
    with pytest.raises(RunError, match="is not a run folder"):
        pgtune.train(recipe_for(small_bases["paligemma2"], data, tmp_path / "merged"), overwrite=True)


def test_a_full_disk_is_seen_before_anything_is_loaded(
    small_bases: dict[str, Path], make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(small_bases["paligemma2"])
    full = shutil.disk_usage(tmp_path)._replace(free=10**5)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(TrainingError, match=r"GB will be written and 0\.0 GB are free there"):
        merge(run, tmp_path / "deep" / "out")
    assert list(tmp_path.iterdir()) == []
    assert TrainingError.exit_code == 1


def test_it_says_what_it_needs(
    small_bases: dict[str, Path], make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make(small_bases["paligemma2"])
    config = load_config(str(small_bases["paligemma2"]))
    need = merging._need(config, torch.float32, torch.bfloat16, None)
    weights = tensors(small_bases["paligemma2"])
    assert need.memory == sum(weight.numel() for weight in weights.values()) * 4
    assert need.disk == need.memory / 2
    smaller = merging._need(config, torch.float32, torch.bfloat16, "nf4").disk - need.disk
    merge(run, tmp_path / "out", quantize="nf4")
    assert 0.9 < (tmp_path / "out" / "model.safetensors").stat().st_size / smaller < 1.2
    said = capsys.readouterr().err
    assert "GB of memory and 0.0 GB of disk" in said
    assert "check      what was written" in said
