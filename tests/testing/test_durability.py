"""The fake Durability keeps the port's promises."""

from __future__ import annotations

import pytest

from pyrepl3.errors import DurabilityError
from pyrepl3.records import Kept
from pyrepl3.testing.durability import FakeDurability, durability_checks


@pytest.mark.parametrize("check", durability_checks(), ids=lambda check: check.name)
def test_the_fake_durability(check):
    places = [FakeDurability()]

    def reopen():
        places.append(places[-1].again())
        return places[-1]

    check.run(reopen)


def test_it_fails_once_when_told_to():
    fake = FakeDurability()
    fake.fail_next()
    kept = Kept(mark="f()", data=b"")
    with pytest.raises(DurabilityError):
        fake.step("a-1", kept).result(0)
    assert fake.find("a-1").result(0) is None
    assert fake.step("a-1", kept).result(0) == kept
