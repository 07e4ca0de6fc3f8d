"""Results of steps that are too big for a promise in, a file each out; and the same bytes back, checked.

A file is named like its step, so that all of a cell's go by the start of their names.
"""

from __future__ import annotations

import os
from pathlib import Path

from pyrepl3.errors import DurabilityError
from pyrepl3.store.packs import sync

INLINE = 32 * 1024
"""Bytes that a promise holds itself."""


class Blobs:
    """The files of one session, in ``folder``, which is made when it is needed. Methods block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, step: str, data: bytes) -> str:
        """Write ``data``, synced, whole or not at all. Returns its digest."""
        made = not self.folder.exists()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path, part = self._path(step), self.folder / f"{step}.part"
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        part.replace(path)
        sync(self.folder)
        if made:
            sync(self.folder.parent)
        return _digest(data)

    def get(self, step: str, digest: str) -> bytes:
        """What was put. Raises DurabilityError where it is gone or not what it was."""
        path = self._path(step)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DurabilityError(f"the result of step {step} is lost: {error}") from error
        if _digest(data) != digest:
            raise DurabilityError(f"the result of step {step} is damaged: {path}")
        return data

    def drop(self, cell: str) -> None:
        """Remove what the steps of a cell, by its key, have left. Never raises for the system."""
        for path in [*self.folder.glob(f"{cell}-*")]:
            try:
                path.unlink(missing_ok=True)
            except OSError:  # it costs room, no more
                continue

    def steps(self) -> list[str]:
        """The steps that have a file."""
        return [path.stem for path in self.folder.glob("*.bin")]

    def remove(self, step: str) -> None:
        """Remove the file of one step."""
        self._path(step).unlink(missing_ok=True)

    def _path(self, step: str) -> Path:
        return self.folder / f"{step}.bin"


def _digest(data: bytes) -> str:
    import hashlib  # noqa: PLC0415  loads OpenSSL, for big results only

    return hashlib.blake2b(data, digest_size=16).hexdigest()
