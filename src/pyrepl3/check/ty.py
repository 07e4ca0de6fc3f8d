"""A cell and stubs of the live names in, what ``ty`` says of its types out, in our own words and places.

One server for this process, started at the first check and ended when nobody uses it any more; each session
has two documents in it. The stubs may come from a worker: they are text for the checker, never run.
"""

from __future__ import annotations

import ast
import atexit
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from pyrepl3.check.server import LanguageServer
from pyrepl3.errors import CheckerError, MissingExtraError
from pyrepl3.lang.checks.edits import Text
from pyrepl3.records import Diagnostic, DiagnosticKind, Looked, Typed

_MOST = 2_000_000  # characters of a stub or cell that the checker is given
_LONGEST = 300  # characters of a message
_NOT_ITS_BUSINESS = frozenset(
    {
        "invalid-syntax",  # the compiler knows, and top-level await is none
        "unresolved-reference",  # the live namespace knows
        "possibly-unresolved-reference",
        "undefined-reveal",
        "revealed-type",
    }
)
_ARGUMENTS = frozenset(
    {
        "missing-argument",
        "too-many-positional-arguments",
        "unknown-argument",
        "parameter-already-assigned",
        "positional-only-parameter-as-kwarg",
        "no-matching-overload",
        "invalid-argument-type",
    }
)
_ATTRIBUTE = frozenset({"missing-attribute", "unresolved-attribute"})
_UNAWAITED = frozenset({"unused-awaitable"})


def find_ty() -> str | None:
    """The path of the ``ty`` program of this Python's environment; None where there is none."""
    if find_spec("ty") is not None:
        from ty import find_ty_bin  # noqa: PLC0415  an extra

        with suppress(FileNotFoundError):
            return str(find_ty_bin())
    return None


class _Shared:
    """The server of this process, and who uses it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users: set[object] = set()
        self.server: LanguageServer | None = None
        self.root: Path | None = None
        self.serial = count(1)

    def get(self, user: object) -> tuple[LanguageServer, Path]:
        """The server and its directory. Under the lock."""
        if self.server is None or not self.server.alive:
            self.drop()
            command = find_ty()
            if command is None:
                raise MissingExtraError("checking types needs ty", "check")
            self.root = Path(tempfile.mkdtemp(prefix="pyrepl3-check-"))
            (self.root / "ty.toml").write_text(_settings(), encoding="utf-8")
            try:
                self.server = LanguageServer([command, "server"], self.root)
            except CheckerError:
                self.drop()
                raise
        self.users.add(user)
        assert self.root is not None
        return self.server, self.root

    def leave(self, user: object) -> None:
        """A user needs it no more; the last one ends it."""
        with self.lock:
            self.users.discard(user)
            if not self.users:
                self.drop()

    def drop(self) -> None:
        server, self.server = self.server, None
        root, self.root = self.root, None
        if server is not None:
            server.close()
        if root is not None:
            shutil.rmtree(root, ignore_errors=True)

    def forget(self) -> None:
        """In a forked child: the server is its parent's, and must see that end."""
        server = self.server
        self.__dict__.update(_Shared().__dict__)
        if server is not None:
            server.disown()


_shared = _Shared()
atexit.register(_shared.drop)
os.register_at_fork(after_in_child=_shared.forget)


def _settings() -> str:
    """The configuration: this Python, and where its own programs find modules."""
    inside = (sys.prefix, sys.base_prefix)
    extra = [
        str(Path(entry or ".").absolute())
        for entry in sys.path
        if not entry.startswith(inside) and Path(entry or ".").is_dir()
    ]
    listed = ", ".join(msgspec.json.encode(path).decode() for path in dict.fromkeys(extra))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return (
        f"[environment]\npython = {msgspec.json.encode(sys.prefix).decode()}\n"
        f'python-version = "{version}"\nextra-paths = [{listed}]\n'
    )


class TyChecker:
    """The TypeChecker port on ``ty``. One for a session. Any thread."""

    def __init__(self) -> None:
        self._name = f"n{next(_shared.serial)}"

    def check(self, source: str, looked: Looked, *, types: bool = False) -> Typed:
        """See the port. The first check starts the server, which takes some 0.1 s."""
        text = Text(source)
        if len(looked.stub) + len(looked.imports) + len(source) > _MOST:
            raise CheckerError("too much text for the type checker")
        behind = "".join(f"\nreveal_type({name})" for name in looked.binds if types)
        module = f"_pyrepl3_live_{self._name}"
        imports = [looked.imports] if looked.imports else []
        if looked.names:
            imports.append(f"from {module} import {', '.join(looked.names)}")
        cell = f"{'; '.join(imports)}\n{text.source}\n{behind}"
        with _shared.lock:
            server, root = _shared.get(self)
            stub = root / f"{module}.pyi"
            if not stub.exists():
                stub.touch()  # a module is found on the disk only
            path = root / f"cell_{self._name}.py"
            server.put(stub, looked.stub)
            server.put(path, cell)
            items = server.diagnose(path)
        raw = [found for found in map(_read, items) if found is not None]
        return Typed(
            engine=server.name,
            diagnostics=tuple(_judge(raw, text, looked, server.encoding)),
            types=_revealed(raw, len(text.lines) + 2, looked.binds) if types else {},
        )

    def close(self) -> None:
        """Use the server no more."""
        _shared.leave(self)


class _Spot(msgspec.Struct, frozen=True):
    line: int
    character: int


class _Range(msgspec.Struct, frozen=True):
    start: _Spot
    end: _Spot


class _Raw(msgspec.Struct, frozen=True):
    """A diagnostic of the protocol: lines and columns from 0."""

    range: _Range
    message: str
    severity: int = 1
    code: str | int = ""


def _read(item: Any) -> _Raw | None:
    try:
        return msgspec.convert(item, _Raw)
    except msgspec.ValidationError:
        return None


def _judge(raw: list[_Raw], text: Text, looked: Looked, encoding: str) -> Iterator[Diagnostic]:
    """What of it holds for a cell in a live session."""
    told = {(one.kind, one.line) for one in looked.diagnostics}
    stored = set(_stored_attributes(text)) if any(one.code in _ATTRIBUTE for one in raw) else set()
    for one in raw:
        line, end_line = one.range.start.line, one.range.end.line  # the first one is the imports'
        rule = str(one.code)
        if rule in _NOT_ITS_BUSINESS or not 1 <= line <= end_line <= len(text.lines):
            continue
        if one.severity > 2:
            continue
        column = _column(text.lines[line - 1], one.range.start.character, encoding)
        end_column = _column(text.lines[end_line - 1], one.range.end.character, encoding)
        if rule in _ATTRIBUTE and (line, column) in stored:
            continue  # objects take new attributes
        kind: DiagnosticKind = "wrong-arguments" if rule in _ARGUMENTS else "type"
        proposal: str | None = None
        changes: tuple[str, ...] = ()
        if rule in _UNAWAITED:
            kind = "unawaited"
            if (kind, line) in told:
                continue
            proposal = text.changed([((line, column), (line, column), "await ")])
            changes = (f"line {line}: added await",)
        words = one.message.split("\n")[0].replace("`", "'")[:_LONGEST]
        yield Diagnostic(
            kind=kind,
            # Of a union one member lacks it: whether that is there only running the cell tells.
            severity="error" if one.severity == 1 and "union" not in rule else "warning",
            line=line,
            column=column,
            end_line=end_line,
            end_column=end_column,
            text="".join(c if c.isprintable() else "?" for c in words),
            rule=rule,
            proposal=proposal,
            changes=changes,
        )


def _column(line: str, column: int, encoding: str) -> int:
    """A column in characters, whatever the server counts in."""
    if encoding == "utf-32" or line.isascii():
        return column
    if encoding == "utf-16":
        return len(line.encode("utf-16-le")[: 2 * column].decode("utf-16-le", "ignore"))
    return len(line.encode()[:column].decode(errors="ignore"))


def _stored_attributes(text: Text) -> Iterator[tuple[int, int]]:
    for node in ast.walk(ast.parse(text.source)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            yield text.span(node)[0]


def _revealed(raw: list[_Raw], first: int, names: tuple[str, ...]) -> dict[str, str]:
    """The answers to ``reveal_type``, whose lines stand behind the cell."""
    by_line = {
        one.range.start.line: one.message.split("\n")[0].partition("`")[2].rstrip("`")
        for one in raw
        if one.code == "revealed-type"
    }
    found = {name: by_line.get(first + at, "") for at, name in enumerate(names)}
    return {name: kind for name, kind in found.items() if kind}
