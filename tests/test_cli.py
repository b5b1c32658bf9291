"""The command line: verbs, exit codes, what goes to standard output, and that light verbs stay light."""

import errno
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pgtune
from pgtune import cli
from pgtune.errors import TrainingError

VERBS = [
    *("recipes", "show", "validate", "adapters", "adapt", "preview"),
    *("train", "evaluate", "predict", "score", "doctor"),
]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: Any) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save("a.png")
    row = {"image": "a.png", "prefix": "what?", "suffix": "that"}
    Path("train.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n")
    Path("mine.yaml").write_text("lora: {}\ndata: {train: train.jsonl}\noutput_dir: runs/mine\n")


def stand_in(monkeypatch: Any, module: str, **functions: Any) -> None:
    """Put functions in the place of a heavy module."""
    made = ModuleType(module)
    vars(made).update(functions)
    monkeypatch.setitem(sys.modules, module, made)


def exit_code(*words: str) -> int:
    try:
        return cli.main(words)
    except SystemExit as leaving:  # argparse
        return int(leaving.code or 0)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: Any) -> None:
    assert exit_code(verb, "--help") == 0
    out = capsys.readouterr().out
    assert f"example:\n  pgtune {verb}" in out
    assert "--json" in out
    assert "--debug" in out


def test_help_version_and_no_verb(capsys: Any) -> None:
    assert exit_code("--help") == 0
    listed = capsys.readouterr().out
    assert all(verb in listed for verb in VERBS)
    assert exit_code() == 0
    assert capsys.readouterr().out == listed
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"pgtune {pgtune.__version__}\n"


WRONG = {
    "verb": (["trian"], "no verb is called 'trian'; did you mean 'train'?"),
    "top option": (["--verbose"], "unrecognized arguments: --verbose"),
    "option": (["train", "mine.yaml", "--overwite"], "unrecognized arguments: --overwite"),
    "shortened option": (["train", "mine.yaml", "--over"], "unrecognized arguments: --over"),
    "no recipe": (["train"], "required: RECIPE"),
    "no such recipe": (["validate", "quickstat"], "did you mean 'quickstart'?"),
    "no such file": (["validate", "no.yaml"], "no.yaml: no such file"),
    "override": (["validate", "mine.yaml", "seeed=1"], "did you mean seed?"),
    "no override": (["validate", "mine.yaml", "seed"], "expected key.path=value"),
    "preview of none": (["preview", "mine.yaml", "-n", "0"], "a whole number of 1 or more, not '0'"),
    "preview of another": (["preview", "mine.yaml", "--split", "trian"], "invalid choice: 'trian'"),
    "train without data": (["train", "mine.yaml", "data.train=no.jsonl"], "data.train: no.jsonl"),
    "adapter": (["adapt", "jsnl", "train.jsonl", "--out", "o.jsonl"], "did you mean 'jsonl'?"),
    "adapter argument": (["adapt", "jsonl", "train.jsonl", "--out", "o.jsonl", "--arg", "imag=x"], "imag"),
    "argument of no form": (["adapt", "jsonl", "train.jsonl", "--out", "o.jsonl", "--arg", "x"], "--arg: override 'x'"),
    "adapt to nowhere": (["adapt", "jsonl", "train.jsonl"], "required: --out"),
    "adapt from nothing": (["adapt", "jsonl", "no.jsonl", "--out", "o.jsonl"], "no.jsonl: no such file"),
    "metric": (["score", "exactmatch", "p.jsonl"], "did you mean 'exact_match'?"),
    "predictions": (["score", "exact_match", "p.jsonl"], "p.jsonl"),
    "predict nothing": (["predict", "runs/mine"], "either --image"),
    "predict both": (["predict", "runs/mine", "--image", "a.png", "--input", "x", "--prefix", "p"], "either --image"),
    "predict without prefix": (["predict", "runs/mine", "--image", "a.png"], "needs --prefix"),
    "predict to nowhere": (["predict", "runs/mine", "--input", "x"], "needs --out"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_exit_2_with_one_message(name: str, capsys: Any) -> None:
    words, expected = WRONG[name]
    before = sorted(Path().rglob("*"))
    assert exit_code(*words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "error: " in captured.err
    assert expected in captured.err
    assert "Traceback" not in captured.err
    assert sorted(Path().rglob("*")) == before


def test_debug_shows_the_traceback(capsys: Any) -> None:
    assert exit_code("validate", "no.yaml", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_recipes(capsys: Any) -> None:
    assert exit_code("recipes") == 0
    assert "quickstart" in capsys.readouterr().out
    assert exit_code("recipes", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"forkme", "quickstart"} <= {entry["name"] for entry in listed}
    assert all(entry["description"] for entry in listed)
    assert exit_code("recipes", "--keys") == 0
    assert "train.learning_rate: auto, or a number above 0 and at most 1 (default: auto)" in capsys.readouterr().out
    assert exit_code("recipes", "--schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Recipe"


def test_show(capsys: Any) -> None:
    assert exit_code("show", "forkme") == 0
    Path("copy.yaml").write_text(capsys.readouterr().out)
    assert exit_code("validate", "copy.yaml") == 0
    assert exit_code("show", "forkme", "--json") == 0
    assert json.loads(capsys.readouterr().out.partition("\n")[2])["output_dir"] == "runs/forkme"


def test_validate(capsys: Any) -> None:
    assert exit_code("validate", "mine.yaml", "--json", "train.learning_rate=3e-4", "data.test=train.jsonl") == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["valid"] is True
    assert document["recipe"]["train"]["learning_rate"] == 3e-4
    assert "warning: data.train and data.test are the same data" in captured.err
    assert exit_code("validate", "mine.yaml", "seeed=1", "train.epochs=0", "--json") == 2
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["valid"] is False
    assert [problem["key"] for problem in document["problems"]] == ["train.epochs", "seeed"]
    assert captured.err.startswith("error: mine.yaml: 2 problems")


def test_adapters_and_adapt(capsys: Any) -> None:
    assert exit_code("adapters", "--json") == 0
    assert {"jsonl", "generated"} <= {entry["name"] for entry in json.loads(capsys.readouterr().out)}
    words = ["adapt", "jsonl", "train.jsonl", "--limit", "1", "--out", "o.jsonl", "--arg", "suffix=prefix"]
    assert exit_code(*words) == 2  # two arguments with one key: the data adapter's own refusal
    words[-1] = "suffix=suffix"
    capsys.readouterr()
    assert exit_code(*words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 1
    assert json.loads(Path("o.jsonl").read_text())["image"] == "a.png"


def test_score(capsys: Any) -> None:
    rows = [{"prediction": "a", "references": ["a", "b"]}, {"prediction": "a", "references": ["b"]}] * 3
    Path("p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert exit_code("score", "exact_match", "p.jsonl", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["scores"]["exact_match"]["value"], document["n"]) == (0.5, 6)
    assert exit_code("score", "exact_match,cer", "p.jsonl") == 0
    assert capsys.readouterr().out.splitlines() == [
        "metric                value   low     high    n",
        "exact_match           50.0 %  18.8 %  81.2 %  6",
        "cer, lower is better  50.0 %  16.7 %  83.3 %  6",
        "  mean                50.0 %",
        "low and high: 95 % interval",
    ]


def test_train_gets_the_recipe_and_keeps_standard_output_clean(monkeypatch: Any, capsys: Any) -> None:
    got: dict[str, Any] = {}

    def train(recipe: Any, *, resume: bool, overwrite: bool) -> dict[str, Any]:
        print("a library talks")
        got.update(seed=recipe.seed, resume=resume, overwrite=overwrite)
        none = {"low": 0.0, "high": 0.5, "n": 7, "clusters": 7, "average": "examples"}
        values = {"before": 0.1, "after": 1 / 3, "trivial": 0.2}
        scores = {name: {"anls": {"value": value, **none}} for name, value in values.items()}
        scores["after"]["anls"]["parts"] = {"human": {"value": 1.0, **none}}
        return {"after": {"anls": 1 / 3}, "scores": scores, "n": 7}

    stand_in(monkeypatch, "pgtune.training", train=train)
    assert exit_code("train", "mine.yaml", "--overwrite", "seed=3", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["after"]["anls"] == 1 / 3
    assert "a library talks" in captured.err
    assert got == {"seed": 3, "resume": False, "overwrite": True}
    assert exit_code("train", "mine.yaml", "--resume") == 0
    assert capsys.readouterr().out.splitlines() == [
        "      before                after                 trivial",
        "anls  10.0 % (0.0 to 50.0)  33.3 % (0.0 to 50.0)  20.0 % (0.0 to 50.0)",
        "n 7",
        "run folder: runs/mine",
    ]


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (TrainingError("the loss is not finite"), 1, "error: the loss is not finite\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_failures_have_their_exit_codes(
    monkeypatch: Any, capsys: Any, raised: BaseException, code: int, said: str
) -> None:
    def train(recipe: Any, **options: bool) -> None:
        raise raised

    stand_in(monkeypatch, "pgtune.training", train=train)
    assert exit_code("train", "mine.yaml") == code
    assert capsys.readouterr() == ("", said)


def test_a_bug_of_ours_is_loud(monkeypatch: Any) -> None:
    def train(recipe: Any, **options: bool) -> None:
        raise ZeroDivisionError

    stand_in(monkeypatch, "pgtune.training", train=train)
    with pytest.raises(ZeroDivisionError):
        cli.main(["train", "mine.yaml"])


def test_evaluate_predict_and_doctor(monkeypatch: Any, capsys: Any) -> None:
    score = {"value": 1.5, "low": 1.0, "high": 2.0, "n": 5, "clusters": 5, "average": "examples"}

    def evaluate(run: Path, **options: Any) -> dict[str, Any]:
        assert options == {"split": "validation", "source": None, "limit": 5, "batch_size": None, "allow_code": False}
        return {
            "scores": {"cider": score | {"parts": {"human": score}}},
            "trivial_scores": {"cider": score | {"value": 0.25}},
            "trivial_answer": "a dog",
            "n": 5,
            "left_out": {},
            "folder": "runs/mine/evaluations/validation",
        }

    def predict(run: Path, **options: Any) -> dict[str, Any]:
        if options["input"]:
            return {"out": options["out"], "rows": 3, "errors": 1, "skipped": 0}
        return {"image": options["images"], "prediction": "that", "mean_log_probability": -0.25}

    def doctor() -> dict[str, Any]:
        test = {"name": "no leak", "generation": "gemma2", "passed": False, "detail": "it leaks", "seconds": 0.1}
        return {"versions": {"torch": "2", "bitsandbytes": None}, "devices": [{"name": "cpu"}], "self_tests": [test]}

    stand_in(monkeypatch, "pgtune.evaluation", evaluate=evaluate)
    stand_in(monkeypatch, "pgtune.prediction", predict=predict)
    stand_in(monkeypatch, "pgtune.doctor", doctor=doctor)
    assert exit_code("evaluate", "runs/mine", "--split", "validation", "--limit", "5") == 0
    assert capsys.readouterr().out.splitlines() == [
        "metric        value  low    high   n  trivial",
        "cider         1.500  1.000  2.000  5  0.250",
        "  part human  1.500  1.000  2.000  5",
        "trivial: by always answering 'a dog'",
        "n 5, written to runs/mine/evaluations/validation",
    ]
    assert exit_code("predict", "runs/mine", "--image", "a.png", "b.png", "--prefix", "") == 0
    assert capsys.readouterr().out == "that\n"
    assert exit_code("predict", "runs/mine", "--image", "a.png", "--prefix", "p", "--json") == 0
    assert json.loads(capsys.readouterr().out)["mean_log_probability"] == -0.25
    assert exit_code("predict", "runs/mine", "--input", "x", "--out", "o.csv") == 0
    assert "3 rows, 1 with an error" in capsys.readouterr().out
    assert exit_code("doctor") == 1
    captured = capsys.readouterr()
    assert "FAILED  gemma2  no leak    it leaks" in captured.out
    assert captured.err == "error: 1 self-tests failed\n"


def test_light_verbs_import_nothing_heavy() -> None:
    """In one process of its own: what the verbs below import adds up."""
    code = """
import sys
from pgtune.cli import main
def heavy(): return sorted({"torch", "transformers", "peft", "accelerate", "bitsandbytes"} & set(sys.modules))
try:
    main(["train", "--help"])
except SystemExit as leaving:
    assert leaving.code == 0
assert "pydantic" not in sys.modules, "help needs no schema"
for words in (["recipes"], ["show", "forkme"], ["validate", "mine.yaml"], ["adapters"]):
    assert main(words) == 0, words
    assert not heavy(), (words, heavy())
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def test_python_m_pgtune_and_a_reader_that_goes_away() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pgtune", "validate", "no.yaml"], capture_output=True, text=True, timeout=120
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: no.yaml: no such file\n"
    writer = subprocess.Popen(
        [sys.executable, "-m", "pgtune", "recipes", "--schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert writer.stdout is not None
    writer.stdout.close()
    assert writer.stderr is not None
    assert writer.stderr.read() == b""
    assert writer.wait(timeout=120) == 1
    writer.stderr.close()


def test_closed_streams_and_foreign_encodings(monkeypatch: Any, capsys: Any) -> None:
    words = ("validate", "mine.yaml", "output_dir=runs/雪")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", None)
        patched.setattr(sys, "stderr", None)
        assert exit_code(*words) == 0
        assert exit_code("validate", "no.yaml") == 2
        for stream in (sys.stdout, sys.stderr):
            stream.close()
    written = []
    for more in ((), ("--json",)):
        ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", ascii_only)
            assert exit_code(*words, *more) == 0
        ascii_only.seek(0)
        written.append(ascii_only.read())
    assert r"runs/\u96ea" in written[0]
    assert json.loads(written[1])["recipe"]["output_dir"] == "runs/雪"
    assert capsys.readouterr().err == ""


def test_what_the_machine_refuses_is_one_line(monkeypatch: Any, capsys: Any) -> None:
    for words in (["x" * 5000], ["mine.yaml", f"model.base={'x' * 5000}"], ["mine.yaml", f"data.train={'x' * 5000}"]):
        assert exit_code("validate", *words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")

    def train(recipe: Any, **options: bool) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/mine/log.jsonl")

    stand_in(monkeypatch, "pgtune.training", train=train)
    assert exit_code("train", "mine.yaml") == 1
    assert capsys.readouterr().err == "error: runs/mine/log.jsonl: No space left on device\n"


def test_a_recipe_may_come_through_a_pipe() -> None:
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_text(Path("mine.yaml").read_text()))
    writer.start()
    assert exit_code("validate", "pipe") == 0
    writer.join()
