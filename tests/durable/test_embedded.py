"""Durable state in a file: what was answered is there after any end, and the SDK works on it as it is."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading

import msgspec
import pytest
from resonate.error import ApplicationError
from resonate.heartbeat import NoopHeartbeat
from resonate.resonate import Resonate
from resonate.retry import Never
from resonate_base import ConnectorError

from pyrepl3.durable import embedded, rows
from pyrepl3.durable.embedded import EMBEDDED, Embedded, now_ms
from pyrepl3.durable.rows import Rows
from pyrepl3.durable.state.machine import Machine
from pyrepl3.durable.state.records import Query
from pyrepl3.durable.state.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseSearch,
    PromiseSettle,
    ScheduleCreate,
    TaskAcquire,
    read_data,
)
from pyrepl3.errors import DurabilityError, StoreCorruptError, StoreError

FOREVER = 1 << 50
VALUE = msgspec.Raw(b'{"data":"MQ=="}')


@pytest.fixture
def opened(tmp_path):
    """Opens the same file again at each call; what was open is closed."""
    connections = []

    def open_again(**options):
        for connection in connections:
            connection.close()
        connections.append(Embedded(tmp_path / "durable.db", **options))
        return connections[-1]

    yield open_again
    for connection in connections:
        connection.close()


def ask(connection, request):
    return connection.request(request).result(10)


def test_what_was_settled_is_there_when_the_file_is_opened_again(opened):
    first = opened()
    assert ask(first, PromiseCreate(id="a", timeout_at=FOREVER)).status == 200
    assert ask(first, PromiseSettle(id="a", state="resolved", value=VALUE)).status == 200
    found = ask(opened(), PromiseGet(id="a")).data["promise"]
    assert (found.state, bytes(found.value)) == ("resolved", bytes(VALUE))


def test_a_second_opener_is_told_who_has_the_file(tmp_path, opened):
    opened()
    with pytest.raises(StoreError, match=r"in use by pid \d+"):
        Embedded(tmp_path / "durable.db")


async def test_a_workflow_of_the_sdk_runs_on_it(opened):
    connection = opened()
    resonate = Resonate(network=connection, heartbeat=NoopHeartbeat(), autostart=False)

    async def leaf(ctx, n):
        return n

    async def work(ctx, n):
        return [await ctx.run(leaf, i) for i in range(n)]

    resonate.register(leaf)
    resonate.register(work)
    resonate.start()
    async with asyncio.timeout(20):
        assert await resonate.run("here", work, 3).result() == [0, 1, 2]
        assert await resonate.rpc("sent", work, 3).result() == [0, 1, 2]
    await resonate.stop()


def watch(connection, id_):
    """A future of its end; the connection knows of it already."""
    future = connection.settled(id_)
    assert ask(connection, PromiseGet(id=id_)).status == 200
    return future


# --- answers and commits ----------------------------------------------------------------------------


@pytest.fixture
def commits(monkeypatch):
    """What was committed and when: each entry is made before the commit begins."""
    seen, commit = [], Rows.commit

    def counted(self):
        if self.open:
            seen.append("commit")
        commit(self)

    monkeypatch.setattr(Rows, "commit", counted)
    return seen


def hold(monkeypatch):
    """Keep the next commit from ending until the event is set. Returns (it has begun, it may end)."""
    begun, may_end, commit = threading.Event(), threading.Event(), Rows.commit

    def held(self):
        if self.open:
            begun.set()
            assert may_end.wait(10)
        commit(self)

    monkeypatch.setattr(Rows, "commit", held)
    return begun, may_end


def test_an_answer_goes_out_only_after_its_commit(opened, monkeypatch):
    connection = opened()
    begun, may_end = hold(monkeypatch)
    future = connection.request(PromiseCreate(id="a", timeout_at=FOREVER))
    assert begun.wait(10)
    assert not future.done()
    may_end.set()
    assert future.result(10).status == 200


def test_requests_that_come_while_a_commit_is_under_way_share_the_next(
    opened, monkeypatch, commits
):
    connection = opened()
    commits.clear()
    begun, may_end = hold(monkeypatch)
    first = connection.request(PromiseCreate(id="first", timeout_at=FOREVER))
    assert begun.wait(10)
    others = [connection.request(PromiseCreate(id=f"n{n}", timeout_at=FOREVER)) for n in range(50)]
    may_end.set()
    assert [future.result(10).status for future in (first, *others)] == [200] * 51
    assert len(commits) == 2


def test_a_promise_that_is_made_again_when_it_is_gone_needs_no_commit_of_its_own(opened, commits):
    connection = opened()
    commits.clear()
    local = {"resonate:scope": "local"}
    assert ask(connection, PromiseCreate(id="a", timeout_at=FOREVER, tags=local)).status == 200
    assert ask(connection, PromiseGet(id="a")).data["promise"].state == "pending"
    assert commits == []
    ask(connection, PromiseSettle(id="a", state="resolved"))
    assert commits == ["commit"]
    assert ask(opened(), PromiseGet(id="a")).data["promise"].state == "resolved"


def test_closing_answers_what_has_come_in_and_then_refuses(opened):
    connection = opened()
    futures = [connection.request(PromiseCreate(id=str(n), timeout_at=FOREVER)) for n in range(20)]
    connection.close()
    connection.close()
    assert [future.result(0).status for future in futures] == [200] * 20
    with pytest.raises(DurabilityError, match="closed"):
        connection.request(PromiseGet(id="0"))


async def test_a_closed_connection_raises_what_the_sdk_expects(opened):
    connection = opened()
    await connection.stop()
    with pytest.raises(ConnectorError, match="closed"):
        await connection.send('{"kind": "promise.get", "data": {"id": "a"}}')


async def test_what_is_no_request_at_all_raises_what_the_sdk_expects(opened):
    with pytest.raises(ConnectorError, match="truncated"):
        await opened().send("{")


# --- the disk ---------------------------------------------------------------------------------------


def fail(monkeypatch, name, times):
    """Let a method of the rows fail so many times, as a full disk would."""
    left, original = [times], getattr(Rows, name)

    def failing(self, *args):
        if left[0]:
            left[0] -= 1
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return original(self, *args)

    monkeypatch.setattr(Rows, name, failing)


@pytest.mark.parametrize("name", ["commit", "write"])
def test_a_full_disk_is_told_and_what_was_kept_before_stays(opened, monkeypatch, name):
    connection = opened()
    ask(connection, PromiseCreate(id="a", timeout_at=FOREVER))
    with monkeypatch.context() as patch:
        fail(patch, name, 1)
        with pytest.raises(DurabilityError, match="the disk is full: free some space"):
            ask(connection, PromiseSettle(id="a", state="resolved"))
    assert ask(connection, PromiseGet(id="a")).data["promise"].state == "pending"
    assert ask(connection, PromiseSettle(id="a", state="resolved")).status == 200
    assert ask(opened(), PromiseGet(id="a")).data["promise"].state == "resolved"


def test_a_file_that_cannot_grow_is_told_by_sqlite_itself(opened):
    connection = opened()
    ask(connection, PromiseCreate(id="a", timeout_at=FOREVER))
    db = connection._rows._db
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    big = msgspec.Raw(b'{"data":"%s"}' % (b"A" * 1_000_000))
    for _ in range(2):
        with pytest.raises(DurabilityError, match="the disk is full"):
            ask(connection, PromiseSettle(id="a", state="resolved", value=big))
    db.execute("PRAGMA max_page_count = 1000000")
    assert ask(connection, PromiseSettle(id="a", state="resolved", value=big)).status == 200
    assert bytes(ask(opened(), PromiseGet(id="a")).data["promise"].value) == bytes(big)


def test_who_waits_for_a_promise_hears_of_it_though_the_disk_failed_meanwhile(opened, monkeypatch):
    connection = opened()
    ask(connection, PromiseCreate(id="a", timeout_at=FOREVER))
    waiting = watch(connection, "a")
    with monkeypatch.context() as patch:
        fail(patch, "commit", 1)
        with pytest.raises(DurabilityError):
            ask(connection, PromiseSettle(id="a", state="resolved"))
    assert not waiting.done()
    ask(connection, PromiseSettle(id="a", state="rejected"))
    assert waiting.result(10).state == "rejected"


def test_what_is_due_is_done_when_the_disk_has_recovered(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(embedded, "_PAUSE", 0.01)
    clock = Clock()
    connection = opened(clock=clock)
    ask(connection, PromiseCreate(id="a", timeout_at=clock.now + 1_000))
    waiting = watch(connection, "a")
    with monkeypatch.context() as patch:
        fail(patch, "commit", 3)
        clock.now += 2_000
        connection.nudge()
        assert waiting.result(10).state == "rejected_timedout"


def test_a_file_that_is_none_of_ours_is_left_alone(tmp_path):
    path = tmp_path / "durable.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE mine (x)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreCorruptError, match="not durable state"):
        Embedded(path)
    assert path.read_bytes() == before
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreError):
        Embedded(path)


def test_a_file_of_a_newer_version_is_refused(tmp_path, opened):
    opened().close()
    db = sqlite3.connect(tmp_path / "durable.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="upgrade pyrepl3"):
        Embedded(tmp_path / "durable.db")


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(StoreError):
        Embedded(tmp_path / "missing" / "durable.db")


# --- time -------------------------------------------------------------------------------------------


class Clock:
    def __init__(self):
        self.now = 1_000_000

    def __call__(self):
        return self.now


def test_a_timeout_comes_when_it_is_due_and_is_found_after_a_restart(opened):
    clock = Clock()
    connection = opened(clock=clock)
    timer = {"resonate:timer": "true"}
    ask(connection, PromiseCreate(id="a", timeout_at=clock.now + 5_000, tags=timer))
    ask(connection, PromiseCreate(id="b", timeout_at=clock.now + 5_000))
    clock.now += 4_999
    connection.nudge()
    assert ask(connection, PromiseGet(id="a")).data["promise"].state == "pending"
    connection = opened(clock=clock)
    waiting = watch(connection, "a"), watch(connection, "b")
    clock.now += 1
    connection.nudge()
    assert [future.result(10).state for future in waiting] == ["resolved", "rejected_timedout"]


def test_a_timeout_needs_nobody_to_look_at_it(opened):
    connection = opened()
    ask(connection, PromiseCreate(id="a", timeout_at=now_ms() + 30))
    assert connection.settled("a").result(10).state == "rejected_timedout"


def test_a_schedule_fires_and_goes_on_after_a_restart(opened):
    clock = Clock()
    connection = opened(clock=clock)
    tags = {"resonate:target": "poll://any@w"}
    ask(
        connection,
        ScheduleCreate(
            id="s", cron="* * * * *", promise_id="{{.id}}-{{.timestamp}}", promise_timeout=FOREVER, promise_tags=tags
        ),
    )  # fmt: skip
    clock.now += 60_000
    connection.nudge()
    connection = opened(clock=clock)
    clock.now += 120_000
    found = ask(connection, PromiseSearch(state="pending")).data["promises"]
    assert [promise.id for promise in found] == ["s-1020000", "s-1080000", "s-1140000"]


# --- what goes ----------------------------------------------------------------------------------------


def ids(connection, **query):
    return [promise.id for promise in ask(connection, PromiseSearch(**query)).data["promises"]]


def test_what_finished_long_ago_goes_with_all_of_its_lineage_or_stays_with_it(opened):
    clock = Clock()
    connection = opened(clock=clock)
    tags = {"kind": "x"}
    for id_ in ("old", "old:1", "old:1.1", "half", "half:1", "alive", "alive:1", "older", "young"):
        ask(connection, PromiseCreate(id=id_, timeout_at=FOREVER, tags=tags))
    for id_ in ("old", "old:1", "old:1.1", "half", "alive:1", "older"):
        ask(connection, PromiseSettle(id=id_, state="resolved"))
    clock.now += 3_600_000
    for id_ in ("half:1", "young"):
        ask(connection, PromiseSettle(id=id_, state="resolved"))
    assert connection.collect(older=3_600).result(10) == 4
    left = ["alive", "alive:1", "half", "half:1", "young"]
    assert ids(connection) == ids(connection, tags=tags) == left
    clock.now += 3_600_000
    assert connection.collect(older=3_600).result(10) == 3
    assert ids(opened(), tags=tags) == ["alive", "alive:1"]


def test_finished_steps_stay_with_a_cell_that_is_not_over_and_go_with_it(opened):
    clock = Clock()
    connection = opened(clock=clock)
    ask(connection, PromiseCreate(id="a-c1-0", timeout_at=FOREVER, tags={"pyrepl3": "cell"}))
    for id_ in ("a-c1-0-1", "a-c1-0-2", "a-c1"):
        ask(connection, PromiseCreate(id=id_, timeout_at=FOREVER, tags={"pyrepl3": "step"}))
        ask(connection, PromiseSettle(id=id_, state="resolved"))
    clock.now += 3_600_000
    assert connection.collect(older=3_600).result(10) == 1
    assert ids(connection) == ["a-c1-0", "a-c1-0-1", "a-c1-0-2"]
    ask(connection, PromiseSettle(id="a-c1-0", state="rejected_canceled"))
    assert connection.collect(older=3_600).result(10) == 0
    clock.now += 3_600_000
    assert connection.collect(older=3_600).result(10) == 3
    assert ids(connection) == []


def test_collecting_takes_many_lineages_past_one_that_stays(opened, monkeypatch):
    monkeypatch.setattr(rows, "_LINEAGES", 3)
    clock = Clock()
    connection = opened(clock=clock)
    for n in range(10):
        ask(connection, PromiseCreate(id=f"{n}:1", timeout_at=FOREVER))
        ask(connection, PromiseSettle(id=f"{n}:1", state="resolved"))
    for n in (0, 1, 2, 3):
        ask(connection, PromiseCreate(id=str(n), timeout_at=FOREVER))
    clock.now += 1
    assert connection.collect(older=0).result(10) == 6
    assert len(ids(connection)) == 8


def suspend(connection, task, awaited):
    """A task that waits for another promise."""
    target = {"resonate:target": "poll://any@default"}
    ask(connection, PromiseCreate(id=task, timeout_at=FOREVER, tags=target))
    assert ask(connection, TaskAcquire(id=task, version=0, pid="p", ttl=1_000)).status == 200
    waiting = {"awaited": awaited, "awaiter": task}
    actions = [{"kind": "promise.register_callback", "data": waiting}]
    data = {"id": task, "version": 1, "actions": actions}
    asked = read_data("task.suspend", msgspec.Raw(json.dumps(data).encode()))
    assert ask(connection, asked).status == 200


@pytest.mark.parametrize("gone", ["awaited", "awaiter"])
def test_who_waits_for_what_goes_with_either(opened, gone):
    """A row that nobody deletes would be read at each opening, for ever."""
    connection = opened()
    names = {"awaited": "s", "awaiter": "s"} | {gone: "c7-1"}
    outside = {"resonate:external": "true"}
    ask(connection, PromiseCreate(id=names["awaited"], timeout_at=FOREVER, tags=outside))
    suspend(connection, names["awaiter"], names["awaited"])
    assert connection._rows.waits() == [(names["awaited"], names["awaiter"])]
    connection.forget("c7-").result(10)
    assert connection._rows.waits() == []


def test_a_collection_lets_others_in_between(tmp_path, monkeypatch):
    """A transaction of few lineages at a time; each is looked at once."""
    monkeypatch.setattr(rows, "_LINEAGES", 3)
    found = Rows(tmp_path / "durable.db", "FULL")
    machine = Machine(found, EMBEDDED)
    for n in range(5):
        for id_ in (str(n), f"{n}:1"):
            machine.apply(PromiseCreate(id=id_, timeout_at=FOREVER))
            machine.apply(PromiseSettle(id=id_, state="resolved"))
    found.write(machine.take_changes())
    found.commit()
    far = 1 << 60
    found.collect(far)
    found.rollback()  # as a crash in the middle of it does
    assert [found.collect(far), found.collect(far), found.collect(far)] == [
        (6, True),
        (4, False),
        (0, False),
    ]
    found.close()


@pytest.mark.parametrize(("wanted", "level"), [(None, 2), ("FULL", 2), ("NORMAL", 1)])
def test_each_commit_is_synced_unless_normal_is_asked_for(opened, wanted, level):
    connection = opened(**({} if wanted is None else {"synchronous": wanted}))
    connection._rows._db.execute("SELECT 1")
    assert connection._rows._db.execute("PRAGMA synchronous").fetchone() == (level,)


def test_what_is_forgotten_was_never_there(opened):
    clock = Clock()
    connection = opened(clock=clock)
    for id_ in ("c7-1", "c7-2", "c70-1"):
        ask(connection, PromiseCreate(id=id_, timeout_at=clock.now + 10, tags={"kind": "x"}))
    ask(connection, PromiseSettle(id="c7-1", state="resolved"))
    connection.forget("c7-").result(10)
    assert ids(connection) == ids(connection, tags={"kind": "x"}) == ["c70-1"]
    clock.now += 20
    assert ids(connection, state="rejected_timedout") == ["c70-1"]
    assert ids(opened()) == ["c70-1"]


# --- tasks that cannot be done --------------------------------------------------------------------------

QUICK = msgspec.structs.replace(EMBEDDED, tries=3, backoff=1)


async def run_on(connection, *functions, call=None):
    """What a function came to, sent as a task to a Resonate that knows only ``functions``."""
    resonate = Resonate(
        network=connection,
        heartbeat=NoopHeartbeat(),
        autostart=False,
        retry_policy=Never(),
        subscription_refresh_secs=0,
        observer=lambda event: None,
    )
    for function in functions:
        resonate.register(function)
    resonate.start()
    try:
        async with asyncio.timeout(20):
            return await resonate.rpc("w", call or functions[0].__name__).result()
    finally:
        await resonate.stop()


async def test_a_function_that_is_not_registered_ends_in_a_stored_error(opened):
    connection = opened(rules=QUICK)
    with pytest.raises(ApplicationError, match=r"tried 3 times: .* not registered"):
        await run_on(connection, call="unknown")
    assert ask(opened(), PromiseGet(id="w")).data["promise"].state == "rejected"


async def test_a_value_that_cannot_be_encoded_ends_in_a_stored_error_after_a_few_runs(opened):
    runs = []

    async def odd(ctx):
        runs.append(1)
        return object()

    with pytest.raises(ApplicationError, match="cannot be written as JSON"):
        await run_on(opened(rules=QUICK), odd)
    assert len(runs) == 3


async def test_a_step_that_always_fails_fails_its_workflow(opened):
    async def bad(ctx):
        raise ValueError("no")

    async def work(ctx):
        return await ctx.run(bad)

    with pytest.raises(ValueError, match="no"):
        await run_on(opened(rules=QUICK), work, bad)


async def test_fifty_megabytes_are_refused_at_once_and_the_reason_is_stored(opened):
    runs = []

    async def big(ctx):
        runs.append(1)
        return "x" * 50_000_000

    with pytest.raises(ApplicationError, match=r"tried once: .*16,777,216 that a promise may hold"):
        await run_on(opened(rules=QUICK), big)
    assert runs == [1]


async def test_a_task_that_was_held_is_released_at_the_next_opening(opened):
    connection = opened()
    create = PromiseCreate(
        id="w", timeout_at=FOREVER, tags={"resonate:target": "embedded://any@default"}
    )
    ask(connection, create)
    assert ask(connection, TaskAcquire(id="w", version=0, pid="p", ttl=1)).status == 200
    heard = asyncio.get_running_loop().create_future()
    connection = opened()
    connection.recv(heard.set_result)
    await connection.start()
    message = json.loads(await asyncio.wait_for(heard, 10))
    assert message["kind"] == "execute"
    assert message["data"] == {"task": {"id": "w", "version": 1}}
    assert ask(connection, TaskAcquire(id="w", version=1, pid="q", ttl=1)).status == 200


# --- how it grows ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_opening_reads_what_is_pending_and_nothing_else(opened, monkeypatch):
    connection = opened(synchronous="NORMAL")
    futures = []
    for n in range(3_000):
        futures.append(connection.request(PromiseCreate(id=str(n), timeout_at=FOREVER)))
        if n >= 3:
            futures.append(connection.request(PromiseSettle(id=str(n), state="resolved")))
    for future in futures:
        assert future.result(30).status == 200
    read, original = [], Rows._read

    def counted(self, row):
        read.append(row)
        return original(self, row)

    monkeypatch.setattr(Rows, "_read", counted)
    connection = opened()
    assert len(read) == 3
    assert ask(connection, PromiseGet(id="2999")).data["promise"].state == "resolved"
    assert len(read) == 4


@pytest.mark.parametrize(
    "query",
    [
        Query(state="pending"),
        Query(tags={"kind": "x"}),
        Query(state="pending", tags={"kind": "x"}),
        Query(tags={"kind": "x", "resonate:timer": "true"}),
        Query(tags={"resonate:origin": "a"}),
        Query(tags={"resonate:branch": "a:1", "kind": "x"}),
    ],
    ids=str,
)
def test_no_search_by_state_or_tag_looks_at_all_promises(query):
    """SQLite says so itself: every table is reached by an index with a bound."""
    found = Rows(":memory:", "NORMAL")
    plans = []
    found._db.set_trace_callback(plans.append)
    found.search(query)
    found._db.set_trace_callback(None)
    plan = [row[3] for row in found._db.execute(f"EXPLAIN QUERY PLAN {plans[0]}")]
    found.close()
    assert plan
    for line in plan:
        assert line.startswith("SEARCH")
        assert "tag" not in line or "name=? AND value=?" in line
        assert "promise_1" not in line or "id>? AND id<?" in line or "id=?" in line or query.state
