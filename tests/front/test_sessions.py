"""``pyrepl3 sessions``: which command the words name, and what is said to bad usage."""

from importlib import import_module

import pytest

from pyrepl3.front.arguments import parse_prompt
from pyrepl3.front.sessions import COMMANDS, parse_sessions


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_names_a_function_that_is_there(name):
    module, _, function = COMMANDS[name].run.partition(":")
    assert callable(getattr(import_module(f"pyrepl3.front.{module}"), function))


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_of_its_own(name, capsys):
    with pytest.raises(SystemExit) as ended:
        parse_sessions([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: pyrepl3 sessions {name} " in shown
    assert COMMANDS[name].about[1:] in " ".join(shown.split())


def test_without_a_command_the_sessions_are_listed():
    options = parse_sessions([])
    assert (options.action, options.json, options.store, options.color) == (
        "list",
        False,
        None,
        "auto",
    )


@pytest.mark.parametrize(
    "words", [["--store", "/x", "--json", "list"], ["list", "--json", "--store", "/x"]]
)
def test_common_options_may_stand_before_or_after_the_command(words):
    options = parse_sessions(words)
    assert (options.action, options.json, options.store) == ("list", True, "/x")


BAD = {
    "a typo": (["lst"], "did you mean list?"),
    "a name": (["demo"], "to look at a session: pyrepl3 sessions show demo"),
    "no name": (["rm"], "NAME"),
    "too much": (["list", "x"], "unrecognized arguments: x"),
}


@pytest.mark.parametrize(("words", "message"), BAD.values(), ids=BAD)
def test_bad_usage_is_told_with_a_cure(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        parse_sessions(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["log", "undo"])
def test_a_command_without_its_group_is_told_where_it_is(name, capsys):
    with pytest.raises(SystemExit) as ended:
        parse_prompt([name, "demo"])
    assert ended.value.code == 2
    assert f"did you mean: pyrepl3 sessions {name} demo" in capsys.readouterr().err
