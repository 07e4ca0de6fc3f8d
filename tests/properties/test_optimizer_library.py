"""The standard library's own test modules, each run as a cell, optimised and not: the same tests pass."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

CAMPAIGN = os.environ.get("PYREPL3_CAMPAIGN") == "1"
SPEC = find_spec("test")
ROOT = Path(next(iter((SPEC and SPEC.submodule_search_locations) or ["/nowhere"])))
QUICK = """
    augassign bool compare dictcomps global named_expressions scope setcomps string_literals unpack
""".split()
# They take minutes, need a network, a terminal or other processes, or end the process.
LEFT_OUT = """
    asyncio capi concurrent multiprocessing socket ssl thread tools venv
""".split()

# Runs each named module of the library's tests as a cell, then its tests; prints what came of each.
RUN = """
import asyncio, contextlib, io, json, sys, unittest, warnings
from pathlib import Path
import pyrepl3

optimise, *paths = sys.argv[1:]
config = pyrepl3.ExecutorConfig(
    max_execution_time=None, max_memory_usage=None, max_coroutines=None, denied_modules=None,
    enable_ast_optimization=optimise == "1",
)
found = {}
warnings.simplefilter("ignore")
for path in paths:
    namespace = pyrepl3.NamespaceManager(name=Path(path).stem)
    executor = pyrepl3.AsyncExecutor(None, namespace, config=config)
    if optimise == "1":
        executor._planner.transform = pyrepl3.ASTOptimizer().optimize  # all passes
    outcomes = found[Path(path).stem] = {}
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
        try:
            asyncio.run(executor.execute(Path(path).read_text(encoding="utf-8")))
        except BaseException as error:
            outcomes["cell"] = type(error).__name__
            continue
        module = sys.modules[executor.namespace.get_for_execution()["__name__"]]
        outcomes["transform"] = str(executor._planner.transform is not None)
        try:
            suite = unittest.defaultTestLoader.loadTestsFromModule(module)
            result = unittest.TestResult()
            ran = []
            result.startTest = lambda test: ran.append(test.id())
            suite.run(result)
        except BaseException as error:
            outcomes["suite"] = type(error).__name__
            continue
        outcomes.update(dict.fromkeys(ran, "ran"))
        for kind in ("errors", "failures", "skipped"):
            for test, text in getattr(result, kind):
                outcomes[test.id()] = kind + ": " + text.strip().rpartition("\\n")[2].partition(":")[0]
print("\\n" + json.dumps(found))
"""


def outcomes_of(paths: list[Path], *, optimise: bool, folder: Path) -> dict[str, dict[str, str]]:
    """By module, what came of each test."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(int(optimise)), *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=folder,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("\n{")[2].join(["{", ""]))


def compare(paths: list[Path], folder: Path) -> tuple[int, int]:
    """How many tests ran with the same outcome, and in how many modules."""
    plain = outcomes_of(paths, optimise=False, folder=folder)
    optimised = outcomes_of(paths, optimise=True, folder=folder)
    modules = tests = 0
    for name, outcomes in plain.items():
        with_passes = optimised[name]
        assert outcomes.pop("transform", "False") == "False"
        assert with_passes.pop("transform", "True") == "True"
        assert with_passes == outcomes, name
        ran = [outcome for key, outcome in outcomes.items() if key not in ("cell", "suite")]
        modules += "ran" in ran
        tests += ran.count("ran")
    return tests, modules


@pytest.mark.slow
@pytest.mark.skipif(not ROOT.exists(), reason="this Python came without its tests")
def test_the_library_s_tests_come_out_the_same_in_optimised_cells(tmp_path):
    paths = [ROOT / f"test_{name}.py" for name in QUICK]
    paths = [path for path in paths if path.exists()]
    tests, modules = compare(paths, tmp_path)
    assert modules >= 8
    assert tests > 150


@pytest.mark.slow
@pytest.mark.timeout(300)  # twice what one run may take, and more
@pytest.mark.skipif(not CAMPAIGN, reason="takes an hour: PYREPL3_CAMPAIGN=1")
@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("test_*.py")) if CAMPAIGN else (), ids=lambda path: path.stem
)
def test_each_module_comes_out_the_same(path, tmp_path):
    if any(name in path.stem for name in LEFT_OUT):
        pytest.skip("not for a cell")
    try:
        print(path.stem, *compare([path], tmp_path))
    except subprocess.TimeoutExpired:
        pytest.skip("takes too long")
