"""Broken source in, edits out for slips of people who know Python: signs, keywords, imports."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator

from pyrepl3.lang.parse import COMPILER_ERRORS
from pyrepl3.lang.repairs.broken import FILENAME, KEYWORDS, Broken, Edit, Edits

_CONDITIONS = frozenset({"if", "elif", "while", "assert", "and", "or", "not"})
_SPLIT = frozenset(
    {
        "+ =",
        "- =",
        "* =",
        "/ =",
        "= =",
        "! =",
        "> =",
        "< =",
        ": =",
        "% =",
        "| =",
        "& =",
        "- >",
        "== =",
    }
)
_TURNED = {"=!": "!=", "=<": "<="}
_NEVER_NAMES = frozenset({"None", "True", "False", "and", "or", "not", "is", "in", "if", "else"})
_AFTER_NAME = frozenset({"=", ",", ")", "]", "}", ".", "+", "-", "*", "/", "%", "==", "+=", "-="})
_SOFT = frozenset({"match", "case", "type", "print", "exec", "_"})  # left to rules of their own
_ALIKE = 0.75
_OUTSIDE_ASYNC = re.compile(r"outside (?:of an )?(?:async|asynchronous) function")


def equals_in_condition(b: Broken) -> Iterator[Edits]:
    """`if x = 1:` compares."""
    edits: list[Edit] = []
    for line in {b.line, b.line_of(b.end)}:
        word = ""
        for token in b.on(line):
            if token.text in _CONDITIONS:
                word = token.text
            elif token.text in (":", ",", "lambda", "else"):
                word = ""
            elif token.text == "=" and word:
                edits.append(Edit(token.start, token.end, "==", "replaced '=' by '=='"))
    yield edits


def split_operator(b: Broken) -> Iterator[Edits]:
    """`x + = 1`, `a = = b`, `a =! b`: the sign is written together, and the right way round."""
    edits: list[Edit] = []
    for left, right in zip(b.on(b.line), b.on(b.line)[1:], strict=False):
        pair = f"{left.text} {right.text}"
        if left.kind != "op" or right.kind != "op":
            continue
        if pair in _SPLIT:
            new = "==" if pair == "== =" else pair.replace(" ", "")
            written = b.source[left.start : right.end]
            edits.append(Edit(left.start, right.end, new, f"wrote {written!r} as {new!r}"))
        elif (turned := _TURNED.get(left.text + right.text)) and left.end == right.start:
            words = f"wrote {left.text + right.text!r} as {turned!r}"
            edits.append(Edit(left.start, right.end, turned, words))
    yield edits[:1]


def keyword_as_name(b: Broken) -> Iterator[Edits]:
    """`class = 1`, `def from():`, `f(class=1)`: the name gets an underscore (PEP 8)."""
    at = b.index(b.pos)
    for i in (at, at - 1, at + 1):
        if not 0 <= i < len(b.tokens):
            continue
        word = b.tokens[i]
        if word.text in KEYWORDS - _NEVER_NAMES and _names_something(b, i):
            if i and b.tokens[i - 1].text == ".":
                yield _attribute(b, i)
                return
            yield [
                Edit(t.end, t.end, "_", f"renamed {word.text!r}, which is a keyword, to {t.text}_")
                for n, t in enumerate(b.tokens)
                if t.text == word.text and _names_something(b, n)
            ]
            return


def _names_something(b: Broken, index: int) -> bool:
    """Whether the keyword stands where only a name can stand."""
    before = b.tokens[index - 1] if index else None
    after = b.tokens[index + 1] if index + 1 < len(b.tokens) else None
    if before and before.text in (".", "def", "class", "for", "as"):
        return True
    if after is None or after.text not in _AFTER_NAME:
        return False
    word = b.tokens[index].text
    if after.text == "*" and word in ("import", "lambda", "print"):
        return False
    return not (after.text in (")", "]", "}", ",") and word == "yield")


def _attribute(b: Broken, index: int) -> list[Edit]:
    """`x.class` reads an attribute that only `getattr` can name."""
    first = index - 1
    while first > 0 and b.tokens[first].text == "." and b.tokens[first - 1].kind == "name":
        first -= 2
    first += 1
    word = b.tokens[index]
    if first >= index - 1:
        return []
    owner = b.source[b.tokens[first].start : b.tokens[index - 2].end]
    new = f'getattr({owner}, "{word.text}")'
    words = f"read the attribute {word.text!r}, which is a keyword, by getattr"
    return [Edit(b.tokens[first].start, word.end, new, words)]


def import_order(b: Broken) -> Iterator[Edits]:
    """`import a from b`, and a comma at the end of an import."""
    edits: list[Edit] = []
    for line in b.statements:
        tokens = b.on(line)
        words = [token.text for token in tokens]
        if words[0] == "import" and "from" in words[2:]:
            at = words.index("from")
            names = b.source[tokens[1].start : tokens[at - 1].end].strip("{} ")
            module = b.source[tokens[at + 1].start : tokens[-1].end] if at + 1 < len(words) else ""
            module = module.rstrip(";").strip().strip("'\"")
            new = f"from {module} import {names}"
            edits.append(Edit(tokens[0].start, tokens[-1].end, new, f"wrote {new!r}"))
        elif words[0] in ("import", "from") and words[-1] == "," and "(" not in words:
            comma = tokens[-1]
            edits.append(Edit(comma.start, comma.end, "", "removed the comma at the end"))
    yield edits


def async_def(b: Broken) -> Iterator[Edits]:
    """`await` inside a plain `def`: the function is made async."""
    if not _OUTSIDE_ASYNC.search(b.message):
        return
    try:
        tree = ast.parse(b.source, FILENAME)
    except COMPILER_ERRORS:
        return
    owner: ast.FunctionDef | ast.AsyncFunctionDef | None = None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside = node.lineno <= b.line + 1 <= (node.end_lineno or node.lineno)
            if inside and (owner is None or node.lineno >= owner.lineno):
                owner = node
    if isinstance(owner, ast.FunctionDef):
        margin = len(b.indent(owner.lineno - 1))
        start = b.starts[owner.lineno - 1] + margin
        words = f"made {owner.name!r} async, since it awaits: calls of it must be awaited too"
        yield [Edit(start, start, "async ", words)]


def global_assignment(b: Broken) -> Iterator[Edits]:
    """`global x = 1` is two statements."""
    edits: list[Edit] = []
    for line in b.statements:
        tokens = b.on(line)
        if len(tokens) > 3 and tokens[0].text in ("global", "nonlocal") and tokens[2].text == "=":
            name = tokens[1]
            words = f"wrote {tokens[0].text!r} and the assignment as two statements"
            edits.append(Edit(name.end, name.end, f"; {name.text}", words))
    yield edits


def future_import(b: Broken) -> Iterator[Edits]:
    """A `from __future__ import` below other code: moved to the top."""
    if "__future__ imports must occur" not in b.message:
        return
    moved = [
        line
        for line in b.statements
        if line >= b.line
        and not b.indent(line)
        and (texts := [t.text for t in b.on(line)])[:3] == ["from", "__future__", "import"]
        and not {"(", ";"} & set(texts)
    ]
    first = b.code_line(-1)
    docstring = first is not None and len(b.on(first)) == 1 and b.on(first)[0].kind == "string"
    target = 0
    if docstring and first is not None:
        target = first + 1 + b.on(first)[0].text.count("\n")
    if moved and target < moved[0]:
        text = "".join(b.lines[line].rstrip() + "\n" for line in moved)
        at = b.starts[target]
        words = "moved the __future__ import to the top"
        yield [Edit(at, at, text, ""), *b.drop_lines(moved, words)]


def question(b: Broken) -> Iterator[Edits]:
    """`x.y?`, as IPython has it, asks for help."""
    line = b.lines[b.line].rstrip()
    name = line.rstrip("?").strip()
    if line != name and line.endswith("?") and all(map(str.isidentifier, name.split("."))):
        yield [b.edit_line(b.line, len(line), f"help({name})", f"wrote {line!r} as help({name})")]


def misspelled_keyword(b: Broken) -> Iterator[Edits]:
    """`imprt os`, `fro x in y:`, `esle:`: a word where only a keyword can stand, and nearly one."""
    tokens = b.on(b.line)
    for i, word in enumerate(tokens):
        if word.kind != "name" or word.text in KEYWORDS or word.text in _SOFT:
            continue
        before = tokens[i - 1] if i else None
        after = tokens[i + 1] if i + 1 < len(tokens) else None
        joined = after is not None and (after.operand_starts or (not i and after.text == ":"))
        if not joined and (before is None or not before.operand_ends):
            continue
        for keyword in _nearly(word.text):
            yield [Edit(word.start, word.end, keyword, f"wrote {word.text!r} as {keyword!r}")]


def _nearly(word: str) -> list[str]:
    """Keywords of the same letters, then those that look alike."""
    word = word.lower()
    same = [each for each in KEYWORDS if sorted(each) == sorted(word)]
    alike = difflib.get_close_matches(word, KEYWORDS, 3, _ALIKE)
    return list(dict.fromkeys([*sorted(same), *alike]))
