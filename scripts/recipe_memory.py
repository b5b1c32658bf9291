"""Write what the domains' recipes need, by `pgtune plan`, into the comment blocks of the recipes.

    python scripts/recipe_memory.py            # writes
    python scripts/recipe_memory.py --check    # only says which lines are off by more than a fifth; exit code 1 then

Lengths are assumed (`planning.data.assumed`), so that what is written does not depend on the data on this machine.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from pathlib import Path

import recipe_table

from pgtune.planning import Plan, plan
from pgtune.planning.data import assumed
from pgtune.planning.text import gigabytes, layers_again
from pgtune.recipe import load_recipe

SMALL = 10**9
"""A recipe on the shipped base: what it says stays."""


def planned(path: Path, memory: int | None = None) -> Plan:
    """The plan of a recipe on one GPU."""
    recipe = load_recipe(path)
    return plan(recipe, memory, seen=assumed(recipe))


def words(path: Path) -> str:
    """What a recipe needs, and on the usual card: of 24 GB, or 80 GB for full fine-tuning."""
    card = 24 if load_recipe(path).lora is not None else 80
    free, made = planned(path), planned(path, card * 10**9)
    held = made.memory.weights + made.memory.optimizer + made.memory.gradients
    text = f"{gigabytes(free.peak.total)} on one GPU at batch {free.recipe.train.batch_size} ({free.peak.name}); "
    text += f"{gigabytes(held)} of it whatever the batch. "
    if made.fits and made.memory.recompute:
        text += f"On {card} GB {gigabytes(made.peak.total)}: {layers_again(made.memory.recompute)} computed again. "
    elif not made.fits:
        ways = [f"with {change.words}" for change in made.changes if change.devices == 1][:1]
        text += f"On {card} GB {ways[0] if ways else 'not as full fine-tuning'}. "
    return text + "By pgtune plan, not measured"


def block(path: Path) -> str:
    """The comment lines."""
    lines = textwrap.wrap(words(path), 120 - 13, break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"# {'memory:' if number == 0 else '':<11}{line}" for number, line in enumerate(lines)) + "\n"


def with_block(text: str, new: str) -> str:
    """The recipe's text with the lines of `memory` replaced."""
    found = re.search(r"^# memory: .*\n(?:#\s{3,}\S.*\n)*", text, re.MULTILINE)
    assert found is not None
    return text[: found.start()] + new + text[found.end() :]


def is_off(path: Path) -> bool:
    """Whether a recipe says something else than its plan, by more than a fifth."""
    (said,) = recipe_table.header(path)[1]["memory"]
    number = re.match(r"([\d.]+) GB on one GPU", said)
    total = planned(path).peak.total
    return total > SMALL and (number is None or abs(float(number[1]) * 1e9 / total - 1) > 0.2)


def main() -> int:
    """Write, or check; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    recipes = recipe_table.domain_recipes()
    off = [name for name, path in recipes.items() if is_off(path)]
    if arguments.check:
        for name in off:
            print(f"{name}: the comment block says another memory than the plan", file=sys.stderr)
        return int(bool(off))
    for path in recipes.values():
        if planned(path).peak.total > SMALL:
            path.write_text(with_block(path.read_text(encoding="utf-8"), block(path)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
