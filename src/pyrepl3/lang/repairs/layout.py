"""Broken source in, edits out that mend indentation, blocks and their headers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from pyrepl3.lang.repairs.broken import HEADERS, Broken, Edit, Edits, Token

_AFTER = re.compile(r"expected an indented block after .* on line (\d+)$")
_CLAUSES = frozenset({"else", "elif", "except", "finally", "case"})
_JOINS = frozenset({"and", "or", "not", "in", "is"})
_INFIX = frozenset("+ - * / // % ** == != < > <= >= | & ^ . << >>".split())
_WHOLE_BODY = frozenset({"def", "class", "async", "with", "try", "match"})
_TERMINATORS = frozenset({"then", "do", ";", ",", ":", "."})


def tabs(b: Broken) -> Iterator[Edits]:
    """Tabs and spaces mixed: tabs become 4 spaces, or 8, or 2, whichever compiles first."""
    lines = [
        line for line in range(len(b.lines)) if "\t" in b.indent(line) and not b.in_string(line)
    ]
    if lines and "indent" in b.message:
        for width in (4, 8, 2):
            yield [
                b.edit_line(
                    line,
                    len(b.indent(line)),
                    b.indent(line).expandtabs(width),
                    f"turned tabs into {width} spaces",
                )
                for line in lines
            ]


def _shift(b: Broken, lines: Iterable[int], old: int, new: str, words: str) -> list[Edit]:
    """Replace the first ``old`` characters of indentation by ``new``."""
    return [b.edit_line(line, old, new, words) for line in lines if not b.in_string(line)]


def unexpected_indent(b: Broken) -> Iterator[Edits]:
    """A block that is indented without a header before it."""
    if b.message != "unexpected indent":
        return
    before = b.code_line(b.line, -1)
    new = b.indent(before) if before is not None else ""
    old = len(b.indent(b.line))
    yield _shift(b, b.block(b.line), old, new, "removed the unexpected indentation")
    yield _shift(b, [b.line], old, new, "removed the unexpected indentation")


def unmatched_dedent(b: Broken) -> Iterator[Edits]:
    """A line indented like none of the blocks around it: moved to the nearest of them."""
    if not b.message.startswith("unindent does not match"):
        return
    width = len(b.indent(b.line))
    levels: list[str] = []
    before = b.code_line(b.line, -1)
    while before is not None:
        indent = b.indent(before)
        if not b.in_string(before) and (not levels or len(indent) < len(levels[-1])):
            levels.append(indent)
        before = b.code_line(before, -1) if indent else None
    block = b.block(b.line)
    for level in sorted(levels, key=lambda level: abs(len(level) - width))[:4]:
        yield _shift(b, [b.line], width, level, "aligned the line with the block around it")
        yield _shift(b, block, width, level, "aligned the lines with the block around them")


def _header(b: Broken) -> tuple[int, int, int | None] | None:
    """The header without a body: its line, its last line, and the next line of code."""
    if not (found := _AFTER.match(b.message)):
        return None
    header = min(int(found[1]) - 1, len(b.lines) - 1)
    at_error = b.line if b.on(b.line) and b.line > header else None
    following = at_error if at_error is not None else b.code_line(b.line)
    last = b.code_line(following if following is not None else len(b.lines), -1)
    return header, max(header, last if last is not None else header), following


def missing_body(b: Broken) -> Iterator[Edits]:
    """Nothing after the colon: the next lines are its body, or there is none and `pass` stands in."""
    found = _header(b)
    if found is None:
        return
    header, last, following = found
    indented = _indent_body(b, header, following) if following is not None else []
    empty = [_add_pass(b, header, last)]
    first = b.on(following)[0].text if following is not None else ""
    apart = following is not None and (
        following > last + 1
        or len(b.indent(following)) < len(b.indent(header))
        or first in _CLAUSES
        or first in ("def", "class", "@", "async")
    )
    for edits in (empty, indented) if apart else (indented, empty):
        if edits:
            yield edits


def _indent_body(b: Broken, header: int, following: int) -> list[Edit]:
    """Indent what follows: up to a blank line for `def` and the like, one statement for `if`."""
    base = b.indent(header)
    keyword = b.on(header)[0].text if b.on(header) else ""
    lines: list[int] = []
    line: int | None = following
    while line is not None and len(b.indent(line)) >= len(base):
        if lines and b.starts_statement(line) and len(b.indent(line)) == len(base):
            if keyword not in _WHOLE_BODY or not b.lines[line - 1].strip():
                break
            if b.on(line)[0].text in _CLAUSES:
                break
        lines.append(line)
        line = b.code_line(line)
    return _shift(b, lines, 0, b.unit, f"indented the body of the {keyword!r} on line {header + 1}")


def _add_pass(b: Broken, header: int, last: int) -> Edit:
    """Put `pass` after the header, or after the comments that stand for a body."""
    indent = b.indent(header) + b.unit
    line = last + 1
    while line < len(b.lines) and b.lines[line].lstrip().startswith("#"):
        if len(b.indent(line)) <= len(b.indent(header)):
            break
        indent, last = b.indent(line), line
        line += 1
    end = b.starts[last] + len(b.lines[last])
    return Edit(end, end, f"\n{indent}pass", "added 'pass' as the body")


def _flat(tokens: Sequence[Token]) -> bool:
    """Whether the tokens close every bracket that they open."""
    return (
        not tokens
        or tokens[-1].depth
        + (tokens[-1].text in ("(", "[", "{"))
        - (tokens[-1].text in (")", "]", "}"))
        == tokens[0].depth
    )


def _has_colon(tokens: Sequence[Token]) -> bool:
    lambdas = 0
    for token in tokens:
        if token.depth == tokens[0].depth:
            if token.text == ":":
                if not lambdas:
                    return True
                lambdas -= 1
            lambdas += token.text == "lambda"
    return False


def _open_headers(b: Broken) -> Iterator[tuple[int, list[Token]]]:
    """Lines that look like the whole header of a block and have no colon."""
    for line in b.statements:
        tokens = b.on(line)
        if tokens[0].text not in HEADERS or not _flat(tokens) or _has_colon(tokens):
            continue
        if tokens[-1].text == "\\":
            continue
        following = b.code_line(line)
        deeper = following is not None and len(b.indent(following)) > len(b.indent(line))
        if tokens[0].text in ("match", "case") and not deeper:
            continue  # names, more likely
        if tokens[0].text == "async" and (len(tokens) < 2 or tokens[1].text not in HEADERS):
            continue
        yield line, tokens


def header_end(b: Broken) -> Iterator[Edits]:
    """`if x then`, `while x do`, `else;`, `if x::`: the header ends in another word or sign."""
    edits = []
    for line in b.statements:
        tokens = b.on(line)
        if tokens[0].text not in HEADERS:
            continue
        first = len(tokens)
        while first > 1 and tokens[first - 1].text in _TERMINATORS:
            first -= 1
        last = len(tokens)
        for i, token in enumerate(tokens):
            if token.text == "then" and i and token.depth == tokens[0].depth:
                first, last = i, i + 1 + (i + 1 < len(tokens) and tokens[i + 1].text == ":")
        ending = [token.text for token in tokens[first:last]]
        if ending and ending != [":"]:
            start, end = tokens[first - 1].end, tokens[last - 1].end
            words = f"replaced {b.source[start:end].strip()!r} by ':'"
            edits.append(Edit(start, end, ":", words))
    yield edits


def missing_colon(b: Broken) -> Iterator[Edits]:
    """`if x` without its ':': at the end of the line, or where CPython expected it."""
    edits = [
        Edit(tokens[-1].end, tokens[-1].end, ":", "added the missing ':'")
        for _, tokens in _open_headers(b)
    ]
    yield edits
    if len(edits) > 1:
        yield [edit for edit in edits if b.line_of(edit.start) == b.line]
    if any(token.text in HEADERS or token.text == "lambda" for token in b.on(b.line)):
        at = b.index(b.pos)
        if at and not (at < len(b.tokens) and b.tokens[at].text == "{"):
            end = b.tokens[at - 1].end
            yield [Edit(end, end, ":", "added the missing ':'")]


def stray_clause(b: Broken) -> Iterator[Edits]:
    """An `else`, `elif`, `except`, `finally` or `case` that stands at no header's level."""
    tokens = b.on(b.line)
    for before, token in pairwise(tokens):
        if token.text in _CLAUSES and token.start <= b.pos <= token.end:
            words = f"put {token.text!r} on a line of its own"
            yield [Edit(before.end, token.start, "\n" + b.indent(b.line), words)]
    if not tokens or tokens[0].text not in _CLAUSES:
        return
    old = b.indent(b.line)
    levels: list[str] = []
    above = b.code_line(b.line, -1)
    while above is not None and len(levels) < 4:
        if b.starts_statement(above) and b.on(above)[0].text in HEADERS:
            indent = b.indent(above)
            if indent != old and indent not in levels:
                levels.append(indent)
        above = b.code_line(above, -1)
    following = b.code_line(b.line)
    body = (
        b.block(following) if following is not None and len(b.indent(following)) > len(old) else []
    )
    words = f"aligned {tokens[0].text!r} with the block that it belongs to"
    for level in levels:
        yield _shift(b, [b.line], len(old), level, words)
        yield _shift(b, [b.line, *body], len(old), level, words)


def broken_line(b: Broken) -> Iterator[Edits]:
    """An expression that goes on in the next line, outside brackets: a backslash joins them."""
    words = "joined the lines with a backslash"
    lines: list[int] = []
    for line in b.statements:
        tokens = b.on(line)
        following = b.code_line(line)
        if following != line + 1 or tokens[-1].text in (":", ";", ",", "\\"):
            continue
        first = b.on(following)
        operator = tokens[-1].kind == "op" and not tokens[-1].operand_ends and _flat(tokens)
        if operator or tokens[-1].text in _JOINS or _goes_on(first[0]):
            lines.append(line)
    ends = [(b.on(line)[-1].end, b.starts[line + 1] - 1) for line in lines]
    yield [Edit(end, stop, " \\", words) for end, stop in ends if not b.source[end:stop].strip()]


def _goes_on(token: Token) -> bool:
    """Whether no statement starts with ``token``, but the middle of an expression may."""
    return token.text in _JOINS - {"not"} or (
        token.kind == "op" and token.text in _INFIX and token.text not in ("+", "-", "*", "~", "@")
    )


def braces(b: Broken) -> Iterator[Edits]:
    """Blocks in braces, laid out as elsewhere: `if (x) {` … `} else {` … `}`."""
    edits: list[Edit] = []
    for line, text in enumerate(b.lines):
        if b.in_string(line) or not (tokens := b.on(line)):
            continue
        if text.strip() in ("}", "};"):
            edits += b.drop_lines([line], "removed the closing brace")
        elif tokens[0].text == "}" and len(tokens) > 1 and tokens[1].text in _CLAUSES | {"catch"}:
            edits.append(Edit(tokens[0].start, tokens[1].start, "", "removed the closing brace"))
        if (
            tokens[-1].text == "{"
            and len(tokens) > 1
            and tokens[-2].text not in ("=", "(", "[", ",")
        ):
            start = tokens[-2].end
            edits.append(Edit(start, tokens[-1].end, ":", "replaced the opening brace by ':'"))
    if any(edit.text == ":" for edit in edits):
        yield edits


def def_parentheses(b: Broken) -> Iterator[Edits]:
    """`def f:` for `def f():`."""
    yield [
        Edit(name.end, name.end, "()", "added the missing '()'")
        for word, name, after in zip(b.tokens, b.tokens[1:], b.tokens[2:], strict=False)
        if word.text == "def" and name.kind == "name" and after.text in (":", "->")
    ]


def missing_def(b: Broken) -> Iterator[Edits]:
    """`area(r):` with a body below: the word `def` was forgotten."""
    edits = []
    for line in b.statements:
        tokens = b.on(line)
        following = b.code_line(line)
        if (
            len(tokens) > 3
            and tokens[0].kind == "name"
            and tokens[0].text not in HEADERS
            and tokens[1].text == "("
            and tokens[-1].text == ":"
            and _flat(tokens)
            and following is not None
            and len(b.indent(following)) > len(b.indent(line))
        ):
            start = tokens[0].start
            edits.append(Edit(start, start, "def ", "added the missing 'def'"))
    yield edits
