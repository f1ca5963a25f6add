"""``multiprocessing.Pool``, and the executor if wanted, replaced in a program, and put back.

What changes is how the standard library's class makes an instance, not the class and not a name.
So it reaches ``multiprocessing.Pool()``, ``get_context(...).Pool()`` and
``multiprocessing.pool.Pool()`` alike, also where they were imported before; and
``isinstance(pool, multiprocessing.pool.Pool)`` and subclasses mean what they did. A subclass is
built on the inner methods of the standard library's pool: it makes its own instances, as before.

A process that multiprocessing starts by ``spawn`` or ``forkserver`` begins as a new interpreter. A
stowaway in its process object has it install the same; a forked one has inherited it.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing import pool as stdlib
from typing import Any

from fastpool.pool import Pool

#: The standard library's class -> the one whose instances are handed out instead.
_stand_ins: dict[type[Any], type[Any]] = {}

#: Where a process keeps what its children inherit under every start method.
_STOWAWAY = "fastpool"


def install(*, executor: bool = False) -> None:
    """Have this program's process pools be fastpool's from now on.

    ``multiprocessing.Pool()``, ``Pool()`` of every multiprocessing context and
    ``multiprocessing.pool.Pool()`` return a :class:`fastpool.Pool`, also in the processes that
    multiprocessing starts from now on, under every start method. Pools that exist already,
    ``ThreadPool``, and classes that are derived from the standard library's stay what they are.

    Parameters
    ----------
    executor : bool
        Have ``concurrent.futures.ProcessPoolExecutor()`` return a
        :class:`fastpool.ProcessPoolExecutor` likewise.

    See Also
    --------
    uninstall : takes it back.

    Examples
    --------
    >>> import multiprocessing
    >>> import fastpool
    >>> fastpool.install()
    >>> with multiprocessing.Pool(2) as pool:
    ...     isinstance(pool, fastpool.Pool)
    True
    >>> fastpool.uninstall()
    """
    _replace(stdlib.Pool, Pool)
    if executor:
        from concurrent.futures import ProcessPoolExecutor as Original

        from fastpool.executor import ProcessPoolExecutor

        _replace(Original, ProcessPoolExecutor)
    # What was installed before stays.
    _inheritance()[_STOWAWAY] = _Stowaway(executor=set(_stand_ins) != {stdlib.Pool})


def uninstall() -> None:
    """Have the standard library's pools be its own again; those that exist go on as they are.

    Does nothing where nothing is installed.
    """
    _stand_ins.clear()
    _inheritance().pop(_STOWAWAY, None)


def _replace(original: type[Any], stand_in: type[Any]) -> None:
    _stand_ins[original] = stand_in
    # For good: where a class once had a __new__ and lost it, object.__new__ refuses the arguments
    # of __init__ ever after. Without a stand-in it does what object.__new__ did.
    original.__new__ = staticmethod(_new)  # type: ignore[assignment]


def _new(cls: type[Any], *args: Any, **kwds: Any) -> Any:
    """``__new__`` of a class that is replaced; ``__init__`` of what it returns is called next."""
    return object.__new__(_stand_ins.get(cls, cls))


def _inheritance() -> dict[str, Any]:
    """What multiprocessing copies into every process object, and sends to the process with it."""
    config: dict[str, Any] = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    return config


class _Stowaway:
    """Installs the stand-ins in the process where it is unpickled."""

    def __init__(self, executor: bool) -> None:
        self._executor = executor

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self._executor,)


def _arrive(executor: bool) -> _Stowaway:
    install(executor=executor)
    return _Stowaway(executor)
