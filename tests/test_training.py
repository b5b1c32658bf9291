"""`train()` as a whole: the loss it logs, how it is split, what each method trains, resuming, early stopping."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from conftest import LORA, Interrupted, interrupted_after, losses, read_jsonl, recipe_for, rows_of, write_rows
from safetensors.torch import load_file

from pgtune import forward, load, loop, train, training
from pgtune.collate import Collator
from pgtune.data import open_source
from pgtune.errors import DataError, RecipeError, RunError, TrainingError
from pgtune.example import load_adapter
from pgtune.methods import prepare
from pgtune.model import load_base
from pgtune.schedule import step_indices
from pgtune.settings import ModelSettings

CPU = torch.device("cpu")


def weights(run):
    """What a run saved, by name."""
    adapter = run / "adapter" / "adapter_model.safetensors"
    return load_file(adapter if adapter.is_file() else run / "model" / "model.safetensors")


def without_time(run):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_jsonl(run / "log.jsonl")]


def examples_of(recipe):
    adapter = load_adapter(recipe.data.adapter, recipe.data.adapter_args)
    return open_source(recipe.data.train, adapter)


# ---- the loss


@pytest.mark.parametrize("reduction", ["example", "token"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_first_logged_loss_by_hand(small_base, data, tmp_path, reduction, smoothing):
    """Through the plain model, without any of our loss code."""
    recipe = recipe_for(
        small_base,
        data,
        tmp_path / "run",
        f"train.loss_reduction={reduction}",
        f"train.label_smoothing={smoothing}",
        "train.max_steps=1",
    )
    train(recipe)
    loaded = load_base(ModelSettings(base=str(small_base)), full=True, device=CPU)
    examples = examples_of(recipe)
    found = []
    for index in step_indices(recipe.seed, 0, len(examples), 4):
        batch = Collator(loaded.processor)([examples[index]])
        with torch.no_grad():
            logits = loaded.paligemma(
                input_ids=batch.input_ids,
                pixel_values=batch.pixel_values,
                attention_mask=batch.valid.long(),
                token_type_ids=batch.suffix.long(),
            ).logits[0]
        log_probabilities = logits.double().log_softmax(-1)
        losses_here = []
        for position in range(len(logits) - 1):
            target = int(batch.labels[0, position + 1])
            if target != -100:
                row = log_probabilities[position]
                others = (row.sum() - row[target]) * smoothing / (len(row) - 1)
                losses_here.append(-float((1 - smoothing) * row[target] + others))
        found.append(losses_here)
    if reduction == "example":
        wanted = sum(sum(one) / len(one) for one in found) / len(found)
    else:
        wanted = sum(map(sum, found)) / sum(map(len, found))
    assert losses(tmp_path / "run") == pytest.approx([wanted], rel=1e-5)


@pytest.mark.parametrize("reduction", ["example", "token"])
def test_how_a_batch_is_split_changes_nothing(small_base, data, tmp_path, reduction):
    runs = []
    for batch, accumulation in ((4, 1), (2, 2), (1, 4)):
        runs.append(tmp_path / f"{batch}x{accumulation}")
        train(
            recipe_for(
                small_base,
                data,
                runs[-1],
                f"train.batch_size={batch}",
                f"train.gradient_accumulation_steps={accumulation}",
                f"train.loss_reduction={reduction}",
                "train.label_smoothing=0.1",
                "train.epsilon=1e-3",  # Adam divides by the size of a gradient: none is blown up from rounding
                "train.learning_rate=1e-3",
            )
        )
    for other in runs[1:]:
        assert losses(other) == pytest.approx(losses(runs[0]), rel=1e-6)
        one, two = weights(runs[0]), weights(other)
        assert one.keys() == two.keys()
        assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-6


SERIES = {
    ("paligemma", "lora"): [9.25271, 10.56087, 10.03568, 9.83657, 9.2702, 10.27489, 9.74452, 9.2625],
    ("paligemma", "full"): [9.25271, 10.56087, 9.35465, 9.35963, 7.11848, 8.38661, 7.44694, 6.43033],
    ("paligemma2", "lora"): [13.42677, 15.17243, 15.02508, 14.48444, 13.97961, 14.18663, 14.26349, 13.63959],
    ("paligemma2", "full"): [13.42677, 15.17243, 14.70382, 13.02326, 11.79805, 11.92866, 10.35065, 9.82296],
}
"""Losses of the runs below on torch 2.13, to be looked at anew when they move."""


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_loss_series_at_a_fixed_seed(generation, small_base, data, tmp_path, method):
    lora = LORA if method == "lora" else None
    train(
        recipe_for(
            small_base,
            data,
            tmp_path / "run",
            "train.max_steps=8",
            "train.learning_rate=3e-3",
            "train.schedule=cosine",
            "train.warmup_ratio=0.25",
            lora=lora,
        )
    )
    rows = read_jsonl(tmp_path / "run" / "log.jsonl")
    assert [row["loss"] for row in rows] == pytest.approx(SERIES[generation, method], rel=1e-3)
    factors = [0, 0.5, 1, 0.9330127, 0.75, 0.5, 0.25, 0.0669873]
    assert [row["learning_rate"] for row in rows] == pytest.approx([3e-3 * factor for factor in factors])
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert all(row["grad_norm"] > 0 for row in rows)


@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])
def test_gradient_checkpointing_changes_nothing(small_base, data, tmp_path, lora):
    for name, value in (("off", "false"), ("on", "true")):
        train(recipe_for(small_base, data, tmp_path / name, f"train.gradient_checkpointing={value}", lora=lora))
    assert losses(tmp_path / "on") == losses(tmp_path / "off")
    one, two = weights(tmp_path / "on"), weights(tmp_path / "off")
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_workers_change_nothing(small_base, data, tmp_path):
    for workers in (0, 1):
        train(recipe_for(small_base, data, tmp_path / str(workers), f"train.num_workers={workers}"))
    assert losses(tmp_path / "0") == losses(tmp_path / "1")


def test_a_loss_that_is_not_finite_ends_the_run(small_bases, data, tmp_path, monkeypatch):
    real = forward.SuffixLossModel.forward

    def broken(self, batch):
        loss = real(self, batch)
        return type(loss)(loss.total * float("nan"), loss.tokens)

    monkeypatch.setattr(forward.SuffixLossModel, "forward", broken)
    with pytest.raises(TrainingError, match=r"step 1: the loss is nan .* the weights were left as they were"):
        train(recipe_for(small_bases["paligemma"], data, tmp_path / "run"))
    assert losses(tmp_path / "run") == []


def test_running_out_of_memory_says_what_helps(small_bases, data, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(forward.SuffixLossModel, "forward", full)
    with pytest.raises(TrainingError, match=r"helps: train.batch_size=2 train.gradient_accumulation_steps=2"):
        train(recipe_for(small_bases["paligemma"], data, tmp_path / "run"))


# ---- what each method trains


METHODS = {
    "lora": (LORA, ()),
    "lora on three parts": ({**LORA, "targets": ["vision_tower", "projector", "language_model"]}, ()),
    "lora by pattern": ({**LORA, "targets": r".*language_model.*\.[qv]_proj"}, ()),
    "rslora": ({**LORA, "use_rslora": True}, ()),
    "dora": ({**LORA, "use_dora": True}, ()),
    "nf4": (LORA, ("model.quantization=nf4",)),
    "int8": (LORA, ("model.quantization=int8",)),
    "nf4 dora": ({**LORA, "use_dora": True}, ("model.quantization=nf4",)),
    "int8 dora": ({**LORA, "use_dora": True}, ("model.quantization=int8",)),
    "lora, projector": (LORA, ("model.trainable=[projector]",)),
    "lora, tower, projector": (LORA, ("model.trainable=[vision_tower, projector]",)),
    "nf4, projector": (LORA, ("model.trainable=[projector]", "model.quantization=nf4")),
    "bfloat16 lora": (LORA, ("model.dtype=bfloat16",)),
    "bfloat16 lora, projector": (LORA, ("model.dtype=bfloat16", "model.trainable=[projector]")),
    "full": (None, ()),
    "projector": (None, ("model.trainable=[projector]",)),
    "tower": (None, ("model.trainable=[vision_tower]",)),
    "language model": (None, ("model.trainable=[language_model]",)),
    "all but the tower": (None, ("model.trainable=[projector, language_model]",)),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_what_it_says_and_comes_back(small_base, data, tmp_path, monkeypatch, pictures, method):
    """Every parameter by name, before and after; then the saved run answers as the trained model did."""
    lora, overrides = METHODS[method]
    seen = {}
    real = training.run_steps

    def watched(job, trained, *rest):
        before = {name: p.detach().clone() for name, p in job.loaded.model.named_parameters()}
        stopped = real(job, trained, *rest)
        job.loaded.model.eval()
        seen.update(before=before, loaded=job.loaded, trained=set(trained))
        return stopped

    monkeypatch.setattr(training, "run_steps", watched)
    recipe = recipe_for(small_base, data, tmp_path / "run", "train.max_steps=3", *overrides, lora=lora)
    train(recipe)
    loaded, before = seen["loaded"], seen["before"]
    changed = {
        name
        for name, parameter in loaded.model.named_parameters()
        if not torch.equal(parameter.view(torch.uint8), before[name].view(torch.uint8))
    }
    # a key's bias adds the same to all scores of a query: softmax forgets it, and its gradient is rounding or nothing
    no_effect = {name for name in seen["trained"] if name.endswith("k_proj.bias")}
    assert seen["trained"] - no_effect <= changed <= seen["trained"]
    expected = prepare(
        load_base(recipe.model, full=lora is None, device=CPU), recipe.lora, recipe.model.trainable, seed=recipe.seed
    )
    assert seen["trained"] == {name for name, _ in expected.trainable()}
    if lora is None:
        parts = recipe.model.trainable or ("vision_tower", "projector", "language_model")
        module = {
            "vision_tower": "vision_tower",
            "projector": "multi_modal_projector",
            "language_model": "language_model",
        }
        assert {name.split(".")[1] for name in changed} == {module[part] for part in parts}
    answer = load(tmp_path / "run")
    batch = Collator(loaded.processor)([examples_of(recipe)[index] for index in range(3)])
    from pgtune.forward import hidden_states

    with torch.no_grad(), loaded.autocast():
        trained = hidden_states(loaded.paligemma, batch, loaded.attention)
        reloaded = hidden_states(answer.loaded.paligemma, batch, answer.loaded.attention)
    assert torch.equal(trained, reloaded)
    assert answer.loaded.mixed_precision == loaded.mixed_precision
    assert answer.predict(str(pictures[0]), "what is it?").tokens >= 1


def test_weight_decay_moves_kernels_alone(small_bases, data, tmp_path):
    """With a rate so small that nothing else moves by more than the rate itself."""
    runs = {}
    for decay in ("0.0", "0.5"):
        runs[decay] = tmp_path / decay
        train(
            recipe_for(
                small_bases["paligemma"],
                data,
                runs[decay],
                f"train.weight_decay={decay}",
                "train.max_steps=1",
                lora=None,
            )
        )
    from pgtune.parts import is_kernel

    base = load_base(ModelSettings(base=str(small_bases["paligemma"])), full=True, device=CPU).model
    plain, decayed = (
        load_base(ModelSettings(base=str(runs[decay] / "model")), full=True, device=CPU).model for decay in runs
    )
    plain, decayed = dict(plain.named_parameters()), dict(decayed.named_parameters())
    for name, parameter in base.named_parameters():
        if is_kernel(name, parameter.ndim):  # torch's AdamW: p - rate * decay * p, then Adam's step
            assert torch.allclose(decayed[name], plain[name] - 1e-2 * 0.5 * parameter, atol=1e-6), name
        else:
            assert torch.equal(decayed[name], plain[name]), name


# ---- refusals


def test_an_existing_run_is_not_touched(small_bases, data, tmp_path):
    run = tmp_path / "run"
    recipe = recipe_for(small_bases["paligemma"], data, run, "train.max_steps=1")
    train(recipe)
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in run.rglob("*") if file.is_file()}
    with pytest.raises(RunError, match="holds a finished run; add --overwrite to replace it"):
        train(recipe)
    assert train(recipe, resume=True) == json.loads((run / "metrics.json").read_text())
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in run.rglob("*") if file.is_file()} == before
    train(recipe_for(small_bases["paligemma"], data, run, "train.max_steps=2"), overwrite=True)
    assert len(losses(run)) == 2


def test_a_foreign_folder_is_never_overwritten(small_bases, data, tmp_path):
    run = tmp_path / "mine"
    run.mkdir()
    (run / "thesis.txt").write_text("years of work")
    recipe = recipe_for(small_bases["paligemma"], data, run)
    for flags in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(RunError, match="exists and is not a run folder"):
            train(recipe, **flags)
    assert [file.name for file in run.iterdir()] == ["thesis.txt"]


def test_an_output_dir_that_is_a_file_is_refused(small_bases, data, tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(RunError, match="output_dir"):
        train(recipe_for(small_bases["paligemma"], data, tmp_path / "run"), overwrite=True)


def test_what_is_wrong_with_the_input_writes_nothing(small_bases, data, tmp_path):
    base, run = small_bases["paligemma2"], tmp_path / "run"
    bad = tmp_path / "bad.jsonl"
    write_rows(bad, [{"image": "missing.png", "prefix": "a", "suffix": "b"}])
    for recipe, kind, words in (
        (recipe_for(base, data, run, f"data.train={bad}"), DataError, "missing.png"),
        (recipe_for(base, data, run, "data.max_text_tokens=4"), DataError, r"train.jsonl:1: the text has \d+ tokens"),
        (recipe_for(base, data, run, "model.attention=sdpa"), RecipeError, "sdpa"),
        (recipe_for(base, data, run, "lora.targets=nothing.*"), RecipeError, "matches no module"),
        (
            recipe_for(
                base, data, run, f"data.test={data / 'test.jsonl'}", "eval.metrics=[vqav2]", "eval.before=false"
            ),
            DataError,
            "vqav2 needs at least",
        ),
    ):
        with pytest.raises(kind, match=words):
            train(recipe)
        assert not run.exists(), words


def test_the_language_model_is_not_trained_in_full_beside_lora(small_bases, data, tmp_path):
    """PEFT would train a copy of the embedding and leave the output head, tied to it until then, as it was."""
    with pytest.raises(RecipeError, match="would untie its output head"):
        recipe_for(
            small_bases["paligemma"],
            data,
            tmp_path / "run",
            "model.trainable=[language_model]",
            "lora.targets=vision_tower",
        )


def test_too_long_examples_are_left_out_where_the_recipe_says_so(small_bases, data, tmp_path, capsys):
    recipe = recipe_for(
        small_bases["paligemma"], data, tmp_path / "run", "data.max_text_tokens=8", "data.too_long=skip"
    )
    train(recipe)
    assert "too long, left out)" in capsys.readouterr().err
    assert len(losses(tmp_path / "run")) == 4


# ---- resuming


RESUME = (
    "train.max_steps=7",
    "train.save_steps=2",
    "train.gradient_accumulation_steps=2",
    "train.batch_size=2",
    "train.schedule=cosine",
    "train.warmup_ratio=0.2",
)


@pytest.mark.parametrize(
    ("lora", "more"),
    [
        ({**LORA, "dropout": 0.3}, ()),
        ({**LORA, "dropout": 0.3, "use_dora": True}, ("model.quantization=nf4",)),
        (LORA, ("model.trainable=[projector]",)),
        (None, ("train.weight_decay=0.1",)),
    ],
    ids=["dropout", "nf4 dora", "projector", "full"],
)
def test_resuming_goes_on_to_the_last_bit(small_base, data, tmp_path, monkeypatch, lora, more):
    whole, parted = (recipe_for(small_base, data, tmp_path / name, *RESUME, *more, lora=lora) for name in ("a", "b"))
    train(whole)
    for step in (1, 5):  # before the first checkpoint, and after the one of step 4
        with interrupted_after(step):
            train(parted, resume=True)
        with pytest.raises(RunError, match="holds an unfinished run; add --resume"):
            train(parted)
    assert [row["step"] for row in read_jsonl(tmp_path / "b" / "log.jsonl")] == [1, 2, 3, 4, 5]
    train(parted, resume=True)
    assert without_time(tmp_path / "a") == without_time(tmp_path / "b")
    one, two = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_dropout_is_drawn(small_bases, data, tmp_path):
    """Or the test above would prove nothing: with dropout the losses differ from those without."""
    for dropout in (0.0, 0.3):
        lora = {**LORA, "dropout": dropout}
        train(recipe_for(small_bases["paligemma"], data, tmp_path / str(dropout), lora=lora))
    assert losses(tmp_path / "0.0")[0] == losses(tmp_path / "0.3")[0], "LoRA starts at zero"
    assert losses(tmp_path / "0.0")[1:] != losses(tmp_path / "0.3")[1:]


def test_a_crash_while_a_checkpoint_is_written_leaves_the_last_good_one(small_bases, data, tmp_path, monkeypatch):
    from pgtune import checkpoint

    whole, parted = (recipe_for(small_bases["paligemma2"], data, tmp_path / name, *RESUME) for name in ("a", "b"))
    train(whole)
    real, calls = checkpoint.save_file, []

    def crashing(tensors, path):
        calls.append(path)
        if len(calls) == 4:  # the optimiser's file of the second checkpoint, half-written
            path.write_bytes(b"half")
            raise Interrupted
        real(tensors, path)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save_file", crashing)
        with pytest.raises(Interrupted):
            train(parted)
    assert checkpoint.steps_on_disk(tmp_path / "b" / "checkpoints") == [2]
    train(parted, resume=True)
    one, two = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert sorted(entry.name for entry in (tmp_path / "b" / "checkpoints").iterdir()) == ["step-000007"]


def test_a_crash_while_the_adapter_is_written(small_bases, data, tmp_path, monkeypatch):
    """The last step is on disk: only the saving and the scoring are done again."""
    from pgtune import saving

    recipe = recipe_for(small_bases["paligemma"], data, tmp_path / "run")

    def crashing(path, fill):
        raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr(saving, "write_folder", crashing)
        with pytest.raises(Interrupted):
            train(recipe)
    with pytest.raises(RunError, match="has not finished its training; go on with"):
        load(tmp_path / "run")
    train(recipe, resume=True)
    assert len(losses(tmp_path / "run")) == 4
    load(tmp_path / "run")


@pytest.mark.parametrize("how", ["resume", "overwrite"])
def test_a_crash_while_an_old_run_is_cleared_away(small_bases, data, tmp_path, monkeypatch, how):
    """Overwriting and killed in the middle: an unfinished run, which starts anew."""
    run = tmp_path / "run"
    recipe = recipe_for(small_bases["paligemma"], data, run, "train.max_steps=2")
    train(recipe)
    wanted = without_time(run)
    real = shutil.rmtree

    def crashing(path, *rest, **more):
        if str(path).startswith(str(run)):
            raise Interrupted
        real(path, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", crashing)
        with pytest.raises(Interrupted):
            train(recipe, overwrite=True)
    with pytest.raises(RunError, match="holds an unfinished run"):
        train(recipe)
    train(recipe, resume=how == "resume", overwrite=how == "overwrite")
    assert without_time(run) == wanted


def test_resuming_on_another_number_of_processes_is_refused(small_bases, data, tmp_path, monkeypatch):
    """As if two processes had started what one now goes on with: a step would see other examples."""
    recipe = recipe_for(small_bases["paligemma"], data, tmp_path / "run", *RESUME)
    with interrupted_after(3):
        train(recipe)
    status = tmp_path / "run" / "status.json"
    facts = json.loads(status.read_text())
    status.write_text(json.dumps({**facts, "effective_batch": 2 * facts["effective_batch"]}))
    with pytest.raises(RunError, match="saw 8 examples a step, now it would see 4"):
        train(recipe, resume=True)


def test_resuming_a_finished_run_with_another_recipe_is_refused(small_bases, data, tmp_path):
    base = small_bases["paligemma"]
    train(recipe_for(base, data, tmp_path / "run"))
    with pytest.raises(RunError, match=r"another recipe \(different: lora.rank\)"):
        train(recipe_for(base, data, tmp_path / "run", "lora.rank=3"), resume=True)


def test_resuming_with_another_recipe_is_refused(small_bases, data, tmp_path, monkeypatch):
    base = small_bases["paligemma"]
    with interrupted_after(3):
        train(recipe_for(base, data, tmp_path / "run", *RESUME))
    for change, name in (
        ("train.learning_rate=5e-3", "train.learning_rate"),
        ("seed=4", "seed"),
        ("lora=null", "lora"),
        ("lora.rank=8", "lora.rank"),
        ("data.max_text_tokens=40", "data.max_text_tokens"),
    ):
        with pytest.raises(RunError, match=rf"started with another recipe \(different: .*{name}"):
            train(recipe_for(base, data, tmp_path / "run", *RESUME, change), resume=True)
    train(recipe_for(base, data, tmp_path / "run", *RESUME), resume=True)


def test_resuming_with_other_data_is_refused(small_bases, data, pictures, tmp_path, monkeypatch):
    rows = rows_of(pictures, 12)
    write_rows(tmp_path / "train.jsonl", rows)
    recipe = recipe_for(small_bases["paligemma"], tmp_path, tmp_path / "run", *RESUME)
    with interrupted_after(3):
        train(recipe)
    write_rows(tmp_path / "train.jsonl", [*rows[:-1], {**rows[-1], "suffix": "other"}])
    with pytest.raises(RunError, match="has changed since the unfinished run was started"):
        train(recipe, resume=True)


def test_a_broken_picture_in_the_middle_names_its_row_and_can_be_mended(small_bases, pictures, tmp_path):
    """Not looked at beforehand, so it is met in the training; after it is mended, the run goes on."""
    rows = rows_of(pictures, 12)
    broken = tmp_path / "broken.png"
    broken.write_bytes(pictures[0].read_bytes()[:60])
    order = [index for step in range(7) for index in step_indices(3, step, 12, 4)]
    place = next(index for index in order if order.index(index) >= 8)  # first seen in the third step
    rows[place]["image"] = str(broken)
    write_rows(tmp_path / "train.jsonl", rows)
    recipe = recipe_for(small_bases["paligemma"], tmp_path, tmp_path / "run", *RESUME, "data.verify_images=none")
    with pytest.raises(DataError, match=rf"train.jsonl:{place + 1}: .*broken.png: is damaged or truncated"):
        train(recipe)
    assert len(losses(tmp_path / "run")) == 2
    broken.write_bytes(pictures[0].read_bytes())
    train(recipe, resume=True)
    assert len(losses(tmp_path / "run")) == 7


# ---- validation


def test_early_stopping_and_the_best_checkpoint_look_at_validation(small_bases, data, tmp_path, monkeypatch):
    """The rate is far too high, so the loss on validation gets worse after its best."""
    run = tmp_path / "run"
    recipe = recipe_for(
        small_bases["paligemma"],
        data,
        run,
        f"data.validation={data / 'validation.jsonl'}",
        f"data.test={data / 'test.jsonl'}",
        "train.max_steps=40",
        "train.eval_steps=2",
        "train.best_metric=loss",
        "train.patience=2",
        "train.learning_rate=0.2",
        "eval.before=false",
    )
    saved = {}
    real = loop.checkpoint.save

    def watched(folder, step, trained, *rest, **more):
        if folder.name == "best":
            saved[step] = {name: parameter.detach().clone() for name, parameter in trained.items()}
        real(folder, step, trained, *rest, **more)

    monkeypatch.setattr(loop.checkpoint, "save", watched)
    result = train(recipe)
    looks = read_jsonl(run / "validation.jsonl")
    assert [row["step"] for row in looks] == list(range(2, result["steps"] + 1, 2))
    best = min(looks, key=lambda row: row["loss"])
    assert result["steps"] == best["step"] + 4, "two looks without a better one"
    assert len(losses(run)) == result["steps"] < 40
    kept = weights(run)
    for name, parameter in saved[best["step"]].items():
        assert torch.equal(kept[name.replace(".default", "")], parameter)
    assert result["split"] == "test"


def test_the_test_split_is_not_looked_at_before_the_end(small_bases, data, tmp_path, monkeypatch):
    from pgtune import evaluation

    seen = []
    real = evaluation.evaluate_examples

    def watched(loaded, collator, examples, *rest, **more):
        seen.append((more["label"], examples.name))
        return real(loaded, collator, examples, *rest, **more)

    monkeypatch.setattr(evaluation, "evaluate_examples", watched)
    train(
        recipe_for(
            small_bases["paligemma"],
            data,
            tmp_path / "run",
            f"data.validation={data / 'validation.jsonl'}",
            f"data.test={data / 'test.jsonl'}",
            "train.eval_steps=2",
            "train.best_metric=exact_match",
            "eval.before=false",
        )
    )
    assert [label for label, _ in seen] == ["validate", "validate", "evaluate after"]
    assert [name.rpartition("/")[2] for _, name in seen] == ["validation.jsonl", "validation.jsonl", "test.jsonl"]


def test_the_logged_validation_loss_is_that_of_the_model(small_bases, data, tmp_path):
    """With a rate of next to nothing: the base's own loss on validation, in the training's reduction."""
    for reduction in ("example", "token"):
        run = tmp_path / reduction
        recipe = recipe_for(
            small_bases["paligemma2"],
            data,
            run,
            f"data.validation={data / 'validation.jsonl'}",
            "train.eval_steps=1",
            "train.max_steps=1",
            "train.learning_rate=1e-12",
            f"train.loss_reduction={reduction}",
            "train.batch_size=3",
            "eval.before=false",
        )
        train(recipe)
        loaded = load_base(recipe.model, full=True, device=CPU)
        adapter = load_adapter("jsonl")
        validation = open_source(recipe.data.validation, adapter)
        from pgtune.forward import SuffixLossModel

        with torch.no_grad():
            loss = SuffixLossModel(loaded.model, loaded.paligemma, loaded.attention)(
                Collator(loaded.processor)(list(validation))
            )
        wanted = loss.example_sum() / 4 if reduction == "example" else loss.token_sum() / loss.tokens.sum()
        (row,) = read_jsonl(run / "validation.jsonl")
        assert row["loss"] == pytest.approx(float(wanted), rel=1e-5)


def test_resuming_after_a_look_at_validation(small_bases, data, tmp_path, monkeypatch):
    """Interrupted after validation was logged and before the step's checkpoint: each look is in the log once."""
    more = (
        f"data.validation={data / 'validation.jsonl'}",
        "train.eval_steps=2",
        "train.best_metric=loss",
        "train.save_steps=3",
        "train.max_steps=6",
        "eval.before=false",
    )
    whole, parted = (recipe_for(small_bases["paligemma"], data, tmp_path / name, *more) for name in ("a", "b"))
    train(whole)
    with interrupted_after(5):
        train(parted)
    train(parted, resume=True)
    assert (tmp_path / "a" / "validation.jsonl").read_text() == (tmp_path / "b" / "validation.jsonl").read_text()
    one, two = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(one[name], two[name]) for name in one)


# ---- what a careless user does


def test_weights_that_a_last_step_broke_are_not_kept(small_bases, data, tmp_path):
    """Without a rate to divide by, LoRA's first step is 0 / 0: loss and gradient are finite, the weights are not."""
    run = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"step 1: .*lora_A.* is no longer finite"):
        train(recipe_for(small_bases["paligemma2"], data, run, "train.max_steps=1", "train.epsilon=1e-300"))
    assert not list(run.rglob("*.safetensors"))


def test_steps_without_number_cost_no_memory(small_bases, data, tmp_path, monkeypatch):
    def enough(*_):
        raise Interrupted

    monkeypatch.setattr(loop, "append_row", enough)
    with pytest.raises(Interrupted):
        train(recipe_for(small_bases["paligemma"], data, tmp_path / "run", f"train.max_steps={10**12}"))


def test_more_than_the_model_can_read_is_refused_by_row(small_bases, pictures, tmp_path):
    rows = rows_of(pictures, 2)
    write_rows(tmp_path / "train.jsonl", [rows[0], {**rows[1], "suffix": "x " * 9000}])
    with pytest.raises(DataError, match=r"train.jsonl:2: 4 image tokens and \d+ of text are more than the 8192 that"):
        train(recipe_for(small_bases["paligemma"], tmp_path, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten_by_what_reads_from_it(small_bases, data, tmp_path):
    run = tmp_path / "run"
    train(recipe_for(small_bases["paligemma"], data, run, "train.max_steps=1", lora=None))
    before = weights(run)
    shutil.copy(data / "train.jsonl", run / "train.jsonl")
    for base, source in ((run / "model", data), (small_bases["paligemma"], run)):
        with pytest.raises(RunError, match=r"holds (model.base|data.train) .* name another"):
            train(recipe_for(base, source, run), overwrite=True)
    assert weights(run).keys() == before.keys()


def test_a_folder_that_another_training_holds_is_left_alone(small_bases, data, tmp_path):
    recipe = recipe_for(small_bases["paligemma"], data, tmp_path / "run", "train.max_steps=1")
    with training.RunFolder(tmp_path / "run").claimed(), pytest.raises(RunError, match="another training is writing"):
        train(recipe)
    assert list((tmp_path / "run").iterdir()) == []
    train(recipe)


@pytest.mark.parametrize("name", ["before.json", "log.jsonl", "checkpoints/step-000001/state.json"])
def test_a_damaged_file_of_an_unfinished_run_is_named(small_bases, data, tmp_path, name):
    run = tmp_path / "run"
    recipe = recipe_for(small_bases["paligemma"], data, run, "train.max_steps=1", f"data.test={data / 'test.jsonl'}")
    train(recipe)
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps({**status, "state": "running"}))
    (run / name).write_text("[1]\n")
    with pytest.raises(RunError, match=r"(damaged|cannot be read)"):
        train(recipe, resume=True)


def test_a_metric_that_does_not_suit_the_references_names_the_row(small_bases, data, tmp_path):
    test = f"data.test={data / 'test.jsonl'}"
    with pytest.raises(DataError, match=r"test.jsonl:1: vqav2 needs at least 2 references"):
        train(recipe_for(small_bases["paligemma"], data, tmp_path / "run", test, "eval.metrics=[vqav2]"))
