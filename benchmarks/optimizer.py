"""Loops at the top of a cell by each pass of ASTOptimizer, beside CPython alone; what the passes cost."""

from __future__ import annotations

import ast
import gc
import sysconfig
import textwrap
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import Cost, clock
from benchmarks.report import Report, Table
from pyrepl3 import ASTOptimizer
from pyrepl3.lang.compile import compile_cell
from pyrepl3.lang.optimize.optimizer import PASSES

PLAIN, ALL, FUNCTION = "CPython's own optimiser", "all passes", "the same in a function"

LOOPS = {
    "collatz": """
best = 0
for start in range(1, 1500):
    steps, n = 0, start
    while n != 1:
        n = 3 * n + 1 if n % 2 else n // 2
        steps += 1
    if steps > best:
        best = steps
""",
    "mandelbrot": """
inside = 0
for row in range(30):
    for column in range(30):
        cx, cy = column / 15 - 1.5, row / 15 - 1.0
        x = y = 0.0
        k = 0
        while x * x + y * y < 4.0 and k < 50:
            x, y = x * x - y * y + cx, 2.0 * x * y + cy
            k += 1
        inside += k == 50
""",
    "sieve": """
n = 60000
prime = [True] * (n + 1)
i = 2
while i * i <= n:
    if prime[i]:
        for j in range(i * i, n + 1, i):
            prime[j] = False
    i += 1
""",
    "nbody": """
import math
bodies = [[float(i), i * 0.5, i * 0.25, 0.0, 0.0, 0.0, 1.0 / (i + 1)] for i in range(5)]
dt = 0.01
for step in range(400):
    for i in range(5):
        a = bodies[i]
        for j in range(i + 1, 5):
            b = bodies[j]
            dx, dy, dz = a[0] - b[0], a[1] - b[1], a[2] - b[2]
            force = dt / math.sqrt(dx * dx + dy * dy + dz * dz + 1.0) ** 3
            a[3] -= dx * b[6] * force
            b[3] += dx * a[6] * force
    for a in bodies:
        a[0] += dt * a[3]
""",
    "words": """
text = ["the", "cell", "a", "loop", "name"] * 8000
counts = {}
for word in text:
    counts[word] = counts.get(word, 0) + len(word)
""",
    "calls": """
def weigh(value, by):
    return value * by
total = 0
for i in range(40000):
    total += weigh(i, 3)
""",
    "comprehension": """
factor = 3
scaled = [int(value) * factor + abs(value) for value in range(40000)]
""",
    "arithmetic in a function": """
def area(n):
    k = 0
    w = 1.5
    while k < 30000:
        w = w + 0.5
        p = w * w
        q = (w * w) * 0.5 + (w * w) / 3.0
        k += 1
    return q
area(1)
""",
    "constants": """
n = 0
for i in range(40000):
    if 1 < 2 and (True and i):
        n += 1
    if 0:
        print(n)
""",
}

CELLS = {
    "one line": "total = price * count + 1",
    "a loop": "for item in items:\n    total += item * rate\n    print(total)\n",
    "a module of 250 lines": Path(textwrap.__file__).read_text(encoding="utf-8"),
}


def run(report: Report, *, rounds: int) -> None:
    """Two tables, and how often each pass finds something in the standard library."""
    ways = {PLAIN: None, **{f"only {name}": ASTOptimizer([name]).optimize for name in PASSES}}
    ways[ALL] = ASTOptimizer().optimize
    table = Table("## Loops at the top of a cell", PLAIN, unit="ms")
    gains = {}
    for name, source in LOOPS.items():
        runs = {way: runner(source, transform) for way, transform in ways.items()}
        runs[FUNCTION] = function(source)
        costs = in_turns(runs, rounds)
        table.add(name, costs)
        gains[name] = costs[PLAIN].minimum / costs[ALL].minimum
    report.table(table)
    lines = [f"{name} {gain:.2f}" for name, gain in gains.items()]
    report.note("Times faster with all passes, by minima: " + ", ".join(lines) + ".")

    table = Table("## Compiling a cell", PLAIN)
    for name, source in CELLS.items():
        compiles = {way: compiler(source, transform) for way, transform in ways.items()}
        table.add(name, in_turns(compiles, rounds))
    report.table(table)
    report.note(found_in_library(every=12 if rounds < 20 else 3))


def runner(source: str, transform: Callable[[ast.Module], ast.Module] | None) -> Callable[[], None]:
    """Runs the cell, each time in a namespace of its own."""
    cell = compile_cell(source, "<cell>", transform=transform)

    def go() -> None:
        namespace = {"__builtins__": __builtins__}
        for code in (cell.body, cell.tail):
            if code is not None:
                eval(code, namespace)

    return go


def function(source: str) -> Callable[[], None]:
    """The same statements with fast locals: what no cell can have, since others see its names."""
    namespace: dict[str, Callable[[], None]] = {}
    exec("def go():\n" + textwrap.indent(source, "    "), namespace)
    return namespace["go"]


def compiler(
    source: str, transform: Callable[[ast.Module], ast.Module] | None
) -> Callable[[], None]:
    def go() -> None:
        compile_cell(source, "<cell>", transform=transform)

    return go


def in_turns(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, Cost]:
    """A B C A B C …, once a turn."""
    costs = {name: Cost() for name in ways}
    gc.disable()
    try:
        for turn in range(rounds + 1):
            for name, go in ways.items():
                begun = clock()
                go()
                if turn:  # the first is to warm up
                    costs[name].samples.append(clock() - begun)
    finally:
        gc.enable()
    return costs


# What a loop may have and still be run on fast locals: nothing that calls anybody's code, if only all of
# its values are numbers.
_CLOSED = (
    *(ast.For, ast.While, ast.If, ast.Assign, ast.AugAssign, ast.Break, ast.Continue, ast.Pass),
    *(ast.Name, ast.Constant, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Expr),
    *(ast.Tuple, ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)


def is_closed(loop: ast.AST) -> bool:
    """Whether a loop calls nothing but ``range``."""
    for node in ast.walk(loop):
        if isinstance(node, ast.Call):
            if not (isinstance(node.func, ast.Name) and node.func.id == "range"):
                return False
        elif not isinstance(node, _CLOSED):
            return False
    return True


def found_in_library(*, every: int) -> str:
    """How many files of the standard library each pass changes, and which of their loops are closed."""
    root = Path(sysconfig.get_path("stdlib"))
    paths = [path for path in sorted(root.rglob("*.py")) if "site-packages" not in path.parts]
    changed = dict.fromkeys(PASSES, 0)
    files = loops = closed = 0
    for path in paths[::every]:
        try:
            source = path.read_text(encoding="utf-8")
            tree = ast.parse(source)
        except (OSError, SyntaxError, ValueError):
            continue
        files += 1
        before = ast.dump(tree)
        for name in PASSES:
            changed[name] += ast.dump(ASTOptimizer([name]).optimize(ast.parse(source))) != before
        for statement in tree.body:
            if isinstance(statement, ast.For | ast.While):
                loops += 1
                closed += is_closed(statement)
    found = ", ".join(f"{name} {count}" for name, count in changed.items())
    return (
        f"Of {files} files of the standard library the passes change: {found}. Of {loops} loops at the "
        f"top of these files {closed} call nothing but range."
    )
