"""Which awaits may begin early: laws as a table; what is not proved is refused, and says why."""

from __future__ import annotations

import ast
import asyncio
import types
from typing import Any

import pytest

from pyrepl3.lang.parallel import HERE, explain_parallel, independent, remembering
from pyrepl3.lang.proof import prove
from pyrepl3.lang.proof.inputs import MISSING, Refused

TEXT = """
import asyncio, math, random
from pyrepl3 import independent
n, word, items, table = 3, 'ab', [1, 2], {'k': [1]}
class Odd:
    def __add__(self, other): items.append(other)
    @independent
    async def get(self, x): return x
    async def other(self, x): return x
class Sly(Odd):
    def __getattribute__(self, name): return items.append(name)
odd, sly = Odd(), Sly()

async def wait(x):
    await asyncio.sleep(0)
    return x * 2
async def both(x):
    first = await wait(x)
    second = await wait(first + n)
    return [first, second]
async def loud(x):
    '''Prints.'''
    print('x', x, sep='-')
    if x > 1:
        return f'{x:>3}'
    raise ValueError(f'bad {x}')
async def gather(xs):
    out = []
    seen = {}
    total = 0
    for i, x in enumerate(xs):
        out.append(await wait(x))
        seen[x] = i
        total += x
    assert len(out) == len(xs), 'all'
    return out, sorted(seen), total
async def listed(k): return [await wait(i) for i in range(k) if i % 2]
def double(x): return x + x
async def calls(x): return double(x)
def recursive(x): return recursive(x - 1)
async def rec(x): return recursive(x)
async def globbing(x):
    global n
    n = x
async def appends(x): items.append(x)
async def alters(xs): xs.append(1)
async def adds(xs): xs += [1]; return xs
async def multiplies(xs): xs *= 2; return xs
async def stores(xs): xs[0] = 1
async def aliased(xs):
    own = xs
    own.append(1)
async def inner(xs):
    own = [xs]
    own[0].append(1)
async def loops():
    while True: await asyncio.sleep(0)
async def tries():
    try: await asyncio.sleep(9)
    finally: print('dropped')
async def opens(): return open('f')
async def clock():
    import time
    return time.time()
async def lucky(): return random.random()
async def yields(x):
    yield x
async def reads_list(): return len(items)
async def default(x, seen=[]): return seen
async def fixed(x, k=2): return x * k
async def walrus(x): return (y := x)
async def exits(): raise SystemExit
def decorate(f):
    async def wrapper(*args): return await f(*args)
    return wrapper
@decorate
async def wrapped(x): return x
@independent
async def fetch(url, **options): open(url)
coroutine = None
task = None
"""

FILE = "<parallel test>"


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    found: dict[str, Any] = {"__name__": "test_cells"}
    code = compile(TEXT, FILE, "exec")
    eval(code, found)
    return found


def text_of(code: types.CodeType) -> str:
    return TEXT if code.co_filename == FILE else ""


PROVED = {
    "await asyncio.sleep(0.1)": "",
    "await asyncio.sleep(0, n)": "",
    "await wait(1)": "",
    "await wait(n + 1)": "",
    "await wait(word.upper() + f'{n:03}')": "",
    "[await wait(1), await wait(2)]": "",
    "(await both(1))[0] + len(word)": "",
    "await loud(1)": "",
    "await gather((1, 2))": "",
    "await gather(items)": "mutable",
    "await listed(5)": "",
    "await calls(table['k'])": "mutable",
    "await reads_list()": "mutable",
    "await fixed(4)": "",
    "[await wait(i) for i in range(3)]": "",
    "await fetch('u', timeout=n)": "",
    "await fetch(odd)": "mutable",
    "await odd.get(3)": "mutable",
    "await wait(1) if n else None": "",
    "await wait(math.pi)": "",
    "await wait(math.floor(2.5))": "",
    "await wait(sum(i for i in (1, 2)))": "",
}

REFUSED = {
    "await unknown(1)": "unknown is not bound yet",
    "await wait(odd + 1)": "odd may be of a class whose operators do anything",
    "await wait(odd)": "wait, line",
    "await wait(odd.attribute)": "odd.attribute may run code",
    "await rec(1)": "calls itself",
    "await globbing(1)": "it binds names of the session",
    "await appends(1)": "what items.append does cannot be told",
    "await alters(items)": "what xs.append does cannot be told",
    "await alters([1])": "what xs.append does cannot be told",
    "await adds(items)": "xs may be a list that others hold",
    "await multiplies(items)": "xs may be a list that others hold",
    "await stores(items)": "changes an object",
    "await aliased(items)": "what own.append does cannot be told",
    "await inner(items)": "own[0].append",
    "await loops()": "a while loop may run for ever",
    "await tries()": "a try statement sees when it is dropped",
    "await opens()": "what open does cannot be told",
    "await clock()": "an import runs code",
    "await lucky()": "what random.random does cannot be told",
    "await default(1)": "has a default that could change",
    "await walrus(1)": "binds a name in an expression",
    "await exits()": "SystemExit is no ordinary error",
    "await wrapped(1)": "holds what is around it",
    "await coroutine": "what it awaits is no call",
    "await double(1)": "double is not a coroutine function",
    "await wait(double)": "wait, line",
    "[await wait(1), fetch('u')]": "declared independent, but not awaited here",
    "await odd.other(1)": "what odd.other does cannot be told",
    "await sly.get(1)": "what sly.get does cannot be told",
    "await asyncio.gather(wait(1))": "is from a library",
    "await asyncio.wait_for(wait(1), 2)": "is from a library",
    "(await wait(1)).bit_count()": "cannot be told",
    "(lambda: 1)() + await wait(1)": "what it calls cannot be told",
    "await wait((m := 1))": "binds a name in an expression",
    "await wait(print(n, file=odd))": "it prints into a file",
    "await wait({odd: 1})": "may be of a class whose operators do anything",
    "await wait(sorted(items, key=double))": "may be of a class whose operators",
    "[x async for x in yields(1)] + [await wait(1)]": "it has an async for",
}


@pytest.mark.parametrize("source", PROVED, ids=str)
def test_what_shows_nowhere_is_proved(names, source):
    proof = prove(
        ast.parse(source, mode="eval").body,
        lambda name: names.get(name, MISSING),
        remembering(text_of),
        names=names,
    )
    assert proof.mutable == (PROVED[source] == "mutable")
    assert proof.holds(lambda name: names.get(name, MISSING))


@pytest.mark.parametrize("source", REFUSED, ids=str)
def test_what_may_show_is_refused_with_the_reason(names, source):
    with pytest.raises(Refused) as refused:
        prove(
            ast.parse(source, mode="eval").body,
            lambda name: names.get(name, MISSING),
            remembering(text_of),
            names=names,
        )
    assert REFUSED[source] in refused.value.why


APART = """
import math, random
n, items, odd, biglist, table = 3, [1, 2], object(), list(range(20_000)), {'k': [1]}
def counts(k):
    while k > 0:
        k -= 1
    return k
def doubles(k):
    k *= 2
    return k
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
def even(n): return True if n == 0 else uneven(n - 1)
def uneven(n): return False if n == 0 else even(n - 1)
def sly(n): return odd if n == 0 else [sly(n - 1)][0]
def adds(n): return odd if n == 0 else adds(n - 1) + 1
def sieve(n):
    marks = [True] * n
    for i in range(2, n):
        if marks[i]:
            marks[i * i :: i] = [False] * len(marks[i * i :: i])
    return [i for i in range(2, n) if marks[i]]
def tally(words):
    seen = dict()
    for word in words:
        seen[word] = seen.get(word, 0)
        seen[word] += 1
    return seen
def stack(n):
    todo = [n]
    done = set()
    while todo:
        one = todo.pop()
        done.add(one)
        if one:
            todo.append(one // 2)
    return sorted(done)
def root(x): return math.sqrt(x) + math.comb(5, 2)
def tries(n):
    try: return [0] * n
    except MemoryError: return None
def lucky(): return random.random()
def inner(xs):
    own = [xs]
    own[0] += [1]
def shadows(xs):
    own = []
    return [own.append(1) for own in xs]
def hides(n):
    own = []
    [own.append(odd) for i in (1,)]
    return own[0] + 1
def extends():
    own = []
    own.extend(odd)
def removes():
    own = []
    own.append(odd)
    own.remove(1)
def slices():
    own = [1]
    own[0:1] = odd
def defaults():
    own = {}
    own['k'] = odd
    return own.setdefault('k', 1) + 1
def same(x): return x
def gives(): return odd
"""

COMPUTES = {
    "counts(5)": "loops",
    "fib(20)": "loops",
    "even(4)": "loops",
    "sieve(100)": "loops",
    "tally('abca')": "loops",
    "stack(9)": "loops",
    "root(2.0)": "",
    "same(items)": "mutable",
    "sum(i for i in range(9))": "",
    "len(items) + n": "mutable",
}

STAYS = {
    "doubles(items)": "k may be a list that others hold",
    "sly(1)": "sly calls itself, and may give an object of any class",
    "adds(1)": "adds calls itself, and may give an object of any class",
    "tries(5)": "a try statement may see that there is less memory",
    "lucky()": "what random.random does cannot be told",
    "inner(items)": "own[…] may be a list that others hold",
    "shadows(table)": "what own.append does cannot be told",
    "hides(1)": "may be of a class whose operators do anything",
    "extends()": "odd may be of a class whose operators do anything",
    "removes()": "own may be of a class whose operators do anything",
    "slices()": "own[0:1] = … changes an object",
    "defaults()": "own may be of a class whose operators do anything",
    "sum(biglist)": "biglist may be of a class whose operators do anything",
}


@pytest.fixture(scope="module")
def apart() -> dict[str, Any]:
    found: dict[str, Any] = {"__name__": "test_cells"}
    eval(compile(APART, "<apart test>", "exec"), found)
    return found


def prove_apart(names, source, *, apart=True):
    return prove(
        ast.parse(source, mode="eval").body,
        lambda name: names.get(name, MISSING),
        remembering(lambda code: APART if code.co_filename == "<apart test>" else ""),
        names=names,
        apart=apart,
    )


@pytest.mark.parametrize("source", COMPUTES, ids=str)
def test_what_only_computes_is_proved_for_a_copy_of_the_process(apart, source):
    proof = prove_apart(apart, source)
    said = "loops" * proof.loops + "mutable" * proof.mutable
    assert (proof.plain, said) == (True, COMPUTES[source])


@pytest.mark.parametrize("source", STAYS, ids=str)
def test_what_does_more_is_refused_there_too(apart, source):
    with pytest.raises(Refused) as refused:
        prove_apart(apart, source)
    assert STAYS[source] in refused.value.why


@pytest.mark.parametrize("source", ["counts(5)", "fib(5)"])
def test_what_may_run_for_ever_is_proved_for_a_copy_only(apart, source):
    with pytest.raises(Refused):
        prove_apart(apart, source, apart=False)


def test_what_may_give_an_object_of_any_class_is_told(apart):
    assert not prove_apart(apart, "gives()").plain
    assert prove_apart(apart, "same(n)").plain


def test_what_is_computed_in_a_process_of_its_own_is_explained(apart):
    source = "a = fib(20)\nb = fib(21)\nc = gives()\nd = root(4)\ne = fib(a)\nimport os\nf = fib(3)\ng = fib(4)"
    text_of = lambda code: APART if code.co_filename == "<apart test>" else ""  # noqa: E731
    report = explain_parallel(source, apart, text_of=text_of, apart=None)
    assert [(one.line, one.after) for one in report.statements if one.early] == [(2, 0), (8, 6)]
    assert [one.apart for one in report.statements] == [one.early for one in report.statements]
    assert [one.why for one in report.statements] == [
        "it awaits nothing: nothing else that takes long is known to go beside it",
        "proved to show nowhere; in a process of its own, unless it took less than 20 ms before",
        "it awaits nothing: what it gives may be an object of any class, and has to be made here",
        "it awaits nothing: it has no loop: it goes to a process of its own once it took 20 ms",
        "it awaits nothing: what a is, is only known after line 1",
        "it awaits nothing",
        "it awaits nothing: nothing else that takes long is known to go beside it",
        "proved to show nowhere; in a process of its own, unless it took less than 20 ms before",
    ]
    listed = explain_parallel("a = [fib(n) for n in (1, 2)]", apart, text_of=text_of, apart=None)
    assert [(one.early, one.apart) for one in listed.statements] == [(False, True)]
    assert listed.statements[0].why.startswith("proved to show nowhere; its items in")
    here = explain_parallel(source, apart, text_of=text_of, apart="only one processor")
    assert here.early == ()
    assert here.statements[1].why.endswith("holds this thread; only one processor")


@pytest.mark.parametrize(
    "change",
    [
        "n = 4",
        "async def wait(x): return 0",
        "wait.__code__ = both.__code__",
        "wait.__defaults__ = (1,)",
        "asyncio = None",
        "len = str",
    ],
)
def test_a_proof_ends_with_what_it_stands_on(change):
    own: dict[str, Any] = {"__name__": "test_cells"}
    eval(compile(TEXT, FILE, "exec"), own)
    proof = prove(
        ast.parse("await both(len(word))", mode="eval").body,
        lambda name: own.get(name, MISSING),
        remembering(text_of),
        names=own,
    )
    assert proof.holds(lambda name: own.get(name, MISSING))
    exec(change, own)
    assert not proof.holds(lambda name: own.get(name, MISSING))


def test_a_function_whose_text_is_not_its_own_any_more_is_refused(names):
    for text in ("", TEXT.replace("x * 2", "x * 3"), "\n" + TEXT, "if"):
        with pytest.raises(Refused, match="the text of wait is not there"):
            prove(
                ast.parse("await wait(1)", mode="eval").body,
                lambda name: names.get(name, MISSING),
                remembering(lambda _, text=text: text),
                names=names,
            )


def test_the_explanation_has_a_line_a_statement(names):
    source = (
        "a = await wait(1)\n"
        "b = await wait(2)\n"
        "c = await wait(a)\n"
        "for i in items: await wait(i)\n"
        "d = await appends(3)\n"
        "m = 5\n"
        "e = await wait(m)\n"
        "x = double(5)\n"
    )
    report = explain_parallel(source, names, text_of=text_of)
    line = TEXT.split("async def appends", maxsplit=1)[0].count("\n") + 1
    assert [(one.line, one.early, one.after) for one in report.statements] == [
        (1, False, 0),
        (2, True, 0),
        (3, False, 0),
        (4, False, 0),
        (5, False, 0),
        (6, False, 0),
        (7, False, 6),
        (8, False, 0),
    ]
    assert [one.why for one in report.statements] == [
        "proved to show nowhere; it is the first",
        "proved to show nowhere",
        "what a is, is only known after line 1",
        "For statements run where they stand",
        f"appends, line {line}: what items.append does cannot be told",
        "it awaits nothing",
        "proved to show nowhere; what it needs is only there after line 6",
        f"it awaits nothing: what it computes holds this thread; {HERE}",
    ]
    assert report.early == (2,)


def test_functions_of_the_cell_itself_are_known_by_their_text():
    source = (
        "import asyncio\nfrom pyrepl3 import independent\n"
        "async def f(x):\n    await asyncio.sleep(x)\n    return x\n"
        "@independent\nasync def g(x): return open(x)\n"
        "a = await f(0)\nb = await g('u')\nc = await f(0)"
    )
    report = explain_parallel(source, {})
    assert report.early == (8, 9, 10)
    assert {one.line: one.why for one in report.statements}[9] == "declared independent"
    assert [one.after for one in report.statements[4:]] == [5, 7, 5]


def test_what_runs_as_a_whole_is_told():
    assert "does not compile" in explain_parallel("if", {}).why
    assert "return at its top" in explain_parallel("return 1", {}).why
    assert explain_parallel("x = 1", {}).why == "nothing can begin early"
    assert explain_parallel("", {}).statements == ()


def test_only_coroutine_functions_are_declared_independent():
    @independent
    async def right():
        await asyncio.sleep(0)

    assert asyncio.iscoroutinefunction(right)
    for wrong in (len, lambda: 1, asyncio, print):
        with pytest.raises(TypeError, match="async def"):
            independent(wrong)
