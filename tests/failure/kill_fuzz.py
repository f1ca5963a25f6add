"""Kills, stops and crashes processes of pools at random while all kinds of calls run.

    python tests/failure/kill_fuzz.py --seconds 600 --seed 1234
    python tests/failure/kill_fuzz.py --seed 1234 --round 17     # that round alone

A round is one pool: its start method, its size, its retries, what is called from how many threads,
and when whom hits what come from the seed and the number of the round. When which process gets to
run does not, so a round that failed may need some runs to fail again.

After each round the traces of the workers are compared with what the calls gave, and nothing may be
left: processes, threads, descriptors, shared memory.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import itertools
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import helpers
from helpers import fuzz_tasks, pool_memory, procs
from helpers.fuzz_calls import Caller, Fault, Outcome
from helpers.fuzz_tasks import POISON, Trace, behaviour_of, item_of, small_cgroup
from helpers.overdue import Watch

from fastpool import Pool, PoolTerminatedError

METHODS = ("fork", "fork", "spawn", "forkserver")  # fork twice: its rounds are many and short
DEADLINE = 40.0  # for each call and each ending
ROUND = 2.5  # seconds of kills
MEMORY_GROWTH = 64 << 20  # of this process, from the fifth round on

#: With so many retries nothing fails but what kills its worker each time.
MANY_RETRIES = 8

HITS = {signal.SIGKILL: 9, signal.SIGSEGV: 3, signal.SIGTERM: 3, signal.SIGSTOP: 5}


class Killer:
    """Hits the workers of a pool at random moments, and now and then what starts them."""

    def __init__(self, pool: Any, method: str, chance: random.Random, pace: float) -> None:
        self._pool = pool
        self._method = method
        self._chance = chance
        self._pace = pace
        self._stopped: list[tuple[float, int, int]] = []  # when to go on, pidfd, signal
        self._starter_from = time.monotonic() + chance.uniform(0.3, 4.0)
        self.hits: Counter[str] = Counter()

    def run(self, stop: threading.Event) -> None:
        """Hit until told to stop; nobody stays stopped."""
        while not stop.wait(self._chance.uniform(0, 2 * self._pace)):
            self._go_on(time.monotonic())
            self._hit()
        self._go_on(float("inf"))

    def _hit(self) -> None:
        infos = self._pool.workers()
        # Workers that never get to work fail the pool, as they should: so those are left alone, and
        # those that have not worked yet are not made to look as if they had crashed by themselves.
        ready = [info.pid for info in infos if info.state != "starting"]
        fresh = [info.pid for info in infos if info.state == "idle" and info.tasks_done == 0]
        if not ready:
            return
        if time.monotonic() > self._starter_from and len(ready) == len(infos):
            self._starter_from = float("inf")
            self._hit_starter(ready[0])
            return
        pid = self._chance.choice(ready)
        signum = self._chance.choices(list(HITS), list(HITS.values()))[0]
        if signum == signal.SIGSEGV and pid in fresh:
            signum = signal.SIGKILL
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        if pid not in [info.pid for info in self._pool.workers()]:
            os.close(pidfd)  # it has gone, and its number may be somebody else's by now
            return
        self._send(pidfd, signum)
        if signum == signal.SIGSTOP:
            after = self._chance.choice([signal.SIGCONT, signal.SIGCONT, signal.SIGKILL])
            at = time.monotonic() + self._chance.uniform(0, 0.4)
            self._stopped.append((at, pidfd, after))
        else:
            os.close(pidfd)

    def _hit_starter(self, worker: int) -> None:
        """Kill the zygote, which ends its workers with it, or the fork server, which does not."""
        starter = procs.parent_of(worker)
        if self._method != "spawn" and starter not in (None, 0, 1, os.getpid()):
            self.hits[f"starter of {self._method}"] += 1
            procs.kill(starter)

    def _send(self, pidfd: int, signum: int) -> None:
        try:
            signal.pidfd_send_signal(pidfd, signum)
            self.hits[signal.Signals(signum).name] += 1
        except ProcessLookupError:
            pass

    def _go_on(self, now: float) -> None:
        for entry in [entry for entry in self._stopped if entry[0] <= now]:
            self._stopped.remove(entry)
            self._send(entry[1], entry[2])
            os.close(entry[1])


class Round:
    """One pool, from its start to the proof that nothing of it is left."""

    def __init__(self, seed: int, number: int, watch: Watch, directory: Path, cgroup: str) -> None:
        chance = self._chance = random.Random(f"{seed}/{number}")
        self.number = number
        self._watch = watch
        self._trace_path = directory / f"trace-{number}"
        self.method = chance.choice(METHODS)
        self.workers = chance.randint(1, 3)
        self.retries = chance.choice([0, 0, 1, MANY_RETRIES])
        self.threads = chance.choice([1, 1, 4])
        # A call has up to 400 tasks; only forked workers start quickly enough for as many.
        self.maxtasks = chance.choice([None, None, 10]) if self.method == "fork" else None
        # Workers that aren't forked take a while to start; they shall get to work, too.
        self.pace = chance.choice([0.02, 0.1, 0.3]) * (1 if self.method == "fork" else 3)
        self.ending = chance.choice(["close", "terminate", "drop"])
        self._numbers = itertools.count()
        self._initargs = (str(self._trace_path), cgroup)
        self._faults: list[str] = []
        self._outcomes: list[Outcome] = []
        self.counts: Counter[str] = Counter()

    def __str__(self) -> str:
        return (
            f"round {self.number}: {self.method}, workers {self.workers}, retries {self.retries}, "
            f"threads {self.threads}, maxtasksperchild {self.maxtasks}, "
            f"a hit each {self.pace:g} s, {self.ending}"
        )

    def run(self) -> list[str]:
        """Returns the faults."""
        self._watch.about = str(self)
        gc.collect()
        before = procs.Snapshot()
        try:
            with self._watch.over(f"{self}"):
                pool = self._make_pool()
            self._under_fire(pool)
            if not self._faults:
                with self._watch.over(f"after the kills of {self}"):
                    self._check_pool(pool)
                alive = set(procs.worker_pids(pool))
                pending = self._begin_last_call(pool)
                with self._watch.over(f"the end of {self}"):
                    self._end(pool, pending)
                del pool, pending
                self._check_traces(alive)
                self._check_leftovers(before)
        except (Fault, AssertionError) as fault:
            self._faults.append("".join(traceback.format_exception(fault)))
        self._trace_path.unlink(missing_ok=True)
        return self._faults

    def _make_pool(self) -> Pool:
        return Pool(
            self.workers,
            fuzz_tasks.begin_trace,
            self._initargs,
            self.maxtasks,
            multiprocessing.get_context(self.method),
            retries=self.retries,
        )

    # ---- calls and kills -----------------------------------------------------------------------

    def _under_fire(self, pool: Pool) -> None:
        stop = threading.Event()
        killer = Killer(pool, self.method, random.Random(self._chance.random()), self.pace)
        callers: list[Caller] = []
        work: list[Any] = [lambda: killer.run(stop)]
        for _ in range(self.threads):
            chance = random.Random(self._chance.random())
            caller = Caller(pool, chance, self.retries, self._watch, self._numbers)
            callers.append(caller)
            work.append(lambda caller=caller: caller.run(stop))
        threads = [
            threading.Thread(target=self._guarded, args=(run, stop), name=f"caller {k}")
            for k, run in enumerate(work)
        ]
        for thread in threads:
            thread.start()
        stop.wait(ROUND)
        stop.set()
        for thread in threads:
            thread.join()
        self.counts = sum((caller.counts for caller in callers), Counter(killer.hits))
        self._outcomes = [outcome for caller in callers for outcome in caller.outcomes]

    def _guarded(self, run: Any, stop: threading.Event) -> None:
        try:
            run()
        except BaseException:
            self._faults.append(traceback.format_exc())
            stop.set()

    # ---- what has to be so then ----------------------------------------------------------------

    def _check_pool(self, pool: Pool) -> None:
        """It is whole again, and holds nothing."""

        def whole() -> bool:
            infos = pool.workers()
            return len(infos) == self.workers and all(i.state != "starting" for i in infos)

        if self.maxtasks is None:
            procs.wait_until(whole, 15.0, lambda: f"{self.workers} workers: {pool.workers()}")
        number = next(self._numbers)
        items = [item_of(number, index) for index in range(100)]
        values = pool.map(fuzz_tasks.number, items, 7)
        if values != [fuzz_tasks.number_of(item) for item in items]:
            raise Fault(f"the pool is not what it was: {values}")
        if pool_memory.settled_bytes(pool, 0, 15.0) != 0:
            raise Fault(f"memory that nobody uses: {pool.stats()}")

    def _begin_last_call(self, pool: Pool) -> tuple[list[int], Any]:
        number = next(self._numbers)
        items = [item_of(number, index, fuzz_tasks.LINGERS) for index in range(60)]
        return items, pool.map_async(fuzz_tasks.number, items, self._chance.choice([1, 8]))

    def _end(self, pool: Pool, pending: tuple[list[int], Any]) -> None:
        items, result = pending
        if self.ending == "close":
            pool.close()
            pool.join()
        elif self.ending == "terminate":
            pool.terminate()
            pool.join()
        try:
            values = result.get(DEADLINE)
        except PoolTerminatedError:
            if self.ending != "terminate":
                raise
        else:
            if values != [fuzz_tasks.number_of(item) for item in items]:
                raise Fault(f"wrong at the end: {values}")

    def _check_traces(self, alive: set[int]) -> None:
        """No run too many, and none too few."""
        trace = Trace(self._trace_path)
        rerun: Counter[int] = Counter()
        for item, runs in trace.runs.items():
            for run in runs[:-1]:
                if run.pid in trace.left or run.pid in alive:
                    raise Fault(f"item {item:#x} ran again though its worker lived: {runs}")
                rerun[run.pid] += run.ended
        for item, error, deaths, alone in self._outcomes:
            runs = trace.runs.get(item, [])
            # In a chunk, the count begins anew when a worker dies of another item meanwhile.
            if alone and len(runs) > 1 + self.retries:
                raise Fault(f"item {item:#x} ran more often than it may: {runs}")
            if error is None and not any(run.ended for run in runs):
                raise Fault(f"item {item:#x} has a value, but never ran to its end: {runs}")
            if deaths and behaviour_of(item) not in POISON:
                # It may have been claimed and not begun when its worker was hit; but seldom.
                if deaths > 3 and len({run.pid for run in runs}) < deaths - deaths // 3:
                    raise Fault(f"{deaths} workers died of item {item:#x}, but who? {runs}")
                self.counts[f"innocent, {self.retries} retries"] += 1
        self.counts["ran again after its end"] += sum(rerun.values())

    def _check_leftovers(self, before: procs.Snapshot) -> None:
        # The fork server is a child of ours, and a new one when it was killed: none between rounds.
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
        left: list[str] = []

        def nothing_left() -> bool:
            gc.collect()
            left[:] = before.left_since()
            maps = Path("/proc/self/maps").read_text().splitlines()
            left.extend(line for line in maps if "memfd:fastpool" in line)
            return not left

        procs.wait_until(nothing_left, 10.0, lambda: "nothing is left:\n" + "\n".join(left))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--round", type=int, default=None, help="only this one, over and over")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource_tracker.ensure_running()
    total: Counter[str] = Counter()
    begin = said = time.monotonic()
    rounds = 0
    base = 0
    with tempfile.TemporaryDirectory(prefix="fastpool-fuzz-") as name, small_cgroup() as cgroup:
        stacks = os.environ.setdefault(helpers.STACKS_VARIABLE, f"{name}/stacks")
        helpers.register_stack_dump()
        print(f"cgroup {cgroup or 'none: SIGKILL in its place'}, stacks in {stacks}", flush=True)
        watch = Watch(DEADLINE, lambda: fuzz_tasks.remove_cgroup(cgroup))
        while time.monotonic() - begin < options.seconds:
            # If even the watching thread gets nowhere, because somebody keeps the GIL.
            faulthandler.dump_traceback_later(4 * DEADLINE, exit=True)
            number = rounds if options.round is None else options.round
            this = Round(options.seed, number, watch, Path(name), cgroup)
            faults = this.run()
            total += this.counts
            rounds += 1
            if faults:
                print(f"FAULT in {this}\n" + "\n".join(faults), flush=True)
                print(f"again: --seed {options.seed} --round {number}", flush=True)
                return 1
            memory = procs.resident_bytes(os.getpid())
            if rounds == 5:
                base = memory
            if rounds > 5 and memory > base + MEMORY_GROWTH:
                print(
                    f"FAULT: this process grew from {base} to {memory} bytes, seed {options.seed}"
                )
                return 1
            if time.monotonic() - said > 3.0:
                said = time.monotonic()
                print(f"{said - begin:5.0f} s  {this}: {_summary(this.counts)}", flush=True)
    faulthandler.cancel_dump_traceback_later()
    print(f"seed {options.seed}: {rounds} rounds, all right: {_summary(total)}", flush=True)
    return 0


def _summary(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {n}" for name, n in sorted(counts.items()) if n)


if __name__ == "__main__":
    sys.exit(main())
