"""Values through the codec and back, at the edges of its formats.

Seen from outside, over a small pool: the formats are inline tags (a task has 88 bytes of room, a
result 96), columns of int64, float64 or None, ranges, and pickles; what has no room inline travels
in a block, and a pickle from 4096 bytes on is read where it lies.
"""

from __future__ import annotations

import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import tasks
from helpers.tasks import fingerprint
from helpers.values import Float, Int, Str, Tuple

from fastpool import MaybeEncodingError, Pool

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


@pytest.fixture(scope="module")
def pool() -> Iterator[Any]:
    with Pool(2) as pool:
        yield pool


def echoes(pool: Any, values: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """The values as they come back from workers, in each way that they can travel."""
    everything = max(len(values), 1)
    yield "apply", [pool.apply(tasks.identity, (value,)) for value in values]
    yield "apply, all at once", list(pool.apply(tasks.arguments, values)[0])
    yield "map, one by one", pool.map(tasks.identity, values, chunksize=1)
    yield "map, in one chunk", pool.map(tasks.identity, values, chunksize=everything)
    yield (
        "starmap",
        pool.starmap(tasks.identity, [(value,) for value in values], chunksize=everything),
    )
    yield "imap", list(pool.imap(tasks.identity, values, chunksize=2))
    yield (
        "map of lists",
        [
            item
            for part in pool.map(tasks.identity, [values, values], chunksize=2)[:1]
            for item in part
        ],
    )


def check(pool: Any, values: list[Any]) -> None:
    """All of them come back as they are, and the worker has seen them so."""
    wanted = [fingerprint(value) for value in values]
    for way, got in echoes(pool, values):
        assert [fingerprint(value) for value in got] == wanted, way
    everything = max(len(values), 1)
    seen = pool.map(tasks.fingerprint_here, values, chunksize=everything)
    assert [print_ for print_, _ in seen] == wanted


# --- sizes --------------------------------------------------------------------------------------

SMALL_SIZES = [*range(20), *range(56, 110)]
LARGE_SIZES = [
    near + d for near in (4096, 64 << 10, 1 << 20) for d in (-64, -32, -16, -8, -6, -5, -1, 0, 1, 8)
]


def pattern(size: int) -> bytes:
    return bytes(i * 7 % 256 for i in range(min(size, 256))) * (size // 256 + 1)


def test_bytes_around_every_boundary_arrive_whole(pool: Any) -> None:
    for size in SMALL_SIZES + LARGE_SIZES:
        value = pattern(size)[:size]
        assert pool.apply(tasks.identity, (value,)) == value
    values = [pattern(size)[:size] for size in SMALL_SIZES]
    assert pool.map(tasks.identity, values, chunksize=1) == values
    assert pool.map(tasks.identity, values, chunksize=len(values)) == values


@pytest.mark.parametrize("letter", ["a", "\xe9", "\u20ac", "\U0001f600"], ids="1234")
def test_text_around_every_boundary_arrives_whole(pool: Any, letter: str) -> None:
    for size in SMALL_SIZES + LARGE_SIZES:
        text = letter * (size // len(letter.encode()))
        assert pool.apply(tasks.identity, (text,)) == text
        mixed = "a" * size + letter
        assert pool.apply(tasks.identity, (mixed,)) == mixed


def test_pickles_around_every_boundary_arrive_whole(pool: Any) -> None:
    for size in SMALL_SIZES + LARGE_SIZES:
        value = [bytearray(pattern(size)[:size])]  # a list: no tag has room for it
        assert pool.apply(tasks.identity, (value,)) == value
        assert pool.map(tasks.identity, [value, value], chunksize=2) == [value, value]


def test_empty_values_arrive_as_such(pool: Any) -> None:
    check(pool, [b"", "", (), [], {}, set(), bytearray(), range(0), 0, 0.0, None, False])


def test_no_arguments_and_no_items(pool: Any) -> None:
    assert pool.apply(tasks.arguments) == ((), {})
    assert pool.map(tasks.identity, []) == []
    assert pool.map(tasks.identity, range(0)) == []
    assert list(pool.imap(tasks.identity, ())) == []


@pytest.mark.slow
@pytest.mark.timeout_s(300)
def test_more_than_two_gib_travel_both_ways() -> None:
    size = 2**31 + 1
    with open("/proc/meminfo") as file:
        available = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    if available < 14 << 20:  # in KiB
        pytest.skip("needs 14 GiB of free memory")
    with Pool(1) as pool:
        value = pool.apply(tasks.make_bytes, (size,))
        assert (len(value), value[:1], value[-1:]) == (size, b"x", b"x")
        assert pool.apply(len, (value,)) == size


# --- columns ------------------------------------------------------------------------------------

COLUMN_LENGTHS = [*range(16), 511, 512, 513, 8191, 8192, 8193, (1 << 17) - 1, (1 << 17) + 1]


@pytest.mark.parametrize("n", COLUMN_LENGTHS)
def test_columns_of_every_length(pool: Any, n: int) -> None:
    for values in (
        [*range(n)],
        [i / 3 for i in range(n)],
        [None] * n,
        [i % 3 == 0 for i in range(n)],
    ):
        got = pool.map(tasks.identity, values, chunksize=max(n, 1))
        assert got == values
        assert [type(value) for value in got] == [type(value) for value in values]


def test_integers_at_the_edges_of_64_bits(pool: Any) -> None:
    edges = [0, 1, -1, 127, 128, -128, -129, 255, 2**31, -(2**31), 2**32, 2**53 + 1]
    edges += [INT64_MAX - 1, INT64_MAX, INT64_MIN, INT64_MIN + 1]
    check(pool, edges)
    for beyond in (2**63, -(2**63) - 1, 2**64, -(2**64), 2**200):
        check(pool, [*edges, beyond])
        check(pool, [beyond, *edges])
        check(pool, [beyond])


def test_floats_bit_for_bit(pool: Any) -> None:
    quiet, signalling = (struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in (
        0x7FF8000000000000 | 12345, 0xFFF8000000000001))  # fmt: skip
    values = [0.0, -0.0, 1.5, 5e-324, -5e-324, sys.float_info.max, sys.float_info.min]
    values += [float("inf"), float("-inf"), float("nan"), quiet, signalling]
    check(pool, values)
    for value in values:
        check(pool, [value])


@pytest.mark.parametrize(
    "column",
    [[1, 2, 3, 4, 5], [1.0, 2.0, 3.0, 4.0, 5.0], [None] * 5, [True, False] * 2 + [True]],
    ids=["ints", "floats", "nones", "bools"],
)
def test_a_column_that_changes_its_type_somewhere(pool: Any, column: list[Any]) -> None:
    strangers = [2**63, INT64_MIN - 1, INT64_MIN, True, 0, 1.5, -0.0, None, "x", b"", (1,), [1]]
    strangers += [Int(3), Float(3.0), Str("s"), Tuple((1,)), 1j]
    for stranger in strangers:
        for position in range(len(column)):
            mixed = list(column)
            mixed[position] = stranger
            got = pool.map(tasks.identity, mixed, chunksize=len(mixed))
            assert fingerprint(got) == fingerprint(mixed)


RESULTS = [1, 2, 2**63, 3.0, None, True, "s", 4, -0.0, [5], None, None, 6, 7.5, (8,)]


def look_up(i: int) -> Any:
    return RESULTS[i % len(RESULTS)]


@pytest.mark.parametrize("start", range(len(RESULTS)))
@pytest.mark.parametrize("n", [2, 3, 7, 40])
def test_results_that_change_their_type_in_a_chunk(pool: Any, start: int, n: int) -> None:
    got = pool.map(look_up, range(start, start + n), chunksize=n)
    assert fingerprint(got) == fingerprint([look_up(i) for i in range(start, start + n)])


def fail_at_three(value: Any) -> Any:
    if value == 3:
        raise KeyError(value)
    return value


def test_an_error_in_the_middle_of_a_column(pool: Any) -> None:
    for values in ([*range(5000)], [float(i) for i in range(5000)]):
        with pytest.raises(KeyError, match="3"):
            pool.map(fail_at_three, values, chunksize=5000)


@pytest.mark.parametrize(
    "items",
    [
        range(10),
        range(3, 50, 7),
        range(50, 3, -7),
        range(-5, 5),
        range(INT64_MAX - 3, INT64_MAX + 3),
        range(INT64_MIN + 3, INT64_MIN - 3, -1),
        range(2**62 - 2, 2**62 + 2),
        range(0, 2**64, 2**61),
        range(2**70, 2**70 + 5),
        range(0, 10 * 2**65, 2**65),
    ],
    ids=repr,
)
def test_ranges(pool: Any, items: range) -> None:
    for chunksize in (1, 2, 3, len(items)):
        assert pool.map(tasks.identity, items, chunksize=chunksize) == list(items)
    assert pool.apply(tasks.identity, (items,)) == items


# --- text, tuples, and values that only look alike ----------------------------------------------


def test_text_of_every_kind(pool: Any) -> None:
    texts = ["\0", "a\0b", "\x7f", "\x80", "\xff", "\u0100", "\uffff", "\U00010000", "\U0010ffff"]
    texts += ["\ud800", "a\udc80b", "\udfff" * 30, "\ud83d\ude00", "e\u0301", "\ufeff"]
    check(pool, texts)
    check(pool, [text * 70 for text in texts])
    for text in texts:
        check(pool, [text, "plain"])


def test_truth_values_are_not_numbers(pool: Any) -> None:
    check(pool, [True, 1, 1.0, False, 0, 0.0, -0.0, None])
    check(pool, [1, True])
    check(pool, [0.0, False])


def nested(depth: int) -> Any:
    value: Any = ()
    for i in range(depth):
        value = (i, value)
    return value


def test_tuples_of_every_depth(pool: Any) -> None:
    check(pool, [nested(depth) for depth in range(12)])
    deep = nested(150)
    assert pool.apply(tasks.identity, (deep,)) == deep


@pytest.mark.parametrize("n", [0, 1, 2, 254, 255, 256, 257, 1000])
def test_tuples_of_every_length(pool: Any, n: int) -> None:
    check(pool, [tuple(range(n)), (None,) * n, (((True,) * n),)])


def test_tuples_that_hold_what_has_no_tag(pool: Any) -> None:
    check(pool, [(1, [2]), (1, (2, (3, [4]))), ([],), (Int(1),), (2**64,), ("\ud800",)])


def test_many_arguments(pool: Any) -> None:
    for n in (1, 8, 9, 10, 88, 89, 255, 256, 300):
        arguments = tuple(range(n))
        assert pool.apply(tasks.arguments, arguments) == (arguments, {})
        assert pool.apply(tasks.arguments, arguments, {"key": n}) == (arguments, {"key": n})


# --- what can't be written, and what becomes of the memory ----------------------------------------


def make_unsendable(value: Any) -> Any:
    return [value, lambda: None]


def test_what_cant_be_pickled_disturbs_nothing_else(pool: Any) -> None:
    for _ in range(3):
        with pytest.raises(Exception, match="pickle"):
            pool.apply(tasks.identity, (lambda: None,))
        with pytest.raises(MaybeEncodingError):
            pool.apply(make_unsendable, (b"x" * 10000,))
        with pytest.raises(Exception, match="pickle"):
            pool.map(tasks.identity, [1, 2, lambda: None], chunksize=3)
        assert pool.map(tasks.identity, [1, 2.0, "3"], chunksize=3) == [1, 2.0, "3"]


def test_every_block_comes_back() -> None:
    with Pool(2) as pool:
        heap = pool._dispatcher.heap
        for function in (tasks.identity, len):  # each keeps a block with its pickle
            pool.apply(function, (b"",))
        _, blocks, _, _ = heap.report()
        for size in (100, 5000, 100000, 3000000):
            value = [bytearray(size)]
            assert pool.apply(tasks.identity, (value,)) == value
            assert len(pool.map(tasks.identity, [value] * 10, chunksize=3)) == 10
            with pytest.raises(Exception, match=r"pickle|local object"):
                pool.map(tasks.identity, [*range(size), lambda: None], chunksize=size + 1)
            with pytest.raises(TypeError):
                pool.apply(len, (value, value))
        assert heap.report()[1] == blocks


class Slow:
    """Takes its time when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle_slowly, ()


def _unpickle_slowly() -> Slow:
    time.sleep(0.4)
    return Slow()


def make_slow(byte: int) -> Any:
    return Slow(), bytes([byte]) * 100000


def make_filled(byte: int) -> bytes:
    return bytes([byte]) * 100000


def test_a_result_stays_whole_while_it_is_read_though_its_worker_was_replaced() -> None:
    with Pool(1, maxtasksperchild=1) as pool:
        slow: list[Any] = []
        reader = threading.Thread(target=lambda: slow.append(pool.apply(make_slow, (1,))))
        reader.start()
        for byte in range(2, 8):
            assert pool.apply(make_filled, (byte,)) == bytes([byte]) * 100000
        reader.join()
        assert slow[0][1] == bytes([1]) * 100000


class Interrupting:
    """Raises KeyboardInterrupt when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _interrupt, ()


def _interrupt() -> None:
    raise KeyboardInterrupt


def make_interrupting() -> Any:
    return Interrupting()


def test_an_interrupt_raised_while_the_background_thread_reads_stays_in_its_call() -> None:
    with Pool(1) as pool:
        errors: list[BaseException] = []
        pool.apply_async(make_interrupting, callback=errors.append, error_callback=errors.append)
        called = threading.Event()
        time.sleep(0.2)
        pool.apply_async(tasks.identity, (1,), callback=lambda value: called.set())
        assert called.wait(3)
        assert [type(error) for error in errors] == [KeyboardInterrupt]
