"""`pgtune push`: a finished run becomes a repo on the Hub, in one commit, after everything was checked.

What is wrong with the run, the names or the files is found before the Hub is asked anything; what is wrong with token,
rights or the repo before anything is uploaded.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgtune.errors import HubError, PgtuneError, RunError, TrainingError
from pgtune.hub.cards import card_of
from pgtune.hub.contents import Contents, gather
from pgtune.hub.patience import ATTEMPTS, Sleep, Unclear, retrying
from pgtune.hub.privacy import check_private
from pgtune.names import BASES, HUB_ID
from pgtune.progress import say
from pgtune.run_folder import OWN, RunFolder

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

__all__ = ["check_may_push", "push"]

CARD = "README.md"
TAG = re.compile(r"[A-Za-z0-9][\w.-]*")
_TOO_MUCH = re.compile(r"--|\.\.|\.git$|[.-]$")


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
        revision = None if dry_run else _base_revision(folder, base)
        whole = Path(aside) / "merged" if merged else None
        # Without the merged weights first: what is wrong with the run shows before they are made.
        contents = gather(run, name=_name(repo_id), base=base, revision=revision, with_examples=with_examples)
        _refuse_private(contents, repo_id)
        if whole is not None:
            from pgtune.merging import merge

            merge(run, whole)
            contents = gather(
                run, name=_name(repo_id), base=base, revision=revision, merged=whole, with_examples=with_examples
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
        try:
            return {**result, **_Push(repo_id, contents, card, private, tag, sleep).send()}
        except RuntimeError as error:  # the client wraps what happens in its threads
            if isinstance(error.__cause__, PgtuneError):
                raise error.__cause__ from None
            raise


def _name(repo_id: str) -> str:
    return repo_id.partition("/")[2]


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
    if tag is not None and (not TAG.fullmatch(tag) or _TOO_MUCH.search(tag)):
        raise HubError(f"--tag: {tag!r} is no name of a tag: expected letters, digits, - _ and . such as v1.0")


def check_may_push(repo_id: str, tag: str | None) -> None:
    """What can be known before a training that ends in a push: names, and a token that the Hub knows.

    Raises:
        HubError: one is wrong.
    """
    check_names(repo_id, tag)
    with retrying():
        _api().whoami()


def _api() -> HfApi:
    """The client, with the user's token.

    Raises:
        HubError: there is none.
    """
    from huggingface_hub import HfApi, get_token, is_offline_mode

    if is_offline_mode():
        raise HubError("the Hub is switched off by HF_HUB_OFFLINE; unset it to push")
    token = get_token()
    if token is None:
        raise HubError(
            "there is no token to push with: log in with `hf auth login`, or set HF_TOKEN, with a token that may write "
            "(https://huggingface.co/settings/tokens)"
        )
    return HfApi(token=token, library_name="pgtune")


def _refuse_private(contents: Contents, repo_id: str) -> str:
    """The card, after a look at it and all files.

    Raises:
        RunError: something must not leave.
    """
    card = card_of(contents, repo_id)
    names = (repo_id, contents.base, contents.recipe.model.adapter)
    public = tuple(name for name in names if name is not None)
    problems = check_private({**contents.files, CARD: card.encode()}, public=public)
    if problems:
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise RunError("nothing was pushed; this must not leave the machine:\n  " + "\n  ".join(problems[:10]) + more)
    return card


def _base_revision(folder: RunFolder, base: str | None) -> str | None:
    """The commit that a base has now, where the run does not know of one: a name alone may mean other weights later.

    Raises:
        HubError: the Hub has no such model, or does not show it to this token.
    """
    from huggingface_hub.errors import HfHubHTTPError

    from pgtune.hub.contents import named_base

    name, revision = named_base(folder, folder.recipe(), base)
    if name in BASES or (revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision)):
        return revision
    try:
        return _api().model_info(name, revision=revision).sha
    except HfHubHTTPError as error:
        raise HubError(
            f"the base {name}{f' at {revision}' if revision else ''} cannot be found on the Hub with this token "
            f"(status {error.response.status_code}); name it with --base org/name, and log in where it is gated"
        ) from error


@dataclass
class _Push:
    """One push, on its way."""

    repo_id: str
    contents: Contents
    card: str
    private: bool
    tag: str | None
    sleep: Sleep

    def send(self) -> dict[str, Any]:
        """All of it; what is returned says where it lies."""
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        self.api = _api()
        self.done = "nothing was pushed"
        try:
            there = self._repo()
            head, operations = self._operations(there)
            commit = self._commit(operations, head)
            self.done = f"the files are there (commit {commit[:12]}), the tag is not"
            if self.tag is not None:
                self.api.create_tag(self.repo_id, tag=self.tag, revision=commit, exist_ok=True)
        except HfHubHTTPError as error:
            raise self._in_words(error) from error
        except (OfflineModeIsEnabled, ValueError) as error:
            raise HubError(f"{self.repo_id}: {' '.join(str(error).split())[:300]}; {self.done}") from error
        info = self.api.model_info(self.repo_id)
        url = f"{self.api.endpoint}/{self.repo_id}"
        return {"url": url, "commit": commit, "tag": self.tag, "private": bool(info.private)}

    def _repo(self) -> Any:
        """The repo, made where it was not there.

        Raises:
            HubError: it holds something else.
        """
        from huggingface_hub.errors import HfHubHTTPError

        self.api.whoami()  # a bad token is told as such, not as a repo that is missing
        try:
            found = self.api.model_info(self.repo_id)
        except HfHubHTTPError as error:
            if error.response.status_code not in (401, 404):
                raise
            try:
                self.api.create_repo(self.repo_id, private=self.private)
            except HfHubHTTPError as refused:  # 409: it is there, made by a request whose answer was lost
                if refused.response.status_code != 409:
                    raise
            try:
                return self.api.model_info(self.repo_id)
            except HfHubHTTPError as again:
                raise HubError(
                    f"{self.repo_id}: the Hub has something of this name that is no model repo, or that this token may "
                    f"not see (status {again.response.status_code}); name another; {self.done}"
                ) from again
        if self.private and not found.private:
            raise HubError(
                f"{self.repo_id} is there and public, so that --private would change nothing; make it private on the "
                f"Hub, or name another; {self.done}"
            )
        return found

    def _operations(self, there: Any) -> tuple[str, list[CommitOperationAdd | CommitOperationDelete]]:
        """The head, and what is done to it: all files, and away with those that an earlier push had and this has not.

        Raises:
            HubError: the repo holds something else, or has the tag already.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        names = {entry.rfilename for entry in there.siblings or ()}
        ours = f"{OWN}/status.json" in names
        others = names - {".gitattributes", CARD, "LICENSE", ".gitignore"}
        if others and not ours:
            raise HubError(
                f"{self.repo_id} is there and was not pushed by pgtune (it holds {sorted(others)[0]}); name another; "
                f"{self.done}"
            )
        kind = "adapter" if "adapter_config.json" in names else "model" if "config.json" in names else None
        new = "adapter" if self.contents.kind == "adapter" else "model"
        if ours and kind not in (None, new):
            raise HubError(
                f"{self.repo_id} is there and holds {_A[str(kind)]}, and this is {_A[new]}: who loads it would get "
                f"something else; name another; {self.done}"
            )
        tags = {found.name for found in self.api.list_repo_refs(self.repo_id).tags} if self.tag else set()
        if self.tag in tags:
            raise HubError(f"--tag: {self.repo_id} has a tag {self.tag} already; name another; {self.done}")
        files: dict[str, Path | bytes] = {**self.contents.files, CARD: self.card.encode()}
        stale = sorted(name for name in others - files.keys() if name.startswith(f"{OWN}/") or _OURS.fullmatch(name))
        adds = [CommitOperationAdd(name, str(of) if isinstance(of, Path) else of) for name, of in sorted(files.items())]
        return there.sha, [*adds, *(CommitOperationDelete(name) for name in stale)]

    def _commit(self, operations: list[Any], head: str) -> str:
        """One commit on top of `head`; where its answer is lost, the head says whether it was made.

        Raises:
            TrainingError: the Hub failed again and again, or somebody else was faster.
        """
        from huggingface_hub.errors import HfHubHTTPError

        message = f"Push {self.contents.kind} with pgtune"
        why = ""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                made = self.api.create_commit(self.repo_id, operations, commit_message=message, parent_commit=head)
            except Unclear as error:
                why = str(error)
            except HfHubHTTPError as error:
                if error.response.status_code not in (409, 412):  # the head is another
                    raise
                why = f"status {error.response.status_code}"
            else:
                return str(made.oid)
            self.sleep(float(2 ** (attempt - 1)))
            now = self.api.model_info(self.repo_id).sha
            if now != head:
                if self._holds(str(now), operations):
                    say(f"hub        the answer to the commit was lost ({why}), but it is there")
                    return str(now)
                raise TrainingError(f"{self.repo_id}: somebody else changed it meanwhile; {self.done}; push again")
            if attempt < ATTEMPTS:
                say(f"hub        commit: {why}; it was not made; attempt {attempt + 1} of {ATTEMPTS}")
        raise TrainingError(f"the Hub failed {ATTEMPTS} times at the commit ({why}); {self.done}; try again later")

    def _holds(self, commit: str, operations: list[Any]) -> bool:
        """Whether a commit has exactly these files' contents."""
        tree = self.api.list_repo_tree(self.repo_id, recursive=True, revision=commit)
        found = {entry.path: entry for entry in tree if hasattr(entry, "blob_id")}
        for operation in operations:
            entry: Any = found.get(operation.path_in_repo)
            if not hasattr(operation, "as_file"):
                if entry is not None:
                    return False
                continue
            if entry is None:
                return False
            with operation.as_file() as file:
                if entry.lfs is not None:
                    same = hashlib.file_digest(file, "sha256").hexdigest() == entry.lfs.sha256
                else:
                    content = file.read()
                    same = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == entry.blob_id
            if not same:
                return False
        return True

    def _in_words(self, error: Any) -> PgtuneError:
        """What the Hub refused, and what helps."""
        status = error.response.status_code
        said = " ".join((error.server_message or "").split())[:200]
        said = f" The Hub said: {said}" if said else ""
        if status == 401:
            what = "the Hub does not know this token: log in anew with `hf auth login`, or check HF_TOKEN"
        elif status in (402, 403):
            owner = self.repo_id.partition("/")[0]
            what = f"this token may not write to {owner}: it needs the right to write, and its user a place in {owner}"
        else:
            what = f"the Hub refused it (status {status})"
        return HubError(f"{self.repo_id}: {what}; {self.done}.{said}")


_A = {"adapter": "an adapter", "model": "all weights of a model"}
_OURS = re.compile(r"adapter_[\w.]+|(generation_)?config\.json|model[\w.-]*\.safetensors(\.index\.json)?")
