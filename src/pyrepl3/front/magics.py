"""A notebook cell's source in, Python with the same lines out: the magics that have an obvious meaning.

Only what does not parse as Python is looked at, so a ``%`` that continues an expression is left
alone. What has no obvious meaning is refused by name and line, before anything runs; the table of
what works is in docs/reference/cli.md.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Sequence

import msgspec

_SHELL = '__import__("pyrepl3.front.shell", fromlist=["shell"])'

_IGNORED = {
    "matplotlib": "figures are shown by their own backend",
    "config": "it configures IPython",
    "autoreload": "modules are read once in a run",
}

_CURES = {
    "timeit": "use the timeit module",
    "run": "use runpy.run_path(...)",
    "load": "paste the code",
    "who": "write print(sorted(globals()))",
    "whos": "write print(sorted(globals()))",
    "conda": "install the package before the run",
    "capture": "use contextlib.redirect_stdout(...)",
    "reset": "start without --session",
    "store": "use --session, which keeps all names",
    "prun": "use the cProfile module",
    "debug": "write %debug alone, or breakpoint()",
    "pdb": "write %debug after the failure",
    "sql": "use a database module",
    "html": "write display(HTML(...)) with IPython.display",
    "javascript": "it needs a browser",
    "js": "it needs a browser",
    "load_ext": "import the package itself",
}

_ASSIGNED = re.compile(r"^[\w.,\s\[\]'\"*()]+=\s*(?P<magic>[%!].*)$")
_NAME = re.compile(r"%{1,2}(?P<name>[A-Za-z_][\w.]*)(?:\s+(?P<rest>.*))?$")
_HELP = re.compile(r"^(?:\?{1,2}\s*[\w.%]+|[\w.%]+\s*\?{1,2})$")


class MagicError(Exception):
    """A magic that has no meaning here: ``line`` (from 1) of the cell, and the cure."""

    def __init__(self, line: int, text: str) -> None:
        self.line, self.text = line, text
        super().__init__(line, text)


class Translated(msgspec.Struct, frozen=True, kw_only=True):
    """Python source with as many lines as the cell had. ``notices`` are (line, text) pairs."""

    source: str
    timed: bool = False
    notices: tuple[tuple[int, str], ...] = ()


def translate(source: str) -> Translated:
    """The cell without its magics. Source that parses as Python comes back as it is.

    Raises MagicError for the first magic, shell line or help request that is not translated.
    """
    if _parses(source):
        return Translated(source=source)
    lines = source.split("\n")
    first = next((n for n, line in enumerate(lines) if line.strip()), 0)
    if lines[first].startswith("%%"):
        return _cell_magic(lines, first)
    out = list(lines)
    notices: list[tuple[int, str]] = []
    timed = False
    for n in _statement_starts(lines):
        line = lines[n]
        bare = line.strip()
        indent = line[: len(line) - len(line.lstrip())]
        if bare.startswith("%"):
            new, timed_line, notice = _line_magic(bare, n + 1)
            if timed_line:
                others = [each for each in lines if each.strip() and each is not line]
                if all(each.lstrip().startswith("#") for each in others):
                    timed = True
                else:
                    notice = "%time among other lines is run without its timing; use %%time"
            out[n] = indent + new
            if notice:
                notices.append((n + 1, notice))
        elif bare.startswith("!"):
            out[n] = indent + _command(bare[1:], n + 1)
        elif _HELP.match(bare):
            name = bare.strip("? ")
            raise MagicError(n + 1, f"{bare} asks IPython for help; write help({name}) instead")
        elif (match := _ASSIGNED.match(bare)) and not _parses(bare):
            out[n] = indent + bare[: match.start("magic")] + _value(match["magic"], n + 1)
    return Translated(source="\n".join(out), timed=timed, notices=tuple(notices))


def _parses(source: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _cell_magic(lines: Sequence[str], first: int) -> Translated:
    line = lines[first].strip()
    match = _NAME.match(line)
    name, rest = (match["name"], (match["rest"] or "").strip()) if match else (line, "")
    body = "\n".join(lines[first + 1 :])
    blank = [""] * (first + 1)
    if name == "time":
        try:
            below = translate(body)
        except MagicError as error:
            raise MagicError(error.line + first + 1, error.text) from None
        source = "\n".join([*blank[:-1], rest, below.source])
        shifted = tuple((at + first + 1, text) for at, text in below.notices)
        return Translated(source=source, timed=True, notices=shifted)
    if name in _IGNORED and name != "autoreload":
        return Translated(
            source="\n".join([*blank, body]),
            notices=((first + 1, f"%%{name} is ignored: {_IGNORED[name]}"),),
        )
    call = ""
    if name in {"bash", "sh"} and not rest:
        call = f"{_SHELL}.script({name!r}, {body!r})"
    elif name in {"writefile", "file"}:
        words = rest.split()
        append = words[:1] == ["-a"]
        if len(words) == 1 + append:
            call = f"{_SHELL}.write_file({words[-1]!r}, {body!r}, append={append})"
    if not call:
        raise MagicError(first + 1, _refusal(f"%%{name}", name, rest))
    # Everything on the magic's own line, so that an error points there; the rest stays blank.
    return Translated(source="\n".join([*blank[:-1], call, *[""] * (len(lines) - first - 1)]))


def _line_magic(bare: str, line: int) -> tuple[str, bool, str]:
    """One ``%`` line: its Python, whether it times the cell, and a notice."""
    match = _NAME.match(bare)
    if match is None or bare.startswith("%%"):
        raise MagicError(
            line, f"{bare.split(maxsplit=1)[0]} is only understood as the first line of its cell"
        )
    name, rest = match["name"], (match["rest"] or "").strip()
    rest = rest.removesuffix(";").rstrip() if name in {"cd", "pwd", "env", "pip"} else rest
    if name in _IGNORED or (name == "load_ext" and rest == "autoreload"):
        why = _IGNORED.get(name, _IGNORED["autoreload"])
        return "pass", False, f"%{name} is ignored: {why}"
    if name == "time" and rest:
        return rest, True, ""
    if name == "pip" and rest:
        return f"{_SHELL}.pip({_plain(rest, line)!r})", False, ""
    if name == "cd":
        return f"{_SHELL}.change_directory({_plain(rest, line)!r})", False, ""
    if name == "debug" and not rest:
        return '__import__("pyrepl3").post_mortem()', False, ""
    if name == "pwd" and not rest:
        return '__import__("os").getcwd()', False, ""
    if name in {"env", "set_env"}:
        return f"{_SHELL}.environment({_plain(rest, line)!r})", False, ""
    raise MagicError(line, _refusal(f"%{name}", name, rest))


def _refusal(magic: str, name: str, rest: str) -> str:
    cure = _CURES.get(name)
    if cure is None and rest and name in {"bash", "sh", "pwd", "writefile", "file"}:
        return f"{magic} is understood without {rest!r} only"
    return f"{magic} is an IPython magic that pyrepl3 does not run; " + (
        f"{cure} instead" if cure else "remove the line or write it in Python"
    )


def _value(magic: str, line: int) -> str:
    """What stands behind ``=``: a command's output, a directory, a variable of the environment."""
    if magic.startswith("!"):
        return _command(magic[1:], line, "output")
    match = _NAME.match(magic)
    if match and match["name"] in {"pwd", "env"}:
        return _line_magic(magic, line)[0]
    raise MagicError(
        line,
        f"{magic.split(maxsplit=1)[0]} cannot be assigned here; use the subprocess or os "
        "module and assign its result",
    )


def _command(text: str, line: int, function: str = "command") -> str:
    if text.startswith("!"):
        raise MagicError(line, "!! keeps a command's output; use subprocess.run(...) instead")
    if not text.strip():
        raise MagicError(line, "! without a command")
    if text.rstrip().endswith("\\"):
        raise MagicError(line, "a ! command on several lines; write it on one, or use %%bash")
    return f"{_SHELL}.{function}({_plain(text.strip(), line)!r})"


def _plain(text: str, line: int) -> str:
    # IPython puts Python values in for {x} and $x, and leaves to the shell what is no name of
    # Python's: what it means is known only when it runs.
    if re.search(r"\{[^}]*\}|\$[A-Za-z_{]", text):
        raise MagicError(
            line,
            "{...} and $name in a command may mean Python or the shell; "
            "use subprocess.run(...), os.environ or %%bash instead",
        )
    return text


def _statement_starts(lines: Sequence[str]) -> Iterator[int]:
    """Indices of the lines that start a statement: outside strings and brackets, not continued.

    A scan by characters, since a cell with magics has no tokens; magic lines are not scanned.
    """
    quote = ""
    depth = 0
    continued = False
    for n, line in enumerate(lines):
        bare = line.strip()
        if not quote and depth == 0 and not continued:
            if bare:
                yield n
            if bare.startswith(("%", "!", "?")):
                continue
        continued = False
        i = 0
        while i < len(line):
            char = line[i]
            if quote:
                if char == "\\":
                    i += 1
                elif line.startswith(quote, i):
                    i += len(quote) - 1
                    quote = ""
            elif char == "#":
                break
            elif char in "\"'":
                quote = char * 3 if line.startswith(char * 3, i) else char
                i += len(quote) - 1
            elif char in "([{":
                depth += 1
            elif char in ")]}":
                depth = max(0, depth - 1)
            elif char == "\\" and i == len(line) - 1:
                continued = True
            i += 1
        if len(quote) == 1:  # a one-line string ends with its line
            continued = line.endswith("\\")
            quote = quote if continued else ""
