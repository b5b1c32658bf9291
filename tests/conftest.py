"""What the tests of the core share: random bases of both generations, pictures, and recipes on them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test reaches the network
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

for number, handler in ((signal.SIGINT, signal.default_int_handler), (getattr(signal, "SIGHUP", None), signal.SIG_DFL)):
    # As in a terminal, also where the tests run in a script's background or under nohup, which have them ignored.
    if number is not None and signal.getsignal(number) == signal.SIG_IGN:
        with suppress(ValueError):  # not in the main thread
            signal.signal(number, handler)

GENERATIONS = ("paligemma", "paligemma2")


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with a random model of two layers, the shipped tokenizer and processor: generation -> folder."""
    from pgtune.selftests import write_random_base

    root = tmp_path_factory.mktemp("bases")
    return {generation: write_random_base(root / generation, generation) for generation in GENERATIONS}


@pytest.fixture(scope="session", params=GENERATIONS)
def generation(request: pytest.FixtureRequest) -> str:
    """PaliGemma 1 and PaliGemma 2."""
    return str(request.param)


@pytest.fixture(scope="session")
def base(bases: dict[str, Path], generation: str) -> Path:
    """A random base of the generation."""
    return bases[generation]


@pytest.fixture(scope="session")
def small_bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same at 28 pixels, 4 image tokens: what is trained here."""
    from pgtune.selftests import write_random_base

    root = tmp_path_factory.mktemp("small")
    return {generation: write_random_base(root / generation, generation, resolution=28) for generation in GENERATIONS}


@pytest.fixture(scope="session")
def small_base(small_bases: dict[str, Path], generation: str) -> Path:
    """A small random base of the generation."""
    return small_bases[generation]


@pytest.fixture(scope="session")
def bench(base: Path, generation: str) -> Any:
    """The bench of the self-tests on that base. What it has loaded is shared: take `bench.load()` to change it."""
    import torch

    from pgtune.selftests import Bench

    return Bench(generation, base, torch.device("cpu"))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twelve small pictures of random colours, as PNG files."""
    from pgtune.selftests import picture

    folder = tmp_path_factory.mktemp("pictures")
    files = []
    for seed in range(12):
        files.append(folder / f"{seed:02d}.png")
        picture(seed).resize((28, 28)).save(files[-1])
    return files


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A JSON Lines file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


COLOURS = ("red", "green", "a blue one", "7", "<loc0012><loc1023> box", "black and white", "?", "two words")


def rows_of(pictures: list[Path], count: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows with prefixes and suffixes of different lengths."""
    return [
        {
            "image": str(pictures[index % len(pictures)]),
            "prefix": ("what is it?", "", "say <loc0005>", "answer en colour")[index % 4],
            "suffix": COLOURS[index % len(COLOURS)],
            "number": index,
        }
        for index in range(start, start + count)
    ]


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The loopback Hub, and in `hub.call` a process whose huggingface_hub knows no other: `hub_client.py`."""
    from hub_client import client_of
    from hub_server import Hub

    home = tmp_path_factory.mktemp("hub")
    with Hub() as server, client_of(server, home) as call:
        server.call, server.home = call, home
        yield server


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, pictures: list[Path]) -> Path:
    """A folder with train.jsonl (24 rows), validation.jsonl (4) and test.jsonl (5)."""
    folder = tmp_path_factory.mktemp("data")
    write_rows(folder / "train.jsonl", rows_of(pictures, 24))
    write_rows(folder / "validation.jsonl", rows_of(pictures, 4, 24))
    write_rows(folder / "test.jsonl", rows_of(pictures, 5, 30))
    return folder


LORA = {"rank": 4, "alpha": 8, "targets": "language_model"}


class Interrupted(BaseException):
    """What nothing catches, as a kill."""


@contextmanager
def interrupted_after(step: int) -> Iterator[None]:
    """Around a training that is to end as if it were killed, right after it has logged a step."""
    from pgtune import loop

    real = loop.append_row

    def dies(path: Path, row: dict[str, Any]) -> None:
        real(path, row)
        if path.name == "log.jsonl" and row["step"] == step:
            raise Interrupted

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "append_row", dies)
        with pytest.raises(Interrupted):
            yield


def losses(run: Path) -> list[float]:
    """The losses in a run's log."""
    return [row["loss"] for row in read_jsonl(run / "log.jsonl")]


def recipe_for(base: Path | str, data: Path, out: Path, *overrides: str, lora: dict[str, Any] | None = LORA) -> Any:
    """A recipe of four steps of four on `data`/train.jsonl, scored on nothing; `overrides` change it."""
    from pgtune import load_recipe

    return load_recipe(
        {
            "model": {"base": str(base)},
            "lora": lora,
            "data": {"train": str(data / "train.jsonl")},
            "train": {
                "max_steps": 4,
                "batch_size": 4,
                "learning_rate": 1e-2,
                "warmup_ratio": 0.0,
                "schedule": "constant",
                "save_steps": None,
            },
            "eval": {"max_new_tokens": 4, "batch_size": 4},
            "output_dir": str(out),
            "seed": 3,
        },
        overrides,
    )


@pytest.fixture(scope="session", params=["lora", "full"])
def finished(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    generation: str,
    small_base: Path,
    data: Path,
) -> Path:
    """A finished run of four steps with LoRA or in full, scored on test before and after. Do not write into it."""
    from pgtune import train

    run = tmp_path_factory.mktemp(f"{generation}-{request.param}") / "run"
    lora = LORA if request.param == "lora" else None
    train(recipe_for(small_base, data, run, f"data.test={data / 'test.jsonl'}", lora=lora))
    return run
