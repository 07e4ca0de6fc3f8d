"""An expression in; the names whose objects may be a part of its value out. By the text alone."""

from __future__ import annotations

import ast

from pyrepl3.lang.flow.known import FRESH_CALLS, LAZY_CALLS, PLAIN_CALLS


def flat(target: ast.expr) -> list[ast.expr]:
    """The single targets in a target of an assignment."""
    if isinstance(target, ast.Tuple | ast.List):
        return [part for each in target.elts for part in flat(each)]
    return flat(target.value) if isinstance(target, ast.Starred) else [target]


def path_of(node: ast.expr) -> tuple[tuple[str, ...], str | None]:
    """``a.b[0].c`` as ``(("b", "", "c"), "a")``; no root where it starts with something else."""
    path: list[str] = []
    while True:
        if isinstance(node, ast.Attribute):
            path.append(node.attr)
            node = node.value
        elif isinstance(node, ast.Subscript):
            path.append("")
            node = node.value
        elif isinstance(node, ast.Name):
            return tuple(reversed(path)), node.id
        else:
            return tuple(reversed(path)), None


def roots(node: ast.expr) -> frozenset[str]:
    """The names whose objects may be a part of the value of ``node``, by the text."""
    match node:
        case ast.Name(id=name):
            return frozenset({name})
        case ast.Attribute(value=value) | ast.Subscript(value=value) | ast.Starred(value=value):
            return roots(value)
        case ast.Await(value=value) | ast.NamedExpr(value=value):
            return roots(value)
        case ast.IfExp(body=one, orelse=other):
            return roots(one) | roots(other)
        case ast.BoolOp(values=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts):
            return _union(parts)
        case ast.Set(elts=parts):
            return _union(parts)
        case ast.Dict(keys=keys, values=values):
            return _union([key for key in keys if key is not None]) | _union(values)
        case ast.Call(func=ast.Name(id=name)) if name in FRESH_CALLS:
            return frozenset()
        case ast.Call(func=function, args=arguments, keywords=words):
            inner = _union(arguments) | _union([word.value for word in words])
            return inner if isinstance(function, ast.Name) else inner | roots(function)
        case ast.Lambda(args=arguments, body=body):
            return roots(body) - {
                each.arg for each in ast.walk(arguments) if isinstance(each, ast.arg)
            }
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            own = {
                part.id
                for generator in node.generators
                for part in ast.walk(generator.target)
                if isinstance(part, ast.Name)
            }
            parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            inner = _union([*parts, *(generator.iter for generator in node.generators)])
            return inner - own
        case _:
            return frozenset()


def _union(nodes: list[ast.expr]) -> frozenset[str]:
    return frozenset[str]().union(*map(roots, nodes))


def called_in(node: ast.expr) -> frozenset[str]:
    """The names of functions whose results may be a part of the value of ``node``."""
    return frozenset(
        path_of(part.func)[1] or "" for part in ast.walk(node) if isinstance(part, ast.Call)
    ) - {""}


def is_used_up(node: ast.expr) -> bool:
    """Whether the value of ``node`` is used up by reading it."""
    if isinstance(node, ast.GeneratorExp):
        return True
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in LAZY_CALLS
    )


def plain_given(node: ast.expr) -> frozenset[str] | None:
    """The names that must hold numbers, texts or the like for ``node`` to give such; None: it may not."""
    match node:
        case ast.Constant() | ast.JoinedStr():
            return frozenset()
        case ast.Name(id=name):
            return frozenset({name})
        case ast.UnaryOp(op=ast.Not()):
            return frozenset()
        case ast.UnaryOp(operand=operand):
            return plain_given(operand)
        case ast.BinOp(left=left, right=right):
            one, other = plain_given(left), plain_given(right)
            return None if one is None or other is None else one | other
        case ast.Call(func=ast.Name(id=name)) if name in PLAIN_CALLS:
            return frozenset()
        case _:
            return None
