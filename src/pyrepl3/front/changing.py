"""``pyrepl3 sessions undo | restore | fork | gc | import``: a session's store in, the same one changed out.

These take the session's lock: where another process has it open they say by whom, and change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from pyrepl3.engine import import_session, sessions
from pyrepl3.errors import SessionExistsError, SessionInUseError
from pyrepl3.front.listing import readable_size
from pyrepl3.front.pages import epoch_name
from pyrepl3.front.past import Refusal, head_of, refusing, write_json
from pyrepl3.session.past import check_known, find_before, make_fork

if TYPE_CHECKING:
    import argparse

    from pyrepl3.ports import Store


def run_undo(options: argparse.Namespace) -> int:
    """Go some cells back."""

    def undo(store: Store) -> None:
        head = head_of(store)
        target = find_before(store, head, options.n, name=options.name)
        store.move(target)
        _tell_moved(options, head, target)

    return _changing(options, undo, "undo")


def run_restore(options: argparse.Namespace) -> int:
    """Go to any epoch."""

    def restore(store: Store) -> None:
        head = head_of(store)
        check_known(store, options.epoch, name=options.name)
        store.move(options.epoch)
        _tell_moved(options, head, options.epoch)

    return _changing(options, restore, "restore")


def run_fork(options: argparse.Namespace) -> int:
    """Make a new session of an epoch of this one."""

    def fork(store: Store) -> None:
        epoch = options.epoch
        if epoch is None:
            epoch = head_of(store)
        make_fork(store, options.new, epoch, of=options.name)
        if options.json:
            write_json({"name": options.new, "from": options.name, "epoch": epoch})
        else:
            print(
                f"session {options.new} is {options.name} at {epoch_name(epoch)}; "
                f"to go on there: pyrepl3 --session {options.new}" + at_store(options)
            )

    return _changing(options, fork, "fork")


def run_gc(options: argparse.Namespace) -> int:
    """Drop epochs that nobody goes back to."""

    def collect(store: Store) -> None:
        found = store.collect(keep=options.keep)
        if options.json:
            write_json(found)
        else:
            print(
                f"session {options.name}: dropped {found.epochs} "
                f"epoch{'s' * (found.epochs != 1)}, {readable_size(found.size)} given back"
            )

    return _changing(options, collect, "gc")


def run_import(options: argparse.Namespace) -> int:
    """Make a session of an exported file."""
    with refusing() as status:
        try:
            name = import_session(Path(options.file), options.name, store=options.store)
        except SessionExistsError as error:
            raise Refusal(
                f"{error}: pyrepl3 sessions import {quote(options.file)} NEW-NAME"
            ) from error
        if options.json:
            write_json({"name": name, "file": options.file})
        else:
            print(
                f"imported session {name}; to go on: pyrepl3 --session {name}" + at_store(options)
            )
    return status[0] if status else 0


def _tell_moved(options: argparse.Namespace, before: int, after: int) -> None:
    if options.json:
        write_json({"name": options.name, "before": before, "epoch": after})
    elif before == after:
        print(f"session {options.name} is at {epoch_name(after)} already")
    else:
        print(
            f"session {options.name}: from {epoch_name(before)} to {epoch_name(after)}; nothing is "
            f"deleted, this undoes it: pyrepl3 sessions restore {options.name} {before}"
            + at_store(options)
        )


def at_store(options: argparse.Namespace) -> str:
    """What a command that is proposed needs at its end to find the same store."""
    return "" if options.store is None else f" --store {quote(options.store)}"


def _changing(options: argparse.Namespace, action: Callable[[Store], None], command: str) -> int:
    with refusing() as status:
        try:
            store = sessions(options.store).find(options.name)
        except SessionInUseError as error:
            who = f"pid {error.pid}" if error.pid else "another process"
            raise Refusal(
                f"session {options.name!r} is in use by {who}; write %{command} at its prompt, or "
                "close it there"
            ) from error
        try:
            action(store)
        finally:
            store.close()
    return status[0] if status else 0
