"""docs/data_adapters.md: its data adapter works, by module:attribute and as a plug-in, and its table is current."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from pgtune.cli import main
from pgtune.example import adapter_names, load_adapter

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "data_adapters.md").read_text(encoding="utf-8")


def block(kind: str) -> str:
    """The text of the one code block of that kind."""
    [text] = re.findall(rf"^```{re.escape(kind)}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the page's module and its data set."""
    (tmp_path / "plates.py").write_text(block("python plates.py"), encoding="utf-8")
    for split, texts in (("train", ["B X 1", "?", "W Y 2"]), ("test", ["B Z 3"])):
        folder = tmp_path / "plates" / split
        folder.mkdir(parents=True)
        for number in range(len(texts)):
            Image.new("RGB", (40, 10), (number * 20, 0, 0)).save(folder / f"{number}.png")
        lines = [f"{number}.png\t{text}\t{text[0]}\n" for number, text in enumerate(texts)]
        (folder / "labels.tsv").write_text("".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "plates", raising=False)
    return tmp_path


def test_it_is_twenty_lines() -> None:
    lines = [line for line in block("python plates.py").splitlines() if line and "import" not in line]
    assert len(lines) <= 20


def test_by_module_and_attribute(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapt, train = [line for line in block("bash").splitlines() if line]
    assert main([*adapt.split()[1:], "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rows"] == 3
    assert "nobody could read" in json.dumps(document)
    rows = [json.loads(line) for line in (project / "rows.jsonl").read_text().splitlines()]
    assert [(row["suffix"], row["part"]) for row in rows] == [("B X 1", "B"), ("W Y 2", "W"), ("B Z 3", "B")]
    short = ["train.max_steps=1", "train.batch_size=2", "eval.max_new_tokens=2"]
    assert main([*train.split()[1:], *short]) == 0, capsys.readouterr().err
    assert (project / "runs" / "plates" / "predictions.jsonl").exists()


def test_a_bad_row_is_named_by_its_place(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open(project / "plates" / "test" / "labels.tsv", "a") as file:
        file.write("9.png\tB Q 9\tB\n")
    assert main(["adapt", "plates:Plates", "plates", "--out", "rows.jsonl"]) == 2
    assert "test/labels.tsv, line 2" in capsys.readouterr().err


def test_as_a_package(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tomllib = pytest.importorskip("tomllib")
    described = tomllib.loads(block("toml pyproject.toml"))["project"]
    site = project / "site"
    info = site / "pgtune_plates-1.0.dist-info"  # what an installer writes
    info.mkdir(parents=True)
    (project / "plates.py").rename(site / "plates.py")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {described['name']}\nVersion: 1.0\n")
    [(group, points)] = described["entry-points"].items()
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(f"{name} = {at}\n" for name, at in points.items()))
    monkeypatch.syspath_prepend(str(site))
    assert importlib.metadata.version("pgtune-plates") == "1.0"
    assert "plates" in adapter_names()
    assert type(load_adapter("plates", {"prefix": "read"})).__name__ == "Plates"
    assert main(["adapters"]) == 0
    assert "plates" in capsys.readouterr().out


def test_the_recipe_part_reads_a_table(tmp_path: Path) -> None:
    data = yaml.safe_load(block("yaml"))["data"]
    (tmp_path / "labels.csv").write_text("id,question,answer,patient\n7,where?,left,P1\n")
    adapter = load_adapter(data["adapter"], data["adapter_args"])
    [row] = adapter.rows(tmp_path / data["train"], None)  # type: ignore[attr-defined]
    example = adapter(row.value)
    assert (example.images, example.prefix, example.groups) == (("scans/7.png",), "answer en where?", {"patient": "P1"})


def test_the_table_is_current() -> None:
    script = [sys.executable, str(ROOT / "scripts" / "adapter_table.py"), "--check"]
    assert subprocess.run(script, timeout=120).returncode == 0, "run: python scripts/adapter_table.py"
