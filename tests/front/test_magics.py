"""Magics: what is translated, what is refused, and what is none."""

import ast

import pytest

from pyrepl3.front.magics import MagicError, translate

SHELL = '__import__("pyrepl3.front.shell", fromlist=["shell"])'

TRANSLATED = {
    "no magic": ("x = 5 % 3", "x = 5 % 3"),
    "a line that starts with a percent sign": ("x = (5\n% 3)", "x = (5\n% 3)"),
    "matplotlib": ("%matplotlib inline\nx = 1", "pass\nx = 1"),
    "indented": ("if x:\n    %matplotlib inline", "if x:\n    pass"),
    "autoreload": ("%load_ext autoreload\n%autoreload 2", "pass\npass"),
    "time": ("%time f(x)", "f(x)"),
    "time, cell": ("%%time\nx = f()\nx", "\nx = f()\nx"),
    "time, cell with a statement": ("%%time y = 1\nx", "y = 1\nx"),
    "time over a magic": ("%%time\n!ls", f"\n{SHELL}.command('ls')"),
    "shell": ("x = 1\n!ls -l 'a b'\ny = 2", f"x = 1\n{SHELL}.command(\"ls -l 'a b'\")\ny = 2"),
    "shell with a quote of its own": (
        "!echo it's\nx = 'a'\n!ls",
        f"{SHELL}.command(\"echo it's\")\nx = 'a'\n{SHELL}.command('ls')",
    ),
    "pip": ("%pip install -q x", f"{SHELL}.pip('install -q x')"),
    "cd": ("%cd ..", f"{SHELL}.change_directory('..')"),
    "pwd": ("%pwd", '__import__("os").getcwd()'),
    "debug": ("%debug", '__import__("pyrepl3").post_mortem()'),
    "env": ("%env A=1", f"{SHELL}.environment('A=1')"),
    "assigned command": (
        "if x:\n    files = !ls -l",
        f"if x:\n    files = {SHELL}.output('ls -l')",
    ),
    "assigned directory": ("a = 1\nd = %pwd", 'a = 1\nd = __import__("os").getcwd()'),
    "assigned variable": ("h = %env HOME", f"h = {SHELL}.environment('HOME')"),
    "bash": ("%%bash\necho $A {b}\nls", f"{SHELL}.script('bash', 'echo $A {{b}}\\nls')\n\n"),
    "writefile": (
        "\n%%writefile -a a.txt\nhi",
        f"\n{SHELL}.write_file('a.txt', 'hi', append=True)\n",
    ),
    "a magic in a string is text": (
        "%matplotlib inline\ns = '''\n%lprun\n!x\n'''",
        "pass\ns = '''\n%lprun\n!x\n'''",
    ),
    "a percent sign in brackets goes on": (
        "%matplotlib inline\nx = (5\n%lprun)",
        "pass\nx = (5\n%lprun)",
    ),
    "after a backslash": (
        "%matplotlib inline\nx = 5 \\\n%lprun",
        "pass\nx = 5 \\\n%lprun",
    ),
    "a comment with brackets": ("# ((('\n%matplotlib inline", "# ((('\npass"),
    "a plain syntax error stays": ("if x\n    y", "if x\n    y"),
}


@pytest.mark.parametrize(("source", "python"), TRANSLATED.values(), ids=TRANSLATED)
def test_an_obvious_magic_is_translated(source, python):
    assert translate(source).source == python


@pytest.mark.parametrize("source", [source for source, _ in TRANSLATED.values()])
def test_a_translation_has_as_many_lines(source):
    assert translate(source).source.count("\n") == source.count("\n")


@pytest.mark.parametrize(
    "name", [name for name in TRANSLATED if name != "a plain syntax error stays"]
)
def test_a_translation_parses(name):
    ast.parse(translate(TRANSLATED[name][0]).source)


REFUSED = {
    "unknown": ("x = 1\n%lprun f()", 2, "%lprun is an IPython magic"),
    "cell": ("%%cython\ncdef int x", 1, "%%cython is an IPython magic"),
    "cell, not first": ("x = 1\n%%time\ny", 2, "%%time is only understood as the first line"),
    "timeit": ("%timeit f()", 1, "use the timeit module instead"),
    "help after": ("x?", 1, "write help(x) instead"),
    "help before": ("x = 1\n?x.y", 2, "write help(x.y) instead"),
    "help twice": ("x??", 1, "write help(x) instead"),
    "assigned magic": ("a = 1\nd = %time f()", 2, "%time cannot be assigned"),
    "nothing assigned": ("files = !", 1, "without a command"),
    "braces": ("!ls {folder}", 1, "may mean Python or the shell"),
    "dollar": ("!echo $HOME", 1, "may mean Python or the shell"),
    "two bangs": ("!!ls", 1, "use subprocess.run"),
    "bare bang": ("!", 1, "without a command"),
    "several lines": ("!ls \\\n -l", 1, "on several lines"),
    "bash with options": ("%%bash --bg\nls", 1, "understood without '--bg' only"),
    "below %%time": ("%%time\nx = 1\n%lprun f()", 3, "%lprun"),
    "other extension": ("%load_ext tensorboard", 1, "import the package itself"),
}


@pytest.mark.parametrize(("source", "line", "message"), REFUSED.values(), ids=REFUSED)
def test_any_other_magic_is_refused_by_line_with_a_cure(source, line, message):
    with pytest.raises(MagicError) as caught:
        translate(source)
    assert caught.value.line == line
    assert message in caught.value.text


def test_what_is_ignored_is_said():
    assert translate("x = 1\n%matplotlib inline").notices == (
        (2, "%matplotlib is ignored: figures are shown by their own backend"),
    )


@pytest.mark.parametrize(
    ("source", "timed"),
    [
        ("%%time\nf()", True),
        ("%time f()", True),
        ("# c\n%time f()", True),
        ("%time f()\ng()", False),
    ],
)
def test_time_is_measured_where_it_covers_the_cell(source, timed):
    found = translate(source)
    assert found.timed is timed
    assert bool(found.notices) is not timed
