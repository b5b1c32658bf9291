"""HTML and SVG in which data can only ever be text: pure functions.

`tag` escapes every child and every attribute value that is not already `Safe`, so that there is one place to get wrong.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import TypeAlias, Union

__all__ = ["Attribute", "Child", "Safe", "join", "tag", "visible"]


class Safe(str):
    """Markup that is written as it stands."""


Child: TypeAlias = Union[str, Iterable["Child"], None]  # noqa: UP007 - a string cannot be joined by | here
Attribute: TypeAlias = str | float | bool | None

_VOID = {"br", "img", "input", "link", "meta"}
_UNUSUAL = re.compile(r"[^\n\t -~]")
_JOINERS = "\u200c\u200d"
"""Invisible, but letters of Persian and Indic words and of emoji hang on them."""


def visible(text: str) -> str:
    """The text with what cannot be seen written as its number: control characters, marks that turn the direction of
    writing, odd spaces, halves of a character. To a metric they make two answers differ; to a page they are a danger.
    """
    return _UNUSUAL.sub(lambda found: _shown(found[0]), text)


def _shown(letter: str) -> str:
    if letter.isprintable() or letter in _JOINERS:
        return letter
    return letter.encode("ascii", "backslashreplace").decode() if ord(letter) > 127 else f"\\x{ord(letter):02x}"


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Safe:
    """An element.

    Args:
        attributes: a trailing underscore is dropped (`class_`), others are written as hyphens. None and False leave the
            attribute out, True writes its name alone.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        assert not children, name
        return Safe(f"<{name}{written}>")
    return Safe(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: Child) -> Safe:
    """Children one after the other; what is not `Safe` is escaped."""
    return Safe("".join(map(_written, children)))


def _written(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Safe):
        return child
    if isinstance(child, str):
        return html.escape(visible(child))
    return "".join(map(_written, child))


def _attribute(key: str, value: Attribute) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f' {name}="{html.escape(visible(text))}"'
