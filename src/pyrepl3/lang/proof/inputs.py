"""What a proof stands on, and what it is not: the values that it looked at, and the reason of a refusal."""

from __future__ import annotations

import ast
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

    type Look = Callable[[str], object]
    """The value of a global name, or ``MISSING``. Raises Refused where nobody can tell."""
    type Definition = ast.FunctionDef | ast.AsyncFunctionDef
    type Define = Callable[[CodeType], Definition | None]
    """The definition that a code object was compiled from; None where its text is not known."""

MISSING = object()
MARK = "__pyrepl3_independent__"

_SCALARS = (type(None), bool, int, float, complex, str, bytes)
_MOST = 10_000  # items of containers that are looked at to see that they are plain


class Refused(Exception):  # noqa: N818  control flow of this module and of who asks it
    """Not proved: why, for people, and the line if it is known."""

    def __init__(self, why: str, line: int = 0) -> None:
        self.why, self.line = why, line
        super().__init__(why, line)


class Written:
    """A function that a statement of the cell defines, which has not run yet."""

    def __init__(self, node: ast.FunctionDef | ast.AsyncFunctionDef, *, declared: bool) -> None:
        self.node, self.declared = node, declared


class Proof:
    """What a proof stands on."""

    def __init__(self) -> None:
        self.inputs: dict[str, object] = {}
        self.codes: list[tuple[FunctionType, tuple[Any, ...]]] = []
        """Functions with what makes them up: an assignment to ``f.__code__`` makes the proof void."""
        self.attributes: list[tuple[dict[str, Any], str, object]] = []
        """Names in modules, with what they hold."""
        self.mutable = False
        self.declared = False
        self.loops = False
        """A function that it calls has a loop in it, or calls itself: it may take its time."""
        self.plain = False
        """Its value is made of numbers, texts and builtin containers, and nothing else."""

    def add(self, other: Proof) -> None:
        """Stand on what ``other`` stands on, too."""
        self.inputs |= other.inputs
        self.codes += other.codes
        self.attributes += other.attributes
        self.mutable = self.mutable or other.mutable
        self.declared = self.declared or other.declared
        self.loops = self.loops or other.loops

    def holds(self, look: Callable[[str], object]) -> bool:
        """Whether all that it stands on is as it was."""
        return (
            all(look(name) is value for name, value in self.inputs.items())
            and all(
                all(a is b for a, b in zip(made_of(f), parts, strict=True))
                for f, parts in self.codes
            )
            and all(names.get(name, MISSING) is value for names, name, value in self.attributes)
        )


def made_of(function: FunctionType) -> tuple[Any, ...]:
    """What a function runs, and with what defaults."""
    return function.__code__, function.__defaults__, function.__kwdefaults__


def is_plain(value: object) -> bool:
    """Whether ``value`` is made of exact numbers, texts and builtin containers, and not too big to see."""
    rest, left = [value], _MOST
    while rest:
        one = rest.pop()
        left -= 1
        if left < 0:
            return False
        kind = type(one)
        if kind in _SCALARS or kind is range:
            continue
        if kind is dict:
            rest += [*one.keys(), *one.values()]  # type: ignore[attr-defined]
        elif kind in (list, tuple, set, frozenset):
            rest += one  # type: ignore[arg-type]
        else:
            return False
    return True


def is_fixed(value: object) -> bool:
    """Whether plain ``value`` can never change."""
    kind = type(value)
    if kind in (tuple, frozenset):
        return all(map(is_fixed, value))  # type: ignore[call-overload]
    return kind in _SCALARS or kind is range


def containers(proof: Proof) -> list[object]:
    """The containers among what ``proof`` stands on, with all inside them: what could be changed in place."""
    inputs = [*proof.inputs.values(), *(value for _, _, value in proof.attributes)]
    rest: list[Any] = list(filter(is_plain, inputs))  # others are in nothing that is plain
    found: dict[int, object] = {}
    while rest:
        one = rest.pop()
        if id(one) in found or type(one) not in (dict, list, tuple, set, frozenset):
            continue
        found[id(one)] = one
        rest += [*one.keys(), *one.values()] if type(one) is dict else one
    return [one for one in found.values() if type(one) not in (tuple, frozenset)]
