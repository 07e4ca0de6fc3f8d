"""A cell in, the global names that it reads, binds and deletes out.

The compiled code says it: it names each global that it loads, stores or deletes, whatever the syntax.
(``symtable`` loses the read in ``a = [a for b in …]`` since comprehensions are inlined, PEP 709, and
the one in a class body that says ``x = x``; the tests compare the two.)
"""

from __future__ import annotations

from opcode import hasjrel, opmap
from typing import TYPE_CHECKING

from pyrepl3.lang.compile import CompiledCell, compile_cell
from pyrepl3.records import Names

if TYPE_CHECKING:
    from types import CodeType

_EXTENDED = opmap["EXTENDED_ARG"]
_LOAD_GLOBAL = opmap["LOAD_GLOBAL"]
_LOAD_NAME = opmap["LOAD_NAME"]
_LOADS = frozenset({_LOAD_NAME, opmap["LOAD_FROM_DICT_OR_GLOBALS"]})
_STORE_NAME = opmap["STORE_NAME"]
_STORE_GLOBAL = opmap["STORE_GLOBAL"]
_DELETE_NAME = opmap["DELETE_NAME"]
_DELETE_GLOBAL = opmap["DELETE_GLOBAL"]
_SETUP_ANNOTATIONS = opmap["SETUP_ANNOTATIONS"]
_INTRINSIC = opmap["CALL_INTRINSIC_1"]
_IMPORT_STAR = 2  # INTRINSIC_IMPORT_STAR
_JUMPS = frozenset(hasjrel)
_OPTIMIZED = 0x1  # CO_OPTIMIZED: a function, not a module or a class body


def find_names(source: str, *, flags: int = 0, filename: str = "<cell>") -> Names:
    """The global names in ``source``, also those that its functions and classes touch when they run.

    ``reads`` has built-in names too, since nobody can tell them from globals before the cell runs.
    ``from m import *`` binds ``"*"``, an annotated name ``__annotations__``, a first statement that
    is a string ``__doc__``; ``except E as e`` binds and deletes ``e``. What ``exec``, ``eval``,
    ``globals()`` and ``setattr`` do is not seen, nor code that can never run (``if 0:``).

    ``flags``: inherited ``__future__`` flags. Raises CompilationError.
    """
    return names_of(compile_cell(source, filename, flags=flags))


def names_of(compiled: CompiledCell) -> Names:
    """The same for a cell that is compiled already."""
    found = _Found()
    for code in (compiled.body, compiled.tail):
        if code is not None:
            found.scan(code, top=not compiled.wrapped)
    for code in compiled.nested:
        found.scan(code, top=False)
    return Names(
        reads=frozenset(found.reads),
        binds=frozenset(found.binds),
        deletes=frozenset(found.deletes),
    )


class _Found:
    """The names so far."""

    def __init__(self) -> None:
        self.reads: set[str] = set()
        self.binds: set[str] = set()
        self.deletes: set[str] = set()

    def scan(self, code: CodeType, *, top: bool) -> None:
        """Add what ``code`` itself touches. ``top``: its own names are the globals."""
        names = code.co_names
        # In a class body the names bound so far are its own: sure only where nothing jumps.
        own: set[str] = set()
        straight = not top and not code.co_exceptiontable
        extended = 0
        bytecode = code.co_code
        for at in range(0, len(bytecode), 2):
            op = bytecode[at]
            arg = bytecode[at + 1] | extended
            extended = arg << 8 if op == _EXTENDED else 0
            if op == _LOAD_GLOBAL:
                self.reads.add(names[arg >> 1])
            elif op in _LOADS:
                if names[arg] not in own:
                    self.reads.add(names[arg])
            elif op == _STORE_GLOBAL or (top and op == _STORE_NAME):
                self.binds.add(names[arg])
            elif op == _DELETE_GLOBAL or (top and op == _DELETE_NAME):
                self.deletes.add(names[arg])
            elif op == _STORE_NAME:
                if straight:
                    own.add(names[arg])
            elif op == _DELETE_NAME:
                own.discard(names[arg])
            elif op in _JUMPS:
                straight = False
            elif op == _SETUP_ANNOTATIONS:
                (self.binds if top else own).add("__annotations__")
            elif top and op == _INTRINSIC and arg == _IMPORT_STAR:
                self.binds.add("*")
