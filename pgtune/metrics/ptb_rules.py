"""The rules by which Stanford's English tokenizer 3.4.1 splits a text, as regular expressions.

Of all rules the one whose match reaches furthest wins, what must follow included, and of equal ones the first. What the
rules must do is what the programme does (its specification is public, ``PTBLexer.flex`` of Stanford CoreNLP 3.4.1);
they are written here from that behaviour, for Python's leftmost matching and for pycocoevalcap's options only.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["ABBREVIATIONS", "Rule", "rules"]

# Letters of today's Unicode that the lexer, of Unicode 6.3, does not take for letters.
_LATER_LETTERS = (
    "037F 0528-052F 0560 0588 05EF 0860-086A 0870-088F 08A1 08AD-08C9 0978 0980 09FC 0AF9 0C34 0C5A 0C5D "
    "0C80 0CDD 0D04 0D54-0D56 0D5F 0E86 0E89 0E8C 0E8E-0E93 0E98 0EA0 0EA8-0EA9 0EAC 13F5 13F8-13FD 16F1-16F8 170D "
    "171F 1878 191D-191E 19B0-19C0 19C8-19C9 1B4C 1C80-1C8A 1C90-1CBA 1CBD-1CBF 1CF2-1CF3 1CFA 2C2F 2C5F 312E-312F "
    "31BB-31BF 4DB6-4DBF 9FCD-9FFF A698-A69D A78F A794-A79F A7AB-A7DC A7F1-A7F7 A8FD-A8FE A9E0-A9E4 A9E6-A9EF "
    "A9FA-A9FE AA7E-AA7F AB30-AB5A AB5C-AB69 AB70-ABBF"
)
_LATER_DIGITS = "0DE6-0DEF A9F0-A9F9"
# Signs that the rule for words takes for letters, most of them marks that Unicode does not call letters.
_WORD_SIGNS = (
    "00AD 0237-024F 02C2-02C5 02D2-02DF 02E5-02FF 0300-036F 0370-037D 0384-0385 03CF 03F6 03FC-03FF 0483-0487 04CF "
    "04F6-04FF 0510-0525 055A-055F 0591-05BD 05BF 05C1-05C2 05C4-05C5 05C7 0615-061A 063B-063F 064B-065E 0670 "
    "06D6-06EF 06FA-06FF 070F 0711 0730-074F 0750-077F 07A6-07B1 07CA-07F5 07FA 0900-0903 093C 093E-094E 0951-0955 "
    "0962-0963 0981-0983 09BC-09C4 09C7-09C8 09CB-09CD 09D7 09E2-09E3 0A01-0A03 0A3C 0A3E-0A4F 0A81-0A83 0ABC-0ACF "
    "0B82 0BBE-0BC2 0BC6-0BC8 0BCA-0BCD 0C01-0C03 0C3E-0C56 0D3E-0D44 0D46-0D48 0E30-0E3A 0E47-0E4E 0EB1-0EBC "
    "0EC8-0ECD"
)
_SYMBOLS = (
    "0025-0026 002B 005C 005E 007C 007E 00A6-00A9 00AC 00AE-00BA 00D7 00F7 0387 05BE 05C0 05C3 05C6 05F3-05F4 "
    "0600-0603 0606-060A 060C 0614 061B 061E 066A 066D 0703-070D 07F6-07F8 0964-0965 0E4F 1FBD 2016-2017 2020-2023 "
    "2030-2038 203B 203E-2042 2044 207A-207F 208A-208E 2100-214F 2190-2BFF 3012 30FB FF01-FF0F FF1A-FF20 FF3B-FF40 "
    "FF5B-FF65"
)


def _codes(ranges: str) -> set[int]:
    bounds = [part.partition("-") for part in ranges.split()]
    return {code for low, _, high in bounds for code in range(int(low, 16), int(high or low, 16) + 1)}


def _class(codes: set[int]) -> str:
    """The inside of a character class."""
    text, run = "", sorted(codes)
    start = 0
    for place in range(1, len(run) + 1):
        if place == len(run) or run[place] != run[place - 1] + 1:
            text += f"\\u{run[start]:04x}-\\u{run[place - 1]:04x}"
            start = place
    return text


class Rule(NamedTuple):
    pattern: re.Pattern[str]
    """Group 1 is what is taken; what stands behind it must follow and counts for the length."""
    text: Callable[[str], str]
    """The token for what was taken; an empty one is none."""
    back: int
    """How many characters of it are read again."""
    needs: str
    """A sign that must stand further on, before the next blank: without it the rule need not be tried."""


_QUOTES = str.maketrans({
    "\x91": "`", "‘": "`", "‛": "`", "‹": "`", "\x92": "'", "’": "'", "›": "'",
    "\x93": "``", "“": "``", "«": "``", "\x94": "''", "”": "''", "»": "''",
})  # fmt: skip
_SIGNS = str.maketrans({
    "¢": "cents", "£": "#", "\x80": "$", "¤": "$", "₠": "$", "€": "$",
    "¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3",
})  # fmt: skip
_BLANKS = str.maketrans({" ": "\xa0", "(": "-LRB-", ")": "-RRB-"})
_BRACKETS = {"(": "-LRB-", ")": "-RRB-", "[": "-LSB-", "]": "-RSB-", "{": "-LCB-", "}": "-RCB-"}


def _same(text: str) -> str:
    return text


def _nothing(text: str) -> str:
    return ""


def _without_soft_hyphens(text: str) -> str:
    return text.replace("\xad", "") or "-"


def _quote(text: str) -> str:
    return text.replace("&apos;", "'").translate(_QUOTES)


def _ampersand(text: str) -> str:
    return re.sub("&amp;", "&", text, flags=re.IGNORECASE)


def _abbreviation_before_a_sentence(text: str) -> str:
    return text[:-1] if len(text) == 2 else text


def _dashes(text: str) -> str:
    return "--" if len(text) in (3, 4) else text


_MONTHS_DAYS_STATES = (
    "Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec Mon Tue Tues Wed Thu Thurs Fri Ala Ariz [A]z [A]rk Calif Colo "
    "Conn Ct Dak [D]el Fla Ga [I]ll Ind Kans? Ky [L]a [M]ass Md Mich Minn [M]iss Mo Mont Neb Nev Okla [O]re [P]a Penn "
    "Tenn [T]ex Va Vt [W]ash Wisc? Wyo"
)
_COMPANIES_AND_REST = (
    "Inc Cos? Corp Pp?t[ye]s? Ltd Plc Rt Bancorp Bhd Assn Univ Intl Sys tel est ext sq Jr Sr Bros Ed\\.D Ph\\.D Blvd "
    "Rd Esq etc al seq Bldg"
)
_TITLES = (
    "Mr Mrs Ms [M]iss Drs? Profs? Sens? Reps? Attys? Lt Col Gen Messrs Govs? Adm Rev Maj Sgt Cpl Pvt Capt Ste? Ave "
    "Pres Lieut Hon Brig Co?mdr Pfc Spc Supts? Det Mt Ft Adj Adv Asst Assoc Ens Insp Mlle Mme Msgr Sfc vs Alex Wm Jos "
    "Cie a\\.k\\.a cf TREAS Ph Invt Elec Natl M[ft]g Dept"
)
# After these words a full stop behind a single letter ends the sentence: "vitamin C. The ...".
_SENTENCE_STARTS = (
    "About According Additionally After An A As At But Earlier He Her Here However If In It Last Many More Mr\\. Ms\\. "
    "Now Once One Other Our She Since So Some Such That The Their Then There These They This We When While What Yet You"
)
_FILE_ENDINGS = (
    "bat bmp c class cgi cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png ppt ps py sql "
    "tar txt wav x xml zip"
)


def _any(words: str) -> str:
    """One of the words, in any case but for letters in brackets."""
    return "(?ai:" + "|".join(re.sub(r"\[([A-Z])\]", r"(?-i:\1)", word) for word in words.split()) + ")"


ABBREVIATIONS = _any(
    f"{_MONTHS_DAYS_STATES} {_COMPANIES_AND_REST} {_TITLES} ca figs? prop nos? art bldg pp op pt[ey] co"
)
"""Matches every word that a full stop may belong to."""


@functools.cache
def rules() -> list[Rule]:
    """All rules, in the order in which they win. Built once, when captions are first split."""
    planes = range(0x10000)
    letters = {code for code in planes if unicodedata.category(chr(code))[0] == "L"}
    letters = letters - _codes(_LATER_LETTERS) | {0x1885, 0x1886}
    digits = {code for code in planes if unicodedata.category(chr(code)) == "Nd"} - _codes(_LATER_DIGITS)
    all_digits = digits | _codes("07C0-07C9")
    space = "[ \t\xa0\u2000-\u200a\u3000]"
    space_or_line = "(?:[ \t\xa0\u2000-\u200a\u3000\n\x85])"
    d = f"[{_class(all_digits)}]"
    plain_letter = f"[{_class(letters)}]"
    plain = f"[{_class(letters | digits)}]"  # of a hyphenated thing
    entity = "&[aeiouAEIOU](?ai:acute|grave|uml);"
    letter = f"(?:[{_class(letters | _codes(_WORD_SIGNS))}]|{entity})"
    inside = f"(?:[{_class(letters | _codes(_WORD_SIGNS) | all_digits)}]|{entity})"
    word = f"{letter}{inside}*(?:[.!?]{letter}{inside}*)*"
    apos = "(?:['\x92’]|(?ai:&apos;))"
    any_apos = "(?:['\x92’`\x91‘‛]|(?ai:&apos;))"
    tail = f"{apos}(?:[msdMSD]|(?ai:re|ve|ll))"
    not_tail = f"[nN]{any_apos}[tT]"
    tag = (
        r"<(?:[!?][A-Za-z\-][^>\r\n]*|[A-Za-z][A-Za-z0-9_:.\-]*(?: +(?:[A-Za-z][A-Za-z0-9_:.\-]* *= *"
        r"(?:'[^'\n]*'|\"[^\"\n]*\")|[A-Za-z][A-Za-z0-9_:.\-]*))* */?|/[A-Za-z][A-Za-z0-9_:.\-]*) *>"
    )
    number = f"{d}*(?:[.:,\xad\u066b\u066c]{d}+)+|{d}+"
    in_host = r"[^ \t\n\f\r\"<>|.!?(){},]"
    in_short_host = r"[^ \t\n\f\r\"`'<>|.!?(){},-_$]"  # the range from "," to "_" is in the original
    host = rf"[wW]{{3}}\.(?:{in_host}+\.)+[a-zA-Z]{{2,4}}"
    short_host = rf"(?:{in_short_host}+\.)+(?ai:com|net|org|edu)"
    path = r"/[^ \t\n\f\r\"<>|()]+[^ \t\n\f\r\"<>|.!?(){},-]"
    in_mail = r"[^ \t\n\f\r\"<>|(){}.\xa0]"
    dotted = r"[A-Za-z](?:\.[A-Za-z])*"
    of_states = r"(?ai:(?:Canada|Sino|Korean|EU|Japan|non)-U\.S|U\.S\.-(?:U\.K|U\.S\.S\.R))"
    acronym = f"(?:{of_states}|{dotted})"
    hyphened = r"[A-Za-z0-9][A-Za-z0-9.,\xad]*(?:-(?:[A-Za-z](?:\.[A-Za-z])+\.|[A-Za-z0-9\xad]+))+"
    elided = f"(?:[dDoOlL]{any_apos}{plain})?{plain}+"
    thing = f"{elided}(?:[-_\u058a\u2010\u2011]{elided})*"
    joined = r"[A-Z]+(?:(?:[+&]|(?ai:&amp;))[A-Z]+)+"
    slashed = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
    digits_3_3 = r"[0-9]{3,4}[- \xa0]?[0-9]{3,5}"
    mark = "[,;:\u3001]"
    made: list[Rule] = []

    def add(taken: str, text: Callable[[str], str] = _same, *, then: str = "", back: int = 0, needs: str = "") -> None:
        made.append(Rule(re.compile(f"({taken}){then}"), text, back, needs))

    add(r"[cC]\+\+")
    add("[cCfF]#")
    add("(?ai:cannot)", lambda text: text[:-3], back=3)
    add("(?ai:'twas)", lambda text: text[:-3], back=3)
    add("(?ai:'tis)", lambda text: text[:-2], back=2)
    add("(?ai:gonna|gotta|lemme|gimme|wanna)", lambda text: text[:-2], back=2)
    add(tag, lambda text: text.replace(" ", "\xa0"))
    add("(?ai:&(?:MD|mdash|ndash);)|[\x96\x97–—―]", lambda text: "--")
    add("(?ai:&amp;)", _ampersand)
    add("&(?ai:HT|TL|UR|LR|QC|QL|QR|odq|cdq);|&#[0-9]+;")
    add(word, _without_soft_hyphens, then=tail)
    add("[A-Za-z\xad]*[A-MO-Za-mo-z]\xad*", _without_soft_hyphens, then=not_tail)
    add(word, _without_soft_hyphens)
    for odd in (
        f"{apos}[nN]{apos}?", f"[lLdDjJ]{apos}", f"(?ai:Dunkin|somethin|ol){apos}", f"{apos}[eE][mM]",
        f"[A-HJ-XZn]{any_apos}{plain_letter}{{2,}}", f"{apos}[2-9]0[sS]", f"{apos}(?ai:till?)",
        f"{plain_letter}+[aeiouyAEIOUY]{any_apos}[aeiouA-Z]{plain_letter}*", f"{apos}(?ai:cause)", r"(?ai:cont'd\.?)",
        "(?ai:nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l)", f"[oO]{any_apos}[oO]",
    ):  # fmt: skip
        add(odd)
    add(f"[yY]{apos}", then=plain_letter)
    add(r"(?ai:https?)://[^ \t\n\f\r\"<>|(){}]+[^ \t\n\f\r\"<>|.!?(){},-]", needs=":")
    for some_host in (host, short_host):
        add(some_host, needs=".")
        add(some_host + path, needs=".")
    add(
        rf"(?:(?ai:&lt;)|<)?[a-zA-Z0-9][^ \t\n\f\r\"<>|()\xa0{{}}]*@(?:{in_mail}+\.)*{in_mail}+(?:(?ai:&gt;)|>)?",
        needs="@",
    )
    add(f"@[a-zA-Z_][a-zA-Z_0-9]*|#{letter}+")
    add(tail, _quote, then="[^A-Za-z]")
    add(not_tail, _quote, then="[^A-Za-z]")
    add(rf"{d}{{1,2}}[-/]{d}{{1,2}}[-/]{d}{{2,4}}")
    add(f"[-+]?(?:{number})", _without_soft_hyphens)
    add("[\u207a\u207b\u208a\u208b]?(?:[\u2070¹²³\u2074-\u2079]+|[\u2080-\u2089]+)")
    add(rf"(?:{d}{{1,4}}[- \xa0])?{d}{{1,4}}(?:\\?/|\u2044){d}{{1,4}}", lambda text: text.replace(" ", "\xa0"))
    add("[¼½¾\u2153-\u215e]", lambda text: text.translate(_SIGNS))
    add("-(?ai:RRB|LRB|RCB|LCB|RSB|LSB)-")
    add(r"(?ai:C\.D\.s|pro-|anti-|S(?:&|&amp;)P-500|S(?:&|&amp;)Ls)", _ampersand)
    add(f"(?ai:Cap){apos}[nN]|[cC]{apos}(?ai:est)", _ampersand)
    add(rf"{slashed}(?:\\?/{slashed}){{1,2}}")
    add(r"[A-Z]*\$|#")
    add("[¢£¤¥\x80₠€؋฿₤￠￡￥￦]", lambda text: text.translate(_SIGNS))
    starts = "|".join(f"{first[0]}(?ai:{first[1:]})" for first in _SENTENCE_STARTS.split())
    before_sentence = f"{space_or_line}+(?:{starts}|{tag}){space_or_line}"
    add(rf"{acronym}\.", _abbreviation_before_a_sentence, then=before_sentence, back=1)
    add(r"(?ai:ca|figs?|prop|nos?|art|bldg|pp|op)\.", then=f"{space_or_line}?[{_class(digits)}]")
    add(r"(?:[pP][tT][eyEY]|[cC][oO])\.", then=f"{space}(?ai:ltd|lim)")
    add(rf"{_any(_MONTHS_DAYS_STATES + ' ' + _COMPANIES_AND_REST)}\.", then=r"[\s\S]{0,2}")
    add(rf"(?:{acronym}|{_any(_TITLES)})\.")
    add(f"(?:{acronym}|{_any(_TITLES)})", then=space)
    add(acronym, then=space_or_line)
    add(f"{apos}[0-9][0-9]", then=space_or_line)
    add(rf"{inside}+(?:\.{inside}+)*\.{_any(_FILE_ENDINGS)}", then=f"(?:{space_or_line}|[.?!,])", needs=".")
    add(rf"{word}\.", _without_soft_hyphens, then=mark)
    for telephone in (
        rf"\([0-9]{{2,3}}\)[ \xa0]?{digits_3_3}", rf"\+{{0,2}}[0-9]{{2,4}}[- \xa0][0-9]{{2,4}}[- \xa0]{digits_3_3}",
        rf"\+{{0,2}}[0-9]{{2,4}}[- \xa0]{digits_3_3}", r"[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}",
        r"\+{0,2}[0-9]{2,4}\.[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}",
    ):  # fmt: skip
        add(telephone, lambda text: text.translate(_BLANKS))
    add('"|(?ai:&quot;)', lambda text: "''")  # or ``, both left out
    add("<|(?ai:&lt;)", lambda text: "<")
    add(">|(?ai:&gt;)", lambda text: ">")
    add(r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]", lambda text: text.translate(_BLANKS), then="[^A-Za-z0-9]")
    for face in (
        r"[\^x=~<>]\.\[\^[xX]=~<>\]", r"[-\^x=~<>']_[-\^x=~<>']", r"\([-\^x=~<>'][_.]?[-\^x=~<>']\)",
        r"\([\^x=~<>']-[\^x=~<>'`]\)",
    ):  # fmt: skip
        add(face, lambda text: text.translate(_BLANKS))
    add(r"[(){}\[\]]", _BRACKETS.__getitem__)
    add("-+", _dashes)
    add(r"\.{3,5}|(?:\.[ \xa0]){2,4}\.|[\x85…]", lambda text: "...")
    add(r"@+|#+|_+|\*+|(?:\\\*){1,3}|[,;:\u3001]|[?!]+|[.¡¿\u037e\u0589\u061f\u06d4\u0700-\u0702\u07fa\u3002=/]")
    for piece, clean, sign in ((hyphened, _without_soft_hyphens, "-"), (thing, _same, ""), (joined, _ampersand, "")):
        add(rf"{piece}\.", clean, then=mark, needs=sign or ".")
        add(piece, clean, needs=sign)
    add("'", lambda text: "`", then="[A-Za-z][^ \t\n\r\xa0]")
    add(f"{tail}|{not_tail}", _quote)
    add(f"[`‘’‚‛“”\x91-\x94„‟‹›«»]{{1,2}}|''|{apos}", _quote)
    add("<<|>>")
    add(f"[{_class(_codes(_SYMBOLS))}]")
    add("\0|[ \t\xa0\u2000-\u200a\u3000]+|[\u200b\u200e-\u200f\ufeff]|\x7f|(?ai:&nbsp;)", _nothing)
    return made
