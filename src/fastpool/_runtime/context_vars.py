"""``context_vars=``: values of context variables that go along with each call."""

from __future__ import annotations

import contextvars
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from fastpool._core._submit import Dispatcher

if TYPE_CHECKING:
    from typing_extensions import Self

#: Values of those variables that have one: (index of the variable, value).
Values: TypeAlias = tuple[tuple[int, Any], ...]


class CarriedVars:
    """The variables of a pool; pickles as the names under which a worker finds them."""

    def __init__(self, variables: Iterable[contextvars.ContextVar[Any]]) -> None:
        if not isinstance(variables, Iterable):
            raise TypeError(f"context_vars must be a list of ContextVar objects, not {variables!r}")
        self.variables = tuple(variables)
        for variable in self.variables:
            if not isinstance(variable, contextvars.ContextVar):
                raise TypeError(
                    f"context_vars must be a list of ContextVar objects; {variable!r} is none"
                )

    def __reduce__(self) -> tuple[Callable[..., CarriedVars], tuple[Any, ...]]:
        return _find_all, tuple(_place_of(variable) for variable in self.variables)

    def values(self) -> Values:
        """What they are in the calling context."""
        context = contextvars.copy_context()
        return tuple(
            (index, context[variable])
            for index, variable in enumerate(self.variables)
            if variable in context
        )


def _find_all(*places: tuple[str, str]) -> CarriedVars:
    return CarriedVars(_find(*place) for place in places)


def _find(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def reduce_variable(variable: contextvars.ContextVar[Any]) -> tuple[Any, ...]:
    """Pickle a variable that a function sent by value uses: a copy would be another variable."""
    return _find, _place_of(variable)


def _place_of(variable: contextvars.ContextVar[Any]) -> tuple[str, str]:
    """The module and the name of a global that is this variable.

    The main module is the last choice: what it has imported, it may have for the parent only.
    """
    modules = sorted(sys.modules.items(), key=lambda item: item[0] in ("__main__", "__mp_main__"))
    for module_name, module in modules:
        for name, value in tuple(getattr(module, "__dict__", {}).items()):
            if value is variable:
                return module_name, name
    raise ValueError(
        f"{variable!r} is not a global variable of any module, so workers could not find it"
    )


#: In a worker, the variables of its pool.
_carried = CarriedVars(())


def know_variables(carried: CarriedVars) -> None:
    """In a new worker: these are the variables that calls will bring values of."""
    global _carried
    _carried = carried


class CallInContext:
    """Calls a function with values of context variables, and leaves no trace of them."""

    def __init__(self, function: Callable[..., Any], values: Values) -> None:
        self._function = function
        self._values = values
        # What errors name: the program's function.
        self.__qualname__ = getattr(function, "__qualname__", type(function).__qualname__)

    def __reduce__(self) -> tuple[type[CallInContext], tuple[Any, ...]]:
        return CallInContext, (self._function, self._values)

    def parts(self) -> Iterator[tuple[str, Any]]:
        """What is pickled with it, by the names under which a program knows it."""
        yield "the function", self._function
        for index, value in self._values:
            yield f"the value of context_vars[{index}]", value

    def __call__(self, *args: Any, **kwds: Any) -> Any:
        return _context_for(self._values).run(self._call, args, kwds)

    def _call(self, args: tuple[Any, ...], kwds: dict[str, Any]) -> Any:
        for index, value in self._values:
            _carried.variables[index].set(value)
        return self._function(*args, **kwds)


def _context_for(values: Values) -> contextvars.Context:
    """A copy of this worker's context, without what its variables were where it was forked."""
    context = contextvars.copy_context()
    given = {index for index, _ in values}
    unset = [var for i, var in enumerate(_carried.variables) if i not in given and var in context]
    if not unset:
        return context
    rest = contextvars.Context()  # nothing takes a variable out of a context
    for variable, value in context.items():
        if variable not in unset:
            rest.run(variable.set, value)
    return rest


class CarryingDispatcher(Dispatcher):
    """Sends the caller's values with each call; pools without such variables have a plain one.

    Parameters
    ----------
    carried : CarriedVars
    *arguments
        As of a Dispatcher.
    """

    _carried: CarriedVars

    def __new__(cls, carried: CarriedVars, *arguments: Any) -> Self:
        self = super().__new__(cls, *arguments)
        self._carried = carried
        return self

    def carry(self, func: Callable[..., Any]) -> CallInContext:
        """As of a Dispatcher."""
        return CallInContext(func, self._carried.values())
