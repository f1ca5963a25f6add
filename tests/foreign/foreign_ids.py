"""The bound tests by their names, "Class.test", and how their scripts come to be bound.

What is bound is handed in: the ``CASES`` of foreign_pool_cases.py or foreign_executor_cases.py.
"""

import importlib
import unittest
from collections.abc import Callable
from typing import Any


def test_ids(cases: dict[str, type]) -> list[str]:
    """All bound tests as "Class.test", class by class."""
    loader = unittest.TestLoader()
    return [
        f"{name}.{test}" for name, case in cases.items() for test in loader.getTestCaseNames(case)
    ]


def make_test(cases: dict[str, type], test_id: str) -> unittest.TestCase:
    """The test with this id."""
    name, _, test = test_id.partition(".")
    case: Callable[[str], unittest.TestCase] = cases[name]
    return case(test)


def bind_scripts() -> None:
    """Have CPython run the scripts of its tests so that they read PYTHONPATH.

    It runs them with ``-I`` or ``-E``, unless the interpreter needs its environment.
    """
    helper: Any = importlib.import_module("test.support.script_helper")
    helper.interpreter_requires_environment = lambda: True
