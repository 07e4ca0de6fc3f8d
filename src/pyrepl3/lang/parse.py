"""Source text in, syntax tree out; every way in which that can fail comes out as CompilationError.

Lines and columns are the user's: ``first_line`` counts, a byte order mark does not.
"""

from __future__ import annotations

import ast
import re

from pyrepl3.errors import CompilationError

FLAGS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
"""What every cell is compiled with, besides the ``__future__`` flags that it inherits."""

COMPILER_ERRORS = (
    SyntaxError,
    ValueError,  # lone surrogates, null bytes
    MemoryError,  # the parser's own stack, not the machine's memory
    RecursionError,
    OverflowError,
    SystemError,
)
"""What the compiler raises for some source or other."""

_TREE = ast.PyCF_ONLY_AST | FLAGS
_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST_SEARCH = 100_000  # characters that are compiled again to find the line that is too deep
_LONGEST_TEXT = 1000  # characters of a line that an error carries: a line can have 10 MB


def parse(source: str, filename: str, flags: int = 0, first_line: int = 1) -> ast.Module:
    """The tree of ``source``, with line numbers that start at ``first_line`` (from 1).

    ``flags`` are ``__future__`` compile flags. CRLF and CR end a line, a leading byte order mark is
    dropped, a coding comment means nothing. Raises CompilationError, and nothing else, for what does
    not parse.
    """
    if source[:1] == "\ufeff":
        source = source[1:]
    try:
        # Newlines in front move the lines without a walk over the tree, and in error messages too.
        text = source if first_line == 1 else "\n" * (first_line - 1) + source
        tree: ast.Module = compile(text, filename, "exec", _TREE | flags, dont_inherit=True)
    except COMPILER_ERRORS as error:
        raise refusal(error, source, filename, first_line) from None
    return tree


def split(tree: ast.Module) -> tuple[ast.Module | None, ast.Expression | None]:
    """All but the last expression, and the last expression; None for what there is not.

    Takes ``tree`` apart: use it no more.
    """
    statements = tree.body
    if not statements:
        return None, None
    last = statements[-1]
    if type(last) is not ast.Expr:
        return tree, None
    statements.pop()
    return (tree if statements else None), ast.Expression(last.value)


DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
"""What has a scope of its own and runs later, or runs in that scope."""


def parts_outside(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef,
) -> list[ast.AST]:
    """The parts of a definition that run in the scope around it: decorators, defaults, bases."""
    if isinstance(node, ast.ClassDef):
        return [*node.decorator_list, *node.bases, *node.keywords]
    arguments = node.args
    parts: list[ast.AST | None] = [*arguments.defaults, *arguments.kw_defaults]
    if not isinstance(node, ast.Lambda):
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [extra for extra in (arguments.vararg, arguments.kwarg) if extra is not None]
        parts += [argument.annotation for argument in every]
        parts += [*node.decorator_list, node.returns]
    return [part for part in parts if part is not None]


def refusal(
    error: BaseException, source: str, filename: str, first_line: int = 1
) -> CompilationError:
    """What the compiler raised for ``source`` as a CompilationError that says where and why."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return _error(
            error.msg,
            filename,
            error.lineno,
            error.offset,
            line_of(source, error.lineno - first_line) or error.text,
            error.end_lineno,
            error.end_offset,
        )
    at = source.find("\0")
    if at >= 0:
        return _at(
            source,
            at,
            "the source contains a null byte; delete it, "
            "or decode the file with its real encoding (UTF-16?)",
            filename,
            first_line,
        )
    lone = _SURROGATE.search(source)
    if lone is not None:
        return _at(
            source,
            lone.start(),
            f"the source contains the lone surrogate {lone.group()!r}, which is half a character; "
            "delete it, decode the file with its real encoding, or write an escape in a string",
            filename,
            first_line,
        )
    line = first_line
    if isinstance(error, RecursionError | MemoryError):
        message = "the code is nested too deeply for Python's compiler; split the expression up"
        line += _find_too_deep(source)
    elif isinstance(error, SyntaxError):
        message = error.msg
    else:
        message = f"Python's compiler cannot compile this: {error}"
    text = line_of(source, line - first_line)
    return _error(message, filename, line, 1, text, line, None)


def _find_too_deep(source: str) -> int:
    """The first line (from 0) up to which the source is too deep already."""
    if len(source) > _LONGEST_SEARCH:
        return 0
    lines = split_lines(source)
    low, high = 0, len(lines)  # the first `high` lines are too deep
    while high - low > 1:
        middle = (low + high) // 2
        try:
            compile("\n".join(lines[:middle]), "<cell>", "exec", FLAGS, dont_inherit=True)
        except (RecursionError, MemoryError):
            high = middle
        except COMPILER_ERRORS:
            low = middle  # cut in the middle of something
        else:
            low = middle
    return high - 1


def line_of(source: str, index: int) -> str:
    """Line ``index`` (from 0) of ``source`` as the compiler counts lines; empty if there is none."""
    lines = split_lines(source)
    return lines[index] if 0 <= index < len(lines) else ""


def column_of(line: str, offset: int) -> int:
    """The column, in characters from 0, of an ``offset`` in bytes, which is what a tree has."""
    return offset if line.isascii() else len(line.encode()[:offset].decode())


def split_lines(source: str) -> list[str]:
    """The lines of ``source`` as the compiler counts them: not at form feeds, as ``splitlines`` does."""
    text = source.removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _at(source: str, index: int, message: str, filename: str, first_line: int) -> CompilationError:
    before = source[:index].replace("\r\n", "\n").replace("\r", "\n")
    start = before.rfind("\n") + 1
    line = before.count("\n") + first_line
    rest = re.split(r"[\r\n]", source[index : index + _LONGEST_TEXT], maxsplit=1)[0]
    # The characters at fault are shown escaped: a terminal or a file could not take them.
    text = before[start:] + "".join(
        repr(char)[1:-1] if char == "\0" or "\ud800" <= char <= "\udfff" else char for char in rest
    )
    offset = len(before) - start + 1
    return _error(message, filename, line, offset, text, line, offset + 1)


def _error(
    message: str,
    filename: str,
    line: int,
    offset: int | None,
    text: str | None,
    end_line: int | None,
    end_offset: int | None,
) -> CompilationError:
    if text is not None and len(text) > _LONGEST_TEXT:
        # A window around the place; where that is in the line goes into the message.
        start = max(0, (offset or 1) - _LONGEST_TEXT // 2)
        text = text[start : start + _LONGEST_TEXT]
        if start:
            message = f"{message} (line {line}, column {offset})"
            offset = (offset or 1) - start
            if end_offset is not None:
                end_offset -= start
    return CompilationError(message, (filename, line, offset, text, end_line, end_offset))
