"""Who reads what of whom, what makes a value, what is stale: laws as tables, and a property."""

from __future__ import annotations

import ast
import builtins
import os
import pickle
import types
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrepl3.lang.dataflow import Flow
from pyrepl3.lang.names import find_names
from pyrepl3.records import Cell, PastCell


def past(*sources: str, **options: Any) -> list[PastCell]:
    return [
        PastCell(cell=Cell(id=f"t-c{n}", n=n, source=source, filename=f"<t {n}>"), **options)
        for n, source in enumerate(sources, 1)
    ]


def run(source: str, names: dict[str, Any]) -> None:
    exec(compile(source, "<cell>", "exec"), names)


def fresh() -> dict[str, Any]:
    return {"__builtins__": builtins, "__name__": "__main__"}


# --- what one cell does -----------------------------------------------------------------------------

CELLS = {
    "plain": ("y = x + 1", "reads=x binds=y"),
    "annotated": ("y: int = x", "reads=x binds=y,__annotations__"),
    "augmented": ("x += z", "reads=x,z binds=x"),
    "deleted": ("del x", "deletes=x"),
    "function bodies run later": ("def f(): return hidden", "binds=f"),
    "defaults run now": ("def f(a=x): return hidden", "reads=x binds=f"),
    "class bodies run now": ("class A:\n    n = x\n    def m(self): return hidden", "reads=x binds=A"),
    "methods of subclasses may run": ("class A(B):\n    def m(self): return z", "reads=B,z binds=A"),
    "comprehension": ("a = [x for x in xs if x > limit]", "reads=xs,limit binds=a"),
    "nested comprehension": ("a = [y for x in xs for y in x]", "reads=xs binds=a"),
    "walrus in a comprehension": ("a = [(last := x) for x in xs]", "reads=xs binds=a,last"),
    "lambda": ("f = lambda x: x + z", "reads=z binds=f"),
    "import": ("import os.path, json as j", "binds=os,j"),
    "from import": ("from m import a as b", "binds=b"),
    "item": ("x[k] = v", "reads=x,k,v mutates=x"),
    "attribute": ("x.a.b = 1", "reads=x mutates=x"),
    "deleted item": ("del x[0]", "reads=x mutates=x"),
    "method": ("x.append(y)", "reads=x,y mutates=x"),
    "method of a part": ("x[0].items.append(y)", "reads=x,y mutates=x"),
    "pure method": ("y = x.upper()", "reads=x binds=y"),
    "unknown method": ("x.fit(z)", "reads=x,z may_mutate=x,z"),
    "unknown function": ("unknown(x)", "reads=unknown,x may_mutate=x"),
    "pure builtin": ("n = len(x)", "reads=x binds=n"),
    "next": ("next(x)", "reads=x mutates=x"),
    "match": ("match x:\n    case [a, *rest]: pass\n    case {'k': v, **more}: pass",
              "reads=x binds=a,rest,v,more"),
    "except": ("try: f()\nexcept E as e: pass", "reads=f,E binds=e deletes=e"),
    "with": ("with lock as held: pass", "reads=lock binds=held mutates=lock"),
    "loop": ("for i, x.a in pairs: s += i", "reads=x,pairs,s,i binds=i,s mutates=x"),
    "global": ("def f():\n    global g\n    g = 1\nf()", "reads=f binds=f,g"),
    "called below": ("for i in a:\n    def f(): return z\n    f()", "reads=a,f,z binds=i,f"),
    "f-string": ("s = f'{x!r:{w}}'", "reads=x,w binds=s"),
    "type alias": ("type A = list[x]", "binds=A"),
    "await": ("y = await f(x)", "reads=f,x binds=y may_mutate=x"),
    "decorated": ("@d\ndef f(): return z", "reads=d,z binds=f"),
    "exec": ("exec(code)", "reads=code unsure=exec"),
    "star": ("from m import *", "reads=code unsure=import *"),
}  # fmt: skip

BEFORE = "\n".join(
    f"{name} = object()" for name in "x z k v y w limit xs pairs lock code unknown s i a".split()
)


@pytest.mark.parametrize("case", CELLS, ids=str)
def test_what_a_cell_does_to_names(case):
    source, expected = CELLS[case]
    flow = Flow(past(BEFORE, source)).graph().cells[1]
    told = {}
    for field in ("reads", "binds", "deletes", "mutates", "may_mutate", "unsure"):
        found = set(getattr(flow, field))
        if field == "reads" and flow.unsure:
            found &= {"code"}  # it may read all that there is
        if field == "may_mutate" and flow.unsure:
            found = set()
        if found:
            told[field] = found
    wanted = dict(part.split("=") for part in expected.replace("import *", "import-*").split())
    assert told == {
        field: {name.replace("-", " ") for name in names.split(",")}
        for field, names in wanted.items()
    }


def test_calls_of_functions_of_earlier_cells_do_what_these_do():
    flow = Flow(
        past(
            "log = []; rate = 2; n = 0",
            "def note(text):\n    log.append(text)",
            "def count(by):\n    global n\n    n = n + by * rate\n    note('counted')",
            "count(3)",
            "class Job:\n    def run(self): return count(1)",
            "job = Job()",
            "job.run()",
            "act = lambda: note('x')",
            "for f in [act]: f()",
        )
    )
    cells = {cell.n: cell for cell in flow.graph().cells}
    assert cells[3].reads == frozenset()
    for n in (4, 7):
        assert cells[n].reads >= {"rate", "n", "log", "note"}, n
        assert cells[n].binds == {"n"}
        assert "log" in cells[n].mutates
    assert "log" in cells[9].mutates
    assert flow.graph().makers["log"][0] == 1


def test_a_function_changes_those_arguments_that_its_text_changes():
    cells = past(
        "a = []; b = []", "def f(x, y): x.append(len(y))", "f(a, b)", "f(y=a, x=b)", "n = len(b)"
    )
    graph = Flow(cells).graph()
    assert graph.cells[2].may_mutate == {"a"}
    assert graph.cells[3].may_mutate == {"b"}


# --- what makes a value -----------------------------------------------------------------------------

SLICES: dict[str, tuple[list[str], str, list[int]]] = {
    "what others do is left out": (["a = 1", "b = 2", "c = a * 10", "d = b"], "c", [1, 3]),
    "the last binding counts": (["a = 1", "a = 2", "b = a"], "b", [2, 3]),
    "a binding that may not happen": (["a = 1", "if a > 5: a = 2", "b = a"], "b", [1, 2, 3]),
    "changes in place": (["a = []", "a.append(1)", "b = 5", "a[0] += b", "c = a"], "c", [1, 2, 3, 4, 5]),
    "through another name": (["a = []", "b = a", "b.append(1)", "c = len(a)"], "c", [1, 2, 3, 4]),
    "through a container": (["a = []", "b = [a]", "b[0].append(1)", "c = list(a)"], "c", [1, 2, 3, 4]),
    "reading changes nothing": (["a = [1]", "print(a)", "b = sum(a)", "c = a[0]"], "c", [1, 4]),
    "functions and what they read": (
        ["k = 3", "j = 4", "def f(x): return x * k", "y = f(2)"], "y", [1, 3, 4]),
    "what a function read then": (["k = 3", "def f(): return k", "y = f()", "k = 9"], "y", [1, 2, 3]),
    "modules": (["import math", "import json", "y = math.floor(2.5)"], "y", [1, 3]),
    "a module with a state": (
        ["import random", "random.seed(5)", "a = random.random()", "b = random.random()"],
        "b", [1, 2, 3, 4]),
    "an iterator is used up": (["it = iter([1, 2, 3])", "a = sum(zip(it), ())", "b = list(it)"], "b", [1, 2, 3]),
    "a deleted name": (["a = 1", "b = a", "del a", "a = 5", "c = (a, b)"], "c", [1, 2, 4, 5]),
    "classes": (
        ["base = 2", "class A:\n    def v(self): return base + self.n", "x = A()", "x.n = 4", "y = x.v()"],
        "y", [1, 2, 3, 4, 5]),
    "a global in a function": (
        ["n = 0", "def bump():\n    global n\n    n += 1", "bump()", "bump()", "m = n"], "m", [1, 2, 3, 4, 5]),
    "a callback": (
        ["seen = []", "def note(x): seen.append(x); return x", "r = list(map(note, [1, 2]))", "t = tuple(seen)"],
        "t", [1, 2, 3, 4]),
    "exec may do anything": (["a = 1", "exec('b = a + 1')", "c = b"], "c", [1, 2, 3]),
}  # fmt: skip


@pytest.mark.parametrize("case", SLICES, ids=str)
def test_a_slice_is_the_cells_that_make_a_value_and_makes_it(case):
    sources, name, expected = SLICES[case]
    names = fresh()
    for source in sources:
        run(source, names)
    found = Flow(past(*sources)).slice(name)
    assert found is not None
    assert list(found.cells) == expected
    again = fresh()
    run(found.source, again)
    assert again[name] == names[name]


def test_no_cell_of_these_slices_could_be_left_out():
    """The smallest list: without any one of its cells the value is another, or there is none."""
    spare = {"a binding that may not happen"}  # which it did not
    for case, (sources, name, _) in SLICES.items():
        if case in spare:
            continue
        names = fresh()
        for source in sources:
            run(source, names)
        found = Flow(past(*sources)).slice(name)
        assert found is not None
        for left_out in found.cells:
            again = fresh()
            try:
                for n in found.cells:
                    if n != left_out:
                        run(sources[n - 1], again)
            except (NameError, AttributeError, IndexError):
                continue
            assert again.get(name) != names[name], (case, left_out)


def test_what_nobody_bound_has_no_slice():
    assert Flow(past("a = 1", "del a")).slice("a") is None
    assert Flow([]).slice("a") is None


def test_a_failed_cell_is_in_a_slice_up_to_where_it_failed():
    cells = past("a = 1", "b = a + 1\nc = b / 0\nd = 5", "e = b")
    cells[1] = PastCell(cell=cells[1].cell, status="failed", stop_line=2)
    found = Flow(cells).slice("e")
    assert found is not None
    assert "b = a + 1" in found.source
    assert "/ 0" not in found.source
    assert found.notes == ("cell 2 failed; only the statements before that are here",)
    assert Flow(cells).slice("d") is None


def test_a_slice_tells_what_no_cell_that_is_kept_has_bound():
    """The first cells may be gone: ``gc(keep=...)``."""
    found = Flow(past("a = 1", "def f(): return k + len(display)", "b = a + f()")[1:]).slice("b")
    assert found is not None
    assert found.notes == ("cell 3 reads what no cell that is kept has bound: a, k",)


def test_what_a_store_saw_overrules_what_the_text_may_mean():
    cells = past("x = [1]", "show(x)", "hidden(x)", "y = x[0]")
    saw = [{"x"}, set(), {"x"}, {"y"}]
    cells = [PastCell(cell=c.cell, changed=frozenset(s)) for c, s in zip(cells, saw, strict=True)]
    graph = Flow(cells).graph()
    assert graph.makers["x"] == (1, 3)
    assert graph.cells[2].mutates == {"x"}
    assert graph.cells[1].may_mutate == frozenset()
    found = Flow(cells).slice("y")
    assert found is not None
    assert found.cells == (1, 3, 4)


# --- what is stale ----------------------------------------------------------------------------------

STALE: dict[str, tuple[list[str], dict[int, set[str]], list[int]]] = {
    "nothing": (["a = 1", "b = a"], {}, []),
    "an input bound anew": (["a = 1", "b = a", "a = 2"], {2: {"a"}}, [2]),
    "what stands on it": (["a = 1", "b = a", "c = b", "a = 2"], {2: {"a"}, 3: {"b"}}, [2, 3]),
    "run again since": (["a = 1", "b = a", "a = 2", "b = a"], {}, []),
    "what stands on it is left": (["a = 1", "b = a", "c = b", "a = 2", "b = a"], {3: {"b"}}, [3]),
    "changed in place": (["a = []", "b = len(a)", "a.append(1)"], {2: {"a"}}, [2]),
    "its own change": (["a = []", "a.append(1)", "a.append(2)"], {}, []),
    "a function defined anew": (
        ["def f(): return 1", "b = f()", "def f(): return 2"], {2: {"f"}}, [2]),
    "what its function reads": (
        ["k = 1", "def f(): return k", "b = f()", "k = 2"], {3: {"k"}}, [3]),
    "a sum is made from its beginning": (
        ["s = 0", "d = 1", "s += d", "d = 5"], {3: {"d"}}, [1, 3]),
    "and to its end": (
        ["s = []", "d = 1", "s.append(d)", "s.append(0)", "d = 5"],
        {3: {"d"}, 4: {"s"}}, [1, 3, 4]),
    "a value that is gone": (["a = 1", "b = a", "del b", "a = 2"], {}, []),
    "what it showed": (["a = 1", "print(a)", "a = 2"], {2: {"a"}}, [2]),
    "shown again": (["a = 1", "print(a)", "a = 2", "print(a)"], {}, []),
    "an import": (["import math", "a = math.pi", "import math"], {2: {"math"}}, [2]),
}  # fmt: skip


@pytest.mark.parametrize("case", STALE, ids=str)
def test_stale_cells_and_what_is_to_run_again(case):
    sources, expected, again = STALE[case]
    flow = Flow(past(*sources))
    assert {cell.n: set(cell.because) for cell in flow.stale()} == expected
    assert [cell.cell.n for cell in flow.again()] == again
    names = fresh()
    for source in (*sources, *(cell.cell.source for cell in flow.again())):
        run(source, names)
    after = Flow(past(*sources, *(cell.cell.source for cell in flow.again())))
    assert after.stale() == (), "running them again leaves nothing stale"


def test_hints_name_what_nobody_uses():
    graph = Flow(
        past("import os, sys", "a = sys.argv", "b = 5", "b = 6", "print(a, b)", "_private = 1")
    ).graph()
    assert [(h.kind, h.n, h.names) for h in graph.hints] == [
        ("unused", 1, ("os",)),
        ("dead", 3, ("b",)),
    ]


def test_dependents_are_found_through_others():
    graph = Flow(past("a = 1", "b = a", "c = b", "d = 2", "a2 = a")).graph()
    assert [cell.n for cell in graph.dependents("a")] == [2, 3, 5]
    assert [cell.n for cell in graph.dependents("b")] == [3]
    assert graph.dependents("nothing") == ()


def test_the_graph_as_text():
    graph = Flow(past('a = "x\\n]"', "b = a # <script>", "exec('')")).graph()
    assert 'c1 -->|"a"| c2' in graph.mermaid()
    assert "<script>" not in graph.mermaid()
    assert '"' not in graph.mermaid().splitlines()[1].partition('["')[2].removesuffix('"]')
    assert 'c1 -> c2 [label="a"];' in graph.dot()
    assert '[label="c1: a = \\"x\\\\n]\\""];' in graph.dot()
    assert "not certain: exec" in graph.text()


MANY = 20 if os.environ.get("PYREPL3_CAMPAIGN") else 1

# --- what happened was predicted --------------------------------------------------------------------


class Watched(dict[str, Any]):
    """The names of a cell that notes who looks; functions look here too, since it is no exact dict."""

    def __init__(self, names: dict[str, Any]) -> None:
        super().__init__(names)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)


NAMES = ["a", "b", "c", "f", "g", "K"]
DATA = st.sampled_from(["a", "b", "c"])
CALLABLE = st.sampled_from(["f", "g"])

EXPRESSIONS = st.one_of(
    st.sampled_from(["1", "[1, 2]", "[[3], 4]", "{'k': [5]}"]),
    DATA,
    st.builds("[{}, {}]".format, DATA, DATA),
    st.builds("len(str({}))".format, DATA),
    st.builds("[i for i in [{}] if {}]".format, DATA, DATA),
    st.builds("{}({})".format, CALLABLE, DATA),
    st.builds("(lambda q: q if {} else {})({})".format, DATA, DATA, DATA),
    st.builds("K({}).get()".format, DATA),
    st.builds("list(map({}, [{}]))".format, CALLABLE, DATA),
    st.builds("({} if {} else {})".format, DATA, DATA, DATA),
)
SIMPLE = st.one_of(
    st.builds("{} = {}".format, DATA, EXPRESSIONS),
    st.builds("{} = {} = {}".format, DATA, DATA, EXPRESSIONS),
    st.builds("{}, {} = {}, {}".format, DATA, DATA, EXPRESSIONS, EXPRESSIONS),
    st.builds("{} += [{}]".format, DATA, EXPRESSIONS),
    st.builds("{}.append({})".format, DATA, EXPRESSIONS),
    st.builds("{}[0] = {}".format, DATA, EXPRESSIONS),
    st.builds("({})".format, EXPRESSIONS),
    st.builds("del {}".format, DATA),
    st.builds("setattr(K, 'n', {})".format, EXPRESSIONS),
)
BODIES = st.lists(SIMPLE.filter(lambda s: not s.startswith("del")), min_size=1, max_size=2)


def function(name: str, declared: str, body: list[str], result: str) -> str:
    inner = "\n    ".join(
        [*([f"global {declared}"] if declared else []), *body, f"return {result}"]
    )
    return f"def {name}(x=None):\n    {inner}"


STATEMENTS = st.one_of(
    SIMPLE,
    SIMPLE,
    st.builds(function, CALLABLE, st.sampled_from(["", "a", "b", "a, b, c"]), BODIES, EXPRESSIONS),
    st.builds("if {}: {}".format, DATA, SIMPLE),
    st.builds("for i in [1, 2]: {}".format, SIMPLE),
    st.builds("try: {}\nexcept Exception as e: {}".format, SIMPLE, SIMPLE),
    st.builds(
        "class K:\n    n = {}\n    def __init__(self, v): self.v = v\n    def get(self): return {}".format,
        DATA,
        EXPRESSIONS,
    ),
    st.builds("import json as {}".format, DATA),
)
CELL = st.lists(STATEMENTS, min_size=1, max_size=3).map("\n".join)

START = (
    "a = [0]; b = [a]; c = {}\ndef f(x=None): return x\ndef g(x=None): return [x]\n"
    "class K:\n    def __init__(self, v): self.v = v\n    def get(self): return self.v"
)


def picture(names: dict[str, Any]) -> dict[str, Any]:
    """What each name holds, so that a change in place shows."""
    found = {}
    for name, value in names.items():
        if name.startswith("__"):
            continue
        if isinstance(value, types.FunctionType | types.ModuleType):
            found[name] = id(value)
        elif isinstance(value, type):
            found[name] = repr(value.__dict__.get("n"))
        else:
            try:
                found[name] = pickle.dumps(value) if not _odd(value) else repr(value)
            except Exception:
                found[name] = repr(value)
    return found


def _odd(value: Any) -> bool:
    return type(value).__module__ == "__main__"


@settings(max_examples=100 * MANY, deadline=None)
@given(st.lists(CELL, min_size=1, max_size=5))
def test_what_a_cell_touched_at_run_time_was_predicted(sources):
    names = fresh()
    run(START, names)
    done = past(START)
    for source in sources:
        before, shown = dict(names), picture(names)
        watched = Watched(names)
        status, stop = "done", 0
        try:
            exec(compile(source, "<cell>", "exec"), watched)
        except Exception as error:
            status = "failed"
            tb = error.__traceback__
            while tb is not None and tb.tb_frame.f_code.co_filename != "<cell>":
                tb = tb.tb_next
            stop = tb.tb_lineno if tb is not None else 0
        except RecursionError:  # pragma: no cover
            return
        names = dict(watched)
        done.append(
            PastCell(
                cell=Cell(
                    id=f"c{len(done) + 1}", n=len(done) + 1, source=source, filename="<cell>"
                ),
                status=status,
                stop_line=stop,
            )
        )
        flow = Flow(done).graph().cells[-1]
        if flow.unsure:
            continue
        mine = {name for name in names if not name.startswith("__")} | set(before)
        read = (watched.read & set(before) & mine) - {"__name__", "__builtins__"}
        assert read <= flow.reads | flow.binds, source
        bound = {n for n in names if n not in before or names[n] is not before[n]} - {
            "__annotations__"
        }
        assert bound <= flow.binds, source
        assert set(before) - set(names) <= flow.deletes | flow.binds, source
        same = {n for n in before if n in names and names[n] is before[n]}
        now = picture(names)
        changed = {n for n in same if shown.get(n) != now.get(n)}
        assert changed <= flow.mutates | flow.may_mutate | flow.binds, (source, changed)


@settings(max_examples=80 * MANY, deadline=None)
@given(st.lists(CELL, min_size=1, max_size=4), DATA)
def test_a_slice_of_any_session_makes_the_value_again(sources, name):
    names = fresh()
    ran = [START]
    run(START, names)
    for source in sources:
        try:
            run(source, names)
        except Exception:
            return
        ran.append(source)
    found = Flow(past(*ran)).slice(name)
    if name not in names:
        return
    assert found is not None
    again = fresh()
    run(found.source, again)
    assert picture({name: again[name]}) == picture({name: names[name]}) or callable(names[name])


@settings(max_examples=60 * MANY, deadline=None)
@given(CELL)
def test_what_the_compiler_says_is_read_and_bound_is_found(source):
    told = find_names(source)
    flow = Flow(past(source)).graph().cells[0]
    inside = {
        node.id
        for each in ast.walk(ast.parse(source))
        if isinstance(each, ast.FunctionDef)
        for node in ast.walk(each)
        if isinstance(node, ast.Name)
    }
    assert told.binds - inside - {"e"} <= flow.binds
    assert told.reads - inside - set(dir(builtins)) <= flow.reads | flow.binds
