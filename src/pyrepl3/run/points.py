"""Code in, the places in it at which an exception of ours may be raised out."""

from __future__ import annotations

import _weakrefset
import asyncio
import opcode
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType, FrameType

# Code that never has an exception of ours raised into it: its invariants would break.
_OURS = str(Path(__file__).resolve().parent.parent) + "/"
_ASYNCIO = str(Path(asyncio.__file__).parent) + "/"
_SPARED = {
    threading.__file__,
    weakref.__file__,
    _weakrefset.__file__,
    "<frozen importlib._bootstrap>",
    "<frozen importlib._bootstrap_external>",
}
_known: dict[str, bool] = {}
_folders: tuple[str, ...] = (_OURS, _ASYNCIO)


def spare(folder: str) -> None:
    """Never interrupt code of ``folder`` either, from now on."""
    global _folders  # noqa: PLW0603  replaced whole: other threads read it
    _folders = (*_folders, folder + "/")
    _known.clear()


def is_spared(filename: str) -> bool:
    """Whether code of this file is never interrupted: ours, or what other code rests on (``_SPARED``)."""
    spared = _known.get(filename)
    if spared is None:
        if len(_known) > 10_000:  # cells have a file name each
            _known.clear()
        spared = _known[filename] = filename in _SPARED or filename.startswith(_folders)
    return spared


def is_ours(filename: str) -> bool:
    """Whether code of this file is PyREPL3's own."""
    return filename.startswith(_OURS)


def is_engine(filename: str) -> bool:
    """Whether code of this file is ours or asyncio's: a signal does not raise there either."""
    return filename.startswith((_OURS, _ASYNCIO))


def called_by_us(frame: FrameType | None) -> bool:
    """Whether ``frame`` is of threading, say, and works for code of ours: a lock or a queue of ours."""
    while frame is not None and frame.f_code.co_filename in _SPARED:
        frame = frame.f_back
    return frame is not None and is_ours(frame.f_code.co_filename)


# --- where an exception may be raised ---------------------------------------------------------------
# At any instruction would be too much: between the body of a ``with`` and the call of __exit__ there are
# instructions that no handler covers, and a lock would stay locked for ever. So stage 1 keeps to the points
# at which CPython itself runs signal handlers (CHECK_EVAL_BREAKER in Python/bytecodes.c): the start of a
# function, the way back of a loop, after a call. Not after a call whose result is awaited next: then
# ``async with`` would make its __aexit__ and never await it.

_OP = opcode.opmap
_CALLS = {_OP[name] for name in ("CALL", "CALL_FUNCTION_EX", "CALL_KW") if name in _OP}
_RESUME, _BACK, _EXTENDED = _OP["RESUME"], _OP["JUMP_BACKWARD"], _OP["EXTENDED_ARG"]
_CACHE, _AWAIT, _HANDLER = _OP["CACHE"], _OP["GET_AWAITABLE"], _OP["PUSH_EXC_INFO"]
_INNER = 2  # RESUME after `yield from` and `await` is no such point; Include/internal/pycore_opcode_utils.h

SAFE, ENTRY = 1, 2


def find_points(code: CodeType) -> bytes:
    """For each offset of ``code``: SAFE to raise at, the ENTRY of a handler, or 0."""
    instructions = code.co_code
    points = bytearray(len(instructions))
    previous = argument = 0  # of the instruction before
    start = -1  # where the EXTENDED_ARGs of this one begin
    for offset in range(0, len(instructions), 2):
        op = instructions[offset]
        if op == _CACHE:
            continue
        if op == _EXTENDED:
            start = offset if start < 0 else start
            continue
        after_call = previous in _CALLS and op != _AWAIT
        entered = previous == _RESUME and argument & 3 < _INNER
        if op == _BACK or after_call or entered:
            # Events come at the first of them, too.
            points[offset] = points[offset if start < 0 else start] = SAFE
        elif op == _HANDLER:
            points[offset] = ENTRY
        previous, argument, start = op, instructions[offset + 1], -1
    return bytes(points)


def is_call(code: CodeType, offset: int) -> bool:
    """Whether the instruction at ``offset`` may be waiting in C, which a signal breaks.

    What a handler raises at a jump back is attributed to where it jumps to, in CPython 3.12: the handlers
    of ``try: while True: pass`` would not see it.
    """
    return code.co_code[offset] not in (_BACK, _RESUME)
