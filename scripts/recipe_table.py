"""Write the table of the domains' recipes in recipes/README.md, made from the recipes themselves.

    python scripts/recipe_table.py            # writes
    python scripts/recipe_table.py --check    # only says whether the table is current, exit code 1 where not

Each recipe of a domain begins with a comment block: a title, then the keys of ``KEYS`` in this order; a line that is
indented further goes on with the key above.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from pgtune.recipe import Recipe, load_recipe

ROOT = Path(__file__).resolve().parents[1]
DOMAINS = ("remote_sensing", "charts", "radiology", "sheet_music")
KEYS = ("command", "data", "memory", "metric", "published", "level", "size", "ours")
REPEATED = ("size",)
LEVELS = {
    "V0": "it validates",
    "V1": "its token layout is checked",
    "V2": "it was run on real records of the data set",
    "V3": "it learns on `tiny`",
    "V4": "the published score was reproduced with the real weights",
}
BEGIN, END = "<!-- begin: scripts/recipe_table.py -->", "<!-- end: scripts/recipe_table.py -->"
_KEY = re.compile(r"# ([a-z]+): +(.+)")


class HeaderError(Exception):
    """A recipe whose comment block is not as it should be; names the file."""


def header(path: Path) -> tuple[str, dict[str, list[str]]]:
    """The title and the keys of a recipe's comment block; each key has a list of values, one for most of them."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line)
    found: dict[str, list[str]] = {}
    order: list[str] = []
    for line in lines[1:]:
        match = _KEY.fullmatch(line)
        if match and match[1] in KEYS:
            found.setdefault(match[1], []).append(match[2].strip())
            order.append(match[1])
        elif re.match(r"#\s{3,}\S", line) and order:
            found[order[-1]][-1] += " " + line.lstrip("# ").strip()
        elif line.strip("# "):
            raise HeaderError(f"{path}: neither a key ({', '.join(KEYS)}) nor the next line of one: {line!r}")
    once = [key for key in dict.fromkeys(order) if key not in REPEATED and len(found[key]) > 1]
    missing = [key for key in KEYS if key not in found and key not in REPEATED]
    if missing or once or [KEYS.index(key) for key in order] != sorted(KEYS.index(key) for key in order):
        raise HeaderError(f"{path}: the keys must be {', '.join(KEYS)}, in this order; missing {missing}, twice {once}")
    return lines[0].lstrip("# ").rstrip("."), found


def level(value: str) -> str:
    """``V2`` of "V2 (12 real records, by hand)"; HeaderError for none of the known ones."""
    name = value.split()[0].rstrip(",.;:")
    if name not in LEVELS:
        raise HeaderError(f"level {value!r}: expected one of {', '.join(LEVELS)}")
    return name


def domain_recipes() -> dict[str, Path]:
    """``charts/chartqa_224`` and its file, for each recipe of a domain."""
    return {
        path.relative_to(ROOT / "recipes").with_suffix("").as_posix(): path
        for domain in DOMAINS
        for path in sorted((ROOT / "recipes" / domain).glob("*.yaml"))
    }


def table() -> str:
    """The table in Markdown."""
    lines = [
        "| name | what it does | method | metric | published | level |",
        "|---|---|---|---|---|---|",
    ]
    for name, path in domain_recipes().items():
        title, keys = header(path)
        recipe: Recipe = load_recipe(path)
        cells = [
            f"`{name}`",
            title,
            recipe.method,
            ", ".join(f"`{metric}`" for metric in recipe.eval.metrics),
            keys["published"][0],
            level(keys["level"][0]),
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def with_table(text: str) -> str:
    """The README with the table as it should be between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"recipes/README.md lacks the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> int:
    """Write, or check; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    readme = ROOT / "recipes" / "README.md"
    text = readme.read_text(encoding="utf-8")
    wanted = with_table(text)
    if arguments.check:
        if text != wanted:
            print("recipes/README.md: the table is not current; run python scripts/recipe_table.py", file=sys.stderr)
        return int(text != wanted)
    readme.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
