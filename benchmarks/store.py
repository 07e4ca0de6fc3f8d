"""What the store costs by itself, without objects or pickles: commits, mapping, verifying, collecting.

Deltas are made beforehand (hashing is the snapshot's part). The disk is what is measured: that of TMPDIR.
"""

from __future__ import annotations

import mmap
import os
import statistics
import tempfile
from pathlib import Path

import msgspec

from benchmarks.measure import clock
from benchmarks.report import Report, Row
from pyrepl3.records import CHUNK, Blob, Delta
from pyrepl3.store.sqlite import SqliteStore
from pyrepl3.testing.pieces import make_buffer, make_delta, make_receipt

MiB = 1024 * 1024


def fill(size: int) -> memoryview:
    """Bytes of which no two chunks are alike."""
    memory = memoryview(mmap.mmap(-1, size))
    for at in range(0, size, CHUNK):
        memory[at : at + 8] = at.to_bytes(8, "big")
    return memory


def with_buffer(content: memoryview) -> Delta:
    buffer, chunks = make_buffer(content)
    return Delta(blobs=(Blob(names=("x",), data=b"p" * 200, buffers=(buffer,)),), chunks=chunks)


def raw_sync(folder: Path, rows: list[Row]) -> None:
    """What the disk takes for an append of 4 KiB and a sync, and for 64 MiB."""
    times = []
    with (folder / "raw").open("wb", buffering=0) as file:
        for _ in range(100):
            begun = clock()
            file.write(bytes(4096))
            os.fdatasync(file)
            times.append(clock() - begun)
        rows.append(Row("disk: append 4 KiB, fdatasync", times))
        times = []
        for _ in range(5):
            begun = clock()
            file.write(os.urandom(1) * (64 * MiB))
            os.fdatasync(file)
            times.append(clock() - begun)
        rows.append(
            Row(
                "disk: append 64 MiB, fdatasync",
                times,
                f"{64 / statistics.median(times):.0f} MiB/s",
            )
        )
    (folder / "raw").unlink()


def small(folder: Path, rows: list[Row], cells: int = 1000) -> None:
    store = SqliteStore(folder / "small")
    at, times = 0, []
    for n in range(cells):
        delta = make_delta({f"n{n % 40}": b"v" * 300}, engine=b"e%d" % (n // 50))
        receipt = make_receipt(n)
        begun = clock()
        at = store.commit(delta, receipt, parent=at)
        times.append(clock() - begun)
    rows.append(
        Row("commit of a small cell", times, f"p99 {sorted(times)[cells * 99 // 100] * 1e3:.2f} ms")
    )
    store.close()


def big(folder: Path, rows: list[Row]) -> None:
    content = fill(1024 * MiB)
    delta = with_buffer(content)
    store = SqliteStore(folder / "big")
    begun = clock()
    first = store.commit(delta, make_receipt(1), parent=0)
    took = clock() - begun
    rows.append(Row("commit of a new buffer of 1 GiB", [took], f"{1024 / took:.0f} MiB/s"))

    known, times, at = set(delta.chunks), [], first
    for n in range(40):
        content[(n * 397 % 16384) * CHUNK + 77] = n + 1
        whole = with_buffer(content)
        new = {digest: data for digest, data in whole.chunks.items() if digest not in known}
        known |= new.keys()
        change = msgspec.structs.replace(whole, chunks=new)
        begun = clock()
        at = store.commit(change, make_receipt(n + 2), parent=at)
        times.append(clock() - begun)
    rows.append(Row("commit of one changed chunk of 1 GiB", times))
    store.close()

    for what, epoch in (("as it was written", first), ("after 40 changes", None)):
        times = []
        for _ in range(5):
            begun = clock()
            store = SqliteStore(folder / "big")
            snapshot = store.load(epoch)
            assert snapshot.open is not None
            view = snapshot.open(snapshot.blobs[0].buffers[0])
            times.append(clock() - begun)
            assert len(view) == 1024 * MiB
            store.close()
        rows.append(Row(f"open, load, map 1 GiB, {what}", times))
    store = SqliteStore(folder / "big")
    begun = clock()
    store.verify()
    took = clock() - begun
    rows.append(Row("verify 1 GiB", [took], f"{1024 / took:.0f} MiB/s"))
    begun = clock()
    store.fork("fork").close()
    rows.append(Row("fork it", [clock() - begun]))
    begun = clock()
    store.collect(keep=1)
    rows.append(Row("collect, 40 of 41 epochs", [clock() - begun]))
    store.close()


def array(folder: Path, rows: list[Row]) -> None:
    times = []
    for n in range(5):
        delta = with_buffer(fill(200 * MiB))
        store = SqliteStore(folder / f"array{n}")
        begun = clock()
        store.commit(delta, make_receipt(1), parent=0)
        times.append(clock() - begun)
        store.close()
    rows.append(
        Row(
            "commit of a new buffer of 200 MiB",
            times,
            f"{200 / statistics.median(times):.0f} MiB/s",
        )
    )


def run(report: Report, *, quick: bool) -> None:
    """``quick``: small cells alone, fewer."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="pyrepl3-bench-") as name:
        folder = Path(name)
        raw_sync(folder, rows)
        small(folder, rows, cells=200 if quick else 1000)
        if not quick:
            array(folder, rows)
            big(folder, rows)
    report.rows("The store by itself", rows)
