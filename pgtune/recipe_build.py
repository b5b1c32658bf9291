"""From a draft to a checked recipe: the schema's complaints in the words of a recipe, all at once.

What was expected is read off the JSON schema of the key, so that a message says the same as the schema an editor uses.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Iterator
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pgtune.names import nearest
from pgtune.recipe_reading import Draft, Problem, dotted, report, shown
from pgtune.recipe_yaml import KeyPath

__all__ = ["build", "describe", "keys"]

Model = TypeVar("Model", bound=BaseModel)


def build(model: type[Model], draft: Draft) -> Model:
    """Check the draft against the schema; raises RecipeError with every problem found.

    Contradictions are looked for even where other settings are wrong: what is wrong is taken out, so that its default
    holds, and contradictions that involve it are not reported.
    """
    problems = list(draft.problems)
    value = draft.value
    faulty: list[KeyPath] = []
    built: Model | None = None
    while built is None:
        try:
            built = model.model_validate(value)
            break
        except ValidationError as error:
            errors = error.errors()
        if errors[0]["type"] == "contradictions":
            for problem in errors[0]["ctx"]["problems"]:
                if not any(_touches(key, path) for key in problem.keys for path in faulty):
                    problems.append(_located(problem, draft))
            break
        found = {_path(model, value, details["loc"]): details for details in reversed(errors)}
        # A list that loses its wrong entries is not too short on top of that.
        found = {path: each for path, each in found.items() if not any(path == p[:-1] for p in found if p != path)}
        if not faulty:
            problems += [_problem(model, draft, path, details) for path, details in reversed(found.items())]
        faulty += found
        value = copy.deepcopy(value)
        for path, details in found.items():
            _repair(model, value, path, missing=details["type"] == "missing")
    if problems or built is None:
        raise report(draft.name, problems)
    return built


def _touches(key: str, path: KeyPath) -> bool:
    shorter, longer = sorted((tuple(key.split(".")), tuple(str(part) for part in path)), key=len)
    return longer[: len(shorter)] == shorter


def _located(problem: Problem, draft: Draft) -> Problem:
    where = next((place for key in problem.keys if (place := draft.origin(tuple(key.split("."))))), "")
    return Problem(problem.path, problem.message, problem.given, where, problem.keys)


def section(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The schema of the section called ``name``, or None where that key is no section."""

    def models(annotation: Any) -> Iterator[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        for inner in get_args(annotation):
            yield from models(inner)

    return next(models(model.model_fields[name].annotation), None)


def keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """All dotted keys of a schema, sections before what is in them."""
    names = []
    for name in model.model_fields:
        names.append(prefix + name)
        if inner := section(model, name):
            names += keys(inner, f"{prefix}{name}.")
    return names


def _path(model: type[BaseModel], value: Any, loc: tuple[str | int, ...]) -> KeyPath:
    """A pydantic location without the names of union branches: keys of the schema, and what is there in the value."""
    path: KeyPath = ()
    inside: type[BaseModel] | None = model
    for part in loc:
        there = _inside(value, part)
        if inside is None and not there:
            break
        path = (*path, part)
        value = value[part] if there else None
        inside = section(inside, part) if inside and isinstance(part, str) and part in inside.model_fields else None
    return path


def _inside(value: Any, part: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, dict) and part in value


def _problem(model: type[BaseModel], draft: Draft, path: KeyPath, error: ErrorDetails) -> Problem:
    given, where = error["input"], draft.origin(path)
    if error["type"] == "extra_forbidden":
        return Problem(dotted(path), _unknown_key(model, path, given), given, where)
    if error["type"] == "missing":
        expected = describe(schema_at(model, path))
        return Problem(dotted(path), f"required, but absent: expected {expected}", None, where)
    given = _given(draft.value, path, given)
    if error["type"].startswith("recipe_"):
        expected, close = error["msg"], error.get("ctx", {}).get("close")
    else:
        try:
            entry = schema_at(model, path)
        except LookupError:  # inside data.adapter_args, whose keys are the data adapter's
            entry = {"anyOf": [{"type": "json"}]}
        expected = describe(entry)
        close = nearest(given, _choices(entry)) if isinstance(given, str) else None
    hint = f"; did you mean {close}?" if close else ""
    return Problem(dotted(path), f"expected {expected}, not {shown(given)}{hint}", given, where)


def _given(value: Any, path: KeyPath, default: Any) -> Any:
    """What the recipe says at ``path``: validators may have reshaped what pydantic reports."""
    for part in path:
        if not _inside(value, part):
            return default
        value = value[part]
    return value


OTHER_NAMES = {
    "bf16": "train.mixed_precision",
    "dora": "lora.use_dora",
    "fp16": "train.mixed_precision",
    "fsdp": "train.strategy",
    "full_determinism": "train.deterministic",
    "load_in_4bit": "model.quantization",
    "load_in_8bit": "model.quantization",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "lr": "train.learning_rate",
    "lr_scheduler_type": "train.schedule",
    "max_length": "data.max_text_tokens",
    "model_id": "model.base",
    "model_name_or_path": "model.base",
    "num_train_epochs": "train.epochs",
    "optim": "train.optimizer",
    "per_device_train_batch_size": "train.batch_size",
    "r": "lora.rank",
    "report_to": "tracking",
    "rslora": "lora.use_rslora",
    "target_modules": "lora.targets",
    "torch_compile": "train.compile",
    "torch_dtype": "model.dtype",
    "warmup_steps": "train.warmup_ratio",
}
"""What users of other trainers write -> the key here."""


def _unknown_key(model: type[BaseModel], path: KeyPath, given: Any) -> str:
    inside: type[BaseModel] | None = model
    for part in path[:-1]:
        inside = section(inside, str(part)) if inside else None
    name, around = str(path[-1]), [str(part) for part in path[:-1]]
    siblings = list(inside.model_fields) if inside else []
    elsewhere = {key.rpartition(".")[2]: key for key in keys(model)}
    if name in OTHER_NAMES:
        hint = f"here it is called {OTHER_NAMES[name]}"
    elif close := nearest(name, siblings):
        hint = f"did you mean {'.'.join([*around, close])}?"
    elif close := nearest(name, elsewhere):
        hint = f"did you mean {elsewhere[close]}?"
    else:
        hint = f"known here: {', '.join(siblings)}"
    return f"unknown key (given {shown(given)}); {hint}"


def _repair(model: type[BaseModel], value: Any, path: KeyPath, *, missing: bool) -> None:
    """Take what is wrong out of ``value``, or put something into the place of what is missing."""
    *around, last = itertools.takewhile(lambda part: isinstance(part, str), path)  # a list goes as a whole
    for part in around:
        if part not in value:  # gone already, with something else in it
            return
        if isinstance(value[part], str):  # a short form: the whole of it goes
            del value[part]
            return
        value = value[part]
    if missing:
        inside = model
        for part in around:
            inside = section(inside, str(part)) or inside
        inner = section(inside, str(last))
        value[last] = {} if inner is not None and "source" not in inner.model_fields else "-"
    else:
        value.pop(last, None)


@functools.cache
def _json_schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def schema_at(model: type[BaseModel], path: KeyPath) -> dict[str, Any]:
    """The JSON schema of one key; raises LookupError where the schema leaves it open what is there."""
    whole = _json_schema(model)
    entry: dict[str, Any] = whole
    for part in path:
        branches = list(_branches(entry, whole))
        if isinstance(part, int):
            entry = next(branch["items"] for branch in branches if "items" in branch)
        else:
            properties = {name: each for branch in branches for name, each in branch.get("properties", {}).items()}
            entry = properties[part]
    return {"anyOf": list(_branches(entry, whole))}


def _branches(entry: dict[str, Any], whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in entry:
        yield from _branches(whole["$defs"][entry["$ref"].rpartition("/")[2]], whole)
    elif "anyOf" in entry:
        for inner in entry["anyOf"]:
            yield from _branches(inner, whole)
    else:
        yield entry


def _choices(entry: dict[str, Any]) -> list[str]:
    return [
        str(choice)
        for branch in entry["anyOf"]
        for choice in (*branch.get("enum", ()), *((branch["const"],) if "const" in branch else ()))
    ]


def describe(entry: dict[str, Any]) -> str:
    """A JSON schema in words: ``an integer of 1 or more, or null``."""
    words = [_describe_one(branch) for branch in entry.get("anyOf", [entry])]
    return ", or ".join(dict.fromkeys(words))


def _describe_one(entry: dict[str, Any]) -> str:
    if "const" in entry:
        return str(entry["const"])
    if "enum" in entry:
        return "one of " + ", ".join(str(choice) for choice in entry["enum"])
    kind = entry.get("type")
    if kind in ("integer", "number"):
        return ("an integer" if kind == "integer" else "a number") + _bounds(entry)
    if kind == "array":
        return "a list of " + _describe_one(entry["items"]).replace("one of ", "").replace("text", "names")
    if kind == "string" and entry.get("minLength"):
        return "text that is not empty"
    if kind == "json":
        return "finite numbers, text, true, false, null, lists or mappings"
    return {"boolean": "true or false", "string": "text", "null": "null", "object": "a section (key: value)"}[str(kind)]


def _bounds(entry: dict[str, Any]) -> str:
    words = {
        "minimum": "of {} or more",
        "exclusiveMinimum": "above {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "below {}",
    }
    parts = [text.format(shown(entry[key])) for key, text in words.items() if key in entry]
    return f" {' and '.join(parts)}" if parts else ""


def key_table(model: type[BaseModel], prefix: str = "") -> list[dict[str, str]]:
    """Every key of a schema: ``key``, what is ``expected``, ``default`` as a recipe spells it, and ``help``."""
    rows = []
    for name, field in model.model_fields.items():
        entry = schema_at(model, (name,))
        inner = section(model, name)
        value = field.get_default(call_default_factory=True)
        default = "none, it is required" if field.is_required() else shown_default(value)
        text = " ".join((field.description or "").split())
        rows.append({"key": prefix + name, "expected": describe(entry), "default": default, "help": text})
        if inner is not None and "source" not in inner.model_fields:
            rows += key_table(inner, f"{prefix}{name}.")
    return rows


def shown_default(value: Any) -> str:
    """A default as a recipe spells it; a section's is called by its keys' own defaults."""
    if isinstance(value, BaseModel):
        return "its keys' defaults"
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return value if isinstance(value, str) else shown(value)
