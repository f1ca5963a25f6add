"""The table of events: what happens, what fastpool promises then, which test shows it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from . import deaths, endings, errors
from .trial import Trial


class Event(enum.Enum):
    """What is done to the program from outside, when it says that it is ready."""

    NONE = enum.auto()
    KILL = enum.auto()  # SIGKILL for the program alone
    INTERRUPT = enum.auto()  # SIGINT for its whole group, as a terminal sends it


@dataclass(frozen=True)
class Case:
    """An event.

    Attributes
    ----------
    name : str
        For the command line.
    text : str
        What happens, for the table.
    promise : str
        What fastpool does then.
    test : str
        The test that shows it, as pytest names it.
    scenario : callable
        The program.
    event : Event
    dev_shm : str
        How /dev/shm is mounted for it.
    """

    name: str
    text: str
    promise: str
    test: str
    scenario: Callable[[Trial], None]
    event: Event = Event.NONE
    dev_shm: str = "size=2g"


_DEATH = "tests/failure/test_worker_death.py::"
_UNPICKLABLE = "tests/failure/test_unpicklable.py::"
_PARENT = "tests/failure/test_parent_death.py::"
_EXIT = "tests/failure/test_exit_paths.py::"
_MATRIX = "tests/failure/test_fault_matrix.py::test_fastpool_keeps_its_promise"

_ALL = (
    Case(
        "idle-killed",
        "An idle worker is killed (SIGKILL)",
        "No call fails; the worker is replaced",
        _DEATH + "test_an_idle_worker_dies_and_no_call_fails",
        deaths.idle,
    ),
    Case(
        "busy-killed",
        "A worker is killed while it runs a task",
        "`WorkerDiedError` for that task at once; other calls go on, and so does the pool",
        _DEATH + "test_a_busy_worker_is_killed_from_outside",
        deaths.busy,
    ),
    Case(
        "writing-killed",
        "A worker is killed in the middle of sending a result of 64 MB",
        "`WorkerDiedError`; what is half-written is never read",
        _DEATH + "test_the_worker_dies_somewhere_while_it_sends_a_large_result",
        deaths.writing,
    ),
    Case(
        "reading-killed",
        "A worker is killed in the middle of receiving an argument of 64 MB",
        "`WorkerDiedError`; the pool goes on",
        _DEATH + "test_the_worker_dies_while_it_loads_the_arguments",
        deaths.reading,
    ),
    Case(
        "segfault",
        "A task crashes (segmentation fault)",
        "`WorkerDiedError`, which names the signal and the task; other calls go on",
        _DEATH + "test_the_caller_is_told_who_died_of_what_doing_what",
        deaths.segfault,
    ),
    Case(
        "os-exit",
        "A task calls `os._exit(3)`",
        "`WorkerDiedError` with `exitcode` 3; other calls go on",
        _DEATH + "test_the_caller_is_told_who_died_of_what_doing_what",
        deaths.hard_exit,
    ),
    Case(
        "sys-exit",
        "A task calls `sys.exit()`",
        "`SystemExit` reaches the caller; the worker is replaced",
        "tests/contract/test_exceptions.py::test_sys_exit_in_a_task_reaches_the_caller",
        deaths.sys_exit,
    ),
    Case(
        "grandchild",
        "A worker dies, and a process that it forked lives on with its descriptors",
        "The death is seen all the same: `WorkerDiedError` at once",
        _DEATH + "test_a_grandchild_that_keeps_the_descriptors_does_not_hide_the_death",
        deaths.grandchild,
    ),
    Case(
        "stopped",
        "A task stops its worker (SIGSTOP)",
        "Others do the work; the task ends when the worker is continued",
        _DEATH + "test_a_stopped_worker_is_not_dead_and_others_do_the_work",
        deaths.stopped,
    ),
    Case(
        "random-kills",
        "Workers are killed at random for some seconds",
        "Each call ends, with its value or `WorkerDiedError`; the pool is whole after",
        "tests/failure/test_races.py::"
        "test_workers_that_are_killed_at_random_fail_only_what_they_held",
        deaths.random_kills,
    ),
    Case(
        "stubborn-exception",
        "A task raises an exception that can't be unpickled",
        "`RemoteError` for that call, with the name, the text and the traceback",
        "tests/contract/test_exceptions.py::test_an_exception_that_cannot_be_loaded_has_a_stand_in",
        errors.stubborn_exception,
    ),
    Case(
        "unpicklable-result",
        "A result can't be pickled",
        "`MaybeEncodingError` for that call",
        "tests/contract/test_exceptions.py::"
        "test_a_result_that_cannot_be_pickled_is_an_encoding_error",
        errors.unpicklable_result,
    ),
    Case(
        "unpicklable-argument",
        "An argument can't be pickled",
        "What pickling raised, for that call",
        _UNPICKLABLE + "test_an_argument_fails_the_call",
        errors.unpicklable_argument,
    ),
    Case(
        "unpicklable-function",
        "A function can't be pickled (a lambda)",
        "What pickling raised, for that call",
        _UNPICKLABLE + "test_a_function_fails_the_call",
        errors.unpicklable_function,
    ),
    Case(
        "absent-module",
        "`spawn`: a worker can't import the module of a task",
        "The `ImportError`, for that call",
        _MATRIX,
        errors.absent_module,
    ),
    Case(
        "broken-main",
        "`spawn`: a worker can't import the main module",
        "`RuntimeError` for every call, after a few workers; no endless row of them",
        _MATRIX,
        errors.broken_main,
    ),
    Case(
        "initializer",
        "The initializer raises",
        "That exception for every call; no endless row of workers",
        "tests/contract/test_initializer.py::test_its_error_is_what_every_call_gets",
        errors.initializer,
    ),
    Case(
        "callback-raises",
        "A callback raises",
        "`threading.excepthook` shows it; the result is there, and all goes on",
        "tests/contract/test_callbacks.py::"
        "test_a_callback_that_raises_is_reported_and_the_pool_goes_on",
        errors.callback_raises,
    ),
    Case(
        "terminate-in-callback",
        "A callback calls `terminate()`",
        "The pool ends; `PoolTerminatedError` for what is unfinished",
        "tests/contract/test_callbacks.py::test_terminate_from_a_callback_works",
        endings.terminate_in_callback,
    ),
    Case(
        "endless-iterable",
        "`imap` of an endless generator",
        "It is read as room becomes free; memory is bounded",
        "tests/contract/test_imap.py::test_an_endless_iterable_is_fine",
        errors.endless_iterable,
    ),
    Case(
        "tiny-dev-shm",
        "`/dev/shm` has 1 MiB (a container has often 64 MB), the data are larger",
        "Nothing: it isn't used",
        "tests/contract/test_memory_runs_out.py::test_dev_shm_is_not_needed",
        errors.tiny_dev_shm,
        dev_shm="size=1m",
    ),
    Case(
        "parent-killed",
        "The program is killed (SIGKILL), its pool is idle",
        "No process and no memory is left within 2 s",
        _PARENT + "test_idle_workers_leave_when_the_parent_is_killed",
        endings.wait_to_be_killed,
        Event.KILL,
    ),
    Case(
        "parent-killed-busy",
        "The program is killed (SIGKILL) while a task runs",
        "No process and no memory is left within 2 s; the task is not finished",
        _PARENT + "test_busy_workers_leave_when_the_parent_is_killed",
        endings.wait_to_be_killed_with_a_task,
        Event.KILL,
    ),
    Case(
        "ctrl-c",
        "Ctrl-C during a `map`",
        "`KeyboardInterrupt` at once in the program, and there alone; nothing is left",
        "tests/failure/test_signals.py::test_ctrl_c_ends_the_program_at_once_and_quietly",
        endings.interrupted,
        Event.INTERRUPT,
    ),
    Case(
        "fork-and-exit",
        "The program forks, and the child leaves by `sys.exit()`",
        "The parent's pool doesn't notice",
        "tests/failure/test_fork_safety.py::test_a_child_that_leaves_by_sys_exit_disturbs_nothing",
        endings.forked_child_leaves,
    ),
    Case(
        "forgotten",
        "The program ends without closing its pool",
        "It ends at once; nothing is left",
        _EXIT + "test_a_program_that_forgets_its_pool_ends",
        endings.forgotten,
    ),
    Case(
        "cycle",
        "A pool in a reference cycle is dropped",
        "The garbage collector ends it, and its workers",
        _EXIT + "test_a_pool_in_a_cycle_is_collected",
        endings.in_a_cycle,
    ),
    Case(
        "time-limit",
        "A task takes longer than its time limit",
        "`TaskTimeoutError` for that task; other calls go on, and so does the pool",
        "tests/failure/test_timeouts.py::test_a_call_that_takes_too_long_is_stopped",
        errors.over_time_limit,
    ),
    Case(
        "cancelled",
        "A running task is cancelled",
        "`TaskCancelledError` at once, the task is ended; the pool goes on",
        "tests/failure/test_cancel.py::test_a_running_call_is_stopped_with_kill",
        errors.cancelled,
    ),
    Case(
        "poison",
        "A task kills each worker that takes it, and may be tried three times",
        "`WorkerDiedError` after the third; the pool goes on",
        "tests/failure/test_retries.py::test_poison_fails_when_its_retries_are_used_up",
        deaths.poison,
    ),
)

CASES: dict[str, Case] = {case.name: case for case in _ALL}
