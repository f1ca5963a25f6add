"""A kernel that refuses chosen system calls, as old ones, containers and sandboxes do.

In a program: ``refuse("memfd_create", errno.ENOSYS)``, for this process and all that it starts from
then on. Around a whole program, in a shell::

    python tests/helpers/refusals.py EPERM memfd_create pidfd_open -- python program.py
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Iterable
from typing import NamedTuple


class Call(NamedTuple):
    """A system call, or one of its uses: where argument `argument` & `mask` is `value`."""

    x86_64: int
    aarch64: int
    argument: int = -1
    mask: int = 0xFFFF_FFFF
    value: int = 0


#: By the names that :func:`refuse` takes.
CALLS = {
    "clone3": Call(435, 435),
    "close_range": Call(436, 436),
    "eventfd2": Call(290, 19),
    "fallocate": Call(285, 47),
    "fallocate:punch": Call(285, 47, 1, 0x02, 0x02),
    # Between processes, and in just these forms: the C library's own locks have others.
    "futex:wait": Call(202, 98, 1, value=0),
    "futex:wake": Call(202, 98, 1, value=1),
    "madvise:dontdump": Call(28, 233, 2, value=16),
    "madvise:populate": Call(28, 233, 2, value=23),
    "madvise:remove": Call(28, 233, 2, value=9),
    "memfd_create": Call(319, 279),
    "memfd_create:noexec": Call(319, 279, 1, 0x08, 0x08),
    "mremap": Call(25, 216),
    "pidfd_open": Call(434, 434),
    "pidfd_send_signal": Call(424, 424),
    "prctl:pdeathsig": Call(157, 167, 0, value=1),
    "sched_getaffinity": Call(204, 123),
    "sched_setaffinity": Call(203, 122),
    "socketpair:seqpacket": Call(53, 199, 1, 0xF, 5),
}


# --- the filter: classic BPF over struct seccomp_data { int nr; u32 arch; u64 ip, args[6]; } ------

_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LOAD, _AND, _EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_SET_NO_NEW_PRIVS, _SET_SECCOMP, _MODE_FILTER = 38, 22, 2


class _Instruction(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction))]


def _instructions(machine: str, calls: Iterable[Call], error: int) -> list[tuple[int, ...]]:
    """Allow what is not of this architecture, and what matches no call."""
    program: list[tuple[int, ...]] = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, _ARCHES[machine]),
        (_RETURN, 0, 0, _ALLOW),
    ]
    for call in calls:
        refuse = (_RETURN, 0, 0, _ERRNO | error)
        if call.argument < 0:
            test = [refuse]
        else:  # both architectures have the low half of an argument first
            test = [
                (_LOAD, 0, 0, 16 + 8 * call.argument),
                (_AND, 0, 0, call.mask),
                (_EQUAL, 0, 1, call.value),
                refuse,
            ]
        program += [(_LOAD, 0, 0, 0), (_EQUAL, 0, len(test), getattr(call, machine)), *test]
    return [*program, (_RETURN, 0, 0, _ALLOW)]


def is_possible() -> bool:
    """Whether this machine can refuse system calls, and we know their numbers."""
    if not sys.platform.startswith("linux") or platform.machine() not in _ARCHES:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    # Without a program it fails in any case: with EFAULT where there are filters.
    return libc.prctl(_SET_SECCOMP, _MODE_FILTER, None) != 0 and ctypes.get_errno() == errno.EFAULT


def refuse(names: str | Iterable[str], error: int) -> None:
    """Have these system calls fail with `error`, here and in every process started from now on."""
    names = [names] if isinstance(names, str) else names
    code = _instructions(platform.machine(), [CALLS[name] for name in names], error)
    filter_ = (_Instruction * len(code))(*code)
    program = _Program(len(code), filter_)
    libc = ctypes.CDLL(None, use_errno=True)
    if (
        libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
        or libc.prctl(_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) != 0
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main(arguments: list[str]) -> str:
    """Become the program that is given, where calls can be refused; return what is wrong."""
    at = arguments.index("--") if "--" in arguments else 0
    names, program = arguments[:at], arguments[at + 1 :]
    error = getattr(errno, names.pop(0), None) if names else None
    if not isinstance(error, int) or not names or not program:
        return "usage: refusals.py ERRNO CALL... -- PROGRAM..., for example EPERM pidfd_open -- top"
    if unknown := [name for name in names if name not in CALLS]:
        return f"no such call: {unknown[0]}; there are {', '.join(CALLS)}"
    if not is_possible():
        return "this system can't filter system calls, or their numbers are not known here"
    refuse(names, error)
    try:
        os.execvp(program[0], program)
    except OSError as reason:
        return f"{program[0]}: {reason.strerror}"


if __name__ == "__main__":
    print(f"refusals.py: {main(sys.argv[1:])}", file=sys.stderr)
    sys.exit(2)
