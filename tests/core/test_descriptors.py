"""What the system opens has one owner from the first instant, and is closed once."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable

import pytest
from helpers import procs

from fastpool._core._system import (
    BY_PIPE,
    Descriptor,
    Line,
    create_file,
    lend_line,
    message_pair,
    receive_message,
    send_message,
    watch_id,
    watch_kind,
    watch_self,
)

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]


@pytest.fixture(autouse=True)
def nothing_stays_open() -> object:
    before = procs.own_descriptors()
    yield
    assert procs.own_descriptors() == before


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError as error:
        assert error.errno == errno.EBADF
        return False
    return True


def is_readable(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))


def in_a_child(check: Callable[[], bool]) -> bool:
    """What a forked child finds."""
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            code = 0 if check() else 1
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, 1)
    return status == 0


# --- a descriptor ---------------------------------------------------------------------------------


def test_it_is_closed_with_the_last_reference() -> None:
    file = create_file()
    fd, other = file.fd, file
    del file
    assert is_open(fd)
    del other
    assert not is_open(fd)


def test_it_is_closed_once() -> None:
    file = create_file()
    fd = file.fd
    file.close()
    assert file.fd == -1
    strangers = [create_file()]
    while strangers[-1].fd < fd:
        strangers.append(create_file())
    file.close()
    del file
    assert is_open(fd)


def test_what_is_taken_out_of_it_is_the_takers() -> None:
    file = create_file()
    fd = file.fd
    taken = file.take()
    assert (file.fd, taken.fd) == (-1, fd)
    assert file.take().fd == -1
    del file
    assert is_open(fd)


@pytest.mark.parametrize("fd", [-1, -errno.EMFILE])
def test_without_a_number_it_is_closed(fd: int) -> None:
    closed = Descriptor(fd)
    closed.close()
    del closed


def test_what_came_with_a_message_is_closed_if_nobody_takes_it() -> None:
    ours, theirs = message_pair()
    file = create_file()
    send_message(ours.fd, b"with one", file.fd)
    found = receive_message(theirs.fd, 100)
    assert found is not None
    message, came = found
    fd = came.fd
    assert message == b"with one"
    assert os.path.sameopenfile(fd, file.fd)
    del found, came
    assert not is_open(fd)


def test_a_message_may_come_without_one() -> None:
    ours, theirs = message_pair()
    assert receive_message(theirs.fd, 100) is None
    send_message(ours.fd, b"alone")
    found = receive_message(theirs.fd, 100)
    assert found is not None
    assert (found[0], found[1].fd) == (b"alone", -1)


@pytest.mark.skipif(watch_kind() == BY_PIPE, reason="here, or in this build, none is made of an id")
def test_a_watch_of_a_process_is_closed_with_its_last_reference() -> None:
    watch = watch_id(os.getpid())
    fd = watch.fd
    assert not is_readable(fd)
    del watch
    assert not is_open(fd)


# --- a line ---------------------------------------------------------------------------------------


def test_a_line_that_is_let_go_of_ends_its_watch() -> None:
    watch, line = lend_line()
    assert not is_readable(watch.fd)
    line.let_go()
    assert is_readable(watch.fd)


def test_so_does_one_that_nobody_has_any_more() -> None:
    watch, line = watch_self(BY_PIPE)
    assert not is_readable(watch.fd)
    del line
    assert is_readable(watch.fd)


def test_no_line_is_nothing_to_let_go_of() -> None:
    line = Line()
    assert line.fd == -1
    line.let_go()


@pytest.mark.parametrize("how", ["let go", "dropped"])
def test_a_forked_child_keeps_what_has_the_number_of_its_parents_line(how: str) -> None:
    """The fork has closed the line there, and the child's own may have its number."""
    watch, line = watch_self(BY_PIPE)

    def keeps_its_own() -> bool:
        nonlocal line
        assert not is_open(line.fd)
        watch.close()
        files = [create_file()]
        while files[-1].fd < line.fd:
            files.append(create_file())
        del files[-2:]  # so two numbers are free, and the higher one is the line's
        own_watch, own_line = watch_self(BY_PIPE)
        assert own_line.fd == line.fd
        if how == "let go":
            line.let_go()
        else:
            line = Line()
        return not is_readable(own_watch.fd)

    assert in_a_child(keeps_its_own)
    assert not is_readable(watch.fd)
