"""What a call costs with each serializer, as a ratio to the default, interleaved.

    python benchmarks/serializer_costs.py [--rounds N]

One process runs all of them in turns; each ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from fastpool import Pool
from fastpool.bench.arguments import positive

SERIALIZERS = ("pickle", "cloudpickle", "dill", "auto")
CALLS = 200


class Point:
    """No plain value, so the serializer writes it."""

    def __init__(self, x: int, name: str) -> None:
        self.x, self.name = x, name


def identity(value: Any) -> Any:
    """A function that goes by name."""
    return value


def make_adder(step: int) -> Callable[[int], int]:
    """A function that has to go by value."""
    return lambda x: x + step


def work(pool: Pool, what: str) -> None:
    """One round of a kind of call."""
    if what == "apply(f, int)":
        for i in range(CALLS):
            pool.apply(identity, (i,))
    elif what == "apply(f, object)":
        for i in range(CALLS):
            pool.apply(identity, (Point(i, "name"),))
    elif what == "map(f, objects)":
        pool.map(identity, [Point(i, "name") for i in range(CALLS)], 50)
    elif what == "apply(closure)":
        for i in range(CALLS):
            pool.apply(make_adder(i), (i,))


def seconds(pool: Pool, what: str) -> float:
    """How long a round takes."""
    begin = time.perf_counter()
    work(pool, what)
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Print what calls cost with each serializer.")
    parser.add_argument("--rounds", type=positive, default=15)
    rounds = parser.parse_args().rounds
    # From the module of that name, not from __main__: its class and function go by name.
    from serializer_costs import seconds as timed

    pools = {name: Pool(1, serializer=name) for name in SERIALIZERS}
    print(f"{'':18}" + "".join(f"{name:>13}" for name in SERIALIZERS))
    for what in ("apply(f, int)", "apply(f, object)", "map(f, objects)", "apply(closure)"):
        base = "cloudpickle" if what == "apply(closure)" else "pickle"
        names = [name for name in SERIALIZERS if what != "apply(closure)" or name != "pickle"]
        times: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(rounds + 1):
            for name in random.sample(names, len(names)):
                time.sleep(0.01)  # the last one's worker has stopped to spin
                times[name].append(timed(pools[name], what))
        row = f"{what:18}"
        for name in SERIALIZERS:
            if name not in times:
                row += f"{'-':>13}"
                continue
            ratios = [a / b for a, b in zip(times[name][1:], times[base][1:], strict=True)]
            row += f"{statistics.median(ratios):>12.2f}x"
        micro = statistics.median(times[base][1:]) / CALLS * 1e6
        print(f"{row}    (1x = {micro:.1f} us, {base})")
    for pool in pools.values():
        pool.terminate()


if __name__ == "__main__":
    main()
