"""Epochs, names and differences in, lines for people out: what ``show`` and ``diff`` print. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import assert_never

from pyrepl3.front.console import printable
from pyrepl3.front.listing import readable_size
from pyrepl3.front.render import as_python_says, value_text
from pyrepl3.front.timeline import Paint, shown
from pyrepl3.records import Difference, Display, Epoch, KeptName, LogEntry, Output

_INDENT = "    "


def names_page(names: Mapping[str, KeptName], *, paint: Paint, width: int) -> list[str]:
    """A table of names: size and short repr, or why there is no value."""
    rows = [(name, kept) for name, kept in names.items() if shown(name)]
    return _table([("", name, "", kept) for name, kept in rows], paint=paint, width=width)


def difference_page(difference: Difference, *, paint: Paint, width: int) -> list[str]:
    """What was added, changed and removed, below a line that counts."""
    rows: list[tuple[str, str, str, KeptName]] = []
    for name, kept in difference.added.items():
        rows.append(("+", name, "added", kept))
    for name, (old, new) in difference.changed.items():
        rows.append(("-", name, "removed", old))
        rows.append(("+", name, "added", new))
    for name, kept in difference.removed.items():
        rows.append(("-", name, "removed", kept))
    rows = [row for row in rows if shown(row[1])]
    rows.sort(key=lambda row: row[1])  # stable: the old value stays above the new one
    head = f"from {epoch_name(difference.before)} to {epoch_name(difference.after)}"
    if not rows:
        return [f"{head}: no differences"]
    counts = [
        f"{n} {what}"
        for n, what in (
            (sum(map(shown, difference.added)), "added"),
            (sum(map(shown, difference.changed)), "changed"),
            (sum(map(shown, difference.removed)), "removed"),
        )
        if n
    ]
    return [f"{head}: {', '.join(counts)}", *_table(rows, paint=paint, width=width)]


def epoch_page(
    epoch: Epoch, entry: LogEntry, values: Difference, *, paint: Paint, width: int
) -> list[str]:
    """A cell as it ran: its source, what it showed, how it ended, what it changed."""
    receipt = epoch.receipt
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(receipt.at))
    facts = [f"cell {receipt.cell.id}", when, f"took {receipt.duration:.3g} s", receipt.status]
    if receipt.cell.background:
        facts.append("in the background")
    if not entry.on_line:
        facts.append("set aside")
    lines = [paint(f"epoch {epoch.epoch}", "here") + f", after {epoch_name(epoch.parent)}"]
    lines.append(paint(", ".join(facts), "dim"))
    if not receipt.cell.filename.startswith("<"):
        place = f"{receipt.cell.filename}, line {receipt.cell.first_line}"
        lines.append(paint(printable(place), "dim"))
    lines += _section("source", receipt.cell.source.strip("\n"), paint)
    output = "".join(_shown_of(event) for event in receipt.events)
    if receipt.cut:
        output += "\n(only the first part of its output was kept)"
    lines += _section("output", output, paint)
    if receipt.shown:
        lines += _section("value", value_text(receipt.text, receipt.data), paint)
    if receipt.error:
        lines += _section("error", as_python_says(receipt.error), paint)
    page = difference_page(values, paint=paint, width=width - len(_INDENT))[1:]
    lines += _section("changes", "\n".join(page), paint)
    return lines


def epoch_name(epoch: int) -> str:
    """How to speak of an epoch."""
    return f"epoch {epoch}" if epoch else "the empty session"


def find_epoch(epochs: Iterable[Epoch], word: str) -> Epoch | None:
    """The epoch that a word names: its number, ``c7`` or ``demo-c7``, the id of its cell.

    Of several epochs of one cell it is the last: what was found late is in that one.
    """
    found = None
    for epoch in epochs:
        cell = epoch.receipt.cell
        if word == str(epoch.epoch):
            return epoch
        if word in {cell.id, f"c{cell.n}"}:
            found = epoch
    return found


def _shown_of(event: Output | Display) -> str:
    match event:
        case Output(text=text):
            return text
        case Display(data=data):
            return value_text("", data)
        case _:
            assert_never(event)


def _section(title: str, text: str, paint: Paint) -> list[str]:
    if not text:
        return []
    return ["", paint(title, "note"), *(_INDENT + line for line in text.rstrip("\n").split("\n"))]


def _table(
    rows: Sequence[tuple[str, str, str, KeptName]], *, paint: Paint, width: int
) -> list[str]:
    """Rows of (sign, name, style, what is known of it)."""
    if not rows:
        return []
    sizes = [readable_size(kept.size) if not kept.lost else "" for *_, kept in rows]
    signs = 2 * any(sign for sign, *_ in rows)
    wide = min(max(len(printable(name)) for _, name, _, _ in rows), 30)
    most = max(map(len, sizes))
    room = max(20, width - signs - wide - most - 4)
    lines = []
    for (sign, name, style, kept), size in zip(rows, sizes, strict=True):
        text = f"not stored: {kept.lost}" if kept.lost else kept.text
        text = printable(text)
        text = text if len(text) <= room else text[: room - 1] + "…"
        start = f"{sign:{signs}}{printable(name):{wide}}"
        lines.append(
            f"{paint(start, style) if style else start}  {paint(f'{size:>{most}}', 'dim')}  "
            f"{paint(text, 'error') if kept.lost else text}".rstrip()
        )
    return lines
