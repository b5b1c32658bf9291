"""Stage 1: the vision tower alone learns to read generated pictures.

Through the language model alone the tower of a tiny model does not find out that pictures hold text; asked directly it
does, within minutes. Each patch is asked what lies on it (which character, which shape, which colour), and each kind of
scene has a few learnt queries that look at all patches and answer for the whole: the characters of a line in their
order, the shape in each cell of the grid, the bars of a chart. Queries and heads are thrown away afterwards.

    python -m pgtune.tiny.tower --out runs/tiny/tower
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from transformers import SiglipVisionModel

from pgtune.data_adapters.generated.generated import GeneratedAdapter
from pgtune.tiny.architecture import HIDDEN, RESOLUTION, vision_config
from pgtune.tiny.questions import FINE_HEADS, HEADS, IGNORED, PATCH_HEADS, SLOT_HEADS, Batch, make_batch

STEPS = 5000
BATCH = 32
LEARNING_RATE = 1e-3
"""of AdamW, which trains embeddings, norms, biases, queries and heads"""
MUON_LEARNING_RATE = 0.02
"""of Muon, which trains the tower's own matrices; in one short trial it needed about half of AdamW's steps"""
WARM_UP = 150
WEIGHT_DECAY = 0.05
NONE_WEIGHT = 0.2
"""weight of class 0 (nothing here) in SLOT_HEADS, or the empty places would drown what there is to see"""

Phase = tuple[float, int, dict[str, float]]
PHASES: tuple[Phase, ...] = (
    (0.35, 2, {"ocr": 45, "caption": 18, "texture": 12, "answer": 7, "chart": 9, "music": 9}),
    (0.65, 4, {"ocr": 45, "caption": 16, "texture": 12, "answer": 8, "chart": 10, "music": 9}),
    (1.00, 6, {"ocr": 45, "caption": 14, "texture": 12, "answer": 8, "chart": 12, "music": 9}),
)
"""up to this part of the steps: the longest text and the weights of the generator's tasks"""

Logits = dict[str, tuple[dict[str, Tensor], dict[str, Tensor]]]


class Pictures(IterableDataset[Batch]):
    """The batches of steps `first` to `last`; what step t sees depends on the seed, t and the number of steps only."""

    def __init__(self, seed: int, first: int, last: int, steps: int) -> None:
        self.seed, self.first, self.last, self.steps = seed, first, last, steps

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        offset, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for step in range(self.first + offset, self.last, stride):
            yield self.batch(step)

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        _, characters, tasks = next(phase for phase in PHASES if step < phase[0] * self.steps)
        adapter = GeneratedAdapter(RESOLUTION, self.seed, tasks, characters)
        return make_batch([adapter.scene("tower", step * BATCH + row)[0] for row in range(BATCH)])


class Reader(nn.Module):
    """The tower with queries and heads on top."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = SiglipVisionModel(vision_config())
        self.queries = nn.ParameterDict(
            {kind: nn.Parameter(torch.randn(count, HIDDEN)) for kind, (count, _) in HEADS.items()}
        )
        self.attend = nn.ModuleDict({kind: nn.MultiheadAttention(HIDDEN, 4, batch_first=True) for kind in HEADS})
        self.norms = nn.ModuleDict({kind: nn.LayerNorm(HIDDEN) for kind in HEADS})
        self.heads = self._layers({kind: heads for kind, (_, heads) in HEADS.items()})
        self.patch_heads = self._layers(PATCH_HEADS)

    @staticmethod
    def _layers(classes: dict[str, dict[str, int]]) -> nn.ModuleDict:
        return nn.ModuleDict(
            {
                kind: nn.ModuleDict({head: nn.Linear(HIDDEN, number) for head, number in heads.items()})
                for kind, heads in classes.items()
            }
        )

    def forward(self, batch: Batch) -> Logits:
        """For each kind in the batch the logits of its queries and of its patches, by head."""
        pictures, targets = batch
        patches = self.tower(pictures).last_hidden_state
        logits = {}
        for kind, (rows, _, _) in targets.items():
            seen = patches[rows]
            queries = self.queries[kind].expand(len(rows), -1, -1)
            read = self.norms[kind](self.attend[kind](queries, seen, seen, need_weights=False)[0])
            logits[kind] = (self._ask(self.heads, kind, read), self._ask(self.patch_heads, kind, seen))
        return logits

    @staticmethod
    def _ask(heads: nn.ModuleDict, kind: str, features: Tensor) -> dict[str, Tensor]:
        layers = heads[kind] if kind in heads else nn.ModuleDict()
        assert isinstance(layers, nn.ModuleDict)
        return {head: layer(features) for head, layer in layers.items()}


def loss_of(logits: Logits, batch: Batch) -> Tensor:
    """Cross-entropy: the mean over each head's queries or patches, summed over heads, kinds weighted by their rows."""
    pictures, targets = batch
    total = pictures.new_zeros(())
    for kind, (rows, *expected) in targets.items():
        for scores, classes in zip(logits[kind], expected, strict=True):
            for head, wanted in classes.items():
                share = len(rows) / len(pictures) * (0.25 if head in FINE_HEADS else 1.0)
                total = total + share * _entropy(scores[head], wanted, head in SLOT_HEADS)
    return total


def _entropy(scores: Tensor, wanted: Tensor, mostly_none: bool) -> Tensor:
    if not bool((wanted != IGNORED).any()):
        return scores.new_zeros(())
    weight = scores.new_ones(scores.shape[-1])
    if mostly_none:
        weight[0] = NONE_WEIGHT
    return nn.functional.cross_entropy(scores.flatten(0, 1), wanted.flatten(), weight, ignore_index=IGNORED)


@torch.no_grad()
def exact(reader: Reader, batch: Batch) -> dict[str, float]:
    """Share of the pictures of each kind of which every query of every head is right (FINE_HEADS left out)."""
    logits = reader(batch)
    shares = {}
    for kind, (rows, classes, _) in batch[1].items():
        right = torch.ones(len(rows), dtype=torch.bool)
        for head, expected in classes.items():
            if head not in FINE_HEADS:
                hit = (logits[kind][0][head].argmax(-1) == expected) | (expected == IGNORED)
                right &= hit.all(-1)
        shares[kind] = float(right.float().mean())
    return shares


def report(reader: Reader, unseen: dict[str, Batch]) -> dict[str, float]:
    """Shares of unseen pictures read exactly: `two` and `four` characters at most, then the other kinds of scene."""
    scores = {name: exact(reader, unseen[name])["text"] for name in ("two", "four")}
    return scores | exact(reader, unseen["rest"])


def held_out(seed: int) -> dict[str, Batch]:
    """Unseen pictures: two and four digits or letters, and one batch of everything else."""
    batches = {}
    for name, characters, tasks in (("two", 2, {"ocr": 1.0}), ("four", 4, {"ocr": 1.0}), ("rest", 2, PHASES[-1][2])):
        weights = tasks if name != "rest" else {task: weight for task, weight in tasks.items() if task != "ocr"}
        adapter = GeneratedAdapter(RESOLUTION, seed, weights, characters)
        batches[name] = make_batch([adapter.scene("tower held out", index)[0] for index in range(256)])
    return batches


def rate(step: int, steps: int) -> float:
    """Factor of the learning rates at a step: linear warm-up, then a cosine to zero."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP)))


class Optimizers:
    """Muon for the tower's matrices, AdamW for everything else, with one schedule."""

    def __init__(self, reader: Reader) -> None:
        self.names = {parameter: name for name, parameter in reader.named_parameters()}
        inner = [p for name, p in reader.tower.named_parameters() if p.ndim == 2 and "embedding" not in name]
        others = [parameter for parameter in self.names if not any(parameter is one for one in inner)]
        self.muon = torch.optim.Muon(inner, lr=MUON_LEARNING_RATE, momentum=0.95, weight_decay=WEIGHT_DECAY)
        self.adam = torch.optim.AdamW(others, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)

    def step(self, factor: float) -> None:
        """One update with the learning rates times `factor`; the gradients are gone afterwards."""
        for optimizer, peak in ((self.muon, MUON_LEARNING_RATE), (self.adam, LEARNING_RATE)):
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
            optimizer.step()  # type: ignore[no-untyped-call]
            optimizer.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """All tensors, by "key/parameter"."""
        both = {**self.muon.state, **self.adam.state}
        return {
            f"{key}/{name}": value
            for parameter, name in self.names.items()
            for key, value in both.get(parameter, {}).items()
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        for optimizer, keys in ((self.muon, ("momentum_buffer",)), (self.adam, ("step", "exp_avg", "exp_avg_sq"))):
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    name = self.names[parameter]
                    if f"{keys[0]}/{name}" in tensors:
                        optimizer.state[parameter] = {key: tensors[f"{key}/{name}"] for key in keys}


def _write(tensors: dict[str, Tensor], file: Path, step: int) -> None:
    aside = file.with_suffix(".partial")
    save_file({name: tensor.detach().clone() for name, tensor in tensors.items()}, aside, {"step": str(step)})
    aside.replace(file)


def save(reader: Reader, optimizers: Optimizers, step: int, out: Path) -> None:
    """Write state.safetensors (all, to go on) and tower.safetensors (the tower alone), each complete or absent."""
    state = {f"model/{name}": value for name, value in reader.state_dict().items()}
    _write(state | optimizers.state(), out / "state.safetensors", step)
    _write(dict(reader.tower.state_dict()), out / "tower.safetensors", step)


def restore(reader: Reader, optimizers: Optimizers, out: Path) -> int:
    """Load state.safetensors where there is one; the step to go on from."""
    file = out / "state.safetensors"
    if not file.exists():
        return 0
    with safe_open(file, "pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping
        step = int(stored.metadata()["step"])
    model = {name.removeprefix("model/"): value for name, value in tensors.items() if name.startswith("model/")}
    reader.load_state_dict(model)
    optimizers.load(tensors)
    return step


def train(out: Path, steps: int, seed: int, workers: int, every: int, minutes: float | None) -> None:
    """Train up to `steps` (or until the minutes are over), going on from what `out` holds."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    reader = Reader()
    optimizers = Optimizers(reader)
    first = restore(reader, optimizers, out)
    unseen = held_out(seed)
    loader = DataLoader(Pictures(seed, first, steps, steps), batch_size=None, num_workers=workers)
    start, running = time.monotonic(), 0.0
    for step, batch in enumerate(loader, first):
        loss = loss_of(reader(batch), batch)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizers.step(rate(step, steps))
        running = loss.item() if step == first else 0.98 * running + 0.02 * loss.item()
        done, spent = step + 1, time.monotonic() - start
        over = done == steps or (minutes is not None and spent > 60 * minutes)
        if done % every == 0 or over:
            line = {"step": done, "loss": round(running, 3), "seconds": round(spent)}
            line |= {name: round(value, 3) for name, value in report(reader, unseen).items()}
            print(json.dumps(line), flush=True)
            save(reader, optimizers, done, out)
        if over:
            break


def main() -> None:
    """Command line of stage 1."""
    parser = argparse.ArgumentParser(description="Train the vision tower of the tiny base model alone.")
    parser.add_argument("--out", type=Path, required=True, help="folder; a run in it goes on")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"optimiser steps of {BATCH} pictures")
    parser.add_argument("--minutes", type=float, default=None, help="stop early, to go on later")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--every", type=int, default=250, help="steps between checkpoints with their scores")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    train(given.out, given.steps, given.seed, given.workers, given.every, given.minutes)


if __name__ == "__main__":
    main()
