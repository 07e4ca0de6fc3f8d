"""Checks that a store keeps the buffers beside its blobs: chunk by chunk, each once."""

from __future__ import annotations

import msgspec

from pyrepl3.records import CHUNK, FANOUT, Blob, Snapshot
from pyrepl3.testing.pieces import Fresh, make_buffer, make_delta, make_receipt, noise, refused


def read_buffers(snapshot: Snapshot) -> dict[str, list[bytes]]:
    """The contents of the buffers of each name."""
    found: dict[str, list[bytes]] = {}
    for blob in snapshot.blobs:
        for name in blob.names:
            if blob.buffers:
                assert snapshot.open is not None
                found[name] = [bytes(snapshot.open(buffer)) for buffer in blob.buffers]
    return found


def _buffers_of_any_size_are_given_back(fresh: Fresh) -> None:
    store = fresh()()
    sizes = (0, 1, 4095, CHUNK - 1, CHUNK, CHUNK + 1, 40 * CHUNK, 17 * CHUNK + 5)
    contents = {f"b{size}": [noise(size, size)] for size in sizes}
    contents["many"] = [noise(1, 3), b"", b"same", b"same", bytes(9 * CHUNK)]
    store.commit(make_delta(buffers=contents), make_receipt(1), parent=0)
    assert read_buffers(store.load()) == contents
    store.verify()
    store.close()


def _a_buffer_with_more_than_one_list_is_given_back(fresh: Fresh) -> None:
    store = fresh()()
    part = noise(2, CHUNK)
    content = b"".join(n.to_bytes(8, "big") + part[8:] for n in range(FANOUT + 3))
    store.commit(make_delta(buffers={"x": [content]}), make_receipt(1), parent=0)
    assert read_buffers(store.load()) == {"x": [content]}
    store.close()


def _only_chunks_that_are_not_there_need_to_come(fresh: Fresh) -> None:
    store = fresh()()
    content = noise(3, 30 * CHUNK)
    first = store.commit(make_delta(buffers={"x": [content]}), make_receipt(1), parent=0)
    changed = bytearray(content)
    changed[5 * CHUNK] ^= 1
    old, (buffer, chunks) = make_buffer(content)[1], make_buffer(bytes(changed))
    delta = msgspec.structs.replace(
        make_delta(),
        blobs=(Blob(names=("x",), data=b"p", buffers=(buffer,)),),
        chunks={digest: piece for digest, piece in chunks.items() if digest not in old},
    )
    assert len(delta.chunks) == 3  # the chunk, its list, the list of lists
    second = store.commit(delta, make_receipt(2), parent=first)
    assert read_buffers(store.load(second)) == {"x": [bytes(changed)]}
    assert read_buffers(store.load(first)) == {"x": [content]}
    again = msgspec.structs.replace(delta, chunks={})
    third = store.commit(again, make_receipt(3), parent=second)
    assert read_buffers(store.load(third)) == {"x": [bytes(changed)]}
    store.verify(third)
    store.close()


def _a_chunk_that_is_nowhere_is_refused(fresh: Fresh) -> None:
    store = fresh()()
    buffer, chunks = make_buffer(noise(4, 9 * CHUNK))
    for missing in chunks:
        delta = msgspec.structs.replace(
            make_delta(),
            blobs=(Blob(names=("x",), data=b"p", buffers=(buffer,)),),
            chunks={digest: piece for digest, piece in chunks.items() if digest != missing},
        )
        refused(lambda delta=delta: store.commit(delta, make_receipt(1), parent=0))  # type: ignore[misc] # a default binds it
    assert store.load().epoch == 0
    assert store.commit(make_delta({"y": b"1"}), make_receipt(1), parent=0) == 1
    store.close()


def _memory_that_changes_while_it_is_stored_is_refused(fresh: Fresh) -> None:
    """Else a chunk would not be what its digest says, for all epochs that have it."""
    store = fresh()()
    for size in (1000, 9 * CHUNK):
        memory = bytearray(noise(size, size))
        buffer, chunks = make_buffer(memory)
        memory[500] ^= 1  # a thread did, after it was hashed
        blob = Blob(names=("x",), data=b"p", buffers=(buffer,))
        delta = msgspec.structs.replace(make_delta(), blobs=(blob,), chunks=chunks)
        refused(lambda delta=delta: store.commit(delta, make_receipt(1), parent=0))  # type: ignore[misc] # a default binds it
        memory[500] ^= 1
    store.commit(delta, make_receipt(1), parent=0)
    assert read_buffers(store.load()) == {"x": [bytes(memory)]}
    store.verify()
    store.close()


def _what_is_written_to_a_buffer_stays_with_its_holder(fresh: Fresh) -> None:
    store = fresh()()
    content = noise(5, 40 * CHUNK + 7)
    store.commit(make_delta(buffers={"x": [content]}), make_receipt(1), parent=0)
    snapshot = store.load()
    assert snapshot.open is not None
    ((buffer,),) = (blob.buffers for blob in snapshot.blobs)
    mine, other = snapshot.open(buffer), snapshot.open(buffer)
    assert (mine.format, mine.ndim, len(mine), mine.readonly) == ("B", 1, len(content), False)
    mine[0] ^= 255
    mine[33 * CHUNK] ^= 255
    mine[-1] ^= 255
    assert bytes(other) == content
    assert read_buffers(store.load()) == {"x": [content]}
    store.verify()
    expected = bytes(mine)
    store.close()
    assert bytes(mine) == expected, "what was opened lasts longer than the store"
    assert bytes(other) == content
    refused(lambda: snapshot.open and snapshot.open(buffer), Exception)


def _buffers_are_there_after_closing(fresh: Fresh) -> None:
    place = fresh()
    store = place()
    content = {"x": [noise(6, 20 * CHUNK)], "y": [noise(7, 100)]}
    store.commit(make_delta(buffers=content), make_receipt(1), parent=0)
    store.close()
    store = place()
    store.verify()
    assert read_buffers(store.load()) == content
    store.close()


ALWAYS = (
    _buffers_of_any_size_are_given_back,
    _a_buffer_with_more_than_one_list_is_given_back,
    _only_chunks_that_are_not_there_need_to_come,
    _a_chunk_that_is_nowhere_is_refused,
    _memory_that_changes_while_it_is_stored_is_refused,
    _what_is_written_to_a_buffer_stays_with_its_holder,
)
DURABLE = (_buffers_are_there_after_closing,)
