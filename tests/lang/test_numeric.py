"""What may become machine arithmetic, and why the rest may not; what is accepted computes the same bits."""

from __future__ import annotations

import ast
import builtins
import math
import struct
from collections import ChainMap

import pytest

from pyrepl3.lang.numbers import COUNTER, FLOAT, RefusedError, array
from pyrepl3.lang.numeric import judge

NAMES = {"math": math, "G": 2.5, "N": 7, "BIG": 1 << 60, "text": "a", "abs": builtins.abs}


def judged(body, arguments, names=NAMES):
    lines = "\n".join(f"    {line}" for line in body.split("\n"))
    tree = ast.parse(f"def f({', '.join(arguments)}):\n{lines}").body[0]
    return judge(tree, tuple(arguments.values()), ChainMap(names, vars(builtins)))


F, N, A1, A2 = FLOAT, COUNTER, array(1), array(2)

ACCEPTED = [
    ("return x + 1", {"x": F}, "float"),
    ("t = 0.0\nfor i in range(n):\n    t += x * i\nreturn t", {"n": N, "x": F}, "float"),
    ("t = 0.0\nfor v in a:\n    t += v\nreturn float(t)", {"a": A1}, "float"),
    ("return a[0, 1] * 2.0", {"a": A2}, "numpy"),
    ("return len(a) * 2", {"a": A1}, "int"),
    ("if x > 0 and not x > 5:\n    return x\nreturn -x", {"x": F}, "float"),
    ("p, q = x, 1.0\nwhile q < x:\n    p, q = q, q * 2.0\nreturn p", {"x": F}, "float"),
    ("return math.sqrt(x) * math.pi + G", {"x": F}, "float"),
    ("return n % N + n // 2", {"n": N}, "int"),
    (
        "t = 0.0\nfor i in range(n):\n    if i > 5:\n        break\n    t = t + i\nreturn t",
        {"n": N},
        "float",
    ),
    (
        "t = 0.0\nfor i in range(a.shape[0]):\n    t = t + float(a[i, 0])\nreturn t",
        {"a": A2},
        "float",
    ),
]


@pytest.mark.parametrize(("body", "arguments", "result"), ACCEPTED, ids=lambda x: str(x)[:40])
def test_exact_arithmetic_on_counters_and_floats_is_accepted(body, arguments, result):
    assert judged(body, arguments).result.name == result


REFUSED = [
    ("return x ** 2", {"x": F}, "a power"),
    ("return x % 2.0", {"x": F}, "a remainder"),
    ("return math.sin(x)", {"x": F}, "it calls math.sin"),
    ("k = 0\nfor i in range(n):\n    k += i\nreturn k", {"n": N}, "grow"),
    ("k = 0\nfor i in range(n):\n    k += i * i\nreturn k", {"n": N}, "64 bits|grow"),
    ("return n * n * n", {"n": N}, "64 bits"),
    ("return BIG * n", {"n": N}, "64 bits"),
    ("return n << 3", {"n": N}, "64 bits"),
    ("t = 0\nfor i in range(n):\n    t += 0.5\nreturn t", {"n": N}, "begin with 0.0"),
    ("t = 0.0\nfor v in a:\n    t += v\nreturn t", {"a": A1}, r"return float\(…\)"),
    ("t = 0.0\nfor v in a:\n    t += v\n    break\nreturn t", {"a": A1}, r"return float\(…\)"),
    (
        "t = 0.0\nfor v in a:\n    t = v\n    if v > 0:\n        break\n    t = 0.0\nreturn t",
        {"a": A1},
        r"return float\(…\)",
    ),
    ("a[0] = 1.0\nreturn x", {"a": A1, "x": F}, "none of the statements|writes"),
    ("a += 1.0\nreturn x", {"a": A1, "x": F}, "no number"),
    ("return a[0]", {"a": A2}, "part of an array"),
    ("for i in range(n):\n    y = 1.0\nreturn y", {"n": N}, "unbound"),
    ("for i in range(n):\n    pass\nreturn i", {"n": N}, "unbound"),
    ("if x > 0:\n    y = 1.0\nreturn y", {"x": F}, "unbound"),
    ("n = 3\nreturn n", {"n": N}, "anew"),
    ("return text", {"x": F}, "no float or int"),
    ("return f(x)", {"x": F}, "it calls f"),
    ("print(x)\nreturn x", {"x": F}, "call for its effect"),
    ("return x, x", {"x": F}, "none of the expressions"),
    ("return x > 0", {"x": F}, "no number"),
    ("if x:\n    return x\nreturn 0.0", {"x": F}, "no comparison"),
    ("if x > 0:\n    return x\nreturn 1", {"x": F}, "several types"),
    ("pass", {"x": F}, "without a result"),
    ("return x if x > 0 else 1", {"x": F}, "begin with 0.0"),
    ("try:\n    return x\nfinally:\n    pass\nreturn x", {"x": F}, "none of the statements"),
    ("import os\nreturn x", {"x": F}, "none of the statements"),
    ("return [x for y in a][0]", {"x": F, "a": A1}, "listcomp"),
    ("return missing", {"x": F}, "not defined"),
]


@pytest.mark.parametrize(("body", "arguments", "why"), REFUSED, ids=lambda x: str(x)[:40])
def test_what_machines_might_do_otherwise_is_refused_with_its_reason(body, arguments, why):
    with pytest.raises(RefusedError) as caught:
        judged(body, arguments)
    import re

    assert re.search(why, caught.value.why), caught.value.why


def test_a_hidden_builtin_or_module_is_not_taken_for_the_real_one():
    for names in ({"range": list}, {"math": object()}, {"float": int}):
        body = "t = 0.0\nfor i in range(n):\n    t += float(i) * math.sqrt(1.0)\nreturn t"
        with pytest.raises(RefusedError):
            judged(body, {"n": N}, {**NAMES, **names})


VALUES = [0.0, -0.0, 1.0, -1.5, 1e308, 5e-324, 3.3, float("inf"), float("nan")]


@pytest.mark.slow
@pytest.mark.parametrize(("body", "arguments", "result"), ACCEPTED, ids=lambda x: str(x)[:40])
def test_machine_code_gives_the_bits_of_the_interpreter_or_raises(body, arguments, result):
    """The rule itself, on values at the edges: a difference must show as an exception or as no number."""
    np = pytest.importorskip("numpy")
    pytest.importorskip("numba")
    from pyrepl3.run.compiled import _compile

    lines = "\n".join(f"    {line}" for line in body.split("\n"))
    source = f"def f({', '.join(arguments)}):\n{lines}"
    space = dict(NAMES)
    exec(compile(source, "cell", "exec", dont_inherit=True), space)
    names = ChainMap(NAMES, vars(builtins))
    numeric = judge(ast.parse(source).body[0], tuple(arguments.values()), names)
    fast = _compile(numeric, tuple(arguments.values()), names)
    compared = 0
    for at in range(len(VALUES)):
        pick = {
            "float": VALUES[at],
            "int": [0, 1, -1, 7, 40, -3, 2, 5, 9][at],
            1: np.array(VALUES[at : at + 3]),
            2: np.array([VALUES[at:] + VALUES[:at], VALUES]),
        }
        args = [pick[kind.dimensions or kind.name] for kind in arguments.values()]
        if "while" in body and not (math.isfinite(args[0]) and args[0] < 1e9):
            continue
        with np.errstate(all="ignore"):
            try:
                wanted = space["f"](*args)
            except (ArithmeticError, ValueError):
                wanted = None
        try:
            found = fast(*args)
        except Exception:
            continue  # the interpreter is asked again then
        if isinstance(found, float) and not math.isfinite(found):
            continue  # and then
        assert wanted is not None
        compared += 1
        if isinstance(wanted, float):
            assert struct.pack("<d", found) == struct.pack("<d", wanted)
        else:
            assert found == wanted
    assert compared
