"""`python -m benchmarks train|decode|input|tower|plan`: see docs/speed.md."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

COMMANDS = {
    "train": "training side by side with what a user would pick instead",
    "decode": "batched decoding beside a call of generate per example, on the base `tiny`",
    "input": "pictures a second that one worker prepares, beside what the device takes",
    "tower": "what the frozen vision tower costs of a step",
    "plan": "the memory that `pgtune plan` says beside what a run takes",
}


def main(arguments: list[str] | None = None) -> None:
    """Run one benchmark; its table goes to standard output, its record to --results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="pgtune, measured; see docs/speed.md")
    verbs = parser.add_subparsers(dest="command", required=True)
    for name, words in COMMANDS.items():
        verb = verbs.add_parser(name, help=words, description=words)
        verb.add_argument("--work", type=Path, required=True, help="scratch folder: bases of 6 GB and more, kept")
        verb.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="where records go")
        importlib.import_module(f"benchmarks.{name}").add_arguments(verb)
    chosen = parser.parse_args(arguments)
    chosen.work = chosen.work.resolve()
    importlib.import_module(f"benchmarks.{chosen.command}").run(chosen)


if __name__ == "__main__":
    main()
