"""The entries of a log in, lines that draw its branches out. Pure.

The line that leads to the current epoch runs down the left edge, oldest first. A branch that was left is
drawn where it leaves, indented, before the line goes on::

    ●    1  x = [1]         +x
    ├─○  2  x.append(2)     ~x
    │ ○  3  y = x[5]        failed
    ◉    4  y = 2           +y   here
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from pyrepl3.front.console import printable
from pyrepl3.records import LogEntry

type Paint = Callable[[str, str], str]
"""A text and the name of a style in, the text with its colour out."""

_FEW = 5  # names that a line shows


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """What the graph is drawn with."""

    here: str = "◉"
    on_line: str = "●"
    left: str = "○"
    bar: str = "│ "
    fork: str = "├─"
    cut: str = "…"


UNICODE = Marks()
ASCII = Marks(here="@", on_line="*", left="o", bar="| ", fork="|-", cut="...")


def marks_for(encoding: str | None) -> Marks:
    """The marks that text of this encoding can hold."""
    try:
        "◉●○│├─…".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


def draw(
    entries: Sequence[LogEntry],
    *,
    width: int,
    marks: Marks = UNICODE,
    paint: Paint = lambda text, _: text,
    now: float | None = None,
) -> list[str]:
    """One line for each entry that was not amended.

    None is wider than ``width`` columns (from 60) where its branches leave room.

    ``now``: seconds since the epoch; times of that day are shown without the date.
    """
    rows = list(_rows([entry for entry in entries if not entry.amended], marks))
    if not rows:
        return []
    today = time.strftime("%Y-%m-%d", time.localtime(now))
    graph = max(len(graph) for graph, _ in rows)
    number = max(len(str(entry.epoch)) for _, entry in rows)
    times = [_when(entry.at, today) for _, entry in rows]
    when = max(map(len, times))
    tails = [_tail(entry) for _, entry in rows]
    took = max(len(_took(entry.duration)) for _, entry in rows)
    fixed = graph + 1 + number + 2 + when + 2 + took + 2
    room = max(20, width - fixed)
    widest = max(len(_source(entry, marks)) for _, entry in rows)
    source = min(widest, max(room - 2 - max(len(_plain(tail)) for tail in tails), room // 2, 20))
    lines = []
    for (drawn, entry), at, tail in zip(rows, times, tails, strict=True):
        text = _cut(_source(entry, marks), source, marks)
        left = room - source - 2
        parts = [
            paint(f"{drawn:{graph}}", "here" if entry.current else "dim"),
            paint(f"{entry.epoch:>{number}}", "here" if entry.current else "number"),
            "",
            paint(f"{at:{when}}", "dim"),
            "",
            paint(f"{_took(entry.duration):>{took}}", "dim"),
            "",
            paint(f"{text:{source}}", "plain" if entry.on_line else "dim"),
            "",
            _painted(tail, left, marks, paint),
        ]
        lines.append(" ".join(parts).rstrip())
    return lines


def _rows(entries: Iterable[LogEntry], marks: Marks) -> Iterator[tuple[str, LogEntry]]:
    """Each entry with its graph: depth first, a branch before the line that it leaves goes on."""
    known = {entry.epoch: entry for entry in entries}
    children: dict[int, list[LogEntry]] = {}
    for entry in known.values():
        children.setdefault(entry.parent if entry.parent in known else 0, []).append(entry)
    todo: list[
        tuple[int, int, bool]
    ] = []  # (epoch whose children come next, depth, it is a branch)
    todo.append((0, 0, False))
    while todo:
        epoch, depth, first = todo.pop()
        if epoch:
            entry = known[epoch]
            mark = marks.here if entry.current else marks.on_line if entry.on_line else marks.left
            bars = marks.bar * (depth - 1) + marks.fork if first else marks.bar * depth
            yield bars + mark, entry
        found = sorted(children.get(epoch, ()), key=lambda child: child.epoch)
        if not found:
            continue
        main = next((child for child in found if child.on_line), found[-1])
        todo.append((main.epoch, depth, False))
        todo += [(child.epoch, depth + 1, True) for child in reversed(found) if child is not main]


# --- the parts of a line ------------------------------------------------------------------------


def _source(entry: LogEntry, marks: Marks) -> str:
    return printable(entry.line) + (f" {marks.cut}" if entry.more else "")


def _cut(text: str, width: int, marks: Marks) -> str:
    return text if len(text) <= width else text[: max(0, width - len(marks.cut))] + marks.cut


def _when(at: float, today: str) -> str:
    if not at:
        return ""
    day, clock = time.strftime("%Y-%m-%d %H:%M", time.localtime(at)).split()
    return clock if day == today else f"{day} {clock}"


def _took(seconds: float) -> str:
    """A duration in at most six characters; nothing for what nobody waits for."""
    if seconds < 0.1:
        return ""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def _tail(entry: LogEntry) -> list[tuple[str, str]]:
    """What follows the source: texts with their styles."""
    parts = []
    if entry.current:
        parts.append(("here", "here"))
    if entry.status != "done":
        parts.append((entry.status, "error"))
    if entry.background:
        parts.append(("background", "dim"))
    lost = {name for name in entry.lost if shown(name)}
    for sign, names, style in (
        ("+", entry.added, "added"),
        ("~", entry.changed, "changed"),
        ("-", entry.removed, "removed"),
    ):
        listed = [name for name in names if shown(name) and name not in lost]
        if listed:
            parts.append((sign + list_names(listed), style))
    if lost:
        parts.append(("!" + list_names(sorted(lost)), "error"))
    return parts


def shown(name: str) -> bool:
    """Whether people want to hear of a name: not of ``_``, ``_last_exception`` and their like."""
    return not name.startswith("_")


def list_names(names: Sequence[str], few: int = _FEW) -> str:
    """The names, of many only the first ones."""
    more = f" and {len(names) - few} more" if len(names) > few else ""
    return printable(", ".join(names[:few])) + more


def _plain(tail: Sequence[tuple[str, str]]) -> str:
    return "  ".join(text for text, _ in tail)


def _painted(tail: Sequence[tuple[str, str]], room: int, marks: Marks, paint: Paint) -> str:
    parts = []
    for text, style in tail:
        if room <= len(marks.cut):
            break
        cut = _cut(text, room, marks)
        parts.append(paint(cut, style))
        room -= len(cut) + 2
    return "  ".join(parts)
