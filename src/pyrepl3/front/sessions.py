"""Words after ``pyrepl3 sessions`` in, the command they name and its options out.

A command is an entry of ``COMMANDS``: what it takes, what it says of itself, and which function of which
module runs it. That module is loaded when its command is used.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import msgspec

from pyrepl3.front.arguments import Formatter, Parser


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One command: ``run`` is ``"module:function"`` of this package, called with the options."""

    about: str
    run: str
    add: Callable[[argparse.ArgumentParser], object] = lambda _: None
    writes: bool = False


def _names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME", help="what to remove")


COMMANDS: Mapping[str, Command] = {
    "list": Command(about="the sessions that are kept (default)", run="listing:run_list"),
    "rm": Command(about="remove sessions", run="listing:run_remove", add=_names, writes=True),
}

_EXAMPLES = """\
examples:
  pyrepl3 sessions
  pyrepl3 sessions rm demo
"""


def run_sessions(words: list[str]) -> int:
    """Run the command that ``words`` name. Returns the exit status; argparse ends bad usage itself."""
    options = parse_sessions(words)
    module, _, function = COMMANDS[options.action].run.partition(":")
    status: int = getattr(import_module(f"pyrepl3.front.{module}"), function)(options)
    return status


def parse_sessions(words: list[str]) -> argparse.Namespace:
    """The options of ``pyrepl3 sessions``; ``action`` is the name of the command."""
    parser = Parser(
        prog="pyrepl3 sessions",
        usage="pyrepl3 sessions [options] [COMMAND] [NAME ...]",
        description="Look at the sessions that are kept, and change them.",
        epilog=_EXAMPLES,
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    _add_common(parser, store=None, as_json=False, color="auto")
    parser.set_defaults(action="list")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", prog=parser.prog)
    for name, command in COMMANDS.items():
        each = commands.add_parser(
            name,
            help=command.about,
            description=command.about[0].upper() + command.about[1:] + ".",
            formatter_class=Formatter,
            allow_abbrev=False,
        )
        command.add(each)
        # Given after the command they replace those before it, and else are not there.
        _add_common(
            each, store=argparse.SUPPRESS, as_json=argparse.SUPPRESS, color=argparse.SUPPRESS
        )
        each.set_defaults(action=name)
    _explain_unknown(parser, words)
    options = parser.parse_args(words)
    if options.store is not None:
        options.store = os.path.abspath(options.store)  # noqa: PTH100  start-up time
    return options


def _add_common(parser: argparse.ArgumentParser, *, store: Any, as_json: Any, color: Any) -> None:
    parser.add_argument(
        "--store",
        metavar="PATH",
        default=store,
        help="directory of kept sessions (default: $PYREPL3_STORE, else the user's data directory)",
    )
    parser.add_argument(
        "--json", action="store_true", default=as_json, help="print JSON, one object a line"
    )
    parser.add_argument(
        "--color",
        choices=["auto", "always", "never"],
        default=color,
        help="colours: on terminals only (auto), always, never; NO_COLOR and FORCE_COLOR count too",
    )


def _explain_unknown(parser: argparse.ArgumentParser, words: list[str]) -> None:
    """Bad usage that argparse would only list the choices for."""
    first = next((word for word in words if not word.startswith("-")), None)
    if first is None or first in COMMANDS or words[0] != first:
        return
    from difflib import get_close_matches  # noqa: PLC0415  only after a mistake

    close = get_close_matches(first, COMMANDS, 1, 0.7)
    cure = f"did you mean {close[0]}?" if close else f"to look at a session: show {first}"
    parser.error(f"unknown command {first}; {cure}")
