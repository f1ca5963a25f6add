"""Pools come and go, tasks come and go, and everything is as it was."""

from __future__ import annotations

import gc
import json
import weakref
from typing import Any

import pytest
from helpers import procs, tasks
from helpers.build import FREE_THREADED

# A program that does something many times and prints what it has before and after, as JSON.
PREAMBLE = """
    import gc, json, multiprocessing, os, sys
    from {module} import Pool
    from helpers import procs, tasks

    if __name__ == "__main__":
        multiprocessing.set_start_method("fork")

    def holdings(pids=()):
        gc.collect()
        me = os.getpid()
        return {{
            "descriptors": len(os.listdir("/proc/self/fd")),
            "threads": len(os.listdir("/proc/self/task")),
            "children": len(procs.descendants(me)),
            "maps": open("/proc/self/maps").read().count("memfd"),
            "memory": procs.resident_bytes(me) + sum(map(procs.resident_bytes, pids)),
        }}

    def report(before, pids=()):
        # Print both, as soon as there is no more than before, or when it took too long.
        def settled():
            after.update(holdings(pids))
            return all(after[key] <= before[key] for key in before if key != "memory")

        after = {{}}
        try:
            procs.wait_until(settled)
        except AssertionError:
            pass
        print(json.dumps([before, after]))

    def expect_value_error(call):
        try:
            call()
        except ValueError:
            pass
        else:
            raise AssertionError("no error")

"""


def before_and_after(run_script: Any, impl: Any, body: str) -> tuple[Any, Any]:
    script = run_script(PREAMBLE.format(module=impl.name) + body)
    before, after = json.loads(script.finish(timeout=40))
    return before, after


def grew(before: Any, after: Any, megabytes: float) -> bool:
    """More of anything, or of memory more than this."""
    more = [key for key in before if key != "memory" and after[key] > before[key]]
    return bool(more) or after["memory"] - before["memory"] > megabytes * 2**20


@pytest.mark.timeout_s(45)
@pytest.mark.parametrize("ending", ["close", "terminate"])
def test_two_hundred_pools_leave_nothing(impl: Any, run_script: Any, ending: str) -> None:
    before, after = before_and_after(
        run_script,
        impl,
        f"""
    def once():
        pool = Pool(2)
        assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
        pool.{ending}()
        pool.join()

    if __name__ == "__main__":
        for _ in range(20):
            once()
        before = holdings()
        for _ in range(180):
            once()
        report(before)
        """,
    )
    assert not grew(before, after, 6), (before, after)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_pools_of_other_start_methods_leave_nothing(
    impl: Any, run_script: Any, method: str
) -> None:
    before, after = before_and_after(
        run_script,
        impl,
        f"""
    def once():
        with Pool(1) as pool:
            assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
        pool.join()

    if __name__ == "__main__":
        multiprocessing.set_start_method("{method}", force=True)
        for _ in range(2):
            once()
        before = holdings()
        for _ in range(6):
            once()
        report(before)
        """,
    )
    assert not grew(before, after, 6), (before, after)


@pytest.mark.fastpool_only
def test_pools_whose_workers_die_leave_nothing(impl: Any, run_script: Any) -> None:
    before, after = before_and_after(
        run_script,
        impl,
        """
    import signal

    def once():
        pool = Pool(2)
        for _ in range(2):
            try:
                pool.apply(tasks.die, (signal.SIGKILL,))
            except RuntimeError:
                pass
            assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
        pool.close()
        pool.join()

    if __name__ == "__main__":
        for _ in range(5):
            once()
        before = holdings()
        for _ in range(30):
            once()
        report(before)
        """,
    )
    assert not grew(before, after, 6), (before, after)


@pytest.mark.fastpool_only
def test_pools_that_fail_to_start_leave_nothing(impl: Any, run_script: Any) -> None:
    before, after = before_and_after(
        run_script,
        impl,
        """
    def once():
        pool = Pool(2, tasks.raise_value_error, ("never",))
        expect_value_error(lambda: pool.map(tasks.square, range(4)))
        pool.terminate()
        pool.join()

    if __name__ == "__main__":
        for _ in range(5):
            once()
        before = holdings()
        for _ in range(30):
            once()
        report(before)
        """,
    )
    assert not grew(before, after, 6), (before, after)


def test_replaced_workers_leave_nothing(impl: Any, run_script: Any) -> None:
    before, after = before_and_after(
        run_script,
        impl,
        """
    if __name__ == "__main__":
        pool = Pool(2, maxtasksperchild=1)
        usual = len(procs.descendants(os.getpid()))
        pool.map(tasks.square, range(20), 1)
        procs.wait_until(lambda: len(procs.descendants(os.getpid())) == usual)
        before = holdings()
        for _ in range(5):
            pool.map(tasks.square, range(20), 1)
        report(before)
        """,
    )
    assert not grew(before, after, 6), (before, after)


TASKS = {
    "apply": "assert pool.apply(tasks.add, (i, 1)) == i + 1",
    "apply_async": "assert pool.apply_async(tasks.identity, ([i, 'text'],)).get() == [i, 'text']",
    "callback": "pool.apply_async(tasks.square, (i,), callback=lambda v: None).wait()",
    "dropped results": "pool.apply_async(tasks.square, (i,)); i % 50 or pool.apply(tasks.nothing)",
    "errors": "expect_value_error(lambda: pool.apply(tasks.raise_value_error, (i,)))",
}


@pytest.mark.parametrize("kind", TASKS)
def test_ten_thousand_tasks_do_not_grow_the_memory(impl: Any, run_script: Any, kind: str) -> None:
    count = 10_000 if impl.is_fastpool else 2000  # the slow one only has to show that it can
    before, after = before_and_after(
        run_script,
        impl,
        f"""
    if __name__ == "__main__":
        pool = Pool(2)

        def run(count):
            for i in range(count):
                {TASKS[kind]}
            pool.map(tasks.nothing, range(10), 1)

        pids = procs.worker_pids(pool)
        run({count} // 4)
        before = holdings(pids)
        run({count})
        report(before, pids)
        """,
    )
    assert not grew(before, after, 4), (before, after)


def test_large_values_do_not_pile_up(impl: Any, run_script: Any) -> None:
    count = 240 if impl.is_fastpool else 60
    before, after = before_and_after(
        run_script,
        impl,
        f"""
    if __name__ == "__main__":
        pool = Pool(2)
        pids = procs.worker_pids(pool)

        def run(count):
            for i in range(count):
                assert len(pool.apply(tasks.identity, (b"x" * 1_000_000,))) == 1_000_000
            assert len(pool.map(tasks.make_bytes, [100_000] * count)) == count
            for value in pool.imap(tasks.identity, [b"y" * 100_000] * count):
                assert len(value) == 100_000

        run({count} // 4)
        before = holdings(pids)
        run({count})
        report(before, pids)
        """,
    )
    assert not grew(before, after, 40), (before, after)


BIG = 48 << 20
LARGE_VALUES = {
    "an argument": f"pool.apply(tasks.nothing, (b'x' * {BIG},))",
    "an argument among others": f"pool.apply(tasks.nothing, (1, b'x' * {BIG}, object()))",
    "a keyword": f"pool.apply(tasks.add, (b'',), {{'b': b'x' * {BIG}}})",
    "an item": f"pool.map(tasks.nothing, [b'x' * {BIG}])",
    "items": "pool.map(tasks.nothing, ['x' * 100_000] * 400, 400)",
    "items of all kinds": "pool.map(tasks.nothing, ['x' * 100_000, object()] * 400, 800)",
    "numbers": "pool.map(tasks.nothing, list(range(5_000_000)), 5_000_000)",
    "a result": f"pool.apply(tasks.make_bytes, ({BIG},))",
    "a result of all kinds": f"pool.apply(tasks.arguments, (b'x' * {BIG}, object()))",
    "results": "pool.map(tasks.make_bytes, [100_000] * 400, 400)",
}


@pytest.mark.fastpool_only
@pytest.mark.parametrize("kind", LARGE_VALUES)
def test_a_large_value_leaves_no_copy_in_parent_or_worker(
    impl: Any, run_script: Any, kind: str
) -> None:
    script = run_script(
        PREAMBLE.format(module=impl.name)
        + f"""
    if __name__ == "__main__":
        pool = Pool(1)
        pids = [os.getpid(), *procs.worker_pids(pool)]
        pool.map(tasks.square, range(1000))
        if {FREE_THREADED}:  # such a Python keeps what it has freed, and uses it again
            for _ in range(3):
                {LARGE_VALUES[kind]}
        before = sum(map(procs.resident_bytes, pids))
        {LARGE_VALUES[kind]}
        gc.collect()
        pool.apply(gc.collect)
        print(sum(map(procs.resident_bytes, pids)) - before)
        pool.terminate()
        """
    )
    assert int(script.finish()) < 16 << 20


# --- references -----------------------------------------------------------------------------------


class Counted:
    """Can be watched by a weak reference."""


def gone(references: list[Any]) -> bool:
    gc.collect()
    return all(reference() is None for reference in references)


@pytest.mark.parametrize("kind", ["apply", "apply_async", "map", "map_async", "imap", "starmap"])
def test_arguments_are_let_go_when_they_are_sent(pool_factory: Any, kind: str) -> None:
    pool = pool_factory(2)
    things = [Counted() for _ in range(10)]
    references = [weakref.ref(thing) for thing in things]
    if kind in ("apply", "apply_async"):
        results = [getattr(pool, kind)(tasks.nothing, (thing,)) for thing in things]
    elif kind == "starmap":
        results = pool.starmap(tasks.nothing, [(thing,) for thing in things])
    else:
        results = getattr(pool, kind)(tasks.nothing, things)
    if kind == "map_async":
        results.wait(10)
    elif kind == "imap":
        list(results)
    elif kind == "apply_async":
        for result in results:
            result.wait(10)
    del things
    if kind in ("apply", "apply_async"):
        thing = None  # noqa: F841  (the loop variable of nothing: comprehensions have their own)
    procs.wait_until(lambda: gone(references))


def test_results_are_let_go_when_they_were_taken(pool_factory: Any) -> None:
    pool = pool_factory(2)
    references = [
        weakref.ref(value) for value in pool.map(tasks.identity, [Counted() for _ in range(10)])
    ]
    references.append(weakref.ref(pool.apply(tasks.identity, (Counted(),))))
    references += [weakref.ref(value) for value in pool.imap(tasks.identity, [Counted()] * 5)]
    procs.wait_until(lambda: gone(references))


def test_a_result_object_does_not_keep_its_pool(pool_factory: Any) -> None:
    pool = pool_factory.implementation.make(1, start_method="fork")
    result = pool.apply_async(tasks.square, (2,))
    mapped = pool.map_async(tasks.square, [2])
    assert (result.get(10), mapped.get(10)) == (4, [4])
    pool.terminate()
    pool.join()
    reference = weakref.ref(pool)
    del pool
    procs.wait_until(lambda: gone([reference]))
    assert result.get(0) == 4


@pytest.mark.fastpool_only
@pytest.mark.skipif(FREE_THREADED, reason="functions are left to the collector there")
@pytest.mark.parametrize("ending", ["with", "close", "dropped"])
def test_a_pool_that_has_ended_leaves_no_cycle_to_the_garbage_collector(
    run_script: Any, start_method: str, ending: str
) -> None:
    script = run_script(
        f"""
        import gc, multiprocessing, threading
        from collections import Counter
        from fastpool import Pool
        from helpers import procs, tasks

        def use(pool):
            assert pool.apply(tasks.square, (3,)) == 9
            assert pool.map(tasks.identity, [[1], {{2}}]) == [[1], {{2}}]
            assert list(pool.imap(tasks.square, range(3))) == [0, 1, 4]
            assert pool.starmap_async(tasks.add, [(1, 2)]).get() == [3]
            pool.apply_async(tasks.square, (3,), callback=tasks.nothing).get()

        def live(ending):
            if ending == "with":
                with Pool(1) as pool:
                    use(pool)
                return
            pool = Pool(1)
            use(pool)
            if ending == "close":
                pool.close()
                pool.join()
            else:
                pool._engine.was_ended = True  # no warning

        if __name__ == "__main__":
            multiprocessing.set_start_method("{start_method}")
            live("{ending}")  # what is loaded late
            while gc.collect():
                pass
            gc.disable()
            live("{ending}")
            procs.wait_until(lambda: threading.active_count() == 1, 10.0)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            print(dict(Counter(type(each).__name__ for each in gc.garbage)))
        """
    )
    assert script.finish(20) == "{}\n"


def test_callbacks_are_let_go_when_they_were_called(pool_factory: Any) -> None:
    pool = pool_factory(1)

    class Callback:
        def __call__(self, _value: Any) -> None:
            pass

    callback = Callback()
    reference = weakref.ref(callback)
    pool.apply_async(tasks.square, (2,), callback=callback).wait(10)
    pool.map_async(tasks.square, [2], callback=callback).wait(10)
    del callback
    procs.wait_until(lambda: gone([reference]))
