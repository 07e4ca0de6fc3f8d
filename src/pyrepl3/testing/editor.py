"""An editor that debugs cells: a debugger in, what came of all that VS Code and JupyterLab send out.

The requests are those of VS Code with its Python extension, in their order and with their arguments, then
what JupyterLab adds; https://jupyter-client.readthedocs.io/en/stable/messaging.html#additions-to-the-dap.
``answers`` plays it all; nothing that is refused ends it.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from pyrepl3.testing.dap import RefusedError
from pyrepl3.testing.editing import (
    ATTACH,
    CALL,
    CELL,
    INITIALIZE,
    STOP,
    WORD,
    Debuggee,
    Editing,
    Wire,
)


async def answers(wire: Wire, debuggee: Debuggee) -> dict[str, str]:
    """Play it all: what was sent → "yes", or why not. What a request is for counts, not its answer alone."""
    return await _Editor(wire, debuggee).play()


class _Editor(Editing):
    # --- what is sent ---------------------------------------------------------------------------------

    async def play(self) -> dict[str, str]:
        await self._attach()
        await self._look()
        await self._change()
        await self._step()
        await self._breakpoints()
        await self._exceptions()
        await self._pause()
        await self._jupyter()
        await self._leave()
        return self.found

    async def _attach(self) -> None:
        async def initialize() -> bool:
            return bool(
                (await self._ask("initialize", **INITIALIZE))["supportsConditionalBreakpoints"]
            )

        await self._try("`initialize`", initialize)
        # VS Code waits for the event, not for the answer, which comes after configurationDone.
        attaching = asyncio.ensure_future(self._ask("attach", **ATTACH))
        await self._wire.event("initialized")
        self._path = await self._debuggee.path()
        await self._try("`setBreakpoints`", lambda: self._break({"line": STOP}))
        await self._ask("setFunctionBreakpoints", breakpoints=[])
        await self._ask("setExceptionBreakpoints", filters=[])

        async def done() -> None:
            await self._ask("configurationDone")

        async def attached() -> None:
            await attaching

        await self._try("`configurationDone`", done)
        await self._try("`attach`", attached)

        async def threads() -> bool:
            return bool((await self._ask("threads"))["threads"])

        await self._try("`threads`", threads)

    async def _look(self) -> None:
        self._begin("other(3)")

        async def stopped() -> bool:
            return await self._stopped() == "breakpoint"

        async def frames() -> bool:
            first = await self._frames(startFrame=0, levels=1)
            rest = await self._frames(startFrame=1, levels=19)
            return [f["name"] for f in (*first, *rest)][:2] == ["work", "other"] and len(first) == 1

        async def scopes() -> bool:
            return bool((await self._ask("scopes", frameId=self._frame))["scopes"])

        async def variables() -> bool:
            return any((v["name"], v["value"]) == ("n", "3") for v in await self._children(""))

        async def page() -> bool:
            found = await self._children("many", filter="indexed", start=700, count=3)
            return [v["value"] for v in found] == ["700", "701", "702"]

        async def completions() -> bool:
            found = await self._ask(
                "completions", frameId=self._frame, text="tot", column=4, line=1
            )
            return any(each["label"] == "total" for each in found["targets"])

        async def modules() -> bool:
            return "modules" in await self._ask("modules", startModule=0, moduleCount=0)

        async def source() -> bool:
            found = await self._ask("source", source={"path": self._path}, sourceReference=0)
            return bool(found["content"] == CELL)

        await self._try("`stopped` at a breakpoint", stopped)
        await self._try("`stackTrace`, by page", frames)
        await self._try("`scopes`", scopes)
        await self._try("`variables`", variables)
        await self._try("`variables`, by page", page)
        for context in ("hover", "watch", "repl", "clipboard", "variables"):

            async def evaluate(context: str = context) -> bool:
                return await self._evaluated("total", context) == "4"

            await self._try(f"`evaluate`, {context}", evaluate)
        await self._try("`completions`", completions)
        await self._try("`modules`", modules)
        await self._try("`source`, by path", source)

    async def _change(self) -> None:
        async def statement() -> bool:
            await self._evaluated("word = 'b'", "repl")
            return await self._evaluated("word", "watch") == "'b'"

        async def variable() -> bool:
            scopes = (await self._ask("scopes", frameId=self._frame))["scopes"]
            ref = scopes[0]["variablesReference"]
            await self._ask("setVariable", variablesReference=ref, name="total", value="20 + 1")
            return await self._evaluated("total", "watch") == "21"

        async def expression() -> bool:
            await self._ask("setExpression", expression="many[0]", value="7", frameId=self._frame)
            return await self._evaluated("many[0]", "watch") == "7"

        await self._try("`evaluate`, a statement", statement)
        await self._try("`setVariable`", variable)
        await self._try("`setExpression`", expression)

    async def _step(self) -> None:
        async def step(command: str, name: str, line: int) -> bool:
            await self._ask(command, threadId=self._thread, granularity="statement")
            await self._stopped()
            top = (await self._frames(startFrame=0, levels=1))[0]
            return (top["name"], top["line"]) == (name, line)

        async def targets() -> bool:
            return "targets" in await self._ask("stepInTargets", frameId=self._frame)

        async def goto() -> bool:
            found = await self._ask("gotoTargets", source={"path": self._path}, line=WORD)
            target = found["targets"][0]["id"]
            await self._ask("goto", threadId=self._thread, targetId=target)
            await self._stopped()
            return bool((await self._frames(startFrame=0, levels=1))[0]["line"] == WORD)

        async def on() -> bool:
            await self._break({"line": CALL})
            await self._ask("continue", threadId=self._thread)
            assert self._cell is not None
            await self._cell
            self._begin("other(3)")
            return await self._stopped() == "breakpoint"

        await self._try("`stepInTargets`", targets)
        await self._try("`gotoTargets`, `goto`", goto)
        await self._try("`next`", lambda: step("next", "work", STOP))
        await self._try("`continue`", on)
        await self._try("`stepIn`", lambda: step("stepIn", "work", 2))
        await self._try("`stepOut`", lambda: step("stepOut", "other", CALL))
        await self._break()
        await self._go_on()

    async def _breakpoints(self) -> None:
        async def stops(source: str, wanted: str) -> bool:
            self._begin(source)
            await self._stopped()
            found = await self._evaluated("n", "watch")
            await self._go_on()
            return found == wanted

        async def condition() -> bool:
            await self._break({"line": STOP, "condition": "n == 2"})
            return await stops("[work(i) for i in range(4)]", "2")

        async def hits() -> bool:
            await self._break({"line": STOP, "hitCondition": "3"})
            return await stops("[work(i) for i in range(1, 5)]", "3")

        async def log() -> bool:
            await self._break({"line": STOP, "logMessage": "n is {n}"})
            await self._debuggee.run("work(8)")
            while "n is 8" not in (await self._wire.event("output"))["output"]:
                pass
            return True

        async def function() -> bool:
            await self._break()
            await self._ask("setFunctionBreakpoints", breakpoints=[{"name": "work"}])
            held = await stops("other(6)", "6")
            await self._ask("setFunctionBreakpoints", breakpoints=[])
            return held

        await self._try("`setBreakpoints`, `condition`", condition)
        await self._try("`setBreakpoints`, `hitCondition`", hits)
        await self._try("`setBreakpoints`, `logMessage`", log)
        await self._try("`setFunctionBreakpoints`", function)

    async def _exceptions(self) -> None:
        async def stops(**arguments: Any) -> bool:
            await self._ask("setExceptionBreakpoints", **arguments)
            self._begin("work('x')")
            stopped = asyncio.ensure_future(self._stopped())
            assert self._cell is not None
            await asyncio.wait([self._cell, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not stopped.done():
                stopped.cancel()
                return False
            found = await self._ask("exceptionInfo", threadId=self._thread)
            await self._go_on()
            return stopped.result() == "exception" and "TypeError" in found["exceptionId"]

        for each in ("raised", "uncaught", "userUnhandled"):
            stop = functools.partial(stops, filters=[each])
            await self._try(f"`setExceptionBreakpoints`, {each}", stop)
        await self._try(
            "`setExceptionBreakpoints`, `filterOptions`",
            lambda: stops(filters=[], filterOptions=[{"filterId": "raised"}]),
        )
        self.found["`exceptionInfo`"] = self.found["`setExceptionBreakpoints`, raised"]
        await self._ask("setExceptionBreakpoints", filters=[])

    async def _pause(self) -> None:
        async def pause() -> bool:
            self._begin("go = True\nn = 0\nwhile go:\n    n += 1")
            while True:
                threads = (await self._ask("threads"))["threads"]
                if main := [t["id"] for t in threads if t["name"] == "MainThread"]:
                    break
            await self._ask("pause", threadId=main[0])
            reason = await self._stopped()
            await self._evaluated("go = False", "repl")
            await self._go_on()
            return reason == "pause"

        await self._try("`pause`", pause)

    async def _jupyter(self) -> None:
        async def info() -> bool:
            return "hashMethod" in await self._ask("debugInfo")

        async def dump() -> bool:
            return bool((await self._ask("dumpCell", code=CELL))["sourcePath"])

        async def inspect() -> bool:
            return bool((await self._ask("inspectVariables"))["variables"])

        async def rich() -> bool:
            found = await self._ask(
                "richInspectVariables", variableName="total", frameId=self._frame
            )
            return bool(found["data"])

        async def copy() -> bool:
            await self._ask(
                "copyToGlobals",
                srcVariableName="total",
                dstVariableName="copied",
                srcFrameId=self._frame,
            )
            return await self._evaluated("copied", "watch") == "4"

        await self._try("`debugInfo`", info)
        await self._try("`dumpCell`", dump)
        await self._try("`inspectVariables`", inspect)
        await self._break({"line": STOP})
        self._begin("work(3)")
        await self._stopped()
        await self._try("`richInspectVariables`", rich)
        await self._try("`copyToGlobals`", copy)
        await self._break()
        await self._go_on()

    async def _leave(self) -> None:
        async def leave(command: str, **arguments: Any) -> bool:
            await self._break({"line": STOP})
            self._begin("work(3)")
            await self._stopped()
            await self._ask(command, **arguments)
            assert self._cell is not None
            await self._cell
            await self._debuggee.run("1 + 1")
            return True

        await self._try(
            "`disconnect`: a stopped cell goes on",
            lambda: leave("disconnect", restart=False, terminateDebuggee=False),
        )

        async def again() -> None:
            self._wire = await self._debuggee.reconnect()
            await self._ask("initialize", **INITIALIZE)
            attaching = asyncio.ensure_future(self._ask("attach", **ATTACH))
            await self._wire.event("initialized")
            self._path = await self._debuggee.path()
            await self._ask("configurationDone")
            await attaching

        async def refused() -> bool:
            await again()
            for command in ("loadedSources", "restart", "cancel"):
                try:
                    await self._ask(command)
                except RefusedError:
                    continue
                return False
            return bool((await self._ask("threads"))["threads"])

        async def terminate() -> bool:
            await self._ask("disconnect")
            await again()
            return await leave("terminate", restart=False)

        await self._try(
            "a refusal of what is not done (`cancel`, `loadedSources`, `restart`)", refused
        )
        if self.found[next(reversed(self.found))] != "yes":
            await again()  # or nothing would be known of what follows
        await self._try("`terminate`: a stopped cell goes on, its process lives", terminate)
