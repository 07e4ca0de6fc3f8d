"""What translated magics call inside a cell: commands, directories, environment, files.

Runs in the user's process and prints through ``sys.stdout``, so that the output belongs to the cell.
"""

# These mirror shell commands, whose paths are texts.
# ruff: noqa: PTH109, PTH110, PTH111, PTH123

from __future__ import annotations

import codecs
import os
import selectors
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence

_LOOK = 0.1  # seconds


def command(text: str) -> None:
    """Run a ``!`` line in the shell; its output is the cell's.

    A failing command is reported on stderr and stops nothing, as in IPython.
    """
    _warn(text, _run(text, _print, shell=True))  # noqa: S604 - that is what `!` asks for


def output(text: str) -> list[str]:
    """The lines that an assigned ``!`` line prints, with those on stderr, as in IPython."""
    parts: list[str] = []
    _warn(text, _run(text, parts.append, shell=True))  # noqa: S604 - as above
    return "".join(parts).splitlines()


def script(program: str, text: str) -> None:
    """Run a ``%%bash`` or ``%%sh`` cell. Raises CalledProcessError where the script fails."""
    status = _run([program, "-c", text], _print)
    if status:
        raise subprocess.CalledProcessError(status, f"%%{program}")


def pip(arguments: str) -> None:
    """Run pip of this interpreter. Raises CalledProcessError where it fails."""
    line = [sys.executable, "-m", "pip", *shlex.split(arguments)]
    status = _run(line, _print)
    if status:
        raise subprocess.CalledProcessError(status, shlex.join(["pip", *line[3:]]))


def change_directory(path: str) -> None:
    """``%cd``: no path is the home directory; ``-`` the one before."""
    before = os.getcwd()
    if path == "-":
        path = os.environ.get("OLDPWD", before)
    os.chdir(os.path.expanduser(path.strip("\"'") or "~"))
    os.environ["OLDPWD"] = before
    print(os.getcwd())


def environment(text: str) -> str | dict[str, str] | None:
    """``%env``: all of it, one variable, or set one (``NAME=VALUE`` or ``NAME VALUE``)."""
    if not text:
        return dict(os.environ)
    name, value = text.split("=", 1) if "=" in text else [*text.split(None, 1), ""][:2]
    if "=" not in text and not value:
        return os.environ[name]
    os.environ[name.strip()] = value.strip()
    print(f"env: {name.strip()}={value.strip()}")
    return None


def write_file(path: str, text: str, *, append: bool = False) -> None:
    """``%%writefile``: the rest of the cell as a file."""
    path = os.path.expanduser(path)
    verb = "Appending to" if append else "Overwriting" if os.path.exists(path) else "Writing"
    print(f"{verb} {path}")
    with open(path, "a" if append else "w", encoding="utf-8") as stream:
        stream.write(text if text.endswith("\n") else text + "\n")


def _warn(text: str, status: int) -> None:
    if status:
        print(f"!{text}: exit status {status}", file=sys.stderr)


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _run(
    arguments: str | Sequence[str], write: Callable[[str], object], *, shell: bool = False
) -> int:
    # stderr goes with stdout: only so does the order of the lines stay as the command wrote them.
    process = subprocess.Popen(
        arguments, shell=shell, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                # Not a bare read: an interrupt is raised in other people's Python, never in ours,
                # and this way it finds some ten times a second.
                if not selector.select(_LOOK):
                    continue
                if not (data := os.read(process.stdout.fileno(), 65536)):
                    break
                write(decoder.decode(data))
        write(decoder.decode(b"", final=True))
        return process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
