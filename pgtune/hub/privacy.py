"""What must not leave the machine, looked for in every file before anything is sent.

Looked through are texts, and of safetensors the header: names, shapes and metadata. Tokenizers are the base's own and
hold so many words that any name would be found; in them only whole paths and secrets count.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path

__all__ = ["check_private", "header_of"]

WEIGHTS = ".safetensors"
TEXTS = (".json", ".jsonl", ".md", ".txt", ".yaml", ".jinja")
OTHERS = (".model", ".png")
"""A SentencePiece tokenizer; the picture of examples."""
VOCABULARY = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "special_tokens_map.json")

_NEVER = re.compile(r"(^|/)(\.|checkpoints?(/|-)|optimizer|scheduler|rng_state|trained\.|state\.json)|\.(log|env|pem)$")
_STATE = re.compile(r"exp_avg|optimizer|momentum")
_PATH = re.compile(
    r"(?<![\w:/.~-])(?:/(?:Users|Volumes|content|data|etc|home|kaggle|media|mnt|opt|private|root|run|scratch|srv|tmp|usr"
    r"|var|workspace|work)/[^\s\"'`)\]>,]+|[A-Za-z]:\\+(?!n)[\w .-]+\\[^\s\"']*|\\\\[\w.-]+\\[^\s\"']+|~/[\w.][^\s\"']*"
    r"|file://[^\s\"']+)"
)
_SECRETS = {
    "a Hugging Face token": re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{20,}"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,})"),
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "an API key": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}|\bwandb_v1_\w{20,}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
}
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE)
_PATIENT = re.compile(
    r"\b(?:Patient(?:'?s)?_?(?:Name|ID|BirthDate|Address|Sex|Age)|OtherPatientIDs|AccessionNumber|IssuerOfPatientID"
    r"|ReferringPhysicianName|InstitutionName|subject_id|study_id|dicom_id)[\"']?\s*[:=]\s*[\"'\w]",
    re.IGNORECASE,
)
_EVERYBODY = {
    "admin", "administrator", "colab", "container", "default", "developer", "docker", "ec2-user", "jovyan", "linux",
    "local", "localhost", "nobody", "root", "runner", "server", "test", "tests", "tiny", "ubuntu", "user", "users",
    "vscode", "work", "worker", "workspace",
}  # fmt: skip
"""Names of users and machines that say nothing of anybody."""


def check_private(files: Mapping[str, Path | bytes], *, public: tuple[str, ...] = ()) -> list[str]:
    """What must not be pushed, each with its file: empty where all may leave.

    Args:
        files: path in the repo -> the file, or its content.
        public: names that are told anyhow, such as the repo's, which may hold the user's.
    """
    return [f"{name}: {problem}" for name, file in sorted(files.items()) for problem in _problems(name, file, public)]


def _problems(name: str, file: Path | bytes, public: tuple[str, ...]) -> list[str]:
    if _NEVER.search(name):
        return ["a file of this name is never pushed"]
    if name.endswith(OTHERS):
        return []
    if not name.endswith((WEIGHTS, *TEXTS)):
        return ["a file of this kind is never pushed"]
    if isinstance(file, Path):
        content = json.dumps(header_of(file)) if name.endswith(WEIGHTS) else file.read_text(encoding="utf-8")
    else:
        content = file.decode()
    found = _secrets(content)
    if name.endswith(WEIGHTS):
        found += ["the state of an optimiser"] if _STATE.search(content) else []
    if Path(name).name in VOCABULARY:
        return found + _own_places(content)
    found += [f"the path {match.group()[:80]}" for match in _first(_PATH, content)]
    found += [f"the patient's field {match.group().rstrip()[:-1]}" for match in _first(_PATIENT, content)]
    for text in sorted(public, key=len, reverse=True):
        content = content.replace(text, "")
    return found + _own_places(content) + _own_names(content)


def header_of(file: Path) -> dict[str, object]:
    """The header of a safetensors file: what it holds, without the weights."""
    with open(file, "rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header: dict[str, object] = json.loads(opened.read(size))
    return header


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


def _own_names(content: str) -> list[str]:
    return [
        f"the name of this {what}, {name}"
        for what, name in _names()
        if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", content)
    ]


@cache
def _names() -> list[tuple[str, str]]:
    host = socket.gethostname()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without an entry, as in some containers
        user = ""
    given = {("user", user), ("machine", host), ("machine", host.partition(".")[0])}
    return sorted((what, name) for what, name in given if len(name) > 3 and name.lower() not in _EVERYBODY)
