"""Whatever happened to a buffer's memory, the store has its bytes as of the last mark, and little more came."""

from __future__ import annotations

import random

import pytest
from blake3 import blake3

from pyrepl3.records import CHUNK, FANOUT
from pyrepl3.snapshot import pages
from pyrepl3.snapshot.buffers import Buffers, Pieces

np = pytest.importorskip("numpy")


class Kept:
    """A store's chunks, and the Buffers that feed it."""

    def __init__(self):
        self.buffers, self.chunks = Buffers(), {}

    def delta(self, *arrays, again=False):
        """Look at the memory of arrays. Returns their contents and the bytes that came."""
        self.buffers.begin(again=again)
        made = [self.buffers.add(memoryview(a).cast("B")) for a in arrays]
        return made, dict(self.buffers.chunks)

    def mark(self, contents, chunks):
        for digest, piece in chunks.items():
            assert blake3(piece).digest() == digest
            self.chunks[digest] = bytes(piece)
        self.buffers.commit(contents)

    def save(self, *arrays):
        """A whole checkpoint; returns how many bytes came."""
        made, chunks = self.delta(*arrays)
        self.mark(made, chunks)
        for content, array in zip(made, arrays, strict=True):
            assert self.read(content.record) == array.tobytes()
        return sum(map(len, chunks.values()))

    def read(self, record):
        lists = self.chunks[record.root]
        leaves = b"".join(self.chunks[lists[n : n + 32]] for n in range(0, len(lists), 32))
        data = b"".join(self.chunks[leaves[n : n + 32]] for n in range(0, len(leaves), 32))
        assert len(data) == record.size
        return data


@pytest.fixture(params=["pages", "hashes"])
def kept(request, monkeypatch):
    """Twice: with written pages told where the system does, and without."""
    if request.param == "hashes":
        monkeypatch.setenv(pages.OFF, "1")
    made = Kept()
    yield made
    made.buffers.close()


def noise(size, seed=0):
    return np.frombuffer(random.Random(seed).randbytes(size), np.uint8).copy()


def test_only_changed_chunks_come(kept):
    array = noise(40 * CHUNK + 100)
    assert kept.save(array) > array.nbytes
    assert kept.save(array) == 0
    array[20 * CHUNK + 5] ^= 1
    assert kept.save(array) < CHUNK + 5000
    array[-1] ^= 1
    array[0] ^= 1
    assert kept.save(array) < CHUNK + 100 + 5000


def test_lists_above_one_fanout(kept):
    array = np.arange((FANOUT + 3) * CHUNK // 8)
    kept.save(array)
    array[5] = -1
    assert kept.save(array) < CHUNK + 32 * FANOUT + 100


def test_a_change_that_was_never_marked_comes_again(kept):
    array = noise(40 * CHUNK)
    kept.save(array)
    array[7 * CHUNK] ^= 1
    kept.delta(array)  # its commit fails
    array[9 * CHUNK] ^= 1
    made, chunks = kept.delta(array, again=True)
    kept.mark(made, chunks)
    assert kept.read(made[0].record) == array.tobytes()
    array[7 * CHUNK] ^= 1
    kept.delta(array)
    array[7 * CHUNK] ^= 1  # as it was
    assert kept.save(array) == 0


def test_a_first_delta_that_was_never_marked_comes_whole_again(kept):
    array = noise(20 * CHUNK)
    kept.delta(array)
    assert kept.save(array) > array.nbytes


def test_arrays_that_are_written_whole_are_followed_too(kept):
    array = noise(40 * CHUNK)
    kept.save(array)
    for seed in range(1, 4):
        array[:] = noise(array.nbytes, seed)
        assert kept.save(array) > array.nbytes
    for n in range(4):
        array[n * CHUNK] ^= 1
        assert kept.save(array) < CHUNK + 5000


def test_another_array_at_the_same_address_is_another(kept):
    size = 64 * CHUNK
    for seed in range(10):
        array = noise(size, seed)
        kept.save(array)
        del array
        zeros = np.zeros(size, np.uint8)
        kept.save(zeros)
        del zeros


def test_an_array_that_moved_or_changed_its_size(kept):
    array = noise(30 * CHUNK)
    kept.save(array)
    array.resize(50 * CHUNK, refcheck=False)
    array[40 * CHUNK] = 7
    kept.save(array)
    array.resize(30 * CHUNK, refcheck=False)
    array[3] ^= 1
    kept.save(array)


def test_what_left_the_store_comes_whole_again(kept):
    """Chunks of old epochs may have been collected."""
    array, other = noise(20 * CHUNK), noise(20 * CHUNK, 1)
    kept.save(array, other)
    kept.save(other)
    kept.chunks = {k: v for k, v in kept.chunks.items() if v in other.tobytes() or len(v) < CHUNK}
    assert kept.save(array, other) > array.nbytes


def test_two_views_of_the_same_memory_do_not_disturb_each_other(kept):
    array = noise(60 * CHUNK)
    part = array[10 * CHUNK : 50 * CHUNK]
    for n in range(4):
        array[(20 + n) * CHUNK] ^= 1
        kept.save(array, part)
    kept.save(part)
    array[30 * CHUNK] ^= 1
    kept.save(part)


def test_two_sessions_with_the_same_array_both_see_its_changes(kept):
    other = Kept()
    array = noise(40 * CHUNK)
    kept.save(array)
    other.save(array)
    for n in range(3):
        array[n * CHUNK] ^= 1
        kept.save(array)
        other.save(array)
    array[5 * CHUNK] ^= 1
    kept.save(array)
    array[6 * CHUNK] ^= 1
    other.save(array)
    kept.save(array)
    other.buffers.close()


def test_what_is_doubtful_can_be_asked_without_looking(kept):
    array = noise(100 * CHUNK)
    made, chunks = kept.delta(array)
    kept.mark(made, chunks)
    view = memoryview(array).cast("B")
    array[50 * CHUNK] ^= 1
    for _ in range(2):
        doubtful = kept.buffers.find_doubtful(view, made[0])
        assert doubtful is None or (50 in doubtful and len(doubtful) < 6)
    assert kept.save(array) > CHUNK
    assert kept.buffers.find_doubtful(view, made[0]) is None


def test_small_changes_are_copies_and_memory_is_let_go(kept):
    array = noise(200 * CHUNK)
    kept.save(array)
    array[50 * CHUNK] ^= 1
    _, chunks = kept.delta(array)
    array[50 * CHUNK] ^= 1  # while the store writes
    assert all(blake3(piece).digest() == digest for digest, piece in chunks.items())


def test_after_a_failed_commit_everything_is_a_copy(kept):
    array = noise(200 * CHUNK)
    _, chunks = kept.delta(array)
    assert any(type(piece) is memoryview for piece in chunks.values())
    _, chunks = kept.delta(array, again=True)
    assert all(type(piece) is bytes for piece in chunks.values())


def test_nothing_holds_memory_after_a_mark(kept):
    import weakref

    array = noise(200 * CHUNK)
    kept.save(array)
    gone = weakref.ref(array)
    del array
    assert gone() is None


def test_pieces_come_where_they_differ_from_the_last_ones(kept):
    def save(*pieces):
        kept.buffers.begin()
        made = kept.buffers.add(Pieces(("x", 0), pieces))
        chunks = dict(kept.buffers.chunks)
        kept.mark([made], chunks)
        assert kept.read(made.record) == b"".join(pieces)
        return sum(map(len, chunks.values()))

    one, two, three = (bytes([n]) * CHUNK for n in (1, 2, 3))
    assert save(one, two, b"end") > 2 * CHUNK
    assert save(one, two, b"end") == 0
    assert save(one, three, b"end") < CHUNK + 200
    assert save(one, three) < 200
    assert save(one, three, two) < CHUNK + 200


def test_a_bytearray_is_free_to_grow_once_it_was_hashed(kept):
    data = bytearray(5 * CHUNK)
    view = memoryview(data)
    kept.buffers.begin()
    kept.buffers.add(Pieces(("x", 0), [view[n : n + CHUNK] for n in range(0, len(view), CHUNK)]))
    view.release()
    data += b"x"


@pytest.mark.parametrize("seed", range(3))
def test_a_random_life(kept, seed):
    """Writes here and there, whole rewrites, new arrays in old memory, commits that fail."""
    rng = random.Random(seed)
    arrays = [noise(rng.randrange(16, 40) * CHUNK + rng.randrange(5000), n) for n in range(3)]
    failed = False
    for _ in range(40):
        for n, array in enumerate(arrays):
            what = rng.randrange(8)
            if what == 0:
                array[:] = rng.randrange(256)
            elif what == 1:
                arrays[n] = noise(array.nbytes, rng.random())
            elif what == 2:
                arrays[n] = np.zeros(array.nbytes, np.uint8)
            elif what < 6:
                for _ in range(rng.randrange(4)):
                    array[rng.randrange(array.nbytes)] ^= 1 + rng.randrange(255)
        array = None
        some = rng.sample(arrays, rng.randrange(1, 4))
        made, chunks = kept.delta(*some, again=failed)
        failed = rng.random() < 0.3
        if not failed:
            kept.mark(made, chunks)
            for content, item in zip(made, some, strict=True):
                assert kept.read(content.record) == item.tobytes()
        some = item = None


def test_memory_that_is_written_whole_is_not_watched_until_it_is_calm_again(kept):
    """The first write to each watched page is slow."""
    array = noise(40 * CHUNK)
    kept.save(array)
    kept.save(array)
    (place,) = kept.buffers._ranges.values()
    watched = place._watch is not None
    array ^= 1
    assert kept.save(array) > array.nbytes
    assert place._watch is None
    kept.save(array)
    array[5] ^= 1
    assert kept.save(array) < 2 * CHUNK + 5000
    assert (place._watch is not None) == watched
