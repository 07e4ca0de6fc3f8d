"""Events in, each observer told of each of them, whatever another one raises."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from pyrepl3.records import Notice

if TYPE_CHECKING:
    from pyrepl3.ports import Observer
    from pyrepl3.records import Event


class Telling:
    """Makes observers of one session into one. Any thread.

    An observer that raises is reported once to ``sys.excepthook``, and to the others as a Notice; it is
    told of later events all the same, and the cell knows nothing of it.
    """

    def __init__(self) -> None:
        self._reported: list[Observer] = []

    def join(self, cell_id: str, *observers: Observer | None) -> Observer:
        """An observer that tells these, of events of this cell. None stands for nobody."""
        told = [one for one in observers if one is not None]

        def tell(event: Event) -> None:
            for one in told:
                try:
                    one(event)
                except Exception as error:  # noqa: BLE001  the host's fault; the others are told
                    self._report(cell_id, one, told, error)

        return tell

    def _report(
        self, cell_id: str, culprit: Observer, told: list[Observer], error: Exception
    ) -> None:
        if culprit in self._reported:
            return
        self._reported.append(culprit)
        with suppress(Exception):
            sys.excepthook(type(error), error, error.__traceback__)
        text = f"an observer raised {type(error).__name__}; it is reported this once"
        for one in told:
            if one != culprit:
                with suppress(Exception):
                    one(Notice(cell_id=cell_id, kind="observer-failed", text=text))
