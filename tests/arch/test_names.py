"""Every public name has one home, and `import pyrepl3` offers it without loading it."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import tomllib
from pathlib import Path

import pytest

import pyrepl3

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "pyrepl3"
MODULES = sorted(SOURCE.rglob("*.py"))


def module_name(path: Path) -> str:
    """The dotted name of a source file."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def bound_at_top(tree: ast.Module) -> set[str]:
    """The names that a module defines itself; what it imports is not among them."""
    names = set()
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                names.add(name)
            case ast.AsyncFunctionDef(name=name) | ast.TypeAlias(name=ast.Name(id=name)):
                names.add(name)
            case ast.Assign(targets=targets):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
                names.add(name)
            case _:
                pass
    return names


def shown_home(module: str) -> str:
    """Where others import from: the records are one vocabulary, whatever module has which."""
    return "pyrepl3.records" if module.startswith("pyrepl3.records.") else module


DEFINED = {
    module_name(path): bound_at_top(ast.parse(path.read_text(encoding="utf-8"))) for path in MODULES
}


@pytest.mark.parametrize("name", pyrepl3.__all__)
def test_a_public_name_has_one_home_and_is_the_object_found_there(name):
    if name == "__version__":
        pytest.skip("made by the package itself")
    homes = [module for module, names in DEFINED.items() if name in names and module != "pyrepl3"]
    assert len(homes) == 1
    found = getattr(pyrepl3, name)
    assert found is getattr(importlib.import_module(homes[0]), name)
    assert getattr(found, "__module__", homes[0]) in (homes[0], "builtins")


def test_a_type_checker_sees_each_public_name_where_it_lives():
    """Or `pyrepl3.AsyncExecutor` would be a mere object to whoever type-checks against us."""
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    seen = {
        alias.asname: f"{node.module}.{alias.name}"
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    homes = {
        name: f"{shown_home(module)}.{name}"
        for module, names in DEFINED.items()
        for name in names & set(pyrepl3.__all__)
    }
    assert seen == homes


def test_public_names_are_listed_once_and_shown_by_dir():
    assert len(set(pyrepl3.__all__)) == len(pyrepl3.__all__)
    assert set(pyrepl3.__all__) <= set(dir(pyrepl3))
    assert not [name for name in pyrepl3.__all__ if name.startswith("_") and name != "__version__"]


def test_the_names_of_the_specification_are_public():
    promised = {
        "ASTOptimizer",
        "AsyncExecutor",
        "AsyncContextError",
        "CancellationError",
        "CompilationCache",
        "CompilationError",
        "CoroutineManager",
        "ErrorRecovery",
        "EventLoopCoordinator",
        "ExecutionCancellation",
        "ExecutionError",
        "ExecutionMetrics",
        "ExecutionMode",
        "ExecutorConfig",
        "ImportController",
        "NamespaceError",
        "NamespaceManager",
    }
    assert promised <= set(pyrepl3.__all__)


def test_every_error_that_leaves_the_engine_is_public():
    errors = {name for name in DEFINED["pyrepl3.errors"] if not name.startswith("_")}
    assert errors - {"LimitName", "CellInterrupt"} <= set(pyrepl3.__all__)


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="no_such_name"):
        pyrepl3.no_such_name  # noqa: B018 - looking it up is the test


def test_the_installed_version_is_that_of_the_project_file():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert importlib.metadata.version("pyrepl3") == project["version"]
