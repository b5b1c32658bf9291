"""Reading the lists in a large JSON file element by element, so that memory does not grow with the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

from pgtune.errors import DataError

__all__ = ["read_lists"]

CHUNK = 1 << 20
_SPACE = " \t\r\n"
# A value that is cut off at the end of what was read so far fails at most so many characters before that end.
_CUT = 16


def read_lists(path: Path) -> Iterator[tuple[str, int, Any]]:
    """``(key, index, element)`` for each element of each list that stands at the top of a JSON file.

    The file is an object (``{"questions": [...]}``; values that are no list are passed over) or one list, whose key is
    "". UTF-8, with or without a byte order mark. Raises DataError: no such file, not JSON, not UTF-8, cut off.
    """
    try:
        file = open(path, encoding="utf-8-sig")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    with file:
        try:
            yield from _Reader(file, path).lists()
        except UnicodeDecodeError:
            raise DataError(f"{path}: is not UTF-8 text") from None


class _Reader:
    """A window on the text: ``position`` is where to go on in ``text``, which begins at ``offset`` of the file."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self.file = file
        self.path = path
        self.text = ""
        self.position = 0
        self.offset = 0
        self.decoder = json.JSONDecoder()

    def lists(self) -> Iterator[tuple[str, int, Any]]:
        opening = self.peek()
        if opening == "[":
            yield from self.elements("")
        elif opening == "{":
            self.position += 1
            if self.peek() == "}":
                self.position += 1
            else:
                yield from self.members()
        else:
            self.fail("the file is empty" if not opening else "expected { or [")
        if self.peek():
            self.fail("something follows the end")

    def members(self) -> Iterator[tuple[str, int, Any]]:
        while True:
            key = self.value() if self.peek() == '"' else self.fail("expected a key")
            self.expect(":")
            if self.peek() == "[":
                yield from self.elements(key)
            else:
                self.value()
            if self.expect(",}") == "}":
                return

    def elements(self, key: str) -> Iterator[tuple[str, int, Any]]:
        self.position += 1
        index = 0
        if self.peek() == "]":
            self.position += 1
            return
        while True:
            self.peek()
            yield key, index, self.value()
            index += 1
            if self.expect(",]") == "]":
                return

    def peek(self) -> str:
        """The next character that is no white space, or "" at the end."""
        while True:
            while self.position < len(self.text) and self.text[self.position] in _SPACE:
                self.position += 1
            if self.position < len(self.text):
                return self.text[self.position]
            if not self.more():
                return ""

    def expect(self, characters: str) -> str:
        found = self.peek()
        if not found or found not in characters:
            self.fail("the file is cut off" if not found else f"expected {' or '.join(characters)}")
        self.position += 1
        return found

    def value(self) -> Any:
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.position)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self.text) - _CUT
                if not (cut and self.more()):
                    self.position = error.pos
                    self.fail("the file is cut off" if cut else error.msg)
            except RecursionError:
                self.fail("too many brackets inside one another")
            else:
                # A number near the end may go on in what is not read yet: 2 in "2.5".
                if end < len(self.text) - _CUT or not self.more():
                    self.position = end
                    return value

    def more(self) -> bool:
        """Read on; what lies before ``position`` is let go. False, with nothing changed, at the end of the file."""
        chunk = self.file.read(CHUNK)
        if chunk:
            self.text = self.text[self.position :] + chunk
            self.offset += self.position
            self.position = 0
        return bool(chunk)

    def fail(self, why: str) -> NoReturn:
        raise DataError(f"{self.path}: is not readable as JSON: {why} at character {self.offset + self.position + 1}")
