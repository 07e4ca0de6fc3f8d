"""The import policy holds for what cells write, and for nothing else."""

from __future__ import annotations

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
    ("exec('import os')", "os"),
    ("exec('import os', {})", "os"),
    ("def f():\n    import os\nf()", "os"),
    ("class C:\n    import os", "os"),
    ("import asyncio\nawait asyncio.sleep(0)\nimport os", "os"),
    ("def g():\n    exec('import os')\ng()", "os"),
]


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


def test_relative_imports_pass():
    controller = ImportController(ExecutorConfig(allowed_modules=frozenset()))
    found = controller.controlled_import("records", {"__package__": "pyrepl3"}, None, ("Done",), 1)
    assert found.__name__ == "pyrepl3.records"
