"""`pgtune push`: a finished run becomes a repo on the Hub, in one commit, after everything was checked.

What is wrong with the run, the names or the files is found before the Hub is asked anything; what is wrong with token,
rights or the repo before anything is uploaded.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from pgtune.errors import HubError, RunError
from pgtune.hub.asking import ask, client_with_token, refusal_in_words
from pgtune.hub.cards import card_of
from pgtune.hub.contents import Contents, gather
from pgtune.hub.patience import Sleep, retrying
from pgtune.hub.privacy import check_private
from pgtune.hub.published import given_texts
from pgtune.hub.sending import CARD, Sending
from pgtune.names import BASES, HUB_ID
from pgtune.progress import say
from pgtune.run_folder import RunFolder

__all__ = ["check_may_push", "push"]

TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_TOO_MUCH = re.compile(r"--|\.\.|\.git$|[.-]$")
_NO_TAG = re.compile(r"\.\.|\.lock$|\.$|^(head|fetch_head|orig_head|main|refs|[0-9a-f]{40})$", re.IGNORECASE)
"""What git takes for something else, or refuses."""


def push(
    run: Path | str,
    repo_id: str,
    *,
    private: bool = False,
    tag: str | None = None,
    merged: bool = False,
    with_examples: bool = False,
    dry_run: bool = False,
    base: str | None = None,
    sleep: Sleep = time.sleep,
) -> dict[str, Any]:
    """Push a finished run: adapter or model, processor, recipe, scores and card, and none of its data.

    Args:
        repo_id: ``org/name``; made where it is not there, brought up to date where an earlier push made it.
        private: make it a private repo.
        tag: of the commit.
        merged: push the adapter merged into its base.
        with_examples: show rows of the data too.
        dry_run: only say what would be pushed; the Hub is not asked.
        base: the base on the Hub, ``org/name`` or ``org/name@revision``, where the run's base is a folder.
        sleep: what waits before another attempt.

    Returns:
        repo, kind, files (path and size), card; and unless `dry_run` url, commit, tag and private.

    Raises:
        RunError, ModelError: the run is not finished, damaged, or holds what must not leave.
        HubError: no token, no rights, no such name, or a repo that holds something else.
        TrainingError: the Hub failed again and again.
    """
    check_names(repo_id, tag)
    folder = RunFolder(run)
    if merged and (folder.whole or folder.recipe().lora is None):
        raise RunError(f"{run}: --merged has no effect: the run holds all weights itself")
    with tempfile.TemporaryDirectory(prefix="pgtune-push-") as aside, retrying(sleep):
        name = repo_id.partition("/")[2]
        # What is wrong with the run shows before the Hub is asked for the base, and before anything is merged.
        contents = gather(run, name=name, base=base, with_examples=with_examples)
        card = _refuse_private(contents, repo_id)
        revision = contents.revision if dry_run else _base_revision(contents)
        if not dry_run and contents.base not in BASES:
            _check_same_base(Path(folder.recipe().model.base), contents.base, revision)
        whole = Path(aside) / "merged" if merged else None
        if whole is not None:
            from pgtune.merging import merge

            merge(run, whole)
        if whole is not None or revision != contents.revision:
            contents = gather(
                run,
                name=name,
                base=base,
                revision=revision,
                merged=whole,
                with_examples=with_examples,
                checked=whole is None,
            )
            card = _refuse_private(contents, repo_id)
        sizes = {name: contents.size_of(name) for name in contents.files} | {CARD: len(card.encode())}
        result = {
            "repo": repo_id,
            "kind": contents.kind,
            "files": [{"path": name, "size": size} for name, size in sorted(sizes.items())],
            "card": card,
        }
        if dry_run:
            return result
        return {**result, **Sending(repo_id, contents, card, private, tag, sleep).send()}


def check_names(repo_id: str, tag: str | None) -> None:
    """That these can be names on the Hub.

    Raises:
        HubError: they cannot.
    """
    names = repo_id.split("/")
    if not HUB_ID.fullmatch(repo_id) or any(len(name) > 96 or _TOO_MUCH.search(name) for name in names):
        raise HubError(
            f"{repo_id!r} is no name of a repo: expected org/name of letters, digits, - _ and ., each up to 96, no -- "
            "or .., and no - or . at an end"
        )
    if tag is not None and (not TAG.fullmatch(tag) or _NO_TAG.search(tag)):
        raise HubError(
            f"--tag: {tag[:80]!r} is no name of a tag: expected up to 255 letters, digits, - _ and . such as v1.0, and "
            "none that git uses itself (main, HEAD)"
        )


def check_may_push(repo_id: str, tag: str | None) -> None:
    """What can be known before a training that ends in a push: names, and a token that the Hub knows.

    Raises:
        HubError: one is wrong.
    """
    from huggingface_hub.errors import HfHubHTTPError

    check_names(repo_id, tag)
    with retrying():
        api = client_with_token()
        try:
            ask(api.whoami)
        except HfHubHTTPError as error:
            raise refusal_in_words(repo_id, error, "nothing was trained") from error
        except HubError as error:
            raise type(error)(f"{repo_id}: {error}; nothing was trained") from error


def _refuse_private(contents: Contents, repo_id: str) -> str:
    """The card, after a look at it and all files.

    Raises:
        RunError: something must not leave.
    """
    card = card_of(contents, repo_id)
    names = (repo_id, contents.base, contents.recipe.model.adapter)
    public = tuple(name for name in names if name is not None)
    problems = check_private({**contents.files, CARD: card.encode()}, given=given_texts(contents.recipe), public=public)
    if problems:
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise RunError("nothing was pushed; this must not leave the machine:\n  " + "\n  ".join(problems[:10]) + more)
    return card


def _base_revision(contents: Contents) -> str | None:
    """The commit that a base has now, where the run does not know of one: a name alone may mean other weights later.

    Raises:
        HubError: the Hub has no such model, or does not show it to this token.
    """
    from huggingface_hub.errors import HfHubHTTPError

    name, revision = contents.base, contents.revision
    if name in BASES or (revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision)):
        return revision
    try:
        return ask(client_with_token().model_info, name, revision=revision).sha
    except HfHubHTTPError as error:
        raise HubError(
            f"the base {name}{f' at {revision}' if revision else ''} cannot be found on the Hub with this token "
            f"(status {error.response.status_code}); name it with --base org/name, and log in where it is gated"
        ) from error


def _check_same_base(trained_on: Path, name: str, revision: str | None) -> None:
    """That a base in a folder and the one that is named for it hold the same weights, file by file.

    Raises:
        HubError: other ones.
    """
    if not trained_on.is_dir():
        return
    client = client_with_token()
    ours = {file.name: file for file in trained_on.glob("*.safetensors")}
    entries = ask(lambda: list(client.list_repo_tree(name, revision=revision)))
    theirs: dict[str, Any] = {entry.path: entry for entry in entries if entry.path.endswith(".safetensors")}
    if ours.keys() != theirs.keys():
        say(f"warning    --base: {name} has its weights in other files than {trained_on}: not checked to be the same")
        return
    for file_name, file in sorted(ours.items()):
        entry = theirs[file_name]
        same = entry.size == file.stat().st_size
        if same and entry.lfs is not None:
            with open(file, "rb") as opened:
                same = hashlib.file_digest(opened, "sha256").hexdigest() == entry.lfs.sha256
        if not same:
            raise HubError(
                f"--base: {name} holds other weights than {trained_on}, which the run was trained on ({file_name}); "
                "name the model that lies in that folder"
            )
