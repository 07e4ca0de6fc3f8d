"""``%`` commands at the prompt, on a real terminal."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

READY = r"\x1b\[\?2004h.*>>>"  # the editor has the terminal: bracketed paste is on
LEFT = r"\x1b\[\?2004l"  # the editor has let go of it: what follows is the cell's


def answer(terminal, text):
    """What an entry shows, up to the next prompt."""
    terminal.type(text + "\r")
    terminal.expect(LEFT)
    return terminal.expect(READY).strip()


@pytest.fixture
def prompt(cli):
    terminal = cli.open_terminal("--session", "demo", NO_COLOR="1")
    terminal.expect(READY)
    return terminal


def test_a_mistake_is_undone_looked_at_and_forked(cli, prompt):
    answer(prompt, "rows = [3, 1, 2]")
    answer(prompt, "rows.clear()")
    undone = answer(prompt, "%undo")
    assert "from epoch 2 to epoch 1: 1 changed" in undone
    assert "pyrepl3: nothing is deleted: %restore 2 undoes this" in undone
    assert "came back" not in undone
    assert answer(prompt, "sorted(rows)") == "[1, 2, 3]"
    drawn = answer(prompt, "%log").splitlines()
    # What the process itself changed meanwhile (modules that the prompt has loaded) may be an epoch, too.
    cells = [line.split()[:2] for line in drawn if line.split()[1] in ("1", "2", "3")]
    assert cells == [["●", "1"], ["├─○", "2"], ["◉", "3"]]
    assert "session what-if is this one at epoch 3" in answer(prompt, "%fork what-if")
    assert "this one" in answer(prompt, "%sessions")
    assert "wrote copy.pyrepl3" in answer(prompt, "%export copy.pyrepl3")
    assert (cli.folder / "copy.pyrepl3").exists()
    prompt.type("\x04")
    assert prompt.end()[1] == 0
    other = cli.open_terminal("--session", "what-if", NO_COLOR="1")
    assert "session what-if: rows came back (epoch 3)" in other.expect(READY)
    assert answer(other, "rows") == "[3, 1, 2]"


def test_tab_completes_commands_and_what_is_none_of_them_goes_on_as_ever(prompt):
    assert "%help" not in answer(prompt, "%pwd")
    assert answer(prompt, "!echo from a shell") == "from a shell"
    assert "Wall time: " in answer(prompt, "%time sum(range(10))")
    assert "%help lists the commands" in answer(prompt, "%nonsense")
    assert "usage: %restore EPOCH" in answer(prompt, "%restore")
    assert answer(prompt, "5 %3") == "2"
    assert "%undo [N]" in answer(prompt, "%help")
    prompt.type("%und\t")
    prompt.expect("%undo")
    prompt.type("\x03")
    prompt.expect(READY)
    prompt.type("%lo\t")
    prompt.expect("log.*lost")


def test_a_kill_after_an_undo_comes_back_there(cli, prompt):
    answer(prompt, "x = 1")
    answer(prompt, "x = 2")
    answer(prompt, "%undo")
    prompt.process.kill(9)
    prompt.process.wait()
    again = cli.open_terminal("--session", "demo", NO_COLOR="1")
    assert "x came back (epoch 1)" in again.expect(READY)
    assert answer(again, "x") == "1"
    assert "1 changed" in answer(again, "%restore 2")
    assert answer(again, "x") == "2"


def test_a_dumb_terminal_has_the_commands_too(cli):
    terminal = cli.open_terminal("--session", "demo", TERM="dumb")
    terminal.expect(">>> ")
    for line, shown in (("x = 1", ""), ("%log", "x = 1"), ("%undo", "1 removed")):
        terminal.type(line + "\n")
        terminal.expect(shown, ">>> ")
    terminal.type("\x04")
    assert terminal.end()[1] == 0


def test_somebody_else_undoes_forks_and_collects_while_the_prompt_waits(cli, prompt):
    for cell in ("x = 1", "x = 2", "x = 3"):
        answer(prompt, cell)
    assert "from epoch 3 to epoch 2" in cli.run("sessions", "undo", "demo").stdout
    assert "session demo: x came back (epoch 2)" in prompt.expect(READY)
    assert answer(prompt, "x") == "2"
    assert "only 3 are there" in cli.run("sessions", "undo", "demo", "7").stderr
    assert "no epoch 9; the nearest" in cli.run("sessions", "restore", "demo", "9").stderr
    assert "new is demo at epoch 1" in cli.run("sessions", "fork", "demo", "new", "1").stdout
    assert "dropped 1 epoch" in cli.run("sessions", "gc", "demo").stdout
    assert "is at epoch 4 already" in cli.run("sessions", "restore", "demo", "4").stdout
    assert cli.run("--session", "new", stdin="print(x)").stdout == "1\n"
