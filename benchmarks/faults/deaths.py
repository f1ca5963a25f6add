"""A worker dies, or is stopped, at some point."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from fastpool.bench.contender import Contender, Getter

from . import tasks
from .trial import CALL, Trial
from .verdicts import Verdict

KILL_SECONDS = float(os.environ.get("FAULTS_KILL_SECONDS", "5"))
ATTEMPTS = 5


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def idle(trial: Trial) -> None:
    """Each in turn: one of them holds the lock of the pipe that they read, in pools with a pipe."""
    pool = trial.open()
    for pid in pool.pids():
        kill(pid)
        trial.wait_until(functools.partial(dead, pid), 2)
        trial.expect_value(lambda: pool.map(tasks.square, range(40)), [i * i for i in range(40)])
    trial.survives(pool)


def dead(pid: int) -> bool:
    """A zombie, too, is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def busy(trial: Trial) -> None:
    pool = trial.open()
    other = pool.submit(tasks.arrive_and_wait, "other", "gate")
    tasks.wait_for("other")
    get = pool.submit(tasks.arrive_and_nap, "victim")
    kill(tasks.wait_for("victim"))
    trial.expect_death(get)
    tasks.arrive("gate")
    trial.others(other, "passed")
    trial.survives(pool)


@contextlib.contextmanager
def killer(direction: str, name: str, pids: list[int]) -> Iterator[Callable[[], bool]]:
    """Kills the first of these processes that moves data; the function tells whether it did."""
    command = [sys.executable, "-IS", str(Path(__file__).parent / "killer.py"), direction, name]
    with subprocess.Popen(
        [*command, *map(str, pids)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        tasks.wait_for(name)
        try:
            yield lambda: bool(process.communicate()[0].strip())
        finally:
            process.kill()


def writing(trial: Trial) -> None:
    pool = trial.open()
    for attempt in range(ATTEMPTS):
        get = pool.submit(tasks.large_result_at, f"sender-{attempt}", f"gate-{attempt}")
        victim = tasks.wait_for(f"sender-{attempt}")
        with killer("writes", f"gate-{attempt}", [victim]) as has_killed:
            if _hit(trial, get, has_killed):
                break
    else:
        trial.find(Verdict.NOT_TRIED, "the killer was too slow")
    trial.survives(pool)


def reading(trial: Trial) -> None:
    pool = trial.open()
    data = bytes(tasks.LARGE)
    for attempt in range(ATTEMPTS):
        with killer("reads", f"gate-{attempt}", pool.pids()) as has_killed:
            if _hit(trial, lambda: pool.submit(tasks.length, data)(), has_killed):
                break
    else:
        trial.find(Verdict.NOT_TRIED, "the killer was too slow")
    trial.survives(pool)


def _hit(trial: Trial, get: Getter, has_killed: Callable[[], bool]) -> bool:
    """Whether the worker was killed in time. If not, the value came through, and the worker died
    (or did not) when it had nothing more to do."""
    trial.step(CALL)
    try:
        get()
    except Exception as error:
        trial.step("after the call")
        trial.write(error=f"{type(error).__name__}: {error}"[:2000])
        if not isinstance(error, trial.contender.deaths()):
            trial.find_error(Verdict.FAILS, error)
        return True
    trial.step("after the call")
    trial.write(too_late=has_killed())
    return False


def _in_a_task(trial: Trial, how: Callable[..., NoReturn], *args: Any) -> None:
    pool = trial.open()
    other = pool.submit(tasks.arrive_and_wait, "other", "gate")
    tasks.wait_for("other")
    trial.expect_death(pool.submit(how, *args))
    tasks.arrive("gate")
    trial.others(other, "passed")
    trial.survives(pool)


def segfault(trial: Trial) -> None:
    _in_a_task(trial, tasks.segfault)


def hard_exit(trial: Trial) -> None:
    _in_a_task(trial, tasks.leave_hard)


def sys_exit(trial: Trial) -> None:
    pool = trial.open()
    other = pool.submit(tasks.arrive_and_wait, "other", "gate")
    tasks.wait_for("other")
    trial.expect_error(pool.submit(tasks.leave), SystemExit)
    tasks.arrive("gate")
    trial.others(other, "passed")
    trial.survives(pool)


def grandchild(trial: Trial) -> None:
    pool = trial.open()
    trial.expect_death(pool.submit(tasks.die_and_leave_a_child, "grandchild"))
    trial.next_call(pool)
    kill(tasks.wait_for("grandchild"))
    trial.leave(pool)


def stopped(trial: Trial) -> None:
    pool = trial.open()
    held = pool.submit(tasks.stop_myself, "stopped")
    pid = tasks.wait_for("stopped")
    getters = [pool.submit(tasks.square, i) for i in range(40)]
    trial.expect_value(lambda: [get() for get in getters], [i * i for i in range(40)])
    os.kill(pid, signal.SIGCONT)
    trial.others(held, "went on")
    trial.survives(pool)


def random_kills(trial: Trial) -> None:
    """The answer's time is not told here: it is that of the kills."""
    pool: Contender = trial.open()
    over = threading.Event()
    dice = random.Random(7)

    def kill_now_and_then() -> None:
        while not over.wait(dice.uniform(0.01, 0.1)):
            pids = pool.pids()
            if pids:
                kill(dice.choice(pids))

    thread = threading.Thread(target=kill_now_and_then, daemon=True)
    thread.start()
    end = time.monotonic() + KILL_SECONDS
    deaths = calls = 0
    trial.step("calls between kills")
    while time.monotonic() < end:
        try:
            getters = [pool.submit(tasks.slow_square, i) for i in range(20)]
        except Exception as error:
            trial.find_error(Verdict.UNUSABLE, error)
            break
        for i, get in enumerate(getters):
            calls += 1
            try:
                if get() != i * i:
                    trial.find(Verdict.WRONG)
            except trial.contender.deaths():
                deaths += 1
    over.set()
    thread.join()
    trial.write(calls=calls, deaths=deaths)
    trial.survives(pool)


def poison(trial: Trial) -> None:
    pool = trial.open()
    trial.expect_death(pool.retried(2, tasks.die))
    trial.survives(pool)
