"""Broken source in, edits out that replace characters no keyboard for code has.

Word processors, chat windows, PDF files and other alphabets put them there. What stands inside
ordinary quotes or in a comment is never touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from unicodedata import name as name_of
from unicodedata import normalize

from pyrepl3.lang.repairs.broken import Broken, Edit, Edits

_INVISIBLE = frozenset(
    "\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
    "\u2060\u2061\u2062\u2063\u2066\u2067\u2068\u2069\ufeff\ufffc"
)
_SPACES = {
    **dict.fromkeys(
        "\x0b\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
        "\u202f\u205f",
        " ",
    ),
    "\u3000": "  ",  # as wide as two
    **dict.fromkeys("\x85\u2028\u2029", "\n"),
}
_SIGNS = {
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212\ufe63", "-"),
    "\u00d7": "*",
    "\u2217": "*",
    "\u22c5": "*",
    "\u00b7": "*",
    "\u00f7": "/",
    "\u2215": "/",
    "\u2044": "/",
    "\u2192": "->",
    "\u21d2": "->",
    "\u2264": "<=",
    "\u2265": ">=",
    "\u2260": "!=",
    "\u2026": "...",
    "\u02c6": "^",
    "\u2225": "|",
    "\u3001": ",",  # ideographic comma
    "\u3002": ".",  # ideographic full stop
    "\u3010": "[",
    "\u3011": "]",
    "\u300a": "<",
    "\u300b": ">",
    "\u061b": ";",
    "\u060c": ",",
}


def _plain(char: str) -> str | None:
    """What ``char`` stands for in code, or None."""
    if "\uff01" <= char <= "\uff5e":  # full-width forms mirror ASCII
        return chr(ord(char) - 0xFEE0)
    return _SIGNS.get(char)


def invisible(b: Broken) -> Iterator[Edits]:
    """Zero-width characters, byte-order marks, directional marks: removed."""
    yield [
        Edit(t.start, t.end, "", f"removed an invisible character (U+{ord(t.text):04X})")
        for t in b.tokens
        if t.text in _INVISIBLE
    ]


def spaces(b: Broken) -> Iterator[Edits]:
    """Non-breaking and other special spaces become spaces; line separators become line ends."""
    yield [
        Edit(t.start, t.end, _SPACES[t.text], f"replaced a special space (U+{ord(t.text):04X})")
        for t in b.tokens
        if t.text in _SPACES
    ]


def typographic(b: Broken) -> Iterator[Edits]:
    """Curly quotes, dashes, arrows, full-width punctuation: all of them in one go."""
    edits: list[Edit] = []
    for t in b.tokens:
        if t.kind == "smart":
            edits.append(Edit(t.start, t.end, _requote(t.text), "replaced typographic quotes"))
        elif t.kind == "op" and (plain := _plain(t.text)):
            words = f"replaced {t.text!r} ({name_of(t.text, '?').lower()}) by {plain!r}"
            edits.append(Edit(t.start, t.end, plain, words))
        elif t.kind == "number" and not t.text.isascii():
            digits = normalize("NFKC", t.text)
            edits.append(Edit(t.start, t.end, digits, f"wrote {t.text} as {digits}"))
    yield edits


def _requote(text: str) -> str:
    """The same text between plain quotes, of a kind that it does not contain."""
    body = text[1:-1]
    for quote in ('"', "'") if text[0] in "“”„‟″＂" else ("'", '"'):
        if quote not in body:
            return quote + body + quote
    return '"' + body.replace('"', '\\"') + '"'
