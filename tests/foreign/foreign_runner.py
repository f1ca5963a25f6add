"""Run the bound tests in a process of its own: the ``__main__`` of all workers, so it stays small.

    python foreign_runner.py [TEST...]                 all tests, or those named, the unittest way
    python foreign_runner.py --list                    what there is, as JSON
    python foreign_runner.py --serve COMMANDS REPLIES  read test ids from one descriptor, write
                                                       a line of JSON for each to the other

``startup/`` must be on PYTHONPATH; README.md shows how. ``--list`` and ``--serve`` are for
test_cpython_pool.py.
"""

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import unittest

GRACE = 5.0  # seconds for the last children to leave
PR_SET_PDEATHSIG = 1


def children() -> dict[int, str]:
    """This process's children with their names, dead ones that nobody has waited for included."""
    found = {}
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children") as pids:
            for pid in pids.read().split():
                try:
                    with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/cmdline") as line:
                        command = line.read().replace("\0", " ").strip()
                        found[int(pid)] = f"{stat.read()[:60]}: {command}"
                except (FileNotFoundError, ProcessLookupError):
                    pass
    return found


def cases() -> Any:
    """The module that binds the tests of the subject."""
    subject = os.environ.get("FASTPOOL_FOREIGN_SUBJECT") or "pool"
    return importlib.import_module(f"foreign_{subject}_cases")


def serve(commands: IO[str], replies: IO[str]) -> None:
    """Run the tests whose ids come in, inside one suite, so that class fixtures are shared."""
    import unittest

    import foreign_binding
    import foreign_ids

    foreign_cases = cases()
    support: Any = importlib.import_module("test.support")
    state: dict[str, Any] = {}
    fixture: dict[str, str] = {}  # what the last set-up that didn't succeed has said
    problems: list[str] = []

    def send(**message: object) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    def pools_made() -> int:
        return os.path.getsize(foreign_binding.TRACE) if foreign_binding.TRACE else 1

    class Result(unittest.TestResult):
        def _note(self, outcome: str, test: object, text: str) -> None:
            # What isn't a test is a fixture; that of the class before is nothing to the next test.
            if not isinstance(test, unittest.TestCase):
                if "tearDown" in str(test):
                    problems.append(f"{test}: {text}")
                    return
                fixture.update(outcome=outcome, text=f"{test}: {text}")
            if state.get("outcome") not in ("failed", outcome):
                state.update(outcome=outcome, text=text)
            else:
                state["text"] += "\n" + text

        def startTest(self, test: "unittest.TestCase") -> None:
            super().startTest(test)
            state["outcome"] = "passed"
            send(phase="test")

        def addError(self, test: Any, err: Any) -> None:
            self._note("failed", test, "".join(traceback.format_exception(*err)))

        addFailure = addError

        def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
            if err is not None:
                self._note("failed", test, "".join(traceback.format_exception(*err)))

        def addSkip(self, test: Any, reason: str) -> None:
            self._note("skipped", test, reason)

    class Suite(unittest.TestSuite):
        """A suite that is told its tests one by one."""

        _cleanup = False  # there is no list to drop them from

        def _tearDownPreviousClass(self, test: Any, result: Any) -> None:
            send(phase="teardown")
            getattr(super(), "_tearDownPreviousClass")(test, result)  # noqa: B009
            send(phase="setup")

        def __iter__(self) -> Iterator["unittest.TestCase"]:
            before = 0
            for line in commands:
                test_id = line.strip()
                same_class = state.get("class") == test_id.partition(".")[0]
                if not same_class:
                    before = pools_made()  # a pool made for the class counts for each of its tests
                state.clear()
                state.update(outcome="", text="", **{"class": test_id.partition(".")[0]})
                started = time.monotonic()
                yield foreign_ids.make_test(foreign_cases.CASES, test_id)
                seconds = time.monotonic() - started
                if not state["outcome"]:
                    state.update(fixture)  # unittest says it for the first test only
                if state["outcome"] == "passed" and pools_made() == before:
                    state.update(outcome="failed", text="the test didn't use the pool under test")
                send(id=test_id, outcome=state["outcome"], text=state["text"], seconds=seconds)

    warn: Any = support.print_warning

    def print_warning(message: str) -> None:
        problems.append(message)
        warn(message)

    vars(print_warning).update(vars(warn))  # it keeps its stream in an attribute
    support.print_warning = print_warning
    foreign_cases.bind_scripts()
    foreign_binding.install_for_managers()
    Suite().run(Result())

    deadline = time.monotonic() + GRACE
    while (left := children()) and time.monotonic() < deadline:
        time.sleep(0.05)
    problems += [f"child left: {text}" for text in left.values()]
    send(phase="end", problems=problems)


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        commands, replies = (int(number) for number in sys.argv[2:4])
        for number in (commands, replies):
            os.set_inheritable(number, False)
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with open(commands) as lines, open(replies, "w") as out:
            serve(lines, out)
        return

    import foreign_binding
    import foreign_ids

    foreign_cases = cases()
    foreign_cases.bind_scripts()
    foreign_binding.install_for_managers()
    if sys.argv[1:2] == ["--list"]:
        listing = {
            "tests": foreign_ids.test_ids(foreign_cases.CASES),
            "exceptions": foreign_cases.EXCEPTIONS,
            "unbound": foreign_cases.unbound(),
        }
        print(json.dumps(listing))
        return
    import unittest

    tests = sys.argv[1:] or foreign_ids.test_ids(foreign_cases.CASES)
    unittest.main(module=foreign_cases, argv=[sys.argv[0], "-v", *tests])


if __name__ == "__main__":
    main()
