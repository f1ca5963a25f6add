"""CPython's own tests of ``multiprocessing.Pool``, run on fastpool under each start method."""

import pytest
from helpers import foreign_driver
from helpers.foreign_driver import LIMIT, METHODS, Runner

foreign_driver.require("test._test_multiprocessing")

SUBJECT = "pool"
LISTING = foreign_driver.listing(SUBJECT, METHODS)


def slow(method: str, test_id: str) -> str | None:
    if method != "fork" and test_id == "MiscTestCase.test_large_pool":
        return "200 workers import everything anew"
    return None


@pytest.mark.parametrize(
    ("method", "test_id", "seconds"), list(foreign_driver.parameters(LISTING, slow, LIMIT * 4))
)
def test_cpython(method: str, test_id: str, seconds: float, runners: dict[str, Runner]) -> None:
    foreign_driver.run(runners, method, test_id, seconds)


test_nothing_left = foreign_driver.test_nothing_left


def test_all_bound(method: str) -> None:
    """Every test of CPython's that mentions Pool is bound, or is an exception with a reason."""
    assert LISTING[method]["unbound"] == []
    assert set(LISTING[method]["exceptions"]) <= set(LISTING[method]["tests"])
