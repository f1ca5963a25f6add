"""The rows of the data benchmark: how much each side does, and how good is good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import data_measures
from data_stream import MEBIBYTE, Mark, run_stream
from measures import Load
from rivals import Side
from rows import Kind, Row


@dataclass(frozen=True)
class DataRow(Row):
    """A row that may be about an array.

    Attributes
    ----------
    size : int or float
        The bytes of arrays that an item takes there and back, each array counted once in a call;
        0 where there is none.
    reference_is : str
        What the reference is, in a word or two.
    needs : str
        What a pool must have for it beyond multiprocessing's interface.
    """

    size: float = 0
    reference_is: str = ""
    needs: str = ""


def all_rows(quick: bool) -> list[DataRow]:
    """The rows, in the order of the table.

    Parameters
    ----------
    quick : bool
        Whether the long stream is a tenth as long.

    Returns
    -------
    list of DataRow
    """
    return [*_array_rows(), *_item_rows(), *_stream_rows(quick), _block_row()]


def _array_rows() -> list[DataRow]:
    small, large, tasks = 8_000_000, 80_000_000, 64
    return [
        DataRow(
            "arg-8mb",
            "apply(f, (8 MB array,)), p50",
            data_measures.apply_array,
            loads=(Load(20), Load(200)),
            goals=(15, 15),
            reference=data_measures.two_copies(small),
            reference_is="2 memcpy",
            within_reference=True,
            size=small,
        ),
        DataRow(
            "result-8mb",
            "apply(f, (x,)) -> 8 MB array, p50",
            data_measures.apply_for_array,
            loads=(Load(20), Load(200)),
            goals=(12, 12),
            reference=data_measures.full_and_two_copies,
            reference_is="f, 2 memcpy",
            within_reference=True,
            size=small,
        ),
        DataRow(
            "echo-64kb",
            "apply(echo, (64 KB array,)), p50",
            data_measures.apply_echo,
            loads=(Load(300), Load(3000)),
            goals=(10, 20),
            reference=data_measures.two_copies(64 * 1024),
            reference_is="2 memcpy",
            size=2 * 64 * 1024,
        ),
        DataRow(
            "shared-80mb-partial",
            "map(partial(f, 80 MB), range(64)), per item",
            data_measures.map_partial,
            loads=(Load(1, tasks), Load(5, tasks)),  # mp makes 8 copies: one for each chunk
            goals=(30, 30),
            reference=data_measures.of_one_task(data_measures.map_partial, tasks),
            reference_is="1.5 x 1 task",
            within_reference=True,
            max_rounds=3,
            size=large / tasks,
        ),
        DataRow(
            "shared-80mb-items",
            "starmap(f, [(80 MB, i)]), 64 (mp 8), per item",
            data_measures.starmap_array,
            loads=(Load(1, 8), Load(5, tasks)),
            goals=(30, 30),
            reference=data_measures.of_one_task(data_measures.starmap_array, tasks),
            reference_is="1.5 x 1 task",
            max_rounds=3,
            size=large / tasks,
        ),
    ]


def _item_rows() -> list[DataRow]:
    return [
        DataRow(
            "tuples",
            "map, 200 k small tuples, per item",
            data_measures.map_records,
            loads=(Load(1), Load(3)),
            goals=(1.5, 2),
            reference=data_measures.map_records_serially,
            reference_is="serial",
        ),
        DataRow(
            "float-array",
            "map(sqrt, array of 1 M doubles), per item",
            data_measures.map_doubles,
            loads=(Load(1), Load(3)),
            goals=(4, 6),
            reference=data_measures.map_doubles_serially,
            reference_is="serial",
            max_rounds=5,
        ),
        DataRow(
            "strings",
            "map(split, 200 k lines of text), per item",
            data_measures.map_lines,
            loads=(Load(1), Load(3)),
            goals=(1.3, 2),
            reference=data_measures.map_lines_serially,
            reference_is="serial",
        ),
    ]


def _stream_rows(quick: bool) -> list[DataRow]:
    marks, many, few = (
        ((10**5, 10**6), "1 M", "100 k") if quick else ((10**6, 10**7), "10 M", "1 M")
    )

    def row(name: str, title: str, look: Callable[[Mark], float]) -> DataRow:
        return DataRow(
            name,
            title,
            lambda side, load: look(run_stream(side, marks)[-1]),
            loads=(None, Load(1)),
            goals=(1.1, 1.1),
            kind=Kind.PART,
            show=lambda size: f"{size / MEBIBYTE:.1f} MiB",
            reference=lambda side: look(run_stream(side, marks)[0]),
            reference_is=f"after {few}",
            max_rounds=1,
        )

    return [
        row("stream-10m", f"imap_unordered, {many} items, peak RSS", lambda mark: mark.peak),
        row(
            "stream-10m-shared",
            "the same, shared memory (at least 1 MiB)",
            lambda mark: max(mark.shared, MEBIBYTE),
        ),
    ]


def _block_row() -> DataRow:
    return DataRow(
        "map-blocks",
        "map_blocks(f, 1 M shared doubles), p50",
        data_measures.map_blocks,
        loads=(None, Load(1000)),
        goals=None,
        kind=Kind.PART,
        reference=data_measures.map_nothing,
        reference_is="map of 2",
        needs="map_blocks",
    )


def can_do(side: Side, row: DataRow) -> bool:
    """Whether a pool has what a row needs."""
    return not row.needs or hasattr(side.pool_class, row.needs)
