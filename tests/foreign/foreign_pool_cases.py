"""CPython's tests of ``multiprocessing.Pool``, bound to the pool under test.

The tests are imported from the running interpreter's own ``test`` package; no line of them is here.
Each class bound is a subclass that keeps those of its tests that use a pool. Workers import this
module too, because some tests send class methods to them.
"""

import ast
import importlib
import inspect
import multiprocessing
import unittest
import unittest.mock
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import foreign_binding
import foreign_ids

METHOD = foreign_binding.METHOD or "fork"

# "Class.test" -> why it can't apply to another implementation. Shown as skipped, with the reason.
EXCEPTIONS: dict[str, str] = {}

# What is bound: the class's name here -> the names of its tests, or None for all that it has.
POOL_MODULE = "test._test_multiprocessing"
POOL_CASES: dict[str, tuple[str, ...] | None] = {
    "WithProcessesTestPool": None,
    "WithProcessesTestPoolWorkerErrors": None,
    "WithProcessesTestPoolWorkerLifetime": None,
    "TestInitializers": ("test_pool_initializer",),
    "TestStdinBadfiledescriptor": ("test_pool_in_process",),
    "TestPoolNotLeakOnFailure": None,
    "MiscTestCase": ("test_large_pool",),
    "TestSyncManagerTypes": ("test_pool",),
    "WithManagerTestPool": None,
}
MAIN_MODULE = "test.test_multiprocessing_main_handling"
MAIN_CASES = {
    "fork": "ForkCmdLineTest",
    "spawn": "SpawnCmdLineTest",
    "forkserver": "ForkServerCmdLineTest",
}
OTHER_CASES = {
    "test.test_importlib.test_threaded_import": (
        "ThreadedImportTests",
        ("test_multiprocessing_pool_circular_import",),
    ),
    "test.test_venv": ("BasicTest", ("test_multiprocessing",)),
}


def _keep(base: type, names: tuple[str, ...] | None) -> type:
    """A subclass of a test class, living in this module, with only some of the tests."""
    members: dict[str, Any] = {"__module__": __name__}
    for name in unittest.TestLoader().getTestCaseNames(base):
        if names is not None and name not in names:
            members[name] = None  # unittest collects callables only
    return type(base.__name__, (base,), members)


def _with_set_up(base: type, set_up: Callable[[unittest.TestCase], None]) -> type:
    """A subclass of a test class that does something more before each test."""

    def setUp(self: unittest.TestCase) -> None:
        base.setUp(self)  # type: ignore[attr-defined]
        set_up(self)

    return type(base.__name__, (base,), {"__module__": __name__, "setUp": setUp})


def _bind_pool_class(test: unittest.TestCase) -> None:
    """For tests that name the class ``multiprocessing.pool.Pool`` and not the factory."""
    patcher = unittest.mock.patch("multiprocessing.pool.Pool", foreign_binding.make_pool)
    patcher.start()
    test.addCleanup(patcher.stop)


def _check_exit_codes(test: unittest.TestCase) -> None:
    """For tests whose pool is in a child process, and that only wait for it to end."""
    original = multiprocessing.Process

    def start_checked(*args: Any, **kwds: Any) -> multiprocessing.Process:
        process = original(*args, **kwds)
        test.addCleanup(lambda: test.assertEqual(process.exitcode, 0))
        return process

    patcher = unittest.mock.patch("multiprocessing.Process", start_checked)
    patcher.start()
    test.addCleanup(patcher.stop)


SET_UP = {
    "TestPoolNotLeakOnFailure": _bind_pool_class,
    "TestStdinBadfiledescriptor": _check_exit_codes,
}


def _bind_pool() -> Iterator[type]:
    module: Any = importlib.import_module(POOL_MODULE)
    installed: dict[str, Any] = {"__name__": __name__}
    module.install_tests_in_module_dict(installed, METHOD)
    globals().update({name: installed[name] for name in ("setUpModule", "tearDownModule")})
    for name, tests in POOL_CASES.items():
        if name not in installed:
            continue  # a class that this version doesn't have yet
        case = _keep(installed[name], tests)
        yield _with_set_up(case, SET_UP[name]) if name in SET_UP else case


def _bind_scripts() -> Iterator[type]:
    main = importlib.import_module(MAIN_MODULE)
    yield _keep(getattr(main, MAIN_CASES[METHOD]), None)
    for other, (name, tests) in OTHER_CASES.items():
        base = getattr(importlib.import_module(other), name)
        yield _keep(base, tests)


def _add(cases: Iterator[type]) -> None:
    for case in cases:
        CASES[case.__name__] = globals()[case.__name__] = case


CASES: dict[str, type] = {}
_add(_bind_pool())


def bind_scripts() -> None:
    """Add the tests that only run scripts, which workers never need, and bind the scripts."""
    _add(_bind_scripts())
    foreign_ids.bind_scripts()


def unbound() -> list[str]:
    """Tests of CPython's main test module that mention Pool and are neither bound nor excepted."""
    module: ModuleType = importlib.import_module(POOL_MODULE)
    tree = ast.parse(inspect.getsource(module))
    helpers = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and node.name != "install_tests_in_module_dict"
        and _mentions(node, {"Pool"})
    }
    bound = {test_id.removeprefix("WithProcesses") for test_id in foreign_ids.test_ids(CASES)}
    bound |= {test_id.removeprefix("WithProcesses") for test_id in EXCEPTIONS}
    found = []
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        case = node.name.lstrip("_")
        tests = [
            part
            for part in node.body
            if isinstance(part, ast.FunctionDef) and part.name.startswith("test")
        ]
        shared = {  # methods of the class that tests may call
            part.name
            for part in node.body
            if isinstance(part, ast.FunctionDef)
            and part not in tests
            and _mentions(part, {"Pool"} | helpers)
        }
        all_use = not shared.isdisjoint({"setUp", "setUpClass"})
        found += [
            f"{case}.{test.name}"
            for test in tests
            if all_use or _mentions(test, {"Pool"} | helpers | shared)
        ]
    return sorted(set(found) - bound)


def _mentions(node: ast.AST, names: set[str]) -> bool:
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id in names:
            return True
        if isinstance(part, ast.Attribute) and part.attr in names:
            return True
        if isinstance(part, ast.Constant) and any(f"{name}(" in str(part.value) for name in names):
            return True  # a script
    return False
