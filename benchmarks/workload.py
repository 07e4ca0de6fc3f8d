"""A session of 29 cells, and what must hold after a SIGKILL and a restore in a new process.

Big and small data, in-place changes of a part of it, code, sharing, a file, a generator; the cells among them
that have to do with data alone; and an array of 1 GiB.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

CELLS: tuple[str, ...] = (
    "import collections, dataclasses, enum, functools, json, math, os\nimport numpy as np\nimport pandas as pd",
    "rng = np.random.default_rng(1)\nbase = rng.standard_normal(25_000_000)",  # 200 MB
    "head = base[:1000]\ngrid = base.reshape(5000, 5000)\nturned = grid.T[10:20]",
    "frame = pd.DataFrame(rng.standard_normal((1_250_000, 10)), columns=list('abcdefghij'))",  # 100 MB
    "numbers = list(range(1_000_000))",
    "people = [{'id': n, 'name': f'name {n}', 'tags': ['a', n % 7]} for n in range(100_000)]",
    "@dataclasses.dataclass\nclass Point:\n    x: int\n    y: int = 0\n    def norm(self):\n        return math.hypot(self.x, self.y)",
    "points = [Point(n, n * n) for n in range(1000)]",
    "def make_counter():\n    count = 0\n    def up():\n        nonlocal count\n        count += 1\n        return count\n"
    "    def now():\n        return count\n    return up, now\nup, now = make_counter()\nup(); up()",
    "shared = [1, 2, 3]\nleft = {'s': shared}\nright = {'s': shared, 'me': left}",
    "base[12_345_678] = 42.0",
    "head[5] = -1.0",
    "frame.loc[777, 'c'] = 3.5",
    "numbers[500_000] = -7",
    "people[4_242]['name'] = 'changed'",
    "up()\nleft['s'].append(4)",
    "def mean_of(column):\n    return float(frame[column].mean())\nfirst_mean = mean_of('a')",
    "total = float(base[::1000].sum())",
    "frame['k'] = frame['a'] * 2",
    "class Shape:\n    made = 0\n    def __init_subclass__(cls):\n        Shape.made += 1\n    def area(self):\n        return 0\n"
    "class Square(Shape):\n    __slots__ = ('side',)\n    def __init__(self, side):\n        self.side = side\n    def area(self):\n"
    "        return self.side ** 2\nclass Color(enum.Enum):\n    RED = 1\n    BLUE = 2",
    "shapes = [Square(n) for n in range(100)]\nfavourite = Color.BLUE",
    "@functools.lru_cache\ndef fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\nfib(30)",
    "log = open(os.path.join(FOLDER, 'log.txt'), 'a+')\nlog.write('first line\\n'); log.flush()",
    "text = 'long ' * 200_000\nraw = bytes(range(256)) * 4000\nwindow = collections.deque(range(100), maxlen=100)",
    "index = {person['id']: person for person in people[:1000]}",
    "squares = (n * n for n in range(10))\nnext(squares)",
    "steps = iter([10, 20, 30])\nnext(steps)",
    "for n in range(10):\n    grid[n, n] += 1.0",
    "summary = {'points': sum(p.x for p in points), 'area': sum(s.area() for s in shapes), 'log': log.tell()}",
)

FACTS: dict[str, str] = {
    "base": "(float(base.sum()), float(base[12_345_678]), base.shape, str(base.dtype))",
    "frame": "(float(frame.to_numpy().sum()), float(frame.loc[777, 'c']), list(frame.columns), frame.shape)",
    "numbers": "(sum(numbers), len(numbers), numbers[500_000])",
    "people": "(len(people), people[4_242], people[-1], sum(p['tags'][1] for p in people))",
    "points": "([p.norm() for p in points[:5]], len(points))",
    "total and mean": "(total, first_mean)",
    "text and bytes": "(len(text), text[-9:], len(raw), raw[777])",
    "window": "(list(window), window.maxlen)",
    "summary": "summary",
}
"""Expressions whose value must be the same as before."""

CHECKS: dict[str, str] = {
    "a view shares memory": "base[5] = 9.5; assert head[5] == 9.5 and head.base is not None",
    "a reshaped view does": "base[5001 + 5000] = 8.5; assert grid[2, 1] == 8.5",
    "a transposed slice does": "grid[3, 12] = 7.5; assert turned[2, 3] == 7.5",
    "a frame can be written": "frame.loc[1, 'a'] = 1.0; assert frame.loc[1, 'a'] == 1.0",
    "functions see live names": "frame.loc[:, 'a'] = 2.0; assert mean_of('a') == 2.0",
    "instances have their class": "assert type(points[0]) is Point and Point(3, 4).norm() == 5",
    "a class made anew is another": "assert isinstance(shapes[3], Shape) and type(shapes[3]) is Square and Square.side.__objclass__ is Square",
    "__init_subclass__ ran once": "assert Shape.made == 1",
    "enum members are themselves": "assert favourite is Color.BLUE and Color(1) is Color.RED",
    "closures share their cell": "assert now() == 3 and up() == 4 and now() == 4",
    "lists are shared": "shared.append(5); assert left['s'] is shared and right['s'] is shared and right['me'] is left and len(shared) == 5",
    "dicts are shared": "index[7]['name'] = 'seven'; assert people[7]['name'] == 'seven'",
    "lru_cache works": "assert fib(30) == 832040 and fib.cache_info().misses >= 0",
    "a file goes on": "assert log.tell() == 11; log.write('second\\n'); log.flush(); assert open(log.name).read() == 'first line\\nsecond\\n'",
    "an iterator goes on": "assert next(steps) == 20",
}
"""Statements that must not fail, each after all before it."""

DECLARED = "squares"
"""What nobody can keep: it must be declared lost, by name."""

GIANT: tuple[str, ...] = (
    "import numpy as np\nbig = np.full(2**27, 1.0)",  # 1 GiB
    *(f"big[{n * 10_000_019}] = {n}.5" for n in range(1, 8)),
)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Cells, and what is asked of a session that they were run in."""

    cells: tuple[str, ...]
    facts: dict[str, str]
    checks: dict[str, str]
    declared: str | None = None

    @property
    def results(self) -> int:
        return len(self.facts) + len(self.checks) + (self.declared is not None)


_CODE = re.compile(
    r"\b(def|class|Point|points|up|shared|mean_of|first_mean|Shape|shapes|Color|fib|log|squares|steps|summary)\b"
)


def _of_data(sources: dict[str, str]) -> dict[str, str]:
    return {name: source for name, source in sources.items() if not _CODE.search(source)}


WORKLOADS = {
    "cells": Workload(cells=CELLS, facts=FACTS, checks=CHECKS, declared=DECLARED),
    # What Kishu keeps too: it stores nothing of a variable that it links with a function or a class, and links
    # modules, arrays and classes with each other.
    "data": Workload(
        cells=tuple(source for source in CELLS if not _CODE.search(source)),
        facts=_of_data(FACTS),
        checks=_of_data(CHECKS),
    ),
    "giant": Workload(cells=GIANT, facts={}, checks={}),
    "giant, less": Workload(cells=GIANT[:3], facts={}, checks={}),
}
