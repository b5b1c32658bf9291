"""The README's commands run, in their order, as a reader would type them; the pages' links lead somewhere.

The code of docs/run_folder.md runs after it; commands of the other pages are read as the command line would read them.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pgtune.cli import _parsers, main
from pgtune.names import ADAPTERS
from pgtune.recipe import load_recipe

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *DOCS]
RUN = [README, ROOT / "docs" / "run_folder.md", ROOT / "docs" / "serving.md"]
"""pages whose code is run, one after the other in one folder"""
SHORT = ["train.max_steps=2", "eval.limit=4"]
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
OUTSIDE = {
    "hf auth login",
    ".venv/bin/python -m pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu",
}
"""commands that need a network or an account, and are not run here"""


class Block(NamedTuple):
    language: str
    text: str


def blocks(page: Path = README) -> list[Block]:
    return [Block(*found) for found in BLOCK.findall(page.read_text(encoding="utf-8"))]


def commands(block: Block) -> Iterator[str]:
    if block.language == "bash":
        yield from (line for line in block.text.splitlines() if line)


def is_installation(command: str) -> bool:
    """What the Makefile does too, in the environment that it makes."""
    return command.startswith((".venv/bin/", "python3 -m venv")) and command not in OUTSIDE


def made() -> set[str]:
    """The commands behind the README's make targets, without what only makes them quieter."""
    own = {name: os.environ[name] for name in os.environ if name not in ("MAKEFLAGS", "PYTHON")}  # of a make around us
    printed = subprocess.run(
        ["make", "-nB", "quickstart", "test"], cwd=ROOT, env=own, capture_output=True, text=True, check=True
    ).stdout
    quieter = re.compile(r" -qq --disable-pip-version-check|^OMP_NUM_THREADS=1 ", re.MULTILINE)
    return set(quieter.sub("", printed).splitlines())


def test_every_command_is_known() -> None:
    found = [command for block in blocks() for command in commands(block)]
    targets = {command.removeprefix("make ") for command in found if command.startswith("make ")}
    assert targets == {"quickstart", "test"}
    rest = [c for c in found if not c.startswith(("make ", "pgtune ")) and c not in OUTSIDE and not is_installation(c)]
    assert rest == []
    assert set(found) >= OUTSIDE, "a command in OUTSIDE is no longer in the README"


def test_the_plain_commands_are_those_of_the_makefile() -> None:
    plain = {command for block in blocks() for command in commands(block) if is_installation(command)}
    assert plain
    assert plain <= made()


def test_the_torch_of_the_readme_is_the_pinned_one() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (pin,) = (line for line in pins if line.startswith("torch=="))
    named = re.findall(r"torch==[\d.]+", README.read_text(encoding="utf-8"))
    assert set(named) == {pin} == {"torch==2.13.0"}


def test_every_verb_is_in_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    verbs = re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE)
    text = README.read_text(encoding="utf-8")
    assert len(verbs) >= 11
    assert [verb for verb in verbs if not re.search(rf"[`\s]{verb}[`\s]", text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_is_left_to_fill_in(page: Path) -> None:
    assert re.findall(r"@[A-Z]+@|TODO|TBD", page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_the_commands_of_the_docs_can_be_given(page: Path) -> None:
    """Verbs and options are those of the command line; a shipped recipe that is named takes its overrides."""
    verbs = _parsers()[1]
    text = page.read_text(encoding="utf-8")
    lines = re.findall(r"^ *(pgtune .+)$", text, re.MULTILINE)
    for command in lines + re.findall(r"`(pgtune [^`\n]* --out [^`\n]+)`", text):
        words = shlex.split(command)[1:]
        arguments = verbs[words[0]].parse_intermixed_args(words[1:])
        if "/" in getattr(arguments, "recipe", "") and not arguments.recipe.startswith("data/"):
            load_recipe(arguments.recipe, arguments.overrides)


def test_every_data_adapter_has_its_place() -> None:
    """Each is in the README's table of domains, or is no data set of a user's."""
    text = README.read_text(encoding="utf-8")
    assert [name for name in ADAPTERS if f"`{name}`" not in text] == ["generated"]


def test_every_extra_is_in_the_readme() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    text = README.read_text(encoding="utf-8")
    assert [name for name in extras if f"`{name}`" not in text] == ["test"]


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "recipes/data/landcover/images/test_001.png", "photo.png")
    for page in RUN:
        for block in blocks(page):
            if block.language == "python":
                exec(compile(block.text, str(page), "exec"), {"__name__": "readme"})
            for command in commands(block):
                if command.startswith("pgtune "):
                    run(command, capsys)


def run(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)[1:]
    if words[0] != "plan" and any(word.startswith("model.base=google/") for word in words):
        words[0] = "validate"  # its weights need a licence and a network
    capsys.readouterr()
    code = main(words)
    said = capsys.readouterr()
    assert code == 0, f"{command}\n{said.err}"
    elsewhere = words[0] == "predict" or "--processes" in words  # two steps may answer nothing; others speak for it
    assert said.out or elsewhere, command
    if words[0] == "init":  # the recipe it made, with fewer steps
        written = Path(words[words.index("--out") + 1])
        written.write_text(load_recipe(str(written), SHORT).to_yaml(), encoding="utf-8")
