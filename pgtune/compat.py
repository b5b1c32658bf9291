"""The versions that pgtune works with: the windows stand in pyproject.toml and are read from the installed metadata."""

from __future__ import annotations

import functools
from importlib import metadata

from packaging.requirements import Requirement

from pgtune.errors import ModelError

CHECKED = ("accelerate", "peft", "torch", "transformers")
"""the packages whose insides pgtune relies on; pip keeps them right until another package moves them"""


@functools.cache
def check_versions(names: tuple[str, ...] = CHECKED) -> None:
    """That the installed versions lie in their windows; nothing is imported for it.

    Args:
        names: packages that are installed and that pgtune's metadata names, also for an extra.

    Raises:
        ModelError: names every package outside, the version found, the window and the command that mends it.
    """
    stated = map(Requirement, metadata.requires("pgtune") or ())
    # pgtune names itself too: the extra `test` is made of others
    wanted = {one.name: one.specifier for one in stated if one.name != "pgtune"}
    problems, mend = [], []
    for name in names:
        found = metadata.version(name)
        if not wanted[name].contains(found, prereleases=True):
            problems.append(
                f"{name} {found} is installed, and pgtune {metadata.version('pgtune')} needs {name}{wanted[name]}"
            )
            mend.append(f"'{name}{wanted[name]}'")
    if problems:
        raise ModelError("; ".join(problems) + f". To mend it: pip install {' '.join(mend)}")
