"""Programs of all kinds, optimised and not: nobody can tell which is which, but by the clock."""

from __future__ import annotations

import ast
import builtins
import os
from collections import Counter
from random import Random

import hypothesmith
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from pyrepl3.lang.compile import compile_cell
from pyrepl3.lang.optimize.optimizer import PASSES, ASTOptimizer
from pyrepl3.testing.observing import observe
from pyrepl3.testing.programs import Programs, bound_before

CAMPAIGN = os.environ.get("PYREPL3_CAMPAIGN") == "1"
SEEDS = 20_000 if CAMPAIGN else 700
UNHURRIED = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def see(source, transform=None, names=None):
    return observe(
        lambda filename: compile_cell(source, filename, transform=transform),
        bound_before() if names is None else names,
    )


@pytest.mark.slow
@pytest.mark.timeout(0 if CAMPAIGN else 120)
def test_a_program_does_the_same_optimised():
    done = Counter()
    for seed in range(SEEDS):
        random = Random(seed)
        source = Programs(random).make()
        chosen = PASSES if seed % 2 else random.sample(PASSES, 2)
        plain = see(source)
        assert see(source, ASTOptimizer(chosen).optimize) == plain, source
        done["compiled"] += "code" in plain
        done["ended"] += plain["error"] is None
    assert done["compiled"] > SEEDS / 2
    assert done["ended"] > SEEDS / 20
    print(dict(done))


@pytest.mark.slow
@given(st.randoms(use_true_random=False))
@settings(UNHURRIED, max_examples=2000 if CAMPAIGN else 40)
def test_a_program_does_the_same_optimised_and_shrinks_where_it_does_not(random):
    source = Programs(random).make()
    note(source)
    plain = see(source)
    assert see(source, ASTOptimizer().optimize) == plain


# What a program that nobody wrote may call by chance: nothing that ends the process or touches a file.
HARMLESS = {
    name: value
    for name, value in vars(builtins).items()
    if name
    not in {"open", "exec", "eval", "input", "breakpoint", "exit", "quit", "__import__", "help"}
}


@pytest.mark.slow
@given(hypothesmith.from_grammar() | hypothesmith.from_node())
@settings(UNHURRIED, max_examples=3000 if CAMPAIGN else 40)
def test_any_source_by_the_grammar_does_the_same_optimised(source):
    seen = [
        see(source, transform, {"__builtins__": HARMLESS})
        for transform in (None, ASTOptimizer().optimize)
    ]
    assert seen[0] == seen[1]


def test_the_programs_reach_every_pass():
    """What is made up is of use: each pass finds something to do in many programs."""
    reached = dict.fromkeys(PASSES, 0)
    for seed in range(100):
        source = Programs(Random(seed)).make()
        tree = ast.dump(ast.parse(source))
        for name in PASSES:
            reached[name] += ast.dump(ASTOptimizer([name]).optimize(ast.parse(source))) != tree
    assert min(reached.values()) >= 5, reached


@pytest.mark.parametrize(
    "source", ["while 1: pass", "while 1:\n    global x", "while True:\n    x = 1\n    y = 2"]
)
def test_an_endless_program_is_stopped_and_compared_as_far_as_it_went(source):
    seen = see(source)
    assert seen["error"][0] == "StoppedError"
    assert see(source, ASTOptimizer().optimize) == seen
