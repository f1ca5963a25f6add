"""Pools in programs that others run, and more ways for a program to end without ending its pool.

The hosts are pytest-xdist, whose workers have pools, and coverage, which measures workers. For the
plainer ways to end, see test_exit_paths.py.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from helpers.program_ends import PREAMBLE, ends, start

pytestmark = pytest.mark.timeout_s(45)

WARNING = "ResourceWarning: unclosed running multiprocessing pool"


# --- pytest-xdist ---------------------------------------------------------------------------------


TESTS = """
    import os
    import pytest
    from {module} import Pool
    from helpers import procs, tasks

    @pytest.fixture(scope="module")
    def pool():
        with Pool(2) as pool:
            yield pool

    @pytest.mark.parametrize("n", range(6))
    def test_a_pool_of_the_module(pool, n):
        assert pool.map(tasks.square, range(n * 10)) == [i * i for i in range(n * 10)]

    @pytest.mark.parametrize("n", range(4))
    def test_a_pool_of_its_own(n):
        with Pool(2) as pool:
            assert list(pool.imap(tasks.square, range(20))) == [i * i for i in range(20)]

    forgotten = None

    def test_a_pool_that_is_forgotten():
        global forgotten
        forgotten = Pool(2)
        assert forgotten.apply(tasks.square, (3,)) == 9
        forgotten.apply_async(tasks.nap, (60,))
"""


@pytest.mark.reference_is_slow
def test_pools_work_in_the_workers_of_pytest_xdist(
    impl: Any, run_script: Any, tmp_path: Path
) -> None:
    """Each of its workers is a program that runs the tests in a thread of its own making."""
    pytest.importorskip("xdist")
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    for name in ("test_first.py", "test_second.py"):
        (folder / name).write_text(textwrap.dedent(TESTS.format(module=impl.name)))
    script = run_script(
        f"""
    import sys
    import pytest

    if __name__ == "__main__":
        folder = {str(folder)!r}
        options = ["-n", "2", "-q", "-p", "no:cacheprovider", "--rootdir", folder]
        code = pytest.main([*options, folder])
        print("END", flush=True)
        sys.exit(code)
        """
    )
    script.wait_for("END", 30.0)
    assert "22 passed" in script.finish(timeout=10)


# --- coverage -------------------------------------------------------------------------------------


MEASURED = """
def in_a_worker(x):
    if x < 0:
        return "never"
    return x * x

def in_the_parent(values):
    return sum(values)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_coverage_measures_what_workers_run(
    impl: Any, run_script: Any, tmp_path: Path, method: str
) -> None:
    """It patches ``Process._bootstrap``, and saves what it has when that returns."""
    pytest.importorskip("coverage")
    folder = tmp_path / "measured"
    folder.mkdir()
    (folder / "functions.py").write_text(MEASURED)
    (folder / "program.py").write_text(
        textwrap.dedent(
            f"""
        import multiprocessing, sys
        from {impl.name} import Pool
        import functions

        if __name__ == "__main__":
            multiprocessing.set_start_method("{method}")
            pool = Pool(2)
            print(functions.in_the_parent(pool.map(functions.in_a_worker, range(10), 1)))
            pool.close()
            pool.join()
            print("END", flush=True)
            """
        )
    )
    (folder / ".coveragerc").write_text(
        "[run]\nconcurrency = multiprocessing\nparallel = true\nsigterm = true\n"
        "disable_warnings = no-data-collected\n"  # from a worker that came too late for a task
        f"source = {folder}\ndata_file = {folder}/data\n"
    )
    script = run_script(
        f"""
    import os, sys

    os.chdir({str(folder)!r})
    rc = {str(folder / ".coveragerc")!r}
    options = ["-m", "coverage", "run", "--rcfile", rc]
    os.execv(sys.executable, [sys.executable, *options, "program.py"])
        """
    )
    assert ends(script) == "285\nEND\n"
    assert script.stderr == ""
    report = run_script(
        f"""
    import os, sys
    from coverage.cmdline import main

    os.chdir({str(folder)!r})
    rc = {str(folder / ".coveragerc")!r}
    sys.exit(main(["combine", "-q", "--rcfile", rc]) or main(["json", "-q", "-o", "report.json"]))
        """
    )
    report.finish(timeout=20)
    files = json.loads((folder / "report.json").read_text())["files"]
    lines = MEASURED.splitlines()
    executed = {lines[n - 1].strip() for n in files["functions.py"]["executed_lines"]}
    missing = {lines[n - 1].strip() for n in files["functions.py"]["missing_lines"]}
    assert "return x * x" in executed
    assert "return sum(values)" in executed
    assert missing == {'return "never"'}


# --- eight threads --------------------------------------------------------------------------------


SUBMITTERS = """
    CALLS = [
        lambda pool: pool.map(tasks.square, range(100), 1),
        lambda pool: list(pool.imap(tasks.square, range(100))),
        lambda pool: list(pool.imap_unordered(tasks.square, iter(range(100)))),
        lambda pool: pool.apply(tasks.square, (2,)),
        lambda pool: pool.apply_async(tasks.make_bytes, (300_000,)).get(),
        lambda pool: pool.map(tasks.make_bytes, [100_000] * 10),
        lambda pool: pool.starmap(tasks.add, [(1, 2)] * 50),
        lambda pool: pool.map_async(tasks.nap, [0.001] * 20, callback=len).wait(),
    ]

    def submit(pool, call, ready):
        try:
            call(pool)
            ready.release()
            while True:
                call(pool)
        except Exception:
            pass  # the pool has ended

    def begin(pool):
        ready = threading.Semaphore(0)
        for call in CALLS:
            threading.Thread(target=submit, args=(pool, call, ready), daemon=True).start()
        for _ in CALLS:
            ready.acquire()
"""


ENDINGS = {
    "sys.exit(7)": 7,
    "raise LookupError('top level')": 1,
    "pool.terminate(); pool.join()": 0,
    "del pool; gc.collect()": 0,
    "pass": 0,
}
#: How the workers were started matters to an end that leaves the pool to the interpreter's own.
WITH_EVERY_METHOD = ("sys.exit(7)", "pass")


@pytest.mark.fastpool_only
@pytest.mark.parametrize(
    ("method", "ending"),
    [
        pytest.param(
            method,
            ending,
            marks=[] if method == "fork" or ending in WITH_EVERY_METHOD else pytest.mark.slow,
        )
        for method in ("fork", "spawn", "forkserver")
        for ending in ENDINGS
    ],
)
def test_a_program_ends_while_eight_threads_use_the_pool(
    impl: Any, run_script: Any, method: str, ending: str
) -> None:
    code = ENDINGS[ending]
    script = start(
        run_script,
        impl,
        SUBMITTERS
        + f"""
    if __name__ == "__main__":
        pool = Pool(3, context=multiprocessing.get_context("{method}"))
        begin(pool)
        print("END", flush=True)
        {ending}
        """,
    )
    ends(script, code)
    assert "Fatal Python error" not in script.stderr
    assert script.stderr.count("Traceback") == (1 if code == 1 else 0), script.stderr


# --- where the pool is, and the warning for it ----------------------------------------------------


WHERE = {
    "a global": """
    if __name__ == "__main__":
        pool = Pool(2)
        pool.apply(tasks.nothing)
        print("END", flush=True)
    """,
    "a global that is deleted": """
    if __name__ == "__main__":
        pool = Pool(2)
        pool.apply(tasks.nothing)
        del pool
        gc.collect()
        print("END", flush=True)
    """,
    "a class": """
    class Holder:
        pool = None

    if __name__ == "__main__":
        Holder.pool = Pool(2)
        Holder.pool.apply(tasks.nothing)
        print("END", flush=True)
    """,
    "a cycle": """
    class Owner:
        def __init__(self):
            self.pool = Pool(2)
            self.me = self

    if __name__ == "__main__":
        owner = Owner()
        owner.pool.apply(tasks.nothing)
        del owner
        gc.collect()
        print("END", flush=True)
    """,
    "a cycle that is left at the end": """
    class Owner:
        def __init__(self):
            self.pool = Pool(2)
            self.me = self

    if __name__ == "__main__":
        gc.disable()
        owner = Owner()
        owner.pool.apply(tasks.nothing)
        del owner
        print("END", flush=True)
    """,
    "a daemon thread": """
    def work(started):
        pool = Pool(2)
        pool.apply(tasks.nothing)
        started.set()
        time.sleep(60)

    if __name__ == "__main__":
        started = threading.Event()
        threading.Thread(target=work, args=(started,), daemon=True).start()
        started.wait()
        print("END", flush=True)
    """,
    "a thread that has ended": """
    def work():
        pool = Pool(2)
        pool.apply(tasks.nothing)

    if __name__ == "__main__":
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        gc.collect()
        print("END", flush=True)
    """,
    "the frame of an exception": """
    def work():
        pool = Pool(2)
        pool.apply(tasks.nothing)
        raise LookupError

    if __name__ == "__main__":
        try:
            work()
        except LookupError as error:
            kept = error
        print("END", flush=True)
    """,
    "an unread iterator": """
    def work():
        return Pool(2).imap(tasks.square, range(10))

    if __name__ == "__main__":
        results = work()
        assert next(results) == 0
        del results
        gc.collect()
        print("END", flush=True)
    """,
}

#: multiprocessing's pool fails in its destructor here, or does not end at all.
ONLY_FASTPOOL = ("an unread iterator",)


@pytest.mark.parametrize("where", WHERE)
def test_a_program_ends_wherever_its_pool_is(impl: Any, run_script: Any, where: str) -> None:
    if where in ONLY_FASTPOOL and not impl.is_fastpool:
        pytest.skip("multiprocessing.Pool can't do that")
    script = start(run_script, impl, WHERE[where])
    assert ends(script) == "END\n"
    assert script.stderr == ""


@pytest.mark.parametrize("where", [where for where in WHERE if where not in ONLY_FASTPOOL])
def test_there_is_a_warning_where_the_standard_library_gives_one(
    run_script: Any, where: str
) -> None:
    scripts = {
        module: run_script(
            PREAMBLE.format(module=module) + WHERE[where],
            options=["-W", "always::ResourceWarning"],
        )
        for module in ("multiprocessing", "fastpool")
    }
    warned = {}
    for module, script in scripts.items():
        ends(script)
        assert "Traceback" not in script.stderr
        warned[module] = WARNING in script.stderr
    assert warned["fastpool"] == warned["multiprocessing"]


def test_an_exception_at_top_level_is_the_end_under_every_start_method(
    impl: Any, run_script: Any, start_method: str
) -> None:
    script = start(
        run_script,
        impl,
        f"""
    if __name__ == "__main__":
        multiprocessing.set_start_method("{start_method}")
        pool = Pool(2)
        results = [pool.apply_async(tasks.nap, (60,)) for _ in range(10)]
        print("END", flush=True)
        raise LookupError("top level")
        """,
    )
    ends(script, code=1)
    assert script.stderr.count("Traceback") == 1
    assert script.stderr.endswith("LookupError: top level\n")
