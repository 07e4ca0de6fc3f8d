"""The shape of files: what a reader may expect of each module and each example."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "src" / "pyrepl3").rglob("*.py"))


def name(path: Path) -> str:
    """The path as a reader writes it."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_opens_with_a_sentence_and_has_one_noun_s_length(path):
    text = path.read_text(encoding="utf-8")
    first, *_ = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")
    assert first.rstrip().endswith((".", ":", "?", "::"))
    assert len(text.splitlines()) <= 400, "split it by noun"


def test_the_notebook_of_the_tour_is_the_file_of_the_tour():
    """One tour, two ways to write it: `pyrepl3 run` must do the same with both."""
    notebook = json.loads((ROOT / "examples" / "tour.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    lines = (ROOT / "examples" / "tour.py").read_text(encoding="utf-8").split("\n# %% ")
    assert cells == [cell.partition("\n")[2].strip("\n") for cell in lines]
