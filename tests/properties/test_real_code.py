"""Promises about any source, on real code: the standard library's own tests, cut into cells."""

from __future__ import annotations

import ast
import dis
import itertools
import symtable
import textwrap
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import CodeType

import pytest

from pyrepl3.errors import CompilationError
from pyrepl3.lang.blocking import find_awaits
from pyrepl3.lang.compile import compile_cell, renamed
from pyrepl3.lang.names import find_names
from pyrepl3.lang.parse import FLAGS, parse
from pyrepl3.lang.wrap import wrap
from pyrepl3.records import ExecutionMode

# Files that hold much of what matters here, and every so many-th of all others.
FAVOURITES = (
    *("test_coroutines.py", "test_asyncgen.py", "test_grammar.py", "test_patma.py"),
    *("test_named_expressions.py", "test_type_params.py", "test_type_aliases.py", "test_scope.py"),
    *("test_fstring.py", "test_listcomps.py", "test_contextlib_async.py", "test_generators.py"),
    *("test_with.py", "test_except_star.py", "test_global.py", "test_type_annotations.py"),
    *(
        "test_asyncio/test_taskgroups.py",
        "test_asyncio/test_tasks.py",
        "test_asyncio/test_locks.py",
    ),
)
EVERY = 43
MOST_CELLS = 3000


@cache
def cells() -> tuple[str, ...]:
    """Statements at the top of files, and bodies of functions and classes, each as a cell."""
    spec = find_spec("test")
    places = spec.submodule_search_locations if spec is not None else None
    # Some distributions leave the tests out; then the library itself is real code enough.
    root = Path(next(iter(places))) if places else Path(ast.__file__).parent
    paths = [root / name for name in FAVOURITES]
    paths += sorted(root.rglob("test_*.py" if places else "*.py"))[::EVERY]
    found: dict[str, None] = {}
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text)
        except (OSError, SyntaxError, ValueError):
            continue
        lines = text.splitlines(keepends=True)
        if any(char in text for char in "\f\v\x1c\x1d\x1e\x85\u2028\u2029"):
            continue  # splitlines and the compiler count such lines differently
        for node in ast.walk(tree):
            if isinstance(node, ast.Module):
                found.update(dict.fromkeys(segments(node.body, lines)))
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found[textwrap.dedent("".join(segments(node.body, lines)))] = None
    # What was cut from the middle of a line, or has a string that cannot be dedented, is no cell.
    found = {source: None for source in found if is_whole(source)}
    # The same number from everywhere, since the files are in order.
    step = max(1, len(found) // MOST_CELLS)
    return tuple(found)[::step]


def is_whole(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def segments(body: list[ast.stmt], lines: list[str]) -> list[str]:
    """The source of each statement; those that share a line stay together."""
    parts: list[list[int]] = []
    for node in body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        if parts and first <= parts[-1][1]:
            parts[-1][1] = node.end_lineno
        else:
            parts.append([first, node.end_lineno])
    return ["".join(lines[first - 1 : last]) for first, last in parts]


# --- an answer of our own to "is it async?", by the tree alone ------------------------------------


def is_async(node: ast.AST, *, at_top: bool = True) -> bool:
    """What the language reference says; and at the top CPython counts async generators too."""
    if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
        return True
    parts: list[ast.AST]
    match node:
        case ast.ClassDef():
            parts = [*node.decorator_list, *node.bases, *node.keywords]
        case ast.Lambda(args=arguments):
            parts = [*arguments.defaults, *filter(None, arguments.kw_defaults)]
        case ast.FunctionDef(args=arguments) | ast.AsyncFunctionDef(args=arguments):
            parts = [*node.decorator_list, *arguments.defaults]
            parts += filter(None, [*arguments.kw_defaults, node.returns])
            parts += [a.annotation for a in ast.walk(arguments) if getattr(a, "annotation", None)]
        case ast.GeneratorExp() if not at_top:
            parts = [node.generators[0].iter]
        case ast.comprehension(is_async=1):
            return True
        case _:
            parts = [*ast.iter_child_nodes(node)]
    return any(is_async(part, at_top=at_top) for part in parts)


@pytest.mark.slow
def test_the_static_answer_agrees_with_the_compiler_on_every_cell():
    counts = dict.fromkeys(ExecutionMode, 0)
    for source in cells():
        tree = ast.parse(source)
        try:
            cell = compiled(source)
        except CompilationError:
            counts[ExecutionMode.UNKNOWN] += 1
            continue
        counts[cell.mode] += 1
        codes = [code for code in (cell.body, cell.tail) if code is not None]
        by_code = any(code.co_flags & 0x80 for code in codes)
        assert cell.is_async == by_code, source
        assert by_code == is_async(tree, at_top=not cell.wrapped), source
        if not cell.wrapped:
            assert by_code == any(True for _ in find_awaits(tree)), source
        assert (cell.mode is ExecutionMode.TOP_LEVEL_AWAIT) == by_code, source
        if not by_code:
            has_def = any(isinstance(node, ast.AsyncFunctionDef) for node in ast.walk(tree))
            assert (cell.mode is ExecutionMode.ASYNC_DEF) == has_def, source
    # It looked at something of every kind.
    assert min(counts.values()) >= 5, counts


def compiled(source: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compile_cell(source, "<cell>")


def test_what_is_cut_from_files_compiles_unless_it_only_makes_sense_in_a_function():
    wrong = []
    for source in cells()[::20]:
        try:
            compiled(source)
        except CompilationError as error:
            if not any(word in error.msg for word in ("yield", "nonlocal", "super", "global")):
                wrong.append((error.msg, source))
    assert not wrong


# --- wrapping keeps places ------------------------------------------------------------------------

LOADS_AND_STORES = {
    "LOAD_NAME": "LOAD_GLOBAL",
    "STORE_NAME": "STORE_GLOBAL",
    "DELETE_NAME": "DELETE_GLOBAL",
}
FRAMING = {
    *("RESUME", "NOP", "PUSH_NULL", "CACHE", "SETUP_ANNOTATIONS", "RETURN_GENERATOR", "POP_TOP"),
    *("MAKE_CELL", "COPY_FREE_VARS", "EXTENDED_ARG", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE"),
}


def places(code: CodeType) -> list[tuple[str, str, dis.Positions]]:
    """Each instruction that does something, with its line and columns, nested ones too."""
    found = [
        (
            code.co_qualname,
            LOADS_AND_STORES.get(instruction.opname, instruction.opname),
            instruction.positions,
        )
        for instruction in dis.get_instructions(code)
        if instruction.opname not in FRAMING and instruction.positions.lineno is not None
    ]
    for const in code.co_consts:
        if isinstance(const, CodeType):
            found += places(const)
    return found


def can_be_compared(tree: ast.Module) -> bool:
    """Not where wrapping says something else on purpose, or where a scope would be another."""
    first = tree.body[:1]
    if first and isinstance(first[0], ast.Expr) and isinstance(first[0].value, ast.Constant):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.Return | ast.Global | ast.Nonlocal):
            return False
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            return False
        if isinstance(node, ast.Name) and node.id == "super":
            return False  # has an instruction of its own in functions
    return True


@pytest.mark.slow
def test_a_wrapped_cell_has_every_instruction_at_its_place_under_its_name():
    compared = asynchronous = 0
    for source in cells()[::2]:
        tree = parse(source, "<cell>")
        if not tree.body or not can_be_compared(tree):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                plain = compile(source, "<cell>", "exec", FLAGS, dont_inherit=True)
            except SyntaxError:
                continue
            wrapped = wrap(tree, source, "<cell>", 0, 1)
        assert not wrapped.co_freevars
        assert (wrapped.co_name, wrapped.co_qualname) == ("<module>", "<module>")
        assert wrapped.co_firstlineno == plain.co_firstlineno
        # Each once: the compiler copies short blocks before a return, and a function returns elsewhere.
        assert list(dict.fromkeys(places(wrapped))) == list(dict.fromkeys(places(plain))), source
        if not any(isinstance(node, ast.GeneratorExp) for node in ast.walk(tree)):
            assert (wrapped.co_flags ^ plain.co_flags) & 0x80 == 0, source
        compared += 1
        asynchronous += wrapped.co_flags & 0x80 != 0
    assert compared > 500
    assert asynchronous > 20


# --- renaming -------------------------------------------------------------------------------------


def codes_in(code: CodeType):
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from codes_in(const)


@pytest.mark.slow
def test_a_renamed_cell_differs_in_its_file_name_only():
    for source in cells()[::10]:
        try:
            cell = compiled(source)
        except CompilationError:
            continue
        other = renamed(cell, "<other>")
        assert other.nested == cell.nested
        for before, after in ((cell.body, other.body), (cell.tail, other.tail)):
            assert (before is None) == (after is None)
            if before is None:
                continue
            for old, new in zip(codes_in(before), codes_in(after), strict=True):
                assert new.co_filename == "<other>"
                for name in dir(old):
                    if name.startswith("co_") and name not in {
                        "co_filename", "co_lines", "co_positions", "co_branches", "co_consts",
                        "co_lnotab",
                    }:  # fmt: skip
                        assert getattr(old, name) == getattr(new, name)
                assert list(old.co_positions()) == list(new.co_positions())
                assert len(old.co_consts) == len(new.co_consts)
                for const, same in zip(old.co_consts, new.co_consts, strict=True):
                    assert const is same or isinstance(const, CodeType)
        back = renamed(other, "<cell>")
        assert [back.body, back.tail, back.names] == [cell.body, cell.tail, cell.names]


# --- names ----------------------------------------------------------------------------------------


def by_symtable(source: str) -> tuple[set[str], set[str]]:
    """What the compiler's own symbol table says: global names read and bound, at any depth."""
    top = symtable.symtable(source, "<cell>", "exec")
    reads: set[str] = set()
    binds: set[str] = set()
    stack = [top]
    while stack:
        table = stack.pop()
        stack += table.get_children()
        for symbol in table.get_symbols():
            name = symbol.get_name()
            at_top = table is top
            if at_top or symbol.is_global():
                if symbol.is_referenced():
                    reads.add(name)
                if (
                    symbol.is_assigned()
                    or symbol.is_imported()
                    or (at_top and symbol.is_namespace())
                ):
                    binds.add(name)
    return reads, binds


# Read or bound by what the compiler makes of the syntax; no symbol table knows of them.
IMPLICIT = {"__name__", "__annotations__", "__doc__", "__conditional_annotations__"}


@pytest.mark.slow
def test_names_agree_with_the_symbol_table_but_for_what_that_loses():
    compared = 0
    for source in cells()[::3]:
        tree = ast.parse(source)
        kinds = {type(node) for node in ast.walk(tree)}
        # `*` has no symbols. Of inlined comprehensions the table loses reads and what a walrus
        # binds, and takes their targets for globals (the reason why names.py does not use it).
        inlined = kinds & {ast.ListComp, ast.SetComp, ast.DictComp}
        if ast.Return in kinds or "import *" in source or inlined:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                names = find_names(source)
            except CompilationError:
                continue
        reads, binds = by_symtable(source)
        compared += 1
        assert names.binds - IMPLICIT <= binds, source
        # A deleted name and an annotated one count as assigned there.
        annotated = {n.target.id for n in ast.walk(tree)
                     if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}  # fmt: skip
        # A dead branch has symbols, but no code.
        dead = kinds & {ast.If, ast.While, ast.Assert, ast.IfExp}
        if not dead:
            assert binds <= names.binds | names.deletes | annotated, source
            assert reads <= names.reads | names.deletes | annotated, source
        # It takes what a class body binds and reads for the class's own.
        if ast.ClassDef not in kinds:
            assert names.reads - IMPLICIT <= reads, source
    assert compared > 300


@pytest.mark.slow
def test_names_are_among_those_that_the_cell_carries():
    for source in itertools.islice(cells(), 0, None, 7):
        try:
            cell = compiled(source)
            names = find_names(source)
        except (CompilationError, SyntaxWarning):
            continue
        assert (names.reads | names.binds | names.deletes) - {"*"} - IMPLICIT <= set(cell.names)
