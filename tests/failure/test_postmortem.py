"""What a WorkerDiedError tells: who died of what, doing what, where, and with how much memory."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import mishaps, procs, tasks
from helpers.build import FREE_THREADED
from helpers.mishaps import KILL

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]

MIB = 2**20


def death(impl: Any, call: Any, *args: Any, **kwargs: Any) -> Any:
    with pytest.raises(impl.module.WorkerDiedError) as caught:
        call(*args, **kwargs)
    return caught.value


# --- how it ended ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "signum",
    [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT, signal.SIGBUS, signal.SIGHUP, signal.SIGQUIT],
)
def test_a_signal_is_named(impl: Any, pool_factory: Any, signum: signal.Signals) -> None:
    pool = pool_factory(1)
    error = death(impl, pool.apply, tasks.die, (signum,))
    assert error.exitcode == -signum
    assert f"worker {error.pid} was killed by {signum.name} while it ran a call of die" in str(
        error
    )


def test_a_real_time_signal_is_told_by_its_number(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(1)
    error = death(impl, pool.apply, tasks.die, (signal.SIGRTMIN + 3,))
    assert error.exitcode == -(signal.SIGRTMIN + 3)
    assert "was killed by signal 37" in str(error)


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_an_exit_status_is_told(
    impl: Any, pool_factory: Any, start_method: str, status: int
) -> None:
    pool = pool_factory(1)
    error = death(impl, pool.apply, tasks.die, (f"exit-{status}",))
    assert error.exitcode == status
    assert f"exited with status {status} while it ran a call of die" in str(error)
    assert error.stack is None
    assert error.out_of_memory is False


@pytest.mark.parametrize("kind", ["map", "starmap", "imap", "imap_unordered", "istarmap"])
@pytest.mark.parametrize("chunksize", [1, 4, 20])
def test_the_item_is_named(impl: Any, pool_factory: Any, kind: str, chunksize: int) -> None:
    pool = pool_factory(2)
    if "star" in kind:
        work = [((KILL if i == 13 else None, i),) for i in range(20)]
    else:
        work = [(KILL if i == 13 else None, i) for i in range(20)]
    call = getattr(pool, kind)
    error = death(impl, lambda: list(call(tasks.die_or_return, work, chunksize)))
    assert error.task == "item 13 of a map of die_or_return"
    assert error.task in str(error)


def test_a_call_is_named_by_its_function(impl: Any, pool_factory: Any) -> None:
    import functools

    pool = pool_factory(1)
    assert death(impl, pool.apply, tasks.die, (KILL,)).task == "a call of die"
    assert death(impl, pool.apply, functools.partial(tasks.die, KILL)).task == "a call of partial"
    killer = mishaps.Killer()
    assert death(impl, pool.apply, killer.kill).task == "a call of Killer.kill"
    assert death(impl, pool.apply, killer).task == "a call of Killer"


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.start_methods("fork", "spawn")
def test_the_peak_of_its_memory_is_told(impl: Any, pool_factory: Any, start_method: str) -> None:
    # What a worker shares with its parent at its start counts, however short a time it has it.
    usual = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + 280 * MIB
    pool = pool_factory(1)
    small = death(impl, pool.apply, tasks.die, (KILL,))
    large = death(impl, pool.apply, mishaps.take_memory, (300 * MIB,))
    assert 1 * MIB < small.peak_memory < usual
    assert 300 * MIB < large.peak_memory < small.peak_memory + 320 * MIB
    assert f"it had at most {large.peak_memory / MIB:.0f} MiB of memory" in str(large)
    again = death(impl, pool.apply, tasks.die, (KILL,))
    assert again.peak_memory < usual, "of this worker, and not of any before"


@pytest.mark.start_methods("forkserver")
def test_memory_that_is_not_known_is_not_told(
    impl: Any, pool_factory: Any, start_method: str
) -> None:
    pool = pool_factory(1)
    error = death(impl, pool.apply, tasks.die, (KILL,))
    assert error.peak_memory is None
    assert "MiB" not in str(error)


def test_a_plain_kill_is_not_out_of_memory(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(1)
    error = death(impl, pool.apply, tasks.die, (KILL,))
    assert error.out_of_memory is False
    assert "SIGKILL without a sender of yours is often" in str(error)
    error = death(impl, pool.apply, tasks.die, (signal.SIGTERM,))
    assert "out-of-memory" not in str(error)


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group with little memory, for the program that moves itself into it."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path.lstrip("/")))
    name = f"fastpool-test-{uuid.uuid4().hex[:8]}"
    tried = []
    for parent, limit in (
        (Path("/sys/fs/cgroup/memory") / own.get("memory", ""), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup") / own.get("", ""), "memory.max"),
    ):
        group = parent / name
        try:
            group.mkdir()
        except OSError as error:
            tried.append(str(error))
            continue
        try:
            (group / limit).write_text(str(256 * MIB))
            swap = group / ("memory.swappiness" if "limit" in limit else "memory.swap.max")
            if swap.exists():
                swap.write_text("0")
        except OSError as error:
            tried.append(str(error))
            group.rmdir()
            continue
        yield group
        members = group / "cgroup.procs"
        procs.wait_until(lambda members=members: not members.read_text().strip())
        group.rmdir()
        return
    pytest.skip(f"no control group with a limit of memory can be made here: {tried}")


def test_the_out_of_memory_killer_is_named(small_group: Path, run_script: Any) -> None:
    script = run_script(
        """
        import os, sys
        from fastpool import Pool, WorkerDiedError
        from helpers import mishaps, tasks

        if __name__ == "__main__":
            with open(sys.argv[1] + "/cgroup.procs", "w") as file:
                file.write(str(os.getpid()))
            with Pool(1, initializer=mishaps.prefer_me) as pool:
                for how in ("kill", "memory", "kill"):
                    try:
                        if how == "kill":
                            pool.apply(tasks.die, (mishaps.KILL,))
                        else:
                            pool.apply(mishaps.take_memory, (600 << 20,))
                    except WorkerDiedError as error:
                        print(how, error.exitcode, error.out_of_memory,
                              "out-of-memory killer ended a process of this cgroup" in str(error))
        """,
        arguments=[str(small_group)],
    )
    assert script.finish().splitlines() == [
        "kill -9 False False",
        "memory -9 True True",
        "kill -9 False False",
    ]


# --- the stack ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["apply", "map"])
def test_a_crash_shows_where_it_was(
    impl: Any, pool_factory: Any, start_method: str, kind: str
) -> None:
    pool = pool_factory(1)
    if kind == "apply":
        error = death(impl, pool.apply, mishaps.a_function_of_the_user)
    else:
        error = death(impl, pool.map, mishaps.a_function_of_the_user, range(3), 3)
    assert error.exitcode == -signal.SIGSEGV
    assert "Segmentation fault" in error.stack
    assert "in a_function_of_the_user" in error.stack
    assert error.stack.rstrip() in str(error)


def test_the_next_worker_does_not_show_the_stack_of_the_last_one(
    impl: Any, pool_factory: Any
) -> None:
    pool = pool_factory(1)
    for _ in range(12):  # through all slots, and round
        assert (
            "in a_function_of_the_user"
            in death(impl, pool.apply, mishaps.a_function_of_the_user).stack
        )
        assert death(impl, pool.apply, tasks.die, (KILL,)).stack is None
        assert death(impl, pool.apply, tasks.die, ("exit-3",)).stack is None


@pytest.mark.skipif(FREE_THREADED, reason="faulthandler shows one thread only, without a GIL")
def test_a_short_stack_behind_a_long_one(impl: Any, pool_factory: Any) -> None:
    """As much as is shown of a long one is taken away; a later one in its place is shown alone."""
    pool = pool_factory(1)
    for _ in range(12):
        long = death(impl, pool.apply, mishaps.crash_with_threads, (60,))
        assert long.stack.count("in deep") > 500
        first = long.stack.index("thread")
        assert "in crash_with_threads" in long.stack[first : first + 1000], "who crashed, first"
        short = death(impl, pool.apply, mishaps.a_function_of_the_user)
        assert "deep" not in short.stack
        assert "in a_function_of_the_user" in short.stack


def test_a_crash_of_a_child_of_the_worker_is_not_the_workers(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(1)
    assert death(impl, pool.apply, mishaps.child_crashes_then_die, (KILL,)).stack is None
    stack = death(impl, pool.apply, mishaps.child_crashes_then_die, (signal.SIGBUS,)).stack
    assert stack is None or "Segmentation fault" not in stack
    assert death(impl, pool.apply, tasks.die, (KILL,)).stack is None


def test_stacks_cost_no_file_and_no_descriptor(pool_factory: Any, impl: Any) -> None:
    pool = pool_factory(1)
    death(impl, pool.apply, mishaps.a_function_of_the_user)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        death(impl, pool.apply, mishaps.a_function_of_the_user)
    assert len(os.listdir("/proc/self/fd")) == before


# --- on their way ---------------------------------------------------------------------------------


def test_the_exceptions_can_be_pickled(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(1, retries=1)
    module = impl.module
    died = death(impl, pool.apply, mishaps.a_function_of_the_user)
    with pytest.raises(module.TaskTimeoutError) as late:
        pool.apply_async(tasks.nap, (60,), timeout=0.1).get(10)
    cancelled = pool.apply_async(tasks.nap, (60,))
    assert cancelled.cancel(kill=True)
    with pytest.raises(module.TaskCancelledError) as gone:
        cancelled.get(0)
    assert died.deaths == 2
    for error in (died, late.value, gone.value):
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            copy = pickle.loads(pickle.dumps(error, protocol))
            assert type(copy) is type(error)
            assert str(copy) == str(error)
            assert vars(copy) == vars(error)
        again = pool.apply(tasks.identity, (error,))
        assert str(again) == str(error)
        with pytest.raises(type(error)):
            pool.apply(tasks.raise_error, (error,))


def test_what_they_are() -> None:
    import fastpool

    for kind, bases in {
        fastpool.WorkerDiedError: (fastpool.FastpoolError, RuntimeError),
        fastpool.TaskTimeoutError: (fastpool.FastpoolError, TimeoutError),
        fastpool.TaskCancelledError: (fastpool.FastpoolError,),
    }.items():
        assert issubclass(kind, bases)
    assert not issubclass(fastpool.TaskTimeoutError, fastpool.TimeoutError), (
        "get(timeout=...) raises that one: no result yet"
    )
