"""Reports about code in, lines for a prompt out: ``%check``, ``%types`` and ``%hot``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pyrepl3.front.timeline import shown
from pyrepl3.records import CheckReport, Diagnostic, HotReport

_WIDEST = 40  # characters of a name in a table


def source_of(text: str) -> str:
    """What ``%check`` is to look at: the text itself, or what the file has that it names. Raises OSError."""
    word = text.strip()
    if word.endswith(".py") and not any(char in word for char in "()=\"'"):
        path = Path(word).expanduser()
        if path.exists():
            return path.read_text(encoding="utf-8")
    return text


def report_lines(report: CheckReport, source: str) -> Iterator[str]:
    """A report for people: each finding with its line and a mark below it, then who was asked."""
    lines = source.split("\n")
    for found in report.diagnostics:
        yield from _finding(found, lines)
    if not report.diagnostics:
        yield "nothing found"
    if report.engine:
        yield f"types: {report.engine}"
    else:
        yield f"types were not checked: {report.unchecked}"


def _finding(found: Diagnostic, lines: Sequence[str]) -> Iterator[str]:
    rule = f" [{found.rule}]" if found.rule else ""
    yield f"{found.line}:{found.column + 1} {found.severity}: {found.text}{rule}"
    if 0 < found.line <= len(lines):
        line = lines[found.line - 1]
        end = found.end_column if found.end_line == found.line else len(line)
        yield f"    {line}"
        yield f"    {' ' * found.column}{'^' * max(1, end - found.column)}"
    if found.proposal is not None:
        yield f"    repair: {'; '.join(found.changes)}"
        for number, (old, new) in enumerate(zip(lines, found.proposal.split("\n"), strict=False)):
            if old != new:
                yield f"    {number + 1}: {new}"
                break


def type_lines(types: Mapping[str, str], names: Sequence[str]) -> Iterator[str]:
    """A table of names and their types. Raises ValueError for a name that is not there."""
    missing = [name for name in names if name not in types]
    if missing:
        raise ValueError(f"no name {missing[0]!r} in this session")
    listed = names or [name for name in types if shown(name)]
    found = {name: types[name] for name in listed}
    wide = min(_WIDEST, max(map(len, found), default=0))
    for name, kind in found.items():
        yield f"{name:{wide}}  {kind}"
    if not found:
        yield "no names yet"


_HOTTEST = 12  # lines, and functions, that are shown


def hot_lines(report: HotReport) -> Iterator[str]:
    """Where the time goes, for people: functions, then lines, then what was compiled."""
    state = "watching" if report.watching else "not watching: %hot on begins"
    yield f"{state}; {report.seconds:.1f} s, {report.samples} samples; seconds:"
    counted = "   count" if any(one.hits is not None for one in report.lines) else ""
    if report.functions:
        yield f"   total     own     cpu   await{counted}  function"
    for function in report.functions[:_HOTTEST]:
        times = (function.total, function.own, function.cpu, function.awaiting)
        where = f"{function.name}, {function.filename}:{function.line}"
        yield _row(times, function.calls) + f"  {where}"
    if report.lines:
        yield f"             own     cpu   await{counted}  line"
    for line in report.lines[:_HOTTEST]:
        where = f"{line.filename}:{line.line}  {line.text}"
        yield " " * 8 + _row((line.own, line.cpu, line.awaiting), line.hits) + f"  {where}"
    for one in report.compiled:
        gain = f", {one.speedup:.0f} times as fast" if one.speedup else ""
        yield f"{one.name}: {one.state}{gain}{f': {one.reason}' if one.reason else ''}"
    yield f"{report.cpython}; numba: {report.numba}"


def _row(times: Sequence[float], count: int | None) -> str:
    return "".join(f"{seconds:8.2f}" for seconds in times) + ("" if count is None else f"{count:8}")
