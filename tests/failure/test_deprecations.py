"""Programs that take every deprecation for an error run on: fastpool does nothing deprecated.

Since Python 3.12 `os.fork` beside threads is: the standard library's second pool tells of it.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
from helpers.program_ends import ends, start

pytestmark = pytest.mark.timeout_s(30)

STRICT = ["-W", "error::DeprecationWarning", "-W", "error::PendingDeprecationWarning"]


@pytest.mark.fastpool_only
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_no_worker_is_started_in_a_deprecated_way(impl: Any, run_script: Any, method: str) -> None:
    """The first ones, those of a second pool, of a larger pool, of an executor, and successors."""
    victim = "procs.parent_of(worker)" if method == "fork" else "worker"  # what forks its workers
    script = start(
        run_script,
        impl,
        f"""
    from fastpool import ProcessPoolExecutor

    if __name__ == "__main__":
        context = multiprocessing.get_context("{method}")
        other = Pool(1, context=context, maxtasksperchild=1)
        with Pool(1, context=context) as pool, other:
            print(len({{other.apply(os.getpid) for _ in range(2)}}))
            worker = pool.apply(os.getpid)
            procs.kill({victim}, signal.SIGKILL)
            print(list(pool.imap(tasks.square, iter(range(3)))))
            pool.resize(2)
            with ProcessPoolExecutor(1, mp_context=context) as executor:
                print(executor.submit(tasks.square, 3).result())
        print("END")
        """,
        options=STRICT,
    )
    assert ends(script) == "2\n[0, 1, 4]\n9\nEND\n"
    assert script.stderr == ""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no fork is deprecated before 3.12")
@pytest.mark.parametrize("end", ["pool.terminate()", "pool.close(); pool.join()"])
def test_a_program_forks_as_it_likes_when_its_pool_has_ended(
    impl: Any, run_script: Any, end: str
) -> None:
    """No thread of the pool is left then."""
    script = start(
        run_script,
        impl,
        f"""
    if __name__ == "__main__":
        pool = Pool(2)
        print(pool.map(tasks.square, range(3)), flush=True)
        {end}
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        print("END")
        """,
        options=STRICT,
    )
    assert ends(script) == "[0, 1, 4]\nEND\n"
    assert script.stderr == ""
