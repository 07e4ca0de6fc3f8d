"""A source in; what our engine makes of it, in the words of the tables, out."""

from __future__ import annotations

from pyrepl3 import AsyncExecutor, CompilationError, ExecutionMode


async def run(executor: AsyncExecutor, source: str) -> str:
    """``runs``, or the name of the exception; a CompilationError is the SyntaxError that it is."""
    try:
        await executor.execute(source)
    except CompilationError:
        return "SyntaxError"
    except Exception as error:  # whatever a cell raises is what we are asked for
        return type(error).__name__
    return "runs"


def kind(source: str) -> str:
    """``coroutine``, ``plain`` or ``SyntaxError``: what compiling it gives. Runs nothing."""
    mode = AsyncExecutor().analyze_execution_mode(source)
    if mode is ExecutionMode.UNKNOWN:
        return "SyntaxError"
    return "coroutine" if mode is ExecutionMode.TOP_LEVEL_AWAIT else "plain"
