"""The plan of a run: sizes, what autograd keeps, phases, work, what makes a recipe fit, and the verb."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import LORA, recipe_for

from pgtune import architecture, compiling, loss, planning
from pgtune.architecture import architecture_of, from_config
from pgtune.cli import main
from pgtune.collate import Batch
from pgtune.errors import HubError, ModelError, RecipeError
from pgtune.forward import SuffixLossModel
from pgtune.methods import prepare
from pgtune.model import Loaded, choose_attention, choose_dtype
from pgtune.planning import bytes_of, operations, plan, what_helps
from pgtune.planning.activations import Mode, decoder_layer, vision_layer
from pgtune.planning.data import Workload, assumed, workload
from pgtune.planning.memory import Memory
from pgtune.recipe import Recipe, load_recipe
from pgtune.selftests import random_model
from pgtune.settings import LoraSettings

ROOT = Path(__file__).parents[1]
ALL = ("vision_tower", "projector", "language_model")
SHORT = Workload(text=16, suffix=6, mean_text=16, mean_suffix=6)
RELEASED = {
    "google/paligemma-3b-pt-224": 2_923_466_480,
    "google/paligemma2-3b-pt-224": 3_032_242_416,
    "google/paligemma2-10b-mix-448": 9_663_523_568,
    "google/paligemma2-28b-pt-896": 27_654_910_704,
}


def recipe_of(base: str, *overrides: str, lora: dict[str, Any] | None = LORA) -> Recipe:
    """A recipe on data that is not there, scored on a test split."""
    return load_recipe(
        {
            "model": {"base": base},
            "lora": lora,
            "data": {"train": "not_there.jsonl", "test": "not_there.jsonl"},
            "output_dir": "not_there",
        },
        overrides,
    )


# --- sizes ---


@pytest.mark.parametrize("base", RELEASED)
def test_the_released_models_have_their_parameters(base: str) -> None:
    assert sum(architecture_of(base).parameters.values()) == RELEASED[base]


@pytest.mark.slow
def test_a_released_model_is_what_transformers_makes_of_it() -> None:
    sys.path.append(str(ROOT / "scripts"))
    from measure_memory import random_model as shaped

    shape = architecture_of("google/paligemma2-28b-pt-224")
    model = shaped(shape, torch.bfloat16, "eager", torch.device("meta"))
    assert sum(one.numel() for one in model.parameters()) == sum(shape.parameters.values())
    linears = {name: one for name, one in model.named_modules() if isinstance(one, torch.nn.Linear)}
    del linears["lm_head"]
    assert {(one.name, one.inputs, one.outputs, one.bias) for one in shape.linears} == {
        (name, one.in_features, one.out_features, one.bias is not None) for name, one in linears.items()
    }


def test_what_a_config_leaves_out_is_what_transformers_takes() -> None:
    from transformers import PaliGemmaConfig

    for inner in ({"model_type": "gemma"}, {"model_type": "gemma2"}):
        written = {"model_type": "paligemma", "text_config": inner, "vision_config": {"image_size": 448}}
        shape = from_config(written)
        config = PaliGemmaConfig(text_config=dict(inner), vision_config={"image_size": 448})
        for name, value in vars(shape.text).items():
            if name not in ("generation", "attn_logit_softcapping", "vocab_size"):
                expected = getattr(config.text_config, name)
                # PaliGemmaConfig's own defaults are not those of a text_config that is given
                if inner["model_type"] == "gemma2":
                    assert value == expected, name
        assert shape.vision.tokens == 1024


def test_a_folder_is_read_and_a_wrong_one_refused(base: Path, tmp_path: Path) -> None:
    shape = architecture_of(str(base))
    assert (shape.text.hidden_size, shape.text.num_hidden_layers, shape.vision.tokens) == (64, 2, 64)
    with pytest.raises(ModelError, match="cannot be read"):
        architecture_of(str(tmp_path))
    for text, message in (("{", "not JSON"), ('{"model_type": "llama"}', "'llama' model")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ModelError, match=message):
            architecture_of(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "paligemma", "text_config": {"hidden_size": "8"}}')
    with pytest.raises(ModelError, match="hidden_size = '8'"):
        architecture_of(str(tmp_path))
    with pytest.raises(ModelError, match="holds 'gemma3'"):
        from_config({"model_type": "paligemma", "text_config": {"model_type": "gemma3"}})


def test_an_id_that_is_nowhere_is_one_message() -> None:
    with pytest.raises(HubError, match=r"the sizes of nobody/nothing are not known here"):
        architecture_of("nobody/nothing")


# --- what autograd keeps ---


def loaded_of(generation: str, dtype: torch.dtype, layers: tuple[int, int], attention: str) -> Loaded:
    """A random base, cut to so many vision and decoder layers."""
    model = random_model(generation, 512, 511).to(dtype)  # type: ignore[arg-type]
    model.model.vision_tower.encoder.layers = model.model.vision_tower.encoder.layers[: layers[0]]
    model.model.language_model.layers = model.model.language_model.layers[: layers[1]]
    model.config.text_config.num_hidden_layers = layers[1]
    text = model.config.get_text_config()
    if generation == "paligemma2":
        text.final_logit_softcapping = None
    model.set_attn_implementation({"text_config": attention, "vision_config": "sdpa"})
    return Loaded(model.requires_grad_(False).eval(), None, generation, dtype, attention)


def a_batch(rows: int = 2, tokens: int = 64, text: int = 16, suffix: int = 8) -> Batch:
    ids = torch.randint(5, 500, (rows, tokens + text), generator=torch.Generator().manual_seed(0))
    ids[:, :tokens] = 511
    learnt = torch.zeros(ids.shape, dtype=torch.bool)
    learnt[:, -suffix:] = True
    pixels = torch.zeros(rows, 3, 112, 112)
    return Batch(pixels, ids, torch.ones(ids.shape, dtype=torch.bool), learnt, torch.where(learnt, ids, -100))


def bytes_kept(loaded: Loaded) -> int:
    """What a forward pass keeps for the backward pass, the model's own tensors aside."""
    loaded.model.train()
    own = {one.untyped_storage().data_ptr() for one in [*loaded.model.parameters(), *loaded.model.buffers()]}
    kept: dict[int, int] = {}
    alive = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # so that no address is used twice
        return tensor

    module = SuffixLossModel(loaded.model, loaded.paligemma, loaded.attention)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), loaded.autocast():
        module(a_batch()).token_sum()
    return sum(kept.values())


CASES: dict[str, dict[str, Any]] = {
    "lora, bfloat16 under autocast": {"dtype": torch.bfloat16, "autocast": True},
    "lora, bfloat16": {"dtype": torch.bfloat16},
    "lora, float32": {},
    "lora, float32 under autocast": {"autocast": True},
    "full, float32": {"full": ALL},
    "full, float32 under autocast": {"full": ALL, "autocast": True},
    "the tower in full": {"full": ("vision_tower",), "autocast": True},
    "lora on the tower": {"dtype": torch.bfloat16, "autocast": True, "targets": ("vision_tower",)},
    "dora": {"dtype": torch.bfloat16, "autocast": True, "dora": True},
    "lora with dropout": {"dtype": torch.bfloat16, "autocast": True, "dropout": 0.1},
    "dropout in the model": {"dtype": torch.bfloat16, "autocast": True, "llm_dropout": 0.1},
    "eager": {"dtype": torch.bfloat16, "autocast": True, "attention": "eager"},
}


def kept_in_a_layer(
    generation: str, case: dict[str, Any], *, vision: bool, compiled: bool = False
) -> tuple[int, float]:
    """Counted and predicted: what one more layer keeps."""
    attention = case.get("attention", "eager" if generation == "paligemma2" else "sdpa")
    dtype, full = case.get("dtype", torch.float32), case.get("full")
    targets = case.get("targets", ALL if vision else ("language_model",))
    counts = []
    for layers in ((1, 1), (2, 1) if vision else (1, 2)):
        loaded = loaded_of(generation, dtype, layers, attention)
        config = loaded.model.config
        lora = LoraSettings(rank=4, targets=targets, use_dora=case.get("dora", False), dropout=case.get("dropout", 0.0))
        prepare(loaded, None if full else lora, full, seed=0, llm_dropout=case.get("llm_dropout", 0.0))
        loaded.mixed_precision = case.get("autocast", False)
        if compiled:  # the partition that inductor takes, without its code
            for layer in loaded.paligemma.model.language_model.layers:
                layer.compile(backend="aot_eager_decomp_partition")
        counts.append(bytes_kept(loaded))
        torch.compiler.reset()
    shape = from_config(json.loads(config.to_json_string(use_diff=False)))
    base = 2 if dtype is torch.bfloat16 else 4
    mode = Mode(
        base=base,
        autocast=case.get("autocast", False),
        compiled=compiled,
        attention=attention,
        gpu=False,
        rank=None if full else 4,
        dora=case.get("dora", False),
        lora_dropout="dropout" in case,
        llm_dropout="llm_dropout" in case,
    )
    if vision:
        names = [one.inner for one in shape.vision.layers[0]]
        return counts[1] - counts[0], vision_layer(shape.vision, names, mode, stream=base).of(2 * 64)
    on = "language_model" in (full or targets)
    names = [one.inner for one in shape.text.layers[0]] if on else []
    norms = "language_model" in (full or ())
    return counts[1] - counts[0], decoder_layer(shape.text, names, 80, mode, stream=base, norms=norms).of(2 * 80)


@pytest.mark.parametrize("name", CASES)
def test_a_decoder_layer_keeps_what_is_predicted(generation: str, name: str) -> None:
    counted, predicted = kept_in_a_layer(generation, CASES[name], vision=False)
    assert predicted == pytest.approx(counted, rel=0.01)


@pytest.mark.parametrize("name", list(CASES)[:6])
def test_a_vision_layer_keeps_what_is_predicted(name: str) -> None:
    counted, predicted = kept_in_a_layer("paligemma2", CASES[name], vision=True)
    assert predicted == pytest.approx(counted, rel=0.02)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's compiler about itself
@pytest.mark.parametrize("name", [name for name in CASES if name not in ("dora", "eager")])
def test_a_compiled_layer_keeps_what_is_predicted(generation: str, name: str) -> None:
    counted, predicted = kept_in_a_layer(generation, CASES[name], vision=False, compiled=True)
    assert predicted == pytest.approx(counted, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["--layers", "6", "train.batch_size=4", "train.compile=false"],
        ["--layers", "4", "--full", "--width", "1152", "train.batch_size=4", "train.compile=false"],
    ],
    ids=["lora", "full"],
)
def test_the_growth_on_a_cpu_is_within_a_fifth(arguments: list[str]) -> None:
    script = str(ROOT / "scripts" / "measure_memory.py")
    small = ["--vision-layers", "2", "--vocabulary", "20032", "train.mixed_precision=bf16"]
    command = [sys.executable, script, "google/paligemma2-3b-pt-224", *small, *arguments]
    result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 0.8 < result["ratio"] < 1.2, result


# --- what is decided, counted and held ---


def test_the_plan_decides_as_the_loader_does() -> None:
    assert compiling.REAL_SIZE == planning.held.REAL_SIZE
    assert loss.CHUNK == planning.memory.LOSS_CHUNK
    cpu = torch.device("cpu")
    for name in ("google/paligemma-3b-pt-224", "google/paligemma2-3b-pt-224", "tiny"):
        shape = architecture_of(name)
        for lora in (None, LORA):
            for setting in ("auto", "float32", *(["bfloat16"] if lora else [])):
                memory = Memory(recipe_of(name, f"model.dtype={setting}", lora=lora), shape, SHORT, "cpu")
                stored = type("Config", (), {"dtype": getattr(torch, shape.stored)})
                chosen = choose_dtype(setting, full=lora is None, device=cpu, config=stored)
                assert memory.base_bytes == chosen.itemsize
        for attention in ("auto", "eager", "flex_attention"):
            memory = Memory(recipe_of(name, f"model.attention={attention}"), shape, SHORT)
            assert memory.attention == choose_attention(attention, shape.text.generation)


@pytest.mark.parametrize(
    ("lora", "trainable"),
    [
        ({**LORA, "targets": list(ALL)}, None),
        ({**LORA, "use_dora": True}, None),
        ({**LORA, "targets": "language_model"}, ["projector"]),
        (None, None),
        (None, ["projector", "vision_tower"]),
    ],
)
def test_parameters_are_those_of_the_prepared_model(generation: str, base: Path, lora: Any, trainable: Any) -> None:
    settings = json.dumps(trainable)
    recipe = recipe_of(str(base), f"model.trainable={settings}", lora=lora)
    memory = Memory(recipe, architecture_of(str(base)), SHORT)
    shape = memory.architecture
    model = random_model(generation, shape.text.vocab_size, shape.text.vocab_size - 1)  # type: ignore[arg-type]
    loaded = Loaded(model.requires_grad_(False), None, generation, torch.float32, "eager")
    prepare(loaded, recipe.lora, recipe.model.trainable, seed=0)
    assert memory.trained_parameters == sum(one.numel() for _, one in loaded.trainable())
    assert memory.frozen_parameters == sum(one.numel() for one in loaded.model.parameters() if not one.requires_grad)


def test_lora_that_matches_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"lora\.targets"):
        _ = plan(recipe_of("tiny", "lora.targets=nothing_like_it"), seen=SHORT).peak


def test_necessary_operations_are_about_20_tera_for_eight_examples() -> None:
    """The issue's own count for PaliGemma 2 3B at 224 pixels with LoRA: about 20 TFLOP a step of 8."""
    recipe = recipe_of("google/paligemma2-3b-pt-224")
    memory = Memory(recipe, architecture_of(recipe.model.base), SHORT)
    assert 8 * operations(memory) == pytest.approx(20e12, rel=0.05)


def test_sharding_divides_what_is_held_and_ddp_copies_it() -> None:
    recipe = recipe_of("google/paligemma2-3b-pt-224", lora=None)
    shape = architecture_of(recipe.model.base)
    one, copied, shared = (Memory(recipe, shape, SHORT, devices=n, sharded=s) for n, s in ((1, 0), (4, 0), (4, 1)))
    assert (shared.weights, shared.optimizer) == (one.weights / 4, one.optimizer / 4)
    assert copied.weights == one.weights
    assert copied.phases()[0].gradients == one.phases()[0].gradients + one.gradients  # DDP's buckets


def test_more_of_anything_takes_more_memory() -> None:
    def peak(*overrides: str, seen: Workload = SHORT, lora: dict[str, Any] | None = LORA) -> float:
        return plan(recipe_of("google/paligemma2-3b-pt-448", *overrides, lora=lora), seen=seen).peak.total

    ladder = [
        peak("model.quantization=nf4", "train.gradient_checkpointing=true", "eval.batch_size=1"),
        peak("train.gradient_checkpointing=true", "eval.batch_size=1"),
        peak("train.gradient_checkpointing=2", "eval.batch_size=1"),
        peak("eval.batch_size=1"),
        peak("train.compile=false", "eval.batch_size=1"),
        peak("train.compile=false", "train.batch_size=16"),
        peak("train.compile=false", "train.batch_size=16", lora=None),
    ]
    assert ladder == sorted(ladder)
    assert peak("train.optimizer=adamw_8bit", lora=None) < peak(lora=None)


# --- data ---


def test_without_data_lengths_are_assumed_and_it_is_said() -> None:
    found = workload(recipe_of("tiny", "eval.max_new_tokens=99", "data.max_text_tokens=120"))
    assert (found.examples, found.text, found.suffix) == (None, 120, 100)
    assert "assumed 120 text tokens" in found.source
    assert "not_there.jsonl" in found.source
    assert assumed(recipe_of("tiny")).text == planning.data.PREFIX + 2 + 33


def test_lengths_are_counted_where_the_data_is(base: Path, data: Path, tmp_path: Path) -> None:
    found = workload(recipe_for(base, data, tmp_path / "run", "train.max_steps=null"))
    assert found.examples == 24
    assert found.complete
    assert found.source.endswith("counted")
    assert found.suffix < found.text < 40
    made = plan(recipe_for(base, data, tmp_path / "run", "train.max_steps=null", "train.epochs=3"))
    assert made.steps == 18
    assert made.effective_batch == 4


def test_lengths_are_estimated_without_a_tokenizer(data: Path, tmp_path: Path) -> None:
    found = workload(recipe_for("google/paligemma2-3b-pt-224", data, tmp_path / "run"))
    assert found.source.endswith("estimated at 3 characters a token")
    assert found.text >= found.suffix > 2


def test_data_that_is_not_read_to_its_end_gives_no_steps(
    data: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning.data, "LOOKED_AT", 10)
    made = plan(recipe_for(base, data, tmp_path / "run", "train.max_steps=null"))
    assert made.steps is None
    assert made.memory.workload.source.startswith("the first 10 examples")


# --- the verdict ---


@pytest.mark.parametrize(
    ("base", "memory", "devices", "lora"),
    [
        ("google/paligemma2-3b-pt-224", "8GB", 1, LORA),
        ("google/paligemma2-3b-pt-896", "24GB", 1, LORA),
        ("google/paligemma-3b-pt-896", "24GB", 1, LORA),
        ("google/paligemma2-10b-pt-448", "24GB", 1, LORA),
        ("google/paligemma2-28b-pt-448", "80GB", 8, LORA),
        ("google/paligemma2-28b-pt-448", "80GB", 8, None),
    ],
)
def test_what_is_said_to_fit_does(base: str, memory: str, devices: int, lora: dict[str, Any] | None) -> None:
    recipe = recipe_of(base, "train.batch_size=32", lora=lora)
    made = plan(recipe, bytes_of(memory), devices, seen=SHORT)
    assert made.fits is False
    assert made.changes
    document = recipe.model_dump(mode="json")
    for change in made.changes:
        changed = load_recipe(document, change.overrides)
        after = plan(changed, bytes_of(memory), change.devices, seen=SHORT)
        assert after.fits
        assert after.peak.total == change.total
        assert after.effective_batch == made.effective_batch


def test_what_is_proposed_for_more_devices_keeps_the_effective_batch() -> None:
    recipe = recipe_of("google/paligemma2-3b-pt-896", "train.batch_size=8", lora=None)
    made = plan(recipe, bytes_of("24GB"), seen=SHORT)
    more = [change for change in made.changes if change.devices > 1]
    assert more
    for change in more:
        after = plan(load_recipe(recipe.model_dump(mode="json"), change.overrides), None, change.devices, seen=SHORT)
        assert after.effective_batch == made.effective_batch == 8
    odd = plan(recipe_of("google/paligemma2-28b-pt-224", "train.batch_size=3", lora=None), 24 * 10**9, seen=SHORT)
    assert all(change.devices == 1 for change in odd.changes), "three examples are not shared by 2, 4, 8 ... devices"


def test_decoding_alone_asks_for_no_other_training() -> None:
    """At 896 pixels it is the evaluation that is too large: in smaller batches it fits, and nothing else changes."""
    recipe = recipe_of("google/paligemma2-3b-pt-896", "train.batch_size=4")
    made = plan(recipe, bytes_of("24GB"), seen=SHORT)
    assert made.trains
    assert not made.fits
    (change,) = made.changes
    assert [one.partition("=")[0] for one in change.overrides] == ["train.gradient_checkpointing", "eval.batch_size"]


def test_what_is_pasted_behind_other_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["quickstart", "model.base=google/paligemma2-28b-pt-448", "lora=null", "train.learning_rate=auto"]
    assert main(["plan", *words, "--memory", "80GB", "--json"]) == 0
    changes = json.loads(capsys.readouterr().out)["changes"]
    assert any("lora.rank=16" in change["overrides"] for change in changes)
    for change in changes:
        devices = ["--devices", str(change["devices"])]
        assert main(["plan", *words, *change["overrides"], "--memory", "80GB", *devices]) == 0
        assert capsys.readouterr().out.startswith("fits")
    assert main(["plan", "quickstart", words[1], "train.batch_size=12", "--memory", "24GB"]) == 0
    assert "in place of train.batch_size=12, where both name a key" in capsys.readouterr().out


def test_little_to_spare_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    total = plan(recipe_of("tiny"), seen=SHORT).peak.total + planning.RESERVE["gpu"]
    assert plan(recipe_of("tiny"), round(1.05 * total), seen=SHORT).tight
    assert not plan(recipe_of("tiny"), round(1.2 * total), seen=SHORT).tight
    assert main(["plan", "quickstart", "--memory", "1.1GB"]) == 0
    assert capsys.readouterr().out.startswith("fits, with little to spare: ")


def test_sharding_and_checkpointing_keep_no_copies_of_weights() -> None:
    """What autocast casts lives on in decoding alone, and not where weights are gathered for each use."""
    recipe = recipe_of("google/paligemma2-3b-pt-224", "train.gradient_checkpointing=99", lora=None)
    shape = architecture_of(recipe.model.base)
    free = Memory(recipe_of("google/paligemma2-3b-pt-224", lora=None), shape, SHORT)
    held = max(phase.total for phase in Memory(recipe, shape, SHORT).training())
    assert held <= max(phase.total for phase in free.training())
    assert free.cast_cache == pytest.approx(2 * 3.03e9, rel=0.25)
    assert Memory(recipe, shape, SHORT, devices=4, sharded=True).cast_cache == 0


def test_what_fits_needs_no_change_and_without_memory_there_is_no_verdict() -> None:
    assert plan(recipe_of("tiny"), bytes_of("8GB"), seen=SHORT).changes == ()
    assert plan(recipe_of("tiny"), bytes_of("8GB"), seen=SHORT).fits is True
    assert plan(recipe_of("tiny"), seen=SHORT).fits is None


def test_nothing_makes_28b_fit_on_a_gigabyte() -> None:
    made = plan(recipe_of("google/paligemma2-28b-pt-448"), bytes_of("1GB"), seen=SHORT)
    assert made.fits is False
    assert made.changes == ()


@pytest.mark.parametrize(
    ("text", "size"), [("24GB", 24 * 10**9), ("80 GiB", 80 * 2**30), ("1.5g", 1.5e9), ("8000MB", 8e9)]
)
def test_sizes_are_read(text: str, size: float) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "lots", "24 gigs", "-1GB", "0GB", "GB", "24", "9" * 400 + "GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="--memory"):
        bytes_of(text)


def test_out_of_memory_says_what_would_do() -> None:
    said = what_helps(recipe_of("google/paligemma2-28b-pt-896", "train.batch_size=8"))
    assert "planned were" in said
    assert "pgtune plan" in said
    small = what_helps(recipe_of("tiny"))  # fits by the plan: then by a fifth less
    assert "train.batch_size=" in small or "eval.batch_size=" in small
    assert "model.quantization=nf4" in what_helps(recipe_of("nobody/nothing"))


# --- the verb ---


def test_the_verb_says_the_verdict_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "remote_sensing/rsvqa_lr_224_qlora", "--memory", "8GB"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("does not fit: ")
    assert lines[1].startswith("  fits with  train.batch_size=")
    assert any(line.startswith("forward") for line in lines)
    override = "model.base=google/paligemma2-28b-pt-448"
    command = ["plan", "remote_sensing/rsvqa_lr_448_qlora", override, "--memory", "80GB", "--devices", "8", "--json"]
    assert main(command) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["devices"] == 8
    assert document["peak"]["total"] == max(phase["total"] for phase in document["phases"])
    assert document["fits"] or document["changes"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quickstart", "--memory", "lots"], "--memory: expected a size"),
        (["quickstart", "model.base=recipes"], "config.json cannot be read"),
        (["quickstart", "model.base=nobody/nothing"], "sizes of nobody/nothing are not known"),
        (["quickstart", "train.strategy=fsdp"], "train.strategy"),
    ],
)
def test_the_verb_refuses_with_one_message(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("error: ")


def test_every_shipped_recipe_has_a_plan() -> None:
    from pgtune.recipe import shipped_recipes

    for name in shipped_recipes():
        made = plan(load_recipe(name), seen=SHORT)
        assert made.peak.total > 1e6, name
    assert architecture.RELEASED["paligemma-3b"].num_hidden_layers == 18


def test_the_recipes_of_the_domains_say_what_their_plan_says_and_fit_the_usual_card() -> None:
    sys.path.append(str(ROOT / "scripts"))
    import recipe_memory

    for name, path in recipe_memory.recipe_table.domain_recipes().items():
        assert not recipe_memory.is_off(path), f"{name}: run python scripts/recipe_memory.py"
        card = 24 * 10**9 if load_recipe(path).lora is not None else 80 * 10**9
        assert recipe_memory.planned(path, card).fits, name
