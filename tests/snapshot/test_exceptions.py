"""Exceptions are kept without their frames; those that cannot be kept look the same."""

from __future__ import annotations

import traceback

import pytest


def shown(error):
    return "".join(traceback.format_exception_only(error))


def test_type_arguments_notes_causes_and_text_stay(live):
    live.cell(
        "def fail(): raise ValueError('bad', 3)\n"
        "try:\n    try: fail()\n    except ValueError as inner: raise LookupError('outer') from inner\n"
        "except LookupError as error: _last_exception = error\n_last_exception.add_note('a note')"
    )
    again = live.restart()
    error = again["_last_exception"]
    assert (type(error), error.args, error.__notes__) == (LookupError, ("outer",), ["a note"])
    assert error.__cause__.args == ("bad", 3)
    assert error.__suppress_context__
    assert error.__traceback__ is None
    assert "LookupError: outer" in error.traceback_text
    assert "in fail" in error.__cause__.traceback_text


@pytest.mark.parametrize(
    "source",
    [
        "OSError(2, 'No such file', 'x.txt')",
        "UnicodeDecodeError('utf-8', b'x', 0, 1, 'why')",
        "SyntaxError('bad', ('f', 1, 2, 'text', 1, 3))",
        "StopIteration(3)",
        "SystemExit(4)",
        "KeyError('k')",
        "ImportError('no', name='m', path='p')",
        "NameError('n', name='x')",
        "ExceptionGroup('g', [ValueError(1), KeyError(2)])",
        "KeyboardInterrupt()",
        "__import__('json').JSONDecodeError('m', 'doc', 1)",
        "__import__('subprocess').CalledProcessError(1, ['a'])",
    ],
)
def test_builtin_and_library_exceptions_show_the_same(live, source):
    live.cell(f"e = {source}")
    again = live.restart()
    assert not again.lost
    assert type(again["e"]) is type(live["e"])
    assert shown(again["e"]) == shown(live["e"])
    fields = {k: v for k, v in vars(again["e"]).items() if k != "traceback_text"}
    assert fields == vars(live["e"])
    for name in ("code", "value", "filename", "errno", "name", "path", "lineno", "object", "start"):
        assert getattr(again["e"], name, None) == getattr(live["e"], name, None)


def test_an_init_that_wants_other_arguments_is_no_obstacle(live):
    live.cell(
        "ran = []\nclass E(Exception):\n    def __init__(self, a, *, b):\n        ran.append(1)\n"
        "        super().__init__(f'{a} {b}'); self.b = b\ne = E(1, b=[2])\nl = [e, e.b]"
    )
    again = live.restart()
    assert shown(again["e"]) == shown(live["e"])
    assert again["l"][0] is again["e"]
    assert again["l"][1] is again["e"].b
    assert again["ran"] == [1]


@pytest.mark.parametrize(
    "source",
    [
        "class E(Exception): pass\ne = E('text'); e.lock = threading.Lock()",
        "class E(Exception):\n    def __reduce__(self): raise RuntimeError\ne = E('text')",
        "class E(Exception):\n    def __reduce__(self): return E, (1, 2, 3)\n    def __init__(self, a): super().__init__(a)\ne = E('text')",
        "class E(Exception): pass\ne = E('text', threading.Lock()); e.args = ('text',); e.x = (i for i in [])",
    ],
)
def test_what_cannot_be_stored_looks_the_same(live, source):
    live.cell(f"import threading\n{source}\ne.add_note('n')\nl = [e]")
    again = live.restart()
    assert not again.lost
    assert str(again["e"]) == "text"
    assert type(again["e"]).__name__ == "E"
    assert isinstance(again["e"], Exception)
    assert shown(again["e"]) == shown(live["e"])
    assert again["l"][0] is again["e"]


def test_an_attribute_error_does_not_take_its_object_with_it(live):
    live.cell(
        "import threading\nlock = threading.Lock()\ntry: lock.nope\nexcept AttributeError as error: e = error"
    )
    again = live.restart()
    assert again.lost.keys() == {"lock"}
    assert "nope" in str(again["e"])


def test_an_exception_that_cannot_be_shown_is_no_obstacle(live):
    live.cell(
        "class E(Exception):\n    def __str__(self): raise E\n    __repr__ = __str__\ntry: raise E([1])\nexcept E as error: e = error"
    )
    assert live.restart()["e"].args == ([1],)


def test_causes_in_a_circle(live):
    live.cell("a = ValueError(1); b = ValueError(2); a.__cause__ = b; b.__context__ = a")
    again = live.restart()
    assert again["a"].__cause__ is again["b"]
    assert again["b"].__context__ is again["a"]


def test_base_exceptions_stay_base_exceptions(live):
    live.cell("import threading\nclass B(BaseException): pass\nb = B('x'); b.l = threading.Lock()")
    again = live.restart()
    assert not isinstance(again["b"], Exception)
    assert str(again["b"]) == "x"
