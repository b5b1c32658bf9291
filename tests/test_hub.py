"""Pushing: through the real client to a real server on loopback, which fails as the Hub can."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import recipe_for, write_rows
from hub_client import CANARY_OF_THE_ENVIRONMENT, command, pushed
from hub_server import READER, STRANGER, TOKEN, Hub
from PIL import Image, PngImagePlugin

from pgtune.errors import HubError, ModelError, PgtuneError, RunError, TrainingError

CANARIES = {
    name: f"canary{number}{name}"
    for number, name in enumerate(("picture", "prefix", "suffix", "metadata", "group", "place"))
}


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the base tiny, of data that holds a canary wherever data can hold something."""
    from pgtune import train

    folder = tmp_path_factory.mktemp("secret") / CANARIES["place"]
    folder.mkdir()
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", CANARIES["picture"])
    rows = []
    for number in range(6):
        picture = Image.new("RGB", (16, 16), (number * 40, 9, 99))
        picture.save(folder / f"{CANARIES['picture']}-{number}.png", pnginfo=note)
        rows.append({
            "image": f"{CANARIES['picture']}-{number}.png",
            "prefix": f"{CANARIES['prefix']} what?",
            "suffix": f"{CANARIES['suffix']}",
            "metadata": {"note": CANARIES["metadata"], "PatientName": CANARIES["metadata"]},
            "part": CANARIES["metadata"],
            "question_type": CANARIES["metadata"],
            "groups": {"patient": CANARIES["group"]},
        })  # fmt: skip
    train_file, test_file = write_rows(folder / "train.jsonl", rows[:4]), write_rows(folder / "test.jsonl", rows[4:])
    more = [f"data.train={train_file}", f"data.test={test_file}", f"data.root={folder}", "train.max_steps=1"]
    more += ["train.batch_size=2", "eval.max_new_tokens=2", "tracking=none", "train.learning_rate=0.01"]
    train(recipe_for("tiny", folder, folder / "run", *more))
    return folder / "run"


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory, small_bases: dict[str, Path], data: Path) -> Path:
    """A finished run of all weights, on a base that is a folder."""
    from pgtune import train

    run = tmp_path_factory.mktemp("full") / "run"
    train(recipe_for(small_bases["paligemma"], data, run, "train.max_steps=1", "train.learning_rate=1e-4", lora=None))
    return run


@pytest.fixture
def fresh(hub: Hub, request: pytest.FixtureRequest) -> str:
    """The id of a repo that is not there, and a Hub without faults."""
    hub.clear()
    return "org/" + re.sub(r"\W+", "-", request.node.name).strip("-")[:60]


def refused(hub: Hub, kind: type[PgtuneError], *args: Any, **kwargs: Any) -> str:
    """The message of a push that is refused."""
    result, _ = hub.call(pushed, *args, **kwargs)
    assert type(result) is kind, result
    return str(result)


def test_a_run_becomes_a_repo_in_one_commit(hub: Hub, fresh: str, tiny_run: Path) -> None:
    code, out, err = hub.call(command, "push", str(tiny_run), fresh, "--tag", "v1", "--json")
    assert code == 0, err
    repo, said = hub.repo(fresh), json.loads(out)
    assert [title for _, title, _ in repo.commits] == ["initial commit", "Push adapter with pgtune"]
    assert repo.tags == {"v1": repo.head}
    assert not repo.private
    assert said["commit"] == repo.head
    assert said["url"] == f"{hub.url}/{fresh}"
    names = {"README.md", "adapter_config.json", "adapter_model.safetensors", "processor_config.json", "tokenizer.json"}
    names |= {"tokenizer_config.json", *(f"pgtune/{name}" for name in OWN_FILES)}
    assert repo.files.keys() == names | {".gitattributes"}
    assert {file["path"] for file in said["files"]} == names
    weights = (tiny_run / "adapter" / "adapter_model.safetensors").read_bytes()
    assert repo.files["adapter_model.safetensors"].content == weights
    config = json.loads(repo.files["adapter_config.json"].content)
    assert (config["base_model_name_or_path"], config["revision"]) == ("tiny", None)


OWN_FILES = ("recipe.yaml", "metrics.json", "status.json", "overlaps.json")


def test_pushing_again_updates_the_repo_and_nothing_new_is_no_commit(hub: Hub, fresh: str, tiny_run: Path) -> None:
    repo = hub.put(fresh, {})
    first, _ = hub.call(pushed, tiny_run, fresh)
    again, _ = hub.call(pushed, tiny_run, fresh)
    assert again["commit"] == first["commit"] == repo.head
    assert len(repo.commits) == 2
    shown, _ = hub.call(pushed, tiny_run, fresh, with_examples=True)
    assert "pgtune/examples.jsonl" in repo.files
    assert shown["commit"] == repo.head
    hub.call(pushed, tiny_run, fresh)
    assert "pgtune/examples.jsonl" not in repo.files
    assert len(repo.commits) == 4


def test_a_private_repo_is_made_private(hub: Hub, fresh: str, tiny_run: Path) -> None:
    result, _ = hub.call(pushed, tiny_run, fresh, private=True)
    assert result["private"]
    assert hub.repo(fresh).private
    hub.repo(fresh).private = False
    assert "public" in refused(hub, HubError, tiny_run, fresh, private=True)


def test_a_dry_run_shows_all_and_asks_nothing(hub: Hub, fresh: str, tiny_run: Path, full_run: Path) -> None:
    code, out, _ = hub.call(command, "push", str(tiny_run), fresh, "--dry-run", token=None)
    assert code == 0
    assert "adapter_model.safetensors" in out
    assert "model-index:" in out
    assert "not on the Hub" in out
    assert hub.call(command, "push", str(full_run), fresh, "--dry-run", "--base", "org/base")[0] == 0
    assert not hub.received
    assert ("model", fresh) not in hub.repos


def test_nothing_private_leaves(hub: Hub, fresh: str, tiny_run: Path) -> None:
    hub.call(pushed, tiny_run, fresh, tag="v1")
    texts = [*CANARIES.values(), CANARY_OF_THE_ENVIRONMENT, str(tiny_run), str(Path.home()), str(Path.cwd()), TOKEN]
    sent = [one.body for one in hub.received]
    for one in hub.received:
        sent.append(f"{one.path} {[v for k, v in one.headers.items() if k.lower() != 'authorization']}".encode())
    kept = [name.encode() + file.content for _, _, files in hub.repo(fresh).commits for name, file in files.items()]
    for text in texts:
        assert not any(text.encode() in content for content in [*sent, *kept]), text
    tokenizer = hub.repo(fresh).files["tokenizer.json"].content
    for text in ("exp_avg", "optimizer.safetensors", "step-0", "PatientName"):
        assert not any(text.encode() in content for content in kept if tokenizer not in content), text


def test_with_examples_rows_of_the_data_are_shown(hub: Hub, fresh: str, tiny_run: Path) -> None:
    hub.call(pushed, tiny_run, fresh, with_examples=True)
    files = hub.repo(fresh).files
    rows = [json.loads(line) for line in files["pgtune/examples.jsonl"].content.decode().splitlines()]
    assert rows[0]["prefix"] == f"{CANARIES['prefix']} what?"
    assert "image" not in rows[0]
    assert "where" not in rows[0]
    assert files["pgtune/predictions.png"].content == (tiny_run / "predictions.png").read_bytes()
    assert CANARIES["suffix"] in files["README.md"].content.decode()
    everything = b"".join(file.content for file in files.values())
    for name in ("metadata", "group", "place"):
        assert CANARIES[name].encode() not in everything


def test_credentialed_data_is_never_shown(hub: Hub, fresh: str, tiny_run: Path, tmp_path: Path) -> None:
    run = changed_recipe(tiny_run, tmp_path, lambda recipe: recipe["data"].update(adapter="mimic_cxr"))
    assert "PhysioNet" in refused(hub, RunError, run, fresh, with_examples=True)
    assert not hub.received
    assert not isinstance(hub.call(pushed, run, fresh)[0], PgtuneError)


def changed_recipe(run: Path, folder: Path, change: Any) -> Path:
    """A copy of a run with another recipe."""
    copy = folder / "run"
    shutil.copytree(run, copy)
    recipe = yaml.safe_load((copy / "recipe.yaml").read_text())
    change(recipe)
    (copy / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return copy


def test_a_recipe_leaves_its_places_behind(hub: Hub, fresh: str, tiny_run: Path, tmp_path: Path) -> None:
    run = changed_recipe(tiny_run, tmp_path, lambda recipe: recipe["data"].update(adapter_args={"image": "image"}))
    hub.call(pushed, run, fresh)
    recipe = yaml.safe_load(hub.repo(fresh).files["pgtune/recipe.yaml"].content)
    assert recipe["data"]["train"]["source"] == "train.jsonl"
    assert recipe["data"]["root"] is None
    assert recipe["data"]["adapter_args"] == {"image": "image"}
    assert recipe["output_dir"] == f"runs/{fresh.partition('/')[2]}"
    assert recipe["versions"]["device"].startswith("CPU")


def test_what_must_not_leave_ends_the_push(hub: Hub, fresh: str, tiny_run: Path, tmp_path: Path) -> None:
    secret = "hf_" + "x" * 30
    file = f"/data/train_{secret}.jsonl"
    run = changed_recipe(tiny_run, tmp_path, lambda recipe: recipe["data"]["train"].update(source=file))
    said = refused(hub, RunError, run, fresh)
    assert "pgtune/recipe.yaml: a Hugging Face token" in said
    assert not hub.received


# What the Hub can do to a request

REQUESTS = {
    "whoami": "GET /api/whoami-v2",
    "look": "GET /api/models/{repo}$",
    "create": "POST /api/repos/create",
    "refs": "GET /api/models/{repo}/refs",
    "card": "POST /api/validate-yaml",
    "preupload": "POST /api/models/{repo}/preupload/main",
    "batch": "POST /{repo}.git/info/lfs/objects/batch",
    "upload": "PUT /lfs/",
    "verify": "POST /lfs/verify",
    "commit": "POST /api/models/{repo}/commit/main",
    "tag": "POST /api/models/{repo}/tag/",
}


def forget_objects(hub: Hub) -> None:
    """Let files be uploaded that were uploaded before."""
    hub.objects.clear()


@pytest.mark.parametrize("request_", REQUESTS)
def test_every_request_is_tried_again(hub: Hub, fresh: str, tiny_run: Path, request_: str) -> None:
    forget_objects(hub)
    pattern = REQUESTS[request_].format(repo=fresh)
    hub.fail(pattern, 429, Retry_After="7")
    hub.fail(pattern, 503)
    hub.fail(pattern, None)
    hub.fail(pattern, 500)
    hub.fail(pattern, 502)
    result, waits = hub.call(pushed, tiny_run, fresh, tag="v1")
    assert not isinstance(result, PgtuneError), result
    backoff = [1.0, 2.0, 4.0, 8.0] if request_ == "commit" else [2.0, 4.0, 8.0, 16.0]  # of its own: it looks between
    assert waits == [7.0, *backoff]
    repo = hub.repo(fresh)
    assert len(repo.commits) == 2
    assert repo.tags == {"v1": repo.head}


@pytest.mark.parametrize("request_", ["create", "preupload", "upload", "commit", "tag"])
def test_a_hub_that_fails_on_and_on_is_exit_code_1(hub: Hub, fresh: str, tiny_run: Path, request_: str) -> None:
    forget_objects(hub)
    hub.fail(REQUESTS[request_].format(repo=fresh), 503, times=1000)
    result, waits = hub.call(pushed, tiny_run, fresh, tag="v1")
    assert type(result) is TrainingError
    assert result.exit_code == 1
    assert "6 times" in str(result)
    assert len(waits) == (6 if request_ == "commit" else 5)
    commits = len(hub.repo(fresh).commits) if ("model", fresh) in hub.repos else 0
    assert commits == {"create": 0, "tag": 2}.get(request_, 1)


def test_a_hub_that_asks_for_hours_is_not_waited_for(hub: Hub, fresh: str, tiny_run: Path) -> None:
    hub.fail("whoami", 429, Retry_After="7200")
    result, waits = hub.call(pushed, tiny_run, fresh)
    assert type(result) is TrainingError
    assert "7200 s" in str(result)
    assert waits == []


def test_the_wait_that_a_commit_is_asked_for(hub: Hub, fresh: str, tiny_run: Path) -> None:
    hub.fail("/commit/", 503, Retry_After="30")
    result, waits = hub.call(pushed, tiny_run, fresh)
    assert not isinstance(result, PgtuneError), result
    assert waits == [30.0]
    hub.fail("/commit/", 503, Retry_After="7200")
    result, waits = hub.call(pushed, tiny_run, f"{fresh}-2")
    assert type(result) is TrainingError
    assert "7200 s" in str(result)


@pytest.mark.parametrize("status", [None, 504])
def test_a_commit_whose_answer_was_lost_is_not_sent_twice(
    hub: Hub, fresh: str, tiny_run: Path, status: int | None
) -> None:
    hub.fail("/commit/", status, late=True)
    result, _ = hub.call(pushed, tiny_run, fresh)
    assert result["commit"] == hub.repo(fresh).head
    assert len(hub.asked("/commit/")) == 1
    assert len(hub.repo(fresh).commits) == 2


@pytest.mark.parametrize("request_", ["create", "tag", "upload"])
def test_other_answers_that_are_lost_do_no_harm(hub: Hub, fresh: str, tiny_run: Path, request_: str) -> None:
    forget_objects(hub)
    hub.fail(REQUESTS[request_].format(repo=fresh), None, late=True)
    result, _ = hub.call(pushed, tiny_run, fresh, tag="v1")
    assert not isinstance(result, PgtuneError), result
    assert len(hub.repo(fresh).commits) == 2
    assert hub.repo(fresh).tags == {"v1": hub.repo(fresh).head}


def test_a_commit_of_somebody_else_is_not_overwritten(hub: Hub, fresh: str, tiny_run: Path) -> None:
    hub.call(pushed, tiny_run, fresh)
    hub.before("/commit/", lambda: hub.put(fresh, {"note.md": b"mine"}))
    result, _ = hub.call(pushed, tiny_run, fresh, with_examples=True)
    assert type(result) is TrainingError
    assert "somebody else changed it" in str(result)
    assert hub.repo(fresh).files.keys() == {"note.md"}


def test_a_conflict_that_is_none_is_tried_again(hub: Hub, fresh: str, tiny_run: Path) -> None:
    hub.call(pushed, tiny_run, fresh)
    hub.fail("/commit/", 409)
    head = hub.repo(fresh).head
    result, _ = hub.call(pushed, tiny_run, fresh, with_examples=True)
    assert result["commit"] == hub.repo(fresh).head != head


# What is refused

def test_who_may_not_push(hub: Hub, fresh: str, tiny_run: Path) -> None:
    assert "no token" in refused(hub, HubError, tiny_run, fresh, token=None)
    assert not hub.received
    assert "does not know this token" in refused(hub, HubError, tiny_run, fresh, token="hf_wrong")
    for token in (READER, STRANGER):
        assert "may not write to org" in refused(hub, HubError, tiny_run, fresh, token=token)
    assert ("model", fresh) not in hub.repos
    hub.put(fresh, {})
    assert "may not write to org" in refused(hub, HubError, tiny_run, fresh, token=READER)
    assert len(hub.repo(fresh).commits) == 1
    assert not hub.asked("PUT|/commit/")


@pytest.mark.parametrize("status", [401, 403])
def test_a_right_that_is_lacking_at_the_commit(hub: Hub, fresh: str, tiny_run: Path, status: int) -> None:
    hub.fail("/commit/", status)
    assert "nothing was pushed" in refused(hub, HubError, tiny_run, fresh)
    assert hub.repo(fresh).files.keys() == {".gitattributes"}


@pytest.mark.parametrize("status", [401, 403, 409])
def test_an_upload_that_is_refused(hub: Hub, fresh: str, tiny_run: Path, status: int) -> None:
    forget_objects(hub)
    hub.fail("PUT /lfs/", status, times=9)
    # The Hub calls a head that has moved 409 as well: it is tried again.
    said = refused(hub, TrainingError if status == 409 else HubError, tiny_run, fresh)
    assert "nothing was pushed" in said
    assert hub.repo(fresh).files.keys() == {".gitattributes"}


ODD = {"html": b"<html>log in</html>", "empty": b"", "list": b"[]", "object": b"{}", "number": b"7"}


@pytest.mark.parametrize("request_", ["whoami", "look", "create", "refs", "batch", "preupload", "commit"])
@pytest.mark.parametrize("odd", ODD)
def test_an_answer_that_is_not_the_hubs(hub: Hub, fresh: str, tiny_run: Path, request_: str, odd: str) -> None:
    forget_objects(hub)
    if request_ in ("refs", "batch", "preupload", "commit"):
        hub.put(fresh, {})
    hub.fail(REQUESTS[request_].format(repo=fresh), 200, times=99, body=ODD[odd])
    result, waits = hub.call(pushed, tiny_run, fresh, tag="v1")
    if isinstance(result, PgtuneError):  # some bodies mean nothing to the client, which asks for none of them
        assert isinstance(result, HubError)
        assert "nothing was pushed" in str(result)
        assert hub.repos.get(("model", fresh)) is None or len(hub.repo(fresh).commits) == 1
    assert waits == []


@pytest.mark.parametrize("status", [300, 302])
def test_a_redirection_to_nowhere(hub: Hub, fresh: str, tiny_run: Path, status: int) -> None:
    for request_ in ("look", "create", "commit"):
        hub.clear()
        hub.fail(REQUESTS[request_].format(repo=fresh), status, times=99)
        assert "cannot be read" in str(hub.call(pushed, tiny_run, fresh)[0])


def test_an_odd_answer_to_a_commit_that_was_made(hub: Hub, fresh: str, tiny_run: Path) -> None:
    hub.fail("/commit/", 200, late=True, body=b"<html>")
    result, _ = hub.call(pushed, tiny_run, fresh)
    assert not isinstance(result, PgtuneError), result
    assert result["commit"] == hub.repo(fresh).head
    assert len(hub.repo(fresh).commits) == 2


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"HF_ENDPOINT": "not a url"}, "HF_ENDPOINT"),
        ({"HTTP_PROXY": "nonsense://x", "http_proxy": "nonsense://x", "NO_PROXY": "", "no_proxy": ""}, "HTTP_PROXY"),
        ({"HF_TOKEN": "hf_\u00e9\u00e9"}, "no token has"),
    ],
    ids=["endpoint", "proxy", "token"],
)
def test_an_environment_in_which_the_hub_cannot_be_asked(
    hub: Hub, tiny_run: Path, environment: dict[str, str], message: str
) -> None:
    given = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "NO_PROXY": "127.0.0.1"}
    words = [sys.executable, "-m", "pgtune", "push", str(tiny_run), "org/nowhere"]
    found = subprocess.run(words, env=given | environment, capture_output=True, text=True, check=False)
    assert found.returncode == 2, found.stderr
    assert message in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    "name",
    ["plain", "org/", "/name", "org/name/more", "org/a--b", "org/-a", "org/a.git", "o rg/a", "org/" + 97 * "a"],
)
def test_names_that_are_none(hub: Hub, fresh: str, tiny_run: Path, name: str) -> None:
    code, _, err = hub.call(command, "push", str(tiny_run), name)
    assert code == 2
    assert "is no name of a repo" in err
    assert not hub.received


def test_tags_that_are_none_or_taken(hub: Hub, fresh: str, tiny_run: Path) -> None:
    for none in ("a b", "main", "HEAD", "v1.lock", "v1.", "a..b", "@{", "-v", "\u00e9", "a" * 256, "a\n", "0a" * 20):
        assert "no name of a tag" in refused(hub, HubError, tiny_run, fresh, tag=none)
    assert not hub.received
    hub.call(pushed, tiny_run, fresh, tag="v1")
    assert "has a tag v1 already" in refused(hub, HubError, tiny_run, fresh, tag="v1", with_examples=True)
    assert len(hub.repo(fresh).commits) == 2


def test_a_tag_that_somebody_else_makes_meanwhile(hub: Hub, fresh: str, tiny_run: Path) -> None:
    hub.before("POST .*/tag/", lambda: hub.repo(fresh).tags.update(v1=hub.repo(fresh).commits[0][0]))
    result, _ = hub.call(pushed, tiny_run, fresh, tag="v1")
    assert type(result) is TrainingError
    assert "the files are there" in str(result)
    assert "the tag v1 points at" in str(result)
    assert len(hub.repo(fresh).commits) == 2


def test_repos_that_hold_something_else(hub: Hub, fresh: str, tiny_run: Path) -> None:
    hub.put(fresh, {"pytorch_model.bin": b"x", "config.json": b"{}"})
    assert "was not pushed by pgtune" in refused(hub, HubError, tiny_run, fresh)
    hub.put(f"{fresh}-m", {"config.json": b"{}", "model.safetensors": b"x", "pgtune/status.json": b"{}"})
    assert "holds all weights" in refused(hub, HubError, tiny_run, f"{fresh}-m")
    assert all(len(hub.repo(name).commits) == 1 for name in (fresh, f"{fresh}-m"))
    assert not hub.asked("PUT|/commit/")


def test_a_name_that_belongs_to_a_dataset(hub: Hub, fresh: str, tiny_run: Path) -> None:
    hub.put(fresh, {"data.csv": b"x"}, kind="dataset")
    hub.fail("POST /api/repos/create", 409)
    assert "no model repo" in refused(hub, HubError, tiny_run, fresh)
    assert not hub.asked("PUT|/commit/")


def test_a_base_that_is_a_folder_needs_a_name(
    hub: Hub, fresh: str, full_run: Path, small_bases: dict[str, Path]
) -> None:
    assert "--base org/name" in refused(hub, HubError, full_run, fresh)
    assert not hub.received
    assert "is not org/name" in refused(hub, HubError, full_run, fresh, base="./base")
    assert "cannot be found on the Hub" in refused(hub, HubError, full_run, fresh, base="org/absent")
    assert ("model", fresh) not in hub.repos
    base = hub.put("org/base1", {"config.json": (small_bases["paligemma"] / "config.json").read_bytes()})
    result, _ = hub.call(pushed, full_run, fresh, base="org/base1")
    assert result["kind"] == "full"
    files = hub.repo(fresh).files
    assert {"config.json", "model.safetensors", "README.md", "pgtune/recipe.yaml"} <= files.keys()
    recipe = yaml.safe_load(files["pgtune/recipe.yaml"].content)
    assert (recipe["model"]["base"], recipe["model"]["revision"]) == ("org/base1", base.head)
    assert not any(str(small_bases["paligemma"]).encode() in file.content for file in files.values())


def test_runs_that_are_no_finished_ones(hub: Hub, fresh: str, tiny_run: Path, tmp_path: Path) -> None:
    assert "does not exist" in refused(hub, RunError, tmp_path / "absent", fresh)
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps({**status, "state": "running"}))
    assert "has not finished" in refused(hub, RunError, run, fresh)
    (run / "status.json").write_text(json.dumps(status))
    weights = run / "adapter" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[:-9], whole[:4], b"", whole[:-4] + b"\x00\x00\xc0\x7f"):
        weights.write_bytes(damaged)
        assert "damaged" in refused(hub, ModelError, run, fresh)
    weights.write_bytes(whole)
    (run / "metrics.json").write_text("{")
    assert "damaged" in refused(hub, RunError, run, fresh)
    assert not hub.received


def test_the_exit_code_of_what_is_refused(hub: Hub, fresh: str, tiny_run: Path, full_run: Path) -> None:
    assert hub.call(command, "push", str(tiny_run), fresh, token=None)[0] == 2
    assert hub.call(command, "push", str(full_run), fresh)[0] == 2
    assert hub.call(command, "push", str(full_run), fresh, "--merged", "--base", "org/base1")[0] == 2


def test_a_training_may_end_in_a_push(hub: Hub, fresh: str, data: Path, tmp_path: Path) -> None:
    more = ("train.max_steps=1", "eval.before=false", f"hub.push_to={fresh}")
    recipe = recipe_for("tiny", data, tmp_path / "run", *more)
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    code, _, err = hub.call(command, "train", str(file), token=None)
    assert code == 2
    assert "no token" in err
    code, _, err = hub.call(command, "train", str(file), token="hf_wrong")
    assert code == 2
    assert "does not know this token: log in anew with `hf auth login`, or check HF_TOKEN; nothing was trained" in err
    assert not (tmp_path / "run").exists()
    hub.fail("/commit/", 403)
    code, _, err = hub.call(command, "train", str(file))
    assert code == 2
    assert "the run is finished, but was not pushed" in err
    assert f"pgtune push {tmp_path / 'run'} {fresh}" in err
    hub.fail("/commit/", 403)
    more = ("hub.private=true", "hub.tag=v1", "hub.with_examples=true", "data.test=" + str(data / "test.jsonl"))
    more += (f"hub.push_to={fresh}-private",)
    code, _, err = hub.call(command, "train", str(file), *more, "--overwrite")
    assert code == 2
    again = err.strip().splitlines()[-1].removeprefix("push it with: ")
    assert again == f"pgtune push {tmp_path / 'run'} {fresh}-private --private --with-examples --tag v1"
    code, _, err = hub.call(command, *again.split()[1:])
    assert code == 0, err
    assert hub.repo(f"{fresh}-private").private
    assert hub.repo(f"{fresh}-private").tags == {"v1": hub.repo(f"{fresh}-private").head}
    assert "pgtune/examples.jsonl" in hub.repo(f"{fresh}-private").files
    code, _, err = hub.call(command, "train", str(file), "--overwrite")
    assert code == 0
    assert "pushed" in err
    assert "adapter_model.safetensors" in hub.repo(fresh).files


