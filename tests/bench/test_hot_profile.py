"""The profile of the hot paths: how samples are read and sorted."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
if str(BENCHMARKS) not in sys.path:
    sys.path.insert(0, str(BENCHMARKS))

import hot_paths  # noqa: E402
import hot_profile  # noqa: E402

CORE = "/x/fastpool/_core/"
SAMPLES = f"""\
   17     200000  7f00aa10 __pyx_f_8fastpool_5_core_8_receive_8Receiver_wait ({CORE}_receive.cpython-311.so)
   17     200000  7f00aa11 __pyx_f_8fastpool_5_core_8_receive_8Receiver_wait ({CORE}_receive.cpython-311.so)
   17     100000  7f00aa20 __pyx_f_8fastpool_5_core_5_send_6Sender_push ({CORE}_send.cpython-311.so)
   18     300000  ffffffff do_sched_yield ([kernel.kallsyms])
   18     100000  ffffff10 do_syscall_64 ([kernel.kallsyms])

   19      50000  7f00bb00 _PyEval_EvalFrameDefault (/usr/lib/libpython3.11.so.1.0)
   19      50000  7f00bb10 __pyx_f_8fastpool_5_core_6_codec_5Codec_open ({CORE}_codec.cpython-311.so)
   19      10000  7f00bb20 [unknown] ([unknown])
"""  # noqa: E501


def test_samples_are_added_up_for_the_parent_and_for_all_workers() -> None:
    found = hot_profile.add_samples(SAMPLES.splitlines(), parent=17)
    assert found["parent"].total() == 500_000
    assert found["workers"].total() == 510_000


def test_samples_are_sorted_by_what_was_running() -> None:
    found = hot_profile.add_samples(SAMPLES.splitlines(), parent=17)
    head = ["look, wait", "dispatch", "encode, decode", "kernel", "Python", "libc, other"]
    assert head == hot_profile.COLUMNS
    parent = hot_profile.table_row("apply", "parent", found["parent"], items=1000)
    assert parent == ["apply", "parent", "500", "400", "100", "0", "0", "0", "0"]
    workers = hot_profile.table_row("apply", "workers", found["workers"], items=1000)
    assert workers == ["apply", "workers", "510", "300", "0", "50", "100", "50", "10"]


def test_the_functions_that_took_most_are_named_first() -> None:
    found = hot_profile.add_samples(SAMPLES.splitlines(), parent=17)
    lines = hot_profile.largest(found["parent"], items=1000, count=1)
    assert len(lines) == 1
    assert "400.0 ns" in lines[0] and "Receiver_wait" in lines[0] and "_receive" in lines[0]


def test_every_module_of_the_core_has_its_column() -> None:
    modules = sorted((BENCHMARKS.parent / "src" / "fastpool" / "_core").glob("*.pyx"))
    assert modules
    for module in modules:
        column = hot_profile.group_of("any", f"{CORE}{module.stem}.cpython-311.so")
        assert column in ("dispatch", "encode, decode"), module.name


@pytest.mark.parametrize("name", hot_paths.PATHS)
def test_every_path_does_what_it_says(name: str) -> None:
    from fastpool import Pool

    workers, path = hot_paths.PATHS[name]
    with Pool(workers) as pool:
        assert path(pool) > 0


def may_sample() -> bool:
    """Whether there is a perf here, and the kernel lets it."""
    if shutil.which("perf") is None:
        return False
    command = ["perf", "record", "-q", "-e", "cpu-clock", "-o", "/dev/null", "--", "true"]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(not may_sample(), reason="no perf, or it may not sample")
@pytest.mark.timeout_s(60)
def test_a_path_is_sampled(capfd: pytest.CaptureFixture[str]) -> None:
    hot_profile.main(["--paths", "imap", "--seconds", "0.3", "--top", "3"])
    out = capfd.readouterr().out
    assert "| imap | parent |" in out and "| imap | workers |" in out
    assert "imap, workers\n" in out
