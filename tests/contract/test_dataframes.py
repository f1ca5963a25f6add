"""pandas and pyarrow, whose pickles hand out their memory piece by piece."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import tasks

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")

from helpers import frame_tasks  # noqa: E402
from helpers.frame_tasks import describe  # noqa: E402

pytestmark = [pytest.mark.start_methods("fork"), pytest.mark.timeout_s(60)]

LARGE = 20_000
ROWS = 9_000
"""Of a large frame or table of many columns: 8 bytes of each make more than 64 KiB."""


def mixed_frame(count: int) -> Any:
    numbers = np.arange(count)
    return pd.DataFrame(
        {
            "int": numbers,
            "float": numbers / 7,
            "small": numbers.astype("i2"),
            "bool": numbers % 2 == 0,
            "text": [f"row {i} ä" for i in numbers],
            "object": [[i % 3] for i in numbers],
            "when": pd.Timestamp("2026-01-01") + pd.to_timedelta(numbers, unit="h"),
            "zoned": pd.date_range("2026-01-01", periods=count, freq="h", tz="Europe/Berlin"),
            "kind": pd.Categorical.from_codes(numbers % 3, categories=["a", "b", "c"]),
            "maybe": pd.array([None if i % 5 == 0 else i for i in numbers], dtype="Int64"),
        }
    )


def multi_indexed() -> Any:
    index = pd.MultiIndex.from_product([["a", "b"], range(3000)], names=["letter", "number"])
    return pd.DataFrame({"x": np.arange(6000.0)}, index=index)


def with_attributes() -> Any:
    frame = pd.DataFrame({"a": np.arange(LARGE)})
    frame.attrs["source"] = "somewhere"
    return frame


def table(count: int) -> Any:
    columns = {
        "int": pa.array(range(count)),
        "maybe": pa.array([None if i % 3 == 0 else i / 2 for i in range(count)]),
        "text": pa.array([f"row {i} ä" for i in range(count)]),
        "list": pa.array([list(range(i % 4)) for i in range(count)]),
        "struct": pa.array([{"x": i, "y": str(i)} for i in range(count)]),
        "kind": pa.array(["a", "b", None] * (count // 3) + ["a"] * (count % 3)).dictionary_encode(),
    }
    return pa.table(columns).replace_schema_metadata({"origin": "test"})


VALUES: dict[str, Callable[[], Any]] = {
    "a frame": lambda: mixed_frame(10),
    "a large frame": lambda: mixed_frame(ROWS),
    "an empty frame": lambda: mixed_frame(0),
    "a frame of nothing": pd.DataFrame,
    "a frame of one block": lambda: pd.DataFrame(np.arange(3 * LARGE).reshape(LARGE, 3)),
    "a frame in Fortran order": lambda: pd.DataFrame(
        np.asfortranarray(np.arange(3.0 * LARGE).reshape(LARGE, 3))
    ),
    "a part of a frame": lambda: mixed_frame(ROWS).iloc[100:8_900:3, 1:4],
    "a frame with an index of levels": multi_indexed,
    "a frame with attributes": with_attributes,
    "a frame of Arrow": lambda: table(5000).to_pandas(types_mapper=pd.ArrowDtype),
    "a series": lambda: pd.Series(np.arange(5.0), name="x"),
    "a large series": lambda: pd.Series(np.arange(LARGE * 5.0), name="x"),
    "a sparse series": lambda: pd.Series(pd.arrays.SparseArray([0, 0, 1] * 9000)),
    "an index": lambda: pd.date_range("2026-01-01", periods=LARGE, freq="s"),
    "a table": lambda: table(10),
    "a large table": lambda: table(ROWS),
    "a table in pieces": lambda: pa.concat_tables([table(3000), table(5000), table(9)[9:]]),
    "a part of a table": lambda: table(ROWS).slice(17, 8800),
    "a record batch": lambda: table(ROWS).to_batches()[0],
    "an Arrow array": lambda: pa.array(range(5)),
    "a large Arrow array": lambda: pa.array(np.arange(LARGE * 5)),
    "a part of an Arrow array": lambda: pa.array(np.arange(LARGE * 5))[5:LARGE],
    "an Arrow array of text": lambda: pa.array([f"{i} ä" for i in range(LARGE)]),
    "a list of tables": lambda: [table(ROWS), table(10), mixed_frame(100)],
}


@pytest.mark.parametrize("kind", VALUES)
def test_travels_unchanged(pool: Any, impl: Any, kind: str) -> None:
    value = VALUES[kind]()
    expected = describe(value)
    seen, pid = pool.apply(frame_tasks.describe_here, (value,))
    assert pid != os.getpid()
    assert seen == expected
    assert describe(pool.apply(tasks.identity, (value,))) == expected
    if impl.is_fastpool:
        assert pool.map(frame_tasks.describe_here, [1, value], 2)[1][0] == expected
        assert pool.apply(functools.partial(frame_tasks.describe_here, value))[0] == expected
        assert describe(next(pool.imap(tasks.identity, [value]))) == expected


@pytest.mark.start_methods("spawn", "forkserver")
@pytest.mark.fastpool_only
def test_travels_unchanged_however_the_worker_was_started(pool: Any) -> None:
    kinds = ["a large frame", "a part of a frame", "a large series", "a table", "a large table"]
    values = [VALUES[kind]() for kind in kinds]
    expected = [describe(value) for value in values]
    assert [seen for seen, _ in pool.map(frame_tasks.describe_here, values, 1)] == expected
    assert [describe(back) for back in pool.map(tasks.identity, values, 1)] == expected


@pytest.mark.parametrize("count", [10, LARGE])
def test_a_frame_is_private_to_its_task(pool: Any, count: int) -> None:
    mine = frame_tasks.filled_frame(count, 2)
    before = describe(mine)
    assert pool.map(frame_tasks.overwrite_numbers, [mine] * 12, 1) == [6 * count] * 12
    assert [pool.apply(frame_tasks.overwrite_numbers, (mine,)) for _ in range(4)] == [6 * count] * 4
    assert describe(mine) == before


@pytest.mark.parametrize("count", [10, LARGE])
def test_a_frame_that_comes_back_may_be_worked_on(pool: Any, count: int) -> None:
    frames = pool.starmap(frame_tasks.filled_frame, [(count, i) for i in range(8)])
    for index, frame in enumerate(frames):
        frame.loc[:, "a"] = -1
        frame["d"] = frame["b"] * 2
        frame.iloc[0, 2] = 5
        assert (frame["d"] == 2 * index).all()
    again = pool.map(frame_tasks.with_total, frames, 1)
    for frame, total in zip(frames, again, strict=True):
        assert "total" not in frame
        assert (total["total"] == frame.sum(axis=1)).all()
        total.loc[:, "b"] = 1000
        assert (frame["b"] != 1000).all()


@pytest.mark.parametrize("count", [10, ROWS])
def test_a_frame_may_be_kept_on_both_sides(pool_factory: Any, count: int) -> None:
    pool = pool_factory(1)
    mine = mixed_frame(count)
    expected = describe(mine)
    pool.apply(frame_tasks.keep_frame, (mine,))
    held = pool.apply(tasks.identity, (mine,))
    mine.loc[:, "int"] = 0
    for index in range(30):
        pool.apply(tasks.identity, (frame_tasks.filled_frame(count, index),))
    assert pool.apply(frame_tasks.describe_kept) == expected
    assert describe(held) == expected
    pool.terminate()
    pool.join()
    assert describe(held) == expected


def test_groups_of_a_frame_are_summed_in_parallel(pool: Any) -> None:
    frame = mixed_frame(ROWS)[["kind", "int", "float"]].astype({"kind": str})
    parts = [frame.iloc[start : start + 2500] for start in range(0, ROWS, 2500)]
    sums = pool.map(functools.partial(frame_tasks.sum_by, key="kind"), parts)
    found = pd.concat(sums).groupby("kind").sum()
    pd.testing.assert_frame_equal(found, frame.groupby("kind").sum())


@pytest.mark.parametrize("count", [10, ROWS])
def test_an_arrow_table_outlives_everything(pool_factory: Any, count: int) -> None:
    pool = pool_factory(2)
    held = [pool.apply(tasks.identity, (table(count),)) for _ in range(3)]
    column = held.pop().column("int")
    numbers = held.pop().column("int").chunk(0).to_numpy()
    pool.map(tasks.identity, [table(count)] * 6, 1)
    pool.terminate()
    pool.join()
    assert column.to_pylist() == numbers.tolist() == list(range(count))
    assert describe(held[0]) == describe(table(count))
