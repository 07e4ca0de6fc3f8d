"""Changes that no cell names, and the state of the process: after ``flush()``, SIGKILL and a restore, what is right.

``python -m benchmarks.hidden``: ours and the peers, one after the other, as a table. What the cells do is
in ``CELLS``; a peer stores everything once more before it is killed, as a flush would.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.keepers import OURS, PEERS, installed, make, names_of
from benchmarks.report import Report, machine, markdown, number

CELLS: tuple[str, ...] = (
    "import decimal, gc, locale, os, random, sys, threading, time, types, warnings, weakref\nimport numpy as np",
    "me = sys.modules[__name__]\nby_module, by_globals, by_thread, by_timer = [1], {'k': 1}, [1], [1]\n"
    "by_weakref, by_gc, by_frame, by_method, by_default = {1}, [1, 'gc'], [1], [1], [1]\n"
    "array = np.zeros(300_000); view = array[10:20]; table = {n: [n] for n in range(1000)}",
    "class Box:\n    pass\nbox = Box(); box.items = [1]; box.me = box\nalias = weakref.ref(box)\nclass Config:\n    debug = False\n    seen = []",
    "def count():\n    n = 0\n    def up():\n        nonlocal n\n        n += 1\n        return n\n    return up\nup = count(); hook = up",
    "holder = types.SimpleNamespace(a=by_method.append, b=table[7], c=view)\nsys.holder = holder\nsys.box, sys.cfg, sys.up = box, Config, up",
    "getattr(me, 'by_' + 'module').append(2)",
    "globals().get('by_' + 'globals')['k'] = 2",
    "def late(target):\n    time.sleep(0.05)\n    getattr(me, target).append(2)\n    setattr(me, 'made_' + target, ['new'])\n"
    "thread = threading.Thread(target=late, args=('by_' + 'thread',)); thread.start()",
    "timer = threading.Timer(0.02, lambda: getattr(me, 'by_' + 'timer').append(2)); timer.start()",
    "getattr(sys, 'holder').a(2)",
    "getattr(sys, 'holder').b.append('hidden')",
    "getattr(sys, 'holder').c[3] = 42.0",
    "getattr(sys, 'box').items.append(2)\nsys.box.later = 'set'",
    "getattr(sys, 'cfg').debug = True\nsys.cfg.seen.append('seen')",
    "getattr(sys, 'up')(); sys.up()",
    "[o for o in gc.get_objects() if type(o) is list and len(o) == 2 and o[1] == 'gc' and o[0] == 1][0].append(2)",
    "def deep():\n    sys._getframe(1).f_globals['by_' + 'frame'].append(2)\ndeep()",
    "exec('by_' + 'default.append(2)')",
    "sys.modules[__name__].__dict__['by_' + 'weakref'].add(2)",
    "random.seed(7); [random.random() for _ in range(5)]\nnp.random.seed(7); np.random.rand(5)\nrng = np.random.default_rng(7); rng.random(5)",
    "decimal.getcontext().prec = 7\nwarnings.filterwarnings('error', 'hidden .*')\nsys.setrecursionlimit(4321)",
    "os.environ['HIDDEN'] = 'yes'; os.makedirs(os.path.join(FOLDER, 'below'), exist_ok=True)\nos.chdir(os.path.join(FOLDER, 'below'))\nsys.path.insert(0, FOLDER)",
    "open(os.path.join(FOLDER, 'own_module.py'), 'w').write('class Thing:\\n    x = 3\\n')\nimport own_module; thing = own_module.Thing(); thing.y = 4",
    "import colorsys; del colorsys",
    "thread.join(); timer.join(); done = True\ndel sys.holder, sys.box, sys.cfg, sys.up",
)

CHECKS: dict[str, str] = {
    "module attribute": "by_module",
    "globals()": "by_globals",
    "thread, in place": "by_thread",
    "thread, new name": "made_by_thread",
    "timer": "by_timer",
    "bound method kept elsewhere": "by_method",
    "item of a dict kept elsewhere": "table[7]",
    "view kept elsewhere": "(float(array[13]), float(view[3]), view.base is array or np.shares_memory(view, array))",
    "instance": "(box.items, box.later, box.me is box)",
    "weak reference": "alias() is box",
    "class attribute": "(Config.debug, Config.seen)",
    "closure": "(up(), hook is up)",
    "found by gc": "by_gc",
    "frame's globals": "by_frame",
    "exec": "by_default",
    "sys.modules": "sorted(by_weakref)",
    "random": "random.random()",
    "numpy.random": "float(np.random.rand())",
    "a generator": "float(rng.random())",
    "decimal": "str(decimal.Decimal(1) / 3)",
    "warnings": "(warnings.filters[0][0], warnings.filters[0][1] and warnings.filters[0][1].pattern)",
    "recursion limit": "sys.getrecursionlimit()",
    "environment": "os.environ.get('HIDDEN')",
    "directory": "os.path.basename(os.getcwd())",
    "sys.path, and a module by it": "(thing.x, thing.y, type(thing).__module__)",
    "a loaded module without a name": "'colorsys' in sys.modules",
}
"""Expressions that must have the same value as they had before, or would have had."""

EXPECTED: dict[str, object] = {
    "module attribute": [1, 2],
    "globals()": {"k": 2},
    "thread, in place": [1, 2],
    "thread, new name": ["new"],
    "timer": [1, 2],
    "bound method kept elsewhere": [1, 2],
    "item of a dict kept elsewhere": [7, "hidden"],
    "view kept elsewhere": (42.0, 42.0, True),
    "instance": ([1, 2], "set", True),
    "weak reference": True,
    "class attribute": (True, ["seen"]),
    "closure": (3, True),
    "found by gc": [1, "gc", 2],
    "frame's globals": [1, 2],
    "exec": [1, 2],
    "sys.modules": [1, 2],
    "decimal": "0.3333333",
    "warnings": ("error", "hidden .*"),
    "recursion limit": 4321,
    "environment": "yes",
    "directory": "below",
    "sys.path, and a module by it": (3, 4, "own_module"),
    "a loaded module without a name": True,
}


def expected() -> dict[str, str]:
    """The reprs that are right; those of generators made by doing the same here."""
    import random

    import numpy as np

    plain, old, new = random.Random(7), np.random.RandomState(7), np.random.default_rng(7)
    for _ in range(5):
        plain.random()
    old.rand(5)
    new.random(5)
    values = EXPECTED | {
        "random": plain.random(),
        "numpy.random": float(old.rand()),
        "a generator": float(new.random()),
    }
    return {name: repr(value) for name, value in values.items()}


# --- in the processes ---------------------------------------------------------------------------------


def tell(out: int, **facts: Any) -> None:
    os.write(out, (json.dumps(facts) + "\n").encode())


async def live_ours(folder: Path, out: int) -> None:
    from pyrepl3 import open_session

    async with open_session("bench", store=folder / "store", process=True) as session:
        (await session.run(f"FOLDER = {str(folder)!r}")).unwrap()
        for source in CELLS:
            (await session.run(source)).unwrap()
        begun = time.perf_counter()
        await session.flush()
        tell(out, flush=time.perf_counter() - begun)
        sys.stdin.read()


async def restore_ours(folder: Path, out: int) -> None:
    from pyrepl3 import open_session

    async with open_session("bench", store=folder / "store", process=True) as session:
        results = {}
        for name, source in CHECKS.items():
            outcome = await session.run(source)
            results[name] = repr(outcome.value) if outcome.ok else f"! {outcome.error!r}"
        tell(out, results=results, lost=dict(session.lost))


def live_peer(way: str, folder: Path, out: int) -> None:
    keeper = make(way, folder)
    names_of(keeper)["FOLDER"] = str(folder)
    for _ in keeper.live((*CELLS, "flushed = True")):
        pass
    tell(out, flush=0.0)
    sys.stdin.read()


def restore_peer(way: str, folder: Path, out: int) -> None:
    keeper = make(way, folder)
    sys.path.append(str(folder))  # or a module that is not found would cost a peer all names
    results = {}
    try:
        evaluate, _ = keeper.restore()
    except Exception as error:
        tell(out, results=dict.fromkeys(CHECKS, f"! {error!r}"), lost={})
        return
    for name, source in CHECKS.items():
        try:
            results[name] = repr(evaluate(source))
        except Exception as error:
            results[name] = f"! {error!r}"
    tell(out, results=results, lost={})


def child(action: str, way: str, folder: Path) -> None:
    """Cells print: what they print is no answer."""
    out = os.dup(1)
    os.dup2(2, 1)
    if way == OURS:
        asyncio.run((live_ours if action == "live" else restore_ours)(folder, out))
    else:
        (live_peer if action == "live" else restore_peer)(way, folder, out)


# --- in the parent --------------------------------------------------------------------------------------


def ask(action: str, way: str, folder: str) -> dict[str, Any]:
    """One line of a process, which is then killed. Raises CalledProcessError."""
    command = [sys.executable, "-m", "benchmarks.hidden", action, way, folder]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        if line:
            process.send_signal(signal.SIGKILL)
            found: dict[str, Any] = json.loads(line)
            return found
        process.wait()
        errors.seek(0)
        raise subprocess.CalledProcessError(process.returncode, command, "", errors.read()[-3000:])


def run(report: Report, *, quick: bool) -> None:
    """``quick``: ours alone."""
    right = expected()
    grid = [["", f"right of {len(CHECKS)}", "flush, ms"]]
    for way in (OURS,) if quick else (OURS, *PEERS):
        if not installed(way):
            report.note(f"{way} is not installed: `uv sync --group peers`")
            continue
        with tempfile.TemporaryDirectory(prefix="pyrepl3-bench-") as folder:
            try:
                flush = ask("live", way, folder)["flush"]
                results = ask("restore", way, folder)["results"]
            except subprocess.CalledProcessError as error:
                report.note(f"{way} failed: {error}\n{error.stderr}")
                continue
        wrong = {name: text for name, text in results.items() if text != right[name]}
        shown = number(flush * 1e3) if way == OURS else "-"
        grid.append([way, str(len(CHECKS) - len(wrong)), shown])
        said = "; ".join(f"{name}: {text[:80]}" for name, text in wrong.items())
        report.note(f"{way}, not right: {said or 'nothing'}")
        if way == OURS:
            report.target(f"hidden changes wrong of {len(CHECKS)}", 0, "checks", float(len(wrong)))
    title = "## Hidden changes and process state: flush, SIGKILL, restored"
    report.note(f"{title}\n\n" + "\n".join(markdown(grid)))


if __name__ == "__main__":
    if len(sys.argv) == 4:
        child(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    else:
        whole = Report(machine())
        run(whole, quick="--quick" in sys.argv)
        whole.close(0.0)
