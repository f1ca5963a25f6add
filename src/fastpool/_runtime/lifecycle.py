"""What runs when a worker starts and when it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from fastpool._runtime.context_vars import CarriedVars, know_variables
from fastpool._runtime.error_writer import ErrorWriter
from fastpool._runtime.mailbox import (
    EXIT_ERROR,
    EXIT_RESULT,
    LOG_LOST,
    LOG_RECORD,
    SEND_PATIENCE,
    Mailbox,
    Receiver,
    Sender,
)
from fastpool._runtime.thread_limits import limit_threads
from fastpool._runtime.warning_filters import Filters, set_filters
from fastpool._runtime.worker_context import Hook, WorkerContext, become

if TYPE_CHECKING:
    from fastpool._runtime.log_forwarding import ForwardingHandler, LogLevels


class Setup(NamedTuple):
    """What a worker is given beside its tasks; pickled under spawn and forkserver."""

    init: Hook | None = None
    exit: Hook | None = None
    threads: int | None = None
    logs: LogLevels | None = None
    warnings: Filters | None = None
    context_vars: CarriedVars | None = None

    @property
    def has_hooks(self) -> bool:
        """Whether something of the program's begins and ends with each worker."""
        return self.init is not None or self.exit is not None


def check_hook(name: str, hook: Hook | None) -> Hook | None:
    """Check a function that is called with the worker."""
    if hook is None:
        return None
    if not callable(hook):
        raise TypeError(f"{name} must be a callable or None, not {hook!r}")
    import inspect

    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):  # some built-in ones have none
        return hook
    try:
        signature.bind(None)
    except TypeError:
        raise TypeError(
            f"{name} is called with one argument, the worker; this one takes {signature}"
        ) from None
    return hook


class Life:
    """Runs, in a worker, what begins and ends with it.

    Parameters
    ----------
    setup : Setup
    worker : WorkerContext
    mail_fd : int
        Of the parent's mailbox; -1 when there is none.
    dumps : callable
        object -> bytes, by the pool's serializer.
    errors : ErrorWriter
    """

    def __init__(
        self,
        setup: Setup,
        worker: WorkerContext,
        mail_fd: int,
        dumps: Callable[[object], bytes],
        errors: ErrorWriter,
    ) -> None:
        self._setup = setup
        self._worker = worker
        self._sender = Sender(mail_fd, worker.id) if mail_fd >= 0 else None
        self._dumps = dumps
        self._errors = errors
        self._forwarder: ForwardingHandler | None = None
        self._begun = False

    def prepare(self) -> None:
        """Before anything of the program's is called in this worker."""
        become(self._worker)
        if self._setup.threads is not None:
            limit_threads(self._setup.threads)
        if self._setup.warnings is not None:
            set_filters(self._setup.warnings)
        if self._setup.context_vars is not None:
            know_variables(self._setup.context_vars)
        if self._setup.logs is not None and self._sender is not None:
            from fastpool._runtime.log_forwarding import forward_logs

            self._forwarder = forward_logs(self._setup.logs, self._sender)

    def begin(self) -> None:
        """After the initializer, before the first task."""
        if self._setup.init is not None:
            self._setup.init(self._worker)
        self._begun = True

    def end(self) -> None:
        """After the last task: call the exit function, and tell the parent what came of it."""
        if self._setup.exit is not None and self._sender is not None and self._begun:
            self._exit(self._setup.exit, self._sender)
        if self._forwarder is not None:
            self._forwarder.tell_lost(SEND_PATIENCE)  # it stays: exit handlers may log
        elif self._sender is not None:
            self._sender.close()

    def _exit(self, function: Hook, sender: Sender) -> None:
        kind = EXIT_RESULT
        try:
            result = function(self._worker)
        except BaseException as error:
            kind, content = EXIT_ERROR, self._errors.report(error)
        else:
            try:
                content = self._dumps(result)
            except Exception as error:
                unsendable = self._errors.unsendable(error, result)
                kind, content = EXIT_ERROR, self._errors.report(unsendable)
        try:
            sender.send(kind, content, SEND_PATIENCE)
        except OSError as error:  # no descriptor, or no memory, for a large one
            sender.send(EXIT_ERROR, self._errors.report(error), SEND_PATIENCE)


class ExitResults:
    """What the exit functions of a pool's workers returned, or raised.

    Parameters
    ----------
    loads : callable
        bytes -> object, by the pool's serializer.
    """

    def __init__(self, loads: Callable[..., Any]) -> None:
        self._loads = loads
        self._came: list[tuple[int, int, bytes]] = []  # (worker id, kind, pickle)

    def take_result(self, worker_id: int, content: bytes) -> None:
        """A worker's exit function returned something."""
        self._came.append((worker_id, EXIT_RESULT, content))

    def take_error(self, worker_id: int, content: bytes) -> None:
        """A worker's exit function raised."""
        self._came.append((worker_id, EXIT_ERROR, content))

    def get(self, return_exceptions: bool) -> list[Any]:
        """Return all of it, by worker id, and with the same id in the order in which they ended."""
        results = []
        for _, kind, content in sorted(self._came, key=lambda came: came[0]):
            try:
                result = self._loads(content)
            except Exception as error:
                kind, result = EXIT_ERROR, error
            if kind == EXIT_ERROR and not return_exceptions:
                raise result
            results.append(result)
        return results


def open_mailbox(setup: Setup, results: ExitResults) -> Mailbox | None:
    """In the parent: what workers write to, if they have anything to write."""
    if setup.exit is None and setup.logs is None:
        return None
    receivers: dict[int, Receiver] = {
        EXIT_RESULT: results.take_result,
        EXIT_ERROR: results.take_error,
    }
    if setup.logs is not None:
        from fastpool._runtime.log_forwarding import take_loss, take_record

        receivers.update({LOG_RECORD: take_record, LOG_LOST: take_loss})
    return Mailbox(receivers)
