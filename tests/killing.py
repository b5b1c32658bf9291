"""Trainings in processes of their own that can be killed: forked from a warm server, so that one costs a second.

A crash is `kill -9`, by the test at a moment of its own, or by the process itself just before its n-th operation on a
file of the run folder, which is an exact moment.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([
    "pgtune.commands",
    "pgtune.training",
    "transformers.models.paligemma.modeling_paligemma",
    "transformers.models.paligemma.processing_paligemma",
    "transformers.models.siglip.modeling_siglip",
    "transformers.models.siglip.image_processing_siglip",
    "transformers.models.gemma.modeling_gemma",
    "transformers.models.gemma2.modeling_gemma2",
    "peft.tuners.lora",
])  # fmt: skip
CHANGES = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir"}


def _main(argv: list[str], log: str, folder: str, kill_before: int | None, largest_file: int | None) -> None:
    """In the new process: what `pgtune` does, with its output in a file."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if largest_file is not None:  # a write beyond it fails as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    if kill_before is not None:
        sys.addaudithook(_Killer(folder, kill_before, f"{log}.operations"))
    from pgtune import cli

    sys.exit(cli.main(argv))


class _Killer:
    """Kills this process just before its n-th change below a folder; `n` = 0 counts them into `tally` instead."""

    def __init__(self, folder: str, n: int, tally: str) -> None:
        self.folder, self.n, self.tally, self.count = folder, n, tally, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CHANGES or not f"{arguments[0]}{os.sep}".startswith(f"{self.folder}{os.sep}"):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        self.count += 1
        if self.count == self.n:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.n == 0:
            Path(self.tally).write_text(str(self.count), encoding="utf-8")


class Training:
    """`pgtune train` of a recipe, to be started, killed and gone on with."""

    def __init__(self, recipe: Any, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.folder = Path(recipe.output_dir)
        self.recipe, self.log = home / f"{self.folder.name}.yaml", home / f"{self.folder.name}.txt"
        self.recipe.write_text(recipe.to_yaml(), encoding="utf-8")

    def start(self, *flags: str, kill_before: int | None = None, largest_file: int | None = None) -> Any:
        """A process that trains; `--resume` goes on, and starts a run that there is not yet."""
        argv = ["train", str(self.recipe), *(flags or ("--resume",))]
        process = SERVER.Process(target=_main, args=(argv, str(self.log), str(self.folder), kill_before, largest_file))
        process.start()
        return process

    def run(self, *flags: str, kill_before: int | None = None, largest_file: int | None = None) -> int:
        """Its exit code; minus the signal where one ended it."""
        process = self.start(*flags, kill_before=kill_before, largest_file=largest_file)
        process.join()
        return int(process.exitcode)

    def operations(self, *flags: str) -> int:
        """How many changes to files a whole run makes."""
        assert self.run(*flags, kill_before=0) == 0, self.said()
        return int(Path(f"{self.log}.operations").read_text(encoding="utf-8"))

    def said(self) -> str:
        """What the last process printed."""
        return self.log.read_text(encoding="utf-8")

    def command(self) -> list[str]:
        """The words behind `pgtune` of the command that it said would go on."""
        return shlex.split(self.said().rpartition("go on with: ")[2])[1:]


def outcome(folder: Path) -> dict[str, Any]:
    """All that a run leaves, to the last byte, but for what was measured and for where it lies."""
    from conftest import read_jsonl

    found: dict[str, Any] = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if not file.is_file() or name in ("log.jsonl", "memory.json"):
            continue
        content = file.read_bytes()
        found[name] = content if file.suffix == ".safetensors" else content.replace(str(folder).encode(), b"RUN")
        if file.name == "state.json":  # of a checkpoint: the run's identity, which its folder's name is a part of
            found[name] = {key: value for key, value in json.loads(content).items() if key != "run"}
    rows = read_jsonl(folder / "log.jsonl")
    found["log.jsonl"] = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    assert json.loads(found["status.json"])["state"] == "finished"
    return found


def assert_same(one: Path, other: Path, but: tuple[str, ...] = ()) -> None:
    """Two run folders hold the same: the same files, the same bytes; `but` for what begins so."""
    first, second = outcome(one), outcome(other)
    names = {name for name in first.keys() | second.keys() if not name.startswith(but)}
    different = sorted(name for name in names if first.get(name) != second.get(name))
    assert not different, different
