"""Words in, options out: what the commands understand, their help, and what they say to bad usage.

argparse ends the process by itself: with 0 after ``--help``, with 2 after bad usage.
"""

from __future__ import annotations

import argparse
import os

from pyrepl3.front.parser import Formatter, Parser

_ABOUT = """\
Python sessions that never lose their state.

  pyrepl3                     an interactive prompt with top-level await
  pyrepl3 run FILE            run a .py file or a notebook cell by cell
  pyrepl3 sessions            list the sessions that are kept
  pyrepl3 sessions log NAME   what ran in one; undo, fork, diff, export and more

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


def _parser(name: str, about: str, examples: str, usage: str) -> Parser:
    return Parser(
        prog=name,
        usage=usage,
        description=about,
        epilog=examples,
        formatter_class=Formatter,
        allow_abbrev=False,
    )


def _add_session(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--session", metavar="NAME", help="keep the state under this name")
    parser.add_argument(
        "--recompute",
        action="store_true",
        help="make names that could not be kept again, by running the cells that made them",
    )
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


def _add_isolation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--isolation",
        choices=("process", "confined", "none"),
        default="process",
        help="process (the default): cells run in a process of their own, which may crash or be "
        "killed; confined: that process reads and writes nothing of yours, and has no network "
        "(Linux); none: cells run in the process of the command line itself",
    )
    parser.add_argument(
        "--python",
        metavar="PATH",
        help="the interpreter that runs the cells: of a virtual environment, say (3.12 or later)",
    )


def _check_isolation(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.python is not None and options.isolation == "none":
        parser.error("--python is for worker processes: leave out --isolation none")


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


def parse_run(words: list[str]) -> argparse.Namespace:
    """The options of ``pyrepl3 run``; ``arguments`` are the script's."""
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
    _add_isolation(parser)
    _add_limits(parser)
    cut = words.index("--") if "--" in words else len(words)
    options, unknown = parser.parse_known_intermixed_args(words[:cut])
    if unknown:
        parser.error(
            f"unknown option {unknown[0]}; if it is meant for the script: "
            f"pyrepl3 run {options.file or 'FILE'} -- {' '.join(unknown)}"
        )
    options.arguments += words[cut + 1 :]
    if options.file is None:
        if not options.arguments:
            parser.error("name the FILE to run, or - for standard input")
        options.file = options.arguments.pop(0)
    for name in ("replay", "restart", "recompute"):
        if getattr(options, name) and options.session is None:
            parser.error(f"--{name} needs --session NAME")
    _check_isolation(parser, options)
    _check_store(parser, options)
    return options


def parse_prompt(words: list[str]) -> argparse.Namespace:
    """The options of ``pyrepl3`` alone, with those of a run that it does not have."""
    parser = _parser("pyrepl3", _ABOUT, _EXAMPLES, "pyrepl3 [options] | pyrepl3 COMMAND ...")
    _add_session(parser)
    _add_isolation(parser)
    _add_limits(parser)
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    parser.set_defaults(replay=False, restart=False, keep_going=False, json=False, save_to=None)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        parser.error(_guess(unknown, words))
    if options.recompute and options.session is None:
        parser.error("--recompute needs --session NAME")
    _check_isolation(parser, options)
    _check_store(parser, options)
    return options


def _guess(unknown: list[str], words: list[str]) -> str:
    for word in unknown:
        if word in {"run", "sessions"}:
            rest = [each for each in words if each != word]
            return f"the command comes first: pyrepl3 {word} {' '.join(rest)}"
        if word.endswith((".py", ".ipynb")):
            rest = words if word == unknown[0] else [each for each in words if each != unknown[0]]
            return f"unknown command {unknown[0]}; to run a file: pyrepl3 run {' '.join(rest)}"
    from pyrepl3.front.sessions import COMMANDS  # noqa: PLC0415  only after a mistake

    if unknown[0] in COMMANDS:
        return f"unknown command {unknown[0]}; did you mean: pyrepl3 sessions {' '.join(words)}"
    return f"unknown {'option' if unknown[0].startswith('-') else 'command'} {unknown[0]}"


def _check_store(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.store is None:
        return
    if options.session is None:
        parser.error("--store needs --session NAME")
    options.store = os.path.abspath(options.store)  # noqa: PTH100  a cell may change the directory
