"""One holder at a time, first come first served, whatever happens to those who wait."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrepl3.run.turn import Turn


async def test_the_turn_goes_round_in_order():
    turn, order = Turn(), []

    async def take(n: int) -> None:
        await turn.acquire()
        order.append(n)
        await asyncio.sleep(0)
        turn.release()

    await asyncio.gather(*(take(n) for n in range(20)))
    assert order == list(range(20))
    assert not turn.held


@given(st.lists(st.sampled_from(["take", "cancel"]), max_size=12), st.randoms())
def test_who_gives_up_waiting_takes_nobody_s_turn(plan: list[str], rng: random.Random):
    async def main() -> None:
        turn, held = Turn(), 0
        assert turn.acquire_nowait()

        async def take() -> None:
            nonlocal held
            await turn.acquire()
            held += 1
            assert held == 1
            try:
                await asyncio.sleep(0)
            finally:
                held -= 1
                turn.release()

        tasks = [asyncio.ensure_future(take()) for _ in plan]
        await asyncio.sleep(0)
        if rng.random() < 0.5:
            turn.release()
        else:
            asyncio.get_running_loop().call_soon(turn.release)
        for task, step in zip(tasks, plan, strict=True):
            if step == "cancel":
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
        assert all(r is None or isinstance(r, asyncio.CancelledError) for r in results)
        assert not turn.held

    asyncio.run(main())


@pytest.mark.slow
def test_threads_with_loops_of_their_own_share_one_turn():
    turn, inside, most, count = Turn(), [0], [0], [0]

    async def work() -> None:
        for _ in range(100):
            await turn.acquire()
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            count[0] += 1
            await asyncio.sleep(0)
            inside[0] -= 1
            turn.release()

    async def many() -> None:
        await asyncio.gather(work(), work())

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most[0], count[0], turn.held) == (1, 800, False)


async def test_a_waiter_whose_loop_is_closed_is_passed_over():
    turn = Turn()
    assert turn.acquire_nowait()
    loop = asyncio.new_event_loop()
    waiting = turn.acquire()

    def begin() -> None:
        task = loop.create_task(waiting)
        loop.run_until_complete(asyncio.sleep(0))
        task._log_destroy_pending = False
        loop.close()

    await asyncio.to_thread(begin)
    mine = asyncio.ensure_future(turn.acquire())
    await asyncio.sleep(0)
    turn.release()
    await mine
    turn.release()
    assert not turn.held
