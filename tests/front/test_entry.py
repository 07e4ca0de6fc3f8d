"""What Enter does at the prompt."""

import pytest

from pyrepl3.front.entry import common_start, indent_after, needs_more, word_before

MORE = {
    "open bracket": "x = (",
    "open string": "'''a",
    "header": "def f():",
    "async header": "async with f() as g:",
    "decorator": "@d",
    "backslash": "x = 1 + \\",
    "body that no blank line has closed": "def f():\n    return 1",
    "one-line block": "if x: y",
    "block in a block": "class A:\n    def f(self):\n        pass",
    "after other statements": "x = 1\nfor i in y:\n    z",
    "try without except": "try:\n    x\n",
    "await in a block": "async for x in y:\n    await z",
}
RUN = {
    "empty": "",
    "blank": "  \n",
    "expression": "1 + 1",
    "await": "await f()",
    "closed block": "def f():\n    return 1\n",
    "closed block, indented blank line": "def f():\n    return 1\n    ",
    "several statements": "def f():\n    return 1\nf()",
    "closed brackets": "f(\n1,\n)",
    "wrong": "for x in y",
    "wrong string": "x = 'a",
    "wrong indentation": "  x",
    "comment": "# words",
    "return at the top": "return 1",
    "null character": "x\0",
    "invalid escape": r"'\d'",
}


@pytest.mark.parametrize("text", MORE.values(), ids=MORE)
def test_what_is_unfinished_goes_on(text):
    assert needs_more(text)


@pytest.mark.parametrize("text", RUN.values(), ids=RUN)
def test_what_is_finished_or_wrong_runs(text):
    assert not needs_more(text)


@pytest.mark.parametrize(
    ("text", "indent"),
    [
        ("x = 1", ""),
        ("def f():", "    "),
        ("def f():  # why:", "    "),
        ("def f():\n    if x:", "        "),
        ("    y = 1", "    "),
        ("    return 1", ""),
        ("        pass", "    "),
        ("    returned = 1", "    "),
        ("\tx", "\t"),
    ],
)
def test_a_line_is_indented_after_the_one_before(text, indent):
    assert indent_after(text) == indent


def test_completion_takes_the_dotted_name_before_the_cursor():
    assert word_before("x = os.pa") == "os.pa"
    assert word_before("x = ") == ""
    assert word_before("pass\n") == ""
    assert common_start(("os.path", "os.pathsep")) == "os.path"
    assert common_start(("a", "b")) == ""
    assert common_start(()) == ""
