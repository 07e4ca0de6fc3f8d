"""A compiled cell and the live names in, what it reads that nobody binds and what it hides out."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from pyrepl3.lang.checks.places import Place, find_places
from pyrepl3.lang.names import names_of
from pyrepl3.records import Diagnostic, DiagnosticKind, Severity

if TYPE_CHECKING:
    from pyrepl3.lang.checks.edits import Text
    from pyrepl3.lang.compile import CompiledCell

BUILTINS = frozenset(dir(builtins))
_BINDS_ANYTHING = frozenset({"exec", "globals", "locals", "vars", "__import__"})
_USUAL = {
    "np": "numpy as np",
    "pd": "pandas as pd",
    "plt": "matplotlib.pyplot as plt",
    "dt": "datetime as dt",
    "nx": "networkx as nx",
    "sns": "seaborn as sns",
}
_HARMLESS = frozenset({"_", "copyright", "credits", "license", "exit", "quit"})
"""Builtin names that are there for people at prompts; hiding them hurts nobody."""


def check_names(
    tree: ast.Module, compiled: CompiledCell, text: Text, namespace: Mapping[str, object]
) -> Iterator[Diagnostic]:
    """Names that are bound nowhere, or only later in the cell; and builtins that it hides."""
    places = sorted(find_places(compiled, text.lines), key=lambda place: place.start)
    yield from _undefined(tree, compiled, places, text, namespace)
    yield from _shadowed(places, text, namespace)


def _undefined(
    tree: ast.Module,
    compiled: CompiledCell,
    places: list[Place],
    text: Text,
    namespace: Mapping[str, object],
) -> Iterator[Diagnostic]:
    names = names_of(compiled)
    if "*" in names.binds or not _BINDS_ANYTHING.isdisjoint(compiled.names):
        return  # anything may be bound
    there = {*list(namespace), *BUILTINS}
    guarded = list(_guarded_lines(tree))
    told: set[tuple[str, tuple[int, int]]] = set()
    for place in places:
        name = place.name
        if place.kind != "load" or name in there or name.startswith("__"):
            continue
        later = name in names.binds
        if (name, place.start) in told or (later and not place.early):
            continue
        if any(first <= place.start[0] <= last for first, last in guarded):
            continue
        told.add((name, place.start))
        if later:
            line = min(p.start[0] for p in places if p.kind == "bind" and p.name == name)
            words = f"name {name!r} is used before line {line} binds it"
            yield _at(place, "undefined-name", "error", words)
            continue
        words, proposal, change = _cure(name, place, text, there | names.binds)
        words = f"name {name!r} is not defined{words}"
        found = _at(place, "undefined-name", "error", words)
        if proposal is None:
            yield found
        else:
            yield _with(found, proposal, change)


def _cure(
    name: str, place: Place, text: Text, there: set[str]
) -> tuple[str, str | None, tuple[str, ...]]:
    """What to say more, and a repaired source with its change in words, where one is known."""
    module = _USUAL.get(name) or (name if name in sys.stdlib_module_names else "")
    if module:
        return (
            f"; import {module}",
            text.with_import(text.source, module),
            (f"line 1: added import {module}",),
        )
    from difflib import get_close_matches  # noqa: PLC0415  only after a mistake

    known = [one for one in there if not one.startswith("_") or name.startswith("_")]
    close = get_close_matches(name, known, 1, 0.78)
    if not close or text.between(place.start, place.end) != name:
        return "", None, ()
    return (
        f"; did you mean {close[0]!r}?",
        text.changed([(place.start, place.end, close[0])]),
        (f"line {place.start[0]}: {name} became {close[0]}",),
    )


def _guarded_lines(tree: ast.Module) -> Iterator[tuple[int, int]]:
    """Lines of ``try`` blocks that catch a NameError: code that asks whether a name is there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(map(_catches, node.handlers)):
            yield node.body[0].lineno, node.body[-1].end_lineno or 0


def _catches(handler: ast.ExceptHandler) -> bool:
    kinds = [handler.type] if not isinstance(handler.type, ast.Tuple) else handler.type.elts
    names = {kind.id if isinstance(kind, ast.Name) else "" for kind in kinds if kind is not None}
    return handler.type is None or bool(names & {"NameError", "Exception", "BaseException"})


def _shadowed(
    places: list[Place], text: Text, namespace: Mapping[str, object]
) -> Iterator[Diagnostic]:
    told: set[str] = set()
    for place in places:
        name = place.name
        if place.kind != "bind" or name not in BUILTINS or name in _HARMLESS or name in told:
            continue
        if name in namespace or name.startswith("__"):
            continue  # it is hidden already
        told.add(name)
        words = f"{name!r} hides the builtin of that name, in this cell and in those after it"
        found = _at(place, "shadowed-builtin", "warning", words)
        mine = [one for one in places if one.name == name]
        if all(text.between(one.start, one.end) == name for one in mine):
            new = f"{name}_"
            source = text.changed({(one.start, one.end, new) for one in mine})
            found = _with(found, source, (f"line {place.start[0]}: {name} became {new}",))
        yield found


def _at(place: Place, kind: DiagnosticKind, severity: Severity, words: str) -> Diagnostic:
    (line, column), (end_line, end_column) = place.start, place.end
    return Diagnostic(
        kind=kind,
        severity=severity,
        line=line,
        column=column,
        end_line=end_line,
        end_column=end_column,
        text=words,
    )


def _with(found: Diagnostic, proposal: str, changes: tuple[str, ...]) -> Diagnostic:
    return msgspec.structs.replace(found, proposal=proposal, changes=changes)
