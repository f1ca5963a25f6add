"""What starts and looks after the workers dies or fails: no call hangs, and nothing is left."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

import pytest
from helpers import procs, tasks

from fastpool import WorkerDiedError
from fastpool._core._system import Descriptor
from fastpool._runtime.zygote import EXIT_SECONDS

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]


def test_a_zygote_that_dies_between_two_orders_takes_no_task_with_it(
    pool_factory: Any, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker that the first order brought has taken a task; the parent never heard of it."""
    from fastpool._runtime.zygote import Zygote

    pool = pool_factory(1)
    results = [pool.apply_async(tasks.pass_gate, (gate.path, i)) for i in range(4)]
    procs.wait_until(lambda: gate.arrivals() == 1)
    order, orders = Zygote.order, []

    def order_and_die(self: Any, *args: Any) -> None:
        if len(orders) == 1:
            procs.wait_until(lambda: gate.arrivals() == 2)
            procs.kill(self.pid, signal.SIGKILL)
            procs.wait_until(lambda: not procs.is_alive(self.pid))
        orders.append(args)
        order(self, *args)

    monkeypatch.setattr(Zygote, "order", order_and_die)
    pool.resize(3)
    gate.open()
    outcomes = []
    for result in results:
        try:
            outcomes.append(result.get(10))
        except WorkerDiedError:
            outcomes.append("lost")
    assert outcomes == ["lost", "lost", 2, 3]
    assert pool.map(tasks.square, range(10)) == [i * i for i in range(10)]


@pytest.mark.parametrize("kind", ["SOCK_SEQPACKET", "SOCK_DGRAM"])
def test_a_zygote_that_no_signal_may_reach_ends_with_its_pool(
    pool_factory: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from fastpool._runtime import zygote

    if kind == "SOCK_SEQPACKET" and sys.platform == "darwin":
        pytest.skip("macOS has none")

    def pair() -> tuple[Descriptor, Descriptor]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, getattr(socket, kind))
        return Descriptor(ours.detach()), Descriptor(theirs.detach())

    def refuse(watch: int, pid: int, signum: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(zygote, "message_pair", pair)
    pool = pool_factory(1)
    assert pool.apply(tasks.square, (3,)) == 9
    (pid,) = {procs.parent_of(worker) for worker in procs.worker_pids(pool)}
    monkeypatch.setattr(zygote, "send_signal", refuse)
    pool.close()
    pool.join()
    assert pid is not None and not procs.is_alive(pid)


def test_one_that_is_stopped_is_waited_for_once_and_not_for_each_worker(pool_factory: Any) -> None:
    pool = pool_factory(6)
    assert pool.map(tasks.square, range(6)) == [i * i for i in range(6)]
    forker = pool._engine._starter._zygote
    procs.kill(forker.pid, signal.SIGSTOP)
    begin = time.monotonic()
    pool.terminate()
    pool.join()
    assert time.monotonic() - begin < 3 * EXIT_SECONDS


def test_one_that_goes_on_is_listened_to_as_before(pool_factory: Any) -> None:
    pool = pool_factory(2)
    assert pool.apply(tasks.square, (3,)) == 9
    forker = pool._engine._starter._zygote
    procs.kill(forker.pid, signal.SIGSTOP)
    with pytest.raises(WorkerDiedError) as unknown:
        pool.apply(tasks.die, (signal.SIGKILL,))
    procs.kill(forker.pid, signal.SIGCONT)
    with pytest.raises(WorkerDiedError) as known:
        pool.apply(tasks.die, (signal.SIGKILL,))
    assert (unknown.value.exitcode, known.value.exitcode) == (255, -signal.SIGKILL)


def test_no_signal_is_sent_by_the_number_of_a_zygote_that_has_been_reaped(
    pool_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The background thread may leave nothing behind before terminate() goes on."""
    from fastpool._runtime import zygote

    pool = pool_factory(2)
    assert pool.apply(tasks.square, (3,)) == 9
    engine, watches, send = pool._engine, [], zygote.send_signal
    join_or_kill = engine._join_or_kill

    def note_and_send(watch: int, pid: int, signum: int) -> None:
        watches.append(watch)
        send(watch, pid, signum)

    def join_all(workers: Any) -> None:
        join_or_kill(workers)
        engine.join(5)
        assert not engine.is_alive()

    monkeypatch.setattr(zygote, "send_signal", note_and_send)
    monkeypatch.setattr(engine, "_join_or_kill", join_all)
    pool.terminate()
    assert watches and min(watches) >= 0


def test_an_order_is_taken_back_though_its_worker_has_ended_by_itself(pool_factory: Any) -> None:
    pool = pool_factory(1)
    assert pool.apply(tasks.square, (3,)) == 9
    forker = pool._engine._starter._zygote
    before = procs.Snapshot().descriptors
    forker.order("no place for a worker", "", ())
    procs.wait_until(lambda: forker._receive(1.0) and forker._exits)
    forker.cancel_next()
    assert procs.Snapshot().descriptors == before


def test_a_background_thread_that_fails_leaves_neither_callers_nor_workers(
    pool_factory: Any, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    pool = pool_factory(2)
    told: list[BaseException] = []
    waiting = pool.apply_async(tasks.pass_gate, (gate.path, 1))
    with_callback = pool.apply_async(tasks.pass_gate, (gate.path, 2), {}, None, told.append)
    procs.wait_until(lambda: gate.arrivals() == 2)
    workers = procs.worker_pids(pool)

    def fail() -> None:
        raise OSError("no memory to poll")

    monkeypatch.setattr(pool._engine, "patience", fail)
    pool._engine.segment.ring_bell()
    for result in (waiting, with_callback):
        with pytest.raises(OSError, match="no memory to poll"):
            result.get(10)
    pool.join()
    assert [str(error) for error in told] == ["no memory to poll"]
    assert not any(procs.is_alive(pid) for pid in workers)
    with pytest.raises(ValueError, match="not running"):
        pool.apply_async(tasks.square, (1,), {}, told.append, told.append)


def test_a_process_that_has_ended_is_joined_though_a_signal_comes_in_between(
    pool_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal at the wrong moment makes a poll that does not wait find nothing."""
    from multiprocessing import process

    from fastpool._runtime import zygote

    readable = zygote._readable
    monkeypatch.setattr(
        zygote,
        "_readable",
        lambda fd, timeout: False if timeout == 0 else readable(fd, timeout),
    )
    pool = pool_factory(1)
    workers = list(pool._pool)
    pool.close()
    pool.join()
    assert not process._children & set(workers)  # type: ignore[attr-defined]
