"""Others that run code in a process beside the caller's, each as something that is started, asked, and ended.

What is not installed is left out. Sessions of monty and smolagents run a language of their own that looks
like Python; the latter in the caller's process.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Batch, clock

type Run = Callable[[str], object]


@contextmanager
def kernel(name: str) -> Iterator[Run]:
    """A Jupyter kernel through jupyter_client: from execute_request to idle."""
    from jupyter_client.manager import KernelManager

    # Its own command is found beside this interpreter.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        manager = KernelManager(kernel_name=name)
        manager.start_kernel(stderr=-3)  # it warns of what is of no matter here
        client = manager.client()
        client.start_channels()
        client.wait_for_ready(60)

    def run(source: str) -> None:
        ours = client.execute(source, store_history=False)
        while True:
            message = client.get_iopub_msg(timeout=30)
            if (
                message["parent_header"].get("msg_id") == ours
                and message["msg_type"] == "status"
                and message["content"]["execution_state"] == "idle"
            ):
                return

    try:
        yield run
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@contextmanager
def monty() -> Iterator[Callable[[], object]]:
    """monty's pool, warm: something that checks out a session and enters it."""
    from pydantic_monty import Monty

    with Monty(min_processes=2) as pool:
        yield pool.checkout


def smolagents() -> Run:
    """smolagents' interpreter of Python's syntax tree, in this process."""
    from smolagents.local_python_executor import LocalPythonExecutor

    executor = LocalPythonExecutor([])
    executor.send_tools({})
    return executor


def as_batch(run: Run) -> Batch:
    """The way of ``measure.in_turns``."""

    async def batch(sources: list[str]) -> float:
        begun = clock()
        for source in sources:
            run(source)
        return clock() - begun

    return batch


def answer(pipe) -> None:
    """What a process of ``multiprocessing`` does here."""
    pipe.send(1 + 1)


def start_process(method: str) -> float:
    """Seconds until a new process of ``multiprocessing`` has answered once."""
    context = multiprocessing.get_context(method)
    begun = clock()
    near, far = context.Pipe()
    process = context.Process(target=answer, args=(far,))
    process.start()
    near.recv()
    spent = clock() - begun
    process.join()
    return spent
