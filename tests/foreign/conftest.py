"""What the two files of CPython's tests have in common; each has its SUBJECT and its LISTING."""

from collections.abc import Iterator

import pytest
from helpers.foreign_driver import Runner


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "method" in metafunc.fixturenames and "test_id" not in metafunc.fixturenames:
        metafunc.parametrize("method", list(metafunc.module.LISTING))


@pytest.fixture(scope="module")
def runners(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Runner]]:
    """The process of each start method, by its name."""
    impl = request.config.getoption("--impl", None)
    made = {
        method: Runner(request.module.SUBJECT, method, tmp_path_factory.mktemp(method), impl)
        for method in request.module.LISTING
    }
    yield made
    for runner in made.values():
        runner.close(patience=5)
