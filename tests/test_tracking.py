"""Trackers for real: Weights & Biases offline, TensorBoard; nothing of the data or the machine leaves unasked."""

from __future__ import annotations

import importlib.util
import socket

import pytest
from conftest import losses, read_jsonl, recipe_for, rows_of, write_rows

from pgtune import loop, train
from pgtune.errors import ModelError, RecipeError, TrainingError

SECRET = "zebra crossing"


@pytest.fixture(scope="module")
def secret_data(tmp_path_factory, pictures):
    """Rows whose texts would be recognised anywhere."""
    folder = tmp_path_factory.mktemp("secret")
    rows = [{**row, "prefix": f"{SECRET} {index}"} for index, row in enumerate(rows_of(pictures, 8))]
    write_rows(folder / "train.jsonl", rows)
    write_rows(folder / "test.jsonl", rows[:2])
    return folder


@pytest.fixture
def recipe(small_bases, secret_data, tmp_path):
    def made(*overrides):
        test = f"data.test={secret_data / 'test.jsonl'}"
        return recipe_for(
            small_bases["paligemma"], secret_data, tmp_path / "run", test, "train.max_steps=2", *overrides
        )

    return made


@pytest.fixture
def offline(monkeypatch, tmp_path):
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb"))


@pytest.mark.parametrize("log_examples", [False, True])
def test_wandb_offline(recipe, offline, tmp_path, log_examples):
    import wandb

    train(recipe("tracking.to=wandb", "tracking.mode=offline", f"tracking.log_examples={str(log_examples).lower()}"))
    run = tmp_path / "run"
    assert wandb.run is None, "the tracker was closed"
    (file,) = run.rglob("*.wandb")
    sent = file.read_bytes()  # all that `wandb sync` would send, beside the files below files/
    host = socket.gethostname().encode()
    assert bytes([len(host)]) + host not in sent, "as a field of the record: a short name may stand in other words"
    assert str(tmp_path).encode() not in sent
    for name in (b"loss", b"learning_rate", b"test/exact_match"):
        assert name in sent
    sent_pictures = [file for file in run.rglob("*.png") if "media" in file.parts]
    assert bool(sent_pictures) == log_examples
    assert SECRET.encode() not in sent
    assert len(losses(run)) == 2
    (files,) = run.glob("wandb/offline-run-*/files")
    assert [file for file in files.rglob("*") if file.is_file() and "media" not in file.parts] == []


def test_tensorboard(recipe, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(recipe("tracking=tensorboard"))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    rows = read_jsonl(tmp_path / "run" / "log.jsonl")
    assert [event.step for event in events.Scalars("loss")] == [1, 2]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([row["loss"] for row in rows])
    assert events.Scalars("test/exact_match")
    assert events.Tags()["images"] == []


def test_tensorboard_with_examples(recipe, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(recipe("tracking.to=tensorboard", "tracking.log_examples=true"))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert events.Tags()["images"] == ["predictions"]


@pytest.fixture
def stopped_at_two(monkeypatch):
    """A training stops after its second step, once."""
    real = loop.append_row

    def append(path, row):
        real(path, row)
        if path.name == "log.jsonl" and row["step"] == 2:
            monkeypatch.setattr(loop, "append_row", real)
            raise TrainingError("stopped")

    monkeypatch.setattr(loop, "append_row", append)


def test_tensorboard_goes_on_and_shows_each_step_once(recipe, stopped_at_two, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    made = recipe("tracking.to=tensorboard")
    with pytest.raises(TrainingError, match="stopped"):
        train(made)
    train(made, resume=True)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2], "the first was done twice"


def test_wandb_goes_on_as_the_same_run(recipe, offline, stopped_at_two, tmp_path):
    made = recipe("tracking.to=wandb", "tracking.mode=offline")
    with pytest.raises(TrainingError, match="stopped"):
        train(made)
    import wandb

    wandb.finish()
    train(made, resume=True)
    ids = {file.name.split("-")[3] for file in (tmp_path / "run" / "wandb").glob("offline-run-*")}
    assert len(ids) == 1


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_a_tracker_that_is_not_installed_shows_before_anything_is_written(recipe, tmp_path, monkeypatch, name):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked, *rest: None if asked == name else real(asked, *rest))
    with pytest.raises(ModelError, match=rf"tracking: {name} is not installed; pip install 'pgtune\[{name}\]'"):
        train(recipe(f"tracking.to={name}"))
    assert not (tmp_path / "run").exists()


def test_no_tracker_writes_nothing(recipe, tmp_path):
    train(recipe())
    assert not (tmp_path / "run" / "wandb").exists()
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_wandb_without_a_key_shows_before_anything_is_written(recipe, offline, tmp_path, monkeypatch):
    import wandb

    def login():
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb, "login", login)
    with pytest.raises(RecipeError, match=r"tracking: wandb: No API key configured. .*tracking.mode=offline"):
        train(recipe("tracking.to=wandb"))
    assert not (tmp_path / "run").exists()


def test_wandb_that_does_not_answer_can_be_gone_on_without(recipe, offline, tmp_path, monkeypatch):
    import wandb

    def silent(**_):
        raise wandb.errors.CommError("timed out")

    monkeypatch.setattr(wandb, "login", lambda: True)
    monkeypatch.setattr(wandb, "init", silent)
    with pytest.raises(TrainingError, match=r"tracking: wandb: timed out; go on with --resume tracking.mode=offline"):
        train(recipe("tracking.to=wandb"))
    train(recipe("tracking=none"), resume=True)
