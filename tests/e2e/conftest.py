"""The command line as people use it: real processes, real terminals, real signals."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

COMMAND = [sys.executable, "-m", "pyrepl3"]
WAIT = 30  # seconds: for a machine that does other things too
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A process on a pseudo-terminal."""

    def __init__(self, process):
        self.process = process

    def expect(self, *patterns):
        """Wait for each pattern in turn; what came before the last one, without escape sequences."""
        for pattern in patterns:
            self.process.expect(pattern)
        return ESCAPES.sub("", self.process.before).replace("\r\n", "\n")

    def type(self, text):
        self.process.send(text)

    def enter(self, text):
        """Type a line and Enter, and wait until the editor has taken it."""
        self.type(text + "\r")
        self.expect(re.escape(text.split("\n")[-1][-10:]))

    def interrupt(self):
        self.process.sendintr()

    def end(self):
        """Wait for the end: the rest of the output, and the exit status."""
        self.process.expect(pexpect.EOF)
        rest = ESCAPES.sub("", self.process.before).replace("\r\n", "\n")
        self.process.wait()  # close() would send SIGHUP to one that is not quite gone
        return rest, self.process.exitstatus


class CommandLine:
    """Starts pyrepl3 with a home of its own."""

    def __init__(self, folder):
        self.folder = folder
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "PYREPL3"))}
        for name in ("NO_COLOR", "FORCE_COLOR", "PYTHON_COLORS"):
            keep.pop(name, None)
        self.environ = {
            **keep,
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder / "data"),
            "XDG_STATE_HOME": str(folder / "state"),
            "TERM": "xterm",
        }
        self._open = []

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, *arguments, stdin="", **environ):
        """A finished process, its output as text."""
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            cwd=self.folder,
            env={**self.environ, **environ},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=WAIT * 2,
            check=False,
        )

    def start(self, *arguments, **environ):
        """A running process with pipes."""
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            cwd=self.folder,
            env={**self.environ, **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._open.append(process)
        return process

    def open_terminal(self, *arguments, **environ):
        """A running process on a terminal of 80 columns."""
        process = pexpect.spawn(
            COMMAND[0],
            [*COMMAND[1:], *map(str, arguments)],
            cwd=str(self.folder),
            env={**self.environ, **environ},
            encoding="utf-8",
            timeout=WAIT,
            dimensions=(24, 80),
        )
        self._open.append(process)
        return Terminal(process)

    def close(self):
        for process in self._open:
            if isinstance(process, pexpect.spawn):
                process.close(force=True)
            else:
                process.kill()
                process.communicate()


@pytest.fixture
def cli(tmp_path):
    found = CommandLine(Path(tmp_path))
    yield found
    found.close()
