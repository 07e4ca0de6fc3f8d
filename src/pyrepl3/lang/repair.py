"""Source that does not compile in, a source that compiles and what was changed out, or None.

Nothing is ever run. The rules (``lang.repairs``) only suggest edits; a suggestion counts if the
compiler then accepts the source, or gets further before it stops. So a source with several
mistakes is repaired step by step, and every proposal compiles.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

import msgspec

from pyrepl3.lang.parse import COMPILER_ERRORS, FLAGS
from pyrepl3.lang.repairs import FILENAME, RULES, SURROUNDINGS, Broken, Edit, Edits
from pyrepl3.lang.wrap import wrap

# Bounds: a cell that a person or a model wrote is far below them. The worst case takes about half a second.
MAX_SOURCE = 100_000  # characters
MAX_COMPILES = 60
MAX_COMPILED = 600_000  # characters in all; CPython needs up to 1 µs for one
MAX_READ = 10_000  # tokens in all, over every step; the rules need some 25 µs for one
MAX_STEPS = 12  # mistakes of different kinds or places in one source

_OURS = re.escape(FILENAME)
_FIRST = frozenset(rule.__name__ for rule in SURROUNDINGS)

# Errors of the tokenizer come before those of the parser, wherever they are, and those of the
# symbol table and the compiler after all of them.
_TOKENIZER = re.compile(
    r"unterminated|invalid (?:character|non-printable|\w+ literal|digit)|unmatched"
    r"|closing parenthesis|line continuation|leading zeros|inconsistent use|unindent does not"
    r"|unexpected EOF|f-string: (?:expecting '}'|single)|too many nested"
)
_COMPILER = re.compile(
    r"' outside |outside of an|not properly in loop|__future__|nonlocal|global declaration|"
    r"duplicate argument|starred assignment|import \* only|no binding"
)


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """A source that compiles, and what was changed to get there.

    ``changes`` are in words with line numbers of the broken source (from 1): ``"line 3: added the
    missing ':'"``. ``rules`` names the rules that made them, in order. Line ends are line feeds.
    """

    source: str
    changes: tuple[str, ...]
    rules: tuple[str, ...] = ()


class _State(msgspec.Struct, frozen=True):
    """A source on the way to one that compiles; ``origins[i]`` is the line that line ``i`` was."""

    source: str
    error: SyntaxError
    origins: list[int]
    changes: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


def propose(code: str, error: SyntaxError | None = None) -> Repair | None:
    """A repaired ``code``, or None where nothing was found or ``code`` compiles as it is.

    The proposal compiles with top-level ``await``; a top-level ``return`` counts as compiling, since
    ``lang.wrap`` gives it a meaning. ``error`` is what compiling raised, if it is at hand: one without
    a line (null bytes, lone surrogates, a parser out of memory) is not worth trying. It is a
    proposal: where several repairs would compile, the first rule in the order of ``RULES`` decides.

    Never raises for any source. Sources over ``MAX_SOURCE`` characters give None at once; otherwise
    the work is bounded, about half a second at worst, milliseconds for what people write. Any thread.
    """
    if len(code) > MAX_SOURCE or (error is not None and error.lineno is None):
        return None
    # Line ends as CPython reads them, so that its line numbers are ours; a byte order mark is none of
    # the source (lang.parse).
    source = code.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    search = _Search()
    first = search.check(source)
    if first is None:
        return None
    stack = [_State(source, first, list(range(source.count("\n") + 1)))]
    while stack and not search.spent and search.read < MAX_READ:
        better: list[_State] = []
        for state in search.successors(stack.pop()):
            if isinstance(state, Repair):
                return state
            better.append(state)
        # What is freed of its surroundings comes next, then what gets furthest; among equals, the
        # first rule's.
        better.reverse()
        stack += sorted(better, key=lambda state: (state.rules[-1] in _FIRST, _reached(state)))
    return None


def quiet() -> None:
    """Have the compiler warn nobody of sources under ``FILENAME``, which are only tried."""
    # A filter for this file name only, since catch_warnings() changes the filters of all threads.
    first = warnings.filters[0] if warnings.filters else None
    if first is None or getattr(first[3], "pattern", None) != _OURS:
        warnings.filterwarnings("ignore", module=_OURS)


class _Search:
    """Counts what one proposal has cost so far."""

    def __init__(self) -> None:
        self.compiles = self.compiled = self.read = 0
        self.seen: set[str] = set()
        quiet()

    @property
    def spent(self) -> bool:
        """Whether nothing more may be compiled."""
        return self.compiles >= MAX_COMPILES or self.compiled >= MAX_COMPILED

    def check(self, source: str) -> SyntaxError | None:
        """None if it compiles, else what is wrong; an error without a line if that cannot be said."""
        if self.spent:
            return SyntaxError("enough was tried")
        self.compiles += 1
        self.compiled += len(source)
        try:
            _compile(source)
        except SyntaxError as error:
            return error
        except COMPILER_ERRORS as error:
            return SyntaxError(str(error))
        return None

    def successors(self, state: _State) -> Iterator[_State | Repair]:
        """What one more rule makes of ``state``, if that compiles or gets further."""
        if state.error.lineno is None or len(state.rules) >= MAX_STEPS:
            return
        broken = Broken(state.source, state.error)
        self.read += len(broken.tokens)
        here = _reached(state)
        for rule in RULES:
            for edits in rule(broken):
                if self.spent:
                    return
                if not edits:
                    continue
                source = _apply(state.source, edits)
                if source in self.seen or source == state.source:
                    continue
                self.seen.add(source)
                error = self.check(source)
                changes = state.changes + _describe(broken, state.origins, edits)
                rules = (*state.rules, rule.__name__)
                if error is None:
                    if _says_something(source):
                        yield Repair(source=source, changes=changes, rules=rules)
                elif error.lineno is not None:
                    origins = _trace(broken, state.origins, edits)
                    following = _State(source, error, origins, changes, rules)
                    there = _reached(following)
                    # A later phase may stop earlier in the source, and an earlier phase later.
                    if there > here or there[1:] > here[1:] or rule in SURROUNDINGS:
                        yield following


def _compile(source: str) -> None:
    """Compile and forget. Raises what ``compile`` raises, but not for what ``lang.wrap`` can run."""
    try:
        compile(source, FILENAME, "exec", FLAGS, dont_inherit=True)
    except SyntaxError as error:
        if error.msg != "'return' outside function":
            raise
        wrap(ast.parse(source, FILENAME), source, FILENAME, 0, 1)


def _reached(state: _State) -> tuple[int, int, int]:
    """How far the compiler got: phase, then lines and characters that it did not see, negative.

    Counted from the end, since edits are mostly made at or before the error.
    """
    message = state.error.msg or ""
    phase = 0 if _TOKENIZER.search(message) else 2 if _COMPILER.search(message) else 1
    lines = state.source.split("\n")
    line = min(state.error.lineno or 1, len(lines))
    return phase, line - len(lines), (state.error.offset or 0) - len(lines[line - 1])


def _apply(source: str, edits: Edits) -> str:
    parts: list[str] = []
    at = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        if edit.start < at:  # two edits of one place: the first counts
            continue
        parts += source[at : edit.start], edit.text
        at = edit.end
    parts.append(source[at:])
    return "".join(parts)


def _trace(broken: Broken, origins: list[int], edits: Edits) -> list[int]:
    """For each line after the edits: which line of the first source it was."""
    traced = [origins[0]]
    at = 0
    ordered = sorted(edits, key=lambda edit: (edit.start, edit.end))
    for edit in [*ordered, Edit(len(broken.source), len(broken.source), "", "")]:
        if edit.start < at:
            continue
        first, last = broken.line_of(at), broken.line_of(edit.start)
        traced += origins[first + 1 : last + 1]
        traced += [origins[last]] * edit.text.count("\n")
        if edit.end > edit.start and edit.start == broken.starts[last] and edit.text == "":
            end = broken.line_of(edit.end)
            traced[-1] = origins[end]  # whole lines went: the next one takes the place
        at = edit.end
    return traced


def _describe(broken: Broken, origins: list[int], edits: Edits) -> tuple[str, ...]:
    """The changes in words, one for each kind, with the lines of the first source."""
    lines: dict[str, set[int]] = {}
    for edit in edits:
        if not edit.words:  # another edit tells it
            continue
        first = broken.line_of(edit.start)
        last = broken.line_of(max(edit.start, edit.end - 1))
        lines.setdefault(edit.words, set()).update(origins[i] + 1 for i in range(first, last + 1))
    return tuple(f"{_name_lines(sorted(numbers))}: {words}" for words, numbers in lines.items())


def _name_lines(numbers: list[int]) -> str:
    """``line 3`` or ``lines 1-4, 7``."""
    if len(numbers) == 1:
        return f"line {numbers[0]}"
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return "lines " + ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in spans)


def _says_something(source: str) -> bool:
    """Whether there is code left, not only comments."""
    return bool(ast.parse(source, FILENAME).body)
