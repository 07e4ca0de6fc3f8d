"""The prompt on a real terminal."""

import os
import stat
import sys

import pytest

pytestmark = pytest.mark.slow

READY = r"\x1b\[\?2004h.*>>>"  # the editor has the terminal: bracketed paste is on
LEFT = r"\x1b\[\?2004l"  # the editor has let go of it: what follows is the cell's


@pytest.fixture
def prompt(cli):
    terminal = cli.open_terminal(NO_COLOR="1")
    terminal.expect(READY)
    return terminal


def answer(terminal, text):
    """What a cell shows, up to the next prompt."""
    terminal.type(text + "\r")
    terminal.expect(LEFT)
    return terminal.expect(READY).strip()


def test_values_state_and_await(prompt):
    assert answer(prompt, "1 + 1") == "2"
    assert answer(prompt, "_ * 21") == "42"
    assert answer(prompt, "x = 5") == ""
    assert answer(prompt, "import asyncio") == ""
    assert answer(prompt, "await asyncio.sleep(0, x)") == "5"
    assert answer(prompt, "__name__") == "'__main__'"


def test_the_banner_is_one_line(cli):
    terminal = cli.open_terminal()
    banner = terminal.expect(READY).strip()
    assert banner.startswith("pyrepl3 ")
    assert "\n" not in banner


def test_a_block_is_typed_line_by_line_with_indentation(prompt):
    prompt.type("def f(x):\r")
    prompt.expect(r"\.\.\.")
    prompt.type("if x:\r")
    prompt.expect(r"\.\.\.")
    prompt.type("return 'yes'\r")
    prompt.expect(r"\.\.\.")
    prompt.type("return 'no'\r")
    prompt.expect(r"\.\.\.")
    prompt.type("\r")
    prompt.expect(LEFT, READY)
    assert answer(prompt, "f(1), f(0)") == "('yes', 'no')"


def test_a_marked_paste_is_one_entry(prompt):
    prompt.type(
        "\x1b[200~def f():\n    a = 1\n\n    return a + 1\n\nprint('sum', f() + 1)\x1b[201~"
    )
    prompt.expect("sum")
    prompt.type("\r")
    prompt.expect(LEFT)
    assert prompt.expect(READY).strip() == "sum 3"


def test_an_unmarked_paste_keeps_its_own_indentation(prompt):
    prompt.type("def f():\r    a = 1\r    for i in range(3):\r        a += i\r    return a\r\r")
    prompt.expect(LEFT, READY)
    assert answer(prompt, "f()") == "4"


def test_an_error_shows_the_users_lines_and_the_prompt_goes_on(prompt):
    answer(prompt, "def f(n): return 1 / n\r")
    text = answer(prompt, "f(0)")
    assert "ZeroDivisionError: division by zero" in text
    assert "return 1 / n" in text
    assert "site-packages" not in text
    assert "pyrepl3/" not in text
    assert answer(prompt, "type(_last_exception).__name__") == "'ZeroDivisionError'"


def test_a_mistake_gets_a_suggestion_that_is_not_run(prompt):
    text = answer(prompt, "print 'hello'")
    assert "SyntaxError" in text
    assert "did you mean" in text
    assert "print('hello')" in text
    assert "\nhello" not in text
    prompt.type("\r")  # takes it over, to be edited
    prompt.expect(r"print\('hello'\)")
    prompt.type("\r")
    prompt.expect(LEFT)
    assert prompt.expect(READY).strip() == "hello"


def test_ctrl_c_drops_what_was_typed(prompt):
    prompt.type("x = (1,")
    prompt.expect(r"\(1,")
    prompt.type("\x03")
    prompt.expect(READY)
    assert answer(prompt, "2 + 2") == "4"


WAITS = {
    "sleep": "import time; print('up'); time.sleep(60)",
    "loop": "spin()",
    "await": "import asyncio; print('up'); await asyncio.sleep(60)",
    "question": "print('up'); input()",
    "loop in a coroutine": "async def f(): spin()\r\rawait f()",
    "loop in a sub-task": "async def f(): spin()\r\rimport asyncio; await asyncio.gather(f(), asyncio.sleep(60))",
    "lock": "import threading; k = threading.Lock(); k.acquire(); print('up'); k.acquire()",
    "socket": "import socket; a, b = socket.socketpair(); print('up'); a.recv(1)",
    "swallows everything": "swallow()",
}


@pytest.mark.parametrize("entry", WAITS.values(), ids=WAITS)
def test_ctrl_c_stops_a_cell_and_the_state_stays(prompt, entry):
    answer(prompt, "kept = 7")
    answer(prompt, "def spin():\r    print('up')\r    while True: pass\r")
    if entry == "swallow()":
        text = "def swallow():\r    try: spin()\r    except BaseException: swallow()\r"
        answer(prompt, text)
    prompt.type(entry + "\r")
    prompt.expect(LEFT, "up")
    prompt.interrupt()
    prompt.expect("KeyboardInterrupt")
    prompt.expect(READY)
    assert answer(prompt, "kept") == "7"


def test_the_third_ctrl_c_that_reaches_nothing_ends_what_runs_the_cell(prompt):
    answer(prompt, "kept = 7")
    answer(prompt, "import ctypes; c = ctypes.CDLL(None); lock = ctypes.create_string_buffer(64)")
    prompt.type("c.pthread_mutex_lock(lock); print('up'); c.pthread_mutex_lock(lock)\r")
    prompt.expect(LEFT, "up")
    for _n in range(3):
        prompt.interrupt()
    prompt.expect("KeyboardInterrupt", READY)
    assert answer(prompt, "kept").endswith("7")


def test_without_a_process_for_the_cells_it_ends_the_prompt(cli):
    prompt = cli.open_terminal("--isolation", "none")
    prompt.expect(READY)
    answer(prompt, "import ctypes; c = ctypes.CDLL(None); lock = ctypes.create_string_buffer(64)")
    prompt.type("c.pthread_mutex_lock(lock); print('up'); c.pthread_mutex_lock(lock)\r")
    prompt.expect(LEFT, "up")
    prompt.interrupt()
    prompt.expect("inside a call that cannot be interrupted")
    prompt.interrupt()
    prompt.expect("Ctrl-C once more ends the process")
    prompt.interrupt()
    rest, status = prompt.end()
    assert "ended in the midst of a cell" in rest
    assert status == 130


def test_an_interrupted_question_takes_no_later_line(prompt):
    prompt.type("input('name? ')\r")
    prompt.expect(LEFT, r"name\? ")
    prompt.interrupt()
    prompt.expect("KeyboardInterrupt", READY)
    assert answer(prompt, "'typed' + 'later'") == "'typedlater'"


def test_a_question_is_answered(prompt):
    prompt.type("name = input('name? ')\r")
    prompt.expect(LEFT, r"name\? ")
    prompt.type("Ada\r")
    prompt.expect(READY)
    assert answer(prompt, "name") == "'Ada'"


def test_a_background_task_prints_above_the_prompt(prompt):
    answer(prompt, "import asyncio")
    answer(prompt, "go = asyncio.Event()")
    prompt.type("async def tick():\r    await go.wait(); print('tick', 1 + 1); print('end')\r\r")
    prompt.expect(LEFT, READY)
    answer(prompt, "task = asyncio.create_task(tick())")
    answer(prompt, "_ = asyncio.get_running_loop().call_later(0.2, go.set)")
    prompt.type("half_typed")
    prompt.expect("tick 2\r\n", "end\r\n")  # drawn at once, or one after the other
    prompt.expect("half_typed")  # drawn again below
    prompt.type(" = 3\r")
    prompt.expect(LEFT, READY)
    assert answer(prompt, "half_typed") == "3"


ENDS = {
    "ctrl-d": ("\x04", 0),
    "exit": ("exit\r", 0),
    "quit": ("quit\r", 0),
    "exit()": ("exit()\r", 0),
    "sys.exit": ("import sys; sys.exit(3)\r", 3),
    "exit with a text": ("raise SystemExit('bye')\r", 1),
}


@pytest.mark.parametrize(("keys", "status"), ENDS.values(), ids=ENDS)
def test_it_ends_as_asked(prompt, keys, status):
    prompt.type(keys)
    rest, found = prompt.end()
    assert found == status
    assert "Traceback" not in rest
    assert ("bye" in rest.replace(keys, "")) is (status == 1)


def test_the_history_is_kept_and_private(cli, prompt):
    answer(prompt, "'first entry'")
    prompt.type("\x04")
    prompt.end()
    path = cli.folder / "state" / "pyrepl3" / "history"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    again = cli.open_terminal(NO_COLOR="1")
    again.expect(READY)
    again.type("\x1b[A")
    again.expect("first entry")
    again.type("\r")
    again.expect(LEFT)
    assert again.expect(READY).strip() == "'first entry'"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_without_a_place_for_the_history_it_works_too(cli):
    (cli.folder / "state").mkdir(mode=0o500)
    terminal = cli.open_terminal(NO_COLOR="1")
    terminal.expect(READY)
    assert answer(terminal, "1") == "1"


def test_tab_completes_from_the_live_namespace(prompt):
    answer(prompt, "some_long_name = 'abc'")
    prompt.type("some_lo\t")
    prompt.expect("ng_name")
    prompt.type(".isid\t")
    prompt.expect("entifier")
    prompt.type("\x03")
    prompt.expect(READY)
    prompt.type("'x'.is\t")  # many: they are listed
    prompt.type("\x03")
    prompt.expect(READY)
    answer(prompt, "s = 'abc'")
    prompt.type("s.isal\t")
    prompt.expect("s.isalnum.*s.isalpha")
    prompt.type("\x03")
    prompt.expect(READY)


def test_tab_at_the_start_of_a_line_indents(prompt):
    prompt.type("if 1:\r")
    prompt.expect(r"\.\.\.")
    prompt.type("pass\r")  # goes back one level
    prompt.expect(r"\.\.\.")
    prompt.type("\t")
    prompt.type("x = 1")
    prompt.expect("x = 1")
    prompt.type("\r\r")
    prompt.expect(LEFT, READY)
    assert answer(prompt, "x") == "1"


def test_a_session_comes_back_and_says_what_was_lost(cli):
    first = cli.open_terminal("--session", "demo", NO_COLOR="1")
    assert "session demo: new" in first.expect(READY)
    answer(first, "x = [1]; y = 2")
    assert "g would be lost with this process" in answer(first, "g = (n for n in x)")
    first.process.kill(9)
    first.process.wait()
    second = cli.open_terminal("--session", "demo", NO_COLOR="1")
    banner = second.expect(READY)
    assert "session demo: x, y came back (epoch 2)" in banner
    assert "g did not come back" in banner
    assert answer(second, "x, y") == "([1], 2)"


def test_a_session_in_use_is_refused(cli):
    first = cli.open_terminal("--session", "demo")
    first.expect(READY)
    rest, status = cli.open_terminal("--session", "demo").end()
    assert status == 2
    assert "in use by pid" in rest


def test_colours_are_only_for_those_who_want_them(cli):
    terminal = cli.open_terminal()
    terminal.expect(READY)
    terminal.type("1 / 0\r")
    terminal.expect("\x1b\\[1;31mZeroDivisionError")
    plain = cli.open_terminal(NO_COLOR="1")
    plain.expect(READY)
    plain.type("1 / 0\r")
    plain.expect("division by zero")
    assert "\x1b[1;31m" not in plain.process.before
    assert "\x1b[35m" not in plain.process.before


def test_a_dumb_terminal_gets_plain_lines(cli):
    terminal = cli.open_terminal(TERM="dumb")
    terminal.expect(">>> ")
    terminal.type("def f():\n")
    terminal.expect(r"\.\.\. ")
    terminal.type("    return 42\n")
    terminal.expect(r"\.\.\. ")
    terminal.type("\n")
    terminal.expect(">>> ")
    terminal.type("f()\n")
    terminal.expect("42\r\n>>> ")
    terminal.type("half")
    terminal.interrupt()
    terminal.expect(">>> ")
    terminal.type("import time; print('u' + 'p'); time.sleep(60)\n")
    terminal.expect("up")
    terminal.interrupt()
    terminal.expect("KeyboardInterrupt", ">>> ")
    assert "\x1b" not in terminal.process.before
    terminal.type("\x04")
    assert terminal.end()[1] == 0


def test_sigint_from_elsewhere_is_ctrl_c(prompt):
    import signal

    prompt.type("half typed")
    prompt.expect("typed")
    prompt.process.kill(signal.SIGINT)
    prompt.expect(READY)
    assert answer(prompt, "3 + 3") == "6"


def test_a_huge_output_and_a_deep_recursion_leave_the_prompt_alive(prompt):
    answer(prompt, "def f(): f()\r")
    assert "RecursionError" in answer(prompt, "f()")
    assert answer(prompt, "len('x' * 10**8)") == "100000000"
    prompt.type("for _n in range(3000): print('line', _n)\r\r")
    prompt.expect("line 2999")
    prompt.expect(READY)
    assert answer(prompt, "1") == "1"


def test_debug_looks_at_the_last_failure_and_breakpoint_stops_a_cell(prompt):
    answer(prompt, "f = lambda a: a / 0")
    assert "ZeroDivisionError" in answer(prompt, "f(41)")
    prompt.type("%debug\r")
    prompt.expect(r"\(Pdb\) ")
    prompt.type("p a + 1\r")
    assert "42" in prompt.expect(r"\(Pdb\) ")
    prompt.type("up\r")
    assert "f(41)" in prompt.expect(r"\(Pdb\) ")
    prompt.type("q\r")
    prompt.expect(READY)
    prompt.type("n = 1; breakpoint(); n = 2\r")
    prompt.expect(r"\(Pdb\) ")
    prompt.type("!n = 5\r")
    prompt.expect(r"\(Pdb\) ")
    prompt.type("p n\r")
    assert "5" in prompt.expect(r"\(Pdb\) ")
    prompt.type("c\r")
    prompt.expect(READY)
    # Before 3.13 pdb stops at the next line or the end of the code: after `n = 2` here.
    assert answer(prompt, "n") == ("2" if sys.version_info >= (3, 13) else "5")
