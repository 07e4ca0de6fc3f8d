"""What a cell makes comes back after a restart: in this process, and in a new one."""

from __future__ import annotations

import pytest

# name: (cells, what must hold after a restart)
CASES = {
    "function": (
        ["def f(a, /, b=2, *c, d=4, **e): return a, b, c, d, e"],
        "assert f(1) == (1, 2, (), 4, {})",
    ),
    "function sees the live globals": (
        ["x = 1\ndef f(): return x\ndef s(v):\n    global x\n    x = v"],
        "s(5); assert x == 5 and f() == 5; x = 6; assert f() == 6 and f.__globals__ is globals()",
    ),
    "recursive functions": (
        [
            "def fact(n): return 1 if n < 2 else n * fact(n - 1)",
            "def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return n and even(n - 1)",
        ],
        "assert fact(5) == 120 and even(10) and not even(7)",
    ),
    "closure that refers to itself": (
        [
            "def make():\n    def g(n): return 1 if n < 2 else n * g(n - 1)\n    return g",
            "g = make()",
        ],
        "assert g(5) == 120",
    ),
    "two closures share a cell": (
        [
            "def counter():\n    n = 0\n    def inc():\n        nonlocal n\n        n += 1\n        return n\n    def get(): return n\n    return inc, get",
            "inc, get = counter(); inc()",
        ],
        "assert get() == 1; inc(); assert get() == 2",
    ),
    "empty cell": (
        [
            "def make():\n    def f(): return late\n    if False: late = 1\n    return f",
            "f = make()",
        ],
        "try: f()\nexcept NameError: pass\nelse: raise AssertionError",
    ),
    "mutable default is shared": (
        ["cache = {}\ndef f(k, c=cache): c[k] = 1"],
        "f(3); assert cache == {3: 1} and f.__defaults__[0] is cache",
    ),
    "keyword defaults, annotations, attributes, doc": (
        ["def f(x: int, *, y: 'str' = 'q') -> list:\n    'doc'\n    return y\nf.tag = [1]"],
        "assert f(1) == 'q' and f.__annotations__ == {'x': int, 'y': 'str', 'return': list} and f.tag == [1] and f.__doc__ == 'doc'",
    ),
    "lambda, nested": (["k = 3\nf = lambda x: (lambda y: x + y + k)"], "assert f(1)(2) == 6"),
    "generator, async and async generator functions": (
        ["def g():\n    yield from (1, 2)\nasync def a(): return 3\nasync def ag():\n    yield 4"],
        "import asyncio\nasync def t(): return [x async for x in ag()], await a()\nassert list(g()) == [1, 2] and asyncio.run(t()) == ([4], 3)",
    ),
    "decorated with wraps": (
        [
            "import functools\ndef deco(f):\n    @functools.wraps(f)\n    def w(*a): return f(*a) + 1\n    return w",
            "@deco\ndef f(x): return x",
        ],
        "assert f(1) == 2 and f.__name__ == 'f' and f.__wrapped__(1) == 1",
    ),
    "lru_cache, partial, partialmethod, singledispatch, cached_property": (
        [
            "import functools\n@functools.lru_cache(maxsize=7)\ndef fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)\nfib(10)",
            "p = functools.partial(fib, 5)",
            "@functools.singledispatch\ndef show(x): return 'any'\n@show.register\ndef _(x: int): return 'int'",
            "class C:\n    n = 0\n    def m(self, a, b): return a, b\n    half = functools.partialmethod(m, 1)\n    @functools.cached_property\n    def c(self): C.n += 1; return C.n\no = C(); o.c",
        ],
        "assert fib(20) == 6765 and fib.cache_parameters()['maxsize'] == 7 and p() == 5\nassert show(1) == 'int' and show('') == 'any' and o.half(2) == (1, 2) and o.c == 1 and C().c == 2",
    ),
    "bound methods": (
        [
            "class C:\n    def __init__(self): self.n = 0\n    def up(self): self.n += 1\n    @classmethod\n    def make(cls): return cls()\no = C(); up = o.up; make = C.make; ap = [].append"
        ],
        "up(); assert o.n == 1 and up.__self__ is o and type(make()) is C",
    ),
    "class and instance": (
        [
            "class P:\n    'doc'\n    kind = 'p'\n    def __init__(self, x): self.x = x\n    def __eq__(self, o): return self.x == o.x\n    @property\n    def y(self): return self.x + 1\n    @staticmethod\n    def s(): return 1\n    @classmethod\n    def c(cls): return cls",
            "p = P(3)",
        ],
        "assert type(p) is P and p == P(3) and p.y == 4 and P.s() == 1 and P.c() is P and P.__doc__ == 'doc' and P.__module__ == __name__ and P.__hash__ is None",
    ),
    "class refers to an instance of itself": (
        [
            "class Node:\n    root = None\n    def __setstate__(self, s): self.__dict__.update(s); self.woke = True\n    def __getstate__(self): return {'v': self.v}\nNode.root = Node(); Node.root.v = 1\nn = Node(); n.v = Node.root"
        ],
        "assert type(Node.root) is Node and Node.root.woke and n.v is Node.root or n.v.v == 1",
    ),
    "super, name mangling, class cell": (
        [
            "class A:\n    def f(self): return 'A'\nclass B(A):\n    def __init__(self): self.__x = 1\n    def f(self): return super().f() + __class__.__name__ + str(self.__x)\nb = B()"
        ],
        "assert b.f() == 'AB1' and B().f() == 'AB1' and issubclass(B, A) and B.__mro__[1] is A",
    ),
    "base registers its subclasses": (
        [
            "class Base:\n    registry = {}\n    def __init_subclass__(cls, *, key, **kw):\n        super().__init_subclass__(**kw)\n        Base.registry[key] = cls\n        Base.runs = getattr(Base, 'runs', 0) + 1",
            "class Kid(Base, key='k'): pass",
        ],
        "assert Base.registry == {'k': Kid} and Base.runs == 1",
    ),
    "slots": (
        [
            "class S:\n    __slots__ = ('a', '__b', 'c')\n    def __init__(self): self.a = 1; self.__b = 2\n    def b(self): return self.__b\nclass T(S):\n    __slots__ = ['d', '__dict__']\ns = S(); t = T(); t.d = 4; t.z = 5"
        ],
        "assert s.a == 1 and s.b() == 2 and not hasattr(s, 'c') and not hasattr(s, '__dict__') and (t.d, t.z, t.a) == (4, 5, 1) and T.__slots__ == ['d', '__dict__']",
    ),
    "metaclass": (
        [
            "class M(type):\n    made = []\n    def __new__(m, name, bases, ns, **kw):\n        cls = super().__new__(m, name, bases, ns)\n        M.made.append(name)\n        return cls\n    def __init__(cls, *a, **k): super().__init__(*a)\n    def __setattr__(cls, k, v): raise AttributeError(k)\n    @property\n    def tag(cls): return cls.__name__.lower()",
            "class C(metaclass=M, flag=1):\n    x = [1]\nc = C()",
        ],
        "assert type(C) is M and C.tag == 'c' and M.made == ['C'] and C.x == [1] and type(c) is C",
    ),
    "abstract classes": (
        [
            "import abc\nclass A(abc.ABC):\n    @abc.abstractmethod\n    def f(self): ...\n    @property\n    @abc.abstractmethod\n    def p(self): ...\nclass B(A):\n    def f(self): return 1\n    p = 2\nclass V: pass\nA.register(V)\nb = B(); v = V()"
        ],
        "assert b.f() == 1 and isinstance(b, A) and isinstance(v, A) and not isinstance(3, A)\ntry: A()\nexcept TypeError: pass\nelse: raise AssertionError",
    ),
    "protocols and generics": (
        [
            "from typing import Generic, Protocol, TypeVar, runtime_checkable\nT = TypeVar('T')\nclass Box(Generic[T]):\n    def __init__(self, v: T): self.v = v\nclass IntBox(Box[int]): pass\n@runtime_checkable\nclass HasF(Protocol):\n    def f(self) -> int: ...\nclass F:\n    def f(self): return 1\nb = IntBox(3); alias = Box[str]"
        ],
        "assert b.v == 3 and IntBox.__orig_bases__ == (Box[int],) and Box[int].__args__ == (int,) and Box.__parameters__ == (T,) and alias == Box[str]\nassert isinstance(F(), HasF) and not isinstance(3, HasF) and isinstance(b, Box)",
    ),
    "new type parameters": (
        [
            "class Box[T: int]:\n    def get[U](self, u: U) -> tuple[T, U]: return u\ndef f[S](x: S) -> S: return x\ntype Pair[A] = tuple[A, A]\nb = Box()"
        ],
        "assert Box[int] and f(1) == 1 and b.get(2) == 2 and Box.__type_params__[0].__bound__ is int and Pair[int].__args__ == (int,)\nassert f.__type_params__[0].__name__ == 'S' and Pair.__value__ == tuple[Pair.__type_params__[0], Pair.__type_params__[0]]",
    ),
    "dataclasses": (
        [
            "from dataclasses import dataclass, field, fields, replace, asdict, KW_ONLY, MISSING\n@dataclass\nclass D:\n    x: int\n    y: list = field(default_factory=list, metadata={'k': 1})\n    _: KW_ONLY\n    z: int = 3\n@dataclass(frozen=True, order=True, slots=True)\nclass E(object):\n    a: int\n    b: D = None\nd = D(1, [2]); e = E(1, d)"
        ],
        "assert d == D(1, [2]) and D(5).y == [] and replace(d, x=9).x == 9 and asdict(d) == {'x': 1, 'y': [2], 'z': 3}\nassert fields(D)[0].default is MISSING and fields(D)[1].metadata['k'] == 1 and e.b is d and E(1) < E(2) and repr(E(1)) == 'E(a=1, b=None)'\ntry: e.a = 3\nexcept Exception as x: assert type(x).__name__ == 'FrozenInstanceError'\nelse: raise AssertionError",
    ),
    "enums": (
        [
            "import enum\nclass Color(enum.Enum):\n    RED = 1\n    BLUE = 2\n    AZURE = 2\n    def hi(self): return self.name.lower()\nclass Num(enum.IntEnum):\n    A = enum.auto()\n    B = enum.auto()\nclass Word(enum.StrEnum):\n    X = enum.auto()\nclass Perm(enum.Flag):\n    R = 1\n    W = 2\nclass Planet(enum.Enum):\n    EARTH = (5.9, 6.3)\n    def __init__(self, m, r): self.m, self.r = m, r\nclass Coord(bytes, enum.Enum):\n    def __new__(cls, value, label):\n        o = bytes.__new__(cls, [value]); o._value_ = value; o.label = label\n        return o\n    PX = (0, 'P.X')\nr = Color.RED; both = Perm.R | Perm.W; table = {Color.RED: 1, Num.B: 2}"
        ],
        "assert r is Color.RED and Color(1) is r and Color['AZURE'] is Color.BLUE and list(Color) == [Color.RED, Color.BLUE] and r.hi() == 'red'\nassert Num.B == 2 and Num(2) is Num.B and Num.B + 1 == 3 and Word.X == 'x' and both == Perm.R | Perm.W and Perm.R in both and both.value == 3\nassert Planet.EARTH.m == 5.9 and Planet((5.9, 6.3)) is Planet.EARTH and Coord.PX.label == 'P.X' and Coord(0) is Coord.PX and bytes(Coord.PX) == bytes([0])\nassert table[Color.RED] == 1 and table[Num.B] == 2 and repr(Color.RED) == '<Color.RED: 1>' and len(Color) == 2 and Color.RED in Color\ntry: Color.RED = 3\nexcept AttributeError: pass\nelse: raise AssertionError",
    ),
    "named tuples, typed dicts": (
        [
            "from typing import NamedTuple, TypedDict, Required\nfrom collections import namedtuple\nclass N(NamedTuple):\n    a: int\n    b: int = 2\n    def s(self): return self.a + self.b\nQ = namedtuple('Q', 'x y', defaults=[5])\nclass TD(TypedDict, total=False):\n    k: Required[int]\n    v: str\nn = N(1); q = Q(1); td = TD(k=1)"
        ],
        "assert n.s() == 3 and type(n) is N and n._replace(a=5).a == 5 and q == Q(1, 5) and Q._fields == ('x', 'y') and type(q) is Q\nassert td == {'k': 1} and TD.__required_keys__ == frozenset({'k'}) and TD(v='x')['v'] == 'x'",
    ),
    "descriptors and set_name": (
        [
            "class Field:\n    named = []\n    def __set_name__(self, owner, name): self.name = name; Field.named.append(name)\n    def __get__(self, o, t=None): return self if o is None else o.__dict__.get(self.name, 0)\n    def __set__(self, o, v): o.__dict__[self.name] = v * 2\nclass R:\n    a = Field()\n    b = Field()\nr = R(); r.a = 2"
        ],
        "assert r.a == 4 and r.b == 0 and Field.named == ['a', 'b'] and R.a.name == 'a'",
    ),
    "subclasses of builtins": (
        [
            "class L(list):\n    def first(self): return self[0]\nclass Dd(dict):\n    def __missing__(self, k): return k\nclass I(int): pass\nclass St(str):\n    def __new__(cls, s): return super().__new__(cls, s.upper())\nclass Ex(ValueError):\n    def __init__(self, a, b): super().__init__(f'{a}-{b}'); self.a = a\nl = L([1, 2]); l.tag = 'x'; d = Dd(a=1); i = I(7); s = St('ab'); e = Ex(1, 2)"
        ],
        "assert l.first() == 1 and l.tag == 'x' and d['zz'] == 'zz' and i == 7 and type(i) is I and s == 'AB' and type(s) is St and str(e) == '1-2' and e.a == 1 and type(e) is Ex",
    ),
    "names that the metaclass knows": (
        [
            "class M(type):\n    @property\n    def tag(cls): return 'meta'\n    def __eq__(c, o): raise ValueError\n    __hash__ = type.__hash__\nclass C(metaclass=M):\n    tag = 'mine'\n    @property\n    def __name__(self): return C\n    @property\n    def __dict__(self): return {'d': __class__}\nclass D:\n    @property\n    def __class__(self): return int\nc = C()"
        ],
        "assert c.tag == 'mine' and C.tag == 'meta' and C.__name__ == 'C' and c.__name__ is C and c.__dict__['d'] is C and type(D()) is D and isinstance(D(), int)",
    ),
    "shared objects": (
        ["a = []; b = [a]; c = {'a': a, 'b': b}", "a.append(b)"],
        "assert b[0] is a and c['a'] is a and c['b'] is b and a[0] is b",
    ),
    "cycle": (["a = [1]; a.append(a); d = {}; d['d'] = d"], "assert a[1] is a and d['d'] is d"),
    "instances share": (
        ["class O: pass", "x = O(); y = O(); x.other = y; y.other = x"],
        "assert x.other is y and y.other is x and type(y) is O",
    ),
    "local classes are one": (
        ["def make():\n    class Local: pass\n    return Local(), Local()", "a, b = make()"],
        "assert type(a) is type(b) and a is not b",
    ),
    "sentinel": (["MISSING = object()\nd = {'x': MISSING}"], "assert d['x'] is MISSING"),
    "modules and submodules": (
        [
            "import xml, xml.dom.minidom\nimport os.path as osp\nimport collections.abc as cabc\nfrom math import sqrt\nfrom collections import OrderedDict as OD"
        ],
        "import sys\nassert xml.dom.minidom.parseString('<a/>') and osp is sys.modules['posixpath'] and cabc.Sized and sqrt(4) == 2 and OD",
    ),
    "hand-made module": (
        ["import types\nm = types.ModuleType('mine'); m.x = [1]; y = m.x"],
        "assert m.x is y and m.__name__ == 'mine'",
    ),
    "globals(), the module and builtins": (
        ["g = globals()\nimport sys\nme = sys.modules[__name__]\nb = [__builtins__]\nv = {'g': g}"],
        "import sys, builtins\nassert g is globals() and me is sys.modules[__name__] and v['g'] is g and b[0] is __builtins__",
    ),
    "context variables": (
        [
            "from contextvars import ContextVar\nvar = ContextVar('v', default=[1])\nplain = ContextVar('plain')\nholder = {'v': var}\ndef read(): return var.get()"
        ],
        "assert holder['v'] is var and var.name == 'v' and read() == [1]\ntry: plain.get()\nexcept LookupError: pass\nelse: raise AssertionError",
    ),
    "type variables": (
        [
            "from typing import TypeVar, ParamSpec, NewType, Callable\nT = TypeVar('T', bound=int)\nP = ParamSpec('P')\nUid = NewType('Uid', int)\nhints = {'t': T, 'l': list[T], 'c': Callable[P, T], 'u': Uid}"
        ],
        "assert hints['t'] is T and hints['l'].__args__[0] is T and T.__bound__ is int and hints['u'] is Uid and Uid(3) == 3",
    ),
    "exceptions": (
        [
            "try:\n    try: 1 / 0\n    except ZeroDivisionError as z: raise KeyError('k') from z\nexcept KeyError as k:\n    k.add_note('note'); err = k\ngroup = ExceptionGroup('g', [ValueError(1), OSError(2, 'no', 'f')])\nclass Odd(Exception):\n    def __init__(self, *, code): super().__init__(); self.code = code\n    def __str__(self): return f'odd {self.code}'\nodd = Odd(code=4)"
        ],
        "assert err.args == ('k',) and type(err.__cause__) is ZeroDivisionError and err.__notes__ == ['note'] and '1 / 0' in err.__cause__.traceback_text or 'ZeroDivisionError' in err.__cause__.traceback_text\nassert group.exceptions[1].filename == 'f' and str(odd) == 'odd 4' and odd.code == 4",
    ),
    "builtin kinds": (
        [
            "import re, datetime, decimal, fractions, pathlib, uuid, collections, operator, array, io, random, queue, string\nvals = [re.compile('a+'), datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), decimal.Decimal('1.5'), fractions.Fraction(1, 3), pathlib.Path('/x'), uuid.UUID(int=5), collections.deque([1], 3), collections.Counter('aab'), collections.ChainMap({}, {1: 2}), operator.itemgetter(1), array.array('d', [1.5]), range(3), slice(1, 2), frozenset({1}), 3 + 4j, Ellipsis, NotImplemented, b'x', bytearray(b'y'), int | str, list[int], string.Template('$x')]\nst = io.StringIO('abc'); st.read(1); by = io.BytesIO(b'abc'); by.read(2)\nrng = random.Random(4); after = rng.getstate()\ndd = collections.defaultdict(list, {1: [2]}); types_ = [type(None), type(lambda: 0), type(x for x in ()), type(...), type(re)]"
        ],
        "assert len(vals) == 22 and vals[0].match('aa') and vals[6].maxlen == 3 and vals[9]([1, 2]) == 2 and vals[10][0] == 1.5 and st.read() == 'bc' and by.read() == b'c' and rng.getstate() == after and dd[5] == [] and dd[1] == [2]\nassert types_[0] is type(None) and types_[1] is type(lambda: 0) and types_[2] is type(x for x in ()) and vals[1].year == 2020 and vals[19] == int | str",
    ),
    "iterators": (
        [
            "import itertools\nl = [1, 2, 3]\nit = iter(l); next(it)\nd = {1: 2, 3: 4}\ndi = iter(d.items())\nz = zip(l, 'abc'); next(z)\ne = enumerate(l); next(e)\nr = reversed(l)\nm = map(str, l)\nc = itertools.count(5); next(c)\nch = itertools.chain([1], [2]); next(ch)\ncy = itertools.cycle('ab'); next(cy)"
        ],
        "assert list(it) == [2, 3] and list(z) == [(2, 'b'), (3, 'c')] and list(e) == [(1, 2), (2, 3)] and list(r) == [3, 2, 1] and list(m) == ['1', '2', '3'] and list(di) == [(1, 2), (3, 4)] and next(c) == 6 and list(ch) == [2] and next(cy) == 'b'",
    ),
    "views and proxies": (
        [
            "import types\nd = {'a': 1}; k = d.keys(); v = d.values(); i = d.items(); p = types.MappingProxyType(d); b = bytearray(b'abc'); mv = memoryview(b)"
        ],
        "d['b'] = 2; assert list(k) == ['a', 'b'] and list(v) == [1, 2] and ('b', 2) in i and p['b'] == 2\nmv[0] = 120; assert b == b'xbc'",
    ),
    "weak references": (
        [
            "import weakref\nclass O: pass\no = O(); w = weakref.ref(o); ws = weakref.WeakSet([o]); wk = weakref.WeakKeyDictionary({o: 1}); wv = weakref.WeakValueDictionary({'o': o}); dead = weakref.ref(O())"
        ],
        "assert w() is o and o in ws and wk[o] == 1 and wv['o'] is o and dead() is None",
    ),
    "custom reduction": (
        [
            "class R:\n    def __init__(self, a): self.a = a\n    def __reduce__(self): return R, (self.a,)\nclass G:\n    def __init__(self, **k): self.k = k\n    def __getnewargs_ex__(self): return (), self.k\n    def __new__(cls, **k): return super().__new__(cls)\nclass Singleton:\n    def __reduce__(self): return 'THE_ONE'\nTHE_ONE = Singleton()\nuse = [THE_ONE]; r = R([1]); g = G(z=1)"
        ],
        "assert use[0] is THE_ONE and r.a == [1] and g.k == {'z': 1}",
    ),
    "aliases of a class and a function": (
        ["class A: pass\nB = A\ndef f(): return A\ng = f\na = A(); l = [B, g]"],
        "assert A is B and f is g and type(a) is B and l[0] is A and l[1] is f",
    ),
    "class used as a key, in a set": (
        ["class K: pass\nd = {K: 1}; s = {K, int}"],
        "assert d[K] == 1 and K in s",
    ),
    "mutually referring definitions": (
        [
            "class A:\n    def other(self): return B\nclass B:\n    peer = A\nA.peer = B\nA.inst = B()\nB.inst = A()\ndef f(): return g\ndef g(x=f): return x\nf.g = g"
        ],
        "assert A.peer is B and B.peer is A and type(A.inst) is B and type(B.inst) is A and f() is g and g() is f and f.g is g",
    ),
    "function from exec in another dict": (
        ["d = {'k': 3}\nexec('def h(): return k', d)\nh = d['h']"],
        "assert h() == 3; d['k'] = 4; assert h() == 4 and h is d['h']",
    ),
    "closure of a library": (
        ["import contextlib\n@contextlib.contextmanager\ndef cm(x):\n    yield x + 1"],
        "with cm(1) as v: assert v == 2",
    ),
    "surrogates, long names, unicode names": (
        ["s = '\\ud800'; naïve = 1; Ω = [2]"],
        "assert s == '\\ud800' and naïve == 1 and Ω == [2]",
    ),
    "big numbers": (
        ["n = 10 ** 10000; f = float('nan'); c = complex(1, -0.0)"],
        "assert n == 10 ** 10000 and f != f",
    ),
    "structs of msgspec": (
        [
            "import msgspec\nclass In(msgspec.Struct, frozen=True):\n    v: int\nclass S(msgspec.Struct, tag='s', rename='camel', order=True):\n    'doc'\n    one_two: int\n    more: list = []\n    inner: In = In(5)\n    made: dict = msgspec.field(default_factory=dict, name='M')\n    def twice(self): return self.one_two * 2\n    def __post_init__(self): self.more[:] = ['post']\nclass K(S, kw_only=True):\n    k: int\n    def twice(self): return super().twice() + 1\ns = S(3); k = K(4, k=2)\nclass F(msgspec.Struct):\n    peer: 'F | None' = None\nF.root = F()"
        ],
        "assert s.twice() == 6 and k.twice() == 9 and type(s) is S and s.more == ['post'] and k.k == 2 and s < S(4) and s.inner is not None and s.inner.v == 5\nassert msgspec.json.encode(s) == b'{\"type\":\"s\",\"oneTwo\":3,\"more\":[\"post\"],\"inner\":{\"v\":5},\"M\":{}}' and msgspec.json.decode(msgspec.json.encode(s), type=S).one_two == 3\nassert S(1).more == ['post'] and S.__doc__ == 'doc' and type(F.root) is F and K.__struct_fields__ == ('one_two', 'more', 'inner', 'made', 'k')\ntry: s.inner.v = 1\nexcept AttributeError: pass\nelse: raise AssertionError",
    ),
    "code object and cell": (
        [
            "def outer():\n    x = [1]\n    def inner(): return x\n    return inner\ninner = outer(); cell = inner.__closure__[0]; code = inner.__code__"
        ],
        "assert cell.cell_contents == [1] and inner.__closure__[0] is cell and inner() is cell.cell_contents and code.co_name == 'inner'",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_cell_makes_comes_back(live, case):
    cells, check = CASES[case]
    for cell in cells:
        delta = live.cell(cell)
        assert not delta.lost
    again = live.restart()
    assert not again.lost
    again.run(check)


@pytest.mark.parametrize("case", CASES)
def test_it_comes_back_a_second_time(live, case):
    """What was restored can be stored again, all of it, and is the same again."""
    cells, check = CASES[case]
    for cell in cells:
        live.cell(cell)
    again = live.restart()
    assert not again.checkpoint(None).lost
    third = again.restart()
    assert not third.lost
    third.run(check)


@pytest.mark.slow
@pytest.mark.parametrize("module", ["pyrepl3.cells.elsewhere", "__main__"])
def test_what_a_cell_makes_comes_back_in_a_new_process(
    tmp_path, open_live, check_in_new_process, module, monkeypatch
):
    if module == "__main__":
        import sys

        monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    cases = []
    for n, (cells, check) in enumerate(CASES.values()):
        live = open_live(tmp_path / str(n), module)
        for cell in cells:
            live.cell(cell)
        live.store.close()
        cases.append((tmp_path / str(n), module, check))
    failures = check_in_new_process(cases)
    names = list(CASES)
    assert {names[int(path.rpartition("/")[2])]: text for path, text in failures.items()} == {}
