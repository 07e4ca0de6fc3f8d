"""``pyrepl3 sessions undo | restore | fork | gc | import``: what is to change in, what has changed out.

Where another process has the session open, it is asked to do it (over its socket): it holds the lock.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from pyrepl3.engine.stored import import_session, sessions
from pyrepl3.errors import SessionExistsError, SessionInUseError
from pyrepl3.front.listing import readable_size
from pyrepl3.front.pages import epoch_name
from pyrepl3.front.past import Refusal, head_of, refusing, write_json
from pyrepl3.session.control import Change, Collect, Fork, Reply, Restore, Undo, ask_owner
from pyrepl3.session.past import check_known, find_before, make_fork

if TYPE_CHECKING:
    import argparse

    from pyrepl3.ports import Store


def run_undo(options: argparse.Namespace) -> int:
    """Go some cells back."""

    def undo(store: Store) -> Reply:
        head = head_of(store)
        target = find_before(store, head, options.n, name=options.name)
        store.move(target)
        return Reply(before=head, epoch=target)

    return _change(options, Undo(n=options.n), undo, _tell_moved)


def run_restore(options: argparse.Namespace) -> int:
    """Go to any epoch."""

    def restore(store: Store) -> Reply:
        head = head_of(store)
        check_known(store, options.epoch, name=options.name)
        store.move(options.epoch)
        return Reply(before=head, epoch=options.epoch)

    return _change(options, Restore(epoch=options.epoch), restore, _tell_moved)


def run_fork(options: argparse.Namespace) -> int:
    """Make a new session of an epoch of this one."""

    def fork(store: Store) -> Reply:
        epoch = head_of(store) if options.epoch is None else options.epoch
        make_fork(store, options.new, epoch, of=options.name)
        return Reply(epoch=epoch)

    return _change(options, Fork(name=options.new, epoch=options.epoch), fork, _tell_forked)


def run_gc(options: argparse.Namespace) -> int:
    """Drop epochs that nobody goes back to."""

    def collect(store: Store) -> Reply:
        return Reply(dropped=store.collect(keep=options.keep))

    return _change(options, Collect(keep=options.keep), collect, _tell_dropped)


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
            print(f"imported session {name}; to go on: pyrepl3 --session {name}{at_store(options)}")
    return status[0] if status else 0


def at_store(options: argparse.Namespace) -> str:
    """What a command that is proposed needs at its end to find the same store."""
    return "" if options.store is None else f" --store {quote(options.store)}"


def _change(
    options: argparse.Namespace,
    request: Change,
    here: Callable[[Store], Reply],
    tell: Callable[[argparse.Namespace, Reply], None],
) -> int:
    with refusing() as status:
        directory = sessions(options.store)
        try:
            store = directory.find(options.name)
        except SessionInUseError:
            reply = ask_owner(directory.path_of(options.name), request)
            if reply is None:  # it serves no socket
                raise
            if not reply.ok:
                raise Refusal(reply.error) from None
        else:
            try:
                reply = here(store)
            finally:
                store.close()
        tell(options, reply)
    return status[0] if status else 0


def _tell_moved(options: argparse.Namespace, reply: Reply) -> None:
    name, before, after = options.name, reply.before, reply.epoch
    if options.json:
        write_json({"name": name, "before": before, "epoch": after})
    elif before == after:
        print(f"session {name} is at {epoch_name(after)} already")
    else:
        print(
            f"session {name}: from {epoch_name(before)} to {epoch_name(after)}; nothing is deleted, "
            f"this undoes it: pyrepl3 sessions restore {name} {before}{at_store(options)}"
        )


def _tell_forked(options: argparse.Namespace, reply: Reply) -> None:
    if options.json:
        write_json({"name": options.new, "from": options.name, "epoch": reply.epoch})
    else:
        print(
            f"session {options.new} is {options.name} at {epoch_name(reply.epoch)}; "
            f"to go on there: pyrepl3 --session {options.new}{at_store(options)}"
        )


def _tell_dropped(options: argparse.Namespace, reply: Reply) -> None:
    dropped = reply.dropped
    if options.json:
        write_json(dropped)
    else:
        print(
            f"session {options.name}: dropped {dropped.epochs} "
            f"epoch{'s' * (dropped.epochs != 1)}, {readable_size(dropped.size)} given back"
        )
