"""Which part of a value could not be pickled, and what would help: looked for after it failed."""

from __future__ import annotations

import functools
import importlib.util
import pickle
import sys
import time
import types
from collections.abc import Iterable, Iterator
from typing import Any

from fastpool._runtime.context_vars import CallInContext
from fastpool._runtime.serializers import Serializer, Shipped

#: What pickle raises; an error of an object's own pickling tells its story itself.
PICKLE_ERRORS = (pickle.PicklingError, AttributeError, TypeError)

#: How long to look for the culprit at most, in seconds: the error comes meanwhile to nobody.
PATIENCE = 0.2

#: How deep to look.
DEPTH = 30

#: How the texts of unpickling begin that miss a name: until Python 3.13, and the two since.
_NOT_FOUND = ("Can't get attribute", "Can't resolve path", "module '__")

Parts = Iterable[tuple[str, Any]]


class Explainer:
    """Adds to an error of pickling what it was that can't be pickled, and what would help.

    Parameters
    ----------
    serializer : Serializer
        What raised.
    """

    def __init__(self, serializer: Serializer) -> None:
        self._serializer = serializer

    def __call__(self, error: BaseException, parts: Parts) -> None:
        """Look in these (name, value) pairs; adds nothing if all of them can be pickled."""
        if not isinstance(error, PICKLE_ERRORS):
            return
        try:
            found = _Search(self._serializer).run(parts)
            if found is not None:
                _add_note(error, _sentence(self._serializer, *found))
        except Exception:  # what is looked at is the program's: its error stays what it was
            pass

    def of_call(self, error: BaseException, func: object, args: object, kwds: Any) -> None:
        """The same of a single call."""

        def parts() -> Iterator[tuple[str, Any]]:
            yield "the function", func
            if isinstance(args, list | tuple):  # an iterator has been used up
                for i, value in enumerate(args):
                    yield f"args[{i}]", value
            for name, value in dict(kwds).items():
                yield f"kwds[{name!r}]", value

        self(error, parts())

    def of_function(self, error: BaseException, func: object) -> None:
        """The same of the function of many items."""
        self(error, [("the function", func)])

    def of_start(self, error: BaseException, functions: dict[str, Any], args: Any) -> None:
        """The same of what a process is started with."""
        parts: list[tuple[str, Any]] = []
        for name, func in functions.items():
            if isinstance(func, Shipped):
                args = *args, *func.args
                func = func.func
            parts.append((name, func))
        self(error, [*parts, *((f"initargs[{i}]", value) for i, value in enumerate(args))])

    def of_items(self, error: BaseException, items: Any, index: int) -> None:
        """The same of the items of a chunk that begins at an index of its call."""
        self(error, ((f"item {i}", item) for i, item in enumerate(items, index)))


class _Search:
    """Follows what fails into its parts."""

    def __init__(self, serializer: Serializer) -> None:
        self._pack = serializer.make_pack()
        self._until = time.monotonic() + PATIENCE

    def run(self, parts: Parts) -> tuple[str, Any] | None:
        """Return the innermost part that fails by itself, with its path."""
        found = None
        for _ in range(DEPTH):
            inner = self._first(parts)
            if inner is None or (found is not None and inner[1] is found[1]):
                break
            found = inner
            parts = _parts_of(*found)
        return found

    def _first(self, parts: Parts) -> tuple[str, Any] | None:
        for path, value in parts:
            if time.monotonic() > self._until:
                break
            try:
                self._pack(value)
            except PICKLE_ERRORS:
                return path, value
            except Exception:  # a lock, say, which pickles only while a process is started
                continue
        return None


def _parts_of(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What is pickled with a value, and how a program would call it."""
    if isinstance(value, types.FunctionType | type):
        return
    if type(value) in (list, tuple):
        for i, item in enumerate(value):
            yield f"{path}[{i}]", item
    elif type(value) is dict:
        for key, item in value.items():
            yield f"a key of {path}", key
            yield f"{path}[{key!r:.40}]", item
    elif type(value) in (set, frozenset):
        for item in value:
            yield f"an element of {path}", item
    elif isinstance(value, CallInContext):
        yield from value.parts()
    elif isinstance(value, types.MethodType):
        yield f"{path}.__self__", value.__self__
    elif isinstance(value, functools.partial):
        yield f"{path}.func", value.func
        yield from _parts_of(f"{path}.args", value.args)
        yield from _parts_of(f"{path}.keywords", value.keywords)
    else:
        yield from _parts_of_object(path, value)


def _parts_of_object(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    try:
        reduced = value.__reduce_ex__(5)
    except Exception:
        return
    if not isinstance(reduced, tuple):
        return
    state = reduced[2] if len(reduced) > 2 else None
    for attributes in state if isinstance(state, tuple) else (state,):
        if isinstance(attributes, dict):
            for name, item in attributes.items():
                yield f"{path}.{name}", item
    for item in reduced[1]:
        yield (f"the class of {path}" if item is type(value) else path), item


def _sentence(serializer: Serializer, path: str, culprit: Any) -> str:
    named = isinstance(culprit, types.FunctionType | type)
    text = f"What can't be pickled is {path}: {_describe(culprit)}."
    if not named:
        return text + " It has to be made in the worker: in the function, or by initializer=."
    if serializer.by_value:
        return text
    text += (
        " pickle sends functions and classes by the name under which workers find them; "
        'Pool(serializer="cloudpickle") and "auto" send such ones by value'
    )
    if importlib.util.find_spec("cloudpickle") is None:
        text += ' (pip install "fastpool[cloudpickle]")'
    return text + "."


def _describe(culprit: Any) -> str:
    if isinstance(culprit, types.FunctionType):
        code = culprit.__code__
        where = f"{code.co_filename}:{code.co_firstlineno}"
        kind = "lambda" if culprit.__name__ == "<lambda>" else "function"
        return f"the {kind} {culprit.__qualname__} of {culprit.__module__} ({where})"
    if isinstance(culprit, type):
        return f"the class {culprit.__qualname__} of {culprit.__module__}"
    return f"an object of type {type(culprit).__module__}.{type(culprit).__qualname__}"


def hint_for_loading(serializer: Serializer, error: BaseException) -> None:
    """In a worker: say what would help if a function or class of ``__main__`` is not there."""
    if serializer.by_value or type(error) is not AttributeError:
        return
    # Not str(error), which may run code of the program's.
    text = error.args[0] if error.args else None
    if (
        type(text) is str
        and text.startswith(_NOT_FOUND)
        and ("'__main__'" in text or "'__mp_main__'" in text)
        and not _comes_from_python(error)
    ):
        _add_note(
            error,
            "This worker's __main__ does not have it: it was defined after the pool was made, in a "
            'notebook or below if __name__ == "__main__". Define it in a module; or '
            'Pool(serializer="cloudpickle") sends it by value.',
        )


def _comes_from_python(error: BaseException) -> bool:
    """Whether a line of Python raised it: a task that looks for the name, not the unpickling."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and not trace.tb_frame.f_code.co_filename.endswith(".pyx")


def _add_note(error: BaseException, note: str) -> None:
    if sys.version_info >= (3, 11):
        error.add_note(note)
    elif len(error.args) == 1 and isinstance(error.args[0], str):
        error.args = (f"{error.args[0]}\n{note}",)


def move_notes(source: BaseException, target: BaseException) -> None:
    """Let an error that only quotes another one say what was noted there."""
    notes = getattr(source, "__notes__", ())
    for note in notes if isinstance(notes, list) else ():
        if isinstance(note, str):
            _add_note(target, note)
