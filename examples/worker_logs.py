"""Workers log into the parent's handlers, each line with the request that it belongs to.

python examples/worker_logs.py
"""

from __future__ import annotations

import logging
from contextvars import ContextVar

from fastpool import Pool

request: ContextVar[str] = ContextVar("request", default="-")
log = logging.getLogger("work")


def price(item: int) -> float:
    if item < 0:
        log.warning("[%s] no price for item %d", request.get(), item)
        return 0.0
    log.info("[%s] item %d", request.get(), item)
    return 1.25 * item


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(processName)s %(levelname)s %(message)s")
    with Pool(2, logging="forward", context_vars=[request]) as pool:
        for name, items in (("order 7", [3, 4]), ("order 8", [-1, 5])):
            request.set(name)
            log.info("[%s] costs %g", name, sum(pool.map(price, items)))
        pool.close()
        pool.join()  # the last lines are out


if __name__ == "__main__":
    main()
