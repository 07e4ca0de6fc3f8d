"""A tree in, the same tree with arithmetic that a variable holds already read from that variable out.

    def f(): w = 3; h = 4.5; a = w * h; return (w * h) / 2       # returns a / 2

Nothing else can be shared in Python: what an operand of unknown type does when it is added may have any
effect, a global may change between two lines, and a variable of our own would stand in ``locals()``.
So: local variables of a function that hold nothing but numbers, by the text of that function.
"""

from __future__ import annotations

import ast
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from pyrepl3.lang.optimize.places import FUNCTIONS, SCOPES, Place, blocks_of, find_places

if TYPE_CHECKING:
    from collections.abc import Collection

    from pyrepl3.lang.optimize.places import Conditions

    type _Function = ast.FunctionDef | ast.AsyncFunctionDef
    type _Held = dict[str, tuple[str, frozenset[str]]]
    """By the dump of some arithmetic: the variable that holds its value, and what it was made of."""

_TYPES = (int, float, bool)
# No power, which may be complex; no shift, which may need all memory; no ~, which warns of a bool.
_NUMERIC = (
    *(ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.IfExp, ast.Load, ast.boolop),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.UAdd, ast.USub, ast.Not),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)
_LARGEST = 60  # nodes
# These make a new number; `%` and `//`, `+x`, `and` and `or` may give an operand itself.
_MAKING = (ast.Add, ast.Sub, ast.Mult, ast.Div)


def _is_number(node: ast.AST | None, numbers: Collection[str]) -> bool:
    """Whether ``node`` is arithmetic on numbers alone: it calls nobody's code and gives a number."""
    if node is None:
        return False
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            if part.id not in numbers or not isinstance(part.ctx, ast.Load):
                return False
        elif isinstance(part, ast.Constant):
            if type(part.value) not in _TYPES:
                return False
        elif not isinstance(part, _NUMERIC):
            return False
    return True


def _is_arithmetic(statement: ast.stmt, numbers: Collection[str]) -> bool:
    """Whether what ``statement`` itself does is arithmetic on numbers, so that nobody else runs."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name in numbers and _is_number(value, numbers)
        case ast.AugAssign(target=ast.Name(id=name), value=value):
            return name in numbers and _is_number(value, numbers)
        case ast.Expr(value=value) | ast.Return(value=value) | ast.If(test=value):
            return _is_number(value, numbers)
        case _:
            return False


def _is_used_up(place: Place) -> bool:
    """Whether a new object is made of the number in this place: nobody sees which object it was."""
    match place.parent:
        case ast.BinOp(op=op):
            return isinstance(op, _MAKING)
        case ast.Compare():
            return True
        case _:
            return False


CONDITIONS: Conditions = {
    # Arguments, nonlocals, targets of loops, what nested functions assign to: not ours to judge.
    "own": lambda name, foreign: name not in foreign,
    "number": _is_number,
    # Code that somebody else wrote may write to our variables, through the frame (PEP 667).
    "nobody else": _is_arithmetic,
    # A branch may not be taken, a loop comes back.
    "straight": lambda statement: not blocks_of(statement),
    "unchanged": lambda name, holder, operands: name != holder and name not in operands,
    # `is` could tell the number that is held from an equal one.
    "used up": _is_used_up,
}


def share(tree: ast.AST, conditions: Conditions = CONDITIONS) -> ast.AST:
    """Read in ``tree``, which is changed, what is computed twice from where it is held."""
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            numbers = _find_numbers(node, conditions)
            if numbers:
                _share_in(node, numbers, conditions)
    return tree


def _share_in(function: _Function, numbers: set[str], conditions: Conditions) -> None:
    blocks: list[tuple[list[ast.stmt], _Held]] = [(function.body, {})]
    for block, held in blocks:  # grows while it is read
        for statement in block:
            alone = conditions["nobody else"](statement, numbers)
            if not alone:
                held.clear()
            elif held:
                _rewrite(statement, held, conditions)
            branch = isinstance(statement, ast.If)
            blocks += [(inner, {**held} if branch else {}) for inner in blocks_of(statement)]
            if not conditions["straight"](statement):
                held.clear()
            elif alone:
                _note(statement, held, conditions)


def _rewrite(statement: ast.stmt, held: _Held, conditions: Conditions) -> None:
    field = "test" if hasattr(statement, "test") else "value"
    root = getattr(statement, field, None)
    if root is None:
        return
    # The outer before the inner: what stands in something that was replaced is changed for nobody.
    whole = Place(root, statement, field, None, inner=True)
    for place in (whole, *find_places(root, {ast.BinOp})):
        if isinstance(place.node, ast.BinOp) and conditions["used up"](place):
            found = held.get(_key(place.node))
            if found is not None:
                place.put(ast.copy_location(ast.Name(found[0], ast.Load()), place.node))


def _note(statement: ast.stmt, held: _Held, conditions: Conditions) -> None:
    """What is held after ``statement``."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AugAssign(target=ast.Name(id=name)):
            pass
        case _:
            return
    for key, (holder, operands) in list(held.items()):
        if not conditions["unchanged"](name, holder, operands):
            del held[key]
    if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.BinOp):
        value = statement.value
        operands = frozenset(n.id for n in ast.walk(value) if isinstance(n, ast.Name))
        if name not in operands and _key(value):
            held[_key(value)] = name, operands


def _key(node: ast.BinOp) -> str:
    """The same text for the same arithmetic; "" for too much of it: dumping calls itself."""
    size = sum(1 for _ in islice(ast.walk(node), _LARGEST + 1))
    return ast.dump(node) if size <= _LARGEST else ""


def _find_numbers(function: _Function, conditions: Conditions) -> set[str]:
    """The local variables of ``function`` that hold numbers whenever they hold something."""
    assigned: dict[str, list[ast.expr]] = {}
    stack: list[ast.AST] = [*function.body]
    while stack:
        node = stack.pop()
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                assigned.setdefault(name, []).append(value)
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                left = ast.Name(name, ast.Load())
                assigned.setdefault(name, []).append(ast.BinOp(left, op, value))
            case _:
                pass
        if type(node) not in SCOPES:
            stack += ast.iter_child_nodes(node)
    if not assigned:
        return set()
    foreign = _foreign_names(function, assigned)
    numbers = {name for name in assigned if conditions["own"](name, foreign)}
    while True:
        wrong = {
            name
            for name in numbers
            if not all(conditions["number"](value, numbers) for value in assigned[name])
        }
        if not wrong:
            return numbers
        numbers -= wrong


def _foreign_names(function: _Function, assigned: dict[str, list[ast.expr]]) -> set[str]:
    """What is bound in other ways than by the assignments that were seen, also by nested functions."""
    foreign: set[str] = set()
    stores: Counter[str] = Counter()
    for node in ast.walk(function):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                stores[name] += 1
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                foreign.update(names)
            case ast.arg(arg=name) | ast.alias(asname=str(name)) | ast.alias(name=name):
                foreign.add(name.partition(".")[0])
            case ast.ExceptHandler(name=str(name)) | ast.MatchMapping(rest=str(name)):
                foreign.add(name)
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                foreign.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                foreign.add(name)
            case ast.ClassDef(name=name):
                foreign.add(name)
            case _:
                pass
    return foreign | {
        name for name, count in stores.items() if count != len(assigned.get(name, ()))
    }
