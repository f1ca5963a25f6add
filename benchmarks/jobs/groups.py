"""pandas group by group: a frame is cut, each group worked on, the answers put together.

The prices are made up, with a seed: no package that is at hand ships a frame of that size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.pools import variants

if TYPE_CHECKING:
    from pandas import DataFrame

TITLE = "pandas groups"


def make_input(quick: bool) -> DataFrame:
    """Daily prices of many stocks, in the order of the days."""
    import pandas as pd

    stocks, days = (12, 200) if quick else (600, 1000)
    draw = np.random.default_rng(1)
    prices = 100 * np.exp(np.cumsum(draw.normal(0, 0.01, (days, stocks)), axis=0))
    return pd.DataFrame(
        {
            "day": np.repeat(np.arange(days), stocks),
            "stock": np.tile([f"S{number:04}" for number in range(stocks)], days),
            "price": prices.ravel(),
            "volume": draw.integers(100, 10_000, days * stocks),
        }
    )


def summarise(group: DataFrame) -> DataFrame:
    """One row about one stock; runs in a worker."""
    import pandas as pd

    price = group["price"]
    change = price.pct_change()
    mean = price.rolling(20).mean()
    return pd.DataFrame(
        {
            "stock": [group["stock"].iloc[0]],
            "volatility": [change.rolling(20).std().mean()],
            "drawdown": [(price / price.cummax() - 1).min()],
            "crossings": [int(((price > mean) != (price.shift() > mean.shift())).sum())],
            "vwap": [(price * group["volume"]).sum() / group["volume"].sum()],
            "tail": [change.quantile(0.05)],
        }
    )


def run(mapping: Callable[..., list[DataFrame]], frame: DataFrame, processes: int) -> DataFrame:
    """Cut, map, put together."""
    import pandas as pd

    groups = [group for _, group in frame.groupby("stock")]
    return pd.concat(mapping(summarise, groups, processes), ignore_index=True)


def check(result: DataFrame) -> None:
    """A row for each stock, and figures of a walk of 1 % a day."""
    assert result["stock"].is_unique
    assert result["volatility"].between(0.008, 0.012).all()
    assert (result["drawdown"] < 0).all()


def same(one: Any, other: Any) -> bool:
    """Exactly."""
    return bool(one.equals(other))


VARIANTS = variants(run)
