"""The pools that the table of faults has a column for."""

from __future__ import annotations

from fastpool.bench.contender import Contender
from fastpool.bench.contenders import Executor, FastPool, Loky, Mpire, MultiprocessingPool

CONTENDERS: dict[str, type[Contender]] = {
    contender.name: contender
    for contender in (FastPool, MultiprocessingPool, Executor, Loky, Mpire)
}
