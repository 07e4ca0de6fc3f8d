"""A Runner in a process of its own: the same promises as in this one, and what only a process can do."""

from __future__ import annotations

import pytest

from pyrepl3.isolate.pool import Pool
from pyrepl3.isolate.process import ProcessRunner
from pyrepl3.testing.runner import runner_checks


@pytest.fixture(scope="module")
def pool():
    pool = Pool()
    yield pool
    pool.close()


@pytest.mark.slow
@pytest.mark.parametrize("check", runner_checks(local=False), ids=lambda check: check.name)
async def test_the_conformance_suite(check, pool):
    async def open_runner():
        return ProcessRunner("check", pool=pool)

    await check.run(open_runner)
