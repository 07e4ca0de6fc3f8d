"""The layers of the design, on paper (import contracts) and in fact (what a new interpreter loads)."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "pyrepl3"
MODULES = sorted(SOURCE.rglob("*.py"))

OPTIONAL = {"nbformat", "numpy", "prometheus_client", "prompt_toolkit", "resonate"}
IMPURE = {"asyncio", "socket", "sqlite3", "subprocess", "threading"}


def dotted(path: Path) -> str:
    """The module's name."""
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


def loaded_by(statement: str) -> set[str]:
    """The modules that a statement loads in a new interpreter, beyond those it starts with."""
    script = (
        f"import sys; before = {{*sys.modules}}\n{statement}\nloaded = [*sys.modules.keys() - before]"
        "; import json; print(json.dumps(loaded))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def under(name: str, loaded: set[str]) -> set[str]:
    """Those of the loaded modules that lie in a package."""
    return {module for module in loaded if module == name or module.startswith(f"{name}.")}


@pytest.mark.slow
def test_import_contracts_are_kept():
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert command, "import-linter is missing: run `uv sync`"
    done = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_the_package_loads_no_part_of_it():
    loaded = loaded_by("import pyrepl3")
    assert under("pyrepl3", loaded) == {"pyrepl3"}
    assert not loaded & {"asyncio", "cloudpickle", "msgspec", "sqlite3", *OPTIONAL}


def test_the_executor_loads_no_store_no_front_end_and_no_optional_library():
    loaded = loaded_by("import pyrepl3; pyrepl3.AsyncExecutor")
    assert not under("pyrepl3.store", loaded)
    assert not under("pyrepl3.front", loaded)
    assert not loaded & {"cloudpickle", "platformdirs", "sqlite3", *OPTIONAL}


def test_opening_a_session_loads_no_front_end_and_no_optional_library():
    loaded = loaded_by("import pyrepl3; pyrepl3.open_session")
    assert not under("pyrepl3.front", loaded)
    assert not loaded & OPTIONAL


@pytest.mark.parametrize("name", ["errors", "records", "config", "ports", "lang", "durable/state"])
def test_the_bottom_loads_no_loop_thread_file_store_or_process(name):
    """Also through the libraries that it imports, which the contracts do not follow."""
    package = SOURCE / name
    names = [dotted(path) for path in sorted(package.rglob("*.py"))] or [f"pyrepl3.{name}"]
    assert not loaded_by("import " + ", ".join(names)) & IMPURE


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_never_imports_the_public_names(path):
    """They live in the package's root, above all layers: importing them would be importing upward."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    homes = {dotted(module) for module in MODULES}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "pyrepl3" and not node.level:
            assert {f"pyrepl3.{alias.name}" for alias in node.names} <= homes
        if isinstance(node, ast.Import):
            assert "pyrepl3" not in {alias.name for alias in node.names}
