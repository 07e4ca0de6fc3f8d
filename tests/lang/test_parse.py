"""Text to tree: lines, columns, marks, and the split before the last expression."""

from __future__ import annotations

import ast

import pytest

from pyrepl3.errors import CompilationError
from pyrepl3.lang.parse import parse, split, split_lines


@pytest.mark.parametrize("first_line", [1, 2, 1000])
def test_lines_count_from_the_first_line_and_columns_stay(first_line):
    (node,) = parse("\n  \nif x:\n\ty = 1", "<cell>", 0, first_line).body
    assert (node.lineno, node.end_lineno) == (first_line + 2, first_line + 3)
    assert (node.body[0].lineno, node.body[0].col_offset) == (first_line + 3, 1)


@pytest.mark.parametrize("first_line", [1, 2, 1000])
def test_errors_have_the_line_of_the_file_and_the_text_of_the_cell(first_line):
    with pytest.raises(CompilationError) as caught:
        parse("x = 1\ny = (", "file.py", 0, first_line)
    error = caught.value
    assert (error.filename, error.lineno, error.offset, error.text) == (
        "file.py", first_line + 1, 5, "y = (",
    )  # fmt: skip


def test_a_byte_order_mark_takes_no_column():
    (node,) = parse("\ufeffx = 1", "<cell>").body
    assert node.col_offset == 0
    with pytest.raises(CompilationError) as caught:
        parse("\ufeffx = = 1", "<cell>")
    assert (caught.value.offset, caught.value.text) == (5, "x = = 1")


def test_a_mark_in_the_middle_is_an_error_with_its_place():
    with pytest.raises(CompilationError) as caught:
        parse("x = 1\ny = \ufeff2", "<cell>")
    assert (caught.value.lineno, caught.value.offset) == (2, 5)


@pytest.mark.parametrize(
    ("source", "body", "tail"),
    [
        ("", None, None),
        ("# x", None, None),
        ("1", None, "1"),
        ("x = 1", "x = 1", None),
        ("x = 1\nx", "x = 1", "x"),
        ("x; y; z", "x\ny", "z"),
        ("if x: y", "if x:\n    y", None),
        ("await x", None, "await x"),
        ("'doc'", None, "'doc'"),
        ("(x := 1)", None, "(x := 1)"),
    ],
)
def test_the_last_expression_is_split_off(source, body, tail):
    found = [node and ast.unparse(node) for node in split(parse(source, "<cell>"))]
    assert found == [body, tail]


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("", [""]),
        ("a\nb\r\nc\rd", ["a", "b", "c", "d"]),
        ("a\x0cb\x1cc\u2028d\x85e", ["a\x0cb\x1cc\u2028d\x85e"]),
        ("a\n", ["a", ""]),
        ("\ufeffa", ["a"]),
    ],
)
def test_lines_are_those_of_the_compiler(source, lines):
    assert split_lines(source) == lines


def test_a_null_byte_is_shown_escaped():
    with pytest.raises(CompilationError) as caught:
        parse("x = 'é\0'", "<cell>")
    assert caught.value.text == "x = 'é\\x00'"
    assert caught.value.offset == 7


def test_the_line_that_is_too_deep_is_found_among_many():
    lines = [f"x{i} = {i}" for i in range(500)]
    lines[321] = "y = " + "-" * 50_000 + "1"
    with pytest.raises(CompilationError) as caught:
        parse("\n".join(lines), "<cell>", 0, 10)
    assert caught.value.lineno == 331
    assert caught.value.text.startswith("y = ---")
