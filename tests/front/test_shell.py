"""What translated magics do."""

import subprocess
from pathlib import Path

import pytest

from pyrepl3.front import shell


def test_a_command_prints_and_goes_on_after_a_failure(capsys):
    shell.command("echo a; echo b >&2; exit 3")
    captured = capsys.readouterr()
    assert captured.out == "a\nb\n"
    assert captured.err == "!echo a; echo b >&2; exit 3: exit status 3\n"


def test_an_assigned_command_gives_its_lines_and_prints_nothing(capsys):
    assert shell.output("echo a b; echo c >&2; exit 3") == ["a b", "c"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith(": exit status 3\n")


def test_a_script_that_fails_raises(capsys):
    with pytest.raises(subprocess.CalledProcessError, match="%%sh"):
        shell.script("sh", "echo a\nfalse")
    assert capsys.readouterr().out == "a\n"


def test_bytes_that_are_no_text_are_shown_as_such(capsys):
    shell.command(r"printf 'a\377b'")
    assert capsys.readouterr().out == "a\ufffdb"


def test_cd_goes_there_and_back(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OLDPWD", "/")
    (tmp_path / "a").mkdir()
    shell.change_directory("a")
    assert Path.cwd() == tmp_path / "a"
    shell.change_directory("-")
    assert capsys.readouterr().out == f"{tmp_path / 'a'}\n{tmp_path}\n"


def test_env_shows_and_sets(monkeypatch, capsys):
    monkeypatch.setenv("PYREPL3_TEST", "")
    assert shell.environment("PYREPL3_TEST=a b") is None
    assert shell.environment("PYREPL3_TEST") == "a b"
    shell.environment("PYREPL3_TEST c")
    assert shell.environment("")["PYREPL3_TEST"] == "c"
    assert capsys.readouterr().out == "env: PYREPL3_TEST=a b\nenv: PYREPL3_TEST=c\n"


def test_writefile_writes_and_appends(tmp_path, capsys):
    path = str(tmp_path / "f")
    shell.write_file(path, "a")
    shell.write_file(path, "b\n", append=True)
    assert (tmp_path / "f").read_text() == "a\nb\n"
    shell.write_file(path, "c")
    assert (tmp_path / "f").read_text() == "c\n"
    verbs = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert verbs == ["Writing", "Appending", "Overwriting"]
