"""The import policy holds for what cells write, and for nothing else."""

from __future__ import annotations

import functools
import gc
import importlib

import pytest

from pyrepl3 import AsyncExecutor, ExecutorConfig, ImportController

DENIED = [
    ("import os", "os"),
    ("import os.path", "os.path"),
    ("import os as o", "os"),
    ("from os import path", "os"),
    ("from os.path import join", "os.path"),
    ("import json, os", "os"),
    ("__import__('os')", "os"),
    ("import importlib; importlib.import_module('os')", "os"),
    ("import importlib; importlib.__import__('os')", "os"),
    ("from importlib import import_module as load; load('os.path')", "os.path"),
    ("import importlib; importlib.import_module('.path', 'os')", "os"),
    ("import importlib; list(map(importlib.import_module, ['json', 'os']))", "os"),
    ("exec('import os')", "os"),
    ("exec('import os', {})", "os"),
    ("def f():\n    import os\nf()", "os"),
    ("class C:\n    import os", "os"),
    ("import asyncio\nawait asyncio.sleep(0)\nimport os", "os"),
    ("def g():\n    exec('import os')\ng()", "os"),
]


@pytest.fixture(autouse=True)
def _nobody_else():
    """Executors of other tests let go of their policy when they are collected."""
    gc.collect()


@pytest.fixture
def executor():
    made = AsyncExecutor(config=ExecutorConfig())
    yield made
    made.close()


@pytest.mark.parametrize(("source", "name"), DENIED, ids=[source for source, _ in DENIED])
async def test_a_denied_module_cannot_be_imported_by_a_cell(executor, source, name):
    with pytest.raises(
        ImportError, match=r"'os' is denied; take it off .*denied_modules"
    ) as caught:
        await executor.execute(source)
    assert caught.value.name == name


ALLOWED = [
    "import json; json.dumps(1)",
    "import tempfile, shutil, asyncio, concurrent.futures",  # they import os and sys themselves
    "import importlib; importlib.import_module('shutil').which",
    "import collections.abc as c; c.Mapping",
    "from json import *",
]


@pytest.mark.parametrize("source", ALLOWED)
async def test_other_modules_and_their_own_imports_are_left_alone(executor, source):
    await executor.execute(source)


async def test_a_function_of_a_cell_is_held_to_the_policy_when_others_call_it(executor):
    await executor.execute("def later():\n    import os\n    return os")
    later = executor.namespace.namespace["later"]
    with pytest.raises(ImportError, match="denied"):
        later()


async def test_only_allowed_modules_where_there_is_a_list():
    config = ExecutorConfig(allowed_modules=frozenset({"math"}), denied_modules=None)
    executor = AsyncExecutor(config=config)
    assert await executor.execute("import math; math.floor(2.5)") == 2
    with pytest.raises(ImportError, match=r"'json' is not allowed; add it to .*allowed_modules"):
        await executor.execute("import json.decoder")
    executor.close()


async def test_denied_wins_over_allowed():
    both = frozenset({"math"})
    executor = AsyncExecutor(config=ExecutorConfig(allowed_modules=both, denied_modules=both))
    with pytest.raises(ImportError, match="denied"):
        await executor.execute("import math")
    executor.close()


async def test_no_imports_at_all():
    executor = AsyncExecutor(config=ExecutorConfig(allow_imports=False))
    with pytest.raises(ImportError, match=r"switched off; set ExecutorConfig\.allow_imports"):
        await executor.execute("import math")
    executor.close()


async def test_the_callers_own_imports_are_free_and_the_hook_goes_with_the_last_executor():
    before = importlib.import_module, importlib.__import__
    first, second = (AsyncExecutor(config=ExecutorConfig()) for _ in range(2))
    assert importlib.import_module is not before[0]
    assert importlib.import_module("os").sep  # this test is nobody's cell
    assert importlib.__import__("os").sep
    first.close()
    with pytest.raises(ImportError):
        await second.execute("import importlib; importlib.import_module('os')")
    second.close()
    second.close()
    assert (importlib.import_module, importlib.__import__) == before


async def test_a_free_executor_beside_a_strict_one_is_free(executor):
    free = AsyncExecutor()
    assert await free.execute("import os, importlib; importlib.import_module('os') is os")
    free.close()


async def test_sys_modules_passes_the_policy_which_is_why_it_is_no_boundary(executor):
    assert await executor.execute("import shutil; shutil.os.sep") == "/"


async def test_of_two_policies_on_one_namespace_the_newest_holds_and_the_older_comes_back():
    namespace = {}
    strict = ImportController(ExecutorConfig(denied_modules=frozenset({"os", "json"})))
    milder = ImportController(ExecutorConfig(denied_modules=frozenset({"os"})))
    strict.guard(namespace)
    milder.guard(namespace)
    source = "import json, importlib; importlib.import_module('json')"
    exec(source, namespace)
    milder.release()
    milder.release()
    with pytest.raises(ImportError, match="'json' is denied"):
        exec(source, namespace)
    strict.release()
    exec(source, namespace)


def test_a_hook_under_somebody_elses_stays_and_is_not_put_there_twice(monkeypatch):
    controller, namespace = ImportController(), {}
    before = importlib.import_module
    controller.guard(namespace)
    ours = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", functools.partial(ours))
    theirs = importlib.import_module
    controller.release()
    assert importlib.import_module is theirs
    assert importlib.import_module("os").sep  # nobody is held to anything
    controller.guard({})
    assert importlib.import_module is theirs
    monkeypatch.undo()
    assert importlib.import_module is ours
    controller.release()
    assert importlib.import_module is before


def test_what_importlib_says_of_wrong_arguments_it_still_says():
    controller, namespace = ImportController(), {}
    controller.guard(namespace)
    try:
        for source in ("import_module(5)", "import_module('.x')", "__import__(5)"):
            with pytest.raises((AttributeError, TypeError)):
                exec(f"import importlib; importlib.{source}", namespace)
        relative = "importlib.__import__('tool', {'__package__': 'json'}, None, ('main',), 1)"
        exec(f"import importlib; {relative}", namespace)
    finally:
        controller.release()


def test_relative_imports_pass():
    controller = ImportController(ExecutorConfig(allowed_modules=frozenset()))
    found = controller.controlled_import("records", {"__package__": "pyrepl3"}, None, ("Done",), 1)
    assert found.__name__ == "pyrepl3.records"


def test_a_policy_let_go_by_the_collector_while_another_begins_does_not_wait_for_itself(
    monkeypatch,
):
    """The collector may run anywhere, also while a controller begins to guard."""
    first, second = ImportController(), ImportController()
    first.guard({})
    monkeypatch.setattr(second, "builtins", lambda: first.release() or {})
    second.guard({})
    second.release()
    assert importlib.import_module.__module__ == "importlib"
    assert not hasattr(importlib.import_module, "__wrapped__")
