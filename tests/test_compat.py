"""Versions outside the supported windows are refused by name, before a model is loaded."""

from __future__ import annotations

from importlib import metadata

import pytest
import torch

from pgtune.compat import CHECKED, check_versions
from pgtune.errors import ModelError
from pgtune.model import load_base, load_config
from pgtune.settings import ModelSettings


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Versions that stand in for the installed ones."""
    changed: dict[str, str] = {}
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: changed.get(name) or real(name))
    check_versions.cache_clear()
    return changed


def test_what_is_installed_is_supported() -> None:
    check_versions.cache_clear()
    check_versions()


@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("transformers", "5.22.0"),
        ("transformers", "6.0.0"),
        ("transformers", "4.57.1"),
        ("peft", "0.21.1"),
        ("peft", "0.22.0"),
    ],
)
def test_a_version_outside_is_refused(installed: dict[str, str], package: str, version: str) -> None:
    installed[package] = version
    with pytest.raises(ModelError, match=f"{package} {version} is installed, and pgtune .* needs {package}"):
        load_config("tiny")


@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("transformers", "5.99.0"),
        ("peft", "0.21.9"),
        ("torch", "2.13.0+cu130"),
        ("torch", "2.14.0.dev20261101"),
        ("accelerate", "1.20"),
    ],
)
def test_a_version_inside_is_taken(installed: dict[str, str], package: str, version: str) -> None:
    installed[package] = version
    check_versions()


def test_all_that_is_wrong_is_said_at_once(installed: dict[str, str]) -> None:
    installed.update(transformers="6.0.0", peft="1.0.0")
    with pytest.raises(
        ModelError, match=r"(?s)peft 1\.0\.0.*transformers 6\.0\.0.*pip install 'peft.*' 'transformers.*'"
    ):
        check_versions()


def test_bitsandbytes_is_checked_where_it_is_used(installed: dict[str, str]) -> None:
    installed["bitsandbytes"] = "0.49.0"
    load_config("tiny")
    with pytest.raises(ModelError, match=r"bitsandbytes 0\.49\.0 is installed, .* needs bitsandbytes<0\.51,>=0\.50\.2"):
        load_base(ModelSettings(quantization="nf4"), full=False, device=torch.device("cpu"))


def test_the_windows_are_stated() -> None:
    stated = [text.split(";")[0] for text in metadata.requires("pgtune") or ()]
    assert all(any(text.startswith(name) and text != name for text in stated) for name in CHECKED)
