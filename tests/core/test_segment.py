"""A pool's shared memory as Python sees it: made, attached, reported on, gone without a trace."""

from __future__ import annotations

import errno
import gc
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import procs, tasks
from helpers.build import HOLES, PINS, SEGMENT

from fastpool import Pool
from fastpool._core._segment import POOL_STOP, Heap, Segment


def mappings() -> int:
    """How many of this process's mappings belong to a segment."""
    return Path("/proc/self/maps").read_text().count(SEGMENT)


def address_space() -> int:
    return int((procs.status_field(os.getpid(), "VmSize") or "0").split()[0]) << 10


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def bell_rings(segment: Segment) -> bool:
    poller = select.poll()
    poller.register(segment.poll_fd, select.POLLIN)
    return bool(poller.poll(0))


def resident(fd: int) -> int:
    return os.fstat(fd).st_blocks * 512


# --- creating and attaching -----------------------------------------------------------------------


def test_a_segment_has_the_slots_that_were_asked_for() -> None:
    for slots in (1, 2, 64, 65, 1000):
        segment = Segment.create(slots)
        assert segment.slots == slots
        assert segment.total >= 256 << 20
        assert {segment.worker_report(slot) for slot in range(slots)} == {(0, "free", 0, 0, 0, 0)}
        segment.close_descriptors()


@pytest.mark.parametrize("geometry", [(0,), (0xFFFF,), (1, 3), (1, 0), (1, 4, 5), (1, 4, 0)])
def test_a_strange_geometry_is_refused(geometry: tuple[int, ...]) -> None:
    with pytest.raises(OSError) as caught:
        Segment.create(*geometry)
    assert caught.value.errno == errno.EINVAL


def test_a_new_segment_is_mostly_not_there() -> None:
    segment = Segment.create(8)
    assert os.fstat(segment.fd).st_size == segment.total
    assert resident(segment.fd) < 1 << 20
    segment.close_descriptors()


def test_a_segment_has_no_name_and_its_descriptors_do_not_survive_exec() -> None:
    before = procs.names_of_memory()
    segment = Segment.create(2)
    procs.wait_until(lambda: not procs.names_since(before), 2.0)
    assert SEGMENT in os.readlink(f"/proc/self/fd/{segment.fd}")
    assert not os.get_inheritable(segment.fd)
    assert not os.get_inheritable(segment.bell_fd)
    segment.close_descriptors()


def test_an_attached_segment_shows_the_same_workers() -> None:
    ours = Segment.create(3)
    theirs = Segment.attach(os.dup(ours.fd), os.dup(ours.bell_fd))
    assert (theirs.slots, theirs.total) == (ours.slots, ours.total)
    theirs.enter(2, 4711)
    theirs.leave(2)
    assert ours.worker_report(2)[:2] == (4711, "leaving")
    ours.clear_bell()
    assert ours.worker_report(1)[:2] == (0, "free")
    theirs.ring_bell()
    assert bell_rings(ours)
    ours.clear_bell()
    assert not bell_rings(ours)
    for segment in (ours, theirs):
        segment.close_descriptors()


def test_only_a_segment_can_be_attached() -> None:
    for size in (0, 100, 4096, 300 << 20):
        fd = os.memfd_create("test", os.MFD_CLOEXEC)
        os.ftruncate(fd, size)
        with pytest.raises(OSError) as caught:
            Segment.attach(fd, -1)
        assert caught.value.errno == errno.EPROTO
        os.close(fd)
    with pytest.raises(OSError) as caught:
        Segment.attach(-1, -1)
    assert caught.value.errno == errno.EBADF


def test_the_memory_goes_with_the_last_reference() -> None:
    gc.collect()
    before = mappings()
    segment = Segment.create(2)
    heap = Heap(segment, 0, 0)
    segment.close_descriptors()
    segment.close_descriptors()  # twice is fine
    assert (segment.fd, segment.bell_fd) == (-1, -1)
    assert mappings() == before + 1
    del segment
    assert heap.report() == (0, 0, 0, 0)
    assert mappings() == before + 1
    del heap
    assert mappings() == before


def test_orders_to_workers_that_are_not_there_are_harmless() -> None:
    segment = Segment.create(2)
    segment.stop_worker(1)
    segment.wake_all(2)
    segment.set_state(POOL_STOP)
    segment.close_descriptors()


# --- a worker's slot ------------------------------------------------------------------------------


def test_a_worker_that_leaves_says_so_and_rings_the_bell() -> None:
    segment = Segment.create(1)
    segment.prepare_slot(0)
    assert not bell_rings(segment)
    segment.leave(0)
    assert segment.worker_report(0)[1] == "leaving"
    assert bell_rings(segment)
    segment.close_descriptors()


def test_a_prepared_slot_is_as_new() -> None:
    segment = Segment.create(2)
    segment.enter(1, 4711)
    segment.leave(1)
    segment.prepare_slot(1)
    assert segment.worker_report(1) == (0, "starting", 0, 0, 0, 0)
    segment.close_descriptors()


def test_the_report_follows_a_worker() -> None:
    with Pool(1) as pool:
        segment = pool._engine.segment
        (worker,) = pool.workers()
        assert pool.map(tasks.identity, range(10), chunksize=5) == list(range(10))
        deadline = time.monotonic() + 10
        while segment.worker_report(0)[1] != "idle" and time.monotonic() < deadline:
            time.sleep(0.001)
        pid, state, ticket, done, items, _ = segment.worker_report(0)
        assert (pid, state, ticket, done, items) == (worker.pid, "idle", 0, 2, 10)
        result = pool.apply_async(tasks.nap, (0.5,))
        while segment.worker_report(0)[1] != "busy" and time.monotonic() < deadline:
            time.sleep(0.001)
        assert segment.worker_report(0)[2] > 0
        result.get(10)


# --- memory -----------------------------------------------------------------------------------


def test_argument_blocks_are_counted_while_they_travel() -> None:
    with Pool(1) as pool:
        heap = pool._dispatcher.heap
        value = bytearray(1 << 20)
        result = pool.apply_async(tasks.nap, (0.3, [value]))
        assert heap.report()[0] > 1 << 20
        result.get(10)
        used, blocks, free, most = heap.report()
        assert used < 1 << 16
        assert blocks < 10
        assert free + used >= 1 << 20
        assert most > 1 << 20


@HOLES
def test_free_memory_beyond_a_bound_goes_back_to_the_system() -> None:
    with Pool(2, memory=256 << 20) as pool:
        segment = pool._engine.segment
        values = [bytearray(48 << 20) for _ in range(6)]
        assert sum(pool.map(len, values, chunksize=1)) == 6 * 48 << 20
        results = pool.map(tasks.make_bytes, [48 << 20] * 6, chunksize=1)
        assert sum(map(len, results)) == 6 * 48 << 20
        assert resident(segment.fd) < (256 + 3 * 56) << 20  # kept warm, and a block each in a hurry


@pytest.mark.usefixtures("no_collector")
def test_a_pool_that_has_ended_takes_its_addresses_along_when_it_is_dropped() -> None:
    before = address_space()
    with Pool(1) as pool:
        assert pool.apply(tasks.square, (3,)) == 9
        size = pool._engine.segment.total
    with Pool(1) as closed:
        result = closed.apply_async(tasks.square, (3,))
        closed.close()
        closed.join()
        assert result.get() == 9
    del pool, closed
    procs.wait_until(lambda: address_space() - before < size)


@pytest.mark.usefixtures("no_collector")
def test_a_new_pool_gets_the_addresses_of_those_that_wait_for_the_collector() -> None:
    for _ in range(40):  # more than there are addresses for
        with Pool(1) as pool:
            if pool._engine.segment.is_small:
                break
            pool.itself = pool  # type: ignore[attr-defined]
    assert not pool._engine.segment.is_small or address_space() < 1 << 40  # a limit, and not ours


def open_segments() -> list[str]:
    """What a program that a task starts would inherit, if it asked for everything."""
    program = (
        "import os\n"
        "for fd in os.listdir('/proc/self/fd'):\n"
        "    try:\n"
        "        print(os.readlink('/proc/self/fd/' + fd))\n"
        "    except OSError:\n"
        "        pass\n"
    )
    links = subprocess.check_output([sys.executable, "-c", program], close_fds=False, text=True)
    return [link for link in links.splitlines() if "fastpool" in link or "eventfd" in link]


def test_programs_inherit_no_segment() -> None:
    already = open_segments()
    with Pool(2) as pool:
        assert open_segments() == already
        assert pool.apply(open_segments) == already


@PINS
def test_who_waits_pauses_first_unless_the_peer_shares_the_only_cpu() -> None:
    usable = os.sched_getaffinity(0)
    several = Segment.create(2)
    os.sched_setaffinity(0, {min(usable)})
    try:
        alone = Segment.create(2)
    finally:
        os.sched_setaffinity(0, usable)
    assert alone.pauses == 0
    assert several.pauses > 0 or len(usable) == 1
    for segment in (several, alone):
        segment.close_descriptors()
