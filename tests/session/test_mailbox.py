"""Events of any thread, and of code that runs in between, come out."""

from __future__ import annotations

from pyrepl3.records import Display, Output
from pyrepl3.session.mailbox import Mailbox


async def test_an_event_that_comes_while_one_is_put_is_put_too():
    """As a finaliser's print does, where a collection comes in."""
    mailbox = Mailbox()

    class Part:
        def __repr__(self):
            mailbox.put(Output(cell_id="c1", stream="stdout", text="between"))
            return "part"

    first = Display(cell_id="c1", data={"x": Part()})
    mailbox.put(first)
    mailbox.close()
    events = [event async for event in mailbox]
    assert {type(event) for event in events} == {Display, Output}
