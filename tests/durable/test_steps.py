"""Steps on Resonate promises keep the port's promises, with the SDK's own memory behind them."""

from __future__ import annotations

import pytest
from resonate.connections.local import LocalConnection

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
def test_steps_on_promises(check, tmp_path):
    state = []

    def connect():
        memory = Memory(state)
        return memory, [memory]

    check.run(
        lambda: ResonateDurability(connect, name="demo", folder=tmp_path / "steps", ordered=True)
    )
