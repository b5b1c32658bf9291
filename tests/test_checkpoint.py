"""Checkpoints: what is in them, damage, and which are kept."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from pgtune import checkpoint
from pgtune.errors import RunError


def model(seed=0):
    torch.manual_seed(seed)
    layers = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    return layers, torch.optim.AdamW(layers.parameters(), lr=0.1)


def step(layers, optimizer):
    loss = layers(torch.ones(5, 3)).square().sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def test_weights_and_moments_come_back_to_the_last_bit(tmp_path):
    one, first = model(0)
    step(one, first)
    checkpoint.save(tmp_path / "c", 1, dict(one.named_parameters()), first, more="x")
    other, second = model(1)
    state = checkpoint.load(tmp_path / "c", dict(other.named_parameters()), second)
    assert state == {"step": 1, "run": "", "more": "x"}
    for _ in range(3):
        step(one, first)
        step(other, second)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_nothing_is_pickled(tmp_path):
    layers, optimizer = model()
    step(layers, optimizer)
    checkpoint.save(tmp_path / "c", 1, dict(layers.named_parameters()), optimizer)
    assert {file.name for file in (tmp_path / "c").iterdir()} == {
        "trained.safetensors",
        "optimizer.safetensors",
        "state.json",
    }


def test_damage_is_named(tmp_path):
    layers, optimizer = model()
    step(layers, optimizer)
    parameters = dict(layers.named_parameters())
    checkpoint.save(tmp_path / "c", 1, parameters, optimizer)
    file = tmp_path / "c" / "trained.safetensors"
    content = file.read_bytes()
    for broken in (b"", content[:20], content[:-5]):
        file.write_bytes(broken)
        with pytest.raises(RunError, match=r"the checkpoint cannot be read .* remove it"):
            checkpoint.load(tmp_path / "c", parameters, optimizer)
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"holds other parameters than this recipe trains, such as 0.bias"):
        checkpoint.load(tmp_path / "c", {name: p for name, p in parameters.items() if name != "0.bias"}, optimizer)


def test_the_newest_are_kept(tmp_path):
    layers, optimizer = model()
    step(layers, optimizer)
    for number in (2, 10, 9, 100):
        checkpoint.save(checkpoint.step_folder(tmp_path, number), number, dict(layers.named_parameters()), optimizer)
    (tmp_path / "best").mkdir()
    (tmp_path / ".step-000200.part").mkdir()
    (tmp_path / "step-000300").mkdir()  # without its state: not complete
    assert checkpoint.steps_on_disk(tmp_path) == [2, 9, 10, 100]
    checkpoint.prune(tmp_path, 2)
    assert checkpoint.steps_on_disk(tmp_path) == [10, 100]
    assert {entry.name for entry in tmp_path.iterdir()} == {"best", "step-000010", "step-000100"}, "no rest of a crash"
    assert checkpoint.steps_on_disk(tmp_path / "none") == []
    checkpoint.prune(tmp_path / "none", 2)
    state = checkpoint.step_folder(tmp_path, 100) / checkpoint.STATE
    for content in ("{", "[]", "{}", '{"step": null}'):
        state.write_text(content)
        with pytest.raises(RunError, match="the checkpoint cannot be read"):
            checkpoint.load(state.parent, dict(layers.named_parameters()), optimizer)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    layers, optimizer = model()
    step(layers, optimizer)
    parameters = dict(layers.named_parameters())
    folder = checkpoint.step_folder(tmp_path, 4)
    checkpoint.save(folder, 4, parameters, optimizer, "this run")
    assert checkpoint.check(folder, "this run") == 4
    with pytest.raises(RunError, match="a checkpoint of another run, or of another step; remove it to go on"):
        checkpoint.load(folder, parameters, optimizer, "another run")
    folder.rename(checkpoint.step_folder(tmp_path, 6))
    with pytest.raises(RunError, match="of another step"):
        checkpoint.load(checkpoint.step_folder(tmp_path, 6), parameters, optimizer, "this run")


@pytest.mark.parametrize("what", ["weights", "moments"])
def test_another_shape_is_named(tmp_path, what):
    layers, optimizer = model()
    step(layers, optimizer)
    parameters = dict(layers.named_parameters())
    checkpoint.save(tmp_path / "c", 1, parameters, optimizer)
    file = tmp_path / "c" / (checkpoint.WEIGHTS if what == "weights" else checkpoint.OPTIMIZER)
    stored = load_file(file)
    name = "0.weight" if what == "weights" else "0.weight/exp_avg"
    save_file({**stored, name: stored[name][:2].clone()}, file)
    with pytest.raises(RunError, match=rf"{name} is \[2, 3\], and \[4, 3\] is trained"):
        checkpoint.load(tmp_path / "c", parameters, optimizer)


def test_without_the_best_one_the_result_would_be_another(tmp_path):
    """So nobody is told to remove it."""
    parameters = dict(model()[0].named_parameters())
    best = tmp_path / checkpoint.BEST
    with pytest.raises(RunError, match="without it the run would end with another step than its best; put it back"):
        checkpoint.check(best, "")
    checkpoint.save(best, 3, parameters, None)
    (best / checkpoint.WEIGHTS).write_bytes(b"")
    for reads in (lambda: checkpoint.check(best, ""), lambda: checkpoint.load(best, parameters, None)):
        with pytest.raises(RunError, match="put it back, or start anew"):
            reads()
