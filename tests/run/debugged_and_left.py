"""Run by ``test_debugger``: the client is gone while messages for it are on their way."""

import asyncio

import pyrepl3
from pyrepl3.run import debugserver
from pyrepl3.testing.dap import DapClient


async def main():
    async with pyrepl3.open_session(limits=pyrepl3.Limits(wall=60)) as session:
        endpoint = await session.debug()
        client = await DapClient.connect(endpoint.host, endpoint.port)
        await client.attach()
        await client.request("configurationDone")
        pydevd = debugserver.attached_server()._pydevd
        message, writer = pydevd.cmd_factory.make_warning_message("late"), pydevd.writer
        await client.close()
        while writer.is_alive():  # until it has tried to send
            writer.add_command(message)
            await asyncio.sleep(0.01)
        writer.add_command(message)
        assert (await session.run("6 * 7")).value == 42
    print("all of it")


asyncio.run(asyncio.wait_for(main(), 100))
