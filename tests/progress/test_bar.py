"""progress=True and progress="...": a bar of tqdm's, which is closed in every case."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers import tasks
from helpers.procs import wait_until

from fastpool._runtime import progress

pytestmark = [pytest.mark.fastpool_only, pytest.mark.start_methods("fork")]

tqdm_auto = pytest.importorskip("tqdm.auto")


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The bars that are made; none may be open at the end."""
    made: list[Any] = []

    class Bar(tqdm_auto.tqdm):  # type: ignore[misc, name-defined]
        monitor_interval = 0  # or its thread would look like one that the pool left behind

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.handle = Handle(self)
            made.append(self.handle)

        def close(self) -> None:
            self.handle.note(self)
            super().close()

    monkeypatch.setattr(tqdm_auto, "tqdm", Bar)
    monkeypatch.setattr(progress, "TICK", 0.01)
    yield made
    assert [bar.closed for bar in made] == [True] * len(made)


class Handle:
    """What is known of a bar, without keeping it alive."""

    def __init__(self, bar: Any) -> None:
        self.description = bar.desc
        self.total = bar.total
        self.position = bar.pos
        self.closed = False
        self.n = 0

    def note(self, bar: Any) -> None:
        self.closed = True
        self.n = bar.n


def test_a_bar_is_shown_with_its_description(pool: Any, bars: list[Any], capsys: Any) -> None:
    assert pool.map(tasks.square, range(5), progress="squares") == [0, 1, 4, 9, 16]
    assert list(pool.imap(tasks.square, iter(range(5)), progress=True)) == [0, 1, 4, 9, 16]
    shown = capsys.readouterr().err  # no terminal: there tqdm writes line after line
    assert "squares: 100%" in shown
    assert "5/5" in shown
    assert "5it [" in shown
    assert [(bar.description, bar.total, bar.n) for bar in bars] == [
        ("squares", 5, 5),
        ("", None, 5),
    ]


def test_an_error_closes_it(pool: Any, bars: list[Any]) -> None:
    with pytest.raises(TypeError):
        pool.map(tasks.square, [1, "x"], 1, progress=True)
    results = pool.imap(tasks.square, [1, "x", 3], progress=True)
    with pytest.raises(TypeError):
        [next(results) for _ in range(3)]
    assert not bars[1].closed, "the iteration can go on"
    assert list(results) == [9]
    assert [bar.n for bar in bars] == [2, 3]


def test_ctrl_c_closes_it(pool_factory: Any, bars: list[Any], gate: Any) -> None:
    pool = pool_factory(1)

    def interrupt() -> None:
        wait_until(lambda: bars and gate.arrivals())
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        pool.map(tasks.pass_gate, [gate.path] * 3, progress=True)
    interrupter.join()
    assert bars[0].closed


def test_ctrl_c_closes_it_in_a_stream(pool_factory: Any, bars: list[Any], gate: Any) -> None:
    pool = pool_factory(1)

    def interrupt() -> None:
        wait_until(lambda: bars and gate.arrivals())
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    results = pool.imap(tasks.pass_gate, [gate.path] * 3, progress=True)
    with pytest.raises(KeyboardInterrupt):
        next(results)
    interrupter.join()
    assert bars[0].closed


def test_terminating_the_pool_closes_it(
    pool_factory: Any, impl: Any, bars: list[Any], gate: Any
) -> None:
    pool = pool_factory(1)

    def end() -> None:
        wait_until(lambda: bars and gate.arrivals())
        pool.terminate()

    ender = threading.Thread(target=end)
    ender.start()
    with pytest.raises(impl.module.PoolTerminatedError):
        pool.map(tasks.pass_gate, [gate.path] * 3, progress=True)
    ender.join()
    assert bars[0].closed
    assert bars[0].n == 0, "nothing was done"


def test_terminating_the_pool_closes_it_in_a_stream(
    pool_factory: Any, impl: Any, bars: list[Any], gate: Any
) -> None:
    pool = pool_factory(1)
    results = pool.imap(tasks.pass_gate_if, [(None, 1), (gate.path, 2)], progress=True)
    assert next(results) == 1
    pool.terminate()
    with pytest.raises(impl.module.PoolTerminatedError):
        next(results)
    assert bars[0].closed
    assert bars[0].n <= 1


def test_an_iterator_that_is_dropped_closes_it(pool: Any, bars: list[Any]) -> None:
    for _ in pool.imap_unordered(tasks.square, itertools.count(), progress=True):
        break
    assert bars[0].closed


@pytest.mark.parametrize("end", ["cancel", "aclose"])
def test_an_iterator_that_is_cancelled_closes_it(pool: Any, bars: list[Any], end: str) -> None:
    results = pool.imap(tasks.square, itertools.count(), progress=True)
    assert next(results) == 0
    if end == "cancel":
        results.cancel()
    else:
        asyncio.run(results.aclose())
    assert bars[0].closed


def test_a_task_of_an_event_loop_that_is_cancelled_closes_it(
    pool: Any, bars: list[Any], gate: Any
) -> None:
    async def late() -> None:
        results = pool.imap(tasks.pass_gate, [gate.path], progress=True)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(results.__anext__(), 0.05)
        assert bars[0].closed

    asyncio.run(late())
    gate.open()


def test_several_bars_stand_below_one_another(pool: Any, bars: list[Any]) -> None:
    streams = [pool.imap(tasks.square, range(3), progress=str(i)) for i in range(3)]
    assert [list(stream) for stream in streams] == [[0, 1, 4]] * 3
    assert [bar.position for bar in bars] == [0, 1, 2]


def test_without_tqdm_the_error_says_what_to_install(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    for call in (pool.map, pool.starmap, pool.imap, pool.istarmap_unordered):
        with pytest.raises(ImportError, match=r"pip install 'fastpool\[progress\]'"):
            call(tasks.square, [], progress=True)
    assert pool.map(tasks.square, [2], progress=lambda _done, _total: None) == [4]


@pytest.mark.usefixtures("pool")
def test_importing_fastpool_does_not_import_tqdm(run_script: Callable[..., Any]) -> None:
    script = run_script("import sys, fastpool; print('tqdm' in sys.modules)")
    assert script.finish(20).strip() == "False"
