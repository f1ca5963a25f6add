"""Found on PYTHONPATH by every process of these tests, before any of its own code runs.

Workers started by ``spawn``, scripts run by CPython's tests and the workers of those scripts all
pass here, so that ``multiprocessing.Pool`` means the pool under test in each of them.
"""

import importlib.machinery
import importlib.util
import os
import sys

import foreign_binding

foreign_binding.install()


def _run_shadowed() -> None:
    """Run the sitecustomize that this one hides, if the environment has its own."""
    here = os.path.dirname(os.path.abspath(__file__))
    others = [entry for entry in sys.path if os.path.abspath(entry) != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


_run_shadowed()
