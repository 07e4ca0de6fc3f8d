"""Keys in, entries out: the prompt's line editor on prompt_toolkit, and a bare one for dumb terminals.

Runs on the control thread's loop. While the editor has the terminal, what others print is shown
above it, by whole lines.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from pyrepl3.front.asking import LineReader
from pyrepl3.front.console import Console
from pyrepl3.front.entry import common_start, indent_after, needs_more, word_before

PROMPT, CONTINUED = ">>> ", "... "

type Completer = Callable[[str, int], Awaitable[tuple[str, ...]]]


class EntryInterrupt(Exception):  # noqa: N818 - it is no error: Ctrl-C at the prompt
    """Ctrl-C: what was typed is dropped."""


class EntryEnd(Exception):  # noqa: N818 - it is no error: Ctrl-D at the prompt
    """Ctrl-D on an empty entry, or the end of input."""


class Editor(Protocol):
    """Where entries come from."""

    async def read(self, *, proposal: str = "") -> str:
        """One entry, with newlines and without the last. Raises EntryInterrupt, EntryEnd.

        ``proposal`` is put into the entry by Enter on an empty one, to be edited.
        """
        ...

    def interrupt(self) -> None:
        """Act as on Ctrl-C. Any thread."""
        ...


def open_editor(console: Console, reader: LineReader, complete: Completer) -> Editor:
    """The editor that fits the terminal."""
    if os.environ.get("TERM", "") in {"dumb", "unknown", ""}:
        return PlainEditor(console, reader)
    return KeyEditor(console, complete)


def find_history() -> Path | None:
    """The file of past entries, readable by its owner only; None where it cannot be kept."""
    import platformdirs  # noqa: PLC0415  the prompt only

    path = platformdirs.user_state_path("pyrepl3") / "history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.fchmod(descriptor, 0o600)
        os.close(descriptor)
    except OSError:
        return None
    return path


class PlainEditor:
    """Reads lines as the terminal gives them, for terminals that know no cursor."""

    def __init__(self, console: Console, reader: LineReader) -> None:
        self._console = console
        self._reader = reader
        self._stopped = False

    async def read(self, *, proposal: str = "") -> str:  # noqa: ARG002 - it cannot be edited here
        self._stopped = False
        text = ""
        while True:
            prompt = CONTINUED if text else PROMPT
            try:
                line = await asyncio.to_thread(self._reader.ask, prompt, False)  # noqa: FBT003
            except EOFError:
                self._console.out("\n")
                raise (EntryInterrupt if self._stopped else EntryEnd) from None
            text += line
            if not needs_more(text):
                return text
            text += "\n"

    def interrupt(self) -> None:
        self._stopped = True
        self._reader.drop()


class KeyEditor:
    """Reads keys: several lines, indentation, history, completion, paste."""

    def __init__(self, console: Console, complete: Completer) -> None:
        from prompt_toolkit import PromptSession  # noqa: PLC0415  a sixth of a second
        from prompt_toolkit.history import FileHistory, InMemoryHistory  # noqa: PLC0415
        from prompt_toolkit.input import create_input  # noqa: PLC0415
        from prompt_toolkit.output import ColorDepth  # noqa: PLC0415
        from prompt_toolkit.output.vt100 import Vt100_Output  # noqa: PLC0415

        self._console = console
        self._complete = complete
        self._loop = asyncio.get_running_loop()
        self._proposal = ""
        self._context = contextvars.copy_context()
        self._writing: set[Any] = set()
        path = find_history()
        stdout: Any = sys.__stdout__ if console.out_is_terminal else sys.__stderr__
        output = Vt100_Output.from_pty(stdout)
        # No questions for the cursor's position: a late answer would be typed into a cell's
        # input(), and programs that drive a prompt do not answer at all.
        output.enable_cpr = False
        self._session: PromptSession[str] = PromptSession(
            PROMPT,
            multiline=True,
            prompt_continuation=CONTINUED,
            enable_suspend=True,
            complete_while_typing=False,
            reserve_space_for_menu=0,
            history=InMemoryHistory() if path is None else FileHistory(str(path)),
            key_bindings=self._bindings(),
            interrupt_exception=EntryInterrupt,
            eof_exception=EntryEnd,
            color_depth=None if console.out_colour else ColorDepth.DEPTH_1_BIT,
            input=create_input(stdin=sys.__stdin__),
            output=output,
        )

    async def read(self, *, proposal: str = "") -> str:
        self._proposal = proposal
        with self._console.above(self._show_above):
            text = await self._session.prompt_async()
        return text.rstrip()

    def interrupt(self) -> None:
        def leave() -> None:
            app = self._session.app
            if app.is_running:
                app.exit(exception=EntryInterrupt())

        self._loop.call_soon_threadsafe(leave)

    def _show_above(self, write: Callable[[], None]) -> None:
        """Call ``write`` while the editor has left the screen. Any thread; returns at once."""
        from prompt_toolkit.application import run_in_terminal  # noqa: PLC0415

        def begin() -> None:
            task = asyncio.ensure_future(run_in_terminal(write))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

        # In our own Context: the caller may be a cell's task.
        self._loop.call_soon_threadsafe(begin, context=self._context)

    def _bindings(self) -> Any:
        from prompt_toolkit.key_binding import KeyBindings  # noqa: PLC0415

        bindings = KeyBindings()

        @bindings.add("enter")
        def enter(event: Any) -> None:
            buffer = event.current_buffer
            document = buffer.document
            if not document.text and self._proposal:
                buffer.insert_text(self._proposal)
                self._proposal = ""
            elif document.text_after_cursor.strip() or needs_more(document.text):
                # More keys are waiting: this is a paste that a terminal did not mark as one, and
                # brings its own indentation.
                pasted = bool(event.key_processor.input_queue)
                indent = "" if pasted else indent_after(document.text_before_cursor)
                buffer.insert_text("\n" + indent)
            else:
                buffer.validate_and_handle()

        @bindings.add("tab")
        def tab(event: Any) -> None:
            buffer = event.current_buffer
            if event.key_processor.input_queue:
                buffer.insert_text("\t")  # of a paste, as above
            elif not word_before(before := buffer.document.text_before_cursor) and before != "%":
                buffer.insert_text("    ")
            else:
                event.app.create_background_task(self._complete_word(buffer))

        return bindings

    async def _complete_word(self, buffer: Any) -> None:
        document = buffer.document
        word = word_before(document.text_before_cursor)
        words = await self._complete(document.text, document.cursor_position)
        if buffer.document != document:
            return  # something was typed meanwhile
        more = common_start(words).removeprefix(word)
        if common_start(words).startswith(word) and more:
            buffer.insert_text(more)
        elif len(words) > 1:
            self._console.out("  ".join(words) + "\n")
