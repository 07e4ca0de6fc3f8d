"""A command that speaks the Language Server Protocol in, its answers out; it dies with its owner.

The server reads our end of a pipe: when this process ends, however it does, the pipe is closed and the
server ends. Blocking, one request at a time, each with a deadline after which the server is ended.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from pyrepl3.errors import CheckerError

_PATIENCE = 30.0  # seconds for one answer: the first one reads the standard library's stubs
_LONGEST = 64 * 1024 * 1024  # bytes of a message


class LanguageServer:
    """One server process, started and initialised here. Not for two threads at once.

    ``name`` is what it calls itself, with its version. Raises CheckerError.
    """

    def __init__(self, command: Sequence[str], root: Path) -> None:
        self._count = 0
        self._held = b""
        self._open: dict[str, int] = {}
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=root,
                bufsize=0,
            )
        except OSError as error:
            raise CheckerError(f"the type checker could not be started: {error}") from error
        found = self.call(
            "initialize",
            {
                "processId": os.getpid(),
                "rootUri": root.as_uri(),
                "workspaceFolders": [{"uri": root.as_uri(), "name": root.name}],
                "capabilities": {
                    "general": {"positionEncodings": ["utf-32"]},
                    "textDocument": {"diagnostic": {}},
                },
            },
        )
        capabilities = found.get("capabilities", {})
        self.encoding: str = capabilities.get("positionEncoding", "utf-16")
        """In what it counts columns."""
        told = found.get("serverInfo") or {}
        self.name = f"{told.get('name', command[0])} {told.get('version', '')}".strip()
        self._note("initialized", {})

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def put(self, path: Path, text: str) -> None:
        """Make ``text`` what the file holds, as far as the server knows."""
        uri = path.as_uri()
        version = self._open[uri] = self._open.get(uri, 0) + 1
        if version == 1:
            document = {"uri": uri, "languageId": "python", "version": 1, "text": text}
            self._note("textDocument/didOpen", {"textDocument": document})
        else:
            changes = {
                "textDocument": {"uri": uri, "version": version},
                "contentChanges": [{"text": text}],
            }
            self._note("textDocument/didChange", changes)

    def diagnose(self, path: Path) -> list[Any]:
        """Its diagnostics of a file that was put."""
        found = self.call("textDocument/diagnostic", {"textDocument": {"uri": path.as_uri()}})
        items = found.get("items", [])
        return items if isinstance(items, list) else []

    def call(self, method: str, params: object) -> dict[str, Any]:
        """The answer to one request. Raises CheckerError, and the server is ended then."""
        self._count += 1
        number = self._count
        due = time.monotonic() + _PATIENCE
        try:
            self._send({"id": number, "method": method, "params": params})
            while True:
                message = self._receive(due)
                if "method" in message:
                    if "id" in message:  # it asks something; we have nothing to say
                        self._send({"id": message["id"], "result": None})
                elif message.get("id") == number:
                    break
        except (OSError, ValueError, TimeoutError, msgspec.MsgspecError) as error:
            self.close()
            raise CheckerError(f"the type checker gave no answer: {error}") from error
        if "error" in message:
            raise CheckerError(f"the type checker refused: {message['error']}")
        result = message.get("result")
        return result if isinstance(result, dict) else {}

    def close(self) -> None:
        """End the process. Idempotent."""
        process = self._process
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def disown(self) -> None:
        """In a forked child: let go of the pipes of the parent's server."""
        self._process.returncode = 0  # not ours to wait for
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _note(self, method: str, params: object) -> None:
        try:
            self._send({"method": method, "params": params})
        except (OSError, ValueError) as error:
            self.close()
            raise CheckerError(f"the type checker is gone: {error}") from error

    def _send(self, message: dict[str, Any]) -> None:
        data = msgspec.json.encode({"jsonrpc": "2.0", **message})
        stream = self._process.stdin
        assert stream is not None
        rest = memoryview(b"Content-Length: %d\r\n\r\n%b" % (len(data), data))
        while rest:
            rest = rest[stream.write(rest) or 0 :]

    def _receive(self, due: float) -> dict[str, Any]:
        while b"\r\n\r\n" not in self._held:
            self._read(due)
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        size = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length":
                size = int(value)
        if not 0 < size <= _LONGEST:
            raise ValueError(f"a message of {size} bytes")
        while len(self._held) < size:
            self._read(due)
        data, self._held = self._held[:size], self._held[size:]
        return msgspec.json.decode(data, type=dict[str, Any])

    def _read(self, due: float) -> None:
        stream = self._process.stdout
        assert stream is not None
        ready, _, _ = select.select([stream], [], [], max(0.0, due - time.monotonic()))
        if not ready:
            raise TimeoutError(f"nothing in {_PATIENCE:g} s")
        data = os.read(stream.fileno(), 1 << 20)
        if not data:
            raise ConnectionError("it has ended")
        self._held += data
