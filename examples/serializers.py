"""What each serializer can send: lambdas, closures, and functions that no worker finds by name.

python examples/serializers.py
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

from fastpool import Pool


def make_scaler(factor: float) -> Callable[[float], float]:
    def scale(x: float) -> float:
        return factor * x

    return scale


def main() -> None:
    def distance(point: tuple[float, float]) -> float:
        return (point[0] ** 2 + point[1] ** 2) ** 0.5

    calls = {
        "a lambda": lambda pool: pool.map(lambda x: x * x, range(4)),
        "a closure": lambda pool: pool.map(make_scaler(0.5), range(4)),
        "a local function": lambda pool: pool.map(distance, [(3.0, 4.0)]),
        "a lambda as a result": lambda pool: pool.apply(make_scaler, (3.0,))(5.0),
    }
    context = multiprocessing.get_context("spawn")
    for serializer in ("pickle", "cloudpickle", "dill", "auto"):
        print(serializer)
        try:
            pool = Pool(2, context=context, serializer=serializer)
        except ImportError as error:
            print(f"    {error}")
            continue
        with pool:
            for what, call in calls.items():
                try:
                    print(f"    {what:22}", call(pool))
                except Exception as error:
                    print(f"    {what:22}", f"{type(error).__name__}: {error}"[:70])


if __name__ == "__main__":
    main()
