"""CPython's own tests of ``ProcessPoolExecutor``, run on fastpool: under fork, or all with =all."""

import pytest
from helpers import foreign_driver
from helpers.foreign_driver import EVERYTHING, LIMIT, Runner

foreign_driver.require("test.test_concurrent_futures")

METHODS = foreign_driver.METHODS if EVERYTHING else ("fork",)
SUBJECT = "executor"
LISTING = foreign_driver.listing(SUBJECT, METHODS)

#: Tests that sleep for a second and more; tests/executor looks at the same without sleeping.
SLEEPY = {
    "WaitTest": "sleep",
    "WaitTests": "sleep",
    "AsCompletedTest": "sleep",
    "AsCompletedTests": "sleep",
    "test_map_timeout": "sleeps for six seconds",
    "test_hang_issue12364": "sleeps for a second",
    "test_interpreter_shutdown": "sleeps for a second",
}


def slow(method: str, test_id: str) -> str | None:
    case, _, test = test_id.partition(".")
    return SLEEPY.get(test) or next(
        (reason for end, reason in SLEEPY.items() if case.endswith(end)), None
    )


@pytest.mark.parametrize(
    ("method", "test_id", "seconds"), list(foreign_driver.parameters(LISTING, slow, LIMIT))
)
def test_cpython(method: str, test_id: str, seconds: float, runners: dict[str, Runner]) -> None:
    foreign_driver.run(runners, method, test_id, seconds)


test_nothing_left = foreign_driver.test_nothing_left


def test_each_exception_is_about_a_test_that_there_is(method: str) -> None:
    assert set(LISTING[method]["exceptions"]) <= set(LISTING[method]["tests"])
    assert LISTING[method]["unbound"] == []
