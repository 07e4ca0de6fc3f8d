"""Items of a big container, page by page, for a client that asks so; pydevd gives the first 500 only.

The part of the Debug Adapter Protocol about ``start``, ``count`` and ``indexedVariables``.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any

_PAGED = (
    list,
    tuple,
    range,
    deque,
    dict,
)  # not their subclasses: whose methods are the user's code
_WORTH = 100
"""Items from which a client is told that there are pages."""


def page_variables() -> None:
    """Teach pydevd of this process."""
    from _pydevd_bundle import pydevd_api, pydevd_suspended_frames  # noqa: PLC0415  loaded by debugpy
    from _pydevd_bundle._debug_adapter import pydevd_base_schema, pydevd_schema  # noqa: PLC0415
    from _pydevd_bundle.pydevd_comm_constants import CMD_RETURN  # noqa: PLC0415
    from _pydevd_bundle.pydevd_net_command import NetCommand  # noqa: PLC0415

    variable_class: Any = pydevd_suspended_frames._ObjectVariable  # noqa: SLF001
    describe, answer = variable_class.get_var_data, pydevd_api.internal_get_variable_json

    def describe_with_length(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = describe(self, *args, **kwargs)
        if type(self.value) in _PAGED and len(self.value) > _WORTH:
            found["indexedVariables"] = len(self.value)
        return found

    def answer_page(py_db: Any, request: Any) -> None:
        asked = request.arguments
        try:
            parent = py_db.suspended_frames_manager.get_variable(asked.variablesReference)
        except KeyError:
            parent = None
        if not asked.count or type(getattr(parent, "value", None)) not in _PAGED:
            answer(py_db, request)
            return
        children = [
            variable_class(
                py_db,
                name,
                value,
                parent._register_variable,  # noqa: SLF001
                evaluate_name=parent.evaluate_name and f"{parent.evaluate_name}[{name}]",
                frame=parent.frame,
            )
            for name, value in find_page(parent.value, asked.start or 0, asked.count)
        ]
        body = pydevd_schema.VariablesResponseBody([each.get_var_data() for each in children])
        response = pydevd_base_schema.build_response(request, kwargs={"body": body})
        py_db.writer.add_command(NetCommand(CMD_RETURN, 0, response, is_json=True))

    variable_class.get_var_data = describe_with_length
    pydevd_api.internal_get_variable_json = answer_page


def find_page(value: Any, start: int, count: int) -> list[tuple[str, Any]]:
    """``count`` items of a container from the one at ``start`` on, each with its index or key as text."""
    if isinstance(value, dict):
        return [(repr(key), item) for key, item in islice(value.items(), start, start + count)]
    found = islice(value, start, start + count)
    return [(str(number), item) for number, item in enumerate(found, start)]
