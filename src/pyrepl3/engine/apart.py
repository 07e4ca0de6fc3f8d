"""A program in, with its cells in a worker process of its own: for command lines and prompts.

``start_ahead`` first, before anything else of the engine is imported: see isolate/ahead.py.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from typing import TYPE_CHECKING, Any

from pyrepl3.engine.opening import Opening, open_session
from pyrepl3.isolate import process  # noqa: F401  all that opening a session would import
from pyrepl3.isolate.messages import host_decoder
from pyrepl3.isolate.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import FrameType

    from pyrepl3.isolate.ahead import Ahead

_PRESSES = 3  # of Ctrl-C, to which our loop does not react


def host_apart(
    main: Callable[[Callable[..., Opening]], Coroutine[Any, Any, int]],
    *,
    ahead: Ahead | None = None,
    python: str | None = None,
    on_sigint: Callable[[], object],
    on_unheard: Callable[[int], object],
) -> int:
    """Run ``main(open_session)`` on the main thread's loop, cells in worker processes. Its result.

    The workers of sessions with ``isolation="process"`` belong to our terminal: what they start is treated
    as if we had started it. Confined ones do not. ``ahead``: the zygote that was forked already; ``python``:
    another interpreter for the workers. Ctrl-C stops the cell that runs; while none runs ``on_sigint`` is
    called. Where our loop does not react, ``on_unheard`` is told how often in a row it was pressed.
    """
    host_decoder()  # while the zygote is at it, too
    gc.freeze()
    gc.enable()
    pool = Pool(python=python, warm=0, attached=True, ahead=ahead)
    openings: list[Opening] = []

    def opener(name: str | None = None, **options: Any) -> Opening:
        apart = {"pool": pool} if options["isolation"] == "process" else {"python": python}
        opening = open_session(name, **apart, **options)
        openings[:] = [opening]
        return opening

    async def control() -> int:
        loop = asyncio.get_running_loop()
        waiting = 0

        def press() -> None:
            nonlocal waiting
            waiting = 0
            runner = openings[0].runner if openings else None
            if runner is None or not runner.interrupt():
                on_sigint()

        def on_ctrl_c(_number: int, _frame: FrameType | None) -> None:
            nonlocal waiting
            waiting += 1
            if waiting >= _PRESSES:
                on_unheard(waiting)
            loop.call_soon_threadsafe(press)

        signal.signal(signal.SIGINT, on_ctrl_c)
        return await main(opener)

    before = signal.getsignal(signal.SIGINT)
    try:
        return asyncio.run(control())
    finally:
        signal.signal(signal.SIGINT, before)
        pool.close()
