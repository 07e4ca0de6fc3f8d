"""Ctrl-C stops a run, wherever it waits; the state is that of the last cell."""

import json
import signal

import pytest

pytestmark = pytest.mark.slow

WAITS = {
    "sleep": "import time; print('up', flush=True); time.sleep(60)",
    "loop": "print('up', flush=True)\nwhile True: pass",
    "await": "import asyncio; print('up', flush=True); await asyncio.sleep(60)",
    "loop in a coroutine": (
        "async def f():\n    print('up', flush=True)\n    while True: pass\nawait f()"
    ),
    "loop in a sub-task": (
        "import asyncio\n"
        "async def f():\n"
        "    print('up', flush=True)\n"
        "    while True: pass\n"
        "await asyncio.gather(f(), asyncio.sleep(60))"
    ),
    "lock": (
        "import threading; lock = threading.Lock(); _ = lock.acquire()\n"
        "print('up', flush=True)\n"
        "lock.acquire()"
    ),
    "socket": ("import socket; a, b = socket.socketpair()\nprint('up', flush=True)\na.recv(1)"),
    "swallows everything": (
        "import time\n"
        "print('up', flush=True)\n"
        "while True:\n"
        "    try:\n"
        "        time.sleep(60)\n"
        "    except BaseException:\n"
        "        pass"
    ),
    "subprocess": ("import subprocess\nprint('up', flush=True)\nsubprocess.run(['sleep', '60'])"),
}


@pytest.mark.parametrize("source", WAITS.values(), ids=WAITS)
def test_ctrl_c_on_a_terminal_ends_the_run_with_130(cli, source):
    job = cli.write("job.py", f"# %% wait\n{source}\n# %%\nprint('never')\n")
    terminal = cli.open_terminal("run", job)
    terminal.expect("up")
    terminal.interrupt()
    rest, status = terminal.end()
    assert status == 130
    assert "KeyboardInterrupt" in rest
    assert "never" not in rest
    assert "pyrepl3/" not in rest.replace("tests/e2e", "")


@pytest.mark.parametrize("source", WAITS.values(), ids=WAITS)
def test_sigint_without_a_terminal_does_the_same(cli, source):
    job = cli.write("job.py", f"# %% wait\n{source}\n# %%\nprint('never')\n")
    process = cli.start("run", job)
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "KeyboardInterrupt" in err


def test_ctrl_c_before_the_first_line_of_a_cell_is_not_lost(cli):
    """The label is shown before the cell runs: an interrupt may come in between."""
    job = cli.write("job.py", "# %% label\nimport time; time.sleep(60)\n")
    for _n in range(5):
        terminal = cli.open_terminal("run", job)
        terminal.expect("label")
        terminal.interrupt()
        assert terminal.end()[1] == 130


# A lock of C that is never let go: no signal breaks the wait, other threads go on.
IN_C = (
    "import ctypes; c = ctypes.CDLL(None); lock = ctypes.create_string_buffer(64)\n"
    "_ = c.pthread_mutex_lock(lock); print('up', flush=True)\n"
    "c.pthread_mutex_lock(lock)"
)


def test_the_third_ctrl_c_that_c_code_keeps_from_python_ends_the_process(cli):
    job = cli.write("job.py", f"# %%\nx = 41\n# %%\n{IN_C}\n# %%\nprint('never')\n")
    terminal = cli.open_terminal(
        "run", "--isolation", "none", "--session", "s", "--save-to", "out.ipynb", job
    )
    terminal.expect("up")
    terminal.interrupt()
    terminal.expect("inside a call that cannot be interrupted")
    terminal.interrupt()
    terminal.expect("Ctrl-C once more ends the process")
    terminal.interrupt()
    rest, status = terminal.end()
    assert status == 130
    assert "ended in the midst of a cell" in rest
    assert "up" in (cli.folder / "out.ipynb").read_text()
    assert cli.run("--session", "s", stdin="print(x + 1)\n").stdout == "42\n"


@pytest.mark.parametrize("presses", [1, 3])
def test_c_code_that_keeps_a_cell_for_ever_ends_with_its_process(cli, presses):
    """By itself after three seconds, at once by the third Ctrl-C; the state is that of the cell before."""
    job = cli.write("job.py", f"# %%\nx = 41\n# %%\n{IN_C}\n# %%\nprint('never')\n")
    terminal = cli.open_terminal("run", "--session", "s", "--save-to", "out.ipynb", job)
    terminal.expect("up")
    for _n in range(presses):
        terminal.interrupt()
    rest, status = terminal.end()
    assert status == 130
    assert "KeyboardInterrupt" in rest
    assert "never" not in rest
    assert "up" in (cli.folder / "out.ipynb").read_text()
    assert cli.run("--session", "s", stdin="print(x + 1)\n").stdout == "42\n"


def test_a_call_in_c_that_comes_back_is_interrupted_once(cli):
    """What was asked for on another thread meanwhile is not asked for again."""
    source = (
        "import ctypes, threading; c = ctypes.CDLL(None); lock = ctypes.create_string_buffer(64)\n"
        "_ = c.pthread_mutex_lock(lock)\n"
        "threading.Timer(1, c.pthread_mutex_unlock, [lock]).start()\n"
        "try:\n"
        "    print('up', flush=True)\n"
        "    c.pthread_mutex_lock(lock)\n"
        "finally:\n"
        "    for n in range(1000): n += 1\n"
        "    print('clean', flush=True)\n"
    )
    job = cli.write("job.py", source)
    terminal = cli.open_terminal("run", job)
    terminal.expect("up")
    terminal.interrupt()
    rest, status = terminal.end()
    assert status == 130
    assert "clean" in rest
    assert "KeyboardInterrupt" in rest


def test_ctrl_c_reaches_a_question(cli):
    job = cli.write("job.py", "# %% ask\nx = input('name? ')\n# %%\nprint('never')\n")
    terminal = cli.open_terminal("run", job)
    terminal.expect(r"name\? ")
    terminal.interrupt()
    rest, status = terminal.end()
    assert (status, "never" in rest) == (130, False)
    assert "KeyboardInterrupt" in rest


def test_a_secret_is_not_shown(cli):
    job = cli.write("job.py", "# %% ask\nimport getpass\nprint(len(getpass.getpass('key? ')))\n")
    terminal = cli.open_terminal("run", job)
    terminal.expect(r"key\? ")
    terminal.type("secret\r")
    rest, status = terminal.end()
    assert status == 0
    assert "secret" not in rest
    assert "6" in rest


def test_a_magic_command_is_stopped(cli):
    source = "!echo up; sleep 60"
    cell = {"cell_type": "code", "source": source, "metadata": {}, "outputs": []}
    path = cli.write("n.ipynb", json.dumps({"nbformat": 4, "nbformat_minor": 5, "cells": [cell]}))
    process = cli.start("run", path)
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_clean_up_runs_and_may_take_its_time(cli):
    job = cli.write(
        "job.py",
        "# %% wait\n"
        "import time\n"
        "try:\n"
        "    print('up', flush=True)\n"
        "    time.sleep(60)\n"
        "finally:\n"
        "    print('cleaned')\n",
    )
    terminal = cli.open_terminal("run", job)
    terminal.expect("up")
    terminal.interrupt()
    rest, status = terminal.end()
    assert (status, "cleaned" in rest) == (130, True)


def test_an_interrupted_run_goes_on_where_it_was(cli):
    job = cli.write(
        "job.py",
        "# %%\nx = 1\nprint('one')\n# %%\nimport os, time\n"
        "if not os.path.exists('go'):\n    print('up', flush=True)\n    time.sleep(60)\n"
        "# %%\nprint('three', x)\n",
    )
    process = cli.start("run", job, "--session", "s")
    assert process.stdout.readline() == "one\n"
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    cli.write("go", "")
    done = cli.run("run", job, "--session", "s")
    assert done.stdout == "three 1\n"
    assert "restored after cell 1 of 3" in done.stderr
    assert "cell 2 was interrupted before" in done.stderr


def test_a_saved_notebook_tells_of_the_interrupt(cli):
    import nbformat

    job = cli.write("job.py", "import time\nprint('up', flush=True); time.sleep(60)\n")
    process = cli.start("run", job, "--save-to", "out.ipynb")
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    saved = nbformat.read(cli.folder / "out.ipynb", 4)
    nbformat.validate(saved)
    assert process.returncode == 130
    errors = [out.ename for cell in saved.cells for out in cell.outputs if "ename" in out]
    assert errors == ["KeyboardInterrupt"]


def test_a_cell_may_kill_its_own_process(cli):
    """os._exit is the one end that nothing can be made of."""
    job = cli.write("job.py", "# %%\nx = 1\n# %%\nimport os\nos._exit(7)\n")
    assert cli.run("run", job, "--session", "s").returncode == 7
    done = cli.run("--session", "s", stdin="print(x)")
    assert done.stdout == "1\n"
