"""The card, and what is looked for before anything leaves: no Hub is asked."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard
from safetensors.numpy import save_file

from pgtune.errors import HubError
from pgtune.hub.cards import card
from pgtune.hub.contents import Contents, gather
from pgtune.hub.patience import asked_wait
from pgtune.hub.privacy import check_private
from pgtune.hub.published import public_metrics, public_source
from pgtune.overlaps import Finding


def test_the_card_of_a_run(finished: Path) -> None:
    with pytest.raises(HubError, match="--base org/name"):
        card(finished)
    text = card(finished, repo_id="org/thing", base="google/paligemma2-3b-pt-224@main")
    data = ModelCard(text).data
    full = (finished / "model").is_dir()
    assert data.base_model == "google/paligemma2-3b-pt-224"
    assert data.license == "gemma"
    assert data.base_model_relation == ("finetune" if full else "adapter")
    assert data.library_name == ("transformers" if full else "peft")
    assert data.pipeline_tag == "image-text-to-text"
    after = json.loads((finished / "metrics.json").read_text())["after"]
    found: list[EvalResult] = data.eval_results
    assert {one.metric_type: one.metric_value for one in found} == after
    assert data.model_name == "thing"
    for words in ("Gemma Terms of Use", "## Scores", "95 % intervals", "examples learnt from | 24", "hardware | CPU"):
        assert words in text, words
    assert "test: 5 of 5 (100 %) belong to 5 pictures that train holds too" in text
    assert str(finished) not in text
    assert "what is it?" not in text
    code = text.partition("```python\n")[2].partition("```")[0]
    compile(code, "README.md", "exec")
    assert ("PeftModel" in code) is not full
    assert ('revision="main"' in code) is not full


def test_the_card_names_what_is_not_independent_and_data_on_the_hub(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    words = "belong to 2 patients that train holds too"
    finding = Finding("groups", ("train", "test"), words, 3, 5, ("secret.jsonl:4",))
    (run / "overlaps.json").write_text(json.dumps([finding.__dict__]))
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["data"]["train"]["source"] = recipe["data"]["test"]["source"] = "hub:org/radiographs"
    recipe["data"]["adapter"] = "hf"
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    text = card(run, base="org/base")
    assert "test: 3 of 5 (60 %) belong to 2 patients that train holds too" in text
    assert "secret.jsonl" not in text
    assert ModelCard(text).data.datasets == ["org/radiographs"]
    assert "datasets/org/radiographs" in text
    assert ModelCard(text).data.license_name == "as-the-base-model"


def test_examples_are_text_in_the_card(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    row = {"prefix": "<script>x</script>|", "prediction": "![a](http://b)", "references": ["`c`"], "scores": {}}
    (run / "predictions.jsonl").write_text(json.dumps(row) + "\n")
    text = card(run, base="org/base", with_examples=True)
    assert r"\<script\>x\</script\>\|" in text
    assert "![a](http" not in text


def problems(**files: Any) -> str:
    """What is found in these files."""
    content = {name.replace("__", "/").replace("_", "."): text for name, text in files.items()}
    return "\n".join(check_private(content, public=("someone/thing",)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see /home/me/scans/1.png", "the path /home/me/scans/1.png"),
        ('"at": "/mnt/x"', "the path /mnt/x"),
        (r"C:\\Users\\me\\scans", "the path C:"),
        ("~/scans/1.png", "the path ~/scans"),
        ("hf_" + "a" * 34, "a Hugging Face token"),
        ("ghp_" + "a" * 36, "a GitHub token"),
        ("AKIA" + "A" * 16, "an AWS key"),
        ("-----BEGIN RSA PRIVATE KEY-----", "a private key"),
        ('"PatientName": "x"', "the patient's field"),
        ("AccessionNumber: 12", "the patient's field"),
        ("swordfish123 and more", "the environment variable MY_API_KEY"),
        ("written by ann.other yesterday", "the name of this user"),
        ("on machine-07.", "the name of this machine"),
    ],
)
def test_what_must_not_leave_is_found(monkeypatch: pytest.MonkeyPatch, text: str, expected: str) -> None:
    from pgtune.hub import privacy

    monkeypatch.setenv("MY_API_KEY", "swordfish123")
    monkeypatch.setattr(privacy, "_names", lambda: [("user", "ann.other"), ("machine", "machine-07")])
    for name in ("README_md", "pgtune__recipe_yaml", "pgtune__metrics_json"):
        assert expected in problems(**{name: text.encode()}), name


def test_what_may_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    from pgtune.hub import privacy

    monkeypatch.setattr(privacy, "_names", lambda: [("user", "someone")])
    text = b"https://huggingface.co/someone/thing a/b and/or train/data/x.json 3/4 /\n runs/x 1e-05 patient: PatientID"
    assert not problems(README_md=text)
    assert not problems(tokenizer_json=b'["/home/", "/usr/bin/x", "hf_", "someone"]')


def test_files_that_never_leave(tmp_path: Path) -> None:
    import numpy as np

    names = ("optimizer.safetensors", "checkpoints/1/x.json", "checkpoint-5/model.safetensors", ".env", "a.pt", "x.log")
    for name in (*names, "trained.safetensors", "script.py", "picture.jpg"):
        assert check_private({name: b"{}"}), name
    file = tmp_path / "model.safetensors"
    save_file({"a.exp_avg": np.zeros(1)}, file)
    assert "the state of an optimiser" in check_private({"model.safetensors": file})[0]
    save_file({"a": np.zeros(1)}, file, {"format": "pt", "made": "/home/me/x"})
    assert "the path /home/me/x" in check_private({"model.safetensors": file})[0]


def test_sources_by_name() -> None:
    given = ("/a/b/train.jsonl", "../scans/", r"C:\x\y.csv", "pgtune:landcover/train.jsonl", "hub:org/data", "a.json")
    wanted = ["train.jsonl", "scans", "y.csv", "pgtune:landcover/train.jsonl", "hub:org/data", "a.json"]
    assert [public_source(source) for source in given] == wanted


def test_parts_and_types_are_told_of_published_sets_only() -> None:
    score = {"value": 1.0, "parts": {"human": {}}, "types": {"who": {}}}
    metrics = {"scores": {"after": {"exact_match": score}}, "trivial_answer": "secret", "n": 3, "left_out": {}}
    assert public_metrics(metrics, "jsonl")["scores"]["after"]["exact_match"] == {"value": 1.0}
    assert public_metrics(metrics, "chartqa")["scores"]["after"]["exact_match"] == score
    assert "secret" not in json.dumps(public_metrics(metrics, "chartqa"))


def test_retry_after() -> None:
    assert asked_wait({"Retry-After": "12"}) == 12
    assert asked_wait({}) is None
    assert asked_wait({"Retry-After": "x"}) is None
    assert asked_wait({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert (asked_wait({"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}) or 0) > 1e9


def test_a_run_says_what_it_was_made_on(finished: Path) -> None:
    contents: Contents = gather(finished, name="x", base="org/base")
    assert contents.versions["device"] == f"CPU, {os.cpu_count()} cores"
    assert contents.status["examples"] == 24
    assert contents.status["seconds"] > 0
    assert re.fullmatch(r"[0-9a-f]{64}", contents.status["data"])
