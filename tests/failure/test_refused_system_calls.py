"""Old kernels, containers and sandboxes refuse system calls: a pool does without, or says so.

Each program refuses some to itself and then lives a pool's whole life; see helpers/pool_life.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from helpers import refusals
from helpers.build import beyond_posix

pytestmark = [
    beyond_posix("it asks for none of these calls"),
    pytest.mark.fastpool_only,
    pytest.mark.timeout_s(40),
    pytest.mark.skipif(
        not refusals.is_possible(), reason="this system can't filter system calls for a test"
    ),
]

#: What a pool asks of Linux beyond what every Unix has, and can do without.
CALLS = [
    "eventfd2",
    "fallocate",
    "fallocate:punch",
    "futex:wait",
    "futex:wake",
    "madvise:dontdump",
    "madvise:populate",
    "madvise:remove",
    "memfd_create",
    "mremap",
    "pidfd_open",
    "pidfd_send_signal",
    "prctl:pdeathsig",
    "sched_getaffinity",
    "sched_setaffinity",
    "socketpair:seqpacket",
]

LIFE = """
    import errno
    from helpers import pool_life, refusals

    if __name__ == "__main__":
        pool_life.prepare("{method}")
        {before}
        refusals.refuse({names}, errno.{error})
        pool_life.live("{method}")
        print("whole")
"""


def lives(
    run_script: Any, names: list[str], error: str, method: str = "fork", before: str = ""
) -> None:
    script = run_script(LIFE.format(names=names, error=error, method=method, before=before))
    assert script.finish(30) == "whole\n"
    assert script.stderr == ""


@pytest.mark.parametrize("name", CALLS)
def test_a_pool_does_without_a_call_that_is_refused(run_script: Any, name: str) -> None:
    lives(run_script, [name], "EPERM")


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("error", ["EACCES", "ENOSYS", "EPERM"])
def test_a_pool_does_without_all_of_them(run_script: Any, error: str, method: str) -> None:
    lives(run_script, CALLS, error, method)


@pytest.mark.parametrize("name", ["eventfd2", "memfd_create", "sched_getaffinity"])
def test_an_error_that_no_refusal_has_names_the_call(run_script: Any, name: str) -> None:
    script = run_script(
        f"""
        import errno
        from fastpool import Pool
        from helpers import refusals

        if __name__ == "__main__":
            refusals.refuse("{name}", errno.EINVAL)
            try:
                Pool()
            except OSError as error:
                print(error.errno == errno.EINVAL, error)
        """
    )
    found = script.finish()
    assert found.startswith("True [Errno 22] Invalid argument: fastpool asked the system for ")
    assert name.rstrip("2") in found


def test_a_pool_does_without_what_its_workers_are_not_refused(run_script: Any) -> None:
    """A fork server that was there before: its workers could sleep where nobody can wake them."""
    lives(run_script, CALLS, "EPERM", "forkserver")


def test_a_pool_lives_on_the_oldest_kernel(run_script: Any) -> None:
    """As Linux 4.14 refuses: calls that came later, and values of arguments."""
    values = 'refusals.refuse(["madvise:populate", "memfd_create:noexec"], errno.EINVAL)'
    calls = ["clone3", "close_range", "pidfd_open", "pidfd_send_signal"]
    lives(run_script, calls, "ENOSYS", before=values)


# --- a refusal that comes later -------------------------------------------------------------------


def test_workers_are_woken_though_the_program_has_forbidden_itself_to(run_script: Any) -> None:
    script = run_script(
        """
        import errno
        from fastpool import Pool
        from helpers import pool_life, refusals

        if __name__ == "__main__":
            pool = Pool(2)
            pool_life.use(pool)
            pool_life.until_asleep(pool)
            refusals.refuse(["futex:wait", "futex:wake"], errno.EPERM)
            pool_life.use(pool)
            pool_life.until_asleep(pool)
            pool_life.use(pool)
            pool.close()
            pool.join()
            print("whole")
        """
    )
    assert script.finish(30) == "whole\n"


def test_the_program_is_woken_though_a_task_has_forbidden_that_to_its_worker(
    run_script: Any,
) -> None:
    script = run_script(
        """
        import errno, time
        from fastpool import Pool
        from helpers import pool_life, refusals, tasks

        if __name__ == "__main__":
            pool = Pool(1)
            pool.apply(refusals.refuse, (["futex:wait", "futex:wake"], errno.ENOSYS))
            begin = time.monotonic()
            for _ in range(20):
                pool.apply(tasks.nap, (0.02, None))  # long enough for the caller to sleep
            took = time.monotonic() - begin
            pool_life.until_asleep(pool)
            pool_life.use(pool)
            pool.close()
            pool.join()
            print(took)
        """
    )
    # Each would take two seconds if the caller were left to look by itself.
    assert float(script.finish(30)) < 15


# --- what can't be done without, and what there is too little of ----------------------------------

IN_SMALL_SHM = """
    import errno, sys
    from fastpool import Pool
    from helpers import mounts, pool_life, refusals, tasks

    if __name__ == "__main__":
        try:
            mounts.own_namespace()
            mounts.mount_tmpfs("/dev/shm", "{options}")
        except OSError as error:
            sys.exit(f"skip: {{error}}")
        refusals.refuse({names}, errno.ENOSYS)
"""


def in_small_shm(run_script: Any, options: str, names: list[str], body: str, **more: Any) -> Any:
    lines = textwrap.dedent(IN_SMALL_SHM.format(options=options, names=names))
    script = run_script(lines + textwrap.indent(textwrap.dedent(body), "    "), **more)
    if script.wait(30) == 1 and script.stderr.startswith("skip: "):
        pytest.skip(f"nothing can be mounted here: {script.stderr.strip()}")
    return script.finish()


MEMFD = ["memfd_create"]
PAGES = ["memfd_create", "madvise:populate", "fallocate"]
FULL = (
    "/dev/shm has {} MiB, and is full; a larger one helps (of a container: --shm-size), or to "
    "allow memfd_create, which needs none"
)


@pytest.mark.parametrize("names", [MEMFD, PAGES], ids=["by fallocate", "by writing"])
def test_a_dev_shm_too_small_for_the_workers_is_a_memory_error(
    run_script: Any, names: list[str]
) -> None:
    """Not a SIGBUS at a later store."""
    found = in_small_shm(
        run_script,
        "size=1100k",
        names,
        """
        try:
            Pool(60)
        except MemoryError as error:
            print(error)
        """,
    )
    assert found == f"no shared memory for one more worker: {FULL.format(1)}\n"


@pytest.mark.parametrize("names", [MEMFD, PAGES], ids=["by fallocate", "by writing"])
def test_a_value_too_large_for_dev_shm_is_a_memory_error(run_script: Any, names: list[str]) -> None:
    found = in_small_shm(
        run_script,
        "size=4m",
        names,
        """
        with Pool(2) as pool:
            for call in (lambda: pool.apply(len, (bytes(16 << 20),)),
                         lambda: pool.apply(bytes, (16 << 20,))):
                try:
                    call()
                except MemoryError as error:
                    print(error)
                print(pool.apply(len, (bytes(100_000),)), pool.map(tasks.square, range(4)))
        """,
    )
    assert re.sub(r"for \d+ bytes", "for it", found) == (
        f"no shared memory for it: {FULL.format(4)}\n100000 [0, 1, 4, 9]\n" * 2
    )


@pytest.mark.parametrize("options", ["ro", "size=64k"])
def test_where_nothing_can_lie_in_dev_shm_memory_is_a_file(
    run_script: Any, tmp_path: Any, options: str
) -> None:
    in_small_shm(
        run_script,
        options,
        MEMFD,
        f"""
        import os
        with Pool(2):
            held = {{os.readlink(f"/proc/self/fd/{{fd}}") for fd in os.listdir("/proc/self/fd")
                     if os.path.lexists(f"/proc/self/fd/{{fd}}")}}
            assert any(path.startswith({str(tmp_path)!r}) for path in held), held
        assert not any(name.startswith("fastpool") for name in os.listdir({str(tmp_path)!r}))
        pool_life.live("fork")
        """,
        environment={"TMPDIR": str(tmp_path)},
    )


def test_where_nothing_may_lie_anywhere_the_error_says_what_to_allow(run_script: Any) -> None:
    found = in_small_shm(
        run_script,
        "ro",
        MEMFD,
        """
        import os
        os.chdir("/proc")
        for folder in ("/tmp", "/var/tmp", "/usr/tmp"):
            if os.path.isdir(folder):
                mounts.mount_tmpfs(folder, "ro")
        try:
            Pool(2)
        except OSError as error:
            print(error)
        """,
        environment={"TMPDIR": "/proc"},
    )
    assert "allow memfd_create, or files in /dev/shm" in found


@pytest.mark.parametrize("name", ["fallocate:punch", "mremap"])
def test_a_result_that_is_held_stays_what_it_is_when_the_program_forks(
    run_script: Any, name: str
) -> None:
    pytest.importorskip("numpy")
    script = run_script(
        f"""
        import errno, os
        import numpy
        from fastpool import Pool
        from helpers import refusals

        if __name__ == "__main__":
            refusals.refuse("{name}", errno.EPERM)
            with Pool(1) as pool:
                held = pool.apply(numpy.full, (1 << 20, 7.0))
                child = os.fork()
                if child == 0:
                    held[:] = 8
                    os._exit(0)
                os.waitpid(child, 0)
                other = pool.apply(numpy.full, (1 << 20, 3.0))
                print((held == 7).all(), (other == 3).all())
        """
    )
    assert script.finish() == "True True\n"


def test_workers_that_cannot_be_pinned_run_where_they_like(run_script: Any) -> None:
    script = run_script(
        """
        import errno
        from fastpool import Pool
        from helpers import refusals, tasks

        if __name__ == "__main__":
            refusals.refuse("sched_setaffinity", errno.EPERM)
            with Pool(2, affinity="scatter") as pool:
                print(pool.map(tasks.square, range(4)))
        """
    )
    assert script.finish() == "[0, 1, 4, 9]\n"


def test_where_proc_cannot_be_read_a_pool_lives(run_script: Any) -> None:
    hide = """try:
            from helpers import mounts
            mounts.own_namespace()
            mounts.mount_tmpfs("/proc", "size=64k")
        except OSError as error:
            print("skip", error)
            raise SystemExit"""
    script = run_script(LIFE.format(names=[], error="EPERM", method="fork", before=hide))
    found = script.finish(30)
    if found.startswith("skip"):
        pytest.skip(f"nothing can be mounted here: {found}")
    assert found == "whole\n"
    assert script.stderr == ""


def run_refusals(arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(refusals.__file__), *arguments.split()]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "usage:"),
        ("EPERM pidfd_open", "usage:"),
        ("EPERM pidfd_open --", "usage:"),
        ("EPERM -- true", "usage:"),
        ("EBOGUS pidfd_open -- true", "usage:"),
        ("errorcode pidfd_open -- true", "usage:"),
        ("EPERM bogus pidfd_open -- true", "no such call: bogus; there are clone3, "),
        ("EPERM pidfd_open -- /nonexistent", "/nonexistent: No such file or directory"),
    ],
)
def test_the_program_that_refuses_says_what_it_was_not_told(arguments: str, told: str) -> None:
    done = run_refusals(arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"refusals.py: {told}")
    assert done.stderr.count("\n") == 1


def test_the_program_that_refuses_becomes_the_one_that_it_is_given() -> None:
    done = run_refusals("ENOSYS pidfd_open memfd_create -- printf %s --")
    assert (done.returncode, done.stdout, done.stderr) == (0, "--", "")
