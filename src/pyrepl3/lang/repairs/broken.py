"""Source that does not compile in, tokens and lines that repair rules can read out.

CPython's tokenizer stops at the first mistake, so it cannot be used here. This one never stops:
whatever it does not know is a one-character ``op``. It is linear in the source, and right about
strings, f-strings and comments as long as those are whole.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

import msgspec

FILENAME = "<pyrepl3 repair>"
"""The name under which rules compile: warnings of it are ignored, for nobody wrote that source."""

_DOUBLE = "“”„‟″＂"
_SINGLE = "‘’‚‛′＇´"
_TRIPLE_BODY = r"[^\\{q}]*(?:(?:\\.|{q}(?!{q}{q}))[^\\{q}]*)*{q}{q}{q}"
_LINE_BODY = r"[^\\{q}\n]*(?:\\.[^\\{q}\n]*)*{q}"
_PREFIX = r"(?i:[ru]|b|f|br|rb|fr|rf|ur)?"

_TOKEN = re.compile(
    rf"""
      (?P<comment>\#[^\n]*)
    | (?P<newline>\n)
    | (?P<space>[ \t\f]+)
    | (?P<fstring>(?i:f|fr|rf)(?:\"\"\"|'''|"|'))
    | (?P<string>{_PREFIX}(?:
            \"\"\"{_TRIPLE_BODY.format(q='"')}
          | '''{_TRIPLE_BODY.format(q="'")}
          | "(?!"")(?:{_LINE_BODY.format(q='"')})
          | '(?!'')(?:{_LINE_BODY.format(q="'")})))
    | (?P<open>{_PREFIX}(?:(?:\"\"\"|''')(?s:.)*|["'](?:[^\n\\]|\\.|\\$)*))
    | (?P<smart>[{_DOUBLE}][^{_DOUBLE}"\n]*[{_DOUBLE}"]
          | [{_SINGLE}][^\n]{{0,300}}?[{_SINGLE}'](?!\w))
    | (?P<name>[^\W\d]\w*)
    | (?P<number>0[xX]\w*|\.?\d(?:[eE][+-](?=\d)|[\w.])*)
    | (?P<op>===|!==|\*\*=|//=|>>=|<<=|\.\.\.|&&|\|\||=>|=<|<>|->|:=|\*\*|//|>>|<<
          |[-+*/%&|^@=<>!]=|(?s:.))
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
_QUOTED = re.compile(
    rf"""{_PREFIX}(?:\"\"\"{_TRIPLE_BODY.format(q='"')}|'''{_TRIPLE_BODY.format(q="'")}
    |"{_LINE_BODY.format(q='"')}|'{_LINE_BODY.format(q="'")})""",
    re.VERBOSE | re.DOTALL,
)

_EXPRESSION = 400  # characters

OPENERS = {"(": ")", "[": "]", "{": "}"}
CLOSERS = {")": "(", "]": "[", "}": "{"}
KEYWORDS = frozenset(
    "False None True and as assert async await break class continue def del elif else except "
    "finally for from global if import in is lambda nonlocal not or pass raise return try while "
    "with yield".split()
)
# A body may follow on the next line; `match` and `case` are names elsewhere.
HEADERS = frozenset(
    "if elif else for while try except finally with def class async match case".split()
)


class Token(msgspec.Struct, frozen=True):
    """``kind`` is a group of ``_TOKEN``; ``line`` counts from 0, ``depth`` is that before it."""

    kind: str
    text: str
    start: int
    end: int
    line: int
    depth: int

    @property
    def operand_ends(self) -> bool:
        """Whether an expression may end with this token."""
        if self.kind == "name":
            return self.text not in KEYWORDS or self.text in ("None", "True", "False")
        return self.kind in ("string", "smart", "number") or self.text in (")", "]", "}", "...")

    @property
    def operand_starts(self) -> bool:
        """Whether an expression may start with this token."""
        if self.kind == "name":
            return self.text not in KEYWORDS or self.text in (
                *("None", "True", "False", "not", "lambda", "await"),
            )
        return self.kind in ("string", "smart", "number") or self.text in OPENERS


class Edit(msgspec.Struct, frozen=True):
    """Replace ``start:end`` (characters) by ``text``; ``words`` say so, in the past tense."""

    start: int
    end: int
    text: str
    words: str


type Edits = Sequence[Edit]
type Find = Callable[[Broken], Iterator[Edits]]
"""A rule: broken source in, possible repairs out, the likeliest first. Each is tried by compiling."""


def _fstring_end(source: str, start: int, quote: str) -> int:
    """Where the f-string ends whose content begins at ``start``; -1 where it does not.

    Since 3.12 (PEP 701) the quote may come again inside the braces. An expression that is longer
    than ``_EXPRESSION`` is taken for a brace never closed, so that many such cost no square.
    """
    depth, at, size = 0, start, len(source)
    opened = at
    while at < size and (depth == 0 or at - opened < _EXPRESSION):
        char = source[at]
        if char == "\n" and len(quote) == 1 and depth == 0:
            return -1
        if depth == 0:
            if char == "\\":
                at += 2
            elif source.startswith(quote, at):
                return at + len(quote)
            elif char == "{" and not source.startswith("{{", at):
                depth, opened, at = 1, at, at + 1
            else:
                at += 2 if source.startswith("{{", at) else 1
        elif char in "\"'" and (quoted := _QUOTED.match(source, at)):
            at = quoted.end()
        elif char in "\"'\n#":
            return -1
        else:
            depth += (char == "{") - (char == "}")
            at += 1
    return -1


def _tokens(source: str) -> Iterator[Token]:
    at = line = depth = 0
    size = len(source)
    match = _TOKEN.match
    while at < size:
        found = match(source, at)
        assert found is not None  # the last alternative matches any character
        kind, end = str(found.lastgroup), found.end()
        if kind == "fstring":
            prefix = found.group()
            quote = prefix.lstrip("fFrR")
            end = _fstring_end(source, end, quote)
            kind = "string"
            if end < 0:  # PEP 701 does not explain it: read it as an ordinary string
                plain = match(source, at + len(prefix) - len(quote))
                assert plain is not None
                kind, end = str(plain.lastgroup), plain.end()
        text = source[at:end]
        if kind == "newline":
            line += 1
        elif kind != "space":
            if kind == "op" and text in CLOSERS:
                depth = max(0, depth - 1)
                yield Token(kind, text, at, end, line, depth + 1)
            else:
                yield Token(kind, text, at, end, line, depth)
                depth += kind == "op" and text in OPENERS
            if kind in ("string", "open"):
                line += text.count("\n")
        at = end


class Broken:
    """A source with what CPython said of it, read tolerantly. Lines count from 0 here.

    ``pos`` and ``end`` are where the error is, in characters of ``source``.
    """

    def __init__(self, source: str, error: SyntaxError) -> None:
        self.source = source
        self.lines = source.split("\n")
        self.starts = [0]
        for text in self.lines:
            self.starts.append(self.starts[-1] + len(text) + 1)
        self.message = error.msg or ""
        self.line = min(max((error.lineno or 1) - 1, 0), len(self.lines) - 1)
        self.pos = self._place(self.line, error.offset)
        last = min(max((error.end_lineno or 0) - 1, self.line), len(self.lines) - 1)
        self.end = max(self.pos, self._place(last, error.end_offset))
        self.tokens: list[Token] = []
        self._on: dict[int, list[Token]] = {}
        self._inside: set[int] = set()
        self.statements: list[int] = []
        """The lines that seem to start a statement, so far as brackets and strings tell."""
        line, joined = -1, -1
        for token in _tokens(source):
            if token.kind == "comment":
                continue
            self.tokens.append(token)
            if token.line == line:
                self._on[line].append(token)
            else:
                line = token.line
                self._on[line] = [token]
                if not token.depth and line not in self._inside and line != joined:
                    self.statements.append(line)
            if token.text == "\\":
                joined = line + 1
            elif token.kind in ("string", "open") and (count := token.text.count("\n")):
                self._inside.update(range(line + 1, line + 1 + count))
        self._starting = frozenset(self.statements)

    def _place(self, line: int, offset: int | None) -> int:
        return self.starts[line] + min(max((offset or 1) - 1, 0), len(self.lines[line]))

    def line_of(self, pos: int) -> int:
        """The line that holds the character at ``pos``."""
        return bisect_right(self.starts, pos, 0, len(self.lines)) - 1

    def in_string(self, line: int) -> bool:
        """Whether the line starts inside a string of several lines."""
        return line in self._inside

    def on(self, line: int) -> list[Token]:
        """The tokens that start on this line, without comments."""
        return self._on.get(line, [])

    def index(self, pos: int) -> int:
        """The index of the first token that ends after ``pos``."""
        return bisect_right(self.tokens, pos, key=lambda token: token.end)

    def in_quotes(self, pos: int) -> bool:
        """Whether the character at ``pos`` belongs to a string."""
        index = self.index(pos)
        if index == len(self.tokens):
            return False
        token = self.tokens[index]
        return token.start <= pos and token.kind in ("string", "open")

    def indent(self, line: int) -> str:
        """The white space that the line starts with."""
        text = self.lines[line]
        return text[: len(text) - len(text.lstrip(" \t"))]

    def starts_statement(self, line: int) -> bool:
        """Whether the line seems to start a statement, so far as brackets and strings tell."""
        return line in self._starting

    def code_line(self, line: int, step: int = 1) -> int | None:
        """The next line with code after (``step`` -1: before) ``line``, or None."""
        line += step
        while 0 <= line < len(self.lines):
            if line in self._on:
                return line
            line += step
        return None

    def block(self, line: int) -> list[int]:
        """``line`` and the lines with code after it that are indented at least as deep."""
        width = len(self.indent(line))
        lines = [line]
        following = self.code_line(line)
        while following is not None:
            if not self.in_string(following) and len(self.indent(following)) < width:
                break
            lines.append(following)
            following = self.code_line(following)
        return lines

    @property
    def unit(self) -> str:
        """One step of indentation, as the source has it; four spaces where it has none."""
        previous = ""
        for line in self.statements:
            indent = self.indent(line)
            if len(indent) > len(previous) and indent.startswith(previous):
                return indent[len(previous) :]
            previous = indent
        return "    "

    def edit_line(self, line: int, old: int, new: str, words: str) -> Edit:
        """Replace the first ``old`` characters of a line."""
        start = self.starts[line]
        return Edit(start, start + old, new, words)

    def drop_lines(self, lines: Sequence[int], words: str) -> list[Edit]:
        """Delete whole lines, with their ends."""
        size = len(self.source)
        return [
            Edit(self.starts[line], min(self.starts[line + 1], size), "", words) for line in lines
        ]
