"""A function, cell or code object in, what pickle is to write for it out."""

from __future__ import annotations

import marshal
import sys
from types import CellType, CodeType, FunctionType
from typing import Any

from pyrepl3.snapshot import rebuild
from pyrepl3.snapshot.commons import BUILDER, Pickling, one_of_its_kind
from pyrepl3.snapshot.definitions import is_importable, is_importable_module
from pyrepl3.snapshot.plain import plain
from pyrepl3.snapshot.reaches import code_names


def reduce_function(pickler: Pickling, function: FunctionType) -> Any:
    """By name if another blob holds it, by import if it can be, else by value."""
    session = pickler.commons
    name = session.definitions.name_of(function)
    if name is not None and id(function) not in pickler.roots:
        return pickler.refer(name)
    if name is None and is_importable(function, session.name):
        return NotImplemented
    pickler.by_value.add(id(function))
    pickler.links |= code_names(plain(function.__code__))
    closure = function.__closure__
    if closure is not None:
        # Made empty first, filled by set_function: a cell may hold the function itself.
        pickler.hollow.update(map(id, closure))
    args = (
        BUILDER,
        pickler.key(function),
        name,
        plain(function.__code__),
        _globals_of(function, pickler),
        closure,
    )
    return (
        rebuild.make_function,
        args,
        _state_of(function, session.name),
        None,
        None,
        rebuild.set_function,
    )


def _globals_of(function: FunctionType, pickler: Pickling) -> Any:
    namespace = function.__globals__
    if namespace is pickler.commons.namespace:
        return namespace  # in the memo: the live namespace itself
    module: Any = sys.modules.get(str(namespace.get("__name__")))
    if module is not None and vars(module) is namespace and is_importable_module(module):
        return rebuild.Call(vars, module)
    return namespace  # that of exec(source, namespace)


def _state_of(function: FunctionType, session: str) -> tuple[Any, ...]:
    module = function.__module__
    own = function.__globals__.get("__name__")  # a restore takes this very object
    told = module if module is own else one_of_its_kind(module)
    return (
        BUILDER,
        (one_of_its_kind(function.__name__), one_of_its_kind(function.__qualname__)),
        True if module == session else told,
        function.__defaults__,
        function.__kwdefaults__,
        function.__annotations__ or None,
        function.__doc__,
        function.__dict__ or None,
        function.__type_params__ or None,
        None if function.__closure__ is None else tuple(map(_contents, function.__closure__)),
    )


def _contents(cell: CellType) -> tuple[object, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def reduce_cell(pickler: Pickling, cell: CellType) -> Any:
    contents = _contents(cell)
    if id(cell) in pickler.hollow or not contents:
        return rebuild.make_cell, ()
    return rebuild.make_cell, (), contents, None, None, rebuild.set_cell


def reduce_code(pickler: Pickling, code: CodeType) -> Any:
    # Version 2 of marshal: the later ones write differently as reference counts differ.
    return rebuild.make_code, (rebuild.MAKER, marshal.dumps(plain(code), 2))
