"""A Durability in memory, and checks that any other one keeps the port's promises.

Use the checks with any test runner::

    @pytest.mark.parametrize("check", durability_checks(), ids=lambda check: check.name)
    def test_my_durability(check, tmp_path):
        check.run(lambda: MyDurability(tmp_path))
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, cast

import msgspec

from pyrepl3.errors import DurabilityError
from pyrepl3.ports import Durability
from pyrepl3.records import Asked, Kept, Opened

_PATIENCE = 30.0  # seconds that a check waits for an answer

type OpenDurability = Callable[[], Durability]
"""Opens the same place again at each call; what it gave before is closed by then."""


class FakeDurability:
    """Keeps steps in memory. ``again()`` opens what it holds, as after a crash. Any thread.

    ``fail_next()`` lets the next thing that is to be kept raise DurabilityError. ``made`` lists the ids
    of steps in the order in which they were kept.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.when_cancelled: Callable[[str], object] = lambda _: None
        """Is told which cell ``cancel`` was called for, by the name that was given to ``open``."""
        self.made: list[str] = []
        self.closed = False
        self._clock = clock
        self._lock = threading.RLock()
        self._cells: dict[str, int] = {}  # by key: the base
        self._keys: dict[str, str] = {}  # by name, what was opened here
        self._steps: dict[str, Kept] = {}
        self._sleeps: dict[str, tuple[str, float]] = {}
        self._asked: dict[str, Asked] = {}
        self._waiting: dict[str, Future[Kept]] = {}
        self._fails = False

    def again(self) -> FakeDurability:
        """One on what this has kept; this one is closed."""
        self.closed = True
        other = FakeDurability(self._clock)
        for name in ("_cells", "_steps", "_sleeps", "_asked"):
            setattr(other, name, getattr(self, name))
        return other

    def fail_next(self) -> None:
        """Let the next step, sleep or question raise, with nothing kept."""
        self._fails = True

    def open(self, cell: str, base: int) -> Future[Opened]:
        """A cell is about to make its first step."""

        def work() -> Opened:
            key = cell
            known = key in self._cells
            if known and self._cells[key] > base:
                key = f"{cell}-b{base}"
                known = key in self._cells
            self._cells.setdefault(key, base)
            self._keys[cell] = key
            return Opened(key=key, known=known, salt="fake")

        return self._do(work)

    def find(self, step: str) -> Future[Kept | None]:
        """What a step came to."""
        return self._do(lambda: self._steps.get(step))

    def step(self, step: str, kept: Kept) -> Future[Kept]:
        """Keep a finished step."""

        def work() -> Kept:
            self._fail()
            if not any(step.startswith(f"{key}-") for key in self._keys.values()):
                return kept
            self.made.append(step)
            return self._steps.setdefault(step, kept)

        return self._do(work)

    def sleep(self, step: str, mark: str, seconds: float) -> Future[tuple[str, float]]:
        """When a sleep ends."""

        def work() -> tuple[str, float]:
            self._fail()
            return self._sleeps.setdefault(step, (mark, self._clock() + seconds))

        return self._do(work)

    def ask(self, step: str, asked: Asked) -> Future[Kept]:
        """Put a question."""
        with self._lock:
            if step in self._steps:
                return self._do(lambda: self._steps[step])
            failed = self._do(self._fail)
            if failed.exception() is not None:
                return cast("Future[Kept]", failed)  # it has no result
            self._asked.setdefault(step, asked)
            return self._waiting.setdefault(step, Future())

    def asked(self) -> Future[tuple[Asked, ...]]:
        """The questions that wait."""
        return self._do(lambda: tuple(self._asked.values()))

    def answer(self, step: str, data: bytes) -> Future[bool]:
        """Answer a question."""

        def work() -> bool:
            asked = self._asked.pop(step, None)
            if asked is None:
                return False
            kept = self._steps[step] = Kept(mark=asked.mark, data=data)
            waiting = self._waiting.pop(step, None)
            if waiting is not None:
                waiting.set_result(kept)
            return True

        return self._do(work)

    def cancel(self, cell: str) -> Future[bool]:
        """Stop a cell."""
        if cell not in self._keys:
            return self._do(lambda: False)
        self.when_cancelled(cell)
        return self._do(lambda: True)

    def settle(self, cell: str, epoch: int) -> Future[None]:  # noqa: ARG002  the port's
        """What is kept of a cell's steps may go."""

        def work() -> None:
            key = self._keys.pop(cell, None)
            if key is None:
                return
            del self._cells[key]
            for kept in (self._steps, self._sleeps, self._asked):
                for step in [step for step in kept if step.startswith(f"{key}-")]:
                    del kept[step]

        return self._do(work)

    def aclose(self) -> Future[None]:
        """Let go; what is kept stays for ``again``."""
        self.closed = True
        future: Future[None] = Future()
        future.set_result(None)
        return future

    def _fail(self) -> None:
        if self._fails:
            self._fails = False
            raise DurabilityError("told to fail")

    def _do[T](self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            try:
                if self.closed:
                    raise DurabilityError("closed")
                future.set_result(work())
            except DurabilityError as error:
                future.set_exception(error)
        return future


# --- checks ------------------------------------------------------------------------------------------


class DurabilityCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One promise: ``name`` is the claim, ``run`` raises AssertionError where it is not kept."""

    name: str
    run: Callable[[OpenDurability], None]


def durability_checks() -> list[DurabilityCheck]:
    """What every Durability must do."""
    return [DurabilityCheck(name=check.__name__.lstrip("_"), run=check) for check in _CHECKS]


def _get[T](future: Future[T]) -> T:
    return future.result(_PATIENCE)


def _kept(text: str) -> Kept:
    return Kept(mark=f"f({text})", data=text.encode())


def _a_finished_step_is_found_after_a_restart(reopen: OpenDurability) -> None:
    one = reopen()
    opened = _get(one.open("demo-c1-aa", 0))
    assert opened.key == "demo-c1-aa"
    assert not opened.known
    for n in (1, 2):
        _get(one.step(f"{opened.key}-{n}", _kept(str(n))))
    _get(one.aclose())
    other = reopen()
    again = _get(other.open("demo-c1-aa", 0))
    assert again.known
    assert (again.key, again.salt) == (opened.key, opened.salt)
    assert _get(other.find(f"{again.key}-1")) == _kept("1")
    assert _get(other.find(f"{again.key}-2")) == _kept("2")
    assert _get(other.find(f"{again.key}-3")) is None
    _get(other.aclose())


def _the_first_end_of_a_step_counts(reopen: OpenDurability) -> None:
    one = reopen()
    key = _get(one.open("demo-c1-aa", 0)).key
    assert _get(one.step(f"{key}-1", _kept("first"))) == _kept("first")
    assert _get(one.step(f"{key}-1", _kept("second"))) == _kept("first")
    _get(one.aclose())


def _any_bytes_are_kept(reopen: OpenDurability) -> None:
    one = reopen()
    key = _get(one.open("demo-c1-aa", 0)).key
    values = [b"", bytes(range(256)) * 4, b"x" * 40_000, b"y" * 3_000_000]
    for n, data in enumerate(values):
        _get(one.step(f"{key}-{n}", Kept(mark="ünïcode \N{SNOWMAN} '\"\\", data=data)))
    _get(one.aclose())
    other = reopen()
    _get(other.open("demo-c1-aa", 0))
    for n, data in enumerate(values):
        kept = _get(other.find(f"{key}-{n}"))
        assert kept is not None
        assert kept.data == data
        assert kept.mark == "ünïcode \N{SNOWMAN} '\"\\"
    _get(other.aclose())


def _a_sleep_ends_when_it_was_first_to_end(reopen: OpenDurability) -> None:
    one = reopen()
    key = _get(one.open("demo-c1-aa", 0)).key
    mark, until = _get(one.sleep(f"{key}-1", "sleep(3600)", 3600))
    assert mark == "sleep(3600)"
    _get(one.aclose())
    other = reopen()
    _get(other.open("demo-c1-aa", 0))
    assert _get(other.sleep(f"{key}-1", "sleep(7200)", 7200)) == (mark, until)
    _get(other.aclose())


def _a_question_waits_over_restarts_until_it_is_answered_once(reopen: OpenDurability) -> None:
    one = reopen()
    key = _get(one.open("demo-c1-aa", 0)).key
    asked = Asked(id=f"{key}-1", prompt="Ship?", choices=("yes", "no"), mark="ask('Ship?')")
    waiting = one.ask(asked.id, asked)
    assert _get(one.asked()) == (asked,)
    assert not waiting.done()
    _get(one.aclose())
    other = reopen()
    _get(other.open("demo-c1-aa", 0))
    assert _get(other.asked()) == (asked,)
    waiting = other.ask(asked.id, asked)
    assert _get(other.answer(asked.id, b"yes")) is True
    assert _get(waiting) == Kept(mark=asked.mark, data=b"yes")
    assert _get(other.answer(asked.id, b"no")) is False
    assert _get(other.answer(f"{key}-9", b"no")) is False
    assert _get(other.asked()) == ()
    _get(other.aclose())
    third = reopen()
    _get(third.open("demo-c1-aa", 0))
    assert _get(third.ask(asked.id, asked)) == Kept(mark=asked.mark, data=b"yes")
    _get(third.aclose())


def _an_answer_may_come_before_the_cell_asks_again(reopen: OpenDurability) -> None:
    one = reopen()
    key = _get(one.open("demo-c1-aa", 0)).key
    asked = Asked(id=f"{key}-1", prompt="Ship?", mark="ask('Ship?')")
    one.ask(asked.id, asked)
    assert _get(one.asked()) == (asked,)
    _get(one.aclose())
    other = reopen()
    assert _get(other.answer(asked.id, b"yes")) is True
    _get(other.open("demo-c1-aa", 0))
    assert _get(other.ask(asked.id, asked)).data == b"yes"
    _get(other.aclose())


def _steps_of_a_later_epoch_are_not_those_of_an_earlier_one(reopen: OpenDurability) -> None:
    one = reopen()
    key = _get(one.open("demo-c7-aa", 6)).key
    _get(one.step(f"{key}-1", _kept("six")))
    _get(one.aclose())
    other = reopen()
    back = _get(other.open("demo-c7-aa", 4))
    assert back.key != key
    assert not back.known
    _get(other.aclose())
    third = reopen()
    forth = _get(third.open("demo-c7-aa", 7))
    assert (forth.key, forth.known) == (key, True)
    assert _get(third.find(f"{forth.key}-1")) == _kept("six")
    _get(third.aclose())


def _of_a_cell_that_was_settled_nothing_is_kept_any_more(reopen: OpenDurability) -> None:
    one = reopen()
    key = _get(one.open("demo-c1-aa", 0)).key
    _get(one.step(f"{key}-1", _kept("1")))
    asked = Asked(id=f"{key}-2", prompt="Ship?", mark="ask('Ship?')")
    one.ask(asked.id, asked)
    _get(one.settle("demo-c1-aa", 1))
    _get(one.settle("demo-c1-aa", 1))
    assert _get(one.asked()) == ()
    assert _get(one.step(f"{key}-3", _kept("3"))) == _kept("3")  # by a task that it left behind
    assert _get(one.sleep(f"{key}-4", "sleep(0)", 0))[0] == "sleep(0)"
    again = _get(one.open("demo-c1-aa", 0))  # as after an undo
    for n in (1, 2, 3, 4):
        assert not again.known or _get(one.find(f"{again.key}-{n}")) is None
    assert _get(one.asked()) == ()
    _get(one.aclose())


def _cancelling_reaches_the_owner(reopen: OpenDurability) -> None:
    one: Any = reopen()
    told: Future[str] = Future()
    one.when_cancelled = told.set_result
    _get(one.open("demo-c1-aa", 0))
    assert _get(one.cancel("demo-c2-bb")) is False
    assert _get(one.cancel("demo-c1-aa")) is True
    assert _get(told) == "demo-c1-aa"
    _get(one.aclose())


def _closing_twice_is_fine_and_what_comes_after_is_refused(reopen: OpenDurability) -> None:
    one = reopen()
    _get(one.open("demo-c1-aa", 0))
    _get(one.aclose())
    _get(one.aclose())
    try:
        _get(one.step("demo-c1-aa-1", _kept("1")))
    except DurabilityError:
        return
    raise AssertionError("a closed Durability kept a step")


_CHECKS = (
    _a_finished_step_is_found_after_a_restart,
    _the_first_end_of_a_step_counts,
    _any_bytes_are_kept,
    _a_sleep_ends_when_it_was_first_to_end,
    _a_question_waits_over_restarts_until_it_is_answered_once,
    _an_answer_may_come_before_the_cell_asks_again,
    _steps_of_a_later_epoch_are_not_those_of_an_earlier_one,
    _of_a_cell_that_was_settled_nothing_is_kept_any_more,
    _cancelling_reaches_the_owner,
    _closing_twice_is_fine_and_what_comes_after_is_refused,
)
