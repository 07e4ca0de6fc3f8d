"""Broken source in, edits out that take away what came along when code was copied."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from pyrepl3.lang.repairs.broken import Broken, Edit, Edits

_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*\{?\.?([\w+#-]*)[^`]*$")
_PYTHON = frozenset({"python", "py", "python3", "py3", "ipython", "ipython3", "pycon", "repl"})
_TAG = re.compile(
    r"\s*<(code|pre|python3?|py|script|execute\w*|tool_code|code_interpreter)(?:\s[^<>]*)?>"
    r"(.*)</\1\s*>\s*\Z",
    re.DOTALL,
)
_BUTTONS = frozenset({"python", "py", "copy code", "copy", "edit", "run", "always show details"})
_PROMPT = re.compile(r"[ \t]*(?:>>>|In ?\[[\d ]*\]:)(?: |$)")
_CONTINUED = re.compile(r"[ \t]*\.{3,}:?(?: |$)")
_RESULT = re.compile(r"[ \t]*Out ?\[\d+\]:")
_NUMBERED = re.compile(r"[ \t]*(\d+)([ \t]*[:.|)│→]|)(?=[ \t]|$)")
_ENTITIES = {
    "&lt;": "<",
    "&gt;": ">",
    "&amp;": "&",
    "&quot;": '"',
    "&apos;": "'",
    "&nbsp;": " ",
    "&#39;": "'",
    "&#34;": '"',
    "&#x27;": "'",
    "&#x22;": '"',
}
_ENTITY = re.compile("|".join(_ENTITIES))
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SENTENCE = re.compile(r"[A-Z][\w'’]*[,!]?(?: [A-Za-z`][\w'’`\-]*,?){2,}(?: .*)?[.:!?]$")
_PLACEHOLDER = re.compile(r"(\s*)(?:\.\.\.|…)[ \t]*\(?[A-Za-z]")
_UNSURE = re.compile(r"[=\[{]|^\s*(?:import|from|def|class|print|for|if|return)\b")


def terminal_colours(b: Broken) -> Iterator[Edits]:
    """Escape sequences that colour text in a terminal."""
    words = "removed terminal colour codes"
    yield [Edit(m.start(), m.end(), "", words) for m in _ANSI.finditer(b.source)]


def fences(b: Broken) -> Iterator[Edits]:
    """Markdown: only what stands between the fences is code, where one says Python only that."""
    marks = [
        (line, found[2].lower())
        for line, text in enumerate(b.lines)
        if ("```" in text or "~~~" in text)
        and not b.in_string(line)
        and (found := _FENCE.match(text))
    ]
    if not marks:
        stripped = b.source.strip()
        if stripped[:1] == stripped[-1:] == "`" and stripped.count("`") == 2:
            first, last = b.source.find("`"), b.source.rfind("`")
            words = "removed the backticks around the code"
            yield [Edit(first, first + 1, "", words), Edit(last, last + 1, "", words)]
        return
    blocks: list[tuple[int, int, str]] = []  # fence before, fence after, language
    if len(marks) == 1 and not marks[0][1] and any(map(b.on, range(marks[0][0]))):
        blocks.append((-1, marks[0][0], ""))  # the opening fence was not copied
    for i in range(0, 0 if blocks else len(marks), 2):
        end = marks[i + 1][0] if i + 1 < len(marks) else len(b.lines)
        blocks.append((marks[i][0], end, marks[i][1]))
    if any(tag in _PYTHON for _, _, tag in blocks):
        blocks = [block for block in blocks if block[2] in _PYTHON]
    kept = {line for start, end, _ in blocks for line in range(start + 1, end)}
    dropped = [line for line in range(len(b.lines)) if line not in kept]
    words = "removed the Markdown around the code"
    yield b.drop_lines(dropped, words)


def wrapper_tags(b: Broken) -> Iterator[Edits]:
    """One HTML or XML element around everything, as in `<code>…</code>`."""
    if found := _TAG.match(b.source):
        words = f"removed the <{found[1]}> tags"
        start, end = found.span(2)
        yield [Edit(0, start, "", words), Edit(end, len(b.source), "", words)]


def copy_button(b: Broken) -> Iterator[Edits]:
    """The caption above a code block on a web page: `python`, `Copy code`."""
    top: list[int] = []
    for line, text in enumerate(b.lines):
        if text.strip() and text.strip().lower() not in _BUTTONS:
            break
        top.append(line)
    if any(b.lines[line].strip() for line in top):
        yield b.drop_lines(top, "removed the caption of a code block")


def prompts(b: Broken) -> Iterator[Edits]:
    """`>>> `, `... `, `In [3]: `: lines without a prompt are output, unless they are statements."""
    strip: list[Edit] = []
    bare: list[int] = []
    for line, text in enumerate(b.lines):
        found = _PROMPT.match(text) or (strip and _CONTINUED.match(text))
        if found and not (b.in_string(line) and not strip):
            strip.append(b.edit_line(line, found.end(), "", "removed the prompt"))
        elif strip and text.strip():
            bare.append(line)
    if not strip:
        return
    with_output_removed = strip + b.drop_lines(bare, "removed the output")
    results = [line for line in bare if _RESULT.match(b.lines[line])]
    if bare and not any(re.match(r"\s*\w+ = |\s*(def|class|import)\b", b.lines[i]) for i in bare):
        yield with_output_removed
    yield strip + b.drop_lines(results, "removed the output")
    yield with_output_removed


def line_numbers(b: Broken) -> Iterator[Edits]:
    """`12: x = 1`, `12  x = 1`, `12| x = 1`: a number on each line, each one more than the last."""
    found: list[tuple[int, re.Match[str]]] = []
    for line, text in enumerate(b.lines):
        if not text.strip():
            continue
        match = _NUMBERED.match(text)
        if match is None or (found and int(match[1]) <= int(found[-1][1][1])):
            return
        found.append((line, match))
    if not found or (len(found) == 1 and not found[0][1][2]):
        return
    rests = [b.lines[line][match.end() :] for line, match in found]
    margin = min((len(r) - len(r.lstrip(" \t")) for r in rests if r.strip()), default=0)
    yield [
        b.edit_line(
            line, min(match.end() + margin, len(b.lines[line])), "", "removed the line number"
        )
        for line, match in found
    ]


def diff_markers(b: Broken) -> Iterator[Edits]:
    """A unified diff: its `+` and context lines are the source, its `-` lines are not."""
    edits: list[Edit] = []
    added = 0
    for line, text in enumerate(b.lines):
        if not text:
            continue
        if re.match(r"@@ |diff |index [0-9a-f]{6}|--- |\+\+\+ |\\ No newline", text):
            edits += b.drop_lines([line], "removed a diff's header")
        elif text[0] == "-":
            edits += b.drop_lines([line], "removed a line that the diff deletes")
        elif text[0] in "+ ":
            added += text[0] == "+"
            edits.append(b.edit_line(line, 1, "", "removed the diff marker"))
        else:
            return
    if added:
        yield edits


def entities(b: Broken) -> Iterator[Edits]:
    """`&lt;` for `<`: first those outside strings, then, where strings are quoted so, all."""
    for everywhere in (False, True):
        edits = [
            Edit(
                m.start(),
                m.end(),
                _ENTITIES[m.group()],
                "replaced HTML entities by their characters",
            )
            for m in _ENTITY.finditer(b.source)
            if everywhere or not b.in_quotes(m.start())
        ]
        if edits:
            yield edits


def json_escapes(b: Broken) -> Iterator[Edits]:
    r"""`import os\nprint(1)`: the source arrived with its line ends still escaped."""
    outside = {t.start for t in b.tokens if t.text == "\\"}
    if "line continuation" not in b.message or not outside:
        return
    unescape: dict[str, str] = {
        "n": "\n",
        "t": "\t",
        '"': '"',
        "'": "'",
        "\\": "\\",
        "r": "",
        "/": "/",
    }

    def edits(keep: Callable[[int], bool]) -> list[Edit]:
        return [
            Edit(m.start(), m.end(), unescape[m[1]], "turned escaped characters into real ones")
            for m in re.finditer(r"\\([nt\"'\\r/])", b.source)
            if keep(m.start())
        ]

    yield edits(outside.__contains__)
    yield edits(lambda _: True)


def placeholder(b: Broken) -> Iterator[Edits]:
    """`... rest of the code ...`: words after an ellipsis become a comment."""
    edits = []
    for line, text in enumerate(b.lines):
        if (found := _PLACEHOLDER.match(text)) and b.starts_statement(line):
            words = "made the words after the ellipsis a comment"
            rest = text[found.end(1) :].lstrip(".… ")
            edits.append(b.edit_line(line, len(text), f"{found[1]}...  # {rest}", words))
    yield edits


def prose(b: Broken) -> Iterator[Edits]:
    """A sentence before or after the code becomes a comment."""

    def is_prose(line: int) -> bool:
        text = b.lines[line].strip()
        if not text or len(text) > 500 or text[-1] not in ".:!?":
            return False
        return bool(_SENTENCE.match(text)) and not _UNSURE.search(text)

    written = [line for line, text in enumerate(b.lines) if text.strip()]
    chosen: list[int] = []
    for order in (written, list(reversed(written))):
        for line in order:
            if not is_prose(line):
                break
            chosen.append(line)
    if chosen and len(set(chosen)) < len(written):
        yield [b.edit_line(line, 0, "# ", "made the sentence a comment") for line in set(chosen)]


def common_indent(b: Broken) -> Iterator[Edits]:
    """Code cut out of the middle of a file: every line, or every one but the first, is indented."""
    lines = [line for line, text in enumerate(b.lines) if text.strip() and not b.in_string(line)]
    if not lines or "indent" not in b.message:
        return
    if (first := b.on(lines[0])) and first[-1].text in (":", "(", "[", "{", "\\"):
        lines = lines if b.indent(lines[0]) else []
    for chosen, words in (
        (lines, "removed the indentation that all lines share"),
        (lines[1:], "removed the indentation that all lines but the first share"),
    ):
        if not chosen:
            continue
        shared = b.indent(chosen[0])
        for line in chosen:
            indent = b.indent(line)
            while not indent.startswith(shared):
                shared = shared[:-1]
        if shared:
            yield [b.edit_line(line, len(shared), "", words) for line in chosen]
