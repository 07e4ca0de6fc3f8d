"""Each condition of each pass is needed: without it some program is seen to do something else."""

from __future__ import annotations

import sys
from typing import NamedTuple

import pytest

from pyrepl3.lang.compile import compile_cell
from pyrepl3.lang.optimize import common, dead, folding, loops, remains
from pyrepl3.testing.observing import observe


class Witness(NamedTuple):
    """A program that tells the pass without this condition from no pass at all."""

    conditions: str
    name: str
    source: str
    fails: bool = False
    """The pass itself fails then, at what would have raised when it ran, or never."""
    since: tuple[int, int] = (3, 12)
    """The Python of which the program can tell."""


MODULES = {
    "folding": folding,
    "dead": dead,
    "remains": remains,
    "common": common,
    "loops": loops,
}

NOISY = """\
class Noisy:
    def __mul__(self, other):
        print("multiplied")
        return 7
    __rmul__ = __mul__
"""

WITNESSES = [
    Witness("folding", "alike", "try:\n    x = 1 < 'a'\nexcept TypeError as error:\n    print(error)", fails=True),
    Witness("folding", "equality", "x = 300 is 300"),
    Witness("folding", "one line", "x = (1 <\n     2)"),
    Witness("folding", "own place", "x = 5\n[y for y in (True and x)]", since=(3, 13)),
    Witness("folding", "no tuple", "n = 1\nassert 0 or (n, 2)"),
    Witness("folding", "calm", "def f():\n    f'text'"),
    Witness("folding", "calm", "try:\n    (not (0 or 1))()\nexcept TypeError:\n    pass"),
    Witness("folding", "small", f"try:\n    f'{{0x1{'0' * 4000}}}'\nexcept ValueError:\n    pass\nx = 1", fails=True),
    Witness("dead", "constant", "n = 0\nif n:\n    x = 1\nelse:\n    print(n)"),
    Witness("dead", "never", "if 1:\n    print(1)"),
    Witness("dead", "jump", "n = 2\nif n:\n    if n:\n        n\n    print(n)"),
    Witness("dead", "in a block", "raise ValueError\n1"),
    Witness("remains", "harmless", "def f():\n    if 0:\n        yield"),
    Witness("remains", "captures nothing", "def f(a):\n    def g():\n        if 0:\n            a\n    return g\nf(1)"),
    Witness("remains", "declared nowhere", "if 0:\n    x\nglobal x"),
    Witness("remains", "no warning", "if 0:\n    x is 1"),
    Witness(
        "common",
        "own",
        NOISY + "def f(a):\n    if not a: a = 2\n    b = 3\n    s = a * b\n    return a * b + 1\nf(Noisy())",
    ),
    Witness(
        "common",
        "number",
        NOISY + "def f():\n    a = Noisy()\n    b = 3\n    s = a * b\n    return a * b + 1\nf()",
    ),
    Witness(
        "common",
        "nobody else",
        "def f():\n    a = 2\n    b = 3\n    s = a * b\n    g = lambda: a * b + 1\n    s = 5\n    return g()\nf()",
    ),
    Witness(
        "common",
        "straight",
        "def f():\n    a = 2\n    b = 3\n    s = a * b\n    if b > a:\n        b = 1\n    return a * b + 1\nf()",
    ),
    Witness(
        "common",
        "unchanged",
        "def f():\n    a = 2\n    b = 3\n    s = a * b\n    a = 5\n    return a * b + 1\nf()",
    ),
    Witness(
        "common",
        "used up",
        "def f():\n    a = 2.5\n    b = 3.5\n    s = a * b\n    t = a * b\n    return s is t\nf()",
    ),
    Witness("loops", "no nonlocal", "nonlocal x\nfor x in range(3):\n    pass"),
    Witness("loops", "after the head", "'text'\nfor i in range(3):\n    pass"),
]  # fmt: skip


def passes(without: tuple[str, str] | None = None):
    """All passes as one transform; the condition (module, name) always holds."""
    tables = {name: dict(module.CONDITIONS) for name, module in MODULES.items()}
    if without is not None:
        module, condition = without
        assert condition in tables[module]
        tables[module][condition] = lambda *_: True

    def transform(tree):
        folding.fold(tree, tables["folding"], tables["remains"])
        dead.remove_dead(tree, tables["dead"], tables["remains"])
        common.share(tree, tables["common"])
        return loops.declare(tree, tables["loops"])

    return transform


def see(source, transform=None):
    return observe(lambda filename: compile_cell(source, filename, transform=transform))


def test_each_condition_has_a_witness():
    stated = {(module, name) for module in MODULES for name in MODULES[module].CONDITIONS}
    assert stated == {(witness.conditions, witness.name) for witness in WITNESSES}


@pytest.mark.parametrize("witness", WITNESSES, ids=lambda w: f"{w.conditions}: {w.name}")
def test_without_a_condition_its_witness_does_something_else(witness):
    plain = see(witness.source)
    assert see(witness.source, passes()) == plain
    transform = passes(without=witness[:2])
    if witness.fails:
        with pytest.raises((TypeError, ValueError)):
            see(witness.source, transform)
    elif sys.version_info >= witness.since:
        assert see(witness.source, transform) != plain
