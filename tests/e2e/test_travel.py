"""``pyrepl3 sessions``: what was is seen, undone, forked, compared and carried away, by real processes."""

from __future__ import annotations

import json

import pytest

from pyrepl3.front.cli import main

pytestmark = pytest.mark.slow

JOB = "# %%\nx = [1]\n# %%\nx.append(2)\nprint('two')\n# %%\ny = sum(x)\ny\n"


@pytest.fixture
def demo(cli):
    """Session demo: three cells of a file."""
    cli.run("run", cli.write("job.py", JOB), "--session", "demo")
    return cli


def ask(cli, *words, **options):
    """What a command prints; it must succeed."""
    done = cli.run("sessions", *words, **options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


def test_commands_that_read_work_while_another_process_writes(cli, monkeypatch, capsys):
    """Its owner is a process of its own; the commands run here, so that they are many."""
    monkeypatch.setenv("PYREPL3_STORE", str(cli.folder / "store"))
    monkeypatch.chdir(cli.folder)
    cells = 200

    def command(*words):
        status = main(["sessions", *words])
        return status, *capsys.readouterr()

    def read(*words):
        status, out, err = command(*words)
        assert (status, err) == (0, "")
        return out

    job = cli.write(
        "job.py",
        "# %%\nx = 0\n"
        + "# %%\nx += 1\nprint(x, flush=True)\n" * cells
        + "# %%\nprint('over', flush=True)\ninput()\n",
    )
    process = cli.start("run", job, "--session", "busy", PYREPL3_STORE="store")
    seen = []
    for n in range(1, cells + 1, 20):
        while process.stdout.readline() != f"{n}\n":
            pass
        log = objects(read("log", "busy", "--json"))
        assert [entry["epoch"] for entry in log] == list(range(1, len(log) + 1))
        seen.append(len(log))
        assert read("show", "busy").startswith("session busy, at epoch")
        assert read("diff", "busy", "0").startswith("from the empty session to epoch")
        read("export", "busy", f"busy-{n}")
        read("import", f"busy-{n}", f"copy-{n}")
        copied = objects(read("log", f"copy-{n}", "--json"))
        x = objects(read("show", f"copy-{n}", "--json"))[0]["names"]["x"]["text"]
        assert int(x) == len(copied) - 1 >= len(log) - 1
    assert seen == sorted(seen)
    assert seen[0] < seen[-1]
    while process.stdout.readline() != "over\n":
        pass
    # Those that write are done by the owner, which runs a cell; what needs it to be idle is refused.
    status, _, said = command("undo", "busy")
    assert (status, f"a cell is running (busy-c{cells + 2}); interrupt it" in said) == (2, True)
    assert "busy at epoch 5" in read("fork", "busy", "early", "5")
    assert objects(read("show", "early", "--json"))[0]["names"]["x"]["text"] == "4"
    _, errors = process.communicate("\n", timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert len(objects(read("log", "busy", "--json"))) == cells + 2


@pytest.mark.parametrize("command", ["undo", "fork", "restore"])
def test_a_run_of_a_changed_file_is_right_after_time_travel(demo, command):
    """What a session holds is what its file would have made of it, also in a fork or after an undo."""
    name = "demo"
    if command == "undo":
        ask(demo, "undo", "demo", "2")
    elif command == "restore":
        ask(demo, "undo", "demo", "3")
        ask(demo, "restore", "demo", "2")
    else:
        name = "new"
        ask(demo, "fork", "demo", "new", "2")
    same = demo.run("run", "job.py", "--session", name)
    assert same.stdout == ("two\n3\n" if command == "undo" else "3\n")
    demo.write("job.py", JOB.replace("append(2)", "append(5)"))
    changed = demo.run("run", "job.py", "--session", name)
    assert changed.stdout == "two\n6\n"
    assert "cell 2 changed" in changed.stderr
    demo.write("job.py", JOB)
    assert demo.run("run", "job.py", "--session", name).stdout == "two\n3\n"
    if command == "fork":
        assert demo.run("--session", "demo", stdin="print(x, y)").stdout == "[1, 2] 3\n"


def test_colours_are_a_choice(demo):
    assert "\x1b" not in ask(demo, "log", "demo")
    assert "\x1b[" in ask(demo, "log", "demo", "--color", "always")
    assert "\x1b[" in ask(demo, "log", "demo", "--color", "always", NO_COLOR="1")
    terminal = demo.open_terminal("sessions", "log", "demo")
    terminal.expect("\x1b\\[32m\\+x")
    assert terminal.end()[1] == 0
    for options, environ in [(("--color", "never"), {}), ((), {"NO_COLOR": "1"})]:
        terminal = demo.open_terminal("sessions", "diff", "demo", *options, **environ)
        terminal.expect("1 added")
        assert "\x1b" not in terminal.process.before
        assert terminal.end()[1] == 0


def test_a_terminal_without_these_characters_gets_a_drawing_too(demo):
    ask(demo, "undo", "demo")
    text = ask(demo, "log", "demo", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert text.isascii()
    assert [line.split()[0] for line in text.splitlines()] == ["*", "@", "o"]


def test_what_could_not_be_kept_is_made_again_where_it_is_allowed(cli):
    job = cli.write(
        "job.py",
        "# %%\nrows = [1, 2]\n# %%\nit = (r * 2 for r in rows); print('made')\n"
        "# %%\nimport os\nos.path.exists('go') or os._exit(9)\nprint(list(it))\n",
    )
    assert cli.run("run", job, "--session", "s").returncode == 9
    cli.write("go", "")
    done = cli.run("run", job, "--session", "s", "--recompute")
    assert (done.returncode, done.stdout) == (0, "made\n[2, 4]\n")
    assert "rows came back (epoch 2); it made again by running what made them" in done.stderr
    assert "it did not come back" not in done.stderr
