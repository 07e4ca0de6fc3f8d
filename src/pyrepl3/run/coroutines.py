"""CoroutineManager: coroutines and tasks that cells left behind, to be listed, limited and ended."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from typing import TYPE_CHECKING, Any, cast

from pyrepl3.errors import CellInterrupt, LimitExceededError
from pyrepl3.records import TaskInfo
from pyrepl3.run.aim import in_main_line
from pyrepl3.run.cancel import request_stop
from pyrepl3.run.execution import CURRENT, Execution, Group
from pyrepl3.run.scopes import give_task_a_scope

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator


class CoroutineManager:
    """Coroutines (by weak reference) and tasks (held until done) of one executor. One thread."""

    def __init__(self) -> None:
        self._coroutines: set[weakref.ref[Any]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    def track_coroutine(self, coro: Coroutine[Any, Any, Any]) -> None:
        """Remember ``coro`` for ``cleanup``; forgotten by itself when it is collected."""
        self._coroutines.add(weakref.ref(coro, self._coroutines.discard))

    def track_task(self, task: asyncio.Task[Any]) -> None:
        """Hold ``task`` until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cleanup(self) -> dict[str, int]:
        """Close tracked coroutines that were never started and cancel tracked tasks.

        Returns ``coroutines_closed``, ``tasks_cancelled`` and ``errors`` (a coroutine that is running, or
        that refused to close). A coroutine that a task drives is the task's to end.
        """
        stats = {"coroutines_closed": 0, "tasks_cancelled": 0, "errors": 0}
        driven = {id(task.get_coro()) for task in self._tasks}
        for reference in list(self._coroutines):
            coro = reference()
            if coro is None or id(coro) in driven:
                continue
            state = inspect.getcoroutinestate(coro)
            if state == inspect.CORO_CLOSED:
                self._coroutines.discard(reference)
                continue
            try:
                coro.close()
            except (
                RuntimeError,
                ValueError,
            ):  # it ignored GeneratorExit, or it is running right now
                stats["errors"] += 1
            except BaseException:  # noqa: BLE001  its own clean-up raised: it is closed all the same
                stats["errors"] += 1
                self._coroutines.discard(reference)
            else:
                stats["coroutines_closed"] += 1
                self._coroutines.discard(reference)
        for task in list(self._tasks):
            if not task.done():
                task.cancel()
                stats["tasks_cancelled"] += 1
        return stats


def find_tasks(loop: asyncio.AbstractEventLoop, group: Group) -> Iterator[asyncio.Task[Any]]:
    """The live tasks on ``loop`` that cells of ``group`` started, their main lines left out.

    A task knows its cell by the Context it was made in. To be called on the loop's thread.
    """
    for task in asyncio.all_tasks(loop):
        execution = task.get_context().get(CURRENT)
        if execution is not None and execution.group is group and execution.task is not task:
            yield task


def describe_task(task: asyncio.Task[Any]) -> TaskInfo:
    """What to show of a task."""
    execution = task.get_context().get(CURRENT)
    frames = task.get_stack(limit=1)
    where = ""
    if frames:
        where = f"{frames[0].f_code.co_name}, {frames[0].f_code.co_filename}:{frames[0].f_lineno}"
    cell_id = "" if execution is None else execution.cell.id
    return TaskInfo(name=task.get_name(), cell_id=cell_id, where=where)


class Task(asyncio.Task[Any]):
    """A task that keeps the name it was born with where it is given None.

    CPython 3.13.0 gives each task that a factory made the name ``"None"``, unless its caller named it.
    """

    def set_name(self, value: object, /) -> None:
        """Set the name."""
        if value is not None:
            super().set_name(value)


class TaskFactory:
    """Makes the tasks of a loop; counts those of cells that have a limit and holds those of cells.

    ``install`` puts it before the factory that was there. Tasks of nobody's cell pass through.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._before = loop.get_task_factory()
        self._held: set[asyncio.Task[Any]] = set()

    @staticmethod
    def install(loop: asyncio.AbstractEventLoop) -> None:
        """Put a factory of ours on ``loop`` unless one is there. On the loop's thread."""
        if not isinstance(loop.get_task_factory(), TaskFactory):
            loop.set_task_factory(TaskFactory(loop))

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any
    ) -> asyncio.Task[Any]:
        execution = CURRENT.get()
        if execution is not None and execution.tasks_allowed is not None:
            _count(execution, coro)
        if execution is not None and execution.steps is not None:
            give_task_a_scope(execution.steps.root, coro, options)
        if self._before is not None:
            task = cast("asyncio.Task[Any]", self._before(loop, coro, **options))
        else:
            task = Task(coro, loop=loop, **options)
        if execution is not None:
            self._held.add(task)
            task.add_done_callback(self._held.discard)
            if execution.tasks is not None:
                execution.tasks.add(task)
                task.add_done_callback(execution.tasks.discard)
        return task


def _count(execution: Execution, coro: Any) -> None:
    if execution.tasks is None:
        execution.tasks = set()
    assert execution.tasks_allowed is not None
    used = len(execution.tasks) + 1
    if used > execution.tasks_allowed:
        coro.close()
        error = LimitExceededError("coroutines", used, execution.tasks_allowed)
        request_stop(execution, error)
        if execution.finished or not in_main_line(execution):
            # Not CellInterrupt: a KeyboardInterrupt in a task would stop the whole loop.
            raise error
        if execution.stop is not None:
            execution.stop.delivered = True
        raise CellInterrupt
