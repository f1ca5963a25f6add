"""Programs where the standard library's pool stands in: by choice, or for want of a core."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest

import fastpool
from fastpool import _fallback

DISABLED = {"FASTPOOL_DISABLE": "1"}

#: Has a program find no native core, in its workers too.
WITHOUT_CORE = 'import sys; sys.modules["fastpool._core._segment"] = None'

PROGRAM = """
{first}
import multiprocessing, operator, time
import fastpool

if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        # Hints are ignored, and so is what asks for no more than there is.
        with fastpool.Pool(
            2, context=context, affinity="auto", blocktime=0, memory=0, threads_per_worker=1,
            retries=0, serializer="pickle", seed=None,
        ) as pool:
            assert isinstance(pool, multiprocessing.pool.Pool)
            assert pool.map(abs, [-1, 2, -3], progress=True) == [1, 2, 3]
            assert pool.starmap(pow, [(2, 3)], return_exceptions=False) == [8]
            assert list(pool.istarmap(operator.add, [(1, 2)], chunksize=None)) == [3]
            assert list(pool.istarmap_unordered(operator.add, [(1, 2)])) == [3]
            try:
                pool.apply_async(time.sleep, (0.3,)).get(0.001)
            except fastpool.TimeoutError:
                print(method)
    with fastpool.ProcessPoolExecutor(1, affinity="auto") as executor:
        print(executor.submit(pow, 2, 8).result())
    print(*[name for name in fastpool.__all__ if not hasattr(fastpool, name)])
"""


@pytest.mark.parametrize("how", ["disabled", "without a core"])
def test_a_program_runs_and_is_warned_once(run_script: Callable[..., Any], how: str) -> None:
    first, environment = ("", DISABLED) if how == "disabled" else (WITHOUT_CORE, {})
    script = run_script(PROGRAM.format(first=first), environment=environment)
    assert script.finish(25).split() == ["fork", "spawn", "forkserver", "256"]
    assert script.stderr.count("FallbackWarning") == 1
    assert "program.py" in script.stderr  # the line that made the first pool


def test_an_import_warns_of_nothing(run_script: Callable[..., Any]) -> None:
    script = run_script("import fastpool", environment=DISABLED, options=["-W", "error"])
    script.finish()
    assert script.stderr == ""


@pytest.mark.parametrize("value", ["", " ", "0", "no", "False", "OFF"])
def test_a_variable_that_says_no_disables_nothing(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("FASTPOOL_DISABLE", value)
    assert _fallback._find_reason() is None


@pytest.mark.parametrize("value", ["1", "yes", "true", "00"])
def test_a_variable_that_says_anything_else_disables(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("FASTPOOL_DISABLE", value)
    assert _fallback._find_reason() == "FASTPOOL_DISABLE is set"


def test_a_core_that_can_not_be_loaded_is_an_error(run_script: Callable[..., Any]) -> None:
    script = run_script(
        """
        import sys

        class Broken:
            def find_spec(self, name, path=None, target=None):
                if name == "fastpool._core._segment":
                    raise ImportError("libc.so.6: version `GLIBC_9.99' not found")

        sys.meta_path.insert(0, Broken())
        try:
            import fastpool
        except ImportError as error:
            print(error)
        """
    )
    assert "GLIBC_9.99" in script.finish()


def pack(path: Path, *suffixes: str) -> str:
    """A zip file of fastpool's files that have one of these suffixes."""
    assert fastpool.__file__
    package = Path(fastpool.__file__).parent
    with zipfile.ZipFile(path, "w") as archive:
        for file in package.rglob("*"):
            if file.name.endswith(suffixes):
                archive.write(file, file.relative_to(package.parent).as_posix())
    return str(path)


IN_ZIP = """
    import sys

    sys.path.insert(0, sys.argv[1])
    try:
        import fastpool
    except ImportError as error:
        print(error)
    else:
        print(fastpool.Pool.__module__)
"""


def test_a_core_in_a_zip_file_is_an_error_that_says_what_to_do(
    run_script: Callable[..., Any], tmp_path: Path
) -> None:
    packed = pack(tmp_path / "packed.zip", ".py", *EXTENSION_SUFFIXES)
    assert run_script(IN_ZIP, arguments=[packed]).finish().strip() == (
        f"fastpool can't be imported from the zip file {packed}: "
        "Python loads native modules from folders only, so unpack it"
    )


def test_without_a_core_a_zip_file_is_as_good_as_a_folder(
    run_script: Callable[..., Any], tmp_path: Path
) -> None:
    packed = pack(tmp_path / "packed.zip", ".py")
    assert run_script(IN_ZIP, arguments=[packed]).finish().strip() == "fastpool._standard.pool"


def test_install_leaves_the_standard_librarys_pool(run_script: Callable[..., Any]) -> None:
    script = run_script(
        """
        import multiprocessing.pool, fastpool

        if __name__ == "__main__":
            fastpool.install(executor=True)
            with multiprocessing.Pool(1) as pool:
                print(type(pool) is multiprocessing.pool.Pool, pool.apply(abs, (-1,)))
            fastpool.uninstall()
        """,
        environment=DISABLED,
    )
    assert script.finish().split() == ["True", "1"]
    assert script.stderr.count("FallbackWarning") == 1


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fastpool", *arguments]
    environment = {**os.environ, **DISABLED}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=20)


def test_the_runner_runs_a_program_unchanged() -> None:
    text = "import multiprocessing, sys; print(multiprocessing.Pool(1).map(abs, [-1]), sys.argv[1])"
    done = run("--report", "-c", text, "x")
    assert done.stdout.split() == ["[1]", "x"] and done.returncode == 0
    assert done.stderr.count("fastpool:") == 1  # the warning; there are no pools to report on


def test_the_runner_warns_before_it_runs_the_program() -> None:
    done = run("-c", "import sys; print('runs', file=sys.stderr)")
    assert "FallbackWarning" in done.stderr.partition("runs")[0]


def test_there_is_nothing_to_measure() -> None:
    done = run("bench", "--quick")
    assert done.returncode == 1
    assert done.stderr == "fastpool: nothing to measure: FASTPOOL_DISABLE is set\n"


@pytest.mark.timeout_s(60)
def test_joblib_runs_on_a_backend_of_its_own(run_script: Callable[..., Any]) -> None:
    pytest.importorskip("joblib.parallel")
    script = run_script(
        """
        import joblib, fastpool

        fastpool.register_joblib_backend()
        with joblib.parallel_config("fastpool", n_jobs=2, affinity="auto", idle_worker_timeout=60):
            print(joblib.Parallel()(joblib.delayed(abs)(i) for i in (-1, 2)))
        """,
        environment=DISABLED,
    )
    assert script.finish(50).strip() == "[1, 2]"
    assert script.stderr.count("FallbackWarning") == 1


def test_what_only_posix_has_is_not_needed(run_script: Callable[..., Any]) -> None:
    """Not Windows, but what would fail there first: names and modules that it has not."""
    script = run_script(
        """
        import concurrent.futures.process, multiprocessing.pool
        import multiprocessing.popen_spawn_posix, multiprocessing.util
        import os, select, signal, sys

        GONE = {
            os: "fork memfd_create pidfd_open pipe2 register_at_fork wait4 waitpid getuid WNOHANG"
            " sched_getaffinity sched_yield killpg",
            signal: "SIGKILL SIGRTMIN SIGUSR1 SIGCHLD SIGALRM pthread_sigmask pidfd_send_signal",
            select: "poll epoll",
        }
        for module, names in GONE.items():
            for name in names.split():
                if hasattr(module, name):
                    delattr(module, name)
        for name in ("fcntl", "resource", "termios", "_posixshmem", "fastpool._core._segment"):
            sys.modules[name] = None
        sys.platform = "win32"

        import fastpool
        from fastpool import __main__

        for name in fastpool.__all__:
            getattr(fastpool, name)
        print(fastpool.Pool.__module__)
        """
    )
    assert script.finish().strip() == "fastpool._standard.pool"
