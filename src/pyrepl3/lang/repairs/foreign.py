"""Broken source in, edits out that turn other languages' words and signs into Python's."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pyrepl3.lang.repairs.broken import HEADERS, KEYWORDS, Broken, Edit, Edits, Token

_FUNCTION = frozenset({"function", "func", "fn", "fun", "define", "sub"})
_DECLARE = frozenset({"var", "let", "const", "auto", "final", "my", "local", "val"})
_TYPES = {
    **{
        name: name
        for name in ("int", "float", "str", "bool", "list", "dict", "set", "tuple", "bytes")
    },
    "string": "str",
    "String": "str",
    "double": "float",
    "boolean": "bool",
    "long": "int",
}
_COUNT = re.compile(
    r"\s*for\s*\(\s*(?:int |let |var |long )?\s*(\w+)\s*=([^;<]+);\s*\1\s*(<=?)([^;]+);"
    r"\s*(?:\1\s*\+\+|\+\+\s*\1|\1\s*\+=\s*1)\s*\)"
)
_EACH = re.compile(
    r"\s*(foreach|for)\b\s*(each\s|\(?)\s*((?:const |let |var )?)(\w+) (in|of) ([^:{}]*?)\s*"
    r"([:{]?)\s*$"
)
_COMPARES = frozenset({"if", "elif", "while", "assert"})
_ELSE_IF = frozenset({"elseif", "elsif", "elif"})
_BOUNDARIES = frozenset({"=", ",", ";", ":", ":=", "+=", "-=", "return", "print", "lambda", "if"})


def logical_operators(b: Broken) -> Iterator[Edits]:
    """`&&`, `||`, `!x`, `===`, `!==`, `=<`."""
    plain = {"===": "==", "!==": "!=", "=<": "<="}
    edits: list[Edit] = []
    for i, token in enumerate(b.tokens):
        if token.text in ("&&", "||"):
            word = "and" if token.text == "&&" else "or"
            left = "" if b.source[token.start - 1 : token.start].isspace() else " "
            right = "" if b.source[token.end : token.end + 1].isspace() else " "
            words = f"replaced {token.text!r} by {word!r}"
            edits.append(Edit(token.start, token.end, left + word + right, words))
        elif token.text in plain:
            words = f"replaced {token.text!r} by {plain[token.text]!r}"
            edits.append(Edit(token.start, token.end, plain[token.text], words))
        elif token.text == "!" and i and i + 1 < len(b.tokens):
            before, after = b.tokens[i - 1], b.tokens[i + 1]
            # Not at the start of a line: that is a shell command, and none of our business.
            if before.line == token.line and not before.operand_ends and after.start == token.end:
                edits.append(Edit(token.start, token.end, "not ", "replaced '!' by 'not'"))
    yield edits


def increment(b: Broken) -> Iterator[Edits]:
    """`x++` and `--x` as statements."""
    edits: list[Edit] = []
    for line in b.statements:
        tokens = b.on(line)
        start, end = tokens[0].start, tokens[-1].end
        if tokens[-1].text == ";":
            end = tokens[-2].end if len(tokens) > 1 else end
        text = b.source[start:end]
        if (sign := text[-2:]) in ("++", "--"):
            name = text[:-2].rstrip()
            if name and name[-1] not in "+-":
                words = f"replaced {sign!r} by '{sign[0]}= 1'"
                edits.append(Edit(start + len(name), end, f" {sign[0]}= 1", words))
    yield edits


def else_if(b: Broken) -> Iterator[Edits]:
    """`else if x:`, `elseif x:`, and an `else` with a condition."""
    edits: list[Edit] = []
    for line in b.statements:
        tokens = b.on(line)
        first, words = tokens[0], "wrote 'elif'"
        if first.text in _ELSE_IF - {"elif"}:
            edits.append(Edit(first.start, first.end, "elif", words))
        elif first.text == "else" and len(tokens) > 2 and tokens[1].text == "if":
            edits.append(Edit(first.start, tokens[1].end, "elif", words))
        elif first.text == "else" and len(tokens) > 2 and tokens[1].text != ":":
            edits.append(Edit(first.start, first.end, "elif", words))
    yield edits


def function_word(b: Broken) -> Iterator[Edits]:
    """`function f(x)`, `fn f(x)`, `public def f(x)`: written `def`."""
    edits: list[Edit] = []
    for line in b.statements:
        tokens = b.on(line)
        if len(tokens) > 2 and tokens[0].text in _FUNCTION and tokens[1].kind == "name":
            if tokens[2].text == "(":
                words = f"replaced {tokens[0].text!r} by 'def'"
                edits.append(Edit(tokens[0].start, tokens[0].end, "def", words))
        elif len(tokens) > 1 and tokens[0].text in ("public", "private", "export", "static"):
            if tokens[1].text in ("def", "class", "async"):
                words = f"removed {tokens[0].text!r}"
                edits.append(Edit(tokens[0].start, tokens[1].start, "", words))
    yield edits


def declaration(b: Broken) -> Iterator[Edits]:
    """`let x = 1` and `var x = 1` lose the word; `int x = 1` becomes `x: int = 1`."""
    edits: list[Edit] = []
    for line in b.statements:
        tokens = b.on(line)
        while len(tokens) > 3 and tokens[0].text in (
            "export",
            "static",
            "public",
            "private",
            "final",
        ):
            tokens = tokens[1:]
        if len(tokens) < 3 or tokens[1].kind != "name" or tokens[2].text not in ("=", ":", ";"):
            continue
        word, name = tokens[0].text, tokens[1]
        start = b.on(line)[0].start
        if word in _DECLARE:
            edits.append(Edit(start, name.start, "", f"removed {word!r}"))
        elif word in _TYPES and tokens[2].text == "=":
            new = f"{name.text}: {_TYPES[word]}"
            edits.append(Edit(start, name.end, new, f"wrote the type after the name: {new}"))
    yield edits


def comments(b: Broken) -> Iterator[Edits]:
    """`// …` on the error's line or at the start of any, and `/* … */`."""
    edits: list[Edit] = []
    until = -1
    for i, token in enumerate(b.tokens):
        if token.start < until:
            continue
        after = b.tokens[i + 1] if i + 1 < len(b.tokens) else None
        first = i == 0 or b.tokens[i - 1].line < token.line
        if token.text == "/" and after and after.start == token.end and after.text in ("*", "**"):
            close = b.source.find("*/", after.end - (after.text == "**"))
            until = close + 2 if close >= 0 else len(b.source)
            edits += _block_comment(b, token.start, until)
        elif token.text == "//" and (first or token.line == b.line):
            until = b.starts[token.line + 1]
            edits.append(Edit(token.start, token.end, "#", "replaced '//' by '#'"))
    yield edits


def _block_comment(b: Broken, start: int, end: int) -> list[Edit]:
    words = "wrote the comment with '#'"
    if b.source[end : b.starts[b.line_of(end) + 1]].strip():  # code goes on after it
        return [Edit(start, end, "", "removed a comment inside the line")]
    edits = []
    first = b.line_of(start)
    margin = b.indent(first) if not b.source[b.starts[first] : start].strip() else ""
    for line in range(first, b.line_of(end - 1) + 1):
        left = start if line == first else b.starts[line]
        right = min(end, b.starts[line] + len(b.lines[line]))
        body = b.source[left:right].strip().removeprefix("/*").removesuffix("*/").strip("* \t")
        text = f"# {body}".rstrip() if line == first else f"{margin}# {body}".rstrip()
        edits.append(Edit(left, right, text, words))
    return edits


def arrow_function(b: Broken) -> Iterator[Edits]:
    """`x => x + 1` and `(x, y) => x + y` become lambdas."""
    edits: list[Edit] = []
    for i, token in enumerate(b.tokens):
        if token.text != "=>" or i == 0:
            continue
        last = b.tokens[i - 1]
        words = "wrote the arrow function as a lambda"
        if last.kind == "name":
            edits.append(Edit(last.start, token.end, f"lambda {last.text}:", words))
        elif last.text == ")":
            opener = i - 2
            while opener >= 0 and not (
                b.tokens[opener].text == "(" and b.tokens[opener].depth == last.depth - 1
            ):
                opener -= 1
            if opener >= 0:
                names = b.source[b.tokens[opener].end : last.start].strip()
                text = f"lambda {names}:" if names else "lambda:"
                edits.append(Edit(b.tokens[opener].start, token.end, text, words))
    signs = [
        Edit(t.start, t.end, ">=", "replaced '=>' by '>='") for t in b.tokens if t.text == "=>"
    ]
    compared = any(b.on(b.line_of(edit.start))[0].text in _COMPARES for edit in signs)
    yield from (signs, edits) if compared else (edits, signs)


def ternary(b: Broken) -> Iterator[Edits]:
    """`a ? b : c` becomes `b if a else c`; one on a line."""
    tokens = b.on(b.line)
    marks = [i for i, t in enumerate(tokens) if t.text == "?"]
    if len(marks) != 1 or not 0 < marks[0] < len(tokens) - 1:
        return
    mark = marks[0]
    depth = tokens[mark].depth
    colon = next((i for i in range(mark, len(tokens)) if _is(tokens[i], ":", depth)), None)
    if colon is None or not mark + 1 < colon < len(tokens) - 1:
        return
    first, last = mark, colon
    while first and not _stops(tokens[first - 1], depth):
        first -= 1
    while last + 1 < len(tokens) and not _stops(tokens[last + 1], depth):
        last += 1
    if first == mark or last == colon:
        return

    def text(start: int, end: int) -> str:
        return b.source[tokens[start].start : tokens[end].end]

    new = f"{text(mark + 1, colon - 1)} if {text(first, mark - 1)} else {text(colon + 1, last)}"
    words = "wrote the conditional expression as 'b if a else c'"
    yield [Edit(tokens[first].start, tokens[last].end, new, words)]


def _is(token: Token, text: str, depth: int) -> bool:
    return token.text == text and token.depth == depth


def _stops(token: Token, depth: int) -> bool:
    """Whether a conditional expression at ``depth`` cannot reach over ``token``."""
    outer = token.depth - (token.text in (")", "]", "}"))
    return outer < depth or (token.depth == depth and token.text in _BOUNDARIES)


def exceptions(b: Broken) -> Iterator[Edits]:
    """`catch (E e)`, `catch E`, `throw E()`."""
    edits: list[Edit] = []
    for line in b.statements:
        tokens = b.on(line)
        skip = 1 if tokens[0].text == "}" and len(tokens) > 1 else 0
        word = tokens[skip]
        if word.text == "throw" and len(tokens) > 1:
            edits.append(Edit(word.start, word.end, "raise", "replaced 'throw' by 'raise'"))
        elif word.text == "catch":
            found = re.compile(r"catch\s*(?:\(\s*([\w.]*)(?:\s+(\w+))?\s*\)|([\w.]+))?").match(
                b.source, word.start, b.starts[line + 1]
            )
            assert found is not None  # it starts with `catch`
            kind = found[1] or found[3] or ""
            kind = "Exception" if kind in ("e", "err", "error", "ex") and not found[2] else kind
            name = found[2] or (found[1] if kind == "Exception" != found[1] else None)
            text = f"except {kind}".rstrip() + (f" as {name}" if name else "")
            edits.append(Edit(word.start, found.end(), text, "replaced 'catch' by 'except'"))
    yield edits


def new_object(b: Broken) -> Iterator[Edits]:
    """`new Foo()`: the word is dropped."""
    yield [
        Edit(word.start, name.start, "", "removed 'new'")
        for word, name in zip(b.tokens, b.tokens[1:], strict=False)
        if word.text == "new" and name.kind == "name" and name.text not in KEYWORDS
    ]


def foreach(b: Broken) -> Iterator[Edits]:
    """`foreach x in xs:`, `for (const x of xs)`, `for (int i = 0; i < n; i++)`."""
    edits: list[Edit] = []
    for line in b.statements:
        if b.on(line)[0].text not in ("for", "foreach"):
            continue
        text = b.lines[line][:1000]
        start = b.starts[line]
        words = "wrote the loop as 'for … in …'"
        if found := _COUNT.match(text):
            first, last = found[2].strip(), found[4].strip() + (" + 1" if found[3] == "<=" else "")
            span = last if first == "0" else f"{first}, {last}"
            new = f"for {found[1]} in range({span})"
            edits.append(
                Edit(start + found.start() + len(b.indent(line)), start + found.end(), new, words)
            )
        elif found := _EACH.match(text):
            values = found[6]
            if found[2].strip() == "(":
                values = values.removesuffix(")")
            elif found[1] == "for" and not found[2] and found[5] == "in":
                continue
            new = f"for {found[4]} in {values}" + (" {" if found[7] == "{" else found[7])
            edits.append(Edit(start + found.start(1), start + found.end(), new, words))
    yield edits


def dollar(b: Broken) -> Iterator[Edits]:
    """`$name` as in PHP and shells."""
    yield [
        Edit(sign.start, sign.end, "", "removed '$'")
        for sign, name in zip(b.tokens, b.tokens[1:], strict=False)
        if sign.text == "$" and name.kind == "name" and name.start == sign.end
    ]


def walrus_statement(b: Broken) -> Iterator[Edits]:
    """`x := 1` as a statement."""
    edits: list[Edit] = []
    for line in b.statements:
        for left, sign in zip(b.on(line), b.on(line)[1:], strict=False):
            if sign.text == ":=" and sign.depth == left.depth == b.on(line)[0].depth:
                if b.on(line)[0].text not in HEADERS:
                    edits.append(Edit(sign.start, sign.end, "=", "replaced ':=' by '='"))
                break
    yield edits


def named_arguments(b: Broken) -> Iterator[Edits]:
    """`f(x: 1)` is written `f(x=1)`, and `{"a" = 1}` is written `{"a": 1}`."""
    stack: list[str] = []
    colons: list[Edit] = []
    for i, token in enumerate(b.tokens[:-1]):
        if token.kind != "op":
            continue
        if token.text in ("(", "[", "{"):
            called = (
                i > 0 and b.tokens[i - 1].operand_ends and b.tokens[max(i - 2, 0)].text != "def"
            )
            stack.append("call" if token.text == "(" and called else token.text)
        elif token.text in (")", "]", "}") and stack:
            stack.pop()
        elif stack and i > 1 and b.tokens[i - 2].text in ("(", ",", "{"):
            left, right = b.tokens[i - 1], b.tokens[i + 1]
            if token.text == ":" and stack[-1] == "call" and left.kind == "name":
                start = right.start if right.line == token.line else token.end
                colons.append(Edit(token.start, start, "=", "wrote '=' after the argument's name"))
            elif token.text == "=" and stack[-1] == "{" and left.operand_ends:
                colons.append(Edit(left.end, token.end, ":", "wrote ':' after the key"))
    yield colons
