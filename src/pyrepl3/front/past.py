"""``pyrepl3 sessions log | show | diff | verify | export``: what a session's store holds in, text or JSON.

These read only, and so they work while another process has the session open.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pyrepl3.engine.stored import sessions
from pyrepl3.errors import PyREPL3Error
from pyrepl3.front.console import Console
from pyrepl3.front.listing import readable_size
from pyrepl3.front.pages import difference_page, epoch_name, epoch_page, find_epoch, names_page
from pyrepl3.front.timeline import draw, marks_for
from pyrepl3.session.past import find_difference, find_log

if TYPE_CHECKING:
    import argparse

    from pyrepl3.ports import Reader
    from pyrepl3.records import Difference, Epoch, KeptName, LogEntry

USAGE = 2


class Refusal(Exception):  # noqa: N818 - it is told, and ends the command
    """What was asked cannot be done; the text says why."""


def run_log(options: argparse.Namespace) -> int:
    """Print the timeline of a session."""

    def log(store: Reader) -> None:
        entries = find_log(store, head_of(store))
        if options.json:
            for entry in entries:
                write_json(entry)
            return
        console = open_console(options.color)
        if not entries:
            console.out(f"session {options.name} is empty\n")
        else:
            show_log(console, entries)

    return reading(options, log)


def run_show(options: argparse.Namespace) -> int:
    """Print what a session holds, or one of its epochs."""

    def show(store: Reader) -> None:
        console = open_console(options.color)
        if options.what is None:
            head, names = head_of(store), store.names()
            if options.json:
                write_json({"name": options.name, "epoch": head, "names": dict(names)})
            else:
                show_names(console, options.name, head, names)
            return
        epochs = store.epochs()
        epoch = find_epoch(epochs, options.what)
        if epoch is None:
            raise Refusal(unknown(options.name, options.what, epochs))
        entry = next(e for e in find_log(store, head_of(store)) if e.epoch == epoch.epoch)
        values = find_difference(store, None, epoch.epoch, name=options.name)
        if options.json:
            write_json({"entry": entry, "receipt": epoch.receipt, "changes": values})
        else:
            show_epoch(console, epoch, entry, values)

    return reading(options, show)


def run_diff(options: argparse.Namespace) -> int:
    """Print how two epochs differ."""

    def diff(store: Reader) -> None:
        before, after = options.before, options.after
        if after is None:
            after = head_of(store)
        found = find_difference(store, before, after, name=options.name)
        if options.json:
            write_json(found)
        else:
            show_difference(open_console(options.color), found)

    return reading(options, diff)


def run_export(options: argparse.Namespace) -> int:
    """Write a session to one file."""

    def export(store: Reader) -> None:
        path = Path(options.file)
        store.export(path)
        size = path.stat().st_size
        if options.json:
            write_json({"name": options.name, "file": os.fspath(path), "size": size})
        else:
            print(
                f"wrote session {options.name} to {path} ({readable_size(size)}); "
                f"elsewhere: pyrepl3 sessions import {path.name}"
            )

    return reading(options, export)


def run_verify(options: argparse.Namespace) -> int:
    """Compare all that a session has stored with its checksums."""

    def verify(store: Reader) -> None:
        store.verify()
        count = len(store.epochs())
        if options.json:
            write_json({"name": options.name, "epochs": count})
        else:
            print(f"session {options.name}: all of {count} epoch{'s' * (count != 1)} is as written")

    return reading(options, verify)


# --- text, also for the prompt --------------------------------------------------------------------


def show_log(console: Console, entries: tuple[LogEntry, ...]) -> None:
    """The timeline, a line an epoch."""
    marks = marks_for(console.encoding)
    lines = draw(entries, width=console.width, marks=marks, paint=console.paint)
    console.out("\n".join(lines) + "\n")


def show_names(console: Console, name: str, epoch: int, names: dict[str, KeptName] | Any) -> None:
    """What a session holds."""
    lines = [f"session {name}, at {epoch_name(epoch)}"]
    lines += names_page(names, paint=console.paint, width=console.width) or ["it holds no names"]
    console.out("\n".join(lines) + "\n")


def show_epoch(console: Console, epoch: Epoch, entry: LogEntry, values: Difference) -> None:
    """One cell as it ran."""
    lines = epoch_page(epoch, entry, values, paint=console.paint, width=console.width)
    console.out("\n".join(lines) + "\n")


def show_difference(console: Console, difference: Difference) -> None:
    """What differs."""
    lines = difference_page(difference, paint=console.paint, width=console.width)
    console.out("\n".join(lines) + "\n")


def unknown(name: str, word: str, epochs: Any) -> str:
    """What to say where ``word`` is neither an epoch nor a cell."""
    numbers = [epoch.epoch for epoch in epochs]
    there = f"epochs {numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else "one epoch"
    if not numbers:
        there = "no epochs yet"
    return (
        f"session {name} has no epoch or cell {word!r}; it has {there}; "
        "write a number from the log, or c7 for the seventh cell"
    )


# --- pieces ---------------------------------------------------------------------------------------


def open_console(color: str) -> Console:
    """A console with the colours that ``--color`` asks for."""
    choice = {"always": "1", "never": "0"}.get(color)
    return Console(environ={**os.environ, **({"PYTHON_COLORS": choice} if choice else {})})


def head_of(store: Reader) -> int:
    """The epoch that a store is at; 0 where it is empty."""
    line = store.history()
    return line[-1].epoch if line else 0


def write_json(value: Any) -> None:
    """One object as a line of JSON."""
    print(msgspec.json.encode(value, enc_hook=str).decode())


@contextmanager
def refusing() -> Iterator[list[int]]:
    """What is raised inside is told in one line, and the status is appended."""
    status: list[int] = []
    try:
        yield status
    except (PyREPL3Error, Refusal, ValueError) as error:
        print(f"pyrepl3: {error}", file=sys.stderr)
        status.append(USAGE)


def reading(options: argparse.Namespace, action: Callable[[Reader], None]) -> int:
    """Give the store of the session that is named to ``action``. Returns the exit status."""
    with refusing() as status:
        store = sessions(options.store).read(options.name)
        try:
            action(store)
        finally:
            store.close()
    return status[0] if status else 0
