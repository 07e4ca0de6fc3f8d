"""``sessions ask``, ``answer`` and ``interrupt``: words in, what the session's owner says to them out."""

from __future__ import annotations

import argparse
import sys

import msgspec

from pyrepl3.engine.stored import reach_session
from pyrepl3.errors import PyREPL3Error
from pyrepl3.session.control import Answer, Interrupt, Reply, Request, Status


def run_ask(options: argparse.Namespace) -> int:
    """Print the questions of a session, oldest first. Returns the exit status."""
    reply = _reach(options, Status())
    if reply is None:
        return 2
    if options.json:
        for asked in reply.asked:
            print(msgspec.json.encode(asked).decode())
        return 0
    if not reply.asked:
        print(f"nothing is asked in session {options.name}")
    for asked in reply.asked:
        choices = f"  ({', '.join(asked.choices)})" if asked.choices else ""
        print(f"{asked.id}  {asked.prompt}{choices}")
    return 0


def run_answer(options: argparse.Namespace) -> int:
    """Answer a question. Returns the exit status."""
    reply = _reach(options, Answer(asked=options.id, value=options.value))
    return _end(options, reply, "answered")


def run_interrupt(options: argparse.Namespace) -> int:
    """Stop a cell. Returns the exit status."""
    reply = _reach(options, Interrupt(cell=options.cell))
    return _end(options, reply, "interrupted")


def _end(options: argparse.Namespace, reply: Reply | None, done: str) -> int:
    if reply is None:
        return 2
    if options.json:
        print(msgspec.json.encode({"ok": True}).decode())
    else:
        print(done)
    return 0


def _reach(options: argparse.Namespace, request: Request) -> Reply | None:
    """The reply; None: it could not be done, and stderr says why."""
    try:
        reply = reach_session(options.name, request, store=options.store)
    except (PyREPL3Error, ValueError) as error:
        print(f"pyrepl3: {error}", file=sys.stderr)
        return None
    if not reply.ok:
        print(f"pyrepl3: session {options.name}: {reply.error}", file=sys.stderr)
        return None
    return reply
