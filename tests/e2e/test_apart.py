"""Cells of a command line run in a process of their own, and nobody can tell but by what goes wrong."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="workers are forked ahead on Linux only"),
]

BOTH = pytest.mark.parametrize("isolation", ["process", "none"])


def state(pid):
    """The letter of a process in /proc, "" where it is gone; one that only its parent must see is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[0].replace("Z", "")


def wait_for(found):
    """Until it is so. Fails by pytest's own timeout."""
    while not found():
        time.sleep(0.01)


# --- as good as without ---------------------------------------------------------------------------


def test_cells_run_in_another_process_unless_that_is_not_wanted(cli):
    job = cli.write("job.py", "import os\nprint(os.getpid())\n")
    for isolation, apart in (("process", True), ("none", False)):
        process = cli.start("run", "--isolation", isolation, job)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert (int(out) != process.pid) == apart


@BOTH
def test_main_is_that_of_a_script(cli, isolation):
    text = (
        "import os, sys\n"
        "os.environ['ONE'] = '1'; os.chdir('/')\n"
        "print(__name__, os.path.basename(__file__), sys.argv[1:], sys.path[0])\n"
        "if __name__ == '__main__': print(os.environ['ONE'], os.getcwd())\n"
    )
    done = cli.run("run", "--isolation", isolation, cli.write("job.py", text), "a")
    assert done.stdout == f"__main__ job.py ['a'] {cli.folder}\n1 /\n"


@BOTH
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_works_in_cells(cli, isolation, method):
    text = (
        "import multiprocessing\n"
        "def double(n): return 2 * n\n"
        "if __name__ == '__main__':\n"
        f"    with multiprocessing.get_context({method!r}).Pool(2) as pool:\n"
        "        print(pool.map(double, [1, 2, 3]))\n"
    )
    done = cli.run("run", "--isolation", isolation, cli.write("job.py", text))
    assert (done.stdout, done.returncode) == ("[2, 4, 6]\n", 0)


def test_what_other_programs_print_stands_where_it_was_printed(cli):
    text = (
        "import os, subprocess\n"
        "for n in range(20):\n"
        "    print('a', n)\n"
        "    subprocess.run(['echo', 'b', str(n)])\n"
        "    print('c', end=' ')\n"
        "    os.system(f'echo d {n}')\n"
    )
    done = cli.run("run", cli.write("job.py", text))
    wanted = "".join(f"a {n}\nb {n}\nc d {n}\n" for n in range(20))
    assert done.stdout == wanted


@BOTH
def test_lines_of_a_pipe_are_read_by_the_code_and_by_what_it_starts(cli, isolation):
    job = cli.write("job.py", "import sys\nprint([line for line in sys.stdin], input.__name__)\n")
    done = cli.run("run", "--isolation", isolation, job, stdin="x\ny\n")
    assert done.stdout == "['x\\n', 'y\\n'] input\n"
    job = cli.write("job.py", "import subprocess\n_ = subprocess.run(['tr', 'a-z', 'A-Z'])\n")
    assert cli.run("run", "--isolation", isolation, job, stdin="x\ny\n").stdout == "X\nY\n"


@BOTH
def test_the_terminal_belongs_to_the_cells_and_to_what_they_start(cli, isolation):
    text = (
        "import os, signal, subprocess, time\n"
        "seen = []\n"
        "# %%\n"
        "_ = signal.signal(signal.SIGWINCH, lambda *_: seen.append(os.get_terminal_size().columns))\n"
        "print('ready', os.get_terminal_size().columns, flush=True)\n"
        "while not seen: time.sleep(0.01)\n"
        "print('seen', seen, flush=True)\n"
        "_ = subprocess.run('echo go; head -n 1 < /dev/tty | tr a-z A-Z', shell=True)\n"
        "import getpass; print(len(getpass.getpass('key? ')), input('name? '))\n"
    )
    terminal = cli.open_terminal("run", "--isolation", isolation, cli.write("job.py", text))
    terminal.expect("ready 80")
    terminal.process.setwinsize(30, 91)
    terminal.expect(r"seen \[91", "go")
    terminal.type("hello\r")
    terminal.expect("HELLO", r"key\? ")
    terminal.type("secret\r")
    terminal.expect(r"name\? ")
    terminal.type("joe\r")
    terminal.expect("6 joe")
    assert terminal.end()[1] == 0


TICKS = (
    "import os, time\n"
    "print('pid', os.getpid(), flush=True)\n"
    "for n in range(6000):\n"
    "    print('tick', n, flush=True)\n"
    "    time.sleep(0.01)\n"
)


@BOTH
def test_ctrl_z_stops_the_cells_too_and_fg_goes_on(cli, isolation):
    import pexpect

    job = cli.write("job.py", TICKS)
    shell = pexpect.spawn(
        "bash",
        ["--norc", "-i"],
        cwd=str(cli.folder),
        env=cli.environ,
        encoding="utf-8",
        timeout=30,
        dimensions=(24, 200),
    )
    try:
        shell.sendline(f"{sys.executable} -m pyrepl3 run --isolation {isolation} {job}")
        shell.expect(r"pid (\d+)\r")
        pid = int(shell.match.group(1))
        shell.expect("tick 3")
        shell.send("\x1a")
        shell.expect("Stopped")
        wait_for(lambda: state(pid) == "T")
        shell.sendline("fg")
        shell.expect("tick 9")
        shell.sendintr()
        shell.expect("KeyboardInterrupt")
        shell.sendline("echo status=$?")
        shell.expect("status=130")
    finally:
        shell.close(force=True)


def test_one_ctrl_c_at_a_terminal_is_one_though_it_comes_twice(cli):
    """By the signal and by the host: a second press would cut clean-up short."""
    text = (
        "import time\n"
        "try:\n"
        "    print('up', flush=True)\n"
        "    time.sleep(60)\n"
        "finally:\n"
        "    time.sleep(0.5)\n"
        "    print('cleaned')\n"
    )
    terminal = cli.open_terminal("run", cli.write("job.py", f"# %% wait\n{text}"))
    terminal.expect("up")
    terminal.interrupt()
    rest, status = terminal.end()
    assert (status, "cleaned" in rest, "cut short" in rest) == (130, True, False)


def test_a_cell_may_interrupt_itself(cli):
    job = cli.write("job.py", "import signal\nsignal.raise_signal(signal.SIGINT)\nprint('never')\n")
    done = cli.run("run", job)
    assert (done.returncode, done.stdout) == (130, "")


@BOTH
def test_under_nohup_the_end_of_the_terminal_is_not_its_own(cli, isolation):
    job = cli.write(
        "job.py",
        "import os, signal\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
        "print('alive', signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)\n",
    )
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        done = cli.run("run", "--isolation", isolation, job)
    finally:
        signal.signal(signal.SIGHUP, old)
    assert (done.stdout, done.returncode) == ("alive True\n", 0)


@BOTH
def test_what_is_started_to_stay_stays(cli, isolation):
    text = (
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "print(child.pid)\n"
    )
    pid = int(cli.run("run", "--isolation", isolation, cli.write("job.py", text)).stdout)
    assert state(pid)
    os.kill(pid, signal.SIGKILL)


def test_warnings_are_errors_where_that_is_asked_for_and_there_are_none(cli):
    job = cli.write("job.py", "import asyncio; await asyncio.sleep(0); print('done')\n")
    done = cli.run("run", job, PYTHONWARNINGS="error", PYTHONDEVMODE="1")
    # On a busy machine asyncio tells in this mode what has taken long.
    told = [line for line in done.stderr.splitlines() if not line.startswith("Executing <")]
    assert (done.stdout, told, done.returncode) == ("done\n", [], 0)


# --- and where something goes wrong ---------------------------------------------------------------

ENDS = {
    "os._exit": ("import os; os._exit(7)", 7, "ended by itself, with status 7 while cell 2 ran"),
    "segfault": (
        "import ctypes; ctypes.string_at(0)",
        139,
        "died by signal SIGSEGV while cell 2 ran",
    ),
    "killed": (
        "import os; os.kill(os.getpid(), 9)",
        137,
        "died by signal SIGKILL while cell 2 ran",
    ),
}


@pytest.mark.parametrize(("text", "status", "said"), ENDS.values(), ids=ENDS)
def test_a_cell_that_ends_its_process_ends_the_run_which_says_so(cli, text, status, said):
    job = cli.write("job.py", f"# %%\nx = 5\n# %%\n{text}\n# %%\nprint('never')\n")
    for session in ([], ["--session", "s"]):
        done = cli.run("run", *session, job)
        assert (done.returncode, done.stdout) == (status, "")
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert cli.run("--session", "s", stdin="print(x)").stdout == "5\n"


@pytest.mark.parametrize("session", [[], ["--session", "s"]], ids=["not kept", "kept"])
def test_a_run_that_goes_on_after_errors_goes_on_with_its_state(cli, session):
    text = "# %%\nx = 5\n# %%\nimport os; os._exit(7)\n# %%\nprint(x)\n"
    done = cli.run("run", "--keep-going", *session, cli.write("job.py", text))
    assert (done.returncode, done.stdout) == (1, "5\n")
    assert "the session goes on from epoch" in done.stderr


def test_a_process_that_dies_between_two_cells_leaves_no_cell_without_its_names(cli):
    """The command line hangs in a write that nobody reads; once the cell is over a thread of it kills."""
    text = (
        "# %%\n"
        "import os, sys, threading, time, traceback\n"
        "def kill():\n"
        "    main = threading.main_thread().ident\n"
        "    while 'job.py' in str(traceback.extract_stack(sys._current_frames()[main])):\n"
        "        time.sleep(0.05)\n"
        "    time.sleep(1)\n"  # for the host to be told
        "    os.kill(os.getpid(), 9)\n"
        "open('pid', 'w').write(str(os.getpid()))\n"
        "print('x' * 100_000)\n"  # more than the pipe takes, less than the socket does
        "threading.Thread(target=kill).start()\n"
        "# %%\n"
        "print('never')\n"
    )
    process = cli.start("run", cli.write("job.py", text))
    wait_for(lambda: (cli.folder / "pid").exists() and (cli.folder / "pid").read_text())
    pid = int((cli.folder / "pid").read_text())
    wait_for(lambda: not state(pid))
    out, err = process.communicate(timeout=60)
    assert "never" not in out
    assert process.returncode == 128 + 9
    # Else the host had read that the cell was over, and not yet that the process was.
    if "while cell 2 ran" not in err:
        assert "died by signal SIGKILL while no cell ran" in err
        assert "nothing more is run" in err


def test_programs_are_told_too(cli):
    job = cli.write("job.py", "import os; os._exit(7)\n")
    done = cli.run("run", "--json", job)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["status"] for event in events if event["event"] == "end"] == [7]
    [finished] = [event for event in events if event["event"] == "finished"]
    assert finished["error"]["type"] == "WorkerDiedError"


def test_at_the_prompt_a_session_without_a_name_survives_its_process(cli):
    prompt = cli.open_terminal(NO_COLOR="1")
    prompt.expect(">>>")
    prompt.type("x = 5; import os; print('pid', os.getpid(), '.')\r")
    prompt.expect(r"pid (\d+) \.", ">>>")
    prompt.type("import ctypes; ctypes.string_at(0)\r")
    prompt.expect("WorkerDiedError: the worker process died by signal SIGSEGV", ">>>")
    prompt.type("print('still', x)\r")
    prompt.expect("still 5", ">>>")
    prompt.type("f = open(os.devnull)\r")  # nobody wanted it kept: nothing is said of it
    assert "f" not in prompt.expect("\x1b\\[\\?2004l", ">>>").split()
    prompt.type("\x04")
    assert prompt.end()[1] == 0


STARTS = (
    "import os, subprocess, sys\n"
    "child = subprocess.Popen(['sleep', '60'])\n"
    "other = subprocess.Popen(['sh', '-c', 'sleep 60 & echo $!; wait'], stdout=subprocess.PIPE, text=True)\n"
    "print(os.getpid(), os.getppid(), child.pid, other.pid, int(other.stdout.readline()), flush=True)\n"
)


@pytest.mark.parametrize("victim", ["the command line", "the worker"])
def test_who_is_killed_leaves_nothing_behind(cli, victim):
    job = cli.write("job.py", STARTS + "# %%\nimport time; time.sleep(60)\n")
    process = cli.start("run", job)
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 5
    if victim == "the worker":
        os.kill(pids[0], signal.SIGKILL)
        assert process.wait(30) == 137
    else:
        process.kill()
    wait_for(lambda: not any(map(state, pids)))


def test_a_run_leaves_no_process_behind(cli):
    job = cli.write("job.py", "import os\nprint(os.getpid(), os.getppid())\n")
    pids = [int(word) for word in cli.run("run", job).stdout.split()]
    assert not any(map(state, pids))


# --- other interpreters ---------------------------------------------------------------------------


def test_what_the_system_has_may_be_no_text(cli):
    """Names of files and values of the environment are bytes; the cells' process has them as they are."""
    job = cli.write("odd\udcff.py", "import os\nprint(ascii(os.environ['ODD']))\n1 / 0\n")
    done = cli.run("run", job, ODD="a\udcff")
    assert (done.returncode, done.stdout) == (1, "'a\\udcff'\n")
    assert 'odd\\udcff.py", line 3' in done.stderr


def test_an_interpreter_may_be_named(cli):
    job = cli.write("job.py", "import sys\nprint(sys.executable)\ninput('q?')\n")
    link = cli.folder / "python"
    link.symlink_to(sys.executable)
    done = cli.run("run", "--python", link, job, stdin="x\n")
    assert (done.stdout, done.returncode) == (f"{link}\nq?'x'\n", 0)
    assert (
        "is for worker processes"
        in cli.run("run", "--python", link, "--isolation", "none", job).stderr
    )
    done = cli.run("run", "--python", cli.folder / "gone", job)
    assert (done.returncode, "no worker process could be started" in done.stderr) == (2, True)


@pytest.mark.parametrize("isolation", ["process", "none"])
@pytest.mark.parametrize("waits", ["in its cell", "in the next"])
def test_a_child_that_a_cell_forked_ends_with_the_cell(cli, isolation, waits):
    """It would wait for ever for cells that its parent gets, and so would whoever waits for it."""
    ends = {"pass": 0, "1 / 0": 1, "raise SystemExit(3)": 3}
    marker = "# %%\n" if waits == "in the next" else ""
    cells = "".join(
        f"# %%\npid = os.fork()\nif not pid:\n    {end}\n"
        f"{marker}if pid: print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        for end in ends
    )
    job = cli.write("job.py", f"import os\n{cells}")
    done = cli.run("run", "--isolation", isolation, job, PYTHONWARNINGS="ignore")
    assert done.stdout == "0\n1\n3\n"
    assert done.returncode == 0
    assert done.stderr.count("a forked child ends with the cell that forked it") == 1
    assert done.stderr.count("ZeroDivisionError") == 1


def test_input_that_has_ended_is_told_as_python_tells_it(cli):
    job = cli.write("job.py", "try: input()\nexcept EOFError as error: print(error)\n")
    assert cli.run("run", job).stdout == "EOF when reading a line\n"
