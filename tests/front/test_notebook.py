"""Reading notebooks: code cells, tags, magics, and clear errors."""

import json

import pytest

from pyrepl3.errors import SourceError
from pyrepl3.front.notebook import read_notebook
from pyrepl3.front.sources import read_source


def notebook(*cells, **fields):
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells), **fields}


def code(source, *tags):
    return {
        "cell_type": "code",
        "source": source,
        "metadata": {"tags": list(tags)},
        "outputs": [],
        "execution_count": None,
    }


def read(content):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return read_notebook(data, path="/d/n.ipynb", shown="n.ipynb")


def test_code_cells_are_cells_and_text_is_not():
    found = read(
        notebook(
            {"cell_type": "markdown", "source": "# Title", "metadata": {}},
            code("a = 1\nb"),
            {"cell_type": "raw", "source": "%x", "metadata": {}},
            code(["c = 2\n", "d"]),
            code(" \n# words only"),
        )
    )
    assert [(cell.source, cell.position) for cell in found.cells] == [
        ("a = 1\nb", 1),
        ("c = 2\nd", 3),
    ]
    assert [cell.filename for cell in found.cells] == ["/d/n.ipynb, cell 1", "/d/n.ipynb, cell 2"]
    assert [cell.label for cell in found.cells] == ["a = 1", "c = 2"]


def test_tags_mean_what_nbclient_says():
    found = read(notebook(code("a", "skip-execution"), code("b", "raises-exception"), code("c")))
    assert [(cell.source, cell.may_fail) for cell in found.cells] == [("b", True), ("c", False)]


def test_a_skipped_cell_may_hold_any_magic():
    assert read(notebook(code("%lprun f()", "skip-execution"), code("a"))).cells[0].source == "a"


def test_format_3_is_read():
    old = {
        "nbformat": 3,
        "metadata": {"name": ""},
        "worksheets": [
            {"cells": [{"cell_type": "code", "input": "a = 1", "language": "python"}]},
            {"cells": [{"cell_type": "code", "input": ["b\n", "c"]}]},
        ],
    }
    assert [cell.source for cell in read(old).cells] == ["a = 1", "b\nc"]


def test_every_magic_that_is_refused_is_named_by_cell_and_line():
    with pytest.raises(SourceError) as caught:
        read(notebook(code("a = 1"), code("b\n%lprun f()"), code("%%cython\nx")))
    tail = "is an IPython magic that pyrepl3 does not run; remove the line or write it in Python"
    assert str(caught.value).splitlines() == [
        f"n.ipynb, cell 2, line 2: %lprun {tail}",
        f"n.ipynb, cell 3, line 1: %%cython {tail}",
    ]


def test_what_is_ignored_is_a_notice():
    found = read(notebook(code("a"), code("%matplotlib inline\nb")))
    assert found.notices == (
        "cell 2, line 1: %matplotlib is ignored: figures are shown by their own backend",
    )


BROKEN = {
    "not json": (b'{"a":\n x}', "n.ipynb, line 2, column 2: not JSON"),
    "empty": (b"", "n.ipynb is empty"),
    "binary": (b"\x89PNG\r\n\x1a\n\0\0\xff", "is a binary file"),
    "a list": ([1], "is JSON but no notebook"),
    "no format": ({"cells": []}, "it has no nbformat number"),
    "format 2": ({"nbformat": 2, "cells": []}, "format 2"),
    "format 5": ({"nbformat": 5, "cells": []}, "format 5"),
    "no cells": ({"nbformat": 4}, "no list of cells"),
    "a cell that is none": (notebook(3), "entry 1 of its cells is no cell"),
    "a cell without source": (
        notebook({"cell_type": "code"}),
        "entry 1 of its cells has no source",
    ),
    "a source of numbers": (notebook({"cell_type": "code", "source": [1]}), "has no source"),
    "deep": (b"[" * 200_000, "nested too deeply"),
    "R": (notebook(metadata={"kernelspec": {"language": "R"}}), "is a notebook in R"),
    "Julia": (notebook(metadata={"language_info": {"name": "julia"}}), "notebook in julia"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_notebook_is_refused_with_its_name(content, message):
    with pytest.raises(SourceError) as caught:
        read(content)
    assert message in str(caught.value)


def test_a_notebook_is_known_by_its_name(tmp_path):
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps(notebook(code("a"))))
    found = read_source(str(path))
    assert found.cells[0].filename == f"{path}, cell 1"
    assert found.notebook is not None
