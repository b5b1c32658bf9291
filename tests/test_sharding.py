"""Who shares what, and sharded weights in one process: the same numbers, gathered whole, laid out again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from conftest import LORA
from torch.distributed.tensor import DTensor

from pgtune import checkpoint, loss
from pgtune.collate import Collator
from pgtune.errors import RecipeError
from pgtune.example import Example
from pgtune.methods import prepare
from pgtune.model import load_base
from pgtune.saving import _gathered
from pgtune.selftests import picture
from pgtune.settings import LoraSettings, ModelSettings
from pgtune.sharding import Root, clip_gradients, let_go, local, place, shard, whole
from pgtune.strategies import strategy_of


def test_what_runs():
    assert strategy_of("auto", full=True, ranks=1) == "single"
    assert strategy_of("auto", full=True, ranks=2) == "fsdp"
    assert strategy_of("auto", full=False, ranks=2) == "ddp"
    assert strategy_of("fsdp", full=False, ranks=2, quantization="nf4") == "fsdp"
    assert strategy_of("ddp", full=True, ranks=2, optimizer="adamw_8bit") == "ddp"
    for setting in ("ddp", "fsdp"):
        with pytest.raises(RecipeError, match=f"train.strategy: '{setting}' has no effect: this is one process"):
            strategy_of(setting, full=True, ranks=1)
    with pytest.raises(RecipeError, match=r"fsdp does not go with model\.quantization int8"):
        strategy_of("fsdp", full=False, ranks=2, quantization="int8")
    with pytest.raises(RecipeError, match="adamw_8bit does not go with fsdp"):
        strategy_of("auto", full=True, ranks=2, optimizer="adamw_8bit")


@pytest.fixture
def group() -> Iterator[None]:
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def opened(base, *, lora=None, trainable=None):
    loaded = load_base(ModelSettings(base=str(base)), full=lora is None, device=torch.device("cpu"))
    prepare(loaded, lora and LoraSettings(**lora), trainable, seed=1)
    return loaded, Root(loaded.model, loaded.paligemma, loaded.attention)


def trained_steps(loaded, root, batch, steps=2):
    """Losses and gradient norms of a few steps, the optimiser, the parameters."""
    trained = dict(loaded.trainable())
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-3)
    found = []
    for _ in range(steps):
        value = root(batch).example_sum()
        value.backward()
        found.append((float(value.detach()), clip_gradients(trained.values(), 1.0)))
        optimizer.step()
        optimizer.zero_grad()
    return found, optimizer, trained


@pytest.mark.parametrize("case", ["lora", "full", "tower and projector beside lora"])
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module .* returned a view tensor")
def test_sharded_weights_train_and_are_kept_as_whole_ones(small_base, tmp_path, group, monkeypatch, case):
    monkeypatch.setattr(loss, "CHUNK", 3)  # the head, gathered with the whole, is called again in the backward pass
    lora = None if case == "full" else LORA
    trainable = ("vision_tower", "projector") if "beside" in case else None
    plain, plain_root = opened(small_base, lora=lora, trainable=trainable)
    loaded, root = opened(small_base, lora=lora, trainable=trainable)
    names = [name for name, _ in loaded.trainable()]
    shard(root, torch.device("cpu"))
    loaded.root = root
    assert [name for name, _ in loaded.trainable()] == names
    assert all(isinstance(parameter, DTensor) for parameter in loaded.model.parameters()), (
        "all is shared, frozen or not"
    )
    collator = Collator(loaded.processor)
    batch = collator([Example(picture(number), "what?", text) for number, text in enumerate(("red", "two words"))])
    prompts = collator.prompts([collator.pixels([picture(3)])], ["what?"])
    answers = [one.run(one.paligemma.generate, **prompts, max_new_tokens=3, do_sample=False) for one in (plain, loaded)]
    assert torch.equal(*answers)
    expected, first, plain_trained = trained_steps(plain, plain_root, batch)
    found, second, trained = trained_steps(loaded, root, batch)
    assert torch.tensor(found).flatten().tolist() == pytest.approx(torch.tensor(expected).flatten().tolist(), rel=1e-5)

    checkpoint.save(tmp_path / "plain", 2, plain_trained, first)
    checkpoint.save(tmp_path / "shared", 2, trained, second)
    for file in (checkpoint.WEIGHTS, checkpoint.OPTIMIZER):
        assert (tmp_path / "plain" / file).stat().st_size == (tmp_path / "shared" / file).stat().st_size
    state = checkpoint.load(tmp_path / "plain", trained, second)
    assert state["step"] == 2
    for name, parameter in trained.items():
        assert isinstance(second.state[parameter]["exp_avg"], DTensor)
        assert torch.equal(whole(parameter), plain_trained[name])
        assert torch.equal(whole(second.state[parameter]["exp_avg_sq"]), first.state[plain_trained[name]]["exp_avg_sq"])
    gathered = _gathered(loaded, main=True)
    kept = plain_trained if lora else plain.model.state_dict()
    assert gathered.keys() == kept.keys()
    assert all(torch.equal(gathered[name], value) for name, value in kept.items())
    assert _gathered(plain, main=True) is None


def test_what_stays_gathered_is_let_go_before_weights_are_read(small_bases, group):
    loaded, root = opened(small_bases["paligemma2"])
    shard(root, torch.device("cpu"))
    embedding = loaded.paligemma.model.language_model.embed_tokens
    collator = Collator(loaded.processor)
    with torch.no_grad():
        root(collator([Example(picture(1), "what?", "red")]))
    assert not isinstance(embedding.weight, DTensor)
    let_go(root)
    assert isinstance(embedding.weight, DTensor)
    plain, plain_root = opened(small_bases["paligemma2"])
    let_go(plain_root)  # nothing to do
    assert plain.run(max, 1, 2) == 2


def test_layouts(group):
    tensor = torch.arange(6.0)
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    like = torch.distributed.tensor.distribute_tensor(torch.zeros(6), mesh, [torch.distributed.tensor.Shard(0)])
    placed = place(tensor, like)
    assert torch.equal(whole(placed), tensor)
    assert torch.equal(local(placed), tensor)
    assert place(tensor, torch.zeros(6)) is tensor
    assert whole(tensor) is local(tensor) is tensor
