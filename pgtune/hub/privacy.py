"""What must not leave the machine, looked for in every file before anything is sent.

Looked through are texts, as they stand and as what they mean once JSON and YAML are read, and of safetensors the
header. Tokenizers are the base's own and hold so many words that anything would be found; in them only secrets and
whole places count. Names of user and machine are looked for in what the user has named, not in words of pgtune's.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pgtune.hub.arguments import texts_in
from pgtune.hub.weights import header_of

__all__ = ["check_private"]

WEIGHTS = ".safetensors"
TEXTS = (".json", ".jsonl", ".md", ".yaml")
VOCABULARY = ("tokenizer.json", "tokenizer.model")
ROWS = "examples.jsonl"

_NEVER = re.compile(
    r"(^|/)(\.|checkpoints?(/|-)|optimizer|scheduler|rng_state|trained\.|state\.json|log\.|memory\.|predictions\.json"
    r"|report\.|validation\.)|\.(log|env|pem|html)$"
)
_STATE = re.compile(r"exp_avg|optimizer|momentum")
_ROOTS = (
    "Users|Volumes|content|data\\d*|disk\\d*|etc|gpfs|home|kaggle|lustre|media|mnt|nfs|opt|private|projects?|root|run"
    "|scratch|share|shared|srv|storage|tmp|users|usr|var|work|workspace"
)
_START = r"(?<![\w/.~<>)\]}*-])"
_KNOWN_PATH = re.compile(
    rf"{_START}(?:/(?!/)(?:{_ROOTS})/[^\s\"'`)\]>,]+|[A-Za-z]:\\+(?!n)[\w .-]+\\[^\s\"']*|\\\\[\w.-]+\\[^\s\"']+"
    r"|~/[\w.][^\s\"']*|file://[^\s\"']+)"
)
_PATH = re.compile(rf"{_KNOWN_PATH.pattern}|{_START}/[A-Za-z_][\w.+@-]+/[\w.+@~-][^\s\"'`)\]>,]*")
"""Any absolute path of two parts. Fractions, and/or, media types, addresses and XML have no slash at a word's start."""
_FREE = r"(?<![A-Za-z0-9])"
_SECRETS = {
    "a Hugging Face token": re.compile(_FREE + r"(?:hf|api_org)_[A-Za-z0-9]{20,}"),
    "a GitHub token": re.compile(_FREE + r"(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,})"),
    "an AWS key": re.compile(_FREE + r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    "an API key": re.compile(_FREE + r"(?:sk-[A-Za-z0-9_-]{20,}|wandb_v1_\w{20,})"),
    "a password in an address": re.compile(r"[A-Za-z]://[^\s/@:\"']+:[^\s/@\"']+@"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
}
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE)
_PATIENT = re.compile(
    _FREE + r"(?:Patient(?:'?s)?_?(?:Name|ID|BirthDate|Address|Sex|Age)|OtherPatientIDs|AccessionNumber"
    r"|IssuerOfPatientID|ReferringPhysicianName|InstitutionName|subject_id|study_id|dicom_id)[\"']?\s*[:=^]\s*[\"'\w]",
    re.IGNORECASE,
)
_EVERYBODY = {
    "admin", "administrator", "all", "alpha", "and", "annotations", "answer", "answers", "base", "caption", "captions",
    "chart", "charts", "colab", "container", "csv", "data", "dataset", "default", "dev", "developer", "dir", "docker",
    "ec2-user", "eval", "file", "files", "image", "images", "img", "jovyan", "json", "jsonl", "label", "labels",
    "language", "linux", "local", "localhost", "lora", "main", "max", "medical", "model", "models", "music", "new",
    "nobody", "old", "out", "picture", "pictures", "png", "prefix", "question", "questions", "raw", "root", "row",
    "rows", "run", "runner", "sample", "seed", "server", "set", "small", "split", "suffix", "tag", "test", "tests",
    "tiny", "tmp", "train", "training", "txt", "ubuntu", "user", "users", "val", "valid", "validation", "vision",
    "vqa", "vscode", "work", "worker", "workspace", "xml",
}  # fmt: skip
"""Names of users and machines that say nothing of anybody, or are words that name data."""


def check_private(
    files: Mapping[str, Path | bytes], *, given: Iterable[str] = (), public: tuple[str, ...] = ()
) -> list[str]:
    """What must not be pushed, each with its file: empty where all may leave.

    Args:
        files: path in the repo -> the file, or its content.
        given: what the user has named (files, columns, splits): no name of user or machine may be in it.
        public: names that are told anyhow, such as the repo's, which may hold the user's.
    """
    # Rows that are to be shown may hold what looks like a path: formulas, music.
    path = _KNOWN_PATH if any(name.endswith(ROWS) for name in files) else _PATH
    found = [f"{name}: {problem}" for name, file in sorted(files.items()) for problem in _problems(name, file, path)]
    return found + [f"pgtune/recipe.yaml: {problem}" for problem in _own_names(given, public)]


def _problems(name: str, file: Path | bytes, path: re.Pattern[str]) -> list[str]:
    if _NEVER.search(name) and not name.endswith(".png"):
        return ["a file of this name is never pushed"]
    if name == "pgtune/predictions.png":
        return []
    vocabulary = name in VOCABULARY
    if not vocabulary and not name.endswith((WEIGHTS, *TEXTS)):
        return ["a file of this kind is never pushed"]
    contents = _contents(name, file)
    found = [problem for content in contents for problem in _secrets(content) + _own_places(content)]
    if name.endswith(WEIGHTS):
        found += ["the state of an optimiser"] if _STATE.search(contents[0]) else []
    if not vocabulary:
        found += [f"the path {match.group()[:80]}" for content in contents for match in _first(path, content)]
        fields = [match.group() for content in contents for match in _first(_PATIENT, content)]
        found += [f"the patient's field {field.rstrip()[:-1]}" for field in fields]
    return list(dict.fromkeys(found))


def _contents(name: str, file: Path | bytes) -> list[str]:
    """What a file says: its text, and the texts in what it means, where it is JSON or YAML, without their escapes."""
    if name.endswith(WEIGHTS):
        assert isinstance(file, Path), "weights lie in files"
        return ["\n".join(texts_in(header_of(file)))]
    raw = file if isinstance(file, bytes) else file.read_bytes()
    if name.endswith(".model"):
        return [raw.decode("latin-1")]  # whatever the bytes are, words of ASCII are found
    text = raw.decode("utf-8")
    return [text] if name in VOCABULARY else [text, "\n".join(texts_in(_meant(name, text)))]


def _meant(name: str, text: str) -> Any:
    if name.endswith(".json"):
        return json.loads(text)
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in text.splitlines() if line]
    return yaml.safe_load(text) if name.endswith(".yaml") else None


def _first(pattern: re.Pattern[str], content: str) -> list[re.Match[str]]:
    found = pattern.search(content)
    return [found] if found else []


def _secrets(content: str) -> list[str]:
    found = [what for what, pattern in _SECRETS.items() if pattern.search(content)]
    values = {name: value for name, value in os.environ.items() if _SECRET_NAME.search(name) and len(value) >= 8}
    told = [name for name, value in values.items() if value in content]
    return found + [f"the value of the environment variable {name}" for name in told]


def _own_places(content: str) -> list[str]:
    places = {Path.home(), Path.cwd()} - {Path("/"), Path("/root"), Path("/tmp")}
    return [f"the path {place}" for place in sorted(places) if len(str(place)) > 5 and str(place) in content]


def _own_names(given: Iterable[str], public: tuple[str, ...]) -> list[str]:
    """Names of user and machine as words, or as parts of names that are joined by - _ or a dot."""
    found = []
    for text in given:
        rest = text
        for told in sorted(public, key=len, reverse=True):
            rest = rest.replace(told, " ")
        found += [
            f"the name of this {what}, {name}, in {text[:80]!r}"
            for what, name in _names()
            if re.search(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", rest, re.IGNORECASE)
        ]
    return list(dict.fromkeys(found))


@cache
def _names() -> list[tuple[str, str]]:
    host = socket.gethostname()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without an entry, as in some containers
        user = ""
    given = {("user", user), ("machine", host), ("machine", host.partition(".")[0])}
    return sorted((what, name) for what, name in given if len(name) > 2 and name.lower() not in _EVERYBODY)
