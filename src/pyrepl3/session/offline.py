"""A request for a session that nobody has open in, the reply that its files allow out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, assert_never

from pyrepl3.session.asking import check_choice, find_asked, still_open
from pyrepl3.session.control import Answer, Interrupt, Reply, Request, Status, no_question

if TYPE_CHECKING:
    from pyrepl3.ports import Durability


def reply_offline(
    request: Request, durability: Durability | None, *, count: int, epoch: int
) -> Reply:
    """The reply, with no cell running. Blocks. Whoever calls this holds the session's lock.

    ``durability`` is None where no cell has ever made a step. Raises DurabilityError, ValueError for an
    answer that is none of the choices.
    """
    found = () if durability is None else still_open(durability.asked().result(), count)
    match request:
        case Interrupt(cell=cell):
            return Reply(ok=False, error=f"no cell {cell or ''}".rstrip() + " runs")
        case Answer(asked=asked_id, value=value):
            asked = find_asked(found, asked_id)
            if asked is None or durability is None:
                return Reply(ok=False, error=no_question(asked_id))
            check_choice(asked, value)
            done = durability.answer(asked.id, value.encode()).result()
            return Reply(ok=done, error="" if done else no_question(asked_id))
        case Status():
            return Reply(pid=os.getpid(), epoch=epoch, count=count, asked=found)
        case _:
            assert_never(request)
