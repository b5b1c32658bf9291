"""A recipe as written: the file read, overrides applied, and the form in which problems are reported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pgtune.errors import RecipeError
from pgtune.recipe_yaml import KeyPath, parse

__all__ = ["Draft", "Problem", "dotted", "override", "read_draft", "report", "shown"]


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a recipe."""

    path: str
    """Dotted path of the key; empty for the recipe as a whole."""
    message: str
    """What is wrong, or what was expected and what was given instead."""
    given: Any = None
    where: str = ""
    """Line of the file or the override, where known."""
    keys: tuple[str, ...] = ()
    """All keys that contradict each other, when that is the problem."""

    @property
    def line(self) -> float:
        """Line of the file, infinite where the problem is not in it."""
        return float(self.where.removeprefix("line ")) if self.where.startswith("line ") else float("inf")

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}" if self.path else self.message
        return f"{self.where}: {text}" if self.where else text


@dataclass
class Draft:
    """A recipe as written: plain values, and where each of them came from."""

    name: str
    """What messages call the recipe: its file name as it was given."""
    value: dict[str, Any]
    where: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def origin(self, path: KeyPath) -> str:
        """Where the key at ``path``, or the nearest section around it, was written."""
        while path and path not in self.where:
            path = path[:-1]
        return self.where.get(path, "")


def shown(value: object) -> str:
    """A value as a recipe spells it, shortened."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, float):
        return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(str(value), str(value))
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def dotted(path: Iterable[str | int]) -> str:
    """``("eval", "metrics", 0)`` -> ``eval.metrics[0]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_draft(path: Path, name: str) -> Draft:
    """Read a recipe file; raises RecipeError, naming the line, where it is no YAML mapping in UTF-8."""
    if path.is_dir():
        raise RecipeError(f"{name}: a folder; expected a recipe file (YAML)")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RecipeError(f"{name}: cannot be read ({error.strerror})") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{name}, line {line}: not UTF-8 text (byte 0x{raw[error.start]:02x})") from error
    try:
        document = parse(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{name}{_yaml_fault(error, text)}") from error
    except RecursionError:
        raise RecipeError(f"{name}: too many brackets inside one another") from None
    if document.value is None:
        raise RecipeError(f"{name}: empty; expected a recipe (`pgtune show forkme` prints one with every key)")
    if not isinstance(document.value, dict):
        raise RecipeError(f"{name}: expected a mapping (key: value), not {shown(document.value)}")
    draft = Draft(name, document.value, {key: f"line {line}" for key, line in document.lines.items() if key})
    draft.problems += [Problem(dotted(key), fault, where=f"line {line}") for key, line, fault in document.faults]
    return draft


def _yaml_fault(error: yaml.YAMLError, text: str) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        place = f", line {mark.line + 1}" if mark else ""
        return f"{place}: not valid YAML: {what}".replace(r"found '\x00'", "found the end")
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f", line {line}: not valid YAML: the character U+{error.character:04X} is not allowed"
    return f": not valid YAML: {error}"


def override(draft: Draft, overrides: Sequence[str], short_forms: Mapping[KeyPath, str]) -> None:
    """Apply ``key.path=value`` texts to the draft, in place.

    Values are read by the recipe's own YAML rules. A section that is absent is created; ``short_forms`` says which key
    a value written in place of a section stands for (``tracking: wandb`` is ``tracking: {to: wandb}``). An override
    that another one undoes is a problem, as is one without ``=``.
    """
    seen: dict[KeyPath, str] = {}
    for text in overrides:
        where = f"override {text!r}"
        name, equals, value_text = text.partition("=")
        path: KeyPath = tuple(name.strip().split("."))
        if not equals or not all(path):
            draft.problems.append(Problem("", f"{where}: expected key.path=value"))
            continue
        clash = next((old for old in seen if old[: len(path)] == path), None)
        if clash:
            draft.problems.append(Problem(dotted(path), f"undoes the override {seen[clash]!r}", where=where))
            continue
        seen[path] = text
        try:
            document = parse(value_text)
        except yaml.YAMLError as error:
            fault = _yaml_fault(error, value_text).partition("not valid YAML: ")[2]
            draft.problems.append(Problem(dotted(path), f"not valid YAML: {fault}; quote the value", where=where))
            continue
        except RecursionError:
            draft.problems.append(Problem(dotted(path), "too many brackets inside one another", where=where))
            continue
        draft.problems += [Problem(dotted(path + key), fault, where=where) for key, _, fault in document.faults]
        section: Any = draft.value
        for depth, part in enumerate(path[:-1], 1):
            inner = section.get(part)
            short = short_forms.get(path[:depth])
            if inner is None:
                inner = {}
            elif short and not isinstance(inner, dict):
                inner = {short: inner}
            if not isinstance(inner, dict):
                problem = Problem(dotted(path), f"{dotted(path[:depth])} is {shown(inner)}, not a section", where=where)
                draft.problems.append(problem)
                break
            section[part] = inner
            section = inner
        else:
            section[path[-1]] = document.value
            draft.where = {key: line for key, line in draft.where.items() if key[: len(path)] != path}
            draft.where[path] = where


def report(name: str, problems: Sequence[Problem]) -> RecipeError:
    """The error that lists all problems in the order of the file, then those of overrides and of what is absent."""
    ordered = sorted(problems, key=lambda problem: problem.line)
    lines = [str(problem) for problem in ordered]
    if len(lines) == 1:
        return RecipeError(f"{name}: {lines[0]}", problems=ordered)
    return RecipeError("\n  ".join([f"{name}: {len(lines)} problems", *lines]), problems=ordered)
