"""`--processes N`: what is started, what is shown of it, and with which code it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pgtune import cli, launching
from pgtune.errors import DataError, RecipeError
from pgtune.launcher import ERROR_FILE, LAUNCHER
from pgtune.launching import End, first_cause, launch
from pgtune.ranks import PeerLost, agree, check_launch, everywhere, join, launched, together

LATE = 1e9


def ended(rank, code=1, when=LATE, **record):
    full = {"message": "m", "exit_code": 1, "lost": False, "when": when, **record}
    return End(rank, code, when, full if record else None)


def test_the_first_cause_is_no_consequence():
    assert first_cause([ended(0, 0), ended(1, 0)]) is None
    # Who lost another process notices it before the other has ended, and never counts.
    assert first_cause([ended(0, when=1, lost=True), ended(1, -9, when=2)]).rank == 1
    assert first_cause([ended(0, lost=True, when=1.0), ended(1, lost=False, when=5.0)]).rank == 1
    assert first_cause([ended(0, when=7.0, lost=False), ended(1, when=6.0, lost=False)]).rank == 1
    assert first_cause([ended(0, -15, when=float("inf")), ended(1, 1, when=3)]).rank == 1
    assert first_cause([ended(0, when=1, lost=True), ended(1, 0)]).rank == 0


def test_one_terminal(capfd):
    """All processes run the command; one prints."""
    assert launch(3, ["show", "quickstart"]) == 0
    shown = capfd.readouterr()
    assert cli.main(["show", "quickstart"]) == 0
    assert shown.out == capfd.readouterr().out
    assert shown.err == ""


def test_one_error_and_its_code(capfd):
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert launch(2, ["show", "qickstart"]) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert "quickstart" in shown.err
    assert shown.err.count("error") == 1
    assert signal.signal(signal.SIGTERM, before) is signal.SIG_DFL, "torch's own is not left behind"


@pytest.mark.parametrize("code", [-9, 3])
def test_an_end_without_a_message(capsys, tmp_path, code):
    log = tmp_path / "stderr.log"
    log.write_text("Traceback ...\nZeroDivisionError\n")
    assert launching._report(ended(1, code), 4, log, interrupted=False) == (1 if code < 0 else code)
    said = capsys.readouterr().err
    if code < 0:
        assert said == "error: process 1 of 4 was ended by SIGKILL; the system may have run out of memory\n"
    else:
        assert said == "Traceback ...\nZeroDivisionError\nerror: process 1 of 4 left with exit code 3\n"


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(
        RecipeError, match="--processes 3: this machine has 2 GPUs, and each process needs one of its own"
    ):
        launch(3, ["show", "quickstart"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RecipeError, match="this machine has 1 GPU, "):
        launch(2, ["show", "quickstart"])


def test_far_more_processes_than_cores(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(launching.os, "cpu_count", lambda: 4)
    with pytest.raises(RecipeError, match="--processes 1000: this machine has no GPU and 4 cores"):
        launch(1000, ["show", "quickstart"])


def test_no_processes_inside_of_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launched() == 2
    with pytest.raises(RecipeError, match="several processes were started already"):
        launch(2, ["show", "quickstart"])


def test_the_option_is_taken_out():
    assert cli._without(["train", "r", "--processes", "2", "a=1"], "--processes") == ["train", "r", "a=1"]
    assert cli._without(["train", "--processes=2", "r"], "--processes") == ["train", "r"]


def test_what_accelerate_was_told_has_to_run():
    check_launch({})
    started = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    check_launch({**started, "ACCELERATE_USE_FSDP": "false", "ACCELERATE_MIXED_PRECISION": "no"})
    check_launch({"MASTER_PORT": "1"})  # somebody else's
    for name, what in (
        ("FSDP", "FSDP"),
        ("DEEPSPEED", "DeepSpeed"),
        ("MEGATRON_LM", "Megatron"),
        ("PARALLELISM_CONFIG", "a par"),
    ):
        with pytest.raises(
            RecipeError, match=f"ACCELERATE_USE_{name}=true: the configuration of accelerate asks for {what}"
        ):
            check_launch({f"ACCELERATE_USE_{name}": "True"})
    with pytest.raises(RecipeError, match="told of several processes and started one"):
        check_launch({"ACCELERATE_MIXED_PRECISION": "no", "MASTER_PORT": "29500"})


def test_errors_of_ranks(monkeypatch, capsys, tmp_path):
    """Alone an error is itself; of an error of all ranks one speaks; under the launcher none does, it is left there."""
    assert join() is None
    agree()
    with pytest.raises(DataError, match="row 3"), together():
        raise DataError("row 3")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, shared, said in (("0", True, 1), ("1", True, 0), ("1", False, 1)):
        monkeypatch.setenv("RANK", rank)
        error = DataError("row 3")
        cli.report_error(everywhere(error) if shared else error, "row 3", 2)
        assert capsys.readouterr().err.count("error: row 3") == said
    file = tmp_path / "error.json"
    monkeypatch.setenv(ERROR_FILE, str(file))
    for error, lost in ((DataError("x"), False), (PeerLost("x"), True), (everywhere(DataError("x")), True)):
        cli.report_error(error, "x", 2)
        record = json.loads(file.read_text())
        assert (record["message"], record["exit_code"], record["lost"]) == ("x", 2, lost)
    assert capsys.readouterr().err == ""


# ---- what stands in the environment, and what is ignored


def test_what_is_ignored_is_not_passed_on():
    """As under nohup, and of what a script starts in its background."""
    sent = []

    class Child:
        def send_signal(self, number):
            sent.append(number)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with launching._handlers_kept() as kept:
            received = launching._pass_on([Child()], kept)
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
        assert received == {signal.SIGTERM}
        assert sent == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("said", ["", "two", "0", "-1", "1.5"])
def test_a_number_of_processes_that_is_none(monkeypatch, said):
    monkeypatch.setenv("WORLD_SIZE", said)
    with pytest.raises(RecipeError, match=f"WORLD_SIZE='{said}' in the environment: expected a number of processes"):
        launched()


def test_processes_that_are_said_to_be_there_and_not_where():
    """Left in the shell by something else."""
    whole = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    check_launch(whole)
    check_launch({"WORLD_SIZE": "1"})
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        with pytest.raises(RecipeError, match=f"WORLD_SIZE=2 .* and {name} is not set; unset WORLD_SIZE"):
            check_launch({key: value for key, value in whole.items() if key != name})


def test_a_verb_that_is_not_shared_speaks_whatever_the_environment_says(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert cli.main(["show", "quickstart"]) == 0
    assert "model:" in capsys.readouterr().out


def test_a_process_whose_launcher_has_gone_ends_at_once(tmp_path):
    environment = {**os.environ, ERROR_FILE: str(tmp_path / "e.json"), LAUNCHER: "1"}
    assert os.getpid() != 1
    command = [sys.executable, "-m", "pgtune", "show", "quickstart"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    here = {**environment, LAUNCHER: str(os.getpid())}
    assert subprocess.run(command, env=here, capture_output=True, text=True).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="where the system ends what a process has started")
def test_nothing_is_left_of_a_launcher_that_is_killed_while_they_start():
    def children(number):
        return Path(f"/proc/{number}/task/{number}/children").read_text(encoding="utf-8").split()

    command = [sys.executable, "-m", "pgtune", "train", "quickstart", "--processes", "2", "output_dir=/nowhere/x"]
    launcher = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1200):
            ranks = [one for one in children(launcher.pid) if b"pgtune" in Path(f"/proc/{one}/cmdline").read_bytes()]
            if len(ranks) == 2:
                break
            time.sleep(0.05)
        assert len(ranks) == 2
    finally:
        launcher.kill()
        launcher.wait()
    for _ in range(600):
        left = [one for one in ranks if Path(f"/proc/{one}").exists()]
        if not left:
            break
        time.sleep(0.05)
    assert not left


def test_waiting_for_others_ends_by_a_signal():
    """Whatever handler stands: torch waits in C++, where it would not run."""
    code = (
        "import os, signal, sys; from pgtune.stopping import StopRequest; from pgtune.ranks import join\n"
        "with StopRequest():\n    print('here', flush=True); join()"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    waiting = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **alone}, stdout=subprocess.PIPE)
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == b"here\n"
    for _ in range(200):  # until it waits: its handler is the system's then
        caught = next(
            int(line.split()[1], 16)
            for line in Path(f"/proc/{waiting.pid}/status").read_text(encoding="utf-8").splitlines()
            if line.startswith("SigCgt:")
        )
        if not caught & (1 << (signal.SIGTERM - 1)):
            break
        time.sleep(0.05)
    waiting.terminate()
    try:
        assert waiting.wait(timeout=30) == -signal.SIGTERM
    finally:
        waiting.kill()
        waiting.stdout.close()
