"""IPython's tests of top-level await: their cells, each run through AsyncExecutor.

Their module is imported with an ``ip`` that runs nothing: it writes down each cell and whether the
test wants an error there. Then the cells are ours to run.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from external import ours
from external.archives import unpacked
from external.cases import Suite
from pyrepl3 import AsyncExecutor

NAME = "ipython"


class Recorder:
    """Stands in for ``ip`` and for ``pytest`` in a test of theirs."""

    def __init__(self) -> None:
        self.cells: list[tuple[str, str]] = []
        self.loop_runner = "asyncio"
        self._wanted: type[BaseException] | None = None

    def run_cell(self, source: str) -> SimpleNamespace:
        wanted = self._wanted
        self.cells.append((source, "runs" if wanted is None else wanted.__name__))

        def raise_error() -> None:
            if wanted is not None:
                raise wanted("as the test wants")

        return SimpleNamespace(raise_error=raise_error)

    @contextlib.contextmanager
    def raises(self, wanted: type[BaseException]) -> Iterator[None]:
        self._wanted = wanted
        try:
            with contextlib.suppress(wanted):
                yield
        finally:
            self._wanted = None

    def warns(self, *_: object, **__: object) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def run() -> Suite:
    """Their test module of the IPython that is installed here."""
    version = importlib.metadata.version(NAME)
    suite = Suite(NAME, f"ipython {version}, tests/test_async_helpers.py")
    module = _load(unpacked(NAME, version) / "tests" / "test_async_helpers.py")
    for name, test in list(vars(module).items()):
        if not name.startswith("test_"):
            continue
        marks = getattr(test, "pytestmark", ())
        reasons = [mark.kwargs.get("reason", "") for mark in marks if mark.name == "skipif"]
        if any(mark.args and mark.args[0] for mark in marks if mark.name == "skipif"):
            suite.skipped.append(f"{name}: {', '.join(reasons)}")
        elif name == "test_should_be_async":
            _compare_analysis(suite, module, test)
        else:
            asyncio.run(_run_cells(suite, module, test))
    return suite


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("ipython_test_async_helpers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def _run_cells(suite: Suite, module: ModuleType, test: Any) -> None:
    recorder = Recorder()
    vars(module).update(ip=recorder, pytest=recorder)
    test()
    executor = AsyncExecutor()
    try:
        for source, wanted in recorder.cells:
            got = await ours.run(executor, source)
            suite.add(test.__name__, source, wanted, got)
    finally:
        await executor.aclose()


def _compare_analysis(suite: Suite, module: ModuleType, test: Any) -> None:
    theirs = module._should_be_async

    def should_be_async(source: str) -> bool:
        wanted = bool(theirs(source))
        got = ours.kind(source) == "coroutine"
        suite.add(test.__name__, source, f"async: {wanted}", f"async: {got}")
        return wanted

    module._should_be_async = should_be_async
    test()
