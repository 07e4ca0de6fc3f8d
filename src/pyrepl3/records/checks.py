"""What is known of a cell before it runs: diagnostics, and the live names in a checker's language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pyrepl3.records.cells import Record

type Severity = Literal["error", "warning"]
type DiagnosticKind = Literal[
    "syntax",
    "undefined-name",
    "shadowed-builtin",
    "unawaited",
    "blocking-call",
    "wrong-arguments",
    "type",
]


class Diagnostic(Record, frozen=True, kw_only=True):
    """One thing that is wrong, or looks wrong, with a cell that has not run.

    ``line`` and ``end_line`` count from 1, ``column`` and ``end_column`` (behind the last character) from
    0, in characters of the cell's source. ``rule`` is the engine's own word for it; "" where it is ours.
    ``proposal`` is the whole source repaired, where a repair is known, and ``changes`` says in words what
    it changed; it never ran.
    """

    kind: DiagnosticKind
    severity: Severity
    line: int
    column: int
    end_line: int
    end_column: int
    text: str
    rule: str = ""
    proposal: str | None = None
    changes: tuple[str, ...] = ()


class Looked(Record, frozen=True, kw_only=True):
    """What a runner says of a cell: its own findings, and the names the cell reads, for a type checker.

    ``imports`` is one line of import statements, ``stub`` the text of a stub file: what the other names
    are. ``names`` are those that the stub declares; ``binds`` those that the cell would bind at its top.
    """

    diagnostics: tuple[Diagnostic, ...] = ()
    imports: str = ""
    stub: str = ""
    names: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()


class Typed(Record, frozen=True, kw_only=True):
    """What a type checker says of a cell.

    ``engine`` is its name and version, ``types`` what the names of ``Looked.binds`` would be.
    """

    engine: str
    diagnostics: tuple[Diagnostic, ...] = ()
    types: Mapping[str, str] = {}


class CheckReport(Record, frozen=True, kw_only=True):
    """What ``Session.check`` found, in the text's order.

    ``engine`` names the type checker that was asked, with its version; "" where none was, and then
    ``unchecked`` says why.
    """

    diagnostics: tuple[Diagnostic, ...] = ()
    engine: str = ""
    unchecked: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings do not count."""
        return all(found.severity != "error" for found in self.diagnostics)
