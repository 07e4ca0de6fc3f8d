"""Errors about loops and threads, raised for real, get words that help; no running loop is replaced."""

from __future__ import annotations

import asyncio
import gc
import signal
import sqlite3
import threading

import pytest

from pyrepl3.run.recovery import ErrorRecovery, explain_async_context_error

explain = ErrorRecovery.explain_async_context_error
handle = ErrorRecovery.handle_async_context_error


def in_thread(function):
    """What ``function`` gives on a fresh thread, or what it raises."""
    found = []

    def work():
        try:
            found.append(function())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]


def raised(function):
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("it did not raise")


async def nothing():
    pass


async def error_of_asyncio_run():
    coroutine = nothing()
    try:
        return raised(lambda: asyncio.run(coroutine))
    finally:
        coroutine.close()


async def error_of_runner():
    coroutine = nothing()
    try:
        return raised(lambda: asyncio.Runner().run(coroutine))
    finally:
        coroutine.close()


async def error_of_the_same_loop():
    future = asyncio.get_running_loop().create_future()
    return raised(lambda: asyncio.get_running_loop().run_until_complete(future))


async def error_of_another_loop():
    loop = asyncio.new_event_loop()
    coroutine = nothing()
    try:
        return raised(lambda: loop.run_until_complete(coroutine))
    finally:
        coroutine.close()
        loop.close()


async def error_without_a_loop():
    return in_thread(asyncio.get_running_loop)


async def error_without_a_set_loop():
    return in_thread(asyncio.get_event_loop)


async def error_of_closing():
    return raised(asyncio.get_running_loop().close)


async def error_of_signal():
    return in_thread(lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


async def error_of_add_signal_handler():
    def add():
        async def main():
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)

        asyncio.run(main())

    return in_thread(add)


async def error_of_a_foreign_future():
    other = asyncio.new_event_loop()
    future = other.create_future()
    try:
        await future
    except RuntimeError as error:
        return error
    finally:
        other.close()


async def error_of_a_foreign_queue():
    queue = asyncio.Queue()

    async def get():
        await queue.get()

    in_thread(lambda: asyncio.run(asyncio.wait_for(get(), 0.001)))
    try:
        await asyncio.wait_for(queue.get(), 60)
    except RuntimeError as error:
        return error


async def error_of_sqlite():
    connection = sqlite3.connect(":memory:")
    try:
        return in_thread(lambda: connection.execute("select 1"))
    finally:
        connection.close()


CURED = {
    error_of_asyncio_run: "write `await main()` instead of `asyncio.run(main())`",
    error_of_runner: "write `await main()`",
    error_of_the_same_loop: "instead of `loop.run_until_complete(f())`",
    error_of_another_loop: "`await asyncio.to_thread(asyncio.run, f())`",
    error_without_a_loop: "asyncio.run_coroutine_threadsafe(f(), loop)",
    error_without_a_set_loop: "`asyncio.get_running_loop()` in a cell that awaits",
    error_of_closing: "leave the call out",
    error_of_signal: "does not run on the main thread",
    error_of_add_signal_handler: "does not run on the main thread",
    error_of_a_foreign_future: "make it anew in a cell that awaits",
    error_of_a_foreign_queue: "make it anew in a cell that awaits",
    error_of_sqlite: "check_same_thread=False",
}


@pytest.mark.parametrize("make", CURED, ids=lambda make: make.__name__)
async def test_what_python_really_raises_is_explained(make):
    error = await make()
    assert CURED[make] in explain(error)
    assert explain(error) == explain_async_context_error(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("boom"),
        RuntimeError(),
        RuntimeError(1),
        RuntimeError("my worker: no running event loop, giving up"),
        ValueError("signal only works in main thread, says the manual"),
        KeyError("no running event loop"),
        Exception("This event loop is already running"),
        sqlite3.OperationalError("no such table: t"),
        asyncio.CancelledError(),
        SyntaxError("'await' outside function"),
    ],
    ids=repr,
)
def test_what_users_say_in_their_own_words_is_not(error):
    assert explain(error) is None


def test_a_thread_without_a_loop_gets_one_once():
    def work():
        error = raised(asyncio.get_running_loop)
        first = handle(error)
        loop = asyncio.get_event_loop()
        return first, loop.run_until_complete(asyncio.sleep(0, "ran")), handle(error), loop

    first, value, again, loop = in_thread(work)
    assert (first, value) == (True, "ran")
    assert again is False  # there was one to use: nothing to recover from
    gc.collect()
    assert loop.is_closed()  # ours, so it went with its thread


def test_a_closed_loop_is_replaced_and_an_open_one_is_not():
    def work():
        mine = asyncio.new_event_loop()
        asyncio.set_event_loop(mine)
        kept = handle(RuntimeError("no running event loop")), asyncio.get_event_loop() is mine
        mine.close()
        replaced = handle(RuntimeError("Event loop is closed")), asyncio.get_event_loop() is mine
        return kept, replaced

    assert in_thread(work) == ((False, True), (True, False))


async def test_a_running_loop_is_never_replaced():
    running = asyncio.get_running_loop()
    assert handle(RuntimeError("no running event loop")) is False
    assert handle(RuntimeError("Event loop is closed")) is False
    assert asyncio.get_running_loop() is asyncio.get_event_loop() is running


def test_other_errors_set_no_loop():
    def work():
        answer = handle(RuntimeError("This event loop is already running"))
        return answer, isinstance(raised(asyncio.get_event_loop), RuntimeError)

    assert in_thread(work) == (False, True)


def test_the_specifications_handler_gives_source():
    broken = "if x\n    print 'y'"
    with pytest.raises(SyntaxError) as caught:
        compile(broken, "<cell>", "exec")
    fixed = ErrorRecovery.handle_compilation_error(caught.value, broken)
    assert fixed == "if x:\n    print('y')"
    assert ErrorRecovery.propose(broken).source == fixed


def test_where_nothing_is_found_the_handler_gives_the_code_back():
    code = "invalid python code {[}"
    assert ErrorRecovery.handle_compilation_error(SyntaxError("invalid syntax"), code) is code


def test_proposing_runs_nothing():
    ErrorRecovery.handle_compilation_error(
        SyntaxError("invalid syntax", ("<cell>", 1, 1, None)), "raise SystemExit('ran')\nif x\n  y"
    )
