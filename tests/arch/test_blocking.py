"""The caller's event loop: nothing that a session does on it may block it."""

from __future__ import annotations

import time

import pytest
from blockbuster import BlockingError, blockbuster_ctx

import pyrepl3

OURS = ["pyrepl3.session", "pyrepl3.engine"]


async def test_a_session_never_blocks_the_loop_of_its_caller(tmp_path):
    """Opening, running, committing, going back and closing: each blocking call is on a thread of its own."""
    with blockbuster_ctx(OURS):
        async with pyrepl3.open_session("kept", store=tmp_path) as session:
            assert (await session.run("import time; time.sleep(0.01); x = 1")).ok
            assert (await session.run("open(__import__('os').devnull).close()")).ok
            assert not (await session.run("1 / 0")).ok
            await session.restore(epoch=1)
            assert (await session.run("x")).value == 1
        async with pyrepl3.open_session("kept", store=tmp_path) as session:
            assert (await session.run("x")).value == 1


async def test_the_check_above_would_notice():
    with blockbuster_ctx(__name__), pytest.raises(BlockingError):
        time.sleep(0.001)
