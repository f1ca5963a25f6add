"""Long random stories of arrays that are made, sent, kept, cut, overwritten and dropped.

Beside each array lives its double, a plain array that never goes through a pool and to which the
same is done. However arrays may share memory inside, each must always equal its double.
"""

from __future__ import annotations

import gc
import random
from typing import Any

import numpy as np
import pytest
from helpers import array_tasks, tasks
from helpers.pool_memory import settled_bytes, visit_all_workers
from helpers.threads import InThread

pytestmark = [pytest.mark.timeout_s(90), pytest.mark.start_methods("fork")]

COUNTS = [1, 9, 500, 8192, 8193, 40_000, 131_073, 300_000]


class Story:
    """`held` has pairs of an array and its double; `kept` has the doubles of a worker's arrays."""

    def __init__(self, pool: Any, seed: int, *, fastpool: bool, one_worker: bool) -> None:
        self.pool = pool
        self.dice = random.Random(seed)
        self.held: list[tuple[Any, Any]] = []
        self.shared: list[tuple[Any, Any]] = []
        self.kept: dict[str, Any] = {}
        self.seed = seed
        self.steps = [self.make, self.own, self.return_it, self.return_many, self.cut, self.write]
        self.steps += [self.write, self.drop, self.drop, self.fill_in_a_task, self.map_them]
        self.steps += [self.stream_them, self.many_tasks_of_one, self.fail]
        if one_worker:
            self.steps += [self.keep, self.keep_and_return, self.write_kept, self.fetch]
            self.steps += [self.drop_kept]
        if fastpool:
            self.steps += [self.write_after_the_call, self.share, self.write_shared_in_a_task]
            self.steps += [self.drop_shared, self.return_shared]

    # --- choosing ---

    def number(self) -> float:
        return float(self.dice.randrange(1000))

    def one(self) -> tuple[Any, Any]:
        if not self.held:
            self.make()
        return self.dice.choice(self.held)

    def some(self, most: int = 6) -> list[tuple[Any, Any]]:
        return [self.one() for _ in range(self.dice.randint(1, most))]

    def part(self, length: int) -> slice:
        begin, end = sorted(self.dice.sample(range(length + 2), 2))
        return slice(begin, end, self.dice.choice([1, 1, 1, 2, 7]))

    def hold(self, array: Any, double: Any) -> None:
        if array.size:
            self.held.append((array, double))
        while len(self.held) > 25:
            self.drop()

    # --- steps ---

    def make(self) -> None:
        count, value = self.dice.choice(COUNTS), self.number()
        self.hold(self.pool.apply(array_tasks.ramp, (count, value)), array_tasks.ramp(count, value))

    def own(self) -> None:
        count, value = self.dice.choice(COUNTS), self.number()
        self.hold(array_tasks.ramp(count, value), array_tasks.ramp(count, value))

    def return_it(self) -> None:
        array, double = self.one()
        self.hold(self.pool.apply(tasks.identity, (array,)), double.copy())

    def return_many(self) -> None:
        (a, a_double), (b, b_double) = self.one(), self.one()
        found = self.pool.apply(tasks.identity, ({"x": [a, b, a], "y": (a[::2], 5)},))
        assert found["x"][0] is found["x"][2]
        if a is not b:
            assert found["x"][0] is not found["x"][1]
            self.hold(found["x"][1], b_double.copy())
        self.hold(found["x"][2], a_double.copy())
        self.hold(found["y"][0], a_double[::2].copy())

    def cut(self) -> None:
        array, double = self.one()
        part = self.part(len(array))
        self.hold(array[part], double[part])

    def write(self) -> None:
        array, double = self.one()
        part, value = self.part(len(array)), self.number()
        array[part] = double[part] = value

    def drop(self) -> None:
        if self.held:
            self.held.pop(self.dice.randrange(len(self.held)))

    def fill_in_a_task(self) -> None:
        array, double = self.one()
        value = self.number()
        found = self.pool.apply(array_tasks.fill_and_return, (array, value))
        self.hold(found, np.full_like(double, value))

    def map_them(self) -> None:
        chosen = self.some()
        arrays = [array for array, _ in chosen]
        size = self.dice.choice([None, 1, 2, 10])
        call = self.dice.choice([self.pool.map, lambda f, a, s: self.pool.map_async(f, a, s).get()])
        found = call(tasks.identity, arrays, size)
        for index, ((_, double), result) in enumerate(zip(chosen, found, strict=True)):
            assert np.array_equal(result, double)
            if index == 0:
                self.hold(result, double.copy())

    def stream_them(self) -> None:
        chosen = self.some()
        arrays = iter([array for array, _ in chosen])
        found = list(self.pool.imap(array_tasks.double, arrays, self.dice.choice([1, 3])))
        for (_, double), result in zip(chosen, found, strict=True):
            assert np.array_equal(result, double * 2)
        self.hold(found[-1], chosen[-1][1] * 2)

    def many_tasks_of_one(self) -> None:
        array, double = self.one()
        items = [(array, self.number()) for _ in range(6)]
        found = self.pool.starmap(array_tasks.sees_then_fills, items, 1)
        assert found == [(double.sum(), True)] * 6

    def fail(self) -> None:
        array, _ = self.one()
        with pytest.raises(ValueError, match="after writing"):
            self.pool.apply(array_tasks.fill_and_raise, (array,))

    def write_after_the_call(self) -> None:
        array, double = self.one()
        results = [
            self.pool.apply_async(tasks.identity, (array,)),
            self.pool.apply_async(tasks.identity, ([array, array[1:]],)),
        ]
        before = double.copy()
        array[...] = double[...] = self.number()
        assert np.array_equal(results[0].get(), before)
        whole, rest = results[1].get()
        assert np.array_equal(whole, before) and np.array_equal(rest, before[1:])
        self.hold(whole, before)
        self.hold(rest, before[1:].copy())

    # --- steps with what a worker keeps ---

    def keep(self) -> None:
        array, double = self.one()
        key = f"{self.seed} {self.dice.randrange(6)}"
        self.pool.apply(array_tasks.keep_array, (key, array))
        self.kept[key] = double.copy()

    def keep_and_return(self) -> None:
        array, double = self.one()
        key = f"{self.seed} {self.dice.randrange(6)}"
        self.hold(self.pool.apply(array_tasks.keep_and_return, (key, array)), double.copy())
        self.kept[key] = double.copy()

    def write_kept(self) -> None:
        for key in self.dice.sample(sorted(self.kept), min(1, len(self.kept))):
            value = self.number()
            self.pool.apply(array_tasks.fill_kept, (key, value))
            self.kept[key][...] = value

    def fetch(self) -> None:
        for key in self.dice.sample(sorted(self.kept), min(1, len(self.kept))):
            self.hold(self.pool.apply(tasks.get_state, (key,)), self.kept[key].copy())

    def drop_kept(self) -> None:
        for key in self.dice.sample(sorted(self.kept), min(1, len(self.kept))):
            self.pool.apply(array_tasks.drop_kept, (key,))
            del self.kept[key]

    # --- steps with shared arrays ---

    def share(self) -> None:
        array, double = self.one()
        self.shared.append((self.pool.copy_to_shared(array), double.copy()))
        while len(self.shared) > 6:
            self.drop_shared()

    def write_shared_in_a_task(self) -> None:
        for array, double in self.dice.sample(self.shared, min(2, len(self.shared))):
            part, value = self.part(len(array)), self.number()
            self.pool.apply(array_tasks.fill, (array[part], value))
            double[part] = value

    def return_shared(self) -> None:
        for array, double in self.dice.sample(self.shared, min(1, len(self.shared))):
            back = self.pool.apply(tasks.identity, ([array[::2]],))[0]
            assert np.shares_memory(back, array)
            back += 1
            double[::2] += 1
            self.shared.append((back, double[::2]))

    def drop_shared(self) -> None:
        if self.shared:
            self.shared.pop(self.dice.randrange(len(self.shared)))

    # --- the whole ---

    def check(self) -> None:
        for array, double in [*self.held, *self.shared]:
            assert np.array_equal(array, double)
        for key, double in self.kept.items():
            assert np.array_equal(self.pool.apply(tasks.get_state, (key,)), double)

    def run(self, steps: int) -> None:
        for step in range(steps):
            self.dice.choice(self.steps)()
            if step % 10 == 9:
                self.check()
        self.check()
        for key in list(self.kept):
            self.pool.apply(array_tasks.drop_kept, (key,))
        self.held.clear()
        self.shared.clear()


@pytest.mark.parametrize("seed", range(6))
def test_every_array_stays_equal_to_its_double(
    pool_factory: Any, impl: Any, start_method: str, seed: int
) -> None:
    pool = pool_factory(1)
    # The standard library takes a second for what takes ours ten milliseconds; it needs no proof.
    Story(pool, seed, fastpool=impl.is_fastpool, one_worker=True).run(
        400 if impl.is_fastpool else 40
    )
    gc.collect()
    visit_all_workers(pool)
    if impl.is_fastpool:
        settled_bytes(pool, 0)


@pytest.mark.parametrize("seed", range(3))
def test_with_many_workers(pool_factory: Any, impl: Any, start_method: str, seed: int) -> None:
    pool = pool_factory(4, maxtasksperchild=[None, 50, 7][seed])
    Story(pool, seed, fastpool=impl.is_fastpool, one_worker=False).run(300)
    if impl.is_fastpool:
        gc.collect()
        settled_bytes(pool, 0)


@pytest.mark.fastpool_only
@pytest.mark.parametrize("memory", [0, 2**20])
def test_with_little_memory_that_stays_warm(
    pool_factory: Any, start_method: str, memory: int
) -> None:
    pool = pool_factory(1, memory=memory)
    Story(pool, memory, fastpool=True, one_worker=True).run(300)
    gc.collect()
    settled_bytes(pool, 0)


def test_several_threads_of_the_parent_have_a_story_each(
    pool_factory: Any, impl: Any, start_method: str
) -> None:
    pool = pool_factory(2)

    def tell(seed: int) -> None:
        Story(pool, seed, fastpool=impl.is_fastpool, one_worker=False).run(150)

    for teller in [InThread(tell, seed) for seed in range(4)]:
        teller.outcome(60)
    if impl.is_fastpool:
        gc.collect()
        settled_bytes(pool, 0)
