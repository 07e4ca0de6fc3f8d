"""SqliteStore keeps the promises of its port, on disk and in memory."""

from __future__ import annotations

import msgspec
import pytest

from pyrepl3.store.sqlite import SqliteStore
from pyrepl3.testing.conformance import store_checks


@pytest.mark.slow
@pytest.mark.parametrize("check", store_checks(), ids=lambda check: check.name)
def test_on_disk(check, tmp_path):
    check.run(lambda: lambda: SqliteStore(tmp_path / "session"))


@pytest.mark.parametrize("check", store_checks(durable=False), ids=lambda check: check.name)
def test_in_memory(check):
    check.run(lambda: lambda: SqliteStore(":memory:"))


def test_a_store_that_forgets_is_found():
    """The checks can fail: a store that drops every third blob does not pass."""
    opened = []

    class Forgetful(SqliteStore):
        def __init__(self):
            super().__init__(":memory:")
            opened.append(self)

        def commit(self, delta, receipt, *, parent):
            delta = msgspec.structs.replace(delta, blobs=delta.blobs[:2])
            return super().commit(delta, receipt, parent=parent)

    failed = []
    for check in store_checks(durable=False):
        try:
            check.run(lambda: Forgetful)
        except AssertionError:
            failed.append(check.name)
        for store in opened:
            store.close()
    assert {"what_is_committed_is_loaded", "odd_names_and_big_blobs_can_be_stored"} <= set(failed)
