"""Ctrl-C ends a program at once and quietly; the program's own signal handlers keep working."""

from __future__ import annotations

import fcntl
import os
import signal
import termios
import time
from typing import Any

import pytest
from helpers import procs, tasks
from helpers.procs import wait_until

pytestmark = pytest.mark.timeout_s(20)

# The program says where it is, then waits there; WAIT is what it does.
PROGRAM = """
    import multiprocessing, os, sys, time
    from {module} import Pool
    from helpers import procs, tasks

    def wait_here(pool):
        gate = os.environ["GATE"]
        {wait}

    if __name__ == "__main__":
        multiprocessing.set_start_method("{method}")
        pool = Pool(2)
        pool.map(tasks.square, range(10))
        {body}
"""
WAITS = {
    "map": "pool.map(tasks.pass_gate, [gate] * 4, 1)",
    "starmap": "pool.starmap(tasks.pass_gate, [(gate, i) for i in range(4)])",
    "apply": "pool.apply(tasks.pass_gate, (gate,))",
    "get": "pool.apply_async(tasks.pass_gate, (gate,)).get()",
    "get with a timeout": "pool.apply_async(tasks.pass_gate, (gate,)).get(60)",
    "wait": "pool.map_async(tasks.pass_gate, [gate]).wait()",
    "next": "next(pool.imap(tasks.pass_gate, [gate] * 3))",
    "next with a timeout": "pool.imap_unordered(tasks.pass_gate, [gate] * 3).next(60)",
    "join": "pool.apply_async(tasks.pass_gate, (gate,)); pool.close(); pool.join()",
}
PLAIN = "wait_here(pool)"
WITH = """with pool:
            wait_here(pool)"""


def start(
    run_script: Any, gate: Any, wait: str, body: str, method: str = "fork", module: str = "fastpool"
) -> Any:
    script = run_script(
        PROGRAM.format(module=module, wait=wait, body=body, method=method),
        environment={"GATE": gate.path},
    )
    wait_until(lambda: gate.arrivals() > 0, 15, script.report)
    return script


def ends_quietly(script: Any, sent: float) -> None:
    """One traceback, of the parent; none of a worker; nobody left; and all that at once."""
    assert script.wait() == -signal.SIGINT, script.report()
    assert time.monotonic() - sent < 1.0
    script.wait_gone(1.0)
    errors = script.stderr
    assert errors.count("Traceback") == 1, errors
    assert errors.rstrip().endswith("KeyboardInterrupt"), errors
    assert "Worker-" not in errors, errors


@pytest.mark.fastpool_only
@pytest.mark.parametrize("body", [PLAIN, WITH], ids=["plain", "with"])
@pytest.mark.parametrize("where", ["map", "get", "next"])
def test_ctrl_c_ends_the_program_at_once_and_quietly(
    run_script: Any, gate: Any, where: str, body: str
) -> None:
    script = start(run_script, gate, WAITS[where], body)
    ends_quietly(script, script.signal_group(signal.SIGINT))


@pytest.mark.fastpool_only
@pytest.mark.parametrize("where", sorted(set(WAITS) - {"map", "get", "next"}))
def test_ctrl_c_ends_every_kind_of_waiting(run_script: Any, gate: Any, where: str) -> None:
    script = start(run_script, gate, WAITS[where], PLAIN)
    ends_quietly(script, script.signal_group(signal.SIGINT))


@pytest.mark.fastpool_only
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_ctrl_c_is_the_same_under_every_start_method(
    run_script: Any, gate: Any, method: str
) -> None:
    script = start(run_script, gate, WAITS["map"], WITH, method)
    ends_quietly(script, script.signal_group(signal.SIGINT))


@pytest.mark.fastpool_only
def test_ctrl_c_ends_a_program_whose_pool_is_idle(run_script: Any, gate: Any) -> None:
    script = start(run_script, gate, "tasks.mark(gate, 'arrived-0'); time.sleep(60)", PLAIN)
    ends_quietly(script, script.signal_group(signal.SIGINT))


@pytest.mark.fastpool_only
def test_a_signal_to_the_parent_alone_is_enough(run_script: Any, gate: Any) -> None:
    script = start(run_script, gate, WAITS["map"], WITH)
    ends_quietly(script, script.signal(signal.SIGINT))


@pytest.mark.fastpool_only
def test_ctrl_c_at_a_terminal(run_script: Any, gate: Any) -> None:
    """The real thing: a terminal, and its interrupt character."""
    master, slave = os.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    try:
        script = run_script(
            PROGRAM.format(module="fastpool", wait=WAITS["map"], body=WITH, method="fork"),
            environment={"GATE": gate.path},
            stdin=slave,
            preexec_fn=take_terminal,
        )
        wait_until(lambda: gate.arrivals() > 0, 15, script.report)
        sent = time.monotonic()
        os.write(master, b"\x03")
        ends_quietly(script, sent)
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.fastpool_only
def test_a_program_may_catch_ctrl_c_and_go_on_with_its_pool(run_script: Any, gate: Any) -> None:
    script = start(
        run_script,
        gate,
        WAITS["map"],
        """try:
            wait_here(pool)
        except KeyboardInterrupt:
            open(os.path.join(os.environ["GATE"], "open"), "w").close()
            print("caught", pool.map(tasks.square, range(4)))
            pool.close()
            pool.join()""",
    )
    script.signal_group(signal.SIGINT)
    assert script.finish() == "caught [0, 1, 4, 9]\n"
    assert script.stderr == ""


@pytest.mark.fastpool_only
def test_ctrl_c_twice_still_leaves_nothing(run_script: Any, gate: Any) -> None:
    script = start(run_script, gate, WAITS["map"], WITH)
    script.signal_group(signal.SIGINT)
    procs.kill(script.pid, signal.SIGINT)
    script.wait()
    script.wait_gone(1.0)


@pytest.mark.fastpool_only
def test_a_worker_ignores_ctrl_c(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(2)
    result = pool.apply_async(tasks.pass_gate, (gate.path, "done"))
    wait_until(lambda: gate.arrivals() == 1)
    before = procs.worker_pids(pool)
    for pid in before:
        os.kill(pid, signal.SIGINT)
    gate.open()
    assert result.get(10) == "done"
    assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
    assert procs.worker_pids(pool) == before


@pytest.mark.fastpool_only
def test_an_initializer_may_set_its_own_handler(pool_factory: Any) -> None:
    pool = pool_factory(1, tasks.note_signal, (signal.SIGINT,))
    os.kill(pool.apply(os.getpid), signal.SIGINT)
    wait_until(lambda: pool.apply(tasks.get_state, ("signals",)) == [signal.SIGINT])


# --- the program's own handlers -------------------------------------------------------------------


def test_a_timer_keeps_ticking_while_the_program_waits(impl: Any, run_script: Any) -> None:
    script = run_script(
        f"""
        import signal, time
        from {impl.name} import Pool
        from helpers import tasks

        ticks = []
        if __name__ == "__main__":
            signal.signal(signal.SIGALRM, lambda *_: ticks.append(time.monotonic()))
            with Pool(2) as pool:
                pool.map(tasks.square, range(10))
                signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
                pool.map(tasks.nap, [0.3, 0.3], 1)
                print("map", len(ticks) > 8)
                ticks.clear()
                pool.apply_async(tasks.nap, (0.3,)).get()
                print("get", len(ticks) > 8)
                ticks.clear()
                list(pool.imap(tasks.nap, [0.3]))
                print("next", len(ticks) > 8)
                signal.setitimer(signal.ITIMER_REAL, 0)
                print(pool.map(tasks.square, range(4)))
        """
    )
    assert script.finish() == "map True\nget True\nnext True\n[0, 1, 4, 9]\n"


def test_a_handler_that_raises_ends_the_wait(impl: Any, run_script: Any) -> None:
    """The usual way to put a limit on anything."""
    script = run_script(
        f"""
        import signal, time
        from {impl.name} import Pool
        from helpers import tasks

        class Expired(Exception):
            pass

        def expire(*_):
            raise Expired

        if __name__ == "__main__":
            signal.signal(signal.SIGALRM, expire)
            with Pool(2) as pool:
                for call in (
                    lambda: pool.map(tasks.nap, [0.6, 0.6]),
                    lambda: pool.apply(tasks.nap, (0.6,)),
                    lambda: next(pool.imap(tasks.nap, [0.6])),
                ):
                    begin = time.monotonic()
                    signal.setitimer(signal.ITIMER_REAL, 0.1)
                    try:
                        call()
                    except Expired:
                        print("expired", time.monotonic() - begin < 0.4)
                print(pool.map(tasks.square, range(4)))
        """
    )
    assert script.finish() == "expired True\n" * 3 + "[0, 1, 4, 9]\n"


def test_a_wakeup_descriptor_is_written_to(impl: Any, run_script: Any) -> None:
    """What asyncio and GUI toolkits build on."""
    script = run_script(
        f"""
        import os, signal, socket
        from {impl.name} import Pool
        from helpers import tasks

        if __name__ == "__main__":
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            theirs.setblocking(False)
            signal.signal(signal.SIGUSR1, lambda *_: None)
            signal.set_wakeup_fd(theirs.fileno())
            with Pool(2) as pool:
                result = pool.map_async(tasks.nap, [0.2, 0.2], 1)
                os.kill(os.getpid(), signal.SIGUSR1)
                result.get()
                print(ours.recv(100) == bytes([signal.SIGUSR1]))
            print(signal.set_wakeup_fd(-1) == theirs.fileno())
        """
    )
    assert script.finish() == "True\nTrue\n"


@pytest.mark.fastpool_only
@pytest.mark.parametrize(
    "handler",
    ["signal.SIG_IGN", "reap", "lambda *_: None"],
    ids=["ignored", "reaps every child", "does nothing"],
)
def test_any_handler_of_sigchld_is_fine(run_script: Any, handler: str) -> None:
    script = run_script(
        f"""
        import os, signal, time
        from fastpool import Pool
        from helpers import procs, tasks

        def reap(*_):
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass

        if __name__ == "__main__":
            signal.signal(signal.SIGCHLD, {handler})
            pool = Pool(2)
            pool.map(tasks.square, range(10))
            for _ in range(3):
                try:
                    pool.apply(tasks.die, (signal.SIGKILL,))
                except RuntimeError as error:
                    print(type(error).__name__)
                procs.wait_until(lambda: all(procs.is_alive(p) for p in procs.worker_pids(pool)))
                print(pool.map(tasks.square, range(4)))
            pool.close()
            pool.join()
            with Pool(2) as pool:
                print(pool.map(tasks.square, range(4)))
        """
    )
    assert script.finish() == "WorkerDiedError\n[0, 1, 4, 9]\n" * 3 + "[0, 1, 4, 9]\n"


@pytest.mark.fastpool_only
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_with_sigchld_ignored_a_death_is_still_one_workers_own(
    run_script: Any, gate: Any, method: str
) -> None:
    """The kernel then reaps children itself: their statuses must be learned in another way."""
    script = run_script(
        f"""
        import multiprocessing, os, signal
        from fastpool import Pool, WorkerDiedError
        from helpers import procs, tasks

        if __name__ == "__main__":
            multiprocessing.set_start_method("{method}")
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            pool = Pool(2)
            held = pool.apply_async(tasks.pass_gate, ({gate.path!r}, "held"))
            procs.wait_until(lambda: os.listdir({gate.path!r}))
            for how in ("exit-3", "exit-0", signal.SIGKILL):
                try:
                    pool.apply(tasks.die, (how,))
                except WorkerDiedError as error:
                    print(error.exitcode)
            print(held.ready())
            tasks.mark({gate.path!r}, "open")
            print(held.get(10))
            print(pool.apply(signal.getsignal, (signal.SIGCHLD,)) == signal.SIG_IGN)
            pool.close()
            pool.join()
        """
    )
    # A spawned worker is this program's own child: the kernel takes its status with it.
    statuses = "None\nNone\nNone\n" if method == "spawn" else "3\n0\n-9\n"
    assert script.finish() == f"{statuses}False\nheld\nTrue\n"


@pytest.mark.fastpool_only
def test_the_programs_own_children_keep_their_exit_codes(run_script: Any) -> None:
    script = run_script(
        """
        import os, signal, subprocess, sys
        from fastpool import Pool
        from helpers import tasks

        if __name__ == "__main__":
            with Pool(2) as pool:
                for code in range(5):
                    child = os.fork()
                    if child == 0:
                        os._exit(code)
                    try:
                        pool.apply(tasks.die, (signal.SIGKILL,))
                    except RuntimeError:
                        pass
                    assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
                    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                print(subprocess.call([sys.executable, "-S", "-c", "raise SystemExit(9)"]))
        """
    )
    assert script.finish() == "0\n1\n2\n3\n4\n9\n"


@pytest.mark.fastpool_only
def test_signals_that_arrive_all_the_time_lose_nothing(run_script: Any) -> None:
    """Every system call may be interrupted at any time."""
    script = run_script(
        """
        import signal
        from fastpool import Pool
        from helpers import tasks

        if __name__ == "__main__":
            signal.signal(signal.SIGALRM, lambda *_: None)
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            for _ in range(3):
                with Pool(2, maxtasksperchild=20) as pool:
                    for i in range(20):
                        assert pool.map(tasks.square, range(50), 5) == [i * i for i in range(50)]
                        assert pool.apply(tasks.make_bytes, (200_000,)) == b"x" * 200_000
                        assert list(pool.imap(tasks.square, range(20))) == [
                            i * i for i in range(20)
                        ]
                    pool.close()
                    pool.join()
            signal.setitimer(signal.ITIMER_REAL, 0)  # or it would meet the interpreter's end
            print("done")
        """
    )
    assert script.finish() == "done\n"
