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

from pyrepl3.front.parser import Formatter, Parser


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One command: ``run`` is ``"module:function"`` of this package, called with the options."""

    about: str
    run: str
    add: Callable[[argparse.ArgumentParser], object] = lambda _: None


def _names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME", help="what to remove")


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a session")


def _show(parser: argparse.ArgumentParser) -> None:
    _name(parser)
    parser.add_argument(
        "what",
        metavar="EPOCH|CELL",
        nargs="?",
        help="its number in the log, or c7 for the seventh cell; without it: the names it holds",
    )


def _diff(parser: argparse.ArgumentParser) -> None:
    _name(parser)
    parser.add_argument(
        "before", metavar="A", nargs="?", type=_epoch, help="an epoch (default: the one before B)"
    )
    parser.add_argument(
        "after", metavar="B", nargs="?", type=_epoch, help="another (default: where it is)"
    )


def _undo(parser: argparse.ArgumentParser) -> None:
    _name(parser)
    parser.add_argument("n", metavar="N", nargs="?", type=_count, default=1, help="cells (1)")


def _restore(parser: argparse.ArgumentParser) -> None:
    _name(parser)
    parser.add_argument("epoch", metavar="EPOCH", type=_epoch, help="0 is the empty session")


def _fork(parser: argparse.ArgumentParser) -> None:
    _name(parser)
    parser.add_argument("new", metavar="NEW", help="the name of the new session")
    parser.add_argument(
        "epoch", metavar="EPOCH", nargs="?", type=_epoch, help="where it starts (default: as it is)"
    )


def _gc(parser: argparse.ArgumentParser) -> None:
    _name(parser)
    parser.add_argument(
        "--keep",
        metavar="N",
        type=_count,
        help="keep only the last N epochs of the line, too (default: the whole line)",
    )


def _export(parser: argparse.ArgumentParser) -> None:
    _name(parser)
    parser.add_argument("file", metavar="FILE", help="must not exist yet")


def _import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="what export wrote, by somebody you trust")
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="its new name (default: the one it had)"
    )


def _graph(parser: argparse.ArgumentParser) -> None:
    _name(parser)
    parser.add_argument(
        "--format",
        choices=("text", "mermaid", "dot"),
        default="text",
        help="lines for people (text), or for Mermaid or Graphviz",
    )


def _slice(parser: argparse.ArgumentParser) -> None:
    _name(parser)
    parser.add_argument("variable", metavar="VARIABLE", help="a name that it holds")


def _answer(parser: argparse.ArgumentParser) -> None:
    _name(parser)
    parser.add_argument(
        "id", metavar="ID", help="the question, as `ask` lists it, or how its id ends"
    )
    parser.add_argument("value", metavar="VALUE", help="the answer")


def _interrupt(parser: argparse.ArgumentParser) -> None:
    _name(parser)
    parser.add_argument(
        "cell", metavar="CELL", nargs="?", help="its id (default: the foreground one)"
    )


def _epoch(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no epoch: give a number from the log")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no count: give a number from 1")
    return int(text)


COMMANDS: Mapping[str, Command] = {
    "list": Command(about="the sessions that are kept (default)", run="listing:run_list"),
    "log": Command(
        about="the timeline of a session: its cells, its branches", run="past:run_log", add=_name
    ),
    "show": Command(
        about="what a session holds, or one cell: source, output, changes",
        run="past:run_show",
        add=_show,
    ),
    "diff": Command(
        about="names added, changed and removed between two epochs", run="past:run_diff", add=_diff
    ),
    "graph": Command(about="which cell used what of which", run="flow:run_graph", add=_graph),
    "slice": Command(
        about="the fewest cells that make a value, as a script", run="flow:run_slice", add=_slice
    ),
    "undo": Command(
        about="go back to before the last cell, or the last N", run="changing:run_undo", add=_undo
    ),
    "restore": Command(
        about="go to any epoch, back or forth", run="changing:run_restore", add=_restore
    ),
    "fork": Command(
        about="a new session that starts where this one is, or was",
        run="changing:run_fork",
        add=_fork,
    ),
    "gc": Command(
        about="drop branches that were left, and old epochs if asked",
        run="changing:run_gc",
        add=_gc,
    ),
    "verify": Command(
        about="read all that a session has stored, and compare it with its checksums",
        run="past:run_verify",
        add=_name,
    ),
    "export": Command(about="a whole session as one file", run="past:run_export", add=_export),
    "import": Command(
        about="make a session of such a file", run="changing:run_import", add=_import
    ),
    "ask": Command(about="what cells of a session ask", run="questions:run_ask", add=_name),
    "answer": Command(about="answer a question of a cell", run="questions:run_answer", add=_answer),
    "interrupt": Command(
        about="stop a cell that another process runs", run="questions:run_interrupt", add=_interrupt
    ),
    "rm": Command(about="remove sessions", run="listing:run_remove", add=_names),
}

_EXAMPLES = """\
examples:
  pyrepl3 sessions
  pyrepl3 sessions log demo
  pyrepl3 sessions show demo c3
  pyrepl3 sessions undo demo 2
  pyrepl3 sessions fork demo what-if
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
    cure = (
        f"did you mean {close[0]}?"
        if close
        else f"to look at a session: pyrepl3 sessions show {first}"
    )
    parser.error(f"unknown command {first}; {cure}")
