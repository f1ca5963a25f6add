"""``logging="forward"``: what workers log reaches the handlers of the parent.

A worker has one handler, which sends records to the parent's mailbox. There the logger of the same
name takes them, as if the record had been made in the parent.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from fastpool._runtime.mailbox import LOG_LOST, LOG_RECORD, SEND_PATIENCE, Sender
from fastpool._runtime.pickling import loads, make_dumps
from fastpool.errors import TaskCancelledError, TaskTimeoutError

#: What is raised in a task to stop it, also while it logs. The first one is an OSError, too.
_STOPS = (TaskTimeoutError, TaskCancelledError)

_PLAIN = (str, int, float, bool, type(None))

#: What every record has; the rest is what the program added.
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__)

_dumps = make_dumps()


class LogLevels(NamedTuple):
    """What the parent's loggers let through: workers need not send more."""

    levels: dict[str, int]  # those that were set
    root: int
    disabled: int

    @classmethod
    def of_this_process(cls) -> LogLevels:
        levels = {logger.name: logger.level for logger in _loggers() if logger.level}
        return cls(levels, logging.root.level, logging.root.manager.disable)


def _loggers() -> list[logging.Logger]:
    known = list(logging.root.manager.loggerDict.values())
    return [logger for logger in known if isinstance(logger, logging.Logger)]


def forward_logs(levels: LogLevels, sender: Sender) -> ForwardingHandler:
    """In a new worker: replace all handlers by one that sends records to the parent.

    Filters and ``propagate`` are the parent's to apply; it would apply them twice otherwise.
    """
    forwarder = ForwardingHandler(sender)
    for logger in (logging.root, *_loggers()):
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)  # not closed: its file may be the parent's
        for log_filter in logger.filters[:]:
            logger.removeFilter(log_filter)
        logger.propagate = True
        logger.setLevel(levels.levels.get(logger.name, logging.NOTSET))
    for name, level in levels.levels.items():
        logging.getLogger(name).setLevel(level)
    logging.root.setLevel(levels.root)
    logging.root.addHandler(forwarder)
    logging.disable(levels.disabled)
    return forwarder


class ForwardingHandler(logging.Handler):
    """Sends records to the parent, in the thread that logs.

    When the parent reads nothing for a while (a handler of its own is stuck), records are dropped,
    and their number is told as soon as there is room again: logging holds nobody up for ever.
    """

    def __init__(self, sender: Sender) -> None:
        super().__init__()
        self._sender = sender
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            content = dump_record(record)
            if self._lost:
                self.tell_lost(0.0)
            if self._lost or not self._send(LOG_RECORD, content, SEND_PATIENCE):
                self._lost += 1
        except _STOPS:
            raise
        except Exception:
            self.handleError(record)

    def tell_lost(self, patience: float) -> None:
        """Tell how many records could not be sent, if there were some."""
        if self._lost and self._send(LOG_LOST, _dumps(self._lost), patience):
            self._lost = 0

    def _send(self, kind: int, content: bytes, patience: float) -> bool:
        try:
            return self._sender.send(kind, content, patience)
        except _STOPS:
            raise
        except OSError:  # the parent is gone, or the system grants no descriptor
            return False


def dump_record(record: logging.LogRecord) -> bytes:
    """Pickle a record: message and traceback as text, and what can't be pickled as ``repr()``."""
    state = record.__dict__.copy()
    state["msg"] = record.getMessage()
    state["args"] = None
    state.pop("message", None)  # what a formatter left behind
    if record.exc_info:
        state["exc_text"] = record.exc_text or logging.Formatter().formatException(record.exc_info)
        state["exc_info"] = None
    for name, value in state.items():
        if name not in _STANDARD and type(value) not in _PLAIN and not _travels(value):
            state[name] = repr(value)
    return _dumps(state)


def _travels(value: Any) -> bool:
    try:
        loads(_dumps(value))
    except _STOPS:
        raise
    except Exception:
        return False
    return True


def take_record(worker_id: int, content: bytes) -> None:
    """In the parent: have the logger of the same name handle a record, if its level lets it."""
    record = logging.makeLogRecord(loads(content))
    record.worker_id = worker_id
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def take_loss(worker_id: int, content: bytes) -> None:
    """In the parent: log that a worker could not send all that it logged."""
    logging.getLogger("fastpool").warning(
        "%d log records of worker %d are lost: the parent's handlers took too long",
        loads(content),
        worker_id,
    )
