"""What every Runner must do when a namespace is restored: its part of the checks in ``runner``."""

from __future__ import annotations

import msgspec

from pyrepl3.records import Delta, Done, Failed, Reload, Snapshot
from pyrepl3.testing.desk import Desk


def _snapshot_of(*deltas: Delta) -> Snapshot:
    lost: dict[str, str] = {}
    for delta in deltas:
        lost.update(delta.lost)
    return Snapshot(
        epoch=len(deltas),
        count=len(deltas),
        blobs=tuple(blob for delta in deltas for blob in delta.blobs),
        lost=lost,
        engine=deltas[-1].engine,
    )


async def _a_restored_namespace_is_the_one_that_was_stored(desk: Desk) -> None:
    source = (
        "import math, threading\ndef f(n): return n + x[0]\nx = [1]; y = x; lock = threading.Lock()"
    )
    assert (await desk.run(source)).ok
    delta = await desk.runner.snapshot()
    await desk.runner.mark()
    assert "lock" in delta.lost
    assert (await desk.run("x = 'other'; z = 1")).ok
    other = Desk(desk.open_runner)
    other.runner = await other.open_runner()
    other.count = desk.count
    try:
        for one in (desk, other):
            lost = await one.runner.restore(_snapshot_of(delta))
            assert "lock" in lost
            outcome = await one.run("f(1), x is y, math.floor(1.5), 'z' in globals()")
            assert isinstance(outcome, Done), outcome
            assert outcome.text == "(2, True, 1, False)"
            gone = await one.run("lock")
            assert isinstance(gone, Failed)
            assert isinstance(gone.error, NameError)
    finally:
        await other.runner.aclose()


async def _what_refers_to_a_lost_name_is_loaded_when_that_is_bound_again(desk: Desk) -> None:
    assert (await desk.run("class Base: pass")).ok
    assert (await desk.run("class P(Base): pass\nps = [P()]; alias = ps; n = 1")).ok
    snapshot = _snapshot_of(await desk.runner.snapshot())
    await desk.runner.mark()
    kept = tuple(blob for blob in snapshot.blobs if "Base" not in blob.names)
    lost = await desk.runner.restore(msgspec.structs.replace(snapshot, blobs=kept))
    assert lost.keys() == {"P", "ps", "alias"}, lost
    assert await desk.runner.ask(Reload()) == ()
    assert (await desk.run("class Base: new = True")).ok
    assert set(await desk.runner.ask(Reload())) == {"P", "ps", "alias"}
    outcome = await desk.run("type(ps[0]) is P, ps[0].new, alias is ps, n")
    assert isinstance(outcome, Done), outcome
    assert outcome.text == "(True, True, True, 1)"
    await desk.runner.snapshot()
    await desk.runner.mark()
    assert await desk.runner.ask(Reload()) == ()


RESTORING = (
    _a_restored_namespace_is_the_one_that_was_stored,
    _what_refers_to_a_lost_name_is_loaded_when_that_is_bound_again,
)
