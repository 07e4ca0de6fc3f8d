"""A command line in, an exit status out: ``pyrepl3``, ``pyrepl3 run``, ``pyrepl3 sessions``.

Start-up is a promise (see benchmarks/), so what a command does not need is not imported here.
"""

# pathlib costs a one-line run more than it brings here.
# ruff: noqa: PTH100, PTH120

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from pyrepl3.config import Limits
    from pyrepl3.front.cells import SourceFile
    from pyrepl3.front.report import Report

USAGE = 2

_ABOUT = """\
Python sessions that never lose their state.

  pyrepl3                     an interactive prompt with top-level await
  pyrepl3 run FILE            run a .py file or a notebook cell by cell
  pyrepl3 sessions            list the sessions that are kept
  pyrepl3 sessions rm NAME    remove one

`pyrepl3 run --help` and `pyrepl3 sessions --help` tell more.
"""

_EXAMPLES = """\
examples:
  pyrepl3
  pyrepl3 --session demo                     keep the state, and come back to it
  echo 'print(1)' | pyrepl3                  run what is piped in
"""

_RUN_ABOUT = """\
Run a Python file or a notebook cell by cell and show what happens.

A .py file is cut at its `# %%` lines, or, where it has none, into groups of top-level
statements. The value of a cell's last expression is shown. With --session the state is kept:
killed at any moment and started again, the run goes on with the first unfinished cell.
"""

_RUN_EXAMPLES = """\
examples:
  pyrepl3 run job.py
  pyrepl3 run job.py --session demo          killed? the same line again goes on
  pyrepl3 run job.py input.csv -- --fast     input.csv and --fast go to the script
  pyrepl3 run report.ipynb --save-to out.ipynb
  cat job.py | pyrepl3 run -

exit status: 0 done, 1 an error in a cell, 2 bad usage, 130 after Ctrl-C, 141 when the reader of
the output went away; `sys.exit(n)` in a cell ends the run with n.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status; argparse exits by itself for --help and bad usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        match words[:1]:
            case ["run"]:
                return _run(words[1:])
            case ["sessions"]:
                return _sessions(words[1:])
            case _:
                return _prompt(words)
    except BrokenPipeError:
        return _pipe_closed()
    except KeyboardInterrupt:  # before or after the time when cells can run
        return 130


def _pipe_closed() -> int:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the flush at exit complains
    return 141


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Takes the width itself: argparse asks shutil, which loads every compressor there is."""

    def __init__(self, prog: str) -> None:
        try:
            width = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
        except (OSError, ValueError):
            width = 80
        super().__init__(prog, width=min(width, 100) - 2)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"pyrepl3: {message}\n")


def _parser(name: str, about: str, examples: str, usage: str) -> _Parser:
    return _Parser(
        prog=name,
        usage=usage,
        description=about,
        epilog=examples,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )


def _add_session(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--session", metavar="NAME", help="keep the state under this name")
    _add_store(parser)


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store",
        metavar="PATH",
        help="directory of kept sessions (default: $PYREPL3_STORE, else the user's data directory)",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, help="stop a cell that runs longer"
    )
    parser.add_argument(
        "--memory",
        metavar="SIZE",
        type=_size,
        help="stop a cell by which the process grows more (bytes, or 512K, 100M, 2G)",
    )
    parser.add_argument(
        "--output-limit", metavar="SIZE", type=_size, help="stop a cell that prints more"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


def _size(text: str) -> int:
    bare = text.strip().upper().removesuffix("IB").removesuffix("B")
    unit = {"K": 1024, "M": 1024**2, "G": 1024**3}.get(bare[-1:], 1)
    try:
        size = int(float(bare.rstrip("KMG")) * unit)
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write bytes, or 512K, 100M, 2G")
    return size


def _limits(options: argparse.Namespace) -> Limits | None:
    if options.timeout is None and options.memory is None and options.output_limit is None:
        return None
    from pyrepl3.config import Limits  # noqa: PLC0415  start-up time

    return Limits(wall=options.timeout, memory=options.memory, output=options.output_limit)


# --- run --------------------------------------------------------------------------------------


def _run(words: list[str]) -> int:
    parser = _parser(
        "pyrepl3 run", _RUN_ABOUT, _RUN_EXAMPLES, "pyrepl3 run [options] FILE [argument ...]"
    )
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help=".py or .ipynb, or - for standard input"
    )
    parser.add_argument(
        "arguments",
        metavar="argument",
        nargs="*",
        help="goes to the script as sys.argv[1:]; those that start with a dash after --",
    )
    _add_session(parser)
    parser.add_argument(
        "--replay", action="store_true", help="show the recorded output of skipped cells"
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="run every cell again, from the state before the file first ran",
    )
    parser.add_argument(
        "--keep-going",
        action="store_true",
        help="go on after an error (exit status 1 all the same)",
    )
    parser.add_argument("--json", action="store_true", help="print one event a line as JSON")
    parser.add_argument("--save-to", metavar="FILE.ipynb", help="write a notebook with the outputs")
    _add_limits(parser)
    cut = words.index("--") if "--" in words else len(words)
    options, unknown = parser.parse_known_intermixed_args(words[:cut])
    if unknown:
        parser.error(
            f"unknown option {unknown[0]}; if it is meant for the script: "
            f"pyrepl3 run {options.file or 'FILE'} -- {' '.join(unknown)}"
        )
    if options.file is None:
        parser.error("name the FILE to run, or - for standard input")
    for name in ("replay", "restart"):
        if getattr(options, name) and options.session is None:
            parser.error(f"--{name} needs --session NAME")
    if options.store is not None and options.session is None:
        parser.error("--store needs --session NAME")

    from pyrepl3.errors import SourceError  # noqa: PLC0415  start-up time
    from pyrepl3.front.sources import read_source  # noqa: PLC0415

    try:
        file = read_source(options.file)
        reports = _reports(options)
    except SourceError as error:
        print(f"pyrepl3: {error}", file=sys.stderr)
        return USAGE
    script = "-" if options.file == "-" else options.file
    sys.argv = [script, *options.arguments, *words[cut + 1 :]]
    return _run_file(file, options, reports, resume=True)


def _reports(options: argparse.Namespace) -> list[Report]:
    """The reports besides the text on the console; made before anything runs, as they may refuse."""
    reports: list[Report] = []
    if options.save_to is not None:
        from pyrepl3.front.save import NotebookReport  # noqa: PLC0415

        reports.append(NotebookReport(options.save_to))
    if options.json:
        from pyrepl3.front.jsonl import JsonReport, take_standard_output  # noqa: PLC0415

        reports.append(JsonReport(take_standard_output()))
    return reports


def _run_file(
    file: SourceFile, options: argparse.Namespace, reports: list[Report], *, resume: bool
) -> int:
    from pyrepl3.engine import host_main  # noqa: PLC0415  start-up time: bad usage needs no engine
    from pyrepl3.errors import SourceError  # noqa: PLC0415
    from pyrepl3.front.asking import LineReader  # noqa: PLC0415
    from pyrepl3.front.console import Console  # noqa: PLC0415
    from pyrepl3.front.interrupts import Interrupts  # noqa: PLC0415
    from pyrepl3.front.job import Job, run_job  # noqa: PLC0415
    from pyrepl3.front.render import TextReport  # noqa: PLC0415
    from pyrepl3.front.report import Reports  # noqa: PLC0415

    _set_path("" if file.path.startswith("<") else os.path.dirname(file.path))
    console = Console()
    as_json = getattr(options, "json", False)
    # The notebook last: writing it may fail, and the others have told the end by then.
    report = Reports([*([] if as_json else [TextReport(console)]), *reversed(reports)])
    report.begin(file, options.session)
    job = Job(
        file=file,
        session=options.session,
        store=_absolute(options.store),
        limits=_limits(options),
        resume=resume,
        replay=getattr(options, "replay", False),
        restart=getattr(options, "restart", False),
        keep_going=getattr(options, "keep_going", False),
    )
    interrupts = Interrupts()
    reader = LineReader(console)

    def started(session: Any) -> None:
        console.when_closed = session.interrupt

    try:
        return host_main(
            lambda open_session: run_job(
                open_session,
                job,
                report,
                reader=reader,
                interrupts=interrupts,
                closed=lambda: console.closed,
                started=started,
            ),
            on_sigint=interrupts.press,
        )
    except SourceError as error:  # the notebook could not be written
        console.progress("")
        print(f"pyrepl3: {error}", file=sys.stderr)
        return USAGE


def _absolute(store: str | None) -> str | None:
    return None if store is None else os.path.abspath(store)  # a cell may change the directory


def _set_path(folder: str) -> None:
    """Put the script's directory where Python puts it, in place of that of our own script."""
    if not sys.flags.safe_path:
        sys.path[:1] = [folder]


# --- the prompt -------------------------------------------------------------------------------


def _prompt(words: list[str]) -> int:
    parser = _parser("pyrepl3", _ABOUT, _EXAMPLES, "pyrepl3 [options] | pyrepl3 COMMAND ...")
    _add_session(parser)
    _add_limits(parser)
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    options, unknown = parser.parse_known_args(words)
    if options.version:
        from importlib.metadata import version  # noqa: PLC0415

        print(f"pyrepl3 {version('pyrepl3')} (Python {sys.version.split()[0]})")
        return 0
    if unknown:
        parser.error(_guess(unknown, words))
    if options.store is not None and options.session is None:
        parser.error("--store needs --session NAME")
    if sys.stdin is None or not sys.stdin.isatty():
        return _run_piped(options)
    sys.argv = [""]
    _set_path("")
    from pyrepl3.front.repl import run_prompt  # noqa: PLC0415

    return run_prompt(
        session=options.session, store=_absolute(options.store), limits=_limits(options)
    )


def _guess(unknown: list[str], words: list[str]) -> str:
    for word in unknown:
        if word in {"run", "sessions"}:
            rest = [each for each in words if each != word]
            return f"the command comes first: pyrepl3 {word} {' '.join(rest)}"
        if word.endswith((".py", ".ipynb")):
            return f"unknown command {word}; to run a file: pyrepl3 run {' '.join(words)}"
    return f"unknown {'option' if unknown[0].startswith('-') else 'command'} {unknown[0]}"


def _run_piped(options: argparse.Namespace) -> int:
    """Run what is piped in, on top of what the session holds."""
    from pyrepl3.errors import SourceError  # noqa: PLC0415
    from pyrepl3.front.sources import read_source  # noqa: PLC0415

    try:
        file = read_source("-")
    except SourceError as error:
        print(f"pyrepl3: {error}", file=sys.stderr)
        return USAGE
    sys.argv = [""]
    return _run_file(file, options, [], resume=False)


# --- sessions ---------------------------------------------------------------------------------


def _sessions(words: list[str]) -> int:
    parser = _parser(
        "pyrepl3 sessions",
        "List the sessions that are kept, or remove some.",
        "examples:\n  pyrepl3 sessions\n  pyrepl3 sessions rm demo\n",
        "pyrepl3 sessions [list] | pyrepl3 sessions rm NAME ...",
    )
    parser.add_argument(
        "action", nargs="?", choices=["list", "rm"], default="list", metavar="list | rm"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to remove")
    parser.add_argument("--json", action="store_true", help="print one session a line as JSON")
    _add_store(parser)
    options = parser.parse_intermixed_args(words)
    if options.action == "rm" and not options.names:
        parser.error("rm needs the name of a session: pyrepl3 sessions rm NAME")
    if options.action == "list" and options.names:
        parser.error("list takes no names")
    from pyrepl3.front.listing import list_sessions, remove_sessions  # noqa: PLC0415

    if options.action == "rm":
        return remove_sessions(options.store, options.names)
    return list_sessions(options.store, as_json=options.json)
