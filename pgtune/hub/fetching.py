"""A pushed run comes back: downloaded file by file by what it may hold, and refused where it holds more.

Read are safetensors, JSON, YAML, Markdown and the tokenizer's files. A repo with pickles is refused, whatever else is
in it, and so is one with a file or a reference that points outside of it. No code of a repo is ever run.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path, PurePosixPath
from typing import Any

from pgtune.errors import HubError, ModelError, RunError
from pgtune.hub.patience import Sleep, retrying
from pgtune.hub.published import EVERYWHERE
from pgtune.names import BASES, HUB_ID
from pgtune.recipe import Recipe
from pgtune.run_folder import OWN, RunFolder

__all__ = ["PushedRun", "check_pushed", "run_from_hub"]

PICKLES = re.compile(r"\.(bin|ckpt|dill|h5|joblib|keras|msgpack|npy|npz|pickle|pkl|pt|pth|pyc)$", re.IGNORECASE)
READ = re.compile(r"[\w.-]+\.(safetensors|json|model|txt|jinja|md)|pgtune/[\w.-]+\.(json|yaml)")
FETCHED = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.md", f"{OWN}/*.yaml")
NEEDED = (f"{OWN}/recipe.yaml", f"{OWN}/status.json")


class PushedRun(RunFolder):
    """A run that came from elsewhere: a downloaded repo, which is not written into and not trusted.

    Args:
        path: the folder that the repo was downloaded to.
        name: what the user called it.
    """

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(path)
        self.name = name
        self.evaluations = Path("evaluations") / re.sub(r"[^\w.-]+", "--", name).strip("-")

    def recipe(self) -> Recipe:
        """As it was pushed.

        Raises:
            RunError: it names a base on this machine.
        """
        recipe = super().recipe()
        check_base(self.name, recipe.model.base)
        if recipe.model.base not in BASES and Path(recipe.model.base).exists():
            raise RunError(
                f"{self.name}: its base is {recipe.model.base} on the Hub, and a folder of that name is here, which "
                "would be taken for it; work in another folder"
            )
        return recipe

    def check_imports(self, recipe: Recipe, *, allow_code: bool) -> None:
        """That no code is imported because a recipe from elsewhere says so.

        Raises:
            RunError: the recipe names a module, and it was not allowed.
        """
        if ":" in recipe.data.adapter and not allow_code:
            raise RunError(
                f"{self.name}: its recipe would import code from here for the data adapter {recipe.data.adapter}; if "
                "that is yours, or you trust it, add --allow-code"
            )

    def check_source(self, recipe: Recipe, split: str) -> None:
        """That data is not looked for here by a name from elsewhere.

        Raises:
            RunError: it would be.
        """
        source = (getattr(recipe.data, split, None) or recipe.data.train).source
        if not source.startswith(EVERYWHERE):
            raise RunError(f"{self.name}: its data ({source}) is not in the repo; name yours with --source FILE")


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
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    named = f"{repo_id}{f' at {revision}' if revision else ''}"
    there = True
    try:
        with retrying(sleep, offline=True):
            try:
                found = HfApi(library_name="pgtune").model_info(repo_id, revision=revision)
                check_names(named, [entry.rfilename for entry in found.siblings or ()])
            except (OfflineModeIsEnabled, _unreachable()):
                there = False  # what is in the cache was looked through when it was fetched
            folder = Path(
                snapshot_download(repo_id, revision=revision, allow_patterns=[*FETCHED], local_files_only=not there)
            )
    except HfHubHTTPError as error:
        status = error.response.status_code
        what = "is not there, or is private and this token may not read it" if status in (401, 404) else "is refused"
        raise HubError(f"{named}: {what} (status {status}); log in with `hf auth login` where it is yours") from error
    except LocalEntryNotFoundError as error:
        raise HubError(
            f"{named}: is no folder here and not in the Hub's cache, and the Hub cannot be reached (or HF_HUB_OFFLINE "
            "is set)"
        ) from error
    except ValueError as error:
        raise HubError(f"{named}: {error}") from error
    check_pushed(folder, named)
    return folder


def _unreachable() -> type[Exception]:
    """The error of a client whose connection is refused."""
    from huggingface_hub.errors import HfHubHTTPError

    kind: type[Exception] = sys.modules[HfHubHTTPError.__bases__[0].__module__.partition(".")[0]].ConnectError
    return kind


def check_names(named: str, names: list[str]) -> None:
    """That a repo is a pushed run and nothing in it is dangerous to have.

    Raises:
        HubError: it is no pushed run. RunError: it holds pickles, or names outside of itself.
    """
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
            raise RunError(f"{named}: holds a file that points outside of it ({name!r}); nothing of it is read")
    pickles = [name for name in names if PICKLES.search(name)]
    if pickles:
        raise RunError(
            f"{named}: holds {pickles[0]}: such files can run code when they are opened; pgtune reads safetensors "
            "only, and nothing of this repo"
        )
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise HubError(f"{named}: was not pushed by pgtune (it has no {missing[0]})")


def check_pushed(folder: Path, named: str) -> None:
    """That what lies in a pushed run's folder points nowhere else.

    Raises:
        RunError, ModelError: it does.
    """
    check_names(named, [str(file.relative_to(folder).as_posix()) for file in folder.rglob("*") if not file.is_dir()])
    for file in sorted(folder.glob("*.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ModelError(f"{named}: {file.name} is damaged: {error}") from error
        if not isinstance(content, dict):
            raise ModelError(f"{named}: {file.name} is damaged: it holds no mapping")
        for shard in set((content.get("weight_map") or {}).values()):
            if not isinstance(shard, str) or not READ.fullmatch(shard) or not (folder / shard).is_file():
                raise RunError(f"{named}: {file.name} points to {shard!r}, which is not in it")
        _check_no_code(content, f"{named}: {file.name}")
    file = folder / "adapter_config.json"
    if file.is_file():
        base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
        check_base(named, base)


def check_base(named: str, base: Any) -> None:
    """That a base is named as on the Hub, or shipped.

    Raises:
        RunError: it is a path, or nothing.
    """
    if not isinstance(base, str) or (base not in BASES and not HUB_ID.fullmatch(base)):
        raise RunError(f"{named}: its base is {base!r}, which is no name on the Hub: a repo may not point elsewhere")


def _check_no_code(content: Any, where: str) -> None:
    if isinstance(content, dict):
        if "auto_map" in content:
            raise RunError(f"{where} asks for code of a repo (auto_map); no code of a repo is run")
        for inner in content.values():
            _check_no_code(inner, where)
