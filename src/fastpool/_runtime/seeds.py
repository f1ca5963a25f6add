"""Random streams of tasks: one for each item, the same whichever worker runs it, and when."""

from __future__ import annotations

import operator
import os
import random
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from numpy.random import Generator, SeedSequence


class Seed(NamedTuple):
    """What a pool's streams are made from."""

    entropy: tuple[int, ...]
    spawn_key: tuple[int, ...] = ()
    pool_size: int = 4  # NumPy's own default

    def sequence(self, call: int, index: int) -> SeedSequence:
        """Return NumPy's sequence for an item of a call."""
        from numpy.random import SeedSequence

        key = (*self.spawn_key, call, index)
        return SeedSequence(self.entropy, spawn_key=key, pool_size=self.pool_size)

    def number(self, call: int, index: int) -> int:
        """Return what seeds ``random`` for an item of a call, with NumPy and without."""
        import hashlib  # it loads OpenSSL, which a pool without a seed does not need

        key = f"{self.entropy} {(*self.spawn_key, call, index)}".encode()
        return int.from_bytes(hashlib.blake2b(key, digest_size=16).digest(), "little")


def check_seed(seed: object) -> Seed | None:
    """Check what ``Pool(seed=)`` was given."""
    if seed is None:
        return None
    # Here, so that not every worker that is forked has to.
    numpy = _find_numpy()
    if numpy is not None and isinstance(seed, numpy.SeedSequence):
        return Seed(_numbers(seed.entropy), tuple(map(int, seed.spawn_key)), seed.pool_size)
    return Seed(_numbers(seed))


def _find_numpy() -> Any:
    try:
        import numpy.random
    except ImportError:
        return None
    return numpy.random


def _numbers(seed: Any) -> tuple[int, ...]:
    try:
        if isinstance(seed, str | bytes | bytearray | bool):
            raise TypeError
        numbers = tuple(seed) if isinstance(seed, Iterable) else (seed,)
        numbers = tuple(operator.index(number) for number in numbers)
    except TypeError:
        raise TypeError(
            "seed must be None, an integer, a sequence of integers or a numpy.random.SeedSequence, "
            f"not {seed!r:.100}"
        ) from None
    if not numbers or min(numbers) < 0:
        raise ValueError(f"seed must be one or more integers that are not negative, not {seed!r}")
    return numbers


class Seeder:
    """In a worker: begins the streams of each item, right before its function is called."""

    def __init__(self, seed: Seed) -> None:
        global _present
        self._seed = seed
        self._key: tuple[int, int] | None = None
        self._generator: Generator | None = None
        # Not when a task asks for it: what it drew then would begin anywhere.
        self._numpy = _find_numpy()
        _present = self

    def __call__(self, call: int, index: int) -> None:
        self._key = call, index
        self._generator = None
        random.seed(self._seed.number(call, index))
        if self._numpy is not None:
            _seed_numpy(self._numpy, self._seed.sequence(call, index).generate_state(4))

    def generator(self) -> Generator:
        """Return the generator of the present item."""
        if self._key is None:
            raise RuntimeError("fastpool.rng() has no stream before the first task of a worker")
        if self._generator is None:
            if self._numpy is None:
                raise ImportError("fastpool.rng() needs NumPy: pip install numpy", name="numpy")
            self._generator = self._numpy.default_rng(self._seed.sequence(*self._key))
        return self._generator


_present: Seeder | None = None


def rng() -> Generator:
    """Return the random generator of the item that this task works on.

    It is made when it is first asked for, and the same object until the task's item is done.

    Returns
    -------
    numpy.random.Generator
        ``default_rng(SeedSequence(seed, spawn_key=(call, item)))``: `call` counts the calls of the
        pool's methods from 0, `item` the items of one.

    Raises
    ------
    RuntimeError
        If this is no task of a ``Pool(seed=...)``.
    ImportError
        If NumPy is not installed.
    """
    if _present is None:
        raise RuntimeError("fastpool.rng() is for tasks of a Pool(seed=...)")
    return _present.generator()


def forget_parents_streams() -> None:
    """In a forked worker: draw other numbers than the siblings, as ``random`` sees to by itself.

    Only if the program has NumPy's: seeding it takes longer than the fork of a small process.
    """
    global _present
    _present = None
    numpy = sys.modules.get("numpy")
    numpy_random = sys.modules.get("numpy.random")
    if numpy is not None and numpy_random is not None:
        words = numpy.frombuffer(os.urandom(16), numpy.uint32)
        _seed_numpy(numpy_random, words)


def _seed_numpy(numpy_random: Any, words: Any) -> None:
    try:
        numpy_random.seed(words)
    except TypeError:  # the program has set a generator of another kind
        kind = type(numpy_random.get_bit_generator())
        numpy_random.set_bit_generator(kind(words))
