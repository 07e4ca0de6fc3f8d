"""A cell that is to stop in, its end out, sooner or later: first it is asked, then its worker is ended."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    later = asyncio.get_running_loop().call_later

    def look(n: int) -> None:
        if flight.over:
            return
        if n == 1 and not flight.heard:
            link.worker.signal(signal.SIGINT)
        # It has stages of its own, a second each (run/cancel.py).
        if n == 13 or (n == 4 and not flight.heard):
            link.end("a cell did not stop")
        else:
            flight.timers.append(later(grace / 4, look, n + 1))

    # By looks, not by the clock: where the machine stood still the worker has had no time either.
    look(0)
