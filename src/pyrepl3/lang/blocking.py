"""A cell's tree in, what in it blocks, needs the running loop or starts a loop of its own out.

Only code that runs when the cell runs counts: statements at the top, class bodies, and the bodies
of functions that the same cell defines *and* calls. It reads the text alone; what the names in it
hold is the business of :mod:`pyrepl3.lang.modes`.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from pyrepl3.records import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCKING_IO_MODULES = frozenset(
    {
        # The specification's.
        *("requests", "urllib", "socket", "subprocess", "sqlite3", "psycopg2", "pymongo", "redis"),
        # More of the same kind: they talk to another process or machine and have no loop.
        *(
            "urllib3",
            "ftplib",
            "smtplib",
            "imaplib",
            "poplib",
            "xmlrpc",
            "socketserver",
            "paramiko",
        ),
        *("psycopg", "pymysql", "MySQLdb", "pyodbc", "oracledb", "duckdb", "pg8000", "boto3"),
        *("botocore", "shelve", "dbm", "pexpect", "serial"),
    }
)
"""Top packages whose import, and whose values, make a cell blocking."""

BLOCKING_IO_CALLS = frozenset(
    {
        # The specification's.
        *("open", "input", "sleep", "wait", "read", "write", "recv", "send"),
        # Files.
        *("readline", "readlines", "writelines", "read_text", "read_bytes"),
        *("write_text", "write_bytes"),
        # Sockets, processes, people.
        *("recvfrom", "recv_into", "sendall", "sendto", "accept", "getaddrinfo", "gethostbyname"),
        *("urlopen", "urlretrieve", "getpass", "system", "popen", "Popen", "waitpid"),
        *("check_call", "check_output", "communicate"),
        # Databases and tables.
        *("execute", "executemany", "executescript", "fetchone", "fetchmany", "fetchall"),
        *("read_csv", "read_parquet", "read_excel", "read_sql", "to_csv", "to_parquet", "to_sql"),
    }
)
"""Functions and methods whose call makes a cell blocking, where the text does not show otherwise."""

LOOP_PACKAGES = frozenset({"asyncio", "anyio", "trio", "curio", "uvloop", "aiohttp", "aiofiles"})
"""Top packages whose ``sleep``, ``wait``, … do not block, and whose objects belong to a loop."""

LOOP_CALLS = frozenset(
    {
        *("create_task", "ensure_future", "get_running_loop", "get_event_loop", "current_task"),
        *("all_tasks", "run_in_executor", "call_soon", "call_later", "call_at", "create_future"),
        *("add_reader", "add_writer", "add_signal_handler"),
    }
)
"""Functions and methods that work on the thread of the running loop only."""

# Too common as names to count by themselves: only as asyncio's.
_LOOP_CALLS_OF_ASYNCIO = frozenset({"gather", "shield", "as_completed", "wrap_future"})
LOOP_STARTERS = frozenset({"run_until_complete", "run_forever"})
# Of a loop package only.
_STARTERS_OF_PACKAGE = frozenset({"run", "Runner"})

_BLOCKING_SUBMODULES = frozenset({"http.client"})

CANDIDATES = (
    BLOCKING_IO_MODULES
    | BLOCKING_IO_CALLS
    | LOOP_PACKAGES
    | LOOP_CALLS
    | LOOP_STARTERS
    | _BLOCKING_SUBMODULES
)
"""A cell whose code names none of these, and imports nothing with a dot in it, needs no look at its tree."""

_IN_MEMORY = frozenset({"StringIO", "BytesIO"})
_STREAMS = frozenset({"stdout", "stderr", "__stdout__", "__stderr__"})
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def is_blocking_module(dotted: str) -> bool:
    """Whether importing ``dotted`` makes a cell blocking. ``redis.asyncio`` and its like do not."""
    top, _, rest = dotted.partition(".")
    if top in BLOCKING_IO_MODULES:
        return "asyncio" not in rest.split(".")
    return dotted in _BLOCKING_SUBMODULES


class Findings:
    """What was found, in the order of the text.

    ``starts_loop``: runs a loop of its own. ``needs_loop``: needs the running one (never both:
    what starts its own is on no loop). ``blocks``: including the former. ``rests_on``: where
    the cell blocks only through calls of these names or of their methods, the names; what they hold
    decides.
    """

    __slots__ = ("blocks", "needs_loop", "reasons", "rests_on", "starts_loop")

    def __init__(self, tree: ast.AST | Iterable[ast.AST]) -> None:
        walk = _Walk([tree] if isinstance(tree, ast.AST) else tree)
        reasons = sorted(walk.reasons, key=lambda reason: (reason.line, reason.column))
        self.reasons: tuple[Reason, ...] = tuple(reasons)
        self.starts_loop = walk.starts_loop
        self.needs_loop = walk.needs_loop and not walk.starts_loop
        self.blocks = walk.blocks
        self.rests_on: tuple[str, ...] = ()
        if walk.blocks and not walk.certain:
            self.rests_on = tuple(dict.fromkeys(walk.roots))


class _Walk:
    """One pass over the code that runs."""

    def __init__(self, nodes: Iterable[ast.AST]) -> None:
        self.reasons: list[Reason] = []
        self.starts_loop = self.needs_loop = self.blocks = False
        self.certain = False
        self.roots: list[str] = []
        self._functions: dict[str, ast.FunctionDef] = {}
        self._imported: dict[str, str] = {}
        self._made: dict[str, set[str]] = {}
        self._calls: list[tuple[ast.Call, str]] = []
        top = list(nodes)
        self._collect(top)
        self._judge()

    # --- first: what is bound to what, and which calls there are -------------------------------

    def _collect(self, top: list[ast.AST]) -> None:
        stack = top[::-1]
        entered: set[str] = set()
        waiting: set[str] = set()
        while stack:
            node = stack.pop()
            if isinstance(node, _FUNCTIONS):
                # The body runs when called; decorators and defaults run now.
                if isinstance(node, ast.FunctionDef):
                    self._functions[node.name] = node
                    if node.name in waiting and node.name not in entered:
                        entered.add(node.name)
                        stack += reversed(node.body)
                if not isinstance(node, ast.Lambda):
                    stack += node.decorator_list
                stack += node.args.defaults
                stack += [default for default in node.args.kw_defaults if default is not None]
                continue
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self._imported[alias.asname or alias.name.partition(".")[0]] = alias.name
                    if is_blocking_module(alias.name):
                        self._block("import", alias.name, node, certain=True)
            elif isinstance(node, ast.ImportFrom):
                self._import_from(node)
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        self._made.setdefault(target.id, set()).add(_maker(node.value))
            elif isinstance(node, ast.withitem):
                if isinstance(node.optional_vars, ast.Name):
                    made = _maker(node.context_expr)
                    self._made.setdefault(node.optional_vars.id, set()).add(made)
            elif isinstance(node, ast.Call):
                name = _called(node.func)
                if name is not None:
                    self._calls.append((node, name))
                if isinstance(node.func, ast.Name):
                    waiting.add(name or "")
                    body = self._functions.get(name or "")
                    if body is not None and body.name not in entered:
                        entered.add(body.name)
                        stack += reversed(body.body)
            stack += reversed(list(ast.iter_child_nodes(node)))

    def _import_from(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        for alias in node.names:
            self._imported[alias.asname or alias.name] = f"{module}.{alias.name}"
        if node.level == 0 and (
            is_blocking_module(module) and any(alias.name != "asyncio" for alias in node.names)
            or any(f"{module}.{alias.name}" in _BLOCKING_SUBMODULES for alias in node.names)
        ):  # fmt: skip
            self._block("import", module, node, certain=True)

    # --- then: which of the calls matter ------------------------------------------------------

    def _judge(self) -> None:
        for node, name in self._calls:
            root = _root(node.func)
            package = self._package(root)
            attribute = isinstance(node.func, ast.Attribute)
            if name in LOOP_STARTERS or (name in _STARTERS_OF_PACKAGE and package in LOOP_PACKAGES):
                self.starts_loop = True
                self._block("call", name, node, certain=True)
            elif name in LOOP_CALLS or (
                name in _LOOP_CALLS_OF_ASYNCIO and package in LOOP_PACKAGES
            ):
                self.needs_loop = True
                self._note("needs_loop", name, node)
            elif name in BLOCKING_IO_CALLS:
                if not self._is_harmless(node.func, root, package):
                    direct = not attribute or _is_name(node.func)
                    known = package is not None or root in self._made
                    self._block("call", name, node, certain=known or not direct or root is None)
                    self.roots.append(root or "")
            elif attribute and root in BLOCKING_IO_MODULES and package in (None, root):
                self._block("call", name, node, certain=False)
                self.roots.append(root or "")

    def _package(self, root: str | None) -> str | None:
        """The top package that ``root`` stands for, where the text says so."""
        if root is None:
            return None
        imported = self._imported.get(root)
        if imported is not None:
            return imported.partition(".")[0]
        return root if root in LOOP_PACKAGES else None

    def _is_harmless(self, function: ast.expr, root: str | None, package: str | None) -> bool:
        if package in LOOP_PACKAGES:
            return True
        if isinstance(function, ast.Name):
            # A function of this cell: its own body was looked at.
            return function.id in self._functions
        assert isinstance(function, ast.Attribute)
        holder = function.value
        if isinstance(holder, ast.Attribute | ast.Name):
            last = holder.attr if isinstance(holder, ast.Attribute) else holder.id
            if last in _STREAMS:
                return True
        if isinstance(holder, ast.Name) and root in self._made:
            return self._made[holder.id] <= _IN_MEMORY
        return isinstance(holder, ast.Constant | ast.JoinedStr) or _maker(holder) in _IN_MEMORY

    def _block(self, kind: str, name: str, node: ast.AST, *, certain: bool) -> None:
        self.blocks = True
        self.certain = self.certain or certain
        self._note(kind, name, node)

    def _note(self, kind: str, name: str, node: ast.AST) -> None:
        text = name
        if isinstance(node, ast.Call):
            text = f"{ast.unparse(node.func)}(…)"
        elif isinstance(node, ast.stmt):
            text = ast.unparse(node)
        if len(text) > 80:
            text = text[:79] + "…"
        self.reasons.append(
            Reason(kind=kind, name=name, line=node.lineno, column=node.col_offset, text=text)  # type: ignore[arg-type, attr-defined]
        )


def _called(function: ast.expr) -> str | None:
    if isinstance(function, ast.Name):
        return function.id
    return function.attr if isinstance(function, ast.Attribute) else None


def _is_name(function: ast.expr) -> bool:
    """Whether ``function`` is ``name.attribute``."""
    return isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)


def _root(node: ast.expr) -> str | None:
    """The name at the start of ``a.b.c``; None where it starts with something else."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _maker(node: ast.expr) -> str:
    """The last name of what is called in ``node``; empty where it is no call."""
    return (_called(node.func) or "") if isinstance(node, ast.Call) else ""


def find_async_definitions(tree: ast.AST) -> Iterator[ast.AsyncFunctionDef]:
    """All ``async def`` in ``tree``, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef))


_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def find_awaits(tree: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """What makes a cell async, in no order: awaits, ``async for``, ``async with``, comprehensions.

    For saying where; whether a cell is async the compiler decides.
    """
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield node
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp):
            if any(generator.is_async for generator in node.generators):
                yield node
        elif isinstance(node, ast.GeneratorExp):
            # It runs later, but for what it goes over first.
            stack.append(node.generators[0].iter)
            continue
        if isinstance(node, _SCOPES):
            stack += getattr(node, "decorator_list", ())
            arguments = getattr(node, "args", None)
            if isinstance(node, ast.ClassDef):
                stack += [*node.bases, *node.keywords]
            elif isinstance(arguments, ast.arguments):
                stack += arguments.defaults
                stack += [default for default in arguments.kw_defaults if default is not None]
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                stack += [arg.annotation for arg in every if arg.annotation is not None]
                stack += [node.returns] if node.returns is not None else []
            continue
        stack += ast.iter_child_nodes(node)
