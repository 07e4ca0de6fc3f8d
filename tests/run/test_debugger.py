"""Cells under a debugger, driven by a client of the Debug Adapter Protocol over its socket.

Each test has a worker process: a process that has been debugged is never quite the same again. What holds
in the caller's own process is in ``debugged_here.py``, which runs in one.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import pyrepl3
from pyrepl3.testing.dap import DapClient, RefusedError

pytestmark = pytest.mark.slow


class Debuggee:
    """A session and the client that is attached to its process."""

    def __init__(self, session, client, folder):
        self.session, self.client, self.folder = session, client, Path(folder)
        self.thread = None
        self.frame = None
        self.task = None

    def run(self, source, **options):
        self.task = asyncio.create_task(self.session.run(source, **options))

    async def stopped(self, reason=None):
        """Where it stopped: names and lines of the frames, innermost first."""
        event = await self.client.event("stopped")
        assert reason in (None, event["reason"])
        self.thread = event["threadId"]
        return await self.where()

    async def where(self):
        frames = (await self.client.request("stackTrace", threadId=self.thread))["stackFrames"]
        self.frame = frames[0]["id"]
        self.path = frames[0]["source"]["path"]
        return [(f["name"], f["line"]) for f in frames if "cell" in f["source"]["path"]]

    async def go(self, command):
        await self.client.request(command, threadId=self.thread)

    async def step(self, command):
        await self.go(command)
        return (await self.stopped("step"))[0]

    async def eval(self, text):
        return (await self.client.request("evaluate", expression=text, frameId=self.frame))[
            "result"
        ]

    async def variables(self):
        scopes = (await self.client.request("scopes", frameId=self.frame))["scopes"]
        ref = scopes[0]["variablesReference"]
        found = (await self.client.request("variables", variablesReference=ref))["variables"]
        return ref, {each["name"]: each for each in found}


@asynccontextmanager
async def debug(*, exceptions=(), **options):
    async with pyrepl3.open_session(isolation="process", **options) as session:
        server = await session.debug()
        async with await DapClient.connect(server.host, server.port) as client:
            await client.attach()
            await client.request("setExceptionBreakpoints", filters=list(exceptions))
            await client.request("configurationDone")
            yield Debuggee(session, client, server.folder)


async def test_a_breakpoint_stops_a_cell_at_its_line_when_its_condition_holds_or_its_count_is_reached():
    source = "total = 0\nfor i in range(10):\n    total += i\ntotal"
    async with debug() as it:
        await it.session.breakpoint(1, 3, condition="i == 4")
        it.run(source)
        assert await it.stopped("breakpoint") == [("<module>", 3)]
        assert await it.eval("total") == "6"
        assert Path(it.path).read_text() == source  # an editor can open it
        await it.go("continue")
        assert (await it.task).text == "45"

        await it.session.breakpoint(2, 3, hits="3")
        it.run(source)  # the same text again: the breakpoint of the other cell is not this one's
        await it.stopped("breakpoint")
        assert await it.eval("i") == "2"
        await it.go("continue")
        assert (await it.task).text == "45"

        await it.session.breakpoint(3, 3, hits="% 4", log="{i} makes {total}")
        it.run(source)
        assert (await it.task).text == "45"
        assert (await it.client.event("output"))["output"] == "3 makes 3\n"
        assert (await it.client.event("output"))["output"] == "7 makes 21\n"

        await it.session.breakpoint(4, 3)
        await it.session.breakpoint(4, 3, clear=True)
        assert (await it.session.run(source)).text == "45"
        assert not it.client.seen("stopped")


async def test_a_client_sets_breakpoints_in_functions_of_earlier_cells():
    async with debug() as it:
        await it.session.run("def f(x):\n    y = x + 1\n    return y")
        path = next(it.folder.glob("*cell-1.py"))
        found = await it.client.request(
            "setBreakpoints", source={"path": str(path)}, breakpoints=[{"line": 3}]
        )
        assert found["breakpoints"][0]["verified"]
        it.run("f(20)")
        assert await it.stopped("breakpoint") == [("f", 3), ("<module>", 1)]
        assert await it.eval("y") == "21"
        await it.go("continue")
        assert (await it.task).text == "21"


ASYNC = """\
import asyncio
async def inner(n):
    m = n + 1
    await asyncio.sleep(0.01)
    return m
x = await inner(1)
task = asyncio.create_task(inner(5))
y = await task
z = x + y
z
"""


async def test_steps_go_across_awaits_into_sub_tasks_and_out_of_them():
    async with debug() as it:
        await it.session.breakpoint(1, 6)
        it.run(ASYNC)
        assert await it.stopped("breakpoint") == [("<module>", 6)]
        assert await it.step("stepIn") == ("inner", 3)
        assert await it.step("next") == ("inner", 4)
        assert await it.step("next") == ("inner", 5)  # it slept meanwhile
        assert await it.step("stepOut") == ("<module>", 6)
        assert await it.step("next") == ("<module>", 7)
        assert await it.step("next") == ("<module>", 8)
        assert await it.step("stepIn") == ("inner", 3)  # in the other task
        assert await it.step("next") == ("inner", 4)
        assert await it.step("stepOut") == ("<module>", 9)  # where it was awaited
        assert await it.eval("x, y") == "(2, 6)"
        await it.go("next")
        await it.stopped("step")
        await it.go("next")  # off the end: the next cell is not stopped by it
        assert (await it.task).text == "8"
        assert (await it.session.run("a = 1\na")).text == "1"


async def test_variables_are_a_tree_that_comes_in_pages_and_can_be_set_in_a_frame():
    async with debug() as it:
        await it.session.breakpoint(1, 5)
        it.run(
            "def f(n):\n    deep = {'a': [n, n + 1]}\n    many = list(range(1000))\n    table = {k: f'v{k}' for k in many}\n    return deep, n\nf(3)[1]"
        )
        await it.stopped()
        ref, found = await it.variables()
        assert found["n"]["value"] == "3" and found["n"]["type"] == "int"

        async def children(variable, **page):
            ask = {"variablesReference": variable["variablesReference"], **page}
            listed = (await it.client.request("variables", **ask))["variables"]
            return {each["name"]: each for each in listed}

        deep = await children(found["deep"])
        inner = await children(next(v for k, v in deep.items() if k == "'a'"))
        assert [v["value"] for v in inner.values() if v["type"] == "int"][:2] == ["3", "4"]
        assert found["many"]["indexedVariables"] == 1000
        page = await children(found["many"], start=700, count=3)
        assert {name: v["value"] for name, v in page.items()} == {
            "700": "700",
            "701": "701",
            "702": "702",
        }
        assert page["701"]["evaluateName"] == "many[701]"
        table = await children(found["table"], start=150, count=1)
        assert [(name, v["value"]) for name, v in table.items()] == [("150", "'v150'")]
        await it.client.request("setVariable", variablesReference=ref, name="n", value="40 + 2")
        assert await it.eval("n") == "42"
        await it.client.request(
            "setExpression", expression="deep['a']", value="None", frameId=it.frame
        )
        assert await it.eval("deep") == "{'a': None}"
        with pytest.raises(RefusedError, match="ZeroDivisionError"):
            await it.client.request(
                "evaluate", expression="1 / 0", frameId=it.frame, context="hover"
            )
        frames = {"threadId": it.thread, "startFrame": 1, "levels": 1}
        found = (await it.client.request("stackTrace", **frames))["stackFrames"]
        assert [each["name"] for each in found] == ["<module>"]
        await it.go("continue")
        assert (await it.task).text == "42"


async def test_a_running_loop_is_paused_and_goes_on():
    async with debug() as it:
        it.run("go = True\nn = 0\nwhile go:\n    n += 1\nn > 0")
        while not (threads := (await it.client.request("threads"))["threads"]):
            pass
        main = next(each["id"] for each in threads if each["name"] == "MainThread")
        await it.client.request("pause", threadId=main)
        assert (await it.stopped("pause"))[0][0] == "<module>"
        await it.client.request(
            "evaluate", expression="go = False", frameId=it.frame, context="repl"
        )
        await it.go("continue")
        assert (await it.task).text == "True"


async def test_an_exception_stops_the_cell_where_it_is_raised():
    async with debug(exceptions=["uncaught"]) as it:
        it.run("def f(a):\n    return 1 / a\nf(0)")
        where = await it.stopped("exception")
        assert where[0] in (("f", 2), ("<module>", 3))
        info = await it.client.request("exceptionInfo", threadId=it.thread)
        assert "ZeroDivisionError" in info["exceptionId"]
        while not it.task.done():
            await it.go("continue")
            more = asyncio.create_task(it.client.event("stopped"))
            await asyncio.wait([it.task, more], return_when=asyncio.FIRST_COMPLETED)
            more.cancel()
        assert "ZeroDivisionError" in (await it.task).traceback


async def test_the_last_failure_is_looked_at_post_mortem():
    async with debug() as it:
        assert isinstance((await it.session.post_mortem()).error, pyrepl3.DebugError)
        await it.session.run("def f(a):\n    b = a * 2\n    return b / 0\nf(4)")
        it.task = asyncio.create_task(it.session.post_mortem())
        assert await it.stopped("exception") == [("f", 3), ("<module>", 4)]
        assert await it.eval("a + b") == "12"
        await it.go("continue")
        assert (await it.task).ok


async def test_an_interrupt_ends_a_cell_that_is_stopped():
    async with debug() as it:
        await it.session.breakpoint(1, 3)
        it.run(
            "def f():\n    try:\n        x = 1\n        while True: x += 1\n    finally:\n        global done; done = True\nf()"
        )
        await it.stopped("breakpoint")
        assert it.session.interrupt()
        assert isinstance(await it.task, pyrepl3.Interrupted)
        assert await it.session.fetch("done") is True


async def test_the_clock_of_a_limit_stands_while_a_cell_is_stopped():
    await hold_for_longer_than_a_limit(0.8)


async def hold_for_longer_than_a_limit(wall):
    async with debug(limits=pyrepl3.Limits(wall=wall)) as it:
        await it.session.breakpoint(1, 2)
        began = time.monotonic()
        it.run("y = 1\ny = 2\nwhile True: y += 1")
        stopped = asyncio.ensure_future(it.stopped("breakpoint"))
        await asyncio.wait([it.task, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not stopped.done() and wall < 10:  # others have held it up on its way there
            stopped.cancel()
            await hold_for_longer_than_a_limit(wall * 5)
            return
        await stopped
        await asyncio.sleep(wall + 0.4)
        assert not it.task.done()
        assert await it.eval("y") == "1"
        await it.go("continue")
        error = (await it.task).error
        assert isinstance(error, pyrepl3.LimitExceededError)
        assert error.limit == "wall"
        assert error.used < time.monotonic() - began - wall - 0.3  # without the time that it stood
        assert (await it.session.run("1 + 1")).text == "2"


async def test_a_cell_that_may_run_at_once_stops_at_each_breakpoint_in_the_order_of_its_text():
    async with debug() as it:
        await it.session.run("def spin(n):\n    for i in range(n): pass\n    return n")
        await it.session.breakpoint(1, 3)
        it.run("a = spin(1)\nb = spin(2)\n[a, b]", parallel=True)
        for n in ("1", "2"):
            await it.stopped("breakpoint")
            assert await it.eval("n") == n
            await it.go("continue")
        assert (await it.task).text == "[1, 2]"


async def test_breakpoint_in_a_cell_stops_it_also_on_a_thread_and_asks_where_nobody_is_attached():
    asked = []

    def ask(prompt, secret):
        asked.append(prompt)
        return "p v" if len(asked) == 1 else "c"

    async with debug(ask=ask) as it:
        it.run("v = 41\nbreakpoint()")
        assert await it.stopped("breakpoint") == [("<module>", 2)]
        await it.go("continue")
        assert (await it.task).ok
        it.run(
            "import threading\ndef work():\n    w = 7\n    breakpoint()\n    out.append(w)\nout = []\n"
            "t = threading.Thread(target=work)\nt.start(); t.join()\nout"
        )
        assert (await it.stopped("breakpoint"))[0] == ("work", 4)
        assert await it.eval("w") == "7"
        await it.go("continue")
        assert (await it.task).text == "[7]"
        await it.client.request("disconnect")  # answered when it has left
        said = []
        done = await it.session.run(
            "v = 41\nbreakpoint()\nv = 2", observe=lambda e: said.append(getattr(e, "text", ""))
        )
        assert done.ok and asked == ["(Pdb) ", "(Pdb) "]
        assert "41" in "".join(map(str, said))


async def test_a_client_that_dies_lets_the_cell_go_on_and_another_one_attaches():
    async with debug() as it:
        await it.session.breakpoint(1, 2)
        it.run("x = 1\nx = 2\nx")
        await it.stopped()
        await it.client.close()
        assert (await it.task).text == "2"
        server = await it.session.debug()
        async with await DapClient.connect(server.host, server.port) as other:
            await other.attach()
            await other.request("configurationDone")
            await it.session.breakpoint(2, 1)
            it.client = other
            it.run("5 + 5")
            assert await it.stopped("breakpoint") == [("<module>", 1)]
            await other.request("disconnect")
            assert (await it.task).text == "10"


async def test_a_session_is_closed_while_a_cell_is_stopped():
    async with debug() as it:
        await it.session.breakpoint(1, 1)
        it.run("1 + 1")
        await it.stopped()
        await it.session.aclose()
        assert isinstance(await it.task, pyrepl3.Interrupted | pyrepl3.Done)


async def test_what_cannot_be_had_is_a_debug_error():
    async with pyrepl3.open_session(isolation="process") as session:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            with pytest.raises(pyrepl3.DebugError, match="in use"):
                await session.debug(other.getsockname()[1])
        with pytest.raises(pyrepl3.DebugError, match="from 1"):
            await session.breakpoint(1, 0)
        with pytest.raises(pyrepl3.DebugError, match=">= 3"):
            await session.breakpoint(1, 1, hits="often")
        server = await session.debug()
        assert await session.debug() == server
        with pytest.raises(pyrepl3.DebugError, match="already"):
            await session.debug(server.port + 1 if server.port < 65535 else 1024)
        assert (await session.run("1 + 1")).text == "2"


@pytest.mark.parametrize("script", ["debugged_here.py", "debugged_and_left.py"])
def test_in_the_callers_process_only_threads_of_cells_stop(script):
    """And the process ends, though a client is gone before it got all."""
    script = Path(__file__).with_name(script)
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=110, check=False
    )
    assert (done.returncode, done.stdout) == (0, "all of it\n"), done.stderr


def test_without_debugpy_it_says_what_to_install():
    code = (
        "import sys, asyncio; sys.modules['debugpy'] = None\n"
        "import pyrepl3\n"
        "async def main():\n"
        "    async with pyrepl3.open_session() as session:\n"
        "        try: await session.debug()\n"
        "        except pyrepl3.MissingExtraError as error: print(error)\n"
        "        print((await session.run('1 + 1')).text)\n"
        "asyncio.run(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "the debugger needs debugpy: pip install 'pyrepl3[debug]'\n2\n"


def test_nothing_of_a_debugger_is_loaded_before_somebody_asks():
    code = (
        "import asyncio, sys, pyrepl3\n"
        "async def main():\n"
        "    async with pyrepl3.open_session() as session:\n"
        "        await session.run('1 + 1')\n"
        "asyncio.run(main())\n"
        "print([n for n in sys.modules if 'run.debug' in n or 'debugpy' in n or 'pdb' in n], sys.monitoring.get_tool(0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[] None\n"
