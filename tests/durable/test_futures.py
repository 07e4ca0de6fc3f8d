"""Work that waits for futures: an interrupt on its way in leaves nothing behind that Python warns of."""

from __future__ import annotations

import gc

import pytest

from pyrepl3.durable import futures


async def _work():
    return 5


def test_work_that_waits_for_nothing_is_done_at_once():
    assert futures.drive(_work()).result() == 5


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of what others have left
@pytest.mark.parametrize("where", ["Future", "_advance"])
def test_an_interrupt_before_it_begins_closes_the_work(monkeypatch, where):
    def interrupted(*_):
        raise KeyboardInterrupt

    work = _work()
    monkeypatch.setattr(futures, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        futures.drive(work)
    assert work.cr_frame is None
    del work
    gc.collect()  # a warning here is an error
