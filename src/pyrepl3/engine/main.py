"""A program in, with the main thread given to its cells: for command lines and prompts."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import TYPE_CHECKING, Any

from pyrepl3.engine.opening import Opening, open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pyrepl3.ports import Runner


def host_main(
    main: Callable[[Callable[..., Opening]], Coroutine[Any, Any, int]],
    *,
    on_sigint: Callable[[], object] | None = None,
    on_unheard: Callable[[int], object] | None = None,
) -> int:
    """Give cells the main thread: run ``main(open_session)`` on a loop in a second thread. Its result.

    To be called on the main thread. While a cell runs Ctrl-C interrupts it; while none runs
    ``on_sigint`` is called (on the main thread). While C code keeps the main thread ``on_unheard`` is told
    how often in a row Ctrl-C was pressed in vain (on a thread of ours; it may end the process). One
    session at a time. What ``main`` raises comes out.
    """
    from pyrepl3.run.host import LoopHost  # noqa: PLC0415
    from pyrepl3.run.signals import MainThread  # noqa: PLC0415

    host = LoopHost("main", on_main=True)
    before = sys.modules["__main__"]

    openings: list[Opening] = []

    def opener(name: str | None = None, **options: Any) -> Opening:
        opening = open_session(name, **options)
        opening.host = host
        openings[:] = [opening]
        return opening

    def runner() -> Runner | None:
        return openings[0].runner if openings else None

    ended: list[int] = []
    failed: list[BaseException] = []

    def run_control() -> None:
        try:
            ended.append(asyncio.run(main(opener)))
        except BaseException as error:  # noqa: BLE001  raised again on the main thread
            failed.append(error)
        finally:
            host.stop()

    def interrupt(cell_id: str | None) -> bool:
        found = runner()
        return found is not None and found.interrupt(cell_id)

    interrupts = MainThread(
        interrupt,
        on_sigint,
        on_unheard,
        running=lambda: getattr(runner(), "foreground", None),
    )
    interrupts.install()
    thread = threading.Thread(target=run_control, name="pyrepl3-control")
    thread.start()
    try:
        host.serve()
        thread.join()
    finally:
        interrupts.restore()
        sys.modules["__main__"] = before
    if failed:
        raise failed[0]
    return ended[0]
