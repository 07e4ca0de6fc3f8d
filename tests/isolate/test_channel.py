"""A channel: messages with many bytes beside them, and no trust in what the other end sends."""

from __future__ import annotations

import array
import mmap
import os
import select
import signal
import socket
import sys
import threading

import pytest

from pyrepl3.isolate.channel import SHARE_FROM, SHARES, Channel
from pyrepl3.isolate.frames import FrameError, header

needs_shared = pytest.mark.skipif(not SHARES, reason="no sealed memory files here")


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    channels = Channel(ours, blocking=True), Channel(theirs, blocking=True)
    yield channels
    for channel in channels:
        channel.close()


@pytest.mark.parametrize("size", [0, 10, SHARE_FROM, 3 * SHARE_FROM + 1])
def test_parts_arrive_one_after_the_other(pair, size):
    near, far = pair
    parts = [os.urandom(size), memoryview(os.urandom(size)), bytearray(b"end")]
    assert near.send(b"head", parts)
    [(head, found)] = far.receive()
    assert head == b"head"
    assert bytes(found) == b"".join(map(bytes, parts))


@needs_shared
def test_many_parts_go_by_shared_memory_and_are_the_reader_s_own(pair):
    near, far = pair
    near.send(b"", [b"x" * SHARE_FROM])
    [(_, found)] = far.receive()
    assert isinstance(found.obj, mmap.mmap)
    found[:3] = b"abc"
    assert bytes(found[:4]) == b"abcx"


def hand_over(sock, data, fds):
    """Send bytes with file descriptors."""
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


@needs_shared
def test_memory_that_can_shrink_under_the_reader_is_refused(pair):
    near, far = pair
    fd = os.memfd_create("soft", os.MFD_ALLOW_SEALING)
    os.write(fd, b"x" * 100)
    hand_over(near.sock, header(0, 100, shared=True), [fd])
    with pytest.raises(FrameError, match="not sealed"):
        list(far.receive())
    os.close(fd)


@needs_shared
def test_what_is_no_shared_memory_or_of_another_size_is_refused(pair, tmp_path):
    near, far = pair
    with (tmp_path / "file").open("wb") as file:
        file.write(b"x" * 100)
        file.flush()
        hand_over(near.sock, header(0, 100, shared=True), [file.fileno()])
        with pytest.raises(FrameError):
            list(far.receive())


@needs_shared
def test_a_message_without_its_memory_and_memory_without_a_message_are_refused(pair):
    near, far = pair
    near.sock.send(header(0, 100, shared=True))
    with pytest.raises(FrameError, match="did not come"):
        list(far.receive())
    other = Channel(far.sock, blocking=True)
    hand_over(near.sock, b"P", [0, 1, 2, 0, 1, 2])
    with pytest.raises(FrameError, match="descriptors"):
        list(other.receive())


def test_a_closed_end_is_the_end(pair):
    near, far = pair
    near.close()
    with pytest.raises(EOFError):
        list(far.receive())


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_child_of_the_process_leaves_the_channel_to_its_parent(pair):
    near, far = pair
    number = near.fileno()
    near.leave()
    near.leave()  # in a child of that child: a daemon forks twice
    with pytest.raises(BrokenPipeError):
        near.send(b"from the child")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    assert far.fileno() >= 0


def test_what_a_signal_handler_sends_in_the_midst_of_a_message_comes_after_it(pair):
    near, far = pair
    big, read, handled = b"x" * 4_000_000, [], threading.Event()
    main = threading.get_ident()

    def handle(*_):
        near.send(b"small")
        handled.set()

    def receive():
        select.select([far.sock], [], [])  # some of it is here, and the rest does not fit
        signal.pthread_kill(main, signal.SIGALRM)
        handled.wait()
        while len(read) < 2:
            read.extend(bytes(head) for head, _ in far.receive())

    reader = threading.Thread(target=receive)
    before = signal.signal(signal.SIGALRM, handle)
    try:
        reader.start()
        near.send(big)  # it waits for the reader, who waits for the signal
        reader.join()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert read == [big, b"small"]
