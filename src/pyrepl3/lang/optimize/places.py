"""A tree in, where in it nodes of some kinds stand out: what a pass needs to replace them.

No recursion: source may be nested deeper than Python code can call itself.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    type Conditions = Mapping[str, Callable[..., bool]]
    """What must hold before a pass changes something, by name: each can be taken out by a test."""

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

SCOPES = frozenset(
    {*FUNCTIONS, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp}
    | {ast.GeneratorExp}
)
"""What has names of its own, comprehensions included."""

# Annotations are texts under ``from __future__ import annotations``: as written, or they show it.
# The others hold nothing that runs.
_LEFT_OUT = frozenset(
    {"annotation", "returns", "type_params", "ctx", "op", "ops", "type_comment", "type_ignores"}
)


class Place(NamedTuple):
    """Where a node stands: ``parent.field``, or its item ``at``. ``inner``: in a scope of its own."""

    node: Any
    parent: ast.AST
    field: str
    at: int | None
    inner: bool

    def put(self, node: ast.AST) -> None:
        """Replace the node."""
        if self.at is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.at] = node


def find_places(
    tree: ast.AST, kinds: Collection[type[ast.AST]], *, whole: bool = False
) -> list[Place]:
    """Where the nodes of these kinds stand, the outer before the inner ones.

    Not in annotations, unless ``whole``.
    """
    left_out = frozenset({"ctx"}) if whole else _LEFT_OUT
    found: list[Place] = []
    stack = [(tree, type(tree) in SCOPES)]
    while stack:
        parent, inner = stack.pop()
        for field in parent._fields:
            if field in left_out:
                continue
            value = getattr(parent, field, None)
            if isinstance(value, ast.AST):
                kind = type(value)
                if kind in kinds:
                    found.append(Place(value, parent, field, None, inner))
                stack.append((value, inner or kind in SCOPES))
            elif isinstance(value, list):
                for index, item in enumerate(value):
                    if isinstance(item, ast.AST):
                        kind = type(item)
                        if kind in kinds:
                            found.append(Place(item, parent, field, index, inner))
                        stack.append((item, inner or kind in SCOPES))
    return found


def blocks_of(statement: ast.stmt) -> list[list[ast.stmt]]:
    """The blocks of a compound statement that run in the scope of that statement."""
    if type(statement) in SCOPES:
        return []
    parts = [statement, *getattr(statement, "handlers", ()), *getattr(statement, "cases", ())]
    blocks = [getattr(part, name, []) for part in parts for name in ("body", "orelse", "finalbody")]
    return [block for block in blocks if block]
