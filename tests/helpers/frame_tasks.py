"""What workers do with data frames; a module of its own, since it needs pandas and pyarrow."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa


def describe(value: Any) -> Any:
    """Plain values, equal for two tables, columns or arrays only if these are alike."""
    kind = type(value).__qualname__
    if isinstance(value, pd.DataFrame):
        columns = [describe(value.iloc[:, i]) for i in range(value.shape[1])]
        return kind, describe(value.columns), describe(value.index), columns, dict(value.attrs)
    if isinstance(value, (pd.Series, pd.Index)):
        frequency = str(getattr(value, "freq", None))
        return kind, str(value.dtype), repr(value.name), frequency, content(value)
    if isinstance(value, (pa.Table, pa.RecordBatch)):
        value.validate(full=True)
        return kind, str(value.schema), value.schema.metadata, repr(value.to_pydict())
    if isinstance(value, (pa.Array, pa.ChunkedArray)):
        value.validate(full=True)
        return kind, str(value.type), repr(value.to_pylist())
    if isinstance(value, (list, tuple)):
        return kind, [describe(item) for item in value]
    return kind, repr(value)


def content(column: Any) -> Any:
    """The bits, where each item is so many; else what each item looks like."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biufcmM":
        return len(column), hashlib.blake2b(column.to_numpy().tobytes()).hexdigest()
    return list(map(repr, column))


def describe_here(value: Any) -> tuple[Any, int]:
    return describe(value), os.getpid()


def overwrite_numbers(frame: Any) -> float:
    """Write into each column of numbers; return the sum of what they were."""
    before = float(frame.select_dtypes("number").to_numpy().sum())
    for name in frame.select_dtypes("number"):
        frame.loc[:, name] = 0
    frame["new"] = 1
    return before


def sum_by(frame: Any, key: str) -> Any:
    return frame.groupby(key).sum(numeric_only=True)


def with_total(frame: Any) -> Any:
    frame["total"] = frame.select_dtypes("number").sum(axis=1)
    return frame


def filled_frame(count: int, value: float) -> Any:
    return pd.DataFrame(np.full((count, 3), value), columns=list("abc"))


def keep_frame(frame: Any) -> None:
    global kept
    kept = frame


def describe_kept() -> Any:
    return describe(kept)


kept: Any = None
