"""Broken source in, edits out that mend brackets, quotes, and what stands between brackets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from pyrepl3.lang.repairs.broken import (
    CLOSERS,
    HEADERS,
    KEYWORDS,
    OPENERS,
    Broken,
    Edit,
    Edits,
    Token,
)

_OTHER_QUOTE = re.compile(r"""["'`“”‘’´](?=[)\]},:;\s]*$)""")
_PREFIX = re.compile(r"(?<!\w)(?i:[rubf]|br|rb|fr|rf)\Z")
_LOOK_AHEAD = 8  # places tried for one missing bracket: the natural ones come first
_STATEMENTS = (HEADERS | KEYWORDS) - {
    "None",
    "True",
    "False",
    "not",
    "lambda",
    "await",
    "if",
    "else",
}


def _stack(tokens: list[Token]) -> list[Token]:
    """The brackets that are open after ``tokens``."""
    stack: list[Token] = []
    for token in tokens:
        if token.kind != "op":
            continue
        if token.text in OPENERS:
            stack.append(token)
        elif stack and CLOSERS.get(token.text) == stack[-1].text:
            stack.pop()
    return stack


def unclosed_bracket(b: Broken) -> Iterator[Edits]:
    """A bracket never closed: closed where the next statement begins, or before a header's ':'."""
    open_ones = _stack(b.tokens)
    if open_ones:
        yield _before_statements(b, b.tokens.index(open_ones[0]))
    at = b.index(b.pos)
    if "was never closed" not in b.message:
        if not (open_ones := _stack(b.tokens[: at + 1])):
            return
        at = b.tokens.index(open_ones[0])
    if at >= len(b.tokens):
        return
    opener = b.tokens[at]
    places: list[tuple[int, int, str]] = []  # rank, where, what
    stack: list[str] = []
    for i in range(at, len(b.tokens)):
        token = b.tokens[i]
        _follow(stack, token)
        if not stack:
            return
        following = b.tokens[i + 1] if i + 1 < len(b.tokens) else None
        if following is not None and following.line == token.line + token.text.count("\n"):
            continue
        closers = "".join(reversed(stack))
        if token.text == ":" and b.on(opener.line)[0].text in HEADERS:
            places.append((0, b.tokens[i - 1].end, closers))
        places.append((_rank(b, opener, token, following), token.end, closers))
        if len(places) > 200:
            break
    for _, where, closers in sorted(places, key=lambda place: place[0])[:_LOOK_AHEAD]:
        yield [Edit(where, where, closers, f"added the missing {closers!r}")]


def _follow(stack: list[str], token: Token) -> None:
    """Keep the closing brackets that are still to come."""
    if token.kind == "op" and token.text in OPENERS:
        stack.append(OPENERS[token.text])
    elif stack and token.kind == "op" and token.text == stack[-1]:
        stack.pop()


def _before_statements(b: Broken, at: int) -> list[Edit]:
    """Close what is open wherever a line follows that starts a statement, from token ``at`` on."""
    edits: list[Edit] = []
    stack: list[str] = []
    opener = b.tokens[at]
    for i in range(at, len(b.tokens)):
        token = b.tokens[i]
        if not stack:
            opener = token
        _follow(stack, token)
        following = b.tokens[i + 1] if i + 1 < len(b.tokens) else None
        if stack and (following is None or following.line > token.line + token.text.count("\n")):
            second = b.tokens[i + 2].text if i + 2 < len(b.tokens) else ""
            if _rank(b, opener, token, following) <= 1 and (
                following is None
                or following.text in _STATEMENTS
                or (following.kind == "name" and second in ("=", "(", ".", "+="))
            ):
                closers = "".join(reversed(stack))
                edits.append(Edit(token.end, token.end, closers, f"added the missing {closers!r}"))
                stack.clear()
    return edits


def _rank(b: Broken, opener: Token, last: Token, following: Token | None) -> int:
    """How natural it is to close after ``last``: 0 is best."""
    if last.text in OPENERS or not (last.operand_ends or last.text == ","):
        return 4
    if following is None:
        return 1
    same_level = len(b.indent(following.line)) <= len(b.indent(opener.line))
    if last.text == ",":
        return 3 if not same_level or last.line == opener.line else 1
    if following.text in _STATEMENTS:
        return 0 if same_level else 1
    return 1 if same_level else 3


def extra_closer(b: Broken) -> Iterator[Edits]:
    """A closing bracket too many, or one whose opening one was forgotten: `print x)`."""
    if not b.message.startswith("unmatched"):
        return
    token = b.tokens[b.index(b.pos)]
    line = b.on(token.line)
    if len(line) > 2 and line[0].kind == "name" and line[0].text not in KEYWORDS:
        if line[1].kind in ("name", "string", "number") and line[1].operand_starts:
            opener = CLOSERS[token.text]
            words = f"added the missing {opener!r}"
            yield [Edit(line[0].end, line[1].start, opener, words)]
    yield [Edit(token.start, token.end, "", f"removed the unmatched {token.text!r}")]


def mismatched_closer(b: Broken) -> Iterator[Edits]:
    """`f([1, 2)`: the inner bracket is closed too, or the closing one is changed."""
    if not b.message.startswith("closing parenthesis"):
        return
    at = b.index(b.pos)
    token = b.tokens[at]
    stack = _stack(b.tokens[:at])
    wanted = CLOSERS.get(token.text)
    missing = ""
    for opener in reversed(stack):
        if opener.text == wanted:
            yield [Edit(token.start, token.start, missing, f"added the missing {missing!r}")]
            break
        missing += OPENERS[opener.text]
    if stack:
        closer = OPENERS[stack[-1].text]
        line = b.on(stack[-1].line)
        ends = [t.end for t in line[-2:] if t.operand_ends and t.start > stack[-1].start]
        if ends and stack[-1].line < token.line:  # `"a": f(1,` with the next key below
            yield [Edit(ends[-1], ends[-1], closer, f"added the missing {closer!r}")]
        words = f"replaced {token.text!r} by {closer!r}"
        yield [Edit(token.start, token.end, closer, words)]


def inner_quotes(b: Broken) -> Iterator[Edits]:
    """`'it's'` and `"say "hi""`: quotes inside a string get a backslash."""
    tokens = b.on(b.line)
    if not any(token.kind in ("string", "open") for token in tokens):
        return
    start, text = b.starts[b.line], b.lines[b.line]
    words = "put a backslash before the quote inside the string"
    apostrophes = [
        start + m.start()
        for m in re.finditer(r"(?<=\w)'(?=\w)", text)
        if not _PREFIX.search(text, max(m.start() - 3, 0), m.start())
    ]
    yield [Edit(at, at, "\\", words) for at in apostrophes]
    for left, right in pairwise(tokens):
        if left.kind == "string" and "\n" not in left.text and right.kind in ("name", "number"):
            if left.end != right.start and left.text[-2:-1] != " ":
                continue
            quote = left.text[-1]
            if left.text[:-1].rstrip()[-1:] == ",":  # "a, "b": the first is not closed
                end = left.start + len(left.text[:-1].rstrip()) - 1
                yield [Edit(end, end, quote, "added the missing quote")]
            last = text.rfind(quote)
            inner = [i for i in range(left.end - 1 - start, last) if text[i] == quote]
            yield [Edit(start + i, start + i, "\\", words) for i in inner]
            break


def open_string(b: Broken) -> Iterator[Edits]:
    """A string not closed on its line: closed before the brackets that follow, or at its end."""
    if not b.message.startswith(("unterminated string", "unterminated f-string")):
        return
    at = b.index(b.pos)
    if at >= len(b.tokens) or b.tokens[at].kind != "open" or b.tokens[at].line != b.line:
        return
    token = b.tokens[at]
    text = b.lines[b.line].rstrip()
    end = b.starts[b.line] + len(text)
    body = token.text.lstrip("rRbBfFuU")
    quote = body[0]
    if found := _OTHER_QUOTE.search(text, token.start + 2 - b.starts[b.line]):
        if found.group() != quote:
            where = b.starts[b.line] + found.start()
            yield [Edit(where, where + 1, quote, f"closed the string with {quote} as it began")]
    below = list(_lines_joined(b, token, quote))
    if below and b.on(b.line + 1) and b.on(b.line + 1)[-1].kind == "open":
        yield from below
        below = []
    before = text.rstrip(",;").removesuffix(":")
    brackets = min(len(before) - len(before.rstrip(")]}")), token.depth)
    where = b.starts[b.line] + len(before) - brackets
    if token.start + 1 < where < end:
        yield [Edit(where, where, quote, "added the missing quote")]
    yield [Edit(end, end, quote, "added the missing quote")]
    yield from below


def _lines_joined(b: Broken, token: Token, quote: str) -> Iterator[Edits]:
    """The string ends on a later line: an escaped line end, or triple quotes."""
    for line in range(b.line + 1, min(b.line + 30, len(b.lines))):
        where = b.lines[line].find(quote)
        if where < 0:
            continue
        close = b.starts[line] + where
        if line == b.line + 1:
            newline = b.starts[line] - 1
            yield [Edit(newline, newline + 1, "\\n", "wrote the line end inside the string as \\n")]
        else:
            first = b.source.index(quote, token.start)
            words = "put the string of several lines in triple quotes"
            yield [
                Edit(first, first + 1, quote * 3, words),
                Edit(close, close + 1, quote * 3, words),
            ]
        return


def open_triple(b: Broken) -> Iterator[Edits]:
    """A triple-quoted string that runs to the end of the source."""
    if not b.message.startswith(("unterminated triple", "unterminated f-string: triple")):
        return
    at = b.index(b.pos)
    if at >= len(b.tokens) or b.tokens[at].kind != "open":
        return
    token = b.tokens[at]
    quote = token.text.lstrip("rRbBfFuU")[:3]
    words = f"closed the string with {quote}"
    first, last = token.line, len(b.lines) - 1
    inside = token.start + len(token.text) - len(token.text.lstrip("rRbBfFuU")) + 3
    if not b.source[inside:].strip():
        yield [Edit(token.start, token.end, "", f"removed the stray {quote}")]
        return
    for line in range(first, min(first + 200, last + 1)):  # closed with two quotes, or with one
        text = b.lines[line].rstrip()
        size = len(text) - len(text.rstrip(quote[0]))
        where = b.starts[line] + len(text)
        if 0 < size < 3 and where - size >= inside:
            yield [Edit(where, where, quote[0] * (3 - size), words)]
            break
    places = []
    if b.source[inside : b.starts[first] + len(b.lines[first])].strip():
        places.append(first)
    blank = next((i for i in range(first + 1, last) if not b.lines[i].strip()), None)
    for line in (*places, *([blank - 1] if blank is not None else []), last):
        text = b.lines[line].rstrip()
        where = max(b.starts[line] + len(text), inside)
        yield [Edit(where, where, quote, words)]


def fstring_braces(b: Broken) -> Iterator[Edits]:
    """`f"}"` and `f"{}"` mean the characters; in `f"{x"` the brace is not closed."""
    if not b.message.startswith("f-string:"):
        return
    if "single '}'" in b.message:
        yield [Edit(b.pos, b.pos, "}", "doubled the brace in the f-string")]
    elif "expecting '}'" in b.message:
        yield [Edit(b.pos, b.pos, "}", "added the missing '}' in the f-string")]
    elif "valid expression" in b.message and (start := b.source.rfind("{", 0, b.pos + 1)) >= 0:
        end = b.source.find("}", start)
        if end >= 0 and not b.source[start + 1 : end].strip():
            words = "doubled the braces in the f-string"
            yield [Edit(start, start, "{", words), Edit(end, end, "}", words)]


def unicode_escape(b: Broken) -> Iterator[Edits]:
    r"""`"C:\Users\ada"`: `\U` starts an escape; a raw string has none."""
    if "(unicode error)" in b.message:
        for line in (b.line, b.line - 1):
            for token in b.on(line) if line >= 0 else []:
                if (
                    token.kind == "string"
                    and token.text[0] in "\"'"
                    and re.search(r"\\[UuNx]", token.text)
                ):
                    yield [Edit(token.start, token.start, "r", "made the string raw")]


def backslash(b: Broken) -> Iterator[Edits]:
    """A backslash at the end of a line with spaces after it, or at the end of the source."""
    words = "removed the spaces after the backslash"
    if "line continuation" in b.message:
        text = b.lines[b.line]
        if text.rstrip().endswith("\\") and text != text.rstrip():
            start = b.starts[b.line]
            yield [Edit(start + len(text.rstrip()), start + len(text), "", words)]
    elif "unexpected EOF" in b.message and b.tokens and b.tokens[-1].text == "\\":
        last = b.tokens[-1]
        yield [Edit(last.start, last.end, "", "removed the backslash at the end")]


def missing_comma(b: Broken) -> Iterator[Edits]:
    """Two values side by side between brackets, most often at the end of a line."""
    first, last = b.line - 1, max(b.line, b.line_of(b.end)) + 1
    start, stop = b.starts[max(first, 0)], b.starts[min(last, len(b.lines))]
    apart: list[Edit] = []
    beside: list[Edit] = []
    for i in range(b.index(start), len(b.tokens) - 1):
        left, right = b.tokens[i], b.tokens[i + 1]
        if left.start >= stop:
            break
        if not (left.operand_ends and right.operand_starts):
            continue
        if right.depth == 0 and b.on(left.line)[0].text not in ("from", "import"):
            continue
        below = right.line > left.line
        after = b.tokens[i + 2].text if i + 2 < len(b.tokens) else ""
        if left.kind == right.kind == "string" and after != ":":
            continue
        if not below and (
            right.text in OPENERS or (left.kind == "name" and right.kind == "string")
        ):
            continue
        edit = Edit(left.end, left.end, ",", "added the missing comma")
        if below:
            apart.append(edit)
        elif left.end <= b.end and right.end >= b.pos:
            beside.append(edit)
    yield apart
    yield beside[-1:]
    if len(beside) > 1:
        yield beside
