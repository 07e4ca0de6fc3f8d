"""The type checker of a session, loaded and started when it is first asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyrepl3.ports import TypeChecker
    from pyrepl3.records import Looked, Typed


class OnFirstUse:
    """A TypeChecker that loads the real one at its first check."""

    def __init__(self) -> None:
        self._checker: TypeChecker | None = None

    def check(self, source: str, looked: Looked, *, types: bool = False) -> Typed:
        """See the port."""
        if self._checker is None:
            from pyrepl3.check.ty import TyChecker  # noqa: PLC0415  subprocess and tempfile load with it

            self._checker = TyChecker()
        return self._checker.check(source, looked, types=types)

    def close(self) -> None:
        """See the port."""
        if self._checker is not None:
            self._checker.close()
