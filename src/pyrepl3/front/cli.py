"""A command line in, an exit status out: ``pyrepl3``, ``pyrepl3 run``, ``pyrepl3 sessions``.

Start-up is a promise (see benchmarks/), so what a command does not need is not imported here.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

import atexit
import errno
import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from pyrepl3.front.arguments import parse_prompt, parse_run
from pyrepl3.front.parser import USAGE

if TYPE_CHECKING:
    import argparse

    from pyrepl3.config import Limits
    from pyrepl3.front.cells import SourceFile
    from pyrepl3.front.report import Report


_PIPE_CLOSED = 141  # 128 + SIGPIPE
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_HERE = "pyrepl3.engine.main"
"""What is loaded where cells run in this process."""


def run_command() -> NoReturn:
    """The program itself: run the command of ``sys.argv`` and end the process with its status."""
    status = main()
    if _HERE not in sys.modules:
        # Taking apart what was imported takes a tenth of the whole, and is of no use to anybody.
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        except (BrokenPipeError, ValueError):
            status = status or _PIPE_CLOSED
        except OSError as error:
            status = status or _refuse(error, status=1)
        atexit._run_exitfuncs()  # noqa: SLF001  of ours, and of tools that watch us
        os._exit(status)
    sys.exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status; argparse exits by itself for --help and bad usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        match words[:1]:
            case ["run"]:
                return _run(parse_run(words[1:]))
            case ["sessions"]:
                from pyrepl3.front.sessions import run_sessions

                return run_sessions(words[1:])
            case _:
                return _prompt(parse_prompt(words))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the flush at exit complains
        return _PIPE_CLOSED
    except OSError as error:
        if error.errno not in _FULL:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return _refuse(error, status=1)
    except KeyboardInterrupt:  # before or after the time when cells can run
        return 130


def _refuse(error: Exception, status: int = USAGE) -> int:
    print(f"pyrepl3: {error}", file=sys.stderr)
    return status


def _limits(options: argparse.Namespace) -> Limits | None:
    if options.timeout is None and options.memory is None and options.output_limit is None:
        return None
    from pyrepl3.config import Limits

    return Limits(wall=options.timeout, memory=options.memory, output=options.output_limit)


def _set_path(folder: str) -> None:
    """Put the script's directory where Python puts it, in place of that of our own script."""
    if not sys.flags.safe_path:
        sys.path[:1] = [folder]


# --- run --------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    from pyrepl3.errors import SourceError
    from pyrepl3.front.sources import read_source

    try:
        file = read_source(options.file)
        saved = _open_notebook(options)
    except SourceError as error:
        return _refuse(error)
    sys.argv = [options.file, *options.arguments]
    return _run_file(file, options, saved, resume=True)


def _open_notebook(options: argparse.Namespace) -> list[Report]:
    """The notebook to write, if any; made before anything runs, since it may refuse."""
    if options.save_to is None:
        return []
    from pyrepl3.front.save import NotebookReport

    return [NotebookReport(options.save_to)]


def _run_file(
    file: SourceFile, options: argparse.Namespace, saved: list[Report], *, resume: bool
) -> int:
    taken: BinaryIO | None = None
    if options.json:
        from pyrepl3.front.jsonl import take_standard_output

        taken = take_standard_output()  # before a worker can have it
    host = _host(options)  # last: bad usage needs no engine
    from pyrepl3.errors import SourceError
    from pyrepl3.front.asking import LineReader
    from pyrepl3.front.console import Console
    from pyrepl3.front.interrupts import INTERRUPTED, Interrupts
    from pyrepl3.front.job import Job, run_job
    from pyrepl3.front.report import Reports

    _set_path("" if file.path.startswith("<") else os.path.dirname(file.path))  # noqa: PTH120
    console = Console()
    shown: Report
    if taken is not None:
        from pyrepl3.front.jsonl import JsonReport

        shown = JsonReport(taken, when_closed=console.close)
    else:
        from pyrepl3.front.render import TextReport

        shown = TextReport(console)
    # The notebook last: writing it may fail, and the other has told the end by then.
    report = Reports([shown, *saved])
    report.begin(file, options.session)
    job = Job(
        file=file,
        session=options.session,
        store=options.store,
        limits=_limits(options),
        resume=resume,
        replay=options.replay,
        restart=options.restart,
        keep_going=options.keep_going,
        recompute=options.recompute,
        isolation=options.isolation,
    )
    interrupts = Interrupts(report.note, lambda: report.end(INTERRUPTED))
    reader = LineReader(console)

    def started(session: Any) -> None:
        console.when_closed = session.interrupt

    try:
        status = host(
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
            on_unheard=interrupts.unheard,
        )
    except SourceError as error:  # the notebook could not be written
        console.progress("")
        return _refuse(error, status=1)
    return 1 if console.failed else status


def _host(options: argparse.Namespace) -> Callable[..., int]:
    """What runs a front end, with the cells here or apart."""
    if options.isolation == "none":
        from pyrepl3.engine.main import host_main

        return host_main
    from functools import partial

    gc.disable()  # what is imported from here on stays
    ahead = None
    if options.isolation == "process" and options.python is None:
        from pyrepl3.isolate.ahead import fork_ahead

        ahead = fork_ahead()
    from pyrepl3.engine.apart import host_apart

    return partial(host_apart, ahead=ahead, python=options.python)


# --- the prompt, the sessions -------------------------------------------------------------------


def _prompt(options: argparse.Namespace) -> int:
    if options.version:
        from importlib.metadata import version

        print(f"pyrepl3 {version('pyrepl3')} (Python {sys.version.split()[0]})")
        return 0
    sys.argv = [""]
    if sys.stdin is None or not sys.stdin.isatty():
        return _run_piped(options)
    host = _host(options)
    _set_path("")
    from pyrepl3.front.repl import run_prompt

    return run_prompt(
        host,
        isolation=options.isolation,
        session=options.session,
        store=options.store,
        limits=_limits(options),
        recompute=options.recompute,
    )


def _run_piped(options: argparse.Namespace) -> int:
    """Run what is piped in, on top of what the session holds."""
    from pyrepl3.errors import SourceError
    from pyrepl3.front.sources import read_source

    try:
        file = read_source("-")
    except SourceError as error:
        return _refuse(error)
    return _run_file(file, options, [], resume=False)
