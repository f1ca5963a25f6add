"""Random calls of all kinds to a pool whose workers die, and the proof that each went as it may.

Used by the kill fuzz and by the soak. A fault is a text; what the calls found out is counted.
"""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fastpool import TaskCancelledError, TaskTimeoutError, WorkerDiedError
from helpers import fuzz_tasks
from helpers.fuzz_tasks import (
    FUNCTIONS,
    LINGERS,
    NORMAL,
    POISON,
    RAISES,
    SLEEPS,
    ExpectedError,
    behaviour_of,
    item_of,
)
from helpers.overdue import Watch

WAIT = 60.0  # for a result; who hangs is found by the watch before


class Fault(Exception):
    """A promise was broken."""


class Outcome(NamedTuple):
    """What came of one item. Not the exception: its frames would keep the results alive."""

    item: int
    error: str | None
    deaths: int
    alone: bool  # in its chunk


class Call(NamedTuple):
    """What is common to the items of a call."""

    function: Callable[[Any], Any]
    items: list[int]
    timeout: float | None
    chunksize: int | None


class Caller:
    """Makes random calls from one thread, and checks what comes of them.

    Parameters
    ----------
    pool : Pool
    chance : random.Random
        Decides everything.
    retries : int
        Of the pool.
    watch : Watch
        Ends the program if a call takes too long.
    numbers : iterator of int
        Gives each call of a pool its number.
    poison : float
        In how many calls, of 1, one item kills its worker.
    """

    def __init__(
        self,
        pool: Any,
        chance: random.Random,
        retries: int,
        watch: Watch,
        numbers: Iterator[int],
        poison: float = 0.1,
    ) -> None:
        self._pool = pool
        self._chance = chance
        self._retries = retries
        self._watch = watch
        self._numbers = numbers
        self._poison = poison
        #: What came of the items, for a comparison with the traces.
        self.outcomes: list[Outcome] = []
        self.counts: Counter[str] = Counter()

    #: By name: bound methods would make a cycle, which keeps the pool until it is collected.
    _KINDS = (
        "map",
        "map",
        "map_with_exceptions",
        "map_with_exceptions",
        "imap",
        "imap",
        "imap_unordered",
        "apply",
        "apply_async",
        "apply_async",
        "cancelled_calls",
        "cancelled_map",
        "cancelled_imap",
    )

    def run(self, stop: threading.Event) -> None:
        """Make calls until told to stop."""
        while not stop.is_set():
            self.once()

    def once(self) -> None:
        """Make one call and check it."""
        name = self._chance.choice(self._KINDS)
        with self._watch.over(f"{name} in {threading.current_thread().name}"):
            getattr(self, f"_{name}")()
        self.counts[name] += 1

    # ---- what to call --------------------------------------------------------------------------

    def _call(self, most: int, raising: bool, timed: bool = True) -> Call:
        """A function and items for it; some of them misbehave."""
        chance, number = self._chance, next(self._numbers)
        function = chance.choice(list(FUNCTIONS))
        count = chance.choice([1, 2, 7, 40, most])
        if function in (fuzz_tasks.echo, fuzz_tasks.large):
            count = min(count, 12)
        timeout = chance.choice([None, None, 0.25]) if timed else None
        behaviours = [NORMAL] * count
        lingering = chance.choice([0, 0.05, 0.2])
        for index in range(count):
            if chance.random() < lingering:
                behaviours[index] = LINGERS
        if raising and chance.random() < 0.3:
            behaviours[chance.randrange(count)] = RAISES
        if timeout is not None and chance.random() < 0.7:
            behaviours[chance.randrange(count)] = SLEEPS
        if chance.random() < self._poison:
            behaviours[chance.randrange(count)] = chance.choice(POISON)
        items = [item_of(number, index, behaviours[index]) for index in range(count)]
        chunksize = chance.choice([None, 1, 1, 3, 16, 100])
        return Call(function, items, timeout, chunksize)

    @staticmethod
    def _argument(call: Call, item: int) -> Any:
        if call.function is fuzz_tasks.echo:
            return item, fuzz_tasks.payload_of(item)
        return item

    def _arguments(self, call: Call) -> Any:
        """The iterable of a map or imap: a list or something else."""
        if call.function is fuzz_tasks.echo or self._chance.random() < 0.3:
            return (self._argument(call, item) for item in call.items)
        return call.items

    # ---- the calls -----------------------------------------------------------------------------

    def _map(self) -> None:
        call = self._call(400, raising=False)
        arguments = self._arguments(call)
        try:
            values = self._pool.map(call.function, arguments, call.chunksize, timeout=call.timeout)
        except Exception as error:
            self._check_any(call, error)
            return
        self._check_all(call, values)

    def _map_with_exceptions(self) -> None:
        call = self._call(400, raising=True)
        result = self._pool.map_async(
            call.function,
            self._arguments(call),
            call.chunksize,
            timeout=call.timeout,
            return_exceptions=True,
        )
        self._check_all(call, result.get(WAIT))

    def _imap(self) -> None:
        # An exception that a task raises ends its chunk, as in the standard library.
        call = self._call(100, raising=self._chance.random() < 0.5)
        if any(behaviour_of(item) == RAISES for item in call.items):
            call = call._replace(chunksize=1)
        results = self._pool.imap(
            call.function,
            self._arguments(call),
            call.chunksize or 5,
            self._chance.choice([None, None, 2]),
            timeout=call.timeout,
        )
        self._check_all(call, list(_outcomes(results)))

    def _imap_unordered(self) -> None:
        call = self._call(100, raising=False)
        if call.function in (fuzz_tasks.nothing, fuzz_tasks.flag):
            call = call._replace(function=fuzz_tasks.number)  # whose values say whose they are
        results = self._pool.imap_unordered(
            call.function, self._arguments(call), call.chunksize or 5, timeout=call.timeout
        )
        found = list(_outcomes(results))
        if len(found) != len(call.items):
            raise Fault(f"{len(found)} results of {len(call.items)} items: {found!r:.500}")
        left = dict(enumerate(call.items))
        for outcome in (one for one in found if isinstance(one, BaseException)):
            index = _index_in(outcome)
            if index not in left:
                raise Fault(f"item {index} failed twice, or never was: {outcome!r}")
            self._check(call, left.pop(index), outcome)
        expected = [(item, FUNCTIONS[call.function](item)) for item in left.values()]
        for value in (one for one in found if not isinstance(one, BaseException)):
            at = next((k for k, (_, e) in enumerate(expected) if fuzz_tasks.same(e, value)), None)
            if at is None:
                raise Fault(f"{_short(value)} is no value of an item that is due")
            self._check(call, expected.pop(at)[0], value)

    def _apply(self) -> None:
        call = self._call(1, raising=True, timed=False)._replace(chunksize=1)
        item = call.items[0]
        try:
            outcome = self._pool.apply(call.function, (self._argument(call, item),))
        except Exception as error:
            outcome = error
        self._check(call, item, outcome)

    def _apply_async(self) -> None:
        call = self._call(40, raising=True)._replace(chunksize=1)
        called: Counter[int] = Counter()
        results = [
            self._pool.apply_async(
                call.function,
                (self._argument(call, item),),
                callback=lambda _value, item=item: called.update([item]),
                error_callback=lambda _error, item=item: called.update([item]),
                timeout=call.timeout,
            )
            for item in call.items
        ]
        for item, result in zip(call.items, results, strict=True):
            self._check(call, item, _outcome(result))
        wrong = [(item, called[item]) for item in call.items if called[item] != 1]
        if wrong:
            raise Fault(f"callbacks were not called once each: {wrong}")

    def _cancelled_calls(self) -> None:
        call = self._call(40, raising=False)._replace(chunksize=1)
        results = [
            self._pool.apply_async(
                call.function, (self._argument(call, item),), timeout=call.timeout
            )
            for item in call.items
        ]
        cancelled = set()
        for item, result in zip(call.items, results, strict=True):
            if self._chance.random() < 0.5 and result.cancel(kill=self._chance.random() < 0.5):
                cancelled.add(item)
        for item, result in zip(call.items, results, strict=True):
            self._check(call, item, _outcome(result), item in cancelled)

    def _cancelled_map(self) -> None:
        call = self._call(400, raising=False)
        result = self._pool.map_async(
            call.function,
            self._arguments(call),
            call.chunksize,
            timeout=call.timeout,
            return_exceptions=True,
        )
        result.wait(self._chance.choice([0, 0.001, 0.02]))
        cancelled = result.cancel(kill=self._chance.random() < 0.5)
        try:
            values = result.get(WAIT)
        except TaskCancelledError:
            if not cancelled or not result.cancelled():
                raise Fault("a map that was not cancelled says that it was") from None
            self.counts["TaskCancelledError"] += 1
            return
        if cancelled:
            raise Fault("a map that was cancelled has results")
        self._check_all(call, values)

    def _cancelled_imap(self) -> None:
        call = self._call(100, raising=False)
        results = self._pool.imap(
            call.function, self._arguments(call), call.chunksize or 5, timeout=call.timeout
        )
        ahead = self._chance.randrange(len(call.items) + 1)
        found = [one for _, one in zip(range(ahead), _outcomes(results), strict=False)]
        cancelled = results.cancel(kill=self._chance.random() < 0.5)
        found += list(_outcomes(results))
        if cancelled and isinstance(found[-1], TaskCancelledError):
            found.pop()
            self.counts["TaskCancelledError"] += 1
        elif len(found) != len(call.items):
            raise Fault(f"{len(found)} results of {len(call.items)} items; cancelled: {cancelled}")
        for item, outcome in zip(call.items, found, strict=False):
            self._check(call, item, outcome)

    # ---- the checks ----------------------------------------------------------------------------

    def _check_all(self, call: Call, outcomes: list[Any]) -> None:
        if len(outcomes) != len(call.items):
            raise Fault(f"{len(outcomes)} results of {len(call.items)} items")
        for index, (item, outcome) in enumerate(zip(call.items, outcomes, strict=True)):
            named = _index_in(outcome) if isinstance(outcome, BaseException) else None
            if named is not None and named != index:
                raise Fault(f"the error in place {index} is that of item {named}: {outcome!r}")
            self._check(call, item, outcome)

    def _check_any(self, call: Call, error: Exception) -> None:
        """The error of a whole call: it has to be that of one of its items."""
        index = _index_in(error)
        if index is None or index >= len(call.items):
            raise Fault(f"an error of no item of {len(call.items)}: {error!r}") from error
        self._check(call, call.items[index], error)

    def _check(self, call: Call, item: int, outcome: Any, cancelled: bool = False) -> None:
        """Whether that may come of this item."""
        behaviour = behaviour_of(item)
        alone = call.chunksize == 1 or len(call.items) == 1
        if isinstance(outcome, BaseException):
            deaths = getattr(outcome, "deaths", 0)
            self.outcomes.append(Outcome(item, type(outcome).__name__, deaths, alone))
            self.counts[type(outcome).__name__] += 1
            if not self._may_fail(call, item, outcome, cancelled):
                raise Fault(f"{_describe(call, item)} may not fail so: {outcome!r}") from outcome
            return
        self.outcomes.append(Outcome(item, None, 0, alone))
        self.counts["right"] += 1
        if behaviour in (RAISES, SLEEPS, *POISON):
            raise Fault(f"{_describe(call, item)} can have no value, but has {_short(outcome)}")
        expected = FUNCTIONS[call.function](item)
        if not fuzz_tasks.same(outcome, expected):
            raise Fault(
                f"{_describe(call, item)}: {_short(outcome)} in place of {_short(expected)}"
            )

    def _may_fail(self, call: Call, item: int, error: BaseException, cancelled: bool) -> bool:
        if isinstance(error, ExpectedError):
            return behaviour_of(item) == RAISES and error.args == (item,)
        if isinstance(error, WorkerDiedError):
            # That nothing innocent fails of many retries is for the traces to tell.
            return error.deaths == self._retries + 1
        if isinstance(error, TaskTimeoutError):
            return call.timeout is not None and error.timeout == call.timeout
        return isinstance(error, TaskCancelledError) and cancelled


def _outcome(result: Any) -> Any:
    try:
        return result.get(WAIT)
    except Exception as error:
        return error


def _outcomes(results: Any) -> Iterator[Any]:
    """What an imap hands out, errors included."""
    while True:
        try:
            yield results.next(WAIT)
        except StopIteration:
            return
        except Exception as error:
            yield error


def _index_in(error: BaseException) -> int | None:
    """Which item of its call an error names."""
    if isinstance(error, ExpectedError):
        return int(error.args[0]) & 0xFF_FFFF
    found = re.match(r"item (\d+) of", getattr(error, "task", ""))
    return int(found[1]) if found else None


def _describe(call: Call, item: int) -> str:
    return (
        f"{call.function.__name__}({item:#x}), item {item & 0xFF_FFFF} of {len(call.items)}"
        f" (behaviour {behaviour_of(item)}, chunksize {call.chunksize}, timeout {call.timeout})"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 200 else f"{text[:200]}... ({type(value).__name__})"
