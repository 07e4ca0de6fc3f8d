"""Code under another file name: the same object only where nobody could tell."""

from __future__ import annotations

import subprocess
import sys
import traceback

from pyrepl3 import AsyncExecutor
from pyrepl3.lang.filenames import lent_code


def keep(source: str = "x = 1"):
    return [compile(source, "<cell 1>", "exec")]


def lend(kept, filename):
    code = kept[0]
    return lent_code(code, filename)


def test_code_that_nobody_else_has_is_renamed_in_place():
    kept = keep()

    code = lend(kept, "<cell 2>")

    assert code is kept[0]
    assert code.co_filename == "<cell 2>"


def test_code_that_somebody_has_stays_as_it_is():
    kept = keep()
    seen = kept[0]

    code = lend(kept, "<cell 2>")

    assert code is not seen
    assert (code.co_filename, seen.co_filename) == ("<cell 2>", "<cell 1>")
    assert code.co_code == seen.co_code


def test_code_of_a_frame_in_a_traceback_stays_as_it_is():
    kept = keep("1 / 0")
    try:
        exec(kept[0])
    except ZeroDivisionError as error:
        caught = error

    assert lend(kept, "<cell 2>") is not kept[0]
    assert traceback.extract_tb(caught.__traceback__)[-1].filename == "<cell 1>"

    caught.__traceback__ = None
    assert lend(kept, "<cell 2>") is kept[0]


def test_code_that_runs_stays_as_it_is():
    kept = keep("lend(kept, '<cell 2>')")
    names = {"lend": lambda *_: seen.append(lend(kept, "<cell 2>")), "kept": kept}
    seen: list[object] = []

    exec(kept[0], names)

    assert seen[0] is not kept[0]
    assert kept[0].co_filename == "<cell 1>"


async def test_each_cell_of_one_text_keeps_its_own_name_in_tracebacks_frames_and_coroutines():
    executor = AsyncExecutor(execution_id="same")
    errors = []
    for _ in range(3):
        try:
            await executor.execute("1 / 0")
        except ZeroDivisionError as error:
            errors.append(error)
    names = [traceback.extract_tb(error.__traceback__)[-1].filename for error in errors]
    assert len(set(names)) == 3

    await executor.execute("import sys, asyncio; frames = []; gate = asyncio.Event()")
    for _ in range(3):
        await executor.execute("frames.append(sys._getframe())")
    frames = await executor.execute("frames")
    assert len({frame.f_code.co_filename for frame in frames}) == 3
    executor.close()


async def test_a_cell_that_runs_itself_again_has_two_names():
    executor = AsyncExecutor(execution_id="nested")
    source = "names.append(sys._getframe().f_code.co_filename)\nif len(names) < 3: await again()"
    names: list[str] = []
    await executor.execute("import sys")
    executor.namespace.get_for_execution().update(
        names=names, again=lambda: executor.execute(source)
    )

    await executor.execute(source)
    await executor.execute("names.append(sys._getframe().f_code.co_filename)")

    assert len(names) == len(set(names)) == 4
    executor.close()


def test_where_references_are_not_counted_a_copy_is_made():
    script = (
        "import sys; del sys.getrefcount\n"
        "from pyrepl3.lang.filenames import lent_code\n"
        "kept = [compile('1', '<a>', 'eval')]\n"
        "copy = lent_code(kept[0], '<b>')\n"
        "print(copy is kept[0], kept[0].co_filename, copy.co_filename)"
    )

    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["False", "<a>", "<b>"]
