"""``pyrepl3 run`` as a newcomer tries it."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # a process a test
FULL = Path("/dev/full")


STATUSES = {
    "done": ("x = 1\n", 0, ""),
    "empty but for a comment": ("# nothing\n", 0, ""),
    "error": ("1 / 0\n", 1, "ZeroDivisionError: division by zero"),
    "does not compile": ("x = 1\nfor y in x\n    y\n", 1, "SyntaxError: expected ':'"),
    "exit": ("import sys\nsys.exit()\nprint('not here')\n", 0, ""),
    "exit with a number": ("raise SystemExit(3)\n", 3, ""),
    "exit with a large number": ("raise SystemExit(259)\n", 3, ""),
    "exit with a text": ("import sys\nsys.exit('bye')\n", 1, "bye"),
    "exit()": ("exit(4)\n", 4, ""),
    "its own interrupt": ("raise KeyboardInterrupt\n", 130, "KeyboardInterrupt"),
}


@pytest.mark.parametrize(("text", "status", "error"), STATUSES.values(), ids=STATUSES)
def test_the_exit_status_is_that_of_the_run(cli, text, status, error):
    done = cli.run("run", cli.write("job.py", text))
    assert done.returncode == status
    assert done.stdout == ""
    assert error in done.stderr
    assert bool(done.stderr) == bool(error)


USAGE = {
    "missing": (["run", "gone.py"], "no such file: gone.py"),
    "directory": (["run", "."], "is a directory"),
    "a file after two dashes": (["run", "--", "gone.py", "-x"], "no such file: gone.py"),
    "no file": (["run"], "name the FILE to run"),
    "unknown option": (["run", "job.py", "--fast"], "pyrepl3 run job.py -- --fast"),
    "unknown command": (["rum"], "unknown command rum"),
    "a slip and a file": (["rnu", "job.py", "-x"], "to run a file: pyrepl3 run job.py -x"),
    "file without run": (["job.py"], "to run a file: pyrepl3 run job.py"),
    "options first": (["--session", "a", "run", "job.py"], "the command comes first"),
    "replay without a session": (["run", "job.py", "--replay"], "--replay needs --session"),
    "store without a session": (["run", "job.py", "--store", "x"], "--store needs --session"),
    "bad name": (["run", "job.py", "--session", "a b"], "'a b' cannot name a session"),
    "bad timeout": (["run", "job.py", "--timeout", "x"], "no number of seconds"),
    "bad size": (["run", "job.py", "--memory", "-1M"], "--memory"),
    "rm without a name": (["sessions", "rm"], "required: NAME"),
    "rm of none": (["sessions", "rm", "gone"], "no session 'gone'"),
    "save to nowhere": (["run", "job.py", "--save-to", "no/out.ipynb"], "there is no directory"),
    "magic": (["run", "bad.ipynb"], "bad.ipynb, cell 1, line 1: %lprun"),
}


def test_json_goes_into_a_file_and_what_else_is_written_to_a_pipe(cli):
    job = cli.write("job.py", "import os\nprint('said')\nos.system('echo aside')\n")
    with (cli.folder / "out.json").open("w") as out:
        done = subprocess.run(
            [sys.executable, "-m", "pyrepl3", "run", "--json", job],
            env=cli.environ,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 0
    assert done.stderr == "aside\n"
    events = [json.loads(line) for line in (cli.folder / "out.json").read_text().splitlines()]
    assert "said\n" in [event.get("text") for event in events]
    assert events[-1] == {"event": "end", "status": 0}


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "arguments", [["run", "job.py"], ["run", "--json", "job.py"], ["sessions"]]
)
def test_output_that_cannot_be_written_is_an_error_that_says_so(cli, arguments):
    cli.write("job.py", "print('x' * 100_000)\nopen('ran', 'w').close()\n")
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pyrepl3", *arguments],
            cwd=cli.folder,
            env=cli.environ,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("arguments", "message"), USAGE.values(), ids=USAGE)
def test_bad_usage_is_2_and_says_what_to_do(cli, arguments, message):
    cli.write("job.py", "print('ran')\n")
    cell = {"cell_type": "code", "source": "%lprun f()", "metadata": {}, "outputs": []}
    cli.write("bad.ipynb", json.dumps({"nbformat": 4, "nbformat_minor": 5, "cells": [cell]}))
    done = cli.run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_output_is_seen_while_the_cell_still_runs(cli):
    """Streaming: the process waits for an answer that is given only after the output was read."""
    job = cli.write(
        "job.py",
        "print('first')\n"
        "print('no newline', end='', flush=True)\n"
        "answer = input()\n"
        "print('answered', answer)\n",
    )
    process = cli.start("run", job)
    assert process.stdout.readline() == "first\n"
    assert process.stdout.read(10) == "no newline"
    out, err = process.communicate("yes\n", timeout=60)
    assert (out, err, process.returncode) == ("answered yes\n", "", 0)


def test_streams_values_and_errors_go_where_they_belong(cli):
    job = cli.write(
        "job.py",
        '"""Not shown."""\n'
        "import sys\n"
        "print('out')\n"
        "print('err', file=sys.stderr)\n"
        "[1, 2]\n"
        "None\n"
        "x = 5\n"
        "x;\n"
        "def f(n):\n"
        "    return 1 / n\n"
        "f(0)\n",
    )
    done = cli.run("run", job)
    assert done.stdout == "out\n[1, 2]\n"
    # 3.13 points into calls too
    assert done.stderr.replace("    ~^^^\n", "") == (
        "err\n"
        "Traceback (most recent call last):\n"
        f'  File "{job}", line 11, in <module>\n'
        "    f(0)\n"
        f'  File "{job}", line 10, in f\n'
        "    return 1 / n\n"
        "           ~~^~~\n"
        "ZeroDivisionError: division by zero\n"
    )


def test_a_script_finds_what_scripts_find(cli):
    folder = cli.folder / "scripts"
    folder.mkdir()
    (folder / "helper.py").write_text("VALUE = 42\n")
    (folder / "job.py").write_text(
        "import sys, pickle, inspect, helper\n"
        "class Thing:\n"
        "    pass\n"
        "def f():\n"
        "    return Thing\n"
        "if __name__ == '__main__':\n"
        "    print(sys.argv, __file__, helper.VALUE)\n"
        "    print(type(pickle.loads(pickle.dumps(Thing()))) is Thing)\n"
        "    print(inspect.getsource(f))\n"
        "    print(sys.modules['__main__'].f is f)\n"
    )
    done = cli.run("run", "scripts/job.py", "a", "b", "--", "--fast", "-x")
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        f"['scripts/job.py', 'a', 'b', '--fast', '-x'] {folder / 'job.py'} 42",
        "True",
        "def f():",
        "    return Thing",
        "",
        "True",
    ]


def test_options_count_after_the_file_too(cli):
    job = cli.write("job.py", "import sys\nsys.argv[1:]\n")
    done = cli.run("run", job, "a", "--json", "b", "--session", "demo")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["session"] == "demo"
    assert lines[-1] == {"event": "end", "status": 0}
    assert "['a', 'b']" in {line.get("text") for line in lines}


def test_top_level_await_and_background_tasks(cli):
    job = cli.write(
        "job.py",
        "import asyncio\n"
        "async def tick():\n"
        "    print('tick')\n"
        "    await asyncio.sleep(60)\n"
        "task = asyncio.create_task(tick(), name='ticker')\n"
        "await asyncio.sleep(0, 'slept')\n",
    )
    done = cli.run("run", job)
    assert done.stdout == "tick\n'slept'\n"
    assert "a background task was still running at the end and cancelled: ticker" in done.stderr
    assert done.returncode == 0


def test_standard_input_is_a_file(cli):
    done = cli.run("run", "-", "x", stdin="import sys\nprint(sys.argv, __name__)\n1 / 0\n")
    assert done.stdout == "['-', 'x'] __main__\n"
    assert 'File "<stdin>", line 3, in <module>' in done.stderr
    assert done.returncode == 1


def test_a_pipe_without_a_command_is_run(cli):
    assert cli.run(stdin="print(1)").stdout == "1\n"
    assert cli.run(stdin="").returncode == 0
    done = cli.run(stdin="1 + 1\nraise SystemExit(5)\n")
    assert (done.stdout, done.returncode) == ("2\n", 5)


def test_a_pipe_runs_on_top_of_a_session_each_time(cli):
    assert cli.run("--session", "s", stdin="x = 1\nprint(x)\n").stdout == "1\n"
    assert cli.run("--session", "s", stdin="x += 1; print(x)\n").stdout == "2\n"
    assert cli.run("--session", "s", stdin="x += 1; print(x)\n").stdout == "3\n"


def test_the_console_script_is_the_same(cli):
    script = Path(sys.executable).with_name("pyrepl3")
    done = subprocess.run(
        [script, "run", "-"],
        input="print(6 * 7)",
        env=cli.environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "42\n"
    version = cli.run("--version").stdout
    assert version.startswith("pyrepl3 ")
    assert f"(Python {sys.version.split()[0]})" in version


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["sessions", "--help"]])
def test_help_has_examples(cli, arguments):
    done = cli.run(*arguments)
    assert done.returncode == 0
    assert "examples:" in done.stdout


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_a_reader_that_goes_away_ends_the_run_quietly(cli, options):
    job = cli.write("job.py", "n = 0\nwhile True:\n    n += 1\n    print(n)\n")
    process = cli.start("run", job, *options)
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == ""


def test_keep_going_runs_the_rest_and_fails(cli):
    job = cli.write("job.py", "1 / 0\nprint('on')\n")
    done = cli.run("run", job, "--keep-going")
    assert (done.stdout, done.returncode) == ("on\n", 1)
    tagged = cli.write("tagged.py", '# %% tags=["raises-exception"]\n1 / 0\n# %%\nprint("on")\n')
    done = cli.run("run", tagged)
    assert (done.stdout, done.returncode) == ("on\n", 0)
    assert "ZeroDivisionError" in done.stderr


LIMITS = {
    "time": ("while True: pass\n", "--timeout", "0.3", "wall limit exceeded"),
    "output": ("while True: print('x' * 100)\n", "--output-limit", "2K", "output limit exceeded"),
}


@pytest.mark.parametrize(("text", "option", "value", "message"), LIMITS.values(), ids=LIMITS)
def test_a_limit_stops_a_cell_and_names_the_option(cli, text, option, value, message):
    done = cli.run("run", cli.write("job.py", text), option, value)
    assert done.returncode == 1
    assert message in done.stderr
    assert f"raise {option}" in done.stderr
    assert len(done.stdout) < 4096


@pytest.mark.parametrize(
    ("environ", "colour"), [({}, False), ({"FORCE_COLOR": "1"}, True), ({"NO_COLOR": "1"}, False)]
)
def test_colours_are_for_terminals_and_on_request(cli, environ, colour):
    done = cli.run("run", cli.write("job.py", "1 / 0\n"), **environ)
    assert ("\x1b[" in done.stderr) is colour


@pytest.mark.parametrize(("environ", "colour"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_on_a_terminal_errors_are_coloured_unless_forbidden(cli, environ, colour):
    terminal = cli.open_terminal("run", cli.write("job.py", "1 / 0\n"), **environ)
    terminal.process.expect("division by zero")
    assert ("\x1b[35m" in terminal.process.before) is colour
    assert terminal.end()[1] == 1


def test_progress_is_shown_on_a_terminal_and_taken_away(cli):
    job = cli.write(
        "job.py", "# %% Load it\nx = 1\n# %%\ny = input('go? ')\n# %%\nprint('done', y)\n"
    )
    terminal = cli.open_terminal("run", job)
    terminal.expect(r"\[1/3\] Load it", r"\[2/3\] y = input", r"go\? ")
    terminal.type("on\r")
    terminal.expect(r"\[3/3\] print", "done on")
    rest, status = terminal.end()
    assert status == 0
    assert "[3/3]" not in rest.strip("\n").split("\n")[-1]


def test_json_lines_are_alone_on_standard_output(cli):
    job = cli.write(
        "job.py",
        "import os, subprocess, sys\n"
        "os.write(1, b'raw\\n')\n"
        "subprocess.run(['echo', 'child'])\n"
        "sys.__stdout__.write('underneath\\n'); sys.__stdout__.flush()\n"
        "print('cell')\n"
        "b'x'\n",
    )
    done = cli.run("run", job, "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert {line["text"] for line in lines if line["event"] == "output"} == {"cell\n"}
    for word in ("raw", "child", "underneath"):
        assert word in done.stderr
    assert lines[0]["event"] == "run"
    assert lines[0]["cells"] == 6
    assert [line["cell"] for line in lines if line["event"] == "started"] == [1, 2, 3, 4, 5, 6]
    assert lines[-1] == {"event": "end", "status": 0}


def test_json_tells_why_nothing_ran(cli):
    done = cli.run("run", "-", "--session", "no such", "--json", stdin="x = 1")
    last = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 2
    assert last["status"] == 2
    assert "cannot name a session" in last["problem"]


def notebook(*cells):
    return json.dumps(
        {
            "nbformat": 4,
            "nbformat_minor": 4,
            "metadata": {"kernelspec": {"name": "python3", "language": "python", "x": 1}},
            "cells": [
                {
                    "cell_type": kind,
                    "source": source,
                    "metadata": {"tags": list(tags)},
                    **({"outputs": [], "execution_count": None} if kind == "code" else {}),
                }
                for kind, source, *tags in cells
            ],
        }
    )


def test_a_notebook_runs_cell_by_cell(cli):
    path = cli.write(
        "n.ipynb",
        notebook(
            ("markdown", "# Title"),
            ("code", "%matplotlib inline\nx = 20"),
            ("code", "!echo from the shell"),
            ("code", "%%time\nx + 1"),
            ("code", "nothing", "skip-execution"),
            ("code", "x\n1 / 0"),
        ),
    )
    done = cli.run("run", path)
    assert done.returncode == 1
    out = done.stdout.splitlines()
    assert out[:2] == ["from the shell", "21"]
    assert out[2].startswith("Wall time: ")
    assert "cell 1, line 1: %matplotlib is ignored" in done.stderr
    assert f'File "{path}, cell 4", line 2, in <module>' in done.stderr


def test_a_run_is_saved_as_a_notebook(cli):
    import nbformat

    job = cli.write(
        "job.py",
        "import sys\n"
        "print('a'); print('b', file=sys.stderr); print('c')\n"
        "class Rich:\n"
        "    def _repr_html_(self): return '<b>r</b>'\n"
        "    def __repr__(self): return 'rich'\n"
        "display(Rich())\n"
        "Rich()\n"
        "1 / 0\n"
        "print('never')\n",
    )
    done = cli.run("run", job, "--save-to", "out.ipynb")
    assert done.returncode == 1
    assert sorted(each.name for each in cli.folder.iterdir()) == ["job.py", "out.ipynb"]
    saved = nbformat.read(cli.folder / "out.ipynb", 4)
    nbformat.validate(saved)
    outputs = [
        [
            (each.output_type, each.get("name") or each.get("data") or each.ename)
            for each in cell.outputs
        ]
        for cell in saved.cells
    ]
    rich = {"text/plain": "rich", "text/html": "<b>r</b>"}
    assert outputs == [
        [],
        [("stream", "stdout"), ("stream", "stderr"), ("stream", "stdout")],
        [],
        [("display_data", rich)],
        [("execute_result", rich)],
        [("error", "ZeroDivisionError")],
        [],
    ]
    assert saved.cells[5].outputs[0].traceback[-1] == "ZeroDivisionError: division by zero"
    assert [cell.execution_count for cell in saved.cells] == [1, 2, 3, 4, 5, 6, None]


def test_saving_without_nbformat_is_refused_before_anything_runs(cli):
    cli.write(
        "sitecustomize.py",
        "import importlib.machinery, sys\n"
        "class Without(importlib.machinery.PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        "        return None if name == 'nbformat' else super().find_spec(name, path, target)\n"
        "sys.meta_path[-1] = Without\n",
    )
    job = cli.write("job.py", "print('ran')\n")
    done = cli.run("run", job, "--save-to", "out.ipynb", PYTHONPATH=str(cli.folder))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("pyrepl3: --save-to needs nbformat: pip install 'pyrepl3[notebook]'\n")


def test_a_change_of_directory_moves_neither_notebook_nor_store(cli):
    (cli.folder / "sub").mkdir()
    job = cli.write("job.py", "import os\nos.chdir('sub')\nprint(os.path.basename(__file__))\n")
    options = ["--save-to", "out.ipynb", "--session", "s", "--store", "here"]
    assert cli.run("run", job, *options).stdout == "job.py\n"
    assert (cli.folder / "out.ipynb").exists()
    assert cli.run("--session", "s", "--store", "here", stdin="os.sep").stdout == "'/'\n"


def test_a_saved_notebook_keeps_what_the_source_had(cli):
    import nbformat

    path = cli.write(
        "n.ipynb",
        notebook(("markdown", "# Title"), ("code", "!echo hi"), ("raw", "raw"), ("code", "2")),
    )
    assert cli.run("run", path, "--save-to", path).returncode == 0
    saved = nbformat.read(path, 4)
    nbformat.validate(saved)
    assert [(cell.cell_type, cell.source) for cell in saved.cells] == [
        ("markdown", "# Title"),
        ("code", "!echo hi"),
        ("raw", "raw"),
        ("code", "2"),
    ]
    assert saved.cells[1].outputs[0].text == "hi\n"
    assert saved.metadata.kernelspec.x == 1
    assert cli.run("run", path).stdout == "hi\n2\n"


def test_a_hangup_of_the_interpreter_is_not_swallowed(cli):
    job = cli.write("job.py", "import os\nprint('up', flush=True)\ninput()\n")
    process = cli.start("run", job)
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == -signal.SIGTERM


def test_what_a_cell_leaves_to_exit_handlers_is_done(cli):
    job = cli.write("job.py", "import atexit\n_ = atexit.register(lambda: print('bye'))\n")
    assert cli.run("run", job).stdout == "bye\n"


def test_a_run_loads_nothing_that_it_does_not_need(cli):
    """Start-up is a promise: these would cost more than the run."""
    job = cli.write("job.py", "x = 1\n")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pyrepl3", "run", job],
        env=cli.environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pyrepl3.front.render" in loaded
    heavy = {
        "prompt_toolkit",
        "nbformat",
        "json",
        "importlib.metadata",
        "platformdirs",
        "sqlite3",
        "shutil",
        "difflib",
        "cloudpickle",
        "pyrepl3.front.jsonl",
        "pyrepl3.front.notebook",
        "pyrepl3.front.repl",
    }
    assert not loaded & heavy
