"""A training that is asked to stop, or that its data or the disk stops: a checkpoint, one message, and it goes on."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from conftest import read_jsonl, recipe_for, rows_of, write_rows
from killing import Training, assert_same, outcome

from pgtune import checkpoint, cli, evaluation, job, loop, stopping, train, training
from pgtune.errors import DataError, RunError, TrainingError
from pgtune.feeding import Feed
from pgtune.forward import SuffixLossModel
from pgtune.stopping import StopRequest

SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])


@pytest.fixture(scope="module")
def recipe_in(small_bases, data):
    """A recipe of seven steps, scored and with looks at validation, into that folder; some settings changed."""

    def made(folder, *changes):
        given = ["train.max_steps=7", "train.eval_steps=3", "train.best_metric=loss", *changes]
        given += [f"data.{split}={data / split}.jsonl" for split in ("validation", "test")]
        settings = {one.partition("=")[0]: one for one in reversed(given)}
        settings |= {one.partition("=")[0]: one for one in changes}
        return recipe_for(small_bases["paligemma2"], data, folder, *settings.values())

    return made


@pytest.fixture
def recipe(recipe_in, tmp_path):
    """The same into a folder of that name."""
    return lambda name, *changes: recipe_in(tmp_path / name, *changes)


@pytest.fixture(scope="module")
def whole(recipe_in, tmp_path_factory):
    """The folder of a run that was left alone."""
    made = recipe_in(tmp_path_factory.mktemp("whole") / "run")
    train(made)
    return Path(made.output_dir)


@pytest.fixture
def at_row(monkeypatch):
    """Something to be done once, after a step's row was logged."""

    def arrange(step, act, log="log.jsonl"):
        real, done = loop.append_row, []

        def append(path, row):
            real(path, row)
            if path.name == log and row["step"] == step and not done:
                done.append(step)
                act()

        monkeypatch.setattr(loop, "append_row", append)

    return arrange


SAVED = ("recipe.yaml", "checkpoints/step-000002/", "checkpoints/step-000004/", "checkpoints/step-000006/")
"""What differs between a run that saves every second step and one that does so at its end alone."""


def goes_on(error, recipe, whole, but=()):
    """The command in an error's message goes on with the run, which ends as one that was left alone."""
    words = shlex.split(str(error.value).rpartition("go on with: ")[2])
    assert words[:2] == ["pgtune", "train"]
    assert cli.main(words[1:]) == 0
    assert_same(whole, Path(recipe.output_dir), but)


def steps_logged(recipe):
    return [row["step"] for row in read_jsonl(Path(recipe.output_dir) / "log.jsonl")]


# ---- signals


@SIGNALS
def test_a_signal_waits_for_the_step_and_a_second_one_does_not(number, monkeypatch):
    def steps():
        with StopRequest() as stop, stop.deferred():
            signal.raise_signal(number)
            signal.raise_signal(number)  # at once: a launcher passing on what all have received
            assert stop.asked
            monkeypatch.setattr(stopping, "ONE_REQUEST_SECONDS", 0.0)
            signal.raise_signal(number)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as caught:
        steps()
    assert caught.traceback[-1].name == "_received", "by the last one, and not by the end of the steps"
    assert signal.getsignal(number) == before


def test_a_signal_that_nobody_looked_at_interrupts_in_the_end():
    reached = []

    def run():
        with StopRequest() as stop:
            with stop.deferred():
                signal.raise_signal(signal.SIGTERM)
                reached.append("the end of the steps")
            reached.append("an evaluation")

    def steps():
        with StopRequest() as stop, stop.deferred():
            signal.raise_signal(signal.SIGTERM)
            with stop.at_once():
                reached.append("a look at validation")

    for interrupted in (run, steps):
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    assert reached == ["the end of the steps"]


def test_a_signal_that_is_ignored_stays_ignored():
    """As under nohup, and in another thread than the first nothing can be set."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequest() as stop, stop.deferred():
            signal.raise_signal(signal.SIGINT)
            assert not stop.asked
    finally:
        signal.signal(signal.SIGINT, before)
    entered = threading.Thread(target=lambda: StopRequest().__enter__())
    entered.start()
    entered.join()
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize("step", [2, 3, 7], ids=["in between", "with a look at validation due", "the last"])
def test_asked_to_stop_in_a_step(recipe, whole, at_row, step):
    """It writes a checkpoint, though the recipe asks for none here, and says what goes on."""
    said = "stopped on request after step {}, which is kept; go on with: pgtune train .*/recipe.yaml --resume$"
    stopped = recipe("stopped")
    at_row(step, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(TrainingError, match=said.format(step)) as error:
        train(stopped)
    folder = Path(stopped.output_dir) / "checkpoints"
    assert checkpoint.steps_on_disk(folder) == [step]
    assert steps_logged(stopped) == list(range(1, step + 1))
    goes_on(error, stopped, whole)


@pytest.mark.parametrize("where", ["evaluate before", "validate", "evaluate after"])
def test_asked_to_stop_in_an_evaluation(recipe, whole, monkeypatch, where):
    """It leaves at once; the steps before it are kept, and the look that was broken off is made on going on."""
    stopped = recipe("stopped")
    real = evaluation.generate

    def generate(*rest, **more):
        found = real(*rest, **more)
        yield next(found)
        if label[-1] == where:
            signal.raise_signal(signal.SIGINT)
            pytest.fail("not at once")
        yield from found

    label = []
    real_split = loop.evaluate_split

    def evaluate_split(job, examples, name):
        label.append(name)
        return real_split(job, examples, name)

    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "generate", generate)
        patched.setattr(loop, "evaluate_split", evaluate_split)
        patched.setattr(training, "evaluate_split", evaluate_split)
        with pytest.raises(TrainingError, match="stopped on request; go on with: pgtune train") as error:
            train(stopped)
    kept = {"evaluate before": [], "validate": [3], "evaluate after": [7]}[where]
    assert checkpoint.steps_on_disk(Path(stopped.output_dir) / "checkpoints") == kept
    goes_on(error, stopped, whole)


def test_asked_to_stop_while_loading(recipe, monkeypatch, at_row, capsys):
    """Before anything was written there is nothing to go on with: as any other verb; on going on there is."""
    stopped, real = recipe("stopped"), job.load_base

    def load_base(*rest, **more):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(job, "load_base", load_base)
    with pytest.raises(KeyboardInterrupt):
        train(stopped)
    assert not Path(stopped.output_dir).exists()
    file = Path(stopped.output_dir).with_suffix(".yaml")
    file.write_text(stopped.to_yaml(), encoding="utf-8")
    assert cli.main(["train", str(file)]) == 130
    monkeypatch.setattr(job, "load_base", real)
    at_row(2, lambda: signal.raise_signal(signal.SIGTERM))
    assert cli.main(["train", str(file)]) == 1
    monkeypatch.setattr(job, "load_base", load_base)
    capsys.readouterr()
    assert cli.main(["train", str(file), "--resume"]) == 1
    assert "error: stopped on request; go on with: pgtune train" in capsys.readouterr().err
    assert checkpoint.steps_on_disk(Path(stopped.output_dir) / "checkpoints") == [2]


def test_a_real_process_that_is_asked_to_stop(recipe, tmp_path):
    """Twice, by each signal, from outside; the third time it comes to its end."""
    whole, stopped = (Training(recipe(name, "train.max_steps=20"), tmp_path) for name in ("whole", "stopped"))
    assert whole.run() == 0, whole.said()
    for number in (signal.SIGTERM, signal.SIGINT):
        log = stopped.folder / "log.jsonl"
        before = log.stat().st_size if log.exists() else 0
        process = stopped.start()
        while process.is_alive() and not (log.exists() and log.stat().st_size > before):
            pass
        os.kill(process.pid, number)
        process.join()
        assert process.exitcode == 1, stopped.said()
        assert "error: stopped on request" in stopped.said()
        assert "Traceback" not in stopped.said()
        assert stopped.command() == ["train", str(stopped.folder / "recipe.yaml"), "--resume"]
    assert stopped.run(*stopped.command()[2:]) == 0, stopped.said()
    assert_same(whole.folder, stopped.folder)


# ---- what ends a run by itself


def test_a_loss_that_is_not_finite_names_its_rows_and_keeps_the_steps(recipe, data, monkeypatch):
    """One example of the fifth step, in its second micro-batch."""
    sizes = ("train.batch_size=2", "train.gradient_accumulation_steps=2")
    whole, broken = recipe("whole", *sizes), recipe("broken", *sizes)
    train(whole)
    real, calls = SuffixLossModel.forward, []

    def forward(self, batch):
        loss = real(self, batch)
        calls.extend([1] if torch.is_grad_enabled() else [])
        if len(calls) != 10:
            return loss
        total = loss.total.clone()
        total[1] = float("nan")
        return type(loss)(total, loss.tokens)

    with monkeypatch.context() as patched:
        patched.setattr(SuffixLossModel, "forward", forward)
        with pytest.raises(TrainingError, match=r"step 5: the loss is nan .* as they were before it") as error:
            train(broken)
    order = loop.step_indices(3, 4, 24, 4)
    rows = [f"{data / 'train.jsonl'}:{index + 1}" for index in order]
    said = str(error.value)
    names = [os.path.basename(row) for row in rows]
    assert [name for name in names if name in said] == names
    assert f"(not finite in {said.partition('(not finite in ')[2].partition(')')[0]})" in said
    assert said.partition("(not finite in ")[2].partition(")")[0].endswith(names[3])
    assert "and step 4 is kept" in said
    assert checkpoint.steps_on_disk(Path(broken.output_dir) / "checkpoints") == [4]
    train(broken, resume=True)
    assert_same(Path(whole.output_dir), Path(broken.output_dir))


def test_broken_weights_do_not_take_the_place_of_good_ones(recipe, monkeypatch, at_row):
    """A step whose loss was finite broke them; the next one's is not."""
    broken = recipe("broken", "train.save_steps=2")
    real = torch.optim.AdamW.step
    steps = []

    def step(self, *rest):
        real(self, *rest)
        steps.append(1)
        if len(steps) == 3:
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(float("nan"))

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(TrainingError, match=r"step 3: .* is no longer finite|step 4: .* and step 2 is kept"):
        train(broken)
    assert checkpoint.steps_on_disk(Path(broken.output_dir) / "checkpoints") == [2]


def test_a_row_that_cannot_be_read_keeps_the_steps_before_it(recipe, whole, monkeypatch):
    broken = recipe("broken")
    real = job.Rows.__getitem__
    seen = []

    def row(self, visit):
        seen.append(visit)
        where, example = real(self, visit)
        return where, DataError("image x.png: is damaged") if len(seen) == 2 + 4 * 4 + 2 else example

    with monkeypatch.context() as patched:
        patched.setattr(job.Rows, "__getitem__", row)
        with pytest.raises(DataError, match=r"train.jsonl:\d+: image x.png: is damaged"):
            train(broken)
    assert checkpoint.steps_on_disk(Path(broken.output_dir) / "checkpoints") == [4]
    train(broken, resume=True)
    assert_same(whole, Path(broken.output_dir))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_is_full_for_the_log(recipe, whole, at_row):
    stopped = recipe("stopped", "train.save_steps=2")
    log = Path(stopped.output_dir) / "log.jsonl"

    def fill():
        log.rename(log.with_suffix(".aside"))
        log.symlink_to("/dev/full")

    at_row(3, fill)
    with pytest.raises(TrainingError, match=r"log.jsonl: No space left on device; what was complete") as error:
        train(stopped)
    log.unlink()
    log.with_suffix(".aside").rename(log)
    assert checkpoint.steps_on_disk(Path(stopped.output_dir) / "checkpoints") == [2]
    goes_on(error, stopped, whole, SAVED)


def test_a_folder_that_may_not_be_written(recipe, whole, at_row):
    stopped = recipe("stopped")
    checkpoints = Path(stopped.output_dir) / "checkpoints"

    def obstruct():
        checkpoints.rmdir()
        checkpoints.write_text("")

    at_row(1, obstruct)
    with pytest.raises(TrainingError, match=r"checkpoints/.*: Not a directory; what was complete") as error:
        train(recipe("stopped", "train.save_steps=2"))
    checkpoints.unlink()
    goes_on(error, stopped, whole, SAVED)


def test_a_folder_that_is_removed(recipe, at_row):
    stopped = recipe("stopped")
    at_row(2, lambda: shutil.rmtree(stopped.output_dir))
    with pytest.raises(TrainingError, match="stopped: the run folder was removed during the training"):
        train(stopped)


class Workers:
    """As a DataLoader with two workers, which does something when it is asked for a batch."""

    num_workers = 2

    def __init__(self, act):
        self.act = act

    def __iter__(self):
        yield self.act()


def fails(error):
    raise error


DEAD = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")


@pytest.mark.parametrize("error", [DEAD, EOFError(), ConnectionResetError(104, "Connection reset by peer")], ids=repr)
def test_a_data_worker_that_died_is_one_message(error):
    """Torch says so, or the line to it breaks before torch looks."""
    stop = StopRequest()
    stop.command = "pgtune train x --resume"
    said = r"that reads the data died \(.+\): memory .* fewer train.num_workers \(now 2\). Go on with: pgtune train x"
    with Feed(Workers(lambda: fails(error)), stop) as feed, pytest.raises(TrainingError, match=said):
        feed.take()
    stop.asked = True  # as all processes of a terminal or a job are
    with (
        Feed(Workers(lambda: fails(error)), stop) as feed,
        pytest.raises(TrainingError, match="stopped on request; go"),
    ):
        feed.take()


@pytest.mark.parametrize("error", [RuntimeError("a bug"), FileNotFoundError("Caught FileNotFoundError in DataLoader")])
def test_what_fails_inside_of_a_data_worker_is_no_death(error):
    with Feed(Workers(lambda: fails(error)), StopRequest()) as feed, pytest.raises(type(error)):
        feed.take()


def test_a_data_worker_that_dies_during_a_step_does_not_break_into_it():
    """Torch's handler raises wherever the program is; here it stands for that, and a step is not halved."""
    before = signal.signal(signal.SIGCHLD, lambda *_: fails(DEAD))
    try:
        with Feed(Workers(lambda: signal.raise_signal(signal.SIGCHLD)), StopRequest()) as feed:
            signal.raise_signal(signal.SIGCHLD)  # in a step
            with pytest.raises(TrainingError, match="that reads the data died"):
                feed.take()
    finally:
        signal.signal(signal.SIGCHLD, before)


# ---- what must be the same


def stop_after(recipe, at_row, step):
    at_row(step, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(TrainingError, match="stopped on request"):
        train(recipe)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_changed_data_is_refused_at_resume(recipe, pictures, tmp_path, at_row, split):
    for name in ("train", "validation", "test"):
        write_rows(tmp_path / f"{name}.jsonl", rows_of(pictures, 8))
    sources = [f"data.{name}={tmp_path / name}.jsonl" for name in ("train", "validation", "test")]
    stopped = recipe("stopped", *sources)
    stop_after(stopped, at_row, 2)
    file = tmp_path / f"{split}.jsonl"
    rows = read_jsonl(file)
    write_rows(file, [*rows[:-1], {**rows[-1], "suffix": "other"}])
    with pytest.raises(RunError, match=rf"data.{split} has changed since .* put it back, or use --overwrite"):
        train(stopped, resume=True)
    write_rows(file, rows)
    train(stopped, resume=True)


def test_what_changes_nothing_of_the_result_may_change_at_resume(recipe, whole, at_row):
    stopped = recipe("stopped")
    stop_after(stopped, at_row, 2)
    train(recipe("stopped", "train.save_steps=2", "train.keep_checkpoints=9", "train.num_workers=0"), resume=True)
    assert outcome(whole)["log.jsonl"] == outcome(Path(stopped.output_dir))["log.jsonl"]
    with pytest.raises(RunError, match=r"another recipe \(different: train.max_steps\)"):
        train(recipe("stopped", "train.max_steps=8"), resume=True)


@pytest.mark.parametrize("log", ["log.jsonl", "validation.jsonl"])
def test_a_log_that_lacks_a_step_is_refused(recipe, at_row, log):
    """Or the run would end with a hole in its log, or with another best step."""
    stopped = recipe("stopped", "train.eval_steps=1")
    stop_after(stopped, at_row, 3)
    file = Path(stopped.output_dir) / log
    rows = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join([rows[0], *rows[2:]]), encoding="utf-8")
    with pytest.raises(RunError, match=rf"{log}: damaged: the checkpoint is of step 3, and step 2 should have one row"):
        train(stopped, resume=True)
    file.write_text("".join([rows[0], rows[1], *rows[1:]]), encoding="utf-8")
    with pytest.raises(RunError, match="and step 2 should have one row"):
        train(stopped, resume=True)


def test_nobody_has_to_read_what_is_said():
    """`pgtune train R 2>&1 | head -1` goes on to the end of its work."""
    code = (
        "import sys, time; from pgtune.progress import say\n"
        "say('one'); sys.stdin.readline()\n"
        "for _ in range(3): say('two')\n"
        "print('done')"
    )
    speaking = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert speaking.stdin is not None
    assert speaking.stderr is not None
    assert speaking.stdout is not None
    assert speaking.stderr.readline() == "one\n"
    speaking.stderr.close()
    speaking.stdin.write("go on\n")
    speaking.stdin.close()
    assert speaking.stdout.read() == "done\n"
    assert speaking.wait() == 0
    speaking.stdout.close()
