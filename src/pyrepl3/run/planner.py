"""Planner: the source of a cell in; its compiled code, mode and placement out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrepl3.errors import CompilationError
from pyrepl3.lang.cache import CompilationCache
from pyrepl3.lang.compile import CompiledCell, compile_cell
from pyrepl3.lang.modes import place, uses_loop
from pyrepl3.records import ExecutionMode, ModeReport, Reason

if TYPE_CHECKING:
    import ast
    from collections.abc import Callable

    from pyrepl3.config import ExecutorConfig
    from pyrepl3.records import Placement
    from pyrepl3.run.namespace import NamespaceManager

REMEMBERED = 10_000
"""Sources that held the loop, at most; each is kept as text."""


class Planner:
    """Compiles cells, each text once, and decides where they run, against one namespace.

    ``transform`` is the seam for passes over the tree. Any thread.
    """

    def __init__(self, namespace: NamespaceManager, config: ExecutorConfig | None) -> None:
        self._namespace = namespace
        self._dict = namespace.get_for_execution()
        self.transform: Callable[[ast.Module], ast.Module] | None = None
        self.transforms = 0
        """Cells that only the fallback could compile (a top-level ``return``)."""
        self.cache: CompilationCache | None = None
        self.blocked: set[str] = set()
        """Sources that held the loop."""
        if config is None:
            self.cache = CompilationCache()
        elif config.enable_compilation_cache:
            self.cache = CompilationCache(config.cache_size, config.cache_bytes)
        if config is not None and config.enable_ast_optimization:
            from pyrepl3.lang.optimize.optimizer import (  # noqa: PLC0415  only where it is asked for
                PAYING,
                ASTOptimizer,
            )

            self.transform = ASTOptimizer(PAYING).optimize

    def compile(self, source: str, filename: str, first_line: int = 1) -> tuple[CompiledCell, bool]:
        """Compiled, and whether it was before; then the file name may be another: see ``renamed``.

        Raises CompilationError.
        """
        cache, flags = self.cache, self._namespace.flags
        if cache is not None:
            found = cache.lookup((source, flags, first_line))
            if found is not None:
                return found, True  # type: ignore[return-value]  # keys with a line number: cells
        compiled = compile_cell(
            source, filename, flags=flags, first_line=first_line, transform=self.transform
        )
        if cache is not None:
            cache.store((source, flags, first_line), compiled)
        self.transforms += compiled.wrapped
        return compiled, False

    def decide(
        self, compiled: CompiledCell, source: str, *, beside: bool
    ) -> tuple[ExecutionMode, Placement]:
        """Mode and placement now. ``beside``: other cells run at the same time."""
        mode, placement = place(compiled, self._dict)
        return mode, self.reconsider(compiled, source, placement, beside=beside)

    def reconsider(
        self, compiled: CompiledCell, source: str, placement: Placement, *, beside: bool
    ) -> Placement:
        """Beside others a cell must not hold them up; one that held them up once goes at once."""
        if (
            (beside or source in self.blocked)
            and placement == "loop"
            and not uses_loop(compiled, self._dict)
        ):
            return "thread"
        return placement

    def note_blocked(self, source: str) -> None:
        """Remember that this text held the loop: next time it goes to the thread."""
        if len(self.blocked) < REMEMBERED:
            self.blocked.add(source)

    def find_mode(self, source: str) -> ExecutionMode:
        """The mode of ``source``; UNKNOWN only for what does not compile."""
        try:
            compiled, _ = self.compile(source, "<cell>")
        except CompilationError:
            return ExecutionMode.UNKNOWN
        return self.decide(compiled, source, beside=False)[0]

    def explain(self, source: str) -> ModeReport:
        """Mode and placement of ``source`` with every reason."""
        from pyrepl3.lang.modes import explain_mode  # noqa: PLC0415  on request only

        report = explain_mode(
            source, self._dict, flags=self._namespace.flags, transform=self.transform
        )
        if source in self.blocked and report.placement == "loop":
            compiled, _ = self.compile(source, "<cell>")
            if self.decide(compiled, source, beside=False)[1] == "thread":
                reason = Reason(kind="blocked_before", name="", text="it held the loop last time")
                return ModeReport(
                    mode=report.mode, placement="thread", reasons=(*report.reasons, reason)
                )
        return report


def propose_repair(error: CompilationError, source: str) -> None:
    """Give ``error`` a repaired source and what it changes, where one is found. Runs nothing."""
    from pyrepl3.lang.repair import propose  # noqa: PLC0415  only for what does not compile

    repair = propose(source, error)
    if repair is not None:
        error.proposal, error.changes = repair.source, repair.changes
