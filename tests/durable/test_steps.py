"""Steps on Resonate promises keep the port's promises, in a file and over the SDK's client."""

from __future__ import annotations

import pytest
from resonate.connections.local import LocalConnection

from pyrepl3.durable.embedded import Embedded
from pyrepl3.durable.local import LocalPromises
from pyrepl3.durable.remote import RemotePromises
from pyrepl3.durable.steps import ResonateDurability
from pyrepl3.testing.durability import durability_checks


class Memory(LocalConnection):
    """The SDK's connection, which knows no search, on a state that outlives it."""

    def __init__(self, state):
        super().__init__()
        if state:
            self.state = state[0]
        state.append(self.state)
        original = self.state.apply if not hasattr(self.state, "plain") else self.state.plain
        self.state.plain = original

        def apply(now, request):
            if request["kind"] != "promise.search":
                return original(now, request)
            found = [
                promise.to_record()
                for promise in self.state.promises.values()
                if promise.state == request["state"]
                and request["tags"].items() <= promise.tags.items()
            ]
            return {"kind": "promise.search", "corrId": request["corrId"], "promises": found}

        self.state.apply = apply


@pytest.mark.parametrize("check", durability_checks(), ids=lambda check: check.name)
def test_steps_over_the_sdk_s_client(check, tmp_path):
    state = []

    def connect():
        memory = Memory(state)
        return memory, [memory]

    def open_promises():
        return RemotePromises(connect)

    check.run(lambda: ResonateDurability(open_promises, name="demo", folder=tmp_path / "steps"))


@pytest.mark.parametrize("check", durability_checks(), ids=lambda check: check.name)
def test_steps_on_the_embedded_server(check, tmp_path):
    def open_promises():
        return LocalPromises(Embedded(tmp_path / "durable.db"))

    check.run(lambda: ResonateDurability(open_promises, name="demo", folder=tmp_path / "steps"))
