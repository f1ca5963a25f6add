"""Programs that end without ending their pool: how they begin, and what their end must be like."""

from __future__ import annotations

import time
from typing import Any

PREAMBLE = """
    import gc, multiprocessing, os, signal, sys, threading, time
    from {module} import Pool
    from helpers import procs, tasks

"""


def start(run_script: Any, impl: Any, body: str, **options: Any) -> Any:
    """Run a program with the `Pool` of this implementation and all that these programs use."""
    return run_script(PREAMBLE.format(module=impl.name) + body, **options)


def ends(script: Any, code: int = 0, within: float = 5.0) -> str:
    """It ends with this code by itself within a short time after it said END."""
    script.wait_for("END")
    begin = time.monotonic()
    output = script.finish(code=code)
    assert time.monotonic() - begin < within
    return output
