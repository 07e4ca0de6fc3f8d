# ruff: noqa: RUF001  the ambiguous characters are what is tested
"""Real mistakes of people and language models, what each becomes, and what is left alone."""

import ast
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyrepl3.lang.repair import MAX_COMPILES, MAX_SOURCE, propose
from pyrepl3.lang.repairs import RULES


class Case(NamedTuple):
    rule: str
    broken: str
    repaired: str
    said: str


CASES = [
    # --- what came along with the paste
    Case(
        "terminal_colours",
        "\x1b[32mx\x1b[0m = 1\n",
        "x = 1\n",
        "line 1: removed terminal colour codes",
    ),
    Case(
        "fences",
        "Here you go:\n\n```python\nx = 1\n```\n\nIt isn't much!\n",
        "x = 1\n",
        "lines 1-3, 5-8: removed the Markdown",
    ),
    Case("fences", "```\nimport os\nx = 1\n", "import os\nx = 1\n", "line 1: removed the Markdown"),
    Case(
        "fences", "import os\nx = 1\n```\n", "import os\nx = 1\n", "lines 3-4: removed the Markdown"
    ),
    Case("fences", "`x = 1`", "x = 1", "removed the backticks around the code"),
    Case(
        "fences",
        "```bash\npip install x\n```\nthen\n~~~py\nimport x\n~~~\n",
        "import x\n",
        "removed the Markdown",
    ),
    Case("wrapper_tags", "<code>x = 1\ny = 2</code>", "x = 1\ny = 2", "removed the <code> tags"),
    Case("copy_button", "python\nCopy code\nx = 1\n", "x = 1\n", "lines 1-2: removed the caption"),
    Case(
        "prompts",
        ">>> def f():\n...     return 1\n...\n>>> f()\n1\n",
        "def f():\n    return 1\n\nf()\n",
        "line 5: removed the output",
    ),
    Case(
        "prompts",
        "In [1]: import os\nIn [2]: for i in x:\n   ...:     i\n   ...:\nOut[2]: 3\n",
        "import os\nfor i in x:\n    i\n\n",
        "lines 1-4: removed the prompt",
    ),
    Case("prompts", ">>> x = 1\ny = 2\n", "x = 1\ny = 2\n", "line 1: removed the prompt"),
    Case(
        "line_numbers",
        " 9  def f():\n10      return 1\n",
        "def f():\n    return 1\n",
        "lines 1-2: removed the line number",
    ),
    Case("line_numbers", "12: x = 1", "x = 1", "removed the line number"),
    Case(
        "diff_markers",
        "@@ -1,2 +1,2 @@\n import os\n-x = 1\n+x = 2\n",
        "import os\nx = 2\n",
        "line 3: removed a line that the diff deletes",
    ),
    Case(
        "json_escapes",
        r"import os\nprint(\"a\\n\")",
        'import os\nprint("a\\n")',
        "turned escaped characters into real ones",
    ),
    Case("entities", "if a &lt; b:\n    c\n", "if a < b:\n    c\n", "replaced HTML entities"),
    Case("entities", "print(&quot;a &amp; b&quot;)", 'print("a & b")', "replaced HTML entities"),
    Case(
        "common_indent",
        "    if x:\n        y = 1\n    z = 2\n",
        "if x:\n    y = 1\nz = 2\n",
        "lines 1-3: removed the indentation that all lines share",
    ),
    Case(
        "common_indent",
        "x = 1\n    if x:\n        y\n    z\n",
        "x = 1\nif x:\n    y\nz\n",
        "all lines but the first share",
    ),
    Case(
        "placeholder",
        "def f():\n    ... rest of the code\n",
        "def f():\n    ...  # rest of the code\n",
        "line 2: made the words after the ellipsis a comment",
    ),
    Case(
        "prose",
        "This adds two numbers.\n\nx = 1 + 2\n\nIt prints nothing at all.\n",
        "# This adds two numbers.\n\nx = 1 + 2\n\n# It prints nothing at all.\n",
        "lines 1, 5: made the sentence a comment",
    ),
    # --- characters
    Case("invisible", "x\u200b\ufeff = 1", "x = 1", "removed an invisible character (U+200B)"),
    Case("spaces", "if x:\n\u00a0\u00a0y\u00a0= 1", "if x:\n  y = 1", "special space (U+00A0)"),
    Case("typographic", "print(“it's”)", 'print("it\'s")', "replaced typographic quotes"),
    Case("typographic", "x = ‘a’ + “b”", "x = 'a' + \"b\"", "replaced typographic quotes"),
    Case("typographic", "a – b × c", "a - b * c", "(en dash) by '-'"),
    Case("typographic", "f（a，１）", "f(a,1)", "(fullwidth comma) by ','"),
    Case("typographic", "def f() → int: …", "def f() -> int: ...", "(rightwards arrow) by '->'"),
    # --- quotes
    Case("inner_quotes", "x = 'it's'", r"x = 'it\'s'", "put a backslash before the quote"),
    Case("inner_quotes", 'x = "a "so" c"', r'x = "a \"so\" c"', "put a backslash before the quote"),
    Case("inner_quotes", 'x = ["fig, "kiwi"]', 'x = ["fig", "kiwi"]', "added the missing quote"),
    Case("open_string", 'print("a)', 'print("a")', "line 1: added the missing quote"),
    Case("open_string", "x = 'a\ny = 2", "x = 'a'\ny = 2", "line 1: added the missing quote"),
    Case("open_string", "x = \"a'", 'x = "a"', 'closed the string with " as it began'),
    Case(
        "open_string",
        'print("a\n")',
        'print("a\\n")',
        r"wrote the line end inside the string as \n",
    ),
    Case("open_string", 'x = "a\nb\nc"', 'x = """a\nb\nc"""', "in triple quotes"),
    Case(
        "open_triple",
        'def f():\n    """Return one.\n    return 1\n',
        'def f():\n    """Return one."""\n    return 1\n',
        'line 2: closed the string with """',
    ),
    Case("open_triple", 'x = """a""\ny = 1', 'x = """a"""\ny = 1', "closed the string"),
    Case("open_triple", 'x = """\na\nb', 'x = """\na\nb"""', "line 3: closed the string"),
    Case("open_triple", 'x = 1\n"""\n', "x = 1\n", 'removed the stray """'),
    Case("fstring_braces", 'f"{x"', 'f"{x}"', "added the missing '}'"),
    Case("fstring_braces", 'f"a } b"', 'f"a }} b"', "doubled the brace"),
    Case("fstring_braces", 'f"{} {x}"', 'f"{{}} {x}"', "doubled the braces"),
    Case("unicode_escape", r'x = "C:\Users\ada"', r'x = r"C:\Users\ada"', "made the string raw"),
    Case("backslash", "x = 1 + \\  \n    2", "x = 1 + \\\n    2", "removed the spaces"),
    Case("backslash", "x = 1 \\", "x = 1 ", "removed the backslash at the end"),
    # --- brackets and commas
    Case(
        "unclosed_bracket", "x = [1, 2\ny = 3", "x = [1, 2]\ny = 3", "line 1: added the missing ']'"
    ),
    Case("unclosed_bracket", "f(g(1), [2", "f(g(1), [2])", "added the missing '])'"),
    Case(
        "unclosed_bracket",
        "x = f(a,\n      b\nfor y in x:\n    y\n",
        "x = f(a,\n      b)\nfor y in x:\n    y\n",
        "line 2: added the missing ')'",
    ),
    Case(
        "unclosed_bracket",
        "if (x == 1:\n    y",
        "if (x == 1):\n    y",
        "line 1: added the missing ')'",
    ),
    Case("unclosed_bracket", "f(1\nf(2\n", "f(1)\nf(2)\n", "lines 1-2: added the missing ')'"),
    Case("extra_closer", "x = f(1))\n", "x = f(1)\n", "removed the unmatched ')'"),
    Case("extra_closer", "print x)\n", "print(x)\n", "added the missing '('"),
    Case("mismatched_closer", "x = [1, 2)", "x = [1, 2]", "replaced ')' by ']'"),
    Case("mismatched_closer", "f([1, 2)", "f([1, 2])", "added the missing ']'"),
    Case(
        "mismatched_closer",
        'x = {\n    "a": f(1,\n    "b": 2\n}',
        'x = {\n    "a": f(1),\n    "b": 2\n}',
        "line 2: added the missing ')'",
    ),
    Case(
        "missing_comma",
        'x = {\n    "a": "b"\n    "c": 1\n    "d": 2\n}',
        'x = {\n    "a": "b",\n    "c": 1,\n    "d": 2\n}',
        "lines 2-3: added the missing comma",
    ),
    Case("missing_comma", "def f(a b): pass", "def f(a, b): pass", "added the missing comma"),
    Case("missing_comma", "from m import a b", "from m import a, b", "added the missing comma"),
    # --- other languages
    Case(
        "comments",
        "x = 1 // set one\n/* two\n * three */\ny = 2",
        "x = 1 # set one\n# two\n# three\ny = 2",
        "replaced '//' by '#'",
    ),
    Case(
        "logical_operators",
        "if a && !b || c:\n    d",
        "if a and not b or c:\n    d",
        "'&&' by 'and'",
    ),
    Case("logical_operators", "x = a === b !== c", "x = a == b != c", "replaced '===' by '=='"),
    Case("increment", "if x:\n    i++", "if x:\n    i += 1", "replaced '++' by '+= 1'"),
    Case(
        "else_if",
        "if a:\n    b\nelse if c:\n    d\nelseif e:\n    f",
        "if a:\n    b\nelif c:\n    d\nelif e:\n    f",
        "lines 3, 5: wrote 'elif'",
    ),
    Case("else_if", "if a:\n    b\nelse c:\n    d", "if a:\n    b\nelif c:\n    d", "wrote 'elif'"),
    Case("foreach", "foreach x in xs:\n    x", "for x in xs:\n    x", "wrote the loop"),
    Case(
        "foreach",
        "for (let i = 1; i <= n; i++):\n    i",
        "for i in range(1, n + 1):\n    i",
        "wrote the loop",
    ),
    Case(
        "function_word", "function f(x):\n    x", "def f(x):\n    x", "replaced 'function' by 'def'"
    ),
    Case("function_word", "public class A:\n    x = 1", "class A:\n    x = 1", "removed 'public'"),
    Case(
        "exceptions",
        "try:\n    throw E()\ncatch (E err):\n    err",
        "try:\n    raise E()\nexcept E as err:\n    err",
        "replaced 'catch' by 'except'",
    ),
    Case("declaration", "const x = 1;\nlet y = 2", "x = 1;\ny = 2", "removed 'const'"),
    Case("declaration", "string x = 'a'", "x: str = 'a'", "wrote the type after the name: x: str"),
    Case("new_object", "x = new Foo(1)", "x = Foo(1)", "removed 'new'"),
    Case("dollar", "$x = $y + 1", "x = y + 1", "removed '$'"),
    Case("walrus_statement", "x := 1", "x = 1", "replaced ':=' by '='"),
    Case(
        "braces",
        "if (x) {\n    y\n} else {\n    z\n}\n",
        "if (x):\n    y\nelse:\n    z\n",
        "lines 1, 3: replaced the opening brace by ':'",
    ),
    Case("arrow_function", "f(x => x + 1)", "f(lambda x: x + 1)", "as a lambda"),
    Case("arrow_function", "f((x, y) => x)", "f(lambda x, y: x)", "as a lambda"),
    Case("arrow_function", "if a => b:\n    c", "if a >= b:\n    c", "replaced '=>' by '>='"),
    Case("ternary", "x = f(a > 1 ? b : c, d)", "x = f(b if a > 1 else c, d)", "'b if a else c'"),
    Case("named_arguments", "f(a: 1, b: 2)", "f(a=1, b=2)", "wrote '=' after the argument's name"),
    Case("named_arguments", '{"a" = 1, "b" = 2}', '{"a": 1, "b": 2}', "wrote ':' after the key"),
    # --- Python 2
    Case("print_statement", 'print "a" % b, c', 'print("a" % b, c)', "turned the print statement"),
    Case("print_statement", "print >>f, a", "print >>f, a", ""),  # compiles: see below
    Case(
        "print_statement",
        'print "a",\nprint >>f, "b"\nprint [1]',
        'print("a", end=" ")\nprint("b", file=f)\nprint([1])',
        "lines 1-3: turned the print statement",
    ),
    Case("exec_statement", 'exec "x" in names', 'exec("x", names)', "turned the exec statement"),
    Case(
        "except_comma",
        "try:\n    x\nexcept E, e:\n    y\nexcept A, B:\n    z",
        "try:\n    x\nexcept E as e:\n    y\nexcept (A, B):\n    z",
        "line 3: wrote 'as' for the comma",
    ),
    Case("raise_comma", 'raise E, "m" % x', 'raise E("m" % x)', "the message of 'raise'"),
    Case("backticks", "x = 1 + `y`", "x = 1 + repr(y)", "replaced backticks by repr()"),
    Case("diamond", "a <> b", "a != b", "replaced '<>' by '!='"),
    Case("old_number", "x = 0777 + 10L", "x = 0o777 + 10", "wrote 0777 as 0o777"),
    Case("old_number", "date(2024, 01, 08)", "date(2024, 1, 8)", "wrote 08 as 8"),
    Case("ur_prefix", r'x = ur"\d"', r'x = r"\d"', "replaced the prefix ur by r"),
    # --- slips
    Case(
        "equals_in_condition", "if x = 1 and y = 2:\n    z", "if x == 1 and y == 2:\n    z", "'=='"
    ),
    Case("split_operator", "x + = 1", "x += 1", "wrote '+ =' as '+='"),
    Case("split_operator", "x =! 1", "x != 1", "wrote '=!' as '!='"),
    Case(
        "import_order",
        "import a, b from c.d",
        "from c.d import a, b",
        "wrote 'from c.d import a, b'",
    ),
    Case("import_order", "from a import b, c,", "from a import b, c", "removed the comma"),
    Case(
        "question",
        "x = 1\nstr.join?\n",
        "x = 1\nhelp(str.join)\n",
        "wrote 'str.join?' as help(str.join)",
    ),
    Case("question", "x??", "help(x)", "line 1: wrote 'x??' as help(x)"),
    Case("misspelled_keyword", "imprt os", "import os", "wrote 'imprt' as 'import'"),
    Case(
        "misspelled_keyword", "form os import path", "from os import path", "wrote 'form' as 'from'"
    ),
    Case(
        "misspelled_keyword",
        "fro i ni range(3):\n    i\n",
        "for i in range(3):\n    i\n",
        "wrote 'ni' as 'in'",
    ),
    Case("misspelled_keyword", "dfe f(x): retrun x", "def f(x): return x", "wrote 'dfe' as 'def'"),
    Case(
        "misspelled_keyword",
        "if a:\n    b\nesle:\n    c\n",
        "if a:\n    b\nelse:\n    c\n",
        "line 3: wrote 'esle' as 'else'",
    ),
    Case(
        "misspelled_keyword",
        "While x adn y: pass",
        "while x and y: pass",
        "wrote 'While' as 'while'",
    ),
    Case(
        "keyword_as_name",
        "class = 1\nf(class=class)\nclass A: pass",
        "class_ = 1\nf(class_=class_)\nclass A: pass",
        "lines 1-2: renamed 'class', which is a keyword, to class_",
    ),
    Case("keyword_as_name", "x = a.b.from", 'x = getattr(a.b, "from")', "by getattr"),
    Case("global_assignment", "global x = 1", "global x; x = 1", "as two statements"),
    Case(
        "future_import",
        '"""Doc."""\nimport os\nfrom __future__ import annotations\n',
        '"""Doc."""\nfrom __future__ import annotations\nimport os\n',
        "line 3: moved the __future__ import to the top",
    ),
    Case(
        "async_def",
        "def f():\n    def g():\n        await x\n",
        "def f():\n    async def g():\n        await x\n",
        "line 2: made 'g' async, since it awaits: calls of it must be awaited too",
    ),
    # --- headers, blocks, indentation
    Case("header_end", "if x then\n    y", "if x:\n    y", "replaced 'then' by ':'"),
    Case("header_end", "while x do:\n    y", "while x:\n    y", "replaced 'do:' by ':'"),
    Case("def_parentheses", "def f:\n    pass", "def f():\n    pass", "added the missing '()'"),
    Case("missing_def", "area(r):\n    return r", "def area(r):\n    return r", "missing 'def'"),
    Case(
        "missing_colon",
        "if a\n    b\nelif c  # why\n    d\nelse\n    e\n",
        "if a:\n    b\nelif c:  # why\n    d\nelse:\n    e\n",
        "lines 1, 3, 5: added the missing ':'",
    ),
    Case("missing_colon", "for i in range(3)\n    i", "for i in range(3):\n    i", "missing ':'"),
    Case("missing_colon", "def f(x) -> int\n    x", "def f(x) -> int:\n    x", "missing ':'"),
    Case("missing_colon", "class A(B)\n    x = 1", "class A(B):\n    x = 1", "missing ':'"),
    Case("missing_colon", "with a as b\n    c", "with a as b:\n    c", "missing ':'"),
    Case(
        "missing_colon", "try\n    a\nfinally\n    b", "try:\n    a\nfinally:\n    b", "missing ':'"
    ),
    Case(
        "missing_colon",
        "match x\n    case 1\n        y",
        "match x:\n    case 1:\n        y",
        "lines 1-2: added the missing ':'",
    ),
    Case("missing_colon", "while True f()", "while True: f()", "added the missing ':'"),
    Case("missing_colon", "f = lambda x x + 1", "f = lambda x: x + 1", "added the missing ':'"),
    Case(
        "broken_line",
        "if a and\n   b:\n    c",
        "if a and \\\n   b:\n    c",
        "line 1: joined the lines with a backslash",
    ),
    Case(
        "broken_line", "x = df\n  .a()\n  .b()", "x = df \\\n  .a() \\\n  .b()", "lines 1-2: joined"
    ),
    Case(
        "tabs", "if x:\n\ty\n        z", "if x:\n        y\n        z", "line 2: turned tabs into 8"
    ),
    Case("tabs", "if x:\n    y\n\tz", "if x:\n    y\n    z", "line 3: turned tabs into 4 spaces"),
    Case(
        "missing_body",
        'def f(x):\n"""Doc."""\nreturn x\n\ny = f(1)\n',
        'def f(x):\n    """Doc."""\n    return x\n\ny = f(1)\n',
        "lines 2-3: indented the body of the 'def' on line 1",
    ),
    Case("missing_body", "for x in y:\nf(x)\nz", "for x in y:\n    f(x)\nz", "line 2: indented"),
    Case(
        "missing_body",
        "def f():\n    # todo\n\nx = 1\n",
        "def f():\n    # todo\n    pass\n\nx = 1\n",
        "added 'pass' as the body",
    ),
    Case("missing_body", "class A:", "class A:\n    pass", "added 'pass' as the body"),
    Case(
        "unmatched_dedent",
        "class A:\n    def f(self):\n        x\n   def g(self):\n        y\n",
        "class A:\n    def f(self):\n        x\n    def g(self):\n        y\n",
        "line 4: aligned the line with the block around it",
    ),
    Case(
        "stray_clause",
        "if x:\n    y\n    else:\n    z\n",
        "if x:\n    y\nelse:\n    z\n",
        "line 3: aligned 'else' with the block",
    ),
    Case(
        "stray_clause",
        "if x: f(1) else: f(2)",
        "if x: f(1)\nelse: f(2)",
        "put 'else' on a line of its own",
    ),
    Case(
        "unexpected_indent",
        "def f():\n    x = 1\n     y = 2\n    return x",
        "def f():\n    x = 1\n    y = 2\n    return x",
        "line 3: removed the unexpected indentation",
    ),
]
CASES = [case for case in CASES if case.said]

COMBINED = {
    "python 2 and three slips": (
        'def f(x)\n    print "x is", x\n    if x = 3\n        return True\n    else\n        return 0777\n',
        'def f(x):\n    print("x is", x)\n    if x == 3:\n        return True\n    else:\n'
        "        return 0o777\n",
        ("missing_colon", "print_statement", "equals_in_condition", "old_number"),
    ),
    "a function in another language": (
        "function add(a, b) {\n    let c = a + b;\n    if (c > 10 && !done) {\n        return c;\n"
        "    } else if (c === 3) {\n        c++;\n    } else {\n        throw new E('x');\n    }\n}\n",
        "def add(a, b):\n    c = a + b;\n    if (c > 10 and not done):\n        return c;\n"
        "    elif (c == 3):\n        c += 1;\n    else:\n        raise E('x');\n",
        ("braces", "function_word", "declaration", "logical_operators", "new_object"),
    ),
    "an answer with a mistake in its code": (
        "Sure! Here is the code:\n\n```python\nprint(f(1)\nx = “a”\n```\n",
        'print(f(1))\nx = "a"\n',
        ("fences", "typographic", "unclosed_bracket"),
    ),
    "code from a web page": (
        "<pre>\nif a &lt; b &amp;&amp; c\n    print 'd'\n</pre>\n",
        "\nif a < b and c:\n    print('d')\n",
        ("wrapper_tags", "entities", "logical_operators", "missing_colon", "print_statement"),
    ),
}

LEFT_ALONE = {
    "prose": "hello world how are you",
    "prose that ends in a full stop": "Please compute the sum of these numbers.",
    "brackets in prose": "invalid python code {[}",
    "a query": "SELECT * FROM t WHERE a = 1",
    "a shell command": "git commit -m",
    "a shell escape": "!ls -la",
    "a magic": "%timeit x",
    "an unfinished expression": "x = 1 +",
    "an unfinished call": "def f(",
    "assigning to a literal": "5 = x",
    "assigning to a call": "f() = 1",
    "which argument goes first": "f(a=1, 2)",
    "a decorator without a function": "@cache",
    "a try without an end": "try:\n    x\ny = 1\n",
    "an else without an if": "else:\n    x\n",
    "if without else in an expression": "x = 1 if y",
    "break outside a loop": "break",
    "yield at the top": "yield 1",
    "nonlocal at the top": "nonlocal x",
    "two names for one parameter": "def f(a, a): pass",
    "a merge conflict": "<<<<<<< HEAD\nx = 1\n=======\nx = 2\n>>>>>>> branch\n",
    "a null byte": "x = 1\x00",
    "a lone surrogate": "x = '\ud800' +",
    "nothing but a comment after repair": "```\n# nothing\n```",
    "a number with a unit": "x = 5px",
    "a dangling operator at the end of a block": "if x:\n    y = 1 *\n",
    "markup": "<html><body>hi</body></html>",
    "deep nesting": "(" * 5000,
    "an empty fence": "```python\n```",
    "two question marks": "x = a ? b : c ? d : e",
    "await where no function can be made async": "f = lambda: await x",
}

COMPILES = {
    "nothing": "",
    "a comment": "# x",
    "a statement": "x = 1",
    "await": "x = await y",
    "async for": "async for x in y:\n    pass",
    "return": "return 1",
    "return in a block": "if x:\n    return 1\ny = await z",
    "return after a future import": "from __future__ import annotations\nreturn 1",
    "typographic quotes in a string": "x = '“a” – b…'",
    "a zero-width space in a comment": "x = 1  # \u200b",
    "a prompt in a string": "'''\n>>> x = = 1\n'''",
    "a fence in a string": "'''\n```python\nx = \n```\n'''",
    "an IPython prompt that is an annotation": "In [3]: x = 1",
    "an entity that is two operands": "x &lt; 1",
    "Python 2 that Python 3 understands": "print >>f, x",
    "signs": "++x; --x; x = - 1; a < - b",
    "floor division": "x = a // b",
    "carriage returns": "if x:\r\n    y\r\n",
    "a form feed": "x = 1\n\x0c\ny = 2\n",
    "a byte order mark": "\ufeffx = 1",
    "an invalid escape": "x = '\\d'",
    "match as a name": "match = 1; case = match",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.broken[:30]!r}")
def test_a_mistake_is_repaired_and_said(case):
    repair = propose(case.broken)
    assert repair is not None
    assert repair.source == case.repaired
    assert any(case.said in change for change in repair.changes), repair.changes
    assert case.rule in repair.rules


@pytest.mark.parametrize(("broken", "repaired", "rules"), COMBINED.values(), ids=COMBINED)
def test_several_mistakes_in_one_source_are_repaired_together(broken, repaired, rules):
    repair = propose(broken)
    assert repair is not None
    assert repair.source == repaired
    assert set(rules) <= set(repair.rules)


@pytest.mark.parametrize("source", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_cannot_be_known_is_left_alone(source):
    assert propose(source) is None


@pytest.mark.parametrize("source", COMPILES.values(), ids=COMPILES)
def test_what_compiles_gets_no_proposal(source):
    assert propose(source) is None


def test_every_rule_has_a_case_and_every_case_was_broken():
    assert {case.rule for case in CASES} == {rule.__name__ for rule in RULES}
    assert len(RULES) >= 40
    for case in CASES:
        with pytest.raises(SyntaxError):
            compile(case.broken, "<broken>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_every_rule_says_what_it_does():
    assert all(rule.__doc__ for rule in RULES)
    assert len({rule.__name__ for rule in RULES}) == len(RULES)


def test_lines_are_those_of_the_broken_source_also_after_lines_were_removed():
    repair = propose("Text.\n```python\nx = 1\nif x\n    y = “a”\n```\n")
    assert repair is not None
    assert repair.changes == (
        "lines 1-2, 6-7: removed the Markdown around the code",
        "line 5: replaced typographic quotes",
        "line 4: added the missing ':'",
    )


@pytest.mark.parametrize(
    ("broken", "kept"),
    [
        ("x = '“a”'\ny = “b”", "'“a”'"),
        ("# – →\nx – y", "# – →"),
        ('x = "a <> b && c"\nif x <> 1 && y:\n    z', '"a <> b && c"'),
        ("'''\nprint x\n'''\nprint y", "'''\nprint x\n'''"),
        ('x = f"{a} – {b["–"]}"\ny – 1', 'f"{a} – {b["–"]}"'),
        ('x = "&lt;"\nif a &lt; b:\n    c', '"&lt;"'),
        ('"""\n    if x\n"""\nif y\n    z', '"""\n    if x\n"""'),
        ("    '''\n    a\n    '''\n    x = 1", "'''\n    a\n    '''"),
        ("x = 'a // b'\ny = 1 // c d", "'a // b'"),
    ],
)
def test_strings_and_comments_stay_as_they_are(broken, kept):
    repair = propose(broken)
    assert repair is not None
    assert kept in repair.source


def test_line_ends_of_other_systems_are_read_as_cpython_reads_them():
    repair = propose("x = 1\r\nif x\r\n    y = 2\rz = 3")
    assert repair is not None
    assert repair.source == "x = 1\nif x:\n    y = 2\nz = 3"
    assert repair.changes == ("line 2: added the missing ':'",)


def test_an_error_without_a_place_is_not_worth_trying():
    source = "if x\n    y"
    error = SyntaxError("source code string cannot contain null bytes")
    assert propose(source, error) is None
    with pytest.raises(SyntaxError) as caught:
        compile(source, "<cell>", "exec")
    assert propose(source, caught.value) == propose(source)


def test_an_error_that_the_source_does_not_have_changes_nothing():
    """The caller may have compiled without top-level await, or with warnings as errors."""
    with pytest.raises(SyntaxError) as caught:
        compile("await x", "<cell>", "exec")
    assert propose("await x", caught.value) is None


def test_warnings_of_what_is_only_tried_reach_nobody():
    """Warnings are errors in this suite: one from a compiled suggestion would be raised here."""
    repair = propose("x = '\\d'\nif x is 1\n    y")
    assert repair is not None
    assert repair.source == "x = '\\d'\nif x is 1:\n    y"


def test_a_huge_source_gets_no_proposal():
    assert propose("if x\n    y\n" + "x = 1\n" * 1_700_000) is None
    assert propose("if x\n    y\n" + "#" * MAX_SOURCE) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    [
        *(
            "(",
            '"',
            "'''",
            "`",
            "“",
            "f'{",
            "f'{a",
            "\\",
            "\n",
            " ",
            "a ",
            "x.",
            "=>",
            "/*",
            "&lt;",
        ),
        *("if x\n", "print x\n", ">>> x\n", "x = [\n", "x y\n", "  x\n y\n", "def f:\n", "```\n"),
        *(
            "a'b",
            "'a'b ",
            "@",
            "lambda ",
            "x ? ",
            "{[(",
            "else:\n",
            "x = \\\n",
            "\\n",
            "\x00",
            "1: x\n",
        ),
    ],
)
def test_no_source_is_slow_to_give_up_on(unit):
    """The test's own time limit is the bound: a quadratic rule takes minutes here."""
    assert calls_of_compile("x = (1\n" + unit * (20_000 // len(unit))) <= 2 * MAX_COMPILES


def calls_of_compile(source):
    calls = 0

    def profile(_frame, event, called):
        nonlocal calls
        calls += event == "c_call" and called is compile

    sys.setprofile(profile)
    try:
        propose(source)
    finally:
        sys.setprofile(None)
    return calls


def read(module):
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8").split("\n")


SNIPPETS = [
    "\n".join(lines[start : start + size])
    for lines in map(read, ["bisect", "textwrap", "contextlib", "asyncio.queues", "sched"])
    for size in (5, 25)
    for start in range(0, len(lines) - size, 17)
]
SPICE = [
    *"()[]{}:=,'\"`!&|\\#@;$?\n\t …“→",
    *('"""', "\n    ", "print x", "else", "if", "def", "class", "...", ">>> ", "```", "//", "/*"),
    *(
        "&lt;",
        "==",
        "=>",
        "++",
        "async ",
        "await ",
        "lambda",
        "for",
        "in",
        "\\n",
        'f"{',
        "0777",
        "x y",
    ),
]


@st.composite
def damaged(draw):
    """A piece of the standard library with up to three places deleted, inserted or replaced."""
    source = draw(st.sampled_from(SNIPPETS))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(source)))
        end = min(len(source), start + draw(st.integers(0, 4)))
        source = source[:start] + draw(st.sampled_from(["", *SPICE])) + source[end:]
    return source


def compiles(source):
    try:
        compile(source, "<x>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except SyntaxError as error:
        return error.msg == "'return' outside function"
    except ValueError:
        return False
    return True


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damaged())
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_a_proposal_compiles_and_what_compiles_has_none(source):
    repair = propose(source)
    if repair is not None:
        assert not compiles(source) or "return" in source
        assert compiles(repair.source)
        assert repair.changes
        assert all(change.startswith("line") for change in repair.changes)
        assert propose(repair.source) is None


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([*SPICE, *"x1 \n\r\x00\ud800"]), max_size=40).map("".join))
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_no_text_makes_it_raise(source):
    repair = propose(source)
    assert repair is None or compiles(repair.source)
