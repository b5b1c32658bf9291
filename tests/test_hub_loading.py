"""A pushed run used elsewhere: without pgtune, with pgtune, and refused where it is not what it should be."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import LORA, recipe_for
from hub_client import command, downloaded, fetched, logits_of, pushed, run_sample
from hub_server import Hub
from PIL import Image
from safetensors.torch import load_file, save

from pgtune.errors import HubError, ModelError, PgtuneError, RunError, TrainingError

MORE = ("train.max_steps=2", "eval.limit=2", "data.max_text_tokens=40", "train.learning_rate=0.05")


@pytest.fixture(scope="session")
def remote(
    hub: Hub, tmp_path_factory: pytest.TempPathFactory, small_bases: dict[str, Path], data: Path
) -> tuple[Path, str]:
    """A run with LoRA on a folder's base and its id on the Hub, which has the base too, as org/base."""
    from pgtune import train

    base, run = small_bases["paligemma2"], tmp_path_factory.mktemp("remote") / "run"
    recipe = recipe_for(base, data, run, f"data.test={data / 'test.jsonl'}", *MORE)
    train(recipe)
    hub.put("org/base", {file.name: file.read_bytes() for file in base.iterdir()})
    result, _ = hub.call(pushed, run, "org/adapter", tag="v1", base="org/base")
    assert not isinstance(result, PgtuneError), result
    return run, "org/adapter"


def changed(hub: Hub, name: str, change: dict[str, bytes | None]) -> str:
    """The id of a copy of the pushed run with other files."""
    files = {path: file.content for path, file in hub.repo("org/adapter").files.items()}
    files |= {path: content for path, content in change.items() if content is not None}
    hub.put(name, {path: content for path, content in files.items() if change.get(path, b"") is not None})
    return name


def edited(hub: Hub, path: str, **keys: Any) -> dict[str, bytes | None]:
    """A JSON file of the pushed run with other keys."""
    return {path: json.dumps(json.loads(hub.repo("org/adapter").files[path].content) | keys).encode()}


def test_an_adapter_without_pgtune_computes_the_same_bits(hub: Hub, remote: tuple[Path, str]) -> None:
    run, name = remote
    config = json.loads(hub.repo(name).files["adapter_config.json"].content)
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/base", hub.repo("org/base").head)
    with_base, auto, base_alone = hub.call(logits_of, run, name, "org/base")
    assert with_base
    assert auto
    assert base_alone > 1e-3


@pytest.mark.parametrize(
    ("family", "lora", "more"),
    [
        ("paligemma", {}, ()),
        ("paligemma2", {"use_dora": True}, ()),
        ("paligemma2", {}, ("model.trainable=[projector]",)),
    ],
    ids=["paligemma", "dora", "projector"],
)
def test_every_kind_of_adapter_computes_the_same_bits_without_pgtune(
    hub: Hub,
    small_bases: dict[str, Path],
    data: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    family: str,
    lora: dict[str, Any],
    more: tuple[str, ...],
) -> None:
    from pgtune import train

    base, kind = f"org/base-{family}", request.node.callspec.id
    hub.put(base, {file.name: file.read_bytes() for file in small_bases[family].iterdir()})
    shown = ("eval.before=false", *MORE, *more)
    train(recipe_for(small_bases[family], data, tmp_path / "run", *shown, lora={**LORA, **lora}))
    result, _ = hub.call(pushed, tmp_path / "run", f"org/bits-{kind}", base=base)
    assert not isinstance(result, PgtuneError), result
    with_base, auto, base_alone = hub.call(logits_of, tmp_path / "run", f"org/bits-{kind}", base)
    assert with_base
    assert auto
    assert base_alone > 1e-3


def test_the_code_of_the_card_gives_the_answer_of_the_run(hub: Hub, remote: tuple[Path, str], tmp_path: Path) -> None:
    run, name = remote
    Image.new("RGB", (40, 30), (200, 20, 90)).save(tmp_path / "photo.png")
    card = hub.repo(name).files["README.md"].content.decode()
    answer = hub.call(run_sample, card, tmp_path, "what is it?")
    words = ("--image", "photo.png", "--prefix", "what is it?")
    for place in (str(run), name, f"{name}@v1"):
        code, out, err = hub.call(command, "predict", place, *words, "--json", folder=tmp_path)
        assert code == 0, err
        assert json.loads(out)["prediction"] == answer


def test_a_merged_model_is_pushed_whole(hub: Hub, remote: tuple[Path, str], tmp_path: Path) -> None:
    result, _ = hub.call(pushed, remote[0], "org/merged", merged=True, base="org/base")
    assert not isinstance(result, PgtuneError), result
    files = hub.repo("org/merged").files
    assert result["kind"] == "merged"
    assert {"config.json", "model.safetensors"} <= files.keys()
    assert "adapter_config.json" not in files
    assert str(remote[0]).encode() not in b"".join(f.content for f in files.values())
    Image.new("RGB", (40, 30), (200, 20, 90)).save(tmp_path / "photo.png")
    answer = hub.call(run_sample, files["README.md"].content.decode(), tmp_path, "what is it?")
    words = ("--image", "photo.png", "--prefix", "what is it?", "--json")
    code, out, err = hub.call(command, "predict", "org/merged", *words, folder=tmp_path)
    assert code == 0, err
    assert json.loads(out)["prediction"] == answer
    refusal, _ = hub.call(pushed, remote[0], "org/merged", base="org/base")
    assert type(refusal) is HubError
    assert "holds all weights" in str(refusal)


def test_another_base_is_not_named_for_the_run(hub: Hub, remote: tuple[Path, str]) -> None:
    """The same shapes and files, and other weights: what was scored would not be what is loaded."""
    files = {path: file.content for path, file in hub.repo("org/base").files.items()}
    weights = bytearray(files["model.safetensors"])
    weights[-1] ^= 1
    hub.put("org/tuned", {**files, "model.safetensors": bytes(weights)})
    refusal, _ = hub.call(pushed, remote[0], "org/misnamed", base="org/tuned")
    assert type(refusal) is HubError
    assert "--base: org/tuned holds other weights than" in str(refusal)
    assert "(model.safetensors)" in str(refusal)
    assert ("model", "org/misnamed") not in hub.repos
    hub.put("org/longer", {**files, "model.safetensors": bytes(weights) + b"0"})
    assert "holds other weights" in str(hub.call(pushed, remote[0], "org/misnamed", base="org/longer")[0])
    shards = {**files, "model-00001-of-00001.safetensors": files["model.safetensors"]}
    del shards["model.safetensors"]
    hub.put("org/shards", shards)
    code, _, err = hub.call(command, "push", str(remote[0]), "org/unsure", "--base", "org/shards")
    assert code == 0, err
    assert "in other files than" in err
    assert "not checked to be the same" in err


def test_evaluate_by_id_gives_the_scores_of_the_run(
    hub: Hub, remote: tuple[Path, str], data: Path, tmp_path: Path
) -> None:
    run, name = remote
    code, _, err = hub.call(command, "evaluate", name, folder=tmp_path)
    assert code == 2
    assert "name yours with --source" in err
    words = ("--source", str(data / "test.jsonl"), "--limit", "2", "--json")
    code, out, err = hub.call(command, "evaluate", name, *words, folder=tmp_path)
    assert code == 0, err
    found = json.loads(out)
    assert found["metrics"] == json.loads((run / "metrics.json").read_text())["after"]
    assert found["folder"].startswith("evaluations/org--adapter/")
    mine = [json.loads(line)["prediction"] for line in (run / "predictions.jsonl").read_text().splitlines()]
    theirs = (tmp_path / found["folder"] / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["prediction"] for line in theirs] == mine


def test_what_was_fetched_is_there_without_the_hub(hub: Hub, remote: tuple[Path, str]) -> None:
    path, recipe = hub.call(fetched, remote[1])
    assert recipe.model.base == "org/base"
    assert (path / "adapter_model.safetensors").is_file()
    code = "from pgtune.hub.fetching import run_from_hub; print(run_from_hub('org/adapter'))"
    for more in ({"HF_HUB_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}):
        environment = {**os.environ, "HF_HOME": str(hub.home), "NO_PROXY": "127.0.0.1", **more}
        words = [sys.executable, "-c", code]
        found = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert found.stdout.strip() == str(path), found.stderr


def test_training_goes_on_from_an_adapter(
    hub: Hub, remote: tuple[Path, str], data: Path, tmp_path: Path, small_bases: dict[str, Path]
) -> None:
    run, name = remote
    rate = ("train.learning_rate=1e-12", "train.max_steps=1", "eval.before=false")
    lines = recipe_for("org/base", data, tmp_path / "on", f"model.adapter={name}", *rate).to_yaml()
    (tmp_path / "on.yaml").write_text(lines)
    code, _, err = hub.call(command, "train", str(tmp_path / "on.yaml"))
    assert code == 0, err
    before = load_file(run / "adapter" / "adapter_model.safetensors")
    after = load_file(tmp_path / "on" / "adapter" / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    for key, weight in before.items():
        torch.testing.assert_close(after[key], weight, atol=1e-9, rtol=0)


def test_an_adapter_that_was_trained_otherwise_is_not_gone_on_from(
    remote: tuple[Path, str], data: Path, tmp_path: Path, small_bases: dict[str, Path]
) -> None:
    from pgtune import train

    run, base = remote[0], small_bases["paligemma2"]
    lora = {**LORA, "rank": 2, "use_dora": True}
    with pytest.raises(PgtuneError, match=r"lora.rank 4, not 2, lora.use_dora False, not True"):
        train(recipe_for(base, data, tmp_path / "on", f"model.adapter={run}", lora=lora))
    with pytest.raises(PgtuneError, match=r"model\.base"):
        train(recipe_for(small_bases["paligemma"], data, tmp_path / "on", f"model.adapter={run}"))
    with pytest.raises(RunError, match=r"holds model\.adapter"):
        train(recipe_for(base, data, run, f"model.adapter={run}"), overwrite=True)


def weights_of(hub: Hub) -> dict[str, torch.Tensor]:
    """The pushed adapter's weights."""
    from safetensors.torch import load

    return dict(load(hub.repo("org/adapter").files["adapter_model.safetensors"].content))


def test_an_adapter_that_would_do_nothing_or_does_not_fit_is_refused(
    hub: Hub, remote: tuple[Path, str], tmp_path: Path
) -> None:
    weights = weights_of(hub)
    first = sorted(weights)[0]
    renamed = {key.replace("language_model", "text_model"): weight for key, weight in weights.items()}
    nothing = {key: torch.zeros_like(weight) for key, weight in weights.items()}
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    cases = {
        "does nothing": nothing,
        "does not fit": renamed,
        "not in the other": {key: weight for key, weight in weights.items() if key != first},
        "size mismatch|the shape": weights | {first: torch.zeros(3, 3)},
    }
    for number, (message, found) in enumerate(cases.items()):
        name = changed(hub, f"org/odd-{number}", {"adapter_model.safetensors": save(found, {"format": "pt"})})
        code, _, err = hub.call(command, "predict", name, "--image", "photo.png", "--prefix", "", folder=tmp_path)
        assert code == 2, err
        assert re.search(message, err), err
    other = changed(hub, "org/odd-base", edited(hub, "adapter_config.json", base_model_name_or_path="org/other"))
    code, _, err = hub.call(command, "predict", other, "--image", "photo.png", "--prefix", "", folder=tmp_path)
    assert code == 2
    assert "trained on org/other" in err


def test_a_recipe_from_elsewhere_imports_no_code(
    hub: Hub, remote: tuple[Path, str], data: Path, tmp_path: Path
) -> None:
    (tmp_path / "evil_module.py").write_text("open('run', 'w').close()\nfrom pgtune import load_recipe as Thing\n")
    recipe = yaml.safe_load(hub.repo(remote[1]).files["pgtune/recipe.yaml"].content)
    recipe["data"]["adapter"] = "evil_module:Thing"
    name = changed(hub, "org/code", {"pgtune/recipe.yaml": yaml.safe_dump(recipe).encode()})
    words = ("--source", str(data / "test.jsonl"), "--limit", "1")
    code, _, err = hub.call(command, "evaluate", name, *words, folder=tmp_path)
    assert code == 2
    assert "--allow-code" in err
    assert not (tmp_path / "run").exists()
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    words = ("--input", str(tmp_path), "--prefix", "", "--out", str(tmp_path / "out.jsonl"))
    code, _, err = hub.call(command, "predict", name, *words, folder=tmp_path)
    assert not (tmp_path / "run").exists()
    hub.call(command, "evaluate", name, "--source", str(data / "test.jsonl"), "--allow-code", folder=tmp_path)
    assert (tmp_path / "run").exists()


# What is not read at all

def test_repos_that_are_not_read(hub: Hub, remote: tuple[Path, str], tmp_path: Path) -> None:
    index = json.dumps({"weight_map": {"a": "../../../etc/passwd"}}).encode()
    cases: dict[str, tuple[type[PgtuneError], str, dict[str, bytes | None]]] = {
        "pickle": (RunError, "can run code", {"training_args.bin": b"\x80"}),
        "deep-pickle": (RunError, "can run code", {"old/state.PKL": b"\x80"}),
        "outside": (RunError, "points outside", {"../escape.json": b"{}"}),
        "index": (RunError, "not in it", {"model.safetensors.index.json": index}),
        "base": (RunError, "no name on the Hub", edited(hub, "adapter_config.json", base_model_name_or_path="/x/y")),
        "remote-code": (RunError, "auto_map", edited(hub, "processor_config.json", auto_map={"A": "x--y.Z"})),
        "damaged": (ModelError, "damaged", {"adapter_config.json": b"{"}),
        "foreign": (HubError, "was not pushed by pgtune", {"pgtune/recipe.yaml": None}),
    }
    for name, (kind, message, change) in cases.items():
        found = hub.call(fetched, changed(hub, f"org/bad-{name}", change))
        assert type(found) is kind, (name, found)
        assert message in str(found)
    for asked, message in (("org/absent", "is not there"), ("org/adapter@v9", "is not there")):
        found = hub.call(fetched, asked)
        assert type(found) is HubError
        assert message in str(found)
    recipe = yaml.safe_load(hub.repo("org/adapter").files["pgtune/recipe.yaml"].content)
    recipe["model"]["base"] = "../base"
    found = hub.call(fetched, changed(hub, "org/bad-recipe", {"pgtune/recipe.yaml": yaml.safe_dump(recipe).encode()}))
    assert type(found) is RunError
    assert "no name on the Hub" in str(found)


def test_a_download_is_tried_again(hub: Hub, remote: tuple[Path, str]) -> None:
    changed(hub, "org/slow", {})
    hub.fail("GET /api/models/org/slow$", 429, Retry_After="0", times=3)
    hub.fail("HEAD /org/slow/resolve/.*/adapter_config.json", 503, Retry_After="0", times=2)
    found = hub.call(fetched, "org/slow")
    assert not isinstance(found, PgtuneError), found


WEIGHTS = "GET /org/broken-.*/resolve/.*/adapter_model.safetensors"


@pytest.mark.parametrize("fault", ["429", "503", "dropped", "cut", "html"])
def test_a_download_that_fails_is_tried_again(hub: Hub, remote: tuple[Path, str], fault: str) -> None:
    name = changed(hub, f"org/broken-{fault}", {"note.md": fault.encode()})
    # Content of its own: what was fetched before is not fetched again.
    weights = {key: weight * 1.5 for key, weight in weights_of(hub).items()}
    name = changed(hub, name, {"adapter_model.safetensors": save(weights, {"format": fault})})
    hub.clear()
    if fault in ("429", "503"):
        hub.fail(WEIGHTS, int(fault), times=5, Retry_After="7")
    elif fault == "dropped":
        hub.fail(WEIGHTS, None, times=5)
    elif fault == "cut":
        hub.fail(WEIGHTS, None, times=1, cut=True)
    else:
        hub.fail(WEIGHTS, 200, times=5, body=b"<html>log in</html>")
    found, waits = hub.call(downloaded, name)
    assert not isinstance(found, PgtuneError), found
    given = hub.repo(name).files["adapter_model.safetensors"].content
    assert (found / "adapter_model.safetensors").read_bytes() == given
    wanted = {"429": [7.0] * 5, "503": [7.0] * 5, "cut": []}
    assert waits == wanted.get(fault, [1.0, 2.0, 4.0, 8.0, 16.0])


@pytest.mark.parametrize("fault", ["503", "dropped", "html"])
def test_a_download_that_fails_on_and_on_is_exit_code_1(hub: Hub, remote: tuple[Path, str], fault: str) -> None:
    weights = {key: weight * 2 for key, weight in weights_of(hub).items()}
    name = changed(hub, f"org/broken-on-{fault}", {"adapter_model.safetensors": save(weights, {"format": fault})})
    hub.clear()
    if fault == "html":
        hub.fail(WEIGHTS, 200, times=99, body=b"<html>log in</html>")
    else:
        hub.fail(WEIGHTS, 503 if fault == "503" else None, times=99)
    found, waits = hub.call(downloaded, name)
    assert type(found) is TrainingError
    assert found.exit_code == 1
    assert "6 times" in str(found)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert len(hub.asked(WEIGHTS)) == 6


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_download_that_is_refused_is_exit_code_2(hub: Hub, remote: tuple[Path, str], status: int) -> None:
    weights = {key: weight * 3 for key, weight in weights_of(hub).items()}
    name = changed(hub, f"org/broken-{status}", {"adapter_model.safetensors": save(weights, {"format": str(status)})})
    hub.clear()
    hub.fail(WEIGHTS.replace("GET", "(GET|HEAD)"), status, times=99)
    found, waits = hub.call(downloaded, name)
    assert type(found) is HubError
    assert f"status {status}" in str(found)
    assert waits == []


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"", b"[]", b"null", b"{}", b"7"])
def test_an_answer_that_is_not_the_hubs_is_one_message(hub: Hub, remote: tuple[Path, str], body: bytes) -> None:
    hub.clear()
    hub.fail("GET /api/models/org/adapter", 200, times=99, body=body)
    found, _ = hub.call(downloaded, "org/adapter")
    hub.clear()
    assert isinstance(found, HubError)
    assert "cannot be read" in str(found)


def test_what_a_recipe_lacks_is_said(hub: Hub, remote: tuple[Path, str], data: Path, tmp_path: Path) -> None:
    name = changed(hub, "org/lacking", edited(hub, "pgtune/status.json", left_out_arguments=["prefix"]))
    words = ("--source", str(data / "test.jsonl"), "--limit", "1")
    code, _, err = hub.call(command, "evaluate", name, *words, folder=tmp_path)
    assert code == 0, err
    assert "lacks the data adapter's prefix" in err
