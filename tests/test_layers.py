"""The house: who may import whom, what stays free of torch, and the one public surface."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pgtune

ROOT = Path(__file__).parents[1]

# From the ground up. A module may import from its own floor and those below. A package stands for all in it, but the
# tools that make the tiny base (tiny.*) are above the training that they use, and its folder's name below the model.
FLOORS = (
    {"errors", "launcher", "left_out", "locations", "names", "progress", "quiet", "recipe_yaml", "spool", "writing"},
    {
        "example", "groups", "images", "recipe", "recipe_build", "recipe_reading", "recipe_rules", "settings",
        "settings_common", "settings_data", "settings_train", "sources",
    },
    {"data_adapters", "recipes", "tiny"},
    {
        "architecture", "planning", "strategies",
        "arithmetic", "augment", "checkpoint", "collate", "compat", "compiling", "data", "detection", "feeding",
        "forward", "generation", "hub", "loading", "lookalikes", "loss",
        "measuring", "merge_checks", "merge_places", "merging",
        "methods", "metrics", "model", "parts", "picture", "preflight", "probes", "processor", "quantization",
        "optimizers", "overlaps", "ranks", "sharding",
        "reading", "run_files", "run_folder", "run_forms", "saving", "schedule", "scoring", "splits", "squares",
        "tracking", "verification", "stopping", "visits",
    },
    {
        "adapting", "audit", "evaluation", "job", "keeping", "launching", "loop", "prediction", "prediction_files",
        "prediction_inputs",
        "preview", "reporting", "starting", "training", "workers",
    },
    {"doctor", "selftests", "tiny.*"},
    {"cli", "commands"},
    {"__init__", "__main__"},
)  # fmt: skip
PLUG_IN = {"errors", "example", "images", "locations"}
HEAVY = {"torch", "transformers", "peft", "accelerate", "bitsandbytes", "wandb", "tensorboard"}
LIGHT = {
    *FLOORS[0], *FLOORS[1], *FLOORS[-2], *FLOORS[-1],
    "adapting", "audit", "data", "data_adapters", "metrics", "preflight", "reporting", "splits", "starting",
    "architecture", "planning", "strategies",
}  # fmt: skip


def sources() -> dict[str, Path]:
    """Module names below ``pgtune.`` and their files; a package is called by its folder."""
    found = {}
    for folder, prefix in ((ROOT / "pgtune", ""), (ROOT / "data_adapters", "data_adapters.")):
        for path in folder.rglob("*.py"):
            name = prefix + ".".join(path.relative_to(folder).with_suffix("").parts)
            found[name.removesuffix(".__init__") or name] = path
    return found


def imports(path: Path, *, top: bool) -> Iterator[str]:
    """What a file imports, type checking aside; ``top``: only what is imported when the file is."""
    def walk(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if top and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                yield from (f"{child.module}.{alias.name}" for alias in child.names)
            yield from walk(child)

    return walk(ast.parse(path.read_text(encoding="utf-8")))


def module_of(imported: str, known: set[str]) -> str | None:
    """The module of ours that ``pgtune.a.b`` means, where ``b`` may be a name in ``a``."""
    if imported.split(".")[0] != "pgtune":
        return None
    name = imported.removeprefix("pgtune").removeprefix(".")
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or "__init__"


def graph(*, top: bool) -> dict[str, set[str]]:
    """Each module of ours and the modules of ours that it imports."""
    files = sources()
    known = set(files)
    found = {}
    for name, path in files.items():
        inner = {module_of(imported, known) for imported in imports(path, top=top)}
        found[name] = {module for module in inner if module is not None and module not in (name, "__init__")}
    return found


def floor(name: str) -> int:
    room, _, inner = name.partition(".")
    room = f"{room}.*" if inner and any(f"{room}.*" in rooms for rooms in FLOORS) else room
    places = [i for i, rooms in enumerate(FLOORS) if room in rooms]
    assert len(places) == 1, f"pgtune/{room}: give it a floor in FLOORS of {__file__}"
    return places[0]


def test_imports_go_down() -> None:
    up = [
        f"{name} imports {inner}"
        for name, inners in graph(top=False).items()
        for inner in sorted(inners)
        if floor(inner) > floor(name)
    ]
    assert not up


def test_no_import_cycle() -> None:
    left = graph(top=True)
    while ready := {name for name, inners in left.items() if not inners & left.keys()}:
        left = {name: inners for name, inners in left.items() if name not in ready}
    assert not left, f"in or above a cycle: {sorted(left)}"


def test_data_adapters_use_what_a_plug_in_may_use() -> None:
    for name, inners in graph(top=False).items():
        if name.startswith("data_adapters"):
            assert {inner for inner in inners if not inner.startswith("data_adapters")} <= PLUG_IN, name


@pytest.mark.parametrize("name", sorted(name for name in sources() if name.split(".")[0] in LIGHT))
def test_no_torch_when_imported(name: str) -> None:
    files, inner = sources(), graph(top=True)
    reached, todo = set(), [name]
    while todo:
        module = todo.pop()
        if module in reached:
            continue
        reached.add(module)
        heavy = {imported.split(".")[0] for imported in imports(files[module], top=True)} & HEAVY
        assert not heavy, f"{name} reaches {module}, which imports {sorted(heavy)}"
        todo += inner[module]


def test_the_public_surface_is_sorted_and_importable() -> None:
    assert sorted(pgtune.__all__) == pgtune.__all__
    for name in pgtune.__all__:
        assert getattr(pgtune, name).__name__ == name
    assert dir(pgtune) == sorted([*pgtune.__all__, "__version__"])
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = pgtune.trian


def test_importing_pgtune_is_light() -> None:
    code = "import sys, pgtune; print(sorted(m for m in sys.modules if m.startswith(('torch', 'pydantic', 'PIL'))))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout == "[]\n"
