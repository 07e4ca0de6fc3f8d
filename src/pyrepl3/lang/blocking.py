"""A cell's tree in, what in it blocks, needs the running loop or starts a loop of its own out.

Only code that runs when the cell runs counts: statements at the top, class bodies, and the bodies
of functions that the same cell defines *and* calls. It reads the text alone; what the names in it
hold is the business of :mod:`pyrepl3.lang.modes`.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Literal

from pyrepl3.lang.parse import DEFINITIONS, column_of, parts_outside
from pyrepl3.records import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

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

# Too common as names to count by themselves: only as a loop package's.
LOOP_CALLS_OF_PACKAGE = frozenset({"gather", "shield", "as_completed", "wrap_future"})
LOOP_STARTERS = frozenset({"run_until_complete", "run_forever"})
"""Methods that run a loop themselves, so that no loop may run on their thread."""
STARTERS_OF_PACKAGE = frozenset({"run", "Runner"})

_STEPS = frozenset({"pyrepl3.step", "pyrepl3.sleep", "pyrepl3.ask"})
_BLOCKING_SUBMODULES = frozenset({"http.client", "pyrepl3.run.steps", *_STEPS})

CANDIDATES = (
    BLOCKING_IO_MODULES
    | BLOCKING_IO_CALLS
    | LOOP_PACKAGES
    | LOOP_CALLS
    | LOOP_STARTERS
    | {submodule.partition(".")[0] for submodule in _BLOCKING_SUBMODULES}
)
"""A cell whose code names none of these, and imports nothing with a dot in it, needs no look at its tree."""

_IN_MEMORY = frozenset({"StringIO", "BytesIO"})
_STREAMS = frozenset({"stdout", "stderr", "__stdout__", "__stderr__"})
_LONGEST_TEXT = 80  # characters of code in a reason


def is_blocking_module(dotted: str) -> bool:
    """Whether importing ``dotted`` makes a cell blocking. ``redis.asyncio`` and its like do not."""
    top, _, rest = dotted.partition(".")
    if top in BLOCKING_IO_MODULES:
        return "asyncio" not in rest.split(".")
    return dotted in _BLOCKING_SUBMODULES


class Finding:
    """One thing that decides. ``root``: the name that the call starts with, if it starts with one.

    ``certain``: whatever that name holds, the text shows what is called.
    """

    __slots__ = ("certain", "kind", "name", "node", "root")

    def __init__(
        self,
        kind: Literal["import", "call", "needs_loop"],
        name: str,
        node: ast.stmt | ast.expr,
        root: str | None,
        *,
        certain: bool,
    ) -> None:
        self.kind, self.name, self.node = kind, name, node
        self.root, self.certain = root, certain

    def explain(self, lines: list[str]) -> Reason:
        """The same in words. ``lines``: the cell's, for the column."""
        node = self.node
        text = f"{ast.unparse(node.func)}(…)" if isinstance(node, ast.Call) else ast.unparse(node)
        if len(text) > _LONGEST_TEXT:
            text = text[: _LONGEST_TEXT - 1] + "…"
        return Reason(
            kind=self.kind,
            name=self.name,
            line=node.lineno,
            column=column_of(lines[node.lineno - 1], node.col_offset),
            text=text,
        )


class Findings:
    """What was found in the statements of a cell.

    ``starts_loop``: runs a loop of its own. ``needs_loop``: needs the running one (never both: what
    starts its own must be on no loop). ``blocks``: the former included. ``rests_on``: where it blocks
    only through calls of these names or of their methods, the names; what they hold decides.
    """

    __slots__ = ("blocks", "found", "needs_loop", "rests_on", "starts_loop")

    def __init__(self, statements: Iterable[ast.stmt]) -> None:
        walk = _Walk(statements)
        self.found = walk.found
        self.starts_loop = walk.starts_loop
        kinds = {finding.kind for finding in walk.found}
        self.needs_loop = "needs_loop" in kinds and not walk.starts_loop
        self.blocks = not kinds <= {"needs_loop"}
        blocking = [finding for finding in walk.found if finding.kind != "needs_loop"]
        self.rests_on: tuple[str, ...] = ()
        if blocking and not any(finding.certain for finding in blocking):
            self.rests_on = tuple(dict.fromkeys(finding.root or "" for finding in blocking))


class _Walk:
    """One pass over the code that runs: what is bound to what, and which calls there are."""

    def __init__(self, statements: Iterable[ast.stmt]) -> None:
        self.found: list[Finding] = []
        self.starts_loop = False
        self._functions: dict[str, ast.FunctionDef] = {}
        self._called: set[str] = set()
        self._entered: set[str] = set()
        self._imported: dict[str, str] = {}
        self._made: dict[str, set[str]] = {}
        self._calls: list[ast.Call] = []
        self._stack: list[ast.AST] = [*statements]
        while self._stack:
            node = self._stack.pop()
            visit = _VISITS.get(type(node))
            if visit is None or visit(self, node):
                self._stack += ast.iter_child_nodes(node)
        # Judged when everything that the cell binds is known.
        for call in self._calls:
            self._judge(call)

    def visit_function(self, node: ast.FunctionDef) -> bool:
        self._functions[node.name] = node
        if node.name in self._called:
            self._enter(node.name)
        return self.visit_definition(node)

    def visit_definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        # Decorators and defaults run now, the body when called.
        self._stack += node.decorator_list
        self.visit_defaults(node)
        return False

    def visit_defaults(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> bool:
        self._stack += node.args.defaults
        self._stack += [default for default in node.args.kw_defaults if default is not None]
        return False

    def visit_import(self, node: ast.Import) -> bool:
        for alias in node.names:
            self._imported[alias.asname or alias.name.partition(".")[0]] = alias.name
            if is_blocking_module(alias.name):
                self.found.append(Finding("import", alias.name, node, None, certain=True))
        return False

    def visit_import_from(self, node: ast.ImportFrom) -> bool:
        module = node.module or ""
        blocks = False
        for alias in node.names:
            dotted = f"{module}.{alias.name}"
            self._imported[alias.asname or alias.name] = dotted
            blocks = blocks or is_blocking_module(dotted) or module in _BLOCKING_SUBMODULES
        if blocks and node.level == 0:
            self.found.append(Finding("import", module, node, None, certain=True))
        return False

    def visit_assign(self, node: ast.Assign) -> bool:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self._made.setdefault(target.id, set()).add(_maker(node.value))
        return True

    def visit_with_item(self, node: ast.withitem) -> bool:
        if isinstance(node.optional_vars, ast.Name):
            made = self._made.setdefault(node.optional_vars.id, set())
            made.add(_maker(node.context_expr))
        return True

    def visit_call(self, node: ast.Call) -> bool:
        self._calls.append(node)
        if isinstance(node.func, ast.Name):
            self._called.add(node.func.id)
            self._enter(node.func.id)
        return True

    def _enter(self, name: str) -> None:
        """A function of this cell that this cell calls: its body runs too."""
        function = self._functions.get(name)
        if function is not None and name not in self._entered:
            self._entered.add(name)
            self._stack += function.body

    def _judge(self, node: ast.Call) -> None:
        function = node.func
        name = _called(function)
        if name is None:
            return
        root = _root(function)
        package = self._package(root)
        if name in LOOP_STARTERS or (name in STARTERS_OF_PACKAGE and package in LOOP_PACKAGES):
            self.starts_loop = True
            self.found.append(Finding("call", name, node, root, certain=True))
        elif name in LOOP_CALLS or (name in LOOP_CALLS_OF_PACKAGE and package in LOOP_PACKAGES):
            self.found.append(Finding("needs_loop", name, node, root, certain=True))
        elif name in BLOCKING_IO_CALLS:
            if package not in LOOP_PACKAGES and not self._is_harmless(function):
                # `name(…)` and `name.method(…)` may be anything, unless this cell says what it is.
                known = package is not None or root in self._made
                direct = isinstance(function, ast.Name) or (
                    isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)
                )
                self.found.append(Finding("call", name, node, root, certain=known or not direct))
        elif f"{package or root}.{name}" in _STEPS:
            self.found.append(Finding("call", name, node, root, certain=True))
        elif isinstance(function, ast.Attribute) and root in BLOCKING_IO_MODULES:
            if package is None or package == root:
                direct = isinstance(function.value, ast.Name)
                self.found.append(Finding("call", name, node, root, certain=not direct))

    def _package(self, root: str | None) -> str | None:
        """The top package that ``root`` stands for, where the text says so."""
        if root is None:
            return None
        imported = self._imported.get(root)
        if imported is not None:
            return imported.partition(".")[0]
        return root if root in LOOP_PACKAGES else None

    def _is_harmless(self, function: ast.expr) -> bool:
        """Whether the text shows that this does not block, its name notwithstanding."""
        if isinstance(function, ast.Name):
            return function.id in self._functions  # its own body was looked at
        assert isinstance(function, ast.Attribute)
        holder = function.value
        if isinstance(holder, ast.Attribute):
            return holder.attr in _STREAMS
        if isinstance(holder, ast.Name):
            made = self._made.get(holder.id)
            return holder.id in _STREAMS if made is None else made <= _IN_MEMORY
        return isinstance(holder, ast.Constant | ast.JoinedStr) or _maker(holder) in _IN_MEMORY


def _nothing(_walk: _Walk, _node: ast.AST) -> bool:
    return False


_VISITS: dict[type[ast.AST], Callable[[_Walk, Any], bool]] = {
    ast.FunctionDef: _Walk.visit_function,
    ast.AsyncFunctionDef: _Walk.visit_definition,
    ast.Lambda: _Walk.visit_defaults,
    ast.Import: _Walk.visit_import,
    ast.ImportFrom: _Walk.visit_import_from,
    ast.Assign: _Walk.visit_assign,
    ast.withitem: _Walk.visit_with_item,
    ast.Call: _Walk.visit_call,
    # Nothing to see below these, and they are most of a tree.
    **dict.fromkeys((ast.Name, ast.Constant, ast.Load, ast.Store, ast.alias), _nothing),
}
"""Each returns whether the children of the node run now."""


def _called(function: ast.expr) -> str | None:
    if isinstance(function, ast.Name):
        return function.id
    return function.attr if isinstance(function, ast.Attribute) else None


def _root(node: ast.expr) -> str | None:
    """The name at the start of ``a.b.c``; None where it starts with something else."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _maker(node: ast.expr) -> str:
    """The last name of what is called in ``node``; empty where it is no call."""
    return (_called(node.func) or "") if isinstance(node, ast.Call) else ""


# --- what else a reason can be ----------------------------------------------------------------


def find_async_definitions(tree: ast.AST) -> Iterator[ast.AsyncFunctionDef]:
    """All ``async def`` in ``tree``, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef))


def find_awaits(tree: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """What makes a cell async, in no order: awaits, ``async for``, ``async with``, comprehensions.

    It says where; whether a cell is async the compiler decides. To the compiler an asynchronous
    generator expression counts too, though it only runs later.
    """
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, DEFINITIONS):
            stack += parts_outside(node)
        elif isinstance(node, ast.GeneratorExp):
            first, *others = node.generators
            stack.append(first.iter)
            inside = [node.elt, *first.ifs, *others]
            if first.is_async or any(True for part in inside for _ in find_awaits(part)):
                yield node
        else:
            if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith) or (
                isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp)
                and any(generator.is_async for generator in node.generators)
            ):
                yield node
            stack += ast.iter_child_nodes(node)
