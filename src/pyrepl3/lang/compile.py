"""A cell's source in, its code objects and what the engine must know before it runs them out.

The whole cell compiles before anything of it runs. Ordinary cells cost about what parsing and
compiling them costs: whatever else is known comes from the code objects, and the tree is walked only
where a name in them calls for it.
"""

from __future__ import annotations
import __future__

import ast
from opcode import opmap
from types import CodeType
from typing import TYPE_CHECKING

import msgspec

from pyrepl3.lang.blocking import CANDIDATES, Findings, is_blocking_module
from pyrepl3.lang.filenames import renamed_code
from pyrepl3.lang.parse import COMPILER_ERRORS, FLAGS, parse, refusal, split, split_lines
from pyrepl3.lang.wrap import has_return, wrap
from pyrepl3.records import ExecutionMode, Placement

if TYPE_CHECKING:
    from collections.abc import Callable

FUTURE_FLAGS = 0
"""All compile flags that ``from __future__ import`` sets."""
for _feature in __future__.all_feature_names:
    FUTURE_FLAGS |= getattr(__future__, _feature).compiler_flag

_LOAD_NAME = opmap["LOAD_NAME"]
_LOAD_GLOBAL = opmap["LOAD_GLOBAL"]
_COROUTINE = 0x80  # inspect.CO_COROUTINE; inspect takes 10 ms to import
_ASYNC = 0x80 | 0x200  # CO_COROUTINE, CO_ASYNC_GENERATOR
_OVERHEAD = 400  # bytes, for the records around the code
_SIZE_FACTOR = 3  # what code refers to beside itself, measured over the standard library's tests


class CompiledCell(msgspec.Struct, frozen=True, eq=False):
    """A cell as code, and what the text says of it. Immutable; any thread.

    ``body`` is all but the last expression, ``tail`` the last expression (in ``eval`` mode); each is
    None where there is none. Run both with one dict as globals and no locals; where ``body_async`` or
    ``tail_async`` the result is a coroutine to await.

    ``wrapped``: ``body`` is the code of a function, to be called as
    ``types.FunctionType(body, namespace)()``; what it returns (or its coroutine gives) is the value.
    Unlike ``eval`` this does not put ``__builtins__`` into the namespace, which some code needs.

    ``value_name``: the cell ends in an assignment to this one name; its value afterwards is
    the cell's. ``shows``: a REPL shows the value: the cell ends in an expression (or is
    wrapped) and not in a semicolon.

    ``flags``: the ``__future__`` flags that later cells inherit. ``names``: every global or
    attribute name in the code and what is nested in it, so a superset of the global names that it
    may touch. ``reads``: those that it may read: all, or none where it loads no global. ``nested``: the
    code objects inside ``body`` and ``tail``.

    ``mode`` and ``placement`` are by the text alone. ``needs_loop``: it must stay on the running loop
    even if it blocks. ``rests_on``: it blocks only if what these names hold does; see
    ``modes.place``. ``settled``: no value changes mode or placement. ``size``: bytes in memory, roughly.
    """

    body: CodeType | None
    tail: CodeType | None
    is_async: bool
    body_async: bool
    tail_async: bool
    value_name: str | None
    shows: bool
    flags: int
    names: tuple[str, ...]
    reads: tuple[str, ...]
    nested: tuple[CodeType, ...]
    wrapped: bool
    mode: ExecutionMode
    placement: Placement
    needs_loop: bool
    rests_on: tuple[str, ...]
    settled: bool
    size: int

    @property
    def filename(self) -> str:
        """The file name that tracebacks show; empty for an empty cell."""
        code = self.body or self.tail
        return "" if code is None else code.co_filename


def compile_cell(
    source: str,
    filename: str,
    *,
    flags: int = 0,
    first_line: int = 1,
    transform: Callable[[ast.Module], ast.Module] | None = None,
) -> CompiledCell:
    """Compile ``source``. Nothing runs.

    ``flags``: ``__future__`` flags inherited from earlier cells. ``first_line`` (from 1): the line of
    ``filename`` on which ``source`` starts. ``transform`` may change the tree before it is compiled; it
    must keep locations. Raises CompilationError for whatever cannot be compiled, and what
    ``transform`` raises.
    """
    tree = parse(source, filename, flags, first_line)
    if transform is not None:
        tree = transform(tree)
    statements = [*tree.body]
    body = tail = None
    # Decided by the tree: the compiler would say so too, but warn twice of all that comes before.
    wrapped = "return" in source and has_return(statements)
    if wrapped:
        body = wrap(tree, source, filename, flags, first_line)
        flags |= body.co_flags & FUTURE_FLAGS
    else:
        module, expression = split(tree)
        try:
            if module is not None:
                body = compile(module, filename, "exec", FLAGS | flags, dont_inherit=True)
                flags |= body.co_flags & FUTURE_FLAGS
            if expression is not None:
                tail = compile(expression, filename, "eval", FLAGS | flags, dont_inherit=True)
        except COMPILER_ERRORS as error:
            raise refusal(error, source, filename, first_line) from None

    body_async = body is not None and body.co_flags & _COROUTINE != 0
    tail_async = tail is not None and tail.co_flags & _COROUTINE != 0
    names, nested, size = _look_into(body, tail)
    if body_async or tail_async:
        mode = ExecutionMode.TOP_LEVEL_AWAIT
    elif nested and any(code.co_flags & _ASYNC and code.co_name[0] != "<" for code in nested):
        mode = ExecutionMode.ASYNC_DEF
    else:
        mode = ExecutionMode.SIMPLE_SYNC
    placement: Placement = "loop"
    needs_loop = False
    rests_on: tuple[str, ...] = ()
    if not CANDIDATES.isdisjoint(names) or ("import" in source and _imports_blocking(names)):
        findings = Findings(statements)
        needs_loop = findings.needs_loop
        if findings.blocks:
            if mode is ExecutionMode.SIMPLE_SYNC:
                mode = ExecutionMode.BLOCKING_SYNC
            if mode is not ExecutionMode.TOP_LEVEL_AWAIT:
                rests_on = findings.rests_on
                placement = "loop" if needs_loop else "thread"

    reads = names if nested or _loads(body) or _loads(tail) else ()
    if mode is ExecutionMode.SIMPLE_SYNC:
        settled = not reads
    else:
        settled = mode is ExecutionMode.TOP_LEVEL_AWAIT or (placement == "thread" and not rests_on)

    value_name = None
    shows = False
    if wrapped or tail is not None:
        shows = ";" not in source or not _ends_in_semicolon(source, statements[-1], first_line)
    elif statements:
        value_name = _assigned(statements[-1])
    return CompiledCell(
        body,
        tail,
        body_async or tail_async,
        body_async,
        tail_async,
        value_name,
        shows,
        flags & FUTURE_FLAGS,
        names,
        reads,
        nested,
        wrapped,
        mode,
        placement,
        needs_loop,
        rests_on,
        settled,
        size + source.__sizeof__(),
    )


def _look_into(
    body: CodeType | None, tail: CodeType | None
) -> tuple[tuple[str, ...], tuple[CodeType, ...], int]:
    """Names, nested code, and size in bytes, of both and of all that is in them."""
    size = _OVERHEAD
    names: tuple[str, ...] = ()
    nested: list[CodeType] = []
    for code in (body, tail):
        if code is not None:
            names = names + code.co_names if names else code.co_names
            size += _SIZE_FACTOR * code.__sizeof__()
            nested += [const for const in code.co_consts if type(const) is CodeType]
    if not nested:
        if body is not None and tail is not None:
            names = tuple(dict.fromkeys(names))
        return names, (), size
    every = dict.fromkeys(names)
    for code in nested:  # grows while it is read, so depth does not matter
        nested += [const for const in code.co_consts if type(const) is CodeType]
        every.update(dict.fromkeys(code.co_names))
        size += _SIZE_FACTOR * code.__sizeof__()
    return tuple(every), tuple(nested), size


def _loads(code: CodeType | None) -> bool:
    """Whether ``code`` itself loads any global."""
    if code is None:
        return False
    ops = code.co_code[::2]
    return _LOAD_NAME in ops or _LOAD_GLOBAL in ops


def renamed(compiled: CompiledCell, filename: str) -> CompiledCell:
    """``compiled`` with another file name in its tracebacks, also in those of nested functions.

    The same object where it has that name already.
    """
    if compiled.filename == filename:
        return compiled
    body, tail = compiled.body, compiled.tail
    if not compiled.nested:
        if body is not None:
            body = body.replace(co_filename=filename)
        if tail is not None:
            tail = tail.replace(co_filename=filename)
        nested: tuple[CodeType, ...] = ()
    else:
        if body is not None:
            body = renamed_code(body, filename)
        if tail is not None:
            tail = renamed_code(tail, filename)
        nested = _look_into(body, tail)[1]
    return CompiledCell(
        body,
        tail,
        compiled.is_async,
        compiled.body_async,
        compiled.tail_async,
        compiled.value_name,
        compiled.shows,
        compiled.flags,
        compiled.names,
        compiled.reads,
        nested,
        compiled.wrapped,
        compiled.mode,
        compiled.placement,
        compiled.needs_loop,
        compiled.rests_on,
        compiled.settled,
        compiled.size,
    )


def code_size(code: CodeType) -> int:
    """Bytes of ``code`` and of the code in it, roughly."""
    return _look_into(code, None)[2]


def _imports_blocking(names: tuple[str, ...]) -> bool:
    # `import a.b` has the one name "a.b"; names without a dot are among the candidates themselves.
    return any("." in name and is_blocking_module(name) for name in names)


def _assigned(statement: ast.stmt) -> str | None:
    """The name that ``statement`` assigns to, if it assigns to one name only."""
    if isinstance(statement, ast.Assign):
        if len(statement.targets) != 1:
            return None
        target: ast.expr = statement.targets[0]
    elif isinstance(statement, ast.AugAssign) or (
        isinstance(statement, ast.AnnAssign) and statement.value is not None
    ):
        target = statement.target
    else:
        return None
    return target.id if isinstance(target, ast.Name) else None


def _ends_in_semicolon(source: str, last: ast.stmt, first_line: int) -> bool:
    """Whether a semicolon follows ``last``, the last statement.

    After its end there are only brackets, comments, line ends and the semicolon: no strings.
    """
    line, column = last.end_lineno, last.end_col_offset
    if line is None or column is None:
        return False
    rest = split_lines(source)[line - first_line :]
    rest[0] = rest[0].encode()[column:].decode()
    return any(";" in text.partition("#")[0] for text in rest)
