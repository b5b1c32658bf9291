"""YAML as recipes mean it: the core schema of YAML 1.2, with every repeated key found and every line remembered.

PyYAML follows YAML 1.1, where ``1e-5`` is text, ``no`` is false, ``010`` is eight, ``1:30`` is ninety and
``2024-01-01`` a date. Here a plain scalar is null, true or false, a decimal, octal (``0o``) or hexadecimal (``0x``)
integer, a number, or text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

__all__ = ["Document", "KeyPath", "parse"]

KeyPath = tuple[str | int, ...]

MOST_VALUES = 100_000
"""How many values a recipe may hold, aliases followed."""

_PREFIX = "tag:yaml.org,2002:"
_CORE = (
    ("null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")),
    ("int", re.compile(r"(?:[-+]?[0-9]{1,300}|0o[0-7]+|0x[0-9a-fA-F]+)\Z"), list("-+0123456789")),
    ("float", re.compile(
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
    ), list("-+0123456789.")),
)


class _CoreLoader(yaml.SafeLoader):
    """PyYAML's parser with the implicit types of YAML 1.2's core schema and no others."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - typed so by PyYAML


for _name, _pattern, _first in _CORE:
    _CoreLoader.add_implicit_resolver(_PREFIX + _name, _pattern, _first)


@dataclass
class Document:
    """What a YAML text says, and where it says it."""

    value: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)
    """The line, from 1, of each key and list entry, by its path."""
    faults: list[tuple[KeyPath, int, str]] = field(default_factory=list)
    """Repeated keys, keys that are not text, tags: path, line and message."""


def parse(text: str) -> Document:
    """Read one YAML document; raises `yaml.YAMLError` where the text is not YAML at all."""
    loader = _CoreLoader(text)
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    document = Document(None)
    if node is not None:
        document.value = _convert(node, (), document, ())
    return document


def _convert(node: yaml.Node, path: KeyPath, document: Document, above: tuple[yaml.Node, ...]) -> Any:
    document.lines.setdefault(path, node.start_mark.line + 1)
    if len(document.lines) > MOST_VALUES:
        raise yaml.YAMLError(f"more than {MOST_VALUES:,} values (aliases of aliases multiply)")
    if any(node is outer for outer in above):
        document.faults.append((path, node.start_mark.line + 1, "an alias that contains itself"))
        return None
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, path, document)
    kind = "seq" if isinstance(node, yaml.SequenceNode) else "map"
    if node.tag != _PREFIX + kind:
        message = f"the tag {_shown_tag(node.tag)} is not known in a recipe"
        document.faults.append((path, node.start_mark.line + 1, message))
    if isinstance(node, yaml.SequenceNode):
        return [_convert(item, (*path, i), document, (*above, node)) for i, item in enumerate(node.value)]
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
        line = key_node.start_mark.line + 1
        if key is None or _scalar(key_node, path, document) != key:
            # A key such as `no` is text in YAML 1.2; `1:` or `true:` or `[a]:` is not.
            shown = "a list or mapping" if key is None else key
            document.faults.append((path, line, f"a key that is not text: {shown}; quote it"))
            continue
        here = (*path, key)
        if key in result:
            document.faults.append((here, line, f"repeated key; line {document.lines[here]} has it too"))
            continue
        document.lines[here] = line
        result[key] = _convert(value_node, here, document, (*above, node))
    return result


def _scalar(node: yaml.ScalarNode, path: KeyPath, document: Document) -> Any:
    text: str = node.value
    kind = node.tag.removeprefix(_PREFIX)
    if kind == "str":
        return text
    pattern = next((pattern for name, pattern, _ in _CORE if name == kind), None)
    if pattern is None or not pattern.match(text):
        message = f"the tag {_shown_tag(node.tag)} does not fit {text!r} in a recipe"
        document.faults.append((path, node.start_mark.line + 1, message))
        return text
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        return int(text[2:], {"0o": 8, "0x": 16}[text[:2]]) if text[:2] in ("0o", "0x") else int(text)
    return float(re.sub(r"\.(inf|nan)", r"\1", text.lower()))


def _shown_tag(tag: str) -> str:
    return "!!" + tag.removeprefix(_PREFIX) if tag.startswith(_PREFIX) else tag
