"""A session runs in the Python that it asks for: another version, or a virtual environment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pyrepl3

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="made with uv, as in CI"),
]

OTHER = "3.12" if sys.version_info[:2] != (3, 12) else "3.13"


def make(folder, version, *packages):
    """An environment of that version, with these packages. Its Python."""
    env = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    commands = [["uv", "venv", "-q", "--python", version, str(folder)]]
    python = str(folder / "bin" / "python")
    if packages:
        commands.append(["uv", "pip", "install", "-q", "--python", python, *packages])
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 0, done.stderr
    return python


@pytest.fixture(scope="module")
def same(tmp_path_factory):
    """A virtual environment of this interpreter with nothing in it but a module of its own."""
    folder = tmp_path_factory.mktemp("same")
    python = make(folder, sys.executable)
    [site] = folder.glob("lib/python*/site-packages")
    (site / "only_there.py").write_text("WHERE = __file__\n")
    return python


async def test_a_virtual_environment_has_its_packages_and_none_of_ours(same):
    async with pyrepl3.open_session(isolation="process", python=same) as session:
        found = await session.run("import only_there; only_there.WHERE")
        assert Path(found.text.strip("'")).parents[3] == Path(same).parents[1]
        assert (await session.run("import sys; sys.prefix")).text.strip("'") in same
        outcome = await session.run("import prompt_toolkit")
        assert isinstance(outcome.error, ModuleNotFoundError)


async def test_a_session_there_keeps_its_state_when_its_worker_dies(same):
    async with pyrepl3.open_session(isolation="process", python=same) as session:
        await session.run("def double(x): return 2 * x\nnumbers = [1, 2]")
        assert not (await session.run("import os; os._exit(3)")).ok
        assert (await session.run("double(numbers)")).text == "[1, 2, 1, 2]"
        assert await session.fetch("numbers") == [1, 2]


async def test_another_version_runs_cells_of_its_own(tmp_path):
    python = make(tmp_path / "other", OTHER, "msgspec", "blake3")
    async with pyrepl3.open_session(isolation="process", python=python) as session:
        outcome = await session.run("import sys; '%d.%d' % sys.version_info[:2]")
        assert outcome.text == repr(OTHER)
        await session.run("def f(x): return [x]\nkept = f(1)")
        assert not (await session.run("import os; os._exit(3)")).ok
        assert (await session.run("f(kept)")).text == "[[1]]"


async def test_another_version_without_what_a_worker_needs_says_what_to_install(tmp_path):
    python = make(tmp_path / "bare", OTHER)
    opening = pyrepl3.open_session(isolation="process", python=python)
    with pytest.raises(pyrepl3.WorkerDiedError, match=r"lacks msgspec.*-m pip install"):
        await opening.__aenter__()


async def test_a_python_that_is_too_old_is_refused(tmp_path):
    old = tmp_path / "python"
    lie = "import sys; sys.version_info = (3, 8, 1, 'final', 0); "
    run = "import runpy; boot = sys.argv[1]; sys.argv = sys.argv[1:]; runpy.run_path(boot, run_name='__main__')"
    old.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -I -c "{lie}{run}" "$@"\n')
    old.chmod(0o755)
    opening = pyrepl3.open_session(isolation="process", python=old)
    with pytest.raises(pyrepl3.WorkerDiedError, match=r"Python 3\.8\.1, and 3\.12"):
        await opening.__aenter__()


@pytest.mark.parametrize("python", ["/no/such/python", "/bin/true"])
async def test_what_is_no_python_is_an_error(python):
    with pytest.raises(pyrepl3.WorkerDiedError, match="worker"):
        await pyrepl3.open_session(isolation="process", python=python).__aenter__()


async def test_modules_that_are_preloaded_are_there_and_shared():
    preload = ("fractions",)
    source = "import sys; 'fractions' in sys.modules"
    async with pyrepl3.open_session(isolation="process", preload=preload) as session:
        assert (await session.run(source)).text == "True"
    with pyrepl3.Pool(preload=preload, warm=0) as pool:
        async with pyrepl3.open_session(isolation="process", pool=pool) as session:
            assert (await session.run(source)).text == "True"
            assert pool.count == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"preload": ("json",)}, ValueError),
        ({"isolation": "process", "preload": "json"}, TypeError),
        ({"python": "python3"}, ValueError),
    ],
)
def test_what_does_not_go_together_is_refused(options, error):
    with pytest.raises(error):
        pyrepl3.open_session(**options)


def test_a_pool_has_its_own_python_and_preload():
    with pyrepl3.Pool() as pool, pytest.raises(ValueError, match=r"Pool\(preload="):
        pyrepl3.open_session(isolation="process", pool=pool, preload=("json",))
