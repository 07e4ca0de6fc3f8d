"""A cell that is to stop in, its end out, sooner or later: first it is asked, then its worker is ended."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrepl3.isolate.flight import Flight
    from pyrepl3.isolate.link import Link


def escalate(link: Link, flight: Flight, grace: float) -> None:
    """See to it that a cell which was told to stop does. On the runner's loop.

    A worker that does not answer has ``grace`` seconds until it is killed, with a SIGINT in between; one
    that answers has three times that. The third request kills at once.
    """
    if flight.over:
        return
    if flight.presses > 2:
        link.end("a cell did not stop")
    if flight.escalating:
        return
    flight.escalating = True

    def unheard(do: Callable[[], object]) -> None:
        if not flight.over and not flight.heard:
            do()

    def kill() -> None:
        if not flight.over:
            link.end("a cell did not stop")

    later = asyncio.get_running_loop().call_later
    flight.timers += (
        later(grace / 4, unheard, lambda: link.worker.signal(signal.SIGINT)),
        later(grace, unheard, kill),
        # It has stages of its own, a second each (run/cancel.py).
        later(3 * grace + 0.25, kill),
    )
