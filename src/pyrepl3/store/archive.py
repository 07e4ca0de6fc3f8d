"""An open session in, one file out (a zip archive, nothing compressed); and such a file in, a session out.

The archive holds ``session.json`` (what it is), ``session.db``, the packs, and what steps of cells that are
not over came to (``durable.db`` and ``steps/``), which stays with the session's name. Nothing of it is used
before all of it was read and compared with its checksums. Values are pickles: import only what you trust.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pyrepl3.errors import StoreCorruptError, StoreError
from pyrepl3.store.line import read_all
from pyrepl3.store.making import check_name, make_session
from pyrepl3.store.packs import Packs, sync
from pyrepl3.store.schema import connect
from pyrepl3.store.trouble import ODD
from pyrepl3.store.verify import verify_all

_FORMAT = 1
_ABOUT, _DATABASE = "session.json", "session.db"
_STEPS, _BESIDE = (
    "durable.db",
    "steps",
)  # of steps that cells have made; the store knows no more of them
_BIG = re.compile(rf"{_BESIDE}/[a-z0-9-]{{1,240}}\.bin", re.ASCII)
_MEMBER = re.compile(
    rf"session\.json|session\.db|pack-\d{{6,}}|durable\.db|{_BIG.pattern}", re.ASCII
)
_DAMAGED = (zipfile.BadZipFile, EOFError, RuntimeError, KeyError, sqlite3.DatabaseError, *ODD)
_STEP = 1 << 20


@contextmanager
def copy_steps(folder: Path | None, near: Path) -> Iterator[dict[str, Path]]:
    """Copies of what the steps of a session's cells came to: the name in an archive, and a file.

    To be entered before the epochs are read: a cell that ends meanwhile is in these, and its steps are not
    asked for; the other way round they would be missing. Raises OSError, sqlite3.Error.
    """
    found: dict[str, Path] = {}
    if folder is None or not (folder / _STEPS).exists():
        yield found
        return
    with tempfile.TemporaryDirectory(prefix=f".{near.name}.", dir=near.parent) as place:
        source = sqlite3.connect(f"{(folder / _STEPS).absolute().as_uri()}?mode=ro", uri=True)
        try:
            # Not ``backup``, which waits for ever where the file is locked.
            source.execute("VACUUM INTO ?", (str(Path(place, _STEPS)),))
        finally:
            source.close()
        found[_STEPS] = Path(place, _STEPS)
        for file in (folder / _BESIDE).glob("*.bin"):
            with suppress(FileNotFoundError):  # its cell is over
                copied = shutil.copyfile(file, Path(place, file.name))
                found[f"{_BESIDE}/{file.name}"] = copied
        yield found


def write_archive(
    db: sqlite3.Connection, packs: Packs, path: Path, name: str, steps: Mapping[str, Path]
) -> None:
    """Write a whole session to ``path``, synced; nothing stands there before all of it does.

    ``steps``: what ``copy_steps`` gave.
    Raises StoreError where ``path`` exists, OSError, sqlite3.Error.
    """
    _check_free(path)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        copied, whole = Path(folder) / _DATABASE, Path(folder) / "archive"
        copy_database(db, copied)
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
            about = {"pyrepl3": "session", "format": _FORMAT, "name": name}
            archive.writestr(_ABOUT, json.dumps(about))
            archive.write(copied, _DATABASE)
            for member_name, file in steps.items():
                archive.write(file, member_name)
            for number, end in packs.ends.items():
                with archive.open(f"pack-{number:06}", "w", force_zip64=True) as member:
                    _copy_pack(packs, number, end, member)
        sync(whole)
        try:
            os.link(whole, path)  # a rename would replace what has appeared there meanwhile
        except FileExistsError:
            _check_free(path)
        except OSError:  # a file system without links
            whole.rename(path)
        sync(path.parent)


def read_archive(path: Path, root: Path, name: str | None = None) -> str:
    """Make the session in ``path`` one of those in ``root``; its name (None: the one it had).

    Raises SessionExistsError, ValueError for a name that is none, StoreCorruptError where the file is
    not what was written, StoreError where it is of another version, OSError.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if not set(archive.namelist()) >= {_ABOUT, _DATABASE}:
                raise KeyError(_ABOUT)
            about = json.loads(archive.read(_ABOUT))
            version, wanted = about["format"], check_name(name or about["name"])
            if version != _FORMAT:
                raise StoreError(
                    f"{path} is an export of another version (format {version}, this PyREPL3 reads "
                    f"{_FORMAT}): upgrade pyrepl3"
                )
            with make_session(root, wanted) as folder:
                # Two sessions share no step: under another name it begins without those of the first.
                _unpack(archive, path, folder, steps=wanted == about["name"])
                _check(folder, path)
            return wanted
    except _DAMAGED as error:
        if isinstance(error, sqlite3.OperationalError):
            raise  # the disk, not the file
        if name is not None:
            check_name(name)
        raise StoreCorruptError(
            f"{path} is no export of a session, or it is damaged: {_say(error)}; "
            "nothing was imported"
        ) from error


def copy_database(db: sqlite3.Connection, path: Path) -> None:
    """Write the database to a new file, as of now."""
    copy = sqlite3.connect(path)
    try:
        db.backup(copy)
    finally:
        copy.close()


def _copy_pack(packs: Packs, number: int, end: int, member: object) -> None:
    view = memoryview(bytearray(_STEP))
    for at in range(0, end, _STEP):
        part = view[: min(_STEP, end - at)]
        if not packs.read_into((number, at), part):
            raise StoreCorruptError(
                f"{packs.path(number)} is missing or was cut: put a backup in its place, or collect "
                "the epochs that need it"
            )
        member.write(part)  # type: ignore[attr-defined] # zipfile's own


def _say(error: Exception) -> str:
    return str(error) or type(error).__name__


def _check_free(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise StoreError(f"{path} exists: export to another file, or remove it first")


def _unpack(archive: zipfile.ZipFile, path: Path, folder: Path, *, steps: bool) -> None:
    for info in archive.infolist():
        if not _MEMBER.fullmatch(info.filename) or info.compress_type != zipfile.ZIP_STORED:
            raise StoreCorruptError(f"{path} is no export of a session: {info.filename!r} is in it")
        if info.filename == _ABOUT:
            continue
        target = folder / info.filename
        big = _BIG.fullmatch(info.filename) is not None
        if not steps and (big or info.filename == _STEPS):
            continue
        if big:
            target.parent.mkdir(mode=0o700, exist_ok=True)
        with archive.open(info) as member, target.open("xb") as file:
            shutil.copyfileobj(member, file, _STEP)  # compares the checksum at the end
        if big:
            sync(target)


def _check(folder: Path, path: Path) -> None:
    """Read the whole session, and fold its log away."""
    db, packs = connect(str(folder / _DATABASE), new=False), Packs(folder)
    try:
        packs.look(db)
        verify_all(db, packs, read_all(db, str(path)), str(path))
    finally:
        db.close()
        packs.close()
    for left in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            (folder / (_DATABASE + left)).unlink()
