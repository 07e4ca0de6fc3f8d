"""A session is what its file would have made of it, whatever happened on the way."""

import json
import random
import re

import pytest

pytestmark = pytest.mark.slow

CELLS = 10
JOB = (
    "# %% start\nstate, seen = [], []\nimport collections, math\n"
    + "".join(
        f"# %% {n}\n"
        f"with open('log', 'a') as log: print({n}, file=log)\n"
        f"del log\n"
        f"state.append({n}); seen = seen + [len(state)]\n"
        f"f{n} = lambda x: x + {n} + len(state)\n"
        f"print('cell', {n}, f{n}(0), f'{{sum(state)}}')\n"
        f"sum(state)\n"
        for n in range(1, CELLS + 1)
    )
    + "# %% end\nprint(state, seen, f1(0), collections.Counter(state).total())\n"
)


def log(cli):
    path = cli.folder / "log"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_points_it_ends_as_if_it_never_was(cli, seed):
    """I: only the cell that was killed runs twice; the end is that of an undisturbed run."""
    job = cli.write("job.py", JOB)
    undisturbed = cli.run("run", job).stdout
    (cli.folder / "log").unlink()
    chance = random.Random(seed)
    kills, finished = 0, False
    while not finished and kills < 12:
        process = cli.start("run", job, "--session", "s", "--json")
        # An event is told before and after each commit: all sides of it are met.
        patience = chance.randint(1, 14)
        for _n in range(patience):
            line = process.stdout.readline()
            if not line or '"end"' in line:
                finished = True
                break
        if not finished:
            process.kill()
            kills += 1
        process.wait(60)
    assert kills >= 4
    last = cli.run("run", job, "--session", "s", "--replay")
    assert last.returncode == 0
    assert last.stdout == undisturbed
    ran = log(cli)
    assert sorted(set(ran)) == list(range(1, CELLS + 1))
    assert len(ran) <= CELLS + kills
    assert ran == sorted(ran), "a cell ran after a later one had"


def test_it_says_what_it_skips(cli):
    job = cli.write(
        "job.py", JOB.replace("# %% 4\n", "# %% 4\nimport os; os.kill(os.getpid(), 9)\n")
    )
    done = cli.run("run", job, "--session", "s", "--isolation", "none")
    assert done.returncode == -9
    again = cli.run(
        "run", cli.write("job.py", JOB.replace("# %% 4\n", "# %% four\n")), "--session", "s"
    )
    assert again.returncode == 0
    # The kill came before the audit of that epoch, or after it.
    told = re.sub(r"pyrepl3: epoch 4 was not audited.*\n", "", again.stderr)
    assert told == (
        "pyrepl3: session s: restored after cell 4 of 12; 4 finished cells skipped "
        "(--replay shows their output)\n"
        "pyrepl3: collections, f1, f2, f3, math, seen, state came back (epoch 4)\n"
    )
    assert again.stdout.startswith("cell 4 8 10\n10\ncell 5")


def test_a_finished_file_is_not_run_again(cli):
    job = cli.write(
        "job.py", "# %%\nprint('a'); 1\n# %%\nimport sys; print('b', file=sys.stderr)\n"
    )
    assert cli.run("run", job, "--session", "s").stdout == "a\n1\n"
    again = cli.run("run", job, "--session", "s")
    assert (again.returncode, again.stdout) == (0, "")
    assert "all 2 cells finished, nothing to run" in again.stderr
    replayed = cli.run("run", job, "--session", "s", "--replay")
    assert replayed.stdout == "a\n1\n"
    assert "b\n" in replayed.stderr
    restarted = cli.run("run", job, "--session", "s", "--restart")
    assert restarted.stdout == "a\n1\n"


def test_a_changed_file_runs_from_the_change_on(cli):
    cells = [
        "x = ['a']",
        "x.append('b'); print('two')",
        "x.append('c'); print('three')",
        "print(x)",
    ]

    def run():
        job = cli.write("job.py", "".join(f"# %%\n{cell}\n" for cell in cells))
        return cli.run("run", job, "--session", "s")

    assert run().stdout == "two\nthree\n['a', 'b', 'c']\n"
    cells[2] = "x.append('C'); print('Three')"
    done = run()
    assert done.stdout == "Three\n['a', 'b', 'C']\n"
    assert "cell 3 changed; 2 epochs set aside" in done.stderr
    cells.insert(1, "x.append('between')")
    assert run().stdout == "two\nThree\n['a', 'between', 'b', 'C']\n"
    del cells[2]
    assert run().stdout == "Three\n['a', 'between', 'C']\n"
    cells.append("print('more')")
    assert run().stdout == "more\n"
    cells[0] = "x = ['A']"
    assert run().stdout == "Three\n['A', 'between', 'C']\nmore\n"
    del cells[2:]
    assert run().stdout == ""
    done = cli.run("--session", "s", stdin="print(x)")
    assert done.stdout == "['A', 'between']\n"


def test_a_failed_cell_runs_again_from_the_state_before_it(cli):
    text = (
        "# %%\nx = [1]\n"
        "# %%\nx.append(2)\nimport os\nassert os.path.exists('go'), 'not yet'\n"
        "# %%\nprint(x)\n"
    )
    job = cli.write("job.py", text)
    first = cli.run("run", job, "--session", "s")
    assert (first.returncode, first.stdout) == (1, "")
    second = cli.run("run", job, "--session", "s")
    assert second.returncode == 1
    assert "cell 2 failed before" in second.stderr
    cli.write("go", "")
    third = cli.run("run", job, "--session", "s")
    assert (third.returncode, third.stdout) == (0, "[1, 2]\n")


def test_sys_exit_with_success_is_an_end_and_not_a_failure(cli):
    job = cli.write("job.py", "# %%\nprint('work')\nimport sys; sys.exit()\n# %%\nprint('never')\n")
    assert cli.run("run", job, "--session", "s").stdout == "work\n"
    again = cli.run("run", job, "--session", "s")
    assert (again.stdout, again.returncode) == ("", 0)
    assert "the last ended the run" in again.stderr


def test_what_cannot_be_kept_is_named_at_once_and_again(cli):
    job = cli.write(
        "job.py", "# %%\ng = (n for n in 'abc'); x = 1\n# %%\nprint(x)\n# %%\nnext(g)\n"
    )
    done = cli.run("run", job, "--session", "s")
    assert done.stdout == "1\n'a'\n"
    assert done.stderr.count("pyrepl3: g would be lost with this process: ") == 1
    again = cli.run("--session", "s", stdin="print(x)\nnext(g)\n")
    assert again.stdout == "1\n"
    assert "pyrepl3: g did not come back: " in again.stderr
    assert "name 'g' was lost in the restart" in again.stderr
    assert again.returncode == 1


def test_a_moved_file_is_the_same_file(cli):
    job = cli.write("job.py", "# %%\nprint('one')\n# %%\nprint('two')\n")
    cli.run("run", job, "--session", "s")
    (cli.folder / "sub").mkdir()
    job.rename(cli.folder / "sub" / "job.py")
    done = cli.run("run", "sub/job.py", "--session", "s")
    assert done.stdout == ""
    assert "nothing to run" in done.stderr


def test_another_file_runs_on_top(cli):
    cli.run("run", cli.write("load.py", "x = 1\n"), "--session", "s")
    done = cli.run("run", cli.write("use.py", "print(x)\n"), "--session", "s")
    assert done.stdout == "1\n"
    assert "on top of the 1 cell that it holds" in done.stderr
    assert cli.run("run", "use.py", "--session", "s").stdout == ""


def test_a_session_that_is_open_is_not_opened_twice(cli):
    job = cli.write("job.py", "print('up', flush=True)\ninput()\n")
    process = cli.start("run", job, "--session", "s")
    assert process.stdout.readline() == "up\n"
    second = cli.run("run", job, "--session", "s")
    assert second.returncode == 2
    assert f"session 's' is in use by pid {process.pid}" in second.stderr
    assert f"in use by pid {process.pid}" in cli.run("sessions").stdout
    removal = cli.run("sessions", "rm", "s")
    assert (removal.returncode, "in use" in removal.stderr) == (2, True)
    process.communicate("\n", timeout=60)
    assert process.returncode == 0


def test_sessions_are_listed_and_removed(cli):
    assert "no sessions in" in cli.run("sessions").stdout
    cli.run("--session", "a", stdin="x = 1")
    cli.run("--session", "b", stdin="x = 1")
    lines = cli.run("sessions", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "a", "b"]
    as_json = [json.loads(line) for line in cli.run("sessions", "--json").stdout.splitlines()]
    assert [(each["name"], each["epochs"]) for each in as_json] == [("a", 1), ("b", 1)]
    done = cli.run("sessions", "rm", "a", "gone")
    assert done.returncode == 2
    assert done.stdout == "removed session a\n"
    assert "no session 'gone'" in done.stderr
    assert [line.split()[0] for line in cli.run("sessions").stdout.splitlines()] == ["NAME", "b"]


def test_a_store_of_ones_own(cli):
    cli.run("--session", "a", "--store", "here", stdin="x = 5")
    assert cli.run("--session", "a", "--store", "here", stdin="print(x)").stdout == "5\n"
    assert "no sessions" in cli.run("sessions").stdout
    assert "a" in cli.run("sessions", "--store", "here").stdout
    assert cli.run("sessions", PYREPL3_STORE=str(cli.folder / "here")).stdout.count("\n") == 2


def test_a_resumed_notebook_is_saved_whole(cli):
    import nbformat

    job = cli.write(
        "job.py",
        "# %%\nprint('one'); 1\n# %%\nimport os\nos.path.exists('go') or os.kill(os.getpid(), 9)\n",
    )
    assert cli.run("run", job, "--session", "s", "--save-to", "out.ipynb").returncode == 137
    cli.write("go", "")
    assert cli.run("run", job, "--session", "s", "--save-to", "out.ipynb").returncode == 0
    saved = nbformat.read(cli.folder / "out.ipynb", 4)
    nbformat.validate(saved)
    assert [out.output_type for out in saved.cells[0].outputs] == ["stream", "execute_result"]
    assert saved.cells[1].outputs[0].data["text/plain"] == "True"


def test_json_tells_of_the_past(cli):
    job = cli.write("job.py", "# %%\nprint('one'); x = 1\n# %%\nx\n")
    cli.run("run", job, "--session", "s")
    cli.write("job.py", "# %%\nprint('one'); x = 1\n# %%\nx + 1\n")
    done = cli.run("run", job, "--session", "s", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events] == [
        "run",
        "resumed",
        "restored",
        "skipped",
        "started",
        "finished",
        "committed",
        "end",
    ]
    assert events[1]["why"] == "changed"
    assert events[1]["skipped"] == 1
    assert events[2]["names"] == ["x"]
    assert events[5]["text"] == "2"
