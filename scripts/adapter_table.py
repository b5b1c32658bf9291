"""Write the table of built-in data adapters in docs/data_adapters.md, made from their signatures.

    python scripts/adapter_table.py            # writes
    python scripts/adapter_table.py --check    # only says whether the table is current, exit code 1 where not
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from pathlib import Path

from pgtune.names import ADAPTER_HELP, ADAPTERS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "data_adapters.md"
BEGIN, END = "<!-- begin: scripts/adapter_table.py -->", "<!-- end: scripts/adapter_table.py -->"


def arguments(target: str) -> list[str]:
    """The arguments of a data adapter with their defaults, as YAML writes them."""
    module, _, name = target.partition(":")
    found = inspect.signature(getattr(importlib.import_module(module), name)).parameters.values()
    return [each.name if each.default is each.empty else f"{each.name}: {_yaml(each)}" for each in found]


def _yaml(parameter: inspect.Parameter) -> str:
    value = parameter.default
    if callable(value) or type(value).__name__ == "_HAS_DEFAULT_FACTORY_CLASS":  # what a field's factory makes
        return "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, str):
        return value if value and value[0].isalnum() and not {*value} & set("{}[]:#\n") else f'"{value}"'
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def table() -> str:
    """The table in Markdown."""
    lines = ["| name | reads | `data.adapter_args`, with their defaults |", "|---|---|---|"]
    for name, target in sorted(ADAPTERS.items()):
        shown = ", ".join(f"`{each}`".replace("|", "\\|") for each in arguments(target)) or "none"
        lines.append(f"| `{name}` | {ADAPTER_HELP[name]} | {shown} |")
    return "\n".join(lines)


def page() -> str:
    """The page with the table as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> int:
    """Write the page, or say whether it is current."""
    parser = argparse.ArgumentParser(description="The table of data adapters in docs/data_adapters.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where it is not current")
    wanted = page()
    if parser.parse_args().check:
        return int(wanted != PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
