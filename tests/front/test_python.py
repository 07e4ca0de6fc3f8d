"""Where a .py file is cut: markers, and statement groups without them."""

import ast
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrepl3.front.python import split_python


def cut(text):
    return [cell.source for cell in split_python(text, filename="f.py")]


MARKERS = {
    "plain": ("# %%\na = 1\n# %%\nb = 2\n", ["a = 1\n", "b = 2\n"]),
    "no space": ("#%%\na = 1\n#%% two\nb = 2\n", ["a = 1\n", "b = 2\n"]),
    "text before the first": ("a = 0\n# %%\nb = 1\n", ["a = 0\n", "b = 1\n"]),
    "comments before the first are no cell": ("# hello\n\n# %%\nb = 1\n", ["b = 1\n"]),
    "markdown is skipped": ("# %% [markdown]\n# words\n# %%\nb = 1\n", ["b = 1\n"]),
    "markdown without a space": ("# %%[markdown]\nwords here\n# %%\nb = 1\n", ["b = 1\n"]),
    "markdown with a title": ('# %% Why [md] x="1"\n"""w"""\n# %%\nb = 1\n', ["b = 1\n"]),
    "raw is skipped": ("# %% [raw]\nwords\n# %%\nb = 1\n", ["b = 1\n"]),
    "sub-cells": ("# %%\na\n# %%%% deeper\nb\n", ["a\n", "b\n"]),
    "empty cells are skipped": ("# %%\n\n# %%\n# only words\n# %%\nb = 1\n", ["b = 1\n"]),
    "a commented magic is a comment": ("a = 1\n# %%time\nb = 2\n", ["a = 1\n# %%time\nb = 2\n"]),
    "indented is no marker": ("if 1:\n    # %%\n    a = 1\n", ["if 1:\n    # %%\n    a = 1\n"]),
    "blank lines around are dropped": ("# %%\n\n\na = 1\n\n\n# %%\nb\n", ["a = 1\n", "b\n"]),
    "a marker in a string is text": ('s = """\n# %%\n"""\n', ['s = """\n# %%\n"""\n']),
    "one in a string, one real": (
        's = """\n# %%\n"""\n# %%\nb = 1\n',
        ['s = """\n# %%\n"""\n', "b = 1\n"],
    ),
    "in an f-string": ('s = f"""{1}\n# %%\n"""\nt()\n', ['s = f"""{1}\n# %%\n"""\n', "t()\n"]),
    "a broken cell does not hide the others": (
        "# %%\na = (\n# %%\nb = 1\n",
        ["a = (\n", "b = 1\n"],
    ),
    "skip-execution": ('# %% tags=["skip-execution"]\na\n# %%\nb\n', ["b\n"]),
    "no newline at the end": ("# %%\na", ["a\n"]),
}


@pytest.mark.parametrize(("text", "cells"), MARKERS.values(), ids=MARKERS)
def test_markers_cut_a_file(text, cells):
    assert cut(text) == cells


STATEMENTS = {
    "empty": ("", []),
    "only comments": ("# a\n# b\n", []),
    "imports together": (
        "import os\nfrom a import b\n\nimport c\nf()\n",
        ["import os\nfrom a import b\n\nimport c\n", "f()\n"],
    ),
    "definitions together": (
        "def f(): pass\n\n\n@dec\ndef g(): pass\n\n\nclass C: pass\nf()\n",
        ["def f(): pass\n\n\n@dec\ndef g(): pass\n\n\nclass C: pass\n", "f()\n"],
    ),
    "literals together": (
        "a = 1\nb = [1, -2]\nc: int = 60 * 60\nd: int\ne = f()\n",
        ["a = 1\nb = [1, -2]\nc: int = 60 * 60\nd: int\n", "e = f()\n"],
    ),
    "work is alone": (
        "f()\ng()\nfor i in x:\n    h()\n",
        ["f()\n", "g()\n", "for i in x:\n    h()\n"],
    ),
    "await is work": ("a = await b\nc = await d\n", ["a = await b\n", "c = await d\n"]),
    "one line is one cell": (
        "import os; f()\ng(); h()\nk()\n",
        ["import os; f()\n", "g(); h()\n", "k()\n"],
    ),
    "a comment belongs to what is below": ("f()\n# about g\ng()\n", ["f()\n", "# about g\ng()\n"]),
    "a comment apart belongs to none": ("f()\n# apart\n\ng()\n", ["f()\n", "g()\n"]),
    "a comment at the end": ("f()\n# bye\n", ["f()\n"]),
    "a docstring goes with what follows": (
        '#!/usr/bin/env python\n"""Doc."""\nimport os\nf()\n',
        ['#!/usr/bin/env python\n"""Doc."""\nimport os\n', "f()\n"],
    ),
    "a string that is a comment": ('f()\n"""about g"""\ng()\n', ["f()\n", '"""about g"""\ng()\n']),
    "decorators belong to their function": (
        "f()\n# why\n@a(\n  1)\n@b\ndef g():\n    return 1\n",
        ["f()\n", "# why\n@a(\n  1)\n@b\ndef g():\n    return 1\n"],
    ),
    "main": (
        "def f(): pass\nif __name__ == '__main__':\n    f()\n",
        ["def f(): pass\n", "if __name__ == '__main__':\n    f()\n"],
    ),
    "a trailing comment in a block": (
        "if a:\n    f()\n    # done\ng()\n",
        ["if a:\n    f()\n", "    # done\ng()\n"],
    ),
    "what does not parse is one cell": ("a = 1\nf()\nif x\n", ["a = 1\nf()\nif x\n"]),
    "form feeds": ("f()\n\x0c\ng()\n", ["f()\n", "g()\n"]),
    "line separators in strings": ("a = '\u2028'\nf()\n", ["a = '\u2028'\n", "f()\n"]),
}


@pytest.mark.parametrize(("text", "cells"), STATEMENTS.values(), ids=STATEMENTS)
def test_statements_group_a_file_without_markers(text, cells):
    assert cut(text) == cells


@pytest.mark.parametrize("text", [text for text, _ in [*STATEMENTS.values(), *MARKERS.values()]])
def test_a_cell_starts_on_the_line_that_it_says(text):
    lines = text.split("\n")
    for cell in split_python(text, filename="f.py"):
        body = cell.source.removesuffix("\n").split("\n")
        assert lines[cell.first_line - 1 :][: len(body)] == body


def test_a_title_is_the_label_and_else_the_first_line():
    cells = split_python('# %% Load it\na\n# %% tags=["x"]\n\n# words\nb = 1\n', filename="f")
    assert [cell.label for cell in cells] == ["Load it", "b = 1"]
    cells = split_python('"""Doc."""\nimport os\nx()\n@d\ndef f(): pass\n', filename="f")
    assert [cell.label for cell in cells] == ["import os", "x()", "def f(): pass"]


def test_the_tag_raises_exception_is_read():
    cells = split_python('# %% tags=["raises-exception", "b"]\na\n# %%\nb\n', filename="f")
    assert [cell.may_fail for cell in cells] == [True, False]


@pytest.mark.parametrize("text", ['"""Doc."""\n', '"""Doc."""\n# %%\nf()\n'])
def test_a_docstring_alone_is_not_shown(text):
    assert not split_python(text, filename="f")[0].show


def test_a_file_so_deep_that_it_cannot_be_parsed_is_one_cell():
    text = "f()\nx = " + "(" * 5000 + ")" * 5000
    assert cut(text) == [text + "\n"]


PIECES = st.sampled_from(
    [
        "import os",
        "from a import (\n    b,\n)",
        "x = 1",
        "f(x)",
        "y = await f(1); z = 2",
        "# a comment",
        "",
        "def f():\n    '''doc'''\n    # in\n    return 1",
        "@d\nclass C:\n    x = 1",
        "if x:\n    f()\nelse:\n\n    g()",
        '"""text\n# %%\n"""',
        "async def g():\n    async for i in x: pass",
        "s = '''\n\nx'''",
    ]
)


@given(st.lists(PIECES, max_size=12))
def test_the_cells_of_a_file_are_its_statements_in_order(pieces):
    text = "\n".join(pieces)
    whole = [ast.dump(node) for node in ast.parse(text).body]
    parts = [ast.dump(node) for source in cut(text) for node in ast.parse(source).body]
    assert parts == whole


@given(st.lists(PIECES, max_size=8), st.lists(PIECES, max_size=4))
def test_what_is_appended_to_a_file_changes_at_most_its_last_cell(pieces, more):
    before = cut("\n".join(pieces))
    after = cut("\n".join([*pieces, *more]))
    assert after[: max(0, len(before) - 1)] == before[:-1]


def test_tabs_and_continued_lines_stay():
    text = textwrap.dedent("if x:\n\tf(1,\n\t  2)\na = 1 + \\\n  g()\n")
    assert cut(text) == ["if x:\n\tf(1,\n\t  2)\n", "a = 1 + \\\n  g()\n"]
