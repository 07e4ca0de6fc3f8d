"""What is known of the steps of a cell, without their values."""

from __future__ import annotations

from pyrepl3.records.cells import Record


class Opened(Record, frozen=True, kw_only=True):
    """A cell that has begun to make steps.

    ``key`` is what the ids of its steps start with. ``known``: it had begun before, in a process that
    is gone, so steps of it may be kept. ``salt`` makes ids unique beyond their session.
    """

    key: str
    known: bool = False
    salt: str = ""


class Kept(Record, frozen=True, kw_only=True):
    """What a finished step came to: ``mark`` says what was called, ``data`` is opaque bytes."""

    mark: str
    data: bytes


class Asked(Record, frozen=True, kw_only=True):
    """A question of a cell that waits for an answer. ``choices``: the only answers, if there are any."""

    id: str
    prompt: str
    choices: tuple[str, ...] = ()
    mark: str = ""
