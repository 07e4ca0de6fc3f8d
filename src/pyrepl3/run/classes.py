"""A class made in a cell in, the file name of its cell out: what lets ``inspect.getsource`` find it.

``inspect`` finds the file of a function by its code, but that of a class only by its module's
``__file__``, and one module holds the classes of many cells. So its look-up asks here first, for classes of
our modules only.
"""

from __future__ import annotations

import inspect
import sys
import weakref
from types import FunctionType
from typing import TYPE_CHECKING, Any

from pyrepl3.run.sources import is_cell

if TYPE_CHECKING:
    from types import ModuleType

    from pyrepl3.run.sources import Sources

_MODULES: dict[str, weakref.ref[Sources]] = {}


def serve_classes_of(module_name: str, sources: Sources) -> None:
    """Let ``inspect`` find the classes of this module in these sources, until they are collected."""
    _MODULES[module_name] = weakref.ref(sources)
    original = inspect.getfile
    if getattr(original, "_pyrepl3", False):
        return

    def getfile(object: Any) -> str:  # noqa: A002  the name that inspect documents
        if isinstance(object, type):
            found = _find_file(object)
            if found is not None:
                return found
        return original(object)

    getfile._pyrepl3 = True  # type: ignore[attr-defined]  # noqa: SLF001  a mark of our own
    getfile.__doc__ = original.__doc__
    # For good: another library may have wrapped it in turn, and it changes nothing for others.
    inspect.getfile = getfile


def forget_module(module_name: str, module: weakref.ref[ModuleType]) -> None:
    """Take a module of cells that is gone out of ``sys.modules``, unless another has its name now."""
    there = sys.modules.get(module_name)
    if there is not None and there is module():
        del sys.modules[module_name]
    sources = _MODULES.get(module_name)
    if sources is not None and sources() is None:
        del _MODULES[module_name]


def _find_file(cls: type) -> str | None:
    reference = _MODULES.get(cls.__module__)
    sources = None if reference is None else reference()
    if sources is None:
        return None
    return sources.home(cls) or _file_of_methods(cls)


def _file_of_methods(cls: type) -> str | None:
    """By the code of its own methods: for classes that have no global name, such as local ones."""
    head = f"{cls.__qualname__}."
    for value in list(vars(cls).values()):
        function = value
        if type(value) in (classmethod, staticmethod):
            function = value.__func__
        elif type(value) is property:
            function = value.fget
        # Exactly a function: other attributes may answer to any name.
        if type(function) is FunctionType and function.__qualname__.startswith(head):
            filename = function.__code__.co_filename
            if is_cell(filename):
                return filename
    return None
