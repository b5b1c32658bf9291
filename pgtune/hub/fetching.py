"""A pushed run comes back: downloaded file by file by what it may hold, and refused where it holds more (`foreign`)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pgtune.errors import HubError
from pgtune.hub.asking import OddAnswer, ask
from pgtune.hub.foreign import PushedRun, check_names, check_pushed, run_in_folder
from pgtune.hub.patience import ATTEMPTS, Sleep, connection_errors, http_library, retrying, wait_before
from pgtune.names import HUB_ID
from pgtune.run_folder import OWN, RunFolder

__all__ = ["locate_run", "run_from_hub"]

FETCHED = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.md", f"{OWN}/*.yaml")


def locate_run(run: Path | str) -> RunFolder:
    """A run by its folder, or by its id on the Hub: ``org/name``, or ``org/name@revision``.

    A folder goes before an id. A downloaded repo is a run from elsewhere, as is one from the Hub.

    Raises:
        HubError, RunError, ModelError: there is neither, or what is there is not safe to read.
    """
    name, at, revision = (run if isinstance(run, str) else run.as_posix()).partition("@")
    if not Path(run).exists() and HUB_ID.fullmatch(name) and (revision or not at):
        return PushedRun(run_from_hub(name, revision or None), str(run))
    return run_in_folder(run, str(run))


def run_from_hub(repo_id: str, revision: str | None = None, *, sleep: Sleep = time.sleep) -> Path:
    """The folder of a pushed run, in the Hub's cache: what `RunFolder` reads.

    Args:
        repo_id: ``org/name``.
        revision: branch, tag or commit; None: the main branch.
        sleep: what waits before another attempt.

    Raises:
        HubError: it cannot be reached, is not there, or is no pushed run.
        RunError: it holds what is not read. TrainingError: the Hub failed again and again.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    named = f"{repo_id}{f' at {revision}' if revision else ''}"
    try:
        with retrying(sleep, offline=True):
            folder = _downloaded(repo_id, revision, named, sleep)
    except HfHubHTTPError as error:
        status = error.response.status_code
        what = "is not there, or is private and this token may not read it" if status in (401, 404) else "is refused"
        raise HubError(f"{named}: {what} (status {status}); log in with `hf auth login` where it is yours") from error
    except LocalEntryNotFoundError as error:
        raise HubError(
            f"{named}: is no folder here and not in the Hub's cache, and the Hub cannot be reached (or HF_HUB_OFFLINE "
            "is set)"
        ) from error
    check_pushed(folder, named)
    return folder


def _downloaded(repo_id: str, revision: str | None, named: str, sleep: Sleep) -> Path:
    """The folder of a repo in the cache, all files complete.

    Raises:
        HubError: what answers is not the Hub. RunError: it holds what is not read.
        TrainingError: files broke off again and again.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    wanted: dict[str, Any] = {"repo_id": repo_id, "revision": revision, "allow_patterns": [*FETCHED]}
    try:
        found = ask(HfApi(library_name="pgtune").model_info, repo_id, revision=revision)
        check_names(named, [entry.rfilename for entry in found.siblings or ()])
    except (OfflineModeIsEnabled, http_library().ConnectError):
        # What is in the cache was looked through when it was fetched.
        return Path(snapshot_download(**wanted, local_files_only=True))
    except OddAnswer as error:
        raise OddAnswer(f"{named}: {error}") from error
    # Each request is tried again by itself; what breaks off while it is read is asked for again here.
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return Path(ask(snapshot_download, **wanted))
        except LocalEntryNotFoundError as error:
            if isinstance(error.__cause__, HfHubHTTPError):
                raise error.__cause__ from error
            why = type(error.__cause__ or error).__name__
        except HfHubHTTPError:
            raise
        except connection_errors() as error:
            why = f"{type(error).__name__}: {error}"
        except OSError as error:
            if error.errno is not None:  # the machine's own, such as a full disk
                raise
            why = " ".join(str(error).partition("(")[0].split())  # a file has another size than was announced
            _forget_incomplete(repo_id)
        wait_before(f"the files of {named}", why, attempt, None, sleep)
    raise AssertionError("the last attempt returns or raises")


def _forget_incomplete(repo_id: str) -> None:
    """Away with the beginnings of files that turned out wrong: the client would go on after them."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo_id, repo_type="model"), "blobs")
    for file in folder.glob("*.incomplete"):
        file.unlink(missing_ok=True)
