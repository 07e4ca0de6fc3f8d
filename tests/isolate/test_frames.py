"""Frames: whatever pieces they come in they are the same, and what is none is refused once and for all."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrepl3.isolate.frames import MOST_HEAD, MOST_INLINE, Frame, FrameError, Reader, header

heads = st.binary(max_size=300)
frames = st.lists(st.tuples(heads, st.binary(max_size=300), st.booleans()), max_size=8)


def written(items):
    """The bytes of frames, and what should be read from them."""
    data, expected = b"", []
    for head, parts, shared in items:
        data += header(len(head), len(parts), shared=shared) + head + (b"" if shared else parts)
        expected.append(
            Frame(head=head, parts=None if shared else parts, size=len(parts), shared=shared)
        )
    return data, expected


@given(frames, st.lists(st.integers(0, 4000), max_size=20))
def test_frames_come_out_of_any_split_of_the_stream(items, cuts):
    data, expected = written(items)
    reader, found = Reader(), []
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(places):
        found += reader.feed(data[start:end])
    assert found == expected
    assert reader.idle


@given(frames, st.binary(min_size=2, max_size=200))
def test_garbage_ends_the_stream_and_what_came_before_it_counts(items, garbage):
    data, expected = written(items)
    reader, found = Reader(), []
    if garbage.startswith(b"P3"):
        garbage = b"x" + garbage
    garbage = garbage.ljust(20, b"?")
    with pytest.raises(FrameError):
        for byte in data + garbage:
            found += reader.feed(bytes([byte]))
    assert found == expected
    with pytest.raises(FrameError):
        list(reader.feed(data))


def test_what_is_too_long_is_refused_before_it_is_held():
    for head, parts in ((MOST_HEAD + 1, 0), (0, MOST_INLINE + 1)):
        with pytest.raises(FrameError, match="allowed"):
            header(head, parts)
    good = bytearray(header(10, 0))
    good[4:8] = (MOST_HEAD + 1).to_bytes(4, "big")
    reader = Reader()
    with pytest.raises(FrameError, match="allowed"):
        list(reader.feed(bytes(good)))
    assert reader.idle


def test_another_version_and_unknown_flags_are_refused():
    for place, word in ((2, "version"), (3, "flags")):
        data = bytearray(header(0))
        data[place] = 200
        with pytest.raises(FrameError, match=word):
            list(Reader().feed(bytes(data)))
