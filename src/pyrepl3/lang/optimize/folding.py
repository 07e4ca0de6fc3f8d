"""A tree in, the same tree with its constants computed out: only what CPython leaves undone.

CPython folds arithmetic, tuples, subscripts and ``not``. Left are comparisons of constants, constants
in ``and`` and ``or``, and constants in f-strings. The conditions are in ``CONDITIONS``.
"""

from __future__ import annotations

import ast
import operator
from typing import TYPE_CHECKING, Any

from pyrepl3.lang.optimize import remains
from pyrepl3.lang.optimize.places import Place, find_places

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrepl3.lang.optimize.places import Conditions

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_NUMBERS = {int, float, bool}
_TESTING = (ast.If, ast.While, ast.Assert, ast.BoolOp)
_SMALL = 64  # bits: a text of more than 4,300 digits is refused when it runs


def _alike(values: list[Any]) -> bool:
    kinds = {type(value) for value in values}
    return kinds <= _NUMBERS or kinds == {str}


# Where a constant stays what it is, and the compiler warns of none. Not a sum or a tuple, which CPython folds
# in its turn, and which then may stand where it warns: `(1 < 2, 3)()`.
_CALM = (
    *(ast.Assign, ast.AugAssign, ast.AnnAssign, ast.NamedExpr, ast.Return, ast.If, ast.While),
    *(ast.Assert, ast.IfExp, ast.BoolOp, ast.keyword, ast.comprehension, ast.List, ast.Set),
    *(ast.Dict, ast.For, ast.Lambda, ast.FormattedValue),
)


def _is_calm(place: Place) -> bool:
    """Whether a constant in this place is nobody's business."""
    match place.parent:
        case ast.Call():
            return place.field == "args"
        case ast.Compare(ops=ops):
            return not any(isinstance(op, ast.Is | ast.IsNot) for op in ops)
        case _:
            return isinstance(place.parent, _CALM)


CONDITIONS: Conditions = {
    # `1 < "a"` raises, and when it runs; bytes and text compared may warn (-b).
    "alike": _alike,
    # CPython promises no identity, and warns of `is` with a literal.
    "equality": lambda op: not isinstance(op, ast.Is | ast.IsNot),
    # A line that held one of the parts is a line that a trace sees.
    "one line": lambda node: node.lineno == node.end_lineno,
    # Nor a statement of its own: a text there may be a docstring, which `"" or "text"` is not.
    "calm": _is_calm,
    # What stays of `True and x` keeps its place, so that its errors do. A test reports nothing else there;
    # `for` and `with` would report there that x cannot be iterated or entered.
    "own place": lambda new, place: (
        isinstance(new, ast.Constant | ast.BoolOp) or isinstance(place.parent, _TESTING)
    ),
    # CPython warns of `assert (x, "text")`, and not of `assert 0 or (x, "text")`.
    "no tuple": lambda new, place: (
        not (isinstance(new, ast.Tuple) and isinstance(place.parent, ast.Assert))
    ),
    "small": lambda value: type(value) is not int or value.bit_length() <= _SMALL,
}

_KINDS = frozenset({ast.Compare, ast.BoolOp, ast.JoinedStr})


def fold(
    tree: ast.AST,
    conditions: Conditions = CONDITIONS,
    leaving: Conditions = remains.CONDITIONS,
) -> ast.AST:
    """Compute what is constant in ``tree``, which is changed. ``leaving``: when operands may go."""
    declared: frozenset[str] | None = None
    for place in reversed(find_places(tree, _KINDS)):
        node = place.node
        new: ast.expr | None
        if isinstance(node, ast.Compare):
            new = _compare(node, conditions)
        elif isinstance(node, ast.JoinedStr):
            new = None if place.field == "format_spec" else _join(node, conditions)
        elif not any(isinstance(value, ast.Constant) for value in node.values[:-1]):
            continue
        else:
            if declared is None:
                declared = remains.declared_names(tree)
            new = _combine(node, inner=place.inner, declared=declared, leaving=leaving)
        if (
            new is not None
            and conditions["one line"](node)
            and conditions["calm"](place)
            and conditions["own place"](new, place)
            and conditions["no tuple"](new, place)
        ):
            place.put(new)
    return tree


def _compare(node: ast.Compare, conditions: Conditions) -> ast.Constant | None:
    values = []
    for operand in (node.left, *node.comparators):
        if not isinstance(operand, ast.Constant):
            return None
        values.append(operand.value)
    if not all(type(op) in _COMPARE and conditions["equality"](op) for op in node.ops):
        return None
    if not conditions["alike"](values):
        return None
    pairs = zip(node.ops, values, values[1:], strict=False)
    value = all(_COMPARE[type(op)](left, right) for op, left, right in pairs)
    return ast.copy_location(ast.Constant(value), node)


def _combine(
    node: ast.BoolOp, *, inner: bool, declared: frozenset[str], leaving: Conditions
) -> ast.expr | None:
    """``and`` or ``or`` without the constants that decide nothing, and up to the one that decides."""
    decides = isinstance(node.op, ast.Or)
    *before, last = node.values
    kept: list[ast.expr] = []
    for at, value in enumerate(before):
        if not isinstance(value, ast.Constant):
            kept.append(value)
        elif bool(value.value) is decides:
            if not remains.may_go(
                node.values[at + 1 :], inner=inner, declared=declared, conditions=leaving
            ):
                return None
            last = value
            break
    if len(kept) + 1 == len(node.values):
        return None
    if kept:
        return ast.copy_location(ast.BoolOp(node.op, [*kept, last]), node)
    if isinstance(last, ast.Constant):
        return ast.copy_location(ast.Constant(last.value, last.kind), node)
    return last


def _join(node: ast.JoinedStr, conditions: Conditions) -> ast.Constant | None:
    """The text of an f-string all of whose parts are constant."""
    texts = []
    for part in node.values:
        match part:
            case ast.Constant(value=str(text)):
                texts.append(text)
            case ast.FormattedValue(
                value=ast.Constant(value=int() | str() | None as value), format_spec=None
            ) if part.conversion in (-1, ord("s")):
                if not conditions["small"](value):
                    return None
                texts.append(str(value))
            case _:
                return None
    return ast.copy_location(ast.Constant("".join(texts)), node)
