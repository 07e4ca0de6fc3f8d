"""A Store in memory, which fails when told to: what tests of a session use instead of files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from pyrepl3.errors import SessionClosedError, SessionExistsError, StoreError
from pyrepl3.records import Blob, Buffer, Collected, Delta, Epoch, KeptName, Receipt, Snapshot

type _Method = Literal["load", "move", "audited", "fork", "collect", "export", "verify"]


class FakeStore:
    """A Store in memory, which fails when told to. ``again()`` opens what it holds, as after a crash.

    ``fail_commit("before")`` makes the next commit raise StoreError with nothing stored, ``"after"``
    with the epoch stored; ``fail("move")`` the next call of another method. What ``export`` writes can
    not be imported. Any thread.
    """

    def __init__(self) -> None:
        self.commits: dict[int, tuple[int, Delta, Receipt]] = {}
        """By number: the parent, the change, the record."""
        self.forks: dict[str, FakeStore] = {}
        self.closed = False
        self._chunks: dict[bytes, bytes] = {}
        self._audited: set[int] = set()
        self._sizes: dict[int, int] = {}
        self._heads = [0]  # shared, as all above, with the stores that ``again`` gives
        self._count = [0, 0]  # the highest cell count, the last number
        self._commit_fails: Literal["before", "after"] | None = None
        self._fails: set[str] = set()

    def again(self) -> FakeStore:
        """A store on the same epochs. This one is closed, whoever had it."""
        self.close()
        store = FakeStore()
        store.commits, store.forks, store._chunks = self.commits, self.forks, self._chunks
        store._audited, store._heads, store._count = self._audited, self._heads, self._count
        store._sizes = self._sizes
        return store

    def fail_commit(self, when: Literal["before", "after"]) -> None:
        """Let the next commit raise, before or after it has stored the epoch."""
        self._commit_fails = when

    def fail_load(self) -> None:
        """Let the next load raise."""
        self.fail("load")

    def fail_move(self) -> None:
        """Let the next move raise."""
        self.fail("move")

    def fail(self, method: _Method) -> None:
        """Let the next call of a method raise."""
        self._fails.add(method)

    def commit(self, delta: Delta, receipt: Receipt, *, parent: int) -> int:
        """Store the epoch after ``parent`` and make it the head. Returns its number."""
        self._check("commit")
        when, self._commit_fails = self._commit_fails, None
        if when == "before":
            raise StoreError("told to fail before the commit")
        self._line(parent)
        own = {digest: _settle(digest, piece) for digest, piece in delta.chunks.items()}
        chunks = self._chunks | own
        for blob in delta.blobs:
            for buffer in blob.buffers:
                _join(chunks, buffer)
        self._chunks.update(own)
        self._count[:] = max(self._count[0], receipt.cell.n), self._count[1] + 1
        epoch = self._count[1]
        self.commits[epoch] = (parent, msgspec.structs.replace(delta, chunks=own), receipt)
        self._sizes[epoch] = delta.size
        if delta.audited:
            self._audited.add(epoch)
        self._heads.append(epoch)
        if when == "after":
            raise StoreError("told to fail after the commit")
        return epoch

    def load(self, epoch: int | None = None) -> Snapshot:
        """The namespace as of ``epoch``."""
        self._check("load")
        number = self._heads[-1] if epoch is None else epoch
        state = self._state(number)
        return Snapshot(
            epoch=number,
            count=self._count[0],
            blobs=state.blobs,
            lost=state.lost,
            engine=state.engine,
            open=self._open if any(blob.buffers for blob in state.blobs) else None,
            audited=not number or number in self._audited,
        )

    def names(self, epoch: int | None = None) -> Mapping[str, KeptName]:
        """Each name as of ``epoch`` with what is known of it."""
        self._check("names")
        found: dict[str, KeptName] = {}
        for each in self._line(self._heads[-1] if epoch is None else epoch):
            delta = self.commits[each][1]
            for name in delta.deleted:
                found.pop(name, None)
            found |= {name: KeptName(epoch=each, lost=why) for name, why in delta.lost.items()}
            for blob in delta.blobs:
                size = len(blob.data) + sum(buffer.size for buffer in blob.buffers)
                for name in blob.names:
                    told = KeptName(epoch=each, size=size, text=delta.reprs.get(name, ""))
                    if name in delta.same and name in found:
                        told = msgspec.structs.replace(told, epoch=found[name].epoch)
                    found[name] = told
        return found

    def history(self, epoch: int | None = None) -> Sequence[Epoch]:
        """The line of epochs that leads to ``epoch``, oldest first."""
        self._check("history")
        return self._tell(self._line(self._heads[-1] if epoch is None else epoch))

    def epochs(self) -> Sequence[Epoch]:
        """All epochs, by number."""
        self._check("epochs")
        return self._tell(sorted(self.commits))

    def move(self, epoch: int) -> None:
        """Make ``epoch`` the head."""
        self._check("move")
        self._line(epoch)
        self._heads.append(epoch)

    def audited(self, epoch: int) -> None:
        """Mark ``epoch`` as audited."""
        self._check("audited")
        self._line(epoch)
        self._audited.add(epoch)

    def verify(self, epoch: int | None = None) -> None:
        """Nothing is ever damaged here; raises for an epoch that is not there."""
        self._check("verify")
        self._line(epoch or 0)

    def fork(self, name: str, epoch: int | None = None) -> FakeStore:
        """A new store, found in ``forks``, with the line to ``epoch``."""
        self._check("fork")
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", name):
            raise ValueError(f"{name!r} cannot name a session")
        if name in self.forks:
            raise SessionExistsError(name, "this fake")
        line = self._line(self._heads[-1] if epoch is None else epoch)
        store = self.forks[name] = FakeStore()
        store.commits = {each: self.commits[each] for each in line}
        store._chunks = dict(self._chunks)
        store._audited = self._audited & set(line)
        store._count, store._sizes = list(self._count), dict(self._sizes)
        store._heads.append(line[-1] if line else 0)
        return store

    def collect(self, *, keep: int | None = None) -> Collected:
        """Drop epochs off the line, and all of the line but the last ``keep``."""
        self._check("collect")
        if keep is not None and keep < 1:
            raise ValueError(f"keep at least one epoch, not {keep}")
        line = self._line(self._heads[-1])
        kept = line if keep is None else line[-keep:]
        if len(kept) < len(line):
            reprs = {name: each.text for name, each in self.names(kept[0]).items()}
            whole = msgspec.structs.replace(self._state(kept[0]), reprs=reprs)
            self.commits[kept[0]] = (0, whole, self.commits[kept[0]][2])
        dropped = self.commits.keys() - set(kept)
        for each in dropped:
            del self.commits[each]
        return Collected(epochs=len(dropped))

    def export(self, path: Path) -> None:
        """Write a file that stands for the session."""
        self._check("export")
        try:
            with path.open("x") as file:
                file.write(f"{len(self.commits)} epochs of a fake\n")
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}") from error

    def close(self) -> None:
        """Let go; the epochs stay for ``again``."""
        self.closed = True

    # --- inside -------------------------------------------------------------------------------

    def _check(self, method: str) -> None:
        if self.closed:
            raise SessionClosedError("the store is closed")
        if method in self._fails:
            self._fails.discard(method)
            raise StoreError(f"told to fail: {method}")

    def _open(self, buffer: Buffer) -> memoryview:
        self._check("open")
        return memoryview(bytearray(_join(self._chunks, buffer)))

    def _tell(self, numbers: Sequence[int]) -> list[Epoch]:
        found = []
        for number in numbers:
            parent, delta, receipt = self.commits[number]
            found.append(
                Epoch(
                    epoch=number,
                    parent=parent,
                    receipt=receipt,
                    size=self._sizes[number],
                    stored=frozenset(name for blob in delta.blobs for name in blob.names),
                    same=delta.same,
                    deleted=delta.deleted,
                    lost=delta.lost,
                    audited=number in self._audited,
                )
            )
        return found

    def _state(self, number: int) -> Delta:
        """The whole state as of an epoch, as if one delta had made it."""
        line = self._line(number)
        homes: dict[str, int] = {}
        lost: dict[str, str] = {}
        engine = b""
        for each in line:
            _, delta, _ = self.commits[each]
            for name in (*delta.deleted, *delta.lost):
                homes.pop(name, None)
                lost.pop(name, None)
            lost |= delta.lost
            for blob in delta.blobs:
                for name in blob.names:
                    homes[name] = id(blob)
                    lost.pop(name, None)
            engine = delta.engine
        blobs = tuple(
            Blob(names=names, data=blob.data, buffers=blob.buffers)
            for each in line
            for blob in self.commits[each][1].blobs
            if (names := tuple(name for name in blob.names if homes.get(name) == id(blob)))
        )
        return Delta(blobs=blobs, lost=lost, engine=engine)

    def _line(self, epoch: int) -> list[int]:
        line: list[int] = []
        while epoch:
            if epoch not in self.commits:
                raise StoreError(f"no epoch {epoch}")
            line.append(epoch)
            epoch = self.commits[epoch][0]
        return line[::-1]


def _join(chunks: Mapping[bytes, bytes], buffer: Buffer) -> bytes:
    """The contents of a buffer; StoreError where a chunk or list is not there."""
    try:
        digests = [buffer.root]
        for _ in range(2):  # from the list of lists to the chunks
            joined = b"".join(chunks[digest] for digest in digests)
            digests = [joined[n : n + 32] for n in range(0, len(joined), 32)]
        return b"".join(chunks[digest] for digest in digests)
    except KeyError as error:
        raise StoreError("a chunk is neither in the delta nor in the store") from error


def _settle(digest: bytes, piece: bytes | memoryview) -> bytes:
    from blake3 import blake3  # noqa: PLC0415 - for sessions with buffers only

    data = bytes(piece)
    if blake3(data).digest() != digest:
        raise StoreError("a value changed while it was being stored")
    return data
