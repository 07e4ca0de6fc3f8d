"""The cache against a model: a list, the most recently used last."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pyrepl3.lang.cache import CompilationCache
from pyrepl3.lang.compile import compile_cell, renamed_code

SOURCES = [f"x = {i}" + "; y = 'é'" * (i % 5) * 40 for i in range(12)]
CELLS = {source: compile_cell(source, "<stored>") for source in SOURCES}
SMALLEST = min(cell.size for cell in CELLS.values())
sources = st.sampled_from(SOURCES)
flags = st.sampled_from([0, 0x1000000])
modes = st.sampled_from(["exec", "eval"])
filenames = st.sampled_from(["<stored>", "<a>", "<b>"])


class CacheMachine(RuleBasedStateMachine):
    @initialize(
        max_size=st.integers(0, 8), max_bytes=st.integers(0, 12 * SMALLEST) | st.just(10**9)
    )
    def make(self, max_size, max_bytes):
        self.cache = CompilationCache(max_size=max_size, max_bytes=max_bytes)
        self.model: list[tuple[tuple, object, int]] = []
        self.hits = self.misses = 0

    def put(self, key, value, size):
        self.model = [entry for entry in self.model if entry[0] != key]
        if size <= self.cache.max_bytes and self.cache.max_size:
            self.model.append((key, value, size))
        while len(self.model) > self.cache.max_size or self.bytes() > self.cache.max_bytes:
            del self.model[0]

    def get(self, key):
        for entry in self.model:
            if entry[0] == key:
                self.model.remove(entry)
                self.model.append(entry)
                self.hits += 1
                return entry[1]
        self.misses += 1
        return None

    def bytes(self):
        return sum(size for _, _, size in self.model)

    @rule(source=sources, flags=flags, first_line=st.sampled_from([1, 7]))
    def store(self, source, flags, first_line):
        self.cache.store((source, flags, first_line), CELLS[source])
        self.put((source, flags, first_line), CELLS[source], CELLS[source].size)

    @rule(source=sources, flags=flags, first_line=st.sampled_from([1, 7]))
    def lookup(self, source, flags, first_line):
        expected = self.get((source, flags, first_line))
        assert self.cache.lookup((source, flags, first_line)) is expected

    @rule(source=sources, filename=filenames, mode=modes, flags=flags)
    def store_compiled(self, source, filename, mode, flags):
        code = CELLS[source].body
        before = self.cache.size_in_bytes
        old = [size for key, _, size in self.model if key == (source, mode, flags)]
        self.cache.store_compiled(source, filename, mode, flags, code)
        stored = self.cache.cache.get((source, mode, flags))
        # The size of bare code is not told: what the cache grew by, if it threw nothing out.
        size = CODE_SIZES.setdefault(source, None)
        if size is None:
            lone = CompilationCache()
            lone.store_compiled(source, filename, mode, flags, code)
            size = CODE_SIZES[source] = lone.size_in_bytes
        assert before >= sum(old)
        assert stored is None or stored.co_filename == filename
        self.put((source, mode, flags), renamed_code(code, filename), size)

    @rule(source=sources, filename=filenames, mode=modes, flags=flags)
    def get_compiled(self, source, filename, mode, flags):
        expected = self.get((source, mode, flags))
        found = self.cache.get_compiled(source, filename, mode, flags)
        assert found == expected
        assert found is None or found.co_filename == filename

    @rule()
    def clear(self):
        self.cache.clear()
        self.model = []

    @invariant()
    def the_cache_is_as_the_model(self):
        cache = self.cache
        assert list(cache.cache) == [key for key, _, _ in self.model]
        assert len(cache) == len(self.model) <= cache.max_size
        assert cache.size_in_bytes == self.bytes() <= cache.max_bytes
        assert (cache.hits, cache.misses) == (self.hits, self.misses)
        looked = self.hits + self.misses
        assert cache.hit_rate == (self.hits / looked if looked else 0.0)


CODE_SIZES: dict[str, int | None] = {}

CacheMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
test_the_cache_does_what_the_model_does = CacheMachine.TestCase
