"""Results that the program holds when it forks.

A child inherits the parent's arrays, and expects a copy of them as they are. Those that lie in a
pool's shared memory are neither copied by the fork nor safe from being used anew once the parent
drops them. So the child sees that memory through a private mapping, and the parent keeps what the
child may read until the child has ended: a pipe tells, whose other end the child inherits.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import NamedTuple, Protocol

from fastpool._core._blocks import Block
from fastpool._core._segment import Segment


class Keeper(Protocol):
    """What runs a segment's pool."""

    def keep_until(self, fd: int, blocks: list[Block]) -> None:
        """Hold blocks until a descriptor, which becomes the keeper's, is at its end."""
        ...


class _Pin(NamedTuple):
    keeper: weakref.ref[Keeper]
    blocks: list[Block]
    reader: int
    writer: int


class _Fork(threading.local):
    """The fork that this thread is in the middle of."""

    def __init__(self) -> None:
        self.pins: list[_Pin] = []


_fork = _Fork()
_keepers: weakref.WeakKeyDictionary[Segment, weakref.ref[Keeper]] = weakref.WeakKeyDictionary()


def guard(segment: Segment, keeper: Keeper) -> None:
    """See to what the program holds of a segment, from now on, when it forks."""
    _keepers[segment] = weakref.ref(keeper)


def _before() -> None:
    _fork.pins = []
    for segment, keeper in list(_keepers.items()):
        blocks = segment.all_blocks() if segment.is_owned else []
        if blocks:
            segment.note_fork()
            if not segment.is_retired:
                _fork.pins.append(_Pin(keeper, blocks, *os.pipe()))


def _after_in_parent() -> None:
    pins, _fork.pins = _fork.pins, []
    for pin in pins:
        os.close(pin.writer)
        keeper = pin.keeper()
        if keeper is None:
            os.close(pin.reader)
        else:
            keeper.keep_until(pin.reader, pin.blocks)


def _after_in_child() -> None:
    for segment in list(_keepers):
        if segment.is_retired:
            segment.disown(private=True)  # the others are disowned by their engines
    for pin in _fork.pins:
        os.close(pin.reader)  # the writer stays open for as long as this process lives
    # The blocks are not dropped here: this process's engines have to be disowned before.
    _inherited.extend(_fork.pins)
    _fork.pins = []


#: In a child: what the parent keeps for it.
_inherited: list[_Pin] = []

os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
