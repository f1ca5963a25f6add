"""Arrays that are held outlive what they came from: the worker, the pool, the process's fork."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import pytest
from helpers import array_tasks, procs, tasks
from helpers.arrays import KIB, MIB, portrait
from helpers.procs import wait_until
from helpers.threads import InThread

pytestmark = pytest.mark.timeout_s(60)

COUNTS = {"kilobytes": 500, "64 KiB": 8 * KIB, "1 MiB and one item": MIB // 8 + 1}
SIZES = list(COUNTS.values())
EVERY_SIZE = pytest.mark.parametrize("count", COUNTS.values(), ids=COUNTS)


def hold(pool: Any, count: int, number: int = 20) -> list[Any]:
    """Results of every kind of call, the i-th full of i."""
    third = number // 3
    held = [pool.apply(array_tasks.filled, (count, i)) for i in range(third)]
    held += pool.starmap(array_tasks.filled, [(count, i) for i in range(third, 2 * third)], 2)
    held += [
        holder["in"][0]
        for holder in pool.map(tasks.identity, [{"in": [np.full(count, i)]} for i in range(number)])
    ][2 * third :]
    return held


def check(held: list[Any]) -> None:
    """All is as it was; and may be written into."""
    assert all((value == index).all() for index, value in enumerate(held))
    for value in held:
        value += 1
    assert all((value == index + 1).all() for index, value in enumerate(held))
    for value in held:
        value -= 1


def use(pool: Any, count: int, rounds: int = 20) -> None:
    """Fill the memory that came free with something else."""
    for _ in range(rounds):
        assert pool.apply(tasks.identity, (np.full(count, -1),)).sum() == -count
    assert len(pool.starmap(array_tasks.filled, [(count, -2)] * rounds)) == rounds


# --- the pool's end -------------------------------------------------------------------------------


def outlive(pool_factory: Any, ending: str, start_method: str) -> None:
    """Hold results of every size, end their pool, and work on with another."""
    pool = (
        pool_factory(2)
        if ending != "dropped"
        else pool_factory.implementation.make(2, start_method=start_method)
    )
    pids = procs.worker_pids(pool)
    held = {count: hold(pool, count) for count in COUNTS.values()}
    if ending == "with":
        with pool:
            for count, values in held.items():
                values.append(pool.apply(array_tasks.filled, (count, len(values))))
    elif ending == "close and join":
        pool.close()
    elif ending == "terminate":
        pool.terminate()
    if ending != "dropped":
        pool.join()
    elif not pool_factory.implementation.is_fastpool:
        pool.terminate()  # a forgotten pool of multiprocessing need not end
    del pool
    wait_until(lambda: not any(map(procs.is_alive, pids)), 10)
    for values in held.values():
        check(values)
    other = pool_factory(2)
    for count, values in held.items():
        use(other, count, 20 if pool_factory.implementation.is_fastpool else 2)
        check(values)
    for values in held.values():
        check(values)
        assert other.map(array_tasks.total, values) == [value.sum() for value in values]


@pytest.mark.start_methods("fork")
@pytest.mark.parametrize("ending", ["terminate", "close and join", "with", "dropped"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_results_outlive_their_pool(pool_factory: Any, start_method: str, ending: str) -> None:
    outlive(pool_factory, ending, start_method)


@pytest.mark.start_methods("spawn", "forkserver")
@pytest.mark.fastpool_only
@pytest.mark.parametrize("ending", ["close and join", "dropped"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_results_outlive_their_pool_however_its_workers_were_started(
    pool_factory: Any, start_method: str, ending: str
) -> None:
    outlive(pool_factory, ending, start_method)


@pytest.mark.start_methods("fork")
@pytest.mark.parametrize("ending", ["terminate", "close"])
@pytest.mark.parametrize("kept", [0, 1])
def test_results_outlive_their_pool_wherever_in_its_memory_they_lie(
    pool_factory: Any, start_method: str, ending: str, kept: int
) -> None:
    """Their sizes make them begin at every place of a page; their neighbours are gone already."""
    pool = pool_factory(2)
    everything = [pool.apply(array_tasks.filled, (8193 + 8 * i, i)) for i in range(300)]
    held = dict(list(enumerate(everything))[kept::2])
    everything.clear()
    pool.apply(tasks.nothing)
    getattr(pool, ending)()
    pool.join()
    assert [index for index, value in held.items() if not (value == index).all()] == []


def test_a_result_that_is_read_after_the_end_is_whole(pool_factory: Any) -> None:
    pool = pool_factory(2)
    results = [pool.apply_async(array_tasks.filled, (200_000, i)) for i in range(10)]
    iterator = pool.imap(tasks.identity, [np.full(20_000, i) for i in range(10)])
    pool.close()
    pool.join()
    assert [portrait(result.get()) for result in results] == [
        portrait(np.full(200_000, i)) for i in range(10)
    ]
    assert [portrait(value) for value in iterator] == [
        portrait(np.full(20_000, i)) for i in range(10)
    ]


# --- workers that leave ---------------------------------------------------------------------------


@EVERY_SIZE
def test_results_outlive_workers_that_are_replaced(pool_factory: Any, count: int) -> None:
    pool = pool_factory(2, maxtasksperchild=1)
    number = 100 if pool_factory.implementation.is_fastpool else 20
    half = number // 2
    held = pool.starmap(array_tasks.filled, [(count, i) for i in range(half)], 10)
    held += pool.map(tasks.identity, [np.full(count, i) for i in range(half, number)], 10)
    assert len(set(pool.map(tasks.pid, range(4), 1))) == 4
    check(held)
    use(pool, count, 2)
    check(held)


@EVERY_SIZE
@pytest.mark.fastpool_only
def test_results_outlive_workers_that_are_killed(pool_factory: Any, count: int) -> None:
    pool = pool_factory(2)
    held = hold(pool, count)
    for _ in range(3):
        victims = procs.worker_pids(pool)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda victims=victims: (
                len(pool.workers()) == 2 and not {w.pid for w in pool.workers()} & set(victims)
            ),
            10,
        )
        use(pool, count, 5)
        check(held)
        assert pool.map(array_tasks.total, held, 1) == [value.sum() for value in held]


@EVERY_SIZE
@pytest.mark.fastpool_only
@pytest.mark.parametrize("origin", ["our own array", "a result"])
def test_a_worker_killed_while_it_has_an_argument_harms_nobody_elses(
    pool_factory: Any, gate: Any, origin: str, count: int
) -> None:
    """The same array is in the hands of another worker, and of the tasks still queued."""
    pool = pool_factory(2)
    mine = np.ones(count)
    if origin == "a result":
        mine = pool.apply(array_tasks.filled, (count, 1.0))
    running = pool.starmap_async(array_tasks.total_after_gate, [(gate.path, mine)] * 2, 1)
    queued = pool.map_async(array_tasks.total, [mine] * 10, 1)
    synchronous = InThread(lambda: pool.map(array_tasks.total, [mine] * 10, 1))
    wait_until(lambda: gate.arrivals() == 2)
    os.kill(gate.arrived_pids()[0], signal.SIGKILL)
    wait_until(lambda: len({worker.pid for worker in pool.workers()} - set(gate.arrived_pids())))
    gate.open()
    with pytest.raises(RuntimeError, match=r"died|killed|SIGKILL"):
        running.get(20)
    assert queued.get(20) == [count] * 10
    assert synchronous.outcome(20) == [count] * 10
    assert (mine == 1).all()
    mine[:] = 5
    assert pool.apply(array_tasks.total, (mine,)) == 5 * count


@pytest.mark.fastpool_only
def test_workers_that_are_killed_in_the_middle_of_large_transfers_lose_only_their_task(
    pool_factory: Any,
) -> None:
    pool = pool_factory(2)
    held = hold(pool, 100_000)
    for size in 1_000, 100_000, 1_000_000:
        for delay in 0.0, 0.0005, 0.002:
            before = {worker.pid for worker in pool.workers()}
            try:
                value = pool.apply(tasks.return_large_and_die_soon, (size, delay))
                assert value == b"x" * size
            except RuntimeError as error:  # a WorkerDiedError is one
                assert type(error).__name__ == "WorkerDiedError"
            wait_until(  # else it could take one of the next calls with it
                lambda before=before: (
                    len(pool.workers()) == 2 and {w.pid for w in pool.workers()} != before
                ),
                10,
            )
            use(pool, 100_000, 2)
    check(held)


# --- the parent forks -----------------------------------------------------------------------------

FORKS = """
    import gc, multiprocessing, os, sys
    import numpy as np
    from {module} import Pool
    from helpers import array_tasks, tasks

    COUNTS = {counts}
    ROUNDS = 40 if Pool.__module__.startswith("fastpool") else 3
    held = []

    def made(pool):
        # The i-th is full of i; of every size in turn.
        sizes = [(COUNTS[i % len(COUNTS)], i) for i in range(30)]
        one_by_one = [pool.apply(array_tasks.filled, item) for item in sizes[20:]]
        return pool.starmap(array_tasks.filled, sizes[:20]) + one_by_one

    def intact():
        return all((value == index).all() for index, value in enumerate(held))

    def reuse(pool):
        for _ in range(ROUNDS):
            for count in COUNTS:
                pool.apply(tasks.identity, (np.full(count, -1),))
                pool.starmap(array_tasks.filled, [(count, -2)] * 4)

    def overwrite():
        for value in held:
            value[:] = 99
        return all((value == 99).all() for value in held)

    def look_and_overwrite(_item):
        right = intact() and overwrite()
        for index, value in enumerate(held):
            value[:] = index
        return right

    def say(*words):
        print(*words, flush=True)

    if __name__ == "__main__":
        multiprocessing.set_start_method("fork")
        pool = Pool(2)
        held += made(pool)
        go_reader, go_writer = os.pipe()
"""


def test_a_forked_child_keeps_the_results_that_its_parent_held(impl: Any, run_script: Any) -> None:
    """Also when the parent has dropped them, and the memory is used for something else."""
    script = run_script(
        FORKS.format(module=impl.name, counts=SIZES)
        + """
        child = os.fork()
        if child == 0:
            os.read(go_reader, 1)  # until the parent has done what it can
            say("child:", intact(), overwrite())
            os._exit(0)
        assert intact()
        held.clear()
        gc.collect()
        reuse(pool)
        fresh = made(pool)
        os.write(go_writer, b".")
        say("left with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        held += fresh
        say("parent:", intact())
        pool.terminate()
        """
    )
    assert script.finish(40) == "child: True True\nleft with 0\nparent: True\n"


@pytest.mark.parametrize("kept", [0, 1])
def test_a_forked_child_keeps_results_wherever_in_the_pools_memory_they_lie(
    impl: Any, run_script: Any, kept: int
) -> None:
    script = run_script(
        FORKS.format(module=impl.name, counts=[20_000])
        + f"""
        everything = [pool.apply(array_tasks.filled, (8193 + 8 * i, i)) for i in range(300)]
        some = dict(list(enumerate(everything))[{kept}::2])
        del everything
        pool.apply(tasks.nothing)
        child = os.fork()
        if child == 0:
            os.read(go_reader, 1)
            say("child:", [index for index, value in some.items() if not (value == index).all()])
            os._exit(0)
        some.clear()
        gc.collect()
        reuse(pool)
        os.write(go_writer, b".")
        say("left with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        pool.terminate()
        """
    )
    assert script.finish(40) == "child: []\nleft with 0\n"


@pytest.mark.parametrize("count", SIZES[1:], ids=list(COUNTS)[1:])
@pytest.mark.parametrize("call", ["pool.apply(look, ({0},))", "pool.map(look, [{0}] * 2)[0]"])
def test_the_parent_may_fork_while_a_task_works_on_what_it_holds(
    impl: Any, run_script: Any, tmp_path: Any, call: str, count: int
) -> None:
    """Neither what the child writes, nor what the parent writes then, reaches the task."""
    gate = tmp_path / "gate"
    script = run_script(
        FORKS.format(module=impl.name, counts=[count]).replace(
            "    def reuse(",
            f"""    def look(value):
        tasks.pass_gate({str(gate)!r})
        return float(value.sum()) == 7 * {count}

    def reuse(""",
        )
        + f"""
        import threading
        from pathlib import Path
        from helpers import procs

        gate = tasks.Gate(Path({str(gate)!r}))
        found = []
        thread = threading.Thread(target=lambda: found.append({call.format("held[7]")}))
        thread.start()
        procs.wait_until(lambda: gate.arrivals() >= 1)
        child = os.fork()
        if child == 0:
            say("child:", intact(), overwrite())
            os._exit(0)
        say("left with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        gate.open()
        thread.join(20)
        say("task:", *found)
        say("parent:", intact())
        pool.terminate()
        """
    )
    assert script.finish(40) == "child: True True\nleft with 0\ntask: True\nparent: True\n"


def test_what_a_forked_child_writes_stays_with_it(impl: Any, run_script: Any) -> None:
    """Into the results as they were at the fork, and those of its own."""
    script = run_script(
        FORKS.format(module=impl.name, counts=SIZES)
        + """
        child = os.fork()
        if child == 0:
            say("child:", overwrite())
            held.clear()
            gc.collect()  # and what it drops is not free for the parent
            os._exit(0)
        say("left with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        say("parent:", intact())
        reuse(pool)
        say("parent:", intact())
        pool.terminate()
        say("parent:", intact())
        """
    )
    assert script.finish(40) == "child: True\nleft with 0\n" + "parent: True\n" * 3


def test_what_the_parent_writes_stays_with_it(impl: Any, run_script: Any) -> None:
    script = run_script(
        FORKS.format(module=impl.name, counts=SIZES)
        + """
        child = os.fork()
        if child == 0:
            os.read(go_reader, 1)
            say("child:", intact())
            os._exit(0)
        say("parent:", overwrite())
        os.write(go_writer, b".")
        say("left with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        pool.terminate()
        """
    )
    assert script.finish(40) == "parent: True\nchild: True\nleft with 0\n"


@pytest.mark.parametrize("kind", ["Pool", "multiprocessing.Pool"])
def test_the_workers_of_a_second_pool_see_the_results_that_were_held_when_it_was_made(
    impl: Any, run_script: Any, kind: str
) -> None:
    if kind == "multiprocessing.Pool" and not impl.is_fastpool:
        pytest.skip("that is what Pool means here")
    script = run_script(
        FORKS.format(module=impl.name, counts=SIZES)
        + f"""
        second = {kind}(2)
        say("second:", second.apply(intact))
        held.clear()
        gc.collect()
        reuse(pool)
        say("second:", *second.map(look_and_overwrite, range(4), 1))
        held += made(pool)
        say("second:", *second.map(look_and_overwrite, range(4), 1))
        say("parent:", intact())
        second.terminate()
        reuse(pool)
        say("parent:", intact())
        pool.terminate()
        """
    )
    assert script.finish(40) == (
        "second: True\nsecond: True True True True\nsecond: True True True True\n"
        "parent: True\nparent: True\n"
    )


def test_a_process_of_multiprocessing_may_work_on_held_results(impl: Any, run_script: Any) -> None:
    """Several at once, one after the other, and forks of forks."""
    script = run_script(
        FORKS.format(module=impl.name, counts=SIZES)
        + """
        def again(depth):
            right = intact() and overwrite()
            if depth:
                for index, value in enumerate(held):
                    value[:] = index
                inner = multiprocessing.Process(target=again, args=(depth - 1,))
                inner.start()
                inner.join()
                right = right and inner.exitcode == 0 and intact()
            sys.exit(0 if right else 3)

        for _ in range(3):
            children = [multiprocessing.Process(target=again, args=(2,)) for _ in range(3)]
            for child in children:
                child.start()
            reuse(pool)
            for child in children:
                child.join()
            say(*[child.exitcode for child in children], intact())
        pool.terminate()
        """
    )
    assert script.finish(50) == "0 0 0 True\n" * 3
