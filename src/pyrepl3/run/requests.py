"""Requests of editors that debugpy knows of and does not do: done here where they can be, refused otherwise.

Without an answer a client waits for ever: pydevd prints that it does not handle what it has no method for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def answer_requests() -> None:
    """Teach pydevd of this process."""
    from _pydevd_bundle._debug_adapter import (  # noqa: PLC0415  loaded by debugpy
        pydevd_base_schema,
        pydevd_schema,
    )
    from _pydevd_bundle.pydevd_comm_constants import CMD_RETURN  # noqa: PLC0415
    from _pydevd_bundle.pydevd_net_command import NetCommand  # noqa: PLC0415
    from _pydevd_bundle.pydevd_process_net_command_json import (  # noqa: PLC0415
        PyDevJsonCommandProcessor,
    )

    def refuse(_self: Any, _py_db: Any, request: Any) -> Any:
        answer = {  # a dict: classes of responses want the body of a success
            "type": "response",
            "request_seq": request.seq,
            "success": False,
            "command": request.command,
            "message": f"{request.command} is not supported",
        }
        return NetCommand(CMD_RETURN, 0, answer, is_json=True)

    for command in pydevd_base_schema._requests_to_types:  # noqa: SLF001
        name = f"on_{command.lower()}_request"
        if not hasattr(PyDevJsonCommandProcessor, name):
            setattr(PyDevJsonCommandProcessor, name, refuse)

    by_reference = PyDevJsonCommandProcessor.on_source_request

    def source(self: Any, py_db: Any, request: Any) -> Any:
        """Pydevd gives only what has no path; JupyterLab asks by path."""
        asked = request.arguments
        path = getattr(asked.source, "path", None)
        if not asked.sourceReference and path:
            try:
                text = Path(path).read_text("utf-8")
            except (OSError, ValueError):
                pass  # pydevd says that there is none
            else:
                body = pydevd_schema.SourceResponseBody(text)
                response = pydevd_base_schema.build_response(request, kwargs={"body": body})
                return NetCommand(CMD_RETURN, 0, response, is_json=True)
        return by_reference(self, py_db, request)

    PyDevJsonCommandProcessor.on_source_request = source


def read_filters(message: dict[str, Any]) -> None:
    """Make ``filterOptions`` of exception breakpoints the filters that pydevd knows. In place."""
    asked = message.get("arguments") or {}
    options = asked.get("filterOptions")
    if message.get("command") == "setExceptionBreakpoints" and options:
        asked["filters"] = [*asked.get("filters", ()), *(one["filterId"] for one in options)]
