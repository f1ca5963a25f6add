"""Functions from a notebook's cells, which no file holds, in workers that are forked; or that are
spawned, where the pool's serializer sends them by value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

for _module in ("nbformat", "nbclient", "ipykernel"):
    pytest.importorskip(_module)

pytestmark = pytest.mark.timeout_s(60)

RUNNER = """
    import json, sys
    import nbclient, nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    with open(sys.argv[1]) as file:
        cells = json.load(file)
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    nbformat.validate(notebook)
    client = nbclient.NotebookClient(notebook, timeout=30, kernel_name="python3")
    client.execute()
    texts = []
    for cell in notebook.cells:
        texts.append("".join(output.get("text", "") for output in cell.outputs))
    print(json.dumps(texts))
"""


@pytest.fixture
def run_notebook(impl: Any, run_script: Any, tmp_path: Path) -> Any:
    """`run_notebook(cell, ...)` returns what each cell printed; `Pool` is there, and forks."""
    first = f"""\
import multiprocessing
multiprocessing.set_start_method("fork")
from {impl.name} import Pool"""

    def run(*cells: str) -> list[str]:
        path = tmp_path / "cells.json"
        path.write_text(json.dumps([first, *cells]))
        script = run_script(
            RUNNER,
            arguments=[str(path)],
            environment={
                "IPYTHONDIR": str(tmp_path / "ipython"),
                "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
                "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
                "JUPYTER_PLATFORM_DIRS": "1",
            },
        )
        texts = json.loads(script.finish(50).splitlines()[-1])
        assert texts[0] == ""
        return texts[1:]

    return run


def test_a_function_of_a_cell_and_another_of_that_name_later(run_notebook: Any) -> None:
    texts = run_notebook(
        """\
def scale(x):
    return 2 * x

def add(a, b):
    return scale(a) + b""",
        """\
with Pool(2) as pool:
    print(pool.map(scale, range(5)))
    print(pool.starmap(add, [(1, 2), (3, 4)]))
    print(pool.apply(scale, ("ab",)), list(pool.imap(scale, [1, 2])))
    print(sorted(pool.imap_unordered(scale, range(3), chunksize=2)))""",
        """\
def scale(x):
    return 30 * x""",
        """\
with Pool(2) as pool:
    print(pool.map(scale, range(5)))
    print(pool.starmap(add, [(1, 2), (3, 4)]))""",
    )
    assert texts == [
        "",
        "[0, 2, 4, 6, 8]\n[4, 10]\nabab [2, 4]\n[0, 2, 4]\n",
        "",
        "[0, 30, 60, 90, 120]\n[32, 94]\n",
    ]


def test_one_pool_for_several_cells(run_notebook: Any) -> None:
    texts = run_notebook(
        """\
class Point:
    def __init__(self, x):
        self.x = x
    def moved(self, by):
        return Point(self.x + by)

def move(point):
    return point.moved(1)

offset = 10
def plus_offset(x):
    return x + offset

def fail(x):
    raise KeyError(x)

pool = Pool(2)""",
        "print([point.x for point in pool.map(move, [Point(i) for i in range(4)])])",
        "print(pool.map(plus_offset, range(3)))",
        """\
try:
    pool.map(fail, ["key"])
except KeyError as error:
    print(error, "in fail" in str(error.__cause__), type(error.__cause__).__name__)""",
        "result = pool.map_async(Point(5).moved, range(3))",
        "print([point.x for point in result.get(10)])",
        """\
pool.close()
pool.join()
print("over")""",
    )
    assert texts == [
        "",
        "[1, 2, 3, 4]\n",
        "[10, 11, 12]\n",
        "'key' True RemoteTraceback\n",
        "",
        "[5, 6, 7]\n",
        "over\n",
    ]


def test_a_pool_that_no_cell_ends_goes_with_the_kernel(run_notebook: Any) -> None:
    """That no process is left is seen by the program's end."""
    texts = run_notebook(
        "pool = Pool(2)",
        "print(pool.map(abs, range(-3, 0)))",
    )
    assert texts == ["", "[3, 2, 1]\n"]


@pytest.mark.fastpool_only
def test_a_spawned_worker_gets_by_value_what_cells_define(run_notebook: Any) -> None:
    texts = run_notebook(
        """\
context = multiprocessing.get_context("spawn")
offset = 10
def begin(value):
    global begun
    begun = value
pools = [
    Pool(1, begin, (5,), context=context, serializer=kind) for kind in ("cloudpickle", "auto")
]""",
        """\
class Point:
    def __init__(self, x):
        self.x = x

def shift(point):
    return Point(point.x + offset)

for pool in pools:
    shifted = pool.map(shift, [Point(i) for i in range(3)])
    print([point.x for point in shifted], all(type(point) is Point for point in shifted))""",
        """\
offset = 20
for pool in pools:
    print(pool.apply(shift, (Point(1),)).x, list(pool.imap(lambda x: x + offset, range(2))))
    pool.terminate()""",
    )
    assert texts == [
        "",
        "[10, 11, 12] True\n" * 2,
        "21 [20, 21]\n" * 2,
    ]
