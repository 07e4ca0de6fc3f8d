"""A cell and the live names in, what is wrong with it out, before any of it runs and without an engine.

What needs types is the business of a type checker: see ``check`` beside the session.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pyrepl3.errors import CompilationError
from pyrepl3.lang.checks.awaits import AwaitChecks
from pyrepl3.lang.checks.edits import Text
from pyrepl3.lang.checks.names import check_names
from pyrepl3.lang.compile import compile_cell
from pyrepl3.lang.parse import parse
from pyrepl3.lang.repair import propose, quiet
from pyrepl3.lang.repairs import FILENAME
from pyrepl3.records import Diagnostic

if TYPE_CHECKING:
    from pyrepl3.lang.compile import CompiledCell


def check_cell(
    source: str, namespace: Mapping[str, object], *, flags: int = 0
) -> tuple[tuple[Diagnostic, ...], CompiledCell | None]:
    """What is found in ``source``, in the text's order, and its code; None where it does not compile.

    Syntax errors (with ``lang.repair``'s proposal), names that nobody binds, builtins that it hides,
    coroutines that nobody awaits, and calls that block the loop in code that runs on it. ``namespace`` is
    read, no code of its values runs. ``flags``: inherited ``__future__`` flags. Never raises for any source.
    """
    quiet()  # what the compiler warns of is told when the cell runs
    try:
        compiled = compile_cell(source, FILENAME, flags=flags)
    except CompilationError as error:
        return (_syntax(source, error),), None
    tree = parse(source, FILENAME, flags)
    text = Text(source)
    awaits = AwaitChecks(tree, text, namespace, loop=compiled.is_async)
    found = [
        *check_names(tree, compiled, text, namespace),
        *awaits.unawaited(),
        *awaits.blocking(),
    ]
    return tuple(sorted(found, key=lambda one: (one.line, one.column))), compiled


def _syntax(source: str, error: CompilationError) -> Diagnostic:
    line, column = error.lineno or 1, max((error.offset or 1) - 1, 0)
    repair = propose(source, error)
    end = max((error.end_offset or 0) - 1, column) if error.end_lineno == line else column
    return Diagnostic(
        kind="syntax",
        severity="error",
        line=line,
        column=column,
        end_line=line,
        end_column=end,
        text=error.msg,
        proposal=None if repair is None else repair.source,
        changes=() if repair is None else repair.changes,
    )
