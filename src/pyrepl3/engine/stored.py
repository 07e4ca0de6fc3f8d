"""A store's directory in; its sessions out: listed, exported, imported, reached where they are open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyrepl3.durable.promises import Promises
    from pyrepl3.ports import Durability
    from pyrepl3.session.control import Reply, Request
    from pyrepl3.store.directory import SessionDirectory
    from pyrepl3.store.directory import SessionInfo as SessionInfo  # noqa: PLC0414 - front ends too


def sessions(store: Path | str | None = None) -> SessionDirectory:
    """The directory that holds sessions: to list and remove them. None: the user's data directory."""
    from pyrepl3.store.directory import SessionDirectory  # noqa: PLC0415  sqlite3 loads with it

    return SessionDirectory(None if store is None else Path(store))


def export_session(name: str, path: Path | str, *, store: Path | str | None = None) -> None:
    """Write session ``name`` of a store to ``path``, a single file that must not exist yet.

    As it is now: somebody may have it open. Blocks. Raises SessionNotFoundError, StoreError, ValueError
    for a name that is none.
    """
    sessions(store).export(name, Path(path))


def import_session(
    path: Path | str, name: str | None = None, *, store: Path | str | None = None
) -> str:
    """Add the session that ``path`` was exported from to a store. Returns its name (None: as it was).

    Blocks; every byte is checked before anything is added. The file holds pickles: import only what
    you trust. Raises SessionExistsError where the name is taken, StoreCorruptError where the file is
    damaged or none of ours, StoreError, ValueError for a name that is none.
    """
    return sessions(store).take_in(Path(path), name)


_DURABLE = "durable.db"


def open_durability(name: str, folder: Path, resonate: str | None = None) -> Durability:
    """What keeps the steps of session ``name`` in its directory, or on a server.

    It opens nothing before the first step.
    """
    from pyrepl3.durable.steps import ResonateDurability  # noqa: PLC0415  kept sessions only

    def connect() -> Promises:
        if resonate is not None:
            from pyrepl3.durable.remote import RemotePromises, connect_to  # noqa: PLC0415

            return RemotePromises(connect_to(resonate))
        from pyrepl3.durable.embedded import Embedded  # noqa: PLC0415  the first step
        from pyrepl3.durable.local import LocalPromises  # noqa: PLC0415

        return LocalPromises(Embedded(folder / _DURABLE))

    def identity() -> str:
        if resonate is None:
            return ""  # it has a file of its own
        from pyrepl3.durable.remote import identity_of  # noqa: PLC0415

        return identity_of(folder)

    return ResonateDurability(connect, name=name, folder=folder / "steps", identity=identity)


def reach_session(name: str, request: Request, *, store: Path | str | None = None) -> Reply:
    """Have ``request`` done by whichever process has session ``name`` open, or here if none has. Blocks.

    Where none has it, questions can be seen and answered, and there is no cell to stop. Raises
    SessionNotFoundError, SessionInUseError where the owner serves no socket, SessionError where it does not
    answer, DurabilityError, StoreError, ValueError for a name that is none.
    """
    from pyrepl3.session.control import ask_owner  # noqa: PLC0415  commands only
    from pyrepl3.session.offline import reply_offline  # noqa: PLC0415

    directory = sessions(store)
    folder = directory.path_of(name)
    reply = ask_owner(folder, request)
    if reply is not None:
        return reply
    opened = directory.find(name)  # and locked
    try:
        durability = open_durability(name, folder) if (folder / _DURABLE).exists() else None
        try:
            return reply_offline(request, durability, count=opened.load(0).count, epoch=opened.head)
        finally:
            if durability is not None:
                durability.aclose().result()
    finally:
        opened.close()
