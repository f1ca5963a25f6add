"""`Pool(seed=)`: each item of each call has random streams of its own, whoever runs it, and how."""

from __future__ import annotations

import functools
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.random import SeedSequence

import fastpool

Draws = tuple[float, float, float]


def draw(*_args: Any, **_kwds: Any) -> Draws:
    return random.random(), float(np.random.random()), float(fastpool.rng().random())


def draw_for_part(part: Any) -> Any:
    return np.full(len(part), np.random.random())


def draw_twice(_item: Any) -> bool:
    return fastpool.rng() is fastpool.rng()


def draw_or_die(path: str, item: int) -> Draws:
    """The first one that runs item 3 draws, and dies of it."""
    values = draw()
    if item == 3:
        try:
            Path(path).touch(exist_ok=False)
        except FileExistsError:
            return values
        os._exit(1)
    return values


def draw_or_fail(item: int) -> Draws:
    values = draw()
    if item % 5 == 2:
        raise ValueError(values)
    return values


def expected(seed: Any, call: int, items: int) -> list[Any]:
    """The second and third number that `draw` returns, from NumPy's own means."""
    found = []
    for index in range(items):
        sequence = SeedSequence(seed, spawn_key=(call, index))
        legacy = np.random.RandomState(sequence.generate_state(4))
        found.append((legacy.random_sample(), np.random.default_rng(sequence).random()))
    return found


def all_calls(pool: Any) -> list[Any]:
    """One call of each kind, in this order."""
    x = np.arange(12.0)
    results: list[Any] = [
        [pool.apply(draw)],
        [pool.apply(functools.partial(draw, 1), (1,), {"_key": 2})],
        [pool.apply_async(draw, ([{1}],)).get(10)],
        pool.map(draw, range(40)),
        pool.map(draw, [{i} for i in range(40)], 7),
        pool.map(draw, ["text"] * 9, 1, timeout=20),
        pool.map_async(draw, x).get(10),
        pool.starmap(draw, [(i, i) for i in range(20)], 3),
        pool.map(draw, range(20), return_exceptions=True),
        list(pool.imap(draw, iter(range(30)), 4)),
        list(pool.imap(draw, [None] * 30)),
        sorted(pool.imap_unordered(draw, range(30), 7)),
        pool.map(draw, range(5), out=np.zeros((5, 3))).tolist(),
        pool.map_blocks(draw_for_part, x, blocks=4).tolist(),
        pool.map_blocks(draw_for_part, x, blocks=4, out=pool.zeros(12)).tolist(),
        pool.map(draw, []),
        [pool.apply(draw)],
    ]
    return results


@pytest.fixture(scope="module")
def reference() -> list[Any]:
    with fastpool.Pool(1, seed=5) as pool:
        return all_calls(pool)


@pytest.mark.start_methods("fork", "spawn")
@pytest.mark.fastpool_only
def test_streams_are_the_same_for_any_number_of_workers_and_start_method(
    reference: list[Any], pool_factory: Any, start_method: str
) -> None:
    assert all_calls(pool_factory(3, seed=5)) == reference


def test_streams_can_be_made_by_hand(reference: list[Any]) -> None:
    for call in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16):
        found = [tuple(values)[1:] for values in reference[call]]
        assert found == expected(5, call, len(found)), call


def test_no_two_items_or_calls_share_a_stream(reference: list[Any]) -> None:
    for which in range(3):
        numbers = [tuple(values)[which] for call in reference[:12] for values in call]
        assert len(set(numbers)) == len(numbers) > 200


def test_chunks_do_not_matter() -> None:
    found = []
    for size in (1, 3, 100):
        with fastpool.Pool(2, seed=[7, 8]) as pool:
            found.append(pool.map(draw, range(50), size))
    assert found[0] == found[1] == found[2]
    assert [values[1:] for values in found[0]] == expected([7, 8], 0, 50)


def test_a_seed_sequence_is_a_seed() -> None:
    child = SeedSequence(99, pool_size=8).spawn(3)[2]
    with fastpool.Pool(1, seed=child) as pool:
        third = pool.apply(draw)[2]
    sequence = SeedSequence(99, spawn_key=(2, 0, 0), pool_size=8)
    assert third == np.random.default_rng(sequence).random()


def test_an_item_that_runs_again_has_its_stream_again(tmp_path: Path) -> None:
    with fastpool.Pool(2, seed=5) as pool:
        undisturbed = pool.starmap(draw_or_die, [(os.devnull, i) for i in range(10)], 5)
    with fastpool.Pool(2, seed=5, retries=1) as pool:
        items = [(str(tmp_path / "died"), i) for i in range(10)]
        assert pool.starmap(draw_or_die, items, 5) == undisturbed
    assert (tmp_path / "died").exists()


def test_items_behind_one_that_fails_have_theirs() -> None:
    with fastpool.Pool(2, seed=5) as pool:
        found = pool.map(draw_or_fail, range(20), 10, return_exceptions=True)
    values = [x.args[0] if isinstance(x, ValueError) else x for x in found]
    assert [v[1:] for v in values] == expected(5, 0, 20)
    assert sum(isinstance(x, ValueError) for x in found) == 4


def test_the_generator_is_one_object_within_an_item() -> None:
    with fastpool.Pool(1, seed=5) as pool:
        assert pool.map(draw_twice, range(3), 3) == [True] * 3


def test_rng_is_only_there_in_a_task_of_a_seeded_pool() -> None:
    with pytest.raises(RuntimeError, match="Pool\\(seed="):
        fastpool.rng()
    with fastpool.Pool(1) as pool, pytest.raises(RuntimeError, match="Pool\\(seed="):
        pool.apply(fastpool.rng)


@pytest.mark.parametrize("seed", ["1", b"1", True, 1.5, [1, 2.0], object(), random.Random(1)])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    with pytest.raises(TypeError, match="seed must be None, an integer"):
        fastpool.Pool(1, seed=seed)


@pytest.mark.parametrize("seed", [-1, [], [3, -4]])
def test_a_seed_out_of_range_is_refused(seed: Any) -> None:
    with pytest.raises(ValueError, match="seed must be one or more"):
        fastpool.Pool(1, seed=seed)


def test_large_seeds_and_numpys_integers_are_taken() -> None:
    for seed in (2**200, np.int64(3), np.array([1, 2**31])):
        with fastpool.Pool(1, seed=seed) as pool:
            assert pool.apply(draw)[1:] == expected(seed, 0, 1)[0]


def test_a_task_that_seeds_by_itself_disturbs_no_other() -> None:
    with fastpool.Pool(1, seed=5) as pool:
        pool.apply(np.random.seed, (1,))
        pool.apply(random.seed, (1,))
        assert pool.apply(draw)[1:] == expected(5, 2, 1)[0]


def test_random_is_the_same_without_numpy(run_script: Any, reference: list[Any]) -> None:
    script = run_script(
        """
        import random, sys
        sys.modules["numpy"] = None
        import fastpool

        def draw(_item=None):
            return random.random()

        if __name__ == "__main__":
            with fastpool.Pool(2, seed=5) as pool:
                print(pool.apply(draw))
                try:
                    pool.apply(fastpool.rng)
                except ImportError as error:
                    print(error)
        """
    )
    first = reference[0][0][0]
    assert script.finish() == f"{first}\nfastpool.rng() needs NumPy: pip install numpy\n"
