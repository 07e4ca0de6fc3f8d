"""What was typed so far in, what Enter does out: run it, or another line and how far indented. Pure."""

from __future__ import annotations

import ast
import re
import warnings

_FLAGS = (
    ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    | 0x200  # PyCF_DONT_IMPLY_DEDENT
    | 0x4000  # PyCF_ALLOW_INCOMPLETE_INPUT: codeop's way to tell what is unfinished from what is wrong
)
_COMPOUND = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.TryStar,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Match,
)
_LEAVES = re.compile(r"\s*(?:return|pass|raise|break|continue)\b")
_WORD = re.compile(r"[\w.]*\Z")


def needs_more(text: str) -> bool:
    """Whether ``text`` goes on: it is unfinished, or ends in a block that no blank line has closed.

    What is wrong does not go on: running it tells where. The rules of Python's own prompt, except
    that several statements may be entered at once, and ``await`` may stand at the top.
    """
    if not text.strip():
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text + "\n", "<input>", "exec", flags=_FLAGS, dont_inherit=True)
            tree = ast.parse(text)
    except SyntaxError as error:
        return "incomplete input" in str(error)
    except (ValueError, RecursionError, MemoryError, OverflowError):
        return False
    if not tree.body or not isinstance(tree.body[-1], _COMPOUND):
        return False
    return bool(text.rpartition("\n")[2].strip())


def indent_after(text: str) -> str:
    """The white space that the line after ``text`` starts with."""
    line = text.rpartition("\n")[2]
    indent = line[: len(line) - len(line.lstrip())]
    bare = line.partition("#")[0].rstrip()
    if bare.endswith(":"):
        return indent + "    "
    if _LEAVES.match(bare):
        return indent.removesuffix("    ")
    return indent


def word_before(text: str) -> str:
    """The dotted name that ends ``text``, to be completed."""
    match = _WORD.search(text)
    return match.group() if match else ""


def common_start(words: tuple[str, ...]) -> str:
    """The longest text that all of ``words`` start with."""
    if not words:
        return ""
    first, last = min(words), max(words)
    n = 0
    while n < min(len(first), len(last)) and first[n] == last[n]:
        n += 1
    return first[:n]
