"""``python -m fastpool PROGRAM``: the program sees and does what it would under ``python``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.scripts import python_path

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(40)]

FASTPOOL = ("-m", "fastpool")


class Folder:
    """A folder of files, in which programs run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str) -> str:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return name

    def run(self, *command: str, text: str = "") -> tuple[int, str, str]:
        """Exit code, standard output and standard error of ``python COMMAND``."""
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.path,
            env={
                **os.environ,
                "PYTHONPATH": python_path(),
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # seconds, for nothing
            },
            input=text,
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.returncode, done.stdout, done.stderr

    def both(self, *command: str, text: str = "") -> tuple[Any, Any]:
        """The same program under ``python`` and under ``python -m fastpool``."""
        return tuple(self.run(*before, *command, text=text) for before in ((), FASTPOOL))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


# --- what a program sees of itself --------------------------------------------------------------

SEEN = """
import os, re, sys
print(sys.argv, sys.path[0])
for name, value in list(vars(sys.modules["__main__"]).items()):
    print(name, re.sub("0x[0-9a-f]*", "", repr(value)))
"""

WAYS: dict[str, Callable[[Folder], tuple[str, ...]]] = {
    "script": lambda here: (here.write("below/seen.py", SEEN), "-m", "x"),
    "link": lambda here: (_link(here, "seen.py"),),
    "folder": lambda here: (os.path.dirname(here.write("some/__main__.py", SEEN)), "x"),
    "zip": lambda here: (_zip(here, "seen.zip"), "x"),
    "module": lambda here: ("-m", "seen_here", here.write("seen_here.py", SEEN)),
    "package": lambda here: ("-m", "some", here.write("some/__main__.py", SEEN)),
    "text": lambda here: ("-c", SEEN, "x"),
    "input": lambda here: ("-", "x"),
}


def _link(here: Folder, name: str) -> str:
    (here.path / name).symlink_to(here.write("below/target.py", SEEN))
    return name


def _zip(here: Folder, name: str) -> str:
    with zipfile.ZipFile(here.path / name, "w") as archive:
        archive.writestr("__main__.py", SEEN)
    return name


@pytest.mark.parametrize("way", WAYS)
def test_a_program_sees_of_itself_what_python_shows_it(folder: Folder, way: str) -> None:
    expected, found = folder.both(*WAYS[way](folder), text=SEEN)
    assert expected[1]
    assert found == expected


def test_an_interactive_session_goes_on_after_it(folder: Folder) -> None:
    path = folder.write("before.py", "answer = 42")
    found = folder.run("-i", "-q", *FASTPOOL, path, text="print(answer, __name__)\n")
    assert found == folder.run("-i", "-q", path, text="print(answer, __name__)\n")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="-P is new in Python 3.11")
def test_a_safe_path_stays_safe(folder: Folder) -> None:
    path = folder.write("below/seen.py", "import sys\nprint(sys.path)")
    assert folder.run("-P", *FASTPOOL, path) == folder.run("-P", path)


# --- how a program ends -------------------------------------------------------------------------

ENDS = {
    "raises": """
def f():
    raise ValueError("x")
try:
    f()
except ValueError as error:
    raise KeyError(2) from error
""",
    "does not compile": "def f(:",
    "exits with a status": "import sys; sys.exit(3)",
    "exits with a message": "import sys; sys.exit('bye')",
    "is interrupted": """
import os, signal, time
def f():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)
f()
""",
    "has a hook of its own": """
import atexit, sys
def hook(kind, value, trace):
    print("hook", kind, trace.tb_frame.f_code.co_filename, sys.last_traceback is trace)
sys.excepthook = hook
atexit.register(lambda: print("atexit", sys.last_value))
1 / 0
""",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_program_ends_as_under_python(folder: Folder, end: str) -> None:
    expected, found = folder.both(folder.write("ends.py", ENDS[end]))
    assert expected[0] != 0
    assert found == expected


@pytest.mark.parametrize("way", ["-m", "-c"])
def test_a_module_and_a_text_that_raise_end_as_under_python(folder: Folder, way: str) -> None:
    folder.write("ends.py", ENDS["raises"])
    expected, found = folder.both(way, "ends" if way == "-m" else ENDS["raises"])
    assert expected[0] == 1
    assert found == expected


@pytest.mark.parametrize("command", [("missing.py",), ("-m", "missing"), (".",)])
def test_a_program_that_is_not_there_is_told_as_python_does(
    folder: Folder, command: tuple[str, ...]
) -> None:
    expected, found = folder.both(*command)
    assert expected[0] != 0
    assert found == expected


# --- pools of programs --------------------------------------------------------------------------

POOLS = """
import multiprocessing, sys
from multiprocessing import Pool

class Mine:
    def __init__(self, x):
        self.x = x

class MineError(Exception):
    pass

def wrap(x):
    return Mine(x)

def fail(x):
    raise MineError(x)

def nested(queue):
    with Pool(1) as pool:
        queue.put((type(pool).__module__, pool.map(abs, [-1])))

if __name__ == "__main__":
    for method in sys.argv[1:]:
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            print(type(pool).__module__, all(type(x) is Mine for x in pool.map(wrap, range(3))))
            try:
                pool.apply(fail, (1,))
            except MineError as error:
                print("MineError", error.args)
        queue = context.SimpleQueue()
        child = context.Process(target=nested, args=(queue,))
        child.start()
        print(queue.get())
        child.join()
"""


@pytest.mark.parametrize(
    "command",
    [("pools.py", "fork", "spawn", "forkserver"), ("-m", "pools", "spawn")],
    ids=["script", "module"],
)
def test_classes_and_children_of_a_program_work_under_every_start_method(
    folder: Folder, command: tuple[str, ...]
) -> None:
    folder.write("pools.py", POOLS)
    once = "fastpool.pool True\nMineError (1,)\n('fastpool.pool', [1])\n"
    methods = 1 if "-m" in command else 3
    assert folder.run(*FASTPOOL, *command) == (0, methods * once, "")


def test_its_executor_is_replaced_if_that_is_asked_for(folder: Folder) -> None:
    path = folder.write(
        "executor.py",
        """
import concurrent.futures, multiprocessing
multiprocessing.set_start_method("fork")
with concurrent.futures.ProcessPoolExecutor(1) as executor:
    print(type(executor).__module__, executor.submit(abs, -1).result())
""",
    )
    assert folder.run(*FASTPOOL, path) == (0, "concurrent.futures.process 1\n", "")
    assert folder.run(*FASTPOOL, "--executor", path) == (0, "fastpool.executor 1\n", "")


def test_a_suite_of_tests_runs_on_it(folder: Folder) -> None:
    folder.write(
        "test_it.py",
        """
from multiprocessing import Pool

def test_it():
    with Pool(1) as pool:
        assert type(pool).__module__ == "fastpool.pool"
        assert pool.map(abs, [-1]) == [1]
""",
    )
    code, out, err = folder.run(*FASTPOOL, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert (code, err) == (0, ""), out
    assert "1 passed" in out


# --- the command line ---------------------------------------------------------------------------


def test_a_script_may_have_the_name_of_a_command(folder: Folder) -> None:
    folder.write("bench", "print('mine')")
    assert folder.run(*FASTPOOL, "./bench") == (0, "mine\n", "")
    assert "--quick" in folder.run(*FASTPOOL, "bench", "--help")[1]


@pytest.mark.parametrize("command", [("--nonsense", "x.py"), ("-m",), ("-c",)])
def test_a_wrong_command_line_is_refused(folder: Folder, command: tuple[str, ...]) -> None:
    code, out, err = folder.run(*FASTPOOL, *command)
    assert (code, out) == (2, "")
    assert re.match(r"fastpool: .*\n\nusage: ", err), err
    assert command[0] in err.splitlines()[0]
