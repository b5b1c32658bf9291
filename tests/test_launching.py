"""`--processes N`: what is started, what is shown of it, and with which code it ends."""

from __future__ import annotations

import json
import signal

import pytest
import torch

from pgtune import cli, launching
from pgtune.errors import DataError, RecipeError
from pgtune.launching import End, first_cause, launch
from pgtune.progress import ERROR_FILE
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
    before = signal.getsignal(signal.SIGTERM)
    assert launch(2, ["show", "qickstart"]) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert "quickstart" in shown.err
    assert shown.err.count("error") == 1
    assert signal.getsignal(signal.SIGTERM) is before


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
    check_launch(
        {"ACCELERATE_USE_FSDP": "false", "WORLD_SIZE": "2", "MASTER_PORT": "1", "ACCELERATE_MIXED_PRECISION": "no"}
    )
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
