"""Open files come back at their path, mode and position, and never lose what is in them."""

from __future__ import annotations

import pytest

# name: (cell, check); the file ``PATH`` holds "one\ntwo\nthree\n" before
CASES = {
    "reading": ("f = open(PATH); f.readline()", "assert f.readline() == 'two\\n' and f.mode == 'r'"),
    "reading bytes": ("f = open(PATH, 'rb'); f.read(5)", "assert f.read(3) == b'wo\\n' and f.mode == 'rb'"),
    "appending": (
        "f = open(PATH, 'a'); f.write('four')",
        "f.write('!'); f.flush(); assert open(PATH).read() == 'one\\ntwo\\nthree\\nfour!'",
    ),
    "writing is not truncating again": (
        "f = open(PATH, 'w'); f.write('begun')",
        "assert open(PATH).read() == 'begun'; f.write(', done'); f.close(); assert open(PATH).read() == 'begun, done'",
    ),
    "both ways": (
        "f = open(PATH, 'r+'); f.read(4)",
        "f.seek(f.tell()); f.write('TWO'); f.seek(0); assert f.read() == 'one\\nTWO\\nthree\\n'",
    ),
    "both ways, bytes": ("f = open(PATH, 'w+b'); f.write(b'xy'); f.seek(1)", "assert f.read() == b'y'"),
    "made by it": (
        "f = open(PATH + '2', 'x'); f.write('x')",
        "f.write('y'); f.flush(); assert open(PATH + '2').read() == 'xy'",
    ),
    "without a buffer": ("f = open(PATH, 'rb', buffering=0); f.read(4)", "assert f.read(3) == b'two' and type(f).__name__ == 'FileIO'"),
    "encoding, errors, line buffering": (
        "f = open(PATH, 'a', encoding='latin-1', errors='replace', buffering=1); f.write('\\xe4')",
        "f.write('\\u20ac\\n'); assert open(PATH, 'rb').read().endswith(b'\\xe4?\\n') and f.encoding == 'latin-1' and f.line_buffering",
    ),
    "shared": ("f = open(PATH); g = [f]; f.readline()", "assert g[0] is f and next(f) == 'two\\n'"),
}  # fmt: skip


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "file.txt"
    file.write_text("one\ntwo\nthree\n")
    return file


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("case", CASES)
def test_a_file_goes_on_where_it_stood(live, path, case):
    cell, check = CASES[case]
    live.ns["PATH"] = str(path)
    assert not live.cell(cell).lost
    before = live.ns.pop("f")
    again = live.restart()
    assert not again.lost
    again.run(check)
    again["f"].close()
    before.close()


def test_a_file_that_is_gone_is_lost_and_not_made_again(live, path):
    live.cell(f"f = open({str(path)!r}, 'w'); x = 1")
    live["f"].close()
    path.unlink()
    again = live.restart()
    assert "No such file" in again.lost["f"]
    assert again["x"] == 1
    assert not path.exists()


def test_a_file_without_a_path_cannot_be_stored(live, path):
    live.cell(f"f = open({str(path)!r})")
    path.unlink()
    delta = live.cell("f.readline()")
    assert delta.lost["f"].startswith("an open file that no path leads to cannot be stored")
    live["f"].close()


def test_a_file_in_a_loop_over_its_lines_is_told(live, path):
    delta = live.cell(f"f = open({str(path)!r}); next(f)")
    assert "in the midst of a loop over its lines" in delta.lost["f"]
    live["f"].close()


def test_a_cache_that_held_something_is_told_to_be_empty(live):
    live.cell(
        "import functools\n@functools.cache\ndef f(x): return x\n@functools.cache\ndef g(x): return x\nf(1)"
    )
    again = live.restart()
    assert again.snapshotter.notes == ["the cache of f starts empty"]
    assert again["f"](2) == 2


def test_a_class_mapped_by_a_library_that_keeps_registers_says_so(live, monkeypatch, tmp_path):
    (tmp_path / "sqlalchemy.py").write_text(
        "class Meta(type):\n    def __new__(m, *a): return super().__new__(m, *a)\n"
        "class Base(metaclass=Meta): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "sqlalchemy", raising=False)
    delta = live.cell("import sqlalchemy\nclass User(sqlalchemy.Base): pass\nu = User()")
    assert delta.lost["User"].startswith("a class mapped by SQLAlchemy cannot be stored")
    assert "'User'" in delta.lost["u"]
