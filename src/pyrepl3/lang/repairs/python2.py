"""Broken source in, edits out that bring Python 2 to Python 3.

Only what does not compile: a `print` of Python 2 that means something else in Python 3, as
`print (a), b`, stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from pyrepl3.lang.repairs.broken import Broken, Edit, Edits, Token


def _simple_statements(b: Broken, word: str) -> Iterator[list[Token]]:
    """The tokens of each simple statement on one line that starts with ``word``."""
    for line in {token.line for token in b.tokens if token.text == word}:
        tokens = b.on(line)
        depth = tokens[0].depth
        start = 0
        for i in range(len(tokens) + 1):
            if i < len(tokens) and (tokens[i].text not in (";", ":") or tokens[i].depth != depth):
                continue
            statement = tokens[start:i]
            if len(statement) > 1 and statement[0].text == word:
                yield statement
            start = i + 1


def _whole(b: Broken, statement: list[Token]) -> int:
    """Where the statement ends: brackets may carry it over several lines."""
    end = statement[-1]
    opened = end.depth + (end.text in ("(", "[", "{")) - (end.text in (")", "]", "}"))
    if opened <= statement[0].depth:
        return end.end
    at = b.index(end.start)
    for token in b.tokens[at + 1 :]:
        if token.text in (")", "]", "}") and token.depth - 1 == statement[0].depth:
            return token.end
    return end.end


def print_statement(b: Broken) -> Iterator[Edits]:
    """`print x, y`, `print "a" % b`, `print >>f, x`, `print x,`: all of them in one go."""
    edits: list[Edit] = []
    unsure: list[Edit] = []  # `print [1]` compiles: it counts only beside others
    for statement in _simple_statements(b, "print"):
        first = statement[1]
        if first.kind == "op" and first.text not in (">>", "{", "-", "`", "~", "+", "["):
            continue
        (unsure if first.text == "[" else edits).extend(_print_call(b, statement))
    yield edits + unsure if edits else []


def _print_call(b: Broken, statement: list[Token]) -> list[Edit]:
    word, first, last = statement[0], statement[1], statement[-1]
    start, end = first.start, _whole(b, statement)
    stop, tail = end, ""
    if first.text == ">>":
        comma = next((t for t in statement if t.text == "," and t.depth == word.depth), None)
        tail = f"file={b.source[first.end : comma.start if comma else end].strip()}"
        start = comma.end if comma else end
        if comma:
            tail = f", {tail}"
            start += b.source[start] == " "
    elif last.text == "," and last.depth == word.depth:
        end, stop, tail = last.start, last.end, ', end=" "'
    words = "turned the print statement into a call"
    return [Edit(word.end, start, "(", words), Edit(end, stop, f"{tail})", words)]


def exec_statement(b: Broken) -> Iterator[Edits]:
    """`exec code` and `exec code in names`."""
    edits: list[Edit] = []
    for statement in _simple_statements(b, "exec"):
        if statement[1].kind == "op":
            continue
        words = "turned the exec statement into a call"
        edits.append(Edit(statement[0].end, statement[1].start, "(", words))
        for before, token in pairwise(statement):
            if token.text == "in" and token.depth == statement[0].depth:
                edits.append(Edit(before.end, token.end, ",", words))
        end = _whole(b, statement)
        edits.append(Edit(end, end, ")", words))
    yield edits


def except_comma(b: Broken) -> Iterator[Edits]:
    """`except E, e:` binds `e`; `except A, B:` with two classes is a tuple."""
    edits: list[Edit] = []
    for statement in _simple_statements(b, "except"):
        commas = [t for t in statement if t.text == "," and t.depth == statement[0].depth]
        last = statement[-1]
        if not commas or last.kind != "name":
            continue
        if len(commas) == 1 and last.text[:1].islower() and statement[-2] is commas[0]:
            words = "wrote 'as' for the comma after 'except'"
            edits.append(Edit(commas[0].start, last.start, " as ", words))
        else:
            words = "put the exception types in parentheses"
            start = statement[1].start
            edits += [Edit(start, start, "(", words), Edit(last.end, last.end, ")", words)]
    yield edits


def raise_comma(b: Broken) -> Iterator[Edits]:
    """`raise E, "message"`."""
    edits: list[Edit] = []
    for statement in _simple_statements(b, "raise"):
        comma = next(
            (t for t in statement if t.text == "," and t.depth == statement[0].depth), None
        )
        at = statement.index(comma) if comma else 0
        if comma and 1 < at < len(statement) - 1:
            words = "wrote the message of 'raise' as an argument"
            edits.append(Edit(statement[at - 1].end, statement[at + 1].start, "(", words))
            end = _whole(b, statement)
            edits.append(Edit(end, end, ")", words))
    yield edits


def backticks(b: Broken) -> Iterator[Edits]:
    """A pair of backticks on one line is `repr`."""
    edits: list[Edit] = []
    ticks = [t for t in b.tokens if t.text == "`"]
    pairs = zip(ticks[::2], ticks[1::2], strict=False)
    for left, right in pairs:
        if left.line == right.line and left.end < right.start:
            words = "replaced backticks by repr()"
            edits.append(Edit(left.start, left.end, "repr(", words))
            edits.append(Edit(right.start, right.end, ")", words))
    yield edits


def diamond(b: Broken) -> Iterator[Edits]:
    """`a <> b`."""
    yield [Edit(t.start, t.end, "!=", "replaced '<>' by '!='") for t in b.tokens if t.text == "<>"]


def old_number(b: Broken) -> Iterator[Edits]:
    """`0777` is octal, `10L` is long; `07` and `08`, as in dates, are 7 and 8."""
    edits: list[Edit] = []
    for token in b.tokens:
        text = token.text
        if token.kind != "number" or text[:2].lower() in ("0x", "0b", "0o"):
            continue
        new = text.rstrip("lL") if text[:-1].rstrip("lL").isdigit() else text
        if new.isdigit() and new[0] == "0" and new.strip("0"):
            octal = set(new) <= set("01234567") and len(new) > 2
            new = "0o" + new.lstrip("0") if octal else new.lstrip("0")
        if new != text:
            edits.append(Edit(token.start, token.end, new, f"wrote {text} as {new}"))
    yield edits


def ur_prefix(b: Broken) -> Iterator[Edits]:
    """`ur"..."` is a raw string."""
    yield [
        Edit(t.start, t.start + 2, "r", "replaced the prefix ur by r")
        for t in b.tokens
        if t.kind == "string" and t.text[:2].lower() == "ur"
    ]
