"""ASTOptimizer: a source or a tree in, the same tree changed out; and what of it reaches a cell."""

from __future__ import annotations

import ast

import pytest

from pyrepl3.config import ExecutorConfig
from pyrepl3.errors import CompilationError
from pyrepl3.lang.compile import compile_cell
from pyrepl3.lang.names import names_of
from pyrepl3.lang.optimize.optimizer import PASSES, ASTOptimizer
from pyrepl3.run.executor import AsyncExecutor

EVERYTHING = """\
def f():
    w = 3
    h = 4.5
    a = w * h
    return (w * h) / 2
for i in range(3):
    if 1 < 2 and i:
        x = i
    if 0:
        print(x)
"""
OPTIMISED = """\
global i, range, x
def f():
    w = 3
    h = 4.5
    a = w * h
    return a / 2
for i in range(3):
    if i:
        x = i
    if 0:
        pass
"""


def test_a_source_and_a_tree_come_out_as_the_same_tree():
    tree = ast.parse(EVERYTHING)
    assert ASTOptimizer().optimize(tree) is tree
    from_source = ASTOptimizer().optimize(EVERYTHING)
    assert ast.dump(from_source) == ast.dump(tree) == ast.dump(ast.parse(OPTIMISED))


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_runs_alone(name):
    trees = {name: ast.dump(ASTOptimizer([name]).optimize(EVERYTHING)) for name in PASSES}
    assert trees[name] != ast.dump(ast.parse(EVERYTHING))
    assert list(trees.values()).count(trees[name]) == 1


def test_no_pass_changes_nothing():
    assert ast.dump(ASTOptimizer([]).optimize(EVERYTHING)) == ast.dump(ast.parse(EVERYTHING))


def test_an_unknown_pass_is_named():
    with pytest.raises(ValueError, match="inline"):
        ASTOptimizer(["inline"])


def test_a_source_that_does_not_parse_is_a_compilation_error():
    with pytest.raises(CompilationError):
        ASTOptimizer().optimize("x = (")


def test_any_tree_is_taken():
    assert ast.unparse(ASTOptimizer().optimize(ast.parse("f(1 < 2)", mode="eval"))) == "f(True)"


@pytest.mark.parametrize("depth", [90, 900])
def test_deep_trees_are_no_trouble(depth):
    sum_ = " + ".join(["w"] * depth)
    source = f"def f():\n    w = 1\n    s = {sum_}\n    t = ({sum_}) * 2\n    return t == 2 * s\nx = f()\n"
    source += "y = " + "not " * 80 + "(1 < 2 or x)\n"
    cell = compile_cell(source, "<cell>", transform=ASTOptimizer().optimize)
    namespace: dict[str, object] = {}
    eval(cell.body, namespace)
    assert namespace["x"] is True
    assert namespace["y"] is True


def test_the_names_of_a_cell_stay_those_of_the_cell():
    for source in (
        EVERYTHING,
        "for i in x:\n    del i\n    import os.path as p\n    y = [i for i in z]",
    ):
        plain = names_of(compile_cell(source, "<cell>"))
        found = names_of(compile_cell(source, "<cell>", transform=ASTOptimizer(["loops"]).optimize))
        assert found == plain


LOOP = "for i in range(3):\n    x = i"


def instructions(executor):
    compiled, _ = executor._planner.compile(LOOP, "<cell>")
    return compiled.body.co_code


async def test_cells_are_optimised_where_a_configuration_says_so():
    bare = AsyncExecutor(None)
    off = AsyncExecutor(None, config=ExecutorConfig(enable_ast_optimization=False))
    on = AsyncExecutor(None, config=ExecutorConfig())
    for executor in (bare, off, on):
        await executor.execute(LOOP)
        assert executor.namespace.namespace["x"] == 2
        assert executor.stats["ast_transforms"] == 0
    assert instructions(bare) == instructions(off) != instructions(on)
    for executor in (bare, off, on):
        executor.close()


async def test_an_optimised_cell_fails_at_its_own_line_and_is_explained_as_it_runs():
    executor = AsyncExecutor(None, config=ExecutorConfig())
    with pytest.raises(ZeroDivisionError) as raised:
        await executor.execute("x = 5\nfor i in range(3):\n    y = i\n    x / i")
    assert raised.tb.tb_next.tb_lineno == 4
    assert executor.namespace.namespace["y"] == 0
    assert executor.explain_mode(LOOP).mode is executor.analyze_execution_mode(LOOP)
    executor.close()
