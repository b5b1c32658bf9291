"""The card, and what is looked for before anything leaves: no Hub is asked."""

from __future__ import annotations

import dataclasses
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
from pgtune.hub.cards import card, card_of
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


def test_the_card_of_a_merged_model_in_4_bits(finished: Path) -> None:
    """It loads in the types that it is stored in, and was not scored so."""
    made = gather(finished, name="x", base="google/paligemma2-3b-pt-224")
    files = {**made.files, "config.json": b'{"quantization_config": {"load_in_4bit": true}}'}
    merged = dataclasses.replace(made, kind="merged", files=files)
    text = card_of(merged, "org/x")
    assert ModelCard(text).data.base_model_relation == "quantized"
    assert "dtype" not in text.partition("```python\n")[2].partition("```")[0]
    assert "in 8 or 4 bits (bitsandbytes)" in text
    assert "before they were merged and rounded to 8 or 4 bits" in text
    plain = card_of(dataclasses.replace(merged, files={**files, "config.json": b"{}"}), "org/x")
    assert ModelCard(plain).data.base_model_relation == "finetune"
    assert "dtype=torch.float32" in plain
    assert "before they were merged:" in plain


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


def problems(text: str) -> list[str]:
    """What is found in a text, where it stands in a card, a JSON file and a YAML file."""
    files = {
        "README.md": text.encode(),
        "pgtune/metrics.json": json.dumps({"at": [text]}).encode(),
        "pgtune/recipe.yaml": yaml.safe_dump({"at": [text]}).encode(),
    }
    return ["\n".join(check_private({name: content})) for name, content in files.items()]


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
        ("train_hf_" + "a" * 34, "a Hugging Face token"),
        ("\u00e9ghp_" + "a" * 36, "a GitHub token"),
        ("https://bob:secret@host/x", "a password in an address"),
        ("/nfs/lab/x", "the path /nfs/lab/x"),
        ("see /cohort/ann/x.csv", "the path /cohort/ann/x.csv"),
        ("--root=/cohort/ann", "the path /cohort/ann"),
        ("path:/cohort/ann", "the path /cohort/ann"),
        (r"\\server\share\x", "the path "),
        ('{"PatientName": "x"}', "the patient's field"),
        ("PatientBirthDate^1970", "the patient's field"),
    ],
)
def test_what_must_not_leave_is_found(monkeypatch: pytest.MonkeyPatch, text: str, expected: str) -> None:
    monkeypatch.setenv("MY_API_KEY", "swordfish123")
    for found in problems(text):
        assert expected in found


def test_what_may_leave() -> None:
    text = "https://huggingface.co/someone/thing a/b and/or train/data/x.json 3/4 /\n runs/x 1e-05 patient: PatientID"
    text += " image/png w/o n/a </s> <td/> ./a/b ../a/b s3://bucket/key 12/11/2020 km/h [a](https://a.b/c/d) /help //a"
    assert problems(text) == ["", "", ""]
    assert not check_private({"tokenizer.json": b'["/home/", "/usr/bin/x", "hf_", "someone"]'})
    smiles = {"pgtune/examples.jsonl": b'{"prefix": "/CC(F)=C/Cl"}\n', "README.md": b"/CC(F)=C/Cl"}
    assert not check_private(smiles)


@pytest.mark.parametrize(
    ("user", "given", "found"),
    [
        ("ann.other", "notes of ann.other", True),
        ("sam", "scans_sam.jsonl", True),
        ("sam", "Sam-2020.csv", True),
        ("sam", "samples.csv", False),
        ("sam", "org/sam", False),
        *((name, f"{name}.jsonl", False) for name in ("train", "data", "lora", "alpha", "seed", "model", "picture")),
    ],
)
def test_names_are_looked_for_in_what_the_user_named(
    monkeypatch: pytest.MonkeyPatch, user: str, given: str, found: bool
) -> None:
    from pgtune.hub import privacy

    monkeypatch.setattr("getpass.getuser", lambda: user)
    privacy._names.cache_clear()
    said = check_private({"README.md": f"{user} alpha".encode()}, given=[given], public=("org/sam",))
    privacy._names.cache_clear()
    assert any(f"the name of this user, {user}" in one for one in said) is found


def test_files_that_never_leave(tmp_path: Path) -> None:
    import numpy as np

    names = ("optimizer.safetensors", "checkpoints/1/x.json", "checkpoint-5/model.safetensors", ".env", "a.pt", "x.log")
    for name in (*names, "trained.safetensors", "script.py", "picture.jpg"):
        assert check_private({name: b"{}"}), name
    file = tmp_path / "model.safetensors"
    save_file({"a.exp_avg": np.zeros(1)}, file)
    assert "the state of an optimiser" in check_private({"model.safetensors": file})[0]
    save_file({"a": np.zeros(1)}, file, {"format": "pt", "made": '{"at": "/home/me/x", "PatientName": "x"}'})
    found = "\n".join(check_private({"model.safetensors": file}))
    assert "the path /home/me/x" in found
    assert "the patient's field" in found
    file = tmp_path / "tokenizer.model"
    file.write_bytes(b"\xff\x00_hf_" + b"a" * 34)
    assert "a Hugging Face token" in check_private({"tokenizer.model": file})[0]
    for name in ("report.html", "memory.json", "predictions.jsonl", "log.jsonl", "validation.jsonl"):
        assert check_private({name: b"{}"}), name


def test_sources_by_name() -> None:
    given = ["/a/b/train.jsonl", "../scans/", r"C:\x\y.csv", "pgtune:landcover/train.jsonl", "hub:org/data", "a.json"]
    wanted = ["train.jsonl", "scans", "y.csv", "pgtune:landcover/train.jsonl", "hub:org/data", "a.json"]
    given += ["hub:/nfs/x/a", "pgtune:../../x/a"]
    wanted += ["a", "a"]
    assert [public_source(source) for source in given] == wanted


def test_parts_and_types_are_told_of_published_sets_only() -> None:
    score: dict[str, Any] = {**NUMBERS, "parts": {"human": NUMBERS}, "types": {"who": NUMBERS}}
    metrics = {"scores": {"after": {"exact_match": score}}, "trivial_answer": "secret", "n": 3, "left_out": {}}
    metrics |= {"split": "test", "steps": 1, "confidence": 0.95, "secret": "secret", "after": {"secret": 1.0}}
    plain = {name: score[name] for name in NUMBERS}
    assert public_metrics(metrics, "jsonl")["scores"]["after"]["exact_match"] == plain
    assert public_metrics(metrics, "chartqa")["scores"]["after"]["exact_match"] == score
    score["secret"] = {"secret": 1.0}
    assert "secret" not in json.dumps(public_metrics(metrics, "chartqa"))
    for damaged in ([], None, {}, {**metrics, "n": "<b>"}, {**metrics, "split": "secret"}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            public_metrics(damaged, "jsonl")


NUMBERS: dict[str, Any] = {"value": 1.0, "low": 0.5, "high": 1.0, "n": 3, "clusters": 3, "average": "examples"}


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
