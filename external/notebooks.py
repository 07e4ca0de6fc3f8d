"""The notebooks of nbclient's archive, through ``pyrepl3 run``: their stored outputs beside ours."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from external.archives import unpacked
from external.cases import Suite

NAME, VERSION = "nbclient", "0.11.0"
SECONDS = 30  # for one notebook

# What their tests run these notebooks with, in our words.
OPTIONS = {
    "Error": ["--keep-going"],
    "Interrupt": ["--timeout", "1", "--keep-going"],
    "Skip Exceptions": ["--keep-going"],
}
# Saved without outputs: their tests look at other things.
STATUS_ONLY = {"Disable Stdin", "Sleep1s"}
# An error that a notebook keeps going after is still an error of the run.
STATUS = {"Autokill": -signal.SIGTERM, "Error": 1, "Interrupt": 1, "Skip Exceptions": 1}


def run() -> Suite:
    """Two at a time: two of them wait for each other."""
    suite = Suite("nbclient", f"{NAME} {VERSION}, tests/files/*.ipynb")
    theirs = unpacked(NAME, VERSION) / "tests" / "files"
    with tempfile.TemporaryDirectory(prefix="pyrepl3-external-") as folder:
        files = Path(shutil.copytree(theirs, Path(folder, "files")))
        names = sorted(path.stem for path in files.glob("*.ipynb"))
        names.sort(key=lambda name: not name.startswith("Parallel"))
        with ThreadPoolExecutor(2) as pool:
            for found in pool.map(lambda name: _run_one(files, name, Path(folder)), names):
                suite.cases += found.cases
                suite.skipped += found.skipped
    return suite


def _run_one(files: Path, name: str, folder: Path) -> Suite:
    suite = Suite("nbclient", "")
    saved = folder / f"{name} out.ipynb"
    command = [sys.executable, "-m", "pyrepl3", "run", f"{name}.ipynb", "--save-to", str(saved)]
    command += OPTIONS.get(name, [])
    env = os.environ | {"NBEXECUTE_TEST_PARALLEL_TMPDIR": str(folder), "IPYTHONDIR": str(folder)}
    try:
        done = subprocess.run(
            command,
            cwd=files,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        suite.add(name, "status", f"{STATUS.get(name, 0)}", f"still running after {SECONDS} s")
        return suite
    status = f"{done.returncode}"
    if done.returncode != STATUS.get(name, 0) and done.stderr.strip():
        status += f": {done.stderr.strip().splitlines()[-1]}"
    suite.add(name, "status", f"{STATUS.get(name, 0)}", status)
    if name in STATUS_ONLY or not saved.exists():
        return suite
    goes_on = "--keep-going" in command
    wanted, got = (
        [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if "outputs" in cell]
        for path in (files / f"{name}.ipynb", saved)
    )
    for n, (their_cell, our_cell) in enumerate(zip(wanted, got, strict=True), 1):
        theirs, ours = _shown(their_cell["outputs"]), _shown(our_cell["outputs"])
        suite.add(name, f"cell {n}", theirs, ours)
        if theirs != ours and not goes_on and _failed(our_cell["outputs"]):
            suite.skipped.append(f"{name}: what comes after cell {n}, which fails")
            break
    return suite


def _failed(outputs: list[dict[str, Any]]) -> bool:
    return any(output["output_type"] == "error" for output in outputs)


def _shown(outputs: list[dict[str, Any]]) -> str:
    """What a reader sees: texts, MIME types and plain forms, names of errors."""
    streams = {"stdout": "", "stderr": ""}
    parts = []
    for output in outputs:
        match output["output_type"]:
            case "stream":
                streams[output["name"]] += "".join(output["text"])
            case "error":
                parts.append(f"{output['ename']}: {output['evalue']}")
            case kind:
                data = output["data"]
                plain = re.sub("0x[0-9a-f]+", "0x…", "".join(data.get("text/plain", "")))
                others = [mime for mime in sorted(data) if mime != "text/plain"]
                parts.append(" ".join([kind, plain, *others]))
    texts = [f"{name} {text!r}" for name, text in streams.items() if text]
    return "; ".join([*texts, *parts]) or "nothing"
