"""Random numbers in, whole programs of all kinds of statements out: to compare two ways of running them.

Most compile, many raise, some would run for ever. They use each other's names, constants where the
compiler may know better, and values that tell how often and in which order they are used.
"""

from __future__ import annotations

import ast
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random


def _tell(*parts: object) -> None:
    sys.stdout.write(" ".join(map(str, parts)) + "\n")


class Noisy:
    """A value that prints each use of it, and gives another such; a long name raises ValueError."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Noisy({self.name})"

    def __bool__(self) -> bool:
        _tell("bool", self.name)
        return len(self.name) % 2 == 0

    def __eq__(self, other: object) -> Any:
        _tell("eq", self.name, other)
        return self.name

    def __hash__(self) -> int:
        return 1

    def __iter__(self) -> Any:
        _tell("iter", self.name)
        yield 1
        yield Noisy(f"{self.name}i")

    def __call__(self, *values: object) -> Noisy:
        _tell("call", self.name, values)
        return Noisy(f"{self.name}c")

    def __getattr__(self, name: str) -> Noisy:
        if name.startswith("__"):
            raise AttributeError(name)
        _tell("get", self.name, name)
        return Noisy(f"{self.name}.")


def _telling(name: str) -> Callable[[Noisy, object], Noisy]:
    def operate(self: Noisy, other: object = None) -> Noisy:
        _tell(name, self.name, other)
        if len(self.name) > 7:
            raise ValueError(self.name)
        return Noisy(f"{self.name}{name}")

    return operate


for _name in "add radd iadd mul rmul sub rsub lt gt le getitem contains neg".split():
    setattr(Noisy, f"__{_name}__", _telling(_name[0]))


def bound_before() -> dict[str, object]:
    """What the programs find in their namespace: a new dict of new objects."""
    return {"a": 2, "b": 3.5, "c": "text", "d": [1, 2, 3], "n": Noisy("n"), "m": Noisy("mm")}


_READ = "a a b c d n m x y undefined".split()
_BOUND = "a b x y z".split()
_CONSTANTS = "0 1 2 300 1.5 1e308 True False None '' 's' b'b' ... 1j".split()
_NUMBERS = "0 1 2 3.5 True 1e308".split()
_OPERATORS = "+ - * / // % **".split()
_ORDERS = ["==", "!=", "<", "<=", ">", ">=", "is", "is not", "in", "not in"]


_STRANGE = ["//", "%", "**", "<"]
_PARTS = {
    "C": _CONSTANTS,
    "N": _NUMBERS,
    "O": _OPERATORS,
    "R": _ORDERS,
    "T": _BOUND,
    "V": _READ,
    "G": [" ", " ", " ", "\n  "],
}
_PART = re.compile(r"\b[ECNORTVG]\b")
# E an expression, V a name that is read, T one that is bound, C a constant, N a number, O an operator,
# R a comparison, G a gap.
_EXPRESSIONS = [
    *(
        "(E O G E)",
        "(E R G E)",
        "(C R G C)",
        "(C R C R C)",
        "(E R E R E)",
        "(E and G E)",
        "(E or G E)",
    ),
    *("(C and E or E)", "(E or C or E)", "(E if E else E)", "(not E)", "(- E)"),
    *('f"{C}-{V!r}{C:>4}"', 'f"t{C}"', "E(E)", "E[E]", "V.part", "(E, E)", "range(N, 4)"),
    *("[E for T in E]", "[E for T in range(3) if E]", "[(lambda: E)() for T in d]"),
    *(
        "{E: E for T in E}",
        "list(E for T in E)",
        "(T := E)",
        "(lambda T=E: E)()",
        "sorted(locals())",
    ),
]


def _is_unstoppable(source: str) -> bool:
    """Whether a ``while`` may swallow whatever is raised in it, by leaving a ``finally``."""
    if "finally" not in source or "while" not in source:
        return False
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return False
    leaving = ast.Break, ast.Continue, ast.Return
    return any(
        isinstance(inner, leaving)
        for node in ast.walk(tree)
        if isinstance(node, ast.Try)
        for statement in node.finalbody
        for inner in ast.walk(statement)
    )


class Programs:
    """Makes programs, one after the other."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def make(self) -> str:
        """The source of a program. Not one that nothing can stop."""
        while _is_unstoppable(source := self._make()):
            pass
        return source

    def _make(self) -> str:
        head = self._pick(["", "", "", "'doc'\n", "from __future__ import annotations\n"])
        lines = self._block(self._random.randint(1, 6), depth=0, loop=False, function=False)
        return head + "".join(f"{line}\n" for line in lines)

    def _pick[T](self, values: Iterable[T]) -> T:
        return self._random.choice([*values])

    # --- expressions ------------------------------------------------------------------------------

    def expression(self, depth: int = 3) -> str:
        """An expression, some of them over two lines."""
        if depth == 0 or self._random.random() < 0.25:
            return self._pick(_READ if self._random.random() < 0.5 else _CONSTANTS)

        def fill(match: re.Match[str]) -> str:
            part = match[0]
            return self.expression(depth - 1) if part == "E" else self._pick(_PARTS[part])

        return _PART.sub(fill, self._pick(_EXPRESSIONS))

    def _arithmetic(self, depth: int = 2) -> str:
        """Arithmetic on the variables of ``_function_of_numbers``; the same comes often again."""
        if depth == 0 or self._random.random() < 0.3:
            return self._pick(["p", "q", "p", "q", "s", "2", "3.5"])
        left, right = self._arithmetic(depth - 1), self._arithmetic(depth - 1)
        strange = self._random.random() < 0.06
        return f"({left} {self._pick(_STRANGE if strange else '**+-/')} {right})"

    # --- statements -------------------------------------------------------------------------------

    def _block(self, size: int, *, depth: int, loop: bool, function: bool) -> list[str]:
        lines: list[str] = []
        for _ in range(size):
            if depth < 3 and self._random.random() < 0.5:
                lines += self._compound(depth, loop=loop, function=function)
            else:
                lines += self._simple(loop=loop, function=function).split("\n")
        return lines

    def _inner(self, depth: int, *, loop: bool, function: bool) -> list[str]:
        size = self._random.randint(1, 3)
        lines = self._block(size, depth=depth + 1, loop=loop, function=function)
        return [f"    {line}" for line in lines]

    def _simple(self, *, loop: bool, function: bool) -> str:
        target = self._pick(_BOUND)
        choices = [
            *[f"{target} = {self.expression()}" for _ in range(3)],
            self.expression(),
            f"{target} {self._pick(_OPERATORS)}= {self.expression(1)}",
            f"{target}: {self.expression(1)} = {self.expression()}",
            f"{target}: {self.expression(2)}",
            f"print({self.expression()})",
            f"assert {self.expression()}, {self.expression(1)}",
            f"del {target}",
            f"raise ValueError({self.expression(1)})",
            self._pick(["pass", "'text'", "f'text'", "'' or 'text'", "import math as x"]),
        ]
        if loop:
            choices += ["break", "continue"]
        if function:
            choices += [f"return {self.expression()}", f"yield {self.expression(1)}"]
        if self._random.random() < 0.03:
            choices = [f"global {target}", f"nonlocal {target}", "break", "return 5", "await n"]
        return self._pick(choices)

    def _test(self) -> str:
        return self._pick(_CONSTANTS) if self._random.random() < 0.4 else self.expression(2)

    def _compound(self, depth: int, *, loop: bool, function: bool) -> list[str]:
        def inner(*, loop: bool = loop, function: bool = function) -> list[str]:
            return self._inner(depth, loop=loop, function=function)

        target = self._pick(_BOUND)
        match self._random.randint(0, 15):
            case 0 | 1:
                return [f"if {self._test()}:", *inner()]
            case 2:
                return [f"if {self._test()}:", *inner(), "else:", *inner()]
            case 3:
                return [f"while {self._test()}:", *inner(loop=True), "    break"]
            case 4:
                return [f"while {self._test()}:", *inner(loop=True), "else:", *inner()]
            case 5 | 6:
                return [f"for {target} in {self.expression(1)}:", *inner(loop=True)]
            case 7 | 8:
                return [f"for {target} in range(3):", *inner(loop=True), "else:", *inner()]
            case 9:
                caught = [f"except Exception as {target}:", *inner(), "finally:", *inner()]
                return ["try:", *inner(), *caught]
            case 10:
                head = f"def f({target}={self.expression(1)}):"
                return [head, *inner(loop=False, function=True), f"{self._pick(_BOUND)} = f()"]
            case 11:
                body = [f"    {line}" for line in inner(loop=False, function=True)]
                return ["def g(a, x=1):", "    def h():", *body, "    return h", "y = g(1)", "y()"]
            case 12:
                return ["class C:", *inner(loop=False, function=False)]
            case 13:
                first, second = f"    {self.expression(1)}", f"    {self.expression(1)}"
                return [f"if {self._pick(_CONSTANTS)}:", first, "else:", second]
            case _:
                return self._function_of_numbers()

    def _function_of_numbers(self) -> list[str]:
        lines = [
            f"p = {self._pick(_NUMBERS)}",
            f"q = {self._pick([*_NUMBERS, *_NUMBERS, 'n', 'a'])}",
        ]
        lines.append(f"s = {self._arithmetic()}")
        for _ in range(self._random.randint(0, 4)):
            lines += self._pick(
                [
                    [f"{self._pick('pqst')} = {self._arithmetic()}"],
                    [f"{self._pick('pqst')} = p * q"],
                    [f"p {self._pick(_OPERATORS)}= {self._arithmetic(1)}"],
                    [
                        f"if {self._arithmetic()}:",
                        f"    {self._pick('pqs')} = {self._arithmetic()}",
                    ],
                    ["t = p * q is s"],
                    ["s = p * q", "t = p * q - 1"],
                    ["while p < 3:", "    p += 1", f"    s = {self._arithmetic()}"],
                    [f"t = lambda: {self._arithmetic()}", "t()"],
                    self._simple(loop=False, function=True).split("\n"),
                ]
            )
        lines.append(f"return {self._arithmetic()}")
        return ["def h(a=2):", *[f"    {line}" for line in lines], "z = h()"]
