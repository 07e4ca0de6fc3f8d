"""Sessions: cells in order, outcomes, epochs, streams of events, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading

import pytest

import pyrepl3
from pyrepl3.errors import (
    NamespaceError,
    SessionClosedError,
    SessionError,
    StoreError,
)
from pyrepl3.records import (
    Committed,
    Done,
    Failed,
    Finished,
    Interrupted,
    Notice,
    Output,
    Restored,
    Started,
)
from pyrepl3.session.mailbox import BUFFERED
from pyrepl3.session.record import RECORDED
from pyrepl3.testing.fakes import FakeStore, Seen


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture
def store():
    return FakeStore()


@pytest.fixture
async def session(seen):
    async with pyrepl3.open_session(observe=seen) as session:
        yield session


def give(session, name, value):
    """Bind a name in the session to an object of the host's."""
    session._runner.namespace.update_namespace({name: value})


def kinds(events):
    return [type(event).__name__ for event in events]


# --- outcomes -----------------------------------------------------------------------------------


def test_a_session_that_was_not_entered_says_so():
    with pytest.raises(AttributeError, match="not open yet; async with open_session"):
        pyrepl3.open_session().run  # noqa: B018


async def test_a_cell_that_ends_gives_its_value(session):
    outcome = await session.run("x = 20\nx + 1")
    assert isinstance(outcome, Done)
    assert (outcome.ok, outcome.value, outcome.unwrap()) == (True, 21, 21)
    assert (outcome.shown, outcome.text) == (True, "21")
    assert outcome.epoch is None
    assert outcome.duration > 0


async def test_a_cell_that_raises_gives_its_error_and_unwrap_raises_it(session):
    outcome = await session.run("{}['missing']")
    assert isinstance(outcome, Failed)
    assert (outcome.ok, outcome.value) == (False, None)
    with pytest.raises(KeyError, match="missing"):
        outcome.unwrap()
    assert await session.fetch("_last_exception") is outcome.error


async def test_a_cell_that_does_not_compile_runs_nothing(session):
    outcome = await session.run("x = 1\nx = = 2")
    assert isinstance(outcome.error, pyrepl3.CompilationError)
    with pytest.raises(NamespaceError, match="'x'"):
        await session.fetch("x")


async def test_the_last_exception_is_no_variable_of_the_user(session):
    await session.run("x = 1")
    await session.run("x / 0")
    assert await session.variables() == {"x": "int"}
    assert isinstance(await session.fetch("_last_exception"), ZeroDivisionError)


async def test_looking_in(session):
    await session.run("import asyncio\nnumber = 5\ntask = asyncio.create_task(asyncio.sleep(60))")
    assert await session.fetch("number") == 5
    assert await session.variables() == {"asyncio": "module", "number": "int", "task": "Task"}
    (info,) = await session.tasks()
    assert info.cell_id == f"{session.name}-c1"
    report = await session.explain_mode("await asyncio.sleep(1)")
    assert report.mode is pyrepl3.ExecutionMode.TOP_LEVEL_AWAIT


# --- order --------------------------------------------------------------------------------------


async def test_cells_start_in_the_order_of_the_calls(session, seen):
    await session.run("order = []")
    sources = [
        f"order.append({n})"
        if n % 3
        else f"import asyncio; await asyncio.sleep(0); order.append({n})"
        for n in range(30)
    ]
    await asyncio.gather(*(session.run(source) for source in sources))
    assert await session.fetch("order") == list(range(30))
    started = [event.cell.source for event in seen.of(Started)]
    assert started[1:] == sources
    assert [event.cell.n for event in seen.of(Started)] == list(range(1, 32))


async def test_a_caller_that_gives_up_waiting_loses_its_place_only(session, seen):
    await session.run("import asyncio; gate = asyncio.Event()")
    first = asyncio.create_task(session.run("await gate.wait()"))
    second = asyncio.create_task(session.run("gone = 1"))
    third = asyncio.create_task(session.run("x = 3"))
    await seen.until(lambda event: isinstance(event, Started) and "wait" in event.cell.source)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await session.run("gate.set()", background=True)
    assert (await first).ok
    assert (await third).value == 3
    assert "gone" not in await session.variables()


async def test_many_sessions_on_one_loop_do_not_wait_for_each_other():
    async with contextlib.AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(pyrepl3.open_session()) for _ in range(8)]
        names = {session.name for session in sessions}
        assert len(names) == 8
        meeting = threading.Barrier(8)
        for n, session in enumerate(sessions):
            await session.run(f"me = {n}")
            give(session, "meeting", meeting)
        # All of them are inside a blocking cell at once, or it never ends.
        outcomes = await asyncio.gather(
            *(session.run("n = meeting.wait(20); me") for session in sessions)
        )
        assert [outcome.value for outcome in outcomes] == list(range(8))


async def test_a_session_refuses_another_loop_and_says_what_to_do(session):
    def elsewhere():
        return asyncio.run(session.run("1"))

    with pytest.raises(SessionError, match="run_coroutine_threadsafe"):
        await asyncio.to_thread(elsewhere)
    loop = asyncio.get_running_loop()
    call = asyncio.to_thread(
        lambda: asyncio.run_coroutine_threadsafe(session.run("5"), loop).result()
    )
    assert (await call).value == 5


async def test_a_cell_that_runs_a_cell_of_its_own_session_is_told_so(session):
    give(session, "session", session)
    outcome = await session.run("await session.run('1')")
    assert isinstance(outcome.error, SessionError)


# --- beside others ------------------------------------------------------------------------------


async def test_a_background_cell_has_its_own_value_output_and_context(session, seen):
    await session.run(
        "import asyncio, contextvars\nvar = contextvars.ContextVar('var', default='start')\n"
        "gate, there = asyncio.Event(), asyncio.Event()"
    )
    beside = asyncio.create_task(
        session.run(
            "var.set('beside'); there.set(); await gate.wait(); print('b'); var.get()",
            background=True,
        )
    )
    front = await session.run("await there.wait(); print('f'); gate.set(); var.get()")
    behind = await beside
    assert (front.value, behind.value) == ("start", "beside")
    assert seen.text(front.cell.id) == "f\n"
    assert seen.text(behind.cell.id) == "b\n"
    assert (await session.run("var.get()")).value == "start"
    assert behind.cell.background


async def test_a_background_cell_goes_on_while_the_foreground_blocks(session, seen):
    await session.run("import threading, asyncio; done = threading.Event()")
    beside = asyncio.create_task(
        session.run("await asyncio.sleep(0); done.set(); 'beside'", background=True)
    )
    front = await session.run("done.wait(20)")
    assert front.value is True
    assert (await beside).value == "beside"


async def test_a_blocking_background_cell_does_not_hold_the_foreground_up(session, seen):
    await session.run("import threading; gate = threading.Event()")
    beside = asyncio.create_task(session.run("gate.wait(20)", background=True))
    await seen.until(lambda event: isinstance(event, Started) and event.cell.background)
    assert (await session.run("1 + 1")).value == 2
    await session.run("gate.set()")
    assert (await beside).value is True


async def test_each_cell_is_interrupted_by_its_id(session, seen):
    await session.run("import asyncio")
    cells = [
        asyncio.create_task(session.run("await asyncio.sleep(60)", background=n > 0))
        for n in range(3)
    ]
    for n in (2, 3, 4):
        await seen.until(lambda event, n=n: isinstance(event, Started) and event.cell.n == n)
    ids = [f"{session.name}-c{n}" for n in (2, 3, 4)]  # in the order of the calls
    assert session.interrupt(ids[1])
    done, _ = await asyncio.wait(cells, return_when=asyncio.FIRST_COMPLETED)
    assert [cell.result().cell.id for cell in done] == [ids[1]]
    assert not session.interrupt("no such cell")
    assert not session.interrupt(ids[1])
    assert session.interrupt(), "the one in the foreground"
    done, _ = await asyncio.wait(cells[:1])
    assert isinstance(cells[0].result(), Interrupted)
    assert session.interrupt(ids[2])
    assert isinstance(await cells[2], Interrupted)


async def test_interrupt_without_a_cell_reaches_nothing(session):
    assert not session.interrupt()


# --- the caller's cancellation ------------------------------------------------------------------


async def test_the_caller_s_cancellation_stays_the_caller_s_and_stops_the_cell(session, seen):
    source = "try:\n    print('in')\n    while True: pass\nfinally:\n    clean = 1"
    running = asyncio.create_task(session.run(source))
    await seen.until_text("in")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await session.fetch("clean") == 1
    assert (await session.run("2")).value == 2


async def test_a_timeout_around_a_cell_is_the_caller_s(session):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await session.run("while True: pass")
    assert (await session.run("2")).value == 2


async def test_a_kept_cell_that_its_caller_gave_up_is_in_its_own_epoch(store, seen):
    async with pyrepl3.open_session("kept", store=store, observe=seen) as session:
        source = "x = 1\nprint('in')\nimport asyncio; await asyncio.sleep(60)"
        running = asyncio.create_task(session.run(source))
        await seen.until_text("in")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        (epoch,) = await session.history()
        assert epoch.receipt.status == "interrupted"
        assert session.epoch == 1
    async with pyrepl3.open_session("kept", store=store.again()) as session:
        assert await session.fetch("x") == 1
        assert session.count == 1


# --- events -------------------------------------------------------------------------------------


async def test_a_stream_gives_events_as_they_happen_finished_last(session):
    events = []
    async for event in session.stream(
        "import threading; go = threading.Event()\nprint('a')\ngo.wait();"
    ):
        events.append(event)
        if isinstance(event, Output):
            (await session.fetch("go")).set()
    assert kinds(events) == ["Started", "Output", "Finished"]
    assert events[-1].outcome.ok


async def test_a_stream_of_a_failing_cell_ends_with_its_outcome(session):
    events = [event async for event in session.stream("print('a'); 1 / 0")]
    assert kinds(events) == ["Started", "Output", "Finished"]
    assert isinstance(events[-1].outcome.error, ZeroDivisionError)
    events = [event async for event in session.stream("1 +")]
    assert isinstance(events[-1].outcome.error, SyntaxError)


async def test_a_stream_of_a_kept_session_ends_with_what_the_epoch_brings(store):
    async with pyrepl3.open_session("kept", store=store) as session:
        events = [event async for event in session.stream("x = 1")]
        assert kinds(events) == ["Started", "Finished", "Committed"]
        store.fail_commit("before")
        events = [event async for event in session.stream("x = 2")]
        assert kinds(events) == ["Started", "Finished", "Notice"]


async def test_a_reader_that_leaves_early_interrupts_the_cell(session, seen):
    async for event in session.stream("while True: print('x')"):
        if isinstance(event, Output):
            break
    finished = await seen.until(lambda event: isinstance(event, Finished))
    assert isinstance(finished.outcome, Interrupted)
    assert (await session.run("1")).value == 1


async def test_closing_a_stream_waits_until_the_cell_is_out(session):
    stream = session.stream("try:\n    while True: print('x')\nfinally:\n    out = 1")
    while not isinstance(await anext(stream), Output):
        pass
    await stream.aclose()
    assert await session.fetch("out") == 1


@pytest.mark.slow
async def test_a_slow_reader_makes_the_cell_wait_and_loses_nothing(session):
    """Written is never much more than read."""
    total = 12 * BUFFERED
    source = (
        f"written = 0\nwhile written < {total}:\n    print('x' * 99_999)\n    written += 100_000"
    )
    read, most = 0, 0
    async for event in session.stream(source):
        if isinstance(event, Output):
            read += len(event.text)
            with contextlib.suppress(NamespaceError):
                most = max(most, await session.fetch("written") - read)
    assert read == await session.fetch("written") >= total
    assert most <= 2 * BUFFERED + 1_000_000


async def test_a_cell_that_waits_for_a_stuck_reader_can_be_interrupted(session, seen):
    stream = session.stream("while True: print('x' * 100_000)")
    await anext(stream)
    # Nobody reads on: the cell writes until it has to wait.
    while sum(len(event.text) for event in seen.of(Output)) <= BUFFERED:
        await asyncio.sleep(0)
    assert session.interrupt()
    finished = await seen.until(lambda event: isinstance(event, Finished))
    assert isinstance(finished.outcome, Interrupted)
    assert not finished.outcome.abandoned
    await stream.aclose()


async def test_a_cell_that_waits_for_a_stuck_reader_meets_its_time_limit(seen):
    async with pyrepl3.open_session(observe=seen, limits=pyrepl3.Limits(wall=0.2)) as session:
        stream = session.stream("while True: print('x' * 100_000)")
        await anext(stream)
        finished = await seen.until(lambda event: isinstance(event, Finished))
        assert isinstance(finished.outcome.error, pyrepl3.LimitExceededError)
        await stream.aclose()


async def test_observers_see_events_in_order(session, seen):
    mine = Seen()
    await session.run("print(1); display(2); 3", observe=mine)
    assert kinds(mine.events) == ["Started", "Output", "Display", "Finished"]
    assert mine.events == seen.events


# --- epochs ---------------------------------------------------------------------------------------


async def test_each_cell_makes_an_epoch_and_a_new_session_goes_on_from_the_last(store, seen):
    async with pyrepl3.open_session("kept", store=store, observe=seen) as session:
        assert (await session.run("x = [1]")).epoch == 1
        assert (await session.run("x.append(2)")).epoch == 2
        assert (await session.run("1 / 0")).epoch == 3
        assert session.epoch == 3
    committed = seen.of(Committed)
    assert [event.epoch for event in committed] == [1, 2, 3]
    again = Seen()
    async with pyrepl3.open_session("kept", store=store.again(), observe=again) as session:
        assert await session.fetch("x") == [1, 2]
        assert (session.epoch, session.count) == (3, 3)
        outcome = await session.run("x")
        assert (outcome.cell.n, outcome.cell.id, outcome.epoch) == (4, "kept-c4", 4)
    (restored,) = again.of(Restored)
    assert restored.epoch == 3
    assert "x" in restored.names


async def test_a_receipt_tells_what_the_cell_showed(store):
    async with pyrepl3.open_session("kept", store=store) as session:
        await session.run("print('a'); display(5)\n'value'")
        await session.run("1 / 0")
        done, failed = [epoch.receipt for epoch in await session.history()]
    assert (done.status, done.shown, done.text) == ("done", True, "'value'")
    assert kinds(done.events) == ["Output", "Display"]
    assert (failed.status, failed.cell.source) == ("failed", "1 / 0")
    assert failed.error.endswith("ZeroDivisionError: division by zero\n")


async def test_the_record_of_output_is_bounded_and_says_so(store):
    async with pyrepl3.open_session("kept", store=store) as session:
        await session.run("for _ in range(30): print('x' * 99_999)")
        await session.run("display('y' * 3_000_000)\nprint('z')")
        await session.run("'v' * 3_000_000")
        first, second, third = [epoch.receipt for epoch in await session.history()]
    assert sum(len(event.text) for event in first.events) == RECORDED
    assert first.cut
    assert second.cut is (len(second.events) < 2)
    assert len(third.text) < RECORDED + 1000


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_commit_that_fails_is_told_and_made_up_for_by_the_next(store, seen, when):
    async with pyrepl3.open_session("kept", store=store, observe=seen) as session:
        await session.run("a, gone = 1, 1")
        store.fail_commit(when)
        outcome = await session.run("a, b = 2, [2]; del gone")
        assert outcome.ok
        assert outcome.epoch is None
        (notice,) = seen.of(Notice)
        assert notice.kind == "unprotected"
        assert f"cell 2 is not on disk: told to fail {when} the commit" in notice.text
        assert (await session.run("c = 3")).epoch is not None
    async with pyrepl3.open_session("kept", store=store.again()) as session:
        assert sorted(await session.variables()) == ["a", "b", "c"]
        assert await session.fetch("a") == 2
        assert session.count == 3


async def test_what_cannot_be_stored_is_named_at_once_and_again_after_a_restart(store, seen):
    async with pyrepl3.open_session("kept", store=store, observe=seen) as session:
        await session.run("import threading\nlock = threading.Lock(); fine = 1")
        assert list(session.lost) == ["lock"]
        assert list(seen.of(Committed)[0].lost) == ["lock"]
        assert (await session.run("lock.locked()")).value is False, "here it is alive"
    async with pyrepl3.open_session("kept", store=store.again()) as session:
        assert list(session.lost) == ["lock"]
        outcome = await session.run("fine + 1\nlock")
        assert isinstance(outcome.error, pyrepl3.LostValueError)
        assert isinstance(outcome.error, NameError)
        assert "'lock'" in str(outcome.error)
        assert (await session.run("lock = 1")).ok
        assert session.lost == {}
    async with pyrepl3.open_session("kept", store=store.again()) as session:
        assert await session.fetch("lock") == 1


async def test_going_back_and_forth_between_epochs(store, seen):
    async with pyrepl3.open_session("kept", store=store, observe=seen) as session:
        for n in (1, 2, 3):
            await session.run(f"x = {n}\ny{n} = x")
        await session.restore(1)
        assert await session.variables() == {"x": "int", "y1": "int"}
        outcome = await session.run("z = x + 10")
        assert (outcome.epoch, outcome.cell.n) == (4, 4), "numbers only grow"
        assert [epoch.epoch for epoch in await session.history()] == [1, 4]
        await session.restore(3)
        assert await session.fetch("x") == 3
        await session.restore(0)
        assert await session.variables() == {}
        assert await session.history() == ()
        with pytest.raises(StoreError, match="no epoch 9"):
            await session.restore(9)
        assert session.epoch == 0
    assert [event.epoch for event in seen.of(Restored)] == [1, 3, 0]
    async with pyrepl3.open_session("kept", store=store.again()) as session:
        assert (session.epoch, session.count) == (0, 4), "where it was left"


async def test_a_head_that_cannot_be_moved_leaves_a_session_that_knows_where_it_is(store):
    async with pyrepl3.open_session("kept", store=store) as session:
        await session.run("x = 1")
        await session.run("x = 2")
        store.fail_move()
        with pytest.raises(StoreError):
            await session.restore(1)
        assert await session.fetch("x") == 1
        await session.run("y = x")
        assert [epoch.epoch for epoch in await session.history()] == [1, 3]
    async with pyrepl3.open_session("kept", store=store.again()) as session:
        assert (await session.run("x, y")).value == (1, 1)


async def test_restoring_needs_a_store_and_no_running_cell(store, session, seen):
    with pytest.raises(SessionError, match="open it with a name"):
        await session.restore(1)
    assert await session.history() == ()
    async with pyrepl3.open_session("kept", store=store, observe=seen) as kept:
        running = asyncio.create_task(kept.run("import asyncio; await asyncio.sleep(60)"))
        await seen.until(lambda event: isinstance(event, Started))
        with pytest.raises(SessionError, match="a cell is running"):
            await kept.restore(0)
        kept.interrupt()
        await running


async def test_context_variables_and_future_flags_are_part_of_an_epoch(store):
    async with pyrepl3.open_session("kept", store=store) as session:
        await session.run("from __future__ import annotations")
        await session.run("import decimal; decimal.getcontext().prec = 5")
        await session.run("def f(x: nowhere): pass")
    async with pyrepl3.open_session("kept", store=store.again()) as session:
        assert (await session.run("def g(x: nowhere): pass\ng.__annotations__")).value == {
            "x": "nowhere"
        }
        await session.restore(0)
        assert isinstance((await session.run("def g(x: nowhere): pass")).error, NameError)


async def test_the_epoch_of_a_background_cell_comes_between_cells(store, seen):
    """An epoch is the namespace after whole cells of the foreground, never in the midst of one."""
    async with pyrepl3.open_session("kept", store=store, observe=seen) as session:
        await session.run("import asyncio; gate = asyncio.Event(); half = False")
        front = asyncio.create_task(session.run("half = True; await gate.wait(); half = False"))
        await seen.until(lambda event: isinstance(event, Started) and event.cell.n == 2)
        beside = asyncio.create_task(session.run("b = 1", background=True))
        await seen.until(lambda event: isinstance(event, Finished) and event.outcome.cell.n == 3)
        opener = asyncio.create_task(session.run("gate.set()", background=True))
        outcomes = await asyncio.gather(front, beside, opener)
        assert outcomes[0].epoch == 2
        assert sorted(outcome.epoch for outcome in outcomes[1:]) == [3, 4]
    for epoch in (1, 2, 3, 4):
        async with pyrepl3.open_session("kept", store=store.again()) as session:
            await session.restore(epoch)
            assert await session.fetch("half") is False


async def test_reducers_that_raise_anything_leave_the_session_alive(store, seen):
    async with pyrepl3.open_session("kept", store=store, observe=seen) as session:
        for error in ("ValueError('x')", "SystemExit(1)", "KeyboardInterrupt"):
            outcome = await session.run(
                f"class Bad:\n    def __reduce_ex__(self, version): raise {error}\nbad = Bad(); ok = 1"
            )
            assert outcome.ok
            assert "bad" in session.lost or seen.of(Notice)
        assert (await session.run("1")).value == 1


async def test_a_name_is_needed_to_keep_a_session(tmp_path):
    with pytest.raises(ValueError, match="give a name"):
        async with pyrepl3.open_session(store=tmp_path):
            pass


async def test_a_store_that_cannot_be_read_is_told_on_opening_and_let_go(store):
    async with pyrepl3.open_session("kept", store=store) as session:
        await session.run("x = 1")
    failing = store.again()
    failing.fail_load()
    with pytest.raises(StoreError):
        async with pyrepl3.open_session("kept", store=failing):
            pass
    assert failing.closed
    async with pyrepl3.open_session("kept", store=store.again()) as session:
        assert await session.fetch("x") == 1


# --- the end --------------------------------------------------------------------------------------


async def test_a_closed_session_says_so_whatever_is_asked(seen):
    async with pyrepl3.open_session(observe=seen) as session:
        await session.run("1")
    for call in (
        session.run("1"),
        session.run("1", background=True),
        session.fetch("x"),
        session.variables(),
        session.tasks(),
        session.complete("x"),
        session.explain_mode("x"),
        session.explain_parallel("x"),
        session.walls(),
        session.history(),
        session.restore(1),
    ):
        with pytest.raises(SessionClosedError, match="open it again"):
            await call
    with pytest.raises(SessionClosedError):
        async for _ in session.stream("1"):
            pass
    assert not session.interrupt()
    await session.aclose()
    await session.aclose()


async def test_a_session_is_closed_on_the_loop_that_it_was_opened_on(session):
    def elsewhere(make):
        return asyncio.to_thread(lambda: asyncio.run(make()))

    for make in (session.aclose, session.tasks, lambda: session.run("1")):
        with pytest.raises(SessionError, match="belongs to the event loop it was opened on"):
            await elsewhere(make)
    assert (await session.run("1")).value == 1


async def test_completion_is_at_the_end_unless_told_where(session):
    assert await session.complete("len + prin") == ("print",)
    assert "len" in await session.complete("le + prin", 2)


async def test_closing_interrupts_what_runs_and_refuses_what_waits(store, seen):
    async with pyrepl3.open_session("kept", store=store, observe=seen) as session:
        running = asyncio.create_task(session.run("x = 1\nprint('in')\nwhile True: pass"))
        waiting = asyncio.create_task(session.run("y = 1"))
        beside = asyncio.create_task(
            session.run("import asyncio; await asyncio.sleep(60)", background=True)
        )
        await seen.until_text("in")
    assert isinstance(await running, Interrupted)
    assert isinstance(await beside, Interrupted)
    with pytest.raises(SessionClosedError):
        await waiting
    assert store.closed
    async with pyrepl3.open_session("kept", store=store.again()) as session:
        assert await session.fetch("x") == 1, "the interrupted cell has its epoch"


async def test_closing_from_two_sides_waits_for_the_same_end(seen):
    opening = pyrepl3.open_session(observe=seen)
    session = await opening.__aenter__()
    running = asyncio.create_task(session.run("while True: pass"))
    await seen.until(lambda event: isinstance(event, Started))
    await asyncio.gather(session.aclose(), session.aclose(), opening.__aexit__(None, None, None))
    assert isinstance(await running, Interrupted)


async def test_a_close_that_is_cancelled_still_closes(store, seen):
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            pyrepl3.open_session("kept", store=store, observe=seen)
        )
        running = asyncio.create_task(session.run("while True: pass"))
        await seen.until(lambda event: isinstance(event, Started))
        closing = asyncio.create_task(session.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert store.closed
        assert isinstance(await running, Interrupted)


async def test_threads_of_sessions_end_with_them(store):
    before = set(threading.enumerate())
    async with pyrepl3.open_session("kept", store=store) as session:
        await session.run("x = 1")
        await session.run("import time; time.sleep(0)")
        await session.run("1", background=True)
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("pyrepl3-kept"):
            thread.join(10)
            assert not thread.is_alive(), thread.name


async def test_an_exception_in_the_body_closes_and_passes(seen):
    with pytest.raises(LookupError):
        async with pyrepl3.open_session(observe=seen) as session:
            raise LookupError
    with pytest.raises(SessionClosedError):
        await session.run("1")


async def test_the_caller_s_context_does_not_leak_into_cells():
    variable = contextvars.ContextVar("variable", default="none")
    async with pyrepl3.open_session() as session:
        give(session, "variable", variable)
        variable.set("caller's")
        assert (await session.run("variable.get()")).value == "none"
        await session.run("variable.set('cell')")
        assert variable.get() == "caller's"


@pytest.mark.parametrize("isolation", ["none", "process"])
@pytest.mark.parametrize(
    "given",
    [
        {"name": 3},
        {"store": 3},
        {"config": {}},
        {"limits": 5},
        {"limits": {"wall": 5}},
        {"observe": 3},
        {"ask": "yes"},
        {"stages": 3},
        {"durability": 4},
        {"resonate": 4},
        {"preload": 3},
        {"preload": "os"},
        {"python": 3},
        {"pool": 4},
        {"policy": "strict"},
        {"workdir": 3},
        {"tools": 3},
        {"tools": {"a": 3}},
    ],
    ids=repr,
)
def test_an_argument_of_another_kind_is_refused_by_its_name(given, isolation):
    (name,) = given
    with pytest.raises(TypeError, match=name):
        pyrepl3.open_session(**given, isolation=isolation)
