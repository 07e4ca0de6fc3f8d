"""The coordinator finds or makes a loop; what it made it closes, what is another's it leaves alone."""

from __future__ import annotations

import asyncio

import pytest

from pyrepl3.run.loop import EventLoopCoordinator


async def two():
    await asyncio.sleep(0)
    return 2


async def fails():
    raise ValueError(1)


async def test_the_running_loop_is_the_loop_and_is_not_ours():
    coordinator = EventLoopCoordinator()
    loop = asyncio.get_running_loop()
    assert coordinator.ensure_event_loop() is loop
    assert coordinator.in_async_context
    assert not coordinator.owns_loop
    coordinator.close()
    assert not loop.is_closed()


def test_where_none_runs_one_is_made_set_and_closed():
    coordinator = EventLoopCoordinator()
    loop = coordinator.ensure_event_loop()
    assert coordinator.ensure_event_loop() is loop
    assert coordinator.owns_loop
    assert not coordinator.in_async_context
    assert loop.run_until_complete(two()) == 2
    assert asyncio.get_event_loop_policy().get_event_loop() is loop
    coordinator.close()
    coordinator.close()
    assert loop.is_closed()
    assert not coordinator.owns_loop
    again = coordinator.ensure_event_loop()
    assert again is not loop
    coordinator.close()


def test_a_loop_that_somebody_else_has_set_is_taken_and_left_open():
    other = asyncio.new_event_loop()
    asyncio.set_event_loop(other)
    try:
        coordinator = EventLoopCoordinator()
        assert coordinator.ensure_event_loop() is other
        assert not coordinator.owns_loop
        coordinator.close()
        assert not other.is_closed()
        assert asyncio.get_event_loop_policy().get_event_loop() is other
    finally:
        asyncio.set_event_loop(None)
        other.close()


def test_a_loop_that_was_set_and_closed_is_replaced():
    other = asyncio.new_event_loop()
    asyncio.set_event_loop(other)
    other.close()
    coordinator = EventLoopCoordinator()
    loop = coordinator.ensure_event_loop()
    assert not loop.is_closed()
    coordinator.close()


def test_closing_puts_no_loop_in_the_place_of_somebody_else_s():
    coordinator = EventLoopCoordinator()
    coordinator.ensure_event_loop()
    other = asyncio.new_event_loop()
    asyncio.set_event_loop(other)
    try:
        coordinator.close()
        assert asyncio.get_event_loop_policy().get_event_loop() is other
    finally:
        asyncio.set_event_loop(None)
        other.close()


async def test_queueing_where_a_loop_runs_starts_a_task():
    coordinator = EventLoopCoordinator()
    task = coordinator.queue_for_async(two())
    assert isinstance(task, asyncio.Task)
    assert await task == 2
    assert coordinator.message_queue == []


def test_what_is_queued_where_none_runs_is_flushed_in_order_with_errors_as_values():
    coordinator = EventLoopCoordinator()
    assert coordinator.queue_for_async(two()) is None
    assert coordinator.queue_for_async(fails()) is None
    assert len(coordinator.message_queue) == 2
    loop = coordinator.ensure_event_loop()
    first, second = loop.run_until_complete(coordinator.flush_queue())
    assert first == 2
    assert isinstance(second, ValueError)
    assert loop.run_until_complete(coordinator.flush_queue()) == []
    coordinator.close()


def test_what_is_queued_and_never_flushed_is_closed_without_a_warning():
    coordinator = EventLoopCoordinator()
    coordinator.queue_for_async(two())
    coordinator.close()
    assert coordinator.message_queue == []


async def test_cancelling_a_flush_cancels_what_it_runs():
    coordinator = EventLoopCoordinator()
    cancelled = []

    async def wait():
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.append(1)

    coordinator.message_queue += [wait(), wait()]
    flushing = asyncio.create_task(coordinator.flush_queue())
    for _ in range(3):
        await asyncio.sleep(0)
    flushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flushing
    await asyncio.sleep(0)
    assert cancelled == [1, 1]


async def test_a_loop_of_ours_that_runs_is_not_closed_under_its_feet():
    coordinator = EventLoopCoordinator()

    def elsewhere():
        loop = coordinator.ensure_event_loop()

        async def close():
            coordinator.close()

        loop.run_until_complete(close())
        closed = loop.is_closed()
        loop.close()
        return closed

    assert await asyncio.to_thread(elsewhere) is False
