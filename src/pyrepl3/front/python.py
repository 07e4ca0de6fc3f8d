"""Python text in, cells out: where a ``.py`` file is cut, before anything runs.

A file with ``# %%`` lines is cut at these; one without is cut into groups of top-level statements
(see :func:`split_statements`). Nothing here runs, compiles or imports user code.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Sequence

from pyrepl3.front.cells import SourceCell, first_code_line

# jupytext's "percent" format and VS Code agree on these: column 0, more percent signs for
# sub-cells, then white space or a bracket, so that "# %%time" stays a comment.
_MARKER = re.compile(r"#[ \t]*%%+(?:[ \t]+(?P<rest>.*)|(?P<bracket>\[.*))?[ \t]*$")
_KIND = re.compile(r"\[(?P<kind>[A-Za-z]+)\]")
_OPTION = re.compile(r"""\b[\w.-]+=(?:"[^"]*"|'[^']*'|\[[^]]*\]|\{[^}]*\}|\S+)""")
_TAGS = re.compile(r"""\btags=(?P<list>\[[^]]*\])""")
_TEXT_KINDS = frozenset({"markdown", "md", "raw", "html"})

_DECORATED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def split_python(text: str, *, filename: str) -> tuple[SourceCell, ...]:
    """Cut Python text at its ``# %%`` lines, or, where it has none, into statement groups."""
    lines = text.split("\n")
    markers = [n for n, line in enumerate(lines) if line.startswith("#") and _MARKER.match(line)]
    # Markers inside a string are text, not marks. Only worth a parse where strings span lines.
    tree = None
    if not markers or '"""' in text or "'''" in text:
        tree = _parse(text)
    if markers and tree is not None:
        inside = _string_lines(tree)
        markers = [n for n in markers if n + 1 not in inside]
    if markers:
        return tuple(_split_at(lines, markers, filename, show_first=not _is_text(tree, markers[0])))
    if tree is None:
        return (_cell(lines, 0, len(lines), filename),) if _has_code(lines) else ()
    return split_statements(tree, lines, filename=filename)


def _parse(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            # The engine compiles the same text again, and then warns.
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _string_lines(tree: ast.Module) -> set[int]:
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
        ):
            found.update(range(node.lineno + 1, (node.end_lineno or node.lineno) + 1))
    return found


# --- at markers -------------------------------------------------------------------------------


def _split_at(
    lines: list[str], markers: list[int], filename: str, *, show_first: bool
) -> Iterator[SourceCell]:
    if _has_code(lines[: markers[0]]):
        yield _cell(lines, 0, markers[0], filename, show=show_first)
    for n, start in enumerate(markers):
        end = markers[n + 1] if n + 1 < len(markers) else len(lines)
        title, kind, tags = _read_marker(lines[start])
        if kind in _TEXT_KINDS or "skip-execution" in tags or not _has_code(lines[start + 1 : end]):
            continue
        yield _cell(
            lines,
            start + 1,
            end,
            filename,
            label=title,
            may_fail="raises-exception" in tags,
        )


def _read_marker(line: str) -> tuple[str, str, Sequence[str]]:
    match = _MARKER.match(line)
    rest = (match["rest"] or match["bracket"] or "") if match else ""
    tags: Sequence[str] = ()
    if found := _TAGS.search(rest):
        tags = re.findall(r"[\w.-]+", found["list"])
    rest = _OPTION.sub("", rest)
    kind = _KIND.search(rest)
    title = _KIND.sub("", rest, count=1) if kind else rest
    return " ".join(title.split()), kind["kind"].lower() if kind else "", tags


def _is_text(tree: ast.Module | None, end: int) -> bool:
    """Whether the text before the first marker is nothing but a docstring."""
    head = [node for node in tree.body if node.lineno <= end] if tree else []
    return all(_kind(node) == "text" for node in head) and bool(head)


def _has_code(lines: Sequence[str]) -> bool:
    return any((bare := line.strip()) and not bare.startswith("#") for line in lines)


def _cell(
    lines: Sequence[str],
    start: int,
    end: int,
    filename: str,
    *,
    label: str = "",
    may_fail: bool = False,
    show: bool = True,
) -> SourceCell:
    """Lines ``start`` to ``end`` (from 0, end excluded) without the blank ones around them."""
    while start < end and not lines[start].strip():
        start += 1
    while end > start and not lines[end - 1].strip():
        end -= 1
    return SourceCell(
        source="\n".join(lines[start:end]) + "\n",
        filename=filename,
        first_line=start + 1,
        label=label or first_code_line(lines[start:end]),
        may_fail=may_fail,
        show=show,
    )


# --- at statements ----------------------------------------------------------------------------


def split_statements(
    tree: ast.Module, lines: Sequence[str], *, filename: str
) -> tuple[SourceCell, ...]:
    """Cut a file without markers into groups of top-level statements.

    Neighbours of one cheap kind stay together: imports; definitions of functions and classes;
    assignments of literals. Any other statement may take long or fail, so it is a cell of its own,
    and what ran before it is kept. Statements that share a line share a cell. A comment block
    belongs to the statement right below it; a string that stands alone (a docstring too) belongs to
    the group that follows, as a comment would.
    """
    cells: list[SourceCell] = []
    kind = ""
    start = end = 0  # lines of the open group, from 1, end included
    floor = 0  # last line of the group before
    label = ""

    def close() -> None:
        nonlocal floor
        if kind:
            first = start
            while first - 1 > floor and lines[first - 2].lstrip().startswith("#"):
                first -= 1
            cells.append(_cell(lines, first - 1, end, filename, label=label, show=kind != "text"))
            floor = end

    for node in tree.body:
        first, last = _first_line(node), node.end_lineno or node.lineno
        this = _kind(node)
        if kind and first <= end:  # a; b
            kind, end = "work", max(end, last)
        elif kind == "text" or (kind == this and kind != "work"):
            if kind == "text":
                label = lines[node.lineno - 1].strip()
            kind, end = this, last
        else:
            close()
            kind, start, end = this, first, last
            label = lines[node.lineno - 1].strip()
    close()
    return tuple(cells)


def _first_line(node: ast.stmt) -> int:
    if isinstance(node, _DECORATED) and node.decorator_list:
        return min(node.lineno, *(each.lineno for each in node.decorator_list))
    return node.lineno


def _kind(node: ast.stmt) -> str:
    match node:
        case ast.Import() | ast.ImportFrom():
            return "imports"
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return "definitions"
        case ast.Assign(targets=targets, value=value):
            plain = all(isinstance(target, ast.Name) for target in targets)
            return "literals" if plain and _is_literal(value) else "work"
        case ast.AnnAssign(target=ast.Name(), value=None):
            return "literals"
        case ast.AnnAssign(target=ast.Name(), value=ast.expr() as value):
            return "literals" if _is_literal(value) else "work"
        case ast.Expr(value=ast.Constant(value=str())):
            return "text"
    return "work"


def _is_literal(node: ast.expr) -> bool:
    match node:
        case ast.Constant():
            return True
        case ast.UnaryOp(operand=operand):
            return isinstance(operand, ast.Constant)
        case ast.BinOp(left=left, right=right):
            return _is_literal(left) and _is_literal(right)
        case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
            return all(_is_literal(each) for each in elements)
        case ast.Dict(keys=keys, values=values):
            return all(each is not None and _is_literal(each) for each in keys) and all(
                _is_literal(each) for each in values
            )
    return False
