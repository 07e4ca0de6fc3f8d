"""What is cut out of a pickle is put back where it was."""

from __future__ import annotations

import io
import pickle

import pytest

from pyrepl3.records import CHUNK
from pyrepl3.snapshot.stream import Sink, Source, unpack_positions

VALUES = {
    "small": [1, "x", None],
    "one big bytes": [1, bytes(range(256)) * 1000, 2],
    "big bytes side by side": [b"a" * CHUNK, b"b" * (CHUNK + 1), bytearray(b"c" * 3 * CHUNK)],
    "a long run": list(range(100_000)),
    "runs around big ones": [
        list(range(40_000)),
        b"x" * 200_000,
        list(range(30_000)),
        "é" * 100_000,
        5,
    ],
    "just below": [b"x" * (CHUNK - 1)],
    "looks like a frame": [b"\x95" + (CHUNK - 9).to_bytes(8, "little") + b"x" * (CHUNK - 9)],
}


def written(value):
    sink = Sink()
    pickle.Pickler(sink, 5).dump(value)
    sink.close()
    return sink


def source_of(sink):
    data = sink.getvalue()
    positions, start = unpack_positions(data, 0)
    cuts = [memoryview(b"".join(pieces)) for pieces in sink.cuts]
    return Source(data[start:], positions, cuts)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_the_same_value_comes_back(value):
    assert pickle.Unpickler(source_of(written(value))).load() == value


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_the_same_bytes_come_back_whatever_is_asked_for(value):
    whole = io.BytesIO()
    pickle.Pickler(whole, 5).dump(value)
    assert source_of(written(value)).read() == whole.getvalue()
    source = source_of(written(value))
    parts = [
        source.read(7),
        source.read(CHUNK),
        source.read(3 * CHUNK),
        source.read(),
        source.read(5),
    ]
    assert b"".join(parts) == whole.getvalue()


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_pieces_are_chunks_and_what_is_inline_is_short(value):
    sink = written(value)
    for pieces in sink.cuts:
        assert all(len(piece) == CHUNK for piece in pieces[:-1])
        assert 0 < len(pieces[-1]) <= CHUNK
        assert sum(map(len, pieces)) >= CHUNK
    assert len(sink.getvalue()) < 4 * CHUNK
    assert sink.size == sum(len(p) for cut in sink.cuts for p in cut) + len(sink._inline)


def test_a_big_object_s_bytes_are_not_copied():
    big = bytes(10 * CHUNK)
    ((first, *_),) = written([big]).cuts
    assert first.obj is big


def test_two_pickles_after_each_other_are_read_as_two():
    sink = Sink()
    pickler = pickle.Pickler(sink, 5)
    pickler.dump(list(range(50_000)))
    pickler.dump(b"x" * CHUNK)
    sink.close()
    unpickler = pickle.Unpickler(source_of(sink))
    assert unpickler.load() == list(range(50_000))
    assert unpickler.load() == b"x" * CHUNK
