"""A cell, and the namespace that it will run in, in; how and where it should run, and why, out.

The text decides first (:mod:`pyrepl3.lang.blocking`). A plain cell that reads a name whose value
blocks when it is used (a connection, a socket, a file, a function that sleeps) is blocking too,
and one that uses objects of a loop outside a coroutine must stay on the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrepl3.errors import CompilationError
from pyrepl3.lang.blocking import (
    BLOCKING_IO_CALLS,
    BLOCKING_IO_MODULES,
    Findings,
    find_async_definitions,
    find_awaits,
)
from pyrepl3.lang.compile import CompiledCell, compile_cell
from pyrepl3.lang.parse import column_of, parse, split_lines
from pyrepl3.lang.values import (
    BLOCKS,
    HARMLESS,
    LOOP,
    NOTHING,
    blocking_values,
    describe,
    weigh,
    weigh_call,
    weigh_names,
)
from pyrepl3.records import ExecutionMode, ModeReport, Placement, Reason

if TYPE_CHECKING:
    import ast
    from collections.abc import Callable, Iterable, Mapping
    from typing import Literal

__all__ = [
    "BLOCKING_IO_CALLS",
    "BLOCKING_IO_MODULES",
    "blocking_values",
    "explain_mode",
    "place",
    "uses_loop",
]


def place(
    compiled: CompiledCell, namespace: Mapping[str, object]
) -> tuple[ExecutionMode, Placement]:
    """The mode and the placement of a cell that is about to run with ``namespace``.

    Any thread. Runs no code of the values. About 0.1 µs a name.
    """
    mode = compiled.mode
    if compiled.settled:
        return mode, compiled.placement
    kinds = weigh_names(compiled.reads, namespace)
    if kinds == NOTHING and mode is ExecutionMode.SIMPLE_SYNC:
        return mode, "loop"
    blocks = kinds & BLOCKS != 0 or mode is ExecutionMode.BLOCKING_SYNC
    if compiled.rests_on and not kinds & BLOCKS:
        blocks = not _are_harmless(compiled.rests_on, namespace)
    if mode is not ExecutionMode.ASYNC_DEF:
        mode = ExecutionMode.BLOCKING_SYNC if blocks else ExecutionMode.SIMPLE_SYNC
    on_loop = compiled.needs_loop or kinds & LOOP != 0 or not blocks
    return mode, "loop" if on_loop else "thread"


def uses_loop(compiled: CompiledCell, namespace: Mapping[str, object]) -> bool:
    """Whether the cell must stay on the running loop, whatever else is known of it.

    It awaits, calls what needs the loop, or reads names that hold objects of one (tasks, events).
    """
    return (
        compiled.is_async
        or compiled.needs_loop
        or weigh_names(compiled.reads, namespace) & LOOP != 0
    )


def _are_harmless(names: Iterable[str], namespace: Mapping[str, object]) -> bool:
    """Whether calls of these names and of their methods are known not to block."""
    return all(
        name in namespace and weigh_call(namespace[name], namespace) == HARMLESS for name in names
    )


def explain_mode(
    source: str,
    namespace: Mapping[str, object],
    *,
    flags: int = 0,
    transform: Callable[[ast.Module], ast.Module] | None = None,
) -> ModeReport:
    """How and where ``source`` would run with ``namespace``, and every reason, in the text's order.

    Reasons that are values come last. ``flags`` are the inherited ``__future__`` flags, ``transform`` is
    what changes the tree before it is compiled. UNKNOWN, with a reason of kind ``"syntax"``, for what
    does not compile. Raises only what ``transform`` raises.
    """
    try:
        compiled = compile_cell(source, "<cell>", flags=flags, transform=transform)
    except CompilationError as error:
        reason = Reason(
            kind="syntax",
            name=type(error).__name__,
            line=error.lineno or 1,
            column=max((error.offset or 1) - 1, 0),
            text=error.msg,
        )
        return ModeReport(mode=ExecutionMode.UNKNOWN, placement="loop", reasons=(reason,))
    mode, placement = place(compiled, namespace)
    tree = parse(source, "<cell>", flags)
    if transform is not None:
        tree = transform(tree)
    lines = split_lines(source)
    found: list[tuple[Literal["await", "async_def"], str, ast.expr | ast.stmt]]
    found = [("async_def", node.name, node) for node in find_async_definitions(tree)]
    if compiled.is_async:
        found += [("await", _AWAITS[type(node).__name__], node) for node in find_awaits(tree)]
    reasons = [
        Reason(
            kind=kind,
            name=name,
            line=node.lineno,
            column=column_of(lines[node.lineno - 1], node.col_offset),
        )
        for kind, name, node in found
    ]
    for finding in Findings(tree.body).found:
        root = finding.root
        if finding.certain or root is None or not _are_harmless((root,), namespace):
            reasons.append(finding.explain(lines))
    reasons.sort(key=lambda reason: (reason.line, reason.column))
    for name in compiled.reads:
        kind = weigh(namespace.get(name), namespace, compiled.reads)
        if kind == BLOCKS:
            reasons.append(Reason(kind="value", name=name, text=describe(namespace[name])))
        elif kind == LOOP:
            reasons.append(Reason(kind="needs_loop", name=name, text=describe(namespace[name])))
    return ModeReport(mode=mode, placement=placement, reasons=tuple(reasons))


_AWAITS = {
    "Await": "await",
    "AsyncFor": "async for",
    "AsyncWith": "async with",
    "ListComp": "async for",
    "SetComp": "async for",
    "DictComp": "async for",
    "GeneratorExp": "async for",
}
