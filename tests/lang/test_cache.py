"""Compiled code, kept by source text."""

from __future__ import annotations

import sys
import threading
import traceback

import pytest

from pyrepl3.lang.cache import CompilationCache
from pyrepl3.lang.compile import compile_cell


def code_of(source: str, filename: str = "<a>"):
    return compile(source, filename, "exec")


def test_what_was_stored_is_found_and_counted():
    cache = CompilationCache()
    assert cache.get_compiled("x = 1", "<a>", "exec", 0) is None
    code = code_of("x = 1")
    cache.store_compiled("x = 1", "<a>", "exec", 0, code)
    assert cache.get_compiled("x = 1", "<a>", "exec", 0) is code
    assert (cache.hits, cache.misses, cache.hit_rate, len(cache)) == (1, 1, 0.5, 1)


def test_the_hit_rate_of_a_new_cache_is_zero():
    assert CompilationCache().hit_rate == 0.0


def test_text_mode_and_flags_are_the_key_and_the_file_name_is_not():
    cache = CompilationCache()
    code = code_of("x")
    cache.store_compiled("x", "<a>", "exec", 0, code)
    assert cache.get_compiled("x ", "<a>", "exec", 0) is None
    assert cache.get_compiled("x", "<a>", "eval", 0) is None
    assert cache.get_compiled("x", "<a>", "exec", 1) is None
    assert cache.get_compiled("x", "<b>", "exec", 0) == code


def test_texts_whose_hashes_collide_are_kept_apart():
    class Colliding(str):
        __slots__ = ()

        def __hash__(self):
            return 1

    cache = CompilationCache()
    for name in "xyz":
        cache.store_compiled(Colliding(name), "<a>", "exec", 0, code_of(name))
    for name in "xyz":
        found = cache.get_compiled(Colliding(name), "<a>", "exec", 0)
        assert found.co_names == (name,)


def test_the_same_text_comes_back_under_each_cells_own_file_name():
    source = "def f():\n    return 1 / 0\nf()"
    cache = CompilationCache()
    cache.store_compiled(source, "<cell 1>", "exec", 0, code_of(source, "<cell 1>"))
    for filename in ("<cell 1>", "<cell 2>"):
        code = cache.get_compiled(source, filename, "exec", 0)
        with pytest.raises(ZeroDivisionError) as caught:
            exec(code, {})
        frames = traceback.extract_tb(caught.value.__traceback__)[1:]
        assert [frame.filename for frame in frames] == [filename, filename]


def test_code_stored_under_another_file_name_takes_that_name():
    cache = CompilationCache()
    cache.store_compiled("x", "<b>", "exec", 0, code_of("x", "<a>"))
    assert cache.get_compiled("x", "<b>", "exec", 0).co_filename == "<b>"


def test_the_least_recently_used_goes_first():
    cache = CompilationCache(max_size=2)
    for name in "ab":
        cache.store_compiled(name, "<a>", "exec", 0, code_of(name))
    assert cache.get_compiled("a", "<a>", "exec", 0)
    cache.store_compiled("c", "<a>", "exec", 0, code_of("c"))
    assert [key[0] for key in cache.cache] == ["a", "c"]


def test_bytes_are_bounded_and_what_is_larger_than_all_is_not_kept():
    size = compile_cell("x = 1", "<a>").size
    cache = CompilationCache(max_bytes=3 * size + size // 2)
    for i in range(5):
        cache.store((f"x = {i}", 0, 1), compile_cell(f"x = {i}", "<a>"))
    assert [key[0] for key in cache.cache] == ["x = 2", "x = 3", "x = 4"]
    assert cache.size_in_bytes == 3 * size
    large = "x = '" + "a" * 3 * size + "'"
    cache.store((large, 0, 1), compile_cell(large, "<a>"))
    assert cache.lookup((large, 0, 1)) is None
    assert len(cache) == 3, "it must not push out the others in vain"


def test_a_replaced_entry_is_counted_once_in_bytes():
    cache = CompilationCache()
    cell = compile_cell("x = 1", "<a>")
    for _ in range(3):
        cache.store(("x = 1", 0, 1), cell)
    assert (len(cache), cache.size_in_bytes) == (1, cell.size)


def test_cells_are_found_by_text_flags_and_first_line():
    cache = CompilationCache()
    cell = compile_cell("x = 1", "<a>")
    cache.store(("x = 1", 0, 1), cell)
    assert cache.lookup(("x = 1", 0, 1)) is cell
    assert cache.lookup(("x = 1", 0, 2)) is None
    assert cache.lookup(("x = 1", 1, 1)) is None
    assert cache.get_compiled("x = 1", "<a>", "exec", 0) is None


def test_a_size_of_zero_keeps_nothing():
    cache = CompilationCache(max_size=0)
    cache.store_compiled("x", "<a>", "exec", 0, code_of("x"))
    assert len(cache) == 0
    with pytest.raises(ValueError, match="negative"):
        CompilationCache(max_size=-1)


def test_clearing_forgets_what_is_kept_and_not_what_was_counted():
    cache = CompilationCache()
    cache.store_compiled("x", "<a>", "exec", 0, code_of("x"))
    assert cache.get_compiled("x", "<a>", "exec", 0)
    cache.clear()
    assert (len(cache), cache.size_in_bytes, cache.hits) == (0, 0, 1)
    assert cache.get_compiled("x", "<a>", "exec", 0) is None


def test_the_view_is_a_copy_that_cannot_be_changed():
    cache = CompilationCache()
    view = cache.cache
    cache.store_compiled("x", "<a>", "exec", 0, code_of("x"))
    assert not view
    with pytest.raises(TypeError):
        view["x"] = 1


@pytest.mark.slow
def test_many_threads_neither_break_it_nor_miscount():
    cache = CompilationCache(max_size=8)
    sources = [f"x = {i}" for i in range(16)]
    cells = {source: compile_cell(source, "<a>") for source in sources}
    rounds = 3000
    wrong: list[object] = []

    def work(offset: int) -> None:
        try:
            for i in range(rounds):
                source = sources[(i * 7 + offset) % 16]
                found = cache.lookup((source, 0, 1))
                if found is None:
                    cache.store((source, 0, 1), cells[source])
                elif found is not cells[source]:
                    wrong.append(source)
                if i % 500 == 0:
                    list(cache.cache.items())
        except Exception as error:
            wrong.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
    assert cache.hits + cache.misses == 4 * rounds
    assert len(cache) == 8
    assert cache.size_in_bytes == sum(cell.size for cell in cache.cache.values())
