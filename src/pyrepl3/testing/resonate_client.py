"""A connection to a Resonate server in, a client of it out, for checks: answers, and what it hears."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol, Self

FOREVER = 1 << 45  # ms since 1970


class Network(Protocol):
    """Where requests go: resonate_base's Network."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def send(self, req: str, headers: dict[str, str] | None = None) -> str: ...


class Source(Protocol):
    """Where messages come from: resonate_base's Source; may be the same object."""

    def unicast(self) -> str: ...
    def resolve_target(self, target: str) -> str: ...
    def recv(self, callback: Callable[[str], None]) -> None: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


type Connect = Callable[[str], tuple[Network, Source]]
"""Makes a connection, not yet started, that belongs to the group whose name is given."""

type Advance = Callable[[int], None]
"""Sets the server's clock forward to a time, in ms since 1970."""


class Client:
    """One connection, and what the checks do with it."""

    def __init__(self, connect: Connect, advance: Advance | None = None) -> None:
        self.advance = advance or (lambda _: None)  # it comes by itself
        self.run = uuid.uuid4().hex[:12]
        self.network, self.source = connect(f"checks-{self.run}")
        self.address = self.source.unicast()
        self.target = {"resonate:target": self.source.resolve_target(f"checks-{self.run}")}
        self._heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._kept: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        self.source.recv(lambda text: self._heard.put_nowait(json.loads(text)))
        for connection in self._connections():
            await connection.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._connections():
            await connection.stop()

    def _connections(self) -> list[Network | Source]:
        both: list[Network | Source] = [self.source]
        return both if id(self.network) == id(self.source) else [*both, self.network]

    def name(self, name: str) -> str:
        """An id that nobody else has."""
        return f"{name}-{self.run}"

    async def ask(self, kind: str, **data: Any) -> tuple[int, Any]:
        """The status and the data of an answer, whose envelope is checked."""
        corr_id = uuid.uuid4().hex
        head = {"corrId": corr_id, "version": "2026-04-01"}
        text = json.dumps({"kind": kind, "head": head, "data": data})
        origin = str(data.get("id") or data.get("awaited") or "default").partition(":")[0]
        answer = json.loads(await self.network.send(text, {"resonate:origin": origin}))
        assert answer["kind"] == kind
        assert answer["head"]["corrId"] == corr_id
        status = answer["head"]["status"]
        return 200 if status == 201 else status, answer["data"]

    async def get(self, kind: str, **data: Any) -> Any:
        """The data of an answer that must be a good one."""
        status, found = await self.ask(kind, **data)
        assert status == 200, (kind, status, found)
        return found

    async def create(self, name: str, *, lasts: int = FOREVER, **tags: str) -> dict[str, Any]:
        """A promise; tags are given without their ``resonate:``."""
        marked = {f"resonate:{name}": value for name, value in tags.items()}
        now = int(time.time() * 1000)
        found = await self.get(
            "promise.create", id=self.name(name), timeoutAt=now + lasts, param={}, tags=marked
        )
        promise: dict[str, Any] = found["promise"]
        return promise

    async def schedule(self, name: str, cron: str) -> Any:
        """A schedule; what it makes has a task of ours, and is called by its name and the time in ms."""
        wanted = {
            "id": self.name(name),
            "cron": cron,
            "promiseId": self.name(f"{name}-{{{{.timestamp}}}}"),
            "promiseTimeout": 1_000_000,
            "promiseParam": {"headers": {}, "data": "MQ=="},
            "promiseTags": self.target,
        }
        return (await self.get("schedule.create", **wanted))["schedule"]

    async def settle(self, name: str, state: str = "resolved", data: str = "MQ==") -> Any:
        """A promise, settled."""
        value = {"headers": {}, "data": data}
        found = await self.get("promise.settle", id=self.name(name), state=state, value=value)
        return found["promise"]

    async def hear(self, kind: str, name: str) -> dict[str, Any]:
        """The next message of this kind about this promise or its task; others are kept for later."""
        while True:
            for message in self._kept:
                data = message["data"]
                about = data["task"] if message["kind"] == "execute" else data["promise"]
                if (message["kind"], about["id"]) == (kind, self.name(name)):
                    self._kept.remove(message)
                    return about  # type: ignore[no-any-return]  # it is JSON
            self._kept.append(await self._heard.get())

    async def acquire(self, name: str, message: dict[str, Any]) -> int:
        """Take a task that we were told of. Returns the version that it is held under."""
        found = await self.get(
            "task.acquire", id=self.name(name), version=message["version"], pid=self.run, ttl=60_000
        )
        assert found["task"]["state"] == "acquired"
        assert found["promise"]["id"] == self.name(name)
        return int(found["task"]["version"])

    async def work(self, name: str) -> int:
        """Make a promise with a task, and acquire it."""
        await self.create(name, target=self.target["resonate:target"])
        return await self.acquire(name, await self.hear("execute", name))

    async def until_settled(self, name: str) -> dict[str, Any]:
        """A promise once its time is up, whenever the server looks."""
        while True:
            found = await self.get("promise.get", id=self.name(name))
            promise: dict[str, Any] = found["promise"]
            if promise["state"] != "pending":
                return promise
            await asyncio.sleep(0.01)
