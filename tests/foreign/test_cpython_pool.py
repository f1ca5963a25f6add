"""CPython's own tests of ``multiprocessing.Pool``, run on fastpool under each start method."""

from collections.abc import Iterator

import pytest
from helpers import foreign_driver
from helpers.foreign_driver import LIMIT, MARGIN, METHODS, Runner

foreign_driver.require("test._test_multiprocessing")

LISTING = foreign_driver.listing("pool", METHODS)


def slow(method: str, test_id: str) -> str | None:
    if (method, test_id) == ("spawn", "MiscTestCase.test_large_pool"):
        return "starts 200 interpreters"
    return None


@pytest.fixture(scope="module")
def runners(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Runner]]:
    impl = request.config.getoption("--impl", None)
    made = {
        method: Runner("pool", method, tmp_path_factory.mktemp(method), impl) for method in METHODS
    }
    yield made
    for runner in made.values():
        runner.close(patience=5)


@pytest.mark.parametrize(
    ("method", "test_id", "seconds"), list(foreign_driver.parameters(LISTING, slow, LIMIT * 4))
)
def test_cpython(method: str, test_id: str, seconds: float, runners: dict[str, Runner]) -> None:
    foreign_driver.run(runners, method, test_id, seconds)


@pytest.mark.timeout_s(LIMIT + MARGIN + 15)
@pytest.mark.parametrize("method", METHODS)
def test_nothing_left(method: str, runners: dict[str, Runner]) -> None:
    """After the tests above: no process or thread left, no fixture of a class failed at its end."""
    foreign_driver.close(runners[method])


@pytest.mark.parametrize("method", METHODS)
def test_all_bound(method: str) -> None:
    """Every test of CPython's that mentions Pool is bound, or is an exception with a reason."""
    assert LISTING[method]["unbound"] == []
    assert set(LISTING[method]["exceptions"]) <= set(LISTING[method]["tests"])
