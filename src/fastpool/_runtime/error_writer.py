"""Exceptions of tasks on their way to the parent."""

from __future__ import annotations

import traceback
from multiprocessing.pool import (  # type: ignore[attr-defined]
    ExceptionWithTraceback,
    MaybeEncodingError,
)
from types import TracebackType

from fastpool._runtime.serializers import Serializer
from fastpool._runtime.unpicklable import Explainer, hint_for_loading, move_notes
from fastpool.errors import RemoteError, TaskCancelledError, TaskTimeoutError


class ErrorWriter:
    """Writes exceptions of tasks, so that the parent can raise them."""

    def __init__(self, serializer: Serializer) -> None:
        self._serializer = serializer
        self._dumps = serializer.make_dumps()
        self._plain_dumps = serializer.make_plain_dumps()

    def report(self, error: BaseException) -> bytes:
        """Pickle an exception of a task.

        The parent gets the same exception with a ``multiprocessing.pool.RemoteTraceback`` as its
        cause; a ``MaybeEncodingError`` if it can't be pickled, as in the standard library; and a
        ``RemoteError`` if its pickle can't be loaded, which hangs the standard library's pool.
        """
        hint_for_loading(self._serializer, error)
        trace = _user_frames(error.__traceback__)
        lines = traceback.format_exception(type(error), error, trace)
        try:
            data = self._dumps(ExceptionWithTraceback(error, trace))
        except Exception as reason:
            return self._plain_dumps(self.unsendable(reason, error, "the exception"))
        try:
            broken = not isinstance(self._serializer.loads(data), BaseException)
        except Exception:
            broken = True
        if broken:
            kind = type(error)
            stand_in = RemoteError(
                f"{kind.__module__}.{kind.__qualname__}", _text(error), "".join(lines)
            )
            data = self._plain_dumps(ExceptionWithTraceback(stand_in, None))
        return data

    def unsendable(
        self, reason: Exception, value: object, what: str = "the result"
    ) -> BaseException:
        """Return the error that says that a result could not be pickled.

        Its ``reason`` is what the pickling raised, where that can be sent: executors raise it.
        """
        Explainer(self._serializer)(reason, [(what, value)])
        error: BaseException = MaybeEncodingError(_Shown(reason), _Shown(value))
        move_notes(reason, error)
        try:
            self._serializer.loads(self._plain_dumps(reason))
        except Exception:
            return error
        error.reason = reason  # type: ignore[attr-defined]
        return error


def _user_frames(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the core's own frames at its top, if there are others."""
    user = trace
    while user is not None and user.tb_frame.f_code.co_filename.endswith(".pyx"):
        user = user.tb_next
    return user or trace


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<its str() raised>"


class _Shown:
    """Has the ``repr()`` of something of the program's, and one also where that raises."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        try:
            return repr(self._value)
        except (TaskTimeoutError, TaskCancelledError):  # this very task is stopped
            raise
        except Exception:
            kind = type(self._value)
            return f"<{kind.__module__}.{kind.__qualname__} object whose repr() raised>"
