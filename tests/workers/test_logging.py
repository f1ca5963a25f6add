"""logging="forward": the parent handles what workers log."""

from __future__ import annotations

import logging
import operator
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import log_tasks, procs
from helpers.procs import wait_until

import fastpool
from fastpool._runtime import engine, log_forwarding, mailbox

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]


class Collector(logging.Handler):
    """Keeps records; a test may have it wait."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def emit(self, record: logging.LogRecord) -> None:
        self.may_go_on.wait(20)
        self.records.append(record)

    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """The logger that tasks use, as it is afterwards."""
    logger = logging.getLogger(log_tasks.NAME)
    logger.setLevel(logging.INFO)
    yield logger
    logger.setLevel(logging.NOTSET)
    logger.propagate = True
    for added in logger.handlers[:]:
        logger.removeHandler(added)
    for added in logger.filters[:]:
        logger.removeFilter(added)


@pytest.fixture
def collector(logger: logging.Logger) -> Collector:
    """A handler of that logger."""
    collector = Collector()
    logger.addHandler(collector)
    return collector


def _end(pool: Any) -> None:
    pool.close()
    pool.join()


# --- records ------------------------------------------------------------------------------------


def test_a_record_of_a_worker_is_handled_in_the_parent(
    pool_factory: Any, start_method: str, collector: Collector
) -> None:
    pool = pool_factory(1, logging="forward")
    pool.apply(log_tasks.log_an_error, (7,))
    name = pool.workers()[0].name
    _end(pool)
    (record,) = collector.records
    assert record.getMessage() == "7 by <class 'object'>"
    assert (record.name, record.levelname) == (log_tasks.NAME, "ERROR")
    assert (record.funcName, record.processName) == ("log_an_error", name)
    assert record.worker_id == 0  # type: ignore[attr-defined]
    assert record.process not in (None, os.getpid())
    assert record.pair == (1, 2)  # type: ignore[attr-defined]
    assert "lock object" in record.lock  # type: ignore[attr-defined]
    assert record.exc_info is None
    assert "ZeroDivisionError" in logging.Formatter("%(message)s").format(record)


def test_levels_and_filters_are_the_parents(
    pool_factory: Any, start_method: str, logger: logging.Logger, collector: Collector
) -> None:
    logger.setLevel(logging.DEBUG)  # though the root logger's is higher
    logger.addFilter(lambda record: "secret" not in record.getMessage())
    pool = pool_factory(1, logging="forward")
    for level, text in (
        (logging.DEBUG, "debug %d"),
        (logging.DEBUG - 1, "trace %d"),
        (logging.INFO, "secret %d"),
        (logging.INFO, "info %d"),
    ):
        pool.apply(log_tasks.log, (level, text, 5))
    _end(pool)
    assert collector.texts() == ["debug 5", "info 5"]


def test_a_record_below_the_level_is_not_even_sent(
    pool_factory: Any, monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    def refuse(record: logging.LogRecord) -> bytes:
        raise AssertionError("it was to be sent")

    monkeypatch.setattr(log_forwarding, "dump_record", refuse)
    pool = pool_factory(1, logging="forward")
    pool.apply(log_tasks.log, (logging.DEBUG, "debug"))
    pool.apply(log_tasks.log, (logging.INFO, "info"))  # its error is logging's to tell
    _end(pool)
    assert collector.records == []


def test_nothing_is_written_twice(pool_factory: Any, logger: logging.Logger, tmp_path: Any) -> None:
    path = tmp_path / "log"
    handler = logging.FileHandler(path)
    logger.addHandler(handler)
    logger.propagate = False  # a worker's records reach this handler all the same
    pool = pool_factory(2, logging="forward")
    assert pool.apply(log_tasks.handlers) == ["ForwardingHandler"]
    pool.starmap(log_tasks.log, [(logging.INFO, f"line {i}") for i in range(10)], 1)
    _end(pool)
    handler.close()
    assert sorted(path.read_text().splitlines()) == [f"line {i}" for i in range(10)]


def test_no_record_is_lost_and_each_worker_keeps_its_order(
    pool_factory: Any, collector: Collector
) -> None:
    pool = pool_factory(2, logging="forward")
    series = [f"series {i}" for i in range(4)]
    pool.map(log_tasks.log_all, [(name, 1000, 200_000) for name in series], 1)
    _end(pool)
    numbers = defaultdict(list)
    for record in collector.records:
        numbers[record.series].append(record.number)  # type: ignore[attr-defined]
    assert numbers == {name: list(range(1000)) for name in series}
    assert {len(text) for text in collector.texts()} == {10, 200_000}


def test_without_it_a_spawned_worker_forwards_nothing(
    pool_factory: Any, collector: Collector
) -> None:
    pool = pool_factory(1, start_method="spawn")
    pool.apply(log_tasks.log, (logging.INFO, "unheard"))
    _end(pool)
    assert collector.records == []


def test_another_word_is_refused(pool_factory: Any) -> None:
    with pytest.raises(ValueError, match="logging must be None or 'forward', not 'file'"):
        pool_factory(1, logging="file")


# --- deaths, and parents that don't listen ------------------------------------------------------


def test_what_a_killed_worker_had_sent_is_handled(pool_factory: Any, collector: Collector) -> None:
    pool = pool_factory(1, logging="forward")
    with pytest.raises(fastpool.WorkerDiedError):
        pool.apply(log_tasks.log_and_die, (signal.SIGKILL,))
    wait_until(lambda: len(collector.records) == 20)
    assert [record.number for record in collector.records] == list(range(20))  # type: ignore[attr-defined]


def test_a_task_that_logs_is_stopped_by_its_timeout(
    pool_factory: Any, collector: Collector
) -> None:
    pool = pool_factory(1, logging="forward", worker_exit=operator.attrgetter("id"))
    for _ in range(5):
        with pytest.raises(fastpool.TaskTimeoutError):
            pool.apply_async(log_tasks.log_for_ever, timeout=0.05).get(10)
    _end(pool)
    assert collector.records
    assert len(pool.exit_results()) >= 5  # it left by itself each time: nobody had to kill it


def test_a_handler_that_is_stuck_holds_no_task_up_and_the_loss_is_told(
    pool_factory: Any,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(log_forwarding, "SEND_PATIENCE", 0.2)
    pool = pool_factory(1, logging="forward")
    collector.may_go_on.clear()
    pool.apply(log_tasks.log_all, (("much", 5000, 10),))
    collector.may_go_on.set()
    wait_until(lambda: collector.records and collector.records[-1].number > 0)  # type: ignore[attr-defined]
    _end(pool)
    (told,) = [record for record in caplog.records if record.name == "fastpool"]
    arrived = [record.number for record in collector.records]  # type: ignore[attr-defined]
    assert arrived == list(range(len(arrived)))
    assert told.getMessage().startswith(f"{5000 - len(arrived)} log records of worker 0 are lost")


def test_a_handler_that_is_stuck_does_not_hold_up_the_end(
    pool_factory: Any, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "MAIL_PATIENCE", 0.2)
    pool = pool_factory(1, logging="forward")
    collector.may_go_on.clear()
    pool.apply(log_tasks.log_all, (("some", 50, 10),))
    begin = time.monotonic()
    _end(pool)
    assert time.monotonic() - begin < 5
    assert collector.records == []
    collector.may_go_on.set()
    wait_until(lambda: len(collector.records) == 50)


def test_a_process_that_outlives_the_pool_logs_into_nothing(
    pool_factory: Any, collector: Collector, gate: Any
) -> None:
    pool = pool_factory(1, logging="forward")
    child = pool.apply(log_tasks.log_in_a_child_that_stays, (gate.path,))
    wait_until(lambda: gate.arrivals() == 1)
    _end(pool)
    gate.open()
    wait_until(lambda: os.path.exists(os.path.join(gate.path, "logged")))
    wait_until(lambda: not procs.is_alive(child))
    assert collector.records == []


# --- its descriptors ----------------------------------------------------------------------------


def _strangers(n: int = 8) -> list[int]:
    """Descriptors that take the lowest numbers, those that were closed just now first."""
    return [os.open(os.devnull, os.O_RDONLY) for _ in range(n)]


def _are_open(fds: list[int]) -> bool:
    """Whether these are, and were until now."""
    try:
        for fd in fds:
            os.close(fd)
    except OSError:
        return False
    return True


def test_a_mailbox_ends_once_whoever_asks_it_to() -> None:
    box = mailbox.Mailbox({})
    box.start()
    box.finish(5.0)
    strangers = _strangers()
    box.finish(5.0)
    box.disown()
    assert _are_open(strangers)


def test_a_mailbox_that_cannot_be_made_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = procs.Snapshot()
    pairs = iter([mailbox.message_pair()])
    with monkeypatch.context() as patched:
        patched.setattr(mailbox, "message_pair", lambda: next(pairs))
        with pytest.raises(StopIteration) as kept:
            mailbox.Mailbox({})
    wait_until(lambda: not before.left_since(), 2.0, before.left_since)
    del kept


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_child_that_is_forked_while_the_pool_ends_closes_what_is_its_own_only(
    pool_factory: Any, start_method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each close, a descriptor of the program's has the number, and there is a fork."""
    statuses = []
    parent, close, stranger = os.getpid(), os.close, os.open(os.devnull, os.O_RDONLY)

    def close_and_fork(fd: int) -> None:
        close(fd)
        if os.getpid() == parent and threading.current_thread().name == "fastpool-supervisor":
            os.dup2(stranger, fd)
            child = os.fork()
            if child == 0:
                os._exit(not _are_open([fd]))
            statuses.append(os.waitpid(child, 0)[1])
            close(fd)

    pool = pool_factory(1, logging="forward")
    pool.apply(abs, (1,))
    with monkeypatch.context() as patched:
        patched.setattr(os, "close", close_and_fork)
        _end(pool)
    close(stranger)
    assert len(statuses) >= 4
    assert set(statuses) == {0}
