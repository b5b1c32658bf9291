"""What came from elsewhere: how it is told from a run of one's own, and what is looked at before it is read.

Read are safetensors, JSON, YAML, Markdown and the tokenizer's files. A folder with pickles is refused, whatever else is
in it, and so is one with a file, a link or a reference that points outside of it. No code of it is ever run.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from pgtune.errors import HubError, ModelError, RunError
from pgtune.hub.published import EVERYWHERE
from pgtune.names import BASES, HUB_ID
from pgtune.progress import say
from pgtune.recipe import Recipe
from pgtune.run_folder import OWN, RunFolder

__all__ = ["MergedRun", "PushedRun", "check_names", "check_pushed", "run_in_folder"]

PICKLES = re.compile(r"\.(bin|ckpt|dill|h5|joblib|keras|msgpack|npy|npz|pickle|pkl|pt|pth|pyc)$", re.IGNORECASE)
WEIGHTS = re.compile(r"[\w.-]+\.safetensors")
NEEDED = (f"{OWN}/recipe.yaml", f"{OWN}/status.json")
DEEPEST = 50
"""Levels inside one another in a JSON file; a tokenizer's has some ten."""


class MergedRun(RunFolder):
    """A merged model. Whether it was merged here cannot be told, so its recipe imports no code unasked.

    Args:
        name: what the user called it.
    """

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(path)
        self.name = name

    def check_imports(self, recipe: Recipe, *, allow_code: bool) -> None:
        """That no code is imported because a recipe that may be from elsewhere says so.

        Raises:
            RunError: the recipe names a module, and it was not allowed.
        """
        if ":" in recipe.data.adapter and not allow_code:
            raise RunError(
                f"{self.name}: its recipe would import code from here for the data adapter {recipe.data.adapter}; if "
                "that is yours, or you trust it, add --allow-code"
            )


class PushedRun(MergedRun):
    """A run that came from elsewhere: a downloaded repo, which is not written into and not trusted."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(path, name)
        self.evaluations = Path("evaluations") / re.sub(r"[^\w.-]+", "--", name).strip("-")

    def check_imports(self, recipe: Recipe, *, allow_code: bool) -> None:
        """As of a merged model; and what its data adapter lacks is said."""
        super().check_imports(recipe, allow_code=allow_code)
        left_out = self.status().get("left_out_arguments")
        missing = [str(name) for name in left_out if name not in recipe.data.adapter_args] if left_out else []
        if missing:
            say(
                f"warning    {self.name}: its recipe lacks the data adapter's {', '.join(missing)}, which were not "
                "pushed as they are text: prompts and answers may be others than those it was trained on"
            )

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

    def check_source(self, recipe: Recipe, split: str) -> None:
        """That data is not looked for here by a name from elsewhere.

        Raises:
            RunError: it would be.
        """
        source = (getattr(recipe.data, split, None) or recipe.data.train).source
        if not source.startswith(EVERYWHERE):
            raise RunError(f"{self.name}: its data ({source}) is not in the repo; name yours with --source FILE")


def run_in_folder(path: Path | str, named: str) -> RunFolder:
    """The run in a folder: one's own, where it is a run folder as `train` leaves it, else one that was looked through.

    Raises:
        HubError, ModelError, RunError: a folder to be published or from elsewhere is not safe to read.
    """
    folder = RunFolder(path)
    if not folder.portable:
        return folder
    check_pushed(folder.path, named)
    status = folder.status()
    if folder.whole and "merged" in status and "kind" not in status:
        return MergedRun(folder.path, named)
    pushed = PushedRun(folder.path, named)
    if "merged" in status:  # of a pushed run, and made here: a folder of one's own to write into
        pushed.evaluations = folder.evaluations
    return pushed


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
    """That what lies in a folder from elsewhere is what is read, and points nowhere else.

    Raises:
        HubError, RunError, ModelError: it is not.
    """
    check_names(named, _files(folder, named))
    for file in sorted(folder.glob("*.json")):
        if file.is_dir():
            raise ModelError(f"{named}: {file.name} is a folder; expected a file")
        content = _mapping(file, named)
        _check_plain(content, f"{named}: {file.name}")
        _check_shards(content, folder, f"{named}: {file.name}")
        if file.name == "adapter_config.json":
            check_base(named, content.get("base_model_name_or_path"))


def _files(folder: Path, named: str) -> list[str]:
    """The names of all files in a folder, none of which lies elsewhere.

    Raises:
        RunError: one does, or is no file.
    """
    found, places = [], _places(folder)
    for parent, inner, files in os.walk(folder):
        for name in (*inner, *files):
            path = Path(parent, name)
            shown = path.relative_to(folder).as_posix()
            if path.is_symlink():
                target = Path(os.path.realpath(path))
                if not target.is_file() or not any(target.is_relative_to(place) for place in places):
                    raise RunError(
                        f"{named}: {shown} is a link to what is not a file in it ({target}); nothing of it is read"
                    )
            elif not path.is_dir() and not path.is_file():
                raise RunError(f"{named}: {shown} is neither a file nor a folder; nothing of it is read")
            if name in files or path.is_symlink():
                found.append(shown)
    return found


def _places(folder: Path) -> list[Path]:
    """Where the files of a folder may lie: in it, and where it is in the Hub's cache, among the repo's blobs."""
    whole = Path(os.path.realpath(folder))
    in_cache = whole.parent.name == "snapshots" and whole.parent.parent.name.startswith("models--")
    return [whole, *([whole.parent.parent / "blobs"] if in_cache else [])]


def _mapping(file: Path, named: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{named}: {file.name} is damaged: {error}") from error
    except RecursionError as error:
        raise ModelError(f"{named}: {file.name} is damaged: too many levels inside one another") from error
    if not isinstance(content, dict):
        raise ModelError(f"{named}: {file.name} is damaged: it holds no mapping")
    return content


def _check_shards(content: dict[str, Any], folder: Path, where: str) -> None:
    shards = content.get("weight_map") or {}
    if not isinstance(shards, dict):
        raise ModelError(f"{where} is damaged: weight_map: expected a mapping of weights to files, not {shards!r:.60}")
    for shard in shards.values():
        if not isinstance(shard, str) or not WEIGHTS.fullmatch(shard) or not (folder / shard).is_file():
            raise RunError(f"{where} points to {shard!r:.200}, which is not in it")


def _check_plain(content: Any, where: str) -> None:
    """That a file asks for no code and is not too deep for those who read it; without recursion, as it may be."""
    level = [content]
    for _ in range(DEEPEST):
        if any(isinstance(one, dict) and "auto_map" in one for one in level):
            raise RunError(f"{where} asks for code of a repo (auto_map); no code of a repo is run")
        inside = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, (dict, list))]
        level = [value for values in inside for value in values if isinstance(value, (dict, list))]
        if not level:
            return
    raise ModelError(f"{where} is damaged: more than {DEEPEST} levels inside one another")


def check_base(named: str, base: Any) -> None:
    """That a base is named as on the Hub, or shipped.

    Raises:
        RunError: it is a path, or nothing.
    """
    if not isinstance(base, str) or (base not in BASES and not HUB_ID.fullmatch(base)):
        raise RunError(f"{named}: its base is {base!r}, which is no name on the Hub: a repo may not point elsewhere")
