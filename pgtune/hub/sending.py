"""What was gathered and looked through is sent: the repo, one commit, its tag; and it is known what became of each."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgtune.errors import HubError, TrainingError
from pgtune.hub.asking import OddAnswer, ask, client_with_token, refusal_in_words
from pgtune.hub.contents import Contents
from pgtune.hub.patience import ATTEMPTS, Sleep, Unclear, wait_before
from pgtune.progress import say
from pgtune.run_folder import OWN

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

__all__ = ["CARD", "Sending"]

CARD = "README.md"
_A = {"adapter": "an adapter", "model": "all weights of a model"}
_OURS = re.compile(r"adapter_[\w.]+|(generation_)?config\.json|model[\w.-]*\.safetensors(\.index\.json)?")


@dataclass
class Sending:
    """One push, on its way."""

    repo_id: str
    contents: Contents
    card: str
    private: bool
    tag: str | None
    sleep: Sleep

    def send(self) -> dict[str, Any]:
        """All of it; what is returned says where it lies.

        Raises:
            HubError: the Hub refused, or does not answer as the Hub does. TrainingError: it failed again and again.
        """
        from huggingface_hub.errors import HfHubHTTPError

        self.api = client_with_token()
        self.done = "nothing was pushed"
        try:
            there = self._repo()
            head, operations = self._operations(there)
            commit = self._commit(operations, head)
            self.done = f"the files are there (commit {commit[:12]})"
            if self.tag is not None:
                self.done += ", the tag is not"
                self._make_tag(self.tag, commit)
                self.done = f"files and tag are there (commit {commit[:12]})"
            info = ask(self.api.model_info, self.repo_id)
        except HfHubHTTPError as error:
            raise refusal_in_words(self.repo_id, error, self.done) from error
        except HubError as error:
            raise type(error)(f"{self.repo_id}: {error}; {self.done}") from error
        url = f"{self.api.endpoint}/{self.repo_id}"
        return {"url": url, "commit": commit, "tag": self.tag, "private": bool(info.private)}

    def _repo(self) -> Any:
        """The repo, made where it was not there.

        Raises:
            HubError: it holds something else.
        """
        from huggingface_hub.errors import HfHubHTTPError

        ask(self.api.whoami)  # a bad token is told as such, not as a repo that is missing
        try:
            found = ask(self.api.model_info, self.repo_id)
        except HfHubHTTPError as error:
            if error.response.status_code not in (401, 404):
                raise
            try:
                ask(self.api.create_repo, self.repo_id, private=self.private)
            except HfHubHTTPError as refused:  # 409: it is there, made by a request whose answer was lost
                if refused.response.status_code != 409:
                    raise
            try:
                return ask(self.api.model_info, self.repo_id)
            except HfHubHTTPError as again:
                raise HubError(
                    "the Hub has something of this name that is no model repo, or that this token may not see (status "
                    f"{again.response.status_code}); name another"
                ) from again
        if self.private and not found.private:
            raise HubError(
                "it is there and public, so that --private would change nothing; make it private on the Hub, or name "
                "another"
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
            raise HubError(f"it is there and was not pushed by pgtune (it holds {sorted(others)[0]}); name another")
        kind = "adapter" if "adapter_config.json" in names else "model" if "config.json" in names else None
        new = "adapter" if self.contents.kind == "adapter" else "model"
        if ours and kind not in (None, new):
            raise HubError(
                f"it is there and holds {_A[str(kind)]}, and this is {_A[new]}: who loads it would get something else; "
                "name another"
            )
        if self.tag is not None and self.tag in self._tags():
            raise HubError(f"--tag: it has a tag {self.tag} already; name another")
        files: dict[str, Path | bytes] = {**self.contents.files, CARD: self.card.encode()}
        stale = sorted(name for name in others - files.keys() if name.startswith(f"{OWN}/") or _OURS.fullmatch(name))
        adds = [CommitOperationAdd(name, str(of) if isinstance(of, Path) else of) for name, of in sorted(files.items())]
        return there.sha, [*adds, *(CommitOperationDelete(name) for name in stale)]

    def _commit(self, operations: list[Any], head: str) -> str:
        """One commit on top of `head`; where its answer is lost or odd, the head says whether it was made.

        Raises:
            TrainingError: the Hub failed again and again, or somebody else was faster.
            OddAnswer: it was not made, and what answers is not the Hub.
        """
        from huggingface_hub.errors import HfHubHTTPError

        message = f"Push {self.contents.kind} with pgtune"
        for attempt in range(1, ATTEMPTS + 1):
            wait: float | None = None
            odd: OddAnswer | None = None
            try:
                made = ask(
                    self.api.create_commit, self.repo_id, operations, commit_message=message, parent_commit=head
                )
            except Unclear as error:
                why, wait = str(error), error.wait
            except OddAnswer as error:
                why, odd = str(error), error
            except HfHubHTTPError as error:
                if error.response.status_code not in (409, 412):  # the head is another
                    raise
                why = f"status {error.response.status_code}"
            else:
                return str(made.oid)
            # Before the look: a commit may take a moment to show. After the last one too, as it may have been made.
            if odd is None:
                self._pause(why, attempt, wait)
            if (now := self._head()) != head:
                if self._holds(now, operations):
                    say(f"hub        the answer to the commit was lost ({why}), but it is there")
                    return now
                raise TrainingError(f"{self.repo_id}: somebody else changed it meanwhile; {self.done}; push again")
            if odd is not None:
                raise odd
        raise TrainingError(f"the Hub failed {ATTEMPTS} times at the commit ({why}); {self.done}; try again later")

    def _pause(self, why: str, attempt: int, wait: float | None) -> None:
        if attempt < ATTEMPTS:
            wait_before("commit", why, attempt, wait, self.sleep)
        else:
            self.sleep(float(2 ** (attempt - 1)))

    def _head(self) -> str:
        """The commit that the repo stands at."""
        before, self.done = self.done, "whether it was pushed is not known"
        now = str(ask(self.api.model_info, self.repo_id).sha)
        self.done = before
        return now

    def _tags(self) -> dict[str, str]:
        """The repo's tags and the commits that they point at."""
        return {found.name: str(found.target_commit) for found in ask(self.api.list_repo_refs, self.repo_id).tags}

    def _make_tag(self, tag: str, commit: str) -> None:
        """The tag, at this commit.

        Raises:
            TrainingError: somebody else made one of this name meanwhile.
        """
        from huggingface_hub.errors import HfHubHTTPError

        try:
            ask(self.api.create_tag, self.repo_id, tag=tag, revision=commit)
        except HfHubHTTPError as error:
            if error.response.status_code != 409:
                raise
            at = self._tags().get(tag)
            if at != commit:  # else made by a request whose answer was lost
                where = f"points at {at[:12]}: somebody else made it meanwhile" if at else "was refused"
                raise TrainingError(
                    f"{self.repo_id}: the files are there (commit {commit[:12]}), but the tag {tag} {where}; push "
                    "again with another --tag"
                ) from error

    def _holds(self, commit: str, operations: list[Any]) -> bool:
        """Whether a commit has exactly these files' contents."""
        tree = ask(lambda: list(self.api.list_repo_tree(self.repo_id, recursive=True, revision=commit)))
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
