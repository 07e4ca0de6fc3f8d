"""Written pages are told, each once; what can no longer be told is unknown, never unwritten."""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile

import pytest

from pyrepl3.snapshot import pages

PAGE = os.sysconf("SC_PAGE_SIZE")
SIZE = pages.LEAST + 8 * PAGE


class Memory:
    """An anonymous private mapping, and where it lies."""

    def __init__(self, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, size=SIZE):
        self.bytes = mmap.mmap(-1, size, flags=flags)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.bytes))
        self.stop = self.start + size

    def page(self, n):
        return self.start + n * PAGE, self.start + (n + 1) * PAGE


@pytest.fixture
def memory():
    return Memory()


def watched(memory, **options):
    made = pages.watch(memory.start, memory.stop - memory.start, **options)
    if made is None:
        pytest.skip("this kernel does not tell written pages")
    made.written()
    return made


def test_each_written_page_is_told_once(memory):
    made = watched(memory)
    assert made.written() == []
    memory.bytes[3 * PAGE + 7] = 1
    memory.bytes[5 * PAGE : 7 * PAGE] = bytes(2 * PAGE)
    assert made.written() == [memory.page(3), (memory.page(5)[0], memory.page(6)[1])]
    assert made.written() == []
    memory.bytes[3 * PAGE] = 2
    assert made.written() == [memory.page(3)]


def test_it_can_be_asked_what_the_next_question_will_be_told(memory):
    made = watched(memory)
    memory.bytes[3 * PAGE] = 1
    assert made.written_so_far() == made.written_so_far() == [memory.page(3)]
    assert made.written() == [memory.page(3)]
    assert made.written_so_far() == []


def test_reading_is_no_writing(memory):
    made = watched(memory)
    assert memory.bytes[2 * PAGE] == 0
    assert made.written() == []


def test_the_kernel_s_own_writes_are_told(memory, tmp_path):
    made = watched(memory)
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    with path.open("rb", buffering=0) as file:
        file.readinto(memoryview(memory.bytes)[4 * PAGE : 4 * PAGE + 100])
    assert made.written() == [memory.page(4)]


def test_more_regions_than_one_answer_holds_are_all_told():
    memory = Memory(size=4 * pages._REGIONS * PAGE)
    made = watched(memory)
    expected = [memory.page(n) for n in range(0, 4 * pages._REGIONS, 2)]
    for n in range(0, 4 * pages._REGIONS, 2):
        memory.bytes[n * PAGE] = 1
    assert made.written() == expected


def test_only_whole_pages_are_watched(memory):
    made = pages.watch(memory.start + 16, SIZE - 32)
    if made is None:
        pytest.skip("this kernel does not tell written pages")
    assert (made.start, made.stop) == (memory.start + PAGE, memory.stop - PAGE)


def test_memory_mapped_anew_is_unknown(memory):
    made = watched(memory)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    private, fixed = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 0x10
    address = ctypes.c_void_p(memory.start + 8 * PAGE)
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    again = libc.mmap(
        address, ctypes.c_size_t(PAGE), protection, private | fixed, -1, ctypes.c_long(0)
    )
    assert again == address.value
    assert made.written() is None
    assert made.written() is None


def test_memory_that_was_given_back_and_is_zero_again_is_told(memory):
    made = watched(memory)
    memory.bytes[8 * PAGE] = 1
    made.written()
    memory.bytes.madvise(mmap.MADV_DONTNEED, 8 * PAGE, PAGE)
    assert memory.bytes[8 * PAGE] == 0
    assert made.written() == [memory.page(8)]


def test_another_watch_of_the_same_memory_ends_the_first(memory):
    first = watched(memory)
    second = pages.watch(memory.start + PAGE, pages.LEAST)
    memory.bytes[3 * PAGE] = 1
    assert first.written() is None
    assert memory.page(3)[0] in [start for start, _ in second.written()] or second.written() == []


def test_a_closed_watch_knows_nothing_and_the_memory_can_be_watched_again(memory):
    made = watched(memory)
    made.close()
    made.close()
    assert made.written() is None
    again = watched(memory)
    memory.bytes[0] = 1
    assert again.written() == [memory.page(0)]


def test_shared_memory_and_mapped_files_are_not_watched():
    shared = Memory(flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    assert pages.watch(shared.start, SIZE) is None
    with tempfile.TemporaryFile() as file:
        file.truncate(SIZE)
        mapped = mmap.mmap(file.fileno(), SIZE, access=mmap.ACCESS_COPY)
        start = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        assert pages.watch(start, SIZE) is None


def test_a_private_mapping_that_nobody_else_changes_is_watched():
    with tempfile.TemporaryFile() as file:
        file.write(os.urandom(SIZE))
        file.flush()
        memory = Memory.__new__(Memory)
        memory.bytes = mmap.mmap(file.fileno(), SIZE, access=mmap.ACCESS_COPY)
        memory.start = ctypes.addressof(ctypes.c_char.from_buffer(memory.bytes))
        memory.stop = memory.start + SIZE
        made = watched(memory, private=True)
        assert memory.bytes[20 * PAGE] is not None
        assert made.written() == []
        memory.bytes[9 * PAGE] = 1
        assert made.written() == [memory.page(9)]


def test_a_forked_child_knows_nothing_and_disturbs_nothing(memory):
    made = watched(memory)
    memory.bytes[2 * PAGE] = 1
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if made.written() is None else 2
            made.close()
            own = pages.watch(memory.start, SIZE)
            own.written()
            memory.bytes[6 * PAGE] = 1
            code = code or (0 if own.written() == [memory.page(6)] else 3)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert made.written() == [memory.page(2)]


def test_small_ranges_are_not_worth_it_and_it_can_be_turned_off(memory, monkeypatch):
    assert pages.watch(memory.start, pages.LEAST - 1) is None
    monkeypatch.setenv(pages.OFF, "1")
    assert pages.watch(memory.start, SIZE) is None


def test_where_the_kernel_refuses_nothing_is_watched(memory, monkeypatch):
    monkeypatch.setattr(pages, "_found", [])
    monkeypatch.setattr(pages, "_USERFAULTFD", {})
    assert pages.watch(memory.start, SIZE) is None
    assert pages._found == [None]


def test_a_kernel_that_does_not_tell_what_was_written_is_not_believed(memory, monkeypatch):
    watched(memory).close()
    monkeypatch.setattr(pages, "_found", [])
    monkeypatch.setattr(pages._Kernel, "scan", lambda *_: iter(()))
    assert pages.watch(memory.start, SIZE) is None
    assert pages._found == [None]
