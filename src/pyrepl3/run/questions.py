"""Answers about a namespace and its tasks: a Question in, what its docstring promises out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pyrepl3.errors import NamespaceError
from pyrepl3.records import (
    Breakpoint,
    Check,
    Complete,
    Debug,
    Explain,
    ExplainParallel,
    Fetch,
    Hot,
    Notes,
    Reload,
    Tasks,
    Types,
    Variables,
    Walls,
)
from pyrepl3.run.complete import complete
from pyrepl3.run.coroutines import describe_task, find_tasks

if TYPE_CHECKING:
    from pyrepl3.records import Question
    from pyrepl3.run.execution import Group
    from pyrepl3.run.executor import AsyncExecutor


def answer(question: Question, executor: AsyncExecutor, group: Group) -> Any:
    """The answer. ``Tasks`` and ``Reload`` must be asked on the loop that the cells run on."""
    names = executor.namespace.get_for_execution()
    match question:
        case Fetch(name=name):
            try:
                return names[name]
            except KeyError:
                raise NamespaceError(f"no name {name!r} in this session") from None
        case Variables():
            found = executor.namespace.namespace
            # Ours, though the specification wants it in the dict.
            found.pop("_last_exception", None)
            return {k: type(v).__name__ for k, v in found.items()}
        case Tasks():
            tasks = find_tasks(asyncio.get_running_loop(), group)
            return tuple(sorted(map(describe_task, tasks), key=lambda info: info.name))
        case Notes():
            return executor.restore_notes
        case Reload():
            return executor.reload()
        case Walls():
            return ()  # whoever confines this process knows
        case Complete(source=source, cursor=cursor):
            return complete(source, cursor, names)
        case Explain(source=source):
            return executor.explain_mode(source)
        case ExplainParallel(source=source):
            from pyrepl3.lang.parallel import HERE, explain_parallel  # noqa: PLC0415  asked for seldom
            from pyrepl3.run.parallel import text_of  # noqa: PLC0415

            flags, children = executor.namespace.flags, executor.children
            apart = HERE if children is None else children.why_not()
            return explain_parallel(source, names, flags=flags, text_of=text_of, apart=apart)
        case Check(source=source):
            from pyrepl3.run.stubs import look_at  # noqa: PLC0415  only where asked for

            return look_at(source, names, flags=executor.namespace.flags)
        case Types():
            from pyrepl3.run.typetext import describe_types  # noqa: PLC0415  only where asked for

            return describe_types(names, executor.namespace.namespace)
        case Debug() | Breakpoint():
            return executor.debugging.answer(question)
        case Hot(watch=watch, counts=counts):
            return executor.hot.answer(watch, counts=counts)
