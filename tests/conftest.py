"""A hard limit for every test, pools that are proved to leave nothing behind, and the
implementations that one specification runs on.

    --impl multiprocessing          run the specification on the reference: that shows that it is
                                    right. By default it runs on fastpool
    --impl fallback                 the same on what stands in where there is no native core
    @pytest.mark.reference          given to each test that runs on the reference
    @pytest.mark.timeout_s(n)       this test may take n seconds (default 30), stacks after that
    @pytest.mark.fastpool_only      a promise that multiprocessing.Pool doesn't make
    @pytest.mark.start_methods(...) only these start methods, where it asks for `start_method`
    @pytest.mark.reference_is_slow  on multiprocessing, only run by -m slow
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS_DIRECTORY = Path(__file__).resolve().parent
if str(TESTS_DIRECTORY) not in sys.path:
    sys.path.insert(0, str(TESTS_DIRECTORY))

import helpers  # noqa: E402
from helpers import procs  # noqa: E402
from helpers.impls import IMPLEMENTATIONS, START_METHODS, Implementation  # noqa: E402
from helpers.scripts import Script  # noqa: E402
from helpers.tasks import Gate  # noqa: E402

DEFAULT_LIMIT = 30.0
TEARDOWN_LIMIT = 15.0
REPEAT = 5.0
"""A raised timeout can be lost (in a __del__, in a callback): it comes again this often."""
GRACE = 12.0
"""What the outer watchdog adds to the limit before it kills."""


# --- options, markers, parameters ---------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--impl",
        choices=IMPLEMENTATIONS,
        default="fastpool",
        help="run the tests of the pool's contract on this implementation",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "timeout_s(seconds): hard limit of this test")
    config.addinivalue_line("markers", "fastpool_only: not a promise of multiprocessing.Pool")
    config.addinivalue_line("markers", "start_methods(*names): the start methods to run under")
    config.addinivalue_line("markers", "reference_is_slow: on multiprocessing.Pool, slow")
    # The pools under test fork beside threads of other pools; that warning is no news here.
    config.addinivalue_line("filterwarnings", "ignore:.*multi-threaded.*fork:DeprecationWarning")
    if config.getoption("--impl") == "fallback":  # where it really stands in, it warns
        os.environ["PYTHONWARNINGS"] = "ignore:fastpool"
    _hear_signals()
    _limit.start()


def _hear_signals() -> None:
    """Under nohup, or in the background of a script, programs are born deaf to some signals."""
    for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(signum) is signal.SIG_IGN:
            heard = signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL
            signal.signal(signum, heard)


def pytest_unconfigure(config: pytest.Config) -> None:
    _limit.stop()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "impl" in metafunc.fixturenames:
        metafunc.parametrize("impl", IMPLEMENTATIONS, indirect=True, scope="module")
    if "start_method" in metafunc.fixturenames:
        metafunc.parametrize("start_method", START_METHODS, indirect=True, scope="module")


@pytest.hookimpl(tryfirst=True)  # before -m looks at the markers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Drop the combinations that make no sense; all lists are the same before, so that tests
    that share a pool stay together."""

    impl = config.getoption("--impl")

    def wanted(item: pytest.Item) -> bool:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        method = parameters.get("start_method")
        if parameters.get("impl", impl) != impl:
            return False
        if impl != "fastpool" and item.get_closest_marker("fastpool_only"):
            return False
        if impl != "fastpool" and "impl" in parameters:
            item.add_marker(pytest.mark.reference)
            # That the specification is right is shown by one start method.
            if method not in (None, "fork") or item.get_closest_marker("reference_is_slow"):
                item.add_marker(pytest.mark.slow)
        marker = item.get_closest_marker("start_methods")
        return not (marker and method is not None and method not in marker.args)

    items[:] = [item for item in items if wanted(item)]


# --- the hard limit -----------------------------------------------------------------------------


class _Limit:
    """SIGALRM raises in the main thread; a process outside kills if that doesn't help."""

    def __init__(self) -> None:
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._label = ""
        self._seconds = 0.0
        self._owner = 0
        self.stacks_path = ""

    def start(self) -> None:
        if self._watchdog is not None:
            return
        fd, self.stacks_path = tempfile.mkstemp(prefix="fastpool-test-stacks-")
        os.close(fd)
        os.environ[helpers.STACKS_VARIABLE] = self.stacks_path
        helpers.register_stack_dump()
        self._owner = os.getpid()
        self._watchdog = subprocess.Popen(
            [
                sys.executable,
                "-I",
                *["-S"] * procs.HAS_PROC,  # the helpers need psutil where there is none
                str(TESTS_DIRECTORY / "helpers" / "watchdog.py"),
                str(os.getpid()),
                self.stacks_path,
            ],
            stdin=subprocess.PIPE,
            bufsize=0,
        )
        signal.signal(signal.SIGALRM, self._expired)

    def stop(self) -> None:
        if self._watchdog is None or self._watchdog.stdin is None:
            return
        self._watchdog.stdin.close()
        try:
            self._watchdog.wait(5)
        except subprocess.TimeoutExpired:
            self._watchdog.kill()
            self._watchdog.wait()
        self._watchdog = None
        with contextlib.suppress(OSError):
            os.unlink(self.stacks_path)

    def _tell(self, line: str) -> None:
        if self._watchdog is not None and self._watchdog.stdin is not None:
            with contextlib.suppress(OSError):
                self._watchdog.stdin.write(f"{line}\n".encode())

    def arm(self, seconds: float, label: str) -> None:
        self._seconds, self._label = seconds, label
        self._tell(f"arm {seconds + GRACE} {label}")
        signal.signal(signal.SIGALRM, self._expired)
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01), REPEAT)

    def disarm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._tell("disarm")

    def _expired(self, _signum: int, _frame: types.FrameType | None) -> None:
        if os.getpid() != self._owner:
            return
        tree = [self._owner, *procs.descendants(self._owner)]
        if self._watchdog is not None and self._watchdog.pid in tree:
            tree.remove(self._watchdog.pid)
        text = procs.stacks(tree, self.stacks_path)
        pytest.fail(f"{self._label}: over its limit of {self._seconds:g} s\n{text}", pytrace=True)


_limit = _Limit()
_begin: pytest.StashKey[float] = pytest.StashKey()


def _limit_of(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout_s")
    return float(marker.args[0]) if marker else DEFAULT_LIMIT


@contextlib.contextmanager
def _limited(item: pytest.Item, seconds: float, phase: str) -> Iterator[None]:
    _limit.arm(seconds, f"{item.nodeid} ({phase})")
    try:
        yield
    finally:
        _limit.disarm()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    item.stash[_begin] = time.monotonic()
    with _limited(item, _limit_of(item), "setup"):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    used = time.monotonic() - item.stash[_begin]
    with _limited(item, max(1.0, _limit_of(item) - used), "call"):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    with _limited(item, TEARDOWN_LIMIT, "teardown"):
        return (yield)


_passed: pytest.StashKey[bool] = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.stash[_passed] = report.passed
    return report


# --- the session --------------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def _bare_main_module() -> Iterator[None]:
    """Workers that are started by spawn import the parent's __main__; not pytest, please.

    How functions from a real __main__ are found has its own tests, in subprocesses.
    """
    original = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    gc.collect()
    gc.freeze()  # what is loaded now stays: the collections around each test needn't look at it
    yield
    gc.unfreeze()
    sys.modules["__main__"] = original


@pytest.fixture(scope="module", autouse=True)
def _small_parent() -> Iterator[None]:
    """Give what a file's large values left in the allocator back to the system.

    It stays in the heaps of the threads that handled results; every fork of every later pool would
    copy its page tables.
    """
    yield
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl doesn't
    if trim is not None:
        trim(0)


@pytest.fixture(scope="session")
def _standing_helpers() -> None:
    """The processes that multiprocessing keeps for the whole session: no test's leftovers."""
    from multiprocessing import forkserver, resource_tracker

    resource_tracker.ensure_running()
    forkserver.ensure_running()


# --- implementations and pools ------------------------------------------------------------------


@pytest.fixture(scope="module")
def impl(request: pytest.FixtureRequest) -> Implementation:
    """The implementation under test; one specification runs on all."""
    return Implementation(request.param)


@pytest.fixture(scope="module")
def start_method(request: pytest.FixtureRequest) -> str:
    """How workers are started."""
    return request.param


class PoolFactory:
    """Makes pools for a test and closes what the test left open."""

    def __init__(self, implementation: Implementation, start_method: str) -> None:
        self.implementation = implementation
        self.start_method = start_method
        self._pools: list[Any] = []

    def __call__(
        self, processes: int | None = 2, *args: Any, start_method: str | None = None, **kwargs: Any
    ) -> Any:
        if "context" in kwargs:
            return self.own(self.implementation.pool_class(processes, *args, **kwargs))
        method = start_method or self.start_method
        return self.own(self.implementation.make(processes, *args, start_method=method, **kwargs))

    def own(self, pool: Any) -> Any:
        """Take over a pool that was made in another way."""
        self._pools.append(pool)
        return pool

    def close_all(self) -> None:
        while self._pools:
            pool = self._pools.pop()
            pool.terminate()
            pool.join()


@contextlib.contextmanager
def _owned(
    implementation: Implementation, start_method: str, check: Callable[[], bool]
) -> Iterator[PoolFactory]:
    """A factory whose pools are gone at the end, and everything with them."""
    gc.collect()
    before = procs.Snapshot()
    factory = PoolFactory(implementation, start_method)
    try:
        yield factory
    finally:
        factory.close_all()
    if check():
        gc.collect()
        left: list[str] = ["?"]

        def nothing_left() -> bool:
            left[:] = before.left_since()
            if left:
                gc.collect()
            return not left

        with contextlib.suppress(AssertionError):
            procs.wait_until(nothing_left, 5.0)
        if left:
            pytest.fail("the pool left behind:\n" + "\n".join(left), pytrace=False)


@pytest.fixture
def pool_factory(
    impl: Implementation, request: pytest.FixtureRequest, _standing_helpers: None
) -> Iterator[PoolFactory]:
    """`pool_factory(2, ...)` makes a pool; after the test nothing of it may be left."""
    method = "fork"
    if "start_method" in request.fixturenames:
        method = request.getfixturevalue("start_method")
    # A failed test's traceback keeps its frames, and so its pools, alive: nothing to prove then.
    with _owned(impl, method, lambda: request.node.stash.get(_passed, False)) as factory:
        yield factory


@pytest.fixture(scope="module")
def pool(impl: Implementation, start_method: str, _standing_helpers: None) -> Iterator[Any]:
    """One pool of two workers for all tests of a file that don't change it."""
    with _owned(impl, start_method, lambda: False) as factory:
        yield factory(2)


# --- small tools --------------------------------------------------------------------------------


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Holds tasks (`tasks.pass_gate`) until the test opens it."""
    return Gate(tmp_path / "gate")


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """A folder for the files that tasks leave as proof that they ran."""
    path = tmp_path / "traces"
    path.mkdir()
    return path


@pytest.fixture
def run_script(tmp_path: Path) -> Iterator[Callable[..., Script]]:
    """`run_script(source, ...)` starts a program; none of its processes outlives the test."""
    running: list[Script] = []

    def start(source: str, **options: Any) -> Script:
        running.append(Script(tmp_path / f"script-{len(running)}", source, **options))
        return running[-1]

    yield start
    for script in running:
        script.close()
