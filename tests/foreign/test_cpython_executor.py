"""CPython's own tests of ``ProcessPoolExecutor``, run on fastpool: under fork, or all with =all."""

from collections.abc import Iterator

import pytest
from helpers import foreign_driver
from helpers.foreign_driver import EVERYTHING, LIMIT, MARGIN, Runner

foreign_driver.require("test.test_concurrent_futures")

METHODS = foreign_driver.METHODS if EVERYTHING else ("fork",)
LISTING = foreign_driver.listing("executor", METHODS)

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


@pytest.fixture(scope="module")
def runners(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Runner]]:
    impl = request.config.getoption("--impl", None)
    made = {
        method: Runner("executor", method, tmp_path_factory.mktemp(method), impl)
        for method in METHODS
    }
    yield made
    for runner in made.values():
        runner.close(patience=5)


@pytest.mark.parametrize(
    ("method", "test_id", "seconds"), list(foreign_driver.parameters(LISTING, slow, LIMIT))
)
def test_cpython(method: str, test_id: str, seconds: float, runners: dict[str, Runner]) -> None:
    foreign_driver.run(runners, method, test_id, seconds)


@pytest.mark.timeout_s(LIMIT + MARGIN + 15)
@pytest.mark.parametrize("method", METHODS)
def test_nothing_left(method: str, runners: dict[str, Runner]) -> None:
    """After the tests above: no process or thread left, no fixture of a class failed at its end."""
    foreign_driver.close(runners[method])


@pytest.mark.parametrize("method", METHODS)
def test_each_exception_is_about_a_test_that_there_is(method: str) -> None:
    assert set(LISTING[method]["exceptions"]) <= set(LISTING[method]["tests"])
    assert LISTING[method]["unbound"] == []
