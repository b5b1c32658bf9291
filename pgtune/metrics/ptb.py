r"""The Penn Treebank tokens that the COCO caption evaluation compares, without its Java programme.

pycocoevalcap writes all captions into one file, a line each, has Stanford's ``PTBTokenizer`` 3.4.1 split it
(``-preserveLines -lowerCase``) and leaves out a list of punctuation. That tokenizer is a lexer; its rules are written
anew in ``pgtune.metrics.ptb_rules``. The two were compared on every character of the Basic Multilingual Plane in five
surroundings, on 250,000 lines of documents and code and on 1.8 million random strings, and split all alike (but for the
lower case of a capital sigma next to digits, which Java's word breaks decide); ``tests/expected/ptb_tokens.jsonl``
keeps some, with what the Java programme gave.

Kept, because the values depend on it: the tokenizer is made for English; it takes characters that Unicode 6.3 did not
know for none; a blank inside a token (``1 1/2``, a telephone number, a tag) is a no-break space, at which CIDEr and
BLEU split again and ROUGE-L does not; a letter with a full stop at the end of a caption is seen together with the
beginning of the next one. Not kept: other line breaks than ``\n`` (``\r``, U+2028 ...) would shift all later captions
by a line there; here they are blanks.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Sequence

from pgtune.metrics.ptb_rules import ABBREVIATIONS, rules

__all__ = ["tokenize"]

DROPPED = frozenset(("''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))
"""What is left out of the tokens. Brackets stay: pycocoevalcap's list has ``-LRB-``, but the tokens are lower case."""

# What stands in for a line break inside a caption, as pycocoevalcap does for "\n".
_LINE_BREAKS = str.maketrans(dict.fromkeys("\n\r\x0b\x0c\u2028\u2029", " "))
_BEYOND = re.compile("[\U00010000-\U0010ffff]")
# A run of signs whose tokens do not depend on what stands behind the blank that ends it. Tags go on behind it, and full
# stops (". . ."), and digits and brackets where more digits follow ("1 1/2", "(555) 123-4567").
_CHUNK = re.compile(r"[^\s<]*(?:[^\s<.)\d](?=[ \n])|[)\d](?=\n| [A-Za-z]))|[A-Za-z][A-Za-z0-9]*(?=[ \n])")
_ABBREVIATION = re.compile(ABBREVIATIONS)
_LAST_WORD = re.compile(r"([A-Za-z]{2,})\.(?=[ \n](?! ?\.))")


@functools.lru_cache(maxsize=1 << 16)
def _is_plain(word: str) -> bool:
    """Whether a word before a full stop is that word and the stop."""
    return not _ABBREVIATION.fullmatch(word) and _lex(word + " ") == (word,)


@functools.lru_cache(maxsize=1 << 16)
def _lex(text: str) -> tuple[str, ...]:
    """The tokens of a text in one line, before they are made lower case."""
    found, place, ahead = [], 0, dict[str, int]()
    while place < len(text):
        token, place = _next(text, place, ahead)
        if token:
            found.append(token)
    return tuple(found)


def _next(text: str, place: int, ahead: dict[str, int]) -> tuple[str, int]:
    """The token that begins there ("": none, the sign is passed over) and where to go on.

    ``ahead`` remembers for some signs where they come next, so that a long text is not searched from every place.
    """
    furthest, best, chosen = place, None, None
    end = min(_find(text, " ", place, ahead), _find(text, "\n", place, ahead))
    for rule in rules():
        if rule.needs and _find(text, rule.needs, place, ahead) >= end:
            continue
        match = rule.pattern.match(text, place)
        if match is not None and match.end() > furthest:
            furthest, best, chosen = match.end(), match, rule
    if best is None or chosen is None:
        return "", place + 1
    return chosen.text(best[1]), best.end(1) - chosen.back


def _find(text: str, sign: str, place: int, ahead: dict[str, int]) -> int:
    if ahead.get(sign, -1) < place:
        found = text.find(sign, place)
        ahead[sign] = found if found >= 0 else len(text)
    return ahead[sign]


def _in_halves(match: re.Match[str]) -> str:
    """A sign beyond the Basic Multilingual Plane as the two halves that Java, and so the lexer, sees."""
    code = ord(match[0]) - 0x10000
    return chr(0xD800 + (code >> 10)) + chr(0xDC00 + (code & 0x3FF))


def _lower(token: str) -> str:
    if token.isascii():
        return token.lower()
    return token.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass").lower()


def tokenize(texts: Sequence[str]) -> list[str]:
    """For each text its tokens, lower case, with a blank between two: what pycocoevalcap's tokenizer gives.

    The texts are seen as one file, a line each. A text without any token gives "".
    """
    whole = _BEYOND.sub(_in_halves, "\n".join(text.translate(_LINE_BREAKS) for text in texts))
    lines: list[list[str]] = [[]]
    place, end, ahead = 0, len(whole), dict[str, int]()
    while place < end:
        if whole[place] == " ":
            place += 1
        elif whole[place] == "\n":
            lines.append([])
            place += 1
        elif (place == 0 or whole[place - 1] in " \n") and (chunk := _CHUNK.match(whole, place)):
            lines[-1] += _lex(chunk[0] + " ")
            place = chunk.end()
        elif (last := _LAST_WORD.match(whole, place)) and _is_plain(last[1]):
            lines[-1].append(last[1])
            place = last.end()
        else:
            token, place = _next(whole, place, ahead)
            if token:
                lines[-1].append(sys.intern(token))
    return [_kept(line) for line in lines]


def _kept(tokens: list[str]) -> str:
    # The detour over one text is pycocoevalcap's: white space at the end of the last token goes.
    return " ".join(token for token in " ".join(map(_lower, tokens)).rstrip().split(" ") if token not in DROPPED)
