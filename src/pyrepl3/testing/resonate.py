"""A way to connect to a Resonate server in, checks that it keeps the protocol out: coroutines that assert.

Use them with any test runner, or with none::

    for check in resonate_checks():
        await check.run(connect)     # connect(): a network and a source of the SDK, not yet started

Every run uses ids of its own, so that they may run against a server that is in use. Schedules know
full minutes only: who can set the server's clock gives ``run`` a function that does, else one is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from pyrepl3.testing.resonate_client import FOREVER, Advance, Client, Connect

PATIENCE = 180.0  # seconds: two full minutes, and some servers look every few seconds only
_MINUTE = 60_000  # ms
_SOON = 150  # ms until something is due


class ResonateCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One promise of the protocol: ``name`` is the claim, ``run`` raises AssertionError if it is not kept."""

    name: str
    check: Callable[[Client], Awaitable[None]]

    async def run(self, connect: Connect, *, advance: Advance | None = None) -> None:
        """Check a server over a new connection. Raises AssertionError, or TimeoutError where it hangs."""
        async with asyncio.timeout(PATIENCE), Client(connect, advance) as client:
            await self.check(client)


def resonate_checks() -> list[ResonateCheck]:
    """All checks, in the order in which a failure is most telling."""
    return [ResonateCheck(name=check.__name__.strip("_"), check=check) for check in _CHECKS]


async def _a_promise_is_made_once(client: Client) -> None:
    first = await client.create("p")
    again = await client.create("p", lasts=5)
    assert first == again
    assert first["state"] == "pending"


async def _a_promise_is_settled_once(client: Client) -> None:
    await client.create("p")
    first = await client.settle("p", "resolved", "MQ==")
    again = await client.settle("p", "rejected", "Mg==")
    assert first == again == (await client.get("promise.get", id=client.name("p")))["promise"]
    assert (first["state"], first["value"]["data"]) == ("resolved", "MQ==")


async def _each_end_that_a_client_may_give_is_kept(client: Client) -> None:
    for state in ("resolved", "rejected", "rejected_canceled"):
        await client.create(state)
        assert (await client.settle(state, state))["state"] == state


async def _what_was_never_made_is_not_found(client: Client) -> None:
    nobody = client.name("nobody")
    assert (await client.ask("promise.get", id=nobody))[0] == 404
    assert (await client.ask("promise.settle", id=nobody, state="resolved", value={}))[0] == 404
    listen = {"awaited": nobody, "address": client.address}
    assert (await client.ask("promise.register_listener", **listen))[0] == 404
    assert (await client.ask("task.acquire", id=nobody, version=0, pid="p", ttl=1))[0] == 404


async def _a_parameter_of_a_megabyte_comes_back_as_it_was(client: Client) -> None:
    param = {"headers": {"odd": "ä\u2028\U0001f600"}, "data": "QUJD" * 250_000}
    data = {"id": client.name("p"), "timeoutAt": FOREVER, "param": param, "tags": {"k": "v"}}
    await client.get("promise.create", **data)
    found = (await client.get("promise.get", id=client.name("p")))["promise"]
    assert found["param"] == param
    assert found["tags"] == {"k": "v"}


async def _of_many_that_make_one_promise_all_get_the_same(client: Client) -> None:
    found = await asyncio.gather(*(client.create("p") for _ in range(20)))
    assert len({promise["createdAt"] for promise in found}) == 1


async def _of_many_that_settle_one_promise_one_wins(client: Client) -> None:
    await client.create("p")
    found = await asyncio.gather(*(client.settle("p", data=f"{n}AAA") for n in range(8)))
    assert len({promise["value"]["data"] for promise in found}) == 1


async def _a_promise_that_others_may_await_is_rejected_when_its_time_is_up(client: Client) -> None:
    made = await client.create("p", lasts=_SOON, external="true")
    listen = {"awaited": client.name("p"), "address": client.address}
    told = (await client.get("promise.register_listener", **listen))["promise"]
    if told["state"] == "pending":  # else it was over by then
        told = await client.hear("unblock", "p")
    assert told["state"] == "rejected_timedout"
    assert told["settledAt"] == made["timeoutAt"]


async def _a_timer_is_resolved_when_its_time_is_up(client: Client) -> None:
    await client.create("p", lasts=_SOON, timer="true")
    assert (await client.until_settled("p"))["state"] == "resolved"


async def _a_promise_whose_time_is_up_before_it_begins_is_settled(client: Client) -> None:
    assert (await client.create("p", lasts=-1000))["state"] == "rejected_timedout"
    assert (await client.create("t", lasts=-1000, timer="true"))["state"] == "resolved"


async def _a_listener_is_told_of_the_end(client: Client) -> None:
    await client.create("p", external="true")
    listen = {"awaited": client.name("p"), "address": client.address}
    assert (await client.get("promise.register_listener", **listen))["promise"][
        "state"
    ] == "pending"
    settled = await client.settle("p")
    assert await client.hear("unblock", "p") == settled


async def _a_listener_that_comes_late_is_given_the_end(client: Client) -> None:
    await client.create("p", external="true")
    settled = await client.settle("p")
    listen = {"awaited": client.name("p"), "address": client.address}
    assert (await client.get("promise.register_listener", **listen))["promise"] == settled


async def _one_worker_holds_a_task(client: Client) -> None:
    await client.create("p", target=client.target["resonate:target"])
    told = await client.hear("execute", "p")
    await client.acquire("p", told)
    again = await client.ask(
        "task.acquire", id=client.name("p"), version=told["version"], pid="other", ttl=60_000
    )
    assert again[0] == 409


async def _a_task_is_made_and_held_at_once(client: Client) -> None:
    data = {"id": client.name("p"), "timeoutAt": FOREVER, "param": {}, "tags": client.target}
    wanted = {
        "pid": client.run,
        "ttl": 60_000,
        "action": {"kind": "promise.create", "head": {}, "data": data},
    }
    found = await client.get("task.create", **wanted)
    assert found["task"]["state"] == "acquired"
    assert (await client.ask("task.create", **wanted))[0] == 409


async def _the_holder_settles_the_promise_of_its_task(client: Client) -> None:
    version = await client.work("p")
    await client.get("promise.register_listener", awaited=client.name("p"), address=client.address)
    wanted = {"id": client.name("p"), "version": version, "action": _settling(client, "p")}
    found = await client.get("task.fulfill", **wanted)
    assert found["promise"]["state"] == "resolved"
    assert await client.hear("unblock", "p") == found["promise"]
    assert (await client.ask("task.fulfill", **wanted))[0] == 409


async def _a_fence_lets_only_the_holder_through(client: Client) -> None:
    version = await client.work("p")
    made = {"id": client.name("c"), "timeoutAt": FOREVER, "param": {}, "tags": {}}
    create = {"kind": "promise.create", "head": {}, "data": made}
    fence = {"id": client.name("p"), "version": version}
    found = await client.get("task.fence", **fence, action=create)
    assert found["action"]["data"]["promise"]["state"] == "pending"
    await client.get("task.release", **fence)
    later = await client.acquire("p", await client.hear("execute", "p"))
    assert (await client.ask("task.fence", **fence, action=_settling(client, "c")))[0] == 409
    assert (await client.get("promise.get", id=client.name("c")))["promise"]["state"] == "pending"
    fence["version"] = later
    found = await client.get("task.fence", **fence, action=_settling(client, "c"))
    assert found["action"]["data"]["promise"]["state"] == "resolved"


async def _a_task_that_waits_goes_on_when_what_it_waits_for_is_settled(client: Client) -> None:
    version = await client.work("p")
    await client.create("a", external="true")
    held = {"id": client.name("p"), "version": version}
    assert (await client.ask("task.suspend", **held, actions=_awaiting(client, "p", "a")))[0] == 200
    assert (await client.ask("task.release", **held))[0] == 409
    await client.settle("a")
    version = await client.acquire("p", await client.hear("execute", "p"))
    held["version"] = version
    status, _ = await client.ask("task.suspend", **held, actions=_awaiting(client, "p", "a"))
    assert status == 300
    await client.get("task.fulfill", **held, action=_settling(client, "p"))


async def _a_task_goes_on_when_what_it_waits_for_times_out(client: Client) -> None:
    version = await client.work("p")
    await client.create("a", lasts=_SOON, timer="true")
    held = {"id": client.name("p"), "version": version}
    status, _ = await client.ask("task.suspend", **held, actions=_awaiting(client, "p", "a"))
    if status == 200:  # else it was over by then
        await client.hear("execute", "p")


async def _whoever_holds_a_task_may_say_so_at_any_time(client: Client) -> None:
    version = await client.work("p")
    beat = {"pid": client.run, "tasks": [{"id": client.name("p"), "version": version}]}
    await client.get("task.heartbeat", **beat)
    held = {"id": client.name("p"), "version": version}
    await client.get("task.fulfill", **held, action=_settling(client, "p"))
    await client.get("task.heartbeat", **beat)


async def _a_schedule_is_kept_until_it_is_removed(client: Client) -> None:
    made = await client.schedule("s", "0 0 1 1 *")
    assert made == (await client.get("schedule.get", id=client.name("s")))["schedule"]
    assert made["cron"] == "0 0 1 1 *"
    await client.get("schedule.delete", id=client.name("s"))
    assert (await client.ask("schedule.get", id=client.name("s")))[0] == 404


async def _a_schedule_fires_at_each_time_that_it_names(client: Client) -> None:
    await client.schedule("gone", "* * * * *")
    await client.get("schedule.delete", id=client.name("gone"))
    made = await client.schedule("kept", "* * * * *")
    due = made["nextRunAt"]
    assert due % _MINUTE == 0
    assert made["createdAt"] < due <= made["createdAt"] + _MINUTE
    try:
        for at in (due, due + _MINUTE):
            client.advance(at)
            name = f"kept-{at}"
            version = await client.acquire(name, await client.hear("execute", name))
            promise = (await client.get("promise.get", id=client.name(name)))["promise"]
            assert promise["param"] == made["promiseParam"]
            assert promise["timeoutAt"] == at + made["promiseTimeout"]
            assert promise["tags"].items() >= client.target.items()
            held = {"id": client.name(name), "version": version}
            await client.get("task.fulfill", **held, action=_settling(client, name))
            found = (await client.get("schedule.get", id=client.name("kept")))["schedule"]
            assert (found["lastRunAt"], found["nextRunAt"]) == (at, at + _MINUTE)
            assert (await client.ask("promise.get", id=client.name(f"gone-{at}")))[0] == 404
    finally:
        await client.get("schedule.delete", id=client.name("kept"))


async def _what_is_found_by_tags_comes_in_pages(client: Client) -> None:
    names = sorted(f"p{n}" for n in range(5))
    for name in names:
        await client.create(name, external="true", kind=client.run)
    await client.settle(names[0])
    tags = {"resonate:kind": client.run}
    status, page = await client.ask("promise.search", state="pending", tags=tags, limit=3)
    if status == 501:
        return  # some servers have no search
    found = [promise["id"] for promise in page["promises"]]
    assert len(found) == 3
    page = await client.get(
        "promise.search", state="pending", tags=tags, limit=3, cursor=page["cursor"]
    )
    found += [promise["id"] for promise in page["promises"]]
    assert sorted(found) == [client.name(name) for name in names[1:]]
    assert page["cursor"] is None


async def _what_makes_no_sense_is_refused(client: Client) -> None:
    await client.create("p")
    version = await client.work("w")
    held = {"id": client.name("w"), "version": version}
    for state in ("pending", "rejected_timedout"):
        settle: dict[str, Any] = {"id": client.name("p"), "state": state, "value": {}}
        assert (await client.ask("promise.settle", **settle))[0] == 400
    for awaited, status in (("w", 400), ("nobody", 422), ("p", 422)):
        actions = _awaiting(client, "w", awaited)
        assert (await client.ask("task.suspend", **held, actions=actions))[0] == status
    assert (await client.ask("task.suspend", **held, actions=[]))[0] == 400
    await client.get("task.fulfill", **held, action=_settling(client, "w"))


def _settling(client: Client, name: str) -> dict[str, Any]:
    data = {"id": client.name(name), "state": "resolved", "value": {"headers": {}, "data": "MQ=="}}
    return {"kind": "promise.settle", "head": {}, "data": data}


def _awaiting(client: Client, awaiter: str, awaited: str) -> list[dict[str, Any]]:
    data = {"awaited": client.name(awaited), "awaiter": client.name(awaiter)}
    return [{"kind": "promise.register_callback", "head": {}, "data": data}]


_CHECKS = [
    check
    for name, check in list(globals().items())
    if name.startswith("_") and asyncio.iscoroutinefunction(check)
]
