"""Of a program's interpreters only the main one has pools: the others are told so at once.

Whatever kind it is: one that shares the GIL with the others ("legacy"), or one that is "isolated".
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest

MODULE = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"

pytestmark = [
    pytest.mark.fastpool_only,
    pytest.mark.skipif(
        importlib.util.find_spec(MODULE) is None, reason="this Python makes no subinterpreters"
    ),
]

PROGRAM = f"""
import sys
import {MODULE} as interpreters

IMPORT = f'''
import sys
sys.path[:] = {{sys.path}}
try:
    from fastpool import {{{{}}}}
except ImportError as error:
    print("subinterpreter" in str(error), flush=True)
'''

def run_in_another(kind, code):
    if sys.version_info >= (3, 13):
        one = interpreters.create(kind)
    else:
        one = interpreters.create(isolated=kind == "isolated")
    interpreters.run_string(one, code)
    interpreters.destroy(one)

if __name__ == "__main__":
"""


@pytest.mark.parametrize("name", ["Pool", "ProcessPoolExecutor", "register_joblib_backend"])
@pytest.mark.parametrize("kind", ["isolated", "legacy"])
def test_a_subinterpreter_is_told_that_it_can_have_no_pool(
    run_script: Any, kind: str, name: str
) -> None:
    body = f"""
    run_in_another({kind!r}, IMPORT.format({name!r}))
    """
    assert run_script(PROGRAM + body).finish() == "True\n"


@pytest.mark.parametrize("kind", ["isolated", "legacy"])
def test_the_main_interpreter_has_pools_though_another_has_asked_before_and_after(
    run_script: Any, kind: str
) -> None:
    body = f"""
    run_in_another({kind!r}, IMPORT.format("Pool"))
    from fastpool import Pool
    with Pool(1) as pool:
        run_in_another({kind!r}, IMPORT.format("Pool"))
        print(pool.map(abs, [-1, 2]))
    """
    assert run_script(PROGRAM + body).finish() == "True\nTrue\n[1, 2]\n"
